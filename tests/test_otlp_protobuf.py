"""Our decoder of OTLP's protobuf against the official classes, and against all bytes."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp import protobuf, recognise, wire
from stack_composer.telemetry.otlp.records import Batch, Shared, batches_of
from stack_composer.telemetry.store import otlp

DATA: dict[str, type[Message]] = {
    "traces": trace_pb2.TracesData,
    "metrics": metrics_pb2.MetricsData,
    "logs": logs_pb2.LogsData,
}
IDS = ("trace_id", "span_id", "parent_span_id")
# What our structs leave out on purpose.
LEFT_OUT = ("entity_refs", "metadata", "key_strindex", "string_value_strindex")

KINDS: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
    FieldDescriptor.TYPE_STRING: lambda: st.text(max_size=8),
    FieldDescriptor.TYPE_BYTES: lambda: st.binary(max_size=20),
    FieldDescriptor.TYPE_BOOL: st.booleans,
    FieldDescriptor.TYPE_DOUBLE: lambda: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_INT64: lambda: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: lambda: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_FIXED64: lambda: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT64: lambda: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_UINT32: lambda: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: lambda: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_SINT32: lambda: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT32: lambda: st.integers(-(2**31), 2**31 - 1),
    # Numbers that nobody knows are kept.
    FieldDescriptor.TYPE_ENUM: lambda: st.integers(-(2**31), 2**31 - 1),
}


@st.composite
def filled(draw: st.DrawFn, made: Message, depth: int = 0) -> Message:
    """Fill a message of any type, whatever fields it has."""
    for field in made.DESCRIPTOR.fields:
        if field.name in LEFT_OUT or not draw(st.booleans()):
            continue
        many = draw(st.integers(1, 2)) if field.is_repeated else 1
        for _ in range(many):
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                if depth < 9:
                    inner = getattr(made, field.name)
                    part = inner.add() if field.is_repeated else inner
                    part.SetInParent()
                    draw(filled(part, depth + 1))
                continue
            value = draw(KINDS[field.type]())
            if field.name in IDS:
                size = 16 if field.name == "trace_id" else 8
                value = draw(st.one_of(st.just(b""), st.binary(min_size=size, max_size=size)))
            if field.is_repeated:
                getattr(made, field.name).append(value)
            else:
                setattr(made, field.name, value)
    return made


def assert_same(ours: Any, theirs: Message) -> None:
    """Every field of an official message is in our struct, with the same value."""
    for field in theirs.DESCRIPTOR.fields:
        if field.name in LEFT_OUT:
            continue
        got, wanted = getattr(ours, field.name), getattr(theirs, field.name)
        if field.is_repeated:
            assert len(got) == len(wanted), field.name
            pairs = list(zip(got, wanted, strict=True))
        elif field.has_presence and not theirs.HasField(field.name):
            default = type(ours)()
            assert got == getattr(default, field.name), field.name
            continue
        else:
            pairs = [(got, wanted)]
        for one, other in pairs:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                assert_same(one, other)
            elif field.name in IDS:
                assert one == other.hex()
            elif field.type == FieldDescriptor.TYPE_BYTES:
                assert base64.b64decode(one) == other
            else:
                assert one == other, field.name


@pytest.mark.parametrize("signal", list(DATA))
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_we_read_what_the_official_classes_wrote(signal: str, data: st.DataObject) -> None:
    theirs = data.draw(filled(DATA[signal]()))
    assert_same(wire.decode(signal, theirs.SerializeToString(), Counter()), theirs)


def said(batches: list[Batch]) -> list[Any]:
    """Batches as plain values, so that two can be compared."""
    return [(b.signal, plain(b.resource), plain(b.scope), plain(b.records)) for b in batches]


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    if not slots or isinstance(value, str | bytes | int | float):
        return repr(value)
    names = [name for name in slots if not name.startswith("__")]
    return {name: plain(getattr(value, name, None)) for name in names}


def thoroughly(data: bytes, counts: Counter[str]) -> list[Any]:
    decoded = wire.decode("traces", data, counts)
    for resource in decoded.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                otlp.mend_span(span, protobuf._id, counts)
    return said(list(batches_of(decoded, Shared(), counts)))


def a_span(**fields: Any) -> trace_pb2.Span:
    usual = {
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
        "name": "planner.solve",
        "kind": 1,
        "start_time_unix_nano": 1_764_000_000_000_000_000,
        "end_time_unix_nano": 1_764_000_000_000_001_000,
        "flags": 257,
    }
    return trace_pb2.Span(**{**usual, **fields})


@st.composite
def plain_spans(draw: st.DrawFn) -> trace_pb2.Span:
    """Spans as SDKs write them: mostly for the quick way, some just beside it."""
    span = a_span(
        name=draw(st.text(min_size=1, max_size=140)),
        kind=draw(st.integers(0, 5)),
        flags=draw(st.sampled_from([0, 1, 257, 769, 2**32 - 1])),
        parent_span_id=draw(st.sampled_from([b"", b"p" * 8, b"\0" * 8, b"short"])),
    )
    for key in draw(st.lists(st.text(max_size=130), max_size=5)):
        value = span.attributes.add(key=key).value
        name = draw(st.sampled_from(["string", "int", "double", "bool", "bytes"]))
        kind = {"string": st.text(max_size=200), "int": st.integers(-(2**63), 2**63 - 1)}.get(
            name, {"double": st.floats(), "bool": st.booleans()}.get(name, st.binary(max_size=5))
        )
        setattr(value, f"{name}_value", draw(kind))
    if draw(st.booleans()):
        status: Any = span.status
        status.code = draw(st.integers(0, 2))
        status.message = draw(st.text(max_size=5))
    if draw(st.integers(0, 9)) == 0:
        span.events.add(name="exception", time_unix_nano=5)
    return span


@given(st.lists(plain_spans(), min_size=1, max_size=4))
@settings(max_examples=80, deadline=None)
def test_the_quick_way_agrees_with_the_thorough_one(spans: list[trace_pb2.Span]) -> None:
    data = trace_pb2.TracesData()
    data.resource_spans.add().scope_spans.add().spans.extend(spans)
    raw = data.SerializeToString()
    reader = protobuf.Reader()
    for _ in range(2):  # What was learnt from the first must not change the second.
        quick, slow = Counter[str](), Counter[str]()
        got = said(list(reader.batches("traces", raw, quick)))
        wanted = thoroughly(raw, slow)
        assert got == wanted
        assert quick["bad_id"] == slow["bad_id"]


def quickly(raw: bytes, counts: Counter[str]) -> Any:
    return said(list(protobuf.Reader().batches("traces", raw, counts)))


def answer_of(way: Callable[[bytes, Counter[str]], Any], raw: bytes) -> Any:
    try:
        return way(raw, Counter())
    except LineRefusedError:
        return "refused"


@given(st.lists(plain_spans(), min_size=1, max_size=2), st.data())
@settings(max_examples=150, deadline=None)
def test_the_two_ways_agree_on_damage_too(spans: list[trace_pb2.Span], data: st.DataObject) -> None:
    """A byte that makes a span another one makes it the same other one in both."""
    whole = trace_pb2.TracesData()
    whole.resource_spans.add().scope_spans.add().spans.extend(spans)
    raw = bytearray(whole.SerializeToString())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert answer_of(quickly, bytes(raw)) == answer_of(thoroughly, bytes(raw))


def example() -> bytes:
    data = trace_pb2.TracesData()
    resource = data.resource_spans.add(schema_url="https://example.org/1")
    resource.resource.attributes.add(key="service.name").value.string_value = "planner"
    scope = resource.scope_spans.add()
    scope.scope.name = "library"
    span = a_span(parent_span_id=b"p" * 8)
    span.attributes.add(key="k_dense").value.int_value = 128
    span.attributes.add(key="many").value.array_value.values.add().bool_value = True
    span.events.add(name="retry", time_unix_nano=7)
    span.links.add(trace_id=b"l" * 16, span_id=b"l" * 8)
    status: Any = span.status
    status.code = 2
    scope.spans.extend([span, a_span()])
    return data.SerializeToString()


def refusal_of(signal: str, raw: bytes) -> str:
    """What the decoder says of these bytes; "" where it takes them."""
    try:
        list(protobuf.Reader().batches(signal, raw, Counter()))
        recognise.signal_of(raw)
    except LineRefusedError as error:
        return str(error)
    return ""


def test_cut_at_any_byte_it_is_refused_or_read() -> None:
    raw = example()
    for end in range(len(raw)):
        assert "planner" not in refusal_of("traces", raw[:end])


@given(st.integers(0, len(example()) - 1), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_with_any_byte_changed_it_is_refused_or_read(place: int, byte: int) -> None:
    raw = bytearray(example())
    raw[place] = byte
    for signal in DATA:
        assert "planner" not in refusal_of(signal, bytes(raw))


@given(st.binary(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    for signal in DATA:
        refusal_of(signal, b"\x0a" + bytes([len(raw)]) + raw)


def field(number: int, wire_type: int, payload: bytes) -> bytes:
    return bytes([number << 3 | wire_type]) + payload


def nested(depth: int) -> bytes:
    value = common_pb2.AnyValue(int_value=1).SerializeToString()
    for _ in range(depth):
        inner = field(1, 2, length(value))
        value = field(5, 2, length(inner))
    return value


def length(raw: bytes) -> bytes:
    size, out = len(raw), b""
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size]) + raw


def around(span: bytes) -> bytes:
    scope = field(2, 2, length(span))
    return field(1, 2, length(field(2, 2, length(scope))))


def test_what_is_nested_too_deeply_is_refused() -> None:
    for depth, is_read in ((20, True), (5_000, False)):
        pair = field(1, 2, length(b"k")) + field(2, 2, length(nested(depth)))
        raw = around(a_span().SerializeToString() + field(9, 2, length(pair)))
        if is_read:
            (batch,) = protobuf.Reader().batches("traces", raw, Counter())
            assert "k" in batch.records[0].attributes
        else:
            with pytest.raises(LineRefusedError, match="too deeply"):
                list(protobuf.Reader().batches("traces", raw, Counter()))


def test_more_messages_than_memory_has_room_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MESSAGES_MAX", 1_000)
    for one in (field(2, 2, b"\0"), field(2, 2, length(field(9, 2, b"\0")))):
        raw = field(1, 2, length(field(2, 2, length(one * 2_000))))
        with pytest.raises(LineRefusedError, match="more than 1,000 messages"):
            list(protobuf.Reader().batches("traces", raw, Counter()))


def test_unknown_fields_and_groups_are_passed_over() -> None:
    unknown = (
        b"\xf8\x07\x05"  # Field 127, a number
        b"\xfa\x07\x02hi"
        b"\xfb\x07\x08\x01\xfc\x07"  # a group
        b"\xfd\x07abcd"
        b"\xf9\x07abcdefgh"
    )
    raw = around(a_span(name="seen").SerializeToString() + unknown)
    (batch,) = protobuf.Reader().batches("traces", raw, Counter())
    assert [span.name for span in batch.records] == ["seen"]


def test_a_message_that_comes_in_parts_is_joined() -> None:
    span = a_span().SerializeToString()
    parts = field(15, 2, length(field(3, 0, b"\x02"))) + field(15, 2, length(b"\x12\x01x"))
    (batch,) = protobuf.Reader().batches("traces", around(span + parts), Counter())
    details = batch.records[0].details
    assert (details.status_code, details.status_message) == (2, "x")
    official = trace_pb2.Span.FromString(span + parts)
    assert (official.status.code, official.status.message) == (2, "x")


def test_numbers_come_packed_or_one_by_one() -> None:
    point = metrics_pb2.ExponentialHistogramDataPoint()
    point.positive.bucket_counts.extend([1, 200, 3])
    packed = point.positive.SerializeToString()
    single = b"".join(field(2, 0, n) for n in (b"\x01", b"\xc8\x01", b"\x03"))
    table = wire._MESSAGES["Buckets"]
    for raw in (packed, single):
        made = wire.decode_message(table, raw, 0, len(raw), wire.Budget(), Counter())
        assert made.bucket_counts == [1, 200, 3]


def test_text_that_is_no_utf8_is_mended_and_counted() -> None:
    counts: Counter[str] = Counter()
    raw = a_span(name="").SerializeToString() + field(5, 2, b"\x02\xff!")
    (batch,) = protobuf.Reader().batches("traces", around(raw), counts)
    assert (batch.records[0].name, counts["not_strict"]) == ("\ufffd!", 1)


# -- which signal ----------------------------------------------------------------------


def test_the_signal_of_each_request_is_told() -> None:
    metrics = metrics_pb2.MetricsData()
    metric = metrics.resource_metrics.add().scope_metrics.add().metrics.add(name="sixteen letters!")
    metric.gauge.data_points.add(as_int=3, time_unix_nano=5)
    logs = logs_pb2.LogsData()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5)
    record.body.string_value = "text"
    request = ExportTraceServiceRequest.FromString(example())
    assert recognise.signal_of(request.SerializeToString()) == "traces"
    assert recognise.signal_of(metrics.SerializeToString()) == "metrics"
    assert recognise.signal_of(logs.SerializeToString()) == "logs"
    assert recognise.signal_of(b"") is None


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_signal_is_taken_for_another(data: st.DataObject) -> None:
    signal = data.draw(st.sampled_from(list(DATA)))
    raw = data.draw(filled(DATA[signal]())).SerializeToString()
    if signal == "traces":
        raw += example()
    found = recognise.signal_of(raw)
    assert found in (signal, None)


def test_every_protobuf_file_of_the_corpus_is_read(corpus: Path) -> None:
    files = [*corpus.glob("otlp/**/*.binpb"), *corpus.glob("otlp/**/*.bin")]
    assert files
    for file in files:
        raw = file.read_bytes()
        assert recognise.signal_of(raw) == "metrics", file
        assert_same(wire.decode("metrics", raw, Counter()), metrics_pb2.MetricsData.FromString(raw))
