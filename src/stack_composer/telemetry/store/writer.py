"""Append lines to this process's bundles; turn full or old ones into sealed ones.

Each process writes files of its own, one a signal, and holds their locks while it
writes (``lock``). Data is appended whole or not at all: what a full disk cut short is
rolled back to the last newline. Sealing (``seal``) and the adoption of dead
processes' bundles (``recover``) happen in ``tick``, in steps of some milliseconds,
and are not imported before there is something to do: a program with thirty spans
creates a file, writes it, and leaves it to a longer-lived process.

When lines are forced to the disk is the *durability*: ``buffered`` leaves that to
``flush``, to sealing and to the operating system, ``batch`` does it when a turn ends
(``settle``), ``sync`` before ``append`` returns. A file whose fsync failed is written
to no more: the system tells such a failure once, and what it could not write is gone
from its memory, so that the next fsync would succeed and say nothing.

Not safe for threads: the pipeline calls all of this from one thread at a time.
"""

from __future__ import annotations

import errno
import os
from collections import deque

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import (
    close_own,
    file_id,
    open_folder,
    store_error,
    sync_file,
)
from stack_composer.telemetry.store.marks import Marks
from stack_composer.telemetry.store.sketch import Sketch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.recover import Recovery
    from stack_composer.telemetry.store.seal import Sealing

SEALED_AT_CLOSE_BYTES_MIN: Final = 256 * 2**10
"""Smaller bundles stay plain at the end of a process; somebody else seals them."""

SEALINGS_MAX: Final = 4
"""Beyond so many full bundles waiting, the oldest is left plain, for later adoption."""

ADOPT_AFTER_S: Final = 5
"""A younger writer adopts nothing, so that a short program never pays for others."""

ADOPT_EVERY_S: Final = 600

TICK_NS: Final = 10_000_000
"""After so long ``tick`` begins no further step."""

BUFFERED: Final = "buffered"
BATCH: Final = "batch"
SYNC: Final = "sync"

_NAME_TRIES: Final = 8
_GONE: Final = frozenset({errno.ENOENT, getattr(errno, "ESTALE", errno.ENOENT)})
"""The folder was removed; a network file system says it in its own way."""
_NS: Final = 1_000_000_000


class _Live:
    """A bundle being written."""

    __slots__ = (
        "_id",
        "created_ns",
        "fd",
        "is_synced",
        "marks",
        "signal",
        "size",
        "sketch",
        "stem",
    )

    def __init__(self, fd: int, stem: str, signal: str, created_ns: int) -> None:
        self.fd = fd
        self.stem = stem
        self.signal = signal
        self.created_ns = created_ns
        self.size = 0
        self.sketch = Sketch()
        self.marks = Marks()
        self.is_synced = True
        self._id = file_id(fd)

    @property
    def name(self) -> str:
        return names.open_name(self.stem, self.signal)

    def end(self) -> int | None:
        """Where the file ends; None if it was deleted, or its descriptor taken away."""
        try:
            found = os.fstat(self.fd)
        except OSError:
            return None
        is_ours = (found.st_dev, found.st_ino) == self._id and found.st_nlink
        return found.st_size if is_ours else None

    def close(self) -> None:
        close_own(self.fd, self._id)


