"""Tell which signal a message of OTLP holds.

JSON says it by the keys at its top. Of protobuf the three requests look alike on the wire:
lists of resources with lists of scopes with lists of records. Only the records differ, so
some are looked at, and each signal is asked whether their fields could be its own, and how
sure that makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stack_composer.telemetry.otlp import wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

JSON_KEYS: Final = {
    "resourceSpans": "traces",
    "resourceMetrics": "metrics",
    "resourceLogs": "logs",
    "resource_spans": "traces",
    "resource_metrics": "metrics",
    "resource_logs": "logs",
}
"""The keys at the top of OTLP's JSON, and of what some wrongly write for it."""

_TOP: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LOOKED_AT_MAX: Final = 8

# The tags that a record may have (field number and wire type), and those that hardly
# any record is without and that another signal's has not: its times, or its data.
_KNOWN: Final = {
    "traces": (
        {0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x30, 0x39, 0x41, 0x4A, 0x50, 0x5A, 0x60, 0x6A, 0x70}
        | {0x7A, 0x85},
        {0x39, 0x41},
    ),
    "metrics": (
        {0x0A, 0x12, 0x1A, 0x2A, 0x3A, 0x4A, 0x52, 0x5A, 0x62},
        {0x3A, 0x4A, 0x52, 0x5A},
    ),
    "logs": (
        {0x09, 0x10, 0x1A, 0x2A, 0x32, 0x38, 0x45, 0x4A, 0x52, 0x59, 0x62},
        {0x09, 0x10, 0x59},
    ),
}
_NAME: Final = 0x0A
_GAUGE: Final = 0x2A
_ID_SIZES: Final = {
    "traces": {0x0A: (0, 16), 0x12: (0, 8), 0x22: (0, 8)},
    "logs": {0x4A: (0, 16), 0x52: (0, 8)},
}


def keys_of(line: bytes) -> frozenset[str]:
    """The keys of a JSON object; none if it is no object."""
    try:
        return frozenset(_TOP.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return frozenset()


def signal_of(data: bytes) -> str | None:
    """Tell the signal of a message; None where nothing in it decides.

    Raises:
        LineRefusedError: It is not protobuf.
    """
    scores = dict.fromkeys(_KNOWN, 0)
    for looked_at, (at, end) in enumerate(_records(data)):
        if looked_at == _LOOKED_AT_MAX:
            break
        tags = list(_tags(data, at, end))
        for signal in list(scores):
            score = _score(signal, tags)
            if score < 0:
                del scores[signal]
            else:
                scores[signal] += score
    best = max(scores.values(), default=0)
    likely = [signal for signal, score in scores.items() if score == best]
    return likely[0] if best and len(likely) == 1 else None


def _score(signal: str, tags: list[tuple[int, int]]) -> int:
    known, telling = _KNOWN[signal]
    sizes = _ID_SIZES.get(signal, {})
    # Of a gauge the number is that of a span's name and of a log's body. But a metric has
    # a name in field 1, where a log has its time.
    is_gauge = signal == "metrics" and (_NAME, -1) in tags and (_GAUGE, -1) in tags
    score = 4 * is_gauge
    numbers = {tag >> 3 for tag in known}
    for tag, size in tags:
        if size < 0:
            continue
        if tag in known:
            if tag in sizes and size not in sizes[tag]:
                return -1
            score += 4 if tag in telling else 1
        elif tag >> 3 in numbers:
            return -1  # A field of that number has another wire type.
    return score


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    for first, last in wire.parts(data, 0, len(data), 0x0A):
        for at, end in wire.parts(data, first, last, 0x12):
            yield from wire.parts(data, at, end, 0x12)


def _tags(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the tags of a message, each with the size of what it holds.

    A tag comes once more, with -1, if it may be a metric's name or its gauge.
    """
    while at < end:
        tag, first = wire.varint(data, at, end)
        at = wire.skip(data, first, end, tag)
        size = at - first
        if tag & 7 == 2:
            size, begin = wire.varint(data, first, end)
            if tag == _NAME or (tag == _GAUGE and data[begin : begin + 1] == b"\n"):
                yield tag, -1
        yield tag, size
