"""What all makers of sealed bundles share: noting frames, counting lines, telling of it.

Four make them: ``seal`` of a file, ``encrypted.seal`` of rows, ``intake`` of what is
imported, ``convert`` of what moves. Where frames come from and go to is theirs; what is
said of them (the index, the sidecar) is worked out here, once.
"""

from __future__ import annotations

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store.index import FrameNote, encode_index
from stack_composer.telemetry.store.marks import Marks
from stack_composer.telemetry.store.sidecar import Sidecar
from stack_composer.telemetry.store.sketch import Sketch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Final

DECODED_BYTES_A_STEP: Final = 128 * 2**10
"""Lines of so many bytes are decoded at a time, in some milliseconds."""


class Packing:
    """The frames of one bundle so far, and what is known of their lines.

    Args:
        signal: Of the bundle.
        sketch: Of all its lines; None builds one by decoding them (``counted``).
        marks: Of all its appends; None builds them by decoding the lines, if the sketch
            is built so too, and otherwise makes an index without times and traces.

    Attributes:
        plain_bytes: Of the lines in frames.
        packed_bytes: Of the frames.
        lines: In them.
        refused_lines: Of these, lines that are none; told only where they are decoded.
        sketch: Of all of them.
        marks: Of what is not in a frame yet.
    """

    def __init__(
        self, signal: str, sketch: Sketch | None = None, marks: Marks | None = None
    ) -> None:
        self.plain_bytes = self.packed_bytes = self.lines = self.refused_lines = 0
        self.sketch = Sketch() if sketch is None else sketch
        self.marks = Marks() if marks is None or sketch is None else marks
        self._signal = signal
        self._decodes = sketch is None
        self._notes: list[FrameNote] = []

    def counted(self, plain: bytes) -> Generator[bool, None, None]:
        """Decode the lines of the next frame, unless what they say is known; in steps."""
        if not self._decodes:
            return
        from stack_composer.telemetry.store.index_line import mark_line

        decoded_bytes = 0
        for line in plain.split(b"\n")[:-1]:
            try:
                self.sketch.add_line(self._signal, line)
            except LineRefusedError:
                self.refused_lines += 1
            mark_line(self.marks, self._signal, line)
            decoded_bytes += len(line)
            if decoded_bytes >= DECODED_BYTES_A_STEP:
                decoded_bytes = 0
                yield False

    def add(self, plain: bytes, packed_bytes: int) -> None:
        """Note a frame, with the lines in it and its size."""
        start, end = self.plain_bytes, self.plain_bytes + len(plain)
        lines = _count_lines(plain)
        self._notes.append(
            FrameNote(packed_bytes, len(plain), lines, *self.marks.within(start, end))
        )
        self.plain_bytes = end
        self.packed_bytes += packed_bytes
        self.lines += lines

    def index(self) -> bytes:
        """Make the index of all frames."""
        return encode_index(self._notes, self.packed_bytes)

    def sidecar(self, size: int, *, torn_bytes: int = 0) -> Sidecar:
        """Make the sidecar of a bundle whose frames and index have ``size`` bytes."""
        return Sidecar(
            bytes=size,
            plain_bytes=self.plain_bytes,
            lines=self.lines,
            torn_bytes=torn_bytes,
            refused_lines=self.refused_lines,
            sketch=self.sketch,
        )


def _count_lines(plain: bytes) -> int:
    # Lines are long: looking for the next end is four times as fast as ``count``.
    lines = 0
    at = plain.find(b"\n")
    while at >= 0:
        lines += 1
        at = plain.find(b"\n", at + 1)
    return lines
