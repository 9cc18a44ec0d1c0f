"""The log of what left this computer: appended to only, each line chained to the one before.

``audit.jsonl`` in the telemetry folder has one JSON object a line. ``previous`` is the
SHA-256 of the line before it, without its newline, so a line that is changed, removed, put
in or moved shows (``verify``). What would not show by that, the cutting off of the end, or
of everything, is found by the *anchor*: length and last hash of the log, in a file beside
the configuration. Who can write both can forge both: the log is honest with its owner, and
holds nobody prisoner.

Two entries a request. "sending" is on the disk before the first byte leaves; "answer"
follows. So a program that is killed between them leaves a trace: it left, and the answer
is not known. The other entries are "consent", and what the log says of itself: "begun",
"torn" (the line before it was not finished: a writer died), "missing" (the log is not
what the anchor says) and "forgotten" (its user had its oldest parts deleted).

Any number of processes append: each takes the file's lock, reads the last line, writes,
and gives the lock back. A torn line is ended by a newline and stays, as a link of the chain,
so nothing is ever taken away. Without locks (some network folders) appended lines stay
whole, but two at once can follow the same line; such an entry says ``unlocked``.

A log that has grown to ``PART_BYTES_MAX`` is closed: packed under the name of a part,
and a new file, whose first line follows the last one of the part, takes its place in one
step. Stopped between the two, the part is the file itself, and is made again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import open_folder, store_error, sync_file
from stack_composer.telemetry.upload.anchor import (
    Anchor,
    anchor_path,
    read_anchor,
    write_anchor,
)
from stack_composer.telemetry.upload.entries import (
    ANSWER,
    BEGUN,
    CONSENT,
    ENTRY_BYTES_MAX,
    FORGOTTEN,
    GENESIS,
    ID_CHARS,
    MISSING,
    SENDING,
    TORN,
    Entry,
    Part,
    Position,
    Selected,
    Sending,
    decode_entry,
    harmless,
    hash_of,
    plain_text,
    time_text,
)
from stack_composer.telemetry.upload.history import (
    forgettable,
    number_of,
    parts_of,
    read_entries,
    unpacked,
)
from stack_composer.telemetry.upload.private import wait_for

if TYPE_CHECKING:
    from typing import Final

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.store.folder import Folder

__all__ = ["Audit", "Part", "Position", "Selected", "Sending", "audit_of", "read_entries"]

PART_BYTES_MAX: Final = 8 * 2**20
"""A log that has grown to this many bytes is closed."""

_TRIES: Final = 128
"""So often closing is tried while the log grows by its own size again."""
_PIECE_BYTES: Final = 2**16
_PACKED_BYTES: Final = 2**23
_FORMAT: Final = 1


class _Tail(NamedTuple):
    """The end of the log: its size, whole last line (None: there is none), and the rest."""

    size: int
    last: bytes | None
    torn: bytes
    piece: bytes


class Audit:
    """The log of one telemetry folder. It holds nothing open, so it outlives a fork.

    Args:
        directory: The telemetry folder, made if it is missing.
        anchor_folder: Where the anchor is: the folder of the configuration file.
    """

    __slots__ = ("_anchor_path", "_directory")

    def __init__(self, directory: str, anchor_folder: str) -> None:
        self._directory = directory
        self._anchor_path = anchor_path(directory, anchor_folder)

    def sending(self, request: Sending) -> str:
        """Note a request before it leaves; on the disk when this returns.

        Returns:
            What ``answer`` takes.

        Raises:
            StoreError: It could not be noted, so the request must not leave.
            ValueError: The entry has more than ``ENTRY_BYTES_MAX`` bytes.
        """
        selected = request.selected
        return self._append(
            Entry(
                SENDING,
                to=request.origin,
                path=plain_text(request.path),
                purpose=request.purpose,
                protocol=request.protocol,
                plan=request.plan,
                mode=request.mode,
                since_ns=selected.since_ns,
                until_ns=selected.until_ns,
                name=plain_text(selected.name),
                parts=tuple((part.bundle, *part.start, *part.end) for part in request.parts),
                records=request.records,
                bytes=request.bytes,
                sha256=request.sha256,
            )
        )

    def answer(
        self, of: str, *, verdict: str, status: str, rejected: int = 0, message: str = ""
    ) -> None:
        """Note what became of a request.

        On the disk with the next "sending", or after ``flush``: a power cut before it
        makes one request leave twice, a killed program none.

        Args:
            of: What ``sending`` returned.
            verdict: As ``Outcome.verdict``; or "passed_over" for what was refused for good
                and need not be tried again, "not_sent" for what did not leave after all.
            status: As ``Outcome.status``.
            rejected: As ``Outcome.rejected``.
            message: The server's words: what is not ASCII is taken out, and all beyond
                ``MESSAGE_CHARS_MAX``.

        Raises:
            StoreError: It could not be noted.
        """
        self._append(
            Entry(
                ANSWER,
                of=of,
                verdict=verdict,
                status=harmless(status),
                rejected=rejected,
                message=harmless(message),
            ),
            is_durable=False,
        )

    def consent(self, action: str, origin: str, *, policy_version: int, by: str = "") -> None:
        """Note that a consent was "given" or "withdrawn".

        Raises:
            StoreError: It could not be noted.
        """
        self._append(Entry(CONSENT, action=action, to=origin, policy=policy_version, by=by))

    def flush(self) -> None:
        """Bring what was noted to the disk, and the anchor to the log's end.

        Raises:
            StoreError: The disk refuses.
        """
        if not os.path.lexists(os.path.join(self._directory, names.AUDIT)):
            return
        self._append(None)

    def forget(self, before_ns: int) -> list[str]:
        """Delete the parts that were closed before a time; return their names.

        That is noted first, with the hash that the rest of the log follows, so that it
        shows and is no fault. Stopped half-way, the next call goes on.

        Args:
            before_ns: Unix nanoseconds.

        Raises:
            StoreError: It could not be noted, or a part cannot be deleted.
        """
        doomed, last = forgettable(self._directory, before_ns)
        if not doomed:
            return []
        number = (names.audit_part(doomed[-1]) or (0, 0))[0]
        self._append(Entry(FORGOTTEN, part=number, sha256=last))
        folder = open_folder(self._directory, create=False)
        try:
            for name in doomed:
                folder.remove(name)
            folder.sync()
        except OSError as error:
            raise store_error("delete parts of the log in", folder.path, error) from error
        finally:
            folder.close()
        return doomed

    def _append(self, entry: Entry | None, *, is_durable: bool = True) -> str:
        """Append an entry and what the log has to say of itself; return the entry's id."""
        path = os.path.join(self._directory, names.AUDIT)
        folder = open_folder(self._directory, create=True)
        try:
            file = _open(folder)
            try:
                _close_part(folder, file)
                return self._write(folder, file, entry, is_durable=is_durable)
            finally:
                file.close()
        except OSError as error:
            raise store_error("write", path, error) from error
        finally:
            folder.close()

    def _write(self, folder: Folder, file: _File, entry: Entry | None, *, is_durable: bool) -> str:
        tail = _read_tail(file.descriptor)
        number = number_of(file.descriptor) if tail.size else _next_number(folder)
        entries = [*_of_itself(tail, number, self._read_anchor()), *((entry,) if entry else ())]
        data, digest = _chained(tail, entries, is_locked=file.is_locked)
        if data:
            _write_whole(file.descriptor, data, tail.size if file.is_locked else None)
        if is_durable:
            sync_file(file.descriptor)
            if not tail.size:
                folder.sync()
            if file.is_locked:
                # Without locks two could write it in the wrong order, and it would lie.
                self._write_anchor(Anchor(number, tail.size + len(data), digest))
        return digest[:ID_CHARS]

    def _read_anchor(self) -> Anchor | None:
        try:
            return read_anchor(self._anchor_path)
        except StoreError:
            return None  # ``verify`` says what is wrong with it; it is written anew.

    def _write_anchor(self, anchor: Anchor) -> None:
        # It guards the log and is no part of it: where the configuration's folder cannot be
        # written, entries are chained all the same, and ``verify`` says that none guards.
        with contextlib.suppress(OSError):
            write_anchor(self._anchor_path, anchor)


