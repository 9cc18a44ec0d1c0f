"""The note in the folder that says which level of ``pressure`` holds, and since when.

While nothing can be written no line can tell it either. So the note is made when the
first level begins, at a size that it keeps, and is written in place from then on: that
needs no room. It is gone when there is room again. Processes share it: who starts goes
on from the level that it finds, so hysteresis holds beyond one process.
"""

from __future__ import annotations

import os

from stack_composer.telemetry.errors import TelemetryError
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.pressure import LEVELS, NORMAL, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder

NOTE_BYTES: Final = 512
"""Its size, always: one sector, which is written whole or not at all."""


def read_note(directory: str) -> State | None:
    """The state that the note tells; None without one, or if it cannot be understood."""
    if not os.path.lexists(os.path.join(directory, names.PRESSURE_NOTE)):
        return None
    try:
        folder = open_folder(directory, create=False)
        try:
            fd = folder.open(names.PRESSURE_NOTE)
            try:
                raw = os.read(fd, NOTE_BYTES)
            finally:
                os.close(fd)
        finally:
            folder.close()
    except (OSError, TelemetryError):
        return None
    return _decode(raw)


def _decode(raw: bytes) -> State | None:
    import json

    try:
        found = json.loads(raw)
        state = State(found["level"], found["since_ns"], found["free_bytes"], found["total_bytes"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    numbers = (state.since_ns, state.free_bytes, state.total_bytes)
    return state if state.level in LEVELS and all(type(n) is int for n in numbers) else None


def encode_note(state: State) -> bytes:
    """Make the bytes of the note, by hand: ``json`` costs a small program too much."""
    text = (
        f'{{"level":"{state.level}","since_ns":{state.since_ns},'
        f'"free_bytes":{state.free_bytes},"total_bytes":{state.total_bytes},'
        f'"pid":{os.getpid()}}}'
    )
    return text.encode().ljust(NOTE_BYTES - 1) + b"\n"


def write_note(directory: str, state: State) -> bool:
    """Write the note, or take it away at "normal"; whether that was done."""
    try:
        folder = open_folder(directory, create=False)
    except TelemetryError:
        return False  # Nothing was written there yet; or nothing may be.
    try:
        if state.level == NORMAL:
            folder.remove(names.PRESSURE_NOTE)
        else:
            _write(folder, encode_note(state))
    except (OSError, TelemetryError):
        return False
    finally:
        folder.close()
    return True


def _write(folder: Folder, data: bytes) -> None:
    try:
        fd = folder.open(names.PRESSURE_NOTE, write=True)
    except FileNotFoundError:
        fd = folder.create(names.PRESSURE_NOTE)
    try:
        if os.write(fd, data) < len(data):
            raise OSError("a note that is not whole")
    except OSError:
        folder.remove(names.PRESSURE_NOTE)
        raise
    finally:
        os.close(fd)
