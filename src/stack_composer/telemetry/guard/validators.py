"""The last word on a hit: does what the pattern found hold what its form promises?

A pattern knows characters; a validator knows check digits, decodes, and tells a value
made by a machine from a word. Each takes the data and the span of the secret in it,
is total (any bytes, no exception) and looks at the span and a little before it, never
at the rest: its cost is bounded by the pattern's.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from math import log2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def accept(_data: bytes, _start: int, _end: int) -> bool:
    """For a pattern that needs no second look."""
    return True


# -- words for nothing -------------------------------------------------------

# Plain texts and not one pattern, and str, not bytes: in values this short, looking for
# them one by one takes a tenth of the time that an alternation takes.
_PLACEHOLDER_WORDS: Final = _words(
    "xxxxx your example sample placeholder changeme dummy redacted masked removed todo fixme "
    "000000000000 111111111111 abcdefghijklmnopqrstuvwxyz"
)
_PLACEHOLDER_SIGNS: Final = _words(
    "***** ..... ------ ____ #### change-me change_me insert- insert_ replace- replace_ < ${ {{ }} "
    "$( %( %s my-key my_key my-token my_token my-secret my_secret my-pass my_pass"
)
_FORMAT_FIELD: Final = re.compile(rb"\{[A-Za-z_.0-9]*\}")
_CODE: Final = ("(", ")", "->", "::", "getenv", "process.env", '"')
_LOOKUP: Final = re.compile(
    rb"(?i)[$%@&!]|(?:os|sys|process|env|environ|self|this|config|settings|request|req|args|ctx"
    rb"|context|options|opts|params|props|data|secrets|vars?|locals?|inputs?|steps)[.\[(]"
    rb"|[A-Za-z_]\w*\.[A-Za-z_]\w*\.[A-Za-z_]\w*$"
)
_NOTHING: Final = frozenset(
    word.encode()
    for word in _words(
        "null none nil true false undefined empty string str bytes int integer bool boolean "
        "any object optional required default password passwd pass secret token key value text "
        "yes no on off unset unknown missing invalid valid error failed hidden prompt input "
        "reset change forgot username user email test field file base64 plain hash hashed "
        "encrypted name type size"
    )
)


def _is_placeholder(value: bytes) -> bool:
    """A value that stands for another: ``<token>``, ``${TOKEN}``, ``your-key``, ``xxxxx``."""
    lowered = value.decode("latin-1").lower()
    for word in _PLACEHOLDER_WORDS:
        if word in lowered:
            return True
    if len(set(value)) < 4:
        return True
    if value.isalnum():
        return False
    if b"{" in value and _FORMAT_FIELD.search(value):
        return True
    return any(sign in lowered for sign in _PLACEHOLDER_SIGNS)


def _is_reference(value: bytes) -> bool:
    """Code or configuration that looks a value up elsewhere."""
    if value.isalnum():
        return False
    plain = value.decode("latin-1")
    if any(code in plain for code in _CODE):
        return True
    return _LOOKUP.match(value) is not None or value.endswith(b"+")


def no_example(data: bytes, start: int, end: int) -> bool:
    """A token of a known form that is not written out as an example."""
    return not _is_placeholder(data[start:end]) or _entropy(data[start:end]) > 4.2


def mixed(data: bytes, start: int, end: int) -> bool:
    """A token of a known form in which letters and digits mix, as chance has it."""
    value = data[start:end]
    return _has_digit(value) and not _is_placeholder(value)


def _has_digit(value: bytes) -> bool:
    return value.translate(None, b"0123456789") != value


def _has_letter(value: bytes) -> bool:
    return value.lower() != value.upper()


def _entropy(value: bytes) -> float:
    """Shannon's entropy in bits per byte."""
    length = len(value)
    total = 0.0
    for count in map(value.count, set(value)):
        total += _COUNT_BITS[count] if count < 64 else count * log2(count)
    return log2(length) - total / length


