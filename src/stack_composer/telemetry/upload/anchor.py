"""The anchor of an audit log: where it ended, kept in another place than the log.

The chain of hashes shows what was changed within the log. That its end was cut off, or that
it is gone altogether, shows by this file, which lies beside the configuration. It is
written in place, under the log's lock, after the log was brought to the disk: after a
power cut it may be behind the log, never ahead of it. Each configuration has its own anchor of a
telemetry folder, and one that is behind is right all the same: what it says was so.
"""

from __future__ import annotations

import contextlib
import os
import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.folder import store_error
from stack_composer.telemetry.upload.private import read_private, write_in_place

if TYPE_CHECKING:
    from typing import Final

ANCHOR_BYTES: Final = 256
_READS_MAX: Final = 5
_READ_AGAIN_S: Final = 0.002


class Anchor(NamedTuple):
    """How long the log was, and how it ended.

    Attributes:
        part: In which of its parts, from 1.
        size: Bytes of that part, its plain text.
        sha256: The hash of the line that ended there.
    """

    part: int
    size: int
    sha256: str


def anchor_path(directory: str, anchor_folder: str) -> str:
    """Where the anchor of a folder's log is: several folders may have one configuration."""
    place = os.fsencode(os.path.realpath(directory))
    return os.path.join(anchor_folder, f"audit-{sha256(place).hexdigest()[:16]}.head")


def read_anchor(path: str) -> Anchor | None:
    """Read an anchor; None if there is none.

    Raises:
        StoreError: It is another user's, open to others, or cannot be understood.
    """
    for _ in range(_READS_MAX):
        try:
            data = read_private(path, bytes_max=ANCHOR_BYTES)
        except FileNotFoundError:
            return None
        with contextlib.suppress(msgspec.MsgspecError):
            part, size, digest, check = msgspec.json.decode(data, type=tuple[int, int, str, str])
            found = Anchor(part, size, digest)
            if _check_of(found) == check:
                return found
        # It may be that somebody writes it at this very moment.
        time.sleep(_READ_AGAIN_S)
    raise StoreError(f"{path} cannot be understood", hint="delete it")


def write_anchor(path: str, anchor: Anchor) -> None:
    """Write an anchor, over the one that is there.

    Raises:
        OSError: It cannot be written, or is not ours.
    """
    data = msgspec.json.encode((*anchor, _check_of(anchor)))
    write_in_place(path, data.ljust(ANCHOR_BYTES - 1) + b"\n")


def remove_anchor(directory: str, anchor_folder: str) -> None:
    """Forget the log of a folder, for who erased it on purpose.

    Raises:
        StoreError: The anchor cannot be deleted.
    """
    path = anchor_path(directory, anchor_folder)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise store_error("delete", path, error) from error


def _check_of(anchor: Anchor) -> str:
    """What tells an anchor that was read while it was written."""
    return sha256(repr(tuple(anchor)).encode()).hexdigest()[:8]
