"""What a stream still has to send of the bundles of its own process.

A bundle is read behind a *place*, up to which all of it is settled, while the writer
appends to it: files and rows of an encrypted database alike. It may be sealed meanwhile,
or moved into a database; places stay the same. ``NewLines`` makes batches of what was
read, as an upload makes them of a plan.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.reader import (
    BundleInfo,
    list_bundles,
    read_new_lines,
)
from stack_composer.telemetry.upload.audit import Position
from stack_composer.telemetry.upload.batches import Batches, Piece
from stack_composer.telemetry.upload.plan import EVERYTHING, Portion, Stretch, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.upload.batches import Batch

READ_BYTES: Final = 2**20
"""Read at once of a bundle, and so about what a request holds while much is written."""


class NewLines(Batches):
    """Makes batches of lines that were just read; otherwise as ``Batches``."""

    _lines: Sequence[bytes] = ()

    def of_lines(
        self, bundle: BundleInfo, start: Position, lines: Sequence[bytes], end: int
    ) -> Iterator[Batch]:
        """Yield the batches of lines.

        Args:
            bundle: Where they stand.
            start: The first record that is wanted: in the first line, or at its begin.
            lines: That follow each other from ``start.offset`` on, without newlines.
            end: The offset behind the last one.
        """
        self._lines = lines
        yield from self.of(Portion(bundle, EVERYTHING, (Stretch(start, Position(end), ()),)))

    def pieces(self, portion: Portion, stretch: Stretch) -> Iterator[Piece]:
        """Yield the lines, the first of them perhaps without what went of it."""
        offset = stretch.start.offset
        for line in self._lines:
            behind = Position(offset + len(line) + 1)
            try:
                if stretch.start <= Position(offset):
                    yield from self._encoded(
                        portion.bundle.signal, Piece(offset, behind, line, None)
                    )
                else:
                    yield from self._chosen(portion, stretch, offset, line)
            except LineRefusedError:
                self.oddities["refused_line"] += 1
            offset = behind.offset


class Own:
    """A bundle of this process.

    Attributes:
        key: ``<stem>.<signal>``.
        signal: Of its records.
        stem: Before the signal.
        place: What is before it is settled; None while nothing of it may leave.
        is_behind: The last look did not find the end.
    """

    __slots__ = ("_bundle", "_directory", "_unlock", "is_behind", "key", "place", "signal", "stem")

    def __init__(self, directory: str, stem: str, signal: str, unlock: Keys | None) -> None:
        self.key = f"{stem}.{signal}"
        self.stem = stem
        self.signal = signal
        self.place: Position | None = None
        self.is_behind = False
        self._directory = directory
        self._unlock = unlock
        self._bundle: BundleInfo | None = None

    @property
    def bundle(self) -> BundleInfo:
        """Where its lines are."""
        if self._bundle is None and self._unlock is not None:
            self._bundle = self._found()
        return self._bundle or self._file()

    def _file(self) -> BundleInfo:
        name = names.open_name(self.stem, self.signal)
        parsed = names.parse_name(name)
        assert parsed is not None
        path = os.path.join(self._directory, name)
        return BundleInfo(
            path, self.signal, parsed.created_ns, parsed.pid, sealed=False, bytes=0, stem=self.stem
        )

    def _found(self) -> BundleInfo | None:
        listed = list_bundles(self._directory, self._unlock, locked=[]).bundles
        return next((one for one in listed if key_of(one) == self.key), None)

    def read(self) -> tuple[list[bytes], int]:
        """Read lines behind ``place``; and the offset behind them.

        What is damaged is left out, and ``place`` is behind it then.

        Raises:
            StoreError: It cannot be read.
        """
        assert self.place is not None
        start = self.place.offset
        lines, end = read_new_lines(self.bundle, start, read_bytes_max=READ_BYTES)
        self.is_behind = end - start > READ_BYTES // 2
        begin = end - sum(map(len, lines)) - len(lines)
        if begin != start:
            self.place = Position(begin)
        return lines, end

    def is_gone(self) -> bool:
        """Whether there is nothing left to read, of one that is not written any more.

        A bundle that was moved into a database since is looked for, and gone on with.
        """
        bundle = self.bundle
        if bundle.database is None and not (
            os.path.lexists(bundle.path) or os.path.lexists(bundle.path + ".zst")
        ):
            found = self._found()
            if found is not None:
                self._bundle = found
                return False
        return True

    def seek_end(self) -> None:
        """Settle what was written until now."""
        offset = 0
        while True:
            _, end = read_new_lines(self.bundle, offset)
            if end == offset:
                break
            offset = end
        self.place = Position(offset)
