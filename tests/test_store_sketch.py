"""A sketch is a sum: merged, stored, or rebuilt from lines, it says the same."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store import sketch as sketches
from stack_composer.telemetry.store.sketch import (
    OVERFLOW_LABELS,
    OVERFLOW_NAME,
    Histogram,
    Sketch,
    labels_of,
)
from store_lines import START_NS, dump

durations = st.lists(st.integers(-(10**6), 10**13), max_size=40)
# Whole numbers, whose sums do not depend on their order.
values = st.lists(st.integers(-(10**9), 10**9).map(float), max_size=20)
labels = st.dictionaries(
    st.sampled_from(["agent", "phase"]), st.sampled_from(["a", "b", 3, 2.5, False]), max_size=2
).map(labels_of)
spans = st.tuples(st.sampled_from(["plan", "solve", "ü"]), durations, st.integers(0, 3))
gauges = st.tuples(st.sampled_from(["latency", "value"]), labels, values, st.integers(1, 100))
sums = st.tuples(st.sampled_from(["calls"]), labels, st.integers(-5, 5), st.integers(1, 100))


def build(
    of_spans: list[Any], of_gauges: list[Any], of_sums: list[Any], of_logs: list[int]
) -> Sketch:
    made = Sketch()
    for name, found, errors in of_spans:
        made.add_spans(name, found, min(errors, len(found)))
        made.saw(START_NS, START_NS + 1, len(found))
    for name, of, found, time_ns in of_gauges:
        made.add_gauge(name, of, found, time_ns, unit="ms")
    for name, of, increment, time_ns in of_sums:
        made.add_sum(name, of, increment, time_ns)
    for severity in of_logs:
        made.add_logs(severity)
    return made


built = st.builds(
    build,
    st.lists(spans, max_size=4),
    st.lists(gauges, max_size=4),
    st.lists(sums, max_size=4),
    st.lists(st.integers(0, 24), max_size=6),
)


def copy(of: Sketch) -> Sketch:
    twin = Sketch()
    twin.merge(of)
    return twin


@given(built, built, built)
def test_merging_is_associative(one: Sketch, two: Sketch, three: Sketch) -> None:
    left = copy(one)
    left.merge(two)
    left.merge(three)
    right = copy(two)
    right.merge(three)
    ahead = copy(one)
    ahead.merge(right)
    assert left == ahead


@given(built)
def test_an_empty_sketch_changes_nothing(one: Sketch) -> None:
    twin = copy(one)
    twin.merge(Sketch())
    assert twin == one


@given(built, built)
def test_merging_leaves_the_other_as_it_was(one: Sketch, other: Sketch) -> None:
    before = json.dumps(other.to_json())
    one.merge(other)
    one.merge(other)
    assert json.dumps(other.to_json()) == before


@given(built)
def test_a_sketch_survives_strict_json(one: Sketch) -> None:
    text = json.dumps(one.to_json(), allow_nan=False)
    assert Sketch.from_json(json.loads(text)) == one


buckets = st.dictionaries(
    st.one_of(st.integers(-40, 900), st.integers(-34_000, 34_000)),
    st.sampled_from([1, 2, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**40]),
    max_size=20,
)


def of_buckets(counts: dict[int, int], negatives: dict[int, int]) -> Histogram:
    made = Histogram()
    made.count = sum(counts.values()) + sum(negatives.values())
    made.buckets.update(counts)
    made.negatives = dict(negatives)
    return made


def read_back(one: Histogram) -> Histogram:
    return Histogram.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False)))


@given(st.lists(st.tuples(buckets, buckets, st.booleans()), max_size=5))
def test_buckets_read_from_sidecars_add_up_like_any_others(
    some: list[tuple[dict[int, int], dict[int, int], bool]],
) -> None:
    """Merged as lanes of one integer, as pairs, or both in turn."""
    quick, slow = Histogram(), Histogram()
    for counts, negatives, look in some:
        one = of_buckets(counts, negatives)
        again = read_back(one)
        quick.merge(again)
        slow.merge(one)
        assert again == one
        if look:
            assert quick.buckets == slow.buckets
    assert quick == slow
    assert quick.copy() == slow
    assert quick.quantile(0.5) == slow.quantile(0.5)


def test_many_sums_of_full_lanes_do_not_run_into_each_other() -> None:
    one = read_back(of_buckets({7: 2**32 - 1, 8: 2**32 - 1, 40: 1}, {}))
    total = Histogram()
    for _ in range(10_000):
        total.merge(one)
    assert total.buckets == {7: 10_000 * (2**32 - 1), 8: 10_000 * (2**32 - 1), 40: 10_000}


@pytest.mark.parametrize(
    "odd", [[1, 3, "AAAA"], [1, 2, "AAAA"], [1, 1, "A"], [1, 1], ["x", 1, "AA=="], [[1], [2, 3]]]
)
def test_odd_lanes_are_no_histogram(odd: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        Histogram.from_json({"count": 1, "sum": 1, "buckets": odd})


@given(st.lists(durations, max_size=8))
def test_durations_added_in_any_portions_are_counted_the_same(portions: list[list[int]]) -> None:
    whole, apart = Sketch(), Sketch()
    whole.add_spans("x", [d for portion in portions for d in portion], 0)
    for portion in portions:
        part = Sketch()
        part.add_spans("x", portion, 0)
        apart.merge(part)
    assert apart == whole
    if whole.spans:
        assert whole.spans["x"].count == sum(map(len, portions))


def test_pending_durations_count_before_and_after_they_are_sorted_into_buckets() -> None:
    one = Sketch()
    one.add_spans("x", range(1, sketches._PENDING_MAX), 0)
    assert one.spans["x"].count == sketches._PENDING_MAX - 1
    one.add_spans("x", [7, 8], 1)
    assert one.spans["x"].count == sketches._PENDING_MAX + 1
    assert one.spans["x"].durations.count == sketches._PENDING_MAX + 1
    assert one.spans["x"].errors == 1


@pytest.mark.parametrize("q", [0, 0.01, 0.5, 0.9, 0.95, 0.99, 1])
def test_quantiles_are_within_the_promised_error(q: float) -> None:
    dice = random.Random(7)
    sample = [int(dice.lognormvariate(15, 2)) for _ in range(5000)]
    one = Histogram()
    one.add_durations(sample)
    exact = sorted(sample)[max(math.ceil(q * len(sample)) - 1, 0)]
    assert one.quantile(q) == pytest.approx(exact, rel=0.011)
    assert one.minimum == min(sample)
    assert one.maximum == max(sample)
    assert one.total == sum(sample)


def test_quantiles_of_values_of_any_sign() -> None:
    one = Histogram()
    one.add_values([-100.0, -1.0, 0.0, 0.5, 1e-9])
    assert [one.quantile(q) for q in (0, 0.2, 0.4, 0.6, 0.8, 1)] == [
        pytest.approx(x, rel=0.011) for x in (-100.0, -100.0, -1.0, 0.0, 1e-9, 0.5)
    ]
    assert one.mean == pytest.approx(-100.5 / 5)


def test_a_single_value_is_its_own_quantile() -> None:
    one = Histogram()
    one.add_values([123.0])
    assert one.quantile(0.5) == 123.0


def test_no_values_have_no_quantile_and_no_mean() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().mean is None
    with pytest.raises(ValueError, match=r"q is 1\.5"):
        Histogram().quantile(1.5)


def test_durations_below_zero_count_as_zero() -> None:
    one = Histogram()
    one.add_durations([-5, 0, 10])
    assert (one.count, one.zeros, one.minimum, one.maximum, one.total) == (3, 2, 0, 10, 10)


@given(st.floats(min_value=5e-324, max_value=1.79e308))
def test_each_positive_value_lies_in_its_bucket(value: float) -> None:
    index = sketches.bucket_of(value)
    assert math.log2(value) * 32 - index == pytest.approx(0.5, abs=0.5 + 1e-9)


def test_values_that_are_no_numbers_are_counted_apart() -> None:
    one = Sketch()
    one.add_gauge("x", (), [math.nan, math.inf, 2.0, -math.inf], 5)
    series = one.metrics["x", "gauge", ()]
    assert (series.points, series.values.count, series.values.nonfinite) == (4, 4, 3)
    assert (series.values.total, series.values.mean, series.last) == (2.0, 2.0, None)
    assert Sketch.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False))) == one


def test_sums_beyond_a_double_stay_json() -> None:
    one = Sketch()
    one.add_gauge("x", (), [1.7e308] * 3, 5)
    one.add_sum("y", (), 1.7e308, 5)
    one.add_sum("y", (), 1.7e308, 5)
    assert json.dumps(one.to_json(), allow_nan=False)


def test_the_last_value_is_the_newest_by_time_not_by_arrival() -> None:
    one, other = Sketch(), Sketch()
    one.add_gauge("x", (), [1.0], 20)
    other.add_gauge("x", (), [2.0], 10)
    one.merge(other)
    assert one.metrics["x", "gauge", ()].last == 1.0
    other.add_gauge("x", (), [3.0], 20)
    one.merge(other)
    assert one.metrics["x", "gauge", ()].last == 3.0


def test_span_names_beyond_the_bound_are_counted_together() -> None:
    one = Sketch()
    for number in range(sketches.NAMES_MAX + 10):
        one.add_spans(f"name {number}", [1], 1)
    assert len(one.spans) == sketches.NAMES_MAX + 1
    assert one.spans[OVERFLOW_NAME].count == 10
    twin = Sketch()
    twin.add_spans("late", [5], 0)
    one.merge(twin)
    assert one.spans[OVERFLOW_NAME].count == 11


def test_series_beyond_the_bound_are_counted_together() -> None:
    one = Sketch()
    count = sketches.SERIES_MAX + 50
    for number in range(count):
        one.add_sum("x", (("user", number),), 2, 1)
    assert len(one.metrics) == sketches.SERIES_MAX + 1
    assert one.metrics["x", "sum", OVERFLOW_LABELS].values.total == 100
    for number in range(2 * sketches.SERIES_MAX):
        one.add_sum(f"name {number}", (), 1, 1)
    assert len(one.metrics) <= 2 * sketches.SERIES_MAX + 1
    total = sum(series.values.total for series in one.metrics.values())
    assert total == 2 * count + 2 * sketches.SERIES_MAX


def test_a_cumulative_sum_counts_what_it_grew_by() -> None:
    one = Sketch()
    for time_ns, value in ((110, 5.0), (120, 7.0), (130, 9.0)):
        one.add_cumulative_sum("x", (), value, time_ns, start_ns=100)
    restarted = Sketch()
    restarted.add_cumulative_sum("x", (), 4.0, 230, start_ns=200)
    one.merge(restarted)
    one.merge(Sketch.from_json(json.loads(json.dumps(restarted.to_json()))))
    series = one.metrics["x", "sum", ()]
    assert series.distribution().total == 13.0
    assert series.distribution(since_ns=115).total == 8.0
    assert series.last == 4.0


def test_a_stream_of_unknown_start_counts_in_full() -> None:
    one = Sketch()
    one.add_cumulative_sum("x", (), 5.0, 110, start_ns=0)
    one.add_cumulative_sum("x", (), 7.0, 120, start_ns=0)
    assert one.metrics["x", "sum", ()].distribution(since_ns=115).total == 7.0


def test_a_merged_stream_is_not_shared() -> None:
    one, other = Sketch(), Sketch()
    one.add_cumulative_sum("x", (), 5.0, 110, start_ns=100)
    before = json.dumps(one.to_json())
    other.merge(one)
    other.add_cumulative_sum("x", (), 9.0, 130, start_ns=100)
    assert other.metrics["x", "sum", ()].distribution().total == 9.0
    assert json.dumps(one.to_json()) == before


def test_cumulative_histograms_and_deltas_add_up() -> None:
    one = Sketch()
    for time_ns, seen in ((110, [1.0]), (120, [1.0, 8.0])):
        reached = Histogram()
        reached.add_values(seen)
        one.add_histogram("x", (), reached, time_ns, cumulative_start_ns=100)
    delta = Histogram()
    delta.add_values([64.0])
    one.add_histogram("x", (), delta, 130)
    series = one.metrics["x", "histogram", ()]
    assert series.points == 3
    whole = series.distribution()
    assert (whole.count, whole.total) == (3, 73.0)
    grown = series.distribution(since_ns=115)
    assert (grown.count, grown.total) == (2, 72.0)
    assert sum(grown.buckets.values()) == 2
    assert whole.quantile(1) == pytest.approx(64, rel=0.011)


def test_streams_beyond_the_bound_still_count() -> None:
    one = Sketch()
    for start_ns in range(1, sketches.STREAMS_MAX + 11):
        one.add_cumulative_sum("x", (), 2.0, start_ns + 5, start_ns=start_ns)
    series = one.metrics["x", "sum", ()]
    assert len(series.streams) == sketches.STREAMS_MAX
    assert series.distribution().total == 2.0 * (sketches.STREAMS_MAX + 10)


@pytest.mark.parametrize(("scale", "expected"), [(7, {2: 3, 3: 4}), (5, {8: 1, 11: 2, 12: 4})])
def test_buckets_of_another_scale_are_joined(scale: int, expected: dict[int, int]) -> None:
    one = Histogram()
    one.add_exponential({8: 1, 11: 2, 12: 4}, {}, scale=scale)
    assert one.buckets == expected


@given(st.integers(-3, 12), st.floats(1e-6, 1e6))
def test_a_value_keeps_its_size_through_any_scale(scale: int, value: float) -> None:
    theirs = math.ceil(math.log2(value) * 2.0**scale) - 1
    one = Histogram()
    one.add_exponential({theirs: 1}, {}, scale=scale)
    found = one.quantile(0.5)
    assert found is not None
    width = 2 ** max(2.0**-scale, 1 / 32)
    assert value / width / 1.03 <= found <= value * width * 1.03


def test_labels_do_not_depend_on_order_and_are_plain() -> None:
    assert labels_of({"b": 1, "a": "x"}) == labels_of({"a": "x", "b": 1}) == (("a", "x"), ("b", 1))
    assert labels_of(None) == labels_of({}) == ()
    odd = labels_of({"a": [1, {"b": None}], "b": b"\x00\xff", "c": math.nan})
    assert odd == (("a", '[1,{"b":null}]'), ("b", "AP8="), ("c", "NaN"))


# --- lines ------------------------------------------------------------------------


def point(**more: object) -> dict[str, object]:
    return {"startTimeUnixNano": "100", "timeUnixNano": str(START_NS), **more}


def metrics_line(**data: object) -> bytes:
    metric = {"name": "m", "unit": "ms", **data}
    return dump({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})


def of_line(line: bytes, signal: str = "metrics") -> Sketch:
    one = Sketch()
    one.add_line(signal, line)
    return one


def test_a_line_of_spans_gives_what_its_writer_counted() -> None:
    times = [(1000, 2500), (900, 1000), (1100, 1050)]
    found = [
        {
            "name": "x" if start != 900 else "y",
            "startTimeUnixNano": str(START_NS + start),
            "endTimeUnixNano": START_NS + end,
            "status": {"code": 2 if start == 900 else 1},
        }
        for start, end in times
    ]
    written = Sketch()
    written.add_spans("x", [1500, -50], 0)
    written.add_spans("y", [100], 1)
    written.saw(START_NS + 900, START_NS + 2500, 3)
    line = dump({"resourceSpans": [{"scopeSpans": [{"spans": found}]}]})
    assert of_line(line, "traces") == written


def test_spans_without_times_do_not_pull_the_range_to_1970() -> None:
    timed = {"name": "b", "startTimeUnixNano": "5", "endTimeUnixNano": "9"}
    found = [{"name": "a"}, timed, {"name": "a"}]
    one = of_line(dump({"resourceSpans": [{"scopeSpans": [{"spans": found}]}]}), "traces")
    assert (one.first_ns, one.last_ns, one.records) == (5, 9, 3)


def test_a_line_of_logs_gives_what_its_writer_counted() -> None:
    found = [
        {"timeUnixNano": "5", "severityNumber": 9},
        {"observedTimeUnixNano": "3", "severityNumber": 17},
        {"severityNumber": 9},
        {},
    ]
    written = Sketch()
    written.add_logs(9, 2)
    written.add_logs(17)
    written.add_logs(0)
    written.saw(3, 5, 4)
    assert of_line(dump({"resourceLogs": [{"scopeLogs": [{"logRecords": found}]}]}), "logs") == (
        written
    )


def test_a_line_of_gauges_gives_what_its_writer_counted() -> None:
    attributes = [{"key": "agent", "value": {"stringValue": "stack"}}]
    points = [point(asInt="3", attributes=attributes), point(asDouble=1.5, attributes=attributes)]
    written = Sketch()
    written.add_gauge("m", (("agent", "stack"),), [3, 1.5], START_NS, unit="ms")
    written.saw(START_NS, START_NS, 2)
    assert of_line(metrics_line(gauge={"dataPoints": points})) == written


def test_delta_and_cumulative_sums_are_told_apart() -> None:
    points = [point(asInt="3"), point(asInt="4")]
    delta = of_line(metrics_line(sum={"dataPoints": points, "aggregationTemporality": 1}))
    total = of_line(metrics_line(sum={"dataPoints": points, "aggregationTemporality": 2}))
    assert delta.metrics["m", "sum", ()].distribution().total == 7
    assert total.metrics["m", "sum", ()].distribution().total == 4


def test_an_exponential_histogram_keeps_its_shape() -> None:
    found = point(
        count="5",
        sum=2.5,
        scale=5,
        zeroCount="1",
        positive={"offset": -32, "bucketCounts": ["1", "0", "2"]},
        negative={"offset": 0, "bucketCounts": [1]},
        min=-1.0,
        max=2.5,
    )
    data = {"dataPoints": [found], "aggregationTemporality": 1}
    series = of_line(metrics_line(exponentialHistogram=data)).metrics["m", "histogram", ()]
    assert series.values.buckets == {-32: 1, -30: 2}
    assert series.values.negatives == {0: 1}
    assert (series.values.zeros, series.values.count, series.values.total) == (1, 5, 2.5)
    assert (series.values.minimum, series.values.maximum, series.last) == (-1.0, 2.5, 0.5)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"bucketCounts": ["1", "3", "2"], "explicitBounds": [0.1, 1.0]}, [0.1, 0.55, 1.0]),
        (
            {
                "bucketCounts": ["1", "3", "2"],
                "explicitBounds": [0.1, 1.0],
                "min": 0.05,
                "max": 1.5,
            },
            [0.075, 0.55, 1.25],
        ),
        ({"bucketCounts": ["6"]}, [0.6]),
        ({}, []),
    ],
)
def test_explicit_bounds_count_at_the_middle_of_their_bucket(
    more: dict[str, object], expected: list[float]
) -> None:
    data = {"dataPoints": [point(count="6", sum=3.6, **more)], "aggregationTemporality": 1}
    values = of_line(metrics_line(histogram=data)).metrics["m", "histogram", ()].values
    assert sorted(values.buckets) == [sketches.bucket_of(value) for value in expected]
    assert values.count == 6
    assert values.mean == pytest.approx(0.6)


def test_a_summary_has_count_and_sum_and_no_quantile() -> None:
    data = {"dataPoints": [point(count="4", sum=8.0)]}
    series = of_line(metrics_line(summary=data)).metrics["m", "histogram", ()]
    assert series.distribution().mean == 2.0
    assert series.distribution().quantile(0.5) is None


def test_a_point_flagged_as_without_value_is_only_a_record() -> None:
    one = of_line(metrics_line(gauge={"dataPoints": [point(flags=1, asInt="5"), point()]}))
    assert one.records == 2
    assert one.metrics == {}


@pytest.mark.parametrize(
    ("signal", "line"),
    [
        ("traces", b"nonsense"),
        ("traces", b"[]"),
        ("traces", b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"},{"name":5}]}]}]}'),
        (
            "metrics",
            metrics_line(
                gauge={
                    "dataPoints": [
                        point(asInt="1"),
                        point(asInt="2", attributes=[{"key": "k", "value": {"bytesValue": "?"}}]),
                    ]
                }
            ),
        ),
    ],
)
def test_a_refused_line_counts_nothing(signal: str, line: bytes) -> None:
    one = Sketch()
    with pytest.raises(LineRefusedError):
        one.add_line(signal, line)
    assert one == Sketch()


def test_names_and_labels_of_any_length_take_bounded_room() -> None:
    sketch = Sketch()
    for at in range(50):
        sketch.add_spans(f"{at}" + "x" * 60_000, [1], 0)
        sketch.add_gauge("m", ((f"k{at}", "y" * 60_000),), [1.0], 1)
        sketch.add_gauge("n" * 60_000 + f"{at}", (), [1.0], 1)
    assert len(json.dumps(sketch.to_json())) < 10_000
    assert sum(stats.count for stats in sketch.spans.values()) == 50
    assert sum(series.points for series in sketch.metrics.values()) == 100
