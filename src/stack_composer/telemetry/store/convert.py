"""Move bundles between plain files and encrypted databases, and from key to key.

One way for three commands: ``encrypt`` moves files into a database, ``decrypt`` back,
``rekey`` from a database to a new one that has a new key. ``plan_*`` look and decide,
``Conversion`` does it, a bundle a step.

Each bundle is whole in its new form, and synced to the disk, before its old form goes.
Killed between the two it is there twice, with the same lines: readers give it out once
(by stem and signal), and the next run finishes it. What is there once only is never
deleted. A bundle that a process is writing stays where it is, if that is a file, and the
next run takes it; in a database it is finished first, and its writer begins another one.

Frames, index, sidecar and page are copied as they are, so the bytes that a sidecar names and
the offsets of a reader that follows stay true.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock, names, reader
from stack_composer.telemetry.store.encrypted import erase, rows
from stack_composer.telemetry.store.encrypted.database import (
    Database,
    clear_half_made,
    find_databases,
    make_database,
    open_for_writing,
    run,
    store_lock,
)
from stack_composer.telemetry.store.encrypted.intake import Frame, Packed, insert_bundle
from stack_composer.telemetry.store.encrypted.seal import RowSealing
from stack_composer.telemetry.store.folder import open_folder, store_error, sync_file
from stack_composer.telemetry.store.index import (
    decode_index,
    start_of_index,
)
from stack_composer.telemetry.store.packing import Packing
from stack_composer.telemetry.store.retention import closed_bundles
from stack_composer.telemetry.store.seal import whole_lines, write_all
from stack_composer.telemetry.store.sidecar import SIDECAR_BYTES_MAX, encode_sidecar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any, Final

    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.reader import BundleInfo

_PIECE_BYTES: Final = 2**20
_SEALINGS_MAX: Final = 5


class ConversionPlan(NamedTuple):
    """What a conversion would do, oldest bundle first.

    Attributes:
        kind: "encrypt", "decrypt" or "rekey".
        directory: The folder.
        moves: Bundles to move.
        in_use: Plain bundles that a process is writing: they stay, for the next run.
        leftover: Names of files whose bundle is in a database already: they go.
        emptied: Names of databases that go, with their keys, once they are empty.
    """

    kind: str
    directory: str
    moves: tuple[BundleInfo, ...]
    in_use: tuple[BundleInfo, ...] = ()
    leftover: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """How much there is to move."""
        return sum(bundle.bytes + bundle.sketch_bytes for bundle in self.moves)

    @property
    def is_nothing(self) -> bool:
        """Whether all is as it should be already."""
        return not (self.moves or self.leftover or self.emptied)


def plan_encrypt(directory: str, keys: Keys) -> ConversionPlan:
    """Plan to move all plain bundles into a database.

    Raises:
        StoreLockedError: There is a database that cannot be opened.
        StoreError: The folder cannot be read.
    """
    bundles = reader.list_bundles(directory, keys).bundles
    plain = [bundle for bundle in bundles if bundle.database is None]
    closed = closed_bundles(plain)
    in_use = [bundle for bundle in plain if bundle not in closed]
    leftover = _superseded(directory, bundles)
    return ConversionPlan("encrypt", directory, tuple(closed), tuple(in_use), leftover)


def plan_decrypt(directory: str, keys: Keys) -> ConversionPlan:
    """Plan to move all bundles out of all databases; raises as ``plan_encrypt``."""
    bundles = reader.list_bundles(directory, keys).bundles
    moves = tuple(bundle for bundle in bundles if bundle.database is not None)
    return ConversionPlan("decrypt", directory, moves, emptied=databases(directory))


def plan_rekey(directory: str, keys: Keys) -> ConversionPlan:
    """Plan to move all bundles to a new database; raises as ``plan_encrypt``.

    A rekey that was stopped half-way is finished: its retired databases are emptied.
    """
    bundles = reader.list_bundles(directory, keys).bundles
    emptied = _retired(directory, keys) or databases(directory)
    moves = tuple(
        bundle
        for bundle in bundles
        if bundle.database is not None and bundle.database.name in emptied
    )
    return ConversionPlan("rekey", directory, moves, emptied=emptied)


def databases(directory: str) -> tuple[str, ...]:
    """Name the encrypted databases in a folder, oldest first."""
    if not os.path.lexists(directory):
        return ()
    folder = open_folder(directory, create=False)
    try:
        return tuple(parsed.name for parsed in find_databases(folder))
    finally:
        folder.close()


def _retired(directory: str, keys: Keys) -> tuple[str, ...]:
    found = []
    for name in databases(directory):
        parsed = names.parse_name(name)
        assert parsed is not None
        database = Database(directory, parsed, keys)
        with database.use() as connection:
            if database.is_retired(connection):
                found.append(name)
        database.close()
    return tuple(found)


def _superseded(directory: str, bundles: list[BundleInfo]) -> tuple[str, ...]:
    converted = {(b.stem, b.signal) for b in bundles if b.database is not None and b.sealed}
    if not converted:
        return ()
    kinds = (names.OPEN, names.SEALED, names.SKETCH, names.PAGE)
    found = []
    for name in sorted(os.listdir(directory)):
        parsed = names.parse_name(name)
        if parsed and parsed.kind in kinds and (parsed.stem, parsed.signal) in converted:
            found.append(name)
    return tuple(found)


class Conversion:
    """A plan being carried out.

    Attributes:
        moved: Bundles that are in their new form, and only there.
        left: Bundles that stay in the old one: in use after all, or damaged.
        error: What the last of the damaged met, or None.
    """

    def __init__(self, plan: ConversionPlan, keys: Keys) -> None:
        self.plan = plan
        self.moved = 0
        self.left = 0
        self.error: StoreError | None = None
        self._keys = keys

    def run(self) -> Generator[int, None, None]:
        """Do it; yields how many of ``moves`` are done, after each.

        Raises:
            StoreError: The disk, the key or another conversion hinders it. What was
                moved is moved; run it again for the rest.
        """
        folder = open_folder(self.plan.directory, create=True)
        try:
            with store_lock(folder, names.CONVERSION_LOCK, wait_s=0.5):
                yield from self._run(folder)
        except OSError as error:
            raise store_error("convert the store in", folder.path, error) from error
        finally:
            folder.close()

    def _run(self, folder: Folder) -> Generator[int, None, None]:
        move = self._prepare(folder)
        for done, bundle in enumerate(self.plan.moves, 1):
            try:
                is_moved = move(bundle)
            except _DamagedError as error:
                self.error = StoreError(str(error), hint=error.hint)
                is_moved = False
            self.moved += is_moved
            self.left += not is_moved
            yield done
        self._finish(folder)

    def _prepare(self, folder: Folder) -> Any:
        """Make the place where bundles go; from now on new ones begin there."""
        directory = self.plan.directory
        if self.plan.kind == "encrypt":
            target = open_for_writing(directory, self._keys, durability="sync")
            for name in self.plan.leftover:
                _remove_superseded(folder, name)
            return lambda bundle: _into_database(folder, bundle, target)
        if self.plan.kind == "decrypt":
            self._retire()
            return lambda bundle: _into_files(folder, bundle)
        if not _retired(directory, self._keys) or not self._is_any_in_use(folder):
            with store_lock(folder):
                made = make_database(folder, self._keys)
            self._retire()
            target = Database(directory, made, self._keys, durability="sync")
        else:
            target = open_for_writing(directory, self._keys, durability="sync")
        return lambda bundle: _to_database(bundle, target)

    def _is_any_in_use(self, folder: Folder) -> bool:
        return any(one.name not in self.plan.emptied for one in find_databases(folder))

    def _retire(self) -> None:
        for database in self._emptied():
            erase.retire(database)
            database.close()

    def _emptied(self) -> Iterator[Database]:
        for name in self.plan.emptied:
            parsed = names.parse_name(name)
            assert parsed is not None
            yield Database(self.plan.directory, parsed, self._keys)

    def _finish(self, folder: Folder) -> None:
        with store_lock(folder):
            clear_half_made(folder, self._keys)
        for database in self._emptied():
            if folder.exists(database.name):
                # Writers may have begun a bundle between plan and retirement: it stays.
                if not erase.destroy_if_empty(database):
                    erase.compact(database)
                database.close()


class _DamagedError(StoreError):
    """A bundle cannot be read as a whole, so it stays as it is."""


def _damaged(path: str) -> _DamagedError:
    return _DamagedError(
        f"{path} is damaged and stays as it is", hint="run 'stack-composer telemetry doctor'"
    )


# -- files to database -----------------------------------------------------------------


def _into_database(folder: Folder, bundle: BundleInfo, target: Database) -> bool:
    if bundle.sealed:
        return _sealed_into_database(folder, bundle, target)
    name = os.path.basename(bundle.path)
    try:
        fd = folder.open(name, write=True)
    except FileNotFoundError:
        # Sealed since it was planned, or purged.
        sealed = names.sealed_name(bundle.stem, bundle.signal)
        if not folder.exists(sealed):
            return True
        return _sealed_into_database(folder, bundle, target)
    try:
        # Held until the file is gone, so that nobody seals it meanwhile.
        if lock.try_lock(fd) == lock.HELD or os.fstat(fd).st_nlink != 1:
            return False
        packed = _pack(fd, bundle)
        if packed is not None:
            insert_bundle(target, bundle, packed)
        _remove_files(folder, bundle)
    finally:
        os.close(fd)
    return True


def _pack(fd: int, bundle: BundleInfo) -> Packed | None:
    """Make of a plain bundle what sealing would make of it; None of an empty one."""
    from stack_composer.telemetry.store.zstd import compress_frame

    frames: list[Frame] = []
    packing = Packing(bundle.signal)
    while plain := whole_lines(fd, packing.plain_bytes):
        frame = compress_frame(plain)
        frames.append((packing.plain_bytes, len(plain), frame))
        for _ in packing.counted(plain):
            pass  # Nobody waits meanwhile.
        packing.add(plain, len(frame))
    if not frames:
        return None
    index = packing.index()
    sidecar = packing.sidecar(
        packing.packed_bytes + len(index),
        torn_bytes=os.fstat(fd).st_size - packing.plain_bytes,
    )
    return Packed(frames, encode_sidecar(sidecar), index)


def _sealed_into_database(folder: Folder, bundle: BundleInfo, target: Database) -> bool:
    name = names.sealed_name(bundle.stem, bundle.signal)
    try:
        data = _read_file(folder, name)
    except FileNotFoundError:
        return True  # Purged since it was planned.
    path = folder.path_of(name)
    start = start_of_index(data) or len(data)
    index = data[start:]
    if index and decode_index(index) is None:
        start, index = len(data), b""  # Damaged: it stays where it is, as what it is.
    packed = Packed(
        split_frames(data[:start], path),
        _read_if_there(folder, names.sketch_name(bundle.stem, bundle.signal)),
        index,
        _read_if_there(folder, names.page_name(bundle.stem, bundle.signal)),
    )
    insert_bundle(target, bundle, packed)
    _remove_files(folder, bundle)
    return True


def _read_file(folder: Folder, name: str) -> bytes:
    with os.fdopen(folder.open(name), "rb") as file:
        return file.read()


def _read_if_there(folder: Folder, name: str) -> bytes:
    try:
        return _read_file(folder, name)
    except FileNotFoundError:
        return b""


def split_frames(data: bytes, path: str) -> list[Frame]:
    """Cut the bytes of a sealed bundle into its frames, checking each.

    What unpacks to nothing, such as an index at the end, stays with the frame before.

    Raises:
        StoreError: A frame is damaged, or there is none.
    """
    from stack_composer.telemetry.store.zstd import ZstdDecompressor, ZstdError

    frames: list[Frame] = []
    start = 0
    rest = data
    while rest:
        decompressor = ZstdDecompressor()
        fed, plain_bytes = rest, 0
        try:
            while not decompressor.eof:
                piece = decompressor.decompress(fed, _PIECE_BYTES)
                fed = b""
                plain_bytes += len(piece)
                if not piece and decompressor.needs_input:
                    raise _damaged(path)
        except ZstdError:
            raise _damaged(path) from None
        frame, rest = rest[: len(rest) - len(decompressor.unused_data)], decompressor.unused_data
        if plain_bytes:
            frames.append((start, plain_bytes, frame))
        elif frames:
            last = frames.pop()
            frames.append((last[0], last[1], last[2] + frame))
        start += plain_bytes
        if start > reader.PLAIN_BYTES_MAX:
            raise _damaged(path)
    if not frames:
        raise _damaged(path)
    return frames


def _remove_files(folder: Folder, bundle: BundleInfo) -> None:
    sealed = names.sealed_name(bundle.stem, bundle.signal)
    sketch = names.sketch_name(bundle.stem, bundle.signal)
    for name in (
        names.temporary_name(sealed),
        names.temporary_name(sketch),
        sketch,
        names.page_name(bundle.stem, bundle.signal),
        sealed,
        names.open_name(bundle.stem, bundle.signal),
    ):
        folder.remove(name)
    folder.sync()


def _remove_superseded(folder: Folder, name: str) -> None:
    if not name.endswith(".jsonl"):
        folder.remove(name)
        return
    try:
        fd = folder.open(name, write=True)
    except FileNotFoundError:
        return
    try:
        if lock.try_lock(fd) != lock.HELD:
            folder.remove(name)
    finally:
        os.close(fd)


# -- database to files, and to another database ------------------------------------------


def _finished(bundle: BundleInfo) -> bool:
    """Finish a bundle, so that nobody appends to it; False if it was purged."""
    database = bundle.database
    assert database is not None
    for _ in range(_SEALINGS_MAX):
        sealing = RowSealing(database, bundle, None)
        with database.use() as connection:
            state = run(
                connection,
                "SELECT sealed FROM bundle WHERE id = ? AND stem = ?",
                (bundle.row, bundle.stem),
            )
        if not state:
            return False
        if state[0][0]:
            return True
        # Its writer may append while we decode; then once more.
        try:
            while not sealing.step():
                pass
        except StoreError as error:
            raise _DamagedError(str(error), hint=error.hint) from None
    raise _damaged(bundle.path)


def _taken(bundle: BundleInfo) -> Packed:
    """Read all of a finished bundle."""
    database = bundle.database
    assert database is not None
    odd: Counter[str] = Counter()
    frames: list[Frame] = []
    for start, data in rows.read_frames(database, bundle, odd):
        if data is None:
            raise _damaged(bundle.path)
        frames += [
            (start + within, plain_bytes, frame)
            for within, plain_bytes, frame in split_frames(data, bundle.path)
        ]
    with database.use() as connection:
        plain = run(connection, "SELECT plain_bytes FROM bundle WHERE id = ?", (bundle.row,))
    if odd.total() or not frames or [(frames[-1][0] + frames[-1][1],)] != plain:
        raise _damaged(bundle.path)
    sidecar = rows.read_sidecar_bytes(database, bundle, SIDECAR_BYTES_MAX)
    index = rows.read_beside(database, bundle, rows.INDEX)
    return Packed(frames, sidecar, index, rows.read_beside(database, bundle, rows.PAGE))


def _into_files(folder: Folder, bundle: BundleInfo) -> bool:
    if not _finished(bundle):
        return True
    packed = _taken(bundle)
    sealed = names.sealed_name(bundle.stem, bundle.signal)
    if not folder.exists(sealed):
        sketch = names.sketch_name(bundle.stem, bundle.signal)
        page = names.page_name(bundle.stem, bundle.signal)
        _write_file(folder, sealed, [*(data for _, _, data in packed.frames), packed.trace_index])
        for name, data in ((page, packed.page), (sketch, packed.sidecar)):
            if data:
                _write_file(folder, name, [data])
                folder.rename(names.temporary_name(name), name)
        folder.rename(names.temporary_name(sealed), sealed)
    # Before the rows go: a power cut must not bring back a time without this name.
    folder.sync()
    erase.delete_bundle(bundle)
    return True


def _write_file(folder: Folder, name: str, parts: list[bytes]) -> None:
    folder.remove(names.temporary_name(name))
    fd = folder.create(names.temporary_name(name))
    try:
        for part in parts:
            write_all(fd, part)
        sync_file(fd)
    finally:
        os.close(fd)


def _to_database(bundle: BundleInfo, target: Database) -> bool:
    if not _finished(bundle):
        return True
    insert_bundle(target, bundle, _taken(bundle))
    erase.delete_bundle(bundle)
    return True
