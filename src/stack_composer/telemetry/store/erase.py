"""Delete all that is kept in a telemetry folder: the right to have it gone.

``plan_erase`` looks and decides, ``apply_erase`` deletes. What is ours is told by its
name alone, so that a damaged bundle, a half-made file or a link of that name goes as well
(a link itself, never what it points to); what is not ours stays, and is named.

The log of what left this computer stays, unless it is asked for: it says where else data
of this user is, which whoever has it erased here will want to know.

Databases of the encrypted store go as files; who calls this destroys their keys
(``keys_of`` names them). What was put aside goes too.

Bundles that a program is writing go too, on systems that delete open files: the program
notices, and begins a new one with its next record.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.store import names, outboxes, quarantine
from stack_composer.telemetry.store.folder import open_folder, store_error

if TYPE_CHECKING:
    from typing import Final

QUARANTINED: Final = "quarantined"
AUDIT: Final = "audit"
OUTBOX: Final = "outbox"

WHAT: Final = {
    names.OPEN: "bundles that are not sealed",
    names.SEALED: "sealed bundles",
    names.SKETCH: "sidecars",
    names.PAGE: "pages of the imports ledger",
    names.DATABASE: "encrypted databases",
    names.DATABASE_PART: "files of SQLite beside them",
    names.TEMPORARY: "half-made files",
    QUARANTINED: "files put aside, with their notes",
    names.LOCK: "locks and marks",
    AUDIT: "the log of what left this computer",
}
"""Kinds of files in words, in the order in which they are shown."""
_ORDER: Final = (names.SKETCH, names.PAGE, names.TEMPORARY)
"""These go first: stopped half-way, what is left is bundles, which all commands find."""
_LAST: Final = {names.LOCK: 1, AUDIT: 2}


class Erasable(NamedTuple):
    """A file that goes."""

    name: str
    kind: str
    bytes: int


class ErasePlan(NamedTuple):
    """What an erasure would delete.

    Attributes:
        directory: The folder; it goes too, if nothing is left in it.
        files: All that is ours, in the order in which it goes.
        foreign: Names of what is not ours, and stays.
        kept: Names of what is ours, and stays all the same.
    """

    directory: str
    files: tuple[Erasable, ...]
    foreign: tuple[str, ...]
    kept: tuple[str, ...] = ()


class EraseResult(NamedTuple):
    """What an erasure did.

    Attributes:
        deleted: How many files are gone.
        deleted_bytes: Their size.
        left: Names of those that are still there, or came meanwhile.
    """

    deleted: int
    deleted_bytes: int
    left: tuple[str, ...]


def plan_erase(directory: str, *, audit: bool = False) -> ErasePlan:
    """Look at all that is in the folder; touch nothing. A missing folder is empty.

    ``audit`` has the log of what left this computer go too.

    Raises:
        FolderRefusedError: The folder is a link, another user's, or not a folder.
        StoreError: It cannot be read.
    """
    if not os.path.lexists(directory):
        return ErasePlan(directory, (), ())
    files: list[Erasable] = []
    foreign: list[str] = []
    kept: list[str] = []
    folder = open_folder(directory, create=False)
    try:
        for name in sorted(folder.names()):
            try:
                found = folder.stat(name)
            except FileNotFoundError:
                continue
            kind = _kind_of(name, is_folder=stat.S_ISDIR(found.st_mode))
            if kind == QUARANTINED:
                aside = quarantine.list_quarantine(directory)
                files += [Erasable(_aside_name(each), kind, each.bytes) for each in aside]
            elif kind == OUTBOX:
                _look_into(folder.path_of(name), name, files, foreign)
            elif kind is None:
                foreign.append(name)
            elif kind == AUDIT and not audit:
                kept.append(name)
            else:
                files.append(Erasable(name, kind, found.st_size))
    except OSError as error:
        raise store_error("list", directory, error) from error
    finally:
        folder.close()
    # A database comes before SQLite's files beside it: its writers see that it is gone.
    # The log is the last: stopped half-way, what is left is still accounted for.
    files.sort(key=lambda file: (_LAST.get(file.kind, 0), file.kind not in _ORDER, file.name))
    return ErasePlan(directory, tuple(files), tuple(foreign), tuple(kept))


def _look_into(path: str, name: str, files: list[Erasable], foreign: list[str]) -> None:
    """Add what is in an outbox."""
    inner = plan_erase(path, audit=True)
    files += [one._replace(name=os.path.join(name, one.name)) for one in inner.files]
    foreign += [os.path.join(name, one) for one in inner.foreign]


def _kind_of(name: str, *, is_folder: bool) -> str | None:
    if name == names.QUARANTINE and is_folder:
        return QUARANTINED
    if is_folder:
        return OUTBOX if name in names.OUTBOXES.values() else None
    if name == names.AUDIT or names.audit_part(name) is not None:
        return AUDIT
    if name in names.SINGLES:
        return names.LOCK
    parsed = names.parse_name(name)
    return None if parsed is None else parsed.kind


def _aside_name(aside: quarantine.Quarantined) -> str:
    return os.path.join(names.QUARANTINE, os.path.basename(aside.path))


def keys_of(plan: ErasePlan) -> list[tuple[str, str]]:
    """Stem and source of each database that goes: by these its key is found."""
    found = [os.path.basename(file.name) for file in plan.files if ".sqlcipher" in file.name]
    parsed = map(names.parse_name, found)
    return sorted({(one.stem, one.signal) for one in parsed if one is not None})


def apply_erase(plan: ErasePlan) -> EraseResult:
    """Delete what ``plan`` lists, then the folder if it is empty; what is gone is fine.

    Raises:
        StoreError: A file cannot be deleted; those before it are gone.
    """
    if not os.path.lexists(plan.directory):
        return EraseResult(0, 0, ())
    deleted = deleted_bytes = 0
    aside = {_aside_name(each): each for each in quarantine.list_quarantine(plan.directory)}
    folder = open_folder(plan.directory, create=False)
    try:
        for file in plan.files:
            try:
                if file.kind != QUARANTINED:
                    folder.remove(file.name)
                elif file.name in aside:
                    quarantine.remove_quarantined([aside[file.name]])
            except PermissionError:
                if os.name != "nt":
                    raise
                continue  # Windows deletes no file that is open; the end tells of it.
            deleted += 1
            deleted_bytes += file.bytes
        _remove_outboxes(plan.directory)
        folder.sync()
        left = tuple(sorted(filter(_is_ours, set(folder.names()).difference(plan.kept))))
        is_empty = not folder.names()
    except OSError as error:
        raise store_error("delete files in", plan.directory, error) from error
    finally:
        folder.close()
    if is_empty:
        try:
            os.rmdir(plan.directory)
        except OSError:
            # A program has just made a bundle in it; or it may not be deleted, empty.
            return EraseResult(deleted, deleted_bytes, left)
    return EraseResult(deleted, deleted_bytes, left)


def _remove_outboxes(directory: str) -> None:
    for outbox in outboxes.existing(directory):
        with contextlib.suppress(OSError):  # Something is in it that is not ours.
            os.rmdir(outbox)


def _is_ours(name: str) -> bool:
    return name in names.SINGLES or names.parse_name(name) is not None
