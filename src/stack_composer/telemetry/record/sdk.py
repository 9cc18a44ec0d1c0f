"""Exporters for programs that already run opentelemetry-sdk.

They hand on what the SDK has recorded, with the ids it gave, to the same buffers as
everything native: it passes the guard and is stored with it. An export is an append,
so put the spans' and logs' exporters into the SDK's *simple* processors: the batch ones
would only add a second queue, which drops what does not fit.

The SDK's ``Resource`` and ours may differ, and a line has one. The first Resource that
is exported becomes part of ours, less what only one of the two can say. What another
one says differently is written as attributes of its records' instrumentation scope.

Importing this module imports opentelemetry-sdk; nothing else does.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics import export as metric_export
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from stack_composer.telemetry.model import (
    Event,
    HistogramPoint,
    Link,
    Metric,
    NumberPoint,
    Scope,
    SpanDetails,
)
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.aggregate import BUCKETS_MAX, SCALE_MAX, bucket_index
from stack_composer.telemetry.record.otel.context import join
from stack_composer.telemetry.record.otel.durable import Durable
from stack_composer.telemetry.record.otel.logs import converted as converted_log
from stack_composer.telemetry.record.otel.logs import span_of
from stack_composer.telemetry.record.otel.scope import scope_of
from stack_composer.telemetry.record.otel.trace import class_of
from stack_composer.telemetry.record.span import Span, make, remote_parent
from stack_composer.telemetry.values import copy_attributes, plain_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

# Called LogExporter in the SDK before 1.39.
_LogBase: Any = getattr(log_export, "LogRecordExporter", None) or log_export.LogExporter
_LogResult: Any = getattr(log_export, "LogRecordExportResult", None) or log_export.LogExportResult

_OURS_TO_SAY = frozenset({"process.pid", "telemetry.sdk.name", "telemetry.sdk.language"})
_SDK_VERSION = "telemetry.sdk.version"
_UNKNOWN_SERVICE = "unknown_service"
_SPAN_CLASSES_MAX = 1_000
_LAST_FLUSH_MS = 5_000


class _Exporter(Durable):
    """What the three have in common: nothing raises, and ``force_flush`` is true."""

    def __init__(self) -> None:
        join()
        recorder.begin()
        _drain_at_exit()


class TelemetrySpanExporter(_Exporter, SpanExporter):
    """Takes the SDK's spans; for ``SimpleSpanProcessor``."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append ``spans``; one that cannot be read is dropped and counted."""
        for span in spans:
            _take("traces", recorder.spans, _span, span)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Have nothing to close: what was taken is written by the writer's thread."""


class TelemetryLogExporter(_Exporter, _LogBase):  # type: ignore[misc]  # Any: see above
    """Takes the SDK's log records; for ``SimpleLogRecordProcessor``."""

    def export(self, batch: Sequence[Any]) -> Any:
        """Append log records; one that cannot be read is dropped and counted."""
        for data in batch:
            _take("logs", recorder.logs, _log, data)
        return _LogResult.SUCCESS

    def shutdown(self) -> None:
        """Have nothing to close: what was taken is written by the writer's thread."""


class TelemetryMetricExporter(_Exporter, metric_export.MetricExporter):
    """Takes the SDK's metrics; for ``PeriodicExportingMetricReader``.

    Asks the SDK for the temporality that is configured here, and for exponential
    histograms. Where a view insists on buckets with bounds of its own, each bucket's
    count goes to the middle of the bucket; count, sum, minimum and maximum stay exact.
    """

    def __init__(self) -> None:
        _Exporter.__init__(self)
        metric_export.MetricExporter.__init__(
            self,
            preferred_temporality=_temporality(),
            preferred_aggregation={
                Histogram: ExponentialBucketHistogramAggregation(
                    max_size=BUCKETS_MAX, max_scale=SCALE_MAX
                )
            },
        )

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002
        **_: Any,
    ) -> metric_export.MetricExportResult:
        """Append metrics; one that cannot be read is dropped and counted.

        Takes no time, so ``timeout_millis`` is kept whatever it is.
        """
        for of_resource in metrics_data.resource_metrics:
            for of_scope in of_resource.scope_metrics:
                for metric in of_scope.metrics:
                    given = metric, of_scope.scope, of_resource.resource
                    _take("metrics", recorder.measurements, _measured, *given)
        return metric_export.MetricExportResult.SUCCESS

    def shutdown(
        self,
        timeout_millis: float = 30_000,
        **_: Any,
    ) -> None:
        """Have nothing to close: what was taken is written by the writer's thread."""


