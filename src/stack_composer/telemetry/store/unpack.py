"""Unpack zstd frames one after the other, and go on behind a damaged one.

What a frame holds is kept back until its checksum was seen to be right, so that no
flipped bit ever becomes a record. Only a frame larger than any of ours is handed on as
it comes, since holding it would not be bounded. Nothing seeks: a pipe does as well as a
file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.store import zstd

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from typing import Final

MAGIC: Final = b"\x28\xb5\x2f\xfd"
SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The last three bytes of the magic of a frame that readers pass over."""
_PASSED_OVER: Final = range(0x50, 0x60)
"""The first bytes of such magics; all that a file may have of one that is cut."""
PIECE_BYTES: Final = 2**20
"""What is unpacked at once."""
HELD_BYTES_MAX: Final = 66 * 2**20
"""What is held of one frame, packed or unpacked: one with the longest line fits."""
RESYNCS_MAX: Final = 1_000
"""Damaged frames of one file; what is behind them is left out."""


class Frames:
    """The frames of one file.

    Args:
        read: Gives the next bytes of it, b"" at its end.
        counts: Where ``damaged_frame`` and ``truncated`` are counted.
        first: What was read of it already.

    Attributes:
        passed_over: How many frames were such as hold nothing, by their magic.
    """

    def __init__(self, read: Callable[[], bytes], counts: Counter[str], first: bytes = b"") -> None:
        self.passed_over = 0
        self._read = read
        self._counts = counts
        self._ahead = first
        self._tried = bytearray()

    def pieces(self) -> Iterator[bytes | None]:
        """Yield what is in them; None says that something is missing at this place."""
        resyncs = 0
        while self._has(1):
            try:
                yield from self._frame()
            except zstd.ZstdError:
                self._counts["damaged_frame"] += 1
                yield None
                resyncs += 1
                if resyncs > RESYNCS_MAX or not self._find_next():
                    return

    def _has(self, size: int) -> bool:
        """Whether so many bytes are ahead, after reading what that takes."""
        while len(self._ahead) < size and (more := self._read()):
            self._ahead += more
        return len(self._ahead) >= size

    def _frame(self) -> Iterator[bytes]:
        unpacker = zstd.ZstdDecompressor()
        held: list[bytes] = []
        held_bytes = 0
        self._tried.clear()
        holds_nothing = self._ahead[0] in _PASSED_OVER
        self.passed_over += holds_nothing
        while not unpacker.eof:
            if unpacker.needs_input and not self._has(1):
                # Cut, not flipped: what came so far is a true beginning.
                if not holds_nothing and any(self._tried):
                    self._counts["truncated"] += 1
                break
            data = b""
            if unpacker.needs_input:
                data, self._ahead = self._ahead, b""
            if len(self._tried) <= HELD_BYTES_MAX:
                self._tried += data
            piece = unpacker.decompress(data, PIECE_BYTES)
            held.append(piece)
            held_bytes += len(piece)
            if held_bytes > HELD_BYTES_MAX:
                yield from held
                held.clear()
        self._ahead = unpacker.unused_data or self._ahead
        yield from held

    def _find_next(self) -> bool:
        """Go to the next place that looks like a frame, behind where the damaged one began."""
        self._ahead = bytes(self._tried[1:]) + self._ahead
        while True:
            at = self._ahead.find(MAGIC)
            if at >= 0:
                self._ahead = self._ahead[at:]
                return True
            rest = self._ahead[1 - len(MAGIC) :]
            self._ahead = self._read()
            if not self._ahead:
                return False
            self._ahead = rest + self._ahead
