"""Our encoder of OTLP's protobuf against the official classes, in both directions."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp import quick, to_protobuf, wire
from stack_composer.telemetry.store import otlp
from test_otlp_protobuf import DATA, IDS, filled


def without_empty(message: Message) -> Message:
    """Take out ids of zeros, and messages that say nothing; attributes keep their value."""
    for field in message.DESCRIPTOR.fields:
        if field.name in IDS and not getattr(message, field.name).strip(b"\0"):
            message.ClearField(field.name)
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        held = getattr(message, field.name)
        if field.is_repeated:
            for part in held:
                without_empty(part)
        elif message.HasField(field.name):
            without_empty(held)
            is_value = message.DESCRIPTOR.name == "KeyValue"
            if not field.containing_oneof and not is_value and not held.ByteSize():
                message.ClearField(field.name)
        elif message.DESCRIPTOR.name == "KeyValue":
            held.SetInParent()
    return message


def encoded(signal: str, line: bytes) -> Message:
    """What the official classes read of what we wrote of a line."""
    return DATA[signal].FromString(to_protobuf.encode(otlp.decode_line(signal, line)))


def official(signal: str, line: bytes) -> Message:
    """What the official classes read of a line."""
    return json_format.Parse(as_base64(line), DATA[signal](), ignore_unknown_fields=True)


def as_base64(line: bytes) -> str:
    """Ids in hexadecimal as base64, which proto3's JSON has for all bytes."""

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode()
            if key in ("traceId", "spanId", "parentSpanId")
            else changed(item)
            for key, item in value.items()
        }

    return json.dumps(changed(json.loads(line)))


@pytest.mark.parametrize("signal", list(DATA))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_we_decoded_is_encoded_as_it_was(signal: str, data: st.DataObject) -> None:
    """The official classes read from our bytes what they had written themselves."""
    theirs = data.draw(filled(DATA[signal]()))
    ours = to_protobuf.encode(wire.decode(signal, theirs.SerializeToString(), Counter()))
    assert without_empty(DATA[signal].FromString(ours)) == without_empty(theirs)


def line_of(signal: str, message: Message) -> bytes:
    """An official message as a line of OTLP JSON."""
    names = ("traceId", "spanId", "parentSpanId")

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: base64.b64decode(item).hex() if key in names else changed(item)
            for key, item in value.items()
        }

    tree = json_format.MessageToDict(message, use_integers_for_enums=True)
    return json.dumps(changed(tree) or {LISTS[signal]: []}).encode()


