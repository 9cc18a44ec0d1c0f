"""OpenTelemetry's meters: the same points as the official SDK gives, read from disk."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as official
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

import otel_children
import records
from stack_composer import telemetry
from stack_composer.telemetry.record import instruments, recorder
from stack_composer.telemetry.record.otel.metrics import OBSERVATIONS_MAX, MeterProvider

DELTA, CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
PREFERENCES: dict[str, dict[type, AggregationTemporality]] = {
    "delta": {
        official.Counter: DELTA,
        official.ObservableCounter: DELTA,
        official.Histogram: DELTA,
    },
    "lowmemory": {official.Counter: DELTA, official.Histogram: DELTA},
    "cumulative": {},
}


@pytest.fixture(autouse=True)
def no_instruments_of_others() -> Iterator[None]:
    """Callbacks of an earlier test are not asked in a later one."""
    instruments._instruments.clear()
    yield
    instruments._instruments.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a test's pipeline writes."""
    telemetry.configure(tmp_path / "telemetry")
    yield tmp_path / "telemetry"
    telemetry.shutdown()


class Program:
    """Measures the same on any meter, in three rounds."""

    def __init__(self, meter: api.Meter) -> None:
        self.round = 0
        self._counter = meter.create_counter("counter", "By", "bytes of it")
        self._updown = meter.create_up_down_counter("updown")
        self._histogram = meter.create_histogram("histogram", "ms")
        self._gauge = meter.create_gauge("gauge")
        meter.create_observable_counter("observable.counter", [self._totals])
        meter.create_observable_up_down_counter("observable.updown", [self._levels, self._more()])
        meter.create_observable_gauge("observable.gauge", [self._levels])

    def _totals(self, _: CallbackOptions) -> Iterator[Observation]:
        yield Observation(10 * self.round, {"who": "a"})
        yield Observation(100 + self.round, {"who": "b"})

    def _levels(self, _: CallbackOptions) -> list[Observation]:
        return [Observation((-1) ** self.round * self.round)]

    def _more(self) -> Generator[list[Observation], CallbackOptions, None]:
        yield []
        while True:
            yield [Observation(self.round, {"from": "a generator"})]

    def run_round(self) -> None:
        """Measure once more."""
        self.round += 1
        for amount in (1, 2, self.round):
            self._counter.add(amount, {"who": "a", "n": 1})
            self._counter.add(amount, {"n": 1, "who": "a"})
            self._updown.add(-amount)
            self._histogram.record(amount * 1.5, {"who": "a"})
        if self.round != 2:
            self._counter.add(0.5)
            self._gauge.set(self.round, {"who": "a"})
            self._gauge.set(self.round + 0.5, {"who": "a"})


def official_points(temporality: str) -> list[dict[Any, Any]]:
    """What each round gives with the official SDK."""
    reader = InMemoryMetricReader(
        preferred_temporality=PREFERENCES[temporality],
        preferred_aggregation={
            official.Histogram: ExponentialBucketHistogramAggregation(320, 5)  # as ours
        },
    )
    program = Program(
        official.MeterProvider([reader], shutdown_on_exit=False).get_meter("program", "1")
    )
    rounds = []
    for _ in range(3):
        program.run_round()
        found: dict[Any, Any] = {}
        data = reader.get_metrics_data()
        assert data is not None
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            held: Any = metric.data
            for point in held.data_points:
                labels = tuple(sorted((point.attributes or {}).items()))
                common = metric.unit, int(getattr(held, "aggregation_temporality", 0))
                if hasattr(point, "count"):
                    positive = {
                        point.positive.offset + at: count
                        for at, count in enumerate(point.positive.bucket_counts)
                        if count
                    }
                    value: Any = (point.count, point.sum, point.min, point.max, point.scale)
                    value = (*value, positive)
                else:
                    value = (point.value, getattr(held, "is_monotonic", None))
                found[metric.name, labels] = (*common, value)
        rounds.append(found)
    return rounds


def our_points(temporality: str, folder: Path) -> list[dict[Any, Any]]:
    """What each round gives with ours, from the bundle."""
    telemetry.configure(folder, metrics_temporality=temporality)
    program = Program(MeterProvider().get_meter("program", "1"))
    rounds: list[dict[Any, Any]] = []
    seen = 0
    for _ in range(3):
        program.run_round()
        telemetry.flush()
        new = records.metrics(folder)[seen:]
        seen += len(new)
        rounds.append({})
        for metric in new:
            kind = next(k for k in ("sum", "gauge", "exponentialHistogram") if k in metric)
            for point in metric[kind]["dataPoints"]:
                labels = tuple(sorted(records.attributes(point).items()))
                common = metric.get("unit", ""), metric[kind].get("aggregationTemporality", 0)
                if kind == "exponentialHistogram":
                    value: Any = our_histogram(point)
                else:
                    number = point.get("asDouble", int(point.get("asInt", 0)))
                    value = (number, metric[kind].get("isMonotonic"))
                rounds[-1][metric["name"], labels] = (*common, value)
    return rounds


