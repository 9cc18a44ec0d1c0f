"""Requests of OTLP become guarded lines: quickly, and never otherwise than thoroughly."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


# -- the quick way agrees with the thorough one -------------------------------------------

TOKEN = "ghp_" + "a1B2c3D4e5F6" * 3
NAMES = ["planner.solve", "GET /9", "J", "Jay 9 A", "ünïcode", "n" * 200, "", f"call {TOKEN}"]
KEYS = [
    *("http.route", "k_dense", "J", "9", "", "ключ", "k" * 140, "session.id", "user.email"),
    *("password", "db.statement", f"key-{TOKEN}", f"other-{TOKEN}"),
]
TEXTS = [
    *("GET", "JSON", "J" * 74, "", "ж", "x" * 126, "x" * 300, "\0", 'say "hi"\n', "2" * 90),
    *(TOKEN, f"token={TOKEN}", "me@example.org", "4111 1111 1111 1111", "[redacted:email]"),
]


def a_value(draw: st.DrawFn, value: Any) -> None:
    kind = draw(st.sampled_from(["text", "text", "text", "int", "double", "bool", "odd"]))
    if kind == "text":
        value.string_value = draw(st.one_of(st.sampled_from(TEXTS), st.text(max_size=6)))
    elif kind == "int":
        value.int_value = draw(
            st.one_of(st.sampled_from([0, 200, -1]), st.integers(-(2**63), 2**62))
        )
    elif kind == "double":
        value.double_value = draw(st.one_of(st.sampled_from([0.5, 1e16, -0.0]), st.floats()))
    elif kind == "bool":
        value.bool_value = draw(st.booleans())
    else:
        odd = draw(st.integers(0, 2))
        if odd == 0:
            value.bytes_value = draw(st.binary(max_size=3))
        elif odd == 1:
            value.array_value.values.add().string_value = draw(st.sampled_from(TEXTS))


@st.composite
def some_spans(draw: st.DrawFn) -> trace_pb2.Span:
    """Spans that repeat what others say, most of them plain, with a secret here and there."""
    span = a_span(
        trace_id=draw(st.sampled_from([b"t" * 16, b"u" * 16, b"9AJ\n\x10\x12" * 2 + b"last"])),
        name=draw(st.sampled_from(NAMES)),
        kind=draw(st.sampled_from([0, 1, 1, 3, 200, -1])),
        flags=draw(st.sampled_from([0, 257, 257, 769])),
        parent_span_id=draw(st.sampled_from([b"", b"p" * 8, b"p" * 8, b"\0" * 8, b"short"])),
        start_time_unix_nano=draw(st.sampled_from([0, 1, START_NS, START_NS + 57])),
        end_time_unix_nano=draw(st.sampled_from([0, 9, START_NS + 10, 2**64 - 1])),
    )
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=4)):
        a_value(draw, span.attributes.add(key=key).value)
    status: Any = span.status
    if draw(st.integers(0, 3)) == 0:
        status.code = draw(st.integers(0, 2))
    if draw(st.integers(0, 9)) == 0:
        status.message = draw(st.sampled_from(["it failed", f"no {TOKEN}"]))
    if draw(st.integers(0, 9)) == 0:
        span.events.add(name="exception", time_unix_nano=5).attributes.add(key="k")
    if draw(st.integers(0, 19)) == 0:
        span.trace_state = "a=b"
    return span


def thoroughly(made: Transcoder, raw: bytes, counts: Counter[str]) -> list[Any]:
    return [
        (line, sketch, sketch.records)
        for line, sketch in made._by_records("traces", raw, counts, is_json=False)
    ]


def tally_of(made: Transcoder) -> tuple[Any, ...]:
    tally = made._encoders.guard.tally
    return dict(tally.counts), dict(tally.hits), tally.faults, tally.judged


def assert_agree(quick: Transcoder, slow: Transcoder, raw: bytes) -> None:
    """Both say the same of ``raw``, after whatever each has seen before."""
    ours, theirs = Counter[str](), Counter[str]()
    try:
        wanted = thoroughly(slow, raw, theirs)
    except LineRefusedError:
        with pytest.raises(LineRefusedError):
            quick.lines("traces", raw, ours)
    else:
        got = quick.lines("traces", raw, ours)
        assert got == wanted
        for (_, one, _), (_, other, _) in zip(got, wanted, strict=True):
            assert set(one.traces or ()) == set(other.traces or ())
        assert ours["bad_id"] == theirs["bad_id"]
        assert bool(ours["not_strict"]) == bool(theirs["not_strict"])
    assert tally_of(quick) == tally_of(slow)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"span_attribute_count_max": 2},
    {"span_attribute_chars_max": 5},
    {"profile": "strict"},
]


@pytest.mark.parametrize("options", OPTIONS)
@given(requests=st.lists(st.lists(some_spans(), max_size=8), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_the_quick_way_writes_what_the_thorough_one_writes(
    options: dict[str, Any], requests: list[list[trace_pb2.Span]]
) -> None:
    """The same lines, sketches and redactions, the first time and once all is known."""
    quick, slow = transcoder_of(**options), transcoder_of(**options)
    for spans in requests * 3:
        assert_agree(quick, slow, a_request(*spans).SerializeToString())
