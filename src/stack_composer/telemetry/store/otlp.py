"""Read OTLP JSON: strict where it is fast, lenient where real files ask for it.

A line is decoded straight into typed structs. Only when that fails, or when the line
shows signs of an older or a foreign writer, is it decoded a second time into plain
objects, mended, and converted: snake_case keys, enum names, base64 ids,
``instrumentationLibrary``, nulls, lone surrogates, two objects on a line. Each
mending has a name in ``counts``, so that leniency is never silent.

Field names are the protocol's own, in snake_case. A missing field has the protocol's
default (0, "", an empty list), ids are lower-case hex or "", and unknown fields are
skipped at any depth. ``TracesLite`` has only what statistics need: it decodes in a
third of the time.
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import field

from stack_composer.telemetry.errors import LineRefusedError

Counts: TypeAlias = Counter[str]
"""How often something odd was met, by name; names are in ``ODDITIES``."""

ODDITIES = {
    "enum_name": "an enum as its name rather than its number",
    "snake_case": "keys in snake_case",
    "old_scope": "instrumentationLibrary, scope's name before OTLP 0.15",
    "base64_id": "an id in base64 rather than hexadecimal",
    "bad_id": "an id of the wrong length; it counts as absent",
    "glued": "two objects on one line; both are read",
    "mixed": "several signals in one object; the first is read",
    "not_strict": "JSON that strict parsers refuse (NaN, a lone surrogate)",
}
"""What decoding may count, in words for users."""


class _Struct(msgspec.Struct, rename="camel", gc=False):
    pass


class AnyValue(_Struct):
    """One value of any type; at most one field is not None."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | None = None
    double_value: float | None = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: str | None = None


class KeyValue(_Struct):
    """One attribute."""

    key: str = ""
    value: AnyValue = field(default_factory=AnyValue)


class ArrayValue(_Struct):
    """Values in order."""

    values: list[AnyValue] = []


class KeyValueList(_Struct):
    """Values by key."""

    values: list[KeyValue] = []


class Resource(_Struct):
    """The program that recorded."""

    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0


class Scope(_Struct):
    """The library that recorded."""

    name: str = ""
    version: str = ""
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0


class Status(_Struct):
    """A span's outcome: code 0 unset, 1 ok, 2 error."""

    message: str = ""
    code: int = 0


class Event(_Struct):
    """A moment of a span."""

    time_unix_nano: int = 0
    name: str = ""
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0


class Link(_Struct):
    """A pointer to another span."""

    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0
    flags: int = 0


class Span(_Struct):
    """A finished span."""

    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    parent_span_id: str = ""
    flags: int = 0
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int = 0
    end_time_unix_nano: int = 0
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0
    events: list[Event] = []
    dropped_events_count: int = 0
    links: list[Link] = []
    dropped_links_count: int = 0
    status: Status = field(default_factory=Status)


class ScopeSpans(_Struct):
    """Spans of one library."""

    scope: Scope = field(default_factory=Scope)
    spans: list[Span] = []
    schema_url: str = ""


class ResourceSpans(_Struct):
    """Spans of one program."""

    resource: Resource = field(default_factory=Resource)
    scope_spans: list[ScopeSpans] = []
    schema_url: str = ""


class TracesData(_Struct):
    """A line of a traces bundle."""

    resource_spans: list[ResourceSpans] = []


class StatusLite(_Struct):
    """A span's outcome."""

    code: int = 0


class SpanLite(_Struct):
    """What statistics need of a span; ``status`` is None when unset."""

    name: str = ""
    start_time_unix_nano: int = 0
    end_time_unix_nano: int = 0
    status: StatusLite | None = None


class ScopeSpansLite(_Struct):
    """Spans of one library."""

    spans: list[SpanLite] = []


class ResourceSpansLite(_Struct):
    """Spans of one program."""

    scope_spans: list[ScopeSpansLite] = []


