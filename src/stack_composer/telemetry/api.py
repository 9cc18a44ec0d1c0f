"""What an application calls. Nothing here raises, blocks or writes; ``flush`` does.

Each call makes a record and appends it to a buffer. The first one reads the
configuration and starts the writer's thread.
"""

from __future__ import annotations

import atexit
import sys
from gc import is_tracked
from time import time_ns

from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.span import FirstSpan, OffSpan, Span, make
from stack_composer.telemetry.values import copy_attributes, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from stack_composer.telemetry.record.instruments import Counter, Gauge, Histogram

_new = object.__new__


def span(name: str, attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Span:
    """Time a block of code, or each call of a function.

    As a context manager it is the current span inside its block, in this thread or
    task; an exception that leaves the block is recorded and goes on. As a decorator
    it works on functions, coroutine functions and generators of both kinds.

    Args:
        name: A name with few different values, such as ``planner.solve``; what
            varies belongs into attributes.
        attributes: A mapping, since dotted names are no keywords.
        **more: More attributes; they win over the mapping's.

    Cost: about a microsecond. Redaction happens later, before anything is written.
    """
    if attributes is not None:
        more = {**copy_attributes(attributes), **more}
    if recorder.span_class is not Span:
        if recorder.span_class is OffSpan:
            off = _new(OffSpan)
            off.name = name
            off.attributes = more
            return off
        # Not read yet, or with a sampler.
        return make(recorder.span_class or FirstSpan, name, more)
    # As in record.span.make, spelled out: a call costs a tenth of the whole.
    self = _new(Span)
    self.name = name
    self.attributes = more
    self.details = self.trace_id = self.span_id = None
    self.start_ns = self.end_ns = 0
    if is_tracked(more):
        settle(more)
    return self


def metric(
    name: str, value: float, labels: Mapping[str, Any] | None = None, /, **more: Any
) -> None:
    """Record one measurement, kept as it is: one point with its own time.

    For what is counted thousands of times a second take ``counter`` or ``histogram``,
    which add up before anything is written.
    """
    if not recorder.recording:
        return
    attributes = {**copy_attributes(labels), **more} if labels is not None else more
    if is_tracked(attributes):
        settle(attributes)
    buffer = recorder.measurements
    entry = (name, value, attributes, time_ns())
    if len(buffer) < recorder.wake_at:
        buffer.append(entry)
    else:
        recorder.crowded("metrics", buffer, entry)


def counter(
    name: str, labels: Mapping[str, Any] | None = None, *, unit: str = "", description: str = ""
) -> Counter:
    """Give the counter of this name and these labels: ``counter("hits").add(1)``.

    Keep it: calling ``add`` costs 0.05 µs, finding the counter a hundred times that.
    An amount below zero or not a number is refused and counted.
    """
    from stack_composer.telemetry.record import instruments

    recorder.begin()
    return instruments.bind(instruments.Counter, name, labels, unit, description)


def histogram(
    name: str, labels: Mapping[str, Any] | None = None, *, unit: str = "", description: str = ""
) -> Histogram:
    """Give the histogram of this name and these labels: ``histogram("wait").record(3)``.

    Buckets are exponential, so any range of values is kept within 1.1 %.
    """
    from stack_composer.telemetry.record import instruments

    recorder.begin()
    return instruments.bind(instruments.Histogram, name, labels, unit, description)


def gauge(
    name: str, labels: Mapping[str, Any] | None = None, *, unit: str = "", description: str = ""
) -> Gauge:
    """Give the gauge of this name and these labels: ``gauge("queue.length").set(7)``."""
    from stack_composer.telemetry.record import instruments

    recorder.begin()
    return instruments.bind(instruments.Gauge, name, labels, unit, description)


def log(level: str | int, message: object, /, **attributes: Any) -> None:
    """Record one log record, beside the current span.

    ``level`` is a name ("debug", "info", "warning", "error", "critical"), a number of
    ``logging`` or OpenTelemetry's severity number.
    """
    if not recorder.recording:
        return
    from stack_composer.telemetry.record.log import emit

    emit(level, message, attributes)


def generation(*, project_id: object = None, brief: str | None = None, **attributes: Any) -> Span:
    """Trace one stack generation: a root span named ``stack.generation``.

    Args:
        project_id: Recorded as ``project.id``, which the guard writes as a hash.
        brief: Only its length in characters is recorded, never a word of it.
        **attributes: More attributes of the span.
    """
    from stack_composer.telemetry.record.generation import generation_span

    return generation_span(project_id, brief, attributes)


def configure(
    directory: str | Path | None = None,
    *,
    on_internal_error: Any = None,
    opentelemetry: bool = False,
    **options: Any,
) -> None:
    """Set options by name; what is not given comes from environment, file and defaults.

    May be called again: what was recorded so far is written as it was configured.

    Args:
        directory: The folder of the bundles.
        on_internal_error: Called with each exception of our own code, on whatever
            thread it happened; by default such faults are only counted. Tests pass
            one that raises.
        opentelemetry: Make ours the global providers of the OpenTelemetry API, so
            that unmodified instrumentations record here.
        **options: The options of ``docs/configuration.md`` by their names.

    Raises:
        ConfigError: An unknown option or a value that it refuses; nothing changes.
    """
    from stack_composer.telemetry import process

    if directory is not None:
        options["directory"] = str(directory)
    prepare: Any = None
    if opentelemetry:
        from stack_composer.telemetry.record.otel import install as prepare
    process.configure(options, on_internal_error, prepare)


def flush(timeout_s: float = 30.0) -> Path:
    """Write what was recorded so far and wait until it is durable.

    Returns:
        The bundle that this process wrote last; the folder, if it wrote none.

    Raises:
        StoreError: It could not be written, or not within ``timeout_s`` seconds.
    """
    from pathlib import Path

    from stack_composer.telemetry import process

    return Path(process.flush(timeout_s))


def shutdown(timeout_s: float = 10.0) -> None:
    """Write what was recorded so far and stop; later records go nowhere.

    Happens by itself when the interpreter exits. ``configure`` starts anew.
    """
    from stack_composer.telemetry import process

    process.shutdown(timeout_s)


def _start() -> None:
    try:
        from stack_composer.telemetry import process
    except ImportError:
        recorder.stop()  # The interpreter is ending, and imports nothing any more.
        return
    process.start()


def _end() -> None:
    process = sys.modules.get("stack_composer.telemetry.process")
    if process is not None:
        process.shutdown(10.0)


# Not with the first record: what the application registered before it, and after this
# import, comes first then, and may record.
atexit.register(_end)
recorder.start = _start
recorder.flush = flush
