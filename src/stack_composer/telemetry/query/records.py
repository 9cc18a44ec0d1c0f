"""The second face of the data: the plain records of the specification's section 3.

A span and a measurement have exactly the specification's keys, in its order. Log
records have no shape there, so theirs is ours. What a plain record cannot say
(resource, scope, kind, events, links) is left to ``--as otlp``.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.query.aggregate import level_name
from stack_composer.telemetry.query.duration import utc_text
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stack_composer.telemetry.query.select import Item


def record_of(item: Item) -> dict[str, Any]:
    """Return the record of one span, data point or log record.

    A histogram's or summary's ``value`` is the mean of what it counted; a point
    without a value has None. Bytes become base64 text.

    Raises:
        LineRefusedError: An attribute cannot be read; nothing of it is quoted.
    """
    if item.signal == "traces":
        return _span(item.record)
    return _log(item.record) if item.signal == "logs" else _point(item)


def _span(span: otlp.Span) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_span_id or None,
        "name": span.name,
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "attrs": plain_attributes(span.attributes),
    }


def _point(item: Item) -> dict[str, Any]:
    point = item.record
    return {
        "timestamp": utc_text(point.time_unix_nano),
        "metric": item.name,
        "value": point_value(point),
        "labels": plain_attributes(point.attributes),
    }


def _log(record: otlp.LogRecord) -> dict[str, Any]:
    return {
        "timestamp": utc_text(record.time_unix_nano or record.observed_time_unix_nano),
        "level": level_of(record),
        "message": plain_value(record.body),
        "attrs": plain_attributes(record.attributes),
        "trace_id": record.trace_id or None,
        "span_id": record.span_id or None,
    }


def level_of(record: otlp.LogRecord) -> str:
    """Return the level by OTLP's number, or the writer's own word where it has none."""
    if not record.severity_number and record.severity_text:
        return record.severity_text.lower()
    return level_name(record.severity_number)


def point_value(point: Any) -> float | None:
    """Return the one number of a data point: its value, or the mean of its values."""
    if isinstance(point, otlp.NumberDataPoint):
        return otlp.number_of(point)
    if point.sum is None or not point.count:
        return None
    return float(point.sum / point.count)


def plain_attributes(pairs: Iterable[otlp.KeyValue]) -> dict[str, Any]:
    """Return attributes as JSON can say them; of a repeated key the last counts."""
    return {key: _plain(value) for key, value in otlp.attributes_of(list(pairs)).items()}


def plain_value(value: otlp.AnyValue) -> Any:
    """Return a value as JSON can say it."""
    return _plain(otlp.value_of(value))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
