"""What values look like: words for nothing, references, chance. Shared by all validators."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from math import log2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


def words(text: str) -> tuple[str, ...]:
    """The words of a text that is a list of them."""
    return tuple(text.split())


# Plain texts and not one pattern, and str, not bytes: in values this short, looking for
# them one by one takes a tenth of the time that an alternation takes.
_PLACEHOLDER_WORDS: Final = words(
    "xxxxx your example sample placeholder changeme dummy redacted masked removed todo fixme "
    "000000000000 111111111111"
)
_PLACEHOLDER_SIGNS: Final = words(
    "***** ..... ------ ____ #### change-me change_me insert- insert_ replace- replace_ "
    "my-key my_key my-token my_token my-secret my_secret my-pass my_pass"
)
# A field of a template: ${NAME}, $(name), {{ name }}, {name}, <name>, %s, %(name)s.
_TEMPLATE: Final = re.compile(
    rb"^<|[<{(%]$|\$\{[A-Za-z0-9_.:?+-]*\}|\$\(|\{\{[^{}()]*(?:\}\}|$)|\{[A-Za-z_.0-9]*\}|"
    rb"<[A-Za-z][A-Za-z0-9 _-]*>|%[sdr](?![A-Za-z0-9])|%\([A-Za-z_]+\)"
)
_TEMPLATE_SIGNS: Final = frozenset(b"<{$%")
_CODE: Final = ("(", ")", "->", "::", "getenv", "process.env", '"')
_LOOKUP: Final = re.compile(
    rb"(?i)[$%@&!]|(?:os|sys|process|env|environ|self|this|config|settings|request|req|args|ctx"
    rb"|context|options|opts|params|props|data|secrets|vars?|locals?|inputs?|steps)[.\[(]"
    rb"|[A-Za-z_]\w*\.[A-Za-z_]\w*\.[A-Za-z_]\w*$"
)
NOTHING: Final = frozenset(
    word.encode()
    for word in words(
        "null none nil true false undefined empty string str bytes int integer bool boolean "
        "any object optional required default password passwd pass secret token key value text "
        "yes no on off unset not-set not_set unknown missing invalid valid error failed hidden "
        "prompt input reset change forgot username user email test field file base64 plain hash "
        "hashed encrypted name type size"
    )
)


def is_placeholder(value: bytes) -> bool:
    """A value that stands for another: ``<token>``, ``${TOKEN}``, ``your-key``, ``xxxxx``."""
    lowered = value.decode("latin-1").lower()
    for word in _PLACEHOLDER_WORDS:
        if word in lowered:
            return True
    if len(set(value)) < 4:
        return True
    if value.isalnum():
        return False
    if not _TEMPLATE_SIGNS.isdisjoint(value) and _TEMPLATE.search(value):
        return not is_sign_rich(value)
    return any(sign in lowered for sign in _PLACEHOLDER_SIGNS)


def is_reference(value: bytes) -> bool:
    """Code or configuration that looks a value up elsewhere."""
    if value.isalnum():
        return False
    plain = value.decode("latin-1")
    if any(code in plain for code in _CODE):
        return True
    return _LOOKUP.match(value) is not None or value.endswith(b"+")


def has_digit(value: bytes) -> bool:
    """Whether there is an ASCII digit in it."""
    return value.translate(None, b"0123456789") != value


def has_letter(value: bytes) -> bool:
    """Whether there is an ASCII letter in it."""
    return value.lower() != value.upper()


def entropy(value: bytes) -> float:
    """Shannon's entropy in bits per byte."""
    length = len(value)
    total = 0.0
    for count in map(value.count, set(value)):
        total += _COUNT_BITS[count] if count < 64 else count * log2(count)
    return log2(length) - total / length


_COUNT_BITS: Final = (0.0, *(count * log2(count) for count in range(1, 64)))


def decode_base64(value: bytes) -> bytes | None:
    """What it is in base64 of either alphabet, padded or not; None if it is none."""
    plain = value.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        return a2b_base64(plain + b"=" * (-len(plain) % 4))
    except Base64Error:
        return None


def digits_of(value: bytes) -> list[int]:
    """Its ASCII digits as numbers, whatever stands between them."""
    return [byte - 48 for byte in value if 48 <= byte <= 57]


_RUN: Final = re.compile(rb"[A-Za-z]+|[0-9]+")
_SYLLABLE: Final = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_VERSION: Final = re.compile(
    rb"^v?[0-9]+(?:\.[0-9]+)+|^[0-9]{4}-[0-9]{2}-[0-9]{2}|^[0-9]+[a-z]{0,2}$|^0x[0-9a-fA-F]{1,16}$"
)


