"""Read bundles that are rows of a database, as ``store.reader`` reads those that are files.

Each look takes one short statement, so no cursor stays open between two lines. A page
that was changed on the disk does not pass the cipher's checksum; then the rest of its
frame is left out and counted, and reading goes on with the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.errors import StoreError, StoreLockedError
from stack_composer.telemetry.store.encrypted.database import Database, GoneError, run, value

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator
    from typing import Final

    from stack_composer.telemetry.store.index import Frame
    from stack_composer.telemetry.store.reader import BundleInfo

_BUNDLES = (
    "SELECT b.stem, b.signal, b.created_ns, b.pid, b.sealed, b.bytes, b.id, b.updated_ns, b.closed,"
    " ifnull(length(s.data), 0) FROM bundle AS b LEFT JOIN sidecar AS s ON s.bundle = b.id"
)
_BUNDLES_ALONE = (
    "SELECT stem, signal, created_ns, pid, sealed, bytes, id, updated_ns, closed, 0 FROM bundle"
)


def list_rows(database: Database) -> list[BundleInfo]:
    """Give the bundles of a database, in no order; none if it was removed meanwhile.

    Raises:
        StoreError: It cannot be opened or read.
    """
    from stack_composer.telemetry.store.reader import BundleInfo

    try:
        try:
            with database.use("list") as connection:
                rows = run(connection, _BUNDLES)
        except StoreLockedError:
            raise
        except StoreError:
            # Statistics can do without sidecars, so damage there costs nothing else.
            with database.use("list") as connection:
                rows = run(connection, _BUNDLES_ALONE)
    except GoneError:
        return []
    return [
        BundleInfo(
            path=f"{database.path}/{stem}.{signal}",
            signal=signal,
            created_ns=created_ns,
            pid=pid,
            sealed=bool(sealed),
            bytes=size,
            stem=stem,
            sketch_bytes=sketch_bytes,
            row=row,
            updated_ns=updated_ns,
            closed=bool(closed),
            database=database,
        )
        for (
            stem,
            signal,
            created_ns,
            pid,
            sealed,
            size,
            row,
            updated_ns,
            closed,
            sketch_bytes,
        ) in rows
    ]


def is_there(database: Database, bundle: BundleInfo) -> bool:
    """Whether the row is still that bundle; a row's number may be given again."""
    try:
        with database.use() as connection:
            found = value(
                connection,
                "SELECT 1 FROM bundle WHERE id = ? AND stem = ? AND signal = ?",
                (bundle.row, bundle.stem, bundle.signal),
            )
    except GoneError:
        return False
    return found is not None


def read_sidecar_bytes(database: Database, bundle: BundleInfo, bytes_max: int) -> bytes:
    """Give the beginning of the sidecar; b"" if there is none, or it cannot be read."""
    if not is_there(database, bundle):
        return b""
    try:
        with (
            database.use() as connection,
            # Not a SELECT, which would decrypt all of it.
            connection.blob_open("main", "sidecar", "data", bundle.row, writeable=False) as blob,
        ):
            return bytes(blob.read(bytes_max))
    except StoreError:
        return b""


INDEX = "index"
PAGE = "page"
"""What a bundle may have beside it: its index, and its page of the imports ledger."""


def read_beside(database: Database, bundle: BundleInfo, kind: str) -> bytes:
    """Give the index or the page; b"" if there is none, or it cannot be read."""
    try:
        with database.use() as connection:
            found = value(
                connection,
                "SELECT x.data FROM beside AS x JOIN bundle AS b ON b.id = x.bundle"
                " WHERE x.bundle = ? AND x.kind = ? AND b.stem = ?",
                (bundle.row, kind, bundle.stem),
            )
    except StoreError:
        return b""
    return found or b""


def read_pages(database: Database) -> Iterator[tuple[str, bytes]]:
    """Yield signal and page of each bundle that was imported.

    Raises:
        StoreError: It cannot be opened or read.
    """
    try:
        with database.use() as connection:
            found = run(
                connection,
                "SELECT b.signal, x.data FROM beside AS x JOIN bundle AS b ON b.id = x.bundle"
                " WHERE x.kind = ?",
                (PAGE,),
            )
    except GoneError:
        return
    yield from found


