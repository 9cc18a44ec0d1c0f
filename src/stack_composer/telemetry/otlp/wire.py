"""Decode OTLP's protobuf into the structs of ``store.otlp``, driven by a table.

The table says, for each message, what a *tag* means (field number and wire type in one
number); what it does not name is skipped, as protobuf asks, and so is a known field of
another wire type. The rules are protobuf's: the last value of a field counts, parts of
one message that come apart are joined, of a oneof the last one stays, numbers may come
packed or not, and enum numbers that nobody knows are kept.

Nothing here trusts the bytes. A length that reaches beyond its message, a number of more
than ten bytes, messages more than ``DEPTH_MAX`` deep or more than ``MESSAGES_MAX`` of
them are refused (``LineRefusedError``, which names a byte and quotes none). Memory is
bounded by that count: two bytes can make an empty span.

This is the thorough way. ``protobuf`` has a quick one for spans, and comes back here for
whatever is not plain.
"""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

DEPTH_MAX: Final = 100
"""As deep as protobuf's own parsers go."""
MESSAGES_MAX: Final = 2_000_000
"""Messages within one request: records, attributes and values, each counts."""

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
_GROUP: Final = 3
_END_GROUP: Final = 4
FIXED32: Final = 5

_U64: Final = (1 << 64) - 1
_I64_SIGN: Final = 1 << 63

_unpack_u64 = struct.Struct("<Q").unpack_from
_unpack_i64 = struct.Struct("<q").unpack_from
_unpack_double = struct.Struct("<d").unpack_from
_unpack_u32 = struct.Struct("<I").unpack_from


class _Field:
    """What one tag means.

    Attributes:
        name: Of the struct's field.
        read: Turns what the wire has (an integer, or bytes) into a value; None for a
            message, which ``message`` describes, and for packed numbers.
        message: The message in it.
        packed: Reads a run of numbers.
        many: Whether values gather in a list.
        rivals: The other fields of its oneof.
    """

    __slots__ = ("many", "message", "name", "packed", "read", "rivals")

    def __init__(
        self,
        name: str,
        read: Callable[[Any], Any] | None = None,
        *,
        message: _Message | None = None,
        packed: Callable[[bytes], list[Any]] | None = None,
        many: bool = False,
    ) -> None:
        self.name = name
        self.read = read
        self.message = message
        self.packed = packed
        self.many = many
        self.rivals: tuple[str, ...] = ()


class _Message:
    """A message: the struct that it becomes, and its fields by tag."""

    __slots__ = ("fields", "kind")

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.fields: dict[int, _Field] = {}


class Budget:
    """How many messages one request may still have."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MESSAGES_MAX

    def take(self, count: int = 1) -> None:
        """Use some of it.

        Raises:
            LineRefusedError: There is no more.
        """
        self.left -= count
        if self.left < 0:
            raise LineRefusedError(f"holds more than {MESSAGES_MAX:,} messages")


def decode(signal: str, data: bytes, counts: otlp.Counts) -> Any:
    """Decode one ``Export*ServiceRequest`` or ``*Data`` of ``signal``.

    Raises:
        LineRefusedError: It is no such message.
    """
    return decode_message(_REQUESTS[signal], data, 0, len(data), Budget(), counts)


def decode_message(
    message: _Message,
    data: bytes,
    at: int,
    end: int,
    budget: Budget,
    counts: otlp.Counts,
    depth: int = 0,
) -> Any:
    """Decode the message that lies between two places of ``data``.

    Raises:
        LineRefusedError: See the module.
    """
    budget.take()
    if depth > DEPTH_MAX:
        raise LineRefusedError("is nested too deeply")
    fields = message.fields
    found: dict[str, Any] = {}
    apart: dict[str, bytes] = {}
    while at < end:
        tag, at = varint(data, at, end)
        field = fields.get(tag)
        if field is None:
            at = skip(data, at, end, tag, depth)
            continue
        value, at = _wire_value(data, at, end, tag & 7)
        if field.message is not None:
            first, last = value
            part, origin = (first, last), data
            if not field.many:
                # Two parts of one message mean what both together mean.
                earlier = apart.get(field.name, b"")
                apart[field.name] = joined = earlier + data[first:last]
                if earlier:
                    # Each part more reads all before it again.
                    budget.take(len(joined) // 16)
                    part, origin = (0, len(joined)), joined
            made = decode_message(field.message, origin, *part, budget, counts, depth + 1)
            if field.many:
                found.setdefault(field.name, []).append(made)
            else:
                _set(found, apart, field, made)
        elif field.packed is not None:
            run = field.packed(data[value[0] : value[1]])
            # A number takes eight bytes of memory or more, as a small message does.
            budget.take(len(run) // 8)
            found.setdefault(field.name, []).extend(run)
        else:
            read = _read(field, data, value, counts)
            if field.many:
                found.setdefault(field.name, []).append(read)
            else:
                _set(found, apart, field, read)
    return message.kind(**found)


def _read(field: _Field, data: bytes, value: Any, counts: otlp.Counts) -> Any:
    assert field.read is not None, "a field is a message, a run or a value"
    if type(value) is not tuple:
        return field.read(value)
    raw = data[value[0] : value[1]]
    try:
        return field.read(raw)
    except UnicodeDecodeError:
        counts["not_strict"] += 1
        return raw.decode("utf-8", "replace")


def _set(found: dict[str, Any], apart: dict[str, bytes], field: _Field, value: Any) -> None:
    found[field.name] = value
    for rival in field.rivals:
        found.pop(rival, None)
        apart.pop(rival, None)


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a number of up to ten bytes; the number, and the place behind it.

    Raises:
        LineRefusedError: It is longer, or reaches beyond ``end``.
    """
    value = shift = 0
    start = at
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _U64, at
        shift += 7
        if shift >= 70:
            break
    raise refused(start)


