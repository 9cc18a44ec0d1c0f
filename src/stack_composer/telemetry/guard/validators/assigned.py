"""Values that are secret because of the word that stands before them."""

from __future__ import annotations

import re

from .shapes import NOTHING, entropy, has_digit, is_block, is_placeholder, is_random, is_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


def credential(data: bytes, start: int, end: int) -> bool:
    """What stands where a credential belongs, unless it is a word or a reference."""
    value = data[start:end].rstrip(b".")
    if is_placeholder(value) or is_reference(value):
        return False
    return is_random(value, 3.0) or (len(value) >= 20 and entropy(value) > 3.6)


def password(data: bytes, start: int, end: int) -> bool:
    """What is assigned to a password: anything but code, types and placeholders."""
    value = data[start:end].strip()
    lowered = value.lower().rstrip(b".:!?")
    if len(value) < 4 or lowered in NOTHING or is_placeholder(value) or is_reference(value):
        return False
    quoted = start > 0 and data[start - 1 : start] in (b'"', b"'", b"`")
    if quoted:
        return b" " not in value and not _is_label(value)
    return not _is_word(value)


_LABEL: Final = re.compile(
    rb"(?i)^[a-z_.-]*(?:password|passwd|token|secret|key)[a-z_.-]*$|^[/.~]|://"
)


def _is_label(value: bytes) -> bool:
    """A quoted text that names a field, a path or an address rather than a password."""
    return bool(_LABEL.search(value)) and not has_digit(value)


_WORD: Final = re.compile(rb"^[A-Za-z_][A-Za-z_.:/-]*$|^[0-9.]+$|^[A-Z_]+$|^/|://")


def _is_word(value: bytes) -> bool:
    """An identifier, a number or a path, as unquoted values in code are."""
    return bool(_WORD.search(value))


def secret(data: bytes, start: int, end: int) -> bool:
    """What is assigned to a token or key, if it looks made by a machine."""
    value = data[start:end].rstrip(b".:!?-_")
    if len(value) < 8 or is_placeholder(value) or is_reference(value):
        return False
    return is_random(value, 3.0) or is_block(value, 20)


def secret_nearby(data: bytes, start: int, end: int) -> bool:
    """A longer random value: there is no sign of assignment to lean on."""
    value = data[start:end].strip(b".:_-=")
    if len(value) < 16 or is_placeholder(value):
        return False
    made = is_random(value, 3.2) or is_block(value, 24)
    return made and b"/" not in value[:2] and not _FILE.search(value)


_FILE: Final = re.compile(
    rb"\.(?:[a-z]{1,2}|css|mjs|tgz|png|svg|jpe?g|json|html?|map|woff2?|zip|gz)$"
)
