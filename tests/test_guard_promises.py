"""Small promises of the guard's parts, each at the edge where it begins or ends to hold.

Quick, and by the part: what the whole guard makes of it is told by the other tests.
"""

from __future__ import annotations

import re
import shutil
from enum import IntEnum
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from stack_composer.telemetry.guard import own, patterns, rules, sql, texts
from stack_composer.telemetry.guard.arguments import in_line
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.examples import expand
from stack_composer.telemetry.guard.markers import blank_markers, tombstone
from stack_composer.telemetry.guard.plain import is_plain
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.validators import content, urls, wallets
from stack_composer.telemetry.model import DROPPED

MAIL = "alice@" + "example.org"
SALT = bytes(32)


# -- what is counted ------------------------------------------------------------------


def test_a_text_is_counted_once_and_each_redaction_in_it() -> None:
    guard = Guard(Policy(salt=SALT))
    assert (guard.tally.judged, guard.tally.faults) == (0, 0)
    texts = [f"to {MAIL} and {MAIL}", "is clean", f"cc {MAIL}"]
    guard.texts([(guard.key("note"), text) for text in texts])
    assert guard.tally.judged == 3
    assert guard.tally.hits == {"email": 2}
    assert guard.tally.counts == {("email", "mask"): 3}


def test_a_value_is_counted_as_one_text() -> None:
    guard = Guard(Policy(salt=SALT, rules=own.read_rules([{"name": "k1", "key": "a.b"}])))
    for value in ("x", [MAIL, MAIL], 7, None):
        guard.value("a.b", value)
    guard.value("password", "x")
    assert guard.tally.judged == 5
    assert guard.tally.hits == {"k1": 4}, "no key rule of ours, which hit by design"


def test_what_is_remembered_counts_as_if_it_were_judged_anew() -> None:
    texts = [f"to {MAIL} and {MAIL}", f"cc {MAIL}"]
    remembering = Guard(Policy(salt=SALT))
    for _ in range(3):
        for text in texts:
            remembering.texts([(remembering.key("note"), text)])
    once = Guard(Policy(salt=SALT))
    once.texts([(once.key("note"), text) for text in texts])
    assert remembering.tally.hits == {rule: 3 * n for rule, n in once.tally.hits.items()}
    assert remembering.tally.counts == {rule: 3 * n for rule, n in once.tally.counts.items()}


# -- markers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "marker",
    [
        tombstone("email"),
        tombstone("a" * 40),
        tombstone("x-9"),
        tombstone("own:" + "0" * 32),
        tombstone("a" * 40 + ":" + "f" * 64),
    ],
)
def test_a_marker_is_seen_by_no_rule(marker: str) -> None:
    data = f"{marker}a{marker}{marker}".encode()
    blank = bytes(len(marker))
    assert blank_markers(data) == blank + b"a" + blank + blank
    assert blank_markers(f"[redacted:{marker}".encode()) == b"[redacted:" + blank


@pytest.mark.parametrize(
    "inside",
    [
        "",
        ":" + "0" * 32,
        "a" * 41,
        "Email",
        "a_b",
        "own:",
        "own:" + "0" * 31,
        "own:" + "0" * 33,
        "own:" + "0" * 63,
        "own:" + "0" * 65,
        "own:" + "0" * 31 + "g",
        "a" * 41 + ":" + "f" * 64,
        "own:" + "0" * 32 + ":",
    ],
)
def test_what_a_marker_of_ours_does_not_hold_is_searched(inside: str) -> None:
    data = f"a [redacted:{inside}] b".encode()
    assert blank_markers(data) == data


def test_a_marker_behind_the_start_of_one_is_blanked() -> None:
    data = b"[redacted:[redacted:email]] [redacted:email"
    assert blank_markers(data) == b"[redacted:" + bytes(16) + b"] [redacted:email"


# -- plain texts ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "default", "strict"),
    [
        ("a" * 16, True, True),
        ("a" * 17, False, False),
        ("a_b-c.d", True, True),
        ("a.b.c", True, False),
        ("a b", False, False),
        ("é", False, False),
        ("", True, True),
        ("1234", True, True),
        ("12345", True, False),
        ("1.23", True, False),
        ("abcd012345", True, False),
        ("abcd0123456", False, False),
        ("unknown_service:python", True, True),
        ("unknown_service:" + "a" * 17, False, False),
        ("stack_composer.telemetry.dropped", True, True),
        ("stack_composer.telemetry.drop", False, False),
    ],
)
def test_short_texts_of_letters_need_no_search(text: str, *, default: bool, strict: bool) -> None:
    """Digits may be in shorter ones; the profile strict knows shorter secrets."""
    assert is_plain(text, "default") is default
    assert is_plain(text, "strict") is strict


# -- the policy -----------------------------------------------------------------------


def test_a_policy_is_refused_that_could_not_be_kept() -> None:
    assert Policy(salt=bytes(32)).salt == bytes(32)
    assert Policy(identifiers="sha256", salt=b"").identifiers == "sha256"
    with pytest.raises(ValueError, match="31 bytes"):
        Policy(salt=bytes(31))
    with pytest.raises(ValueError, match="lax"):
        Policy(profile="lax", salt=bytes(32))
    with pytest.raises(ValueError, match="md5"):
        Policy(identifiers="md5", salt=bytes(32))


# -- arguments ------------------------------------------------------------------------


