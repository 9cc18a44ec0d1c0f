"""Jaeger's Thrift: bytes made by hand, and a small reader of Thrift that knows no Jaeger."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp import jaeger
from stack_composer.telemetry.otlp.requests import Slice, request_of, thrift_batches
from stack_composer.telemetry.otlp.walk import items
from stack_composer.telemetry.store import otlp
from store_lines import dump, spans_line

TRACE_ID = "ff00000000000001" + "8000000000000002"
SPAN_ID = "00f067aa0ba902b7"
PARENT_ID = "fff067aa0ba902b7"
START_NS = 1_764_000_000_000_000_999


class Thrift:
    """Reads any struct of Thrift's binary protocol: a dict by field number."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def whole(self) -> dict[int, Any]:
        found = self.struct()
        assert self.at == len(self.raw), "something follows the struct"
        return found

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(f">{form}", self.raw, self.at)
        self.at += struct.calcsize(f">{form}")
        return value

    def struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        while kind := self.take("B"):
            number = self.take("h")
            assert number not in found
            found[number] = self.value(kind)
        return found

    def value(self, kind: int) -> Any:
        numbers = {2: "?", 4: "d", 8: "i", 10: "q"}
        if kind in numbers:
            return self.take(numbers[kind])
        if kind == 11:
            size = self.take("i")
            self.at += size
            return self.raw[self.at - size : self.at]
        if kind == 12:
            return self.struct()
        assert kind == 15, f"type {kind}"
        inner = self.take("B")
        return [self.value(inner) for _ in range(self.take("i"))]


def tags_of(tags: list[dict[int, Any]]) -> list[tuple[str, Any]]:
    """Tags as pairs; each has one value, at the place that its type tells."""
    found = []
    for tag in tags:
        assert set(tag) == {1, 2, tag[2] + 3}
        value = tag[tag[2] + 3]
        found.append((tag[1].decode(), value.decode() if tag[2] == 0 else value))
    return found


def line_of(*spans: dict[str, Any], scope: Any = None, resource: Any = None, **more: Any) -> bytes:
    held = {"scope": scope or {}, "spans": list(spans)}
    return dump({"resourceSpans": [{"resource": resource or {}, "scopeSpans": [held], **more}]})


def batch_of(line: bytes) -> dict[int, Any]:
    ((body, _),) = thrift_batches([Slice(line)])
    return Thrift(body).whole()


def span_in(line: bytes) -> dict[int, Any]:
    (span,) = batch_of(line)[2]
    found: dict[int, Any] = span
    return found


def a_span(**fields: Any) -> dict[str, Any]:
    usual = {
        "traceId": TRACE_ID,
        "spanId": SPAN_ID,
        "name": "planner.solve",
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + 1_500_999),
    }
    return {**usual, **fields}


def pair(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def test_the_bytes_are_these() -> None:
    """Written out by hand, field by field, from jaeger.thrift and Thrift's protocol."""
    line = line_of(
        a_span(attributes=[pair("k", intValue="-2")], parentSpanId=PARENT_ID),
        resource={"attributes": [pair("service.name", stringValue="plan")]},
    )
    tag = "0b0001 00000001 6b  08 0002 00000003  0a 0006 fffffffffffffffe  00"
    start_us = (START_NS // 1000).to_bytes(8, "big").hex()
    expected = f"""
        0c 0001
            0b 0001 00000004 706c616e
            00
        0f 0002 0c 00000001
            0a 0001 8000000000000002
            0a 0002 ff00000000000001
            0a 0003 00f067aa0ba902b7
            0a 0004 fff067aa0ba902b7
            0b 0005 0000000d 706c616e6e65722e736f6c7665
            08 0007 00000001
            0a 0008 {start_us}
            0a 0009 00000000000005dc
            0f 000a 0c 00000001 {tag}
            00
        00
    """
    ((body, records),) = thrift_batches([Slice(line)])
    assert body == bytes.fromhex(expected)
    assert records == 1
    assert request_of("thrift", "traces", [Slice(line)]) == (body, 1)


def test_ids_keep_their_bits_and_times_are_microseconds() -> None:
    span = span_in(line_of(a_span(parentSpanId=PARENT_ID)))
    low, high, own, parent = (span[number] % 2**64 for number in (1, 2, 3, 4))
    assert f"{high:016x}{low:016x}" == TRACE_ID
    assert (f"{own:016x}", f"{parent:016x}") == (SPAN_ID, PARENT_ID)
    assert span[1] < 0
    assert (span[8], span[9]) == (START_NS // 1000, 1_500)


def test_a_root_has_no_parent_and_an_unfinished_span_no_length() -> None:
    span = span_in(line_of(a_span(endTimeUnixNano="0")))
    assert (span[4], span[9]) == (0, 0)
    assert 6 not in span
    assert 10 not in span
    assert 11 not in span


def test_a_span_that_ends_before_it_began_has_no_length() -> None:
    span = span_in(line_of(a_span(endTimeUnixNano=str(START_NS - 5_000))))
    assert span[9] == 0


def test_a_time_beyond_its_field_counts_as_absent() -> None:
    span = span_in(line_of(a_span(startTimeUnixNano="-5000", endTimeUnixNano=str(2**80))))
    assert (span[8], span[9]) == (0, 0)


@pytest.mark.parametrize(
    ("kind", "told"),
    [(0, None), (1, None), (2, "server"), (3, "client"), (4, "producer"), (5, "consumer")],
)
def test_the_kind_is_a_tag(kind: int, told: str | None) -> None:
    tags = dict(tags_of(span_in(line_of(a_span(kind=kind))).get(10, [])))
    assert tags.get("span.kind") == told


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, {}),
        ({"code": 1}, {"otel.status_code": "OK"}),
        ({"code": 2}, {"otel.status_code": "ERROR", "error": True}),
        (
            {"code": 2, "message": "no"},
            {"otel.status_code": "ERROR", "error": True, "otel.status_description": "no"},
        ),
    ],
)
def test_the_status_is_tags(status: dict[str, Any], told: dict[str, Any]) -> None:
    assert dict(tags_of(span_in(line_of(a_span(status=status))).get(10, []))) == told


