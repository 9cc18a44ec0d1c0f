"""Append lines to this process's bundles in the encrypted database; finish full ones.

The same interface as ``store.writer.BundleWriter``, and the same promises: whole lines
or nothing, other processes in the same database, a folder that is removed under it.
An append is one transaction: lines become one zstd frame, and the bundle's row must
still be open, or a new bundle is begun.

Without a key nothing is written: ``append`` raises, the pipeline counts, and a look for
the key is taken again after ``RETRY_S``. ``status`` and ``doctor`` say why, since they
take the same look.

Not safe for threads: the pipeline calls all of this from one thread at a time.
"""

from __future__ import annotations

import os
from collections import deque

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError, StoreLockedError
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.encrypted.database import (
    Database,
    GoneError,
    open_for_writing,
    run,
)
from stack_composer.telemetry.store.encrypted.seal import IDLE_S, RowSealing
from stack_composer.telemetry.store.marks import Marks
from stack_composer.telemetry.store.reader import BundleInfo
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import (
    ADOPT_AFTER_S,
    ADOPT_EVERY_S,
    SEALED_AT_CLOSE_BYTES_MIN,
    SEALINGS_MAX,
    TICK_NS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from stack_composer.telemetry.store.keys import Keys

RETRY_S: Final = 30
"""A keychain is not asked with each line; somebody may unlock it meanwhile."""

_NS: Final = 1_000_000_000
_TRIES: Final = 3


class _Live:
    """A bundle being written."""

    __slots__ = ("bundle", "marks", "size", "sketch")

    def __init__(self, bundle: BundleInfo) -> None:
        self.bundle = bundle
        self.size = 0
        self.sketch = Sketch()
        self.marks = Marks()


class DatabaseWriter:
    """The bundles of one process in the database of one folder.

    Args:
        directory: The telemetry folder; made, 0700, at the first append.
        keys: Where the database's key is, or is to be kept.
        clock: Wall clock, Unix nanoseconds.
        bundle_bytes_max: A bundle that would outgrow this is closed first; its lines
            count, unpacked.
        bundle_age_s_max: ``tick`` closes a bundle this old, or one from the future.
        durability: "buffered", "batch" or "sync"; none of them risks the database.
    """

    fills_disk = True

    def __init__(
        self,
        directory: str,
        *,
        keys: Keys,
        clock: Callable[[], int] = effects.wall_ns,
        bundle_bytes_max: int = 32 * 2**20,
        bundle_age_s_max: int = 3600,
        durability: str = "buffered",
    ) -> None:
        self._directory = os.path.abspath(directory)
        self._keys = keys
        self._clock = clock
        self._bytes_max = bundle_bytes_max
        self._age_ns_max = bundle_age_s_max * _NS
        self._durability = durability
        self._database: Database | None = None
        self._locked: StoreLockedError | None = None
        self._retry_ns = 0
        self._reset()

    def _reset(self) -> None:
        self._live: dict[str, _Live] = {}
        self._sealings: deque[RowSealing] = deque()
        self._refused: set[tuple[str, str]] = set()
        self._is_synced = True
        self._adopt_next_ns = effects.monotonic_ns() + ADOPT_AFTER_S * _NS

    def append(self, signal: str, data: bytes, sketch: Sketch) -> None:
        """Append whole lines to the open bundle of a signal, all or nothing.

        Args:
            signal: One of ``model.SIGNALS``.
            data: One or more lines, each ending in a newline.
            sketch: Of these lines; it is added up, and stays the caller's.

        Raises:
            FolderRefusedError: The folder is not safe to write to.
            StoreLockedError: There is no key; nothing was written.
            StoreError: Nothing was written; the same call may be tried again later.
        """
        from stack_composer.telemetry.store.zstd import compress_frame

        if not data:
            return
        if not data.endswith(b"\n"):
            raise ValueError("data does not end with a newline")
        live = self._live.get(signal)
        if live is not None and live.size and live.size + len(data) > self._bytes_max:
            self._retire(live)
        frame = compress_frame(data)
        live = self._append(signal, data, frame)
        live.sketch.merge(sketch)
        live.marks.add(len(data), sketch.first_ns, sketch.last_ns, sketch.traces)
        live.size += len(data)
        self._is_synced = self._durability == "sync"

    def _append(self, signal: str, data: bytes, frame: bytes) -> _Live:
        failure: StoreError | None = None
        for _ in range(_TRIES):
            database = self._find_database()
            try:
                with database.change() as connection:
                    live = self._live.get(signal)
                    if live is not None and _extend(connection, live, data, frame, self._clock()):
                        return live
                    live = None
                    if not database.is_retired(connection):
                        live = self._begin(database, connection, signal, data, frame)
                # Only now is it there for sure.
                if live is not None:
                    self._live[signal] = live
                    return live
            except GoneError as error:
                failure = error
            self._leave()
        raise failure or StoreError(
            f"no database in {self._directory} takes new lines", hint="try again"
        )

    def _begin(
        self, database: Database, connection: Any, signal: str, data: bytes, frame: bytes
    ) -> _Live:
        created_ns = self._clock()
        pid = os.getpid()
        stem = names.make_stem(created_ns, pid, effects.random_bytes(names.NONCE_BYTES))
        parsed = names.parse_name(names.open_name(stem, signal))
        assert parsed is not None
        (row,) = run(
            connection,
            "INSERT INTO bundle (stem, signal, created_ns, pid, updated_ns, sealed, closed,"
            " plain_bytes, lines, bytes) VALUES (?, ?, ?, ?, ?, 0, 0, ?, ?, ?) RETURNING id",
            (
                stem,
                signal,
                parsed.created_ns,
                pid,
                created_ns,
                len(data),
                data.count(b"\n"),
                len(frame),
            ),
        )[0]
        run(
            connection,
            "INSERT INTO chunk (bundle, start, plain_bytes, data) VALUES (?, 0, ?, ?)",
            (row, len(data), frame),
        )
        bundle = BundleInfo(
            path=f"{database.path}/{stem}.{signal}",
            signal=signal,
            created_ns=parsed.created_ns,
            pid=pid,
            sealed=False,
            bytes=len(frame),
            stem=stem,
            row=row,
            database=database,
        )
        return _Live(bundle)

    # -- the database ------------------------------------------------------------------

    def _find_database(self) -> Database:
        """Give the database to write to: the oldest that is not retired, or a new one."""
        if self._database is not None:
            return self._database
        if self._locked is not None and effects.monotonic_ns() < self._retry_ns:
            raise StoreLockedError(str(self._locked), hint=self._locked.hint)
        try:
            self._database = open_for_writing(
                self._directory, self._keys, durability=self._durability
            )
        except StoreLockedError as error:
            self._locked = error
            self._retry_ns = effects.monotonic_ns() + RETRY_S * _NS
            raise
        self._locked = None
        return self._database

    def _leave(self) -> None:
        """Let go of a database that is gone or retired; its bundles are others' to seal."""
        database, self._database = self._database, None
        if database is not None:
            database.close()
        self._reset()

    # -- what takes time ---------------------------------------------------------------

    def tick(self) -> bool:
        """Do what is due, for about ``TICK_NS``: rotate, seal, adopt.

        Returns:
            Whether work is left, so that an idle caller may come back soon.

        Raises:
            StoreError: A bundle could not be sealed, and stays as it is.
        """
        if self._database is None:
            return False
        now_ns = self._clock()
        for live in list(self._live.values()):
            if not 0 <= now_ns - live.bundle.created_ns < self._age_ns_max:
                self._retire(live)
        until_ns = effects.monotonic_ns() + TICK_NS
        try:
            while self._work_a_little():
                if effects.monotonic_ns() >= until_ns:
                    return True
        except GoneError:
            self._leave()
        return False

    def _work_a_little(self) -> bool:
        if not self._sealings:
            self._adopt()
        if self._sealings:
            self._seal_a_little()
        return bool(self._sealings)

    def _seal_a_little(self) -> None:
        sealing = self._sealings[0]
        try:
            done = sealing.step()
        except BaseException:
            self._sealings.popleft()
            self._refused.add((sealing.bundle.stem, sealing.bundle.signal))
            raise
        if done:
            self._sealings.popleft()
            if self._durability != "sync" and self._database is not None:
                # As a sealed file is on the disk, whatever the level.
                self._database.sync()
                self._is_synced = True

    def _adopt(self) -> None:
        """Look for bundles whose writers have ended."""
        if self._database is None or effects.monotonic_ns() < self._adopt_next_ns:
            return
        from stack_composer.telemetry.store.encrypted.rows import list_rows

        self._adopt_next_ns = effects.monotonic_ns() + ADOPT_EVERY_S * _NS
        own = {(live.bundle.stem, live.bundle.signal) for live in self._live.values()}
        idle_ns = self._clock() - self._age_ns_max - IDLE_S * _NS
        for bundle in list_rows(self._database):
            key = (bundle.stem, bundle.signal)
            is_over = bundle.closed or bundle.updated_ns < idle_ns
            if not bundle.sealed and is_over and key not in own | self._refused:
                self._sealings.append(RowSealing(self._database, bundle, None))

    def _retire(self, live: _Live) -> None:
        """Write no more to a bundle; it waits to be sealed."""
        del self._live[live.bundle.signal]
        if self._database is not None:
            self._sealings.append(RowSealing(self._database, live.bundle, live.sketch, live.marks))
            if len(self._sealings) > SEALINGS_MAX:
                # Left as it is, for later adoption.
                self._sealings.popleft()

    # -- the rest of the interface -------------------------------------------------------

    def settle(self) -> None:
        """End a turn; with "batch" make durable what it wrote."""
        if self._durability != "buffered":
            self.flush()

    def stem_of(self, signal: str) -> str:
        """The stem of the bundle that has the last line of a signal; "" before the first."""
        live = self._live.get(signal)
        return "" if live is None else live.bundle.stem

    def narrow(self, bundle_bytes_max: int) -> None:
        """Write smaller bundles than so far, or larger ones again."""
        self._bytes_max = bundle_bytes_max
        for live in list(self._live.values()):
            if live.size > bundle_bytes_max:
                self._retire(live)

    def flush(self) -> str:
        """Make durable all that was appended; returns the path of the database.

        The folder's path if nothing was ever appended.

        Raises:
            StoreError: Something could not be made durable; try again later.
        """
        if self._database is None:
            return self._directory
        if not self._is_synced:
            self._database.sync()
            self._is_synced = True
        return self._database.path

    def close(self) -> None:
        """End orderly: seal what is large, close what is small, and the database.

        With "buffered" nothing is made durable that ``flush`` was not asked for, but
        for sealed bundles.

        Raises:
            StoreError: A bundle could not be finished, and stays as it is.
        """
        failure: StoreError | None = None
        try:
            self.settle()
        except StoreError as error:
            failure = error
        small = []
        for live in list(self._live.values()):
            if live.size < SEALED_AT_CLOSE_BYTES_MIN:
                small.append((live.bundle.row, live.bundle.stem))
            else:
                self._retire(live)
        while self._sealings:
            try:
                self._seal_a_little()
            except StoreError as error:
                failure = error
        try:
            if small and self._database is not None:
                with self._database.change("close a bundle in") as connection:
                    connection.executemany(
                        "UPDATE bundle SET closed = 1 WHERE id = ? AND stem = ?", small
                    )
        except GoneError:
            pass  # It was deleted, and with it what was to be closed.
        except StoreError as error:
            failure = error
        self._leave()
        if failure is not None:
            raise failure

    def abandon(self) -> None:
        """In a forked child: forget the parent's bundles; ``database`` sees to the rest."""
        self._database = None
        self._reset()


def _extend(connection: Any, live: _Live, data: bytes, frame: bytes, now_ns: int) -> bool:
    """Append to a bundle that is still open; False if it is not any more."""
    found = run(
        connection,
        "UPDATE bundle SET updated_ns = ?, plain_bytes = plain_bytes + ?, lines = lines + ?,"
        " bytes = bytes + ? WHERE id = ? AND stem = ? AND sealed = 0 RETURNING plain_bytes",
        (
            now_ns,
            len(data),
            data.count(b"\n"),
            len(frame),
            live.bundle.row,
            live.bundle.stem,
        ),
    )
    if not found:
        return False
    start = found[0][0] - len(data)
    run(
        connection,
        "INSERT INTO chunk (bundle, start, plain_bytes, data) VALUES (?, ?, ?, ?)",
        (live.bundle.row, start, len(data), frame),
    )
    return True