def masked_line(line: str) -> str:
    named = ("password", "token", "x-api-key", "a" * 100, "a" * 101)
    for start, end, _ in reversed(in_line(line, lambda name: name.lower() in named)):
        line = f"{line[:start]}*{line[end:]}"
    return line


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("x --token walrus y", "x --token * y"),
        ("x -token walrus", "x -token *"),
        ("x /token walrus", "x /token *"),
        ("x --token=walrus y", "x --token=* y"),
        ("x /token:walrus", "x /token:*"),
        ("x token=walrus", "x token=*"),
        ("curl -H 'X-Api-Key: walrus' y", "curl -H 'X-Api-Key: *' y"),
        ('curl -H "X-Api-Key:walrus"', 'curl -H "X-Api-Key:*"'),
        ("x --token='the walrus' y", "x --token='*' y"),
        ("x '--token=the walrus' y", "x '--token=*' y"),
        ('x --token="the walrus', 'x --token="*'),
        ('x --token="the \\"walrus" y', 'x --token="*" y'),
        ("x --token=walrus' y'", "x --token=*"),
        ("x '--token' 'walrus' y", "x '--token' * y"),
        ('x "-u" "a:walrus" y', 'x "-u" * y'),
        (f"x --{'a' * 100}=walrus", f"x --{'a' * 100}=*"),
        (f"x --{'a' * 100} walrus", f"x --{'a' * 100} *"),
        (f"x --{'a' * 101} walrus", f"x --{'a' * 101} walrus"),
        ("x --token w", "x --token *"),
        ("x --token=w", "x --token=*"),
        ("x --token= walrus", "x --token= walrus"),
        ("x --token='' walrus", "x --token='' walrus"),
        ("x --token", "x --token"),
        ("x --token --verbose walrus", "x --token --verbose walrus"),
        ("x --token --token walrus", "x --token --token *"),
        ("x --token walrus walrus", "x --token * walrus"),
        ("x --verbose walrus", "x --verbose walrus"),
        ("x --token [redacted:argument] y", "x --token [redacted:argument] y"),
        ("x --token [redacted:argument]y", "x --token *"),
        ("x --token=[redacted:argument]", "x --token=[redacted:argument]"),
        ("x --token='[redacted:argument]'", "x --token='[redacted:argument]'"),
        ("x -p walrus", "x -p *"),
        ("x -P walrus", "x -P *"),
        ("x -p 8080:80/tcp -p '53/udp' -p 9", "x -p 8080:80/tcp -p '53/udp' -p 9"),
        ("x -p", "x -p"),
        ("x -u ann:walrus", "x -u *"),
        ("x --user ann:walrus", "x --user *"),
        ("x --proxy-user ann:walrus", "x --proxy-user *"),
        ("x -u ann", "x -u ann"),
        ("x -u", "x -u"),
        ("mysql -pwalrus db", "mysql -p* db"),
        ("mysql -pw db", "mysql -p* db"),
        ("mysql -p'the walrus' db", "mysql -p* db"),
        ("mysql '-pthe walrus' db", "mysql '-p*' db"),
        ("mysql '-pthe walrus", "mysql '-p*"),
        ("mysql -p", "mysql -p"),
        ("mysql -p[redacted:argument]", "mysql -p[redacted:argument]"),
        ("/usr/bin/mysqldump -pwalrus", "/usr/bin/mysqldump -p*"),
        ("C:\\bin\\mysqladmin.exe -pwalrus", "C:\\bin\\mysqladmin.exe -p*"),
        ("mariadb -pwalrus", "mariadb -p*"),
        ("ls -pwalrus", "ls -pwalrus"),
        ("", ""),
        ("''", "''"),
    ],
)
def test_of_a_command_line_the_secret_goes_and_no_more(line: str, left: str) -> None:
    """No quote, no option, and nothing that was masked before."""
    assert masked_line(line) == left


# -- examples -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "alphabet"),
    [
        ("hex", "0123456789abcdef"),
        ("HEX", "0123456789ABCDEF"),
        ("digit", "0123456789"),
        ("upper", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    ],
)
def test_an_example_is_made_of_all_that_its_kind_says(kind: str, alphabet: str) -> None:
    made = expand(f"a «{kind} 2000» b")
    assert (made[:2], made[-2:], len(made)) == ("a ", " b", 2004)
    assert set(made[2:-2]) == set(alphabet)
    assert made == expand(f"a «{kind} 2000» b")
    assert made != expand(f"a «{kind} 2000» b", 2)
    first, second = expand(f"«{kind} 40» «{kind} 40»").split()
    assert first != second


def test_examples_are_always_the_same() -> None:
    """A failure that names one is repeated elsewhere, and later, by its kind and its seed."""
    kinds = ("hex", "HEX", "digit", "lower", "upper", "alnum", "b64", "url")
    assert crc32("".join(expand(f"«{kind} 2000»") for kind in kinds).encode()) == 842214073
    assert expand("«hex 8»") == expand("«hex 8»", 1)


def test_an_example_of_a_token_has_three_parts() -> None:
    header, body, signature = expand("«jwt»").split(".")
    assert header.startswith(body[:3])
    assert "=" not in header + body
    assert len(signature) == 43
    assert expand("AK«»IA") == "AK" + "IA"


# -- addresses ------------------------------------------------------------------------


def judged_url(check: str, before: str, value: str, after: str = "") -> bool:
    start = len(before.encode())
    data = (before + value + after).encode()
    return bool(getattr(urls, check)(data, start, start + len(value.encode())))


@pytest.mark.parametrize(
    ("before", "credentials", "after", "secret"),
    [
        ("http://", "bob:hunter2x", "@h/{x}", True),
        ("x: ${y} http://", "bob:hunter2x", "@h", True),
        ("http://", "${u}:hunter2x", "@h", True),
        ("jdbc:oracle:thin:", "bob/hunter2x", "@h", True),
        ("http://", "bob:a:$x", "@h", True),
        ("http://", "bob:a:${x}", "@h", False),
        ("http://", "bob:xxxx", "@h", False),
        ("http://", "bob:xxx1", "@h", True),
        ("http://", "bob:$PW", "@h", False),
        ("http://", "bob:%s", "@h", False),
        ("http://", "bob:<pw>", "@h", False),
        ("http://", "bob:****", "@h", False),
        ("http://", "bob:a{{x", "@h", False),
        ("http://", "bob:pw}", "@h", False),
    ],
)
def test_a_password_in_an_address_is_what_follows_the_user(
    before: str, credentials: str, after: str, *, secret: bool
) -> None:
    """And nothing around it makes it a reference."""
    assert judged_url("url_credentials", before, credentials, after) is secret


@pytest.mark.parametrize(
    ("before", "value", "secret"),
    [
        ("?token=", "k3Jd9vQm", True),
        ("?token=", "k3Jd9vQ", False),
        ("?token=", "next", False),
        (f"%26{'a' * 42}_token%3D", "next", False),
        ("?secret=", "next", True),
        ("?secret=", "NULL", False),
        ("?secret=", "your-key", False),
        ("?secret=", "get(x)+", False),
        ("?secret=", "get+", True),
        ("?x_access-token=", "next", True),
        ("?page_token=", "k3Jd9vQm2x", True),
    ],
)
def test_a_name_in_a_query_says_how_doubtful_its_value_is(
    before: str, value: str, *, secret: bool
) -> None:
    assert judged_url("url_secret", before, value, "&x=${y}") is secret


