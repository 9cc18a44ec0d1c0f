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

import contextlib
from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stack_composer.telemetry.otlp import jaeger, quick
from stack_composer.telemetry.otlp.lines import has_null, is_one_line, narrowed, written
from stack_composer.telemetry.otlp.walk import POINT_KINDS, Item, items
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
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
    return jaeger.batches_of(_spans(slices, keep))


def _spans(slices: Sequence[Slice], keep: Keep | None) -> Iterator[Item]:
    # One line after the other, so that one at a time is in memory decoded.
    for part in slices:
        data = otlp.decode_line("traces", part.line)
        if _Cut(part, keep).take("traces", data):
            yield from items(data)


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
        cut = _Cut(part, keep)
        taken = cut.take(signal, data)
        if taken:
            lines.append(_strict(_text(part.line.strip(), data, cut, counts)))
            records += taken
    return lines, records


def _text(line: bytes, data: Any, cut: _Cut, counts: otlp.Counts) -> bytes:
    """Give what was left in ``data`` as JSON: if it can be, as the text that it was."""
    if not counts.total() and not has_null(line):
        # What only the forgiving parser had read is no text to send.
        with contextlib.suppress(msgspec.DecodeError):
            if cut.is_whole and is_one_line(line):
                _envelope(line)
                return line
            return msgspec.json.encode(narrowed(msgspec.json.decode(line), cut.flags))
    return msgspec.json.encode(written(data))


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


class _Cut:
    """Leaves in a decoded line what is asked for, and no envelope that is empty.

    Attributes:
        flags: For each record that was there whether it is left.
        is_whole: Whether all is as it was: no record gone, and no empty envelope.
    """

    def __init__(self, part: Slice, keep: Keep | None) -> None:
        self.flags: list[bool] = []
        self.is_whole = True
        self._part = part
        self._keep = keep
        self._place = 0

    def take(self, signal: str, data: Any) -> int:
        """Do so, once; returns how many records are left."""
        outer, middle, inner = _LEVELS[signal]
        for held in getattr(data, outer):
            for some in getattr(held, middle):
                around = signal, held.resource, some.scope
                if signal == "metrics":
                    for metric in some.metrics:
                        self._cut_metric(metric, *around)
                    some.metrics = self._left(some.metrics, _has_points)
                else:
                    setattr(some, inner, self._chosen(getattr(some, inner), *around))
            setattr(held, middle, self._left(getattr(held, middle), attrgetter(inner)))
        setattr(data, outer, self._left(getattr(data, outer), attrgetter(middle)))
        return sum(self.flags)

    def _cut_metric(
        self, metric: otlp.Metric, signal: str, resource: otlp.Resource, scope: otlp.Scope
    ) -> None:
        for kind in POINT_KINDS:
            held = getattr(metric, kind)
            if held is not None:
                held.data_points = self._chosen(held.data_points, signal, resource, scope, metric)

    def _chosen(
        self,
        records: list[Any],
        signal: str,
        resource: otlp.Resource,
        scope: otlp.Scope,
        metric: otlp.Metric | None = None,
    ) -> list[Any]:
        keep = self._keep
        _, first, last = self._part
        if keep is None and not first and last is None:
            self.flags += [True] * len(records)
            return records
        chosen = []
        for record in records:
            is_kept = keep is None or keep(Item(signal, resource, scope, metric, record))
            is_taken = is_kept and first <= self._place and (last is None or self._place < last)
            self._place += is_kept
            self.flags.append(is_taken)
            if is_taken:
                chosen.append(record)
        self.is_whole = self.is_whole and len(chosen) == len(records)
        return chosen

    def _left(self, found: list[Any], has_any: Callable[[Any], Any]) -> list[Any]:
        left = [one for one in found if has_any(one)]
        self.is_whole = self.is_whole and len(left) == len(found)
        return left


_LEVELS: Final = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
}


def _has_points(metric: otlp.Metric) -> bool:
    held = [getattr(metric, kind) for kind in POINT_KINDS]
    return any(one is not None and one.data_points for one in held)
