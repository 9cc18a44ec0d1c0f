"""Turn the examples of rules.toml into texts, with made-up credentials in them.

A credential written out in the tree, however false, would be found by every scanner
of the people who use this package. So examples name the kind and the number of the
characters wanted, and they are made here, always the same ones.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_ALPHABETS = {
    "hex": _DIGITS + "abcdef",
    "HEX": _DIGITS + "ABCDEF",
    "digit": _DIGITS,
    "lower": _LOWER + _DIGITS,
    "upper": _LOWER.upper() + "234567",
    "alnum": _LOWER + _LOWER.upper() + _DIGITS,
    "b64": _LOWER + _LOWER.upper() + _DIGITS + "+/",
    "url": _LOWER + _LOWER.upper() + _DIGITS + "_-",
}
_FILLER = re.compile("«([A-Za-z0-9]*) ?([0-9]*)»")


def expand(example: str, seed: int = 1) -> str:
    """``example`` with every «kind n» replaced; the same for the same ``seed``."""
    state = seed

    def fill(match: re.Match[str]) -> str:
        nonlocal state
        kind, length = match.groups()
        if kind == "jwt":
            return ".".join((_part('{"alg":"HS256"}'), _part('{"sub":"x1"}'), fill_with("url", 43)))
        return fill_with(kind, int(length)) if kind else ""

    def fill_with(kind: str, length: int) -> str:
        nonlocal state
        alphabet = _ALPHABETS[kind]
        chars = []
        for _ in range(length):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            chars.append(alphabet[(state >> 33) % len(alphabet)])
        return "".join(chars)

    return _FILLER.sub(fill, example)


def _part(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")
