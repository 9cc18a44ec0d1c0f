"""The numbers to reach, and how a run compares with them; pure.

A goal in microseconds, milliseconds or seconds was set on one machine, where the
OpenTelemetry API without a provider took ``REFERENCE_NOOP_US`` for a span. On another
machine, or a loaded one, it is scaled by what that takes there. Where a goal says how
many times cheaper than the peer ours shall be, that decides, and the time beside it
only informs. Goals in bytes are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from figures import Figure, difference, figure, ratio

REFERENCE_NOOP_US = 5.8

Measured = Mapping[str, Mapping[str, Mapping[str, list[dict[str, Any]]]]]


@dataclass(frozen=True)
class Source:
    """Where a number is among what was measured; ``base`` is what it is added to."""

    scenario: str
    case: str
    contender: str
    key: str
    base: str = ""

    def values(self, measured: Measured, scale: float) -> list[float]:
        """Give the number of each round; none if the contender was not there."""
        case = measured.get(self.scenario, {}).get(self.case, {})
        some = [one[self.key] * scale for one in case.get(self.contender, [])]
        return difference(some, self.base_values(measured, scale)) if self.base else some

    def base_values(self, measured: Measured, scale: float) -> list[float]:
        """Give what the number is added to, each round."""
        case = measured.get(self.scenario, {}).get(self.case, {})
        return [one[self.key] * scale for one in case.get(self.base, [])]


@dataclass(frozen=True)
class Goal:
    """One line of the table.

    Attributes:
        key: Its name in the JSON.
        what: In words.
        unit: Of ``goal`` and of what is shown; ``scale`` makes it of what is measured.
        ours: What is judged.
        peer: What it is compared with.
        peer_name: In words.
        goal: At most, on the reference machine; None where only the peer counts.
        times: At least this many times less than the peer; None where ``goal`` counts.
    """

    key: str
    what: str
    unit: str
    scale: float
    ours: Source
    peer: Source
    peer_name: str
    goal: float | None = None
    times: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What a run says of a goal.

    Attributes:
        goal_here: The goal scaled to this machine.
        met: None where there is no goal, no figure, or where it is unclear.
        unclear: What ours is added to varied by more than the goal by itself, so the
            difference says nothing, for or against.
    """

    goal: Goal
    goal_here: float | None
    ours: Figure | None
    peer: Figure | None
    ratio: Figure | None
    met: bool | None
    unclear: bool


SDK = "SDK + official file exporter"
NOOP = "OpenTelemetry no-op"


def _span(key: str, what: str, case: str, contender: str, column: str, **more: Any) -> Goal:
    ours = Source("spans", case, contender, column)
    # The peers seal nothing: what they have written is all they do.
    peer_column = "total_ns" if column == "sealed_ns" else column
    peer = Source("spans", case, "sdk", peer_column)
    return Goal(key, what, "µs", 1e-3, ours, peer, SDK, **more)


def _instrument(case: str, goal: float | None) -> Goal:
    what = f"bound {case}, caller"
    ours = Source("instruments", case, "native", "caller_ns")
    peer = Source("instruments", case, "sdk", "caller_ns")
    return Goal(case, what, "µs", 1e-3, ours, peer, "SDK", goal=goal)


def _program(key: str, what: str, case: str, **more: Any) -> Goal:
    ours = Source("program", case, "native", "cpu_s", base="none")
    peer = Source("program", case, "sdk", "cpu_s", base="none")
    return Goal(key, what, "ms", 1e3, ours, peer, SDK, **more)


def _latency(key: str, what: str, contender: str, column: str, goal: float | None) -> Goal:
    ours = Source("latency", "busy", contender, column, base="none")
    peer = Source("latency", "busy", "sdk", column, base="none")
    return Goal(key, what, "µs", 1e-3, ours, peer, SDK, goal=goal)


def _stats(key: str, what: str, case: str, goal: float) -> Goal:
    ours = Source("stats_command", "day", case, "cpu_s")
    peer = Source("stats_command", "day", "loop", "cpu_s")
    return Goal(key, what, "s", 1.0, ours, peer, "JSON loop over the official file", goal=goal)


