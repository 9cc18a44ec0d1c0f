"""The user's own rules: what is taken, what is refused, and what they do beside ours."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.guard import engines, own, patterns
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.rules import text_rules
from stack_composer.telemetry.model import DROPPED

SALT = b"s" * 32
ENGINES = {"re2": engines.Re2Matcher, "re": engines.ReMatcher}


def rule(name: str = "ticket-number", **fields: Any) -> dict[str, Any]:
    return {"name": name, **fields}


TICKET = rule(pattern="ACME-[0-9]{6}")


def make_guard(
    *rows: dict[str, Any], allow: Any = (), kind: str = "re2", profile: str = "default"
) -> Guard:
    rules = own.read_rules(list(rows))
    policy = Policy(
        salt=SALT, profile=profile, rules=rules, allow=own.read_allow(dict(allow), rules)
    )
    texts = own.in_order(text_rules(profile), rules, profile)
    return Guard(policy, make_matcher=lambda _: ENGINES[kind](texts))


def texts(guard: Guard, *values: str, key: str = "note") -> list[Any]:
    verdict = guard.key(key)
    return guard.texts([(verdict, value) for value in values])


# -- the language ---------------------------------------------------------------------


SAMPLES = [
    r"ACME-[0-9]{6}", r"(?i)acme[- ]?\d{3,}", r"\bt-\w+\b", "[^a-c]{3}x", "a.{0,3}zé", "(?s:a.)bc",
    "(ab|cd)+ef", "[à-ü]{2,}", "Ω[ж-яA-C]{2}", r"[\w.-]+@acme", r"\D{2}\Sx", "(?i:É)té", "a??bcd",
    "x[^x]y", r"abc|defg|[h-k]{4}", r"\Babc", "💥[^💣]💥", "\ud800?abc",
]  # fmt: skip
FRAGMENTS = [
    "ACME-123456", "acme 1234", "t-abc", "abcx", "azé", "a\nbc", "abcdef", "àü", "Ωяж", "x.y@acme",
    "ÉTÉ", "été", "bcd", "xéy", "defg", "hijk", "💥a💥", "💥💣💥", " ", "\n", "a", "é", "-",
    "\x0b", "\0",
]  # fmt: skip


@pytest.mark.parametrize("pattern", SAMPLES)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=6).map("".join))
def test_the_written_pattern_means_what_the_user_s_means(pattern: str, text: str) -> None:
    """In both engines, over bytes, in every text but for NUL, which nothing matches."""
    written = patterns.canonical(pattern).encode()
    # RE2's meaning of the short classes is ASCII's, that of the cases is not.
    plain = pattern.replace(r"\w", "A-Za-z0-9_" if "[\\w" in pattern else "[A-Za-z0-9_]")
    plain = plain.replace(r"\d", "[0-9]").replace(r"\D", "[^0-9]").replace(r"\S", "[^ \t\n\f\r]")
    plain = re.sub(r"\\(b|B)", r"(?a:\\\1)", plain)
    wanted = [bool(re.search(plain, part)) for part in text.split("\0")]
    parts = [part.encode("utf-8", "surrogatepass") for part in text.split("\0")]
    assert [bool(re.search(written, part)) for part in parts] == wanted
    options = engines.Re2Matcher(())._options(captures=True)
    re2 = pytest.importorskip("re2")
    assert [bool(re2.search(written, part, options)) for part in parts] == wanted


@pytest.mark.parametrize("pattern", SAMPLES)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("\0".join))
def test_no_pattern_spans_a_nul(pattern: str, text: str) -> None:
    """Or one text of a batch would answer for its neighbour."""
    written = patterns.canonical(pattern).encode()
    data = text.encode("utf-8", "surrogatepass")
    assert not any(b"\0" in match[0] for match in re.finditer(written, data))


BORDERS = [1, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xFFFF, 0x10000, 0x3FFFF, 0x10FFFF]


@given(
    *(st.sampled_from(BORDERS) | st.integers(1, 0x10FFFF) for _ in "ab"),
    st.lists(st.integers(1, 0x10FFFF), max_size=9),
)
def test_a_range_of_characters_is_that_range_of_utf_8(
    one: int, other: int, some: list[int]
) -> None:
    low, high = sorted((one, other))
    written = re.compile(patterns._written([(low, high)]).encode())
    near = {low - 1, low, low + 1, high - 1, high, high + 1, (low + high) // 2, *BORDERS, *some}
    for char in near - {-1, 0, 0x110000}:
        data = chr(char).encode("utf-8", "surrogatepass")
        assert bool(written.fullmatch(data)) is (low <= char <= high), hex(char)


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("pattern", ["Müller-[0-9]", "(?i)mÜLLER-[0-9]", "[üé]ller-[0-9]"])
def test_letters_outside_of_ascii_are_found_by_both_engines(pattern: str, kind: str) -> None:
    (found,) = texts(make_guard(rule(pattern=pattern), kind=kind), "Herr Müller-1")
    assert "ller-1" not in found


@pytest.mark.parametrize("kind", ENGINES)
def test_edges_are_those_of_the_text_among_its_neighbours(kind: str) -> None:
    guard = make_guard(rule(pattern="^abc-[0-9]|xyz-[0-9]$"), kind=kind)
    found = texts(
        guard, "abc-1 b", "a abc-1", "xyz-1 b", "a xyz-1", "a xyz-1\n", "abc-1", "\nabc-1"
    )
    mark = "[redacted:ticket-number]"
    assert found == [
        f"{mark} b", "a abc-1", "xyz-1 b", f"a {mark}", f"a {mark}\n", mark, "\nabc-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=abc)abc", "position 0: lookahead"),
        ("abc(?!d)", "position 3: lookahead"),
        ("(?<=a)bcd", "position 0: lookbehind"),
        ("(?<!a)bcd", "position 0: lookbehind"),
        (r"(abc)\1", "position 5: a backreference"),
        ("(?P<x>abc)(?P=x)", "position 10: a backreference"),
        ("(abc)(?(1)d|e)", "position 5: a conditional group"),
        ("ab(?>cd)", "position 2: an atomic group"),
        ("abc++", "position 3: a possessive repetition"),
        ("a{3}+", "position 3: a possessive repetition"),
        ("[[:alpha:]]{4}", "position 1: a set inside of a class"),
        ("[a-z&&b]{4}", "position 4: a set inside of a class"),
        ("(abc", "position 0: missing ), unterminated subpattern"),
        ("[abc", "position 0: unterminated character set"),
        ("*abc", "position 0: nothing to repeat"),
        (r"\pLabc", r"position 0: bad escape \p"),
        ("abc\0def", "position 3: a NUL"),
        (r"abc\x00def", "NUL alone"),
        (r"abc[\x00]def", "NUL alone"),
        ("(?m)^abc", "a flag other than i and s"),
        ("abc(?x: d)", "a flag other than i and s"),
        ("abc^def", "^ and $ stand only where"),
        ("(?:^|x)abc", "^ and $ stand only where"),
        ("", "could match 0 bytes"),
        ("a*", "could match 0 bytes"),
        ("abc|de", "could match 2 bytes"),
        ("^$", "could match 0 bytes"),
        (r"\b\b", "could match 0 bytes"),
        ("a{1001}", "a repetition beyond 1,000"),
        ("a{99999999999999999999}", "a number too large"),
        ("(" * 400 + "abc" + ")" * 400, "nested too deep"),
        ("a" * 1001, "longer than 1,000 characters"),
        ("(?P<secret>abc)?def", "does not take part"),
        ("abcd|(?P<secret>abc)", "does not take part"),
        ("(.{1,1000}é){1,1000}", "too large"),
        (".{900}abc.{900}", "too large"),
    ],
)
def test_a_bad_pattern_is_refused_with_its_place(pattern: str, message: str) -> None:
    with pytest.raises(own.RuleError) as caught:
        own.read_rules([TICKET, rule("second", pattern=pattern)])
    assert message in str(caught.value)
    assert (caught.value.rule, caught.value.field) == (2, "pattern")
    assert caught.value.hint
    assert [one.name for one in caught.value.good] == ["ticket-number"]


@given(st.text(max_size=40) | st.text(r"ab[](){}\^$.*+?|,0123:=!<>Pi-", max_size=25))
def test_any_pattern_is_taken_or_refused(pattern: str) -> None:
    """And what is taken compiles, finds what its gate finds, and settles."""
    try:
        (one,) = own.read_rules([rule(pattern=pattern)])
    except own.RuleError as error:
        assert error.hint  # noqa: PT017 - most are taken
        return
    assert one.text is not None
    found = [make([one.text]).spans(b"aab0a:ba" * 3) for make in ENGINES.values()]
    assert [(s.start, s.end) for s in found[0]] == [(s.start, s.end) for s in found[1]]


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*bcd", "(.*a){20}", "(a*)*(b*)*c{3}", "((ab)*)*def"]
)
def test_no_pattern_is_exponential(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RE2 is linear; without it, such a pattern is refused."""
    (one,) = own.read_rules([rule(pattern=f"(?:{pattern})X9")])
    assert one.text is not None
    begun = time.perf_counter()
    engines.Re2Matcher([one.text]).spans(b"a" * 50_000)
    assert time.perf_counter() - begun < 5
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(own.RuleError, match="too long without google-re2"):
        own.read_rules([rule(pattern=f"(?:{pattern})X9")])


