"""A ``logging.Handler`` that records, with the current span beside each record."""

from __future__ import annotations

import logging

from stack_composer.telemetry.model import LogRecord, Scope
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.exceptions import exception_attributes
from stack_composer.telemetry.record.log import append, current_span, from_logging
from stack_composer.telemetry.record.span import moment
from stack_composer.telemetry.values import UNPRINTABLE, plain, plain_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_scopes: dict[str, Scope] = {}
_SCOPES_MAX = 1_000
_OVERFLOW = Scope("stack_composer.telemetry.overflow")
"""Of the loggers beyond those: a program may make one a request, each with its name."""


class LoggingHandler(logging.Handler):
    """Record what ``logging`` gives; add it to a logger with ``addHandler``.

    What stands in a record's ``extra`` becomes attributes. Nothing here formats,
    blocks or raises; a record that cannot be read is counted as dropped.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Record one log record."""
        try:
            append(_convert(record))
        except Exception:
            # Not handleError: it prints the record, before any guard has seen it.
            recorder.drop("logs", "unreadable")


def _convert(record: logging.LogRecord) -> LogRecord:
    return LogRecord(
        moment(record.created * 1e9),
        from_logging(record.levelno),
        plain_key(record.levelname),
        _message(record),
        _attributes(record),
        current_span(),
        _scope(record.name),
    )


def _message(record: logging.LogRecord) -> Any:
    try:
        return plain(record.getMessage())
    except Exception:
        # The arguments do not fit the format, or one's __str__ raised.
        return plain(record.msg) if isinstance(record.msg, str) else UNPRINTABLE


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    found = {
        "code.file.path": record.pathname,
        "code.function.name": record.funcName,
        "code.line.number": record.lineno,
    }
    for key, value in vars(record).items():
        if key not in _STANDARD:
            found[plain_key(key)] = plain(value)
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if error is not None:
        found.update(exception_attributes(error, escaped=False))
        del found["exception.escaped"]  # a span event's attribute, not a log record's
    return found


def _scope(name: str) -> Scope:
    scope = _scopes.get(name)
    if scope is None:
        if len(_scopes) >= _SCOPES_MAX:
            return _OVERFLOW
        scope = _scopes[name] = Scope(plain_key(name))
    return scope
