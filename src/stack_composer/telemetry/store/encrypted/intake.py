"""Put whole sealed bundles into the database: what is imported, and what is converted.

One transaction a bundle: frames, index, sidecar and the page of the imports ledger are
there together or not at all, so an import that is killed can start again without
counting anything twice (``store.intake`` tells what that takes with files).

Memory is bounded: what is imported waits packed, up to one bundle of each signal.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry import effects
from stack_composer.telemetry.store import names, reader
from stack_composer.telemetry.store.encrypted.database import GoneError, open_for_writing, run
from stack_composer.telemetry.store.encrypted.rows import INDEX, PAGE
from stack_composer.telemetry.store.intake import Gathering, encode_page
from stack_composer.telemetry.store.sidecar import decode_sidecar, encode_sidecar

if TYPE_CHECKING:
    from typing import Any, Final

    from stack_composer.telemetry.store.encrypted.database import Database
    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.store.sketch import Sketch

_TRIES: Final = 3

Frame = tuple[int, int, bytes]
"""Where it begins among the lines, how many bytes of them it holds, and its own bytes."""


class Packed(NamedTuple):
    """All that makes a sealed bundle.

    Attributes:
        frames: At least one.
        sidecar: Its bytes, or b"".
        trace_index: Likewise.
        page: Likewise, of the imports ledger.
    """

    frames: list[Frame]
    sidecar: bytes = b""
    trace_index: bytes = b""
    page: bytes = b""


class DatabaseIntake:
    """The bundles of one import; the same interface as ``store.intake.Intake``.

    Args:
        directory: The telemetry folder; made, with its database, by the first bundle.
        key_id: Tells one key of digests from another.
        keys: Where the database's key is, or is to be kept.

    Attributes:
        committed: Names of the bundles that count.
    """

    def __init__(self, directory: str, *, key_id: bytes, keys: Keys) -> None:
        self.committed: list[str] = []
        self._directory = os.path.abspath(directory)
        self._key_id = key_id
        self._keys = keys
        self._growing: dict[str, tuple[Gathering, list[Frame]]] = {}

    def append(self, signal: str, line: bytes, sketch: Sketch) -> None:
        """Add a line, with its newline, to the bundle of a signal."""
        packing, frames = self._growing.setdefault(signal, (Gathering(signal), []))
        _take(frames, packing.append(line, sketch), packing)

    def size(self, signal: str) -> int:
        """How large the bundle of a signal has grown, unpacked."""
        growing = self._growing.get(signal)
        return 0 if growing is None else growing[0].taken_bytes

    def commit(self, signal: str, digests: bytes) -> None:
        """Have the bundle of a signal count, with the messages that are in it.

        Raises:
            StoreError: Nothing of it was written.
        """
        growing = self._growing.get(signal)
        if growing is None:
            return
        packing, frames = growing
        _take(frames, packing.frame(), packing)
        index = packing.index()
        sidecar = encode_sidecar(packing.sidecar(packing.packed_bytes + len(index)))
        packed = Packed(frames, sidecar, index, encode_page(self._key_id, digests))
        bundle = _new_bundle(signal)
        self._insert(bundle, packed)
        del self._growing[signal]
        self.committed.append(f"{bundle.stem}.{signal}")

    def _insert(self, bundle: BundleInfo, packed: Packed) -> None:
        for tries_left in reversed(range(_TRIES)):
            database = open_for_writing(self._directory, self._keys, durability="sync")
            try:
                insert_bundle(database, bundle, packed)
            except GoneError:
                # Removed, or retired since it was opened.
                if not tries_left:
                    raise
            else:
                return
            finally:
                database.close()

    def close(self) -> None:
        """Let go; what was not committed was nowhere but here."""
        self._growing.clear()


def _new_bundle(signal: str) -> BundleInfo:
    pid = os.getpid()
    stem = names.make_stem(effects.wall_ns(), pid, effects.random_bytes(names.NONCE_BYTES))
    parsed = names.parse_name(names.sealed_name(stem, signal))
    assert parsed is not None
    return reader.BundleInfo(
        path="",
        signal=signal,
        created_ns=parsed.created_ns,
        pid=pid,
        sealed=True,
        bytes=0,
        stem=stem,
    )


def _take(frames: list[Frame], data: bytes, packing: Gathering) -> None:
    if data:
        start = frames[-1][0] + frames[-1][1] if frames else 0
        frames.append((start, packing.plain_bytes - start, data))


def insert_bundle(target: Database, bundle: BundleInfo, packed: Packed) -> None:
    """Put a whole sealed bundle into a database, durably, unless it is there already.

    Args:
        target: Where to; with ``durability="sync"``.
        bundle: Its stem, signal, time of creation and pid.
        packed: What it is made of.

    Raises:
        GoneError: The database was removed, or is retired; nothing was written.
        StoreError: Nothing of it was written.
    """
    told = decode_sidecar(packed.sidecar) if packed.sidecar else None
    last = packed.frames[-1]
    lines = told.lines if told is not None else _count_lines(packed.frames)
    updated_ns = told.sketch.last_ns if told is not None else 0
    with target.change() as connection:
        if target.is_retired(connection):
            raise GoneError(f"{target.path} takes no new bundles", hint="try again")
        known = run(
            connection,
            "SELECT 1 FROM bundle WHERE stem = ? AND signal = ?",
            (bundle.stem, bundle.signal),
        )
        if known:
            return
        (row,) = run(
            connection,
            "INSERT INTO bundle (stem, signal, created_ns, pid, updated_ns, sealed, closed,"
            " plain_bytes, lines, bytes) VALUES (?, ?, ?, ?, ?, 1, 1, ?, ?, ?) RETURNING id",
            (
                bundle.stem,
                bundle.signal,
                bundle.created_ns,
                bundle.pid,
                max(updated_ns, bundle.updated_ns, bundle.created_ns),
                last[0] + last[1],
                lines,
                sum(len(data) for _, _, data in packed.frames) + len(packed.trace_index),
            ),
        )[0]
        _insert_parts(connection, row, packed)
    # With "sync" a commit is on the disk; the name of the WAL may not be, yet.
    target.sync()


def _insert_parts(connection: Any, row: int, packed: Packed) -> None:
    connection.executemany(
        "INSERT INTO chunk (bundle, start, plain_bytes, data) VALUES (?, ?, ?, ?)",
        [(row, *frame) for frame in packed.frames],
    )
    if packed.sidecar:
        run(connection, "INSERT INTO sidecar VALUES (?, ?)", (row, packed.sidecar))
    for kind, data in ((INDEX, packed.trace_index), (PAGE, packed.page)):
        if data:
            run(connection, "INSERT INTO beside VALUES (?, ?, ?)", (row, kind, data))


def _count_lines(frames: list[Frame]) -> int:
    odd: Counter[str] = Counter()
    pieces = (piece for _, _, data in frames for piece in reader.unpack_frame(data, odd))
    return sum((piece or b"").count(b"\n") for piece in pieces)
