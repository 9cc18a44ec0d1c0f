"""Decide at a span's start whether its trace is recorded.

Only programs that ask for it pay: with the samplers ``always_on`` and
``parentbased_always_on`` no span comes here.
"""

from __future__ import annotations

from time import time_ns

from stack_composer.telemetry.model import RemoteParent
from stack_composer.telemetry.record import span as spans
from stack_composer.telemetry.record.ids import identify, new_trace_id
from stack_composer.telemetry.record.span import Attached, QuietSpan, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from stack_composer.telemetry.model import SpanRecord

_LOW_64_BITS = 1 << 64


class Sampler:
    """One of OpenTelemetry's six samplers, with its ratio."""

    def __init__(self, name: str, ratio: float) -> None:
        self.parent_based = name.startswith("parentbased_")
        root = name.removeprefix("parentbased_")
        self._bound = round({"always_on": 1.0, "always_off": 0.0}.get(root, ratio) * _LOW_64_BITS)

    @property
    def records_all_roots(self) -> bool:
        """Whether each root is recorded, so that no draw is needed."""
        return self._bound >= _LOW_64_BITS

    def draws(self, trace_id: str) -> bool:
        """Tell whether the trace of this id is recorded (TraceIdRatioBased: low 64 bits)."""
        return int(trace_id[16:], 16) < self._bound


sampler = Sampler("parentbased_always_on", 1.0)


class DrawnSpan(Span):
    """A span that asks the sampler when it is entered."""

    __slots__ = ()

    def __enter__(self) -> Self:
        if self.start_ns:
            return self._enter_again()
        value = spans.current.get()
        parent = value
        if type(value) is Attached:
            parent = value.parent
            self._base = value
        if not decide(self, parent):
            self.__class__ = QuietSpan  # type: ignore[assignment]  # the same layout
            self.end_ns = 1  # so that nothing said to it is kept
        self.parent = parent
        self._token = spans.current.set(self)
        self.start_ns = time_ns()
        return self


spans.plain_kinds.add(DrawnSpan)


def decide(span: SpanRecord, parent: SpanRecord | RemoteParent | None) -> bool:
    """Tell whether ``span`` is recorded; gives it a trace id where one is needed."""
    if parent is None:
        span.trace_id = new_trace_id()
        return sampler.draws(span.trace_id)
    if sampler.parent_based:
        if type(parent) is RemoteParent:
            return bool(parent.flags & 1)
        return bool(parent.sampled)  # type: ignore[union-attr]  # ours, so a Span
    trace_id = parent.trace_id if type(parent) is RemoteParent else identify(parent)[0]  # type: ignore[arg-type]
    return sampler.draws(trace_id)