@pytest.mark.parametrize(
    ("value", "secret"),
    [("k3Jd9vQm2xTz.", True), ("how-to-reset-it", False), ("your1key2k3Jd9vQm", False)],
)
def test_a_part_of_a_path_is_secret_if_chance_made_it(value: str, *, secret: bool) -> None:
    assert judged_url("path_secret", "/reset/", value, "/your") is secret


@pytest.mark.parametrize(
    ("before", "secret"),
    [
        ("/usr/share/doc/", False),
        ("/usr/local/share/", False),
        ("~/.local/share/app/", False),
        ("https://h/share/doc/", True),
    ],
)
def test_what_packages_share_is_no_invitation(before: str, *, secret: bool) -> None:
    assert judged_url("path_secret", before, "openjdk-17-jre-headless", "/test") is secret


@pytest.mark.parametrize("name", ["git", "HG", "svn", "anonymous"])
def test_the_user_that_everybody_uses_is_nobody(name: str) -> None:
    assert not judged_url("url_user", "ssh://", name, "@h")
    assert judged_url("url_user", "ssh://", name + "1", "@h")


# -- wallets --------------------------------------------------------------------------


def base58(raw: bytes) -> bytes:
    number, text = int.from_bytes(raw, "big"), b""
    while number:
        number, digit = divmod(number, 58)
        text = wallets._BASE58[digit : digit + 1] + text
    return b"1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def checked(payload: bytes) -> bytes:
    return payload + sha256(sha256(payload).digest()).digest()[:4]


def bech32(prefix: str, digits: list[int], end: int) -> bytes:
    """As BIP 173 has it: the check digits are those that leave ``end``."""
    spread = [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]
    state = 1
    for digit in [*spread, *digits, 0, 0, 0, 0, 0, 0]:
        top, state = state >> 25, ((state & (1 << 25) - 1) << 5) ^ digit
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= term if top >> bit & 1 else 0
    check = [(state ^ end) >> 5 * (5 - place) & 31 for place in range(6)]
    letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    return (prefix + "1" + "".join(letters[digit] for digit in [*digits, *check])).encode()


def is_wallet(value: bytes, before: bytes = b"") -> bool:
    return wallets.address(before + value + b"0", len(before), len(before) + len(value))


def test_base58_is_right_for_every_version_and_every_wrong_byte_is_seen() -> None:
    for version in range(256):
        raw = checked(bytes([version]) + bytes(range(20)))
        assert wallets.base58check(base58(raw), wallets._BASE58)
        for at in (0, 20, 21, 22, 23, 24):
            wrong = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            assert not wallets.base58check(base58(wrong), wallets._BASE58)


def test_what_is_no_base58_of_25_bytes_is_no_wallet() -> None:
    good = base58(checked(b"\x05" + bytes(range(20))))
    assert is_wallet(good)
    for value in (good + b"1", b"z" * 35, b"3" * 35, good[:-1] + b"0", good[:-1] + b"l", b""):
        assert not wallets.base58check(value, wallets._BASE58)


@pytest.mark.parametrize("prefix", ["bc", "tb", "ltc", "addr", "cosmos"])
@pytest.mark.parametrize("end", [1, 0x2BC830A3])
def test_bech32_holds_for_its_two_ends_only(prefix: str, end: int) -> None:
    digits = [0, *range(31), 5]
    value = bech32(prefix, digits, end)
    assert is_wallet(value)
    assert wallets.bech32(value.upper())
    assert not is_wallet(bech32(prefix, digits, end ^ 2))
    assert not wallets.bech32(value.replace(b"a", b"A"))
    for at in range(len(prefix) + 1, len(value)):
        other = b"q" if value[at : at + 1] != b"q" else b"p"
        assert not wallets.bech32(value[:at] + other + value[at + 1 :])
    assert not wallets.bech32(value + b"b")


def test_an_address_without_a_check_is_varied_or_has_a_word_before_it() -> None:
    assert is_wallet(b"0x" + b"12345" * 8)
    assert not is_wallet(b"0x" + b"1234" * 10)
    monero = expand("4A«alnum 93»").encode()
    assert is_wallet(monero)
    assert not is_wallet(monero[:94])
    assert not is_wallet(b"4A" + b"ab1c" * 23 + b"a")
    free = expand("«alnum 40»").encode()
    for word in (b"wallet", b"Solana", b"phantom", b"monero", b"ripple", b"dogecoin", b"crypto"):
        assert is_wallet(free, word + b" address: ")
        assert not is_wallet(free, word + b"\0")
    assert is_wallet(free, b"wallet" + b" " * 24)
    assert not is_wallet(free, b"wallet" + b" " * 25)
    assert not is_wallet(free, b"of ")
    assert not is_wallet(b"a" * 32, b"wallet: ")
    assert not is_wallet(b"abcdefghijkmnopqrstuvwxyzABCDEFGHJ", b"wallet: ")
    assert not is_wallet(b"1234567891234567891234567891234567", b"wallet: ")


# -- content --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ('"content": "', "a b", '", "c": 1'),
        ("'content': '", 'a "b', "', 'c': 1"),
        ('"content": "', "[a", '", "c": 1'),
        ('"content": "', '\\"a\\" b\\\\', '", "c": 1'),
        ('{\\"content\\": \\"', 'a \\\\\\"b', '\\", \\"c\\": 1}"'),
        ('{\\\\\\"content\\\\\\": \\\\\\"', 'a \\\\\\\\\\\\\\"b', '\\\\\\", 1'),
        ('"content": "', "a b", ""),
        ('"content": "', 'a\\"', '", "c": 1'),
        ('"content": "', 'a\\\\\\"b', '", "c": 1'),
        ('{\\"content\\": \\"', "a\\\\\\\\", '\\", \\"c\\": 1}"'),
        ('"content": ', '["a\\""]', ', "c": [1]'),
        ('"content": ', '[1, [2], {"a": "]"}]', ', "c": 1]'),
        ("'content' : ", "['it is', \"it's]\"]", ", 'c': 1]"),
        ('"content": ', '["a\\"]"]', ', "c": 1]'),
        ('{\\"content\\": ', '[\\"a\\\\\\"]\\", 1]', ', \\"c\\": [1]}"'),
        ('"content": ', '{"type": "text"}', ', "c": 1}'),
        ('"content": ', '["a", {"b": "c', ""),
        ("content=", '["a]", (1)]', ", c=[1])"),
        ("content=", "(1, (2, 3))", ", c=(1))"),
        ("content=", "{1}", "}"),
    ],
)
def test_content_ends_where_it_was_opened_or_with_the_data(
    before: str, value: str, after: str
) -> None:
    """A list or object with its bracket, a string before the quote of the same depth."""
    data = (before + value + after).encode()
    start = len(before.encode())
    assert content.value_end(data, start, 0) == start + len(value.encode())


