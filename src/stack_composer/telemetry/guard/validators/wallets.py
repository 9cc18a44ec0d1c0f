"""Addresses of wallets: base58 with four check bytes, bech32, and forms without a check."""

from __future__ import annotations

from hashlib import sha256

from .shapes import entropy, has_digit, has_letter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_BASE58: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RIPPLE: Final = b"rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
_BECH32: Final = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_PREFIXES: Final = (b"bc1", b"tb1", b"ltc1", b"addr1", b"cosmos1")
_CHECKS: Final = (1, 0x2BC830A3)  # of bech32 (BIP 173) and of bech32m (BIP 350)
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_WORDS: Final = (b"wallet", b"solana", b"phantom", b"monero", b"ripple", b"dogecoin", b"crypto")


def address(data: bytes, start: int, end: int) -> bool:
    """An address whose check holds; one of a currency without a check if it looks random."""
    value = data[start:end]
    if value.startswith(b"0x"):
        return len(set(value)) > 6
    if value.lower().startswith(_BECH32_PREFIXES) and bech32(value):
        return True
    if base58check(value, _BASE58) or base58check(value, _RIPPLE):
        return True
    # Monero's by its length; others stand after a word for them.
    before = data[max(0, start - 30) : start].rpartition(b"\0")[2].lower()
    known = len(value) == 95 or any(word in before for word in _WORDS)
    return known and has_digit(value) and has_letter(value) and entropy(value) > 4.0


def base58check(value: bytes, alphabet: bytes) -> bool:
    """25 bytes whose last four begin the double SHA-256 of the others."""
    if value.translate(None, alphabet):
        return False
    number = 0
    for char in value:
        number = number * 58 + alphabet.index(char)
    if number >> 200:
        return False
    raw = number.to_bytes(25, "big")
    return sha256(sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def bech32(value: bytes) -> bool:
    """One case, and the polynomial's remainder that BIP 173 or BIP 350 asks for."""
    lowered = value.lower()
    if value not in (lowered, value.upper()):
        return False
    prefix, _, rest = lowered.rpartition(b"1")
    if rest.translate(None, _BECH32):
        return False
    digits = map(_BECH32.find, rest)
    remainder = 1
    for digit in (*(c >> 5 for c in prefix), 0, *(c & 31 for c in prefix), *digits):
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ digit
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                remainder ^= term
    return remainder in _CHECKS
