"""Values that are secret because of the words that stand before them.

The stronger the word, the less is asked of the value. What is assigned to a *password*
may be a plain word; after a *secret word* (token, secret, API key) it must be no word;
after a word that is weak alone (key, login) it must look random. The name of a *service*
that hands out keys makes a weak word strong, and no word at all weak.
"""

from __future__ import annotations

import re
from itertools import pairwise

from .services import COMMON, SERVICES
from .shapes import (
    NOTHING,
    entropy,
    has_digit,
    is_made,
    is_placeholder,
    is_random,
    is_reference,
    is_sign_rich,
    words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_BEFORE_BYTES_MAX: Final = 48
_VALUE_BYTES_MAX: Final = 512
_NAME_WORDS_MAX: Final = 3  # "the odds api"


def credential(data: bytes, start: int, end: int) -> bool:
    """What stands where a credential belongs, unless it is a word or a reference."""
    value = data[start:end][:_VALUE_BYTES_MAX].rstrip(b".")
    if is_placeholder(value) or is_reference(value):
        return False
    return is_random(value, 3.0) or (len(value) >= 20 and entropy(value) > 3.6)


# ------------------------------------------------------------------------- passwords


def password(data: bytes, start: int, end: int) -> int:
    """What is assigned to a password, to its end: anything but code, types and placeholders."""
    closing = _closing(data, start) if _is_quoted(data, start) else 0
    if closing and _is_password(data, start, closing) and not _SPACE.search(data, start, closing):
        return closing
    # It holds spaces, or does not end: what stands before the first quote in it.
    sign = _SIGN.search(data, start, end)
    return end if _is_password(data, start, sign.start() if sign else end) else 0


_SIGN: Final = re.compile(rb"[\\\"']")
_SPACE: Final = re.compile(rb"[ \t]")
_QUOTE: Final = re.compile(rb"(\\*)([\"'`\r\n\0])")


def _closing(data: bytes, start: int) -> int:
    """Where the text ends whose first letter stands at ``start``, right behind a quote; or 0.

    Quotes of the other kinds are part of it, and escaped ones. In a text that is escaped
    itself the closing quote has as many backslashes before it as the first has.
    """
    quote = data[start - 1 : start]
    before = data[max(0, start - 1 - _BEFORE_BYTES_MAX) : start - 1]
    level = len(before) - len(before.rstrip(b"\\"))
    for found in _QUOTE.finditer(data, start, start + _VALUE_BYTES_MAX):
        if found[2] in b"\r\n\0":
            return 0
        depth = len(found[1]) - level
        if found[2] == quote and depth // (level + 1) % 2 == 0:
            return found.start(2) - min(level, len(found[1]))
        if depth < 0:
            return 0  # The text around it has ended.
    return 0


def _is_password(data: bytes, start: int, end: int) -> bool:
    value = data[start:end][:_VALUE_BYTES_MAX].strip()
    lowered = value.lower().rstrip(b".:!?")
    if len(value) < 4 or lowered in NOTHING or is_placeholder(value):
        return False
    if _is_description(words_before(data, start), _PASSWORD_STEMS):
        return False
    if _is_quoted(data, start):
        between = _BETWEEN.search(data[max(0, start - 8) : start + 1])
        return between is None and _is_quoted_password(data, start, value)
    return _is_bare_password(data, start, end)


# No value but the next column (`password`, `flag`) or what follows an empty text.
_BETWEEN: Final = re.compile(rb"`[ ]?,[ ]{0,4}`.$|[^\"]\"\"[,);]$|[^']''[,);]$")


def _is_quoted(data: bytes, start: int) -> bool:
    return start > 0 and data[start - 1 : start] in _QUOTES


def _is_quoted_password(data: bytes, start: int, value: bytes) -> bool:
    if b" " in value:
        return _is_passphrase(value)
    if _LOOKUP.match(value):
        return False
    # In <add key="Password" value="..."/> no field is named, however it reads.
    return data[max(0, start - 7) : start - 1] == b"value=" or not _is_label(value)


def _is_bare_password(data: bytes, start: int, end: int) -> bool:
    value = data[start:end]
    if data[max(0, start - 1) : start] == b">" and data[end : end + 2] == b"</":
        return not _is_label(value)
    # Without quotes the next argument follows a comma: "connect(password, host=h)", and
    # what follows "or" is another noun.
    before = data[max(0, start - 8) : start].rstrip()
    if is_reference(value) or before.endswith((b",", b" or")):
        return False
    return not _is_word(value) or _is_setting(data, start, end)


def password_argument(data: bytes, start: int, end: int) -> bool:
    """A password among arguments: there a plain word is no code."""
    value = data[start:end][:_VALUE_BYTES_MAX]
    if value.isdigit() and len(value) < 6:
        return False  # a port
    lowered = value.lower()
    return not (lowered in NOTHING or is_placeholder(value) or is_reference(value))


def _is_passphrase(value: bytes) -> bool:
    """Three small words or more, none of them one of those that make a sentence of them."""
    parts = value.split(b" ")
    if not (3 <= len(parts) <= 12 and value.islower() and b"".join(parts).isalpha()):
        return False
    return _SENTENCE_WORDS.isdisjoint(parts)


_SENTENCE_WORDS: Final = frozenset(
    word.encode()
    for word in words(
        "a an the is are be has have was your you my our must should may can to for of or not no "
        "on in at by if enter type required invalid incorrect wrong missing please password "
        "passphrase does do did new old user token key secret"
    )
)
_QUOTES: Final = frozenset((b'"', b"'", b"`"))
_LOOKUP: Final = re.compile(
    rb"^(?:[$%@][A-Za-z_.]+%?$|(?:os|sys|process|env|environ|config|settings|secrets)[.\[(])"
)
_LABEL: Final = re.compile(
    rb"(?i)^(?:[a-z]+[_.-])*(?:[a-z]{0,3}|[a-z]+[_.-])(?:password|passwd|token|secret|key)s?"
    rb"(?:[_.-][a-z]+)*$|^[/.~]|^#[a-z-]*pass|^arn:|://"
)


def _is_label(value: bytes) -> bool:
    """A quoted text that names a field, a path or an address rather than a password."""
    return bool(_LABEL.search(value)) and not has_digit(value)


_WORD: Final = re.compile(rb"^[A-Za-z_][A-Za-z_.:/-]*$|^[0-9.]+$|^[A-Z_]+$|^/|://")


def _is_word(value: bytes) -> bool:
    """An identifier, a number or a path, as unquoted values in code are."""
    return bool(_WORD.search(value))


_SETTING: Final = re.compile(
    rb"(?:(?:^|\n|\\n|\0)[ \t]{0,8}(?:# ?|// ?|; ?)?(?:export |set |ENV |ARG |- |-e )?"
    rb"[\"']?[A-Za-z0-9_.-]{1,48}[\"']? ?(?:=|: ?)|[;\"'] ?[A-Za-z0-9_.-]{1,48}="
    rb"|[A-Za-z]=[^ \t\n,;=]{1,32} [A-Za-z0-9_.-]{1,24}="
    rb"|user(?:name)? ?= ?[^ \t\n,;=]{1,32}\n[ \t]*[A-Za-z0-9_.-]{1,24} = )$"
)
_NO_PLAIN_WORD: Final = re.compile(rb"[._:/]|^[A-Z_]+$|(?i:pass)")
_TYPE_NAME: Final = re.compile(rb"[a-z][A-Z]")


def _is_setting(data: bytes, start: int, end: int) -> bool:
    """A plain word that ends a line of settings: ``DB_PASSWORD=whiteduke``."""
    if _NO_PLAIN_WORD.search(data, start, end) is not None:
        return False
    sign = _SETTING.search(data[max(0, start - _BEFORE_BYTES_MAX) : start])
    if sign is None:
        return False
    # After a colon further words make a sentence: "Password: must be long".
    if sign[0].rstrip().endswith(b"="):
        return data[end : end + 1] in _LINE_ENDS
    if _TYPE_NAME.search(data, start, end):
        return False  # "password: SecretStr"
    return data[end : end + _AFTER_BYTES_MAX].lstrip(b" \t")[:1] in _COLON_ENDS


_AFTER_BYTES_MAX: Final = 8
_COLON_ENDS: Final = frozenset((b"", b"\n", b"\r", b"#", b"\\", b"\0"))
_LINE_ENDS: Final = _COLON_ENDS | {b" ", b";", b'"', b"'"}


def password_nearby(data: bytes, start: int, end: int) -> bool:
    """After the word alone: letters, digits and either capitals or signs, as passwords have."""
    value = data[start:end][:_VALUE_BYTES_MAX].rstrip(b".,:;!?")
    if len(value) < 6 or not has_digit(value) or is_placeholder(value) or is_reference(value):
        return False
    if _NAME_OR_TIME.match(value):
        return False
    mixed = value.lower() != value and value.upper() != value
    return mixed or not value.isalnum()


_NAME_OR_TIME: Final = re.compile(
    rb"^(?:[A-Za-z]+[0-9]{0,3}|[0-9:./T+Z-]+|[A-Za-z0-9]+(?:[_./:-][A-Za-z0-9]+)+)$|[=(\[]"
)


def setting(data: bytes, start: int, end: int) -> bool:
    """What fills the rest of a line of settings, be there signs of code in it or not."""
    value = data[start:end][:_VALUE_BYTES_MAX]
    if value.rstrip(b"\"'")[-1:] in _CODE_ENDS or _CALL.match(value) or is_placeholder(value):
        return False
    if value.lower() in NOTHING or _LOOKUP.match(value) or b"://" in value:
        return False
    if _is_description(words_before(data, start), _STEMS):
        return False
    if _PASSWORD_KEY.search(data[max(0, start - _BEFORE_BYTES_MAX) : start]):
        return not _is_word(value) or _is_setting(data, start, end)
    return is_sign_rich(value) or _is_phrase(value) or _is_mostly_signs(value)


def _is_phrase(value: bytes) -> bool:
    """Words without a sign between them, in one case: no name is written like that."""
    return len(value) >= 16 and value.isalpha() and (value.islower() or value.isupper())


def _is_mostly_signs(value: bytes) -> bool:
    """Signs of many kinds and hardly a letter: no format, rule or line drawn under a title."""
    signs = value.translate(None, _WORD_BYTES)
    return len(set(signs)) >= 5 and 3 * len(signs) >= 2 * len(value) and b"%" not in value


_WORD_BYTES: Final = bytes(byte for byte in range(128) if chr(byte).isalnum())
_CODE_ENDS: Final = frozenset((b",", b";", b"{", b"(", b"[", b"\\", b"|"))
_CALL: Final = re.compile(rb"^[A-Za-z_][A-Za-z0-9_.]*[(\[].*[)\]]$|^[({\[&*]|^[a-z]+\|")
_PASSWORD_KEY: Final = re.compile(
    rb"(?i)(?:passw|passp|passc|pwd|(?:\b|_)pass|(?:\b|_)pw)[A-Za-z0-9_]*[^A-Za-z0-9_]*$"
)


# --------------------------------------------------------------------------- secrets


def secret(data: bytes, start: int, end: int) -> bool:
    """What is assigned to a token or key, if it looks made by a machine."""
    value = data[start:end][:_VALUE_BYTES_MAX].rstrip(b".:!?-_")
    quoted = _is_quoted(data, start)
    if not quoted and data[max(0, start - 8) : start].rstrip().endswith(b" or"):
        return False
    before = words_before(data, start)
    phrase = quoted and _is_quoted_secret(data, start, value)
    if len(value) < 8 or (not phrase and _is_plain(value, quoted=quoted)):
        return False
    if _is_description(before, _SECRET_STEMS):
        return False
    strength = _strength(before)
    strong = strength == _STRONG or (strength == _WEAK and _near_service(before))
    if phrase:
        return strong
    if strong:
        return is_made(value, 8) or is_random(value, 3.0) or _is_stand_in(value)
    # An API has answers, versions and hosts, too.
    weak = strength == _WEAK and before[-1:] != ["api"]
    return weak and is_made(value, 8) and is_random(value, 3.0)


def _is_quoted_secret(data: bytes, start: int, value: bytes) -> bool:
    """A text that is none of code, because of its signs or because it is called a secret."""
    if _is_phrase(value) or is_sign_rich(value) or _is_mostly_signs(value):
        return True
    name = _SECRET.search(data[max(0, start - _BEFORE_BYTES_MAX) : start])
    if name is None:
        return False
    return (_PAIR if name[1] else _JOINED).match(value) is not None


_SECRET: Final = re.compile(rb"(?i)secret[\"'`]?[ \t]{0,3}(?:([!=]==?)|[:=])[ \t]{0,3}[\"'`]$")
# What nothing but a secret is compared with.
_PAIR: Final = re.compile(rb"^[a-z]+-[a-z]+$")
# Two words or more with a sign between that joins no name of a file, a class or a setting.
_JOINED: Final = re.compile(rb"^[A-Za-z0-9]+(?:[#!?*&+%~^][A-Za-z0-9]+)+$")


def _is_stand_in(value: bytes) -> bool:
    """Two letters, none of them x, that fill the form of a key: they may be one as they are."""
    if len(value) < 24 or len(set(value)) > 3:
        return False
    tail = value[-12:]
    return tail.isalpha() and b"x" not in tail.lower()


def compared(data: bytes, start: int, end: int) -> bool:
    """A quoted text that is compared with a password or secret: the sides are swapped."""
    if not _is_quoted(data, start):
        return False
    name = _COMPARED.match(data, end, end + _BEFORE_BYTES_MAX)
    if name is None:
        return False
    swapped = name[1] + b' == "' + data[start:end]
    begin = len(name[1]) + 5
    check = password if _PASSWORD_KEY.search(name[1]) else secret
    return bool(check(swapped, begin, len(swapped)))


_COMPARED: Final = re.compile(rb"[\"'`][ \t]*(?:[!=]=+|\.[A-Za-z]+\()[ \t]*([A-Za-z0-9_.$>-]+)")


def secret_argument(data: bytes, start: int, end: int) -> bool:
    """What follows the name of a password or of a secret with only a space between."""
    value = data[start:end][:_VALUE_BYTES_MAX]
    if _PASSWORD_KEY.search(data[max(0, start - _BEFORE_BYTES_MAX) : start]):
        return password_argument(data, start, end)
    before = words_before(data, start)
    if _is_plain(value) or _is_description(before, _SECRET_STEMS):
        return False
    return _strength(before) == _STRONG and is_made(value, 8)


def secret_nearby(data: bytes, start: int, end: int) -> bool:
    """A longer random value: there is no sign of assignment to lean on."""
    value = data[start:end][:_VALUE_BYTES_MAX].strip(b".:_-=")
    if len(value) < 14 or _is_plain(value) or _FILE.search(value):
        return False
    before = words_before(data, start)
    strength = _strength(before)
    if strength == _NONE or _is_description(before, _SECRET_STEMS):
        return False
    if _near_service(before):
        return is_made(value, 12)
    if strength == _STRONG and has_digit(value) and is_made(value, 16):
        return True
    return len(value) >= 16 and is_made(value, 8) and is_random(value, 3.2)


def service_key(data: bytes, start: int, end: int) -> bool:
    """A long value right after the name of a service, or after the word for an id of it."""
    before = words_before(data, start)
    owned = before[:]
    while owned and owned[-1] in _OWNED:
        owned.pop()
    named = before[len(owned) :]
    owned = owned[-_NAME_WORDS_MAX:]
    value = data[start:end][:_VALUE_BYTES_MAX]
    if not owned or owned[-1] in _DESCRIPTIONS:
        return False
    if named and named[-1].endswith("id"):
        anybodys = named == ["id"] and not value.strip(_ID_BYTES)
        return not anybodys and _is_account(value) and is_service(owned, _OWNERS)
    if len(value) < 12 or not is_service(owned, _TELLING):
        return False
    if len(value) < 20 and not is_random(value, 3.0):
        return False
    return is_made(value, min(16, end - start)) and not _is_plain(value)


_OWNED: Final = frozenset(
    words(
        "access accessid account api app appid application client clientid env id org product "
        "project user"
    )
)
_OWNERS: Final = SERVICES | {"fb"}
_ID_BYTES: Final = b"0123456789abcdefABCDEF-"  # Of what a service did: a request, an event.


def _is_account(value: bytes) -> bool:
    """An id that a machine made for a customer; a short number may be anybody's."""
    if value.isdigit():
        return 15 <= len(value) <= 20
    return is_made(value, min(10, len(value))) and has_digit(value) and not _is_plain(value)


def _is_plain(value: bytes, *, quoted: bool = False) -> bool:
    """A word, a placeholder or a reference: no credential, whatever stands before it."""
    if value.isalpha() and not is_made(value, 8):
        return True
    if is_placeholder(value):
        return not (_is_stand_in(value) or _holds_more(value))
    # Quoted, signs of code belong to the value; and three names with dots between may
    # be a token of three parts.
    if not is_reference(value):
        return False
    return not is_made(value, 16) if quoted or _DOTTED.match(value) else True


def _holds_more(value: bytes) -> bool:
    """Whether a machine made what is left of a long value without its word for a placeholder."""
    rest = _STANDING.sub(b" ", value)
    return len(value) >= 40 and rest != value and not is_placeholder(rest) and is_made(rest, 30)


_STANDING: Final = re.compile(rb"(?i)example|sample|dummy|0{12,}|1{12,}")
_DOTTED: Final = re.compile(rb"^\$?[A-Za-z0-9_.-]+$")
_PASSWORD_STEMS: Final = words(
    "password passwd passphrase passcode passwort pass pswd pwd pw kennwort contrasena senha"
)
_SECRET_STEMS: Final = words("token secret key credential access private auth")
_STEMS: Final = _PASSWORD_STEMS + _SECRET_STEMS
# After the word for a credential, these say that something about it follows.
_DESCRIPTIONS: Final = frozenset(
    words(
        "age algorithm attempts bytes changed class count digest domain email enabled encoder "
        "endpoint error exists expired expires expiry field file filename fingerprint form format "
        "hash hint id ids index input izer label length less limit manager max message min mode "
        "name names page path policy project prompt provider ref reset required rule sha1 sha256 "
        "size source status store strength type types uri url usage user username valid version"
    )
)


def _is_description(before: list[str], stems: tuple[str, ...]) -> bool:
    """Whether the last word for a credential, or one after it, says that it is none itself."""
    if before[-1:] == ["is"]:
        return False  # prose: "the password for the user x is"
    for at in range(len(before) - 1, -1, -1):
        word = before[at]
        for stem in stems:
            if stem in word:
                rest = word[word.rfind(stem) + len(stem) :]
                following = set(before[at + 1 :])
                if word in SERVICES or before[at - 1 : at + 1] == ["access", "key"]:
                    # "auth0 client id" is no id of an auth; that of an access key is half of it.
                    following -= _OWNED
                return rest in _DESCRIPTIONS or not _DESCRIPTIONS.isdisjoint(following)
    return False


_TELLING: Final = SERVICES - COMMON


def _near_service(before: list[str]) -> bool:
    """The name of a service among the words before; in their last ones if it is common."""
    if is_service(before, _TELLING) or is_service(before[-_NAME_WORDS_MAX - 1 :], COMMON):
        return True
    # In capitals no letter shows where a word ends: GITHUBKEY.
    return _KEY_AT_END.sub("", before[-1] if before else "") in SERVICES


_KEY_AT_END: Final = re.compile(r"(?:api)?(?:key|token|secret|auth|id)s?$")


_FILE: Final = re.compile(
    rb"\.(?:[a-z]{1,2}|css|mjs|tgz|png|svg|jpe?g|json|html?|map|woff2?|zip|gz)$"
)
_NAME_WORD: Final = re.compile(r"[A-Z]{2,}(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[A-Z][0-9]*|[0-9]+")


def words_before(data: bytes, start: int) -> list[str]:
    """The words of the names before ``start``, in lower case: "dbPassword" is two."""
    before = data[max(0, start - _BEFORE_BYTES_MAX) : start].decode("latin-1")
    return [word.lower() for word in _NAME_WORD.findall(before)]


def is_service(before: list[str], services: frozenset[str]) -> bool:
    """Whether a word, or two or three in a row, are the name of a service."""
    if not services.isdisjoint(before):
        return True
    pairs = [one + two for one, two in pairwise(before)]
    if not services.isdisjoint(pairs):
        return True
    return not services.isdisjoint(
        pair + three for pair, three in zip(pairs, before[2:], strict=False)
    )


_NONE, _WEAK, _STRONG = range(3)
_SECRET_WORDS: Final = frozenset(
    words("token tokens secret secrets credential credentials apikey apikeys jwt pat authorization")
)
_SECRET_KEYS: Final = frozenset(
    words(
        "access account activation admin api app application auth client consumer decryption "
        "deploy encryption hmac ingest integration jwt licence license master personal private "
        "root secret security service session shared signing ssh storage unseal user webhook write"
    )
)
_OTHER_KEYS: Final = frozenset(
    words(
        "cache cert composite dedup etag foreign group hash idempotency image index job lock map "
        "message object partition primary public redis registry row s3 shard sort unique"
    )
)


def _strength(before: list[str]) -> int:
    """How much the last word for a credential says by itself."""
    for at in range(len(before) - 1, -1, -1):
        word = before[at]
        if word in _SECRET_WORDS or "token" in word or "secret" in word or "apikey" in word:
            return _STRONG
        if word.endswith(("key", "keys")):
            owner = word.rstrip("s")[:-3] or (before[at - 1] if at else "")
            if owner in _SECRET_KEYS:
                return _STRONG
            # "cache miss key" is a cache's key too.
            return _WEAK if _OTHER_KEYS.isdisjoint([owner, *before[max(0, at - 2) : at]]) else _NONE
    return _WEAK
