"""Files that could not be read, put aside: moved, never deleted, with a note each.

They lie in ``quarantine/`` (0700) inside the telemetry folder, under the name that they
had and a number, each with ``<name>.note.json`` beside it, which says what it is, when
it came there and why, and never what is in it. No reader looks there. They are as old
as their bundle was, and go with the bundles of that age.

``work/`` in there holds what a repair is making; nobody but a repair looks at it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry.errors import FolderRefusedError
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import file_id, open_folder, store_error, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder

NOTE_SUFFIX: Final = ".note.json"
LOCK_NAME: Final = "repair.lock"
WORK_NAME: Final = "work"

_DAY_NS: Final = 86_400 * 1_000_000_000
_NO_LINKS: Final = frozenset(
    getattr(errno, name)
    for name in ("EPERM", "EXDEV", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EMLINK")
    if hasattr(errno, name)
)
_PIECE_BYTES: Final = 2**20


class Quarantined(NamedTuple):
    """A file that was put aside.

    Attributes:
        path: Absolute.
        created_ns: When its bundle was made, Unix nanoseconds, from its name.
        bytes: Its size, with its note's.
    """

    path: str
    created_ns: int
    bytes: int


def place_of(directory: str) -> str:
    """Where a telemetry folder keeps what was put aside."""
    return os.path.join(directory, names.QUARANTINE)


def list_quarantine(directory: str) -> list[Quarantined]:
    """What was put aside, oldest first; nothing where that folder is not ours to look into.

    Raises:
        StoreError: It cannot be listed.
    """
    place = place_of(directory)
    if not os.path.lexists(place):
        return []
    try:
        folder = open_folder(place, create=False)
    except FolderRefusedError:
        return []
    try:
        found = [_entry(folder, name) for name in folder.names()]
    except OSError as error:
        raise store_error("list", place, error) from error
    finally:
        folder.close()
    return sorted((entry for entry in found if entry), key=lambda e: (e.created_ns, e.path))


def _entry(folder: Folder, name: str) -> Quarantined | None:
    original, _, number = name.rpartition(".")
    parsed = names.parse_name(original)
    if parsed is None or not number.isdecimal():
        return None
    size = 0
    for each in (name, name + NOTE_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            found = folder.stat(each)
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return Quarantined(folder.path_of(name), parsed.created_ns, size)


def plan_quarantine(
    entries: Iterable[Quarantined], *, now_ns: int, keep_days: int
) -> list[Quarantined]:
    """Decide what is too old; touch nothing. Days are as in ``plan_purge``."""
    return [
        entry
        for entry in entries
        if keep_days == 0 or now_ns - entry.created_ns >= keep_days * _DAY_NS
    ]


def remove_quarantined(entries: Iterable[Quarantined]) -> int:
    """Delete files and their notes, and the folder once nothing is in it; count the files.

    The note goes first: stopped in between, the next purge still finds the file.

    Raises:
        StoreError: One cannot be deleted; those before it are gone.
    """
    count = 0
    places: set[str] = set()
    for entry in entries:
        place, name = os.path.split(entry.path)
        places.add(place)
        folder = open_folder(place, create=False)
        try:
            folder.remove(name + NOTE_SUFFIX)
            folder.remove(name)
            folder.sync()
        except OSError as error:
            raise store_error("delete", entry.path, error) from error
        finally:
            folder.close()
        count += 1
    for place in places:
        with contextlib.suppress(OSError):
            if set(os.listdir(place)) <= {LOCK_NAME}:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(place, LOCK_NAME))
                os.rmdir(place)
    return count


def keep_aside(folder: Folder, aside: Folder, name: str, note: dict[str, Any]) -> str:
    """Give the file ``name`` of ``folder`` a second place in ``aside``, with a note.

    The file stays where it is, for the caller to replace or remove: so it is never in
    neither place. Done twice, after a crash, it is kept once.

    Returns:
        Its name there.
    """
    fd = folder.open(name)
    try:
        kept = _already_there(aside, name, fd) or _link_or_copy(folder, aside, name, fd)
    finally:
        os.close(fd)
    text = json.dumps({"format": 1, "file": name, **note}, indent=2) + "\n"
    _write_new(aside, kept + NOTE_SUFFIX, text.encode())
    aside.sync()
    return kept


def _already_there(aside: Folder, name: str, fd: int) -> str | None:
    for other in aside.names():
        if other.startswith(name + ".") and other.rpartition(".")[2].isdecimal():
            found = aside.stat(other)
            if (found.st_dev, found.st_ino) == file_id(fd):
                return other
    return None


def _link_or_copy(folder: Folder, aside: Folder, name: str, fd: int) -> str:
    for number in range(1, 10_000):
        kept = f"{name}.{number}"
        if aside.exists(kept):
            continue
        try:
            os.link(folder.path_of(name), aside.path_of(kept), follow_symlinks=False)
        except FileExistsError:
            continue
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LINKS:
                raise
            _copy(fd, aside, kept)
        return kept
    raise FileExistsError(errno.EEXIST, "no name is free")


def _copy(fd: int, aside: Folder, kept: str) -> None:
    temporary = names.temporary_name(kept)
    aside.remove(temporary)
    out = aside.create(temporary)
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while piece := os.read(fd, _PIECE_BYTES):
            view = memoryview(piece)
            while view:
                view = view[os.write(out, view) :]
        sync_file(out)
    finally:
        os.close(out)
    aside.rename(temporary, kept)


def _write_new(folder: Folder, name: str, data: bytes) -> None:
    temporary = names.temporary_name(name)
    folder.remove(temporary)
    fd = folder.create(temporary)
    try:
        os.write(fd, data)
        sync_file(fd)
    finally:
        os.close(fd)
    folder.rename(temporary, name)
