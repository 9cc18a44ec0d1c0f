"""Delete bundles that are too old or take too much room.

``plan_purge`` decides and touches nothing; ``apply_purge`` deletes and decides
nothing. So ``purge --dry-run`` prints the very plan that ``purge`` would apply.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import FolderRefusedError
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import open_folder, store_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.reader import BundleInfo

DATABASE_IDLE_S: Final = 2 * 3_600
"""In a database no lock tells the living from the dead: time does."""

_DAY_NS: Final = 86_400 * 1_000_000_000


class PurgePlan(NamedTuple):
    """What a purge would delete, oldest first, and what would stay.

    ``deleted_bytes`` and ``kept_bytes`` count sidecars too.
    """

    delete: tuple[BundleInfo, ...]
    keep: tuple[BundleInfo, ...]

    @property
    def deleted_bytes(self) -> int:
        """Room that the purge gives back."""
        return sum(map(size_of, self.delete))

    @property
    def kept_bytes(self) -> int:
        """Room that is taken afterwards, without bundles being written."""
        return sum(map(size_of, self.keep))


class PurgeResult(NamedTuple):
    """What a purge did.

    Attributes:
        deleted: Bundles that are gone; one that was already gone counts too.
        deleted_bytes: Their size.
        in_use: Bundles that a process is writing or sealing after all: left alone.
    """

    deleted: int
    deleted_bytes: int
    in_use: int


def size_of(bundle: BundleInfo) -> int:
    """Bytes of a bundle with its sidecar."""
    return bundle.bytes + bundle.sketch_bytes


def plan_purge(
    bundles: Iterable[BundleInfo], *, now_ns: int, keep_days: int, kept_bytes_max: int
) -> PurgePlan:
    """Decide which bundles to delete; touch nothing.

    Args:
        bundles: Closed bundles in any order (``closed_bundles``); never one that is
            being written.
        now_ns: Wall clock, Unix nanoseconds.
        keep_days: Age limit in days of 86,400 s; 0 deletes every closed bundle,
            those from the future too.
        kept_bytes_max: Room for what is kept, sidecars included; the oldest goes
            first. 0 keeps nothing.

    Returns:
        A plan that is safe to stop half-way, since each prefix of ``delete``
        is itself a valid purge; a crash needs no repair.

    Raises:
        ValueError: ``keep_days`` or ``kept_bytes_max`` is negative.

    Source: spec section 3 ("files > 30 days"). Age is read from the bundle's
    name, not from mtime, which backup tools rewrite.
    """
    for name, value in (("keep_days", keep_days), ("kept_bytes_max", kept_bytes_max)):
        if value < 0:
            raise ValueError(f"{name} is {value}; it must not be negative")
    ordered = sorted(bundles, key=lambda b: (b.created_ns, b.stem, b.signal))
    room = sum(map(size_of, ordered))
    deleted = 0
    for bundle in ordered:
        too_old = keep_days == 0 or now_ns - bundle.created_ns >= keep_days * _DAY_NS
        if not too_old and room <= kept_bytes_max:
            break
        room -= size_of(bundle)
        deleted += 1
    return PurgePlan(tuple(ordered[:deleted]), tuple(ordered[deleted:]))


def closed_bundles(bundles: Iterable[BundleInfo]) -> list[BundleInfo]:
    """Those that nobody is writing: sealed ones, and those whose writer is dead.

    Whether a writer lives is told by its lock, taken for a moment and given back; in a
    database, by whether it has closed the bundle, or written to it lately.
    """
    return [bundle for bundle in bundles if bundle.sealed or not is_being_written(bundle)]


def is_being_written(bundle: BundleInfo) -> bool:
    """Whether a living process holds the bundle; False if it is gone.

    Where locks are not supported, one counts as written for ``UNLOCKABLE_IDLE_S``
    after its last write.

    Raises:
        StoreError: The folder cannot be used.
    """
    if bundle.sealed or bundle.closed:
        return False
    if bundle.database is not None:
        return effects.wall_ns() - bundle.updated_ns < DATABASE_IDLE_S * 10**9
    directory, name = os.path.split(bundle.path)
    folder = open_folder(directory, create=False)
    try:
        fd = _lock_if_idle(folder, name)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise store_error("look at", bundle.path, error) from error
    finally:
        folder.close()
    if fd is None:
        return True
    os.close(fd)
    return False


def _lock_if_idle(folder: Folder, name: str) -> int | None:
    """A descriptor that holds the lock of a plain bundle; None if somebody else does."""
    fd = folder.open(name, write=True)
    state = lock.try_lock(fd)
    if state == lock.UNSUPPORTED:
        idle_ns = effects.wall_ns() - os.fstat(fd).st_mtime_ns
        state = lock.LOCKED if idle_ns > lock.UNLOCKABLE_IDLE_S * 10**9 else lock.HELD
    if state == lock.HELD:
        os.close(fd)
        return None
    return fd


def apply_purge(plan: PurgePlan) -> PurgeResult:
    """Delete what ``plan`` lists, oldest first; a file already gone is fine.

    Sidecar and page go before their bundle: stopped between, a bundle without them is
    left, which the next purge finds. A plain bundle is deleted under its
    lock, or not at all; if it was sealed since it was listed, the sealed one goes.
    What is in a database goes first, and leaves no page of it behind.

    Raises:
        StoreError: A file cannot be deleted; those before it are gone.
    """
    deleted = deleted_bytes = in_use = 0
    folders: dict[str, Folder] = {}
    rows = [bundle for bundle in plan.delete if bundle.database is not None]
    if rows:
        from stack_composer.telemetry.store.encrypted.erase import erase_bundles

        deleted += erase_bundles(rows).deleted
        deleted_bytes += sum(map(size_of, rows))
    try:
        for bundle in plan.delete:
            if bundle.database is not None:
                continue
            directory, name = os.path.split(bundle.path)
            if directory not in folders:
                folders[directory] = open_folder(directory, create=False)
            try:
                gone = _delete(folders[directory], bundle, name)
            except OSError as error:
                raise store_error("delete", bundle.path, error) from error
            deleted += gone
            deleted_bytes += size_of(bundle) * gone
            in_use += not gone
        for folder in folders.values():
            folder.sync()
    finally:
        for folder in folders.values():
            folder.close()
    return PurgeResult(deleted, deleted_bytes, in_use)


def _delete(folder: Folder, bundle: BundleInfo, name: str) -> bool:
    if not bundle.sealed:
        try:
            fd = _lock_if_idle(folder, name)
        except FileNotFoundError:
            fd = -1  # Sealed or purged since it was listed.
        except FolderRefusedError:
            return False  # A link in its place is not ours to follow or delete.
        if fd is None:
            return False
        try:
            for own in (
                names.temporary_name(names.sealed_name(bundle.stem, bundle.signal)),
                names.temporary_name(names.sketch_name(bundle.stem, bundle.signal)),
            ):
                folder.remove(own)
            folder.remove(name)
        finally:
            if fd >= 0:
                os.close(fd)
    folder.remove(names.sketch_name(bundle.stem, bundle.signal))
    folder.remove(names.page_name(bundle.stem, bundle.signal))
    folder.remove(names.sealed_name(bundle.stem, bundle.signal))
    return True