def test_values_keep_their_types() -> None:
    attributes = [
        pair("text", stringValue="größer"),
        pair("empty", stringValue=""),
        pair("int", intValue=str(2**63 - 1)),
        pair("huge", intValue=str(2**80)),
        pair("double", doubleValue=0.5),
        pair("yes", boolValue=True),
        pair("no", boolValue=False),
        pair("bytes", bytesValue="AAH/"),
        pair("none"),
        pair("list", arrayValue={"values": [{"intValue": "1"}, {"doubleValue": "NaN"}, {}]}),
        pair("map", kvlistValue={"values": [pair("größer", bytesValue="AAH/")]}),
    ]
    assert tags_of(span_in(line_of(a_span(attributes=attributes)))[10]) == [
        ("text", "größer"),
        ("empty", ""),
        ("int", 2**63 - 1),
        ("huge", "0x100000000000000000000"),
        ("double", 0.5),
        ("yes", True),
        ("no", False),
        ("bytes", b"\x00\x01\xff"),
        ("none", ""),
        ("list", '[1,"NaN",null]'),
        ("map", '{"größer":"AAH/"}'),
    ]


def test_a_text_and_a_number_that_look_alike_are_two_tags() -> None:
    attributes = [pair("k", stringValue="1"), pair("k", intValue="1"), pair("k", doubleValue=1.0)]
    found = tags_of(span_in(line_of(a_span(attributes=attributes)))[10])
    assert [(key, type(value)) for key, value in found] == [("k", str), ("k", int), ("k", float)]


def test_the_scope_is_told_by_its_new_and_its_old_name() -> None:
    scope = {"name": "lib", "version": "1.2", "attributes": [pair("a", boolValue=True)]}
    tags = dict(tags_of(span_in(line_of(a_span(), scope=scope))[10]))
    assert tags == {
        "a": True,
        "otel.scope.name": "lib",
        "otel.library.name": "lib",
        "otel.scope.version": "1.2",
        "otel.library.version": "1.2",
    }


def test_events_are_logs() -> None:
    events = [
        {"timeUnixNano": "5000", "name": "retry", "attributes": [pair("n", intValue="2")]},
        {"timeUnixNano": "7000", "name": "own", "attributes": [pair("event", stringValue="said")]},
        {"droppedAttributesCount": 3},
    ]
    logs = span_in(line_of(a_span(events=events)))[11]
    assert [(log[1], tags_of(log[2])) for log in logs] == [
        (5, [("event", "retry"), ("n", 2)]),
        (7, [("event", "said")]),
        (0, [("otel.event.dropped_attributes_count", 3)]),
    ]


def test_links_are_references_and_what_they_say_is_a_log() -> None:
    links = [
        {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "2"},
        {"traceId": TRACE_ID, "spanId": SPAN_ID, "attributes": [pair("why", stringValue="x")]},
    ]
    span = span_in(line_of(a_span(links=links)))
    assert span[6][0] == {1: 1, 2: 1, 3: 0, 4: 2}
    assert span[6][1][3] == int.from_bytes(bytes.fromhex(TRACE_ID[:16]), "big", signed=True)
    (log,) = span[11]
    assert log[1] == START_NS // 1000
    assert tags_of(log[2]) == [
        ("event", "link"),
        ("trace_id", TRACE_ID),
        ("span_id", SPAN_ID),
        ("why", "x"),
    ]