def test_without_re2_a_simple_rule_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    rows = [TICKET, rule("room", pattern=r"(?i)room [a-z]+-\d+", example="ROOM abc-1")]
    assert [one.program for one in own.read_rules(rows)] == [0, 0]


# -- rules as they are written --------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ("text", "", "must be a table"),
        ({}, "name", "missing"),
        (rule("a", pattern="abc"), "name", "right length"),
        (rule("a" * 41, pattern="abc"), "name", "right length"),
        (rule("Ticket", pattern="abc"), "name", "may not stand in a marker"),
        (rule("tick]t", pattern="abc"), "name", "may not stand in a marker"),
        (rule("tickét", pattern="abc"), "name", "may not stand in a marker"),
        (rule("email", pattern="abc"), "name", "of a rule of ours"),
        (rule("password-key", pattern="abc"), "name", "of a rule of ours"),
        (rule("first", pattern="abc"), "name", "of a rule above"),
        (rule(7, pattern="abc"), "name", "must be a text, not int"),  # type: ignore[arg-type]
        (rule(pattern=["abc"]), "pattern", "must be a text, not list"),
        (rule(key=True), "key", "must be a text, not bool"),
        (rule(), "", "either a pattern or a key"),
        (rule(pattern="abc", key="a.b"), "", "either a pattern or a key"),
        (rule(pattern="abc", action="keep"), "action", "not one of mask, drop, hash"),
        (rule(pattern="abc", action="pass"), "action", "not one of mask, drop, hash"),
        (rule(pattern="abc", profile="lax"), "profile", "not one of default, strict"),
        (rule(pattern="abc", alow=["x"]), "", "has an unknown key 'alow'"),
        (rule(pattern="abc", allow="abc"), "allow", "must be a list"),
        (rule(pattern="abc", allow=[3]), "allow", "not a text"),
        (rule(pattern="abc", allow=[""]), "allow", "not a text"),
        (rule(pattern="abc", allow=["x"] * 201), "allow", "at most 200"),
        (rule(pattern="abc", reason="x" * 1001), "reason", "longer than 1,000"),
        (rule(pattern="abc", example="ab c"), "example", "is not found"),
        (rule(pattern="abc", example="abc", allow=["ab?"]), "example", "is not found"),
        (rule(pattern="abc", counterexample="xabcx"), "counterexample", "is found"),
        (rule(key="*"), "key", "names every key"),
        (rule(key="*.*"), "key", "names every key"),
        (rule(key=""), "key", "not a text"),
        (rule(key="a\0b"), "key", "without NUL"),
        (rule(key="a.b", allow=["x"]), "allow", "goes with a pattern only"),
        (rule(key="a.*", example="b.a"), "example", "is not found"),
        (rule(key="a.*", counterexample="A.b"), "counterexample", "is found"),
    ],
)
def test_a_bad_rule_is_refused_with_its_place(row: Any, field: str, message: str) -> None:
    with pytest.raises(own.RuleError) as caught:
        own.read_rules([rule("first", pattern="abc"), row])
    assert message in str(caught.value)
    assert (caught.value.rule, caught.value.field) == (2, field)
    assert caught.value.hint
    assert [one.name for one in caught.value.good] == ["first"]