def our_histogram(point: dict[str, Any]) -> tuple[Any, ...]:
    positive = {
        point["positive"]["offset"] + at: int(count)
        for at, count in enumerate(point["positive"]["bucketCounts"])
        if int(count)
    }
    of = point["sum"], point["min"], point["max"], point["scale"]
    return (int(point["count"]), *of, positive)


@pytest.mark.parametrize("temporality", PREFERENCES)
def test_each_point_is_the_official_sdks(temporality: str, folder: Path) -> None:
    """All seven instruments, three collections, all three preferences."""
    theirs, ours = official_points(temporality), our_points(temporality, folder)
    for at, (expected, found) in enumerate(zip(theirs, ours, strict=True)):
        # A cumulative sync series that did not change is repeated there, not here;
        # a reader of ours keeps the last point of a series anyway.
        for key in expected.keys() - found.keys():
            unchanged = expected[key]
            assert unchanged[1] != 1, key
            assert any(key in earlier and earlier[key] == unchanged for earlier in ours[:at]), key
            found[key] = unchanged
        assert found == expected
    assert len(theirs[0]) == 10


def test_an_instrument_is_the_same_each_time(folder: Path) -> None:
    for _ in range(3):
        meter = MeterProvider().get_meter("m", "1")
        meter.create_counter("Hits").add(1)
        meter.create_counter("hits").add(1)
    MeterProvider().get_meter("another").create_counter("hits").add(1)
    telemetry.flush()
    values = [int(m["sum"]["dataPoints"][0]["asInt"]) for m in records.metrics(folder)]
    assert sorted(values) == [1, 6]


def test_a_callback_given_twice_is_asked_once(folder: Path) -> None:
    asked = []

    def callback(_: CallbackOptions) -> list[Observation]:
        asked.append(1)
        return [Observation(1)]

    for _ in range(3):
        MeterProvider().get_meter("m").create_observable_counter("total", [callback])
    telemetry.flush()
    assert len(asked) == 1
    assert len(records.metrics(folder)) == 1


def test_endless_observations_and_a_generator_that_ended(folder: Path) -> None:
    def endless(_: CallbackOptions) -> Iterator[Observation]:
        for number in itertools.count():
            yield Observation(number)

    def ending() -> Generator[list[Observation], CallbackOptions, None]:
        yield []
        yield [Observation(1)]

    meter = MeterProvider().get_meter("m")
    meter.create_observable_gauge("endless", [endless])
    meter.create_observable_gauge("ending", [ending()])
    before = recorder.dropped.get(("metrics", "too_many_observations"), 0)
    for _ in range(3):
        telemetry.flush()
    points = [
        (metric["name"], int(point["asInt"]))
        for metric in records.metrics(folder)
        if metric["name"] in {"endless", "ending"}
        for point in metric["gauge"]["dataPoints"]
    ]
    assert sorted(points) == [("ending", 1), *[("endless", OBSERVATIONS_MAX - 1)] * 3]
    assert recorder.dropped["metrics", "too_many_observations"] - before == 3


def test_a_reported_total_that_falls_has_begun_anew(folder: Path) -> None:
    totals = iter([10, 4, 6])
    meter = MeterProvider().get_meter("m")
    meter.create_observable_counter("total", [lambda _: [Observation(next(totals))]])
    for _ in range(3):
        telemetry.flush()
    points = [
        int(point["asInt"])
        for metric in records.metrics(folder)
        if metric["name"] == "total"
        for point in metric["sum"]["dataPoints"]
    ]
    assert points == [10, 4, 2]


