"""Note what a line holds for the index, as its writer would have.

Apart from ``index`` because decoding needs msgspec, and only who adopts a dead
process's bundle decodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack_composer.telemetry.store.marks import Marks


def mark_line(marks: Marks, signal: str, line: bytes) -> None:
    """Note a line, without its newline, behind those before it.

    One that is no OTLP is noted as holding nothing: no question ever gets an answer
    from it.
    """
    first_ns, last_ns = 2**64, 1
    traces = set()
    try:
        data = otlp.decode_line(signal, line)
    except LineRefusedError:
        records: Iterator[tuple[int, int, str]] = iter(())
    else:
        records = _records(data)
    for start_ns, end_ns, trace in records:
        # A record that tells no time makes the least of them 0, and so all of it.
        first_ns = min(first_ns, start_ns, end_ns)
        last_ns = max(last_ns, end_ns)
        traces.add(trace)
    marks.add(len(line) + 1, first_ns, last_ns, traces)


def _records(
    data: otlp.TracesData | otlp.MetricsData | otlp.LogsData,
) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and trace of each record."""
    if isinstance(data, otlp.TracesData):
        for span in _spans(data):
            start_ns = span.start_time_unix_nano
            yield start_ns, span.end_time_unix_nano or start_ns, span.trace_id
    elif isinstance(data, otlp.LogsData):
        for record in _logs(data):
            time_ns = record.time_unix_nano or record.observed_time_unix_nano
            yield time_ns, time_ns, record.trace_id
    else:
        for point in _points(data):
            yield point.time_unix_nano, point.time_unix_nano, ""


def _spans(data: otlp.TracesData) -> Iterator[otlp.Span]:
    for resource in data.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def _logs(data: otlp.LogsData) -> Iterator[otlp.LogRecord]:
    for resource in data.resource_logs:
        for scope in resource.scope_logs:
            yield from scope.log_records


def _points(data: otlp.MetricsData) -> Iterator[Any]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
                    held = getattr(metric, kind)
                    yield from held.data_points if held is not None else ()