@pytest.mark.parametrize("rows", ["text", {"name": "x"}, 3, None, True])
def test_what_is_no_list_of_rules_is_refused(rows: Any) -> None:
    with pytest.raises(own.RuleError, match="must be a list of tables") as caught:
        own.read_rules(rows)
    assert (caught.value.rule, caught.value.good) == (0, ())


def test_ten_thousand_rules_are_refused_at_once() -> None:
    rows = [rule(f"rule-{n}", pattern=f"abc{n}") for n in range(10_000)]
    begun = time.perf_counter()
    with pytest.raises(own.RuleError, match="more than 200 rules"):
        own.read_rules(rows)
    assert time.perf_counter() - begun < 0.5
    assert len(own.read_rules(rows[:200])) == 200


def test_rules_have_a_bound_together() -> None:
    rows = [
        rule(f"rule-{n}", pattern="[a-z]{900}[0-9]{900}[a-f]{900}" + "x" * n) for n in range(30)
    ]
    with pytest.raises(own.RuleError, match="together with those before") as caught:
        own.read_rules(rows)
    assert 10 < len(caught.value.good) < 30


def test_every_mistake_is_counted() -> None:
    with pytest.raises(own.RuleError, match=r"missing.*\(and 1 more\)"):
        own.read_rules([{}, TICKET, {}])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "pattern", "key", "allow", "action"])
                | st.text(max_size=4),
                inner,
                max_size=5,
            )
        ),
        max_leaves=9,
    )
)
def test_any_value_is_taken_or_refused_with_a_hint(value: Any) -> None:
    for read in (own.read_rules, lambda table: own.read_allow(table, ())):
        try:
            read(value)
        except own.RuleError as error:
            assert error.hint  # noqa: PT017 - some are taken