def test_a_callback_that_raises_is_counted_and_the_others_still_run(folder: Path) -> None:
    def raising(_: CallbackOptions) -> list[Observation]:
        raise RuntimeError("no")

    def halfway(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(1, {"half": "way"})
        raise RuntimeError("no")

    def nonsense(_: CallbackOptions) -> Any:
        return [5]

    def early() -> Iterator[Any]:
        raise RuntimeError("before the first yield")
        yield

    def ending() -> Iterator[Any]:
        yield []
        yield [Observation(3, {"the": "end"})]

    meter = MeterProvider().get_meter("m")
    given: list[Any] = [raising, halfway, nonsense, lambda _: [Observation(2)], ending(), early()]
    meter.create_observable_gauge("level", given)
    meter.create_observable_gauge("not even a list", 5)  # type: ignore[arg-type]
    faults = recorder.faults.get("metric_callback", 0)
    for _ in range(2):
        telemetry.flush()
    points = [
        p for m in records.metrics(folder) if m["name"] == "level" for p in m["gauge"]["dataPoints"]
    ]
    seen = {(*records.attributes(p).items(), int(p["asInt"])) for p in points}
    assert seen == {(("half", "way"), 1), (2,), (("the", "end"), 3)}
    assert recorder.faults["metric_callback"] - faults == 2 * 3
    assert records.health(folder, "faults")[("metric_callback",)] >= 6


BAD: list[Any] = ["text", None, object(), float("nan"), float("inf"), 10**400, True, -1, [1], {}]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_a_value_that_is_no_number_is_counted_and_nothing_raises(number: int, folder: Path) -> None:
    bad = BAD[number]
    meter = MeterProvider().get_meter("m")
    made: dict[str, Any] = {
        "counter": meter.create_counter("counter").add,
        "updown": meter.create_up_down_counter("updown").add,
        "histogram": meter.create_histogram("histogram").record,
        "gauge": meter.create_gauge("gauge").set,
    }
    before = recorder.dropped.get(("metrics", "invalid_value"), 0)
    for measure in made.values():
        measure(bad)
        measure(1, bad)
        measure(1, {1: 2, "list": [1, {"x": 2}]})
        measure(1, {"k": 1}, bad)
    telemetry.flush()
    dropped = recorder.dropped["metrics", "invalid_value"] - before
    assert dropped >= (1 if bad == -1 else 3)
    assert {m["name"] for m in records.metrics(folder)} >= set(made)


@pytest.mark.parametrize("name", ["", None, 5, "with space", "x" * 5_000, "\ud800"])
def test_any_name_unit_and_description_is_taken(name: Any, folder: Path) -> None:
    MeterProvider().get_meter(name, name, name).create_counter(name, name, name).add(1)
    telemetry.flush()
    assert records.metrics(folder)[0]["sum"]["dataPoints"][0]["asInt"] == "1"


def test_series_beyond_the_bound_are_added_up_as_overflow(folder: Path) -> None:
    counter = MeterProvider().get_meter("m").create_counter("many")
    for number in range(instruments.SERIES_MAX + 10):
        counter.add(1, {"number": number})
        if number % 1000 == 0:
            telemetry.flush()
    telemetry.flush()
    points = [p for m in records.metrics(folder) for p in m["sum"]["dataPoints"]]
    assert sum(int(p["asInt"]) for p in points) == instruments.SERIES_MAX + 10
    overflow = [p for p in points if records.attributes(p) == {"otel.metric.overflow": True}]
    assert sum(int(p["asInt"]) for p in overflow) >= 10


def test_meters_made_before_the_provider_measure_too(tmp_path: Path) -> None:
    otel_children.run(
        """
        from opentelemetry import metrics
        from opentelemetry.metrics import Observation
        meter = metrics.get_meter("early")
        counter = meter.create_counter("early.counter")
        counter.add(100)  # goes nowhere, as the API says
        meter.create_observable_gauge("early.gauge", [lambda _: [Observation(7)]])
        from stack_composer import telemetry
        telemetry.configure(FOLDER, opentelemetry=True)
        counter.add(1)
        """,
        tmp_path,
    )
    found = {m["name"]: m for m in records.metrics(tmp_path)}
    assert found["early.counter"]["sum"]["dataPoints"][0]["asInt"] == "1"
    assert found["early.gauge"]["gauge"]["dataPoints"][0]["asInt"] == "7"


def test_only_observables_start_the_writer(tmp_path: Path) -> None:
    """With no line of code but OpenTelemetry's, and nothing that is ever appended."""
    otel_children.run(
        """
        from opentelemetry import metrics
        from opentelemetry.metrics import Observation
        metrics.get_meter("m").create_observable_gauge("g", [lambda _: [Observation(7)]])
        """,
        tmp_path,
        OTEL_PYTHON_METER_PROVIDER="stack_composer",
    )
    assert [m["name"] for m in records.metrics(tmp_path)] == ["g"]
