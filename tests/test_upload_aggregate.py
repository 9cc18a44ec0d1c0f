"""Aggregates: sums of what is stored, which add up at the receiver, and hold no record."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from cli_running import (
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
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.sketch import Sketch, bucket_of
from stack_composer.telemetry.store.writer import BundleWriter
from stack_composer.telemetry.upload import aggregate
from stack_composer.telemetry.upload.aggregate import (
    LOG_COUNT,
    SPAN_COUNT,
    SPAN_DURATION,
    SPAN_ERRORS,
    AggregateBatch,
    AggregateBatches,
)
from stack_composer.telemetry.upload.audit import Selected
from stack_composer.telemetry.upload.ledger import Range
from stack_composer.telemetry.upload.plan import EVERYTHING, Plan, Terms, facts_of, plan_upload
from stack_composer.telemetry.upload.pseudonyms import Pseudonyms
from store_lines import START_NS, append, dump, tick_until_idle

TERMS = Terms("https://example.org:443", "http/protobuf", "aggregate", "none", 3_500_000)
Key = tuple[str, tuple[tuple[str, Any], ...]]


def planned(
    folder: Path,
    *,
    wanted: Selected = EVERYTHING,
    terms: Terms = TERMS,
    sent: dict[str, list[Range]] | None = None,
) -> Plan:
    return plan_upload(
        facts_of(list_bundles(str(folder)).bundles, wanted),
        wanted=wanted,
        signals=None,
        sent=lambda key: (sent or {}).get(key, []),
        terms=terms,
    )


def batches(plan: Plan) -> list[AggregateBatch]:
    maker = AggregateBatches(plan.terms, "protobuf", Pseudonyms(bytes(32)))
    return [batch for portion in plan.portions for batch in maker.of(portion)]


def points(bodies: Iterable[bytes]) -> list[tuple[Any, Any]]:
    """The data points of requests, by the official classes, with their metrics."""
    found = []
    for body in bodies:
        message = ExportMetricsServiceRequest()
        message.ParseFromString(body)
        for resource in message.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    held = getattr(metric, metric.WhichOneof("data") or "")
                    assert held.aggregation_temporality == 1  # Delta.
                    found += [(metric, point) for point in held.data_points]
    return found


def labels_of(point: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (pair.key, getattr(pair.value, pair.value.WhichOneof("value"))) for pair in point.attributes
    )


def counted(bodies: Iterable[bytes]) -> Counter[Key]:
    """What counters add up to, over all requests."""
    sums: Counter[Key] = Counter()
    for metric, point in points(bodies):
        if metric.WhichOneof("data") == "sum":
            sums[metric.name, labels_of(point)] += point.as_int or point.as_double
    return sums


def distributed(bodies: Iterable[bytes]) -> dict[Key, Counter[int]]:
    """What histograms add up to, over all requests."""
    sums: dict[Key, Counter[int]] = defaultdict(Counter)
    for metric, point in points(bodies):
        if metric.WhichOneof("data") == "exponential_histogram":
            assert point.scale == 5
            buckets = {
                point.positive.offset + at: count
                for at, count in enumerate(point.positive.bucket_counts)
                if count
            }
            total = sum(buckets.values()) + sum(point.negative.bucket_counts) + point.zero_count
            assert point.count == total
            sums[metric.name, labels_of(point)].update(buckets)
    return dict(sums)


def test_spans_become_counts_errors_and_durations(tmp_path: Path) -> None:
    spans = [
        span("a", start_ns=START_NS, duration_ns=1_000, number=1),
        span("a", start_ns=START_NS + 5, duration_ns=64_000, number=2, error=True),
        span("b", start_ns=START_NS + 9, duration_ns=7, number=3),
    ]
    write(tmp_path / "t", ("traces", spans_line(*spans)))
    (batch,) = batches(planned(tmp_path / "t"))
    a, b = (("span.name", "a"),), (("span.name", "b"),)
    assert counted([batch.body]) == {
        (SPAN_COUNT, a): 2,
        (SPAN_COUNT, b): 1,
        (SPAN_ERRORS, a): 1,
    }
    assert distributed([batch.body]) == {
        (SPAN_DURATION, a): {bucket_of(1_000): 1, bucket_of(64_000): 1},
        (SPAN_DURATION, b): {bucket_of(7): 1},
    }
    (point,) = (p for m, p in points([batch.body]) if m.name == SPAN_DURATION and p.count == 2)
    assert (point.sum, point.min, point.max) == (65_000, 1_000, 64_000)
    assert (point.start_time_unix_nano, point.time_unix_nano) == (START_NS, START_NS + 64_005)
    assert batch.records == 5


def test_a_bucket_is_opentelemetrys_of_scale_five() -> None:
    """Of our buckets the lower bound is in, of theirs the upper; else they are the same."""
    for value in (1.5, 7, 1_000, 123_456_789, 10**12 + 1):
        base = 2 ** (2**-5)
        index = bucket_of(value)
        assert base**index < value <= base ** (index + 1) * (1 + 1e-12)


def test_logs_become_counts_by_severity(tmp_path: Path) -> None:
    line = logs_line(
        log("secret words", time_ns=START_NS, severity=9),
        log("more", time_ns=START_NS, severity=9),
        log("bad", time_ns=START_NS, severity=18),
        log("odd", time_ns=START_NS, severity=0),
    )
    write(tmp_path / "t", ("logs", line))
    (batch,) = batches(planned(tmp_path / "t"))
    assert counted([batch.body]) == {
        (LOG_COUNT, (("log.severity", "INFO"), ("log.severity_number", 9))): 2,
        (LOG_COUNT, (("log.severity", "ERROR"), ("log.severity_number", 18))): 1,
        (LOG_COUNT, (("log.severity_number", 0),)): 1,
    }
    assert b"words" not in batch.body


def test_metrics_are_merged_by_name_and_labels(tmp_path: Path) -> None:
    lines = [
        metrics_line(
            counter("c", 3, time_ns=START_NS + at, agent="x"),
            counter("c", 4, time_ns=START_NS + at, agent="y"),
            gauge("g", -2.5, time_ns=START_NS + at, agent="x"),
            gauge("g", 0.0, time_ns=START_NS + at, agent="x"),
        )
        for at in range(3)
    ]
    write(tmp_path / "t", *(("metrics", line) for line in lines))
    (batch,) = batches(planned(tmp_path / "t"))
    x, y = (("agent", "x"),), (("agent", "y"),)
    assert counted([batch.body]) == {("c", x): 9, ("c", y): 12}
    ((_, point),) = ((m, p) for m, p in points([batch.body]) if m.name == "g")
    assert (point.count, point.zero_count, point.sum) == (6, 3, -7.5)
    assert (point.min, point.max) == (-2.5, 0.0)


def test_a_summary_has_no_buckets(tmp_path: Path) -> None:
    point = {"timeUnixNano": str(START_NS), "count": "4", "sum": 10.0, "quantileValues": []}
    line = metrics_line({"name": "s", "summary": {"dataPoints": [point]}})
    write(tmp_path / "t", ("metrics", line))
    (batch,) = batches(planned(tmp_path / "t"))
    ((metric, found),) = points([batch.body])
    assert metric.WhichOneof("data") == "histogram"
    assert (found.count, found.sum, list(found.bucket_counts)) == (4, 10.0, [])


def test_numbers_beyond_json_and_odd_labels_are_written_strictly() -> None:
    sketch = Sketch()
    labels = (("big", 2**70), ("flag", True), ("n", 5), ("r", 0.5), ("t", "é\n\U0001f600"))
    sketch.add_sum("s", labels, 2**70, START_NS)
    sketch.add_gauge("g", (), [float("nan"), float("inf"), 1.0], START_NS)
    sketch.saw(START_NS, START_NS, 2)
    found = json.loads(aggregate.metrics_line(sketch, 0))
    total, values = found["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    (point,) = total["sum"]["dataPoints"]
    assert point["asDouble"] == 2.0**70
    assert [pair["value"] for pair in point["attributes"]] == [
        {"stringValue": str(2**70)},
        {"boolValue": True},
        {"intValue": "5"},
        {"doubleValue": 0.5},
        {"stringValue": "é\n\U0001f600"},
    ]
    (point,) = values["exponentialHistogram"]["dataPoints"]
    assert (point["count"], point["sum"]) == ("1", 1.0)


def test_the_sidecar_gives_what_the_lines_give(tmp_path: Path) -> None:
    spans = [
        span(f"n{n % 3}", start_ns=START_NS, duration_ns=n * n, number=n + 1) for n in range(100)
    ]
    write_sealed(tmp_path / "sealed", ("traces", spans_line(*spans)))
    write(tmp_path / "open", ("traces", spans_line(*spans)))
    (sealed,) = batches(planned(tmp_path / "sealed"))
    (opened,) = batches(planned(tmp_path / "open"))
    assert sealed.body == opened.body
    (sidecar,) = (tmp_path / "sealed").glob("*.sketch.json")
    sidecar.unlink()
    (read,) = batches(planned(tmp_path / "sealed"))
    assert read.body == sealed.body


@pytest.mark.parametrize("is_first_gone", [True, False])
def test_of_a_sealed_bundle_that_went_in_part_the_rest_goes(
    is_first_gone: bool, tmp_path: Path
) -> None:
    """Its sidecar tells the sum of all of it, which would then go twice."""
    lines = [spans_line(span("a", start_ns=START_NS, number=n + 1)) for n in range(4)]
    writer = BundleWriter(str(tmp_path / "t"), clock=lambda: START_NS, bundle_age_s_max=1)
    for line in lines:
        append(writer, line)
    writer._clock = lambda: START_NS + 2 * 10**9
    tick_until_idle(writer)
    writer.close()
    (whole,) = batches(planned(tmp_path / "t"))
    half, other = whole.halves()
    gone = half if is_first_gone else other
    sent = {whole.portion.key: [Range(gone.start, gone.end, EVERYTHING)]}
    (rest,) = batches(planned(tmp_path / "t", sent=sent))
    assert counted([rest.body])[SPAN_COUNT, (("span.name", "a"),)] == 2
    named = {whole.portion.key: [Range(gone.start, gone.end, Selected(name="a"))]}
    (rest,) = batches(planned(tmp_path / "t", sent=named))
    assert counted([rest.body])[SPAN_COUNT, (("span.name", "a"),)] == 2


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 10**9)), min_size=1, max_size=4),
        min_size=1,
        max_size=6,
    ),
    request_bytes_max=st.sampled_from((200, 500, 3_500_000)),
    cut=st.integers(0, 3),
)
def test_in_whatever_pieces_it_goes_it_adds_up(
    lines: list[list[tuple[str, int]]],
    request_bytes_max: int,
    cut: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("store") / "t"
    number = iter(range(1, 1_000))
    written = [
        spans_line(
            *(
                span(name, start_ns=START_NS, duration_ns=took_ns, number=next(number))
                for name, took_ns in line
            )
        )
        for line in lines
    ]
    write(folder, *(("traces", line) for line in written))
    terms = TERMS._replace(request_bytes_max=request_bytes_max)
    sent: dict[str, list[Range]] = {}
    bodies = []
    # Some of it under a pattern first, then all the rest.
    for some, wanted in ((cut, Selected(name="a")), (None, Selected())):
        for batch in batches(planned(folder, wanted=wanted, terms=terms, sent=sent))[:some]:
            one = Range(batch.start, batch.end, batch.portion.selected)
            sent.setdefault(batch.portion.key, []).append(one)
            bodies.append(batch.body)
    flat = [one for line in lines for one in line]
    found = counted(bodies)
    for name in "ab":
        label = (("span.name", name),)
        took = [took_ns for other, took_ns in flat if other == name]
        assert found[SPAN_COUNT, label] == len(took)
        expected = Counter(bucket_of(took_ns) for took_ns in took if took_ns)
        assert distributed(bodies).get((SPAN_DURATION, label), Counter()) == expected
    assert batches(planned(folder, terms=terms, sent=sent)) == []


def test_what_is_too_large_is_halved_by_lines(tmp_path: Path) -> None:
    lines = [
        spans_line(
            *(span(f"n{at}-{n}", start_ns=START_NS, number=100 * at + n + 1) for n in range(20))
        )
        for at in range(8)
    ]
    write(tmp_path / "t", *(("traces", line) for line in lines))
    (whole,) = batches(planned(tmp_path / "t"))
    parts = batches(planned(tmp_path / "t", terms=TERMS._replace(request_bytes_max=4_000)))
    assert len(parts) == 8
    assert [part.start for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert counted(part.body for part in parts) == counted([whole.body])
    assert parts[0].halves() == []
    assert len({part.name for part in [*parts, whole]}) == 9


def test_no_id_and_no_attribute_of_a_span_is_in_it(tmp_path: Path) -> None:
    found = span("a", start_ns=START_NS, trace=0xABCDEF, number=0xFEDCBA, attributes={"k": "text"})
    line = {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [{"key": "host.name", "value": {"stringValue": "my-host"}}]
                },
                "scopeSpans": [{"scope": {"name": "my.library"}, "spans": [found]}],
            }
        ]
    }
    write(tmp_path / "t", ("traces", dump(line)))
    (batch,) = batches(planned(tmp_path / "t"))
    message = ExportMetricsServiceRequest()
    message.ParseFromString(batch.body)
    for word in ("text", "my-host", "my.library", "abcdef", "fedcba"):
        assert word not in str(message).lower()
    assert bytes.fromhex("abcdef") not in batch.body