def is_random(value: bytes, bits: float) -> bool:
    """Letters and digits that change places as often as chance has it.

    Words have long runs of letters; a version, a date or a name with a number changes
    seldom between letters and digits. ``bits`` is the least entropy per byte.
    """
    if not (has_digit(value) and has_letter(value)) or _VERSION.search(value):
        return False
    if entropy(value) < min(bits, log2(len(value)) * 0.75):
        return False
    runs = _RUN.findall(value)
    if len(runs) >= 4 and max(map(len, runs)) <= max(10, len(value) // 2):
        return True
    # Long runs of letters are no words if capitals stand all over them.
    syllables = _SYLLABLE.findall(value)
    return len(value) / len(syllables) <= (3.5 if len(value) >= 20 else 3.0)


# Which letters follow each other in English words and in names of code: the 204 pairs
# that make up 88 % of all pairs in the words of Python's own library. Of words of
# eight letters or more, 97 % have at least WORDY of their pairs among these; of random
# letters of the same length 5 % do, of twenty 1 %.
_PAIRS: Final = frozenset(
    words(
        "ab ac ad ag ai al am an ap ar as at au ay ba be bi bl bo bs bu ca ce ch ci ck cl co cr "
        "ct cu da dd de di do dr ds du ea ec ed ee ef eg el em en ep eq er es et ev ex fa fe ff "
        "fi fl fo fr fu ge gi gn gr gs ha he hi ho ia ib ic id ie if ig il im in io ip ir is it "
        "iv iz ke la ld le li ll lo ls lt lu ly ma me mi mo mp ms na nc nd ne nf ng ni nn no ns "
        "nt nu nv ob oc od og ol om on oo op or os ot ou ov ow pa pe pi pl po pp pr ps pt py qu "
        "ra rc rd re rg ri rm rn ro rr rs rt ru ry sa sc se sh si sl so sp ss st su sy ta tc te "
        "th ti tl to tr ts tt tu ty ub uc ue ui ul um un up ur us ut va ve vi wa we wi xp xt yp ze"
    )
)
_WORDY: Final = 0.6
_JUDGED_BYTES_MAX: Final = 128


def is_wordy(letters: str) -> bool:
    """Whether letters follow each other as they do in words, whatever their case."""
    lowered = letters.lower()
    pairs = len(lowered) - 1
    common = 0
    for at in range(pairs):
        if lowered[at : at + 2] in _PAIRS:
            common += 1
    return common >= pairs * _WORDY


def is_made(value: bytes, chars_min: int) -> bool:
    """Whether a machine made at least half of ``value``, and ``chars_min`` characters of it.

    A piece between signs is no word or number that people write: letters that are no
    words, letters and digits mixed, or twelve digits and more. A series such as
    "abcdef" counts too, so this is for values that a word for credentials stands by.
    """
    plain = value[:_JUDGED_BYTES_MAX].decode("latin-1")
    if "-" in plain and _is_grouped(plain):
        return len(plain) >= chars_min
    made = 0
    for piece in _PIECE.findall(plain):
        if _is_made_piece(piece):
            made += len(piece)
    return made >= chars_min and 2 * made >= len(plain)


def _is_grouped(plain: str) -> bool:
    """A UUID or a licence, with digits in it or in groups of five as licences have."""
    if _LICENCE.match(plain):
        return True
    return _GROUPS.match(plain) is not None and len(plain.translate(_DIGITS_ONLY)) >= 8


_LICENCE: Final = re.compile(r"^[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3,5}$")


def is_run(value: bytes) -> bool:
    """Whether it ends in a letter or digit twelve times: made, be it to fill a form."""
    return value[-12:].isalnum() and len(set(value[-12:])) == 1


def is_sign_rich(value: bytes) -> bool:
    """Six different signs that no name, path or number has: a password of a generator."""
    return len(_SIGNS.intersection(value)) >= 6 and b"://" not in value


_SIGNS: Final = frozenset(b"!@#$%^&*()+={}[]|;<>?~,")
_PIECE: Final = re.compile(r"[A-Za-z0-9]{5,}")
# A UUID, or the groups of a licence: "ABCD1234-EFGH5678-IJKL9101".
_GROUPS: Final = re.compile(
    r"^[0-9A-Za-z]{4,14}(?:-[0-9A-Za-z]{4,14}){3,}$"
    r"|^(?:[A-Za-z]{1,6}[0-9]{2,7}|[0-9]{5,8})(?:-(?:[A-Za-z]{1,6}[0-9]{2,7}|[0-9]{5,8})){2,}$"
)
_NUMBERED: Final = re.compile(
    r"^(?:[A-Za-z]{1,5}[0-9]{1,4}|[0-9]{1,11}[A-Za-z]{0,2}|[0-9]{8}T[0-9]+Z)$"
)
_HEX_DIGITS: Final = "0123456789abcdefABCDEF"
_DIGITS: Final = "0123456789"


def _is_made_piece(piece: str) -> bool:
    if piece.isdigit():
        return len(piece) >= 12
    if len(piece) >= 16 and not piece.strip(_HEX_DIGITS):
        return True
    letters = piece.translate(_WITHOUT_DIGITS)
    digits = len(piece) - len(letters)
    if not digits:
        return len(piece) >= 8 and not is_wordy(piece)
    if _NUMBERED.match(piece):
        return False
    # A word with a number or two: "oauth2callback", "production2024".
    named = digits <= 2 or (digits <= 4 and not piece.rstrip(_DIGITS).strip(letters))
    return not (named and len(letters) >= 5 and is_wordy(letters))


_WITHOUT_DIGITS: Final = {ord(digit): None for digit in _DIGITS}
_DIGITS_ONLY: Final = {byte: None for byte in range(256) if chr(byte) not in _DIGITS}
