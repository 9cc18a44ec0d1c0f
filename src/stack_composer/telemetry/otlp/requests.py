"""Make the bodies of requests of stored lines: protobuf, JSON, Jaeger's Thrift, or lines.

A ``Slice`` names records of one stored line, so a request can be cut at any record and
lines can be put together. What is asked of a whole line of ours costs little: JSON is
spliced as bytes. Whatever is not as our encoder writes it is decoded, mended
and written anew, in the protocol's strict form; fields that are not known are then left
out of protobuf and Thrift, which have no place for them by name, and stay in JSON.

No request holds an empty envelope (OTLP.md, A13): where nothing is kept, the body is
empty and the number of records is 0.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stack_composer.telemetry.otlp import jaeger, to_protobuf
from stack_composer.telemetry.otlp.lines import filtered_line
from stack_composer.telemetry.otlp.walk import POINT_KINDS, Item, items
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, TypeAlias

    Keep: TypeAlias = Callable[[Item], bool]
    """Whether a record may go into a request."""

FORMS: Final = ("protobuf", "json", "thrift", "jsonl")


class Slice(NamedTuple):
    """Records of one stored line, in document order, counted after ``keep``.

    Attributes:
        line: With or without its newline.
        first: The first record, counted from 0.
        last: The first record that is not in it any more; None for all that follow.
    """

    line: bytes
    first: int = 0
    last: int | None = None


class _Cut(NamedTuple):
    """What of a line goes into a request."""

    data: Any
    flags: list[bool]
    records: int
    mended: bool


def request_of(
    form: str, signal: str, slices: Sequence[Slice], keep: Keep | None = None
) -> tuple[bytes, int]:
    """Make one request's body of records of stored lines.

    Args:
        form: "protobuf" (an ``Export*ServiceRequest``), "json" (the same as one OTLP JSON
            document), "thrift" (a Jaeger ``Batch``; spans of one resource only), or
            "jsonl" (lines, each ending in a newline).
        signal: "traces", "metrics" or "logs".
        slices: In the order in which the request has them.
        keep: Asked of each record; None keeps all.

    Returns:
        The body, and how many spans, data points or log records it has; ``(b"", 0)``
        where nothing is kept.

    Raises:
        ValueError: There is no such form, or Thrift cannot hold this.
        LineRefusedError: A line is not OTLP of this signal; nothing of it is quoted.
    """
    if form == "protobuf":
        return _protobuf(signal, slices, keep)
    if form == "json":
        return _json(signal, slices, keep)
    if form == "jsonl":
        return _lines(signal, slices, keep)
    if form == "thrift":
        return _thrift(signal, slices, keep)
    raise ValueError(f"form must be one of {', '.join(FORMS)}")


def records_of(signal: str, line: bytes, keep: Keep | None = None) -> int:
    """Count the spans, data points or log records of a line that ``keep`` keeps.

    Raises:
        LineRefusedError: As ``request_of``.
    """
    return _cut(signal, Slice(line), keep).records


def thrift_batches(slices: Sequence[Slice], keep: Keep | None = None) -> list[tuple[bytes, int]]:
    """Make Jaeger's Thrift batches of spans: one for each resource, as bytes and spans.

    Raises:
        LineRefusedError: As ``request_of``.
    """
    found: list[Item] = []
    for part in slices:
        cut = _cut("traces", part, keep)
        found += [item for item, flag in zip(items(cut.data), cut.flags, strict=True) if flag]
    return jaeger.batches_of(found)


def _cut(signal: str, part: Slice, keep: Keep | None) -> _Cut:
    counts: otlp.Counts = Counter()
    data = otlp.decode_line(signal, part.line, counts)
    flags = []
    kept = 0
    for item in items(data):
        is_kept = keep is None or keep(item)
        flags.append(is_kept and part.first <= kept and (part.last is None or kept < part.last))
        kept += is_kept
    return _Cut(data, flags, sum(flags), counts.total() > 0)


def _protobuf(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    bodies, records = [], 0
    for part in slices:
        cut = _cut(signal, part, keep)
        _narrow(cut.data, cut.flags)
        bodies.append(to_protobuf.encode(cut.data))
        records += cut.records
    return b"".join(bodies), records


def _json(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    lines, records = _filtered(signal, slices, keep)
    key = _KEYS[signal]
    opening = f'{{"{key}":['.encode()
    inner = []
    for line in lines:
        if line.startswith(opening) and line.endswith(b"]}"):
            inner.append(line[len(opening) : -2])
        else:
            held = msgspec.json.decode(line)[key]
            inner.append(msgspec.json.encode(held)[1:-1])
    return (opening + b",".join(inner) + b"]}", records) if records else (b"", 0)


def _thrift(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    if signal != "traces":
        raise ValueError("thrift holds traces only")
    batches = thrift_batches(slices, keep)
    if len(batches) > 1:
        raise ValueError("a thrift request holds spans of one resource only")
    return batches[0] if batches else (b"", 0)


def _lines(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    lines, records = _filtered(signal, slices, keep)
    return b"".join([line + b"\n" for line in lines]), records


def _filtered(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[list[bytes], int]:
    lines, records = [], 0
    for part in slices:
        cut = _cut(signal, part, keep)
        line = filtered_line(part.line.rstrip(), cut.data, cut.flags, mended=cut.mended)
        if line is not None:
            lines.append(line)
            records += cut.records
    return lines, records


_KEYS: Final = {"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}


def _narrow(data: Any, flags: list[bool]) -> None:
    """Take the records without a flag out of decoded data, and what is empty then."""
    remaining = iter(flags)
    for held in _only(data):
        for some in _only(held):
            records = _only(some)
            if isinstance(some, otlp.ScopeMetrics):
                for metric in records:
                    _narrow_metric(metric, remaining)
                records[:] = [metric for metric in records if _has_points(metric)]
            else:
                records[:] = [record for record in records if next(remaining)]
        _only(held)[:] = [some for some in _only(held) if _only(some)]
    _only(data)[:] = [held for held in _only(data) if _only(held)]


def _only(holder: Any) -> list[Any]:
    """Give the list of what a level of the tree holds."""
    name = _HELD[type(holder)]
    held: list[Any] = getattr(holder, name)
    return held


_HELD: Final[dict[type, str]] = {
    otlp.TracesData: "resource_spans",
    otlp.ResourceSpans: "scope_spans",
    otlp.ScopeSpans: "spans",
    otlp.LogsData: "resource_logs",
    otlp.ResourceLogs: "scope_logs",
    otlp.ScopeLogs: "log_records",
    otlp.MetricsData: "resource_metrics",
    otlp.ResourceMetrics: "scope_metrics",
    otlp.ScopeMetrics: "metrics",
}


def _narrow_metric(metric: otlp.Metric, remaining: Any) -> None:
    for kind in POINT_KINDS:
        held = getattr(metric, kind)
        if held is not None:
            held.data_points = [point for point in held.data_points if next(remaining)]


def _has_points(metric: otlp.Metric) -> bool:
    held = [getattr(metric, kind) for kind in POINT_KINDS]
    return any(one is not None and one.data_points for one in held)
