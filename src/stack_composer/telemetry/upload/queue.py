"""What a stream is to send, in a file of its own; its lock says that the stream lives.

The records themselves lie in bundles. A *queue* only names them: which bundles, from which
place on, to whom, and under which consent. How far it came stands in the ledger. So a
queue gets one short line for each bundle, however much is written to that.

- A stream makes its queue with its first bundle, holds its lock, and deletes it once
  all of it went.
- A stream that ends with something left lets go of the lock, and so does one that is
  killed. Whoever gets the lock sends what is left.

No pid is compared, and no two send the same. Where there are no locks (some network
folders), a queue counts as left behind when nothing was written to it for a day.

Also used by the writer's thread, so nothing dear is imported here.
"""

from __future__ import annotations

import contextlib
import os

from stack_composer.telemetry import effects
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import (
    close_own,
    file_id,
    open_folder,
    store_error,
    sync_file,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder

ANYBODY: Final = bytes(names.STREAM_ORIGIN_BYTES)
"""To whom a queue in an outbox goes: to whomever its exporter sends."""
QUEUE_BYTES_MAX: Final = 2**24
_NAME_TRIES: Final = 8
_FORMAT: Final = "1"


class Queue:
    """The queue of one stream.

    Args:
        directory: The folder of the bundles, made if it is missing.
        origin: To whom, as ``origin_bytes`` gives it.
        consent: The date of the consent under which it goes, or "".
    """

    __slots__ = ("_fd", "_id", "directory", "name")

    def __init__(self, directory: str, origin: bytes, consent: str = "") -> None:
        self.directory = directory
        folder = open_folder(directory, create=True)
        try:
            self.name, self._fd = _made(folder, origin)
        except OSError as error:
            raise store_error("create a queue in", directory, error) from error
        finally:
            folder.close()
        self._id = file_id(self._fd)
        self._write(f"{_FORMAT} {consent}\n")

    def add(self, bundle: str, start: int = 0, *, is_durable: bool = False) -> None:
        """Note that a bundle is to be sent, from a place on.

        Args:
            bundle: ``<stem>.<signal>``.
            start: The offset of a line in its plain text.
            is_durable: Wait until the disk has it.

        Raises:
            StoreError: It could not be noted.
        """
        self._write(f"{bundle} {start}\n")
        if is_durable:
            try:
                sync_file(self._fd)
            except OSError as error:
                raise store_error("sync", self._path, error) from error

    @property
    def is_held(self) -> bool:
        """Whether it is still there, and ours: a program that becomes a daemon closes files."""
        try:
            found = os.fstat(self._fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._id and found.st_nlink > 0

    @property
    def _path(self) -> str:
        return os.path.join(self.directory, self.name)

    def _write(self, line: str) -> None:
        try:
            os.write(self._fd, line.encode("ascii"))
        except OSError as error:
            raise store_error("write", self._path, error) from error

    def close(self, *, is_done: bool) -> None:
        """Let go; what is left is for whoever finds it. A queue that is done goes."""
        if is_done and self.is_held:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self.abandon()

    def abandon(self) -> None:
        """Let go in a forked child, whose parent has the lock still."""
        close_own(self._fd, self._id)
        self._id = None


class Left:
    """A queue whose stream has ended, locked by us.

    Attributes:
        consent: As of ``Queue``.
        starts: From which place on each bundle is to be sent.
    """

    __slots__ = ("_fd", "_folder", "consent", "name", "starts")

    def __init__(self, folder: Folder, name: str, fd: int) -> None:
        self._folder = folder
        self._fd = fd
        self.name = name
        self.consent, self.starts = _decoded(_read(fd))

    def close(self, *, is_done: bool) -> None:
        """Let go; one that is done goes."""
        if is_done:
            with contextlib.suppress(OSError):
                self._folder.remove(self.name)
        lock.unlock(self._fd)
        os.close(self._fd)


class Queues:
    """The queues to one destination in a folder, but for a stream's own.

    Attributes:
        left: Those whose streams have ended; locked until ``close``.
        claimed: Bundles of those that live.
    """

    def __init__(self, directory: str, origin: bytes, own: str = "") -> None:
        """Look for them.

        Raises:
            StoreError: The folder cannot be read.
        """
        self.left: list[Left] = []
        self.claimed: set[str] = set()
        self._folder = open_folder(directory, create=False)
        try:
            for name in sorted(self._folder.names()):
                if name != own and names.stream_origin(name) == origin:
                    self._look(name)
        except OSError as error:
            self.close()
            raise store_error("look for queues in", directory, error) from error

    def _look(self, name: str) -> None:
        try:
            fd = self._folder.open(name, write=True)
        except FileNotFoundError:
            return  # It was done a moment ago.
        state = lock.try_lock(fd)
        if state == lock.UNSUPPORTED:
            idle_ns = effects.wall_ns() - os.fstat(fd).st_mtime_ns
            state = lock.LOCKED if idle_ns > lock.UNLOCKABLE_IDLE_S * 10**9 else lock.HELD
        if state == lock.LOCKED and os.fstat(fd).st_nlink:
            self.left.append(Left(self._folder, name, fd))
            return
        if state == lock.HELD:
            self.claimed.update(_decoded(_read(fd))[1])
        os.close(fd)

    def close(self) -> None:
        """Let go of those that ``left`` still holds."""
        while self.left:
            self.left.pop().close(is_done=False)
        self._folder.close()


def origin_bytes(origin: str) -> bytes:
    """What the name of a queue has of its exporter and destination."""
    from hashlib import sha256

    return sha256(origin.encode()).digest()[: names.STREAM_ORIGIN_BYTES]


def _made(folder: Folder, origin: bytes) -> tuple[str, int]:
    for _ in range(_NAME_TRIES):
        name = names.stream_name(origin, effects.random_bytes(names.NONCE_BYTES))
        try:
            fd = folder.create(name)
        except FileExistsError:
            continue
        # Between the two another stream may take the empty file for one that is left.
        if lock.try_lock(fd) != lock.HELD and os.fstat(fd).st_nlink:
            return name, fd
        os.close(fd)
    raise FileExistsError("no name is free")


def _read(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    pieces = []
    size = 0
    while size < QUEUE_BYTES_MAX and (piece := os.read(fd, 2**16)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _decoded(data: bytes) -> tuple[str, dict[str, int]]:
    """What a queue says: the consent's date, and the start in each bundle."""
    # A last line without a newline was not written whole.
    first, *rows = data.decode("ascii", "replace").split("\n")[:-1] or [""]
    version, _, consent = first.partition(" ")
    starts: dict[str, int] = {}
    if version == _FORMAT:
        for row in rows:
            bundle, _, start = row.partition(" ")
            if start.isdecimal() and names.parse_name(f"{bundle}.jsonl") is not None:
                starts[bundle] = int(start)
    return consent, starts