def _take(signal: str, buffer: list[Any], convert: Callable[..., Any], *given: Any) -> None:
    if not recorder.recording:
        return
    try:
        record = convert(*given)
    except Exception:
        recorder.drop(signal, "unreadable")
        return
    if len(buffer) < recorder.wake_at:
        buffer.append(record)
    else:
        recorder.crowded(signal, buffer, record)


# -- spans -----------------------------------------------------------------------------

_span_classes: dict[Scope, type[Span]] = {}


def _span(given: ReadableSpan) -> Span:
    scope = _scope(given.instrumentation_scope, given.resource)
    sort = _span_classes.get(scope)
    if sort is None:
        sort = class_of(Span, scope)
        if len(_span_classes) < _SPAN_CLASSES_MAX:
            _span_classes[scope] = sort
    context: Any = given.get_span_context()
    span: Span = make(sort, plain_key(given.name), copy_attributes(given.attributes or {}) or None)
    span.trace_id = f"{context.trace_id:032x}"
    span.span_id = f"{context.span_id:016x}"
    span.parent = remote_parent(given.parent) if given.parent is not None else None
    span.details = _details(given)
    span.details.trace_state = context.trace_state.to_header() if context.trace_state else ""
    span.start_ns = given.start_time or given.end_time or 0
    span.end_ns = given.end_time or span.start_ns
    return span


def _details(given: ReadableSpan) -> SpanDetails:
    details = SpanDetails()
    details.kind = given.kind.value + 1
    details.status_code = given.status.status_code.value
    details.status_message = given.status.description or ""
    details.events = [
        Event(plain_key(e.name), e.timestamp, *_attributes_of(e)) for e in given.events
    ]
    details.links = [Link(remote_parent(k.context), *_attributes_of(k)) for k in given.links]
    details.dropped_attributes = given.dropped_attributes
    details.dropped_events = given.dropped_events
    details.dropped_links = given.dropped_links
    return details


def _attributes_of(holder: Any) -> tuple[dict[str, Any] | None, int]:
    attributes = holder.attributes
    if not attributes:
        return None, 0
    return copy_attributes(attributes), getattr(attributes, "dropped", 0)


# -- logs and metrics ------------------------------------------------------------------


def _log(data: Any) -> Any:
    given = data.log_record
    resource = getattr(data, "resource", None) or getattr(given, "resource", None)
    record = converted_log(given, span_of(given), _scope(data.instrumentation_scope, resource))
    record.dropped_attributes = getattr(given.attributes, "dropped", 0)
    return record


def _measured(metric: Any, scope: Any, resource: Resource | None) -> tuple[Any, ...]:
    return _metric(metric, _scope(scope, resource)), 0, None, 0


def _metric(given: Any, scope: Scope) -> Metric:
    data = given.data
    temporality = int(getattr(data, "aggregation_temporality", 1))
    points: list[NumberPoint | HistogramPoint]
    if isinstance(data, metric_export.ExponentialHistogram):
        kind, points = "exponentialHistogram", [_exponential(p) for p in data.data_points]
    elif isinstance(data, metric_export.Histogram):
        kind, points = "exponentialHistogram", [_from_buckets(p) for p in data.data_points]
    else:
        kind = "sum" if isinstance(data, metric_export.Sum) else "gauge"
        points = [_number(p) for p in data.data_points]
    if not points:
        raise ValueError("a metric without a point says nothing")
    return Metric(
        plain_key(given.name),
        kind,
        points,
        scope,
        unit=given.unit or "",
        description=given.description or "",
        temporality=temporality,
        monotonic=bool(getattr(data, "is_monotonic", False)),
    )