@pytest.mark.parametrize(
    ("before", "rest"),
    [
        ('"content": "', '", "c": 1'),
        ('{\\"content\\": \\"', '\\", \\"c\\": 1}"'),
        ('"content": ', "[ ]"),
        ('"content": ', "{}, 1"),
        ('"content": ', '{"type": "object", "properties": {}}'),
        ('"content":\n', '{ "$ref" : "#/x"}'),
        ('{\\"content\\": ', '{\\"type\\": \\"null\\"}'),
        ('"content": ', '{"anyOf": [{}]}'),
        ("content=", "a"),
        ("content: ", "a"),
    ],
)
def test_what_holds_no_content_is_left(before: str, rest: str) -> None:
    """Nothing, a schema's description, or a word without a quote."""
    assert not content.value_end((before + rest).encode(), len(before), 0)


# -- keys and values of the whole guard -----------------------------------------------


def make_guard(**options: Any) -> Guard:
    return Guard(Policy(salt=SALT, **options))


def test_a_long_key_is_judged_each_time_and_kept_never() -> None:
    guard = make_guard()
    longest = ("k" * 1024)[: -len(".password")] + ".password"
    assert guard.value(longest, "walrus") == "[redacted:password-key]"
    assert guard.key(longest) is guard.key(longest)
    before = len(guard._keys)
    for _ in range(2):
        assert guard.key("k" * 1025).text == "[redacted:too-long]"
    assert guard.tally.counts["too-long", "drop"] == 2
    assert len(guard._keys) == before


def test_a_key_is_judged_once() -> None:
    guard = make_guard()
    assert guard.key("note") is guard.key("note")
    assert guard.matcher() is guard.matcher()


class Level(IntEnum):
    """A number that is not quite an ``int``."""

    ONE = 1


def test_any_whole_number_is_taken_and_no_other() -> None:
    guard = make_guard()
    marker = "[redacted:password-key]"
    assert [guard.value("password", value) for value in (0, 1234, Level.ONE)] == [marker] * 3
    assert guard.value("password", [1.5, False, None]) == [1.5, False, None]
    assert guard.value("user.id", 1.5) == 1.5
    assert guard.value("brief", 7) == 7


def found(guard: Guard, text: str, key: str = "") -> list[tuple[str, str, str]]:
    return [(f.rule, text[f.start : f.end], f.action) for f in guard.findings(text, key)]


def test_findings_are_told_by_the_key_too() -> None:
    guard = make_guard()
    assert found(guard, "walrus", "password") == [("password-key", "walrus", "mask")]
    assert found(guard, "walrus", "brief") == [("content-key", "walrus", "drop")]
    assert found(guard, "walrus", "user.id") == [("identity-key", "walrus", "hash")]
    assert found(guard, f"é {MAIL}", "note") == found(guard, f"é {MAIL}")
    assert found(guard, f"é {MAIL}") == [("email", MAIL, "mask")]
    query = f"select 'a {MAIL}', 7 from {MAIL} where 'b'"  # noqa: S608 - it is not run
    assert found(guard, query, "db.query.text") == [
        ("sql-literal", f"'a {MAIL}'", "mask"),
        ("sql-literal", "7", "mask"),
        ("email", MAIL, "mask"),
        ("sql-literal", "'b'", "mask"),
    ]
    line = f"{MAIL} --password walrus {MAIL}"
    assert found(guard, line, "argv") == [
        ("email", MAIL, "mask"), ("argument", "walrus", "mask"), ("email", MAIL, "mask"),
    ]  # fmt: skip
    for key in ("password", "db.query.text", "note", ""):
        (rule, _, action) = found(guard, "a " * 32768 + "b", key)[0]
        assert (rule, action) == ("too-long", "drop")
        assert found(guard, "a " * 32768, "password")[0][0] == "password-key"


def test_a_fault_in_the_parts_of_a_text_drops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "literals", None)
    guard = make_guard()
    assert found(guard, "select 7", "db.query.text") == [("fault", "select 7", "drop")]
    assert guard.tally.faults == 1
    assert guard.value("db.query.text", "select 7") is DROPPED
    assert guard.tally.faults == 2


def test_a_text_in_parts_has_the_bound_of_any_other() -> None:
    guard = make_guard()
    longest = "a" * (1 << 16)
    assert guard.value("db.query.text", longest) == longest
    assert guard.value("db.query.text", longest + "a") is DROPPED
    assert guard.value("raw", longest.encode()) == longest.encode()
    assert guard.value("raw", longest.encode() + b"a") is DROPPED
    assert guard.value("raw", [longest.encode() + b"a"]) == ["[redacted:too-long]"]


@pytest.mark.parametrize(
    "text",
    [
        "[redacted:email]",
        "[redacted:email][redacted:card]",
        "[redacted:too-long]",
        "[redacted:fault]",
        "[redacted:dropped]",
        "[redacted:ipv4]",
        "[redacted:own-1]",
        "[redacted:email:" + "0" * 32 + "]",
    ],
)
def test_a_marker_is_guarded_no_more(text: str) -> None:
    """One of either profile, of the user's, or of what could not be judged."""
    mine = own.read_rules([{"name": "own-1", "pattern": "walrus"}])
    guard = make_guard(rules=mine)
    for key in ("password", "brief", "user.id", "note", "db.query.text"):
        assert guard.value(key, text) == text
    assert guard.value("nested", {"password": text}) == {"password": text}
    assert guard.tally.counts == {}


@pytest.mark.parametrize(
    "text",
    [
        "[redacted:nobody]",
        "[redacted:email] x",
        "x [redacted:email]",
        "[redacted:email][redacted:walrus]",
        "[redacted:email]\0x",
        "[redacted:email",
        "[redacted:email:walrus]",
    ],
)
def test_what_only_resembles_a_marker_is_guarded(text: str) -> None:
    guard = make_guard()
    assert guard.value("password", text) == "[redacted:password-key]"
    assert guard.value("brief", text) is DROPPED
    assert guard.value("user.id", text) != text


