"""Finish a bundle of the database: few large frames, index, sidecar, and no more lines.

Reading, merging and decoding take time and no lock. Then one transaction looks whether
the bundle is as it was, puts frames, index and sidecar in place and sets ``sealed``:
readers see it before or after, nothing between, and a process that dies leaves it as it
was. Whoever appends asks for ``sealed = 0`` in the same statement, so its next line goes
to a new bundle. Anybody may do this for a bundle whose writer has ended in order
(``closed``), or has not been heard of for ``IDLE_S``; if two do, the second one finds it
done.
"""

from __future__ import annotations

from collections import Counter

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.encrypted.database import run
from stack_composer.telemetry.store.encrypted.rows import INDEX
from stack_composer.telemetry.store.packing import Packing
from stack_composer.telemetry.store.seal import FRAME_BYTES
from stack_composer.telemetry.store.sidecar import encode_sidecar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Final

    from stack_composer.telemetry.store.encrypted.database import Database
    from stack_composer.telemetry.store.marks import Marks
    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.store.sketch import Sketch

IDLE_S: Final = 3_600
"""Beyond the age at which any writer begins a new bundle: then its writer is dead."""

MERGED_BYTES: Final = 16 * 2**10
"""Frames smaller than this on average are merged: they waste room in pages, and pack badly."""


class RowSealing:
    """The sealing of one bundle of a database, in steps of a few milliseconds.

    Args:
        database: Where it is.
        bundle: Which one.
        sketch: Of all its lines; None builds one by decoding them.
        marks: Of all its appends; as for ``Packing``.
    """

    def __init__(
        self,
        database: Database,
        bundle: BundleInfo,
        sketch: Sketch | None,
        marks: Marks | None = None,
    ) -> None:
        self.bundle = bundle
        self._database = database
        self._packing = Packing(bundle.signal, sketch, marks)
        self._steps = self._run()

    def step(self) -> bool:
        """Do a little; True when it is sealed, or need not be.

        Raises:
            StoreError: It cannot be read or written, and stays as it is.
        """
        return next(self._steps, True)

    def _run(self) -> Generator[bool, None, None]:
        known = self._look()
        if known is None:
            return
        plain_bytes, size, chunks = known
        merged: list[tuple[int, int, bytes]] = []
        is_merged = chunks > 1 and size < chunks * MERGED_BYTES
        done = yield from self._read(merged if is_merged else None)
        if done != plain_bytes:
            return  # Somebody else has sealed, or purged it meanwhile.
        yield False
        index = self._packing.index()
        size = self._packing.packed_bytes + len(index)
        data = encode_sidecar(self._packing.sidecar(size))
        row, stem = self.bundle.row, self.bundle.stem
        with self._database.change("seal a bundle in") as connection:
            found = run(
                connection,
                "SELECT plain_bytes FROM bundle WHERE id = ? AND stem = ? AND sealed = 0",
                (row, stem),
            )
            if found != [(plain_bytes,)]:
                return  # Sealed, purged, or appended to: its writer lives after all.
            if is_merged:
                run(connection, "DELETE FROM chunk WHERE bundle = ?", (row,))
                connection.executemany(
                    "INSERT INTO chunk (bundle, start, plain_bytes, data) VALUES (?, ?, ?, ?)",
                    [(row, *frame) for frame in merged],
                )
            run(connection, "REPLACE INTO sidecar VALUES (?, ?)", (row, data))
            run(connection, "REPLACE INTO beside VALUES (?, ?, ?)", (row, INDEX, index))
            run(
                connection,
                "UPDATE bundle SET sealed = 1, closed = 1, bytes = ? WHERE id = ?",
                (size, row),
            )

    def _look(self) -> tuple[int, int, int] | None:
        with self._database.use() as connection:
            rows = run(
                connection,
                "SELECT plain_bytes, bytes, (SELECT count(*) FROM chunk WHERE bundle = b.id)"
                " FROM bundle AS b WHERE id = ? AND stem = ? AND sealed = 0",
                (self.bundle.row, self.bundle.stem),
            )
        return rows[0] if rows else None

    def _read(self, merged: list[tuple[int, int, bytes]] | None) -> Generator[bool, None, int]:
        """Read all frames, and merge them into ``merged``; how many bytes of lines they hold."""
        from stack_composer.telemetry.store.encrypted.rows import read_frames
        from stack_composer.telemetry.store.reader import unpack_frame

        odd: Counter[str] = Counter()
        held: list[bytes] = []
        start = done = 0
        for place, data in read_frames(self._database, self.bundle, odd):
            plain = b"".join(piece or b"" for piece in unpack_frame(data or b"", odd))
            if place != done:
                return -1  # Merged meanwhile, by who seals it too.
            done += len(plain)
            yield from self._packing.counted(plain)
            if merged is None:
                self._packing.add(plain, len(data or b""))
            else:
                held.append(plain)
            if done - start >= FRAME_BYTES:
                self._merge(merged, held)
                start = done
                yield False
        self._merge(merged, held)
        if odd.total():
            raise StoreError(
                f"a bundle in {self._database.path} is damaged and stays as it is",
                hint="run 'stack-composer telemetry doctor'",
            )
        return done

    def _merge(self, merged: list[tuple[int, int, bytes]] | None, held: list[bytes]) -> None:
        """Make one frame of what is held, if anything is."""
        if merged is None or not held:
            return
        from stack_composer.telemetry.store.zstd import compress_frame

        plain = b"".join(held)
        frame = compress_frame(plain)
        merged.append((self._packing.plain_bytes, len(plain), frame))
        self._packing.add(plain, len(frame))
        held.clear()
