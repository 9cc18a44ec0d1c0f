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

from stack_composer.telemetry.otlp import jaeger, quick
from stack_composer.telemetry.otlp.lines import filtered_line
from stack_composer.telemetry.otlp.walk import POINT_KINDS, Item, items
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
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
    return _Cut(Slice(line), keep).take(signal, _decoded(signal, line, keep))


def thrift_batches(slices: Sequence[Slice], keep: Keep | None = None) -> list[tuple[bytes, int]]:
    """Make Jaeger's Thrift batches of spans: one for each resource, as bytes and spans.

    Raises:
        LineRefusedError: As ``request_of``.
    """
    found: list[Item] = []
    for part in slices:
        data = otlp.decode_line("traces", part.line)
        if _Cut(part, keep).take("traces", data):
            found += items(data)
    return jaeger.batches_of(found)


def _protobuf(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    encoder = quick.Encoder()
    bodies = []
    records = 0
    for part in slices:
        data = _decoded(signal, part.line, keep)
        taken = _Cut(part, keep).take(signal, data)
        if taken:
            bodies.append(encoder.encode(data))
            records += taken
    return b"".join(bodies), records


def _decoded(signal: str, line: bytes, keep: Keep | None) -> Any:
    # Protobuf's encoder looks at ids itself; whoever is asked must see what they are.
    if signal == "traces" and keep is None:
        return otlp.decode_traces(line, as_written=True)
    return otlp.decode_line(signal, line)


def _thrift(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    if signal != "traces":
        raise ValueError("thrift holds traces only")
    batches = thrift_batches(slices, keep)
    if len(batches) > 1:
        raise ValueError("a thrift request holds spans of one resource only")
    return batches[0] if batches else (b"", 0)


def _lines(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    lines, records = _narrowed(signal, slices, keep)
    return b"".join([line + b"\n" for line in lines]), records


def _json(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[bytes, int]:
    lines, records = _narrowed(signal, slices, keep)
    inner = [_inside(signal, line) for line in lines]
    if not records:
        return b"", 0
    return b'{"%b":[%b]}' % (_KEYS[signal].encode(), b",".join(inner)), records


def _inside(signal: str, line: bytes) -> bytes:
    """Give what stands within the outermost list of a line."""
    held = getattr(_envelope(line), _LEVELS[signal][0])
    return bytes(held)[1:-1]


def _narrowed(signal: str, slices: Sequence[Slice], keep: Keep | None) -> tuple[list[bytes], int]:
    """Give lines, without newlines, that hold what is asked for, and how much it is."""
    lines = []
    records = 0
    for part in slices:
        counts: otlp.Counts = Counter()
        data = otlp.decode_line(signal, part.line, counts)
        if keep is None and not part.first and part.last is None:
            flags = [True] * _Cut(part, keep).take(signal, data)
        else:
            flags = _flags(part, keep, items(data))
        line = filtered_line(part.line.strip(), data, flags, mended=counts.total() > 0)
        if line is not None:
            lines.append(_strict(line))
            records += sum(flags)
    return lines, records


def _strict(line: bytes) -> bytes:
    """Mend what is no UTF-8: an unknown field may hold it, which nobody decoded."""
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError:
            return line.decode("utf-8", "replace").encode()
    return line


class _Envelope(msgspec.Struct, rename="camel"):
    resource_spans: msgspec.Raw = msgspec.Raw()
    resource_metrics: msgspec.Raw = msgspec.Raw()
    resource_logs: msgspec.Raw = msgspec.Raw()


_KEYS: Final = {"traces": "resourceSpans", "metrics": "resourceMetrics", "logs": "resourceLogs"}
_envelope = msgspec.json.Decoder(_Envelope).decode


def _flags(part: Slice, keep: Keep | None, found: Iterable[Item]) -> list[bool]:
    """Tell for each record of a line whether it is asked for."""
    flags = []
    place = 0
    for item in found:
        is_kept = keep is None or keep(item)
        flags.append(is_kept and part.first <= place and (part.last is None or place < part.last))
        place += is_kept
    return flags


class _Cut:
    """Leaves in a decoded line what is asked for, and no envelope that is empty."""

    def __init__(self, part: Slice, keep: Keep | None) -> None:
        self._first = part.first
        self._last = part.last
        self._keep = keep
        self._place = 0
        self._taken = 0

    def take(self, signal: str, data: Any) -> int:
        """Do so, once; returns how many records are left."""
        outer, middle, inner = _LEVELS[signal]
        for held in getattr(data, outer):
            for some in getattr(held, middle):
                around = held.resource, some.scope
                if signal == "metrics":
                    some.metrics = [one for one in some.metrics if self._points(one, *around)]
                else:
                    setattr(some, inner, self._chosen(getattr(some, inner), signal, *around))
            _drop_empty(held, middle, inner)
        _drop_empty(data, outer, middle)
        return self._taken

    def _points(self, metric: otlp.Metric, resource: otlp.Resource, scope: otlp.Scope) -> bool:
        """Cut a metric's points; whether there are any left."""
        before = self._taken
        for kind in POINT_KINDS:
            held = getattr(metric, kind)
            if held is not None:
                held.data_points = self._chosen(
                    held.data_points, "metrics", resource, scope, metric
                )
        return self._taken > before

    def _chosen(
        self,
        records: list[Any],
        signal: str,
        resource: otlp.Resource,
        scope: otlp.Scope,
        metric: otlp.Metric | None = None,
    ) -> list[Any]:
        keep = self._keep
        if keep is not None:
            records = [one for one in records if keep(Item(signal, resource, scope, metric, one))]
        place = self._place
        self._place += len(records)
        if place < self._first or self._last is not None:
            stop = None if self._last is None else max(self._last - place, 0)
            records = records[max(self._first - place, 0) : stop]
        self._taken += len(records)
        return records


_LEVELS: Final = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
}


def _drop_empty(holder: Any, name: str, inner: str) -> None:
    setattr(holder, name, [part for part in getattr(holder, name) if getattr(part, inner)])
