"""A span that costs its caller about a microsecond.

The idea: *the reader pays*. Entering a span puts the span itself into a context
variable; no id is drawn, no OpenTelemetry ``Context`` is built and no lock is taken
until somebody asks. A finished span is appended to a list, and everything else
happens on the writer's thread.

``Span`` carries the methods of OpenTelemetry's ``Span``, without importing it.
What is in the context variable is one of three: None, a span, or ``Attached``, an
OpenTelemetry context that somebody else has attached.
"""

from __future__ import annotations

from contextvars import ContextVar
from gc import is_tracked
from time import time_ns

from stack_composer.telemetry.model import Event, Link, RemoteParent, SpanDetails, SpanRecord
from stack_composer.telemetry.record import ids, recorder
from stack_composer.telemetry.record.ids import identify, origin_of
from stack_composer.telemetry.values import copy_attributes, plain, plain_key, settle, text_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token
    from types import TracebackType
    from typing import Any, Self, TypeVar

    from opentelemetry.trace import SpanContext, SpanKind

    SpanT = TypeVar("SpanT", bound="Span")


class Attached:
    """An OpenTelemetry context that was attached, and the span that it holds."""

    __slots__ = ("context", "parent")
    ever = False
    """Whether one was ever made: programs without OpenTelemetry have none to look for."""
    sampled = False
    """So that one look at what is current tells a span from anything that needs care."""

    def __init__(
        self, context: Mapping[str, object], parent: SpanRecord | RemoteParent | None
    ) -> None:
        self.context = context
        self.parent = parent
        Attached.ever = True


current: ContextVar[Any] = ContextVar("stack_composer_telemetry", default=None)
_get = current.get
_set = current.set
_reset = current.reset
_new = object.__new__

events_max = 128
links_max = 128
attributes_max = 128
"""Bounds of one span (OTEL_SPAN_*_LIMIT); beyond, the newest is dropped and counted."""
event_attributes_max = 128
link_attributes_max = 128
"""Bounds of one event and one link (OTEL_EVENT_..., OTEL_LINK_ATTRIBUTE_COUNT_LIMIT)."""

ignore_parent_flag = False
"""True for the sampler ``always_on``, which records below an unsampled parent too."""