# -- at work --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
def test_each_action_takes_its_part(kind: str) -> None:
    for action, wanted in {
        "mask": r"see \[redacted:ticket-number\], please",
        "hash": r"see \[redacted:ticket-number:[0-9a-f]{32}\], please",
    }.items():
        guard = make_guard(rule(pattern="ACME-[0-9]{6}", action=action), kind=kind)
        (found,) = texts(guard, "see ACME-123456, please")
        assert re.fullmatch(wanted, found)
        assert texts(guard, found) == [found], "guarding twice changes nothing"
        assert guard.tally.counts == {("ticket-number", action): 1}
    guard = make_guard(rule(pattern="ACME-[0-9]{6}", action="drop"), kind=kind)
    assert texts(guard, "see ACME-123456, please", "fine") == [DROPPED, "fine"]
    assert guard.value("list", ["ACME-123456", "x"]) == ["[redacted:ticket-number]", "x"]


def test_a_hash_is_stable_and_keyed() -> None:
    row = rule(pattern="ACME-[0-9]+", action="hash")
    first, second, other = texts(make_guard(row), "a ACME-1234", "ACME-1234 b", "a ACME-12345")
    assert first[2:] == second[:-2] != other[2:]
    rules = own.read_rules([row])
    (salted,) = texts(Guard(Policy(salt=b"t" * 32, rules=rules)), "a ACME-1234")
    assert salted != first
    (plain,) = texts(Guard(Policy(identifiers="sha256", rules=rules)), "a ACME-1234")
    assert re.fullmatch(r"a \[redacted:ticket-number:[0-9a-f]{64}\]", plain)
    assert texts(make_guard(row), plain) == [plain]


def test_a_hash_that_hits_its_own_rule_is_left() -> None:
    guard = make_guard(rule(pattern="[0-9a-f]{8,}", action="hash"))
    (once,) = texts(guard, "id deadbeef99")
    assert texts(guard, once) == [once] != ["id deadbeef99"]


def test_what_only_looks_like_a_hash_in_a_marker_is_searched() -> None:
    guard = make_guard(TICKET)
    for inside in ("email:ACME-123456", f"email:{'a' * 31}ACME-123456", ":ACME-123456"):
        (found,) = texts(guard, f"[redacted:{inside}]")
        assert "123456" not in found


def test_a_text_written_in_another_way_is_read() -> None:
    guard = make_guard(TICKET)
    for text in ("GET /t/ACME%2D123456", "ACME-123456", r'{"t": "ACME\u002d123456"}'):
        (found,) = texts(guard, text)
        assert "123456" not in found, text


def test_a_short_text_that_would_be_plain_is_searched() -> None:
    guard = Guard(Policy(salt=SALT, rules=own.read_rules([rule(pattern="ab-[0-9]")])))
    assert texts(guard, "ab-1") == ["[redacted:ticket-number]"]
    assert guard.value("note", {"deep": ["ab-1"]}) == {"deep": ["[redacted:ticket-number]"]}
    assert guard.key("ab-1").text == "[redacted:ticket-number]"
    assert guard.value("raw", b"ab-1") is DROPPED


def test_only_the_group_secret_narrows() -> None:
    guard = make_guard(
        rule(pattern="(?:pin|code) (?P<secret>[0-9]{4})"), rule("r2", pattern="(ab)(cd)")
    )
    assert texts(guard, "my pin 1234 abcd") == ["my pin [redacted:ticket-number] [redacted:r2]"]


