"""Find bundles and read their lines, whatever state they are in.

Nothing here writes, and nothing here fails because of what a file holds: a torn tail,
a damaged frame, a line too long, a bomb are left out and counted by name
(``ODDITIES``); whole lines before and after are read. What a line *says* is decoded
elsewhere (``otlp``), so that statistics from sidecars never pay for it.

Memory is bounded: by one zstd frame of ours, or one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.errors import FolderRefusedError, StoreError
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import open_folder, store_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO
    from typing import Final

    from stack_composer.telemetry.store.encrypted.database import Database
    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.index import Frame, Index
    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.sidecar import Head, Sidecar
    from stack_composer.telemetry.store.sketch import Sketch

LINE_BYTES_MAX: Final = 64 * 2**20
PLAIN_BYTES_MAX: Final = 4 * 2**30
"""Where reading one compressed file stops: far beyond any bundle, so it is a bomb."""

ODDITIES: Final = {
    "torn_tail": "bytes behind the last newline: a writer died, or is writing right now",
    "line_too_long": "a line beyond the limit was left out",
    "damaged_frame": "a part of a sealed bundle is damaged and was left out",
    "truncated": "a sealed bundle ends early",
    "too_large": "a compressed file unpacks to more than any bundle; the rest was left out",
    "blank_line": "an empty line",
    "crlf": "a line that ends as on Windows",
    "bom": "a byte order mark at the start",
    "damaged_index": "what tells where things are in a sealed bundle is damaged; it is only slower",
    "gone": "a bundle that was purged while it was to be read",
}
"""What reading may count, in words for users."""

_SEALED_END: Final = ".jsonl.zst"
_SKETCH_END: Final = ".sketch.json"
_PIECE_BYTES: Final = 2**20
_READ_BYTES: Final = 2**17
_LISTINGS_MAX: Final = 5
"""Bundles on their way into a database are looked for again so often, at most."""
_BOM: Final = b"\xef\xbb\xbf"
_TAIL_BYTES: Final = 2**15
"""Read at once from the end of a sealed file: most indexes are smaller."""


class BundleInfo(NamedTuple):
    """A bundle in the folder, as its name and size tell.

    Attributes:
        path: Absolute.
        signal: "traces", "metrics" or "logs".
        created_ns: When its writer made it, Unix nanoseconds, from its name.
        pid: Of its writer.
        sealed: Compressed, with a sidecar as a rule; otherwise plain lines, which
            somebody may be writing right now.
        bytes: Size of the file.
        stem: What its files have in common, before the signal.
        sketch_bytes: Size of its sidecar, 0 if there is none.
        database: The encrypted database that it is in, which ``path`` then begins with;
            None for files.
        row: Of the database.
        updated_ns: When it was last written to; of the database.
        closed: Its writer has ended in order; of the database.
    """

    path: str
    signal: str
    created_ns: int
    pid: int
    sealed: bool
    bytes: int
    stem: str
    sketch_bytes: int = 0
    database: Database | None = None
    row: int = 0
    updated_ns: int = 0
    closed: bool = False


class Listing(NamedTuple):
    """What is in a telemetry folder.

    Attributes:
        bundles: Ordered by creation, then signal.
        foreign: Names of what is not ours, sorted: it is never read by itself, nor
            purged. A link or another user's file is foreign, whatever its name.
    """

    bundles: list[BundleInfo]
    foreign: list[str]


def list_bundles(
    directory: str, unlock: Keys | None = None, *, locked: list[StoreError] | None = None
) -> Listing:
    """List a telemetry folder, files and encrypted databases; a missing one is empty.

    A bundle that is sealed or converted while this runs is listed once, in one form or
    the other.

    Args:
        directory: The folder.
        unlock: Where the keys of databases are; by default where the configuration says.
        locked: Takes what hinders the reading of a database, which is then left out.
            Without it that is raised: half an answer would pass for a whole one.

    Raises:
        FolderRefusedError: The folder is a link, another user's, or not a folder.
        StoreLockedError: A database is there, and no key for it.
        StoreError: It cannot be read.
    """
    if not os.path.lexists(directory):
        return Listing([], [])
    folder = open_folder(directory, create=False)
    try:
        for _ in range(_LISTINGS_MAX):
            refused: list[StoreError] | None = None if locked is None else []
            listing, is_whole = _list(folder, unlock, refused)
            if is_whole:
                break
        if locked is not None and refused:
            locked += refused
    except OSError as error:
        raise store_error("list", folder.path, error) from error
    finally:
        folder.close()
    return listing


def _list(
    folder: Folder, unlock: Keys | None, locked: list[StoreError] | None
) -> tuple[Listing, bool]:
    """List once; False if something was on its way from a file into a database."""
    # A listing is no snapshot: a bundle sealed meanwhile may be missed in both forms.
    # But each is sealed once, so what one listing misses the other one has. The
    # databases are looked at in between, since bundles go from one form to the other.
    first = frozenset(folder.names())
    bundles: list[BundleInfo] = []
    has_databases = any(name.endswith(".sqlcipher") for name in first)
    if has_databases:
        bundles += _rows(folder, unlock, locked)
    present = first | frozenset(folder.names())
    converted = {(bundle.stem, bundle.signal) for bundle in bundles}
    foreign: list[str] = []
    is_whole = True
    for name in present:
        # Nearly half of all names are sidecars, which their bundles answer for.
        if name.endswith(_SKETCH_END) and name[: -len(_SKETCH_END)] + _SEALED_END in present:
            continue
        parsed = names.parse_name(name)
        if parsed is None:
            if name not in names.SINGLES:
                foreign.append(name)
            if name.endswith(_SEALED_END):
                sidecar = name[: -len(_SEALED_END)] + _SKETCH_END
                foreign += {sidecar} & present
        elif (parsed.stem, parsed.signal) in converted:
            continue  # A conversion was stopped between the new form and the end of the old one.
        elif parsed.kind == names.SEALED or (
            parsed.kind == names.OPEN
            and names.sealed_name(parsed.stem, parsed.signal) not in present
        ):
            is_whole &= _add(folder, parsed, bundles, foreign)
    bundles.sort(key=lambda bundle: (bundle.created_ns, bundle.stem, bundle.signal))
    return Listing(bundles, sorted(foreign)), is_whole or not has_databases


def _rows(folder: Folder, unlock: Keys | None, locked: list[StoreError] | None) -> list[BundleInfo]:
    from stack_composer.telemetry.store import keys
    from stack_composer.telemetry.store.encrypted import database, rows

    unlock = keys.configured() if unlock is None else unlock
    found: dict[tuple[str, str], BundleInfo] = {}
    for parsed in database.find_databases(folder):
        try:
            for bundle in rows.list_rows(database.Database(folder.path, parsed, unlock)):
                # A new key: a bundle is in both databases for a moment, and the same.
                found.setdefault((bundle.stem, bundle.signal), bundle)
        except StoreError as error:
            if locked is None:
                raise
            locked.append(error)
    return list(found.values())


def _add(
    folder: Folder,
    parsed: names.BundleName,
    bundles: list[BundleInfo],
    foreign: list[str],
) -> bool:
    """Add a file to what was found; False if it is gone."""
    try:
        found = folder.stat(parsed.name)
    except FileNotFoundError:
        sealed = names.parse_name(names.sealed_name(parsed.stem, parsed.signal))
        # Sealed since it was listed, or purged.
        if parsed.kind == names.OPEN and sealed is not None:
            return _add(folder, sealed, bundles, foreign)
        return False
    if not stat.S_ISREG(found.st_mode) or (hasattr(os, "geteuid") and found.st_uid != os.geteuid()):
        foreign.append(parsed.name)
        return True
    sketch = names.sketch_name(parsed.stem, parsed.signal)
    sketch_bytes = 0
    if parsed.kind == names.SEALED:
        with contextlib.suppress(FileNotFoundError):
            sketch_bytes = folder.stat(sketch).st_size
    bundles.append(
        BundleInfo(
            folder.path_of(parsed.name),
            parsed.signal,
            parsed.created_ns,
            parsed.pid,
            parsed.kind == names.SEALED,
            found.st_size,
            parsed.stem,
            sketch_bytes,
        )
    )
    return True


def read_sketch(bundle: BundleInfo) -> Sketch | None:
    """The sketch of a sealed bundle; None if it is absent, damaged or does not match.

    Then ``Sketch.add_line`` over ``read_lines`` gives the same. An unsealed bundle
    has no sketch.
    """
    sidecar = read_sidecar(bundle)
    return None if sidecar is None else sidecar.sketch


def read_sidecar(bundle: BundleInfo) -> Sidecar | None:
    """All that the sidecar says; None as ``read_sketch``."""
    if not bundle.sealed or not bundle.sketch_bytes:
        return None
    from stack_composer.telemetry.store.sidecar import SIDECAR_BYTES_MAX, decode_sidecar

    sidecar = decode_sidecar(_read_sidecar(bundle, SIDECAR_BYTES_MAX))
    return sidecar if sidecar is not None and sidecar.bytes == bundle.bytes else None


def read_head(bundle: BundleInfo) -> Head | None:
    """What the sidecar says in a few words, which is all that is read of it.

    None as ``read_sketch``.
    """
    if not bundle.sealed or not bundle.sketch_bytes:
        return None
    from stack_composer.telemetry.store.sidecar import HEAD_BYTES_MAX, decode_head

    head = decode_head(_read_sidecar(bundle, HEAD_BYTES_MAX))
    if head is None:
        sidecar = read_sidecar(bundle)
        return None if sidecar is None else sidecar.head
    return head if head.bytes == bundle.bytes else None


def _read_sidecar(bundle: BundleInfo, bytes_max: int) -> bytes:
    if bundle.database is not None:
        from stack_composer.telemetry.store.encrypted.rows import read_sidecar_bytes

        return read_sidecar_bytes(bundle.database, bundle, bytes_max)
    path = os.path.join(os.path.dirname(bundle.path), names.sketch_name(bundle.stem, bundle.signal))
    try:
        with open(path, "rb", buffering=0, opener=_open_unlinked) as file:
            return file.read(bytes_max)
    except OSError:
        return b""


def frames_of(
    bundle: BundleInfo,
    counts: Counter[str] | None = None,
    *,
    trace: str = "",
    since_ns: int = 0,
    until_ns: int = 0,
) -> list[Frame] | None:
    """Tell which frames of a sealed bundle may hold an answer; the others hold none.

    Args:
        bundle: A bundle; whether it has an index is found out here.
        counts: Where a damaged index is counted, as ``read_lines`` does.
        trace: The beginning of a trace id, in lower case; "" for any.
        since_ns: What ends before is not wanted; 0 for no limit.
        until_ns: What begins then or later is not wanted; 0 for no limit.

    Returns:
        None if there is nothing that tells: then all of the bundle is to be read.
    """
    index = _read_index(bundle, Counter() if counts is None else counts)
    if index is None:
        return None
    return index.frames(trace=trace, since_ns=since_ns, until_ns=until_ns)


def _read_index(bundle: BundleInfo, counts: Counter[str]) -> Index | None:
    if not bundle.sealed:
        return None
    from stack_composer.telemetry.store.index import decode_index

    if bundle.database is not None:
        from stack_composer.telemetry.store.encrypted import rows

        data = rows.read_beside(bundle.database, bundle, rows.INDEX)
        if not data:
            return None
        return _counted(decode_index(data), counts)
    try:
        with open(bundle.path, "rb", buffering=0, opener=_open_unlinked) as file:
            tail, start = _tail(file)
            if start is None:
                return None
            size = file.seek(0, os.SEEK_END) - start
            if size > len(tail):
                file.seek(start)
                tail = file.read(size)
    except OSError:
        return None
    return _counted(decode_index(tail[-size:]), counts)


def _counted(index: Index | None, counts: Counter[str]) -> Index | None:
    if index is None:
        counts["damaged_index"] += 1
    return index


def _tail(file: FileIO) -> tuple[bytes, int | None]:
    """Read the end of a sealed file, and where its index begins if it has one."""
    from stack_composer.telemetry.store.index import start_of_index

    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL_BYTES, 0))
    tail = file.read(_TAIL_BYTES)
    start = start_of_index(tail)
    return tail, start if start is not None and start < size else None


def read_lines(
    source: BundleInfo | str,
    counts: Counter[str] | None = None,
    *,
    line_bytes_max: int = LINE_BYTES_MAX,
    frames: Iterable[Frame] | None = None,
) -> Iterator[bytes]:
    """Read whole lines, without their newlines, in the order they were written.

    Args:
        source: A bundle; or the path of any OTLP JSON file, plain or zstd. Such a
            file's last line needs no newline, and it may be one JSON document over
            many lines, which comes as one line.
        counts: Where what was left out is counted, by the names in ``ODDITIES``.
        line_bytes_max: Longer lines are left out.
        frames: Only these frames of a sealed bundle, as ``frames_of`` gave them.

    Yields:
        Lines as they are; blank ones are left out. A bundle sealed since it was
        listed is read all the same; one purged since then gives nothing.

    Raises:
        StoreError: The file cannot be opened or read, or is not a regular one.
    """
    counts = Counter() if counts is None else counts
    if isinstance(source, str):
        yield from _read_foreign(source, counts, line_bytes_max)
        return
    pieces = _pieces_of(source, counts, frames)
    if pieces is None:
        elsewhere = _converted(source)
        # The same frames: a conversion copies them.
        pieces = None if elsewhere is None else _pieces_of(elsewhere, counts, frames)
    if pieces is None:
        counts["gone"] += 1
        return
    yield from _lines(pieces, counts, line_bytes_max, keep_tail=False)


def read_placed_lines(
    bundle: BundleInfo, counts: Counter[str] | None = None, *, start: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Read whole lines of a bundle, each with its place; for who notes how far it came.

    A place is where the line begins in the bundle's plain text. It stays the same when
    the bundle is sealed or converted. Where a part is damaged and no index tells how long
    it was, later places count what could be read.

    Args:
        bundle: A bundle.
        counts: As of ``read_lines``.
        start: Lines that begin before are left out; an index spares unpacking them.

    Yields:
        Place and line, without its newline; blank lines are left out.

    Raises:
        StoreError: As ``read_lines``.
    """
    counts = Counter() if counts is None else counts
    frames = frames_of(bundle, counts)
    if frames is None:
        pieces = _pieces_of(bundle, counts, None)
        if pieces is None:
            elsewhere = _converted(bundle)
            pieces = None if elsewhere is None else _pieces_of(elsewhere, counts, None)
        if pieces is None:
            counts["gone"] += 1
            return
        yield from _placed(pieces, counts, 0, start)
        return
    place = 0
    for frame in frames:
        end = place + frame.plain_bytes
        if end > start:
            pieces = _pieces_of(bundle, counts, [frame])
            if pieces is None:
                counts["gone"] += 1
                return
            yield from _placed(pieces, counts, place, start)
        place = end


