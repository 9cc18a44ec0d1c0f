"""Count what a contender left in its folder, so that nobody wins by losing spans.

Files are read without ours: as text, after decompression where they are sealed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

_PENDING = b'"pending_span"'


def sizes(folder: str) -> dict[str, int]:
    """Give the bytes of the traces in ``folder``: plain, sealed, and sidecars."""
    found = {"open": 0, "sealed": 0, "sidecar": 0}
    for name in os.listdir(folder):
        if "traces" in name:
            kind = {"zst": "sealed", "json": "sidecar"}.get(name.rpartition(".")[2], "open")
            found[kind] += os.path.getsize(os.path.join(folder, name))
    return found


def spans(folder: str) -> int:
    """Count the spans; each has one traceId, and none has links here."""
    # logfire also announces spans that have begun; those are not counted.
    return sum(line.count(b'"traceId"') - line.count(_PENDING) for line in _lines(folder, "traces"))


def occurrences(folder: str, text: bytes) -> int:
    """Count a text in the traces."""
    return sum(line.count(text) for line in _lines(folder, "traces"))


def amounts(folder: str) -> dict[str, float]:
    """Give what was counted, by the metric's name: sums, or the counts of histograms."""
    found: dict[str, float] = {}
    for line in _lines(folder, "metrics"):
        for metric in _metrics(json.loads(line)):
            for kind in ("sum", "histogram", "exponentialHistogram", "gauge"):
                if kind in metric:
                    _add(found, metric["name"], metric[kind])
    return found


def _add(found: dict[str, float], name: str, data: dict[str, Any]) -> None:
    for point in data["dataPoints"]:
        value = next(point[k] for k in ("count", "asInt", "asDouble") if k in point)
        # A delta adds up (temporality 1), a cumulative point says it all.
        if data.get("aggregationTemporality") in (1, "AGGREGATION_TEMPORALITY_DELTA"):
            found[name] = found.get(name, 0) + float(value)
        else:
            found[name] = float(value)


def _metrics(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in data["resourceMetrics"]:
        for scope in resource["scopeMetrics"]:
            yield from scope["metrics"]


def _lines(folder: str, signal: str) -> Iterator[bytes]:
    for name in os.listdir(folder):
        if signal not in name or name.endswith(".json"):
            continue
        path = os.path.join(folder, name)
        if name.endswith(".zst"):
            yield from _unpacked(path).splitlines()
        else:
            with open(path, "rb") as file:
                yield from file


def _unpacked(path: str) -> bytes:
    try:
        from compression.zstd import decompress  # type: ignore[import-not-found]
    except ImportError:
        from backports.zstd import decompress
    with open(path, "rb") as file:
        data: bytes = decompress(file.read())
        return data
