"""Prove that a purge left nothing: note what goes before, look for it everywhere after.

Three looks, since a copy may lie in any of three forms. By *name*: a file that belongs
to a purged bundle, in the folder or below it. By *line*: a bundle that still holds a
line of a purged one, compressed or not, a file or in an encrypted database. By *piece*:
any other file, searched as raw bytes for a few ids and times that stood in the purged
lines.

What cannot be looked at from here is said in docs/privacy.md: the blocks of a deleted
file, snapshots and backups. Only digests and the few pieces are kept in memory, and
nothing of them is ever shown.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.folder import open_folder, store_error
from stack_composer.telemetry.store.reader import list_bundles, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.reader import BundleInfo

PIECES_A_BUNDLE: Final = 16
_PIECE: Final = re.compile(rb'"(?:spanId|timeUnixNano|observedTimeUnixNano)":"([0-9a-f]{16,20})"')
_DIGEST_BYTES: Final = 16


class Left(NamedTuple):
    """Something of a purged bundle that is still there.

    Attributes:
        path: The file.
        why: What was seen in it; never a word of it.
    """

    path: str
    why: str


class Evidence:
    """What was purged, as far as it takes to find it again."""

    def __init__(self) -> None:
        self._stems: set[str] = set()
        self._lines: set[bytes] = set()
        self._pieces: set[bytes] = set()

    def note(self, bundle: BundleInfo) -> None:
        """Note a bundle that is going to be purged.

        Raises:
            StoreError: It cannot be read.
        """
        self._stems.add(bundle.stem)
        pieces = 0
        for line in read_lines(bundle, Counter()):
            self._lines.add(_digest(line))
            if pieces < PIECES_A_BUNDLE:
                found = _PIECE.findall(line)[: PIECES_A_BUNDLE - pieces]
                self._pieces.update(found)
                pieces += len(found)

    def look(self, directory: str) -> list[Left]:
        """Look for all that was noted, in the folder and what lies below it.

        Raises:
            StoreError: Something there cannot be read, so nothing is proved.
        """
        if not os.path.lexists(directory):
            return []
        bundles = list_bundles(directory).bundles
        kept = {os.path.basename(bundle.path) for bundle in bundles if bundle.database is None}
        left = [
            Left(bundle.path, "a bundle with lines that were purged")
            for bundle in bundles
            if any(_digest(line) in self._lines for line in read_lines(bundle, Counter()))
        ]
        folder = open_folder(directory, create=False)
        try:
            for name in sorted(_all_names(folder)):
                why = self._in_file(folder, name, is_kept=name in kept)
                if why:
                    left.append(Left(folder.path_of(name), why))
        except OSError as error:
            raise store_error("look for traces in", directory, error) from error
        finally:
            folder.close()
        return left

    def _in_file(self, folder: Folder, name: str, *, is_kept: bool) -> str:
        if os.path.basename(name).partition(".")[0] in self._stems:
            return "" if is_kept else "a file that belongs to a purged bundle"
        # A database's rows were read as bundles; its pages are encrypted, and the end of any
        # descriptor of it would end SQLite's locks in this process.
        if is_kept or name in names.SINGLES or names.is_of_database(name):
            return ""
        return "ids or times that stood in a purged line" if self._has_piece(folder, name) else ""

    def _has_piece(self, folder: Folder, name: str) -> bool:
        try:
            fd = folder.open(name)
        except FileNotFoundError:
            return False  # A sealing was at work; its result is a bundle, and was read.
        except StoreError:
            return False  # A link or another user's file: no purge of ours wrote it.
        try:
            if not os.fstat(fd).st_size:
                return False
            with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as content:
                return any(content.find(piece) >= 0 for piece in self._pieces)
        finally:
            os.close(fd)


def _all_names(folder: Folder) -> Iterator[str]:
    """Every file in the folder and below it, by its path from there."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        for name in os.listdir(folder.path_of(below)):
            path = os.path.join(below, name)
            mode = folder.stat(path).st_mode
            if stat.S_ISDIR(mode):
                waiting.append(path)
            elif stat.S_ISREG(mode):
                yield path


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=_DIGEST_BYTES).digest()