def _number(given: Any) -> NumberPoint:
    attributes, _ = _attributes_of(given)
    return NumberPoint(
        attributes, given.start_time_unix_nano or 0, given.time_unix_nano, given.value
    )


def _histogram(given: Any, scale: int) -> HistogramPoint:
    attributes, _ = _attributes_of(given)
    point = HistogramPoint(attributes, given.start_time_unix_nano or 0, given.time_unix_nano, scale)
    point.count = given.count
    point.total = float(given.sum)
    point.minimum = float(given.min)
    point.maximum = float(given.max)
    return point


def _exponential(given: Any) -> HistogramPoint:
    point = _histogram(given, given.scale)
    point.zero_count = given.zero_count
    point.positive = _counts(given.positive)
    point.negative = _counts(given.negative)
    return point


def _counts(buckets: Any) -> dict[int, int]:
    first: int = buckets.offset
    return {first + at: count for at, count in enumerate(buckets.bucket_counts) if count}


def _from_buckets(given: Any) -> HistogramPoint:
    point = _histogram(given, SCALE_MAX)
    bounds = [float(bound) for bound in given.explicit_bounds]
    lows, highs = [point.minimum, *bounds], [*bounds, point.maximum]
    for low, high, count in zip(lows, highs, given.bucket_counts, strict=True):
        if not count:
            continue
        middle = (max(low, point.minimum) + min(high, point.maximum)) / 2
        if middle == 0:
            point.zero_count += count
            continue
        side = point.positive if middle > 0 else point.negative
        index = bucket_index(abs(middle))
        side[index] = side.get(index, 0) + count
    return point


def _temporality() -> dict[type, Any]:
    """Give what is configured here in the SDK's words; it names instruments one by one."""
    delta = metric_export.AggregationTemporality.DELTA
    cumulative = metric_export.AggregationTemporality.CUMULATIVE
    sums = cumulative if recorder.temporality == "cumulative" else delta
    reported = delta if recorder.temporality == "delta" else cumulative
    return {
        Counter: sums,
        Histogram: sums,
        ObservableCounter: reported,
        UpDownCounter: cumulative,
        ObservableUpDownCounter: cumulative,
    }


# -- scope and resource ------------------------------------------------------------------


def _scope(given: Any, resource: Resource | None) -> Scope:
    """Give our scope for the SDK's, with what the resource says and ours does not."""
    more = _differences(resource.attributes) if resource is not None else {}
    if given is None:
        return scope_of("", attributes=more)
    attributes = {**more, **(given.attributes or {})}
    return scope_of(given.name, given.version, given.schema_url, attributes)


def _differences(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Find what a resource says otherwise than what is written; the first one is taken over."""
    told = {key: value for key, value in attributes.items() if _is_worth_saying(key, value)}
    if recorder.written_resource is None:
        if not recorder.resource:
            recorder.resource = copy_attributes(told)
        written = recorder.resource
    else:
        written = recorder.written_resource
    return {key: value for key, value in copy_attributes(told).items() if written.get(key) != value}


def _is_worth_saying(key: str, value: object) -> bool:
    if key in _OURS_TO_SAY or key == _SDK_VERSION:
        return False
    # The SDK's word for "nobody told me"; we may know better.
    return not (key == "service.name" and str(value).startswith(_UNKNOWN_SERVICE))


# -- the program's end -------------------------------------------------------------------

_drains = False


def _drain_at_exit() -> None:
    """Have the SDK's batch processors hand over what they hold, before ours ends.

    Handlers run in the opposite order of their registration, so the SDK's own, from
    when its provider was made, comes too late.
    """
    global _drains
    if not _drains:
        _drains = True
        atexit.register(_drain)


def _drain() -> None:
    for provider in _global_providers():
        flush = getattr(provider, "force_flush", None)
        try:
            if flush is not None:
                flush(_LAST_FLUSH_MS)
        except Exception:
            recorder.fault("sdk_flush")


def _global_providers() -> Iterable[Any]:
    from opentelemetry import _logs, metrics, trace

    yield trace.get_tracer_provider()
    yield metrics.get_meter_provider()
    yield _logs.get_logger_provider()
