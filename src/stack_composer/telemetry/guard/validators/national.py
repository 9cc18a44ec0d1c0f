"""Numbers that states give to people: by check digits and dates, or by their layout.

A value's *layout* is what is left when each digit becomes ``9``, each letter ``A`` and
each separator ``-`` (a slash stays): ``219-09-9999`` is ``999-99-9999``. One look-up of
the layout gives the few numbers that look so, each with its check and its level: SURE
ones (a date or several check digits, or letters in certain places) are taken wherever
they stand; ALONE ones only where the text is nothing else. What is weaker needs a word
before it, and has a rule of its own in rules.toml.

Sources of the algorithms: the issuing authorities' publications and ISO 7064.
"""

from __future__ import annotations

import re
from operator import mul

from .shapes import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, TypeAlias

    Test: TypeAlias = Callable[[str], bool]
    Form: TypeAlias = tuple[bool, Test]

SURE: Final = True
ALONE: Final = False
_SEPARATORS: Final = b" -+./:()[]"
_LAYOUT: Final = bytes(
    57 if 48 <= byte <= 57 else 65 if chr(byte).isalpha() and byte < 128 else 47 if byte == 47
    else 45 if byte in _SEPARATORS else 0
    for byte in range(256)
)  # fmt: skip


def number(data: bytes, start: int, end: int) -> bool:
    """A number of a known layout whose checks hold, and alone if it is a weak one."""
    value = data[start:end]
    text = value.translate(None, _SEPARATORS).upper().decode("ascii", "replace")
    shape = SHAPES.get(len(text))
    if shape is not None and shape.match(text) and _one_case(value):
        return True
    if len(text) == 14 and br_cnpj_letters(text):
        return True
    forms = FORMS.get(value.translate(_LAYOUT))
    if forms is None or _is_fraction(data, end, value):
        return False
    if text.isdigit() and (_is_clock(text) if value.isdigit() else len(set(text)) < 2):
        return False
    alone = _is_alone(data, start, end, value)
    return any((sure or alone) and test(text) for sure, test in forms)


def by_word(data: bytes, start: int, end: int) -> bool:
    """Enough digits to be a number that is worth a word, and no date, time or UUID.

    A vehicle's plate may be short: letters beside a digit are enough.
    """
    value = data[start:end]
    digits = sum(48 <= byte <= 57 for byte in value)
    letters = len(value.translate(None, _NOT_LETTERS)) > 0
    if not digits or not _one_case(value) or _is_fraction(data, end, value):
        return False
    if _DATE.match(value) or _UUID.match(data, start):
        return False
    if len(value) >= 6 and len(set(value)) >= 3 and digits >= (3 if len(value) > digits else 4):
        return True
    return (
        letters and len(value) >= 3 and bool(_PLATE_WORD.search(data[max(0, start - 40) : start]))
    )


_UUID: Final = re.compile(rb"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-")
_NOT_LETTERS: Final = b"0123456789 .-"
_PLATE_WORD: Final = re.compile(
    rb"(?i)(?:plate|plaka|kennzeichen|nummernschild|car reg|vehicle|immatricul|matr\xc3?\xad?i?cula"
    rb"|kenteken|rendsz|registration|\xe8[\xbd\xbb]\xa6?\xe7\x89\x8c|\xeb\xb2\x88\xed\x98\xb8\xed\x8c\x90"
    rb"|\xd0\xb3\xd0\xbe\xd1\x81\xd0\xbd\xd0\xbe\xd0\xbc)[^\x00]{0,20}$"
)
_DATE: Final = re.compile(
    rb"^(?:19|20)[0-9]{2}[-/.][01]?[0-9][-/.]|^[0-3][0-9][-/.][01][0-9][-/.]20"
)


def _is_fraction(data: bytes, end: int, value: bytes) -> bool:
    """A number with a decimal point, in it or right behind it."""
    if data[end : end + 1] == b"." and data[end + 1 : end + 2].isdigit():
        return True
    return value.count(b".") == 1 and value.replace(b".", b"").isdigit()


def _one_case(value: bytes) -> bool:
    return value in (value.upper(), value.lower())


def _is_alone(data: bytes, start: int, end: int, value: bytes) -> bool:
    """The whole text, and no small letters that could be a hash's."""
    if (start and data[start - 1]) or (end < len(data) and data[end]):
        return False
    return value == value.upper() or bool(value.lower().translate(None, b"0123456789abcdef"))


def _is_clock(text: str) -> bool:
    """Seconds, milliseconds and so on since 1970, or a date and time in one number."""
    length = len(text)
    if (
        length in _EPOCH
        and "0978307200" <= text[: length - _EPOCH[length]].zfill(10) < "2082758400"
    ):
        return True
    if length not in (12, 14) or text[:2] != "20" or not _is_day(text[4:6], text[6:8]):
        return False
    return text[8:10] < "24" and text[10:12] < "60"


_EPOCH: Final = {10: 0, 13: 3, 16: 6, 19: 9}


# -- checks: each takes the digits and letters in capitals, without separators ----


def _is_day(month: str, day: str) -> bool:
    return "01" <= month <= "12" and "01" <= day <= "31"


def _near_year(year: str, *, early: bool) -> bool:
    """A year of two digits in which somebody alive was born."""
    return year >= "30" if early else year <= "35"


def _weighted(text: str, weights: Sequence[int]) -> int:
    return sum(weight * int(char, 36) for weight, char in zip(weights, text, strict=False))


