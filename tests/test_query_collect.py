"""Statistics from sidecars are the statistics of the lines, whatever the window."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli_running import (
    HOUR_NS,
    SECOND_NS,
    counter,
    gauge,
    log,
    logs_line,
    metrics_line,
    span,
    spans_line,
    write,
    write_sealed,
)
from stack_composer.telemetry.query.aggregate import Summary, level_name
from stack_composer.telemetry.query.collect import collect
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.sketch import Sketch

T = 1_763_838_843 * SECOND_NS

LINES = [
    ("traces", spans_line(span("a", start_ns=T), span("b", start_ns=T + SECOND_NS, error=True))),
    ("traces", spans_line(span("a", start_ns=T + 5 * SECOND_NS))),
    ("traces", spans_line(span("a", start_ns=T + 9 * SECOND_NS))),
    ("metrics", metrics_line(gauge("m", 3.5, time_ns=T), counter("c", 2, time_ns=T + 1))),
    ("logs", logs_line(log("hello", time_ns=T + SECOND_NS, severity=17))),
]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "sealed"
    write_sealed(folder, *LINES)
    assert all(bundle.sealed for bundle in list_bundles(str(folder)).bundles)
    return folder


def counts(sketch: Sketch) -> dict[str, int]:
    return {name: stats.count for name, stats in sketch.spans.items()}


@pytest.mark.parametrize("until_s", [0, 1, 2, 5, 6, 100])
@pytest.mark.parametrize("since_s", [-100, 1, 4, 5, 6, 100])
def test_sidecars_and_lines_give_the_same(sealed: Path, since_s: int, until_s: int) -> None:
    window = {
        "since_ns": T + since_s * SECOND_NS,
        "until_ns": T + until_s * SECOND_NS if until_s else 0,
    }
    bundles = list_bundles(str(sealed)).bundles
    quick = collect(bundles, **window)
    for path in sealed.glob("*.sketch.json"):
        path.unlink()
    slow = collect(list_bundles(str(sealed)).bundles, **window)
    assert quick.sketch == slow.sketch
    assert slow.by_sidecar == 0


def test_bundles_wholly_inside_are_never_decoded(sealed: Path) -> None:
    found = collect(list_bundles(str(sealed)).bundles, since_ns=T - HOUR_NS)
    assert (found.by_sidecar, found.decoded) == (5, 0)
    assert counts(found.sketch) == {"a": 3, "b": 1}


def test_bundles_wholly_outside_are_never_decoded(sealed: Path) -> None:
    found = collect(list_bundles(str(sealed)).bundles, since_ns=T + HOUR_NS)
    assert (found.by_sidecar, found.decoded) == (0, 0)
    assert found.sketch == Sketch()


def test_only_what_straddles_the_edge_is_decoded(sealed: Path) -> None:
    # One span of the first bundle ended before, the other one is inside.
    found = collect(
        list_bundles(str(sealed)).bundles,
        since_ns=T + SECOND_NS // 2,
        until_ns=T + 7 * SECOND_NS,
    )
    assert found.decoded == 1
    assert counts(found.sketch) == {"b": 1, "a": 1}


def test_a_span_counts_where_it_overlaps_and_a_point_where_it_is(tmp_path: Path) -> None:
    long = span("long", start_ns=T, duration_ns=10 * SECOND_NS)
    at = gauge("m", 1.0, time_ns=T + 5 * SECOND_NS)
    write(tmp_path / "t", ("traces", spans_line(long)), ("metrics", metrics_line(at)))
    bundles = list_bundles(str(tmp_path / "t")).bundles

    def seen(since_s: float, until_s: float) -> int:
        window = [int(T + s * SECOND_NS) for s in (since_s, until_s)]
        return collect(bundles, since_ns=window[0], until_ns=window[1]).sketch.records

    assert seen(4, 6) == 2
    assert seen(9, 20) == 1
    assert seen(5, 6) == 2
    assert seen(4, 5) == 1
    assert seen(10, 20) == 1
    assert seen(-5, 0) == 0
    assert seen(10.5, 20) == 0


def test_an_old_plain_bundle_is_passed_over_by_its_last_write(tmp_path: Path) -> None:
    write(tmp_path / "t", LINES[0])
    (bundle,) = list_bundles(str(tmp_path / "t")).bundles
    os.utime(bundle.path, ns=(T, T))
    assert collect([bundle], since_ns=T + 2 * HOUR_NS).decoded == 0
    # Clocks step: what was written shortly before the window is looked into.
    assert collect([bundle], since_ns=T + HOUR_NS // 2).decoded == 1


def test_a_refused_line_loses_itself_alone_and_is_named_without_its_content(
    tmp_path: Path,
) -> None:
    path = tmp_path / "foreign.jsonl"
    secret = "hunter" + "2" * 5
    path.write_bytes(LINES[0][1] + b'{"' + secret.encode() + b'": 1\n' + LINES[1][1])
    found = collect([str(path)])
    assert counts(found.sketch) == {"a": 2, "b": 1}
    assert found.refusals.count == 1
    assert found.refusals.first[0].startswith(f"{path}: line 2 ")
    assert secret not in found.refusals.first[0]


def test_a_line_refused_half_way_has_counted_nothing(tmp_path: Path) -> None:
    bad = gauge("bad", 1.0, time_ns=T)
    bad["gauge"]["dataPoints"][0]["attributes"] = [{"key": "k", "value": {"bytesValue": "a"}}]
    path = tmp_path / "foreign.jsonl"
    path.write_bytes(metrics_line(gauge("good", 1.0, time_ns=T), bad))
    found = collect([str(path)])
    assert found.refusals.count == 1
    assert found.sketch == Sketch()


def test_lines_refused_when_a_bundle_was_sealed_are_told_by_its_sidecar(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    write(folder, LINES[0])
    (bundle,) = list_bundles(str(folder)).bundles
    with Path(bundle.path).open("ab") as file:
        file.write(b"nonsense\n")
    assert collect([bundle]).refusals.count == 1
    opened = open_folder(str(folder), create=True)
    recovery = Recovery(opened)
    while not recovery.step():
        pass
    opened.close()
    found = collect(list_bundles(str(folder)).bundles)
    assert (found.by_sidecar, found.refusals.count) == (1, 1)


def test_health_stands_apart_and_is_summed_by_rule_and_reason() -> None:
    sketch = Sketch()
    health = "stack_composer.telemetry."
    sketch.add_line(
        "metrics",
        metrics_line(
            counter(health + "redacted", 2, time_ns=T, rule="email", action="mask"),
            counter(health + "redacted", 1, time_ns=T, rule="jwt", action="mask"),
            counter(health + "redacted", 4, time_ns=T, rule="jwt", action="drop"),
            counter(health + "dropped", 7, time_ns=T, signal="traces", reason="full"),
            counter(health + "faults", 1, time_ns=T, where="guard"),
            counter("mine", 3, time_ns=T),
        ),
    )
    summary = Summary(sketch, since_ns=0, until_ns=T + SECOND_NS)
    assert summary.redacted == {"jwt": 5, "email": 2}
    assert list(summary.redacted) == ["jwt", "email"]
    assert summary.dropped == {"full": 7}
    assert summary.faults == {"guard": 1}
    assert [(row.name, row.total) for row in summary.metrics] == [("mine", 3)]


def test_metrics_are_joined_by_name_unless_labels_are_asked_for() -> None:
    sketch = Sketch()
    for place, (agent, value) in enumerate([("x", 1.0), ("y", 3.0), ("x", 5.0)]):
        line = metrics_line(gauge("m", value, time_ns=T + place, agent=agent))
        sketch.add_line("metrics", line)
    (row,) = Summary(sketch, since_ns=0, until_ns=T + 9).metrics
    assert (row.count, row.mean, row.last, row.minimum, row.maximum) == (3, 3.0, 5.0, 1.0, 5.0)
    rows = Summary(sketch, since_ns=0, until_ns=T + 9, by_labels=True).metrics
    assert [(row.labels, row.count, row.last) for row in rows] == [
        ((("agent", "x"),), 2, 5.0),
        ((("agent", "y"),), 1, 3.0),
    ]


def test_a_cumulative_counter_counts_what_it_grew_by_in_each_process() -> None:
    """Two processes count from zero each; their last points add up."""
    sketch = Sketch()
    for start, value in ((T, 5), (T, 8), (T + 100, 4)):
        line = metrics_line(counter("c", value, time_ns=T + 1000 + value))
        line = line.replace(b'"aggregationTemporality":1', b'"aggregationTemporality":2')
        at = str(T + 1000 + value - 1).encode()
        sketch.add_line("metrics", line.replace(at, str(start).encode()))
    (row,) = Summary(sketch, since_ns=0, until_ns=T + 9999).metrics
    assert row.total == 12
    assert (row.mean, row.p50) == (None, None)


@pytest.mark.parametrize(
    ("since_s", "until_s", "seconds"),
    [
        (-3600, 0, 60),  # it began a moment ago: a minute at least
        (-3600, 600, 600),  # from the first record
        (300, 600, 300),  # the window asked for
        (-5, 5, 10),  # less than a minute was asked for
    ],
)
def test_rates_are_over_the_time_that_the_records_are_spread_over(
    since_s: int, until_s: int, seconds: int
) -> None:
    sketch = Sketch()
    sketch.add_line("traces", spans_line(span("a", start_ns=T)))
    summary = Summary(sketch, since_ns=T + since_s * SECOND_NS, until_ns=T + until_s * SECOND_NS)
    assert summary.seconds == seconds
    assert summary.per_minute(30) == 30 * 60 / seconds


def test_no_records_no_rate() -> None:
    assert Summary(Sketch(), since_ns=0, until_ns=T).per_minute(0) is None


def test_levels_are_of_four_numbers_each() -> None:
    names = [level_name(number) for number in range(-1, 26)]
    levels = ("trace", "debug", "info", "warn", "error", "fatal")
    assert names[2:26] == [level for level in levels for _ in range(4)]
    assert {*names[:2], names[26]} == {"unspecified"}
