"""One stack generation: the root span that everything of it hangs below."""

from __future__ import annotations

from stack_composer.telemetry.record import recorder, span as spans
from stack_composer.telemetry.record.span import OFF, OffSpan, Span
from stack_composer.telemetry.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "stack.generation"


def generation_span(project_id: object, brief: str | None, attributes: dict[str, Any]) -> Span:
    """Make the span; see ``api.generation``."""
    recorder.begin()
    kind = recorder.span_class or Span
    if kind is OffSpan:
        return OFF
    found: dict[str, Any] = {}
    if project_id is not None:
        # As text, so that 7 and "7" are one project after hashing.
        found["project.id"] = str(plain(project_id))
    if brief is not None:
        found["stack.brief.length"] = len(brief)
    found.update(attributes)
    span: Span = spans.make(kind, NAME, found)
    return span
