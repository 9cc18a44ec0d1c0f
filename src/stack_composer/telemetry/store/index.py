"""Where in a sealed bundle a trace or a time is: what spares decoding all of it.

Behind its last frame of lines a sealed file ends in one more frame, the *index*. It is a
skippable frame, which every zstd reader passes over, so the file is what it was before:

- its header: ``SKIPPABLE`` and the size of what follows, 4 bytes each;
- for each frame of lines, in order: its bytes, unpacked bytes and lines, how many keys
  it has, and its first and last moment (``_FRAME``);
- the keys: ``KEY_BYTES`` for each trace that occurs in a frame, frame after frame;
- a trailer of fixed size: number of frames, where the index begins, a checksum of all
  before, and ``MAGIC``, with which the file ends (``_TRAILER``).

Numbers are little-endian. A key is the first four and the last two bytes of a trace id:
the first ones answer for a prefix, and the last ones tell ids apart that begin alike
(those of 64 bits, with zeros in front; those that begin with the time). Keys are in no
order. Searching their bytes takes some microseconds a bundle, which is less than any
structure costs to read, and nothing has to be sorted on the writer's thread. A key may
be another trace's: then a frame is decoded in vain, and nothing else.

A first moment of 0 says that something in the frame tells no time, ``_UNKNOWN`` keys that
its traces are not known: it is then always among the answers.

An index never has the only word. Where it is absent, damaged or of another version, the
whole bundle is read, with the same answer.

A bundle that lives in a database keeps the same bytes in a blob: ``encode_index`` and
``decode_index`` know of no file.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.store.marks import KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

MAGIC: Final = b"SCTindx1"
SKIPPABLE: Final = b"\x57\x2a\x4d\x18"
"""How the index begins: a zstd frame of the sixteen kinds that readers skip."""

TRACE_CHARS: Final = 32

_HEADER: Final = struct.Struct("<4sI")
_FRAME: Final = struct.Struct("<QQIIQQ")
_TRAILER: Final = struct.Struct("<IQI8s")
TRAILER_BYTES: Final = _TRAILER.size
_UNKNOWN: Final = 0xFFFF_FFFF
_NS_MAX: Final = 2**64 - 1


class Frame(NamedTuple):
    """A zstd frame of whole lines in a sealed bundle.

    Attributes:
        offset: Where it begins in the file.
        bytes: Its size there.
        plain_bytes: Its size, unpacked.
        first_line: The number of its first line in the bundle, from 1.
        lines: How many lines.
    """

    offset: int
    bytes: int
    plain_bytes: int
    first_line: int
    lines: int


class FrameNote(NamedTuple):
    """What the sealing knows of a frame that it has written.

    ``first_ns`` is 0 where a record tells no time, ``keys`` None where its traces are
    not known; see ``marks``.
    """

    packed_bytes: int
    plain_bytes: int
    lines: int
    first_ns: int
    last_ns: int
    keys: bytes | None


class Index:
    """An index that was read."""

    __slots__ = ("_counts", "_frames", "_keys", "_times")

    def __init__(
        self,
        frames: list[Frame],
        times: list[tuple[int, int]],
        counts: list[int],
        keys: bytes,
    ) -> None:
        self._frames = frames
        self._times = times
        self._counts = counts
        self._keys = keys

    def frames(self, *, trace: str = "", since_ns: int = 0, until_ns: int = 0) -> list[Frame]:
        """Return the frames that may hold an answer, in order; all others hold none.

        Args:
            trace: The beginning of a trace id, lower-case hexadecimal; "" for any.
            since_ns: What ends before is not wanted, Unix nanoseconds; 0 for no limit.
            until_ns: What begins then or later is not wanted; 0 for no limit.
        """
        chosen = self._of_trace(trace) if trace else range(len(self._frames))
        return [
            self._frames[place]
            for place in chosen
            if _overlaps(self._times[place], since_ns, until_ns)
        ]

    def _of_trace(self, trace: str) -> list[int]:
        # Whole bytes are searched; an odd digit is compared where they were found. One
        # digit alone is not worth it: a sixteenth of all traces begins so.
        head = bytes.fromhex(trace[: min(len(trace) & ~1, 2 * (KEY_BYTES - 2))])
        odd = int(trace[len(trace) - 1], 16) if len(trace) % 2 and len(trace) < 8 else -1
        if len(trace) == TRACE_CHARS:
            head += bytes.fromhex(trace[-4:])
        found = []
        end = 0
        for place, count in enumerate(self._counts):
            if count == _UNKNOWN:
                found.append(place)
                continue
            start, end = end, end + count * KEY_BYTES
            if count and (not head or _holds(self._keys, head, odd, start, end)):
                found.append(place)
        return found


def _holds(keys: bytes, head: bytes, odd: int, start: int, end: int) -> bool:
    """Whether a key between two places begins with ``head``, and the half byte ``odd``."""
    at = keys.find(head, start, end)
    while at >= 0:
        # It may also be found across two keys, or with another digit behind.
        if (at - start) % KEY_BYTES == 0 and (odd < 0 or keys[at + len(head)] >> 4 == odd):
            return True
        at = keys.find(head, at + 1, end)
    return False


def _overlaps(times: tuple[int, int], since_ns: int, until_ns: int) -> bool:
    first_ns, last_ns = times
    return not first_ns or (last_ns >= since_ns and (not until_ns or first_ns < until_ns))


def encode_index(notes: Sequence[FrameNote], start: int) -> bytes:
    """Make the index of frames that follow each other from offset 0 to ``start``."""
    body = [
        _FRAME.pack(
            note.packed_bytes,
            note.plain_bytes,
            note.lines,
            _UNKNOWN if note.keys is None else len(note.keys) // KEY_BYTES,
            min(max(note.first_ns, 0), _NS_MAX),
            min(max(note.last_ns, 0), _NS_MAX),
        )
        for note in notes
    ]
    body += [note.keys for note in notes if note.keys]
    size = sum(map(len, body)) + TRAILER_BYTES
    data = _HEADER.pack(SKIPPABLE, size) + b"".join(body)
    return data + _TRAILER.pack(len(notes), start, zlib.crc32(data), MAGIC)


def start_of_index(tail: bytes) -> int | None:
    """Read where the index begins from the last bytes of a file; None if it has none.

    That the rest of the index is whole is not said by that.
    """
    if len(tail) < TRAILER_BYTES or not tail.endswith(MAGIC):
        return None
    start: int = _TRAILER.unpack(tail[-TRAILER_BYTES:])[1]
    return start


def decode_index(data: bytes) -> Index | None:
    """Read the bytes of an index; None if anything of it is wrong."""
    if len(data) < _HEADER.size + TRAILER_BYTES:
        return None
    many, start, checksum, magic = _TRAILER.unpack(data[-TRAILER_BYTES:])
    body = memoryview(data)[:-TRAILER_BYTES]
    if magic != MAGIC or zlib.crc32(body) != checksum:
        return None
    table = body[_HEADER.size : _HEADER.size + many * _FRAME.size]
    keys = bytes(body[_HEADER.size + len(table) :])
    if len(table) != many * _FRAME.size:
        return None
    frames, times, counts = [], [], []
    offset, line = 0, 1
    for size, plain_bytes, lines, count, first_ns, last_ns in _FRAME.iter_unpack(table):
        frames.append(Frame(offset, size, plain_bytes, line, lines))
        times.append((first_ns, last_ns))
        counts.append(count)
        offset += size
        line += lines
    known = sum(count for count in counts if count != _UNKNOWN)
    if offset != start or known * KEY_BYTES != len(keys):
        return None
    return Index(frames, times, counts, keys)
