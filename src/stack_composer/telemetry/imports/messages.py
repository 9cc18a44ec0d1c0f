"""Cut a file into messages: lines, one document, or protobuf, told by its first bytes.

A *message* is what is taken or refused as a whole: a line of JSON, a JSON document over
many lines, one protobuf message, or one of a stream of them as the Collector's file
exporter writes it (four bytes of length, highest first, then the message, perhaps packed
with zstd by itself). Names are never looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.imports.source import unpack_message
from stack_composer.telemetry.otlp.recognise import JSON_KEYS, keys_of
from stack_composer.telemetry.store.unpack import MAGIC

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from typing import Final

MESSAGE_BYTES_MAX: Final = 64 * 2**20
"""What OTLP recommends as the limit of a request."""
_HEAD_BYTES: Final = 2**20
_HEAD_LINES: Final = 1_000
_OBJECT: Final = re.compile(rb"\{\s*(?:\"\w+\"\s*:|\})")
_BOM: Final = b"\xef\xbb\xbf"
_PROTOBUF_FIRST: Final = 0x0A
"""Field 1, which each OTLP message begins with; as the first of four bytes of length it
would be more than ``MESSAGE_BYTES_MAX``. It is a newline, too: text after it is looked at."""

LINES: Final = "json lines"
DOCUMENT: Final = "json"
PROTOBUF: Final = "protobuf"
STREAM: Final = "protobuf stream"
EMPTY: Final = "empty"


class Message(NamedTuple):
    """One message.

    Attributes:
        number: Of the line, from 1, blank ones counted; of the message in a stream.
        data: Without white space around it.
        is_json: Otherwise it is protobuf.
    """

    number: int
    data: bytes
    is_json: bool


class Cutter:
    """Cuts one file.

    Args:
        pieces: Of the file; None where something is missing.
        counts: Where oddities are counted.
        refuse: Called with the number of a message that cannot be had, and why.

    Attributes:
        form: What the file is; one of the constants above, or "" for none of them.
    """

    def __init__(
        self,
        pieces: Iterator[bytes | None],
        counts: Counter[str],
        refuse: Callable[[int, str], None],
    ) -> None:
        self.form = ""
        self._pieces = pieces
        self._counts = counts
        self._refuse = refuse
        self._is_missing = False

    def messages(self) -> Iterator[Message]:
        """Yield the messages."""
        head = self._head()
        text = head.removeprefix(_BOM).lstrip()
        if not text:
            yield from self._of_nothing(head)
        elif head[0] == _PROTOBUF_FIRST and not _OBJECT.match(text):
            yield from self._protobuf(head)
        elif text[:1] == b"{":
            yield from self._json(head)
        elif int.from_bytes(head[:4], "big") <= MESSAGE_BYTES_MAX and len(head) > 4:
            yield from self._stream(head)
        elif _has_line(head):
            yield from self._json(head)
        else:
            self._refuse(1, "is neither OTLP nor records of ours, packed or not")

    def _head(self) -> bytes:
        head = b""
        for piece in self._pieces:
            if piece is None:
                self._is_missing = True
                continue
            head += piece
            if len(head) >= _HEAD_BYTES:
                break
        return head

    def _of_nothing(self, head: bytes) -> Iterator[Message]:
        """Blank so far: either it is empty, or it begins with a megabyte of nothing."""
        self.form = EMPTY
        if len(head) >= _HEAD_BYTES:
            self.form = LINES
            yield from self._lines(head)
        elif head:
            self._counts["blank_line"] += head.count(b"\n")

    def _rest(self) -> Iterator[bytes | None]:
        for piece in self._pieces:
            self._is_missing = self._is_missing or piece is None
            yield piece

    def _json(self, head: bytes) -> Iterator[Message]:
        if _has_line(head) or b"\n" not in head.strip():
            self.form = LINES
            yield from self._lines(head)
            return
        self.form = DOCUMENT
        data = self._whole(head)
        if data is not None:
            yield Message(1, data.removeprefix(_BOM).strip(), is_json=True)

    def _whole(self, head: bytes) -> bytes | None:
        """The whole file as one message."""
        parts, held_bytes = [head], len(head)
        for piece in self._rest():
            parts.append(piece or b"")
            held_bytes += len(piece or b"")
            if held_bytes > MESSAGE_BYTES_MAX:
                self._refuse(1, f"is a message of more than {MESSAGE_BYTES_MAX >> 20} MiB")
                return None
        if self._is_missing:
            self._refuse(1, "is one message, a part of which is damaged")
            return None
        return b"".join(parts)

    def _lines(self, head: bytes) -> Iterator[Message]:
        number = 0
        parts: list[bytes] = []
        held_bytes = 0
        for piece in self._with(head):
            if piece is None:
                self._counts["torn_tail"] += bool(held_bytes)
                parts, held_bytes = [], 0
                continue
            if not held_bytes and piece.isspace():
                # A packed megabyte of newlines is a few bytes: no work for each of them.
                number += piece.count(b"\n")
                self._counts["blank_line"] += piece.count(b"\n")
                continue
            *whole, tail = piece.split(b"\n")
            for end in whole:
                number += 1
                yield from self._line(number, [*parts, end], held_bytes + len(end))
                parts, held_bytes = [], 0
            held_bytes += len(tail)
            # A line beyond the limit is only measured, so that it takes no memory.
            if held_bytes > MESSAGE_BYTES_MAX:
                parts = []
            elif tail:
                parts.append(tail)
        if held_bytes:
            yield from self._line(number + 1, parts, held_bytes)

    def _line(self, number: int, parts: list[bytes], size: int) -> Iterator[Message]:
        if size > MESSAGE_BYTES_MAX:
            self._refuse(number, f"is longer than {MESSAGE_BYTES_MAX >> 20} MiB")
            return
        line = b"".join(parts)
        if number == 1:
            line = line.removeprefix(_BOM)
        line = line.strip()
        if line:
            yield Message(number, line, is_json=True)
        else:
            self._counts["blank_line"] += 1

    def _with(self, head: bytes) -> Iterator[bytes | None]:
        yield head
        yield from self._rest()

    def _protobuf(self, head: bytes) -> Iterator[Message]:
        self.form = PROTOBUF
        data = self._whole(head)
        if data is not None:
            yield Message(1, data, is_json=False)

    def _stream(self, head: bytes) -> Iterator[Message]:
        self.form = STREAM
        held = bytearray(head)
        rest = self._rest()
        number = at = 0
        while True:
            number += 1
            if not _fill(held, rest, 4):
                break
            size = int.from_bytes(held[:4], "big")
            if not 0 < size <= MESSAGE_BYTES_MAX:
                self._refuse(number, f"says at byte {at} that it has {size:,} bytes")
                return
            if not _fill(held, rest, size + 4) or self._is_missing:
                break
            data = bytes(memoryview(held)[4 : size + 4])
            del held[: size + 4]
            at += size + 4
            message = self._unpacked(number, data)
            if message is not None:
                yield message
        if held or self._is_missing:
            self._refuse(number, f"at byte {at} is cut short")

    def _unpacked(self, number: int, data: bytes) -> Message | None:
        if data.startswith(MAGIC):
            unpacked = unpack_message(data, MESSAGE_BYTES_MAX)
            if unpacked is None:
                self._refuse(number, "is packed, and damaged or too large")
                return None
            data = unpacked
        is_json = data[:1] == b"{"
        return Message(number, data.strip() if is_json else data, is_json=is_json)


def _fill(held: bytearray, rest: Iterator[bytes | None], size: int) -> bool:
    while len(held) < size:
        piece = next(rest, None)
        if piece is None:
            return False
        held += piece
    return True


_TOP_KEYS: Final = frozenset({*JSON_KEYS, "metric", "start_ns", "level"})
"""What tells a line from a part of a document: these stand at the top alone."""


def _has_line(head: bytes) -> bool:
    """Whether one of the first lines is a whole message, so that the file is of lines."""
    lines = head.removeprefix(_BOM).split(b"\n", _HEAD_LINES)[:_HEAD_LINES]
    return any(keys_of(line) & _TOP_KEYS for line in lines)
