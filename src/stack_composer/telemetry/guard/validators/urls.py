"""Credentials in addresses."""

from __future__ import annotations

import re

from .shapes import NOTHING, has_digit, is_placeholder, is_random, is_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_VALUE_BYTES_MAX: Final = 512


def url_credentials(data: bytes, start: int, end: int) -> bool:
    """User and password, unless the password is a reference or a placeholder."""
    password_part = re.split(rb"[:/]", data[start:end], maxsplit=1)[-1]
    return not re.search(rb"^[$%<{*]|\$\{|\{\{|^x+$|\}$", password_part)


def url_user(data: bytes, start: int, end: int) -> bool:
    """A user's name, not the one that everybody uses."""
    return data[start:end].lower() not in (b"git", b"hg", b"svn", b"anonymous")


# A credential by any of these names, or an ordinary word of a query.
_PLAIN_NAMES: Final = frozenset(
    b"key code auth sid sig ticket state token nonce hmac appid session policy lt st".split()
)
# Where the next page begins is nobody's secret.
_PLACE_WORDS: Final = ("page", "next", "continu", "sync", "cursor", "cancel", "start")
_NAME: Final = re.compile(rb"(?:[?&;#]|%(?:3[Ff]|26|23))([A-Za-z0-9_.-]{1,48})(?:=|%3[Dd])$")


def url_secret(data: bytes, start: int, end: int) -> bool:
    """The value of a query's credential; under a doubtful name only a random one."""
    value = data[start:end][:_VALUE_BYTES_MAX]
    if is_placeholder(value) or is_reference(value.rstrip(b"+")):
        return False
    found = _NAME.search(data[max(0, start - 56) : start])
    name = found[1].lower() if found else b""
    if re.split(rb"[_.-]", name)[-1] in _PLAIN_NAMES and not _is_credential_name(name):
        return len(value) >= 8 and is_random(value, 3.0)
    return value.lower() not in NOTHING


_CREDENTIAL: Final = re.compile(
    rb"(?:api|app|access|private|subscription|secret|auth|refresh|id|client|reset|csrf|oauth)"
    rb"[_.-]?(?:key|token|code)$"
)


def _is_credential_name(name: bytes) -> bool:
    return _CREDENTIAL.search(name) is not None


def path_secret(data: bytes, start: int, end: int) -> bool:
    """A part of a path that chance has made, not the name of a page."""
    value = data[start:end][:_VALUE_BYTES_MAX].rstrip(b".")
    return has_digit(value) and is_random(value, 3.0) and not is_placeholder(value)
