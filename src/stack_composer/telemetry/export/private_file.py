"""A file for what leaves the telemetry folder at its user's wish: whole, and 0600.

It is written aside, in the folder where it will be, and gets its name when it is whole.
So nobody else can read it at any moment, whatever the umask, and an export that is
stopped half-way leaves what was there before.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.folder import store_error

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def private_path(path: str, *, replace: bool, keep_out_of: str) -> Iterator[str]:
    """Give the path of an empty private file that becomes ``path`` at the end.

    Args:
        path: Where it shall be, absolute.
        replace: Whether a file that is there may go.
        keep_out_of: The telemetry folder, where a foreign file would never be purged.

    Raises:
        StoreError: There is a file, or something that is none and so is never
            replaced (a device, a pipe, a folder, a link), or none can be made.
    """
    if os.path.dirname(os.path.realpath(path)) == os.path.realpath(keep_out_of):
        raise StoreError(
            f"{path} is in the telemetry folder", hint="write it elsewhere: no purge finds it there"
        )
    _check_free(path, replace=replace)
    aside = f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        # O_EXCL follows no link, and finds no file that somebody else has open.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(aside, flags, 0o600)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        os.close(descriptor)
    except OSError as error:
        raise store_error("create", path, error) from error
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise store_error("write", path, error) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


def _check_free(path: str, *, replace: bool) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise store_error("look at", path, error) from error
    if not stat.S_ISREG(mode):
        # A name can be taken from a device too: root would have a file as /dev/null.
        raise StoreError(f"{path} is not a regular file", hint="name a file, new or to replace")
    if not replace:
        raise StoreError(f"{path} is there already", hint="add --force to replace it")
