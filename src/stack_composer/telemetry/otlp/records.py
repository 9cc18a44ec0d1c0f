"""Turn decoded OTLP into the records that the encoder takes.

Everything that came from elsewhere goes this way, whatever it was written in, so that
there is one door: ``store.encode`` with its guard. A ``Batch`` is what one program and
one library said; records keep the ids they came with.

What a record of ours cannot hold is left out and counted (``ODDITIES``); numbers beyond
what their field can hold count as absent.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry.model import (
    BucketPoint,
    Event,
    HistogramPoint,
    Link,
    LogRecord,
    Metric,
    NumberPoint,
    RemoteParent,
    Resource,
    Scope,
    SpanDetails,
    SpanRecord,
    SummaryPoint,
)
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from stack_composer.telemetry.model import Point

ODDITIES: Final = {
    "exemplar": "an example of a measurement, which is not kept",
    "out_of_range": "a number beyond its field; it counts as absent",
    "no_points": "a metric without a point that is known",
    "bad_buckets": "a histogram whose counts and bounds do not match; its buckets are left out",
}
"""What may be counted here, in words for users."""

REMOTE: Final = 0x200
"""The bit of a span's flags that says: the parent is another process's."""
_U64_MAX: Final = (1 << 64) - 1
_U32_MAX: Final = (1 << 32) - 1
_I32_MAX: Final = (1 << 31) - 1
_SEVERITY_MAX: Final = 24
_SHARED_MAX: Final = 4_096


class ReceivedSpan(SpanRecord):
    """A span with a scope of its own, rather than its class's: it came from elsewhere."""

    __slots__ = ("scope",)

    scope: Scope


class Batch(NamedTuple):
    """What one library of one program recorded.

    Attributes:
        signal: "traces", "metrics" or "logs".
        resource: The program. The same object for equal ones, as is ``scope``.
        scope: The library.
        records: ``ReceivedSpan``, ``Metric`` or ``LogRecord``; never empty.
    """

    signal: str
    resource: Resource
    scope: Scope
    records: list[Any]


class Shared:
    """Resources and scopes met so far, so that equal ones are one object.

    The encoder remembers what it wrote for an object. Bounded: beyond so many, all are
    forgotten and learnt anew.
    """

    def __init__(self) -> None:
        self._resources: dict[Any, Resource] = {}
        self._scopes: dict[Any, Scope] = {}

    def resource(self, given: otlp.Resource, schema_url: str) -> Resource:
        """Give the record of a resource."""
        attributes = otlp.attributes_of(given.attributes)
        key = repr(attributes), schema_url
        known = self._resources.get(key)
        if known is None:
            if len(self._resources) >= _SHARED_MAX:
                self._resources.clear()
            known = self._resources[key] = Resource(attributes, schema_url)
        return known

    def scope(self, given: otlp.Scope, schema_url: str) -> Scope:
        """Give the record of a scope."""
        attributes = otlp.attributes_of(given.attributes) if given.attributes else None
        key = given.name, given.version, repr(attributes), schema_url
        known = self._scopes.get(key)
        if known is None:
            if len(self._scopes) >= _SHARED_MAX:
                self._scopes.clear()
            known = Scope(given.name, given.version, attributes, schema_url)
            self._scopes[key] = known
        return known


def batches_of(
    data: otlp.TracesData | otlp.MetricsData | otlp.LogsData,
    shared: Shared,
    counts: otlp.Counts,
) -> Iterator[Batch]:
    """Turn what was decoded into batches of records.

    Raises:
        LineRefusedError: A value is nested too deeply, or its bytes are not base64.
    """
    if isinstance(data, otlp.TracesData):
        yield from _spans(data, shared, counts)
    elif isinstance(data, otlp.LogsData):
        yield from _logs(data, shared, counts)
    else:
        yield from _metrics(data, shared, counts)


def _spans(data: otlp.TracesData, shared: Shared, counts: otlp.Counts) -> Iterator[Batch]:
    for held in data.resource_spans:
        resource = shared.resource(held.resource, held.schema_url)
        for some in held.scope_spans:
            scope = shared.scope(some.scope, some.schema_url)
            spans = [span_of(span, scope, counts) for span in some.spans]
            if spans:
                yield Batch("traces", resource, scope, spans)


