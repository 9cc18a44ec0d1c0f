"""Requests of OTLP become guarded lines: quickly, and never otherwise than thoroughly."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp.protobuf import Reader
from stack_composer.telemetry.outputs import Encoders, make_guard
from stack_composer.telemetry.receive import transcode
from stack_composer.telemetry.receive.transcode import LINE_RECORDS, Transcoder

START_NS = 1_764_000_000_000_000_000


def a_span(**fields: Any) -> trace_pb2.Span:
    usual = {
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
        "name": "planner.solve",
        "kind": 1,
        "start_time_unix_nano": START_NS,
        "end_time_unix_nano": START_NS + 1_000,
        "flags": 257,
    }
    return trace_pb2.Span(**{**usual, **fields})


def a_request(*spans: trace_pb2.Span, service: str = "planner") -> trace_pb2.TracesData:
    data = trace_pb2.TracesData()
    held = data.resource_spans.add()
    held.resource.attributes.add(key="service.name").value.string_value = service
    held.scope_spans.add().spans.extend(spans)
    return data


def encoders_of(**options: Any) -> Encoders:
    config = load_config(options, environ={"HOME": "/nowhere"})
    return Encoders(config, make_guard(config, b"salt" * 8))


def transcoder_of(**options: Any) -> Transcoder:
    return Transcoder(encoders_of(**options), Reader())


def decoded(lines: list[tuple[bytes, Any, int]]) -> list[Any]:
    return [json.loads(line) for line, _, _ in lines]


def test_records_of_one_program_share_a_line() -> None:
    """Also where a request has each in a piece of its own."""
    data = a_request(a_span(), a_span())
    data.MergeFrom(a_request(a_span(), service="other"))
    data.MergeFrom(a_request(a_span()))
    lines = transcoder_of().lines("traces", data.SerializeToString(), Counter())
    assert [count for _, _, count in lines] == [3, 1]
    spans = [line["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in decoded(lines)]
    assert [len(some) for some in spans] == [3, 1]
    assert [sketch.records for _, sketch, _ in lines] == [3, 1]


def test_a_line_holds_so_many_records() -> None:
    data = a_request(*[a_span()] * (LINE_RECORDS + 1))
    lines = transcoder_of().lines("traces", data.SerializeToString(), Counter())
    assert [count for _, _, count in lines] == [LINE_RECORDS, 1]


def test_metrics_are_counted_by_their_points() -> None:
    data = metrics_pb2.MetricsData()
    scope = data.resource_metrics.add().scope_metrics.add()
    for many in (300, 212, 1, 600, 2):
        metric = scope.metrics.add(name="m")
        for at in range(many):
            metric.gauge.data_points.add(as_int=at, time_unix_nano=START_NS)
    lines = transcoder_of().lines("metrics", data.SerializeToString(), Counter())
    assert [count for _, _, count in lines] == [512, 1, 600, 2]


def test_logs_are_taken_in_both_forms() -> None:
    data = logs_pb2.LogsData()
    record = data.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=START_NS)
    record.body.string_value = "a message"
    line = transcoder_of().lines("logs", data.SerializeToString(), Counter())[0][0]
    again = transcoder_of().lines("logs", line, Counter(), is_json=True)
    assert [made for made, _, _ in again] == [line]


def test_a_request_without_records_makes_no_lines() -> None:
    for signal in ("traces", "metrics", "logs"):
        assert transcoder_of().lines(signal, b"", Counter()) == []
        assert transcoder_of().lines(signal, b"{}", Counter(), is_json=True) == []


def test_a_request_is_taken_whole_or_refused_whole() -> None:
    """What is refused has asked the guard nothing: nothing of it was redacted."""
    whole = a_request(*[a_span(name="password=" + "hunter2" * 3)] * 3).SerializeToString()
    made = transcoder_of()
    with pytest.raises(LineRefusedError):
        made.lines("traces", whole[:-1], Counter())
    assert not made._encoders.guard.tally.counts


def test_json_of_too_many_objects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcode, "PARTS_MAX", 10)
    with pytest.raises(LineRefusedError, match="more than 10 objects"):
        transcoder_of().lines("logs", b"{" * 11, Counter(), is_json=True)


def test_a_line_longer_than_a_bundle_may_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the bundle that got it could never be sealed."""
    monkeypatch.setattr(transcode, "LINE_BYTES_MAX", 100)
    with pytest.raises(LineRefusedError, match="more than 100 bytes"):
        transcoder_of().lines("traces", a_request(a_span()).SerializeToString(), Counter())
