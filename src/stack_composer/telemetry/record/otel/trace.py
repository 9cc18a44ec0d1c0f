"""OpenTelemetry's tracers, at nearly the price of ``telemetry.span``.

The idea: *a class a tracer*. What all spans of a tracer have in common, their scope
and how they end, stands in a class that is made once, so that a span needs no more
room and no more time than a native one, which it is: the same slots, the same
``__enter__`` and ``__exit__``.

Three kinds of spans:

- ``start_as_current_span`` gives a span that starts, and becomes the current one, when
  its block is entered.
- ``start_span`` gives one that has started already and never becomes the current one
  by itself (``_StartedSpan``).
- Where the caller chose the context, the start time, or what shall happen on exit, the
  second kind is made current for its block by a context manager (``_Block``).

Nothing here raises, whatever is passed: what cannot be used is left out, or counted.
"""

from __future__ import annotations

from contextlib import suppress
from time import time_ns

from opentelemetry import trace as api
from opentelemetry.trace import SpanKind, StatusCode

from stack_composer.telemetry.model import SpanDetails
from stack_composer.telemetry.record import ids, recorder
from stack_composer.telemetry.record import span as spans
from stack_composer.telemetry.record.exceptions import describe
from stack_composer.telemetry.record.otel.context import current_parent, join, parent_in
from stack_composer.telemetry.record.otel.durable import Durable
from stack_composer.telemetry.record.otel.scope import OVERFLOW, scope_of
from stack_composer.telemetry.record.span import (
    OFF,
    Attached,
    OffSpan,
    QuietSpan,
    Span,
    base_of,
    make,
    moment,
)
from stack_composer.telemetry.values import copy_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

    from opentelemetry.context import Context

    from stack_composer.telemetry.model import Scope

_INTERNAL = SpanKind.INTERNAL
_ERROR = StatusCode.ERROR
_new = object.__new__


class _TracerSpan(Span):
    """A span of some tracer; each tracer has a subclass with its ``scope``."""

    __slots__ = ()
    tracer: Tracer

    def again(self) -> Any:
        """Make an unstarted span like this one; a decorator needs one a call.

        By way of the tracer, since recording may have been turned off in between.
        """
        span = self.tracer.start_as_current_span(self.name, attributes=self.attributes)
        if self.details is not None and span.sampled:
            span.details = SpanDetails()
            span.details.kind = self.details.kind
            span.details.links = list(self.details.links)
        return span


class _StartedSpan(_TracerSpan):
    """A span that has started; used as a context manager it ends with its block."""

    __slots__ = ()
    records_exception = True
    sets_status = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            flags = {"records": self.records_exception, "sets_status": self.sets_status}
            _blame(self, error, **flags, escaped=True)
        self.end()

    def end(self, end_time: int | None = None) -> None:
        """End the span, now or at ``end_time`` (Unix nanoseconds); a second end is ignored."""
        if self.end_ns:
            return
        self.end_ns = moment(end_time) if end_time else time_ns()
        buffer = recorder.spans
        if len(buffer) < recorder.wake_at:
            buffer.append(self)
        else:
            recorder.crowded("traces", buffer, self)


class _QuietStartedSpan(QuietSpan):
    """A started span that is not recorded, and still has ids to hand on."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Block:
    """Starts a span and makes it the current one for a block, as the caller chose.

    As a decorator it stands for a new span around each call.
    """

    __slots__ = ("_arguments", "_flags", "_span", "_token", "_tracer")
    _token: Any
    _span: Span

    def __init__(
        self, tracer: Tracer, arguments: tuple[Any, ...], flags: tuple[bool, bool, bool]
    ) -> None:
        """Keep what ``start_as_current_span`` was given: its first six, its last three."""
        self._tracer = tracer
        self._arguments = arguments
        self._flags = flags

    def __enter__(self) -> Span:
        self._span = span = self._tracer._started_span(*self._arguments)
        # Kept by the span rather than its token, which would keep what was current.
        value = spans._get()
        span._base = value if type(value) is Attached else base_of(value) if value else None
        self._token = spans._set(span)
        return span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()
        records, sets_status, ends = self._flags
        if error is not None:
            _blame(self._span, error, records=records, sets_status=sets_status)
        if ends:
            self._span.end()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function, a coroutine function or a generator function of either kind."""
        from stack_composer.telemetry.record.decorate import decorate

        # All that it asks for, again, leave and resume, is here too.
        return decorate(self, function)  # type: ignore[arg-type]

    def again(self) -> Any:
        """Make a block like this one; a decorator needs one a call."""
        # They are six and three, which their types do not tell.
        return self._tracer.start_as_current_span(*self._arguments, *self._flags)  # type: ignore[call-arg]

    def leave(self) -> None:
        """Have the span no longer current, without ending it."""
        # In another task or thread than it was entered in, there is nothing to undo.
        with suppress(ValueError, RuntimeError):
            spans._reset(self._token)

    def resume(self) -> None:
        """Have the span current again, after ``leave``."""
        self._token = spans._set(self._span)


