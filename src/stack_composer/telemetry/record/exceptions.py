"""Describe an exception the way OpenTelemetry's semantic conventions do.

An exception's own ``__str__`` may raise, and a traceback may be endless; neither
may reach the application.
"""

from __future__ import annotations

from stack_composer.telemetry.values import UNPRINTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

STACK_FRAMES_MAX = 64
"""Frames of a stack trace that are kept; ``traceback`` drops the outermost first."""


def describe(error: BaseException) -> str:
    """Give "Type: message", the form that the official SDK uses for a status."""
    return f"{type(error).__name__}: {message(error)}"


def message(error: BaseException) -> str:
    """Give ``str(error)``, or a note if that raises."""
    try:
        return str(error)
    except Exception:
        return UNPRINTABLE


def exception_attributes(error: BaseException, *, escaped: bool) -> dict[str, Any]:
    """Give exception.type, .message, .stacktrace and .escaped for ``error``."""
    kind = type(error)
    module = kind.__module__
    name = (
        kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    )
    return {
        "exception.type": name,
        "exception.message": message(error),
        "exception.stacktrace": stack_trace(error),
        "exception.escaped": str(escaped),
    }


def stack_trace(error: BaseException) -> str:
    """Format the stack trace, innermost ``STACK_FRAMES_MAX`` frames, or a note."""
    import traceback

    try:
        innermost = _innermost(error.__traceback__)
        lines = traceback.format_exception(type(error), error, innermost, limit=-STACK_FRAMES_MAX)
        return "".join(lines)
    except Exception:
        return UNPRINTABLE


def _innermost(trace: TracebackType | None) -> TracebackType | None:
    """Skip the outer frames, which ``traceback`` would look up before it drops them.

    An error that leaves a thousand nested spans would take it seconds.
    """
    ahead = trace
    for _ in range(STACK_FRAMES_MAX):
        ahead = ahead.tb_next if ahead is not None else None
    while ahead is not None and trace is not None:
        ahead, trace = ahead.tb_next, trace.tb_next
    return trace
