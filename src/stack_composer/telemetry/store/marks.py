"""What a writer notes of each append, so that sealing can make an index without decoding.

Apart from ``index``, since every program that writes pays for this module's import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Final

KEY_BYTES: Final = 6
_ID_BYTES: Final = 16
_TAIL: Final = 2  # The last bytes of an id, in its key; the others are the first ones.


def keys_of(traces: Collection[str]) -> bytes | None:
    """Pack the keys of trace ids, in no order; None if one of them is no trace id.

    An empty text, which is no trace at all, has no key.
    """
    joined = "".join(traces)
    try:
        ids = bytes.fromhex(joined)
    except ValueError:
        return None
    count = len(ids) // _ID_BYTES
    told = len(traces) if count == len(traces) else sum(map(bool, traces))
    if count != told or len(ids) % _ID_BYTES or 2 * len(ids) != len(joined):
        return None
    # Byte by byte of all keys at once, since a key at a time costs fifty times as much.
    keys = bytearray(count * KEY_BYTES)
    for place in range(KEY_BYTES - _TAIL):
        keys[place::KEY_BYTES] = ids[place::_ID_BYTES]
    for place in range(1, _TAIL + 1):
        keys[KEY_BYTES - place :: KEY_BYTES] = ids[_ID_BYTES - place :: _ID_BYTES]
    return bytes(keys)


class Marks:
    """The appends to one bundle: where each ends, its times, and the keys of its traces.

    Attributes:
        end: Where the last one ends: so many bytes are told of.
    """

    __slots__ = ("_marks", "end")

    def __init__(self) -> None:
        self.end = 0
        self._marks: list[tuple[int, int, int, bytes | None]] = []

    def add(self, size: int, first_ns: int, last_ns: int, traces: Collection[str] | None) -> None:
        """Note ``size`` more bytes of whole lines, of records between two times.

        A time of 0 means that something in them tells none; None for the ids of their
        traces that nobody has looked at each record: then nothing is known of them.
        """
        self.end += size
        if traces is None or not (first_ns and last_ns):
            first_ns = last_ns = 0
        keys = None if traces is None else keys_of(traces)
        self._marks.append((self.end, first_ns, last_ns, keys))

    def lose(self, end: int) -> None:
        """Know nothing of what lies before ``end``, since somebody else changed the file."""
        self.end = end
        self._marks = [(end, 0, 0, None)] if end else []

    def within(self, start: int, end: int) -> tuple[int, int, bytes | None]:
        """Sum up what lies, in part at least, between two offsets: times and keys.

        Ask in the order of the offsets: what lies before ``start`` is forgotten.
        """
        while self._marks and self._marks[0][0] <= start:
            del self._marks[0]
        found = []
        for mark in self._marks:
            found.append(mark)
            if mark[0] >= end:
                break
        firsts = [first_ns for _, first_ns, _, _ in found]
        keys = [key for _, _, _, key in found]
        if not found or found[-1][0] < end:
            return 0, 0, None
        first_ns = min(firsts)
        last_ns = max([last_ns for _, _, last_ns, _ in found]) if first_ns else 0
        known = [key for key in keys if key is not None]
        return first_ns, last_ns, b"".join(known) if len(known) == len(keys) else None