def test_what_was_dropped_is_told() -> None:
    span = a_span(
        traceState="a=b", droppedAttributesCount=1, droppedEventsCount=2, droppedLinksCount=3
    )
    assert dict(tags_of(span_in(line_of(span))[10])) == {
        "w3c.tracestate": "a=b",
        "otel.dropped_attributes_count": 1,
        "otel.dropped_events_count": 2,
        "otel.dropped_links_count": 3,
    }


def test_the_resource_is_the_process() -> None:
    resource = {
        "attributes": [
            pair("service.name", stringValue="planner"),
            pair("host.cpus", intValue="4"),
        ]
    }
    process = batch_of(line_of(a_span(), resource=resource))[1]
    assert (process[1], tags_of(process[2])) == (b"planner", [("host.cpus", 4)])
    assert batch_of(line_of(a_span()))[1] == {1: b"unknown_service"}
    odd = {"attributes": [pair("service.name", intValue="5")], "droppedAttributesCount": 2}
    process = batch_of(line_of(a_span(), resource=odd))[1]
    assert process[1] == b"unknown_service"
    assert tags_of(process[2]) == [("service.name", 5), ("otel.dropped_attributes_count", 2)]


def test_each_scope_has_tags_of_its_own() -> None:
    held = [{"scope": {"name": name}, "spans": [a_span(), a_span()]} for name in ("a", "b")]
    spans = batch_of(dump({"resourceSpans": [{"scopeSpans": held}]}))[2]
    assert [tags_of(span[10])[0] for span in spans] == [
        ("otel.scope.name", name) for name in ("a", "a", "b", "b")
    ]


def test_each_resource_has_a_batch_of_its_own() -> None:
    def said_by(service: str, **fields: Any) -> Slice:
        resource = {"attributes": [pair("service.name", stringValue=service)]}
        return Slice(line_of(a_span(**fields), resource=resource))

    slices = [said_by("a", name="1"), said_by("b", name="2"), said_by("a", name="3")]
    batches = thrift_batches(slices)
    read = [(Thrift(body).whole(), records) for body, records in batches]
    assert [(one[1][1], [span[5] for span in one[2]], records) for one, records in read] == [
        (b"a", [b"1", b"3"], 2),
        (b"b", [b"2"], 1),
    ]
    with pytest.raises(ValueError, match="one resource only"):
        request_of("thrift", "traces", slices)


def test_there_is_no_empty_batch() -> None:
    assert thrift_batches([Slice(spans_line(1))], lambda _: False) == []
    assert request_of("thrift", "traces", []) == (b"", 0)


def test_other_signals_are_refused() -> None:
    with pytest.raises(ValueError, match="traces only"):
        request_of("thrift", "logs", [])


def nested(depth: int) -> bytes:
    opening, closing = '{"arrayValue":{"values":[', "]}}"
    text = opening * depth + '{"intValue":"1"}' + closing * depth
    whole = line_of(a_span(attributes=[pair("k")]))
    return whole.replace(b'"value":{}', b'"value":' + text.encode())


@pytest.mark.parametrize("depth", [50, 300, 480, 500, 20_000])
def test_a_value_nested_too_deeply_is_refused_or_written(depth: int) -> None:
    refusal = ""
    found = []
    try:
        found = tags_of(span_in(nested(depth))[10])
    except LineRefusedError as error:
        refusal = str(error)
    assert "nested too deeply" in refusal or found == [("k", "[" * depth + "1" + "]" * depth)]
    assert found or depth >= 300


def test_what_is_remembered_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [a_span(attributes=[pair("k", intValue=str(n % 7))]) for n in range(50)]
    line = line_of(*spans)
    wanted = thrift_batches([Slice(line)])
    monkeypatch.setattr(jaeger, "REMEMBERED_MAX", 3)
    assert thrift_batches([Slice(line)]) == wanted
    writer = jaeger._Writer()
    for item in items(otlp.decode_traces(line)):
        writer.add(item)
    assert len(writer._tags) == 3


def test_text_is_cut_nowhere() -> None:
    text = "x" * 70_000 + "ö"
    line = line_of(a_span(attributes=[pair("long", stringValue=text)], name=text))
    span = span_in(line)
    assert span[5].decode() == text
    assert tags_of(span[10]) == [("long", text)]