class _OffBlock(_Block):
    """What ``start_as_current_span`` gives while nothing is recorded.

    As a decorator it records once something is.
    """

    __slots__ = ()
    sampled = False

    def __enter__(self) -> Span:
        return OFF

    def __exit__(self, *_: object) -> None:
        pass

    def leave(self) -> None:
        """Have left already."""

    def resume(self) -> None:
        """Stay out of what is current."""


class Tracer(api.Tracer):
    """Makes the spans of one instrumentation scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._attaching = class_of(_TracerSpan, scope, tracer=self)
        self._started = class_of(_StartedSpan, scope)
        self._others: dict[tuple[Any, ...], type[Span]] = {}

    def start_as_current_span(  # noqa: PLR0913, PLR0917 - the signature is the API's
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = _INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[api.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Any:
        """Give a context manager, or decorator, that is a span and the current one inside.

        See ``opentelemetry.trace.Tracer``. As a decorator it works on generators too,
        whose span lasts until they end.
        """
        if (
            recorder.span_class is not Span
            or context is not None
            or start_time is not None
            or not (record_exception and set_status_on_exception and end_on_exit)
        ):
            arguments = (name, context, kind, attributes, links, start_time)
            flags = (record_exception, set_status_on_exception, end_on_exit)
            return self._unusual(arguments, flags)
        if attributes:
            attributes = copy_attributes(attributes)
        # As in record.span.make, spelled out: a call costs a tenth of the whole.
        span = _new(self._attaching)
        span.name = name
        span.attributes = attributes
        span.details = span.trace_id = span.span_id = None
        span.start_ns = span.end_ns = 0
        if kind is not _INTERNAL or links:
            _detail(span, kind, links)
        return span

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = _INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[api.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Any:
        """Start a span that is not the current one; whoever asked for it ends it."""
        recorder.begin()
        if recorder.span_class is OffSpan:
            return _passed_on(context)
        sort = self._started
        if not (record_exception and set_status_on_exception):
            sort = self._class_that(
                records=bool(record_exception), sets_status=bool(set_status_on_exception)
            )
        return self._started_span(name, context, kind, attributes, links, start_time, sort)

    def _started_span(
        self,
        name: str,
        context: Context | None,
        kind: SpanKind,
        attributes: Mapping[str, Any] | None,
        links: Sequence[api.Link] | None,
        start_time: int | None,
        sort: type[Span] | None = None,
    ) -> Span:
        copied = copy_attributes(attributes) if attributes else None
        span: Span = make(sort or self._started, name, copied)
        span.parent = current_parent() if context is None else parent_in(context)
        if not _is_sampled(span):
            return _quieted(span)
        if kind is not _INTERNAL or links:
            _detail(span, kind, links)
        span.start_ns = moment(start_time) if start_time else time_ns()
        return span

    def _unusual(self, arguments: tuple[Any, ...], flags: tuple[bool, bool, bool]) -> Any:
        """Give a span when there is a choice to honour, a sampler, or nothing to record."""
        if recorder.span_class is None:
            recorder.begin()
        sort = recorder.span_class or Span
        name, context, kind, attributes, links, start_time = arguments
        if sort is OffSpan:
            # Nothing of it is current then: a context from outside passes through.
            if context is None:
                return _OffBlock(self, arguments, flags)
            return api.use_span(_passed_on(context))
        if context is not None or start_time is not None or not all(flags):
            return _Block(self, arguments, flags)
        attaching = self._attaching if sort is Span else self._drawn_class()
        span: Span = make(attaching, name, copy_attributes(attributes) if attributes else None)
        if kind is not _INTERNAL or links:
            _detail(span, kind, links)
        return span

    def _drawn_class(self) -> type[Span]:
        """Give the class of spans that ask the sampler when they are entered."""
        found = self._others.get(("drawn",))
        if found is None:
            from stack_composer.telemetry.record.sampling import DrawnSpan

            base = type("_DrawnTracerSpan", (DrawnSpan, _TracerSpan), {"__slots__": ()})
            found = self._others["drawn",] = class_of(base, self._scope, tracer=self)
        return found

    def _class_that(self, *, records: bool, sets_status: bool) -> type[Span]:
        """Give the class of started spans that treat an exception in this way."""
        key = (records, sets_status)
        found = self._others.get(key)
        if found is None:
            found = self._others[key] = class_of(
                _StartedSpan, self._scope, records_exception=records, sets_status=sets_status
            )
        return found


class TracerProvider(Durable, api.TracerProvider):
    """Gives tracers; makes our runtime context OpenTelemetry's, see ``otel.context``."""

    def __init__(self) -> None:
        join()
        self._tracers: dict[Scope, Tracer] = {OVERFLOW: Tracer(OVERFLOW)}

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Tracer:
        """Give the tracer of this scope; the same each time.

        Bound: ``scope.SCOPES_MAX``. Beyond it all share one, named ``scope.OVERFLOW``.
        """
        scope = scope_of(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        tracer = self._tracers.get(scope)
        if tracer is None:
            # Of two threads that come here at once, both get the one that is kept.
            tracer = self._tracers.setdefault(scope, Tracer(scope))
        return tracer


def class_of(base: type[Any], scope: Scope, **common: Any) -> type[Any]:
    """Make a class of spans of one scope, with the same slots as ``base``."""
    return type(base.__name__, (base,), {"__slots__": (), "scope": scope, **common})


def _is_sampled(span: Span) -> bool:
    """Decide whether ``span``, whose parent is known, is recorded."""
    if recorder.span_class is not Span and recorder.span_class is not None:
        from stack_composer.telemetry.record.sampling import decide

        return decide(span, span.parent)
    parent: Any = span.parent
    if parent is None or spans.ignore_parent_flag:
        return True
    return parent.sampled if isinstance(parent, Span) else bool(parent.flags & 1)


def _quieted(span: Span) -> Span:
    """Turn ``span`` into one that is not recorded and keeps no ancestor alive."""
    ids.identify(span)
    span.parent = ids.origin_of(span)
    span.__class__ = _QuietStartedSpan
    span.attributes = None
    span.end_ns = 1
    return span


def _passed_on(context: Context | None) -> api.Span:
    """Give what stands for the span in ``context``, so that its trace goes through us."""
    try:
        held = api.get_current_span(context)
        if isinstance(held, api.NonRecordingSpan):
            return held
        return api.NonRecordingSpan(held.get_span_context())
    except Exception:
        recorder.fault("context")
        return api.INVALID_SPAN


def _detail(span: Span, kind: SpanKind, links: Sequence[api.Link] | None) -> None:
    """Note kind and links on a span that has not started yet."""
    span.details = details = SpanDetails()
    try:
        details.kind = kind._value_ + 1  # .value is a descriptor, ten times as dear
        for link in links or ():
            span.add_link(link.context, link.attributes)
    except Exception:
        recorder.fault("span_details")


def _blame(
    span: Span, error: BaseException, *, records: bool, sets_status: bool, escaped: bool = False
) -> None:
    """Record what left a block, unless it is no error, such as GeneratorExit."""
    if not isinstance(error, Exception) or not span.is_recording():
        return
    if records:
        span.record_exception(error, escaped=escaped)
    if sets_status:
        span.set_status(_ERROR, describe(error))