class _File:
    """The log, open to be appended to, and locked where there are locks."""

    __slots__ = ("descriptor", "is_locked")

    def __init__(self, descriptor: int, *, is_locked: bool) -> None:
        self.descriptor = descriptor
        self.is_locked = is_locked

    def close(self) -> None:
        lock.unlock(self.descriptor)
        os.close(self.descriptor)


def _open(folder: Folder) -> _File:
    """Open the log, or make it, and take its lock."""
    while True:
        try:
            descriptor = folder.open(names.AUDIT, append=True)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # Another process was faster.
                os.close(folder.create(names.AUDIT))
            continue
        file = _File(descriptor, is_locked=True)
        try:
            file.is_locked = wait_for(descriptor, folder.path_of(names.AUDIT))
            # While we waited it may have been erased, or closed and packed: what is noted
            # in that file, nobody finds.
            if os.fstat(descriptor).st_nlink or not file.is_locked:
                return file
        except BaseException:
            os.close(descriptor)
            raise
        file.close()


def _close_part(folder: Folder, file: _File) -> None:
    """Pack a log that has grown large, and go on in a new one; if that fails, in this one."""
    size = os.fstat(file.descriptor).st_size
    # Windows replaces no file that is open, and this one is: there it grows on.
    if size < PART_BYTES_MAX or not file.is_locked or os.name == "nt":
        return
    tail = _read_tail(file.descriptor)
    if tail.torn or tail.last is None:
        return  # The next entry ends that line, and the one after that comes here again.
    every = PART_BYTES_MAX // _TRIES
    if size // every == (size - len(tail.last) - 1) // every:
        return  # Where it fails it is not tried at each entry: to pack takes its time.
    try:
        number = number_of(file.descriptor)
        _remove_copies(folder, number, file.descriptor)
        _pack(folder, file.descriptor, names.audit_part_name(number, effects.wall_ns()))
        begun = Entry(BEGUN, format=_FORMAT, part=number + 1)
        first, _ = _chained(_Tail(0, tail.last, b"", b""), [begun], is_locked=True)
        new = _put(folder, first)
    except (OSError, ImportError):
        return  # A full disk, or no zstd here: it grows on.
    file.close()
    file.descriptor = new