LISTS = {"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}


@pytest.mark.parametrize("signal", list(DATA))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_line_is_encoded_as_json_format_reads_it(signal: str, data: st.DataObject) -> None:
    line = line_of(signal, data.draw(filled(DATA[signal]())))
    assert without_empty(encoded(signal, line)) == without_empty(official(signal, line))


# -- the quick way ---------------------------------------------------------------------


@st.composite
def values(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    """A value in JSON: mostly plain ones, some just beside them."""
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "stringValue": st.one_of(st.sampled_from(["", "planner", "größer"]), st.text(max_size=130)),
        "intValue": st.integers(-(2**64), 2**64).map(str) | st.integers(-300, 300),
        "doubleValue": st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from(["NaN", "Infinity", "-Infinity", 0, -0.0, "0.5"]),
        "boolValue": st.booleans(),
        "bytesValue": st.binary(max_size=5).map(lambda raw: base64.b64encode(raw).decode()),
    }
    found = {}
    for kind in draw(st.lists(st.sampled_from([*kinds, "arrayValue", "kvlistValue"]), max_size=2)):
        if kind in kinds:
            found[kind] = draw(kinds[kind])
        elif depth < 2:
            make = values(depth + 1) if kind == "arrayValue" else pairs(depth + 1)
            found[kind] = {"values": draw(st.lists(make, max_size=2))}
    return found


@st.composite
def pairs(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    key = draw(st.one_of(st.sampled_from(["agent", "k_dense", "", "ключ"]), st.text(max_size=140)))
    return {"key": key, "value": draw(values(depth))}


def odd_ids(length: int) -> list[str]:
    """What stands where an id should, though it is none, or is written otherwise."""
    digits = "ab" * (length // 2)
    return [
        *("", "0" * length, digits.upper(), "g" * length, " " * length, "\u0661" * length),
        *(digits[2:], digits + "ab", digits[2:] + "  ", "ab " * (length // 2)),
        base64.b64encode(bytes.fromhex(digits)).decode(),
    ]


def ids_of(length: int) -> st.SearchStrategy[str]:
    """Ids as they are and as they are not."""
    good = st.binary(min_size=length // 2, max_size=length // 2).map(bytes.hex)
    return st.one_of(good, good, st.sampled_from(odd_ids(length)))


@st.composite
def spans(draw: st.DrawFn) -> dict[str, Any]:
    """Spans as our encoder writes them, and whatever else may be met."""
    numbers = st.one_of(st.integers(1, 2**63), st.sampled_from([0, -1, 2**64 - 1, 2**64]))
    span: dict[str, Any] = {
        "traceId": draw(ids_of(32)),
        "spanId": draw(ids_of(16)),
        "flags": draw(st.sampled_from([0, 257, 769, -1, 2**32])),
        "name": draw(st.sampled_from(["planner.solve", "", "größer"]) | st.text(max_size=300)),
        "kind": draw(st.integers(-1, 6)),
        "startTimeUnixNano": str(draw(numbers)),
        "endTimeUnixNano": draw(numbers),
        "attributes": draw(st.lists(pairs(), max_size=4)),
    }
    rare = {
        "parentSpanId": ids_of(16),
        "traceState": st.sampled_from(["", "a=b"]),
        "status": st.sampled_from([{}, {"code": 2}, {"code": 1, "message": "x" * 300}]),
        "droppedAttributesCount": st.integers(0, 3),
        "droppedEventsCount": st.integers(0, 3),
        "droppedLinksCount": st.integers(0, 3),
        "events": st.lists(st.sampled_from([{}, {"name": "e", "timeUnixNano": "5"}]), max_size=2),
        "links": st.lists(
            st.builds(lambda one, two: {"traceId": one, "spanId": two}, ids_of(32), ids_of(16)),
            max_size=2,
        ),
    }
    for key in draw(st.lists(st.sampled_from(list(rare)), max_size=3)):
        span[key] = draw(rare[key])
    for key in draw(st.lists(st.sampled_from(list(span)), max_size=1)):
        del span[key]
    return span


def traces_of(*groups: list[dict[str, Any]]) -> bytes:
    some = [{"scope": {"name": f"lib {at}"}, "spans": group} for at, group in enumerate(groups)]
    return json.dumps({"resourceSpans": [{"scopeSpans": some}]}).encode()


def thoroughly(line: bytes) -> bytes:
    return to_protobuf.encode(otlp.decode_traces(line))


def test_the_quick_way_knows_what_an_id_is() -> None:
    good = {"traceId": "ab" * 16, "spanId": "cd" * 8, "parentSpanId": "ef" * 8}
    for name, length in (("traceId", 32), ("spanId", 16), ("parentSpanId", 16)):
        for odd in odd_ids(length):
            for others in (good, {key: good[key] for key in ("traceId", "spanId")}):
                line = traces_of([{**others, name: odd, "name": "x"}])
                assert quickly(line) == thoroughly(line), (name, odd)


@given(st.lists(st.lists(spans(), max_size=4), min_size=1, max_size=2))
@settings(max_examples=80, deadline=None)
def test_the_quick_way_gives_the_same_bytes(groups: list[list[dict[str, Any]]]) -> None:
    line = traces_of(*groups)
    encoder = quick.Encoder()
    for _ in range(2):  # What was learnt from the first must not change the second.
        assert encoder.encode(otlp.decode_traces(line, as_written=True)) == thoroughly(line)


@pytest.mark.parametrize("learnt_max", [20, 500])
def test_what_the_quick_way_learns_is_bounded_and_changes_nothing(
    learnt_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "LEARNT_MAX", learnt_max)
    monkeypatch.setattr(quick, "VALUES_MAX", 5)
    encoder = quick.Encoder()
    for number in range(60):
        attributes = [
            {"key": f"k{number % 7}", "value": {"intValue": number}},
            {"key": "text", "value": {"stringValue": f"{number % 9}" * (number * 9)}},
        ]
        line = traces_of([{"name": f"n{number % 30}", "attributes": attributes}])
        assert encoder.encode(otlp.decode_traces(line, as_written=True)) == thoroughly(line)
        known = encoder._span_attributes._keys
        assert len(encoder._names) <= learnt_max
        assert len(known) <= learnt_max
        assert (
            sum(len(k.texts) + len(k.integers) + len(k.before_text) for k in known.values())
            <= learnt_max
        )
        assert all(len(key.texts) <= 5 and len(key.integers) <= 5 for key in known.values())


@st.composite
def log_records(draw: st.DrawFn) -> dict[str, Any]:
    times = st.one_of(st.integers(1, 2**63), st.sampled_from([0, -1, 2**64]))
    fields: dict[str, st.SearchStrategy[Any]] = {
        "timeUnixNano": times,
        "observedTimeUnixNano": times,
        "severityNumber": st.integers(-1, 25),
        "severityText": st.sampled_from(["", "INFO", "x" * 300]),
        "body": values(),
        "attributes": st.lists(pairs(), max_size=3),
        "droppedAttributesCount": st.integers(-1, 2),
        "flags": st.integers(-1, 2),
        "traceId": ids_of(32),
        "spanId": ids_of(16),
        "eventName": st.text(max_size=5),
    }
    names = draw(st.sets(st.sampled_from(list(fields))))
    return {name: draw(fields[name]) for name in sorted(names)}


@given(st.lists(st.lists(log_records(), max_size=4), min_size=1, max_size=2))
@settings(max_examples=80, deadline=None)
def test_the_quick_way_gives_the_same_bytes_of_logs(groups: list[list[dict[str, Any]]]) -> None:
    some = [{"scope": {"name": "lib"}, "logRecords": group} for group in groups]
    line = json.dumps({"resourceLogs": [{"scopeLogs": some}]}).encode()
    data = otlp.decode_logs(line)
    encoder = quick.Encoder()
    for _ in range(2):
        assert encoder.encode(data) == to_protobuf.encode(data)


@pytest.mark.parametrize("signal", list(DATA))
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_quick_way_agrees_on_whatever_the_protocol_has(
    signal: str, data: st.DataObject
) -> None:
    decoded = otlp.decode_line(signal, line_of(signal, data.draw(filled(DATA[signal]()))))
    assert quick.Encoder().encode(decoded) == to_protobuf.encode(decoded)


# -- rules of the protocol, one by one -------------------------------------------------


def attribute(**value: Any) -> Message:
    """What the official class reads of one attribute of a span."""
    line = traces_of([{"attributes": [{"key": "k", "value": value}]}])
    found = []
    for way in (thoroughly, quickly):
        made: Any = DATA["traces"].FromString(way(line))
        found.append(made.resource_spans[0].scope_spans[0].spans[0].attributes[0].value)
    assert found[0] == found[1]
    read: Message = found[0]
    return read


def quickly(line: bytes) -> bytes:
    return quick.Encoder().encode(otlp.decode_traces(line, as_written=True))


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_integers_of_64_bits_are_exact(number: int) -> None:
    assert getattr(attribute(intValue=str(number)), "int_value") == number  # noqa: B009


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
def test_a7_an_integer_beyond_64_bits_is_text(number: int) -> None:
    value: Any = attribute(intValue=str(number))
    assert (value.WhichOneof("value"), value.string_value) == ("string_value", f"{number:#x}")


@pytest.mark.parametrize(
    ("written", "field", "expected"),
    [
        ({"stringValue": ""}, "string_value", ""),
        ({"intValue": "0"}, "int_value", 0),
        ({"boolValue": False}, "bool_value", False),
        ({"doubleValue": 0}, "double_value", 0.0),
        ({"bytesValue": ""}, "bytes_value", b""),
        ({"bytesValue": "AAH/"}, "bytes_value", b"\x00\x01\xff"),
        ({"doubleValue": "Infinity"}, "double_value", math.inf),
        ({"doubleValue": "-Infinity"}, "double_value", -math.inf),
    ],
)
def test_a_zero_in_a_oneof_is_there(written: dict[str, Any], field: str, expected: Any) -> None:
    value: Any = attribute(**written)
    assert (value.WhichOneof("value"), getattr(value, field)) == (field, expected)


def test_a10_no_value_is_no_value_and_an_empty_list_a_list() -> None:
    none, empty = attribute(), attribute(arrayValue={})
    assert none.WhichOneof("value") is None
    assert empty.WhichOneof("value") == "array_value"
    assert attribute(kvlistValue={"values": []}).WhichOneof("value") == "kvlist_value"


@pytest.mark.parametrize("way", [thoroughly, quickly])
def test_a10_an_attribute_without_a_value_has_an_empty_one(way: Callable[[bytes], bytes]) -> None:
    made: Any = DATA["traces"].FromString(way(traces_of([{"attributes": [{"key": "k"}]}])))
    assert made.resource_spans[0].scope_spans[0].spans[0].attributes[0].HasField("value")


def test_nan_is_nan() -> None:
    value: Any = attribute(doubleValue="NaN")
    assert math.isnan(value.double_value)


def test_of_several_values_the_one_that_is_shown_elsewhere_is_sent() -> None:
    assert attribute(boolValue=True, intValue="5").WhichOneof("value") == "int_value"
    point = {"asDouble": 1.5, "asInt": "7", "timeUnixNano": "1"}
    metric = {"name": "m", "gauge": {"dataPoints": [point]}}
    line = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    made: Any = encoded("metrics", line)
    read = made.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0]
    assert read.as_int == 7


def histogram(**fields: Any) -> Any:
    held = {"dataPoints": [fields]}
    metric = {"name": "m", "histogram": held}
    line = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    made: Any = encoded("metrics", line)
    return made.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0]


def test_an_optional_zero_is_there_and_a_missing_one_is_not() -> None:
    point = histogram(sum=0, min=0.0, count="0")
    assert (point.HasField("sum"), point.HasField("min"), point.HasField("max")) == (
        True,
        True,
        False,
    )


def test_numbers_beyond_their_field_count_as_absent() -> None:
    point = histogram(count="-1", flags=2**32, timeUnixNano=str(2**64), bucketCounts=["1", "-1"])
    assert (point.count, point.flags, point.time_unix_nano) == (0, 0, 0)
    assert list(point.bucket_counts) == [1, 0]


def test_a_negative_zero_keeps_its_sign() -> None:
    value: Any = attribute(doubleValue=-0.0)
    assert math.copysign(1, value.double_value) == -1
    summary = {"name": "m", "summary": {"dataPoints": [{"sum": -0.0}]}}
    line = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [summary]}]}]}).encode()
    made: Any = encoded("metrics", line)
    point = made.resource_metrics[0].scope_metrics[0].metrics[0].summary.data_points[0]
    assert math.copysign(1, point.sum) == -1