class Span(SpanRecord):
    """A span; as a context manager it is the current one inside its block.

    Times are Unix nanoseconds. Used as a decorator it stands for a new span around
    each call. A span is used once: after its end nothing changes it any more.
    """

    __slots__ = ("_base", "_token")
    sampled = True
    _token: Token[Any] | _Again | None
    _base: Attached | None

    def __enter__(self) -> Self:
        if self.start_ns:
            return self._enter_again()
        parent = _get()
        if parent is not None and not parent.sampled:
            parent = self._join(parent)
        self.parent = parent
        self._token = _set(self)
        self.start_ns = time_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end_ns = time_ns()
        try:
            _reset(self._token)  # type: ignore[arg-type]  # None raises, and is caught
        except (ValueError, RuntimeError, AttributeError, TypeError):
            # Entered in another task or thread, left twice, or never entered: what
            # is current here is not ours to change.
            if self._leave_again():
                return
        # A token is one more object for the collector to look at while the span waits.
        self._token = None
        if kind is not None:
            self._fail(error, end_ns)
        if self.end_ns or not self.start_ns:
            if not self.sampled:
                # ``with`` took this method before ``__enter__`` turned the span quiet.
                _let_go(self)
            return
        self.end_ns = end_ns
        buffer = recorder.spans
        if len(buffer) < recorder.wake_at:
            buffer.append(self)
        else:
            recorder.crowded("traces", buffer, self)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function, a coroutine function or a generator function of either kind."""
        from stack_composer.telemetry.record.decorate import decorate

        return decorate(self, function)

    def leave(self) -> None:
        """Stop being the current span without ending; ``resume`` may follow."""
        try:  # noqa: SIM105 - as in __exit__
            _reset(self._token)  # type: ignore[arg-type]  # None raises, and is caught
        except (ValueError, RuntimeError, AttributeError, TypeError):
            # Left in another task or thread than it was entered in: nothing to undo.
            pass

    def resume(self) -> None:
        """Be the current span again, after ``leave``."""
        self._token = _set(self)

    def again(self) -> Span:
        """Make an unstarted span like this one; a decorator needs one a call.

        A function is decorated when its module is imported, which may be long before
        the configuration is read or changed; so what is recorded is decided anew.
        """
        kind: type[Any] = type(self)
        if kind in plain_kinds:
            kind = recorder.span_class or FirstSpan
        span: Span = make(kind, self.name, dict(self.attributes) if self.attributes else None)
        return span

    def _enter_again(self) -> Self:
        """Do nothing: a span is used once, and its outermost block is what it times.

        As its own ancestor it would send whoever looks for its root round for ever.
        """
        recorder.drop("traces", "span_reused")
        self._token = _Again(getattr(self, "_token", None))
        return self

    def _leave_again(self) -> bool:
        """Undo ``_enter_again``; False if the block that ends is the outermost."""
        token = getattr(self, "_token", None)
        if type(token) is not _Again:
            return False
        self._token = token.outer
        return True

    def _join(self, current_value: Any) -> SpanRecord | RemoteParent | None:
        """Find the parent in what is current; turn quiet below an unsampled one."""
        held: Any = current_value
        if type(current_value) is Attached:
            held = current_value.parent
            self._base = current_value
        parent: Span | RemoteParent | None = held
        if parent is None or ignore_parent_flag:
            return parent
        sampled = parent.flags & 1 if isinstance(parent, RemoteParent) else parent.sampled
        if not sampled:
            self.__class__ = QuietSpan
            self.end_ns = 1  # so that nothing said to it is kept
        return parent

    # -- OpenTelemetry's Span ---------------------------------------------------

    @property
    def kind(self) -> SpanKind:
        """The kind; no method of the API, but HTTP instrumentations ask for it."""
        from opentelemetry.trace import SpanKind

        return SpanKind(self.details.kind - 1 if self.details is not None else 0)

    def is_recording(self) -> bool:
        """Tell whether what is said to this span is still recorded."""
        return not self.end_ns

    def get_span_context(self) -> SpanContext:
        """Give the ids of this span, drawing them if nobody has needed them yet."""
        from stack_composer.telemetry.record.otel.context import span_context

        return span_context(self)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute; the last value of a key wins. None removes nothing."""
        if self.end_ns or value is None:
            return
        attributes = self.attributes
        if attributes is None:
            attributes = self.attributes = {}
        text = plain_key(key)
        if len(attributes) >= attributes_max and text not in attributes:
            self._rich().dropped_attributes += 1
            return
        attributes[text] = plain(value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes."""
        for key, value in copy_attributes(attributes).items():
            self.set_attribute(key, value)

    def add_event(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Note something that happened now, or at ``timestamp`` (Unix nanoseconds)."""
        if self.end_ns:
            return
        details = self._rich()
        if len(details.events) >= events_max:
            details.dropped_events += 1
            return
        copied, cut = _bounded(attributes, event_attributes_max)
        time_unix_ns = moment(timestamp) if timestamp else time_ns()
        details.events.append(Event(plain_key(name), time_unix_ns, copied, cut))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        """Point to another span. A link without valid ids or content is left out."""
        if self.end_ns:
            return
        try:
            if not (context.is_valid or attributes or context.trace_state):
                return
            target = remote_parent(context)
        except Exception:
            recorder.fault("link")  # no SpanContext, or not a whole one
            return
        details = self._rich()
        if len(details.links) >= links_max:
            details.dropped_links += 1
            return
        details.links.append(Link(target, *_bounded(attributes, link_attributes_max)))

    def update_name(self, name: str) -> None:
        """Rename the span."""
        if not self.end_ns:
            self.name = plain_key(name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        """Set the status: a ``Status`` or a ``StatusCode`` of OpenTelemetry.

        OK is final, UNSET is ignored and a description only goes with an error
        (OpenTelemetry's API specification, "Set Status").
        """
        try:
            code = getattr(status, "status_code", status)
            text = (description if code is status else status.description) or ""
            number = getattr(code, "value", code)
            if self.end_ns or number not in (1, 2):
                return
        except Exception:
            recorder.fault("status")
            return
        details = self._rich()
        if details.status_code == 1:
            return
        details.status_code = number
        details.status_message = plain_key(text) if number == 2 else ""

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add the event "exception": its type, message and stack trace."""
        if self.end_ns:
            return
        from stack_composer.telemetry.record.exceptions import exception_attributes

        found = exception_attributes(exception, escaped=escaped)
        if attributes:
            found.update(copy_attributes(attributes))
        self.add_event("exception", found, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span, now or at ``end_time`` (Unix nanoseconds); a second end is ignored."""
        if self.end_ns or not self.start_ns:
            return
        self.end_ns = moment(end_time) if end_time else time_ns()
        if self.sampled:
            recorder.crowded("traces", recorder.spans, self)

    # -- our own ----------------------------------------------------------------

    def _rich(self) -> SpanDetails:
        details = self.details
        if details is None:
            details = self.details = SpanDetails()
        return details

    def _fail(self, error: BaseException | None, time_unix_ns: int) -> None:
        """Record what left the block, unless it is no error, such as GeneratorExit."""
        if not isinstance(error, Exception) or self.end_ns:
            return
        from stack_composer.telemetry.record.exceptions import describe

        self.record_exception(error, timestamp=time_unix_ns)
        details = self._rich()
        if details.status_code != 1:
            details.status_code = 2
            details.status_message = describe(error)


class _Again:
    """Stands for the token of a span that was entered once more; keeps the one before."""

    __slots__ = ("outer",)

    def __init__(self, outer: Token[Any] | _Again | None) -> None:
        self.outer = outer


class QuietSpan(Span):
    """A span below an unsampled parent, or one that lost the draw: never recorded."""

    __slots__ = ()
    sampled = False

    def __exit__(self, *_: object) -> None:
        if self._leave_again():
            return
        self.leave()
        self.end_ns = 1
        _let_go(self)

    def is_recording(self) -> bool:
        """Tell that nothing said to this span is recorded."""
        return False


class FirstSpan(Span):
    """A span made before the configuration was read; entering it reads it."""

    __slots__ = ()

    def __enter__(self) -> Self:
        recorder.begin()
        self.__class__ = recorder.span_class or Span  # type: ignore[assignment]  # same layout
        return self.__enter__()


class OffSpan(QuietSpan):
    """What ``span()`` gives while nothing is recorded: a name for ``again``, no more.

    Being of the class, ``end_ns`` costs nothing, and keeps what is said to the span out.
    """

    __slots__ = ()
    end_ns = 1
    start_ns = 1
    parent = details = trace_id = span_id = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def resume(self) -> None:
        """Stay out of what is current."""


plain_kinds: set[type[Span]] = {Span, FirstSpan, OffSpan}
"""What ``telemetry.span`` makes, one of them at a time."""


def make(kind: type[SpanT], name: str, attributes: dict[str, Any] | None) -> SpanT:
    """Make an unstarted span. Assigning beats ``__init__`` by a third (measured)."""
    self = _new(kind)
    self.name = name
    self.attributes = attributes
    if kind is OffSpan:
        return self
    self.details = self.trace_id = self.span_id = None
    self.start_ns = self.end_ns = 0
    if attributes and is_tracked(attributes):
        settle(attributes)
    return self


def base_of(span: Any) -> Attached | None:
    """Find the OpenTelemetry context that ``span`` was entered in, if one was attached.

    Whoever is entered in one keeps it; the others have it from their parents.
    """
    at = span if Attached.ever else None
    while isinstance(at, Span):
        base: Attached | None = getattr(at, "_base", None)
        if base is not None:
            return base
        if not hasattr(at, "_token"):
            return None  # never entered, so nothing was entered in it
        at = at.parent
    return None


def release(written: list[Any]) -> None:
    """Let go of what written spans hold, so that a living child keeps no ancestors.

    A task that spawns its successor inside its span would otherwise keep every span
    that ever was.
    """
    for span in written:
        parent = span.parent
        if parent is not None and type(parent) is not RemoteParent:
            if Attached.ever:
                # Read before the chain is cut: baggage stays for tasks that go on.
                span._base = base_of(span)
            # What a living child can still need of its ancestors' past.
            span.parent = origin_of(parent)


def _let_go(quiet: Span) -> None:
    """Release a span that nobody will write, and that nobody would release otherwise."""
    if not isinstance(quiet, OffSpan):  # which has no ids and no parent
        identify(quiet)
        release([quiet])


OFF: OffSpan = make(OffSpan, "", None)


def moment(given: Any) -> int:
    """Give a time that a caller passed as Unix nanoseconds; now, if it is none."""
    try:
        time_unix_ns = int(given)
    except (TypeError, ValueError, OverflowError):
        return time_ns()
    return time_unix_ns if 0 < time_unix_ns < _TIME_NS_END else time_ns()


_TIME_NS_END = 1 << 63


def _bounded(
    attributes: Mapping[str, Any] | None, count_max: int
) -> tuple[dict[str, Any] | None, int]:
    """Copy ``attributes`` up to a number of them; tell how many were left out."""
    if not attributes:
        return None, 0
    copied = text_keys(copy_attributes(attributes))
    over = len(copied) - count_max
    if over <= 0:
        return copied, 0
    return dict(list(copied.items())[:count_max]), over


def remote_parent(context: SpanContext) -> RemoteParent:
    """Turn an OpenTelemetry ``SpanContext`` into our form."""
    state = context.trace_state.to_header() if context.trace_state else ""
    if state:
        ids.trace_states = True
    return RemoteParent(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        int(context.trace_flags),
        state,
        is_remote=context.is_remote,
    )


def ids_of(span: SpanRecord) -> tuple[str, str]:
    """Give (trace id, span id) of ``span`` as lower-case hexadecimal text."""
    return identify(span)
