"""Encode spans and log records as protobuf, quickly: ``to_protobuf``'s bytes, sooner.

An upload of a million spans pays this for each, and so does the stream that runs in the
user's own program. The idea is that of the decoder (``protobuf``), turned round: records
repeat themselves, so an attribute is looked up by its key and its value, and a span's
name, status and flags by theirs; what is left are ids and times. All that is rare (events,
links, lists, odd numbers) is written by ``to_protobuf``'s own functions, field by field.
Both give the same bytes, which is a test.

An ``Encoder`` keeps what it learnt from one line for the next. It is bounded, and not for
several threads.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.otlp import to_protobuf
from stack_composer.telemetry.otlp.to_protobuf import varint, with_length
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from typing import Final

LEARNT_MAX: Final = 8_192
"""Attributes, names and the like remembered in all; beyond, all anew."""
VALUES_MAX: Final = 256
"""Values remembered of one key. One with more has a new one each time, mostly."""
LEARNT_CHARS_MAX: Final = 256
"""Longer texts are not remembered: they seldom repeat."""

# How deep a record stands, for the bound on depth.
_DEPTH: Final = 3
_write = to_protobuf.writers(otlp.Span)
_write_log = to_protobuf.writers(otlp.LogRecord)

_SPAN: Final = to_protobuf.tags(otlp.Span)
_PAIR: Final = to_protobuf.tags(otlp.KeyValue)
_VALUE: Final = to_protobuf.tags(otlp.AnyValue)
_RESOURCE_SPANS: Final = to_protobuf.tags(otlp.TracesData)["resource_spans"]
_SCOPE_SPANS: Final = to_protobuf.tags(otlp.ResourceSpans)["scope_spans"]
_SPANS: Final = to_protobuf.tags(otlp.ScopeSpans)["spans"]
_RESOURCE_LOGS: Final = to_protobuf.tags(otlp.LogsData)["resource_logs"]
_SCOPE_LOGS: Final = to_protobuf.tags(otlp.ResourceLogs)["scope_logs"]
_LOGS: Final = to_protobuf.tags(otlp.ScopeLogs)["log_records"]
# What stands before a span, by its size.
_OPENINGS: Final = [_SPANS + varint(size) for size in range(1_024)]

# The tag and length of each id, in hexadecimal.
_TRACE_ID: Final = _SPAN["trace_id"].hex() + "10"
_SPAN_ID: Final = _SPAN["span_id"].hex() + "08"
_PARENT_ID: Final = _SPAN["parent_span_id"].hex() + "08"
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_START: Final = _SPAN["start_time_unix_nano"][0]
_END: Final = _SPAN["end_time_unix_nano"][0]
_LOG: Final = to_protobuf.tags(otlp.LogRecord)
_TIME: Final = _LOG["time_unix_nano"][0]
_OBSERVED: Final = _LOG["observed_time_unix_nano"][0]
_BODY: Final = _LOG["body"]
_TEXT: Final = _VALUE["string_value"]
_INTEGER: Final = _VALUE["int_value"]
_DOUBLE: Final = _VALUE["double_value"]
_RARE: Final = (
    "dropped_attributes_count",
    "events",
    "dropped_events_count",
    "links",
    "dropped_links_count",
)

_I64_MAX: Final = (1 << 63) - 1
_U64_MAX: Final = (1 << 64) - 1
_pack_times = struct.Struct("<BQBQ").pack
_pack_time = struct.Struct("<BQ").pack
_pack_double = struct.Struct("<d").pack


class Encoder:
    """Encodes what lines held, one after the other."""

    def __init__(self) -> None:
        self._span_attributes = _Attributes(otlp.Span)
        self._log_attributes = _Attributes(otlp.LogRecord)
        self._names: dict[tuple[str, int], bytes] = {}
        self._ends: dict[tuple[str, int, int], bytes] = {}
        self._severities: dict[tuple[int, str], bytes] = {}

    def encode(self, data: otlp.TracesData | otlp.MetricsData | otlp.LogsData) -> bytes:
        """Give what ``to_protobuf.encode`` gives.

        Raises:
            LineRefusedError: As ``to_protobuf.encode``.
        """
        if isinstance(data, otlp.TracesData):
            return b"".join([self._resource_spans(held) for held in data.resource_spans])
        if isinstance(data, otlp.LogsData):
            return b"".join([self._resource_logs(held) for held in data.resource_logs])
        return to_protobuf.encode(data)

    def _resource_spans(self, held: otlp.ResourceSpans) -> bytes:
        inner = [self._scope_spans(some) for some in held.scope_spans]
        return _RESOURCE_SPANS + _enclosed("resource", held, inner, 1)

    def _scope_spans(self, some: otlp.ScopeSpans) -> bytes:
        inner = []
        for span in some.spans:
            raw = self._span(span)
            size = len(raw)
            inner.append(_OPENINGS[size] if size < len(_OPENINGS) else _SPANS + varint(size))
            inner.append(raw)
        return _SCOPE_SPANS + _enclosed("scope", some, inner, 2)

    def _span(self, span: otlp.Span) -> bytes:
        name = self._names.get((span.name, span.kind))
        if name is None:
            name = self._name(span.name, span.kind)
        status = span.status
        end = self._ends.get((status.message, status.code, span.flags))
        if end is None:
            end = self._end(status, span.flags)
        attributes = span.attributes
        pairs = self._span_attributes.encode(attributes) if attributes else ()
        return b"".join([_head(span), name, _times(span), *pairs, _rare(span), end])

    def _name(self, name: str, kind: int) -> bytes:
        raw = _write["name"](name, _DEPTH) + _write["kind"](kind, _DEPTH)
        if len(name) <= LEARNT_CHARS_MAX:
            _make_room(self._names)
            self._names[name, kind] = raw
        return raw

    def _end(self, status: otlp.Status, flags: int) -> bytes:
        raw = _write["status"](status, _DEPTH) + _write["flags"](flags, _DEPTH)
        if len(status.message) <= LEARNT_CHARS_MAX:
            _make_room(self._ends)
            self._ends[status.message, status.code, flags] = raw
        return raw

    def _resource_logs(self, held: otlp.ResourceLogs) -> bytes:
        inner = [self._scope_logs(some) for some in held.scope_logs]
        return _RESOURCE_LOGS + _enclosed("resource", held, inner, 1)

    def _scope_logs(self, some: otlp.ScopeLogs) -> bytes:
        inner: list[bytes] = []
        for record in some.log_records:
            raw = self._log(record)
            inner += (_LOGS, varint(len(raw)), raw)
        return _SCOPE_LOGS + _enclosed("scope", some, inner, 2)

    def _log(self, record: otlp.LogRecord) -> bytes:
        severity = self._severities.get((record.severity_number, record.severity_text))
        if severity is None:
            severity = self._severity(record.severity_number, record.severity_text)
        attributes = record.attributes
        pairs = self._log_attributes.encode(attributes) if attributes else ()
        return b"".join(
            [
                _fixed(_TIME, record.time_unix_nano),
                severity,
                _body(record),
                *pairs,
                *_log_end(record),
            ]
        )

    def _severity(self, number: int, text: str) -> bytes:
        raw = _write_log["severity_number"](number, _DEPTH)
        raw += _write_log["severity_text"](text, _DEPTH)
        if len(text) <= LEARNT_CHARS_MAX:
            _make_room(self._severities)
            self._severities[number, text] = raw
        return raw


class _Key:
    """A key as it is written, and the attributes of that key that were learnt.

    Attributes:
        before_double, before_integer, before_text: All that stands before a value of
            that type, by its number of bytes.
        integers, texts: Whole attributes, by their values.
    """

    __slots__ = (
        "_opening",
        "_tag",
        "before_double",
        "before_integer",
        "before_text",
        "integers",
        "texts",
    )

    def __init__(self, key: str, tag: bytes) -> None:
        self._tag = tag
        raw = key.encode("utf-8", "replace")
        self._opening = (_PAIR["key"] + with_length(raw) if raw else b"") + _PAIR["value"]
        self.before_double = self.before(_DOUBLE, 8)
        self.before_integer = [self.before(_INTEGER, size) for size in range(11)]
        self.before_text: dict[int, bytes] = {}
        self.texts: dict[str, bytes] = {}
        self.integers: dict[int, bytes] = {}

    def before(self, tag: bytes, size: int) -> bytes:
        """Give what stands before ``size`` bytes of a value that has this tag."""
        value = varint(len(tag) + size) + tag
        return self._tag + varint(len(self._opening) + len(value) + size) + self._opening + value


class _Attributes:
    """Encodes the attributes of one kind of records; what they become differs by a tag."""

    def __init__(self, kind: type[otlp.Span | otlp.LogRecord]) -> None:
        self._tag = to_protobuf.tags(kind)["attributes"]
        self._write = to_protobuf.writers(kind)["attributes"]
        self._keys: dict[str, _Key] = {}
        self._learnt = 0

    def encode(self, pairs: list[otlp.KeyValue]) -> list[bytes]:
        """Give each attribute with its tag."""
        found = []
        for pair in pairs:
            key = self._keys.get(pair.key)
            if key is None:
                key = self._key(pair.key)
            value = pair.value
            text = value.string_value
            number = value.int_value
            if text is not None:
                raw = key.texts.get(text)
                if raw is None:
                    raw = self._text(key, text)
            elif number is not None:
                raw = key.integers.get(number)
                if raw is None:
                    raw = self._integer(key, number, pair)
            elif value.double_value is not None and value.bool_value is None:
                raw = key.before_double + _pack_double(value.double_value)
            else:
                raw = self._write([pair], _DEPTH)
            found.append(raw)
        return found

    def _key(self, text: str) -> _Key:
        key = _Key(text, self._tag)
        if len(text) <= LEARNT_CHARS_MAX:
            self._learn(self._keys, text, key)
        return key

    def _text(self, key: _Key, text: str) -> bytes:
        raw = text.encode("utf-8", "replace")
        size = len(raw)
        before = key.before_text.get(size)
        if before is None:
            sized = varint(size)
            before = key.before(_TEXT, len(sized) + size) + sized
            if size <= LEARNT_CHARS_MAX:
                self._learn(key.before_text, size, before)
        raw = before + raw
        if size <= LEARNT_CHARS_MAX and len(key.texts) < VALUES_MAX:
            self._learn(key.texts, text, raw)
        return raw

    def _integer(self, key: _Key, number: int, pair: otlp.KeyValue) -> bytes:
        if not -_I64_MAX - 1 <= number <= _I64_MAX:
            return self._write([pair], _DEPTH)
        raw = varint(number & _U64_MAX)
        raw = key.before_integer[len(raw)] + raw
        if len(key.integers) < VALUES_MAX:
            self._learn(key.integers, number, raw)
        return raw

    def _learn(self, known: dict[Any, Any], what: Any, raw: Any) -> None:
        self._learnt += 1
        if self._learnt > LEARNT_MAX:
            self._learnt = 0
            self._keys.clear()
        known[what] = raw


def _make_room(known: dict[Any, bytes]) -> None:
    if len(known) >= LEARNT_MAX:
        known.clear()


def _enclosed(whose: str, held: Any, inner: list[bytes], depth: int) -> bytes:
    """Put what is ``inner`` between the resource or scope that it is of, and its schema."""
    write = to_protobuf.writers(type(held))
    begin = write[whose](getattr(held, whose), depth)
    end = write["schema_url"](held.schema_url, depth)
    return with_length(b"".join((begin, *inner, end)))


def _head(span: otlp.Span) -> bytes:
    """Encode what stands before a span's name: ids, and a state that is rarely there."""
    trace_id = span.trace_id
    span_id = span.span_id
    parent_id = span.parent_span_id
    raw = b""
    if len(trace_id) == 32 and len(span_id) == 16 and not span.trace_state:
        if not parent_id:
            raw = _bytes_of(f"{_TRACE_ID}{trace_id}{_SPAN_ID}{span_id}")
        elif len(parent_id) == 16:
            raw = _bytes_of(f"{_TRACE_ID}{trace_id}{_SPAN_ID}{span_id}{_PARENT_ID}{parent_id}")
    # White space among the digits is passed over; then there are too few bytes.
    if (
        len(raw) != (38 if parent_id else 28)
        or trace_id == _NO_TRACE
        or _NO_SPAN in (span_id, parent_id)
    ):
        names = ("trace_id", "span_id", "trace_state", "parent_span_id")
        raw = b"".join([_write[name](getattr(span, name), _DEPTH) for name in names])
    return raw


