"""Under GDPR nothing is recorded, and what there is goes after each stack generation.

The purge is owed from the moment that a generation begins, whatever becomes of it: it
fails, it is killed, the power goes. So there is a *mark* in the folder, ``gdpr.pending``,
made before the generation and taken away after the purge. Each program that starts looks
for one, by one ``stat``, and pays what no living process is going to pay.

A generation holds its mark by a lock that others can share: of two generations the first
one to end purges, and leaves the mark to the other. Who pays for a dead one holds it
alone. Where there are no such locks (Windows, some network folders) the first to end
takes the mark away, and one that starts pays for whatever mark it sees: a purge too many
deletes only what is owed anyway.

A folder that is not there owes nothing, and is not made.
"""

from __future__ import annotations

import os
import time

from stack_composer.telemetry.errors import TelemetryError
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.generation import NAME, make_generation
from stack_composer.telemetry.record.span import OffSpan, Span
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import close_own, file_id, open_folder, store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Self

    from stack_composer.telemetry.errors import StoreError
    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.keys import Keys

_TRIES: Final = 100
_TRY_S: Final = 0.01


class Mark:
    """A purge that is owed, by whoever holds this."""

    __slots__ = ("_directory", "_fd", "_id", "_pid")

    def __init__(self, directory: str, fd: int) -> None:
        self._directory = directory
        self._fd = fd
        self._id = file_id(fd)
        self._pid = os.getpid()

    def pay(self, unlock: Keys | None = None) -> None:
        """Purge, then take the mark away, unless another generation holds it too.

        ``unlock`` is as ``purge_closed`` has it.

        Raises:
            StoreError: Something could not be deleted. The mark stays, for the next.
        """
        try:
            purge_closed(self._directory, unlock)
            # A forked child shares the lock, and must leave the mark to its parent.
            if self._pid == os.getpid() and lock.try_lock(self._fd) != lock.HELD:
                _remove(self._directory)
        finally:
            close_own(self._fd, self._id)


def owe(directory: str) -> Mark | None:
    """Make the mark; None where there is no folder, so nothing to purge.

    Raises:
        StoreError: The folder cannot be used.
    """
    if not os.path.isdir(directory):
        return None
    folder = open_folder(directory, create=True)
    try:
        return _made(folder)
    except OSError as error:
        raise store_error("write", folder.path_of(names.GDPR_PENDING), error) from error
    finally:
        folder.close()


def _made(folder: Folder) -> Mark | None:
    for _ in range(_TRIES):
        try:
            fd = folder.create(names.GDPR_PENDING)
        except FileExistsError:
            fd = folder.open(names.GDPR_PENDING, write=True)
        # Who pays for a dead generation holds it alone, and deletes it in a moment.
        if lock.try_share(fd) != lock.HELD and os.fstat(fd).st_nlink:
            folder.sync()
            return Mark(folder.path, fd)
        os.close(fd)
        time.sleep(_TRY_S)
    return None


def is_owed(directory: str) -> bool:
    """Whether there is a mark, held or not."""
    return os.path.lexists(os.path.join(directory, names.GDPR_PENDING))


def pay_if_left(directory: str, unlock: Keys | None = None) -> bool:
    """Purge if a generation owed it and died; whether that was so.

    ``unlock`` is as ``purge_closed`` has it.

    Raises:
        StoreError: Something could not be deleted. The mark stays, for the next.
    """
    fd = _left(directory)
    if fd is None:
        return False
    Mark(directory, fd).pay(unlock)
    return True


def is_left(directory: str) -> bool:
    """Whether a generation owed a purge and died; nothing is changed.

    Raises:
        StoreError: The mark cannot be looked at.
    """
    fd = _left(directory)
    if fd is not None:
        os.close(fd)
    return fd is not None


def _left(directory: str) -> int | None:
    """A descriptor that alone has the lock of a mark whose generation is dead."""
    if not is_owed(directory):
        return None
    folder = open_folder(directory, create=False)
    try:
        fd = folder.open(names.GDPR_PENDING, write=True)
    except FileNotFoundError:
        return None  # Paid by another one meanwhile.
    except OSError as error:
        raise store_error("open", folder.path_of(names.GDPR_PENDING), error) from error
    finally:
        folder.close()
    if lock.try_lock(fd) == lock.HELD:
        os.close(fd)
        return None
    return fd


def _remove(directory: str) -> None:
    folder = open_folder(directory, create=False)
    try:
        folder.remove(names.GDPR_PENDING)
        folder.sync()
    except OSError as error:
        raise store_error("delete", folder.path_of(names.GDPR_PENDING), error) from error
    finally:
        folder.close()


def purge_closed(directory: str, unlock: Keys | None = None) -> None:
    """Delete every bundle that nobody writes, outboxes, the quarantine, and what is half-made.

    From a database everything goes: no lock tells there whether a writer lives, and the
    next line of one that does begins another bundle.

    Args:
        directory: The telemetry folder.
        unlock: Where the keys of databases are; by default where the configuration says.

    Raises:
        StoreError: Something could not be deleted, or a database could not be opened;
            all else is gone, or what came before it.
    """
    from stack_composer.telemetry.store import outboxes, quarantine, reader, retention
    from stack_composer.telemetry.store.recover import remove_leftovers

    locked: list[StoreError] = []
    bundles = reader.list_bundles(directory, unlock, locked=locked).bundles
    for outbox in outboxes.existing(directory):
        bundles += reader.list_bundles(outbox, unlock, locked=locked).bundles
    files = [bundle for bundle in bundles if bundle.database is None]
    rows = [bundle for bundle in bundles if bundle.database is not None]
    doomed = [*retention.closed_bundles(files), *rows]
    retention.apply_purge(retention.plan_purge(doomed, now_ns=0, keep_days=0, kept_bytes_max=0))
    quarantine.remove_quarantined(quarantine.list_quarantine(directory))
    remove_leftovers(directory)
    if locked:
        raise locked[0]


class ErasingGeneration(OffSpan):
    """What ``telemetry.generation`` gives under GDPR: it records nothing, and purges.

    The purge happens on the thread that leaves the block, so that what the block's end
    promises holds. It never raises: what it could not delete is owed on.
    """

    __slots__ = ("_directory", "_marks", "_unlock")

    def __init__(
        self, directory: str, attributes: dict[str, Any] | None, unlock: Keys | None = None
    ) -> None:
        self.name = NAME
        self.attributes = attributes
        self._directory = directory
        self._unlock = unlock
        # One for each time that it was entered: it may be again, before it is left.
        self._marks: list[Mark | None] = []

    def again(self) -> Span:
        """Make one for each call of a decorated function, as it is configured then."""
        return make_generation(self.attributes)

    def __enter__(self) -> Self:
        mark = None
        try:
            mark = owe(self._directory)
        except TelemetryError:
            recorder.fault("gdpr")
        self._marks.append(mark)
        return self

    def __exit__(self, *_: object) -> None:
        mark = self._marks.pop() if self._marks else None
        try:
            if mark is not None:
                mark.pay(self._unlock)
            elif os.path.isdir(self._directory):
                # No mark could be made, or the folder is younger than the generation.
                purge_closed(self._directory, self._unlock)
        except TelemetryError:
            recorder.fault("gdpr")


def erasing_in(
    directory: str, unlock: Keys | None = None
) -> Callable[[dict[str, Any] | None], Span]:
    """Give what makes generations that purge ``directory``."""
    return lambda attributes: ErasingGeneration(directory, attributes, unlock)
