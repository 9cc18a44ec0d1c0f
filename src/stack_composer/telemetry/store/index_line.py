"""Note what a line holds for the index, as its writer would have.

Apart from ``index`` because decoding needs msgspec, and only who adopts a dead
process's bundle decodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        for spans in data.resource_spans:
            for some in spans.scope_spans:
                for span in some.spans:
                    start_ns = span.start_time_unix_nano
                    yield start_ns, span.end_time_unix_nano or start_ns, span.trace_id
    elif isinstance(data, otlp.LogsData):
        for logs in data.resource_logs:
            for group in logs.scope_logs:
                for record in group.log_records:
                    time_ns = record.time_unix_nano or record.observed_time_unix_nano
                    yield time_ns, time_ns, record.trace_id
    else:
        for metrics in data.resource_metrics:
            for many in metrics.scope_metrics:
                for metric in many.metrics:
                    for held in (
                        metric.gauge,
                        metric.sum,
                        metric.histogram,
                        metric.exponential_histogram,
                        metric.summary,
                    ):
                        for point in held.data_points if held is not None else ():
                            yield point.time_unix_nano, point.time_unix_nano, ""
