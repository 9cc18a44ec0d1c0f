"""Log records: ``log()`` and what it shares with ``logging``'s handler."""

from __future__ import annotations

from time import time_ns

from stack_composer.telemetry.model import LogRecord, Scope
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record import span as spans
from stack_composer.telemetry.record.span import Attached
from stack_composer.telemetry.values import copy_attributes, plain, plain_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from stack_composer.telemetry.model import RemoteParent, SpanRecord

NATIVE = Scope()

SEVERITIES = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "notice": 10,
    "warn": 13,
    "warning": 13,
    "error": 17,
    "exception": 17,
    "critical": 21,
    "fatal": 21,
}
"""OpenTelemetry's severity numbers, by the names that people use."""


def severity_of(level: object) -> int:
    """Give the severity number (1 to 24) of a name or of ``logging``'s number; 0 unknown.

    Numbers up to 24 are taken as OpenTelemetry's; larger ones as ``logging``'s
    (10 debug, 20 info, 30 warning, 40 error, 50 critical) would overlap with them,
    so 10 and 20 are taken as ``logging``'s too, the more common by far.
    """
    if isinstance(level, str):
        return SEVERITIES.get(level.lower(), 0)
    if not isinstance(level, int):
        return 0
    if level in (10, 20) or level > 24:
        return from_logging(level)
    return max(level, 0)


def from_logging(level: int) -> int:
    """Give the severity number of a level of ``logging``; those between round down."""
    if level < 10:
        return 1
    if level >= 50:
        return 21
    return (level // 10) * 4 + 1 + min(3, level % 10 * 4 // 10)


def current_span() -> SpanRecord | RemoteParent | None:
    """Give the span that a record made now belongs to, if any."""
    value = spans._get()
    return value.parent if type(value) is Attached else value


def emit(
    level: object,
    message: object,
    attributes: Mapping[str, Any] | None,
    *,
    scope: Scope = NATIVE,
    time_unix_ns: int = 0,
    severity: int | None = None,
) -> None:
    """Append one record; ``message`` of any type becomes the nearest OTLP value."""
    record = LogRecord(
        time_unix_ns or time_ns(),
        severity_of(level) if severity is None else severity,
        plain_key(level).upper() if level is not None else "",
        plain(message),
        copy_attributes(attributes) if attributes else None,
        current_span(),
        scope,
    )
    append(record)


def append(record: LogRecord) -> None:
    """Put a finished record into the buffer."""
    buffer = recorder.logs
    if len(buffer) < recorder.wake_at:
        buffer.append(record)
    else:
        recorder.crowded("logs", buffer, record)
