"""Where a value ends that stands under a content key in JSON, or in Python's repr of it."""

from __future__ import annotations

import re

_QUOTE = re.compile(rb"""(\\*)(["'])""")
_SIGN = re.compile(rb"""(\\*)(["'])|[\[{(]|[\]})]""")
_BEFORE_VALUE = re.compile(rb"""(\\*)["'][ \t\r\n]*[:=][ \t\r\n]*\Z""")
_KEY_BYTES_MAX = 64
# A key that a JSON schema describes, with no value in sight; and what holds nothing.
_SCHEMA = re.compile(
    rb"""[{\[][ \t\r\n]*(?:[}\]]|\\*["'](?:type|\$ref|anyOf)\\*["'][ \t\r\n]*:[ \t\r\n]*\\*["']"""
    rb"""(?:object|array|string|number|integer|boolean|null|#/)|\\*["']anyOf)"""
)


def value_end(data: bytes, start: int, _end: int) -> int | bool:
    """The end of the value whose first byte is ``start``, or False if there is nothing in it.

    A string begins behind its quote and ends before the next one of the same depth of
    escapes; a list or object begins with its bracket. What is cut off ends with the data.
    """
    if data[start] in b"[{(" and _BEFORE_VALUE.search(data, max(0, start - _KEY_BYTES_MAX), start):
        return not _SCHEMA.match(data, start) and _bracket_end(data, start)
    quote = data[start - 1 : start]
    if quote not in (b'"', b"'"):
        return data[start] in b"[{(" and _bracket_end(data, start)
    end = _string_end(data, start, quote, _backslashes(data, start - 1))
    return end > start and end


def _string_end(data: bytes, start: int, quote: bytes, depth: int) -> int:
    for sign in _QUOTE.finditer(data, start):
        if sign[2] == quote and _closes(len(sign[1]), depth):
            return sign.end() - 1 - depth
    return len(data)


def _bracket_end(data: bytes, start: int) -> int:
    before = _BEFORE_VALUE.search(data, max(0, start - _KEY_BYTES_MAX), start)
    depth = len(before[1]) if before else 0
    inside = b""
    opened = 0
    for sign in _SIGN.finditer(data, start):
        quote = sign[2]
        if quote is None:
            opened += 0 if inside else 1 if sign[0] in b"[{(" else -1
            if opened <= 0:
                return sign.end()
        elif _closes(len(sign[1]), depth) and inside in (b"", quote):
            inside = b"" if inside else quote
    return len(data)


def _backslashes(data: bytes, end: int) -> int:
    """How many backslashes stand right before ``end``."""
    start = end
    while start > 0 and data[start - 1] == 0x5C and end - start < _KEY_BYTES_MAX:
        start -= 1
    return end - start


def _closes(backslashes: int, depth: int) -> bool:
    r"""Whether a quote behind so many backslashes ends a string that ``depth`` opened.

    JSON in JSON writes ``\"`` for its quotes and ``\\\"`` for those inside its strings.
    """
    return backslashes % (2 * depth + 2) == depth
