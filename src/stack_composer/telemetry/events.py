"""Telemetry as one stream of events: the shape that the specification names (section 4).

For callers that cannot hold a span object, such as a plugin behind a wire: they say
that a span starts and later that one ends. The two are matched within their thread or
task, through the same current span that ``span()`` uses, so both kinds nest in each
other. For all other code ``span()`` is shorter, and cannot be left open.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from stack_composer.telemetry import api
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.log import current_span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack_composer.telemetry.record.span import Span

DEPTH_MAX = 1_000
"""Started spans that may be open in one another; further ones are dropped and counted."""


class TelemetryEvent:
    """Something to record: a ``Metric``, a ``SpanStart`` or a ``SpanEnd``."""

    __slots__ = ()

    # As attributes, so that each can derive from this class, as a variant should.
    Metric: ClassVar[type[Metric]]
    SpanStart: ClassVar[type[SpanStart]]
    SpanEnd: ClassVar[type[SpanEnd]]


@dataclass(frozen=True)
class Metric(TelemetryEvent):
    """One measurement."""

    name: str
    value: float
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SpanStart(TelemetryEvent):
    """A span begins; what follows in this thread or task is within it."""

    name: str


@dataclass(frozen=True)
class SpanEnd(TelemetryEvent):
    """The span that began last in this thread or task ends."""


TelemetryEvent.Metric = Metric
TelemetryEvent.SpanStart = SpanStart
TelemetryEvent.SpanEnd = SpanEnd


@runtime_checkable
class Telemetry(Protocol):
    """What takes events; ``TELEMETRY`` is one, a test may pass another."""

    def record_event(self, ev: TelemetryEvent) -> None:
        """Record one event. Never raises."""

    def flush(self) -> Path:
        """Make durable what was recorded; return the bundle written last.

        Raises:
            StoreError: It could not be written.
        """


class _Open:
    """A started span, kept until its end comes in the context that started it."""

    __slots__ = ("depth", "refused", "span", "token")
    token: Token[_Open | None]

    def __init__(self, span: Span, depth: int) -> None:
        self.span = span
        self.depth = depth
        self.refused = 0


_open: ContextVar[_Open | None] = ContextVar("stack_composer_telemetry_events", default=None)


class _Sink:
    """The process's pipeline as a ``Telemetry``."""

    def record_event(self, ev: TelemetryEvent) -> None:
        """Record one event; one that means nothing here is dropped and counted."""
        if isinstance(ev, Metric):
            api.metric(ev.name, ev.value, ev.labels)
        elif isinstance(ev, SpanStart):
            _start(ev.name)
        elif isinstance(ev, SpanEnd):
            _end()
        else:
            recorder.drop("events", "unknown_event")

    def flush(self) -> Path:
        """See ``Telemetry.flush``."""
        return api.flush()


def _start(name: str) -> None:
    outer = _open.get()
    depth = outer.depth + 1 if outer is not None else 1
    if outer is not None and depth > DEPTH_MAX:
        # Remembered, so that the ends of these do not end spans further out.
        outer.refused += 1
        recorder.drop("traces", "too_deep")
        return
    opened = _Open(api.span(name).__enter__(), depth)
    opened.token = _open.set(opened)


def _end() -> None:
    opened = _open.get()
    if opened is None or not _is_innermost(opened):
        recorder.drop("traces", "unmatched_end")
        return
    if opened.refused:
        opened.refused -= 1
        return
    try:
        _open.reset(opened.token)
    except ValueError:
        # Inherited: a task has a copy of its creator's context, where the span was
        # started and where it is still open.
        recorder.drop("traces", "unmatched_end")
        return
    opened.span.__exit__(None, None, None)


def _is_innermost(opened: _Open) -> bool:
    """Tell whether no ``span()`` block was entered since; its end must come first."""
    return opened.span.end_ns != 0 or current_span() is opened.span


TELEMETRY: Telemetry = _Sink()
"""The global sink. It needs no set-up: the first event starts the pipeline."""