def zero(modulus: int, weights: str) -> Test:
    """The weighted sum with the check digit in it is a multiple of ``modulus``."""
    factors = tuple(int(weight) for weight in weights.split(","))
    return lambda text: _weighted(text, factors) % modulus == 0


def last(modulus: int, weights: str, *, complement: bool = False) -> Test:
    """The last digit is the weighted sum of the others, modulo ``modulus`` and 10."""
    factors = tuple(int(weight) for weight in weights.split(","))

    def test(text: str) -> bool:
        total = _weighted(text, factors)
        return (-total if complement else total) % modulus % 10 == int(text[-1])

    return test


def luhn(text: str) -> bool:
    """Every second digit from the right is doubled (ISO/IEC 7812)."""
    digits = [int(char) for char in reversed(text)]
    return sum(digits[::2] + [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]) % 10 == 0


def _table(rows: str) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, row)) for row in rows.split())


_TIMES: Final = _table(
    "0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 "
    "8765932104 9876543210"
)
_TURNS: Final = _table(
    "0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258"
)


def verhoeff(text: str) -> bool:
    """Verhoeff's check digit over the dihedral group of ten."""
    state = 0
    for place, char in enumerate(reversed(text)):
        state = _TIMES[state][_TURNS[place % 8][int(char)]]
    return state == 0


def mod_11_10(text: str) -> bool:
    """ISO 7064's recursive check digit."""
    state = 10
    for char in text[:-1]:
        state = (state + int(char)) % 10 or 10
        state = state * 2 % 11
    return (state + int(text[-1])) % 10 == 1


def both(*tests: Test) -> Test:
    """Every one of ``tests``."""
    return lambda text: all(test(text) for test in tests)


def shaped(pattern: str) -> Test:
    """What begins as ``pattern`` says."""
    match = re.compile(pattern).match
    return lambda text: match(text) is not None


def yymmdd(at: int = 0, *, months: Sequence[int] = (0,)) -> Test:
    """A day of birth as year, month and day; months may be raised to tell the century."""

    def test(text: str) -> bool:
        raised = text[at + 2 : at + 4]
        return any(
            _is_day(f"{int(raised) - more:02}", text[at + 4 : at + 6])
            for more in months
            if int(raised) > more
        )

    return test


def ddmmyy(at: int = 0, *, more: int = 0) -> Test:
    """A day of birth as day, month and year; the day may be raised by ``more``."""

    def test(text: str) -> bool:
        day = int(text[at : at + 2])
        day -= more if day > more else 0
        return _is_day(text[at + 2 : at + 4], f"{day:02}")

    return test


def any_of(*tests: Test) -> Test:
    """One of ``tests``."""
    return lambda text: any(test(text) for test in tests)


def accept(_text: str) -> bool:
    """For a layout that says it all."""
    return True


def _two_checks(text: str, *rows: str) -> bool:
    """Two check digits at the end, each modulo 11, 10 and 11 counting as 0."""
    for place, row in zip((len(text) - 2, len(text) - 1), rows, strict=True):
        rest = _weighted(text, tuple(map(int, row.split(",")))) % 11
        if int(text[place]) != (0 if rest < 2 else 11 - rest):
            return False
    return len(set(text)) > 1


def br_cpf(text: str) -> bool:
    """Brazil, persons."""
    return _two_checks(text, "10,9,8,7,6,5,4,3,2", "11,10,9,8,7,6,5,4,3,2")


def br_cnpj(text: str) -> bool:
    """Brazil, companies."""
    return _two_checks(text, "5,4,3,2,9,8,7,6,5,4,3,2", "6,5,4,3,2,9,8,7,6,5,4,3,2")


def br_cnpj_letters(text: str) -> bool:
    """Brazil, companies from 2026 on: letters count as their code less that of 0."""
    if (
        not text.isalnum()
        or not text[12:].isdigit()
        or text.isdigit()
        or not text[:12].strip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    ):
        return False
    values = [ord(char) - 48 for char in text]
    for place in (12, 13):
        weights = [2 + (place - 1 - at) % 8 for at in range(place)]
        rest = sum(map(mul, weights, values)) % 11
        if values[place] != (0 if rest < 2 else 11 - rest):
            return False
    return True


def tr_tckn(text: str) -> bool:
    """Turkey: the tenth digit from odd and even places, the last from the sum."""
    digits = [int(char) for char in text]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return text[0] != "0" and digits[9] == tenth and digits[10] == sum(digits[:10]) % 10


def de_idnr(text: str) -> bool:
    """Germany, taxes: of the first ten digits one stands twice or three times, or none."""
    kinds = len(set(text[:10]))
    return text[0] != "0" and (kinds >= 8) and mod_11_10(text) and _one_repeats(text[:10])


def _one_repeats(text: str) -> bool:
    counts = sorted(map(text.count, set(text)))
    return counts[-1] <= 3 and (len(counts) < 2 or counts[-2] == 1)


def pl_pesel(text: str) -> bool:
    """Poland: a date whose month tells the century, and a check digit."""
    month = int(text[2:4])
    early = month <= 12
    day = _is_day(f"{month if early else month - 20:02}", text[4:6])
    return day and _near_year(text[:2], early=early) and _PESEL(text)


_PESEL: Final = last(10, "1,3,7,9,1,3,7,9,1,3", complement=True)


