"""The arithmetic of check digits, and the bounds of what issuers give out.

Bodies are drawn by chance; of all that may end them, only what the issuer's own rule says
is taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from stack_composer.telemetry.guard.validators import national, persons, shapes, tokens

BODIES = 40
DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Make = Callable[[random.Random], str]
Ends = Callable[[str], str]


def seeded(seed: int) -> random.Random:
    """Chance that comes out the same each time."""
    return random.Random(seed)


def body(form: str) -> Make:
    """Made by ``form``: # is any digit, @ a letter, m a month, d a day, the rest itself."""

    def make(chance: random.Random) -> str:
        pieces = {
            "#": lambda: chance.choice(DIGITS),
            "@": lambda: chance.choice("ABCDEFGHJKLMNPQRSTUVXYWZIO"),
            "m": lambda: f"{chance.randint(1, 12):02}",
            "d": lambda: f"{chance.randint(1, 28):02}",
            "y": lambda: f"{chance.randint(60, 99)}",
        }
        return "".join(pieces[char]() if char in pieces else char for char in form)

    return make


def dot(text: str, weights: str) -> int:
    return sum(
        int(char) * weight
        for char, weight in zip(text, [int(weight, 16) for weight in weights], strict=True)
    )


def cross(number: int) -> int:
    return number // 10 + number % 10


def sum_of_crosses(digits: str, weights: str) -> int:
    return sum(cross(int(char) * int(weight)) for char, weight in zip(digits, weights, strict=True))


def singapore(table: str, more: int) -> Ends:
    return lambda text: table[(dot(text[1:], "2765432") + more) % 11]


def taiwan(text: str) -> str:
    code = 10 + "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0])
    return str(-(code // 10 + code % 10 * 9 + dot(text[1:], "87654321")) % 10)


def argentina(text: str) -> str:
    check = (11 - dot(text, "5432765432") % 11) % 11
    return "" if check == 10 else str(check)


def czechia(text: str) -> str:
    check = -int(text + "0") % 11
    return "" if check == 10 else str(check)


def pension(text: str) -> str:
    """VKVV: the letter stands for its place in the alphabet, with two digits."""
    place = f"{LETTERS.index(text[8]) + 1:02}"
    return str(sum_of_crosses(text[:8] + place + text[9:], "212571212121") % 10)


def health(text: str) -> str:
    place = f"{LETTERS.index(text[0]) + 1:02}"
    return str(sum_of_crosses(place + text[1:], "1212121212") % 10)


CHECKS: dict[str, tuple[str, Ends]] = {
    "ro_cnp 1ymd12###": ("", lambda text: "01234567891"[dot(text, "279146358279") % 11]),
    "ro_cnp 2ymd04###": ("", lambda text: "01234567891"[dot(text, "279146358279") % 11]),
    "cz_rc ymd###": ("", czechia),
    "sg_nric S#######": (LETTERS, singapore("JZIHGFEDCBA", 0)),
    "sg_nric T#######": (LETTERS, singapore("JZIHGFEDCBA", 4)),
    "sg_nric F#######": (LETTERS, singapore("XWUTRQPNMLK", 0)),
    "sg_nric G#######": (LETTERS, singapore("XWUTRQPNMLK", 4)),
    "sg_nric M#######": (LETTERS, singapore("XWUTRQPNJLK", 3)),
    "tw_id @1#######": ("", taiwan),
    "tw_id @8#######": ("", taiwan),
    "cuit 204#######": ("", argentina),
    "cuit 271#######": ("", argentina),
    "cuit 307#######": ("", argentina),
    "de_rvnr ##dmy@##": ("", pension),
    "de_kvnr @########": ("", health),
    "bg_egn ymd###": ("", lambda text: str(dot(text, "2485a9736") % 11 % 10)),
    "aba 01######": ("", lambda text: str(-dot(text, "37137137") % 10)),
    "aba 32######": ("", lambda text: str(-dot(text, "37137137") % 10)),
}


@pytest.mark.parametrize("check", CHECKS)
def test_one_end_alone_is_right(check: str) -> None:
    name, form = check.split()
    alphabet, end_of = CHECKS[check]
    accept = getattr(national, name)
    # Some rules have no number for one body in eleven.
    chance = seeded(5)
    for _ in range(BODIES):
        text = body(form)(chance)
        taken = [end for end in alphabet or DIGITS if accept(text + end)]
        assert taken == [end_of(text)] if end_of(text) else taken == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ro_cnp", "0850101221144"),
        ("tw_id", "A723456789"),
        ("sg_nric", "X1234567D"),
        ("cuit", "20000000019"),
        ("cuit", "30000000007"),
        ("aba", "130000000"),
        ("aba", "000000000"),
        ("npi", "3000000000"),
        ("au_medicare", "1000000010"),
        ("it_vat", "00000000000"),
        ("id_npwp", "000000000000000"),
    ],
)
def test_what_nobody_gives_out_is_let_by(name: str, text: str) -> None:
    assert not getattr(national, name)(text)