def span_of(given: otlp.Span, scope: Scope, counts: otlp.Counts) -> ReceivedSpan:
    """Turn one span into a record."""
    span = ReceivedSpan()
    span.scope = scope
    span.name = given.name
    span.attributes = otlp.attributes_of(given.attributes) or None
    span.start_ns = _within(given.start_time_unix_nano, counts)
    span.end_ns = _within(given.end_time_unix_nano, counts)
    span.trace_id = given.trace_id
    span.span_id = given.span_id
    span.parent = (
        RemoteParent(
            given.trace_id, given.parent_span_id, 1, "", is_remote=bool(given.flags & REMOTE)
        )
        if given.parent_span_id
        else None
    )
    span.details = _details(given, counts)
    return span


def _details(given: otlp.Span, counts: otlp.Counts) -> SpanDetails:
    details = SpanDetails()
    details.flags = _within(given.flags, counts, _U32_MAX)
    details.kind = _within(given.kind, counts, _I32_MAX)
    details.status_code = _within(given.status.code, counts, _I32_MAX)
    details.status_message = given.status.message
    details.trace_state = given.trace_state
    details.events = [
        Event(
            event.name,
            _within(event.time_unix_nano, counts),
            otlp.attributes_of(event.attributes) or None,
            _within(event.dropped_attributes_count, counts, _I32_MAX),
        )
        for event in given.events
    ]
    details.links = [_link(link, counts) for link in given.links]
    details.dropped_attributes = _within(given.dropped_attributes_count, counts, _I32_MAX)
    details.dropped_events = _within(given.dropped_events_count, counts, _I32_MAX)
    details.dropped_links = _within(given.dropped_links_count, counts, _I32_MAX)
    return details


def _link(given: otlp.Link, counts: otlp.Counts) -> Link:
    flags = _within(given.flags, counts, _U32_MAX)
    link = Link(
        RemoteParent(
            given.trace_id,
            given.span_id,
            flags & 0xFF,
            given.trace_state,
            is_remote=bool(flags & REMOTE),
        ),
        otlp.attributes_of(given.attributes) or None,
        _within(given.dropped_attributes_count, counts, _I32_MAX),
    )
    link.flags = flags
    return link


def _logs(data: otlp.LogsData, shared: Shared, counts: otlp.Counts) -> Iterator[Batch]:
    for held in data.resource_logs:
        resource = shared.resource(held.resource, held.schema_url)
        for some in held.scope_logs:
            scope = shared.scope(some.scope, some.schema_url)
            records = [_log(record, scope, counts) for record in some.log_records]
            if records:
                yield Batch("logs", resource, scope, records)


def _log(given: otlp.LogRecord, scope: Scope, counts: otlp.Counts) -> LogRecord:
    span = None
    flags = _within(given.flags, counts, _U32_MAX)
    if given.trace_id or given.span_id:
        span = RemoteParent(given.trace_id, given.span_id, flags & 0xFF, "", is_remote=False)
    record = LogRecord(
        _within(given.time_unix_nano, counts),
        _within(given.severity_number, counts, _SEVERITY_MAX),
        given.severity_text,
        otlp.value_of(given.body),
        otlp.attributes_of(given.attributes) or None,
        span,
        scope,
    )
    record.observed_ns = _within(given.observed_time_unix_nano, counts) or record.time_ns
    record.event_name = given.event_name
    record.flags = flags
    record.dropped_attributes = _within(given.dropped_attributes_count, counts, _I32_MAX)
    return record


def _metrics(data: otlp.MetricsData, shared: Shared, counts: otlp.Counts) -> Iterator[Batch]:
    for held in data.resource_metrics:
        resource = shared.resource(held.resource, held.schema_url)
        for some in held.scope_metrics:
            scope = shared.scope(some.scope, some.schema_url)
            found = [_metric(metric, scope, counts) for metric in some.metrics]
            metrics = [metric for metric in found if metric is not None]
            if metrics:
                yield Batch("metrics", resource, scope, metrics)