def nested(depth: int) -> bytes:
    opening, closing = '{"arrayValue":{"values":[', "]}}"
    text = opening * depth + '{"intValue":"1"}' + closing * depth
    line = traces_of([{"attributes": [{"key": "k", "value": "HERE"}]}])
    return line.replace(b'"HERE"', text.encode())


@pytest.mark.parametrize("way", [thoroughly, quickly])
def test_what_no_parser_would_read_is_refused(way: Callable[[bytes], bytes]) -> None:
    """The bound is one that the official parser keeps, too."""
    deepest = max(depth for depth in range(30, 60) if not refusal_of(way, nested(depth)))
    assert refusal_of(way, nested(deepest + 1)) == "is nested too deeply"
    assert refusal_of(way, nested(400)).startswith("is nested too deeply")
    DATA["traces"].FromString(way(nested(deepest)))


def refusal_of(way: Callable[[bytes], bytes], line: bytes) -> str:
    try:
        way(line)
    except LineRefusedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("way", [thoroughly, quickly])
def test_bytes_that_are_not_base64_are_refused_unquoted(way: Callable[[bytes], bytes]) -> None:
    line = traces_of([{"attributes": [{"key": "k", "value": {"bytesValue": "s3cr3t!"}}]}])
    assert refusal_of(way, line) == "a bytesValue is not base64"


def test_every_file_of_the_corpus_is_encoded_as_json_format_reads_it(corpus: Path) -> None:
    compared = 0
    for file in sorted(corpus.glob("otlp/**/*.json*")):
        raw = file.read_bytes()
        compared += sum(map(compare, raw.splitlines() if file.suffix == ".jsonl" else [raw]))
    assert compared > 700


SNAKE = re.compile(rb'"[a-z]+_[a-z_]+"\s*:')
"""Such keys the official classes read as well; where else they are mended is the reader's."""


def compare(raw: bytes) -> bool:
    """Compare the two readings of one document, if both take it as it is."""
    counts: otlp.Counts = Counter()
    try:
        signal = otlp.signal_of(raw, counts)
        data = otlp.decode_line(signal, raw, counts)
        wanted = official(signal, raw)
    except (LineRefusedError, json_format.ParseError, ValueError):
        return False
    if counts.total() or SNAKE.search(raw):
        return False
    ours = DATA[signal].FromString(to_protobuf.encode(data))
    assert without_empty(ours) == without_empty(wanted)
    assert quick.Encoder().encode(data) == to_protobuf.encode(data)
    return True