def _placed(
    pieces: Iterable[bytes | None], counts: Counter[str], place: int, start: int
) -> Iterator[tuple[int, bytes]]:
    """Cut pieces into lines from ``start`` on, the first piece beginning at ``place``."""
    held = b""
    passed_over = 0  # Bytes of a line beyond the limit, which takes no memory.
    for piece in pieces:
        if piece is None:
            counts.update(["torn_tail"] * bool(held or passed_over))
            place, held, passed_over = place + passed_over + len(held), b"", 0
            continue
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            size = passed_over + len(line)
            if size > LINE_BYTES_MAX:
                counts.update(["line_too_long"] * (place >= start))
            elif place >= start and line and not line.isspace():
                yield place, line
            place, passed_over = place + size + 1, 0
        if len(held) > LINE_BYTES_MAX or passed_over:
            held, passed_over = b"", passed_over + len(held)
    counts.update(["torn_tail"] * bool(held or passed_over))


def _pieces_of(
    bundle: BundleInfo, counts: Counter[str], frames: Iterable[Frame] | None
) -> Iterable[bytes | None] | None:
    """Give the lines in pieces; None if the bundle is not there any more."""
    if bundle.database is not None:
        from stack_composer.telemetry.store.encrypted import rows

        if not rows.is_there(bundle.database, bundle):
            return None
        if frames is not None:
            return _unpack_some(rows.read_some(bundle.database, bundle, frames), counts)
        return _unpack_rows(bundle, counts)
    path, sealed = bundle.path, bundle.sealed
    if not sealed and not os.path.lexists(path):
        path, sealed = path + ".zst", True
    try:
        fd = _open_regular(path)
    except FileNotFoundError:
        return None
    if frames is not None:
        return _unpack_some(_read_some(path, fd, frames), counts)
    return _unpack(path, fd, counts) if sealed else _pieces(path, fd)


