"""The table in the terminal, and docs/performance.md; both made of the JSON alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from figures import Figure, figure
from goals import GOALS, REFERENCE_NOOP_US, Source, Verdict, judge, slowness

HEAD = """\
<!-- Made by `make bench` from bench/results.json: run that, or edit bench/page.py. -->
# Performance

What telemetry costs, beside the peers, measured in one run of `make bench`. Times are
CPU time of all threads unless it says wall. Each figure is the median of {rounds} rounds,
with the least and the most behind it; in a round every contender runs once, in a
process of its own, and ratios are taken round by round. Spans are counted on disk
afterwards: a run in which anybody lost one fails.

- Run on {date}, {python}, {system}, {cpus} processors ({processor}); load {load} when
  it began.
- {versions}.
- Calibration: a turn of an empty loop takes {loop:.1f} ns here, a span of the
  OpenTelemetry API without a provider {noop:.2f} µs. Goals were set on a machine where
  that took {reference} µs, so goals in time are scaled by {slowness:.2f}.

## Goals

Where a goal says how many times cheaper than the peer, that decides; elsewhere the
scaled time does. Lines without a goal inform. An added time is *unclear* where what it
is added to varied by more than the goal from round to round: the machine was not quiet.

"""
CONTENDERS = """
## Everything measured

*ours* is `telemetry.span` and the bound instruments, *ours, mapping* the same with the
attributes in a mapping, *ours, API* unmodified code that calls the OpenTelemetry API
while ours is its provider. *SDK* is opentelemetry-sdk with its batch processor and
opentelemetry-exporter-otlp-json-file, all defaults; *logfire* has its sending off and
the same processor and exporter. *no-op* is the OpenTelemetry API without a provider.

A plain span has four attributes that repeat (two texts, two integers), a rich one eight,
of which a text and two floats are never the same twice. *Written* ends when all is in
the file; ours is redacted by then, the peers' is not. *Sealed* ends when ours is also
compressed and its sidecar is there.

"""
TAIL = """
## How it is measured

- The caller's cost is the producing thread's CPU time. Bursts are of 1,000 spans, and
  each contender is flushed as often as its queue needs: the SDK's holds 2,048 spans. Ours
  is flushed every 16,000 spans, which makes it wait for the disk (fsync); the others
  leave that to the operating system.
- Set-up and the first 1,000 spans, in which modules are imported, are left out of the
  cost per span. The cost of a small program has all of it.
- Latency is wall time of a loop that does {work} and makes a span, less the same loop
  without telemetry in the same round.
- What is received is measured by the receiver's CPU time, sealing included; requests are made
  beforehand, as the SDK writes them. rotel is a collector in Rust that throws away what it
  gets here. On the machine where the goals were set, Phoenix took in 92 spans/s and core and
  MLflow 180, redacting nothing.
- Uploads and streams go to a server on this machine, which is not measured. Start and end of
  the command are. The SDK's exporter is measured alone, on finished spans in memory, for
  uploads; as a whole program for streams.
- Memory is what Python allocated (tracemalloc) for {held:,} finished spans that wait
  ({held_peer:,} of the SDK).
- `stats` reads {day:,} spans. The peer is a hand-written loop ({reader}) over
  {peer_day:,} spans of the official file, scaled up.
{month}- Not measured: other systems than Linux, other Pythons than the one above, several
  threads that record at once.
"""

MONTH = """\
- The month is {month_days} days of {month_spans:,} spans a day in traces of five to thirty,
  a log record for every tenth span and a dozen instruments, in a bundle of each signal for
  each hour. The lines are composed by the bench; appending, sealing, index and sidecars are
  ours.
