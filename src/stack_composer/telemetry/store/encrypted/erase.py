"""Delete bundles from a database so that nothing of them is left in its files.

A deleted row's pages are overwritten (``secure_delete``), given back to the file system
(incremental vacuum), and the WAL, which still holds older pages, is emptied. All of these
were encrypted pages; the key's end is what makes them unreadable for good
(``destroy``). What a file system or a disk keeps of overwritten blocks is out of reach
of any program; encrypted, it is worth nothing without the key.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.encrypted.database import (
    Database,
    GoneError,
    clear_half_made,
    destroy,
    find_databases,
    find_half_made,
    run,
    store_lock,
    value,
)
from stack_composer.telemetry.store.folder import open_folder, store_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.reader import BundleInfo

_PAGES_A_STEP: Final = 500
_TRUNCATIONS_MAX: Final = 3


def delete_bundle(bundle: BundleInfo) -> bool:
    """Delete a bundle; False if it was not there any more. ``compact`` does the rest.

    One that is being written may go too: its writer's next line begins another.

    Raises:
        StoreError: It cannot be deleted.
    """
    assert bundle.database is not None
    try:
        with bundle.database.change("delete from") as connection:
            found = run(
                connection,
                "DELETE FROM bundle WHERE id = ? AND stem = ? AND signal = ? RETURNING id",
                (bundle.row, bundle.stem, bundle.signal),
            )
            if found:
                bundle.database.forget_bundle(connection, bundle.row)
    except GoneError:
        return False
    return bool(found)


def compact(database: Database) -> bool:
    """Give free pages back and empty the WAL; False if others kept it from being empty.

    In short steps, so that writers get in between.

    Raises:
        StoreError: The disk refuses.
    """
    try:
        with database.use("compact") as connection:
            while value(connection, "PRAGMA freelist_count"):
                run(connection, f"PRAGMA incremental_vacuum({_PAGES_A_STEP})")
            for _ in range(_TRUNCATIONS_MAX):
                busy, _, _ = run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")[0]
                if not busy:
                    return True
    except GoneError:
        return True
    return False


def retire(database: Database) -> None:
    """Have nothing begun in a database any more; writers go to another one.

    Raises:
        StoreError: It cannot be written.
    """
    with database.change("retire") as connection:
        run(connection, "UPDATE meta SET value = 1 WHERE name = 'retired'")


def destroy_if_empty(database: Database) -> bool:
    """Destroy a database with its key, if nothing is left in it; False if something is.

    Raises:
        StoreError: It, or its key, cannot be deleted.
    """
    folder = open_folder(database.directory, create=False)
    try:
        with store_lock(folder):
            try:
                with database.change("retire") as connection:
                    if value(connection, "SELECT 1 FROM bundle LIMIT 1"):
                        return False
                    # In the same transaction: who is about to begin a bundle sees it.
                    run(connection, "UPDATE meta SET value = 1 WHERE name = 'retired'")
            except GoneError:
                return True
            database.close()
            destroy(folder, database.name, database.keys)
    except OSError as error:
        raise store_error("delete", database.path, error) from error
    finally:
        folder.close()
    return True


def destroy_unread(directory: str, name: str, keys: Keys) -> None:
    """Destroy a database that cannot be opened: crypto-erase without a look inside.

    Raises:
        StoreError: It, or its key, cannot be deleted.
    """
    folder = open_folder(directory, create=False)
    try:
        with store_lock(folder):
            destroy(folder, name, keys)
    except OSError as error:
        raise store_error("delete", folder.path_of(name), error) from error
    finally:
        folder.close()


class Erased(NamedTuple):
    """What ``erase_bundles`` did.

    Attributes:
        deleted: Bundles that are gone now.
        is_compact: Whether the WALs are empty too; if not, readers held them, and the
            next purge does it.
    """

    deleted: int
    is_compact: bool


def erase_bundles(bundles: Iterable[BundleInfo]) -> Erased:
    """Delete bundles of databases and compact those.

    Raises:
        StoreError: One cannot be deleted; those before it are gone.
    """
    touched: list[Database] = []
    deleted = 0
    try:
        for bundle in bundles:
            assert bundle.database is not None
            if bundle.database not in touched:
                touched.append(bundle.database)
            delete_bundle(bundle)
            deleted += 1
    finally:
        is_compact = True
        for database in touched:
            with contextlib.suppress(StoreError):
                is_compact &= compact(database)
    return Erased(deleted, is_compact)


class Unread(NamedTuple):
    """A database that cannot be opened: its name, and why."""

    name: str
    error: StoreError


def plan_destruction(directory: str, keys: Keys) -> tuple[list[Database], list[Unread]]:
    """Find the databases that go when everything goes: those that open, and those that do not.

    Raises:
        StoreError: The folder cannot be read.
    """
    if not os.path.lexists(directory):
        return [], []
    folder = open_folder(directory, create=False)
    try:
        found = [Database(directory, parsed, keys) for parsed in find_databases(folder)]
    finally:
        folder.close()
    opened: list[Database] = []
    unread: list[Unread] = []
    for database in found:
        try:
            with database.use("open"):
                opened.append(database)
        except GoneError:
            continue
        except StoreError as error:
            unread.append(Unread(database.name, error))
    return opened, unread


def half_made(directory: str) -> list[str]:
    """Name what somebody killed left of a database that was being made or destroyed."""
    if not os.path.isdir(directory):
        return []
    folder = open_folder(directory, create=False)
    try:
        return find_half_made(folder)
    finally:
        folder.close()


def clear(directory: str, keys: Keys) -> int:
    """Delete that, with the keys; returns how many files there were.

    Raises:
        StoreError: A key or a file cannot be deleted.
    """
    folder = open_folder(directory, create=False)
    try:
        with store_lock(folder):
            found = find_half_made(folder)
            clear_half_made(folder, keys)
            return len(found)
    except OSError as error:
        raise store_error("clear away what is left in", folder.path, error) from error
    finally:
        folder.close()