def test_headers_are_pairs_whose_names_are_no_texts() -> None:
    guard = make_guard()
    marker = "[redacted:credential-key]"
    assert guard.value("h", [["a" * 100, "w"], ["x-api-key", "w"]]) == [
        ["a" * 100, "w"], ["x-api-key", marker]
    ]  # fmt: skip
    assert guard.value("h", [("x-api-key", "w")]) == [["x-api-key", marker]]
    others: list[Any] = [["a" * 101, "w"], 7, [7, 8], ["x-api-key"]]
    for other in others:
        assert guard.value("h", [["x-api-key", "w"], other]) == [["x-api-key", marker], other]
    assert guard.value("h", []) == []
    assert guard.value("h", [[MAIL, {"x": MAIL}]]) == [
        ["[redacted:email]", {"x": "[redacted:email]"}]
    ]
    assert guard.value("password", [["n", "w"]]) == [["[redacted:password-key]"] * 2]


def test_a_value_is_its_names_unless_that_is_a_text() -> None:
    guard = make_guard()
    marker = "[redacted:credential-key]"
    name = "a" * 92 + ".api_key"
    for key, value in (
        ("name", "value"), ("key", "Value"), ("NAME", "VALUE"), ("Name", "value"),
        ("header", "value"), ("k", "v"), ("Key", "val"),
    ):  # fmt: skip
        held: dict[str, Any] = {key: name, value: "w", "n": 1}
        assert guard.value("x", held) == {**held, value: marker}
    held = {"name": "a" + name, "value": "w"}
    assert guard.value("x", held) == held
    assert guard.value("x", {"name": 7, "key": name, "value": "w"})["value"] == marker
    assert guard.value("x", {"name": name, "values": "w"}) == {"name": name, "values": "w"}
    assert guard.value("x", {"name": "note", "value": MAIL})["value"] == "[redacted:email]"
    assert guard.value("x", {"name": "user.id", "value": "u"})["value"] == guard.value(
        "user.id", "u"
    )
    assert (
        guard.value("password", {"name": "n", "value": "w"})["value"] == "[redacted:password-key]"
    )


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (1, v)], ids=["list", "mapping", "tuple"]
)
def test_values_are_walked_to_their_depth_and_no_further(wrap: Any) -> None:
    guard = make_guard()
    value: Any = MAIL
    for _ in range(32):
        value = wrap(value)
    assert str(guard.value("x", value)).count("[redacted:email]") == 1
    answer = str(guard.value("x", wrap(value)))
    assert answer.count("[redacted:too-deep]") == 1
    assert "alice" not in answer


def test_pairs_are_two_levels_deep() -> None:
    guard = make_guard()
    value: Any = MAIL
    for _ in range(16):
        value = [["a", value]]
    assert str(guard.value("x", value)).count("[redacted:email]") == 1
    assert guard.value("x", [value]) == [guard.value("x", value)]
    assert "[redacted:too-deep]" in str(guard.value("x", [["a", value]]))


def test_options_are_secret_whose_keys_would_be_masked_or_dropped() -> None:
    guard = make_guard()
    line = ["x", "--user-id", "w", "--brief", "w", "--password", "w", "--db.query.text", "w"]
    marker = "[redacted:argument]"
    masked = ["x", "--user-id", "w", "--brief", marker, "--password", marker, *line[7:]]
    assert guard.value("argv", line) == masked
    assert guard.value("argv", " ".join(line)) == " ".join(masked)
    assert guard.tally.counts == {("argument", "mask"): 4}


def test_a_hash_is_counted_when_it_is_made() -> None:
    guard = make_guard()
    hashed = guard.value("user.id", "u")
    assert guard.tally.counts == {("identity-key", "hash"): 1}
    assert guard.value("user.id", hashed) == hashed
    assert guard.tally.counts == {("identity-key", "hash"): 1}


def test_the_guard_drops_what_it_has_no_form_for() -> None:
    guard = make_guard()
    assert guard.value("x", [{1, 2}, "a"]) == ["[redacted:unknown-type]", "a"]  # type: ignore[list-item]
    assert guard.value("x", {"a": MAIL, "b": b"\xff"}) == {"a": "[redacted:email]", "b": b"\xff"}
    assert guard.tally.counts == {("unknown-type", "drop"): 1, ("email", "mask"): 1}


# -- texts ----------------------------------------------------------------------------


def test_what_is_let_be_under_one_key_is_found_under_another() -> None:
    guard = make_guard(allow=own.read_allow({"build.*": ["email"]}, ()))
    for _ in range(2):
        for key, left in (("build.log", MAIL), ("note", "[redacted:email]"), ("build.log", MAIL)):
            assert guard.texts([(guard.key(key), f"to {MAIL}")]) == [f"to {left}"]
            assert guard.value(key, f"to {MAIL}") == f"to {left}"


def test_exceptions_for_many_keys_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_EXEMPTS_MAX", 8)
    guard = make_guard(allow=own.read_allow({"k1*": ["email"]}, ()))
    for number in range(40):
        left = MAIL if str(number).startswith("1") else "[redacted:email]"
        assert guard.texts([(guard.key(f"k{number}"), f"to {MAIL}")]) == [f"to {left}"]
    assert len(guard._text_judge._exempts) <= 8


@pytest.mark.parametrize("odd", ["a" * ((1 << 16) + 1), "a b\0c"])
def test_an_odd_text_among_others_is_judged_by_itself(odd: str) -> None:
    guard = make_guard()
    pending = [f"to {MAIL}", odd, "is clean", odd, f"cc {MAIL}"]
    gone = DROPPED if len(odd) > 9 else odd
    assert guard.texts([(guard.key("note"), text) for text in pending]) == [
        "to [redacted:email]", gone, "is clean", gone, "cc [redacted:email]",
    ]  # fmt: skip


def test_many_long_texts_are_searched_in_one_piece() -> None:
    """Only what is too long by itself is dropped."""
    guard = make_guard()
    longest = "a b " * (1 << 14)
    answers = guard.texts([(guard.key("note"), text) for text in (longest, MAIL, longest)])
    assert answers == [longest, "[redacted:email]", longest]


def test_bytes_are_searched_in_wide_characters_too() -> None:
    guard = make_guard()
    assert guard.value("raw", MAIL.encode("utf-16-le")) is DROPPED
    assert guard.tally.counts == {("email", "drop"): 1}
    assert guard.value("raw", "is clean".encode("utf-16-le")) == "is clean".encode("utf-16-le")


