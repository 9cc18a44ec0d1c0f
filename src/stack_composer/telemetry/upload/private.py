"""Small files beside the configuration: private to their user, and never somewhere else.

What others could have written is not read, and what is written appears whole. The folder
itself may be anything that the user named, their home too, so its mode is left alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock
from stack_composer.telemetry.store.folder import store_error, sync_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

_SAFE: Final = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_WAIT_S: Final = 10.0
_TRY_S: Final = 0.005


def what_is_wrong(descriptor: int) -> str:
    """Say why an open file cannot be trusted: what it is, whose, or its mode; "" if it can."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if not hasattr(os, "geteuid"):
        return ""  # Windows: the user's profile keeps others out.
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & 0o077:
        return f"has mode {stat.S_IMODE(found.st_mode):04o}: others could have read or written it"
    return ""


def read_private(path: str, *, bytes_max: int) -> bytes:
    """Read a small file that only its user can have written.

    Raises:
        FileNotFoundError: There is none.
        StoreError: It is a link, not a regular file, another user's, open to others,
            longer than ``bytes_max``, or cannot be read.
    """
    try:
        if os.path.islink(path):
            raise StoreError(f"{path} is a symbolic link", hint="put the file itself there")
        descriptor = os.open(path, os.O_RDONLY | _SAFE)
        try:
            wrong = what_is_wrong(descriptor)
            if wrong:
                raise StoreError(
                    f"{path} {wrong}", hint=f"look at it; 'chmod 600 {path}' closes it"
                )
            data = os.read(descriptor, bytes_max + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise store_error("read", path, error) from error
    if len(data) > bytes_max:
        raise StoreError(f"{path} has more than {bytes_max:,} bytes", hint="delete it")
    return data


def write_private(path: str, data: bytes) -> None:
    """Put a file in the place of what is there: 0600, whole, and on the disk.

    Raises:
        StoreError: It cannot be written; what was there stands as it was.
    """
    folder = os.path.dirname(path)
    aside = f"{path}.{os.getpid()}.{effects.random_bytes(4).hex()}.tmp"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
            try:
                _make_usable(descriptor)
                _write_whole(descriptor, data)
                sync_file(descriptor)
            finally:
                os.close(descriptor)
            os.replace(aside, path)
            _sync_folder(folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)
    except OSError as error:
        raise store_error("write", path, error) from error


def _make_usable(descriptor: int) -> None:
    """Undo a umask such as 0777, which would leave a file that even we cannot open again."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o600)


def _write_whole(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _sync_folder(folder: str) -> None:
    if os.name == "nt":
        return  # A folder cannot be opened there.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot; they order names themselves.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_in_place(path: str, data: bytes) -> None:
    """Write a file of a size that it keeps, over what it held; made 0600 if it is not there.

    A sector is written whole or not at all, so ``data`` shall be 512 bytes at most.

    Raises:
        OSError: It cannot be written, or is not ours.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, 0o600)
    try:
        wrong = what_is_wrong(descriptor)
        if wrong:
            raise OSError(wrong)
        _make_usable(descriptor)
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is made and stays, for a moment.

    Where there are no locks this does nothing: of two who change at once one wins.

    Raises:
        StoreError: The file cannot be made, or somebody else holds it for ten seconds.
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFE, 0o600)
    except OSError as error:
        raise store_error("open", path, error) from error
    try:
        _make_usable(descriptor)
        wait_for(descriptor, path)
        yield
    finally:
        lock.unlock(descriptor)
        os.close(descriptor)


def wait_for(descriptor: int, path: str) -> bool:
    """Take a lock that others hold for moments only; whether there are locks here.

    Raises:
        StoreError: Somebody holds it for ten seconds.
    """
    deadline_ns = effects.monotonic_ns() + int(_WAIT_S * 1e9)
    while (answer := lock.try_lock(descriptor)) == lock.HELD:
        if effects.monotonic_ns() > deadline_ns:
            raise StoreError(
                f"{path} is held by another program for {_WAIT_S:.0f} seconds",
                hint="see which program that is, end it, and try again",
            )
        time.sleep(_TRY_S)
    return answer == lock.LOCKED
