"""Markers: what stands where something was found, and how no rule sees a word of them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MARKER_START: Final = b"[redacted:"
MARKER_NAME_CHARS_MAX: Final = 40
MARKER_HASH_CHARS: Final = (32, 64)  # of a keyed hash, and of a plain one
_NAME_CHARS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"
_HASH_CHARS: Final = b"0123456789abcdef"
_INSIDE_BYTES_MAX = MARKER_NAME_CHARS_MAX + 1 + max(MARKER_HASH_CHARS) + 1


def tombstone(rule: str) -> str:
    """The marker that stands where ``rule`` found something; it shows nothing of it."""
    return f"[redacted:{rule}]"


def blank_markers(data: bytes) -> bytes:
    """``data`` with each marker of ours replaced by NULs of the same length."""
    start = data.find(MARKER_START)
    if start < 0:
        return data
    work = bytearray(data)
    while start >= 0:
        name = start + len(MARKER_START)
        inside, closed, _ = data[name : name + _INSIDE_BYTES_MAX].partition(b"]")
        if closed and _is_marked(inside):
            end = name + len(inside + closed)
            work[start:end] = bytes(end - start)
        start = data.find(MARKER_START, name)
    return bytes(work)


def _is_marked(inside: bytes) -> bool:
    """Whether a marker has this inside: a rule's name, or name, colon and hash."""
    name, colon, digits = inside.partition(b":")
    if not name or len(name) > MARKER_NAME_CHARS_MAX or name.strip(_NAME_CHARS):
        return False
    return not colon or (len(digits) in MARKER_HASH_CHARS and not digits.strip(_HASH_CHARS))


def encode(text: str) -> bytes:
    """The bytes that the patterns see; a lone surrogate has some too."""
    return text.encode("utf-8", "surrogatepass")
