"""Purge when nobody asks: as a program runs or ends, if it is time.

Programs that end within seconds must purge too, but not each of them. The time of an
empty file, the *stamp*, says when the folder was last purged like this, so that one
``stat`` tells whether it is time. Its time is enough here, since a backup tool that
rewrites it only makes one purge come early or a day late.
"""

from __future__ import annotations

import os

from stack_composer.telemetry import effects
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import open_folder, store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stack_composer.telemetry.store.keys import Keys


def is_missing(directory: str) -> bool:
    """Whether nothing was ever stamped in a folder that is there."""
    return os.path.isdir(directory) and not os.path.lexists(_path(directory))


def is_due(directory: str, *, every_s: float) -> bool:
    """Whether the last purge is ``every_s`` seconds ago, or in the future (a clock stepped)."""
    stamped_ns = last_ns(directory)
    if stamped_ns is None:
        return os.path.isdir(directory)
    return not 0 <= effects.wall_ns() - stamped_ns < every_s * 1e9


def last_ns(directory: str) -> int | None:
    """When the folder was last purged like this, Unix nanoseconds; None if it never was."""
    try:
        return os.stat(_path(directory)).st_mtime_ns
    except OSError:
        return None


def stamp(directory: str) -> None:
    """Note that the folder was purged now.

    Raises:
        StoreError: The folder cannot be written.
    """
    folder = open_folder(directory, create=False)
    try:
        folder.remove(names.PURGE_STAMP)
        os.close(folder.create(names.PURGE_STAMP))
    except FileExistsError:
        return  # Another process purged at this moment, and stamped.
    except OSError as error:
        raise store_error("write", folder.path_of(names.PURGE_STAMP), error) from error
    finally:
        folder.close()


def purge(
    directory: str,
    *,
    keep_days: int,
    kept_bytes_max: int,
    at_most: int | None = None,
    unlock: Keys | None = None,
) -> None:
    """Delete what is too old or takes too much room, of the quarantine too; then stamp.

    Args:
        directory: The telemetry folder.
        keep_days: As for ``plan_purge``.
        kept_bytes_max: Likewise.
        at_most: So many bundles. If there are more, nothing is stamped, and the next
            program goes on.
        unlock: Where the keys of databases are; by default where the configuration says.
            A database that cannot be opened keeps the rest from nothing; ``doctor`` says
            what it is.

    Raises:
        StoreError: Something cannot be deleted; what came before it is gone.
    """
    # Here, since a program that ends at once looks at the stamp alone.
    from stack_composer.telemetry.store import outboxes, quarantine, reader, retention

    now_ns = effects.wall_ns()
    plan = retention.plan_purge(
        retention.closed_bundles(reader.list_bundles(directory, unlock, locked=[]).bundles),
        now_ns=now_ns,
        keep_days=keep_days,
        kept_bytes_max=kept_bytes_max,
    )
    # Each prefix of a plan is a purge.
    retention.apply_purge(plan._replace(delete=plan.delete[:at_most]))
    for outbox in outboxes.existing(directory):
        # Streams keep their bounds; here goes what no stream looks after any more.
        closed = retention.closed_bundles(reader.list_bundles(outbox, unlock, locked=[]).bundles)
        retention.apply_purge(
            retention.plan_purge(
                closed, now_ns=now_ns, keep_days=max(keep_days, 1), kept_bytes_max=2**63
            )
        )
    aside = quarantine.list_quarantine(directory)
    quarantine.remove_quarantined(
        quarantine.plan_quarantine(aside, now_ns=now_ns, keep_days=keep_days)
    )
    if at_most is None or len(plan.delete) <= at_most:
        stamp(directory)


def _path(directory: str) -> str:
    return os.path.join(directory, names.PURGE_STAMP)