class BundleWriter:
    """The bundles of one process in one folder.

    Args:
        directory: The telemetry folder; made, 0700, at the first append.
        clock: Wall clock, Unix nanoseconds.
        bundle_bytes_max: A bundle that would outgrow this is closed first. Only a
            single append that is larger makes a larger bundle.
        bundle_age_s_max: ``tick`` closes a bundle this old, or one from the future
            (the clock stepped back).
        durability: "buffered", "batch" or "sync".
    """

    fills_disk = True

    def __init__(
        self,
        directory: str,
        *,
        clock: Callable[[], int] = effects.wall_ns,
        bundle_bytes_max: int = 32 * 2**20,
        bundle_age_s_max: int = 3600,
        durability: str = BUFFERED,
    ) -> None:
        self._directory = os.path.abspath(directory)
        self._clock = clock
        self._bytes_max = bundle_bytes_max
        self._age_ns_max = bundle_age_s_max * _NS
        self._durability = durability
        self._started_ns = effects.monotonic_ns()
        self._reset()

    def _reset(self) -> None:
        self._folder: Folder | None = None
        self._live: dict[str, _Live] = {}
        self._sealings: deque[Sealing] = deque()
        self._recovery: Recovery | None = None
        self._refused: set[str] = set()
        self._adopt_next_ns = self._started_ns + ADOPT_AFTER_S * _NS
        self._last_path = self._directory
        self._folder_is_synced = True
        self._unsynced: OSError | None = None

    def append(self, signal: str, data: bytes, sketch: Sketch) -> None:
        """Append whole lines to the open bundle of a signal, all or nothing.

        A folder or file that was removed meanwhile is made anew.

        Args:
            signal: One of ``model.SIGNALS``.
            data: One or more lines, each ending in a newline.
            sketch: Of these lines; it is added up, and stays the caller's.

        Raises:
            FolderRefusedError: The folder is not safe to write to.
            StoreError: Nothing of ``data`` was written (disk full, read-only, …);
                the same call may be tried again later. With "sync" also when the disk
                did not confirm it: it is taken back, unless that fails too.
        """
        if not data:
            return
        if not data.endswith(b"\n"):
            raise ValueError("data does not end with a newline")
        live = self._live.get(signal)
        if live is not None and live.size and live.size + len(data) > self._bytes_max:
            self._retire(live)
            live = None
        # Where it ends is asked rather than remembered: should anybody else have cut
        # the file, rolling back to a remembered size would add zeros to it.
        end = None if live is None else live.end()
        if live is not None and end is None:
            self._drop(live)
            live = None
        if live is None or end is None:
            live, end = self._open(signal), 0
        self._write(live, data, end)
        live.sketch.merge(sketch)
        if live.marks.end != end:
            live.marks.lose(end)
        live.marks.add(len(data), sketch.first_ns, sketch.last_ns, sketch.traces)

    def _write(self, live: _Live, data: bytes, end: int) -> None:
        try:
            _append_or_undo(live.fd, data, end)
        except _TornError as error:
            # The tail could not be cut. Leave the file to whoever adopts it.
            self._drop(live)
            raise store_error("write", live.name, error.cause) from error.cause
        except OSError as error:
            if error.errno == errno.EFBIG:
                self._retire(live)  # A limit on the size of one file: the next has room.
            raise store_error("write", self._path(live.name), error) from error
        live.is_synced = False
        if self._durability == SYNC:
            self._confirm(live, end)
        live.size = end + len(data)
        self._last_path = self._path(live.name)

    def _confirm(self, live: _Live, end: int) -> None:
        """Have the disk confirm what was just appended behind ``end``; or take it back."""
        try:
            sync_file(live.fd)
            live.is_synced = True
            self._sync_folder()
        except OSError as error:
            try:  # noqa: SIM105 - contextlib costs a small program too much
                os.ftruncate(live.fd, end)
            except OSError:
                pass  # Then what counts as lost may be there all the same.
            self._drop(live)
            raise store_error("sync", self._path(live.name), error) from error

    def _sync_folder(self) -> None:
        if self._folder is not None and not self._folder_is_synced:
            self._folder.sync()
            self._folder_is_synced = True

    def stem_of(self, signal: str) -> str:
        """The stem of the bundle that has the last line of a signal; "" before the first."""
        live = self._live.get(signal)
        return "" if live is None else live.stem

    def narrow(self, bundle_bytes_max: int) -> None:
        """Write smaller bundles, or larger ones again; close those beyond the bound."""
        self._bytes_max = bundle_bytes_max
        for live in list(self._live.values()):
            if live.size > bundle_bytes_max:
                self._retire(live)

    def _open(self, signal: str) -> _Live:
        try:
            try:
                live = self._create(signal)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                # The folder was removed under us; what was in it is the user's to delete.
                self._leave_folder()
                live = self._create(signal)
        except OSError as error:
            raise store_error("create a bundle in", self._directory, error) from error
        self._live[signal] = live
        return live

    def _create(self, signal: str) -> _Live:
        if self._folder is None:
            self._folder = open_folder(self._directory, create=True)
        for _ in range(_NAME_TRIES):
            created_ns = self._clock()
            stem = names.make_stem(created_ns, os.getpid(), effects.random_bytes(names.NONCE_BYTES))
            try:
                fd = self._folder.create(names.open_name(stem, signal))
            except FileExistsError:
                continue
            # Between creation and lock an adopter may take the empty file for an
            # orphan and delete it; then it is simply not ours, and we try a new name.
            if lock.try_lock(fd) != lock.HELD and os.fstat(fd).st_nlink:
                self._folder_is_synced = False
                return _Live(fd, stem, signal, created_ns)
            os.close(fd)
        raise FileExistsError(errno.EEXIST, "no name is free")

    def tick(self) -> bool:
        """Do what is due, for about ``TICK_NS``: rotate, seal, adopt.

        Call it about once a second, and after each append while much is written; with
        nothing to do it costs some microseconds. A step takes 5 ms at most, but one
        fsync may take as long as the disk likes.

        Returns:
            Whether work is left, so that an idle caller may come back soon.

        Raises:
            StoreError: A bundle could not be sealed, and stays plain. It is tried
                again with the next orphans; all else goes on at the next tick.
        """
        if self._folder is None:
            return False
        if not self._folder.is_current():
            self._leave_folder()
            return False
        self._retire_old()
        until_ns = effects.monotonic_ns() + TICK_NS
        try:
            while self._work_a_little():
                if effects.monotonic_ns() >= until_ns:
                    return True
        except OSError as error:
            if not self._folder.is_current():
                self._leave_folder()  # Removed in the middle of it.
                return False
            raise store_error("seal a bundle in", self._directory, error) from error
        return False

    def _work_a_little(self) -> bool:
        if self._sealings:
            self._seal_a_little()
        else:
            self._adopt_a_little()
        return bool(self._sealings or self._recovery)

    def _retire_old(self) -> None:
        now_ns = self._clock()
        for live in list(self._live.values()):
            if not 0 <= now_ns - live.created_ns < self._age_ns_max:
                self._retire(live)

    def _seal_a_little(self) -> None:
        sealing = self._sealings[0]
        try:
            done = sealing.step()
        except BaseException as error:
            self._sealings.popleft()
            self._release(sealing)
            if isinstance(error, FileNotFoundError):
                return  # Somebody is deleting files; what is left is for later.
            raise
        if done:
            self._sealings.popleft()
            if self._last_path == self._path(sealing.open_name):
                self._last_path = self._path(sealing.sealed_name)

    def _adopt_a_little(self) -> None:
        if self._recovery is None:
            if self._folder is None or effects.monotonic_ns() < self._adopt_next_ns:
                return
            from stack_composer.telemetry.store.recover import Recovery

            self._adopt_next_ns = effects.monotonic_ns() + ADOPT_EVERY_S * _NS
            own = {live.name for live in self._live.values()}
            self._recovery = Recovery(self._folder, skip=own | self._refused)
        recovery = self._recovery
        try:
            done = recovery.step()
        except BaseException:
            self._recovery = None
            recovery.close()
            raise
        if done:
            self._recovery = None
            self._refused.update(recovery.refused)
            if recovery.error is not None:
                raise StoreError(
                    f"{recovery.failed} bundles of ended processes in "
                    f"{self._directory} cannot be sealed: {recovery.error}",
                    hint="run 'stack-composer telemetry doctor'",
                ) from recovery.error

    def flush(self) -> str:
        """Make durable all that was appended: fsync of the bundles and the folder.

        Returns:
            The path of the bundle that was written last (the sealed one, once it
            is); the folder's path, whether it exists or not, if nothing was.

        Raises:
            StoreError: Something could not be made durable; try again later.
        """
        failure, self._unsynced = self._unsynced, None
        if failure is None:
            self._sync()
        else:
            raise store_error("sync the bundles in", self._directory, failure) from failure
        return self._last_path

    def settle(self) -> None:
        """End a turn: with "batch" (and "sync") make durable what it wrote.

        Raises:
            StoreError: Something could not be made durable; the next ``flush`` says so
                once more.
        """
        if self._durability == BUFFERED:
            return
        try:
            self._sync()
        except StoreError as error:
            cause = error.__cause__
            self._unsynced = cause if isinstance(cause, OSError) else None
            raise

    def _sync(self) -> None:
        failure: OSError | None = None
        for sealing in self._sealings:
            try:
                sealing.sync()
            except OSError as error:
                failure = error
        for live in list(self._live.values()):
            if not live.is_synced:
                try:
                    sync_file(live.fd)
                    live.is_synced = True
                except OSError as error:
                    self._drop(live)
                    failure = error
        try:
            self._sync_folder()
        except OSError as error:
            failure = error
        if failure is not None:
            raise store_error("sync the bundles in", self._directory, failure) from failure

    def close(self) -> None:
        """End orderly: seal what is large, leave what is small, free all locks.

        With "buffered" nothing is made durable that ``flush`` was not asked for, but
        for sealed bundles. The writer may be used again, and starts new bundles then.

        Raises:
            StoreError: A bundle could not be sealed, and stays plain. All locks
                are free nevertheless.
        """
        failure: OSError | StoreError | None = None
        try:
            self.settle()
        except StoreError as error:
            failure = error
        for live in list(self._live.values()):
            if live.size < SEALED_AT_CLOSE_BYTES_MIN:
                self._drop(live)
            else:
                self._retire(live)
        while self._sealings:
            try:
                self._seal_a_little()
            except (OSError, StoreError) as error:
                failure = error
        self._leave_folder()
        if isinstance(failure, OSError):
            raise store_error("seal a bundle in", self._directory, failure) from failure
        if failure is not None:
            raise failure

    def abandon(self) -> None:
        """In a forked child: let go of the parent's bundles without touching them.

        Closing an inherited descriptor leaves the parent's lock in place. The writer
        then starts afresh, with bundles of the child's own.
        """
        for live in self._live.values():
            live.close()
        for sealing in self._sealings:
            sealing.forget()
        if self._recovery is not None:
            self._recovery.forget()
        if self._folder is not None:
            self._folder.close()
        self._started_ns = effects.monotonic_ns()
        self._reset()

    def _retire(self, live: _Live) -> None:
        """Stop writing a bundle; it waits to be sealed. An empty one is deleted."""
        if self._folder is None or live.size == 0 or live.end() is None:
            self._drop(live)
            return
        from stack_composer.telemetry.store.seal import Sealing

        del self._live[live.signal]
        self._sealings.append(
            Sealing(self._folder, live.fd, live.stem, live.signal, live.sketch, live.marks)
        )
        if len(self._sealings) > SEALINGS_MAX:
            self._release(self._sealings.popleft())

    def _release(self, sealing: Sealing) -> None:
        """Leave a full bundle plain; what the next ``flush`` says must hold for it too."""
        try:
            sealing.sync()
        except OSError as error:
            self._unsynced = error
        sealing.close()

    def _drop(self, live: _Live) -> None:
        """Stop writing a bundle and leave it plain, for a later process to adopt."""
        del self._live[live.signal]
        if self._folder is not None and live.size == 0 and live.end() is not None:
            try:
                self._folder.remove_open(live.name, live.fd)
            except OSError:
                # The folder lets nothing be deleted. An empty bundle harms nobody,
                # and is deleted by the next process that adopts orphans.
                return
        else:
            live.close()

    def _leave_folder(self) -> None:
        """Let go of all in a folder that is not ours any more, or at the end."""
        for live in list(self._live.values()):
            self._drop(live)
        while self._sealings:
            self._sealings.popleft().close()
        if self._recovery is not None:
            self._recovery.close()
            self._recovery = None
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


class _TornError(Exception):
    """A write failed, and so did its undoing."""

    def __init__(self, cause: OSError) -> None:
        super().__init__()
        self.cause = cause


def _append_or_undo(fd: int, data: bytes, end: int) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        try:
            os.ftruncate(fd, end)
        except OSError:
            raise _TornError(error) from error
        raise
