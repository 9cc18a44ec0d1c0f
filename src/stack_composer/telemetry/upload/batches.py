"""Make the requests of a plan, one after the other, always the same ones.

A batch is what one request holds: records of one bundle that stand behind each other,
whole lines where it can be, up to ``Terms.request_bytes_max`` before packing. A line that
is larger is cut between records. A server that finds a batch too large gets its halves,
down to one record. Memory is bounded by one batch, or one line.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp.lines import filtered_line
from stack_composer.telemetry.otlp.requests import Slice, request_of
from stack_composer.telemetry.otlp.walk import items
from stack_composer.telemetry.store import otlp
from stack_composer.telemetry.store.reader import read_placed_lines
from stack_composer.telemetry.upload.audit import Position
from stack_composer.telemetry.upload.plan import EVERYTHING, Portion, Stretch, chooser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final, TypeAlias

    from stack_composer.telemetry.send.destination import Destination
    from stack_composer.telemetry.upload.aggregate import AggregateBatch, AggregateBatches
    from stack_composer.telemetry.upload.plan import Terms
    from stack_composer.telemetry.upload.pseudonyms import Pseudonyms

    AnyBatch: TypeAlias = "Batch | AggregateBatch"
    """What one request holds, whatever the mode."""

OBJECT_BYTES_MAX: Final = 16 * 2**20
"""One object of an object store, before it is packed; a bundle may need several."""
ONE_OBJECT_BYTES_MAX: Final = 256 * 2**20
"""The same where the address is of one object, so that it must take all."""

LINES: Final = "lines"
"""The form of who wants lines and no requests."""

_TAG_CHARS: Final = 8


class Piece(NamedTuple):
    """Records of one line.

    Attributes:
        offset: Where the line begins.
        end: The first place behind what is wanted of it.
        line: With these records alone, as it is stored.
        numbers: Of each record in ``line``, its number in the whole line; None if it is
            the same.
        encoded: The records in the form of requests, where forms can be joined.
        records: How many, where ``encoded`` is set.
        resource: Of the program that recorded them, where a request has only one.
    """

    offset: int
    end: Position
    line: bytes
    numbers: tuple[int, ...] | None
    encoded: bytes = b""
    records: int = 0
    resource: otlp.Resource | None = None


class Batch:
    """What one request holds.

    Attributes:
        portion: What of the bundle is sent in all.
        start: The first place.
        end: The first place behind it; between them, what was wanted.
        signal: Of the request, which of an aggregate is "metrics".
        body: Before packing.
        records: Spans, log records or data points in ``body``.
        lines: Of what it was made.
        name: What an object store may call it, without the end of packed files.
    """

    __slots__ = ("_maker", "_pieces", "body", "end", "portion", "records", "signal", "start")

    def __init__(
        self,
        maker: Batches,
        portion: Portion,
        start: Position,
        end: Position,
        pieces: list[Piece],
    ) -> None:
        self._maker = maker
        self._pieces = pieces
        self.portion = portion
        self.start = start
        self.end = end
        self.signal = portion.bundle.signal
        self.body, self.records = maker.body_of(self.signal, pieces)

    @property
    def lines(self) -> list[bytes]:
        """The lines that it is made of, each with the records that are in it alone."""
        return [self._maker.pseudonyms.line(piece.line) for piece in self._pieces]

    @property
    def name(self) -> str:
        """What an object store may call it.

        A bundle as it is has its own name; a part of one has a name of its own, so that no
        part takes the place of another.
        """
        return object_name(self.portion, self.start, self.end)

    def halves(self) -> list[Batch]:
        """Return two smaller batches with the same records; none if there is one record."""
        pieces = self._pieces
        if len(pieces) == 1:
            pieces = self._maker.cut(self.signal, pieces[0])
        if len(pieces) < 2:
            return []
        middle = len(pieces) // 2
        between = pieces[middle - 1].end
        return [
            Batch(self._maker, self.portion, self.start, between, pieces[:middle]),
            Batch(self._maker, self.portion, between, self.end, pieces[middle:]),
        ]


class Batches:
    """What makes the batches of a plan.

    Args:
        terms: As of the plan.
        form: What bodies are written in, as ``otlp.requests`` has it.
        pseudonyms: What hashes ids once more; there is no way around it.
        is_one_object: The address is that of a single object, which must take all.

    Attributes:
        bytes_max: How much a batch may hold from now on, before packing.
        oddities: What reading had to leave out, by name; "refused_line" is a line that is
            no OTLP.
    """

    def __init__(
        self, terms: Terms, form: str, pseudonyms: Pseudonyms, *, is_one_object: bool = False
    ) -> None:
        self.form = form
        self.pseudonyms = pseudonyms
        self.oddities: Counter[str] = Counter()
        self.bytes_max = terms.request_bytes_max
        if terms.protocol == "put":
            self.bytes_max = ONE_OBJECT_BYTES_MAX if is_one_object else OBJECT_BYTES_MAX

    def of(self, portion: Portion) -> Iterator[Batch]:
        """Yield the batches of a bundle, in order.

        Raises:
            StoreError: The bundle cannot be read.
        """
        for stretch in portion.stretches:
            yield from self._of(portion, stretch)

    def _of(self, portion: Portion, stretch: Stretch) -> Iterator[Batch]:
        start = stretch.start
        pieces: list[Piece] = []
        size = 0
        for piece in self.pieces(portion, stretch):
            room = self._size(piece)
            if pieces and (size + room > self.bytes_max or not self._joins(pieces[-1], piece)):
                yield from self._fitting(Batch(self, portion, start, pieces[-1].end, pieces))
                start, pieces, size = pieces[-1].end, [], 0
            pieces.append(piece)
            size += room
        if pieces:
            yield from self._fitting(Batch(self, portion, start, stretch.end, pieces))

    def _fitting(self, batch: Batch) -> Iterator[Batch]:
        """Give a batch, or the parts of one that is larger than it may be."""
        parts = batch.halves() if len(batch.body) > self.bytes_max else []
        if parts:
            for part in parts:
                yield from self._fitting(part)
        else:
            yield batch

    def _size(self, piece: Piece) -> int:
        return len(piece.encoded) or len(piece.line)

    def _joins(self, before: Piece, piece: Piece) -> bool:
        """Whether two pieces may be in one request: Jaeger's is of one program."""
        return before.resource == piece.resource

    # -- from lines to pieces ---------------------------------------------------------

    def pieces(self, portion: Portion, stretch: Stretch) -> Iterator[Piece]:
        """Yield what of a part of a bundle is wanted and did not go, line by line."""
        signal = portion.bundle.signal
        is_all_wanted = portion.selected == EVERYTHING
        for offset, line in read_placed_lines(
            portion.bundle, self.oddities, start=stretch.start.offset
        ):
            if Position(offset) >= stretch.end:
                return
            behind = Position(offset + len(line) + 1)
            earlier = [one for one in stretch.earlier if one.start < behind]
            is_whole = behind <= stretch.end and offset >= stretch.start.offset
            is_whole &= stretch.start <= Position(offset)
            try:
                if is_all_wanted and not earlier and is_whole:
                    yield from self._encoded(signal, Piece(offset, behind, line, None))
                else:
                    yield from self._chosen(portion, stretch, offset, line)
            except LineRefusedError:
                self.oddities["refused_line"] += 1

    def _chosen(
        self, portion: Portion, stretch: Stretch, offset: int, line: bytes
    ) -> Iterator[Piece]:
        """Keep what of a line is wanted and did not go."""
        signal = portion.bundle.signal
        behind = Position(offset + len(line) + 1)
        counts: Counter[str] = Counter()
        data = otlp.decode_line(signal, line, counts)
        earlier = [one for one in stretch.earlier if one.start < behind]
        is_to_go = chooser(portion.selected, signal, earlier)
        flags = []
        for number, item in enumerate(items(data)):
            place = Position(offset, number)
            flags.append(
                stretch.start <= place < stretch.end and (is_to_go is None or is_to_go(place, item))
            )
        kept = filtered_line(line, data, flags, mended=counts.total() > 0)
        if kept is not None:
            numbers = tuple(number for number, flag in enumerate(flags) if flag)
            end = min(behind, stretch.end)
            yield from self._encoded(signal, Piece(offset, end, kept, numbers))

    def _encoded(self, signal: str, piece: Piece) -> Iterator[Piece]:
        if self.form == "thrift":
            yield from self._by_resource(signal, piece)
        elif self.form == LINES:
            yield piece
        else:
            # Line by line, so that one that is no OTLP spoils no other.
            line = self.pseudonyms.line(piece.line)
            body, records = request_of(self.form, signal, [Slice(line)])
            if records:
                yield piece._replace(encoded=body, records=records)

    def _by_resource(self, signal: str, piece: Piece) -> Iterator[Piece]:
        """Cut a line where another program's records begin."""
        held = [item.resource for item in items(otlp.decode_line(signal, piece.line))]
        firsts = [at for at in range(len(held)) if at == 0 or held[at] != held[at - 1]]
        if len(firsts) == 1:
            yield piece._replace(resource=held[0])
        elif firsts:
            for first, part in zip(firsts, _cut(signal, piece, [*firsts, len(held)]), strict=True):
                yield part._replace(resource=held[first])

    def cut(self, signal: str, piece: Piece) -> list[Piece]:
        """Cut one piece into two, between records; one stays as it is."""
        records = sum(1 for _ in items(otlp.decode_line(signal, piece.line)))
        if records < 2:
            return [piece]
        halves = _cut(signal, piece, [0, records // 2, records])
        return [part for half in halves for part in self._encoded(signal, half)]

    # -- from pieces to bodies --------------------------------------------------------

    def body_of(self, signal: str, pieces: Sequence[Piece]) -> tuple[bytes, int]:
        """Make the body of a request, and count its records."""
        if self.form == "thrift":
            lines = [self.pseudonyms.line(piece.line) for piece in pieces]
            return request_of("thrift", signal, [Slice(line) for line in lines])
        bodies = [piece.encoded for piece in pieces]
        records = sum(piece.records for piece in pieces)
        if self.form == "json" and len(bodies) > 1:
            # Documents of one list each: the first one's beginning, then what is in them.
            begin = bodies[0].index(b"[") + 1
            inner = b",".join([body[begin:-2] for body in bodies])
            return bodies[0][:begin] + inner + b"]}", records
        # Messages of repeated fields, and lines, are joined by standing behind each other.
        return b"".join(bodies), records


def _cut(signal: str, piece: Piece, bounds: Sequence[int]) -> list[Piece]:
    """Cut a piece between records: one for each two neighbours of ``bounds``."""
    counts: Counter[str] = Counter()
    data = otlp.decode_line(signal, piece.line, counts)
    records = bounds[-1]
    numbers = piece.numbers or tuple(range(records))
    found = []
    for first, last in itertools.pairwise(bounds):
        flags = [first <= number < last for number in range(records)]
        line = filtered_line(piece.line, data, flags, mended=counts.total() > 0)
        assert line is not None
        end = piece.end if last == records else Position(piece.offset, numbers[last])
        found.append(Piece(piece.offset, end, line, numbers[first:last]))
    return found


def object_name(portion: Portion, start: Position, end: Position) -> str:
    """Name an object: the bundle's own name, and a mark if it is not the bundle as it is."""
    whole = portion.selected == EVERYTHING and not any(
        stretch.earlier for stretch in portion.stretches
    )
    if whole and start == Position(0) and end == portion.stretches[-1].end:
        return f"{portion.key}.jsonl"
    told = repr((start, end, portion.selected, portion.stretches))
    tag = hashlib.sha256(told.encode()).hexdigest()[:_TAG_CHARS]
    return f"{portion.key}.{tag}.jsonl"


def maker_of(
    terms: Terms, destination: Destination, pseudonyms: Pseudonyms
) -> Batches | AggregateBatches:
    """Give what makes the batches of a plan.

    Raises:
        SendError: The destination does not take what the mode sends.
    """
    if terms.mode == "aggregate":
        from stack_composer.telemetry.upload.aggregate import AggregateBatches

        return AggregateBatches(terms, destination.form_of("metrics"), pseudonyms)
    form = destination.form_of(destination.signals[0])
    return Batches(terms, form, pseudonyms, is_one_object=destination.is_one_object)