def _bytes_of(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _times(span: otlp.Span) -> bytes:
    start_ns = span.start_time_unix_nano
    end_ns = span.end_time_unix_nano
    if 0 < start_ns <= _U64_MAX and 0 < end_ns <= _U64_MAX:
        return _pack_times(_START, start_ns, _END, end_ns)
    start = _write["start_time_unix_nano"](start_ns, _DEPTH)
    return start + _write["end_time_unix_nano"](end_ns, _DEPTH)


def _rare(span: otlp.Span) -> bytes:
    """Encode what stands between a span's attributes and its status."""
    if not (
        span.events
        or span.links
        or span.dropped_attributes_count
        or span.dropped_events_count
        or span.dropped_links_count
    ):
        return b""
    return b"".join([_write[name](getattr(span, name), _DEPTH) for name in _RARE])


def _fixed(tag: int, number: int) -> bytes:
    """Encode a time; b"" for 0, and for what its field cannot hold."""
    return _pack_time(tag, number) if 0 < number <= _U64_MAX else b""


def _body(record: otlp.LogRecord) -> bytes:
    text = record.body.string_value
    if text is None:
        return _write_log["body"](record.body, _DEPTH)
    return _BODY + with_length(_TEXT + with_length(text.encode("utf-8", "replace")))


def _log_end(record: otlp.LogRecord) -> list[bytes]:
    """Encode what stands behind a log record's attributes; most of it is rarely there."""
    parts = []
    if record.dropped_attributes_count or record.flags:
        parts += [_written(record, "dropped_attributes_count"), _written(record, "flags")]
    if record.trace_id or record.span_id:
        parts += [_written(record, "trace_id"), _written(record, "span_id")]
    parts.append(_fixed(_OBSERVED, record.observed_time_unix_nano))
    if record.event_name:
        parts.append(_written(record, "event_name"))
    return parts


def _written(record: otlp.LogRecord, name: str) -> bytes:
    return _write_log[name](getattr(record, name), _DEPTH)
