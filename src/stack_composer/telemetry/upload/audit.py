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
"torn" (the line before it was not finished: a writer died) and "missing" (the log is not
what the anchor says).

Any number of processes append: each takes the file's lock, reads the last line, writes,
and gives the lock back. A torn line is ended by a newline and stays, as a link of the chain,
so nothing is ever taken away. Without locks (some network folders) appended lines stay
whole, but two at once can follow the same line; such an entry says ``unlocked``.
"""

from __future__ import annotations

import contextlib
import os
import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import open_folder, store_error, sync_file
from stack_composer.telemetry.upload.private import read_private, wait_for, write_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.store.folder import Folder

SENDING: Final = "sending"
ANSWER: Final = "answer"
CONSENT: Final = "consent"
BEGUN: Final = "begun"
TORN: Final = "torn"
MISSING: Final = "missing"

GENESIS: Final = "0" * 64
"""What the first line of a log follows."""
ENTRY_BYTES_MAX: Final = 2**16
MESSAGE_CHARS_MAX: Final = 200
ID_CHARS: Final = 16
ANCHOR_BYTES: Final = 256

_PIECE_BYTES: Final = 2**16
_FORMAT: Final = 1


class Position(NamedTuple):
    """A place in the plain text of a bundle.

    Attributes:
        offset: Where a line begins, in bytes.
        record: How many of its records that the selection keeps are before this place.
    """

    offset: int
    record: int = 0


class Part(NamedTuple):
    """What a request holds of one bundle: from ``start`` to before ``end``."""

    bundle: str
    """``<stem>.<signal>``"""
    start: Position
    end: Position


class Selected(NamedTuple):
    """Which records of a bundle were meant; 0 and an empty name for no limit."""

    since_ns: int = 0
    until_ns: int = 0
    name: str = ""


class Sending(NamedTuple):
    """A request that is about to leave.

    Attributes:
        origin: To whom, as ``Destination.origin``.
        path: Of the URL, without its query, which may be a credential.
        purpose: "upload", "otlp_http" or "otlp_grpc".
        protocol: As ``Destination.protocol``.
        plan: The plan that it is part of, "" for a stream.
        mode: "raw" or "aggregate".
        selected: Which records.
        parts: Where they are in the bundles.
        records: How many.
        bytes: Length of the body as it leaves.
        sha256: Of the body as it leaves, 64 hexadecimal digits.
    """

    origin: str
    path: str
    purpose: str
    protocol: str
    plan: str
    mode: str
    selected: Selected
    parts: tuple[Part, ...]
    records: int
    bytes: int
    sha256: str


_Place = tuple[str, int, int, int, int]


class Entry(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """A line of the log. Which fields it has depends on ``entry``; see ``docs/format.md``."""

    entry: str
    previous: str = ""
    time: str = ""
    unlocked: bool = False
    # Of "sending"; "to" also of "consent".
    to: str = ""
    path: str = ""
    purpose: str = ""
    protocol: str = ""
    plan: str = ""
    mode: str = ""
    since_ns: int = 0
    until_ns: int = 0
    name: str = ""
    parts: tuple[_Place, ...] = ()
    records: int = 0
    bytes: int = 0
    sha256: str = ""
    # Of "answer": the first digits of the hash of the line that it answers, and the rest.
    of: str = ""
    verdict: str = ""
    status: str = ""
    rejected: int = 0
    message: str = ""
    # Of "consent".
    action: str = ""
    policy: int = 0
    by: str = ""
    # Of "begun".
    format: int = 0


class Anchor(NamedTuple):
    """How long the log was, and the hash of the line that ended there."""

    size: int
    sha256: str


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
                status=_harmless(status),
                rejected=rejected,
                message=_harmless(message),
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

    def _append(self, entry: Entry | None, *, is_durable: bool = True) -> str:
        """Append an entry and what the log has to say of itself; return the entry's id."""
        path = os.path.join(self._directory, names.AUDIT)
        folder = open_folder(self._directory, create=True)
        try:
            descriptor, is_locked = self._open(folder)
            try:
                return self._write(folder, descriptor, entry, (is_locked, is_durable))
            finally:
                lock.unlock(descriptor)
                os.close(descriptor)
        except OSError as error:
            raise store_error("write", path, error) from error
        finally:
            folder.close()

    def _open(self, folder: Folder) -> tuple[int, bool]:
        """Open the log, or make it, and take its lock."""
        while True:
            try:
                descriptor = folder.open(names.AUDIT, append=True)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):  # Another process was faster.
                    os.close(folder.create(names.AUDIT))
                continue
            try:
                is_locked = wait_for(descriptor, folder.path_of(names.AUDIT))
                if is_locked and not os.fstat(descriptor).st_nlink:
                    # It was erased while we waited: what is noted there, nobody finds.
                    lock.unlock(descriptor)
                    os.close(descriptor)
                    continue
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor, is_locked

    def _write(
        self, folder: Folder, descriptor: int, entry: Entry | None, how: tuple[bool, bool]
    ) -> str:
        is_locked, is_durable = how
        tail = _read_tail(descriptor)
        entries = [*_of_itself(tail, self._read_anchor()), *((entry,) if entry else ())]
        data, digest = _chained(tail, entries, is_locked=is_locked)
        if data:
            _write_whole(descriptor, data, tail.size if is_locked else None)
        if is_durable:
            sync_file(descriptor)
            if not tail.size:
                folder.sync()
            self._write_anchor(Anchor(tail.size + len(data), digest), is_locked=is_locked)
        return digest[:ID_CHARS]

    def _read_anchor(self) -> Anchor | None:
        try:
            return read_anchor(self._anchor_path)
        except StoreError:
            return None  # ``verify`` says what is wrong with it; it is written anew.

    def _write_anchor(self, anchor: Anchor, *, is_locked: bool) -> None:
        if not is_locked:
            return  # Two could write it in the wrong order, and the log would look cut.
        # It guards the log and is no part of it: where the configuration's folder cannot be
        # written, entries are chained all the same, and ``verify`` says that none guards.
        with contextlib.suppress(OSError):
            write_in_place(self._anchor_path, _encode_anchor(anchor))


