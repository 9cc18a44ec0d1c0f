"""Which records a question is about, and walking through OTLP lines to find them.

A decoded line is a tree of resources, scopes and records. Everything here treats it
as one flat sequence of ``Item`` in document order; a choice among records is then a
list of flags in that order, which ``otlp_lines`` can apply to the bytes as well.

A span is in a window if it overlaps it; a log record or a data point if its time
lies within. A record that tells no time is in every window: nothing says otherwise.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.errors import QueryError
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE_ID_CHARS = 32
_HEX = re.compile(r"[0-9a-f]{1,32}")

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


class Selection:
    """What is asked for; None means any.

    Attributes:
        since_ns: Unix nanoseconds, 0 for no limit.
        until_ns: The first moment that is too late, 0 for no limit.
        signals: Of "traces", "metrics", "logs".
        trace: The beginning of a trace id, in lower case.
    """

    __slots__ = ("_name", "signals", "since_ns", "trace", "until_ns")

    def __init__(
        self,
        *,
        since_ns: int = 0,
        until_ns: int = 0,
        signals: frozenset[str] | None = None,
        name: str | None = None,
        trace: str | None = None,
    ) -> None:
        """Check and keep the question.

        Args:
            since_ns: See the attribute.
            until_ns: See the attribute.
            signals: See the attribute.
            name: A pattern with ``*``, ``?`` and ``[...]``, case-sensitive, for the
                names of spans, metrics and events; a plain log record has none.
            trace: A trace id or its beginning; data points belong to no trace.

        Raises:
            QueryError: ``trace`` is not hexadecimal.
        """
        if trace is not None and not _HEX.fullmatch(trace.lower()):
            raise QueryError(
                "--trace is not a trace id",
                hint=f"give up to {TRACE_ID_CHARS} hexadecimal digits, from the beginning",
            )
        self.since_ns = since_ns
        self.until_ns = until_ns
        self.signals = signals
        self._name = None if name is None else re.compile(fnmatch.translate(name))
        self.trace = None if trace is None else trace.lower()

    def wants(self, signal: str) -> bool:
        """Whether any record of this signal can match."""
        if signal == "metrics" and self.trace is not None:
            return False
        return self.signals is None or signal in self.signals

    @property
    def is_everything(self) -> bool:
        """Whether each record of a wanted signal matches, so none need be looked at."""
        return not (self.since_ns or self.until_ns or self._name or self.trace)

    def takes(self, item: Item) -> bool:
        """Whether this record is asked for."""
        if not self.wants(item.signal) or not self._in_window(item):
            return False
        if self._name is not None and not (item.name and self._name.match(item.name)):
            return False
        return self.trace is None or item.record.trace_id.startswith(self.trace)

    def _in_window(self, item: Item) -> bool:
        end_ns = item.end_ns
        if not end_ns:
            return True
        if end_ns < self.since_ns:
            return False
        return not self.until_ns or item.start_ns < self.until_ns


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
