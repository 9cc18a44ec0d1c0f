"""The edges of what validators take: the shortest, the longest, and what stands beside.

A validator is asked about a span amid other text; what it says of the span may depend on
the little before or behind it that is named here, and on nothing else.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from zlib import crc32

import pytest

from stack_composer.telemetry.guard import sql
from stack_composer.telemetry.guard.examples import expand
from stack_composer.telemetry.guard.validators import find_validator, tokens

AROUND = "Zq "
"""Neither a word for a credential, nor a digit, nor a filler."""


def judge(check: str, value: str, before: str = AROUND, after: str = " " + AROUND) -> bool:
    start = len(before.encode())
    data = (before + value + after).encode()
    return bool(find_validator(check)(data, start, start + len(value.encode())))


def holds_at(check: str, least: str, less: str) -> None:
    """``check`` takes ``least`` and no longer ``less``, wherever they stand."""
    for before, after in ((AROUND, " " + AROUND), ("", ""), ("\0", "\0"), (AROUND, "")):
        assert judge(check, least, before, after), (before, after)
        assert not judge(check, less, before, after), (before, after)


# -- tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "least", "less"),
    [
        # A digit behind the prefix, or two capitals in twelve letters.
        ("tokens.token", "s3k_resolve1configuration", "s3k_resolveconfiguration"),
        ("tokens.token", "abc_abCdefGhijkl", "abc_abCdefGhijklm"),
        # The last twelve are of four kinds, and nothing in it is said to stand for another.
        ("tokens.token", "abc_12" + "abcd" * 3, "abc_12" + "abca" * 3),
        ("tokens.token", "abc_dcba" + "1234" * 3, "abc_dcba" + "1231" * 3),
        ("tokens.token", "abc_q7zxxxxk2", "abc_q7zxxxxxk2"),
        ("tokens.token", "abc_q7z1k2m", "abc_<q7zk2m"),
        # Four digits among words, or letters and digits mixed, or long with capitals.
        ("tokens.made", "abc_resolve2024configs", "abc_resolve202configs"),
        ("tokens.made", "ab1_resolve2024configs", "ab1_resolve202configs"),
        ("tokens.made", "abc_" + "abCdefGh" * 4, "abc_" + ("abCdefGh" * 4)[:31]),
        ("tokens.made", "abc_1234a", "abc_12345"),
        # A header's value: eight with a digit, sixteen without.
        ("tokens.header", "walrus12", "walrus1"),
        ("tokens.header", "abcdefghijklmnop", "abcdefghijklmno"),
        ("tokens.header", "abCdefGhijkl", "abCdefGhijklm"),
        ("tokens.header", "walrus12.", "walrus1."),
        ("tokens.header", "walrus_walrus_12", "walrus_walrus_ab"),
        ("tokens.bearer", "walrus-12345", "walrus-1234"),
        ("tokens.bearer", "k3Jd9vQm", "k3Jd9vQ"),
        # Slack's: a digit behind the prefix, no run of x, no dots.
        ("tokens.slack", "xox1-abc2", "xox1-abcd"),
        ("tokens.slack", "xoxb-1xxxxxa", "xoxb-1xxxxxxa"),
        ("tokens.slack", "xoxxxxxxx1", "xoxxxxxxxx1"),
        ("tokens.slack", "xoxb-1..a", "xoxb-1...a"),
        # Okta's: both cases.
        ("tokens.okta", "00aBcd1234efgh5678", "00abcd1234efgh5678"),
        ("tokens.okta", "00AbCD1234EFGH5678", "00ABCD1234EFGH5678"),
        # Printable text with a colon in it.
        ("tokens.basic_auth", b64encode(b"a b:c~").decode(), b64encode(b"a b;c~").decode()),
        ("tokens.basic_auth", b64encode(b"a :c~").decode(), b64encode(b"a\x1f:c~").decode()),
        ("tokens.basic_auth", b64encode(b"a~:c").decode(), b64encode(b"a\x7f:c").decode()),
        ("tokens.basic_auth", b64encode(b"a~:c").decode(), b64encode(b"a\xff:c").decode()),
    ],
)
def test_a_token_is_long_and_mixed_enough(check: str, least: str, less: str) -> None:
    holds_at(check, least, less)


def github_token(body: str) -> str:
    digits, rest = "", crc32(body.encode())
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + digits
    return f"ghp_{body}{digits}"


def test_check_digits_say_that_a_filler_is_a_token() -> None:
    holds_at("tokens.github", github_token("x" * 20), github_token("x" * 19))
    holds_at("tokens.github", github_token("x" * 30), "ghp_" + "x" * 36)
    assert not tokens.has_github_checksum(github_token("x" * 19).encode())


BEGIN, END = "-----BEGIN X PRIVATE" + " KEY-----", "-----END X PRIVATE" + " KEY-----"


@pytest.mark.parametrize(
    ("least", "less"),
    [
        (f"{BEGIN}\n{'ab=/' * 4}", f"{BEGIN}\n{'ab=/' * 3}abc"),
        (f"{BEGIN}\n{'ab!' * 5}a\n{END}", f"{BEGIN}\n{'ab!' * 5}\n{END}"),
        (f"{BEGIN}\n{'abcd' * 9}..\n{END}", f"{BEGIN}\n{'abcd' * 9}...\n{END}"),
        (f"{BEGIN}\n{'abcd' * 9}\n{END}", f"{BEGIN}\n<{'abcd' * 9}\n{END}"),
    ],
)
def test_a_private_key_has_some_key_in_it(least: str, less: str) -> None:
    holds_at("tokens.pem", least, less)


def test_base64_is_looked_into_as_far_as_it_goes() -> None:
    key = b64encode(f"{BEGIN}\n{'abcd' * 30}".encode()).decode()
    certificate = b64encode(f"{BEGIN}\n".replace("X PRIVATE KEY", "CERTIFICATE").encode() * 4)
    for cut in range(44, len(key)):
        assert judge("tokens.pem_base64", key[:cut])
    assert not judge("tokens.pem_base64", certificate.decode())
    assert not judge("tokens.pem_base64", key[:20])
    late = b64encode(b"a" * 62 + b" PRIVATE KEY").decode()
    assert not judge("tokens.pem_base64", late)


def test_a_json_web_token_begins_with_an_object() -> None:
    def encoded(head: str) -> str:
        return urlsafe_b64encode(head.encode()).decode().rstrip("=")

    head = json.dumps({"alg": "HS256"})
    holds_at("tokens.jwt", f"{encoded(head)}.a.b", f"{encoded('[' + head)}.a.b")
    holds_at("tokens.jwt", f"{encoded(' ' + head)}.a.b", f"{encoded('{alg: 1234}')}.a.b")
    assert not judge("tokens.jwt", "e.y.J")
    twice = b64encode(f"{encoded(head)}.abcd.efgh".encode()).decode().rstrip("=")
    for cut in range(4):
        assert judge("tokens.jwt_base64", twice + "a" * cut)
    assert not judge("tokens.jwt_base64", b64encode(encoded(head).encode()).decode())


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("key=", True),
        ("h1:", False),
        ("xh1:", False),
        ("h1: ", True),
        ("sha256-", False),
        ("SHA1:", False),
        ("sha-", True),
        ("digest=", False),
        ("integrity=", False),
        ("integrityabc", False),
        ("integrityabcd", True),
    ],
)
def test_a_checksum_is_named_right_before(before: str, *, found: bool) -> None:
    value = expand("«b64 40»")
    assert judge("tokens.random_base64", value, before) is found
    assert not judge("tokens.random_base64", "abcdefgh" * 5, before)


# -- persons --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "least", "less"),
    [
        ("persons.phone", "+4420794", "+442079"),
        ("persons.phone", "+44207946095812", "+4420794609581234"),
        ("persons.phone", "020 794 6095", "020 794 609"),
        ("persons.phone", "020 7946 0958 1234"[:18], "020 7946 0958 12345"),
        ("persons.national_phone", "02079460958", "020794609581"),
        ("persons.national_phone", "612 345 678", "612 345 67"),
        ("persons.national_phone", "612 345 678 901", "612 345 678 9012"),
        ("persons.national_phone", "41-05-1984 12", "31-05-1984 12"),
        ("persons.phone_abroad", "442079460958", "44207946095"),
        ("persons.phone_abroad", "4420794609581", "44207946095812"),
        ("persons.phone_by_word", "5321234", "532123"),
        ("persons.phone_by_word", "532123456789012", "5321234567890123"),
        ("persons.phone_by_word", "2184-05-06", "2024-05-06"),
        ("persons.mac", "00:00:00:00:00:01", "00:00:00:00:00:00"),
        ("persons.us_ssn_loose", "219 09 9999", "219 09 999"),
        ("persons.us_ssn_loose", "219099990", "219090000"),
        ("persons.us_ssn_loose", "219019999", "219009999"),
        ("persons.us_ssn_loose", "001099999", "000099999"),
        ("persons.us_ssn_loose", "665099999", "666099999"),
        ("persons.us_ssn_loose", "899099999", "900099999"),
        ("persons.us_ssn_loose", "111111112", "111111111"),
        ("persons.us_ssn", "123-45-6780", "123-45-6789"),
        ("persons.us_ssn", "899-45-6780", "900-45-6780"),
        ("persons.us_ssn", "219 09 9999", "219-09 9999"),
        ("persons.email", "a@b.co", "git@b.co"),
        ("persons.email", "a@b.co", "a@b.png"),
        ("persons.email", "a@b.co", ".a@b.co"),
        ("persons.email", "a@b.co", "@a@b.co"),
        ("persons.home_name", "walrus\\", "Runner\\"),
        ("persons.home_name", "rooty", "ROOT/"),
        ("persons.user_name", "walrus", "None."),
        ("persons.user_name", "walrus", "self.name"),
        ("persons.user_name", "walrus", "12.5"),
        ("persons.user_name", "walrus", "<name>"),
        ("persons.person_field", "walrus", "NULL"),
        ("persons.person_field", "walrus", "get(x)"),
        ("persons.iban", "GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 3"),
        ("persons.iban", "NO93-8601.1117947", "NO93860111179470"),
        ("persons.ipv6", "fe80::1%eth0", "fe80::1::2"),
        ("persons.ipv6", "2001:db8::1/64", "dead::beef::"),
        ("persons.ipv6", "::a1", "::ab"),
        ("persons.ipv6", "::/0", "::"),
    ],
)
def test_a_number_of_a_person_is_long_enough_and_not_too_long(
    check: str, least: str, less: str
) -> None:
    holds_at(check, least, less)


@pytest.mark.parametrize(
    ("check", "value", "before", "after", "found"),
    [
        ("persons.phone", "020 794 6095", "1 ", "", False),
        ("persons.phone", "020 794 6095", "1-", "", False),
        ("persons.phone", "020 794 6095", "1/", "", True),
        ("persons.phone", "020 794 6095", "1  ", "", True),
        ("persons.phone", "020 794 6095", "a ", "", True),
        ("persons.phone", "+44 20 794 6095", "1 ", "", True),
        ("persons.phone", "020 794 6095", "", ".5", False),
        ("persons.phone", "020 794 6095", "", ":5", False),
        ("persons.phone", "020 794 6095", "", ". 5", True),
        ("persons.phone", "020 794 6095", "", "-5", True),
        ("persons.national_phone", "0207946095", "1.", "", False),
        ("persons.national_phone", "0207946095", "x ", "", True),
        ("persons.national_phone", "020794609", "x ", "", False),
        ("persons.national_phone", "020794609", "", "", True),
        ("persons.national_phone", "02079460", "", "", False),
        ("persons.national_phone", "612 345 678", "", ",5", False),
        ("persons.phone_abroad", "442079460958", "1:", "", False),
        ("persons.phone_by_word", "53212345", "number is ", "", False),
        ("persons.phone_by_word", "532123456", "number is ", "", True),
        ("persons.phone_by_word", "53212345", 'phone is: "', "", True),
        ("persons.phone_by_word", "53212345", 'is: "', "", False),
        ("persons.phone_by_word", "53212345", "is: ", "", False),
        ("persons.phone_by_word", "5321234", "phone: ", "", True),
        ("persons.ipv4", "1.2.3.4", "version ", "", False),
        ("persons.ipv4", "1.2.3.4", "Chrome/", "", False),
        ("persons.ipv4", "1.2.3.4", "headlesschrome:     ", "", False),
        ("persons.ipv4", "1.2.3.4", "to ", "", True),
        ("persons.ipv4", "1.2.3.4", "", ".5", False),
        ("persons.ipv4", "1.2.3.4", "", ".x", True),
        ("persons.ipv4", "1.2.3.204", "", ".5", True),
        ("persons.ipv6", "::2", "items[", "]", False),
        ("persons.ipv6", "::2", " [", "]", True),
        ("persons.ipv6", "::2", "[", "]", True),
        ("persons.ipv6", "::a12", "items[", "]", True),
        ("persons.ipv6", "fe80::1", "", "x", False),
        ("persons.ipv6", "fe80::1", "", "_", False),
        ("persons.ipv6", "fe80::1", "", ".5", False),
        ("persons.ipv6", "fe80::1", "", ". 5", True),
        ("persons.user_name", "walrus", "", "(x)", False),
        ("persons.user_name", "walrus", "", "[x]", False),
        ("persons.user_name", "walrus", "", " (x)", True),
        ("persons.user_name", "walrus", "", "", True),
        ("persons.email", "a@b.co", "ssh://x:", "", False),
        ("persons.email", "a@b.co", "ssh://x/", "", True),
        ("persons.email", "a@b.co", "ssh://x ", "", True),
        ("persons.email", "a@b.co", "://", "", False),
        ("persons.email", "a@b.co", "://" + "x" * 197, "", False),
        ("persons.email", "a@b.co", "://" + "x" * 198, "", True),
    ],
)
def test_what_stands_beside_a_number_of_a_person(
    check: str, value: str, before: str, after: str, *, found: bool
) -> None:
    assert judge(check, value, before, after) is found


# -- queries --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("SELECT 'a' 'b', N'c'", "SELECT ? ?, ?"),
        (
            "select q'[it's]', Q'{it's}' , nq'(it's)', q'!it's!', q'<it's<', x",
            "select ?, ? , ?, ?, ?, x",
        ),
        ("select q'a", "select ?"),
        ("select q'", "select ?"),
        ("select 'it\\'s', b, 'c' from d", "select ? from d"),
        ("select e'it\\'s', b", "select ?, b"),
        ("select `it\\'s`, 'c' from d", "select `it\\'s`, ? from d"),
        ("select `a'b`, 'c'", "select `a'b`, ?"),
        ("select `a", "select `a"),
        ("select [a b], [1, 2], [a", "select [a b], [?, ?], [a"),
        ("select a[1:2], b[1]", "select a[?:?], b[?]"),
        ("select a$b$c$, $$x$$, $1, $t$x$t$y, $t$x", "select a$b$c$, ?, $1, ?y, ?"),
        ("select '1'$$x$$", "select ??"),
        (
            "select 1.5e-3, .5, 1e5, 1e-5x, 5m, 5m30s, 5ms, 5q, 0x1f",
            "select ?, ?, ?, ?x, 5m, 5m30s, 5ms, ?, ?",
        ),
        ("select a1, a.1, @1, %1, :1, ?1, #1", "select a1, a.1, @1, %1, :1, ?1, #?"),
        ("select a::1, \"b\":2, 'c':3", "select a::1, ?:?, ?:?"),
        ("select --> 1", "select --> ?"),
        ("select -- 1", "select --?"),
        ("select --1", "select --?"),
        ("a --", "a --?"),
        ("select # 1", "select #?"),
        ("select #1", "select #?"),
        ("select #!1", "select #?"),
        ("select #_1", "select #?"),
        ("select;#x", "select;#?"),
        ("#x", "#?"),
        ("x#x", "x#x"),
        ("select /*a*/1/*b", "select /*?*/?/*?*/"),
        ("/* /* */ 1 */ 2", "/*?*/ ?"),
        ('select "a", \'b\' from "c"', 'select "a", ? from "c"'),
        ('select * from t where "a" = "b"', 'select * from t where "a" = ?'),
        (
            'select * from t where a = "b c" and "d" in ("e", "f")',
            'select * from t where a = ? and "d" in (?, ?)',
        ),
        ('select * from t where a = ("b")', "select * from t where a = (?)"),
        (
            'select * from t where a like "b" or "c" like \'d\'',
            'select * from t where a like ? or "c" like ?',
        ),
        ('select "a"::text', 'select "a"::text'),
        ('select x::"Money"', 'select x::"Money"'),
        ('select "a".b', 'select "a".b'),
        ('select * from "t" order by "a" desc', 'select * from "t" order by "a" desc'),
        ("insert into t values (\"a\", 'b')", "insert into t values (?, ?)"),
        ('insert into "t" ("a") values ("a", "b")', 'insert into "t" ("a") values (?, ?)'),
        ('update t set "a" = "b" where c = "d"', 'update t set "a" = ? where c = ?'),
        ('select `a` from t order by "b"', "select `a` from t order by ?"),
        ('select "a" , "1b", "a!b"', 'select "a" , ?, ?'),
        ('alter user a identified by "b" x', "alter user a identified by ? x"),
        ('alter user a identified with c by "b"', "alter user a identified with c by ?"),
        ("alter user a identified by password 'b'", "alter user a identified by ? ?"),
        ("alter user a identified by b;", "alter user a identified by ?;"),
        ("alter user a identified with sha by b", "alter user a identified with sha by ?"),
        ("alter user a identified as b", "alter user a identified as ?"),
        ("alter user a identified by ?", "alter user a identified by ?"),
        ("set x = 1", "set x = ?"),
        ("set x 1", "set x ?"),
        ("set x to 1", "set x to ?"),
        ("SET TRANSACTION 1", "SET TRANSACTION ?"),
        ("set @x 1", "set @x ?"),
        ("set k v ex 10", "set k ? ? ?"),
        ("get k", "get k"),
        ("get k v", "get k ?"),
        ("auth u p", "auth ? ?"),
        ("AUTH p", "AUTH ?"),
        ("config set a b", "config ? ? ?"),
        ('set k "a b" x', "set k ? ?"),
        ("set k ?", "set k ?"),
        (" set k v", " set k ?"),
        ("get a", "get a"),
        ("hset k \"a'b\" 'c d'", "hset k ? ? ?"),
        (
            '{"a": \'b\', "c": 1, "d": -1.5e+3, "e": /x\\/y/i, "f": "?"}',
            '{"a": \'?\', "c": ?, "d": ?, "e": ?, "f": "?"}',
        ),
        ('{"a": "b', '{"a": "?"'),
        ('["a", 1]', '["?", ?]'),
        ('{a: 1, b: .5, c: $1, d: x.1, "e" : "f"}', '{a: ?, b: ?, c: $1, d: x.1, "e" : "?"}'),
        ("[redacted:email] where a = 1", "[redacted:email] where a = ?"),
        ('{"$gt": ?}', '{"$gt": ?}'),
    ],
)
def test_of_a_query_the_values_go_and_the_names_stay(query: str, left: str) -> None:
    """Of every dialect, whole or cut off; guarded again it stays as it is."""
    said, at = "", 0
    for start, end, instead in sql.literals(query):
        assert at <= start < end
        said, at = said + query[at:start] + instead, end
    assert said + query[at:] == left


@pytest.mark.parametrize("chars", [0, 20, 33, 34])
def test_what_stands_before_a_name_in_quotes_is_seen_over_some_blanks(chars: int) -> None:
    query = f"select * from t where x like{' ' * chars}"  # noqa: S608 - it is not run
    assert sql.literals(f'{query}"a"') == [(len(query), len(query) + 3, "?")]


def test_what_stands_for_a_value_is_no_value_again() -> None:
    """It would be counted as masked each time that it is guarded."""
    for query in ("select ?", "a --?", "select /*?*/ x", "get k ?", "a = ? and b = ? --?"):
        assert sql.literals(query) == []


def test_values_that_overlap_are_one_to_the_end_of_the_longest() -> None:
    found = [(0, 1, "a"), (4, 9, "b"), (5, 7, "c"), (8, 10, "d"), (10, 12, "e"), (11, 14, "f")]
    assert sql._disjoint(found[::-1]) == [(0, 1, "a"), (4, 10, "b"), (10, 14, "e")]
