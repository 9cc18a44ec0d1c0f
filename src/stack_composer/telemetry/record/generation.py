"""One stack generation: the root span that everything of it hangs below."""

from __future__ import annotations

from time import time_ns

from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.span import (
    OFF,
    Attached,
    OffSpan,
    QuietSpan,
    Span,
    base_of,
    current,
    make,
)
from stack_composer.telemetry.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

NAME = "stack.generation"


class GenerationSpan(Span):
    """A span that begins a trace of its own, whatever is current."""

    __slots__ = ()

    def __enter__(self) -> Self:
        if self.start_ns:
            return self._enter_again()
        if recorder.span_class is not Span:
            from stack_composer.telemetry.record.sampling import decide

            if not decide(self, None):
                self.__class__ = QuietSpan  # type: ignore[assignment]  # the same layout
                self.end_ns = 1  # so that nothing said to it is kept
        previous = current.get()
        # A trace of its own, though what the application attached goes on.
        self._base = previous if type(previous) is Attached else base_of(previous)
        self.parent = None
        self._token = current.set(self)
        self.start_ns = time_ns()
        return self

    def again(self) -> Span:
        """Make one for each call of a decorated function, as it is configured then."""
        return make_generation(dict(self.attributes) if self.attributes else None)


def generation_span(project_id: object, brief: str | None, attributes: dict[str, Any]) -> Span:
    """Make the span; see ``api.generation``."""
    recorder.begin()
    found: dict[str, Any] = {}
    if project_id is not None:
        # As text, so that 7 and "7" are one project after hashing.
        found["project.id"] = str(plain(project_id))
    if brief is not None:
        found["stack.brief.length"] = len(brief)
    found.update(attributes)
    return make_generation(found)


def make_generation(attributes: dict[str, Any] | None) -> Span:
    """Make what the configuration wants now: a span, nothing, or what purges."""
    if recorder.span_class is not OffSpan:
        return make(GenerationSpan, NAME, attributes)
    off = recorder.off_generation
    return OFF if off is None else off(attributes)
