"""Write spans as Jaeger's Thrift batches, as its collector takes them by HTTP.

A ``Batch`` is what one process said: a service's name, tags, and spans. OTLP has more
words than Jaeger; where each goes follows OpenTelemetry's "Jaeger Transformation" and
"Transformation to non-OTLP Formats". What is left over is lost: a schema's URL, the
flags but for "sampled", and times below a microsecond.

Thrift's binary protocol is plain: a struct is fields (a byte for the type, two for the
number, the value) and a zero; texts and lists begin with their length in four bytes;
all numbers have their highest byte first. So a batch is bytes joined, and the tags
that repeat themselves are remembered.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Final

    from stack_composer.telemetry.otlp.walk import Item

UNKNOWN_SERVICE: Final = "unknown_service"
"""What Jaeger is told where the resource names no service; it demands a name."""

REMEMBERED_MAX: Final = 8_192
"""Tags remembered for one request; what comes beyond is written anew each time."""

_STOP: Final = b"\0"
_BOOL: Final = b"\x02"
_DOUBLE: Final = b"\x04"
_I32: Final = b"\x08"
_I64: Final = b"\x0a"
_TEXT: Final = b"\x0b"
_STRUCT: Final = b"\x0c"
_LIST: Final = b"\x0f"

_i32 = struct.Struct(">i").pack
_i64 = struct.Struct(">q").pack
_f64 = struct.Struct(">d").pack

_I64_MAX: Final = (1 << 63) - 1


def _field(kind: bytes, number: int) -> bytes:
    return kind + number.to_bytes(2, "big")


# jaeger.thrift, by name and number; enums are numbers of 32 bits.
_KEY: Final = _field(_TEXT, 1)
_VALUE: Final = {
    "text": _field(_I32, 2) + _i32(0) + _field(_TEXT, 3),
    "double": _field(_I32, 2) + _i32(1) + _field(_DOUBLE, 4),
    "bool": _field(_I32, 2) + _i32(2) + _field(_BOOL, 5),
    "long": _field(_I32, 2) + _i32(3) + _field(_I64, 6),
    "binary": _field(_I32, 2) + _i32(4) + _field(_TEXT, 7),
}
_FOLLOWS_FROM: Final = _field(_I32, 1) + _i32(1)
_REF_TRACE_LOW, _REF_TRACE_HIGH, _REF_SPAN_ID = (_field(_I64, number) for number in (2, 3, 4))
_TRACE_LOW, _TRACE_HIGH, _SPAN_ID, _PARENT_ID = (_field(_I64, number) for number in (1, 2, 3, 4))
_OPERATION: Final = _field(_TEXT, 5)
_REFERENCES: Final = _field(_LIST, 6) + _STRUCT
_SAMPLED: Final = _field(_I32, 7) + _i32(1)
_START, _DURATION = (_field(_I64, number) for number in (8, 9))
_TAGS: Final = _field(_LIST, 10) + _STRUCT
_LOGS: Final = _field(_LIST, 11) + _STRUCT
_TIMESTAMP: Final = _field(_I64, 1)
_FIELDS: Final = _field(_LIST, 2) + _STRUCT
_SERVICE: Final = _field(_TEXT, 1)
_PROCESS_TAGS: Final = _field(_LIST, 2) + _STRUCT
_PROCESS: Final = _field(_STRUCT, 1)
_SPANS: Final = _field(_LIST, 2) + _STRUCT

# By OTLP's number. An unspecified or internal kind has no tag.
_KINDS: Final = {2: "server", 3: "client", 4: "producer", 5: "consumer"}
_CODES: Final = {1: "OK", 2: "ERROR"}


def batches_of(found: Iterable[Item]) -> list[tuple[bytes, int]]:
    """Write spans as batches, one for each process that says something of its own.

    Returns:
        Thrift's bytes of each ``Batch``, and how many spans it has. Processes come in
        the order of their first spans, and each one's spans in theirs.

    Raises:
        LineRefusedError: A value is nested too deeply, or its bytes are not base64.
    """
    writer = _Writer()
    for item in found:
        writer.add(item)
    return writer.batches()


class _Writer:
    """The batches that spans were put into so far, and the tags that were written."""

    def __init__(self) -> None:
        self._spans: dict[bytes, list[bytes]] = {}
        self._tags: dict[tuple[str, Any], bytes] = {}
        self._resource: tuple[otlp.Resource, list[bytes]] | None = None
        self._scope: tuple[otlp.Scope, list[bytes]] | None = None

    def add(self, item: Item) -> None:
        """Put one span into the batch of its process."""
        # What follows each other has the same resource and scope, as objects.
        if self._resource is None or self._resource[0] is not item.resource:
            process = self._process(item.resource)
            self._resource = item.resource, self._spans.setdefault(process, [])
        if self._scope is None or self._scope[0] is not item.scope:
            self._scope = item.scope, self._scope_tags(item.scope)
        self._resource[1].append(self._span(item.record, self._scope[1]))

    def batches(self) -> list[tuple[bytes, int]]:
        """Give what was added."""
        return [
            (b"".join([_PROCESS, process, _SPANS, _i32(len(spans)), *spans, _STOP]), len(spans))
            for process, spans in self._spans.items()
        ]

    def _process(self, resource: otlp.Resource) -> bytes:
        service = UNKNOWN_SERVICE
        tags = []
        for pair in resource.attributes:
            if pair.key == "service.name" and pair.value.string_value:
                service = pair.value.string_value
            else:
                tags.append(self._tag(pair))
        tags += self._dropped("attributes", resource.dropped_attributes_count)
        return _SERVICE + _text(service) + _list(_PROCESS_TAGS, tags) + _STOP

    def _scope_tags(self, scope: otlp.Scope) -> list[bytes]:
        tags = [self._tag(pair) for pair in scope.attributes]
        # The second name of each is the old one, which must be told as well.
        for name, text in (("name", scope.name), ("version", scope.version)):
            if text:
                tags += [self._told(f"otel.{what}.{name}", text) for what in ("scope", "library")]
        return tags

    def _span(self, span: otlp.Span, scope_tags: list[bytes]) -> bytes:
        high, low = _trace_of(span.trace_id)
        start_ns = span.start_time_unix_nano
        # Below zero for a span without an end, and then written as 0.
        length_ns = span.end_time_unix_nano - start_ns
        tags = [self._tag(pair) for pair in span.attributes]
        tags += scope_tags
        kind = _KINDS.get(span.kind)
        if kind is not None:
            tags.append(self._told("span.kind", kind))
        code = _CODES.get(span.status.code)
        if code is not None:
            tags += self._status(code, span.status.message)
        if span.trace_state:
            tags.append(self._told("w3c.tracestate", span.trace_state))
        tags += self._dropped("attributes", span.dropped_attributes_count)
        tags += self._dropped("events", span.dropped_events_count)
        tags += self._dropped("links", span.dropped_links_count)
        logs = [self._log_of_event(event) for event in span.events]
        logs += [self._log_of_link(link, start_ns) for link in span.links if link.attributes]
        return b"".join(
            [
                *(_TRACE_LOW, low, _TRACE_HIGH, high),
                *(_SPAN_ID, _id(span.span_id), _PARENT_ID, _id(span.parent_span_id)),
                *(_OPERATION, _text(span.name)),
                _list(_REFERENCES, [_reference(link) for link in span.links]),
                *(_SAMPLED, _START, _long(start_ns // 1000), _DURATION, _long(length_ns // 1000)),
                _list(_TAGS, tags),
                _list(_LOGS, logs),
                _STOP,
            ]
        )

    def _status(self, code: str, message: str) -> list[bytes]:
        tags = [self._told("otel.status_code", code)]
        if code == "ERROR":
            tags.append(_KEY + _text("error") + _VALUE["bool"] + b"\x01" + _STOP)
        if message:
            tags.append(self._told("otel.status_description", message))
        return tags

    def _log_of_event(self, event: otlp.Event) -> bytes:
        fields = []
        # An attribute of that name goes before the event's own.
        if event.name and all(pair.key != "event" for pair in event.attributes):
            fields.append(self._told("event", event.name))
        fields += [self._tag(pair) for pair in event.attributes]
        if event.dropped_attributes_count:
            key = "otel.event.dropped_attributes_count"
            fields.append(_long_tag(key, event.dropped_attributes_count))
        return _log(event.time_unix_nano, fields)

    def _log_of_link(self, link: otlp.Link, start_ns: int) -> bytes:
        """Tell what a reference has no place for."""
        fields = [
            self._told("event", "link"),
            self._told("trace_id", link.trace_id),
            self._told("span_id", link.span_id),
            *[self._tag(pair) for pair in link.attributes],
            *self._dropped("attributes", link.dropped_attributes_count),
        ]
        return _log(start_ns, fields)

    def _dropped(self, what: str, count: int) -> list[bytes]:
        return [_long_tag(f"otel.dropped_{what}_count", count)] if count else []

    def _told(self, key: str, text: str) -> bytes:
        known = self._tags.get((key, text))
        return self._remembered(key, text, _text_tag(key, text)) if known is None else known

    def _tag(self, pair: otlp.KeyValue) -> bytes:
        value = pair.value
        text = value.string_value
        if text is not None:
            return self._told(pair.key, text)
        number = value.int_value
        if number is not None:
            known = self._tags.get((pair.key, number))
            if known is None:
                known = self._remembered(pair.key, number, _long_tag(pair.key, number))
            return known
        return _other_tag(pair.key, value)

    def _remembered(self, key: str, value: str | int, tag: bytes) -> bytes:
        if len(self._tags) < REMEMBERED_MAX:
            self._tags[key, value] = tag
        return tag


def _other_tag(key: str, value: otlp.AnyValue) -> bytes:
    """Write a tag of what is neither text nor integer."""
    opening = _KEY + _text(key)
    held = otlp.value_of(value)
    if isinstance(held, bool):
        return opening + _VALUE["bool"] + (b"\x01" if held else b"\0") + _STOP
    if isinstance(held, float):
        return opening + _VALUE["double"] + _f64(held) + _STOP
    if isinstance(held, bytes):
        return opening + _VALUE["binary"] + _i32(len(held)) + held + _STOP
    if held is None:
        return _text_tag(key, "")
    try:
        text = json.dumps(_as_json(held), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:  # Only where C code may nest less deeply than Python's.
        raise LineRefusedError("an attribute is nested too deeply") from None
    return _text_tag(key, text)


def _as_json(value: Any) -> Any:
    """Give what JSON can hold, as OTLP's JSON has it."""
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _text_tag(key: str, text: str) -> bytes:
    return _KEY + _text(key) + _VALUE["text"] + _text(text) + _STOP


