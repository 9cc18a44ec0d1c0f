"""Write what is imported as whole sealed bundles, each with its page of the ledger.

A program's own bundles are appended to, and readers see them grow. What is imported is
another matter: an import that is killed must be able to start again without counting
anything twice. So a bundle of it appears whole or not at all, and which messages are in
it is written down beforehand:

1. O, an empty plain bundle, is made and locked. It keeps others from taking what follows
   for leftovers, and is what they clear away should we die.
2. Z.tmp grows, frame by frame.
3. Commit: Z.tmp is synced; K.tmp (the sidecar) and P.tmp (the page: digests of the
   messages in this bundle) are written and synced.
4. P.tmp becomes P, K.tmp becomes K, Z.tmp becomes Z: now it counts. The folder is synced,
   and O deleted.

A page counts only together with its bundle. Killed before the last rename, there is a
page without a bundle: it says nothing, and the next import reads these messages again.
Killed after it, both are there. A bundle that is purged takes its page along, so what was
purged can be imported anew; and no ledger of what is long gone is kept.

Digests are keyed (``guard.hashing`` has the salt), since a plain digest of recorded
content tells who has a guess whether it is right. A page with another key says nothing.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from stack_composer.telemetry import effects
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import open_folder, store_error, sync_file
from stack_composer.telemetry.store.marks import Marks
from stack_composer.telemetry.store.packing import Packing
from stack_composer.telemetry.store.seal import FRAME_BYTES, write_all
from stack_composer.telemetry.store.sidecar import encode_sidecar
from stack_composer.telemetry.store.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Final

    from stack_composer.telemetry.store.encrypted.database import Database
    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.reader import BundleInfo

DIGEST_BYTES: Final = 12
"""Among ten million messages two digests meet once in 10^14 imports."""
KEY_ID_BYTES: Final = 8
_MAGIC: Final = b"imports1"
_PAGE_BYTES_MAX: Final = 2**30
_NAME_TRIES: Final = 8


class Intake:
    """The bundles of one import, at most one of each signal at a time.

    Args:
        directory: The telemetry folder; made, 0700, with the first bundle.
        key_id: Tells one key of digests from another; ``KEY_ID_BYTES`` long.

    Attributes:
        committed: Names of the bundles that count.
    """

    def __init__(self, directory: str, *, key_id: bytes) -> None:
        self.committed: list[str] = []
        self._directory = os.path.abspath(directory)
        self._key_id = key_id
        self._folder: Folder | None = None
        self._growing: dict[str, _Growing] = {}

    def append(self, signal: str, line: bytes, sketch: Sketch) -> None:
        """Add a line, with its newline, to the bundle of a signal.

        Raises:
            StoreError: The disk is full or fails. Call ``close``: what was not
                committed is gone.
        """
        try:
            growing = self._growing.get(signal)
            if growing is None:
                if self._folder is None:
                    self._folder = open_folder(self._directory, create=True)
                growing = self._growing[signal] = _Growing(self._folder, signal)
            growing.append(line, sketch)
        except OSError as error:
            raise store_error("write to", self._directory, error) from error

    def size(self, signal: str) -> int:
        """How large the bundle of a signal has grown, unpacked."""
        growing = self._growing.get(signal)
        return 0 if growing is None else growing.packing.taken_bytes

    def commit(self, signal: str, digests: bytes) -> None:
        """Have the bundle of a signal count, with the messages that are in it.

        Args:
            signal: Nothing happens if it has no bundle.
            digests: ``DIGEST_BYTES`` for each message.

        Raises:
            StoreError: As ``append``.
        """
        growing = self._growing.get(signal)
        if growing is None:
            return
        try:
            growing.commit(self._key_id, digests)
        except OSError as error:
            raise store_error("write to", self._directory, error) from error
        del self._growing[signal]
        self.committed.append(growing.sealed_name)

    def close(self) -> None:
        """Let go; what was not committed is cleared away."""
        for growing in self._growing.values():
            growing.drop()
        self._growing.clear()
        if self._folder is not None:
            self._folder.close()
            self._folder = None


class Gathering(Packing):
    """Lines that come one by one, each with its sketch, on their way into frames.

    Attributes:
        taken_bytes: Of the lines that came, in frames or not.
    """

    def __init__(self, signal: str) -> None:
        super().__init__(signal, Sketch(), Marks())
        self.taken_bytes = 0
        self._waiting = bytearray()

    def append(self, line: bytes, sketch: Sketch) -> bytes:
        """Add a line; returns a frame if one is full, or b""."""
        self._waiting += line
        self.taken_bytes += len(line)
        self.marks.add(len(line), sketch.first_ns, sketch.last_ns, sketch.traces)
        self.sketch.merge(sketch)
        return self.frame() if len(self._waiting) >= FRAME_BYTES else b""

    def frame(self) -> bytes:
        """Make a frame of the lines that wait; b"" if there are none."""
        from stack_composer.telemetry.store.zstd import compress_frame

        if not self._waiting:
            return b""
        plain = bytes(self._waiting)
        self._waiting.clear()
        frame = compress_frame(plain)
        self.add(plain, len(frame))
        return frame


class _Growing:
    """A bundle that is being made."""

    def __init__(self, folder: Folder, signal: str) -> None:
        self.packing = Gathering(signal)
        self._folder = folder
        self._signal = signal
        self._lock_fd, self._stem = _locked(folder, signal)
        self.sealed_name = names.sealed_name(self._stem, signal)
        self._names = (
            names.page_name(self._stem, signal),
            names.sketch_name(self._stem, signal),
            self.sealed_name,
        )
        self._out = folder.create(names.temporary_name(self.sealed_name))

    def append(self, line: bytes, sketch: Sketch) -> None:
        write_all(self._out, self.packing.append(line, sketch))

    def commit(self, key_id: bytes, digests: bytes) -> None:
        write_all(self._out, self.packing.frame())
        write_all(self._out, self.packing.index())
        sync_file(self._out)
        sidecar = self.packing.sidecar(os.fstat(self._out).st_size)
        page, sketch, _ = self._names
        self._write(page, encode_page(key_id, digests))
        self._write(sketch, encode_sidecar(sidecar))
        for name in self._names:
            self._folder.rename(names.temporary_name(name), name)
        self._folder.sync()
        os.close(self._out)
        self._out = -1
        self._folder.remove_open(names.open_name(self._stem, self._signal), self._lock_fd)

    def _write(self, name: str, data: bytes) -> None:
        fd = self._folder.create(names.temporary_name(name))
        try:
            write_all(fd, data)
            sync_file(fd)
        finally:
            os.close(fd)

    def drop(self) -> None:
        if self._out >= 0:
            os.close(self._out)
        try:
            for name in self._names:
                self._folder.remove(names.temporary_name(name))
            self._folder.remove_open(names.open_name(self._stem, self._signal), self._lock_fd)
        except OSError:
            # A folder that lets nothing be deleted; whoever looks for leftovers does it.
            return


def _locked(folder: Folder, signal: str) -> tuple[int, str]:
    """Make an empty plain bundle and lock it; its descriptor and its stem."""
    for _ in range(_NAME_TRIES):
        nonce = effects.random_bytes(names.NONCE_BYTES)
        stem = names.make_stem(effects.wall_ns(), os.getpid(), nonce)
        try:
            fd = folder.create(names.open_name(stem, signal))
        except FileExistsError:
            continue
        # As in ``writer``: an adopter may have taken the empty file in between.
        if lock.try_lock(fd) != lock.HELD and os.fstat(fd).st_nlink:
            return fd, stem
        os.close(fd)
    raise FileExistsError("no name is free")


def encode_page(key_id: bytes, digests: bytes) -> bytes:
    """Make the bytes of a page: what it is, whose key, digests, and a checksum."""
    body = _MAGIC + key_id + digests
    return body + zlib.crc32(body).to_bytes(4, "big")


def decode_page(raw: bytes, key_id: bytes) -> bytes:
    """Give the digests of a page; none if it is damaged, or of another key."""
    body, checksum = raw[:-4], raw[-4:]
    start = len(_MAGIC) + KEY_ID_BYTES
    if (
        not body.startswith(_MAGIC + key_id)
        or (len(body) - start) % DIGEST_BYTES
        or zlib.crc32(body).to_bytes(4, "big") != checksum
    ):
        return b""
    return body[start:]


def read_pages(
    directory: str, bundles: Iterable[BundleInfo], key_id: bytes
) -> Iterator[tuple[str, bytes]]:
    """Yield signal and digests of each page that counts: one whose bundle is there.

    Args:
        directory: The telemetry folder.
        bundles: What is in it, files and rows.
        key_id: Of the key in use.

    Raises:
        StoreError: The folder cannot be read.
    """
    there: set[tuple[str, str]] = set()
    databases: dict[str, Database] = {}
    for bundle in bundles:
        if bundle.database is None:
            there.add((bundle.stem, bundle.signal))
        else:
            databases[bundle.database.path] = bundle.database
    for database in databases.values():
        from stack_composer.telemetry.store.encrypted import rows

        for signal, page in rows.read_pages(database):
            yield signal, decode_page(page, key_id)
    if there:
        yield from _read_pages(directory, there, key_id)


def _read_pages(
    directory: str, there: Collection[tuple[str, str]], key_id: bytes
) -> Iterator[tuple[str, bytes]]:
    folder = open_folder(directory, create=False)
    try:
        for name in sorted(folder.names()):
            found = names.parse_name(name)
            if found is None or found.kind != names.PAGE:
                continue
            if (found.stem, found.signal) in there:
                yield found.signal, decode_page(_read(folder, name), key_id)
    except OSError as error:
        raise store_error("read", directory, error) from error
    finally:
        folder.close()


def _read(folder: Folder, name: str) -> bytes:
    try:
        fd = folder.open(name)
    except FileNotFoundError:
        return b""  # Purged meanwhile, and its bundle with it.
    with os.fdopen(fd, "rb") as file:
        return file.read(_PAGE_BYTES_MAX)