def _wire_value(data: bytes, at: int, end: int, wire: int) -> tuple[Any, int]:
    """Read a value as the wire has it: a number, or where its bytes begin and end."""
    if wire == LENGTH:
        size, first = varint(data, at, end)
        if size > end - first:
            raise refused(at)
        return (first, first + size), first + size
    if wire == VARINT:
        return varint(data, at, end)
    size = 8 if wire == FIXED64 else 4
    if size > end - at:
        raise refused(at)
    return data[at : at + size], at + size


def skip(data: bytes, at: int, end: int, tag: int, depth: int = 0) -> int:
    """Pass over a field that is not known; returns the place behind it.

    Raises:
        LineRefusedError: It is no field.
    """
    wire = tag & 7
    if not tag >> 3 or wire > FIXED32 or wire == _END_GROUP or depth > DEPTH_MAX:
        raise refused(at)
    if wire != _GROUP:
        return int(_wire_value(data, at, end, wire)[1])
    while True:
        inner, at = varint(data, at, end)
        if inner & 7 == _END_GROUP:
            if inner >> 3 != tag >> 3:
                raise refused(at)
            return at
        at = skip(data, at, end, inner, depth + 1)


def parts(data: bytes, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield where each message of one tag begins and ends, passing over all else."""
    while at < end:
        tag, at = varint(data, at, end)
        if tag == wanted:
            size, at = varint(data, at, end)
            if size > end - at:
                raise refused(at)
            yield at, at + size
            at += size
        else:
            at = skip(data, at, end, tag)


def refused(at: int) -> LineRefusedError:
    """The error for what cannot be at a place."""
    return LineRefusedError(f"is not protobuf at byte {at}")


# -- how values are read ---------------------------------------------------------------


def _signed(value: int) -> int:
    return value - (1 << 64) if value & _I64_SIGN else value


def _int32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value & 0x8000_0000 else value


def _uint32(value: int) -> int:
    return value & 0xFFFF_FFFF


def _zigzag32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return (value >> 1) ^ -(value & 1)


def _text(raw: bytes) -> str:
    return raw.decode()


def _hex(raw: bytes) -> str:
    return raw.hex()


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _fixed64(raw: bytes) -> int:
    return int(_unpack_u64(raw)[0])


def _sfixed64(raw: bytes) -> int:
    return int(_unpack_i64(raw)[0])


def _double(raw: bytes) -> float:
    return float(_unpack_double(raw)[0])


def _fixed32(raw: bytes) -> int:
    return int(_unpack_u32(raw)[0])


def _packed_fixed64(raw: bytes) -> list[int]:
    return list(_run(raw, "Q"))


def _packed_doubles(raw: bytes) -> list[float]:
    return list(_run(raw, "d"))


def _run(raw: bytes, letter: str) -> tuple[Any, ...]:
    if len(raw) % 8:
        raise LineRefusedError("is not protobuf: a run of numbers ends within one")
    return struct.unpack(f"<{len(raw) // 8}{letter}", raw)


def _packed_varints(raw: bytes) -> list[int]:
    out, at = [], 0
    while at < len(raw):
        value, at = varint(raw, at, len(raw))
        out.append(value)
    return out


# -- the table -------------------------------------------------------------------------

READERS: Final[dict[str, tuple[int, Callable[[Any], Any]]]] = {
    "text": (LENGTH, _text),
    "id": (LENGTH, _hex),
    "bytes": (LENGTH, _base64),
    "bool": (VARINT, bool),
    "int64": (VARINT, _signed),
    "enum": (VARINT, _int32),
    "uint32": (VARINT, _uint32),
    "sint32": (VARINT, _zigzag32),
    "fixed64": (FIXED64, _fixed64),
    "sfixed64": (FIXED64, _sfixed64),
    "double": (FIXED64, _double),
    "fixed32": (FIXED32, _fixed32),
}
_PACKED: Final[dict[str, Callable[[bytes], list[Any]]]] = {
    "fixed64": _packed_fixed64,
    "double": _packed_doubles,
    "uint64": _packed_varints,
}

TABLE: Final[dict[Any, str]] = {
    otlp.AnyValue: "1 string_value text | 2 bool_value bool | 3 int_value int64"
    " | 4 double_value double | 5 array_value ArrayValue | 6 kvlist_value KeyValueList"
    " | 7 bytes_value bytes",
    otlp.KeyValue: "1 key text; 2 value AnyValue",
    otlp.ArrayValue: "1 values AnyValue*",
    otlp.KeyValueList: "1 values KeyValue*",
    otlp.Resource: "1 attributes KeyValue*; 2 dropped_attributes_count uint32",
    otlp.Scope: "1 name text; 2 version text; 3 attributes KeyValue*;"
    " 4 dropped_attributes_count uint32",
    otlp.Status: "2 message text; 3 code enum",
    otlp.Event: "1 time_unix_nano fixed64; 2 name text; 3 attributes KeyValue*;"
    " 4 dropped_attributes_count uint32",
    otlp.Link: "1 trace_id id; 2 span_id id; 3 trace_state text; 4 attributes KeyValue*;"
    " 5 dropped_attributes_count uint32; 6 flags fixed32",
    otlp.Span: "1 trace_id id; 2 span_id id; 3 trace_state text; 4 parent_span_id id;"
    " 5 name text; 6 kind enum; 7 start_time_unix_nano fixed64; 8 end_time_unix_nano fixed64;"
    " 9 attributes KeyValue*; 10 dropped_attributes_count uint32; 11 events Event*;"
    " 12 dropped_events_count uint32; 13 links Link*; 14 dropped_links_count uint32;"
    " 15 status Status; 16 flags fixed32",
    otlp.ScopeSpans: "1 scope Scope; 2 spans Span*; 3 schema_url text",
    otlp.ResourceSpans: "1 resource Resource; 2 scope_spans ScopeSpans*; 3 schema_url text",
    otlp.TracesData: "1 resource_spans ResourceSpans*",
    otlp.LogRecord: "1 time_unix_nano fixed64; 2 severity_number enum; 3 severity_text text;"
    " 5 body AnyValue; 6 attributes KeyValue*; 7 dropped_attributes_count uint32;"
    " 8 flags fixed32; 9 trace_id id; 10 span_id id; 11 observed_time_unix_nano fixed64;"
    " 12 event_name text",
    otlp.ScopeLogs: "1 scope Scope; 2 log_records LogRecord*; 3 schema_url text",
    otlp.ResourceLogs: "1 resource Resource; 2 scope_logs ScopeLogs*; 3 schema_url text",
    otlp.LogsData: "1 resource_logs ResourceLogs*",
    otlp.Exemplar: "2 time_unix_nano fixed64; 3 as_double double | 6 as_int sfixed64;"
    " 4 span_id id; 5 trace_id id; 7 filtered_attributes KeyValue*",
    otlp.NumberDataPoint: "2 start_time_unix_nano fixed64; 3 time_unix_nano fixed64;"
    " 4 as_double double | 6 as_int sfixed64; 5 exemplars Exemplar*; 7 attributes KeyValue*;"
    " 8 flags uint32",
    otlp.HistogramDataPoint: "2 start_time_unix_nano fixed64; 3 time_unix_nano fixed64;"
    " 4 count fixed64; 5 sum double; 6 bucket_counts fixed64*; 7 explicit_bounds double*;"
    " 8 exemplars Exemplar*; 9 attributes KeyValue*; 10 flags uint32; 11 min double;"
    " 12 max double",
    otlp.Buckets: "1 offset sint32; 2 bucket_counts uint64*",
    otlp.ExponentialHistogramDataPoint: "1 attributes KeyValue*;"
    " 2 start_time_unix_nano fixed64; 3 time_unix_nano fixed64; 4 count fixed64; 5 sum double;"
    " 6 scale sint32; 7 zero_count fixed64; 8 positive Buckets; 9 negative Buckets;"
    " 10 flags uint32; 11 exemplars Exemplar*; 12 min double; 13 max double;"
    " 14 zero_threshold double",
    otlp.ValueAtQuantile: "1 quantile double; 2 value double",
    otlp.SummaryDataPoint: "2 start_time_unix_nano fixed64; 3 time_unix_nano fixed64;"
    " 4 count fixed64; 5 sum double; 6 quantile_values ValueAtQuantile*;"
    " 7 attributes KeyValue*; 8 flags uint32",
    otlp.Gauge: "1 data_points NumberDataPoint*",
    otlp.Sum: "1 data_points NumberDataPoint*; 2 aggregation_temporality enum; 3 is_monotonic bool",
    otlp.Histogram: "1 data_points HistogramDataPoint*; 2 aggregation_temporality enum",
    otlp.ExponentialHistogram: "1 data_points ExponentialHistogramDataPoint*;"
    " 2 aggregation_temporality enum",
    otlp.Summary: "1 data_points SummaryDataPoint*",
    otlp.Metric: "1 name text; 2 description text; 3 unit text; 5 gauge Gauge | 7 sum Sum"
    " | 9 histogram Histogram | 10 exponential_histogram ExponentialHistogram"
    " | 11 summary Summary",
    otlp.ScopeMetrics: "1 scope Scope; 2 metrics Metric*; 3 schema_url text",
    otlp.ResourceMetrics: "1 resource Resource; 2 scope_metrics ScopeMetrics*; 3 schema_url text",
    otlp.MetricsData: "1 resource_metrics ResourceMetrics*",
}
"""``number name kind``, a ``*`` for many, ``|`` between the fields of a oneof."""


def _compiled() -> dict[str, _Message]:
    messages = {kind.__name__: _Message(kind) for kind in TABLE}
    for kind, text in TABLE.items():
        fields = messages[kind.__name__].fields
        for group in text.split(";"):
            rows = [row.split() for row in group.split("|")]
            for number, name, sort in rows:
                rivals = tuple(other for _, other, _ in rows if other != name)
                for wire, field in _fields(name, sort, messages):
                    field.rivals = rivals
                    fields[int(number) << 3 | wire] = field
    return messages


def _fields(name: str, sort: str, messages: dict[str, _Message]) -> list[tuple[int, _Field]]:
    many = sort.endswith("*")
    sort = sort.rstrip("*")
    if sort in messages:
        return [(LENGTH, _Field(name, message=messages[sort], many=many))]
    if sort == "uint64":
        single = VARINT, _Field(name, int, many=True)
    else:
        wire, read = READERS[sort]
        single = wire, _Field(name, read, many=many)
    if not many:
        return [single]
    return [single, (LENGTH, _Field(name, packed=_PACKED[sort], many=True))]


_MESSAGES: Final = _compiled()
KEY_VALUE: Final = _MESSAGES["KeyValue"]
SPAN: Final = _MESSAGES["Span"]
RESOURCE: Final = _MESSAGES["Resource"]
SCOPE: Final = _MESSAGES["Scope"]
_REQUESTS: Final = {
    "traces": _MESSAGES["TracesData"],
    "metrics": _MESSAGES["MetricsData"],
    "logs": _MESSAGES["LogsData"],
}
