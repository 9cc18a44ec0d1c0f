"""OpenTelemetry's loggers, for log appenders and for events.

A record is taken as the API gives it, with its time, severity and body, and belongs
to the span of the context that is given or current. ``opentelemetry._logs`` still has
its underscore, hence no promise; what changed there since 1.38 is allowed for.
"""

from __future__ import annotations

from time import time_ns
from types import SimpleNamespace

from opentelemetry import _logs as api

from stack_composer.telemetry.model import LogRecord, RemoteParent
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.exceptions import exception_attributes
from stack_composer.telemetry.record.log import append
from stack_composer.telemetry.record.otel.context import current_parent, parent_in
from stack_composer.telemetry.record.otel.scope import scope_of
from stack_composer.telemetry.record.span import moment
from stack_composer.telemetry.values import copy_attributes, plain, plain_key, text_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opentelemetry.context import Context

    from stack_composer.telemetry.model import Scope, SpanRecord


class Logger(api.Logger):
    """Records logs and events of one scope."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope.name)
        self._scope = scope

    def emit(  # noqa: PLR0913 - the API's own signature
        self,
        record: api.LogRecord | None = None,
        *,
        timestamp: int | None = None,
        observed_timestamp: int | None = None,
        context: Context | None = None,
        severity_number: Any = None,
        severity_text: str | None = None,
        body: Any = None,
        attributes: Mapping[str, Any] | None = None,
        event_name: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """Record one log record, given whole or in its parts; an event has a name."""
        if not recorder.recording:
            return
        try:
            if record is not None:
                append(converted(record, span_of(record), self._scope))
                return
            parts = SimpleNamespace(
                timestamp=timestamp,
                observed_timestamp=observed_timestamp,
                severity_number=severity_number,
                severity_text=severity_text,
                body=body,
                attributes=attributes,
                event_name=event_name,
                exception=exception,
            )
            span = current_parent() if context is None else parent_in(context)
            append(converted(parts, span, self._scope))
        except Exception:
            recorder.drop("logs", "unreadable")

    def enabled(
        self,
        *,
        context: Context | None = None,  # noqa: ARG002 - nothing is left out by what it is
        severity_number: Any = None,  # noqa: ARG002
        event_name: str | None = None,  # noqa: ARG002
    ) -> bool:
        """Tell whether anything is recorded now."""
        return recorder.recording


class LoggerProvider(api.LoggerProvider):
    """Gives loggers.

    Not ``Durable``: OpenTelemetry's ``logging`` handler calls ``force_flush`` on a thread
    that it starts while the interpreter ends, where Python 3.12 refuses to start one.
    """

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Logger:
        """Give a logger of this scope."""
        return Logger(scope_of(name, version, schema_url, attributes))


def converted(given: Any, span: SpanRecord | RemoteParent | None, scope: Scope) -> LogRecord:
    """Turn a log record of the API, or anything with the same parts, into ours."""
    severity = getattr(given.severity_number, "value", given.severity_number)
    attributes = text_keys(copy_attributes(given.attributes)) if given.attributes else {}
    error = getattr(given, "exception", None)
    if error is not None:
        told = exception_attributes(error, escaped=False)
        del told["exception.escaped"]  # a span event's attribute, not a log record's
        attributes = {**told, **attributes}
    record = LogRecord(
        moment(given.timestamp) if given.timestamp else 0,
        severity if isinstance(severity, int) and 0 <= severity <= 24 else 0,
        plain_key(given.severity_text) if given.severity_text else "",
        plain(given.body),
        attributes or None,
        span,
        scope,
    )
    observed = given.observed_timestamp
    record.observed_ns = moment(observed) if observed else time_ns()
    event_name = getattr(given, "event_name", None)
    record.event_name = plain_key(event_name) if event_name else ""
    return record


def span_of(record: api.LogRecord) -> SpanRecord | RemoteParent | None:
    """Find the span of a record, which carries a context or, of old, the bare ids."""
    context = getattr(record, "context", None)
    found = parent_in(context) if context else None
    if found is not None or not (record.trace_id and record.span_id):
        return found
    flags = int(record.trace_flags or 0)
    ids = f"{record.trace_id:032x}", f"{record.span_id:016x}"
    return RemoteParent(*ids, flags, "", is_remote=False)