def _converted(bundle: BundleInfo) -> BundleInfo | None:
    """Look for a bundle in another form: converted since it was listed."""
    directory = os.path.dirname(bundle.path)
    if bundle.database is not None:
        directory = bundle.database.directory
    elif not any(name.endswith(".sqlcipher") for name in _names(directory)):
        return None  # Purged, as a rule; a folder of files alone is not listed for each.
    key = (bundle.stem, bundle.signal)
    for found in list_bundles(directory, locked=[]).bundles:
        if (found.stem, found.signal) == key:
            return found
    return None


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _unpack_rows(bundle: BundleInfo, counts: Counter[str]) -> Iterator[bytes | None]:
    from stack_composer.telemetry.store.encrypted.rows import read_frames

    assert bundle.database is not None
    done = 0
    for start, data in read_frames(bundle.database, bundle, counts):
        if data is None:
            yield None
            continue
        position = start
        for piece in unpack_frame(data, counts):
            fresh = piece
            if piece is not None:
                # Merged since it was begun: the beginning was given out before.
                fresh = piece[max(done - position, 0) :]
                position += len(piece)
            yield fresh
        done = max(done, position)
        if done > PLAIN_BYTES_MAX:
            counts["too_large"] += 1
            yield None
            return


def unpack_frame(data: bytes, counts: Counter[str]) -> Iterator[bytes | None]:
    """Unpack frames held in memory; None says that something is missing at this place."""
    from stack_composer.telemetry.store.unpack import Frames

    yield from Frames(lambda: b"", counts, data).pieces()