"""

NAMES = {
    "native": "ours",
    "native_mapping": "ours, mapping",
    "native_off": "ours, disabled",
    "native_otel": "ours, API",
    "noop": "no-op",
    "sdk": "SDK",
    "logfire": "logfire",
    "none": "without",
    "start": "bare interpreter",
    "sketches": "ours, sketches",
    "ad_hoc": "ours, decoding",
    "loop": "JSON loop",
    "stats_day": "stats of a day",
    "stats_month": "stats of all",
    "show_trace": "show a trace",
    "show_prefix": "show by seven digits",
    "show_minute": "show a minute",
    "tail": "tail",
    "status": "status",
    "purge": "purge of all",
    "writer": "a program of one span",
    "writer_empty": "the same, empty folder",
    "disk": "ours",
    "native_json": "ours, JSON",
    "native_grpc": "ours, gRPC",
    "native_plain": "ours, not packed",
    "rotel": "rotel",
}
_RECEIVED = (
    ("CPU, µs a span", "cpu_ns", 1e-3),
    ("spans/s and core", "spans_a_core", 1.0),
    ("spans/s, wall", "wall_spans", 1.0),
    ("memory, MiB", "rss_mib", 1.0),
)
DETAILS = (
    # title, scenario, case, [(column's title, key, scale)]
    (
        "Plain span, µs",
        "spans",
        "plain",
        (
            ("caller", "caller_ns", 1e-3),
            ("written", "total_ns", 1e-3),
            ("sealed", "sealed_ns", 1e-3),
        ),
    ),
    (
        "Rich span, µs",
        "spans",
        "rich",
        (
            ("caller", "caller_ns", 1e-3),
            ("written", "total_ns", 1e-3),
            ("sealed", "sealed_ns", 1e-3),
        ),
    ),
    (
        "Plain span, 1 % with an e-mail address or a token, µs",
        "spans",
        "leaky",
        (
            ("caller", "caller_ns", 1e-3),
            ("written", "total_ns", 1e-3),
            ("sealed", "sealed_ns", 1e-3),
        ),
    ),
    ("Span while disabled, µs", "disabled", "plain", (("caller", "caller_ns", 1e-3),)),
    (
        "Counter, µs a call",
        "instruments",
        "counter",
        (("caller", "caller_ns", 1e-3), ("total", "total_ns", 1e-3)),
    ),
    (
        "Histogram, µs a call",
        "instruments",
        "histogram",
        (("caller", "caller_ns", 1e-3), ("total", "total_ns", 1e-3)),
    ),
    (
        "Gauge, µs a call",
        "instruments",
        "gauge",
        (("caller", "caller_ns", 1e-3), ("total", "total_ns", 1e-3)),
    ),
    (
        "A turn of a busy loop, wall, µs",
        "latency",
        "busy",
        (("p50", "p50_ns", 1e-3), ("p99", "p99_ns", 1e-3), ("p99.9", "p999_ns", 1e-3)),
    ),
    ("30 spans in an argparse program, ms", "program", "argparse", (("CPU", "cpu_s", 1e3),)),
    ("30 spans and nothing else, ms", "program", "bare", (("CPU", "cpu_s", 1e3),)),
    ("Received, 510 plain spans a request", "receive", "plain", _RECEIVED),
    ("Received, 510 rich spans a request", "receive", "rich", _RECEIVED),
    ("Received, 30 plain spans a request", "receive", "small", _RECEIVED),
    (
        "Uploaded, plain spans",
        "upload",
        "plain",
        (
            ("CPU, µs a span", "cpu_ns", 1e-3),
            ("wall, s", "wall_s", 1.0),
            ("MB/s, packed", "bytes_a_second", 1e-6),
            ("memory, MB", "rss_bytes", 1e-6),
        ),
    ),
    ("Recorded and sent, plain spans", "stream", "cost", (("CPU, µs a span", "cpu_ns", 1e-3),)),
    (
        "Behind, 500 spans a second, ms",
        "stream",
        "delay",
        (("p50", "p50_ns", 1e-6), ("p99", "p99_ns", 1e-6)),
    ),
    ("stats over 1 M spans, s", "stats_command", "day", (("CPU", "cpu_s", 1.0),)),
    (
        "Commands in the folder of a month, s",
        "month_commands",
        "month",
        (("CPU", "cpu_s", 1.0),),
    ),
    (
        "Disk of a month, bytes per span",
        "month_commands",
        "month",
        (("sealed, with index", "sealed_bytes", 1.0), ("sidecar", "sidecar_bytes", 1.0)),
    ),
    (
        "Disk, bytes per plain span",
        "spans",
        "plain",
        (("open", "open_bytes", 1.0), ("sealed", "sealed_bytes", 1.0)),
    ),
    (
        "Disk, bytes per rich span",
        "spans",
        "rich",
        (("open", "open_bytes", 1.0), ("sealed", "sealed_bytes", 1.0)),
    ),
    ("Memory, bytes per buffered span", "memory", "plain", (("held", "bytes", 1.0),)),
)


def terminal(results: Mapping[str, Any]) -> str:
    """Make the table that the bench prints; goals that were not measured are left out."""
    rows: list[tuple[str, ...]] = [("", "goal", "here", "ours", "peer", "times cheaper", "")]
    judged = (verdict for verdict in verdicts(results) if verdict.ours is not None)
    rows.extend((verdict.goal.what, *_cells(verdict)) for verdict in judged)
    widths = [max(len(row[at]) for row in rows) for at in range(7)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def calibration(results: Mapping[str, Any]) -> dict[str, float]:
    """Tell how fast the machine was during the run."""
    measured = results["scenarios"]
    loop = figure(Source("disabled", "plain", "native_off", "loop_ns").values(measured, 1.0))
    factor = slowness(measured)
    return {
        "loop_ns": loop.median if loop else 0.0,
        "noop_us": factor * REFERENCE_NOOP_US,
        "reference_noop_us": REFERENCE_NOOP_US,
        "slowness": factor,
    }


def verdicts(results: Mapping[str, Any]) -> list[Verdict]:
    """Judge every goal of which the run measured something."""
    measured = results["scenarios"]
    return [judge(goal, measured) for goal in GOALS if goal.ours.scenario in measured]


def page(results: Mapping[str, Any]) -> str:
    """Make docs/performance.md."""
    about = results["about"]
    speed = calibration(results)
    head = HEAD.format(
        **{key: about[key] for key in ("rounds", "date", "python", "system", "cpus", "load")},
        processor=about["processor"],
        versions=", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        loop=speed["loop_ns"],
        noop=speed["noop_us"],
        reference=REFERENCE_NOOP_US,
        slowness=speed["slowness"],
    )
    sizes = about["sizes"]
    month = MONTH.format(**sizes) if "month_commands" in results["scenarios"] else ""
    tail = TAIL.format(**sizes, month=month)
    return head + "".join(_goal_table(results)) + CONTENDERS + "\n".join(_details(results)) + tail


def _goal_table(results: Mapping[str, Any]) -> Iterator[str]:
    yield "| | goal | here | ours | peer | times cheaper | |\n|---|---|---|---|---|---|---|\n"
    for verdict in verdicts(results):
        cells = _cells(verdict)
        yield f"| {verdict.goal.what} | {' | '.join(cells)} |\n"


def _cells(verdict: Verdict) -> tuple[str, ...]:
    goal = verdict.goal
    wanted = "" if goal.goal is None else f"≤ {number(goal.goal)} {goal.unit}"
    if goal.times is not None:
        wanted = f"{wanted}, {goal.times:g} times" if wanted else f"{goal.times:g} times"
    here = ""
    if verdict.goal_here is not None and verdict.goal_here != goal.goal:
        here = f"≤ {number(verdict.goal_here)}"
    peer = f"{number(verdict.peer.median)} ({goal.peer_name})" if verdict.peer else "not there"
    met = "unclear" if verdict.unclear else {True: "met", False: "MISSED", None: ""}[verdict.met]
    ours = f"{spread(verdict.ours)} {goal.unit}" if verdict.ours else "not measured"
    return wanted, here, ours, peer, spread(verdict.ratio), met


def _details(results: Mapping[str, Any]) -> Iterator[str]:
    for title, scenario, case, columns in DETAILS:
        if scenario not in results["scenarios"]:
            continue
        found = results["scenarios"][scenario].get(case, {})
        titles = [name for name, _, _ in columns]
        yield f"| {title} | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}"
        for contender, rounds in found.items():
            cells = [
                spread(figure([one[key] * scale for one in rounds if one.get(key)]))
                for _, key, scale in columns
            ]
            if any(cells):
                yield f"| {NAMES[contender]} | {' | '.join(cells)} |"
        yield ""


def spread(found: Figure | None) -> str:
    """Write a median and its range, or nothing."""
    if found is None:
        return ""
    return f"{number(found.median)} ({number(found.least)}..{number(found.most)})"


def number(value: float) -> str:
    """Write a number with about three digits that count."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{digits}f}"
