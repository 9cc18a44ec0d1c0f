"""Credentials that are known by their own form."""

from __future__ import annotations

import re

from .shapes import (
    decode_base64,
    entropy,
    has_digit,
    has_letter,
    is_made,
    is_random,
    is_reference,
    is_run,
    words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_FILLERS: Final = words(
    "xxxxx your placeholder redacted changeme change-me change_me insert replace_ replace-"
    " ... *** < ${ {{"
)
_CAPITAL: Final = re.compile(rb"[a-z][A-Z]")


def _is_filler(value: bytes) -> bool:
    """Whether it plainly stands for a token. An example of one is none: it does no harm."""
    lowered = value.decode("latin-1").lower()
    if any(filler in lowered for filler in _FILLERS):
        return True
    return len(set(value[-12:])) < 4 and not is_run(value)


def token(data: bytes, start: int, end: int) -> bool:
    """What follows a telling prefix, unless it is made of words or a filler."""
    value = data[start:end]
    tail = value[4:]
    telling = has_digit(tail) or _is_scattered(tail) or is_run(tail) or is_made(tail, 16)
    return telling and not _is_filler(value)


def _is_scattered(value: bytes) -> bool:
    """Whether capitals stand closer together than words are long."""
    return len(_CAPITAL.findall(value)) * 6 >= len(value)


def made(data: bytes, start: int, end: int) -> bool:
    """What follows a prefix that says less: letters and digits as chance mixes them."""
    value = data[start:end]
    tail = value[4:]
    digits = len(tail) - len(tail.translate(None, b"0123456789"))
    mixed = digits >= 4 or is_random(tail, 3.0) or (len(tail) >= 32 and _is_scattered(tail))
    mixed = mixed or (digits > 0 and is_made(tail, 20))
    return mixed and has_letter(tail) and not _is_filler(value)


def no_filler(data: bytes, start: int, end: int) -> bool:
    """A form so certain that only a filler in its place is none."""
    return not _is_filler(data[start:end])


def github(data: bytes, start: int, end: int) -> bool:
    """A GitHub token: by its check digits, or else by not being words or a filler."""
    return has_github_checksum(data[start:end]) or token(data, start, end)


_BASE62: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def has_github_checksum(value: bytes) -> bool:
    """Whether its last six characters are the CRC-32, in base 62, of those before."""
    from zlib import crc32

    body = value[4:-6]
    rest = crc32(body)
    digits = bytearray()
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits.append(_BASE62[digit])
    return len(body) >= 20 and bytes(reversed(digits)) == value[-6:]


def pem(data: bytes, start: int, end: int) -> bool:
    """A private key with some key in it, not a mention of its first line."""
    parts = data[start:end].split(b"-----", 3)
    body = parts[2]
    if b"..." in body or b"<" in body:
        return False
    ended = len(parts) > 3 and len(body.strip()) >= 16  # Whatever stands there, it is the key.
    return ended or _KEY_LINE.search(body) is not None


_KEY_LINE: Final = re.compile(rb"[A-Za-z0-9+/=]{16}")


def pem_base64(data: bytes, start: int, end: int) -> bool:
    """Base64 of what begins as a private key in PEM, not of a certificate."""
    decoded = decode_base64(data[start : start + (min(end - start, 80)) // 4 * 4])
    return decoded is not None and b"PRIVATE KEY" in decoded


def jwt(data: bytes, start: int, end: int) -> bool:
    """A token whose first part decodes to what begins as a JSON object."""
    head = data[start:end].split(b".", 1)[0]
    decoded = decode_base64(head)
    return decoded is not None and decoded.lstrip()[:1] == b"{" and b'"' in decoded


def jwt_base64(data: bytes, start: int, end: int) -> bool:
    """Base64 of a JSON web token."""
    decoded = decode_base64(data[start : start + (end - start) // 4 * 4])
    return decoded is not None and b"." in decoded and jwt(decoded, 0, len(decoded))


def random_base64(data: bytes, start: int, end: int) -> bool:
    """Random bytes in base64 that are not named as a checksum just before."""
    before = data[max(0, start - 12) : start].lower()
    return entropy(data[start:end]) > 4.2 and not re.search(rb"sha\d|integrity|h1:$|digest", before)


def okta(data: bytes, start: int, end: int) -> bool:
    """Forty characters of base64url, capitals and small letters, after two zeros."""
    value = data[start:end]
    if is_run(value):
        return has_letter(value)
    return value.lower() != value != value.upper() and made(data, start, end)


def header(data: bytes, start: int, end: int) -> bool:
    """What stands in a header where its credential belongs, unless it is a word."""
    value = data[start:end].rstrip(b".")
    if len(value) < 8 or _is_filler(value) or is_reference(value):
        return False
    return has_digit(value) or _is_scattered(value) or (len(value) >= 16 and value.isalnum())


def bearer(data: bytes, start: int, end: int) -> bool:
    """The same after a word that prose has, too: it must be longer, and no name."""
    long = end - start >= 12 or is_random(data[start:end], 3.0)
    return long and header(data, start, end)


def slack(data: bytes, start: int, end: int) -> bool:
    """A Slack token with digits in it, not the word for a hug or an example."""
    value = data[start:end]
    return has_digit(value[4:]) and not re.search(rb"(?i)x{6,}|\.{3}", value[4:])


def basic_auth(data: bytes, start: int, end: int) -> bool:
    """Base64 of printable text with a colon in it."""
    decoded = decode_base64(data[start:end])
    return decoded is not None and b":" in decoded and all(32 <= byte < 127 for byte in decoded)