def read_new_lines(
    bundle: BundleInfo, offset: int, *, read_bytes_max: int = _PIECE_BYTES
) -> tuple[list[bytes], int]:
    """Read what was appended to an unsealed bundle behind ``offset``; for following it.

    Returns:
        Whole lines, and the offset to ask for next. ``([], offset)`` while there is
        nothing new, and when the bundle was purged. What a bundle held that was
        sealed meanwhile still comes, all at once.

    Raises:
        StoreError: The file cannot be read.
    """
    if bundle.database is not None:
        return _new_lines_of_rows(bundle, offset)
    try:
        fd = _open_regular(bundle.path)
    except FileNotFoundError:
        return _new_lines_of_sealed(bundle, offset)
    with os.fdopen(fd, "rb", buffering=0) as file:
        try:
            file.seek(offset)
            data = file.read(read_bytes_max)
            while b"\n" not in data and len(data) >= read_bytes_max:
                read_bytes_max *= 2
                file.seek(offset)
                data = file.read(read_bytes_max)
        except OSError as error:
            raise store_error("read", bundle.path, error) from error
    end = data.rfind(b"\n") + 1
    return [line for line in data[:end].split(b"\n") if line], offset + end


def _new_lines_of_sealed(bundle: BundleInfo, offset: int) -> tuple[list[bytes], int]:
    path = bundle.path + ".zst"
    try:
        fd = _open_regular(path)
    except FileNotFoundError:
        return [], offset
    # Frames hold the very bytes of the plain bundle, so its offsets still hold.
    data = b"".join(piece or b"" for piece in _unpack(path, fd, Counter()))
    return [line for line in data[offset:].split(b"\n") if line], max(offset, len(data))