@pytest.mark.parametrize(
    "text",
    [f'{MAIL}\0pwa "\0login', f"{MAIL}\0pw\0=41api_key", f"{MAIL}\0pw \0=Bearer \0"],
    ids=["quote", "sign", "word"],
)
def test_a_text_with_nuls_is_the_same_when_it_is_guarded_again(text: str) -> None:
    """A marker ends what the secret was joined with, so more may be found without NULs."""
    guard = make_guard()
    once = guard.value("note", text)
    assert "alice" not in once
    assert guard.value("note", once) == once


def test_bytes_are_named_by_the_first_rule_that_finds_something() -> None:
    guard = make_guard()
    assert guard.value("raw", f"{MAIL} 4111 1111 1111 1111".encode()) is DROPPED
    assert guard.tally.counts == {("email", "drop"): 1}
    assert guard.value("raw", f"4111 1111 1111 1111 {MAIL}".encode()) is DROPPED
    assert guard.tally.counts == {("email", "drop"): 1, ("card", "drop"): 1}


def test_a_fault_is_a_finding_over_the_whole_text() -> None:
    def fail(_: str) -> Any:
        raise MemoryError

    guard = Guard(Policy(salt=SALT), make_matcher=fail)
    text = f"é {MAIL}"
    assert found(guard, text) == [("fault", text, "drop")]
    assert guard.texts([(guard.key("note"), text)]) == [DROPPED]
    assert guard.tally.faults == 2


def test_a_nul_before_a_secret_takes_no_more_than_the_secret() -> None:
    """A letter or three more, found without the NUL, are no part of one."""
    guard = make_guard()
    assert guard.value("note", f"abc\0{MAIL}") == "abc\0[redacted:email]"
    assert guard.value("note", f"abcd\0{MAIL}") == "[redacted:email]"


def test_content_is_let_be_only_where_it_was_turned_on() -> None:
    guard = make_guard(record_content=["chosen"])
    said = '{"prompt": "of a walrus", "to": "' + MAIL + '"}'
    kept = said.replace(MAIL, "[redacted:email]")
    gone = kept.replace("of a walrus", "[redacted:json-content]")
    for key, answer in (("chosen", kept), ("note", gone)):
        assert guard.texts([(guard.key(key), said)]) == [answer]
        assert guard.value(key, {"a": [{"b": said}]}) == {"a": [{"b": answer}]}
    held = {
        "a": {"prompt": "of a walrus", "name": "x", "value": said, "container.id": "4" + "1" * 15}
    }
    assert guard.value("chosen", held) == {"a": {**held["a"], "value": kept}}


# -- the user's own rules -------------------------------------------------------------

WORDY = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("short", "members"), [("d", "0123456789"), ("s", "\t\n\f\r "), ("w", WORDY)]
)
def test_a_short_class_is_what_re2_says(short: str, members: str) -> None:
    """And its capital is everything else, but for NUL; inside of brackets too."""
    for form in (f"ab\\{short}", f"ab[\\{short}]", f"ab[^\\{short.upper()}]"):
        written = re.compile(patterns.canonical(form).encode())
        other = re.compile(patterns.canonical(form.swapcase().replace("AB", "ab")).encode())
        for code in range(1, 300):
            data = f"ab{chr(code)}".encode()
            assert bool(written.fullmatch(data)) is (chr(code) in members), (form, code)
            assert bool(other.fullmatch(data)) is (chr(code) not in members), (form, code)
        assert not written.fullmatch(b"ab\0")
        assert not other.fullmatch(b"ab\0")


def accepted(pattern: str, *, only_re: bool = False) -> bool:
    try:
        patterns.canonical(pattern, only_re=only_re)
    except patterns.PatternError as error:
        assert error.hint  # noqa: PT017 - some are taken
        return False
    return True


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("a" * 1000, True),
        ("a" * 1001, False),
        ("abc", True),
        ("ab", False),
        ("é{2}", True),
        ("é", False),
        ("abc|ab", False),
        ("a{1000}", True),
        ("a{1001}", False),
        ("(?:a{3}){0,1000}abc", True),
        ("a{3,1001}", False),
        ("a{1000,}", True),
        ("a{1001,}", False),
        ("^^abc$$", True),
        ("\\Aabc\\Z", True),
        ("ab^c", False),
        ("(?i)abc", True),
        ("(?s)abc", True),
        ("(?m)abc", False),
        ("(?x)abc", False),
        ("(?m:abc)", False),
        ("(?-i:abc)", True),
        ("[]abc]{3}", True),
        ("[^]abc]{3}", True),
        ("[]a[]{3}", False),
        ("[a\\]]{3}", True),
        ("[a\\[]{3}", True),
        ("[a-c-]{3}", True),
        ("[a--c]{3}", False),
        ("[a||c]{3}", False),
        ("[a~~c]{3}", False),
        ("[1\\1]{3}", True),
        ("(a)bc\\1", False),
        ("(a)bc\\9", False),
        ("abc\\\\1", True),
        ("abc*+", False),
        ("abc?+", False),
        ("abc+?", True),
        ("[*+]{3}", True),
        ("[(?=]{3}", True),
        ("\\(?=abc", True),
        ("(?P<secret>abc)", True),
        ("(?P<other>abc)", True),
        ("x(?P<secret>abc)y", True),
        ("((?P<secret>abc))", False),
        ("(?P<secret>abc){2}", False),
        ("[\\x00-\\x02]bc", True),
        ("[^\\x01-\\U0010ffff]bc", False),
    ],
)
def test_the_language_of_patterns_ends_where_it_says(pattern: str, *, taken: bool) -> None:
    assert accepted(pattern) is taken


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("abc*d+", True),
        ("a{0,9}b{0,99}c{0,99}def", True),
        ("a{0,9}b{0,99}c{0,100}def", False),
        ("a*b*abc", True),
        ("a*b*c*abc", False),
        ("(?:ab|cd|ef|gh|ij){0,5}abc", True),
        ("(?:ab|cd|ef|gh|ij){0,8}abc", False),
        ("(a*)b*c*abc", False),
        ("(?:a*|b*)c*abc", True),
        ("(?:a{5}){64}abc", True),
        ("(?:a{0,1}){0,12}abc", True),
        ("(?:a{0,1}){0,13}abc", False),
    ],
)
def test_without_re2_a_pattern_may_be_tried_in_so_many_ways(pattern: str, *, taken: bool) -> None:
    """A hundred thousand: a repetition counts its lengths, one without a bound a hundred."""
    assert accepted(pattern, only_re=True) is taken


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("(?i)straße", ["STRAßE", "straße"], ["STRASSE"]),
        ("(?i)[à-ö]bc", ["Ãbc", "ãBC"], ["abc"]),
        ("(?i)[^x]bc", ["ybc", "ÿBC"], ["xbc", "Xbc"]),
        ("(?i:a)bc", ["Abc", "abc"], ["abC"]),
        ("(?i)a(?-i:b)cd", ["AbCD"], ["ABcd"]),
        ("(?s)a.c", ["a\nc", "aéc"], ["ac"]),
        ("a.cd", ["aécd"], ["a\ncd"]),
        ("(?i)[\\x20-\\u1000]k!!", ["Ák!!", "aK!!"], ["\tk!!"]),
        ("ab[^a-z]", ["abA", "ab\U0010ffff", "ab\x01"], ["aba", "abz"]),
        ("ab[c-eg]", ["abc", "abe", "abg"], ["abf", "abb", "abh"]),
        ("ab[ce-]", ["abc", "abe", "ab-"], ["abd"]),
        ("x(?:ab|cd)??yz", ["xyz", "xabyz"], ["xadyz"]),
    ],
)
def test_a_written_pattern_takes_what_it_says(
    pattern: str, hits: list[str], misses: list[str]
) -> None:
    written = re.compile(patterns.canonical(pattern).encode())
    assert [text for text in hits if not written.fullmatch(text.encode())] == []
    assert [text for text in misses if written.fullmatch(text.encode())] == []


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("^abc", ["abc", "abcd"], ["xabc", "\nabc"]),
        ("abc$", ["abc", "xabc", "abc\n"], ["abcd", "abc\nd"]),
        ("^abc$", ["abc"], ["abcd", "xabc"]),
    ],
)
def test_an_edge_is_that_of_a_text(pattern: str, inside: list[str], outside: list[str]) -> None:
    written = re.compile(patterns.canonical(pattern).encode())
    for before, after in ((b"", b""), (b"x\0", b""), (b"", b"\0x")):
        for text in inside:
            match = written.search(before + text.encode() + after)
            assert match, text
            assert match[1] == b"abc"
        assert not any(written.search(before + text.encode() + after) for text in outside)