def no_fnr(text: str) -> bool:
    """Norway: a date and two check digits."""
    first = zero(11, "3,7,6,1,8,9,4,5,2,1")
    second = zero(11, "5,4,3,2,7,6,5,4,3,2,1")
    month = int(text[2:4])
    real = text[:2] + f"{month - 80 if month > 80 else month:02}"  # raised by 80 in tests
    return _DDMMYY_40(real) and first(text) and second(text)


_DDMMYY_40: Final = ddmmyy(more=40)


def be_nn(text: str) -> bool:
    """Belgium: a date and the complement modulo 97, a 2 in front from the year 2000 on.

    Months are raised by 20 or 40 for who is not registered there.
    """
    check = int(text[9:])
    days = _BIS_DATE(text)
    return days and any(97 - int(front + text[:9]) % 97 == check for front in ("", "2"))


_BIS_DATE: Final = yymmdd(months=(0, 20, 40))


def ee_lt(text: str) -> bool:
    """Estonia and Lithuania: the century and sex, a date, a check digit in two steps."""
    if text[0] not in "3456" or not _is_day(text[3:5], text[5:7]):
        return False
    if not _near_year(text[1:3], early=text[0] in "34"):
        return False
    rest = _weighted(text, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if rest == 10:
        rest = _weighted(text, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11
    return rest % 10 == int(text[10])


def au_abn(text: str) -> bool:
    """Australia, businesses: modulo 89, the first digit less one."""
    first = str(int(text[0]) - 1) if text[0] != "0" else "0"
    weights = (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)
    return text[0] != "0" and _weighted(first + text[1:], weights) % 89 == 0


def ru_inn12(text: str) -> bool:
    """Russia, taxes of persons: two check digits."""
    eleventh = _weighted(text, (7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    twelfth = _weighted(text, (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    return text[:2] != "00" and (eleventh, twelfth) == (int(text[10]), int(text[11]))


def ru_snils(text: str) -> bool:
    """Russia, pensions: modulo 101."""
    total = _weighted(text[:9], (9, 8, 7, 6, 5, 4, 3, 2, 1))
    return total % 101 % 100 == int(text[9:])


def kr_rrn(text: str) -> bool:
    """Korea: a date and a check digit, greater by 2 for foreigners."""
    rest = 11 - _weighted(text, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11
    return _YYMMDD(text) and int(text[12]) == (rest + 2 * (text[6] in "5678")) % 10


_YYMMDD: Final = yymmdd()


def _se_date(text: str) -> bool:
    """A day of birth, raised by 60 for who is not registered there."""
    day = int(text[4:6])
    return _is_day(text[2:4], f"{day - 60 if day > 60 else day:02}")


def se_long(text: str) -> bool:
    """Sweden, with the century: a date and Luhn's check digit."""
    return text[:2] in ("19", "20") and _se_date(text[2:]) and luhn(text[2:])


def at_vnr(text: str) -> bool:
    """Austria: the check digit stands fourth, before the date."""
    total = _weighted(text, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6))
    return text[0] != "0" and total % 11 == int(text[3]) and _is_day(text[6:8], text[4:6])


def is_kennitala(text: str) -> bool:
    """Iceland: a date, the check digit ninth, the century last."""
    total = _weighted(text, (3, 2, 7, 6, 5, 4, 3, 2, 1))
    return text[9] in "089" and _DDMMYY(text) and total % 11 == 0


def bg_egn(text: str) -> bool:
    """Bulgaria: a date whose month tells the century, and modulo 11 and 10."""
    month = int(text[2:4])
    early = month <= 12
    day = _is_day(f"{month if early else month - (20 if month <= 32 else 40):02}", text[4:6])
    total = _weighted(text, (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10
    return day and (20 < month <= 32 or _near_year(text[:2], early=early)) and total == int(text[9])


def cz_rc(text: str) -> bool:
    """Czechia and Slovakia: a date, women's months raised by 50, and modulo 11."""
    return _RC_DATE(text) and int(text) % 11 == 0 and (text[:2] >= "54" or text[:2] <= "35")


def gr_amka(text: str) -> bool:
    """Greece: a date and Luhn's check digit."""
    return _DDMMYY(text) and luhn(text)


def ro_cnp(text: str) -> bool:
    """Romania: sex and century, a date, a county, and modulo 11, 10 counting as 1."""
    total = _weighted(text, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    check = "01234567891"[total]
    return text[0] != "0" and _is_day(text[3:5], text[5:7]) and check == text[12]


def fr_spi(text: str) -> bool:
    """France, taxes of persons: modulo 511."""
    return text[0] in "0123" and int(text[:10]) % 511 == int(text[10:])


def id_nik(text: str) -> bool:
    """Indonesia: a region, a date (women's days raised by 40), one of the first of its day."""
    return "11" <= text[:2] <= "96" and _NIK_DATE(text) and text[12:14] == "00"


def id_npwp(text: str) -> bool:
    """Indonesia, taxes: Luhn's check digit over the first nine."""
    return luhn(text[:9]) and text[:9] != "000000000"


def au_medicare(text: str) -> bool:
    """Australia, health insurance: modulo 10, the ninth digit."""
    total = _weighted(text, (1, 3, 7, 9, 1, 3, 7, 9))
    return text[0] in "23456" and total % 10 == int(text[8])


def no_isbn(text: str) -> bool:
    """A number that cannot be a book's."""
    total = _weighted(text[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2))
    return text[9] != "X" or (total + 10) % 11 != 0


def no_hash(text: str) -> bool:
    """A letter among the digits that hexadecimal numbers have not."""
    return len(text.strip("0123456789ABCDEF")) > 0


def es_nuss(text: str) -> bool:
    """Spain, social security: a province, and modulo 97 without the zeros behind it."""
    body = int(text[:2] + text[2:10].lstrip("0").zfill(7))
    province = "01" <= text[:2] <= "53" or text[:2] == "66"
    return province and text[2:10] != "00000000" and body % 97 == int(text[10:])


def mx_clabe(text: str) -> bool:
    """Mexico, bank accounts: a bank, and 3-7-1 of which each product loses its tens."""
    total = sum(
        weight * int(char) % 10 for weight, char in zip((3, 7, 1) * 6, text[:17], strict=False)
    )
    return _CLABE_BANK(text) and -total % 10 == int(text[17])


def ar_cbu(text: str) -> bool:
    """Argentina, bank accounts: two blocks, each with its check digit."""
    first = -_weighted(text[:7], (7, 1, 3, 9, 7, 1, 3)) % 10 == int(text[7])
    return first and -_weighted(text[8:21], (3, 9, 7, 1) * 4) % 10 == int(text[21])


def nl_btw(text: str) -> bool:
    """Netherlands, value added tax: a number of a citizen or company, B, and a count."""
    return text[9] == "B" and _ELEVEN(text[:9])


def za_id(text: str) -> bool:
    """South Africa: a date, the citizenship and Luhn's check digit."""
    return _YYMMDD(text) and text[10] in "012" and text[11] in "89012" and luhn(text)


def siret(text: str) -> bool:
    """France, companies: Luhn's check digit over the first nine and over all."""
    return text[:2] != "00" and luhn(text) and luhn(text[:9])


def fr_nir(text: str) -> bool:
    """France, persons: sex, year, month, and the complement modulo 97."""
    text = text.replace("2A", "19").replace("2B", "18")  # Corsica
    if not text.isdigit():
        return False
    month = int(text[3:5])
    born = month <= 12 or 20 <= month <= 42 or month >= 50
    return text[0] in "12" and born and 97 - int(text[:13]) % 97 == int(text[13:])


def cn_id(text: str) -> bool:
    """China: a region, a date, and a check character modulo 11 (ISO 7064, MOD 11-2)."""
    born = text[6:8] in ("19", "20") and _is_day(text[10:12], text[12:14])
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return born and "10X98765432"[_weighted(text, weights) % 11] == text[17]


def fi_hetu(text: str) -> bool:
    """Finland: a date and a check character modulo 31."""
    number = text[:6] + text[-4:-1]
    return _DDMMYY(text) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number) % 31] == text[-1]


_DDMMYY: Final = ddmmyy()
_SPANISH: Final = "TRWAGMYFPDXBNJZSQVHLCKE"


def es_dni(text: str) -> bool:
    """Spain: the letter of the number modulo 23; X, Y and Z in front are 0, 1 and 2."""
    digits = str("XYZ".find(text[0])) + text[1:-1] if text[0] in "XYZ" else text[:-1]
    return digits.isdigit() and _SPANISH[int(digits) % 23] == text[-1]


def ie_pps(text: str) -> bool:
    """Ireland: a letter modulo 23; a second letter counts nine times its place."""
    total = _weighted(text[:7], (8, 7, 6, 5, 4, 3, 2)) + (
        9 * (ord(text[8]) - 64) if text[8:] else 0
    )
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == text[7] or text[8:] in ("W", "T", "X")


def es_cif(text: str) -> bool:
    """Spain, companies: a letter in front and Luhn's check digit."""
    return text[0] in "ABCDEFGHJNPQRSUVW" and luhn(text[1:])


def sg_nric(text: str) -> bool:
    """Singapore: a letter modulo 11, by the letter in front."""
    total = _weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(text[0], 0)
    table = {"S": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "M": "XWUTRQPNJLK"}
    letters = table[{"T": "S", "G": "F"}.get(text[0], text[0])] if text[0] in "STFGM" else ""
    return bool(letters) and letters[total % 11] == text[8]


def tw_id(text: str) -> bool:
    """Taiwan: the letter's two digits, sex, and a check digit."""
    code = "ABCDEFGHJKLMNPQRSTUVXYWZIO".find(text[0]) + 10
    total = code // 10 + code % 10 * 9 + _weighted(text[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))
    return text[1] in "1289" and total % 10 == 0


def de_rvnr(text: str) -> bool:
    """Germany, pensions: a date, a letter, and cross sums modulo 10."""
    letter = f"{ord(text[8]) - 64:02}"
    digits = text[:8] + letter + text[9:11]
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    total = sum(sum(divmod(w * int(d), 10)) for w, d in zip(weights, digits, strict=True))
    return _is_day(text[4:6], "01" if text[2:4] > "31" else text[2:4]) and total % 10 == int(
        text[11]
    )


def de_kvnr(text: str) -> bool:
    """Germany, health insurance: the letter's number, and cross sums modulo 10."""
    digits = f"{ord(text[0]) - 64:02}{text[1:9]}"
    total = sum(sum(divmod((1 + at % 2) * int(d), 10)) for at, d in enumerate(digits))
    return total % 10 == int(text[9])


def dea(text: str) -> bool:
    """United States, prescribers."""
    total = _weighted(text[2:8], (1, 2, 1, 2, 1, 2))
    return text[0] in "ABCDEFGHJKLMPRSTUX" and total % 10 == int(text[8])


def npi(text: str) -> bool:
    """United States, providers of health care: Luhn's check digit behind 80840."""
    return text[0] in "12" and luhn("80840" + text)


def aba(text: str) -> bool:
    """United States, banks: a district and 3-7-1."""
    district = int(text[:2])
    return (1 <= district <= 12 or 21 <= district <= 32) and _ABA(text)


_ABA: Final = zero(10, "3,7,1,3,7,1,3,7,1")


def it_vat(text: str) -> bool:
    """Italy, taxes of businesses: a province's office and Luhn's check digit."""
    office = int(text[7:10])
    return text[0] == "0" and text[:7] != "0000000" and 1 <= office <= 121 and luhn(text)


def cuit(text: str) -> bool:
    """Argentina: the kind of person, a number that was given out, and modulo 11."""
    people = text[:2] in ("20", "23", "24", "27") and "03" <= text[2:4] <= "59"
    return (people or (text[:2] in ("30", "33", "34") and text[2] in "567")) and _CUIT(text)


_CUIT: Final = zero(11, "5,4,3,2,7,6,5,4,3,2,1")


def cl_rut(text: str) -> bool:
    """Chile: modulo 11, 10 being K."""
    weights = (2, 3, 4, 5, 6, 7, 2, 3, 4)
    rest = -_weighted(text[-2::-1], weights) % 11
    return text[:-1].isdigit() and text[-1] == ("K" if rest == 10 else str(rest))


def vat(text: str) -> bool:
    """A value added tax number of Europe: its country's length, and check digits."""
    country, digits = text[:2], text[2:]
    if len(digits) not in _VAT_DIGITS.get(country, ()) or len(set(digits)) < 2:
        return False
    return not digits.isdigit() or _VAT_CHECKS.get(country, accept)(digits)


def _be_vat(text: str) -> bool:
    return 97 - int(text[:8]) % 97 == int(text[8:])


def _fr_vat(text: str) -> bool:
    return (12 + 3 * (int(text[2:]) % 97)) % 97 == int(text[:2])


def _lu_vat(text: str) -> bool:
    return int(text[:6]) % 89 == int(text[6:])


_VAT_CHECKS: Final[dict[str, Test]] = {
    "BE": _be_vat,
    "DE": mod_11_10,
    "DK": zero(11, "2,7,6,5,4,3,2,1"),
    "FI": zero(11, "7,9,10,5,8,4,2,1"),
    "FR": _fr_vat,
    "HR": mod_11_10,
    "IT": luhn,
    "LU": _lu_vat,
    "PL": zero(11, "6,5,7,2,3,4,5,6,7,-1"),
}
"""Countries whose numbers of digits alone have a check digit (VIES)."""


_VAT_DIGITS: Final = {
    country: tuple(map(int, lengths.split(",")))
    for country, lengths in (
        row.split(":")
        for row in words(
            "BE:10 BG:9,10 CZ:8,9,10 DE:9 DK:8 EE:9 EL:9 FI:8 FR:11 GB:9,12 HR:11 HU:8 IT:11 "
            "LT:9,12 LU:8 LV:11 MT:8 PL:10 PT:9 RO:9,10 SE:12 SI:8 SK:10"
        )
    )
}


def de_card(text: str) -> bool:
    """Germany, passports and identity cards: an office's letter, no vowels."""
    return len(text.strip("CFGHJKLMNPRTVWXYZ0123456789")) == 0


_ELEVEN: Final = zero(11, "9,8,7,6,5,4,3,2,-1")
_CLABE_BANK: Final = shaped(
    "0(?:02|06|09|12|14|19|21|30|32|36|37|42|44|58|59|60|62|72)"
    "|1(?:0[68]|1[0-3]|2[4-9]|3[0-9]|4[0135-8]|5[0-8]|6[068])|6(?:[0-6][0-9]|70)|90[1-3]"
)
_NINO: Final = shaped("(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][0-9]{6}[A-D]")
_ITIN: Final = shaped("9[0-9]{2}(?:5[0-9]|6[0-5]|7[0-9]|8[0-8]|9[0-24-9])")
_PROVINCE: Final = shaped("0[1-9]|[1-7][0-9]|8[01]")
_POSTCODE: Final = shaped("[A-PR-UWYZ][A-HK-Y]?[0-9][0-9A-Z]?[0-9][ABD-HJLNP-UW-Z]{2}$|GIR0AA")
_SE_SHORT: Final = any_of(ddmmyy(), _se_date, shaped("[0-9]{2}[2-9]"))
_JMBG: Final = last(11, "7,6,5,4,3,2,7,6,5,4,3,2", complement=True)
_EG_REGION: Final = shaped("[23][0-9]{6}(?:0[1-4]|1[1-9]|2[1-9]|3[1-5]|88)")
_RC_DATE: Final = yymmdd(months=(0, 20, 50, 70))


def _every(test: str, *lengths: int) -> str:
    return " ".join(f"{test}{length}" for length in lengths)


def _layouts(text: str) -> list[bytes]:
    """Each layout named in ``text``: ``D3-D4A1`` is ``999-9999A``."""
    return [
        re.sub(
            "([DA])([0-9]+)",
            lambda run: ("9" if run[1] == "D" else "A") * int(run[2]),
            name,
        ).encode()
        for name in words(text)
    ]


_IMEI: Final = shaped("35|86|01|49|45|99|52|53")
_EC_PROVINCE: Final = shaped("0[1-9]|1[0-9]|2[0-4]|30")
_NIK_DATE: Final = ddmmyy(6, more=40)
_GROUPED: Final = (
    "D1-D4-D4 D1-D3-D6 D1-D3-D3 D1-D2-D5-D1 D4-D6-D3-D1 D4-D4-D5 D4-D5-D4 D3-D6-D4A1 D3-D3-D3-D1 "
    "D1-D3-D3-D1 D2-D3-D3-D1 D3-D5-D2-D1 D4-D3-D3-A2 D3-D7-D2 D4-D2-D3 D5-D5 D3-D6-D1 D2-D9-D1 "
    "D2-D7-D1 D1-D2-D1-D3-D5-D1 D1-D4-D4-D4 D2-D2-D2-D4-D1 D6-D4-D2-D1 D6-D4-D3 D4-D4-D4-D4 "
    "D2-D2-D6 D3-D4-D3 D2-D4-D7-D2 D2-D4-D7-D3 D4-D2-D5 D3/D3/D4 D1/D6/D1 D2-D3/D4 D3/D3/D4-D1 "
    "D8-D1-A2D1 D8D1A2D1 D9A2D1 D9A2D4 D5-D4 D3-D3-D3A2D4"
)
"""How countries write numbers whose check digit is missing or weak."""


def dashed(text: str) -> bool:
    """Seven characters, or fewer with a check digit modulo 11: years are written so too."""
    return len(text) >= 7 or _gt_nit(text)


def _gt_nit(text: str) -> bool:
    rest = -_weighted(text[-2::-1], (2, 3, 4, 5, 6, 7)) % 11
    return text[:-1].isdigit() and "0123456789K"[rest] == text[-1]


_KFZ: Final = " ".join(
    f"A{town}-A{mark}-D{count}{end}"
    for town in (1, 2, 3)
    for mark in (1, 2)
    for count in (1, 2, 3, 4)
    for end in ("", "A1")
)
# Without spaces only the longer ones: SQL's states are as short (08P01).
_TR_PLATES: Final = "D2A3D2 D2A3D3 D2A3D4 D2A2D4 " + " ".join(
    f"D2-A{mark}-D{count}" for mark in (1, 2, 3) for count in (2, 3, 4)
)

_ROWS: Final[tuple[tuple[bool, str, Test], ...]] = (
    # digits alone
    (ALONE, "D9", aba),
    (SURE, "D4-D4-D1", aba),
    (ALONE, "D3-D3-D3", any_of(
        luhn, zero(11, "1,4,3,7,5,8,6,9,10"), last(10, "8,7,6,5,4,3,2,1", complement=True),
        zero(11, "9,8,7,6,5,4,3,2,-1"), last(11, "9,8,7,6,5,4,3,2", complement=True),
        last(11, "3,2,7,6,5,4,3,2", complement=True),
    )),
    (SURE, "D3-D6 D3-D2-D4", _ITIN),
    (ALONE, "D2-D7", shaped("[0-9]{2}")),
    (SURE, "D3-D3-D4", zero(11, "10,9,8,7,6,5,4,3,2,1")),
    (SURE, "D10", any_of(both(_se_date, luhn), at_vnr, is_kennitala, bg_egn, cz_rc)),
    (SURE, "D10", both(_DDMMYY, zero(11, "4,3,2,7,6,5,4,3,2,1"))),
    (SURE, "D4-D6", at_vnr),
    (ALONE, "D6-D3-D1 D4-D3-D3", accept),
    (SURE, "D6-D4", both(_SE_SHORT, any_of(luhn, _DDMMYY))),
    (SURE, "D6-D4", fi_hetu),
    (SURE, "D6/D3", _RC_DATE),
    (SURE, "D6/D4", both(_RC_DATE, zero(11, "1,10,1,10,1,10,1,10,1,10"))),
    (SURE, "D3-D2-D5", last(10, "1,3,7,1,3,7,1,3,5")),
    (SURE, "D4-D5-D1", au_medicare),
    (SURE, "D4-D3-D3", npi),
    (SURE, "D3-D3-D2-D2 D3-D2-D2-D3", zero(11, "6,5,7,2,3,4,5,6,7,-1")),
    (SURE, "D11", any_of(tr_tckn, de_idnr, pl_pesel, no_fnr, be_nn)),
    (SURE, "D11", any_of(ee_lt, br_cpf, it_vat, gr_amka, cuit)),
    (SURE, "D2-D3-D3-D3", any_of(au_abn, de_idnr)),
    (SURE, "D2-D2-D2-D3-D2", be_nn),
    (SURE, "D6-D5", any_of(no_fnr, ddmmyy(), shaped("3[2-9]"))),
    (SURE, "D3-D3-D3-D2", any_of(br_cpf, ru_snils)),
    (SURE, "D2-D8-D1", cuit),
    (SURE, "D3-D7-D1", luhn),
    (SURE, "D12", any_of(ru_inn12, se_long, es_nuss)),
    (SURE, "D2-D8-D2 D2/D8/D2 D2-D10", es_nuss),
    (SURE, "D8-D4", se_long),
    (SURE, "D12", both(yymmdd(), shaped("[0-9]{6}[1-6]"), last(11, "1,2,3,4,5,6,7,8,9,10,11"))),
    (SURE, "D4-D4-D4", verhoeff),
    (ALONE, "D4-D4-D4", last(11, "6,5,4,3,2,7,6,5,4,3,2", complement=True)),
    (SURE, "D6-D2-D4", yymmdd()),
    (SURE, "D2-D2-D6-D2", shaped("1[1-9]|2[0-8]")),
    (ALONE, "D3-D3-D3-D3 D3-D3-D3-D5", shaped("[0-9]{3}")),
    (ALONE, "D4-D7-D1", accept),
    (SURE, "D13", any_of(kr_rrn, za_id)),
    (SURE, "D13", both(shaped("756"), last(10, "1,3,1,3,1,3,1,3,1,3,1,3", complement=True))),
    (SURE, "D13", both(_DDMMYY, shaped("[0-9]{4}[90]"), _JMBG)),
    (SURE, "D13 D2-D2-D3-D3-D3", any_of(ro_cnp, fr_spi)),
    (SURE, "D13 D10-D3", both(_EC_PROVINCE, shaped("[0-9]{10}001"))),
    (SURE, "D11", both(shaped("402|0"), luhn)),
    (SURE, "D12 D2-D6-D3-D1", shaped("(?:0[1-9]|1[0-9]|2[01])[0-9]{6}001")),
    (SURE, "D16", id_nik),
    (SURE, "D15", both(shaped("0"), id_npwp)),
    (SURE, "D15", both(_IMEI, luhn)),
    (SURE, "D2-D6-D6-D1 D2-D6-D6-D2 D2-D6-D6 D8-D6 D8-D6-D1", _IMEI),
    (SURE, "D2-D3-D3-D1-D3-D3", id_npwp),
    (ALONE, _GROUPED, accept),
    (ALONE, "D6-D1 D7-D1 D8-D1 D9-D1 D4-D1 D5-D1 D6-A1 D5-A1", dashed),
    (SURE, "D3-D4-D4-D2", shaped("756")),
    (SURE, "D6-D7", _YYMMDD),
    (SURE, "D1-D4-D5-D2-D1", shaped("[1-8]")),
    (SURE, "D5-D7-D1", shaped("[1-7]")),
    (SURE, "D14 D2-D3-D3/D4-D2", br_cnpj),
    (SURE, "D14 D3-D3-D3-D5", siret),
    (SURE, "D14", both(yymmdd(1), _EG_REGION)),
    (SURE, "D15 D3-D4-D7-D1", both(shaped("784"), luhn)),
    (SURE, "D15 D1-D2-D2-D2-D3-D3-D2 D1-D2-D2-D5-D3-D2 D6A1D8 D1-D2-D2-D1A1-D3-D3-D2", fr_nir),
    (SURE, "D18 D17A1", cn_id),
    (SURE, "D18", mx_clabe),
    (SURE, "D22", ar_cbu),
    (ALONE, "D4-D6", shaped("[0-9]{2}(?:9[7-9]|[0-3][0-9])")),
    (SURE, "D2-D3-D3-D1 D2-D3-D3-A1 D8-A1 D7-A1", cl_rut),
    (ALONE, "D3/D3/D5 D2/D3/D5 D3/D4/D4 D2/D4/D4 D2/D3/D4 D5/D5", accept),
    # letters and digits
    (SURE, "D8A1 D7A1 D8-A1 D7-A1 A1D7A1 A1D7-A1 A1-D7-A1", es_dni),
    (SURE, "D7A1 D7A2", ie_pps),
    (SURE, "A1D8 A1-D8", es_cif),
    (SURE, "A1D7A1", sg_nric),
    (ALONE, "A1D7A1 D8A1", accept),
    (ALONE, "D9A1", no_isbn),
    (SURE, "D2-A1-D5 D2A1-D5 D2-A1-D3-D2", accept),
    (SURE, "D2A1D5", no_hash),
    (SURE, "A1D6-D1- A2D6-D1- A1D6-A1- A2D6-A1-", accept),
    (ALONE, "A1D6A1 A1-D6-A1 A1D8A1 A1-D8 A1-D7 A1-D6 A2-D6 A2-D8-D1 A1-D8-D1 A3-D9-D1", accept),
    (SURE, "A1D10", shaped("[PCGQV]00")),
    (SURE, "A1D12A1 A1D13", ddmmyy(1)),
    (ALONE, "A4D8 A4-D4-D4 A4D5A1 A2D13 A6D8A1D3 A2D5 A1D10 A1D5A1 A1D6", accept),
    (SURE, "A1D2A2D4A1", shaped("[TSR]")),
    (SURE, "D6A1D3A1 D6A1D4 D6-D3A1", fi_hetu),
    (SURE, "D8A1D3 D2-D6-A1-D3 D2-D6-A1D3", de_rvnr),
    (SURE, "D9A1D2", nl_btw),
    (SURE, "D10A1", shaped("[0-9]{10}K")),
    (ALONE, "D12A1", accept),
    (SURE, "A1D9", any_of(de_kvnr, tw_id)),
    (ALONE, "A1D9A1 A2D8A1 A1D11 A1D12 A1D13 A1D14", accept),
    (SURE, "A2D8 A2D9 A2D10 A2D11 A2D12 A2-D9 A2-D3-D3-D3 A2-D10 A2-D11", vat),
    (SURE, "A2-D2-D3-D3-D3 A2D3-D3-D2-D2 A2-D3-D3-D2-D2 A2D1A1D9 A3D10", vat),
    (SURE, "A2-D3-D4-D2 A2D3-D4-D2", shaped("GB")),
    (SURE, "A2D8A1", shaped("CY")),
    (SURE, "A2D9A3", shaped("NO[0-9]{9}MVA")),
    (SURE, "A3D8 A3-D8", any_of(shaped("ATU"), both(shaped("ES"), lambda text: es_cif(text[2:])))),
    (SURE, "A2D9A1D2 A2-D9A1D2", shaped("NL[0-9]{9}B")),
    (SURE, "A3D9 A3-D3-D3-D3", shaped("CHE|IRL")),
    (SURE, "A2D7", dea),
    (SURE, "A3D6", both(
        shaped("[A-Z]"), lambda text: _weighted(text, (7, 3, 1, 9, 7, 3, 1, 7, 3)) % 10 == 0)),
    (ALONE, "A2D7 A2-D7 D7A2 A2D5A2 A3D6 A3D7 A2D6 D6A2 A1D7 A1D8 A1D4A5 D2A2D5", accept),
    (SURE, "A2D7A1", accept),
    (ALONE, "A2D2A2D4 A2D2A1D4 A2D1A3D4", accept),
    (SURE, "A1D3A1D4", shaped("[MSRODG]")),
    (SURE, "A5D4A1 A6D2A1D2A1D3A1", accept),
    (SURE, "A2D6A1 A2-D2-D2-D2-A1 A2-D6-A1 A2-D6A1 A2D6-A1 A2-D3-D3-A1 A2-D3-D3A1", _NINO),
    (SURE, "A1D1-D1A2 A2D1-D1A2 A1D2-D1A2 A2D2-D1A2 A1D1A1-D1A2 A2D1A1-D1A2 A3-D1A2", _POSTCODE),
    (ALONE, "A1D2A2 A2D2A2 A1D3A2 A2D3A2 A1D1A1D1A2 A2D1A1D1A2 A3D1A2", _POSTCODE),
    (ALONE, "A2D2-A3 A2D2A3 A1D1-A3 A1D2-A3 A1D3-A3 A1D3A3 A3-D1A1 A3-D2A1 A3-D3A1 A3D3A1", accept),
    (ALONE, _KFZ, accept),
    (ALONE, _TR_PLATES, _PROVINCE),
    (ALONE, "A3-D3A2 A3D3A2 A2D3A2 A2-D3-A2 A3D1A1D2 A3-D1A1D2 D1-A3-D3", accept),
    (ALONE, "A2D2A1D4 A2-D2-A1-D4 A2-D2-A2-D4 A2-D2A2-D4 A2-D2A1-D4 A2-D2-A2D4", accept),
    (ALONE, "D2-D2-A2 A2-D2-D2 A3D4A1 A3-D4-A1 A3-D4A1", accept),
    (SURE, _every("A3-D", 1, 2, 3, 4, 5, 6) + " A3D4 A3D5 A3D6", shaped("HR[AB]")),
    (SURE, "A1D9A1", shaped("[AP]")),
)  # fmt: skip


def _forms() -> dict[bytes, list[Form]]:
    forms: dict[bytes, list[Form]] = {}
    for sure, layouts, test in _ROWS:
        for layout in _layouts(layouts):
            forms.setdefault(layout, []).append((sure, test))
    return forms


FORMS: Final = _forms()
SHAPES: Final = {
    9: re.compile("[CFGHJKLMNPRTVWXYZ](?=(?:[A-Z]*[0-9]){5})[CFGHJKLMNPRTVWXYZ0-9]{8}$"),
    10: re.compile("[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}[0-9]D?$|U1[A-Z0-9]{7}[A-Z]$"),
    11: re.compile(
        "[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9][0-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9][0-9]"
        "[AC-HJKMNP-RT-Y]{2}[0-9]{2}$|[A-Z]{2}[0-9]{8}[0-9A-Z]$"
    ),
    12: re.compile("[A-Z&]{3}[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9][A-Z0-9]{2}[0-9A]$"),
    13: re.compile(
        "[A-Z&]{4}[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9][A-Z0-9]{2}[0-9A]$"
        "|[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9][0-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9][0-9]"
        "[AC-HJKMNP-RT-Y]{2}[0-9]{2}$"
    ),
    15: re.compile("(?:0[1-9]|[12][0-9]|3[0-8])[A-Z]{5}[0-9]{4}[A-Z][0-9A-Z][A-Z][0-9A-Z]$"),
    16: re.compile(
        "[A-Z]{1,5}9{0,4}[0-9][0156][0-9][0-3][0-9]{2}[A-Z9]{2}[0-9A-Z]{3}$"
        "|[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]$"
    ),
    18: re.compile(
        "[A-Z]{1,5}9{0,4}[0-9][0156][0-9][0-3][0-9]{2}[A-Z9]{2}[0-9A-Z]{3}[0-9]{2}$"
        "|9[1-3][0-9]{6}[0-9A-HJ-NPQRTUWXY]{9}[A-HJ-NPQRTUWXY]$"
        "|[A-Z]{4}[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9][HMX][A-Z]{5}[0-9A-Z][0-9]$"
    ),
}
"""By the number of characters, where letters and digits change places."""
