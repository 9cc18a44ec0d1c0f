"""Read the audit log: all its parts in order, then the file that is being appended to.

The file is opened before its parts are looked for. So whatever is closed meanwhile, and
becomes a part, is read once: by the descriptor that leads to it under its old name.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import open_folder, store_error
from stack_composer.telemetry.upload.entries import (
    ANSWER,
    ID_CHARS,
    SENDING,
    TORN,
    Entry,
    decode_entry,
    hash_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder

_READ_BYTES: Final = 2**18
_FIRST_LINE_BYTES_MAX: Final = 2**12
_SECOND_NS: Final = 10**9


def read_parts(directory: str, *, since_ns: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Yield number and whole lines of each part of a folder's log; a missing log has none.

    Args:
        directory: The telemetry folder.
        since_ns: Leave out parts that were closed before this, Unix nanoseconds.

    Raises:
        StoreError: It cannot be read, or is a link or another user's.
    """
    if not os.path.lexists(directory):
        return
    path = os.path.join(directory, names.AUDIT)
    folder = open_folder(directory, create=False)
    try:
        try:
            descriptor = folder.open(names.AUDIT)
        except FileNotFoundError:
            descriptor = -1
        try:
            last = number_of(descriptor) if descriptor >= 0 else 0
            for number, until_ns, name in parts_of(folder):
                # One of the file's own number is the file: who closed it was killed then.
                if (number < last or not last) and until_ns + _SECOND_NS > since_ns:
                    yield number, _lines(unpacked(folder, name))
            if descriptor >= 0:
                os.lseek(descriptor, 0, os.SEEK_SET)
                yield last, _lines(iter(lambda: os.read(descriptor, _READ_BYTES), b""))
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    except OSError as error:
        raise store_error("read", path, error) from error
    finally:
        folder.close()


def forgettable(directory: str, before_ns: int) -> tuple[list[str], str]:
    """Names of the parts that were closed before a time, and the hash that ends them.

    The oldest first, and none behind one that stays.

    Raises:
        StoreError: The folder cannot be read.
    """
    if not os.path.lexists(directory):
        return [], ""
    folder = open_folder(directory, create=False)
    try:
        descriptor = folder.open(names.AUDIT)
        try:
            current = number_of(descriptor)
        finally:
            os.close(descriptor)
        found = []
        for number, until_ns, name in parts_of(folder):
            if number >= current or until_ns + _SECOND_NS > before_ns:
                break
            found.append(name)
        last = b""
        for line in _lines(unpacked(folder, found[-1])) if found else ():
            last = line
        return found, hash_of(last)
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        raise store_error("read the log in", directory, error) from error
    finally:
        folder.close()


def parts_of(folder: Folder) -> list[tuple[int, int, str]]:
    """Number, time of closing and name of the parts of the log in a folder, in order."""
    found = [(names.audit_part(name), name) for name in folder.names()]
    return sorted((*part, name) for part, name in found if part is not None)


def number_of(descriptor: int) -> int:
    """Which part of the log an open file is, from 1, as its first line says."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    first = os.read(descriptor, _FIRST_LINE_BYTES_MAX).partition(b"\n")[0]
    try:
        return max(decode_entry(first).part, 1)
    except msgspec.MsgspecError:
        return 1


def unpacked(folder: Folder, name: str) -> Iterator[bytes]:
    """Yield the plain text of a part, but for what is damaged."""
    from stack_composer.telemetry.store.unpack import Frames

    descriptor = folder.open(name)
    try:
        frames = Frames(lambda: os.read(descriptor, _READ_BYTES), Counter())
        for piece in frames.pieces():
            # A damaged frame breaks the chain, which ``verify`` tells of.
            yield piece or b""
    finally:
        os.close(descriptor)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut into lines, each without its newline; what has none is still being written."""
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        yield from lines


def read_entries(
    directory: str, *, since_ns: int = 0, counts: Counter[str] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield each entry with its id; where lines are no entries, ``verify`` tells.

    ``since_ns`` is as ``read_parts`` has it: some older ones come too. Such lines are
    counted in ``counts`` as "unreadable", but for those that the log calls torn itself.

    Raises:
        StoreError: As ``read_parts``.
    """
    counts = Counter() if counts is None else counts
    is_readable = True
    for _, lines in read_parts(directory, since_ns=since_ns):
        for line in lines:
            try:
                entry = decode_entry(line)
            except msgspec.MsgspecError:
                counts["unreadable"] += 1
                is_readable = False
                continue
            if entry.entry == TORN and not is_readable:
                counts["unreadable"] -= 1
            is_readable = True
            # Only a request is ever referred to.
            yield (hash_of(line)[:ID_CHARS] if entry.entry == SENDING else ""), entry


def read_history(
    directory: str, *, since_ns: int = 0, counts: Counter[str] | None = None
) -> list[tuple[Entry, Entry | None]]:
    """Read all entries but answers, in their order, each request with its answer.

    None stands where there is no answer: it is not known, or the entry is no request.
    ``since_ns`` and ``counts`` are as ``read_entries`` has them.

    Raises:
        StoreError: As ``read_parts``.
    """
    found: list[tuple[Entry, Entry | None]] = []
    waiting: dict[str, int] = {}
    for number, entry in read_entries(directory, since_ns=since_ns, counts=counts):
        if entry.entry == SENDING:
            waiting[number] = len(found)
        if entry.entry != ANSWER:
            found.append((entry, None))
        elif entry.of in waiting:
            place = waiting.pop(entry.of)
            found[place] = (found[place][0], entry)
    return found


NO_CONNECTION: Final = "no connection"
"""The status of a request that nobody took, or whose destination has no address."""


def may_have_left(answer: Entry | None) -> bool:
    """Whether anything of a request can have left: not if nobody took the connection."""
    return answer is None or answer.status != NO_CONNECTION