_COUNT_BITS: Final = (0.0, *(count * log2(count) for count in range(1, 64)))


# -- structure ---------------------------------------------------------------


def pem(data: bytes, start: int, end: int) -> bool:
    """A private key with some key in it, not a mention of its first line."""
    body = data[start:end].split(b"-----", 3)[2]
    return len(re.findall(rb"[A-Za-z0-9+/=]{16,}", body)) > 0 and not re.search(
        rb"(?i)\.\.\.", body
    )


def jwt(data: bytes, start: int, end: int) -> bool:
    """A token whose first part decodes to what begins as a JSON object."""
    head = data[start:end].split(b".", 1)[0]
    decoded = _decode_base64(head)
    return decoded is not None and decoded.lstrip()[:1] == b"{" and b'"' in decoded


def jwt_base64(data: bytes, start: int, end: int) -> bool:
    """Base64 of a JSON web token."""
    decoded = _decode_base64(data[start : start + (end - start) // 4 * 4])
    return decoded is not None and b"." in decoded and jwt(decoded, 0, len(decoded))


def _decode_base64(value: bytes) -> bytes | None:
    plain = value.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        return a2b_base64(plain + b"=" * (-len(plain) % 4))
    except Base64Error:
        return None


def random_base64(data: bytes, start: int, end: int) -> bool:
    """Random bytes in base64 that are not named as a checksum just before."""
    before = data[max(0, start - 12) : start].lower()
    return _entropy(data[start:end]) > 4.2 and not re.search(
        rb"sha\d|integrity|h1:$|digest", before
    )


def slack(data: bytes, start: int, end: int) -> bool:
    """A Slack token with digits in it, not the word for a hug or an example."""
    value = data[start:end]
    return _has_digit(value[4:]) and not re.search(rb"(?i)x{6,}|\.{3}", value[4:])


def basic_auth(data: bytes, start: int, end: int) -> bool:
    """Base64 of printable text with a colon in it."""
    decoded = _decode_base64(data[start:end])
    return decoded is not None and b":" in decoded and all(32 <= byte < 127 for byte in decoded)


# -- assigned values ---------------------------------------------------------


def credential(data: bytes, start: int, end: int) -> bool:
    """What stands where a credential belongs, unless it is a word or a reference."""
    value = data[start:end].rstrip(b".")
    if _is_placeholder(value) or _is_reference(value):
        return False
    return _is_random(value, 3.0) or (len(value) >= 20 and _entropy(value) > 3.6)


def password(data: bytes, start: int, end: int) -> bool:
    """What is assigned to a password: anything but code, types and placeholders."""
    value = data[start:end].strip()
    lowered = value.lower().rstrip(b".:!?")
    if len(value) < 4 or lowered in _NOTHING or _is_placeholder(value) or _is_reference(value):
        return False
    quoted = start > 0 and data[start - 1 : start] in (b'"', b"'", b"`")
    if quoted:
        return b" " not in value and not _is_label(value)
    return not _is_word(value)


_LABEL: Final = re.compile(
    rb"(?i)^[a-z_.-]*(?:password|passwd|token|secret|key)[a-z_.-]*$|^[/.~]|://"
)


def _is_label(value: bytes) -> bool:
    """A quoted text that names a field, a path or an address rather than a password."""
    return bool(_LABEL.search(value)) and not _has_digit(value)


_WORD: Final = re.compile(rb"^[A-Za-z_][A-Za-z_.:/-]*$|^[0-9.]+$|^[A-Z_]+$|^/|://")


def _is_word(value: bytes) -> bool:
    """An identifier, a number or a path, as unquoted values in code are."""
    return bool(_WORD.search(value))


def secret(data: bytes, start: int, end: int) -> bool:
    """What is assigned to a token or key, if it looks made by a machine."""
    value = data[start:end].rstrip(b".:!?-_")
    if len(value) < 8 or _is_placeholder(value) or _is_reference(value):
        return False
    return _is_random(value, 3.0) or _is_block(value, 20)


def secret_nearby(data: bytes, start: int, end: int) -> bool:
    """A longer random value: there is no sign of assignment to lean on."""
    value = data[start:end].strip(b".:_-=")
    if len(value) < 16 or _is_placeholder(value):
        return False
    made = _is_random(value, 3.2) or _is_block(value, 24)
    return made and b"/" not in value[:2] and not _FILE.search(value)


def _is_block(value: bytes, chars_min: int) -> bool:
    """Letters and digits in one long piece: no name in code is written like that."""
    piece = value.rstrip(b"=")
    long = len(piece) >= chars_min and piece.isalnum()
    return long and _has_digit(piece) and _has_letter(piece)


_FILE: Final = re.compile(
    rb"\.(?:[a-z]{1,2}|css|mjs|tgz|png|svg|jpe?g|json|html?|map|woff2?|zip|gz)$"
)
_RUN: Final = re.compile(rb"[A-Za-z]+|[0-9]+")
_SYLLABLE: Final = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_VERSION: Final = re.compile(
    rb"^v?[0-9]+(?:\.[0-9]+)+|^[0-9]{4}-[0-9]{2}-[0-9]{2}|^[0-9]+[a-z]{0,2}$|^0x[0-9a-fA-F]{1,16}$"
)


def _is_random(value: bytes, bits: float) -> bool:
    """Letters and digits that change places as often as chance has it.

    Words have long runs of letters; a version, a date or a name with a number changes
    seldom between letters and digits. ``bits`` is the least entropy per byte.
    """
    if not (_has_digit(value) and _has_letter(value)) or _VERSION.search(value):
        return False
    if _entropy(value) < min(bits, log2(len(value)) * 0.75):
        return False
    runs = _RUN.findall(value)
    if len(runs) >= 4 and max(map(len, runs)) <= max(10, len(value) // 2):
        return True
    # Long runs of letters are no words if capitals stand all over them.
    syllables = _SYLLABLE.findall(value)
    return len(value) / len(syllables) <= (3.5 if len(value) >= 20 else 3.0)


# -- urls ----------------------------------------------------------------------


def url_credentials(data: bytes, start: int, end: int) -> bool:
    """User and password, unless the password is a reference or a placeholder."""
    password_part = data[start:end].split(b":", 1)[1]
    return not re.search(rb"^[$%<{*]|\$\{|\{\{|^x+$|\}$", password_part)


def url_user(data: bytes, start: int, end: int) -> bool:
    """A user's name, not the one that everybody uses."""
    return data[start:end].lower() not in (b"git", b"hg", b"svn", b"anonymous")


_PLAIN_QUERY: Final = re.compile(rb"(?i)[?&;](?:key|code|auth|sid|sig|ticket|state|token)=$")


def url_secret(data: bytes, start: int, end: int) -> bool:
    """The value of a query's credential; under a doubtful name only a random one."""
    value = data[start:end]
    if _is_placeholder(value) or _is_reference(value):
        return False
    if _PLAIN_QUERY.search(data[max(0, start - 12) : start]):
        return len(value) >= 8 and _is_random(value, 3.0)
    return value.lower() not in _NOTHING


# -- persons -------------------------------------------------------------------

_FILE_ENDS: Final = tuple(
    end.encode()
    for end in _words(
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


def _digits(value: bytes) -> list[int]:
    return [byte - 48 for byte in value if 48 <= byte <= 57]


def card(data: bytes, start: int, end: int) -> bool:
    """Luhn's check digit over a number of an issuer's length that is not one digit."""
    digits = _digits(data[start:end])
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


_IBAN_CHARS: Final = dict(
    pair.split(":")
    for pair in _words(
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
        *_words(
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
    return (8 if value.startswith(b"+") else 10) <= len(_digits(value)) <= 15