def read_some(
    database: Database, bundle: BundleInfo, chosen: Iterable[Frame]
) -> Iterator[tuple[Frame, bytes]]:
    """Give the frames that an index told of; b"" for one that cannot be read."""
    places: dict[int, tuple[int, int]] | None = None
    for frame in chosen:
        if places is None:
            places = _places(database, bundle)
        chunk, size = places.get(frame.offset, (-1, 0))
        data = None
        if size == frame.bytes:
            try:
                with database.use() as connection:
                    data = value(
                        connection,
                        "SELECT data FROM chunk WHERE id = ? AND bundle = ?",
                        (chunk, bundle.row),
                    )
            except StoreError:
                data = None
        yield frame, data or b""


def _places(database: Database, bundle: BundleInfo) -> dict[int, tuple[int, int]]:
    """Tell which frame begins where, if all stood one behind the other as in a file."""
    try:
        with database.use() as connection:
            rows = run(
                connection,
                "SELECT id, length(data) FROM chunk WHERE bundle = ? ORDER BY start",
                (bundle.row,),
            )
    except StoreError:
        return {}
    found = {}
    offset = 0
    for chunk, size in rows:
        found[offset] = (chunk, size)
        offset += size
    return found


def read_frames(
    database: Database, bundle: BundleInfo, counts: Counter[str], *, behind: int = 0
) -> Iterator[tuple[int, bytes | None]]:
    """Give the frames that hold what lies behind a place among the lines.

    Frames that are merged meanwhile, by the sealing of the bundle, are found again as
    one; it may begin before the end of what was given already.

    Yields:
        Where a frame begins, in bytes of lines, and its bytes; None for one that cannot
        be read.
    """
    waiting = _chunks(database, bundle, behind, counts)
    while waiting:
        chunk, start, plain_bytes = waiting.pop(0)
        try:
            with database.use() as connection:
                data = value(
                    connection,
                    "SELECT data FROM chunk WHERE id = ? AND bundle = ? AND start = ?"
                    " AND plain_bytes = ?",
                    (chunk, bundle.row, start, plain_bytes),
                )
        except GoneError:
            return
        except StoreError:
            counts["damaged_frame"] += 1
            yield start, None
        else:
            if data is None:
                # Merged, or purged; then there is nothing to be found again.
                waiting = _chunks(database, bundle, behind, counts)
                continue
            yield start, data
        behind = start + plain_bytes


def _chunks(
    database: Database, bundle: BundleInfo, behind: int, counts: Counter[str]
) -> list[tuple[int, int, int]]:
    """Give number, place and length of the frames, in the order of the lines."""
    try:
        with database.use() as connection:
            return run(
                connection,
                "SELECT id, start, plain_bytes FROM chunk"
                " WHERE bundle = ? AND start + plain_bytes > ?"
                " ORDER BY start",
                (bundle.row, behind),
            )
    except GoneError:
        return []
    except StoreError:
        counts["damaged_frame"] += 1
        return [row for row in _chunks_around(database, bundle) if row[1] + row[2] > behind]


_NEXT_CHUNK: Final = (
    "SELECT id, bundle, start, plain_bytes FROM chunk NOT INDEXED WHERE id > ? ORDER BY id LIMIT 1"
)
_CHUNK_BEFORE: Final = (
    "SELECT id, bundle, start, plain_bytes FROM chunk NOT INDEXED"
    " WHERE id < ? ORDER BY id DESC LIMIT 1"
)


def _chunks_around(database: Database, bundle: BundleInfo) -> list[tuple[int, int, int]]:
    """Find the frames before and after a damaged page, one by one, without the index."""
    found: dict[int, tuple[int, int, int]] = {}
    for statement, start in ((_NEXT_CHUNK, -1), (_CHUNK_BEFORE, 2**62)):
        chunk = start
        while True:
            try:
                with database.use() as connection:
                    rows = run(connection, statement, (chunk,))
            except StoreError:
                break
            if not rows or rows[0][0] in found:
                break
            chunk = rows[0][0]
            found[chunk] = rows[0][1:]
    mine = [(chunk, *rest) for chunk, (owner, *rest) in found.items() if owner == bundle.row]
    return sorted(((c, s, n) for c, s, n in mine), key=lambda row: row[1])
