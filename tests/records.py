"""Read back what a test recorded, as plain dicts, from the real files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def lines(folder: Path, signal: str) -> list[dict[str, Any]]:
    """All complete lines of one signal, oldest bundle first."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*.{signal}.jsonl*")):
        data = content(path)
        assert not data or data.endswith(b"\n"), f"{path.name} has a torn line"
        found += [json.loads(line) for line in data.splitlines()]
    return found


def content(path: Path) -> bytes:
    """The lines of a bundle, sealed or not."""
    data = path.read_bytes()
    return zstd.decompress(data) if path.suffix == ".zst" else data


def spans(folder: Path) -> list[dict[str, Any]]:
    """Spans with their attributes as a dict under ``attrs``."""
    return _flat(lines(folder, "traces"), "resourceSpans", "scopeSpans", "spans")


def logs(folder: Path) -> list[dict[str, Any]]:
    """Log records likewise."""
    return _flat(lines(folder, "logs"), "resourceLogs", "scopeLogs", "logRecords")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Metrics as they are, in one list."""
    return _flat(lines(folder, "metrics"), "resourceMetrics", "scopeMetrics", "metrics")


def health(folder: Path, what: str) -> dict[tuple[Any, ...], int]:
    """Sums of the health metric ``what`` ("dropped", ...), by its attributes' values."""
    sums: dict[tuple[Any, ...], int] = {}
    for metric in metrics(folder):
        if metric["name"] == f"stack_composer.telemetry.{what}":
            for point in metric["sum"]["dataPoints"]:
                key = tuple(attributes(point).values())
                sums[key] = sums.get(key, 0) + int(point["asInt"])
    return sums


def attributes(record: dict[str, Any]) -> dict[str, Any]:
    """An OTLP attribute list as a dict of plain values."""
    return {a["key"]: value(a["value"]) for a in record.get("attributes", [])}


def value(any_value: dict[str, Any]) -> Any:
    """An AnyValue as a plain value."""
    if not any_value:
        return None
    ((kind, held),) = any_value.items()
    if kind == "intValue":
        return int(held)
    if kind == "arrayValue":
        return [value(v) for v in held.get("values", [])]
    if kind == "kvlistValue":
        return {v["key"]: value(v["value"]) for v in held.get("values", [])}
    return held


def _flat(
    found: list[dict[str, Any]], outer: str, inner: str, records: str
) -> list[dict[str, Any]]:
    return [
        {
            **record,
            "attrs": attributes(record),
            "scope": scope.get("scope", {}).get("name", ""),
            "resource": attributes(resource["resource"]),
        }
        for line in found
        for resource in line[outer]
        for scope in resource[inner]
        for record in scope[records]
    ]
