"""Credentials that are known by their own form."""

from __future__ import annotations

import re

from .shapes import decode_base64, entropy, has_digit, is_placeholder


def no_example(data: bytes, start: int, end: int) -> bool:
    """A token of a known form that is not written out as an example."""
    return not is_placeholder(data[start:end]) or entropy(data[start:end]) > 4.2


def mixed(data: bytes, start: int, end: int) -> bool:
    """A token of a known form in which letters and digits mix, as chance has it."""
    value = data[start:end]
    return has_digit(value) and not is_placeholder(value)


def pem(data: bytes, start: int, end: int) -> bool:
    """A private key with some key in it, not a mention of its first line."""
    body = data[start:end].split(b"-----", 3)[2]
    return len(re.findall(rb"[A-Za-z0-9+/=]{16,}", body)) > 0 and not re.search(
        rb"(?i)\.\.\.", body
    )


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


def slack(data: bytes, start: int, end: int) -> bool:
    """A Slack token with digits in it, not the word for a hug or an example."""
    value = data[start:end]
    return has_digit(value[4:]) and not re.search(rb"(?i)x{6,}|\.{3}", value[4:])


def basic_auth(data: bytes, start: int, end: int) -> bool:
    """Base64 of printable text with a colon in it."""
    decoded = decode_base64(data[start:end])
    return decoded is not None and b":" in decoded and all(32 <= byte < 127 for byte in decoded)