def _remove_copies(folder: Folder, number: int, descriptor: int) -> None:
    """Delete parts that hold the beginning of an open log, which is not yet closed.

    Who made them was killed before the new file came. One with anything else in it stays:
    it is none of ours, and ``verify`` tells of it.
    """
    for other, _, name in parts_of(folder):
        if other == number:
            os.lseek(descriptor, 0, os.SEEK_SET)
            if all(os.read(descriptor, len(piece)) == piece for piece in unpacked(folder, name)):
                folder.remove(name)


def _pack(folder: Folder, descriptor: int, name: str) -> None:
    from stack_composer.telemetry.store.zstd import compress_frame

    os.lseek(descriptor, 0, os.SEEK_SET)
    # In pieces, since one that could not be closed for long may have grown large.
    pieces = iter(lambda: os.read(descriptor, _PACKED_BYTES), b"")
    os.close(_put(folder, b"".join(map(compress_frame, pieces)), name))


def _put(folder: Folder, data: bytes, name: str = names.AUDIT) -> int:
    """Make a whole file, durable and locked, in the place of what has its name."""
    folder.remove(names.AUDIT_NEW)  # Who left it is dead: we hold the lock of the log.
    descriptor = folder.create(names.AUDIT_NEW)
    try:
        if lock.try_lock(descriptor) != lock.LOCKED:
            raise OSError("a new file that cannot be locked")
        _write_whole(descriptor, data, None)
        sync_file(descriptor)
        folder.rename(names.AUDIT_NEW, name)
    except BaseException:
        os.close(descriptor)
        folder.remove(names.AUDIT_NEW)
        raise
    with contextlib.suppress(OSError):
        folder.sync()
    return descriptor


