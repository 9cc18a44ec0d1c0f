"""Small promises of the guard's parts, each at the edge where it begins or ends to hold.

Quick, and by the part: what the whole guard makes of it is told by the other tests.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from stack_composer.telemetry.guard.arguments import in_line
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.examples import expand
from stack_composer.telemetry.guard.markers import blank_markers, tombstone
from stack_composer.telemetry.guard.plain import is_plain
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.validators import content, urls, wallets

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
    end = content.value_end(data, len(before.encode()), 0)
    assert data[len(before) : end].decode() == value


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
