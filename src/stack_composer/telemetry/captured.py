"""Captured records as plain objects, made from the very lines that a bundle would hold.

Reading them back from the lines, rather than keeping the objects that were recorded,
means that a test sees what the guard left and what the encoder wrote: no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stack_composer.telemetry.query import records, select
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterable

STATUSES = ("unset", "ok", "error")
KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class CapturedEvent:
    """Something that happened in a span, such as an exception."""

    name: str
    time_ns: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class CapturedLink:
    """A pointer to another span."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass(frozen=True)
class CapturedSpan:
    """One finished span.

    Attributes:
        parent_id: The parent's ``span_id``; None for a root.
        start_ns: Unix nanoseconds.
        end_ns: Unix nanoseconds.
        status: "unset", "ok" or "error".
        kind: "internal", "server", "client", "producer" or "consumer".
        scope: The library that recorded; "" for our own calls.
    """

    name: str
    attributes: dict[str, Any]
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    kind: str
    events: list[CapturedEvent]
    links: list[CapturedLink]
    scope: str

    @property
    def duration_ns(self) -> int:
        """How long the span lasted."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True)
class CapturedMetric:
    """One data point.

    Attributes:
        value: The number; of a histogram the mean of what was recorded.
        kind: "gauge", "sum" or "exponential_histogram".
        count: Recorded values of a histogram; 1 for other kinds.
    """

    name: str
    value: float | None
    attributes: dict[str, Any]
    kind: str
    count: int
    unit: str
    time_ns: int
    scope: str


@dataclass(frozen=True)
class CapturedLog:
    """One log record; ``trace_id`` and ``span_id`` are None outside of any span."""

    name: str
    """The message, under the name that ``find`` looks for."""
    level: str
    attributes: dict[str, Any]
    trace_id: str | None
    span_id: str | None
    time_ns: int
    scope: str

    @property
    def message(self) -> str:
        """The message."""
        return self.name


_Record = TypeVar("_Record", CapturedSpan, CapturedMetric, CapturedLog)


class Records(list[_Record], Generic[_Record]):
    """A list, in the order in which the records were written, that can be asked by name."""

    def named(self, name: str) -> list[_Record]:
        """Give all records of this name (log records: of this message)."""
        return [record for record in self if record.name == name]

    def find(self, name: str) -> _Record:
        """Give the one record of this name (log record: of this message).

        Raises:
            LookupError: There is none, or there are several; the text says what
                there is.
        """
        found = self.named(name)
        if len(found) == 1:
            return found[0]
        if found:
            raise LookupError(f"{len(found)} records are named {name!r}; named() gives them all")
        names = ", ".join(sorted({repr(record.name) for record in self})) or "nothing"
        raise LookupError(f"no record is named {name!r}; there is: {names}")


def spans_of(lines: Iterable[bytes]) -> Records[CapturedSpan]:
    """Read lines of traces."""
    return Records(_span(item) for item in _items("traces", lines))


def metrics_of(lines: Iterable[bytes]) -> Records[CapturedMetric]:
    """Read lines of metrics."""
    return Records(_metric(item) for item in _items("metrics", lines))


def logs_of(lines: Iterable[bytes]) -> Records[CapturedLog]:
    """Read lines of logs."""
    return Records(_log(item) for item in _items("logs", lines))


def _items(signal: str, lines: Iterable[bytes]) -> list[select.Item]:
    return [item for line in lines for item in select.items(otlp.decode_line(signal, line))]


def _span(item: select.Item) -> CapturedSpan:
    span = item.record
    return CapturedSpan(
        name=span.name,
        attributes=records.plain_attributes(span.attributes),
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id or None,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=STATUSES[span.status.code],
        status_message=span.status.message,
        kind=KINDS[span.kind],
        events=[
            CapturedEvent(e.name, e.time_unix_nano, records.plain_attributes(e.attributes))
            for e in span.events
        ],
        links=[
            CapturedLink(k.trace_id, k.span_id, records.plain_attributes(k.attributes))
            for k in span.links
        ],
        scope=item.scope.name,
    )


def _metric(item: select.Item) -> CapturedMetric:
    point, metric = item.record, item.metric or otlp.Metric()
    return CapturedMetric(
        name=metric.name,
        value=records.point_value(point),
        attributes=records.plain_attributes(point.attributes),
        kind=next((k for k in select.POINT_KINDS if getattr(metric, k) is not None), ""),
        count=getattr(point, "count", 1),
        unit=metric.unit,
        time_ns=point.time_unix_nano,
        scope=item.scope.name,
    )


def _log(item: select.Item) -> CapturedLog:
    record = item.record
    return CapturedLog(
        name=str(otlp.value_of(record.body)),
        level=records.level_of(record),
        attributes=records.plain_attributes(record.attributes),
        trace_id=record.trace_id or None,
        span_id=record.span_id or None,
        time_ns=record.time_unix_nano,
        scope=item.scope.name,
    )