def _next_number(folder: Folder) -> int:
    """The number of a new log: beyond all parts that there are."""
    return max((number for number, _, _ in parts_of(folder)), default=0) + 1


def audit_of(config: Config) -> Audit:
    """The log of the telemetry folder that ``config`` names."""
    return Audit(config.directory, os.path.dirname(config.config_path))


def _read_tail(descriptor: int) -> _Tail:
    """Read so much of the end that it holds the last whole line."""
    size = at = os.fstat(descriptor).st_size
    piece = b""
    step = _PIECE_BYTES
    while at and piece.count(b"\n") < 2:
        step = min(step, at)
        at -= step
        os.lseek(descriptor, at, os.SEEK_SET)
        piece = os.read(descriptor, step) + piece
        step *= 2  # A damaged log may have no newline for long.
    whole, newline, torn = piece.rpartition(b"\n")
    last = whole.rpartition(b"\n")[2] if newline else None
    return _Tail(size, last, torn, piece)


def _of_itself(tail: _Tail, number: int, anchor: Anchor | None) -> list[Entry]:
    """What the log has to say of itself before the next entry."""
    entries = []
    if not tail.size:
        entries.append(Entry(BEGUN, format=_FORMAT, part=number))
    elif tail.torn and not _is_whole(tail):
        entries.append(Entry(TORN, bytes=len(tail.torn)))
    if anchor is not None and not _is_anchored(tail, number, anchor):
        gone = Entry(MISSING, part=anchor.part, bytes=anchor.size, sha256=anchor.sha256)
        entries.append(gone)
    return entries


def _is_whole(tail: _Tail) -> bool:
    """Whether nothing but the newline is missing behind the last line."""
    try:
        found = decode_entry(tail.torn)
    except msgspec.MsgspecError:
        return False
    return found.previous == (GENESIS if tail.last is None else hash_of(tail.last))


def _is_anchored(tail: _Tail, number: int, anchor: Anchor) -> bool:
    """Whether the log still has, at its place, the line that ended it when it was anchored."""
    if anchor.part != number:
        # Of a part that was closed since: ``verify`` looks at it.
        return anchor.part < number
    before = tail.size - len(tail.piece)
    if anchor.size <= before:
        return True  # Long ago, by another configuration: ``verify`` looks at it.
    begin = tail.piece[: anchor.size - before]
    if not begin.endswith(b"\n"):
        return False
    line = begin[:-1].rpartition(b"\n")[2]
    # The piece may begin within that line; then what is there cannot be judged.
    return hash_of(line) == anchor.sha256 or (before > 0 and b"\n" not in begin[:-1])


def _chained(tail: _Tail, entries: list[Entry], *, is_locked: bool) -> tuple[bytes, str]:
    """The bytes to append, and the hash of the last line after that."""
    digest = GENESIS if tail.last is None else hash_of(tail.last)
    data = b""
    if tail.torn:
        data, digest = b"\n", hash_of(tail.torn)
    for entry in entries:
        line = msgspec.json.encode(
            msgspec.structs.replace(
                entry, previous=digest, time=time_text(effects.wall_ns()), unlocked=not is_locked
            )
        )
        if len(line) > ENTRY_BYTES_MAX:
            raise ValueError(f"an entry of {len(line):,} bytes: {ENTRY_BYTES_MAX:,} at most")
        digest = hash_of(line)
        data += line + b"\n"
    return data, digest


def _write_whole(descriptor: int, data: bytes, back_to: int | None) -> None:
    """Write all of it, or take back what was written: ``back_to`` is the size before."""
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        if back_to is not None:
            # If this fails too, the next entry finds a torn line and says so.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, back_to)
        raise