def _new_lines_of_rows(bundle: BundleInfo, offset: int) -> tuple[list[bytes], int]:
    """Read the next frame behind ``offset``; one that is damaged is passed over."""
    from stack_composer.telemetry.store.encrypted.rows import read_frames

    assert bundle.database is not None
    for start, packed in read_frames(bundle.database, bundle, Counter(), behind=offset):
        data = b"".join(piece or b"" for piece in unpack_frame(packed or b"", Counter()))
        # Merged frames begin before the offset.
        fresh = data[max(offset - start, 0) :]
        if fresh:
            return [line for line in fresh.split(b"\n") if line], max(start, offset) + len(fresh)
    return [], offset


def _open_unlinked(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _open_regular(path: str, *, follow: bool = False) -> int:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        if os.path.islink(path):
            raise FolderRefusedError(f"{path} is a symbolic link") from error
        raise store_error("read", path, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise StoreError(f"cannot read {path}: it is not a file")
    return fd


def _pieces(path: str, fd: int) -> Iterator[bytes]:
    with os.fdopen(fd, "rb", buffering=0) as file:
        try:
            while piece := file.read(_PIECE_BYTES):
                yield piece
        except OSError as error:
            raise store_error("read", path, error) from error


def _unpack(path: str, fd: int, counts: Counter[str]) -> Iterator[bytes | None]:
    """Unpack frame by frame; None says that something is missing at this place."""
    # Here, since most questions are answered by sidecars alone.
    from stack_composer.telemetry.store.unpack import Frames

    plain_bytes = 0
    with os.fdopen(fd, "rb", buffering=0) as file:
        try:
            end = _tail(file)[1]  # The frames of lines end here, if that is known.
            file.seek(0)
            frames = Frames(lambda: _read_until(file, end), counts)
            for piece in frames.pieces():
                plain_bytes += len(piece or b"")
                if plain_bytes > PLAIN_BYTES_MAX:
                    counts["too_large"] += 1
                    yield None
                    return
                yield piece
        except OSError as error:
            raise store_error("read", path, error) from error
    if frames.passed_over:
        # An index is met only where its own end, which tells of it, is damaged.
        counts["damaged_index"] += 1


def _read_until(file: FileIO, end: int | None) -> bytes:
    size = _READ_BYTES if end is None else min(_READ_BYTES, end - file.tell())
    return file.read(size) if size > 0 else b""


def _read_some(path: str, fd: int, chosen: Iterable[Frame]) -> Iterator[tuple[Frame, bytes]]:
    with os.fdopen(fd, "rb", buffering=0) as file:
        for frame in chosen:
            try:
                file.seek(frame.offset)
                data = file.read(frame.bytes)
            except OSError as error:
                raise store_error("read", path, error) from error
            yield frame, data


def _unpack_some(found: Iterable[tuple[Frame, bytes]], counts: Counter[str]) -> Iterator[bytes]:
    """Unpack frames that an index told of; a damaged one is left out and counted."""
    from stack_composer.telemetry.store import unpack, zstd

    for frame, data in found:
        decompressor = zstd.ZstdDecompressor()
        try:
            plain = decompressor.decompress(data, unpack.HELD_BYTES_MAX)
        except zstd.ZstdError:
            plain = b""
        if decompressor.eof and len(plain) == frame.plain_bytes:
            yield plain
        else:
            counts["damaged_frame"] += 1


def _lines(
    pieces: Iterable[bytes | None],
    counts: Counter[str],
    line_bytes_max: int,
    *,
    keep_tail: bool,
) -> Iterator[bytes]:
    """Cut pieces into lines; None among them tears the line that it falls into."""
    parts: list[bytes] = []
    held_bytes = 0
    is_first = True
    for piece in pieces:
        if piece is None:
            counts["torn_tail"] += bool(held_bytes)
            parts, held_bytes = [], 0
            continue
        *whole, tail = piece.split(b"\n")
        for end in whole:
            held_bytes += len(end)
            if held_bytes > line_bytes_max:
                counts["line_too_long"] += 1
            elif line := _clean(b"".join((*parts, end)), counts, is_first=is_first):
                yield line
            parts, held_bytes, is_first = [], 0, False
        held_bytes += len(tail)
        # A line beyond the limit is only measured, so that it takes no memory.
        parts = [*parts, tail] if held_bytes <= line_bytes_max else []
    if held_bytes > line_bytes_max:
        counts["line_too_long"] += 1
    elif held_bytes and not keep_tail:
        counts["torn_tail"] += 1
    elif held_bytes and (line := _clean(b"".join(parts), counts, is_first=is_first)):
        yield line


def _clean(line: bytes, counts: Counter[str], *, is_first: bool) -> bytes:
    if is_first and line.startswith(_BOM):
        counts["bom"] += 1
        line = line[len(_BOM) :]
    if line.endswith(b"\r"):
        counts["crlf"] += 1
        line = line[:-1]
    if not line or line.isspace():
        counts["blank_line"] += 1
        return b""
    return line


def _read_foreign(path: str, counts: Counter[str], line_bytes_max: int) -> Iterator[bytes]:
    from stack_composer.telemetry.store.unpack import MAGIC

    try:
        fd = _open_regular(path, follow=True)
    except FileNotFoundError as error:
        raise store_error("read", path, error) from error
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        head = file.read(_PIECE_BYTES)
        file.seek(0)  # Shared with ``fd``, which is a duplicate.
    if head.startswith(MAGIC):
        yield from _lines(_unpack(path, fd, counts), counts, line_bytes_max, keep_tail=True)
    elif path.endswith((".jsonl", ".ndjson")) or _is_line(head):
        yield from _lines(_pieces(path, fd), counts, line_bytes_max, keep_tail=True)
    else:
        yield from _document(path, fd, counts, line_bytes_max)


def _is_line(head: bytes) -> bool:
    """Whether the first line that is not blank is JSON by itself."""
    first, newline, _ = head.removeprefix(_BOM).lstrip().partition(b"\n")
    if not newline:
        return True  # One line, or a very long one.
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _document(path: str, fd: int, counts: Counter[str], line_bytes_max: int) -> Iterator[bytes]:
    with os.fdopen(fd, "rb") as file:
        try:
            document = file.read(line_bytes_max + 1)
        except OSError as error:
            raise store_error("read", path, error) from error
    if len(document) > line_bytes_max:
        counts["line_too_long"] += 1
    elif line := _clean(document.strip(), counts, is_first=True):
        yield line
