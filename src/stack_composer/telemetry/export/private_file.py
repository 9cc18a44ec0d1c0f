"""A file for what leaves the telemetry folder at its user's wish: whole, and 0600.

It is written aside, in the folder where it will be, and gets its name when it is whole.
So nobody else can read it at any moment, whatever the umask, and an export that is
stopped half-way leaves what was there before.
"""

from __future__ import annotations

import contextlib
import os
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
        StoreError: There is a file, or none can be made.
    """
    if os.path.dirname(os.path.realpath(path)) == os.path.realpath(keep_out_of):
        raise StoreError(
            f"{path} is in the telemetry folder", hint="write it elsewhere: no purge finds it there"
        )
    if os.path.lexists(path) and not replace:
        raise StoreError(f"{path} is there already", hint="add --force to replace it")
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
