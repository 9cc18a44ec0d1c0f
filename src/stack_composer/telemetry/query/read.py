"""Decode the lines of bundles and files, and find the records asked for.

Bundles that cannot hold an answer are passed over by their signal, their sidecar or
the time of their last write. A line that is no OTLP is noted and left out; it never
stops the rest.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.query.collect import Refusals, cannot_match
from stack_composer.telemetry.query.select import Item, Selection, items
from stack_composer.telemetry.store import otlp
from stack_composer.telemetry.store.reader import BundleInfo, frames_of, read_head, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Found:
    """A line with at least one record that was asked for.

    Attributes:
        path: The file it stands in.
        number: Which line of that file, blank ones not counted.
        line: Its bytes, without newline.
        data: What was decoded.
        mended: Whether decoding had to mend it.
        items: All its records in document order.
        flags: For each of them whether it was asked for.
    """

    __slots__ = ("data", "flags", "items", "line", "mended", "number", "path")

    def __init__(
        self,
        path: str,
        number: int,
        line: bytes,
        data: otlp.TracesData | otlp.MetricsData | otlp.LogsData,
        records: list[Item],
        flags: list[bool],
        *,
        mended: bool,
    ) -> None:
        self.path = path
        self.number = number
        self.line = line
        self.data = data
        self.items = records
        self.flags = flags
        self.mended = mended

    def matches(self) -> Iterator[Item]:
        """Yield the records asked for."""
        return (item for item, flag in zip(self.items, self.flags, strict=True) if flag)


class Reading:
    """One pass over sources.

    Attributes:
        refusals: Lines that are no OTLP.
        oddities: What was mended or left out, as in ``collect``.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.refusals = Refusals()
        self.oddities: Counter[str] = Counter()

    def find(self, sources: Iterable[BundleInfo | str]) -> Iterator[Found]:
        """Yield the lines that hold an answer, source by source, as they were written.

        Raises:
            StoreError: A file cannot be read. What a file holds never raises.
        """
        for source in sources:
            yield from self._find_in(source)

    def newest(self, sources: Iterable[BundleInfo | str], limit: int) -> list[Found]:
        """Return the ``limit`` newest records, in their lines, in the order of the lines.

        Bundles are read from the latest on, and no more once what is left is older by its
        sidecars; lines that are no OTLP in there are not met. Memory is bounded by
        ``limit`` lines.

        Raises:
            StoreError: As ``find``.
        """
        order = [(_latest_ns(source), place, source) for place, source in enumerate(sources)]
        order.sort(key=lambda entry: entry[:2], reverse=True)
        chosen = _Newest(limit)
        for latest_ns, place, source in order:
            if chosen.oldest_ns > latest_ns:
                break
            for number, one in enumerate(self._find_in(source)):
                chosen.add((place, number), one)
        return chosen.found()

    def _find_in(self, source: BundleInfo | str) -> Iterator[Found]:
        if isinstance(source, str):
            path, signal = source, None
        elif self.selection.wants(source.signal):
            path, signal = source.path, source.signal
        else:
            return
        for number, line in self._lines(source):
            found = self.judge(line, signal, path, number)
            if found is not None:
                yield found

    def _lines(self, source: BundleInfo | str) -> Iterator[tuple[int, bytes]]:
        """Yield the lines that may hold an answer, with their numbers."""
        wanted = self.selection
        frames = None
        if isinstance(source, BundleInfo) and (wanted.trace or wanted.since_ns or wanted.until_ns):
            frames = frames_of(
                source,
                self.oddities,
                trace=wanted.trace or "",
                since_ns=wanted.since_ns,
                until_ns=wanted.until_ns,
            )
            if frames is None and cannot_match(source, wanted.since_ns, wanted.until_ns):
                return
        if frames is None:
            yield from enumerate(read_lines(source, self.oddities), 1)
            return
        for frame in frames:
            lines = read_lines(source, self.oddities, frames=[frame])
            yield from enumerate(lines, frame.first_line)

    def judge(self, line: bytes, signal: str | None, path: str, number: int) -> Found | None:
        """Return a line with what was asked for; None when it has nothing of it.

        ``path`` and ``number`` name the line when it must be refused.
        """
        counts: Counter[str] = Counter()
        try:
            data = otlp.decode_line(signal, line, counts)
        except LineRefusedError as error:
            self.refusals.add(path, number, error)
            return None
        self.oddities.update(counts)
        records = list(items(data))
        flags = [self.selection.takes(item) for item in records]
        if not any(flags):
            return None
        return Found(path, number, line, data, records, flags, mended=counts.total() > 0)


def newest(found: Iterable[Found], limit: int) -> list[Found]:
    """Return the ``limit`` newest records, in their lines, in the order of the lines.

    Memory is bounded by ``limit`` lines.
    """
    chosen = _Newest(limit)
    for number, one in enumerate(found):
        chosen.add((0, number), one)
    return chosen.found()


def _latest_ns(source: BundleInfo | str) -> float:
    """When the last record of a bundle is over; infinite if nothing tells."""
    head = None if isinstance(source, str) else read_head(source)
    return head.last_ns if head is not None and head.first_ns else math.inf


class _Newest:
    """The newest records of those that were added, in whichever order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[int, tuple[int, int], int, Found]] = []

    @property
    def oldest_ns(self) -> int:
        """What is over before that cannot be among them any more."""
        return self._heap[0][0] if len(self._heap) >= self._limit else 0

    def add(self, place: tuple[int, int], one: Found) -> None:
        """Add what was asked for of a line; ``place`` puts the lines in order."""
        for index, item in enumerate(one.items):
            if not one.flags[index]:
                continue
            entry = (item.end_ns, place, index, one)
            if len(self._heap) < self._limit:
                heapq.heappush(self._heap, entry)
            elif entry[:3] > self._heap[0][:3]:
                heapq.heapreplace(self._heap, entry)

    def found(self) -> list[Found]:
        """Return their lines in order; the flags tell the records."""
        chosen: dict[tuple[int, int], tuple[Found, list[int]]] = {}
        for _, place, index, one in sorted(self._heap, key=lambda entry: entry[1:3]):
            chosen.setdefault(place, (one, []))[1].append(index)
        for one, indexes in chosen.values():
            one.flags = [index in indexes for index in range(len(one.flags))]
        return [one for one, _ in chosen.values()]