def _metric(given: otlp.Metric, scope: Scope, counts: otlp.Counts) -> Metric | None:
    held: Any
    points: list[Point]
    if given.gauge is not None:
        kind, held = "gauge", given.gauge
        points = [_number(point, counts) for point in held.data_points]
    elif given.sum is not None:
        kind, held = "sum", given.sum
        points = [_number(point, counts) for point in held.data_points]
    elif given.histogram is not None:
        kind, held = "histogram", given.histogram
        points = [_buckets(point, counts) for point in held.data_points]
    elif given.exponential_histogram is not None:
        kind, held = "exponentialHistogram", given.exponential_histogram
        points = [_exponential(point, counts) for point in held.data_points]
    else:
        kind, held = "summary", given.summary
        points = [_summary(point, counts) for point in held.data_points] if held else []
    if not points:
        counts["no_points"] += 1
        return None
    return Metric(
        given.name,
        kind,
        points,
        scope,
        unit=given.unit,
        description=given.description,
        temporality=_within(getattr(held, "aggregation_temporality", 0), counts, _I32_MAX),
        monotonic=bool(getattr(held, "is_monotonic", False)),
    )


def _times(given: Any, counts: otlp.Counts) -> tuple[Mapping[str, Any] | None, int, int]:
    counts["exemplar"] += len(getattr(given, "exemplars", ()))
    return (
        otlp.attributes_of(given.attributes) or None,
        _within(given.start_time_unix_nano, counts),
        _within(given.time_unix_nano, counts),
    )


def _number(given: otlp.NumberDataPoint, counts: otlp.Counts) -> NumberPoint:
    value = None if given.flags & 1 else otlp.number_of(given)
    return NumberPoint(*_times(given, counts), value)


def _buckets(given: otlp.HistogramDataPoint, counts: otlp.Counts) -> BucketPoint:
    point = BucketPoint(*_times(given, counts), _within(given.count, counts))
    point.total = _told(given.sum)
    point.minimum, point.maximum = _told(given.min), _told(given.max)
    held, bounds = given.bucket_counts, given.explicit_bounds
    if len(held) not in (0, len(bounds) + 1) or not all(map(math.isfinite, bounds)):
        counts["bad_buckets"] += 1
        return point
    point.counts = [_within(count, counts) for count in held]
    point.bounds = bounds if held else ()
    return point


def _exponential(given: otlp.ExponentialHistogramDataPoint, counts: otlp.Counts) -> HistogramPoint:
    scale = given.scale if -_I32_MAX <= given.scale <= _I32_MAX else 0
    point = HistogramPoint(*_times(given, counts), scale)
    point.count = _within(given.count, counts)
    point.total = _told(given.sum)
    point.minimum, point.maximum = _told(given.min), _told(given.max)
    point.zero_count = _within(given.zero_count, counts)
    point.zero_threshold = given.zero_threshold
    point.positive = _indexed(given.positive, counts)
    point.negative = _indexed(given.negative, counts)
    return point


def _indexed(given: otlp.Buckets, counts: otlp.Counts) -> dict[int, int]:
    if not -_I32_MAX <= given.offset <= _I32_MAX - len(given.bucket_counts):
        counts["bad_buckets"] += 1
        return {}
    return {
        given.offset + place: _within(count, counts)
        for place, count in enumerate(given.bucket_counts)
        if count
    }


def _summary(given: otlp.SummaryDataPoint, counts: otlp.Counts) -> SummaryPoint:
    point = SummaryPoint(*_times(given, counts), _within(given.count, counts))
    point.total = given.sum
    point.quantiles = [(held.quantile, held.value) for held in given.quantile_values]
    return point


def _told(value: float | None) -> float:
    return math.nan if value is None else value


def _within(value: int, counts: otlp.Counts, most: int = _U64_MAX) -> int:
    if 0 <= value <= most:
        return value
    counts["out_of_range"] += 1
    return 0


def count_of(batch: Batch) -> int:
    """How many spans, log records or data points a batch holds."""
    if batch.signal == "metrics":
        return sum(len(metric.points) for metric in batch.records)
    return len(batch.records)
