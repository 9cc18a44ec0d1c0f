"""Lines are OTLP JSON that the official protobuf classes accept, and pass the guard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.model import (
    DROPPED,
    HistogramPoint,
    KeyVerdict,
    Link,
    LogRecord,
    Metric,
    NumberPoint,
    RemoteParent,
    Resource,
    Scope,
    SpanDetails,
)
from stack_composer.telemetry.record.ids import identify_all
from stack_composer.telemetry.record.span import Span, make
from stack_composer.telemetry.store.encode import Encoder
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.values import copy_attributes, plain

REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}


class Wary:
    """A screen that notes all it is asked, refuses one word and masks another."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def key(self, key: str) -> KeyVerdict:
        self.asked.add(key)
        return KeyVerdict(key, key.replace("MASK", "*"), "value" if key == "closed" else "scan")

    def _text(self, text: str) -> Any:
        self.asked.add(text)
        return DROPPED if text == "DROP" else text.replace("MASK", "*")

    def texts(self, pending: Sequence[tuple[KeyVerdict, str]]) -> list[Any]:
        return [self._text(text) for _, text in pending]

    def value(self, key: str, value: Any) -> Any:
        if key == "closed":
            return DROPPED
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.value("", v) for v in value]
        if isinstance(value, dict):
            return {self.key(k).text: self.value(k, v) for k, v in value.items()}
        return value