def _month(key: str, what: str, goal: float | None) -> Goal:
    ours = Source("month_commands", "month", key, "cpu_s")
    peer = Source("month_commands", "month", "start", "cpu_s")
    return Goal(f"month_{key}", what, "s", 1.0, ours, peer, "a bare interpreter", goal=goal)


def _receive(key: str, what: str, case: str, contender: str, goal: float | None) -> Goal:
    ours = Source("receive", case, contender, "cpu_ns")
    peer = Source("receive", case, "rotel", "cpu_ns")
    return Goal(key, what, "µs", 1e-3, ours, peer, "rotel, into nowhere, unredacted", goal=goal)


def _upload(key: str, what: str, contender: str) -> Goal:
    ours = Source("upload", "plain", contender, "cpu_ns")
    peer = Source("upload", "plain", "sdk", "cpu_ns")
    return Goal(key, what, "µs", 1e-3, ours, peer, "SDK's exporter, from memory")


GOALS = (
    Goal(
        "disabled",
        "span while disabled",
        "µs",
        1e-3,
        Source("disabled", "plain", "native_off", "caller_ns"),
        Source("disabled", "plain", "noop", "caller_ns"),
        NOOP,
        goal=0.5,
    ),
    _span(
        "caller_plain",
        "span in the caller, native",
        "plain",
        "native",
        "caller_ns",
        goal=1.0,
        times=18,
    ),
    _span(
        "caller_plain_otel",
        "span in the caller, OpenTelemetry API",
        "plain",
        "native_otel",
        "caller_ns",
        goal=1.3,
        times=18,
    ),
    _span(
        "caller_rich", "rich span in the caller, native", "rich", "native", "caller_ns", times=18
    ),
    _span(
        "caller_rich_otel",
        "rich span in the caller, OpenTelemetry API",
        "rich",
        "native_otel",
        "caller_ns",
        times=18,
    ),
    _span(
        "total_plain",
        "span in total, redacted and on disk",
        "plain",
        "native",
        "total_ns",
        goal=3.5,
        times=15,
    ),
    _span(
        "total_rich",
        "rich span in total, redacted and on disk",
        "rich",
        "native",
        "total_ns",
        goal=6.0,
        times=15,
    ),
    _span(
        "total_plain_otel",
        "span in total, OpenTelemetry API",
        "plain",
        "native_otel",
        "total_ns",
    ),
    _span("sealed_plain", "span in total, sealed too", "plain", "native", "sealed_ns"),
    _span("sealed_rich", "rich span in total, sealed too", "rich", "native", "sealed_ns"),
    Goal(
        "total_leaky",
        "span in total, 1 % with a secret",
        "µs",
        1e-3,
        Source("spans", "leaky", "native", "total_ns"),
        Source("spans", "plain", "native", "total_ns"),
        "ours without secrets",
    ),
    _instrument("counter", 0.06),
    _instrument("histogram", 0.08),
    _instrument("gauge", None),
    _latency("p99", "added to the caller's p99, native", "native", "p99_ns", 10.0),
    _latency(
        "p99_otel", "added to the caller's p99, OpenTelemetry API", "native_otel", "p99_ns", 10.0
    ),
    _latency("p50", "added to the caller's p50, native", "native", "p50_ns", None),
    _program("program_bare", "30 spans, added to a bare interpreter", "bare", goal=12.0),
    _program("program_argparse", "30 spans, added to an argparse program", "argparse", goal=12.0),
    _receive("receive_plain", "received by HTTP, 510 spans a request", "plain", "native", 6.67),
    _receive("receive_rich", "the same, rich spans", "rich", "native", None),
    _receive("receive_small", "the same, 30 plain spans a request", "small", "native", None),
    _receive("receive_json", "the same, JSON, 510 plain spans", "plain", "native_json", None),
    _receive("receive_grpc", "received by gRPC, 510 spans a request", "plain", "native_grpc", None),
    _upload("upload_protobuf", "uploaded, protobuf, gzip", "native"),
    _upload("upload_unpacked", "uploaded, protobuf, not packed", "native_plain"),
    _upload("upload_json", "uploaded, JSON, gzip", "native_json"),
    Goal(
        "upload_memory",
        "the most memory an upload of 1 M spans takes",
        "B",
        1.0,
        Source("upload", "plain", "native", "rss_bytes"),
        Source("upload", "plain", "native_json", "rss_bytes"),
        "ours, JSON",
        goal=100e6,
    ),
    Goal(
        "stream_cost",
        "sent while recording, added to a span kept",
        "µs",
        1e-3,
        Source("stream", "cost", "native", "cpu_ns", base="none"),
        Source("stream", "cost", "sdk", "cpu_ns"),
        "SDK, recording and sending",
    ),
    Goal(
        "stream_cost_json",
        "the same, as JSON",
        "µs",
        1e-3,
        Source("stream", "cost", "native_json", "cpu_ns", base="none"),
        Source("stream", "cost", "sdk", "cpu_ns"),
        "SDK, recording and sending",
    ),
    Goal(
        "stream_delay",
        "behind, p99",
        "ms",
        1e-6,
        Source("stream", "delay", "native", "p99_ns"),
        Source("stream", "delay", "sdk", "p99_ns"),
        "SDK",
        goal=1_000.0,
    ),
    _stats("stats_sketches", "stats over 1 M spans, sketches", "sketches", 0.15),
    _stats("stats_ad_hoc", "stats over 1 M spans, decoding", "ad_hoc", 2.5),
    _month("stats_day", "a month kept: stats of a day", 1.0),
    _month("stats_month", "a month kept: stats of all", 1.0),
    _month("show_trace", "a month kept: show a trace", 0.3),
    _month("show_prefix", "a month kept: show by seven digits of an id", 0.3),
    _month("show_minute", "a month kept: show a minute", None),
    _month("tail", "a month kept: tail", None),
    _month("status", "a month kept: status", None),
    _month("purge", "a month kept: purge all of it", None),
    Goal(
        "month_writer",
        "a month kept: a program of one span",
        "s",
        1.0,
        Source("month_commands", "month", "writer", "cpu_s"),
        Source("month_commands", "month", "writer_empty", "cpu_s"),
        "in an empty folder",
    ),
    Goal(
        "month_disk",
        "a month kept: disk per span, sealed, with its index",
        "B",
        1.0,
        Source("month_commands", "month", "disk", "sealed_bytes"),
        Source("spans", "plain", "sdk", "open_bytes"),
        "official exporter",
        goal=60.0,
    ),
    Goal(
        "disk_sealed",
        "disk per span, sealed",
        "B",
        1.0,
        Source("spans", "plain", "native", "sealed_bytes"),
        Source("spans", "plain", "sdk", "open_bytes"),
        "official exporter",
        goal=60.0,
    ),
    Goal(
        "disk_open",
        "disk per span, while open",
        "B",
        1.0,
        Source("spans", "plain", "native", "open_bytes"),
        Source("spans", "plain", "sdk", "open_bytes"),
        "official exporter",
    ),
    Goal(
        "memory",
        "memory per buffered span",
        "B",
        1.0,
        Source("memory", "plain", "native", "bytes"),
        Source("memory", "plain", "sdk", "bytes"),
        "SDK",
        goal=500.0,
    ),
)

_BYTES = "B"


def slowness(measured: Measured) -> float:
    """Tell how many times as long as on the reference machine CPU work takes here."""
    noop = figure(Source("disabled", "plain", "noop", "caller_ns").values(measured, 1e-3))
    return noop.median / REFERENCE_NOOP_US if noop else 1.0


def judge(goal: Goal, measured: Measured) -> Verdict:
    """Compare one goal with a run."""
    ours = goal.ours.values(measured, goal.scale)
    peer = goal.peer.values(measured, goal.scale)
    mine = figure(ours)
    # A difference of two measurements may be nothing, or less; then no ratio means anything.
    times = ratio(peer, ours) if peer and min(ours, default=0.0) > 0 else None
    here = goal.goal
    if here is not None and goal.unit != _BYTES:
        here *= slowness(measured)
    met: bool | None = None
    if goal.times is not None and times is not None:
        met = times.median >= goal.times
    elif here is not None and mine is not None:
        met = mine.median <= here
    base = figure(goal.ours.base_values(measured, goal.scale))
    unclear = base is not None and here is not None and base.most - base.least > here
    return Verdict(goal, here, mine, figure(peer), times, None if unclear else met, unclear)
