"""Lines for the store's tests: small, whole, and telling which one they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stack_composer.telemetry.store import reader
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter

START_NS = 1_764_000_000_000_000_000


def spans_line(number: int, spans: int = 1, *, padding: str = "") -> bytes:
    """Make a line of spans named by ``number``, the first of them an error."""
    found: list[dict[str, Any]] = []
    for place in range(spans):
        start_ns = START_NS + number * 1000 + place
        found.append(
            {
                "traceId": f"{number + 1:032x}",
                "spanId": f"{place + 1:016x}",
                "name": f"step {number}",
                "startTimeUnixNano": str(start_ns),
                "endTimeUnixNano": str(start_ns + 1000 + place),
                "status": {"code": 2} if place == 0 else {},
            }
        )
        if padding:
            value = {"stringValue": padding}
            found[-1]["attributes"] = [{"key": "padding", "value": value}]
    return dump({"resourceSpans": [{"scopeSpans": [{"spans": found}]}]})


def dump(value: object) -> bytes:
    """One value as one line."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def sketch_of(line: bytes, signal: str = "traces") -> Sketch:
    """The sketch that a writer would pass along with a line."""
    sketch = Sketch()
    sketch.add_line(signal, line)
    return sketch


def append(writer: BundleWriter, line: bytes, signal: str = "traces") -> None:
    """Append a line as the pipeline does."""
    writer.append(signal, line, sketch_of(line, signal))


def tick_until_idle(writer: BundleWriter) -> None:
    """Let the writer finish what it has begun."""
    while writer.tick():
        pass


def all_lines(directory: Path | str) -> list[bytes]:
    """Every whole line in a folder, with its newline, in the order of the bundles."""
    return [
        line + b"\n"
        for bundle in reader.list_bundles(str(directory)).bundles
        for line in reader.read_lines(bundle)
    ]


def names_in(directory: Path) -> list[str]:
    """What is in a folder, sorted."""
    return sorted(path.name for path in directory.iterdir())
