"""Give spans their ids, late and many at once.

A span needs an id when it is written or when somebody asks for its context; most
are only written. So the writer draws the randomness for a whole batch in one call,
and the caller pays nothing. Both sides may want the id of the same span at once
(a parent still open), hence the lock, which the common path never takes.
"""

from __future__ import annotations

import os
from threading import RLock

from stack_composer.telemetry.model import RemoteParent, SpanDetails, SpanRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_lock = RLock()
"""Reentrant: a signal handler or a ``__del__`` may come here while this thread has it."""
trace_states = False
"""Whether a parent with a trace state was ever seen; else the writer need not look."""
LOCK_WAIT_S = 0.05
"""The writer waits this long for a lock of the recording side, and then does without.

A signal's handler may flush while the thread that it interrupted holds the lock; then
that thread waits for the writer, which must not wait for it in turn."""
_LOCKED_SPANS = 64
"""Spans that get ids under one lock: a caller waits for some 10 microseconds at most."""


def renew_lock_after_fork() -> None:
    """Replace the lock, which another thread may have held when the process forked."""
    global _lock
    _lock = RLock()


def new_trace_id() -> str:
    """Draw a trace id: 32 lower-case hexadecimal characters."""
    return os.urandom(16).hex()


def new_span_id() -> str:
    """Draw a span id: 16 lower-case hexadecimal characters."""
    return os.urandom(8).hex()


def identify(span: SpanRecord) -> tuple[str, str]:
    """Give ``span`` its ids if it has none; return (trace id, span id)."""
    with _lock:
        trace_id = span.trace_id or _trace_of(span)
        if span.span_id is None:
            drawn = new_span_id()
            # Looked at again: what came in between, on this thread, may have given one.
            if span.span_id is None:
                span.span_id = drawn
        return trace_id, span.span_id


def origin_of(span: SpanRecord) -> RemoteParent | None:
    """Find the parent in another process that the trace of ``span`` came from, if any."""
    at: object = span.parent
    while isinstance(at, SpanRecord):
        at = at.parent
    return at  # type: ignore[return-value]  # all that a chain can end with


def identify_all(spans: list[SpanRecord]) -> None:
    """Give ids to all of ``spans`` and to their parents, open or finished."""
    for first in range(0, len(spans), _LOCKED_SPANS):
        some = spans[first : first + _LOCKED_SPANS]
        drawn = os.urandom(24 * len(some)).hex()
        held = _lock.acquire(timeout=LOCK_WAIT_S)
        try:
            _identify_some(some, drawn)
        finally:
            if held:
                _lock.release()
    if trace_states:
        for span in spans:
            _inherit_trace_state(span)


def _identify_some(spans: Iterable[SpanRecord], drawn: str) -> None:
    at = 0
    for span in spans:
        if span.span_id is None:
            span.span_id = drawn[at : at + 16]
        parent = span.parent
        if parent is None:
            if span.trace_id is None:
                span.trace_id = drawn[at + 16 : at + 48]
        else:
            if parent.span_id is None:
                drawn_late = new_span_id()
                if parent.span_id is None:  # as in identify
                    parent.span_id = drawn_late
            if span.trace_id is None:
                span.trace_id = parent.trace_id or _trace_of(span)
        at += 48


def _inherit_trace_state(span: SpanRecord) -> None:
    origin = origin_of(span)
    # Only of a finished span: on an open one the application may be at work.
    if origin is None or not origin.trace_state or not span.end_ns:
        return
    if span.details is None:
        span.details = SpanDetails()
    span.details.trace_state = span.details.trace_state or origin.trace_state


def _trace_of(span: SpanRecord) -> str:
    """Find the trace of ``span`` among its ancestors, and tell it to all of them."""
    chain: list[SpanRecord] = []
    at: object = span
    while isinstance(at, SpanRecord) and at.trace_id is None:
        chain.append(at)
        at = at.parent
    trace_id: str = new_trace_id() if at is None else at.trace_id  # type: ignore[attr-defined]
    if chain and chain[-1].trace_id is not None:
        trace_id = chain[-1].trace_id  # as in identify
    for member in chain:
        member.trace_id = trace_id
    return trace_id