class TracesLite(_Struct):
    """A line of a traces bundle, with little of it."""

    resource_spans: list[ResourceSpansLite] = []


class LogRecord(_Struct):
    """One log record."""

    time_unix_nano: int = 0
    observed_time_unix_nano: int = 0
    severity_number: int = 0
    severity_text: str = ""
    body: AnyValue = field(default_factory=AnyValue)
    attributes: list[KeyValue] = []
    dropped_attributes_count: int = 0
    flags: int = 0
    trace_id: str = ""
    span_id: str = ""
    event_name: str = ""


class ScopeLogs(_Struct):
    """Log records of one library."""

    scope: Scope = field(default_factory=Scope)
    log_records: list[LogRecord] = []
    schema_url: str = ""


class ResourceLogs(_Struct):
    """Log records of one program."""

    resource: Resource = field(default_factory=Resource)
    scope_logs: list[ScopeLogs] = []
    schema_url: str = ""


class LogsData(_Struct):
    """A line of a logs bundle."""

    resource_logs: list[ResourceLogs] = []


class Exemplar(_Struct):
    """A measurement that went into a point."""

    filtered_attributes: list[KeyValue] = []
    time_unix_nano: int = 0
    as_double: float | None = None
    as_int: int | None = None
    span_id: str = ""
    trace_id: str = ""


class NumberDataPoint(_Struct):
    """A point of a gauge or a sum; see ``number_of``."""

    attributes: list[KeyValue] = []
    start_time_unix_nano: int = 0
    time_unix_nano: int = 0
    as_double: float | None = None
    as_int: int | None = None
    exemplars: list[Exemplar] = []
    flags: int = 0


class HistogramDataPoint(_Struct):
    """A histogram with explicit bounds."""

    attributes: list[KeyValue] = []
    start_time_unix_nano: int = 0
    time_unix_nano: int = 0
    count: int = 0
    sum: float | None = None
    bucket_counts: list[int] = []
    explicit_bounds: list[float] = []
    exemplars: list[Exemplar] = []
    flags: int = 0
    min: float | None = None
    max: float | None = None


class Buckets(_Struct):
    """Counts of consecutive buckets; the first has index ``offset``."""

    offset: int = 0
    bucket_counts: list[int] = []


class ExponentialHistogramDataPoint(_Struct):
    """A histogram whose bounds grow by ``2**(2**-scale)``."""

    attributes: list[KeyValue] = []
    start_time_unix_nano: int = 0
    time_unix_nano: int = 0
    count: int = 0
    sum: float | None = None
    scale: int = 0
    zero_count: int = 0
    positive: Buckets = field(default_factory=Buckets)
    negative: Buckets = field(default_factory=Buckets)
    flags: int = 0
    exemplars: list[Exemplar] = []
    min: float | None = None
    max: float | None = None
    zero_threshold: float = 0.0


class ValueAtQuantile(_Struct):
    """One quantile of a summary."""

    quantile: float = 0.0
    value: float = 0.0


class SummaryDataPoint(_Struct):
    """Quantiles that somebody else worked out."""

    attributes: list[KeyValue] = []
    start_time_unix_nano: int = 0
    time_unix_nano: int = 0
    count: int = 0
    sum: float = 0.0
    quantile_values: list[ValueAtQuantile] = []
    flags: int = 0


class Gauge(_Struct):
    """Values that stand by themselves."""

    data_points: list[NumberDataPoint] = []


class Sum(_Struct):
    """Increments (delta), or totals since a start (cumulative)."""

    data_points: list[NumberDataPoint] = []
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class Histogram(_Struct):
    """Distributions with explicit bounds."""

    data_points: list[HistogramDataPoint] = []
    aggregation_temporality: int = 0


class ExponentialHistogram(_Struct):
    """Distributions with exponential bounds."""

    data_points: list[ExponentialHistogramDataPoint] = []
    aggregation_temporality: int = 0


class Summary(_Struct):
    """Distributions as quantiles."""

    data_points: list[SummaryDataPoint] = []


