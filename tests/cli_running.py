"""Run the real program as a child process, and make bundles with the real writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, dump, tick_until_idle

AMBIENT = ("PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "COLUMNS")
"""What would change the program's output, and is whoever runs the suite's own."""

COMMAND = [sys.executable, "-m", "stack_composer.telemetry.cli"]
SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS


def run(
    *arguments: str | Path,
    stdin: str | bytes = b"",
    environ: dict[str, str] | None = None,
    program: list[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``stack-composer`` with arguments; standard input is no terminal."""
    ambient = {name: value for name, value in os.environ.items() if name not in AMBIENT}
    done = subprocess.run(
        [*(program or COMMAND), *map(str, arguments)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        env={**ambient, **(environ or {})},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args,
        done.returncode,
        done.stdout.decode("utf-8", "surrogateescape"),
        done.stderr.decode("utf-8", "surrogateescape"),
    )


def ok(*arguments: str | Path, **how: Any) -> str:
    """Run, expect success and a silent standard error, return the output."""
    done = run(*arguments, **how)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def ok_json(*arguments: str | Path, **how: Any) -> Any:
    """Run with ``--json`` and return what it says."""
    return json.loads(ok(*arguments, "--json", **how))


def ok_lines(*arguments: str | Path, **how: Any) -> list[Any]:
    """Run and return the JSON lines that it prints."""
    return [json.loads(line) for line in ok(*arguments, **how).splitlines()]


def refusal(*arguments: str | Path, code: int = 2, **how: Any) -> tuple[str, str]:
    """Run, expect the two lines of an error and nothing else, return them bare."""
    done = run(*arguments, **how)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    what, hint, nothing = done.stderr.split("\n")
    assert nothing == ""
    assert what.startswith("stack-composer: ")
    assert hint.startswith("  hint: ")
    return what.removeprefix("stack-composer: "), hint.removeprefix("  hint: ")


def span(
    name: str,
    *,
    start_ns: int,
    duration_ns: int = 1_000_000,
    trace: int = 1,
    number: int = 1,
    parent: int = 0,
    error: bool = False,
    attributes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a span in OTLP's JSON."""
    made: dict[str, Any] = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + duration_ns),
        "attributes": [pair(key, value) for key, value in (attributes or {}).items()],
        "status": {"code": 2, "message": "it broke"} if error else {},
    }
    if parent:
        made["parentSpanId"] = f"{parent:016x}"
    return made


def pair(key: str, value: Any) -> dict[str, Any]:
    """Make an attribute of a text, a bool, an int or a float."""
    kind = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    said = str(value) if type(value) is int else value
    return {"key": key, "value": {kind[type(value)]: said}}


def spans_line(*spans: dict[str, Any]) -> bytes:
    """Make a line of spans."""
    return dump({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "t"}, "spans": spans}]}]})


def gauge(name: str, value: float, *, time_ns: int, **labels: Any) -> dict[str, Any]:
    """Make a gauge with one point."""
    point = {
        "timeUnixNano": str(time_ns),
        "asDouble": value,
        "attributes": [pair(key, label) for key, label in labels.items()],
    }
    return {"name": name, "gauge": {"dataPoints": [point]}}


def counter(name: str, value: int, *, time_ns: int, **labels: Any) -> dict[str, Any]:
    """Make a delta sum with one point."""
    point = {
        "startTimeUnixNano": str(time_ns - 1),
        "timeUnixNano": str(time_ns),
        "asInt": str(value),
        "attributes": [pair(key, label) for key, label in labels.items()],
    }
    held = {"dataPoints": [point], "aggregationTemporality": 1, "isMonotonic": True}
    return {"name": name, "sum": held}


def metrics_line(*metrics: dict[str, Any]) -> bytes:
    """Make a line of metrics."""
    return dump({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})


def log(body: str, *, time_ns: int, severity: int = 9, trace: int = 0) -> dict[str, Any]:
    """Make a log record."""
    made: dict[str, Any] = {
        "timeUnixNano": str(time_ns),
        "severityNumber": severity,
        "body": {"stringValue": body},
    }
    if trace:
        made |= {"traceId": f"{trace:032x}", "spanId": f"{1:016x}"}
    return made


def logs_line(*records: dict[str, Any]) -> bytes:
    """Make a line of log records."""
    return dump({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})


def write(folder: Path, *lines: tuple[str, bytes], created_ns: int | None = None) -> None:
    """Write lines as one process would, and leave its bundles plain and closed."""
    writer = BundleWriter(str(folder), clock=lambda: created_ns or time.time_ns())
    for signal, line in lines:
        append(writer, line, signal)
    writer.close()


def write_sealed(folder: Path, *lines: tuple[str, bytes]) -> None:
    """Write lines, each into a bundle of its own, and seal them all."""
    ages = iter(range(0, 10**6, 10))
    writer = BundleWriter(
        str(folder), clock=lambda: time.time_ns() + next(ages) * SECOND_NS, bundle_age_s_max=1
    )
    for signal, line in lines:
        append(writer, line, signal)
        tick_until_idle(writer)
    tick_until_idle(writer)
    writer.close()
