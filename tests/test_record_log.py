"""Log records: levels, the logging handler, and the span they belong to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import records
from stack_composer import telemetry
from stack_composer.telemetry.record.log import severity_of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    telemetry.configure(tmp_path / "telemetry")
    yield tmp_path / "telemetry"
    telemetry.shutdown()


@pytest.fixture
def logger() -> logging.Logger:
    """A logger with our handler alone: pytest's own handler raises at bad records."""
    made = logging.Logger("tests.record_log")  # noqa: LOG001 - not in the tree on purpose
    made.addHandler(telemetry.LoggingHandler())
    return made


def written(folder: Path) -> list[dict[str, Any]]:
    telemetry.flush()
    return records.logs(folder)


def test_a_record_stands_beside_its_span(folder: Path) -> None:
    with telemetry.span("work") as span:
        telemetry.log("warning", "disk is {slow}", disk="sda", tries=3)
    telemetry.log("info", {"structured": [1, 2]})
    inside, outside = written(folder)
    context = span.get_span_context()
    assert inside["traceId"] == f"{context.trace_id:032x}"
    assert inside["spanId"] == f"{context.span_id:016x}"
    assert (inside["severityNumber"], inside["severityText"]) == (13, "WARNING")
    assert inside["body"] == {"stringValue": "disk is {slow}"}
    assert inside["attrs"] == {"disk": "sda", "tries": 3}
    assert "traceId" not in outside
    assert records.value(outside["body"]) == {"structured": [1, 2]}


@pytest.mark.parametrize(
    ("level", "number"),
    [
        ("debug", 5), ("INFO", 9), ("Warning", 13), ("error", 17), ("critical", 21),
        (10, 5), (20, 9), (30, 13), (40, 17), (50, 21), (35, 15), (99, 21),
        (1, 1), (9, 9), (17, 17), (24, 24), (-5, 0), ("loud", 0), (None, 0),
    ],
)  # fmt: skip
def test_levels(level: object, number: int) -> None:
    assert severity_of(level) == number


def test_the_handler_records_extras_place_and_exception(
    folder: Path, logger: logging.Logger
) -> None:
    logger.info("%s of %d", "two", 3, extra={"user_tier": "gold"})
    try:
        raise KeyError("lost")
    except KeyError:
        logger.exception("failed")
    first, second = written(folder)
    assert first["body"] == {"stringValue": "two of 3"}
    assert first["scope"] == "tests.record_log"
    assert first["severityText"] == "INFO"
    assert first["attrs"]["user_tier"] == "gold"
    assert first["attrs"]["code.file.path"].endswith("test_record_log.py")
    assert first["attrs"]["code.function.name"].startswith("test_the_handler")
    assert second["severityNumber"] == 17
    assert second["attrs"]["exception.type"] == "KeyError"
    assert "raise KeyError" in second["attrs"]["exception.stacktrace"]


def test_a_record_that_cannot_be_read_is_no_exception(folder: Path, logger: logging.Logger) -> None:
    class Sly:
        def __str__(self) -> str:
            raise RuntimeError("no")

    logger.info("%d", "not a number")
    logger.info(Sly())
    logger.info("%s", Sly())
    assert [record["body"]["stringValue"] for record in written(folder)] == [
        "%d",
        "[unprintable]",
        "%s",
    ]


def test_secrets_in_messages_and_extras_do_not_reach_the_disk(
    folder: Path, logger: logging.Logger
) -> None:
    token = "ghp_" + "a1B2" * 9
    logger.info("token %s", token, extra={"authorization": token, "note": [{"deep": token}]})
    telemetry.log("info", f"Bearer {token}", k={token: token})
    telemetry.flush()
    assert all(token.encode() not in path.read_bytes() for path in folder.iterdir())
    assert len(written(folder)) == 2
