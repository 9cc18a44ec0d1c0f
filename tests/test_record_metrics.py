"""Measurements: what is added up, what is kept, and what is refused."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import records
from stack_composer import telemetry
from stack_composer.telemetry.record import instruments
from stack_composer.telemetry.record.aggregate import (
    BUCKETS_MAX,
    SCALE_MAX,
    HistogramSeries,
    bucket_index,
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    telemetry.configure(tmp_path / "telemetry")
    yield tmp_path / "telemetry"
    telemetry.shutdown()


def points(folder: Path, name: str) -> list[dict[str, Any]]:
    """All points of one metric, its kind's name beside each."""
    telemetry.flush()
    return [
        {**point, "kind": kind, "attrs": records.attributes(point)}
        for metric in records.metrics(folder)
        if metric["name"] == name
        for kind in ("gauge", "sum", "exponentialHistogram")
        if kind in metric
        for point in metric[kind]["dataPoints"]
    ]


def test_each_metric_call_is_a_point_of_its_own(folder: Path) -> None:
    telemetry.metric("agent.latency_ms", 123, {"agent": "stack"}, phase="score")
    telemetry.metric("agent.latency_ms", 0.5)
    first, second = points(folder, "agent.latency_ms")
    assert first["kind"] == "gauge"
    assert (first["asInt"], first["attrs"]) == ("123", {"agent": "stack", "phase": "score"})
    assert second["asDouble"] == 0.5
    assert int(first["timeUnixNano"]) <= int(second["timeUnixNano"])


def test_counters_are_deltas_that_add_up(folder: Path) -> None:
    counter = telemetry.counter("hits", {"page": "home"})
    for _ in range(1_000):
        counter.add(1)
    (first,) = points(folder, "hits")
    counter.add(2.5)
    second = points(folder, "hits")[-1]
    assert (first["asInt"], second["asDouble"]) == ("1000", 2.5)
    assert first["attrs"] == {"page": "home"}
    assert int(second["startTimeUnixNano"]) == int(first["timeUnixNano"])
    assert telemetry.counter("hits", {"page": "home"}) is counter
    assert telemetry.counter("hits", {"page": "other"}) is not counter


def test_cumulative_counters_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Cumulative")
    telemetry.configure(tmp_path / "telemetry")
    counter = telemetry.counter("cumulative.hits")
    counter.add(1)
    telemetry.flush()
    counter.add(2)
    got = points(tmp_path / "telemetry", "cumulative.hits")
    telemetry.shutdown()
    assert [point["asInt"] for point in got] == ["1", "3"]
    assert len({point["startTimeUnixNano"] for point in got}) == 1


def test_a_gauge_keeps_the_last_value(folder: Path) -> None:
    gauge = telemetry.gauge("queue.length")
    gauge.set(3)
    gauge.set(7)
    assert [point["asInt"] for point in points(folder, "queue.length")] == ["7"]


def test_a_histogram_keeps_count_sum_bounds_and_shape(folder: Path) -> None:
    histogram = telemetry.histogram("wait", unit="ms", description="how long")
    for value in (1, 1, 2, 1_000, 0, -3):
        histogram.record(value)
    (point,) = points(folder, "wait")
    assert (point["count"], point["sum"], point["min"], point["max"]) == ("6", 1001.0, -3.0, 1000.0)
    assert point["zeroCount"] == "1"
    counts = [int(count) for count in point["positive"]["bucketCounts"]]
    assert sum(counts) == 4
    assert counts[0] == 2
    assert sum(map(int, point["negative"]["bucketCounts"])) == 1


def test_what_is_no_number_is_refused_and_counted(folder: Path) -> None:
    telemetry.counter("odd").add(-1)
    telemetry.counter("odd").add("1")  # type: ignore[arg-type]
    telemetry.counter("odd").add(math.nan)
    telemetry.histogram("odd.h").record(math.inf)
    telemetry.gauge("odd.g").set(None)  # type: ignore[arg-type]
    telemetry.metric("odd.m", "x")  # type: ignore[arg-type]
    telemetry.metric(3, 1)  # type: ignore[arg-type]
    assert points(folder, "odd") == []
    assert [point["asInt"] for point in points(folder, "3")] == ["1"]
    assert records.health(folder, "dropped") == {("metrics", "invalid_value"): 6}


def test_more_series_than_the_bound_are_one_overflow(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruments, "SERIES_MAX", 10)
    for i in range(50):
        telemetry.counter("wide", {"i": i}).add(1)
    got = points(folder, "wide")
    assert sum(int(point["asInt"]) for point in got) == 50
    assert len(got) == 11
    assert [p["asInt"] for p in got if p["attrs"] == {"otel.metric.overflow": True}] == ["40"]


def test_more_instruments_than_the_bound_hold_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruments, "INSTRUMENTS_MAX", len(instruments._bound))
    late = telemetry.counter("one too many")
    late.add(1)
    assert late.values == []
    assert points(folder, "one too many") == []
    assert records.health(folder, "dropped") == {("metrics", "too_many_instruments"): 1}


def test_threads_that_count_together_lose_nothing(folder: Path) -> None:
    counter = telemetry.counter("shared")
    histogram = telemetry.histogram("shared.h")

    def work() -> None:
        for i in range(20_000):
            counter.add(1)
            histogram.record(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(int(point["asInt"]) for point in points(folder, "shared")) == 80_000
    assert sum(int(point["count"]) for point in points(folder, "shared.h")) == 80_000


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_each_value_lies_within_its_bucket(value: float) -> None:
    base = 2.0 ** (1 / (1 << SCALE_MAX))
    index = bucket_index(value)
    assert base**index * (1 - 1e-12) < value <= base ** (index + 1) * (1 + 1e-12)


def test_a_power_of_two_is_the_upper_bound_of_its_bucket() -> None:
    for exponent in range(-1_000, 1_000):
        assert bucket_index(2.0**exponent) == exponent * (1 << SCALE_MAX) - 1


@given(st.lists(st.floats(min_value=-1e300, max_value=1e300), min_size=1, max_size=200))
@settings(deadline=None)
def test_a_histogram_of_any_spread_stays_within_its_bound(values: list[float]) -> None:
    series = HistogramSeries(None, 0, delta=True)
    assert series.add(values) == 0
    point = series.point(1)
    assert point is not None
    assert point.count == len(values)
    counted = sum(point.positive.values()) + sum(point.negative.values()) + point.zero_count
    assert counted == len(values)
    for side in (point.positive, point.negative):
        assert not side or max(side) - min(side) < BUCKETS_MAX
    assert series.point(2) is None


def test_who_asks_while_the_module_is_loaded_finds_no_half_of_it() -> None:
    """Another thread may start the writer while this one imports the instruments."""
    script = """
import importlib.abc, sys, threading
from stack_composer import telemetry

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "stack_composer.telemetry.record.aggregate":
            # In the middle of instruments.py: its functions are not defined yet.
            sys.meta_path.remove(self)
            other = threading.Thread(target=telemetry.configure)
            other.start()
            other.join(1)
            with telemetry.span("s"):
                pass
        return None

sys.meta_path.insert(0, Slow())
hits = telemetry.counter("hits")
hits.add(2)
telemetry.flush()
from stack_composer.telemetry.record import recorder
print(recorder.faults, recorder.instruments is not None)
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(Path(folder) / "t")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("{} True\n", "")