def row(**fields: Any) -> dict[str, Any]:
    return {"name": "ticket-number", "pattern": "ACME-[0-9]{6}", **fields}


def refusal(rows: Any) -> str:
    """What is said against the rules; "" if they are taken."""
    try:
        own.read_rules(rows)
    except own.RuleError as error:
        assert error.hint  # noqa: PT017 - some are taken
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (row(name="ab"), row(name="a")),
        (row(name="a" * 40), row(name="a" * 41)),
        (row(reason="a" * 1000), row(reason="a" * 1001)),
        (row(allow=["x"] * 200), row(allow=["x"] * 201)),
        (row(allow=["x" * 200]), row(allow=["x" * 201])),
        (row(allow=("x",)), row(allow="x")),
        (row(allow=["x"]), row(allow=["x\0"])),
        (row(example="ACME-123456"), row(example="ACME-12345")),
        (row(counterexample="ACME-12345"), row(counterexample="ACME-123456")),
        ({"name": "k1", "key": "a" * 200}, {"name": "k1", "key": "a" * 201}),
        ({"name": "k1", "key": "*a"}, {"name": "k1", "key": "*?._-/: "}),
        ({"name": "k1", "key": "A*", "example": "a"}, {"name": "k1", "key": "A*", "example": "b"}),
        ([row()] + [row(name=f"n-{n}", pattern=f"abc{n}") for n in range(199)],
         [row()] + [row(name=f"n-{n}", pattern=f"abc{n}") for n in range(200)]),
        (iter([row()]), iter([{}])),
        ([], "rows"),
        ((), {"rows": []}),
    ],
)  # fmt: skip
def test_a_rule_of_the_users_is_taken_up_to_its_bounds(good: Any, bad: Any) -> None:
    assert refusal([good] if isinstance(good, dict) else good) == ""
    assert refusal([bad] if isinstance(bad, dict) and "name" in bad else bad) != ""


def test_a_counterexample_is_not_found_and_an_example_is() -> None:
    assert "is found" in refusal([row(counterexample="of ACME-123456")])
    assert "is not found" in refusal([row(example="ACME-000000", allow=["ACME-0*"])])
    assert refusal([row(counterexample="ACME-000000", allow=["ACME-0*"])]) == ""
    assert refusal([row(example="ACME-123456", counterexample="ACME-12345")]) == ""


@pytest.mark.parametrize(("others", "said"), [(0, ""), (1, "(and 1 more)"), (3, "(and 3 more)")])
def test_the_first_mistake_is_told_and_the_others_counted(others: int, said: str) -> None:
    message = refusal([row(), {"name": "a"}, *[{}] * others])
    assert message.startswith("missing, or not of the right length")
    assert message.endswith(said) if said else "more" not in message


def test_a_name_that_was_refused_may_be_used_again() -> None:
    with pytest.raises(own.RuleError) as caught:
        own.read_rules([row(pattern="("), row()])
    assert caught.value.rule == 1
    assert [one.name for one in caught.value.good] == ["ticket-number"]


