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
    password = data[start:end].replace(b"/", b":").partition(b":")[2]
    return not re.search(rb"^[$%<{*]|\$\{|\{\{|^x+$|\}$", password)


def url_user(data: bytes, start: int, end: int) -> bool:
    """A user's name, not the one that everybody uses, no code and no placeholder."""
    value = data[start:end].lower()
    if value[:1] in (b"(", b"[") or not value.strip(b"x"):
        return False
    return value not in (b"git", b"hg", b"svn", b"anonymous")


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
    plain = re.split(rb"[_.-]", name)[-1] in _PLAIN_NAMES or name.endswith(b"client_id")
    if plain and not _is_credential_name(name):
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
    if _SHARED_FILES.search(data[max(0, start - _FOLDERS_BYTES_MAX) : start]):
        return False
    value = data[start:end][:_VALUE_BYTES_MAX].rstrip(b".")
    return has_digit(value) and is_random(value, 3.0) and not is_placeholder(value)


# Where packages have their files: "/usr/share/doc/openjdk-17-jre-headless".
_SHARED_FILES: Final = re.compile(rb"(?:/usr|/local|/\.local)/share/(?:[A-Za-z0-9]{2,10}/)?$")
_FOLDERS_BYTES_MAX: Final = 32


# Hosts of the service itself, or of a customer that its documentation made up.
_OWN_LABELS: Final = frozenset(
    b"contoso fabrikam www api app docs doc help support developer developers dev status "
    b"community login accounts cdn static blog manage admin console portal learn marketplace "
    b"registry s3 us-east-1".split()
)
_HOST_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"


def tenant(data: bytes, start: int, end: int) -> bool:
    """A customer's host at a service, not one of the service's own."""
    if start and data[start - 1] in _HOST_BYTES:
        return False  # The rest of a name that was refused.
    host = data[start:end].lower()
    return b"/" in host or host.split(b".", 1)[0] not in _OWN_LABELS
