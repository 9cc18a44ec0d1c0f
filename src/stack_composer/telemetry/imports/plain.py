"""Read records of the specification's section 3, and our log records, back into records.

They are what ``show --as records`` and ``export --as records`` print, and what other
programs may write by hand. Such a record tells neither program nor library, so those
stay empty; a measurement becomes a point of a gauge, since it does not say what it was.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.model import (
    LogRecord,
    Metric,
    NumberPoint,
    RemoteParent,
    Resource,
    Scope,
)
from stack_composer.telemetry.otlp.records import Batch, ReceivedSpan
from stack_composer.telemetry.query.aggregate import LEVELS
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections import Counter
    from typing import Final

RESOURCE: Final = Resource({})
SCOPE: Final = Scope()

_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_NS_MAX: Final = (1 << 64) - 1


class _Span(msgspec.Struct):
    trace_id: str
    span_id: str
    name: str
    start_ns: int
    end_ns: int
    parent_id: str | None = None
    attrs: dict[str, Any] | None = None


class _Measurement(msgspec.Struct):
    timestamp: str
    metric: str
    value: int | float | str | None
    labels: dict[str, Any] | None = None


class _Log(msgspec.Struct):
    timestamp: str
    level: str
    message: Any = None
    attrs: dict[str, Any] | None = None
    trace_id: str | None = None
    span_id: str | None = None


_SPAN: Final = msgspec.json.Decoder(_Span)
_MEASUREMENT: Final = msgspec.json.Decoder(_Measurement)
_LOG: Final = msgspec.json.Decoder(_Log)


def signal_of(keys: frozenset[str]) -> str | None:
    """Tell from its keys what a record is; None if it is none."""
    if "start_ns" in keys and "span_id" in keys:
        return "traces"
    if "metric" in keys and "timestamp" in keys:
        return "metrics"
    return "logs" if "level" in keys and "timestamp" in keys else None


def batch_of(signal: str, line: bytes, counts: Counter[str]) -> Batch:
    """Turn one record into a batch.

    Raises:
        LineRefusedError: A field is missing or of another type; nothing is quoted.
    """
    try:
        if signal == "traces":
            return _span(_SPAN.decode(line), counts)
        if signal == "metrics":
            return _measurement(_MEASUREMENT.decode(line))
        return _log(_LOG.decode(line), counts)
    except msgspec.ValidationError as error:
        # The message names types and a path of field names, never a value.
        raise LineRefusedError(f"is no record: {error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise LineRefusedError("is not JSON") from None


def _span(given: _Span, counts: Counter[str]) -> Batch:
    if not (0 <= given.start_ns <= _NS_MAX and 0 <= given.end_ns <= _NS_MAX):
        raise LineRefusedError("is no record: a time is out of range")
    span = ReceivedSpan()
    span.scope = SCOPE
    span.name = given.name
    span.attributes = given.attrs or None
    span.start_ns = given.start_ns
    span.end_ns = given.end_ns
    span.trace_id = otlp.id_of(given.trace_id, 32, counts)
    span.span_id = otlp.id_of(given.span_id, 16, counts)
    parent_id = otlp.id_of(given.parent_id, 16, counts)
    span.parent = (
        RemoteParent(span.trace_id, parent_id, 1, "", is_remote=False) if parent_id else None
    )
    span.details = None
    return Batch("traces", RESOURCE, SCOPE, [span])


def _measurement(given: _Measurement) -> Batch:
    value = given.value
    if isinstance(value, str):
        if value not in ("NaN", "Infinity", "-Infinity"):
            raise LineRefusedError("is no record: the value is a text")
        value = float(value)
    point = NumberPoint(given.labels or None, 0, _time_ns(given.timestamp), value)
    return Batch("metrics", RESOURCE, SCOPE, [Metric(given.metric, "gauge", [point], SCOPE)])


def _log(given: _Log, counts: Counter[str]) -> Batch:
    trace_id, span_id = (
        otlp.id_of(given.trace_id, 32, counts),
        otlp.id_of(given.span_id, 16, counts),
    )
    span = RemoteParent(trace_id, span_id, 0, "", is_remote=False) if trace_id or span_id else None
    level = given.level.lower()
    record = LogRecord(
        _time_ns(given.timestamp),
        LEVELS.index(level) * 4 + 1 if level in LEVELS else 0,
        given.level,
        given.message,
        given.attrs or None,
        span,
        SCOPE,
    )
    return Batch("logs", RESOURCE, SCOPE, [record])


def _time_ns(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is not None:
        whole, fraction, zone = found.groups()
        try:
            moment = datetime.fromisoformat(whole + zone.upper())
        except ValueError:
            pass  # The 30th of February, or second 60.
        else:
            seconds = (moment - _EPOCH) // _SECOND
            time_ns = seconds * 10**9 + int((fraction or "0").ljust(9, "0"))
            if 0 <= time_ns <= _NS_MAX:
                return time_ns
    raise LineRefusedError("is no record: the timestamp is no time of RFC 3339 since 1970")
