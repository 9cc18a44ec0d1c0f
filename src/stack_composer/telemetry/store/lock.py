"""A lock that tells the living from the dead.

A writer holds an exclusive lock on the very file it writes, from creation until it
closes it. The kernel drops the lock when the last descriptor goes, however the
process ends, so a bundle that can be locked has no writer: it is an orphan. No pid
is ever compared, since pids are reused and mean nothing across containers.

On POSIX this is ``flock``, which belongs to the open file: closing a descriptor
inherited by fork leaves the parent's lock alone (never unlock there: that would
take it from the parent too). On Windows it is one byte far beyond the end of the
file, because a locked byte there cannot be read by others.

Some network file systems know no locks. ``try_lock`` then answers ``UNSUPPORTED``:
a writer goes on without, since its file's name is its own, and an unlockable file
counts as an orphan only after ``UNLOCKABLE_IDLE_S`` without a write.
"""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

LOCKED: Final = "locked"
HELD: Final = "held"
UNSUPPORTED: Final = "unsupported"

UNLOCKABLE_IDLE_S: Final = 86_400
"""Without locks, a file not written for so long has no writer: far above the age at
which any writer rotates."""

_NOT_SUPPORTED: Final = frozenset(
    getattr(errno, name)
    for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL")
    if hasattr(errno, name)
)

if sys.platform == "win32":
    import msvcrt

    _LOCK_OFFSET = 2**31 - 2

    def _lock(fd: int) -> None:
        position = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(fd, position, os.SEEK_SET)

    def _share(_fd: int) -> None:
        raise OSError(errno.ENOLCK, "locks are not shared here")

    def _unlock(fd: int) -> None:
        position = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, _LOCK_OFFSET, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        finally:
            os.lseek(fd, position, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _share(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


def try_lock(fd: int) -> str:
    """Lock the file if nobody has; never wait.

    The lock goes when the last descriptor of this open file is closed, or by
    ``unlock``. ``fd`` must be open for writing, which NFS asks for.

    Returns:
        ``LOCKED``, ``HELD`` (somebody writes or adopts it now) or ``UNSUPPORTED``.
    """
    return _tried(_lock, fd)


def try_share(fd: int) -> str:
    """Lock the file beside others that share it; never wait. Answers as ``try_lock``.

    ``HELD`` means that somebody has it alone. ``try_lock`` makes it ours alone, if no
    other one shares it; if one does, our share is gone.
    """
    return _tried(_share, fd)


def unlock(fd: int) -> None:
    """Give a lock back that is held for a moment only, by who took it; else do nothing.

    Closing alone would not do: a child forked at that moment has the descriptor too, and
    would hold the lock for as long as it lives.
    """
    try:
        _unlock(fd)
    except OSError:
        return  # No locks here, or it was not ours: closing does what can be done.


def _tried(lock: Callable[[int], None], fd: int) -> str:
    try:
        lock(fd)
    except OSError as error:
        return UNSUPPORTED if error.errno in _NOT_SUPPORTED else HELD
    return LOCKED