def audit_of(config: Config) -> Audit:
    """The log of the telemetry folder that ``config`` names."""
    return Audit(config.directory, os.path.dirname(config.config_path))


def plain_text(text: str) -> str:
    """A text as entries hold it: what UTF-8 cannot hold is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _harmless(text: str) -> str:
    """What another computer said, as printable ASCII, and not too much of it."""
    return "".join(c for c in text if " " <= c <= "~")[:MESSAGE_CHARS_MAX]


def anchor_path(directory: str, anchor_folder: str) -> str:
    """Where the anchor of a folder's log is: several folders may have one configuration."""
    place = os.fsencode(os.path.realpath(directory))
    return os.path.join(anchor_folder, f"audit-{sha256(place).hexdigest()[:16]}.head")


def read_anchor(path: str) -> Anchor | None:
    """Read an anchor; None if there is none.

    Raises:
        StoreError: It is another user's, open to others, or cannot be understood.
    """
    try:
        data = read_private(path, bytes_max=ANCHOR_BYTES)
    except FileNotFoundError:
        return None
    try:
        size, digest = msgspec.json.decode(data, type=tuple[int, str])
    except msgspec.MsgspecError:
        raise StoreError(f"{path} cannot be understood", hint="delete it") from None
    return Anchor(size, digest)


def remove_anchor(directory: str, anchor_folder: str) -> None:
    """Forget the log of a folder, for who erased it on purpose.

    Raises:
        StoreError: The anchor cannot be deleted.
    """
    path = anchor_path(directory, anchor_folder)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise store_error("delete", path, error) from error


def _encode_anchor(anchor: Anchor) -> bytes:
    return msgspec.json.encode(tuple(anchor)).ljust(ANCHOR_BYTES - 1) + b"\n"


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


def _of_itself(tail: _Tail, anchor: Anchor | None) -> list[Entry]:
    """What the log has to say of itself before the next entry."""
    entries = []
    if not tail.size:
        entries.append(Entry(BEGUN, format=_FORMAT))
    elif tail.torn and not _is_whole(tail):
        entries.append(Entry(TORN, bytes=len(tail.torn)))
    if anchor is not None and not _is_anchored(tail, anchor):
        entries.append(Entry(MISSING, bytes=anchor.size, sha256=anchor.sha256))
    return entries


def _is_whole(tail: _Tail) -> bool:
    """Whether nothing but the newline is missing behind the last line."""
    try:
        found = decode_entry(tail.torn)
    except msgspec.MsgspecError:
        return False
    return found.previous == (GENESIS if tail.last is None else hash_of(tail.last))


def _is_anchored(tail: _Tail, anchor: Anchor) -> bool:
    """Whether the log still has, at its place, the line that ended it when it was anchored."""
    before = tail.size - len(tail.piece)
    if anchor.size <= before:
        return True  # Long ago, by another configuration: ``verify`` looks at it.
    begin = tail.piece[: anchor.size - before]
    if anchor.size > tail.size or not begin.endswith(b"\n"):
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


def time_text(time_ns: int) -> str:
    """A time in UTC as entries hold it: of one length always, so texts sort as times do."""
    seconds, rest_ns = divmod(max(time_ns, 0), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest_ns // 1000:06}Z"


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


def hash_of(line: bytes) -> str:
    """The hash of a line, without its newline."""
    return sha256(line).hexdigest()


decode_entry = msgspec.json.Decoder(Entry).decode
"""Read a line; raises ``msgspec.MsgspecError`` for what is no entry."""


def read_lines(directory: str) -> Iterator[bytes]:
    """Yield the whole lines of a folder's log as they are; a missing log has none.

    Raises:
        StoreError: It cannot be read, or is a link or another user's.
    """
    path = os.path.join(directory, names.AUDIT)
    if not os.path.lexists(path):
        return
    folder = open_folder(directory, create=False)
    try:
        with open(folder.open(names.AUDIT), "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]
    except FileNotFoundError:
        return
    except OSError as error:
        raise store_error("read", path, error) from error
    finally:
        folder.close()


def read_entries(directory: str) -> Iterator[tuple[str, Entry]]:
    """Yield each entry with its id; lines that are no entries are ``verify``'s to tell of.

    Raises:
        StoreError: As ``read_lines``.
    """
    for line in read_lines(directory):
        try:
            entry = decode_entry(line)
        except msgspec.MsgspecError:
            continue
        # Only a request is ever referred to.
        yield (hash_of(line)[:ID_CHARS] if entry.entry == SENDING else ""), entry


def read_history(directory: str) -> list[tuple[Entry, Entry | None]]:
    """Read all entries but answers, in their order, each request with its answer.

    None stands where there is no answer: it is not known, or the entry is no request.

    Raises:
        StoreError: As ``read_lines``.
    """
    found: list[tuple[Entry, Entry | None]] = []
    waiting: dict[str, int] = {}
    for number, entry in read_entries(directory):
        if entry.entry == SENDING:
            waiting[number] = len(found)
        if entry.entry != ANSWER:
            found.append((entry, None))
        elif entry.of in waiting:
            place = waiting.pop(entry.of)
            found[place] = (found[place][0], entry)
    return found
