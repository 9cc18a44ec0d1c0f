"""What the bytes of a plain span say, and of its attributes: pure, and quick.

A plain span is as SDKs write it: fields in order, sizes of one or two bytes, all that it
has in front of what is rare. Whatever is found to be another one is None, and read
thoroughly elsewhere.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.otlp.protobuf import _plain_value

if TYPE_CHECKING:
    from typing import Final, TypeAlias

    Groups: TypeAlias = tuple[bytes, bytes, bytes | None, bytes, bytes, bytes, bytes]
    """Trace, span, parent; name and kind as one; both times; "J" before the attributes; the
    rest of the span, without that."""

# Ids that are not all zero; perhaps a parent's; a name, which holds no 9, and perhaps a
# kind; both times, 9 and A are their tags; J opens the first attribute; all else.
_IDS: Final = (
    rb"\n\x10((?!\0{16}).{16})\x12\x08((?!\0{8}).{8})"
    rb"(?:\x22\x08((?!\0{8}).{8}))?"
)
match_span = re.compile(_IDS + rb"(\*[^9]*)9(.{8}A.{8})(J?)(.*)", re.DOTALL).match
# The same in two steps, for any name: its size tells where it ends.
_start = re.compile(_IDS + rb"\*([\0-\x7f])", re.DOTALL).match
_after_name = re.compile(rb"((?:\x30[\0-\x7f])?)9(.{8}A.{8})(J?)(.*)", re.DOTALL).match
unpack_times = struct.Struct("<QxQ").unpack
unpack_double = struct.Struct("<d").unpack

# What stands before a text of up to so many bytes: the tags and sizes of value and text.
BEFORE_TEXT: Final = [bytes((0x12, size + 2, 0x0A, size)) for size in range(126)]


def groups_by_size(data: bytes, at: int, end: int) -> Groups | None:
    """Give what ``match_span`` finds, for a span whose name holds a 9."""
    start = _start(data, at, end)
    if start is None:
        return None
    after = start.end() + start[4][0]
    rest = _after_name(data, after, end)
    if rest is None:
        return None
    block = data[start.end() - 2 : after] + rest[1]
    return start[1], start[2], start[3], block, rest[2], rest[3], rest[4]


def name_and_kind(block: bytes) -> tuple[str, int] | None:
    """Read what stands between ids and times; None if that is more, or broken."""
    size = block[1] if len(block) > 1 else 128
    kind = block[2 + size :]
    if size > 127 or len(block) < 2 + size:
        return None
    if kind and (len(kind) != 2 or kind[0] != 0x30 or kind[1] > 127):
        return None
    try:
        return block[2 : 2 + size].decode(), kind[1] if kind else 0
    except UnicodeDecodeError:
        return None


def plain_pair(raw: bytes) -> tuple[bytes, Any] | None:
    """Read a key and a text or number behind a size; None for any other, or a broken one."""
    size = len(raw)
    at = 1 if raw[0] < 128 else 2
    if size < at + 6 or raw[at] != 0x0A or raw[at + 1] > 127:
        return None
    key_at = at + 2
    at = key_at + raw[at + 1]
    # Behind the key stands its value, and nothing behind that.
    value_at = _sized(raw, at, size, 0x12)
    if value_at < 0:
        return None
    value: Any
    if raw[value_at] == 0x0A:
        text_at = _sized(raw, value_at, size, 0x0A)
        try:
            value = raw[text_at:].decode() if text_at >= 0 else None
        except UnicodeDecodeError:
            return None
    else:
        value = _plain_value(raw, value_at)
    return None if value is None else (raw[key_at:at], value)


def _sized(raw: bytes, at: int, end: int, tag: int) -> int:
    """Where the field at a place begins, behind tag and size; -1 if it does not fill ``raw``."""
    if end < at + 4 or raw[at] != tag:
        return -1
    size = raw[at + 1]
    at += 2
    if size > 127:
        if raw[at] > 127:
            return -1
        size += (raw[at] << 7) - 128
        at += 1
    return at if size == end - at else -1