class Metric(_Struct):
    """One metric; exactly one of the last five is not None."""

    name: str = ""
    description: str = ""
    unit: str = ""
    gauge: Gauge | None = None
    sum: Sum | None = None
    histogram: Histogram | None = None
    exponential_histogram: ExponentialHistogram | None = None
    summary: Summary | None = None


class ScopeMetrics(_Struct):
    """Metrics of one library."""

    scope: Scope = field(default_factory=Scope)
    metrics: list[Metric] = []
    schema_url: str = ""


class ResourceMetrics(_Struct):
    """Metrics of one program."""

    resource: Resource = field(default_factory=Resource)
    scope_metrics: list[ScopeMetrics] = []
    schema_url: str = ""


class MetricsData(_Struct):
    """A line of a metrics bundle."""

    resource_metrics: list[ResourceMetrics] = []


class _Envelope(_Struct):
    resource_spans: msgspec.Raw = msgspec.Raw()
    resource_metrics: msgspec.Raw = msgspec.Raw()
    resource_logs: msgspec.Raw = msgspec.Raw()


_Data = TypeVar("_Data", bound=_Struct)

_TRACES = msgspec.json.Decoder(TracesData, strict=False)
_TRACES_LITE = msgspec.json.Decoder(TracesLite, strict=False)
_METRICS = msgspec.json.Decoder(MetricsData, strict=False)
_LOGS = msgspec.json.Decoder(LogsData, strict=False)
_ENVELOPE = msgspec.json.Decoder(_Envelope)

