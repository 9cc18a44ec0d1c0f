"""Addresses of wallets: base58 with four check bytes, bech32, and forms without a check.

What each currency checks is in its own specification: BIP 173 and 350, CashAddr, SEP 23, SS58.
"""

from __future__ import annotations

from base64 import b32decode
from binascii import crc_hqx
from hashlib import blake2b, sha256

from .shapes import entropy, has_digit, has_letter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

_BASE58: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RIPPLE: Final = b"rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
_BECH32: Final = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHECKS: Final = (1, 0x2BC830A3)  # of bech32 (BIP 173) and of bech32m (BIP 350)
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CASH_GENERATOR: Final = (0x98F2BC8E61, 0x79B76D99E2, 0xF33E5FB3C4, 0xAE2EABE2A8, 0x1E4F43E470)
_NANO: Final = b"13456789abcdefghijkmnopqrstuwxyz"
_WORDS: Final = (b"wallet", b"solana", b"phantom", b"monero", b"ripple", b"dogecoin", b"crypto")


def address(data: bytes, start: int, end: int) -> bool:
    """An address whose check holds; one of a currency without a check if it looks random."""
    value = data[start:end]
    for prefixes, holds in _BY_PREFIX:
        if value.startswith(prefixes):
            return holds(value)
    if base58check(value, _BASE58) or base58check(value, _RIPPLE):
        return True
    if 46 <= len(value) <= 48:
        return _substrate(value)
    if len(value) == 56 and value[:1] == b"G":
        return _stellar(value)
    # Monero's by its length; others stand after a word for them.
    before = data[max(0, start - 30) : start].rpartition(b"\0")[2].lower()
    known = len(value) in (95, 106) or any(word in before for word in _WORDS)
    return known and has_digit(value) and has_letter(value) and entropy(value) > 4.0


def base58check(value: bytes, alphabet: bytes) -> bool:
    """25 bytes (26 or 27 for Zcash and Tezos), the last four the others' double SHA-256."""
    number = 0
    for char in value[:40]:
        digit = alphabet.find(char)
        if digit < 0:
            return False
        number = number * 58 + digit
    return len(value) <= 36 and any(_is_checked(number, size) for size in (25, 26, 27))


def _is_checked(number: int, size: int) -> bool:
    if number >> 8 * size:
        return False
    raw = number.to_bytes(size, "big")
    return sha256(sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def _ethereum(value: bytes) -> bool:
    return len(set(value)) > 6


def _nano(value: bytes) -> bool:
    """The account's key as 52 characters, its BLAKE2 of five bytes backwards as 8 more."""
    digits = value.rpartition(b"_")[2]
    number = 0
    for char in digits:
        number = number << 5 | _NANO.find(char)
    key = (number >> 40 & (1 << 256) - 1).to_bytes(32, "big")
    check = blake2b(key, digest_size=5).digest()[::-1]
    return check == (number & (1 << 40) - 1).to_bytes(5, "big")


def _stellar(value: bytes) -> bool:
    """The last two bytes are the others' CRC of 16 bits (SEP 23)."""
    raw = b32decode(value)
    return crc_hqx(raw[:-2], 0).to_bytes(2, "little") == raw[-2:]


def _substrate(value: bytes) -> bool:
    """One byte for the network, a key, and two bytes of a BLAKE2 (SS58)."""
    number = 0
    for char in value:
        number = number * 58 + _BASE58.find(char)
    if number >> 280:
        return False
    raw = number.to_bytes(35, "big")
    return blake2b(b"SS58PRE" + raw[:-2]).digest()[:2] == raw[-2:]


def _bitcoin_cash(value: bytes) -> bool:
    """A remainder of 40 bits (the CashAddr specification)."""
    prefix, _, rest = value.partition(b":")
    remainder = 1
    for digit in (*(char & 31 for char in prefix), 0, *map(_BECH32.find, rest)):
        top = remainder >> 35
        remainder = (remainder & 0x7FFFFFFFF) << 5 ^ digit
        for bit, term in enumerate(_CASH_GENERATOR):
            if top >> bit & 1:
                remainder ^= term
    return remainder == 1


def _is_long(value: bytes) -> bool:
    return len(value) > 50


def bech32(value: bytes) -> bool:
    """One case, and the polynomial's remainder that BIP 173 or BIP 350 asks for."""
    lowered = value.lower()
    if value not in (lowered, value.upper()):
        return False
    prefix, _, rest = lowered.rpartition(b"1")
    digits = [_BECH32.find(char) for char in rest]
    if len(digits) < 6 or -1 in digits:
        return False
    remainder = 1
    for digit in (*(c >> 5 for c in prefix), 0, *(c & 31 for c in prefix), *digits):
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ digit
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                remainder ^= term
    return remainder in _CHECKS


_BY_PREFIX: Final[tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], bool]], ...]] = (
    (b"0x", _ethereum),
    ((b"nano_", b"xrb_"), _nano),
    (b"bitcoincash:", _bitcoin_cash),
    # Cardano's addresses of the years before bech32 are known by how they begin.
    ((b"Ae2tdPwUPE", b"DdzFF"), _is_long),
    ((b"bc1", b"BC1", b"tb1", b"ltc1", b"LTC1", b"addr1", b"addr_test1", b"cosmos1"), bech32),
)
