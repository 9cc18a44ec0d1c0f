"""Count what a line holds into a sketch, as its writer would have.

Apart from ``sketch`` because decoding needs msgspec, which a program that only
writes thirty spans shall not import.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.store import otlp
from stack_composer.telemetry.store.sketch import Histogram, Sketch, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack_composer.telemetry.store.sketch import Labels

_ERROR = 2  # STATUS_CODE_ERROR
_CUMULATIVE = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
_NO_VALUE = 1  # DataPointFlags: the point says that there is no value


def add_line(
    sketch: Sketch, signal: str | None, line: bytes, counts: otlp.Counts | None = None
) -> None:
    """Count a line; None as ``signal`` means whatever it holds.

    Raises:
        LineRefusedError: It is not OTLP JSON; nothing is counted then.
    """
    signal = otlp.signal_of(line, counts) if signal is None else signal
    if signal == "traces":
        add_traces(sketch, otlp.decode_traces_lite(line, counts))
    elif signal == "metrics":
        # Apart, since the labels of a late point may prove to be no OTLP.
        found = Sketch()
        add_metrics(found, otlp.decode_metrics(line, counts))
        sketch.merge(found)
    else:
        add_logs(sketch, otlp.decode_logs(line, counts))


def add_traces(
    sketch: Sketch,
    data: otlp.TracesLite | otlp.TracesData,
    *,
    since_ns: int = 0,
    until_ns: int = 0,
) -> None:
    """Count spans that end at ``since_ns`` or later and start before ``until_ns``.

    0 means no limit.
    """
    for resource in data.resource_spans:
        for scope in resource.scope_spans:
            spans: list[Any] = list(scope.spans)
            if since_ns or until_ns:
                spans = [
                    span
                    for span in spans
                    if span.end_time_unix_nano >= since_ns
                    and (not until_ns or span.start_time_unix_nano < until_ns)
                ]
            _add_spans(sketch, spans)


def _add_spans(sketch: Sketch, spans: list[Any]) -> None:
    durations: dict[str, list[int]] = {}
    errors: dict[str, int] = {}
    first_ns, last_ns = 0, 0
    for span in spans:
        start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
        name = span.name
        if name in durations:
            durations[name].append(end_ns - start_ns)
        else:
            durations[name] = [end_ns - start_ns]
        if span.status is not None and span.status.code == _ERROR:
            errors[name] = errors.get(name, 0) + 1
        if start_ns < first_ns or not first_ns:
            first_ns = start_ns or first_ns
        if end_ns > last_ns:
            last_ns = end_ns
        elif not end_ns:  # A span that tells no end is over when it began.
            last_ns = max(last_ns, start_ns)
    for name, found in durations.items():
        sketch.add_spans(name, found, errors.get(name, 0))
    sketch.saw(first_ns, last_ns, len(spans))


def add_logs(sketch: Sketch, data: otlp.LogsData, *, since_ns: int = 0, until_ns: int = 0) -> None:
    """Count log records of ``since_ns`` or later and before ``until_ns``; 0: no limit."""
    for resource in data.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                time_ns = record.time_unix_nano or record.observed_time_unix_nano
                if _within(time_ns, since_ns, until_ns):
                    sketch.add_logs(record.severity_number)
                    sketch.saw(time_ns, time_ns, 1)


def add_metrics(
    sketch: Sketch, data: otlp.MetricsData, *, since_ns: int = 0, until_ns: int = 0
) -> None:
    """Count data points of ``since_ns`` or later and before ``until_ns``; 0: no limit."""
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point, add in _points(sketch, metric):
                    if _within(point.time_unix_nano, since_ns, until_ns):
                        sketch.saw(point.time_unix_nano, point.time_unix_nano, 1)
                        if not point.flags & _NO_VALUE:
                            add(metric, point, _labels(point))


def _within(time_ns: int, since_ns: int, until_ns: int) -> bool:
    return time_ns >= since_ns and (not until_ns or time_ns < until_ns)


def _labels(point: Any) -> Labels:
    return labels_of(otlp.attributes_of(point.attributes))


def _points(sketch: Sketch, metric: otlp.Metric) -> Iterator[tuple[Any, Any]]:
    adders = _Adders(sketch)
    if metric.gauge is not None:
        yield from ((point, adders.gauge) for point in metric.gauge.data_points)
    if metric.sum is not None:
        add = adders.cumulative if _is_cumulative(metric.sum) else adders.delta
        yield from ((point, add) for point in metric.sum.data_points)
    if metric.histogram is not None:
        yield from ((point, adders.histogram) for point in metric.histogram.data_points)
    if metric.exponential_histogram is not None:
        yield from (
            (point, adders.exponential) for point in metric.exponential_histogram.data_points
        )
    if metric.summary is not None:
        yield from ((point, adders.summary) for point in metric.summary.data_points)


def _is_cumulative(aggregated: Any) -> bool:
    return bool(aggregated.aggregation_temporality == _CUMULATIVE)


class _Adders:
    """One method a kind of point, all with the same arguments."""

    def __init__(self, sketch: Sketch) -> None:
        self._sketch = sketch

    def gauge(self, metric: otlp.Metric, point: otlp.NumberDataPoint, labels: Labels) -> None:
        value = otlp.number_of(point)
        if value is not None:
            self._sketch.add_gauge(
                metric.name, labels, [value], point.time_unix_nano, unit=metric.unit
            )

    def delta(self, metric: otlp.Metric, point: otlp.NumberDataPoint, labels: Labels) -> None:
        value = otlp.number_of(point)
        if value is not None:
            self._sketch.add_sum(metric.name, labels, value, point.time_unix_nano, unit=metric.unit)

    def cumulative(self, metric: otlp.Metric, point: otlp.NumberDataPoint, labels: Labels) -> None:
        value = otlp.number_of(point)
        if value is not None:
            self._sketch.add_cumulative_sum(
                metric.name,
                labels,
                value,
                point.time_unix_nano,
                start_ns=point.start_time_unix_nano,
                unit=metric.unit,
            )

    def histogram(
        self, metric: otlp.Metric, point: otlp.HistogramDataPoint, labels: Labels
    ) -> None:
        made = _distribution(point, point.sum, point.min, point.max)
        made.add_explicit(
            point.explicit_bounds,
            point.bucket_counts,
            count=point.count,
            total=math.nan if point.sum is None else point.sum,
            minimum=math.nan if point.min is None else point.min,
            maximum=math.nan if point.max is None else point.max,
        )
        self._add(metric, point, labels, made, metric.histogram)

    def exponential(
        self, metric: otlp.Metric, point: otlp.ExponentialHistogramDataPoint, labels: Labels
    ) -> None:
        made = _distribution(point, point.sum, point.min, point.max)
        made.zeros = point.zero_count
        made.add_exponential(
            _by_index(point.positive), _by_index(point.negative), scale=point.scale
        )
        self._add(metric, point, labels, made, metric.exponential_histogram)

    def summary(self, metric: otlp.Metric, point: otlp.SummaryDataPoint, labels: Labels) -> None:
        made = _distribution(point, point.sum, None, None)
        self._add(metric, point, labels, made, None)

    def _add(
        self, metric: otlp.Metric, point: Any, labels: Labels, made: Histogram, of: Any
    ) -> None:
        # A summary has no temporality; it is cumulative by its definition.
        cumulative = of is None or _is_cumulative(of)
        self._sketch.add_histogram(
            metric.name,
            labels,
            made,
            point.time_unix_nano,
            cumulative_start_ns=point.start_time_unix_nano if cumulative else None,
            unit=metric.unit,
        )


def _distribution(
    point: Any, total: float | None, minimum: float | None, maximum: float | None
) -> Histogram:
    made = Histogram()
    made.count = point.count
    made.set_bounds(total, minimum, maximum)
    return made


def _by_index(buckets: otlp.Buckets) -> dict[int, int]:
    return {
        buckets.offset + place: count for place, count in enumerate(buckets.bucket_counts) if count
    }