def _long_tag(key: str, number: int) -> bytes:
    if -_I64_MAX - 1 <= number <= _I64_MAX:
        return _KEY + _text(key) + _VALUE["long"] + _i64(number) + _STOP
    return _text_tag(key, f"{number:#x}")


def _log(time_ns: int, fields: Sequence[bytes]) -> bytes:
    # The list is required, so it is there though it be empty.
    return b"".join(
        [_TIMESTAMP, _long(time_ns // 1000), _FIELDS, _i32(len(fields)), *fields, _STOP]
    )


def _reference(link: otlp.Link) -> bytes:
    high, low = _trace_of(link.trace_id)
    ids = (_REF_TRACE_LOW, low, _REF_TRACE_HIGH, high, _REF_SPAN_ID, _id(link.span_id))
    return b"".join([_FOLLOWS_FROM, *ids, _STOP])


def _trace_of(trace_id: str) -> tuple[bytes, bytes]:
    """Give the higher and the lower half of a trace's id, zeros for none.

    Thrift's integers have a sign and ids none; as bytes they are the same.
    """
    raw = bytes.fromhex(trace_id) if trace_id else bytes(16)
    return raw[:8], raw[8:]


def _id(span_id: str) -> bytes:
    return bytes.fromhex(span_id) if span_id else bytes(8)


def _long(value: int) -> bytes:
    """Write a time; one beyond the field counts as absent."""
    return _i64(value if 0 <= value <= _I64_MAX else 0)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return _i32(len(raw)) + raw


def _list(opening: bytes, items: Sequence[bytes]) -> bytes:
    """Write an optional list of structs, which is left out where it is empty."""
    return b"".join([opening, _i32(len(items)), *items]) if items else b""