_LISTS = {"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}


def decode_traces(
    line: bytes, counts: Counts | None = None, *, as_written: bool = False
) -> TracesData:
    """Decode a line of spans.

    Args:
        line: One JSON object, with or without its newline.
        counts: Where what was mended is counted.
        as_written: Leave the spans' ids as they are. Looking at them costs as much as
            all else; whoever looks at them later by ``id_of`` need not twice.

    Raises:
        LineRefusedError: It is not an object of OTLP traces; nothing of it is quoted.
    """
    counts = Counter() if counts is None else counts
    data = _decode(_TRACES, TracesData, "traces", line, counts)
    for resource in () if as_written else data.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                mend_span(span, id_of, counts)
    return data


def decode_traces_lite(line: bytes, counts: Counts | None = None) -> TracesLite:
    """Decode name, times and status of spans; otherwise as ``decode_traces``."""
    counts = Counter() if counts is None else counts
    return _decode(_TRACES_LITE, TracesLite, "traces", line, counts)


def decode_metrics(line: bytes, counts: Counts | None = None) -> MetricsData:
    """Decode a line of metrics; otherwise as ``decode_traces``."""
    counts = Counter() if counts is None else counts
    return _decode(_METRICS, MetricsData, "metrics", line, counts)


def decode_logs(line: bytes, counts: Counts | None = None) -> LogsData:
    """Decode a line of log records; otherwise as ``decode_traces``."""
    counts = Counter() if counts is None else counts
    data = _decode(_LOGS, LogsData, "logs", line, counts)
    for resource in data.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                mend_log(record, id_of, counts)
    return data


def decode_line(
    signal: str | None, line: bytes, counts: Counts | None = None
) -> TracesData | MetricsData | LogsData:
    """Decode a line of ``signal``, or of whatever it holds when that is None.

    Raises:
        LineRefusedError: As ``decode_traces``.
    """
    signal = signal_of(line, counts) if signal is None else signal
    if signal == "traces":
        return decode_traces(line, counts)
    return decode_metrics(line, counts) if signal == "metrics" else decode_logs(line, counts)


def signal_of(line: bytes, counts: Counts | None = None) -> str:
    """Tell which signal a line holds; "traces" for an empty object.

    Raises:
        LineRefusedError: It is not JSON, or none of the three.
    """
    try:
        envelope = _ENVELOPE.decode(line)
        held = [
            signal
            for signal, raw in (
                ("traces", envelope.resource_spans),
                ("metrics", envelope.resource_metrics),
                ("logs", envelope.resource_logs),
            )
            if bytes(raw)
        ]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        held = []
    if not held:
        tree = _mend(_parse(line, Counter()), Counter())
        held = [signal for signal, key in _LISTS.items() if key in tree]
        if not held and tree:
            raise LineRefusedError("holds no OTLP traces, metrics or logs")
    if len(held) > 1 and counts is not None:
        counts["mixed"] += 1
    return held[0] if held else "traces"


def number_of(point: NumberDataPoint) -> float | None:
    """The value of a point, exact when it is a whole number; None when it has none."""
    return point.as_double if point.as_int is None else point.as_int


def value_of(value: AnyValue) -> Any:
    """Turn an AnyValue into Python: str, bool, int, float, bytes, list, dict or None.

    Raises:
        LineRefusedError: It is nested too deeply, or its bytes are not base64.
    """
    try:
        return _value(value)
    except RecursionError as error:
        raise LineRefusedError("an attribute is nested too deeply") from error
    except ValueError as error:  # Also for letters outside of ASCII.
        raise LineRefusedError("a bytesValue is not base64") from error


def attributes_of(pairs: list[KeyValue]) -> dict[str, Any]:
    """Turn attributes into a dict; of a repeated key the last one counts."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:  # noqa: PLR0911 - one return a type is the shape of a oneof
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return value.int_value
    if value.bool_value is not None:
        return value.bool_value
    if value.double_value is not None:
        return value.double_value
    if value.array_value is not None:
        return [_value(item) for item in value.array_value.values]
    if value.kvlist_value is not None:
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    if value.bytes_value is not None:
        return _bytes(value.bytes_value)
    return None


def _bytes(text: str) -> bytes:
    # proto3's JSON is read in both alphabets, with or without padding.
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _decode(
    decoder: msgspec.json.Decoder[_Data],
    kind: type[_Data],
    signal: str,
    line: bytes,
    counts: Counts,
) -> _Data:
    # Both marks are searched at memory speed. Found inside an attribute's text they
    # only cost the slow way, which gives the same answer.
    if b'_unix_nano"' not in line and b'"instrumentationLibrary' not in line:
        try:
            data = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # The slow way decides, and says what is wrong.
        else:
            if getattr(data, kind.__struct_fields__[0]):
                return data
    return _decode_slowly(kind, signal, line, counts)


def _decode_slowly(kind: type[_Data], signal: str, line: bytes, counts: Counts) -> _Data:
    found: Counts = Counter()
    try:
        tree = _mend(_parse(line, found), found)
        if tree and _LISTS[signal] not in tree:
            raise LineRefusedError(f"holds no OTLP {signal}")
        data = msgspec.convert(tree, kind, strict=False)
    except msgspec.ValidationError as error:
        # The message names types and a path of field names, never a value.
        raise LineRefusedError(f"is not OTLP: {error}") from None
    except RecursionError:
        raise LineRefusedError("is nested too deeply") from None
    counts.update(found)
    return data


def _parse(line: bytes, counts: Counts) -> dict[str, Any]:
    """Parse one object, or several glued together, with the forgiving parser."""
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise LineRefusedError(f"is not UTF-8 at byte {error.start}") from None
    merged: dict[str, Any] = {}
    at = objects = 0
    while at < len(text):
        try:
            tree, at = _JSON.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise LineRefusedError(f"is not JSON at character {error.pos}") from None
        except (RecursionError, ValueError):
            raise LineRefusedError("is nested too deeply, or holds a number too long") from None
        if not isinstance(tree, dict):
            raise LineRefusedError("is not a JSON object")
        _join(merged, tree)
        objects += 1
        while text[at : at + 1].isspace():
            at += 1
    if not objects:
        raise LineRefusedError("is empty")
    counts["glued"] += objects - 1
    return merged


def _join(merged: dict[str, Any], tree: dict[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, list) and isinstance(merged.get(key), list):
            merged[key] = merged[key] + value
        else:
            merged[key] = value


_JSON = json.JSONDecoder(strict=False)

_OLD_KEYS = {
    "instrumentationLibrary": "scope",
    "instrumentationLibrarySpans": "scopeSpans",
    "instrumentationLibraryMetrics": "scopeMetrics",
    "instrumentationLibraryLogs": "scopeLogs",
}
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_ENUMS: dict[str, dict[str, int]] = {
    "kind": {
        f"SPAN_KIND_{name}": number
        for number, name in enumerate(
            ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
        )
    },
    "code": {f"STATUS_CODE_{name}": number for number, name in enumerate(("UNSET", "OK", "ERROR"))},
    "aggregationTemporality": {
        f"AGGREGATION_TEMPORALITY_{name}": number
        for number, name in enumerate(("UNSPECIFIED", "DELTA", "CUMULATIVE"))
    },
    "severityNumber": {
        "SEVERITY_NUMBER_UNSPECIFIED": 0,
        **{
            f"SEVERITY_NUMBER_{name}{'' if step == 0 else step + 1}": 1 + 4 * level + step
            for level, name in enumerate(_LEVELS)
            for step in range(4)
        },
    },
}


def _mend(tree: dict[str, Any], counts: Counts) -> dict[str, Any]:
    """Give keys their names of today, enums their numbers, and leave nulls out.

    Every key of an object in OTLP JSON is a field name (attribute keys are values of
    ``key``), so renaming cannot touch what was recorded.
    """
    mended: dict[str, Any] = {}
    for key, value in tree.items():
        if value is None:
            continue
        name = key
        if "_" in key:
            name = _camel(key)
            counts["snake_case"] += 1
        if name in _OLD_KEYS:
            name = _OLD_KEYS[name]
            counts["old_scope"] += 1
        mended[name] = _mend_value(name, value, counts)
    return mended


def _mend_value(name: str, value: Any, counts: Counts) -> Any:
    if isinstance(value, dict):
        return _mend(value, counts)
    if isinstance(value, list):
        return [_mend_value("", item, counts) for item in value if item is not None]
    if isinstance(value, str):
        if name in _ENUMS and value in _ENUMS[name]:
            counts["enum_name"] += 1
            return _ENUMS[name][value]
        if not _is_unicode(value):
            counts["not_strict"] += 1
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        counts["not_strict"] += 1
    return value


def _camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_HEX = frozenset("0123456789abcdef")


def mend_span(span: Span, id_of: Callable[[str, int, Counts], str], counts: Counts) -> None:
    """Take out of a span, and of its links, ids that are none, as ``id_of`` says."""
    span.trace_id = id_of(span.trace_id, 32, counts)
    span.span_id = id_of(span.span_id, 16, counts)
    span.parent_span_id = id_of(span.parent_span_id, 16, counts)
    for link in span.links:
        link.trace_id = id_of(link.trace_id, 32, counts)
        link.span_id = id_of(link.span_id, 16, counts)


def mend_log(record: LogRecord, id_of: Callable[[str, int, Counts], str], counts: Counts) -> None:
    """Do the same to a log record."""
    record.trace_id = id_of(record.trace_id, 32, counts)
    record.span_id = id_of(record.span_id, 16, counts)


def id_of(text: str | None, length: int, counts: Counts) -> str:
    """Make an id lower-case hex of ``length``, or "" if it is absent or no id."""
    if not text:
        return ""
    if len(text) == length:
        text = text.lower()
        if _HEX.issuperset(text) and text.strip("0"):
            return text
    else:
        try:
            raw = _bytes(text)
        except ValueError:
            raw = b""
        if len(raw) * 2 == length and any(raw):
            counts["base64_id"] += 1
            return raw.hex()
    counts["bad_id"] += 1
    return ""