def make_span(name: str, attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
    span: Span = make(Span, name, attributes)
    span.parent = None
    span.start_ns, span.end_ns = 1_000, 2_500
    for field, value in fields.items():
        setattr(span, field, value)
    identify_all([span])
    return span


def encoder(screen: Any = None, **options: Any) -> Encoder:
    return Encoder(screen or Wary(), Resource({"service.name": "test"}), **options)


def strict(signal: str, line: bytes) -> Any:
    """Parse with the official classes; ids are hex in OTLP, base64 in proto3 JSON."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    parsed = json.loads(line)
    _ids_to_base64(parsed)
    return json_format.ParseDict(parsed, REQUESTS[signal]())


def _ids_to_base64(node: Any) -> None:
    from base64 import b64encode

    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("traceId", "spanId", "parentSpanId"):
                node[key] = b64encode(bytes.fromhex(value)).decode()
            else:
                _ids_to_base64(value)
    elif isinstance(node, list):
        for value in node:
            _ids_to_base64(value)


ATOMS = (
    st.text()
    | st.integers()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats()
    | st.booleans()
    | st.binary(max_size=20)
    | st.none()
    | st.text(st.characters(categories=["Cs", "Lu", "Cc"]))
)
VALUES = st.recursive(
    ATOMS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4)
)


@given(st.text(), st.dictionaries(st.text(), VALUES, max_size=6))
@settings(deadline=None)
def test_any_span_is_a_line_that_strict_readers_accept(
    name: str, attributes: dict[str, Any]
) -> None:
    span = make_span(name, copy_attributes(attributes))
    line, _ = encoder().encode_spans([span])
    request = strict("traces", line)
    (got,) = request.resource_spans[0].scope_spans[0].spans
    assert got.trace_id.hex() == span.trace_id
    assert got.end_time_unix_nano == 2_500
    assert len({a.key for a in got.attributes}) == len(got.attributes)


@given(VALUES, st.text(), st.integers(0, 24))
@settings(deadline=None)
def test_any_log_record_is_a_line_that_strict_readers_accept(
    body: Any, text: str, severity: int
) -> None:
    record = LogRecord(5, severity, text, plain(body), {"k": text}, make_span("s"), Scope("x"))
    line, sketch = encoder().encode_logs([record])
    (got,) = strict("logs", line).resource_logs[0].scope_logs[0].log_records
    assert got.severity_number == severity
    assert len(got.span_id) == 8
    assert sketch.logs == {severity: 1}


@given(st.floats() | st.integers(), st.dictionaries(st.text(), st.text(), max_size=3))
@settings(deadline=None)
def test_any_number_is_a_point_that_strict_readers_accept(
    value: float, labels: dict[str, str]
) -> None:
    points = [NumberPoint(labels, 1, 2, value)]
    metric = Metric("m", "sum", points, Scope(), unit="ms", description="d", monotonic=True)
    line, _ = encoder().encode_metrics([metric])
    (got,) = strict("metrics", line).resource_metrics[0].scope_metrics[0].metrics
    assert got.sum.is_monotonic
    assert got.sum.aggregation_temporality == 1


def everything() -> tuple[list[Span], list[LogRecord], list[Metric]]:
    """Records with the word MASK in each place where a text can stand."""
    from stack_composer.telemetry.model import Event

    details = SpanDetails()
    details.kind, details.status_code, details.status_message = 3, 2, "MASK status"
    details.trace_state = "MASK=1"
    details.events = [Event("MASK event", 7, {"MASK e": "MASK value", "closed": "x"}, 2)]
    target = RemoteParent("ab" * 16, "cd" * 8, 1, "v=MASK", is_remote=True)
    details.links = [Link(target, {"l": "MASK link"})]
    details.dropped_events = details.dropped_links = details.dropped_attributes = 1
    span = make_span(
        "MASK name",
        {"MASK key": "MASK text", "list": ["MASK", {"MASK in": "MASK"}], "drop": "DROP", "n": 1},
        details=details,
        parent=target,
    )
    scoped_span = type("Scoped", (Span,), {"__slots__": (), "scope": everything_scope()})
    scoped = make_span("plain")
    scoped.__class__ = scoped_span
    log = LogRecord(
        5, 9, "MASK level", {"MASK b": ["MASK"]}, {"k": "MASK"}, span, everything_scope()
    )
    log.event_name = "MASK event name"
    dropped_body = LogRecord(5, 9, "", "DROP", None, None, everything_scope())
    histogram = HistogramPoint({"MASK label": "MASK"}, 1, 2, 5)
    histogram.count, histogram.total, histogram.minimum, histogram.maximum = 3, 6.0, 1.0, 3.0
    histogram.positive, histogram.negative = {1: 1, 4: 1}, {-3: 1}
    scope = everything_scope()
    metrics = [
        Metric("MASK m", "gauge", [NumberPoint({"a": "MASK"}, 0, 2, 1.5)], scope, unit="MASK"),
        Metric("s", "sum", [NumberPoint(None, 1, 2, 3)], scope, temporality=2, description="MASK"),
        Metric("d", "sum", [NumberPoint({"n": 1}, 1, 2, 3)], scope, monotonic=True),
        Metric("h", "exponentialHistogram", [histogram], scope),
        Metric("hc", "exponentialHistogram", [histogram], scope, temporality=2),
    ]
    return [span, scoped], [log, dropped_body], metrics


def everything_scope() -> Scope:
    return Scope("MASK scope", "MASK 1", {"MASK a": "MASK"}, "https://MASK.example")


def test_every_text_of_every_record_passes_the_screen() -> None:
    spans, logs, metrics = everything()
    screen = Wary()
    with_resource = Encoder(screen, Resource({"MASK r": "MASK"}, "https://MASK.example"))
    for _ in range(2):  # the second time much is remembered
        for signal, (line, _) in (
            ("traces", with_resource.encode_spans(spans)),
            ("logs", with_resource.encode_logs(logs)),
            ("metrics", with_resource.encode_metrics(metrics)),
        ):
            strict(signal, line)
            assert b"MASK" not in line
            assert b"DROP" not in line
            assert b"closed" not in line


def test_the_sketch_beside_a_line_equals_the_sketch_of_the_line() -> None:
    spans, logs, metrics = everything()
    made = encoder()
    for signal, (line, sketch) in (
        ("traces", made.encode_spans(spans)),
        ("logs", made.encode_logs(logs)),
        ("metrics", made.encode_metrics(metrics)),
    ):
        read = Sketch()
        read.add_line(signal, line)
        assert sketch == read, signal


def test_a_batch_that_fails_leaves_nothing_behind_in_the_next_sketch() -> None:
    made = encoder()
    good = make_span("good", {"a": "b"})
    with pytest.raises(TypeError):
        made.encode_spans([good, make_span("bad", {3: "no text"})])  # type: ignore[dict-item]
    _, sketch = made.encode_spans([good])
    assert sketch.spans["good"].count == 1


def test_numbers_that_compare_equal_keep_their_types() -> None:
    made = encoder()
    for value in (1, True, 1.0, 0, False, 0.0, -0.0, 1, True):
        line, _ = made.encode_spans([make_span("n", {"k": value})])
        (got,) = strict("traces", line).resource_spans[0].scope_spans[0].spans[0].attributes
        kind = {int: "int_value", bool: "bool_value", float: "double_value"}[type(value)]
        assert got.value.WhichOneof("value") == kind
        assert getattr(got.value, kind) == value


def test_a_redaction_is_counted_each_time_it_happens() -> None:
    guard = Guard(Policy(salt=b"s" * 32))
    made = encoder(guard)
    token = "ghp_" + "a1B2" * 9
    for _ in range(3):
        made.encode_spans([make_span("n", {"note": f"see {token} there"})])
    assert sum(guard.tally.counts.values()) == 3


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack_composer.telemetry.store.encode.REMEMBERED_MAX", 100)
    made = encoder()
    for i in range(1_000):
        made.encode_spans([make_span(f"name {i}", {f"key {i}": f"text {i}", "n": i})])
    assert len(made._names) + len(made._keys) <= 110


def test_two_keys_that_look_alike_after_redaction_are_one() -> None:
    line, _ = encoder().encode_spans([make_span("n", {"MASK": "a", "*": "b"})])
    span = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert len([a for a in span["attributes"] if a["key"] == "*"]) == 1


@pytest.mark.parametrize("written_before", [0, 1_000_000], ids=["repr", "msgspec"])
@given(st.lists(st.floats() | st.text(max_size=3), max_size=20))
@settings(deadline=None)
def test_doubles_come_back_exactly_and_in_their_places(
    written_before: int, values: list[float | str]
) -> None:
    made = encoder()
    made._doubles._written = written_before
    attributes = {str(at): value for at, value in enumerate(values)}
    line, _ = made.encode_spans(
        [make_span("first", attributes), make_span("none"), make_span("second", attributes)]
    )
    spans = strict("traces", line).resource_spans[0].scope_spans[0].spans
    for span in (spans[0], spans[2]):
        got = [getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes]
        assert list(map(repr, got)) == [
            repr(v.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
            if isinstance(v, str)
            else repr(v)
            for v in values
        ]
