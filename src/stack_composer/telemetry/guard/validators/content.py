"""Where a value ends that stands under a content key in JSON, or in Python's repr of it."""

from __future__ import annotations

import re

_SIGN = re.compile(rb"""["'\[{(\]})]""")
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
    near = max(0, start - _KEY_BYTES_MAX)
    bracket = data[start] in b"[{("
    before = _BEFORE_VALUE.search(data, near, start)
    if bracket and before:
        return not _SCHEMA.match(data, start) and _bracket_end(data, start, len(before[1]))
    quote = data[start - 1 : start]
    if quote not in (b'"', b"'"):
        return bracket and _bracket_end(data, start, 0)
    end = _string_end(data, start, quote, _backslashes(data, near, start - 1))
    return end > start and end


def _string_end(data: bytes, start: int, quote: bytes, depth: int) -> int:
    position = start
    while (at := data.find(quote, position)) >= 0:
        if _closes(_backslashes(data, position, at), depth):
            return at - depth
        position = at + 1
    return len(data)


def _bracket_end(data: bytes, start: int, depth: int) -> int:
    inside = b""
    opened = 0
    position = start
    for sign in _SIGN.finditer(data, start):
        found = sign[0]
        if found in b"\"'":
            if inside in (b"", found) and _closes(
                _backslashes(data, position, sign.start()), depth
            ):
                inside = b"" if inside else found
            position = sign.end()
        elif not inside:
            opened += 1 if found in b"[{(" else -1
            if opened <= 0:
                return sign.end()
    return len(data)


def _backslashes(data: bytes, start: int, end: int) -> int:
    """How many backslashes stand right before ``end``, but not before ``start``."""
    text = data[start:end]
    return len(text) - len(text.rstrip(b"\\"))


def _closes(backslashes: int, depth: int) -> bool:
    r"""Whether a quote behind so many backslashes ends a string that ``depth`` opened.

    JSON in JSON writes ``\"`` for its quotes and ``\\\"`` for those inside its strings.
    """
    return backslashes % (2 * depth + 2) == depth