def test_ours_name_what_both_find_and_the_more_severe_holds() -> None:
    text = "write to jane.roe@example.com"
    mail = "[a-z.]+@example.com"
    for action, wanted in {
        "mask": "write to [redacted:email]",
        "hash": "write to [redacted:email]",
        "drop": DROPPED,
    }.items():
        assert texts(make_guard(rule(pattern=mail, action=action)), text) == [wanted]


def test_a_strict_rule_is_for_strict_only() -> None:
    rows = [rule(pattern="abc-[0-9]", profile="strict"), rule("k1", key="x.y", profile="strict")]
    assert texts(make_guard(*rows), "abc-1") == ["abc-1"]
    assert make_guard(*rows).key("x.y").rule is None
    strict = make_guard(*rows, profile="strict")
    assert texts(strict, "abc-1") == ["[redacted:ticket-number]"]
    assert strict.value("x.y", "v") == "[redacted:k1]"


@pytest.mark.parametrize("value", ["bob", 7, 1.5, True, ["bob"], {"a": "bob"}, b"bobby"])
def test_a_key_rule_takes_every_type(value: Any) -> None:
    guard = make_guard(rule(key="acme.*.owner"))
    guarded = guard.value("Acme.Team.OWNER", value)
    assert "bob" not in repr(guarded)
    assert "[redacted:ticket-number]" in repr(guarded)
    assert guard.value("acme.team.owners", "bob") == "bob"
    assert guard.value("acme.x.owner", None) is None
    dropping = make_guard(rule(key="acme.*.owner", action="drop"))
    if not isinstance(value, (list, dict)):
        assert dropping.value("acme.team.owner", value) is DROPPED


def test_a_key_rule_beats_what_passes_and_weakens_nothing_of_ours() -> None:
    guard = make_guard(
        rule("verb", key="http.request.method", action="hash"),
        rule("pass-hash", key="*password*", action="hash"),
        rule("ids", key="user.id", action="mask"),
        rule("acme", key="acme.*", action="hash"),
    )
    assert str(guard.value("http.request.method", "GET")).startswith("hmac:")
    assert guard.value("db.password", "x1") == "[redacted:password-key]"
    assert guard.value("user.id", "u1") == "[redacted:ids]"
    below = guard.value("acme.team", {"password": "x1", "name": "x2"})
    assert below.pop("password") == "[redacted:password-key]"
    assert below["name"].startswith("hmac:")


# -- exceptions -----------------------------------------------------------------------


def test_an_exception_lets_one_match_be_and_not_the_value() -> None:
    guard = make_guard(rule(pattern="ACME-[0-9]{6}", allow=["ACME-000000", "ACME-99????"]))
    assert texts(guard, "ACME-000000, ACME-123456, ACME-991234, a@example.com") == [
        "ACME-000000, [redacted:ticket-number], ACME-991234, [redacted:email]"
    ]


def test_exceptions_by_key_and_rule() -> None:
    guard = make_guard(
        TICKET,
        allow={"http.user_agent": ["ipv4", "ticket-number"], "build.*": ["email:*@ci.example"]},
        profile="strict",
    )
    text = "203.0.113.7 ACME-123456 a@ci.example b@example.com"
    mail = "[redacted:email] [redacted:email]"
    assert texts(guard, text, key="HTTP.user_agent") == [f"203.0.113.7 ACME-123456 {mail}"]
    assert texts(guard, text, key="build.log") == [
        "[redacted:ipv4] [redacted:ticket-number] a@ci.example [redacted:email]"
    ]
    assert texts(guard, text) == [f"[redacted:ipv4] [redacted:ticket-number] {mail}"]


def test_what_is_let_be_is_still_another_rule_s() -> None:
    guard = make_guard(TICKET, allow={"note": ["email"]})
    (found,) = texts(guard, "password=Tr0ub4dor&3a@example.com")
    assert "Tr0ub4dor" not in found


def test_a_star_also_names_texts_without_a_key() -> None:
    guard = Guard(Policy(salt=SALT, allow=own.read_allow({"*": ["email"]}, ())))
    assert [f.rule for f in guard.findings("a@example.com")] == []
    assert [f.rule for f in guard.findings("a@example.com 4111 1111 1111 1111")] == ["card"]