def luhn(text: str) -> str:
    total = sum(
        cross(2 * int(char)) if at % 2 == 0 else int(char) for at, char in enumerate(text[::-1])
    )
    return text + str(-total % 10)


ISSUED = [
    (13, 4000, 4999), (13, 5018, 5038), (13, 6304, 6304),
    (14, 3000, 3059), (14, 3095, 3095), (14, 3600, 3699), (14, 3800, 3999),
    (15, 3400, 3499), (15, 3700, 3799), (15, 1000, 1999), (15, 2131, 2149),
    (16, 4000, 4999), (16, 5100, 5599), (16, 2200, 2720), (16, 3528, 3589), (16, 5019, 5019),
    (16, 5060, 5067), (16, 5078, 5099), (16, 8100, 8299), (16, 8600, 8600), (16, 9792, 9792),
    (16, 9860, 9860),
    *((length, at, at) for length in (16, 17, 18, 19) for at in (5018, 5020, 5038)),
    *((length, 5600, 5899) for length in (16, 17, 18, 19)),
    *((length, 6000, 6999) for length in (16, 17, 18, 19)),
    (19, 4000, 4999),
]  # fmt: skip
"""Length of the number, and the first and last four digits that one may begin with."""


@pytest.mark.parametrize(("length", "first", "last"), ISSUED)
def test_cards_begin_as_their_issuers_say(length: int, first: int, last: int) -> None:
    """At both ends of a range, and not beside it unless another one is there."""
    for begin in (first, last, (first + last) // 2):
        assert is_card(begin, length)
    for beside in (first - 1, last + 1):
        assert is_card(beside, length) == any(
            of == length and low <= beside <= high for of, low, high in ISSUED
        )


def is_card(begin: int, length: int) -> bool:
    number = luhn(str(begin) + "1928374650987654"[: length - 5]).encode()
    wrong = number[:-1] + str((number[-1] - 47) % 10).encode()
    assert not persons.card(wrong, 0, length)
    return persons.card(number, 0, length)


def test_no_card_has_twelve_or_twenty_digits_or_one_alone() -> None:
    for length in (12, 20):
        assert not is_card(4000, length)
    assert not persons.card(b"0" * 16, 0, 16)
    assert not is_card(3060, 14)
    assert not is_card(2130, 15)
    assert not is_card(2150, 15)
    assert not is_card(6303, 13)
    assert not is_card(6305, 13)


@pytest.mark.parametrize(
    ("address", "after", "holds"),
    [
        ("1.2.3.4", "", True),
        ("1.2.3.4", ".5", False),
        ("1.2.3.4", ". Then", True),
        ("1.2.3.4", "-5", True),
        ("192.0.2.7", ".5", True),
        ("1.2.3.254", ".5", True),
    ],
)
def test_five_numbers_are_an_address_only_if_one_is_great(
    address: str, after: str, *, holds: bool
) -> None:
    assert persons.ipv4((address + after).encode(), 0, len(address)) is holds


def test_a_number_of_social_security_has_no_part_of_zeros() -> None:
    assert persons.us_ssn(b"219-09-9999", 0, 11)
    for text in (b"000-09-9999", b"219-00-9999", b"219-09-0000", b"666-09-9999", b"900-09-9999"):
        assert not persons.us_ssn(text, 0, 11)


def test_a_filler_is_none_wherever_it_stands() -> None:
    """What stands before the value, or behind it, is not looked at."""
    value = b"q7Zk2mX9vB4nR8tY3wL6"
    for text in (b"x" * 20 + value, value + b"x" * 20):
        start = text.index(value)
        assert tokens.no_filler(text, start, start + 20)
        other = 20 - start
        assert not tokens.no_filler(text, other, other + 20)


@pytest.mark.parametrize(
    ("value", "chars_min", "made"),
    [
        ("q7Zk2mX9", 8, True),
        ("q7Zk2mX9", 9, False),
        ("q7Zk2mX9 password", 8, False),
        ("q7Zk2mX9 passwor", 8, True),
        ("123456789012", 12, True),
        ("12345678901", 11, False),
        ("deadbeefdeadbeef", 16, True),
        ("xkqzvbnw", 8, True),
        ("xkqzvbn", 7, False),
        ("oauth2callback", 8, False),
        ("production2024", 8, False),
    ],
)
def test_what_a_machine_made_is_half_of_it_and_long_enough(
    value: str, chars_min: int, *, made: bool
) -> None:
    assert shapes.is_made(value.encode(), chars_min) is made


def test_entropy_is_bits_per_byte() -> None:
    assert shapes.entropy(b"aaaa") == 0
    assert shapes.entropy(b"abab") == 1
    assert shapes.entropy(bytes(range(16))) == 4
    assert shapes.entropy(b"abcd" * 16) == 2
