"""Our encoder of OTLP's protobuf against the official classes, in both directions."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_composer.telemetry.otlp import to_protobuf, wire
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
