"""The columns of CSV, Parquet and SQL: the specification's, and then ours.

One table says for each signal what a column is called, what it holds and how it comes
from a record, so that ``spans`` in SQL, a CSV and a Parquet file of spans have the same
columns, and docs/import-export.md lists them.

Values are what JSON can say. A "time" is a number of Unix nanoseconds here; each form
writes it in its own way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stack_composer.telemetry.query import records
from stack_composer.telemetry.query.select import POINT_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from stack_composer.telemetry.query.select import Item

VIEWS: Final = {"traces": "spans", "metrics": "metrics", "logs": "logs"}
"""What the records of a signal are called in SQL."""

TYPES: Final = {
    "text": "VARCHAR",
    "json": "JSON",
    "time": "TIMESTAMP_NS",
    "uint": "UBIGINT",
    "int": "INTEGER",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
}

_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES: Final = ("unset", "ok", "error")
_TEMPORALITIES: Final = ("unspecified", "delta", "cumulative")
_TIME_NS_MAX: Final = (1 << 63) - 1
_UINT_MAX: Final = (1 << 64) - 1


class Column(NamedTuple):
    """One column.

    Attributes:
        name: In SQL, and in the first line of a CSV.
        kind: One of ``TYPES``.
        what: What it holds, for people.
        value: Gives it of a record; LineRefusedError if it cannot be read.
    """

    name: str
    kind: str
    what: str
    value: Callable[[Item], Any]


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)


def _service(item: Item) -> Any:
    for pair in item.resource.attributes:
        if pair.key == "service.name":
            return pair.value.string_value
    return None


def _message(item: Item) -> Any:
    body = records.plain_value(item.record.body)
    if body is None or isinstance(body, str):
        return body
    return msgspec.json.encode(body).decode()


def _log_ns(item: Item) -> int:
    return int(item.record.time_unix_nano or item.record.observed_time_unix_nano)


def _point_kind(item: Item) -> str:
    held = [kind for kind in POINT_KINDS if getattr(item.metric, kind) is not None]
    return held[0] if held else ""


def _aggregate(item: Item, name: str) -> Any:
    held = getattr(item.metric, _point_kind(item), None)
    return getattr(held, name, None)


def _temporality(item: Item) -> Any:
    number = _aggregate(item, "aggregation_temporality")
    return None if number is None else _named(_TEMPORALITIES, number)


def _events(item: Item) -> list[dict[str, Any]]:
    return [
        {
            "time_ns": event.time_unix_nano,
            "name": event.name,
            "attrs": records.plain_attributes(event.attributes),
        }
        for event in item.record.events
    ]


def _links(item: Item) -> list[dict[str, Any]]:
    return [
        {
            "trace_id": link.trace_id,
            "span_id": link.span_id,
            "attrs": records.plain_attributes(link.attributes),
        }
        for link in item.record.links
    ]


def _attributes(item: Item) -> dict[str, Any]:
    return records.plain_attributes(item.record.attributes)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _unsigned(value: int) -> int | None:
    return value if 0 <= value <= _UINT_MAX else None


def time_of(value: int) -> int | None:
    """Give a time that a calendar has; None for none, or one beyond the year 2262."""
    return value if 0 < value <= _TIME_NS_MAX else None


_ABOUT: Final = (
    Column("service", "text", "`service.name` of the program", _service),
    Column("scope", "text", "the library that recorded", lambda item: item.scope.name),
    Column(
        "resource",
        "json",
        "all that is said of the program",
        lambda item: records.plain_attributes(item.resource.attributes),
    ),
)

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "traces": (
        Column("trace_id", "text", "32 hexadecimal digits", lambda item: item.record.trace_id),
        Column("span_id", "text", "16 hexadecimal digits", lambda item: item.record.span_id),
        Column(
            "parent_id",
            "text",
            "`span_id` of the parent; none for a root",
            lambda item: item.record.parent_span_id or None,
        ),
        Column("name", "text", "of the span", lambda item: item.record.name),
        Column(
            "start_ns",
            "uint",
            "Unix nanoseconds",
            lambda item: _unsigned(item.record.start_time_unix_nano),
        ),
        Column(
            "end_ns",
            "uint",
            "Unix nanoseconds",
            lambda item: _unsigned(item.record.end_time_unix_nano),
        ),
        Column("attrs", "json", "attributes", _attributes),
        Column(
            "start",
            "time",
            "`start_ns` as a time, UTC",
            lambda item: time_of(item.record.start_time_unix_nano),
        ),
        Column(
            "duration_ms",
            "double",
            "from start to end",
            lambda item: (item.record.end_time_unix_nano - item.record.start_time_unix_nano) / 1e6,
        ),
        Column(
            "kind",
            "text",
            "internal, server, client, producer or consumer",
            lambda item: _named(_KINDS, item.record.kind),
        ),
        Column(
            "status",
            "text",
            "unset, ok or error",
            lambda item: _named(_STATUSES, item.record.status.code),
        ),
        Column(
            "status_message",
            "text",
            "what went wrong",
            lambda item: item.record.status.message or None,
        ),
        *_ABOUT,
        Column("events", "json", "a list: time_ns, name, attrs", _events),
        Column("links", "json", "a list: trace_id, span_id, attrs", _links),
    ),
    "metrics": (
        Column(
            "timestamp",
            "time",
            "of the point, UTC",
            lambda item: time_of(item.record.time_unix_nano),
        ),
        Column("metric", "text", "its name", lambda item: item.name),
        Column(
            "value",
            "double",
            "of a histogram or summary the mean; none without a value",
            lambda item: _number(records.point_value(item.record)),
        ),
        Column("labels", "json", "attributes of the point", _attributes),
        Column(
            "time_ns",
            "uint",
            "Unix nanoseconds",
            lambda item: _unsigned(item.record.time_unix_nano),
        ),
        Column(
            "kind",
            "text",
            "gauge, sum, histogram, exponential_histogram or summary",
            _point_kind,
        ),
        Column("unit", "text", "of the value", lambda item: item.metric and item.metric.unit),
        Column(
            "count",
            "uint",
            "values in a histogram or summary",
            lambda item: getattr(item.record, "count", None),
        ),
        Column("sum", "double", "of these values", lambda item: getattr(item.record, "sum", None)),
        Column("min", "double", "of them", lambda item: getattr(item.record, "min", None)),
        Column("max", "double", "of them", lambda item: getattr(item.record, "max", None)),
        Column("temporality", "text", "delta or cumulative", _temporality),
        Column(
            "monotonic",
            "bool",
            "of a sum: whether it only grows",
            lambda item: _aggregate(item, "is_monotonic"),
        ),
        *_ABOUT,
    ),
    "logs": (
        Column("timestamp", "time", "of the record, UTC", lambda item: time_of(_log_ns(item))),
        Column("level", "text", "by its severity", lambda item: records.level_of(item.record)),
        Column("message", "text", "the body; what is no text as JSON", _message),
        Column("attrs", "json", "attributes", _attributes),
        Column("trace_id", "text", "of its span", lambda item: item.record.trace_id or None),
        Column("span_id", "text", "of its span", lambda item: item.record.span_id or None),
        Column("time_ns", "uint", "Unix nanoseconds", lambda item: _unsigned(_log_ns(item))),
        Column(
            "severity", "int", "OTLP's number, 1 to 24", lambda item: item.record.severity_number
        ),
        Column("event", "text", "the event's name", lambda item: item.record.event_name or None),
        *_ABOUT,
    ),
}
