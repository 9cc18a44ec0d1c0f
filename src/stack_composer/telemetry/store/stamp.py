"""When the folder was last purged without anybody asking: the time of an empty file.

Programs that end within seconds must purge too, but not each of them: one ``stat`` tells
whether it is time. The file's time is enough here, since a backup tool that rewrites it
only makes one purge come early or a day late.
"""

from __future__ import annotations

import os

from stack_composer.telemetry import effects
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import open_folder, store_error


def is_missing(directory: str) -> bool:
    """Whether nothing was ever stamped in a folder that is there."""
    return os.path.isdir(directory) and not os.path.lexists(
        os.path.join(directory, names.PURGE_STAMP)
    )


def is_due(directory: str, *, every_s: float) -> bool:
    """Whether the last purge is ``every_s`` seconds ago, or in the future (a clock stepped)."""
    try:
        stamped_ns = os.stat(os.path.join(directory, names.PURGE_STAMP)).st_mtime_ns
    except OSError:
        return os.path.isdir(directory)
    return not 0 <= effects.wall_ns() - stamped_ns < every_s * 1e9


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
