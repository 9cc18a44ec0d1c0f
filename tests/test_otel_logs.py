"""OpenTelemetry's loggers: what is emitted stands in the bundle, beside its span."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import records
from stack_composer import telemetry
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.otel.logs import LoggerProvider
from stack_composer.telemetry.record.otel.trace import TracerProvider

PARTS: dict[str, Any] = {
    "timestamp": 1_700_000_000_000_000_001,
    "observed_timestamp": 1_700_000_000_000_000_002,
    "severity_number": SeverityNumber.WARN2,
    "severity_text": "careful",
    "body": {"nested": [1, {"deep": True}]},
    "attributes": {"k": "v", "n": 3},
    "event_name": "app.started",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A pipeline of its own that lets a test see faults of our code."""

    def raise_it(error: Exception) -> None:
        raise error

    telemetry.configure(tmp_path / "telemetry", on_internal_error=raise_it)
    yield tmp_path / "telemetry"
    telemetry.shutdown()


@pytest.fixture
def logger() -> Logger:
    """A logger that nobody has installed."""
    return LoggerProvider().get_logger("lib", "2.0")


def written(folder: Path) -> list[dict[str, Any]]:
    """The log records, after a flush."""
    telemetry.flush()
    return records.logs(folder)


@pytest.mark.parametrize("form", ["object", "parts"])
def test_a_record_is_written_as_it_was_given(form: str, folder: Path, logger: Logger) -> None:
    """As an object and in its parts."""
    if form == "object":
        logger.emit(LogRecord(**PARTS))
    else:
        logger.emit(**PARTS)
    (log,) = written(folder)
    assert log["timeUnixNano"] == "1700000000000000001"
    assert log["observedTimeUnixNano"] == "1700000000000000002"
    assert log["severityNumber"] == 14
    assert log["severityText"] == "careful"
    assert records.value(log["body"]) == {"nested": [1, {"deep": True}]}
    assert log["attrs"] == {"k": "v", "n": 3}
    assert log["eventName"] == "app.started"
    assert log["scope"] == "lib"
    assert "traceId" not in log


@pytest.mark.parametrize("form", ["object", "parts"])
def test_a_record_belongs_to_the_current_span_or_the_given_one(
    form: str, folder: Path, logger: Logger
) -> None:
    def emit(**parts: Any) -> None:
        if form == "object":
            logger.emit(LogRecord(**parts))
        else:
            logger.emit(**parts)

    far = SpanContext(0xA, 0xB, is_remote=True, trace_flags=TraceFlags(1))
    tracer = TracerProvider().get_tracer("t")
    with telemetry.span("native"):
        emit(body="in native")
        with tracer.start_as_current_span("otel"):
            emit(body="in otel")
            emit(
                body="given",
                context=trace.set_span_in_context(NonRecordingSpan(far), Context()),
            )
    emit(body="in none")
    logs = {records.value(log["body"]): log for log in written(folder)}
    spans = {span["name"]: span for span in records.spans(folder)}
    for name in ("native", "otel"):
        assert logs[f"in {name}"]["spanId"] == spans[name]["spanId"]
        assert logs[f"in {name}"]["traceId"] == spans[name]["traceId"]
        assert logs[f"in {name}"]["flags"] & 1
    assert logs["given"]["spanId"] == f"{0xB:016x}"
    assert logs["given"]["traceId"] == f"{0xA:032x}"
    assert "spanId" not in logs["in none"]


def test_a_record_beside_a_span_that_is_not_recorded_says_so(folder: Path, logger: Logger) -> None:
    telemetry.configure(folder, sampler="always_off")
    with TracerProvider().get_tracer("t").start_as_current_span("span") as span:
        logger.emit(body="in its parts")
        logger.emit(LogRecord(body="as an object"))
    ids = span.get_span_context()
    for log in written(folder):
        assert (log["flags"], log["spanId"]) == (0, f"{ids.span_id:016x}")
    assert records.spans(folder) == []


def test_the_bare_ids_of_old_still_count(folder: Path, logger: Logger) -> None:
    old: Any = {"trace_id": 0xA, "span_id": 0xB, "trace_flags": TraceFlags(1)}
    logger.emit(LogRecord(**old, body="old"))
    (log,) = written(folder)
    assert (log["traceId"], log["spanId"]) == (f"{0xA:032x}", f"{0xB:016x}")


def test_an_exception_becomes_attributes_that_do_not_overrule(folder: Path, logger: Logger) -> None:
    for attributes in (None, {"exception.message": "mine"}):
        try:
            raise KeyError("k")
        except KeyError as error:
            logger.emit(body="b", exception=error, attributes=attributes)
    first, second = written(folder)
    assert first["attrs"]["exception.type"] == "KeyError"
    assert first["attrs"]["exception.message"] == "'k'"
    assert "KeyError" in first["attrs"]["exception.stacktrace"]
    assert "exception.escaped" not in first["attrs"]
    assert second["attrs"]["exception.message"] == "mine"


BAD: list[Any] = [5, b"b", object(), [1], {1: 2}, float("nan"), 10**400, -1, "\ud800"]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_no_argument_raises_into_the_application(number: int, folder: Path, logger: Logger) -> None:
    """Each part in turn is nonsense; a record comes out all the same."""
    before = recorder.dropped.get(("logs", "unreadable"), 0)
    for part in [*PARTS, "context", "exception"]:
        logger.emit(**{"body": "b", part: BAD[number]})
    logger.emit(BAD[number])
    assert len(written(folder)) == len(PARTS) + 2
    dropped = recorder.dropped["logs", "unreadable"] - before
    assert dropped == 1, "only what is no record at all"


def test_a_logger_is_enabled_while_anything_is_recorded(folder: Path, logger: Logger) -> None:
    assert logger.enabled()
    telemetry.configure(folder, enabled=False)
    assert not logger.enabled()
    logger.emit(body="nothing")
    assert written(folder) == []
