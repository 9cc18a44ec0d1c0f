"""Follow the lines of all bundles as they are written, through rotation and sealing.

A bundle is known by stem and signal, and for each we keep how far its lines were
given out. While it is plain, new lines are read behind a byte offset. Between two
looks it may be sealed; then the same lines stand in the sealed file in the same
order, so what is left is found by counting lines. A bundle never seen before is new
and is given out from its first line, whichever form it is met in.

Looking is cheap: the folder is listed only when its time of change says that a
name came or went.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from stack_composer.telemetry import effects
from stack_composer.telemetry.store.reader import (
    BundleInfo,
    frames_of,
    list_bundles,
    read_head,
    read_lines,
    read_new_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack_composer.telemetry.query.select import Selection

SETTLED_NS = 2_000_000_000
"""A folder changed so recently may change again within the same tick of its clock."""


class _Place:
    """How far a bundle was given out: bytes while it is plain, lines in any form."""

    __slots__ = ("is_done", "lines", "offset")

    def __init__(self) -> None:
        self.offset = 0
        self.lines = 0
        self.is_done = False


class Follower:
    """Gives out lines of a folder as they come.

    A folder that is not there yet is waited for.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._places: dict[tuple[str, str], _Place] = {}
        self._bundles: list[BundleInfo] = []
        self._changed_ns = -1

    def last_lines(
        self, lines_max: int, wanted: Selection | None = None
    ) -> Iterator[tuple[BundleInfo, bytes]]:
        """Yield up to ``lines_max`` last lines of each bundle; go on behind them.

        Sealed bundles whose sidecar tells that all of it is older than ``lines_max``
        records elsewhere are left out, and of the others what holds nothing that is
        ``wanted`` by its signal or trace.

        Raises:
            StoreError: The folder or a file in it cannot be read.
        """
        self._look()
        too_old = _too_old(self._bundles, lines_max)
        for bundle in self._bundles:
            place = self._place(bundle)
            kept: deque[bytes] = deque(maxlen=lines_max)
            if bundle.sealed:
                place.is_done = True
                if lines_max and bundle not in too_old:
                    kept.extend(_last_lines(bundle, lines_max, wanted))
            else:
                kept.extend(self._appended(bundle, place))
            for line in kept:
                yield bundle, line

    def new_lines(self) -> Iterator[tuple[BundleInfo, bytes]]:
        """Yield what was written since the last look, bundle by bundle; may be nothing.

        Raises:
            StoreError: The folder or a file in it cannot be read.
        """
        self._look()
        for bundle in self._bundles:
            place = self._place(bundle)
            if place.is_done:
                continue
            lines = self._rest(bundle, place) if bundle.sealed else self._appended(bundle, place)
            for line in lines:
                yield bundle, line

    def _place(self, bundle: BundleInfo) -> _Place:
        return self._places.setdefault((bundle.stem, bundle.signal), _Place())

    def _look(self) -> None:
        changed_ns = self._changed()
        now_ns = effects.wall_ns()
        if changed_ns == self._changed_ns and abs(now_ns - changed_ns) > SETTLED_NS:
            return
        self._changed_ns = changed_ns
        self._bundles = list_bundles(self._directory).bundles
        present = {(bundle.stem, bundle.signal) for bundle in self._bundles}
        # Purged bundles never come back; their places would be kept for ever.
        self._places = {key: place for key, place in self._places.items() if key in present}

    def _changed(self) -> int:
        """When a name came or went; or a database, in which they do so unseen, was written."""
        changed_ns = 0
        databases = {bundle.database.path for bundle in self._bundles if bundle.database}
        for path in (self._directory, *databases, *(path + "-wal" for path in databases)):
            with contextlib.suppress(FileNotFoundError):
                changed_ns = max(changed_ns, os.stat(path).st_mtime_ns)
        return changed_ns

    @staticmethod
    def _appended(bundle: BundleInfo, place: _Place) -> Iterator[bytes]:
        while True:
            lines, offset = read_new_lines(bundle, place.offset)
            if offset == place.offset:
                return
            place.offset = offset
            place.lines += len(lines)
            yield from lines

    @staticmethod
    def _rest(bundle: BundleInfo, place: _Place) -> Iterator[bytes]:
        place.is_done = True
        head = read_head(bundle)
        if head is not None and head.lines == place.lines:
            return
        yield from islice(read_lines(bundle), place.lines, None)


def _last_lines(bundle: BundleInfo, lines_max: int, wanted: Selection | None) -> Iterator[bytes]:
    """Yield the last lines of a sealed bundle, and perhaps some before them."""
    if wanted is not None and not wanted.wants(bundle.signal):
        return
    frames = frames_of(bundle, trace=(wanted and wanted.trace) or "")
    if frames is not None:
        lines = 0
        for place in reversed(range(len(frames))):
            lines += frames[place].lines
            if lines >= lines_max:
                frames = frames[place:]
                break
    yield from read_lines(bundle, frames=frames)


def _too_old(bundles: list[BundleInfo], records: int) -> set[BundleInfo]:
    """Return sealed bundles that hold none of the newest ``records`` records for sure."""
    spans = []
    for bundle in bundles:
        head = read_head(bundle)
        if head is not None and head.first_ns:
            spans.append((head.last_ns, head, bundle))
    spans.sort(key=lambda span: span[0], reverse=True)
    found, oldest_ns = 0, 0
    too_old = set()
    for last_ns, head, bundle in spans:
        if found < records:
            found += head.records
            oldest_ns = min(oldest_ns or head.first_ns, head.first_ns)
        elif last_ns <= oldest_ns:
            # Enough records lie at oldest_ns or later: what ended by then is not needed.
            too_old.add(bundle)
    return too_old