def test_a_key_rule_of_ours_can_be_exempted_by_name() -> None:
    allow = {"acme.password": ["password-key"]}
    guard = make_guard(TICKET, allow=allow)
    assert guard.value("acme.password", "rotated ACME-123456") == (
        "rotated [redacted:ticket-number]"
    )
    assert guard.value("other.password", "rotated") == "[redacted:password-key]"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("text", "must be a table"),
        ({"k": 3}, "must be a list"),
        ({"k": [3]}, "not a text"),
        ({"k": ["emial"]}, "does not begin with the name of a rule"),
        ({"k": ["password-key:x"]}, "no match to narrow"),
        ({"": ["email"]}, "or empty"),
        ({"k" * 201: ["email"]}, "longer than 200"),
        ({str(n): ["email"] for n in range(201)}, "at most 200 keys"),
    ],
)
def test_a_bad_exception_is_refused(table: Any, message: str) -> None:
    with pytest.raises(own.RuleError, match=message) as caught:
        own.read_allow(table, ())
    assert caught.value.hint


@pytest.mark.parametrize(
    ("glob", "text", "wanted"),
    [
        ("acme.*.owner", "acme.a.b.owner", True),
        ("acme.*.owner", "acme.owner", False),
        ("*", "", True),
        ("?", "", False),
        ("a*b*c", "axxbxxbc", True),
        ("a*b*c", "axxbxx", False),
        ("[a]", "a", False),
        ("[a]", "[a]", True),
        ("*?x", "ax", True),
        ("a", "ab", False),
    ],
)
def test_globs(glob: str, text: str, *, wanted: bool) -> None:
    assert own.glob_matches(glob, text) is wanted


def test_a_hostile_glob_is_quick() -> None:
    begun = time.perf_counter()
    assert not own.glob_matches("*a" * 100, "a" * 99 + "b" * 925)
    assert time.perf_counter() - begun < 1


# -- failing closed -------------------------------------------------------------------


class BrokenMatcher(engines.Re2Matcher):
    def _compile(self, pattern: bytes) -> Any:
        if b"ACME" in pattern:
            raise MemoryError
        return super()._compile(pattern)


def test_an_own_rule_that_fails_drops_the_value_and_is_counted() -> None:
    rules = own.read_rules([TICKET])
    policy = Policy(salt=SALT, rules=rules)
    guard = Guard(policy, make_matcher=lambda _: BrokenMatcher([rules[0].text]))  # type: ignore[list-item]
    assert texts(guard, "see ACME-123456", "fine and dandy, as ever") == [
        DROPPED,
        "fine and dandy, as ever",
    ]
    assert guard.tally.faults == 1
    assert guard.tally.counts == {("fault", "drop"): 1}


def test_a_hash_that_fails_drops_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> Any:
        raise OSError("never shown")

    monkeypatch.setattr(Guard, "_hashes", fail)
    guard = make_guard(
        rule(pattern="ACME-[0-9]+", action="hash"), rule("k1", key="x.y", action="hash")
    )
    assert texts(guard, "see ACME-123456") == [DROPPED]
    assert guard.value("x.y", "v") is DROPPED
    assert guard.tally.faults == 2


def test_a_rule_over_keys_that_fails_drops_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = make_guard(rule(key="x.y"))
    monkeypatch.setattr(own, "own_key_rule", None)
    assert guard.value("anything.else", "v") is DROPPED
    assert guard.tally.faults


# -- counting -------------------------------------------------------------------------


def test_texts_judged_and_hit_are_counted() -> None:
    guard = make_guard(TICKET, rule("k1", key="x.y"))
    texts(guard, "see ACME-123456 and ACME-123457", "nothing at all is in here", "plain")
    guard.value("x.y", "v")
    guard.value("db.password", "v")
    assert guard.tally.judged == 5
    assert guard.tally.hits == {"ticket-number": 1, "k1": 1}, "once a text, and no key rule of ours"
    texts(guard, "see ACME-123456 and ACME-123457")
    assert guard.tally.hits["ticket-number"] == 2, "a text that is remembered counts as well"


@pytest.mark.parametrize("key", ["acme\u200b.x", "ACME.x", "\uff41cme.x", "ac%6De.x"])
def test_a_key_written_oddly_is_taken_too(key: str) -> None:
    rules = own.read_rules([{"name": "ours-only", "key": "acme.*"}])
    guard = Guard(Policy(salt=bytes(32), rules=rules))
    assert guard.value(key, "walrus") == "[redacted:ours-only]"
