"""Credentials in addresses."""

from __future__ import annotations

import re

from .shapes import NOTHING, is_placeholder, is_random, is_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


def url_credentials(data: bytes, start: int, end: int) -> bool:
    """User and password, unless the password is a reference or a placeholder."""
    password_part = data[start:end].split(b":", 1)[1]
    return not re.search(rb"^[$%<{*]|\$\{|\{\{|^x+$|\}$", password_part)


def url_user(data: bytes, start: int, end: int) -> bool:
    """A user's name, not the one that everybody uses."""
    return data[start:end].lower() not in (b"git", b"hg", b"svn", b"anonymous")


_PLAIN_QUERY: Final = re.compile(rb"(?i)[?&;](?:key|code|auth|sid|sig|ticket|state|token)=$")


def url_secret(data: bytes, start: int, end: int) -> bool:
    """The value of a query's credential; under a doubtful name only a random one."""
    value = data[start:end]
    if is_placeholder(value) or is_reference(value):
        return False
    if _PLAIN_QUERY.search(data[max(0, start - 12) : start]):
        return len(value) >= 8 and is_random(value, 3.0)
    return value.lower() not in NOTHING
