"""What tells of a person: addresses, numbers with check digits, names of home folders."""

from __future__ import annotations

import re

from .shapes import NOTHING, digits_of, has_digit, has_letter, is_reference, words

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
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 and _is_issued(digits)


def _is_issued(digits: list[int]) -> bool:
    """Whether an issuer gives out numbers of this length that begin so (ISO/IEC 7812)."""
    begin = 1000 * digits[0] + 100 * digits[1] + 10 * digits[2] + digits[3]
    return any(low <= begin <= high for low, high in _ISSUED.get(len(digits), ()))


_MAESTRO: Final = ((5018, 5018), (5020, 5020), (5038, 5038), (5600, 5899), (6000, 6999))
# Dankort, Verve and Elo, RuPay, Uzcard and Humo, Troy.
_NATIONAL: Final = (
    (5019, 5019), (5060, 5067), (5078, 5099), (8100, 8299), (8600, 8600), (9792, 9792),
    (9860, 9860),
)  # fmt: skip
_ISSUED: Final = {
    13: ((4000, 4999), (5018, 5038), (6304, 6304)),
    14: ((3000, 3059), (3095, 3095), (3600, 3699), (3800, 3999)),
    15: ((3400, 3499), (3700, 3799), (1000, 1999), (2131, 2149)),
    16: ((4000, 4999), (5100, 5599), (2200, 2720), (3528, 3589), *_NATIONAL, *_MAESTRO),
    17: _MAESTRO,
    18: _MAESTRO,
    19: ((4000, 4999), *_MAESTRO),
}


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
    account = re.sub(rb"[ .-]", b"", data[start:end]).decode("ascii", "replace").upper()
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


_VERSION_WORDS: Final = tuple(
    word.encode()
    for word in words(
        "version versions ver v release build chrome chromium headlesschrome edg edge opr safari "
        "firefox vivaldi yabrowser samsungbrowser"
    )
)


def ipv4(data: bytes, start: int, end: int) -> bool:
    """An address, not a version after a word for one, nor the beginning of a longer number.

    Five numbers are a version or an object identifier, unless one is too great for those.
    """
    before = data[max(0, start - 20) : start].lower().rstrip(b' /:="')
    if before.endswith(_VERSION_WORDS):
        return False
    longer = data[end : end + 1] == b"." and data[end + 1 : end + 2].isdigit()
    return not longer or any(len(number) == 3 for number in data[start:end].split(b"."))


def ipv6(data: bytes, start: int, end: int) -> bool:
    """An address as RFC 4291 writes it, not two words of code with ``::`` between."""
    from ipaddress import IPv6Address

    value = data[start:end].split(b"%")[0].split(b"/")[0]
    after = data[end : end + 1]
    if after.isalnum() or after == b"_" or (after == b"." and data[end + 1 : end + 2].isdigit()):
        return False
    if len(value) < 5 and data[start - 1 : start] == b"[" and data[start - 2 : start - 1] > b"0":
        return False  # Every second item of a list: items[::2]
    if value != b"::" and not has_digit(value):
        return False
    try:
        IPv6Address(value.decode("ascii"))
    except ValueError:
        return False
    return value != b"::" or end - start > 2


def mac(data: bytes, start: int, end: int) -> bool:
    """An address that is not all zeros or ones; in three parts, neither words nor numbers."""
    value = data[start:end].lower()
    three = value.count(b"-") == 2 or value.count(b":") == 2
    if three and not (has_letter(value) and has_digit(value)):
        return False
    return len(set(value.translate(None, b":-. "))) > 1


def phone(data: bytes, start: int, end: int) -> bool:
    """As many digits as a number can have (ITU-T E.164)."""
    value = data[start:end]
    if _amid_digits(data, start, end) and not value.startswith(b"+"):
        return False
    least = 7 if value.startswith(b"+") else 10
    return least <= len(digits_of(value)) <= 15


_DATE: Final = re.compile(
    rb"^(?:[0-3]?[0-9][./ -][0-3]?[0-9][./ -](?:19|20)[0-9]{2}"
    rb"|(?:19|20)[0-9]{2}[./-][01]?[0-9][./-])"
)


def national_phone(data: bytes, start: int, end: int) -> bool:
    """As many digits as numbers have within a country, and no date among them.

    Nine digits are many other things in a sentence.
    """
    value = data[start:end]
    digits = len(digits_of(value))
    if value.isdigit():
        known = digits in (10, 11) or (digits == 9 and is_alone(data, start, end))
        return known and not _amid_digits(data, start, end)
    return 9 <= digits <= 12 and not _DATE.match(value) and not _amid_digits(data, start, end)


def phone_abroad(data: bytes, start: int, end: int) -> bool:
    """Twelve digits or thirteen, which countries of two or three digits have."""
    return len(digits_of(data[start:end])) in (12, 13) and not _amid_digits(data, start, end)


def is_alone(data: bytes, start: int, end: int) -> bool:
    """Whether nothing else stands in the text."""
    return not (start and data[start - 1]) and (end == len(data) or not data[end])


def _amid_digits(data: bytes, start: int, end: int) -> bool:
    """Whether more digits stand around: groups of a longer number, a fraction, a time."""
    before, after = data[max(0, start - 2) : start], data[end : end + 2]
    if before[:1].isdigit() and before[1:] in (b" ", b"-", b".", b",", b":"):
        return True
    return after[:1] in (b".", b":", b",", b" ") and after[1:].isdigit()


_PHONE_WORD: Final = re.compile(
    rb"(?i)(?:tel|fon|phone|fax|mobil|handy|gsm|cep|\xe7\x94\xb5|\xe9\x9b\xbb)[^\x00]{0,24}$"
)


def phone_by_word(data: bytes, start: int, end: int) -> bool:
    """Seven digits or more, six after a colon; with the area's code after ``number is``."""
    value = data[start:end]
    before = data[max(0, start - 40) : start]
    told = before.rstrip(b" '\"(").lower()
    least = 6 if told.endswith((b":", b".")) else 7
    if told.rstrip(b":").endswith(b"is") and not _PHONE_WORD.search(before):
        least = 9
    return least <= len(digits_of(value)) <= 15 and not _DATE.match(value)


_NO_NAME: Final = re.compile(
    rb"(?i)^(?:(?:self|this|ctx|context|req|request|env|config|settings|args|options|params|data"
    rb"|process|user|account|session|os|state|props)\.|get|set|new |[0-9.]+$|(?:https?|file)?:)"
)


def user_name(data: bytes, start: int, end: int) -> bool:
    """A name: not a type, not code, not a placeholder."""
    value = data[start:end]
    if value.lower().rstrip(b".") in NOTHING or is_placeholder_name(value):
        return False
    return data[end : end + 1] not in b"([" or end == len(data)


def is_placeholder_name(value: bytes) -> bool:
    """What stands for a name in code or configuration, and names that are numbers."""
    return (
        is_reference(value) or bool(_NO_NAME.match(value)) or value.startswith((b"<", b"%", b"$"))
    )


def person_field(data: bytes, start: int, end: int) -> bool:
    """A name, not the word for one."""
    value = data[start:end]
    return value.lower() not in NOTHING and not is_reference(value)


def us_ssn_loose(data: bytes, start: int, end: int) -> bool:
    """A number that can have been given out, whatever its separators."""
    value = data[start:end].translate(None, b" .-")
    if len(value) != 9 or value[5:] == b"0000" or value[3:5] == b"00":
        return False
    return value[:3] not in (b"000", b"666") and value[:1] != b"9" and len(set(value)) > 1