def test_a_pattern_that_is_wrong_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Not by RE2 too, into whatever the program prints."""
    assert "too large" in refusal([row(pattern="(.{1,1000}é){1,1000}")])
    assert capfd.readouterr() == ("", "")


def test_what_a_rule_leaves_out_has_a_meaning() -> None:
    plain, full = own.read_rules(
        [row(), row(name="n-2", action="drop", reason="Ours.", profile="strict")]
    )
    assert (plain.action, plain.reason, plain.profile) == ("mask", "A rule of your own.", "default")
    assert (full.action, full.reason, full.profile) == ("drop", "Ours.", "strict")
    assert (plain.glob, plain.key, plain.allow) == ("", None, ())
    assert plain.text is not None
    assert plain.text.action == "mask"


def test_what_is_found_has_one_hash_wherever_it_stands() -> None:
    guard = make_guard(rules=own.read_rules([row(action="hash")]))
    texts_ = ["ACME-123456", "a ACME-123456 b", "é ACME-123456", "ACME-123456, ACME-123456"]
    answers = guard.texts([(guard.key("note"), text) for text in texts_])
    marker = answers[0]
    assert re.fullmatch(r"\[redacted:ticket-number:[0-9a-f]{32}\]", marker)
    assert answers == [text.replace("ACME-123456", marker) for text in texts_]
    assert guard.value("note", "ACME-123457") != marker


def test_the_more_severe_of_two_keys_rules_holds_and_the_first_of_equals() -> None:
    mine = own.read_rules(
        [
            {"name": "hashes", "key": "a.*", "action": "hash"},
            {"name": "masks", "key": "a.b*"},
            {"name": "masks-too", "key": "a.b*"},
            {"name": "drops", "key": "a.b.c", "action": "drop"},
            {"name": "strict-drops", "key": "a.d", "action": "drop", "profile": "strict"},
        ]
    )
    guard = make_guard(rules=mine)
    assert str(guard.value("a.x", "w")).startswith("hmac:")
    assert guard.value("a.b", "w") == "[redacted:masks]"
    assert guard.value("a.b.c", "w") is DROPPED
    assert str(guard.value("a.d", "w")).startswith("hmac:")
    assert make_guard(rules=mine, profile="strict").value("a.d", "w") is DROPPED
    assert guard.value("x.a", "w") == "w"


@pytest.mark.parametrize(
    ("table", "good"),
    [
        ({str(n): ["email"] for n in range(200)}, True),
        ({str(n): ["email"] for n in range(201)}, False),
        ({"k" * 200: ["email"]}, True),
        ({"k" * 201: ["email"]}, False),
        ({"k": "email"}, True),
        ({"k": ["email"] * 200}, True),
        ({"k": ["email"] * 201}, False),
        ({"k": ["email:" + "x" * 194]}, True),
        ({"k": ["email:" + "x" * 195]}, False),
        ({"k": ["password-key"]}, True),
        ({"k": ["password-key:x"]}, False),
        ({"k": ["own-key"]}, True),
        ({"k": ["own-key:x"]}, False),
        ({"k": ["ticket-number:x"]}, True),
        ({"k": ["nobody"]}, False),
        ({7: ["email"]}, False),
    ],
)
def test_an_exception_is_taken_up_to_its_bounds(table: Any, *, good: bool) -> None:
    mine = own.read_rules([row(), {"name": "own-key", "key": "x.y"}])
    try:
        taken = own.read_allow(table, mine)
    except own.RuleError as error:
        assert error.hint  # noqa: PT017 - some are taken
        taken = ()
    assert bool(taken) is good


@pytest.mark.parametrize(
    ("name", "meant"),
    [("emial", "email"), ("pasword-key", "password-key"), ("tiket-number", "ticket-number"),
     ("zzzzzz", "")],
)  # fmt: skip
def test_who_mistypes_a_rule_is_told_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(own.RuleError) as caught:
        own.read_allow({"k": [name]}, own.read_rules([row()]))
    hint = caught.value.hint
    assert hint == (f"did you mean '{meant}'?" if meant else "'guard rules' lists the names")
    assert caught.value.field == "k"


def test_who_mistypes_a_field_is_told_the_one_that_was_meant() -> None:
    with pytest.raises(own.RuleError) as caught:
        own.read_rules([row(exampel="x")])
    assert caught.value.hint == "did you mean 'example'?"


def test_an_exception_is_for_its_rule_and_its_match() -> None:
    allow = own.read_allow({"A.*": ["email:a*", "card"], "a.b": ["email:b*"]}, ())
    guard = make_guard(allow=allow)
    said = "alice@x.org bob@x.org carol@x.org"
    gone = "[redacted:email]"

    def left(key: str) -> Any:
        return guard.texts([(guard.key(key), said)])[0]

    assert left("a.x") == f"alice@x.org {gone} {gone}"
    assert left("a.b") == f"alice@x.org bob@x.org {gone}"
    assert left("b") == f"{gone} {gone} {gone}"


def test_a_rule_over_keys_is_let_be_where_it_is_named() -> None:
    """And another rule may take the key as well."""
    mine = own.read_rules([{"name": "own-key", "key": "acme.*"}])
    allow = own.read_allow({"*.password": ["password-key"], "acme.x": ["own-key"]}, mine)
    guard = make_guard(rules=mine, allow=allow)
    assert guard.value("a.password", "walrus") == "walrus"
    assert guard.value("a.password.b", "walrus") == "[redacted:password-key]"
    assert guard.value("a.token", "walrus") == "[redacted:credential-key]"
    assert guard.value("token.password", "walrus") == "[redacted:credential-key]"
    assert guard.value("acme.password", "walrus") == "[redacted:own-key]"
    assert guard.value("acme.x", "walrus") == "walrus"
    assert guard.value("a.note", "walrus") == "walrus"


@pytest.mark.parametrize(
    ("glob", "hits", "misses"),
    [
        ("a", ["a"], ["", "b", "aa", "ba"]),
        ("", [""], ["a"]),
        ("*", ["", "a", "ab"], []),
        ("**", ["", "a"], []),
        ("?", ["a"], ["", "ab"]),
        ("a?", ["ab"], ["a", "abc"]),
        ("a*", ["a", "ab"], ["ba", ""]),
        ("*a", ["a", "ba", "aa"], ["ab", ""]),
        ("a*b", ["ab", "axb", "abb"], ["a", "b", "abx"]),
        ("*a*b*", ["ab", "xaxbx", "aab"], ["ba", "a"]),
        ("*ab", ["ab", "aab", "abab"], ["aba", "a"]),
        ("*?", ["a", "ab"], [""]),
        ("a*?", ["ab", "abc"], ["a"]),
        ("*aab", ["aaab", "aab", "aaaab"], ["aaba"]),
    ],
)
def test_a_glob_is_over_the_whole_text(glob: str, hits: list[str], misses: list[str]) -> None:
    assert [text for text in hits if not own.glob_matches(glob, text)] == []
    assert [text for text in misses if own.glob_matches(glob, text)] == []


# -- the table of the rules -----------------------------------------------------------


def test_the_command_writes_the_table_that_programs_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(rules.__file__).parent
    shutil.copy(folder / "rules.toml", tmp_path)
    monkeypatch.setattr(rules, "__file__", str(tmp_path / "rules.py"))
    rules._regenerate()
    assert (tmp_path / "table.py").read_bytes() == (folder / "table.py").read_bytes()
