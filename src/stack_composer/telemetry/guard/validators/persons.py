"""What tells of a person: addresses, numbers with check digits, names of home folders."""

from __future__ import annotations

import re

from .shapes import digits_of, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


_FILE_ENDS: Final = tuple(
    end.encode()
    for end in words(
        ".png .jpg .jpeg .gif .svg .webp .css .js .ts .mjs .py .go .rs .java .html .md .txt .json"
    )
)


_IN_URL: Final = re.compile(rb"://[^\x00 \t-\r/\"'<>]*$")


def email(data: bytes, start: int, end: int) -> bool:
    """An address of a person: not a file, not ``git@host:path``, no user of a URL."""
    value = data[start:end].lower()
    if _IN_URL.search(data[max(0, start - 200) : start]):
        return False
    if value.startswith(b"git@") or value.endswith(_FILE_ENDS):
        return False
    return not value.startswith((b".", b"@"))


def card(data: bytes, start: int, end: int) -> bool:
    """Luhn's check digit over a number of an issuer's length that is not one digit."""
    digits = digits_of(data[start:end])
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


_IBAN_CHARS: Final = dict(
    pair.split(":")
    for pair in words(
        "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 "
        "CY:28 CZ:24 DE:22 DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 "
        "GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 "
        "KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 "
        "MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 "
        "SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 "
        "VA:22 VG:24 XK:20 YE:30"
    )
)


def iban(data: bytes, start: int, end: int) -> bool:
    """The country's length, and the check digits modulo 97 (ISO 13616)."""
    account = re.sub(rb"[ -]", b"", data[start:end]).decode("ascii", "replace")
    if str(len(account)) != _IBAN_CHARS.get(account[:2]):
        return False
    turned = account[4:] + account[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def us_ssn(data: bytes, start: int, end: int) -> bool:
    """A number that can have been given out, with the same separator twice."""
    value = data[start:end]
    area, group, serial = value[:3], value[4:6], value[7:]
    given = area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000"
    return given and value[3] == value[6] and value != b"123-45-6789"


_NOBODY: Final = frozenset(
    name.encode()
    for name in (
        "default user",
        "all users",
        *words(
            "shared public default user users username runner runneradmin vsts ubuntu root admin "
            "administrator app node vagrant circleci travis jenkins docker gitpod codespace vscode "
            "ec2-user linuxbrew me you name ... .. . foo bar"
        ),
    )
)


def home_name(data: bytes, start: int, end: int) -> bool:
    """A person's name, not the account of a build machine or a placeholder."""
    return data[start:end].lower().rstrip(b"\\/") not in _NOBODY


def ipv6(data: bytes, start: int, end: int) -> bool:
    """An address as RFC 4291 writes it, but not the one of nobody or of this computer."""
    from ipaddress import IPv6Address

    try:
        address = IPv6Address(data[start:end].decode("ascii"))
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


def mac(data: bytes, start: int, end: int) -> bool:
    """An address that is not all zeros or all ones."""
    return len(set(data[start:end].lower().translate(None, b":-."))) > 1


def phone(data: bytes, start: int, end: int) -> bool:
    """As many digits as a number can have (ITU-T E.164)."""
    value = data[start:end]
    return (8 if value.startswith(b"+") else 10) <= len(digits_of(value)) <= 15
