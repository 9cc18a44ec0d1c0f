"""Walk through the records of a decoded line.

A decoded line is a tree of resources, scopes and records. Whoever chooses among its
records treats it as one flat sequence of ``Item`` in document order; a choice is then
a list of flags in that order, which ``otlp.lines`` can apply to the bytes as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterator

POINT_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


class Item:
    """One record with what it stands in.

    ``metric`` is None but for a data point; ``record`` is a Span, a LogRecord or a
    data point of store/otlp.py.
    """

    __slots__ = ("metric", "record", "resource", "scope", "signal")

    def __init__(
        self, signal: str, resource: otlp.Resource, scope: otlp.Scope, metric: Any, record: Any
    ) -> None:
        self.signal = signal
        self.resource = resource
        self.scope = scope
        self.metric: otlp.Metric | None = metric
        self.record = record

    @property
    def name(self) -> str:
        """The span's, the metric's or the event's name; "" for a plain log record."""
        if self.metric is not None:
            return self.metric.name
        return str(self.record.event_name if self.signal == "logs" else self.record.name)

    @property
    def start_ns(self) -> int:
        """When it began; for what has no length, its time."""
        if self.signal == "traces":
            return int(self.record.start_time_unix_nano)
        return self.end_ns

    @property
    def end_ns(self) -> int:
        """When it was over: the time by which records are put in order."""
        if self.signal == "traces":
            return int(self.record.end_time_unix_nano or self.record.start_time_unix_nano)
        if self.signal == "logs":
            return int(self.record.time_unix_nano or self.record.observed_time_unix_nano)
        return int(self.record.time_unix_nano)


def items(data: otlp.TracesData | otlp.MetricsData | otlp.LogsData) -> Iterator[Item]:
    """Yield the records of a decoded line in document order."""
    if isinstance(data, otlp.TracesData):
        for spans in data.resource_spans:
            for some in spans.scope_spans:
                for span in some.spans:
                    yield Item("traces", spans.resource, some.scope, None, span)
    elif isinstance(data, otlp.LogsData):
        for logs in data.resource_logs:
            for group in logs.scope_logs:
                for record in group.log_records:
                    yield Item("logs", logs.resource, group.scope, None, record)
    else:
        yield from _points(data)


def _points(data: otlp.MetricsData) -> Iterator[Item]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for kind in POINT_KINDS:
                    held = getattr(metric, kind)
                    for point in held.data_points if held is not None else ():
                        yield Item("metrics", resource.resource, scope.scope, metric, point)
