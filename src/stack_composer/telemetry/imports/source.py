"""Open a file to import, and unpack it: zstd, gzip or neither, told by its first bytes.

A file gives *pieces*, of at most a megabyte, so that ten gigabytes take no more memory
than ten bytes; nothing seeks, so standard input and pipes do as well. Of a damaged zstd
frame nothing is handed on, and reading goes on with the next one (``store.unpack``); None
among the pieces says that something is missing there. A file that unpacks to more than a
thousand times its size is a bomb, and is left there.
"""

from __future__ import annotations

import os
import stat
import sys
import zlib
from typing import TYPE_CHECKING, Self

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import unpack
from stack_composer.telemetry.store.unpack import Frames

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from typing import Final

PIECE_BYTES: Final = 2**20
BOMB_RATIO: Final = 1_000
BOMB_BYTES_MIN: Final = 64 * 2**20
"""Less is harmless, however small the file that it came from."""
STDIN: Final = "-"

_GZIP_MAGIC: Final = b"\x1f\x8b\x08"

ODDITIES: Final = {
    "damaged_frame": "a part of a packed file is damaged and was left out",
    "truncated": "a packed file ends early",
    "bomb": f"a file unpacks to more than {BOMB_RATIO:,} times its size; the rest was left out",
}
"""What unpacking may count, in words for users."""


class SourceError(StoreError):
    """A file to import cannot be read; others can."""


class Source:
    """One file, from its first byte to its last.

    Attributes:
        path: As it was named; ``-`` is standard input.
        packing: "zstd", "gzip" or "".
        size: In bytes; 0 where that is not known.
        read_bytes: How far it was read.
    """

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            SourceError: There is no such file, or it cannot be read.
        """
        self.path = path
        self.packing = ""
        self.read_bytes = self.size = 0
        if path == STDIN:
            self._fd = _stdin()
        else:
            self._fd = _open(path)
            self.size = os.fstat(self._fd).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def pieces(self, counts: Counter[str]) -> Iterator[bytes | None]:
        """Yield what is in it, unpacked; None where something is missing.

        Raises:
            SourceError: It cannot be read.
        """
        first = self._read()
        while len(first) < 4 and (more := self._read()):
            first += more
        if first.startswith(unpack.MAGIC) or first[1:4] == unpack.SKIPPABLE:
            self.packing = "zstd"
            frames = Frames(self._read, counts, first)
            yield from self._without_bombs(frames.pieces(), counts)
        elif first.startswith(_GZIP_MAGIC):
            self.packing = "gzip"
            yield from self._without_bombs(self._gzip(first, counts), counts)
        else:
            while first:
                yield first
                first = self._read()

    def _read(self) -> bytes:
        try:
            data = os.read(self._fd, PIECE_BYTES)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        self.read_bytes += len(data)
        return data

    def _without_bombs(
        self, pieces: Iterator[bytes | None], counts: Counter[str]
    ) -> Iterator[bytes | None]:
        unpacked_bytes = 0
        for piece in pieces:
            unpacked_bytes += len(piece or b"")
            if unpacked_bytes > max(BOMB_BYTES_MIN, BOMB_RATIO * self.read_bytes):
                counts["bomb"] += 1
                yield None
                return
            yield piece

    def _gzip(self, data: bytes, counts: Counter[str]) -> Iterator[bytes | None]:
        while data:
            unpacker = zlib.decompressobj(wbits=31)
            try:
                while not unpacker.eof:
                    if not data and not (data := self._read()):
                        counts["truncated"] += 1
                        return
                    piece = unpacker.decompress(data, PIECE_BYTES)
                    data = unpacker.unconsumed_tail
                    if piece:
                        yield piece
            except zlib.error:
                # There is no mark by which to find the next member.
                counts["damaged_frame"] += 1
                yield None
                return
            data = unpacker.unused_data.lstrip(b"\0") or self._read().lstrip(b"\0")


def _stdin() -> int:
    try:
        descriptor = os.dup(0)
    except OSError as error:
        raise _unreadable("standard input", error) from error
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(descriptor, os.O_BINARY)
    return descriptor


def _open(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceError(
                f"cannot read {path}: it is a folder",
                hint="name the files in it; a shell takes FOLDER/*.jsonl*",
            )
    except OSError as error:
        raise _unreadable(path, error) from error
    return descriptor


def _unreadable(path: str, error: OSError) -> SourceError:
    reason = error.strerror or type(error).__name__
    return SourceError(
        f"cannot read {path}: {reason}", hint="check the path, its owner and its mode"
    )


def unpack_message(data: bytes, bytes_max: int) -> bytes | None:
    """Unpack one message that is packed by itself; None if it is damaged or too large."""
    from stack_composer.telemetry.store import zstd

    unpacker = zstd.ZstdDecompressor()
    try:
        unpacked = unpacker.decompress(data, bytes_max + 1)
    except zstd.ZstdError:
        return None
    return unpacked if unpacker.eof and len(unpacked) <= bytes_max else None
