"""The rules: each does what its examples say, and keeps the engine's conditions."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack_composer.telemetry.guard import engines, markers, matcher, patterns, rules
from stack_composer.telemetry.guard.budget import Patience
from stack_composer.telemetry.guard.examples import expand
from stack_composer.telemetry.guard.gates import derive_anchors, derive_gate, derive_sign, members
from stack_composer.telemetry.guard.syntax import code, parser
from stack_composer.telemetry.guard.validators import find_validator

FOLDER = Path(rules.__file__).parent


@cache
def parsed() -> list[dict[str, Any]]:
    return rules.parse_rules((FOLDER / "rules.toml").read_text(encoding="utf-8"))


TEXT_RULES = [rule for rule in parsed() if rule["tier"] != "key"]
PATTERNS = pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule["name"])


@cache
def engine(kind: str, profile: str = "strict") -> matcher.Matcher:
    if kind == "re2":
        pytest.importorskip("re2")
        return engines.Re2Matcher(rules.text_rules(profile))
    return engines.ReMatcher(rules.text_rules(profile))


def found(kind: str, text: str, profile: str = "strict") -> list[str]:
    """The rules that find something in ``text``, each by itself."""
    data = markers.encode(text)
    searcher = engine(kind, profile)
    return [
        searcher.rules[hit.rule].name
        for index in searcher._candidates(data)
        if index < len(searcher.rules)
        for hit in matcher.search_rule(*searcher._search(index), data, index, Patience())
    ]


def test_the_table_is_made_from_the_file() -> None:
    """What programs load is what people review."""
    table = (FOLDER / "table.py").read_text(encoding="utf-8")
    assert table == rules.render_table(parsed()), "run: python -m stack_composer...guard.rules"


def test_each_rule_is_complete() -> None:
    names = [rule["name"] for rule in parsed()]
    assert len(set(names)) == len(names)
    for rule in parsed():
        assert re.fullmatch("[a-z0-9-]{2,40}", rule["name"])
        assert rule["tier"] in rules.TIERS
        assert rule["action"] in rules.ACTIONS
        assert rule["profile"] in ("default", "strict")
        assert rule["reason"].endswith(".")
    assert [row["name"] for row in rules.describe()] == names


@PATTERNS
@pytest.mark.parametrize("kind", ["re2", "re"])
def test_hits_are_found_and_misses_are_not(rule: dict[str, Any], kind: str) -> None:
    assert rule["hit"], "a rule without an example"
    assert rule["miss"], "a rule without a counterexample"
    for seed in (1, 7, 23):
        for example in rule["hit"]:
            assert rule["name"] in found(kind, expand(example, seed)), example
        for example in rule["miss"]:
            names = found(kind, expand(example, seed), rule["profile"])
            assert not names, example


@PATTERNS
def test_other_texts_beside_it_change_no_answer(rule: dict[str, Any]) -> None:
    """A validator looks at its own text only, though others stand in the same bytes."""
    if rule["validator"] == "content.value_end":
        return  # Content ends where its brackets do: what was found within it is NULs by then.
    before, after = "is clean 12 Zq.\0", "\0x9-and.5/more\0"
    for example in rule["hit"] + rule["miss"]:
        text = expand(example, 7)
        alone = spans_of(rule["name"], text)
        among = spans_of(rule["name"], before + text + after)
        shift = len(before)
        assert among == [(start + shift, end + shift) for start, end in alone], example


def spans_of(rule: str, text: str) -> list[tuple[int, int]]:
    searcher = engine("re")
    index = next(at for at, one in enumerate(searcher.rules) if one.name == rule)
    data = markers.encode(text)
    hits = matcher.search_rule(*searcher._search(index), data, index, Patience())
    return [(hit.start, hit.end) for hit in hits]


@PATTERNS
def test_no_pattern_spans_a_separator(rule: dict[str, Any]) -> None:
    """Joined texts would leak into each other, and hide each other's hits."""
    tree = parser.parse(rule["pattern"].encode())
    assert not list(inner_nuls(list(tree), first=True, last=True))
    assert tree.getwidth()[0] >= matcher.MATCH_BYTES_MIN


def test_a_match_has_three_bytes_at_least_whoever_wrote_its_pattern() -> None:
    """The last but one then lies in the text that was hit, not on a separator beside it."""
    assert matcher.MATCH_BYTES_MIN == patterns.MATCH_BYTES_MIN == 3


def inner_nuls(items: list[Any], *, first: bool, last: bool) -> Any:
    """Places that match a NUL but are neither the first nor the last of the pattern."""
    solid = [item for item in items if item[0] is not code.AT]
    for index, (kind, value) in enumerate(solid):
        begins, ends = first and index == 0, last and index == len(solid) - 1
        if kind is code.SUBPATTERN:
            yield from inner_nuls(list(value[3]), first=begins, last=ends)
        elif kind is code.BRANCH:
            for branch in value[1]:
                yield from inner_nuls(list(branch), first=begins, last=ends)
        elif kind in (code.MAX_REPEAT, code.MIN_REPEAT):
            yield from inner_nuls(list(value[2]), first=False, last=False)
        elif kind is code.NOT_LITERAL or (kind is code.IN and 0 in members(value)):
            if not (begins or ends):
                yield value
        elif kind is not code.LITERAL and kind is not code.IN:
            yield kind  # A dot, a look-around, a reference: not in the rules' language.


