"""One current span for both: our context variable and OpenTelemetry's runtime context.

The idea: *the reader pays*. A span that is entered puts itself into our variable
(``record.span.current``) and nothing more. OpenTelemetry's ``Context``, a dictionary,
is built when somebody asks for it: what was attached when the span was entered, and
the span under OpenTelemetry's key. ``attach`` works the other way: it wraps the given
context, with the span that it holds as the parent of what comes.

OpenTelemetry has one runtime context for a process. How ours gets there:

- ``OTEL_PYTHON_CONTEXT=stack_composer`` in the environment: OpenTelemetry loads it.
- Otherwise ``join`` takes the place of the stock one. What is attached in the stock
  one at that moment, in any thread or task, stays visible until something is attached
  on top of it; tokens that it gave out can still be detached.
- A runtime context of somebody else's stays. Then it is ours that gives way: spans
  read and write the current span through OpenTelemetry's functions (``_Elsewhere``),
  which costs them several microseconds, and nests just as well.

Loaded in the middle of OpenTelemetry's import, so it imports no more of it than the
class it implements; ``opentelemetry.trace`` comes with the first span that is seen.
"""

from __future__ import annotations

from opentelemetry.context.context import Context, _RuntimeContext

from stack_composer.telemetry.record import ids, recorder
from stack_composer.telemetry.record import span as spans
from stack_composer.telemetry.record.span import Attached, OffSpan, Span, base_of, remote_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Token
    from typing import Any

    from opentelemetry.trace import SpanContext, TraceState

    from stack_composer.telemetry.model import RemoteParent, SpanRecord

_EMPTY = Context()
_SAMPLED = 1
_RANDOM = 2
"""W3C trace flags: recorded, and a trace id that was drawn at random."""


class RuntimeContext(_RuntimeContext):
    """OpenTelemetry's view of our context variable."""

    def __init__(self, earlier: _RuntimeContext | None = None) -> None:
        """Begin; ``earlier`` is the runtime context whose place this one takes."""
        self._earlier = earlier
        self._inherited: Attached | None = None
        if earlier is not None:
            self._inherit(earlier)

    def get_current(self) -> Context:
        """Give the current context; inside a span of ours it is built anew each time."""
        value = spans._get()
        if value is None:
            return _EMPTY if self._earlier is None else self._earlier.get_current()
        if type(value) is Attached:
            return value.context  # type: ignore[return-value]  # what was given to attach
        base = base_of(value)
        if base is not None:
            return Context({**base.context, span_key(): value})
        if self._earlier is not None:
            return Context({**self._earlier.get_current(), span_key(): value})
        return Context({span_key(): value})

    def attach(self, context: Context) -> Token[Any]:
        """Make ``context`` the current one; new spans are children of the span in it."""
        return spans._set(Attached(context, parent_in(context)))

    def detach(self, token: Token[Any]) -> None:
        """Undo an ``attach``, also one of the runtime context that was here before.

        Raises:
            ValueError: The token is of another thread or task. Whoever calls through
                ``opentelemetry.context.detach`` gets a log message instead.
        """
        if token.var is spans.current:
            spans._reset(token)
            return
        token.var.reset(token)
        if self._inherited is not None and spans._get() is self._inherited:
            # What was taken over from the stock context has just been detached there.
            spans._set(None)

    def _inherit(self, earlier: _RuntimeContext) -> None:
        context = earlier.get_current()
        if context and spans._get() is None:
            self._inherited = Attached(context, parent_in(context))
            spans._set(self._inherited)


def join() -> None:
    """Have spans of ours and of OpenTelemetry's API nest in each other, in this process."""
    from opentelemetry import context as api
    from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

    # No public name; should it go, spans take the way that needs none.
    runtime = getattr(api, "_RUNTIME_CONTEXT", None)
    if isinstance(runtime, RuntimeContext):
        return
    if type(runtime) is ContextVarsRuntimeContext:
        api._RUNTIME_CONTEXT = RuntimeContext(runtime)
    else:
        _Elsewhere.begin()


class _Elsewhere:
    """Stands for our context variable where the current span lives in another place.

    Has the three methods of a ``ContextVar``, with OpenTelemetry's functions behind
    them, so that neither spans nor log records know the difference.
    """

    def get(self) -> Span | Attached | None:
        """Give our current span, or what stands for another's."""
        from opentelemetry import context as api

        context = api.get_current()
        span = context.get(span_key())
        if isinstance(span, Span):
            return span
        return Attached(context, parent_in(context)) if span is not None else None

    def set(self, span: Span) -> _Token:
        """Make ``span`` the current one, within the context that is current."""
        from opentelemetry import context as api

        return _Token(api.attach(api.set_value(span_key(), span)))

    def reset(self, token: _Token) -> None:
        """Undo ``set``."""
        from opentelemetry import context as api

        api.detach(token.token)

    @classmethod
    def begin(cls) -> None:
        """Have every span of this process use this one."""
        if isinstance(spans.current, cls):
            return
        place: Any = cls()
        spans.current = place
        spans._get, spans._set, spans._reset = place.get, place.set, place.reset


class _Token:
    """Looks like a ``contextvars.Token`` to ``record.span``."""

    __slots__ = ("token",)
    old_value = None

    def __init__(self, token: Token[Context]) -> None:
        self.token = token


def span_context(span: Span) -> SpanContext:
    """Give OpenTelemetry's ``SpanContext`` of ``span``, drawing its ids if need be."""
    from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TraceFlags

    if isinstance(span, OffSpan):
        return INVALID_SPAN_CONTEXT
    trace_id, span_id = ids.identify(span)
    origin = ids.origin_of(span)
    flags = _RANDOM if origin is None else origin.flags & _RANDOM
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(flags | _SAMPLED if span.sampled else flags),
        trace_state=_trace_state(origin),
    )


def span_key() -> str:
    """Give the key of the current span in a ``Context``; makes our spans known as spans."""
    global _known_key
    if not _known_key:
        from opentelemetry.trace import Span as ApiSpan
        from opentelemetry.trace.propagation import _SPAN_KEY

        # isinstance(ours, trace.Span) holds from here on. Registered rather than
        # inherited: a native span must not need OpenTelemetry to be imported.
        ApiSpan.register(Span)
        _known_key = _SPAN_KEY
    return _known_key


_known_key = ""


def parent_in(context: Context | None) -> SpanRecord | RemoteParent | None:
    """Find the parent that ``context`` holds: a span of ours, or what stands for another.

    A span that cannot be asked for its ids is none; that is counted as a fault.
    """
    try:
        span = context.get(span_key()) if context else None
        return None if span is None else parent_of(span)
    except Exception:
        recorder.fault("context")
        return None


def parent_of(span: Any) -> SpanRecord | RemoteParent | None:
    """Give what stands for ``span``, a span of any tracer, as a parent."""
    if isinstance(span, Span):
        return None if isinstance(span, OffSpan) else span
    ids_of_it = span.get_span_context()
    return remote_parent(ids_of_it) if ids_of_it is not None and ids_of_it.is_valid else None


def current_parent() -> SpanRecord | RemoteParent | None:
    """Give the parent of a span that would start now."""
    value = spans._get()
    return value.parent if type(value) is Attached else value


def _trace_state(origin: RemoteParent | None) -> TraceState | None:
    if origin is None or not origin.trace_state:
        return None
    from opentelemetry.trace import TraceState

    return TraceState.from_header([origin.trace_state])