@PATTERNS
def test_case_is_folded_only_where_it_is_marked(rule: dict[str, Any]) -> None:
    """A flag for the whole pattern would reach its neighbours in the union."""
    assert not re.match(r"\(\?[a-z]+\)", rule["pattern"])


@PATTERNS
def test_validators_exist(rule: dict[str, Any]) -> None:
    assert callable(find_validator(rule["validator"]))


def test_so_many_anchors_a_pattern_may_have_and_no_more() -> None:
    """Each is looked for in each text; beyond that what is common to them must do."""
    assert len(derive_anchors("(?:[a-h][i-p])xyz")) == 64
    thirteen = "|".join(f"{char}w" for char in "abcdefghijklm")
    assert derive_anchors(f"(?:{thirteen})[1-5]xyz") == tuple(f"{digit}xyz" for digit in "12345")
    assert len(derive_anchors(f"(?:{thirteen})[1-4]xyz")) == 52
    assert derive_anchors("([a-h][i-p][qr])xyz") == ("xyz",)
    assert len(derive_anchors("([a-h][i-p])xyz")) == 64


@pytest.mark.parametrize("pattern", ["abc.", "(abc).", "abc(?=d)", r"(a)bc\1", r"abc[\s]"])
def test_what_is_not_in_the_rules_language_has_no_gate(pattern: str) -> None:
    with pytest.raises(ValueError, match="not in a rule's language"):
        derive_gate(pattern)


def test_gates_and_anchors_never_miss_what_the_pattern_matches() -> None:
    """Random texts of each pattern's own making hit its gate and sign, and hold an anchor."""
    for rule in TEXT_RULES:
        holds_up(rule)


def holds_up(rule: dict[str, Any]) -> None:
    gate = re.compile(derive_gate(rule["pattern"]).encode())
    sign = re.compile(derive_sign(rule["pattern"]).encode())
    anchors = [anchor.encode("latin-1") for anchor in rule["anchors"]]
    texts = st.from_regex(re.compile(rule["pattern"].encode()))

    @settings(
        max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(texts)
    def check(data: bytes) -> None:
        assert gate.search(data), rule["name"]
        assert sign.search(data), rule["name"]
        assert not anchors or any(anchor in data.lower() for anchor in anchors), rule["name"]

    check()


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_validators_are_total(data: bytes, one: int, other: int) -> None:
    """A validator that raised would drop a value that it should judge."""
    start, end = sorted((min(one, len(data)), min(other, len(data))))
    for rule in TEXT_RULES:
        pattern = re.compile(rule["pattern"].encode())
        check = find_validator(rule["validator"])
        if pattern.fullmatch(data[start:end]):
            assert isinstance(check(data, start, end), int)


@pytest.mark.parametrize(
    ("validator", "good", "bad"),
    [
        ("persons.card", b"4111111111111111", b"4111111111111112"),
        ("persons.card", b"378282246310005", b"378282246310006"),
        ("persons.iban", b"GB82 WEST 1234 5698 7654 32", b"GB82 WEST 1234 5698 7654 33"),
        ("persons.iban", b"NO9386011117947", b"NO938601111794"),
        ("persons.us_ssn", b"219-09-9999", b"219-09 9999"),
        ("persons.us_ssn", b"899-09-9999", b"900-09-9999"),
        ("persons.ipv6", b"fe80::1ff:fe23:4567:890a", b"12:34:56"),
        ("persons.mac", b"00:1b:44:11:3a:b7", b"ff:ff:ff:ff:ff:ff"),
        ("tokens.basic_auth", b"dXNlcjpodW50ZXIy", b"YXV0aGVudGljYXRpb24="),
        ("persons.phone", b"+4420794609", b"+442079"),
        ("urls.url_user", b"alice", b"git"),
        ("persons.home_name", b"alice", b"runner"),
    ],
)
def test_check_digits_and_forms_decide(validator: str, good: bytes, bad: bytes) -> None:
    check = find_validator(validator)
    assert check(good, 0, len(good))
    assert not check(bad, 0, len(bad))


@pytest.mark.parametrize(
    "text",
    [
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "123e4567-e89b-12d3-a456-426614174000",
        "2025-06-20T12:00:01.123456Z",
        "1718884801123456789",
        "v1.22.333-rc.4+build.5",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "SELECT doc, score FROM chunk WHERE token_count > 12 AND key = ?",
        "/usr/lib/python3.11/site-packages/requests/sessions.py",
        "gen_ai.usage.input_tokens",
        "author",
        "see /authors/list",
        "0.30000000000000004",
        "agent.latency_ms",
        "key=value",
        "token_count=12, max_tokens=4096",
    ],
)
@pytest.mark.parametrize("profile", ["default", "strict"])
def test_what_telemetry_is_made_of_stays(text: str, profile: str) -> None:
    assert not found("re", text, profile)
