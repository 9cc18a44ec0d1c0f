"""What one text may cost, however it was made: counted in what is read, never in time."""

from __future__ import annotations

import re
import time
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack_composer.telemetry.guard import budget, engines, matcher, reference, rules
from stack_composer.telemetry.guard.budget import (
    EARNED_BYTES,
    FREE_BYTES,
    HIT_BYTES,
    READS,
    TEXT_CHARS_MAX,
    Budget,
    Patience,
    UnsettledError,
)
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.engines import found_by_re
from stack_composer.telemetry.guard.matcher import search_rule
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.reference import redact_reference
from stack_composer.telemetry.model import DROPPED

MAIL = "alice@" + "example.org"
NEVER_S = 10.0  # CPU; ten times what the slowest text takes on a small machine.
ENGINES = ("re2", "re")


@cache
def shared_matcher(kind: str, profile: str = "strict") -> matcher.Matcher:
    if kind == "re2":
        pytest.importorskip("re2")
        return engines.Re2Matcher(rules.text_rules(profile))
    return engines.ReMatcher(rules.text_rules(profile))


def make_guard(kind: str) -> Guard:
    policy = Policy(profile="strict", salt=bytes(32))
    return Guard(policy, make_matcher=lambda profile: shared_matcher(kind, profile))


def spans_of(
    pattern: bytes, data: bytes, *, yes: bool, patience: Patience | None = None
) -> tuple[list[tuple[int, int]], list[int]]:
    """What a rule finds whose validator always says ``yes``, and where it was asked."""
    asked = []

    def check(_data: bytes, start: int, _end: int) -> bool:
        asked.append(start)
        return yes

    find = found_by_re(re.compile(pattern))
    found = search_rule(find, check, 1, data, 0, patience or Patience())
    return [(span.start, span.end) for span in found], asked


# -- what a rule may spend -----------------------------------------------------------------


def test_a_run_refused_at_every_place_is_masked_from_where_the_budget_ends() -> None:
    """Read again from each of its bytes, it would cost the square of its length."""
    run = b"A" * 60_000
    found, asked = spans_of(rb"A{9,}", run, yes=False)
    assert asked == [0]
    assert found == [(1, len(run))]
    found, asked = spans_of(rb"A{9,40}", run, yes=False)
    assert asked == list(range(len(asked)))
    assert found == [(len(asked), len(run))]
    hit = HIT_BYTES + READS * 40
    assert 0 <= len(asked) * hit - FREE_BYTES - EARNED_BYTES * len(asked) <= hit


def test_sixteen_texts_of_the_longest_are_as_many_hits_as_one_rule_looks_at() -> None:
    """A megabyte: a hit costs a validator some 2 µs, so 100 ms are 50,000 of them."""
    for text in (b"abc", b"abc ", b"abcabcab "):
        _, asked = spans_of(rb"abc", (text * TEXT_CHARS_MAX)[:TEXT_CHARS_MAX], yes=False)
        assert len(asked) * 16 < 50_000


def test_hits_that_stand_apart_are_all_looked_at() -> None:
    """As many as the text has room for, when it is no text made to cost."""
    apart = (b"abc" + b" " * 37) * (TEXT_CHARS_MAX // 40)
    found, asked = spans_of(rb"abc", apart, yes=False)
    assert (found, len(asked)) == ([], TEXT_CHARS_MAX // 40)
    few = b"abc" * (FREE_BYTES // (HIT_BYTES + READS * 3))
    found, asked = spans_of(rb"abc", few, yes=True)
    assert len(found) == len(asked) == len(few) // 3


def test_what_follows_a_secret_is_not_read_without_end_either() -> None:
    """A pattern that wants to see what comes after it may reread it for each hit."""
    found, asked = spans_of(rb"(ab)[^x]*", b"ab" * 30_000, yes=True)
    assert asked == [0]
    assert found == [(0, 2), (2, 60_000)]


def test_a_budget_earns_with_what_is_to_be_seen() -> None:
    data = b"a" * 100 + b"\0" * 100 + b"b" * 100
    for place, seen in ((50, 50), (100, 100), (150, 100), (200, 100), (250, 150)):
        for more, spent in ((0, False), (1, True)):
            own = Budget(data, 1)
            own.spent = FREE_BYTES + EARNED_BYTES * seen + more
            assert [own.is_spent(one) for one in (place // 2, place)][1] is spent


def test_what_a_text_may_cost_is_what_the_decision_says() -> None:
    """Answers depend on these figures (decision 0011), so they change with it or not at all."""
    for dear in (1, 3, 8):
        own = Budget(b"", dear)
        assert own.spent == 0
        own.pay(8)
        own.pay(0)
        assert own.spent == dear * (112 + 3 * 8) + dear * 112
    own = Budget(b"a" * 20, 1)
    own.spent = 32 * 1024
    assert not own.is_spent(0)
    own.spent += 1
    assert own.is_spent(0)
    own.spent += 3 * 10
    assert own.is_spent(10)
    assert not own.is_spent(11)
    assert TEXT_CHARS_MAX == 64 * 1024
    patience = Patience()
    patience.spend(4 * 1024 * 1024)
    with pytest.raises(UnsettledError):
        patience.spend(1)


@pytest.mark.parametrize(
    ("dear", "validators"),
    [
        (1, "assigned_ national.cpf persons.email tokens.token urls.userinfo other"),
        (3, "assigned assigned.secret"),
        (4, "content content.any persons.user_name tokens.bearer urls.path_secret wallets.any"),
        (8, "assigned.password_argument"),
    ],
)
def test_a_hit_is_as_dear_as_its_validator_is_slow(dear: int, validators: str) -> None:
    assert {budget.weight(name) for name in validators.split()} == {dear}


def test_what_is_dear_is_a_validator_of_a_rule() -> None:
    """One that is misspelt, or was renamed, would be a cheap one."""
    used = {rule.validator for rule in rules.text_rules("strict")}
    for name in budget._WEIGHTS:
        assert name in used or any(one.startswith(f"{name}.") for one in used), name


def test_all_rules_together_have_one_patience() -> None:
    patience = Patience()
    patience.left = HIT_BYTES + READS * 3
    assert spans_of(rb"abc", b"abc", yes=True, patience=patience)[0] == [(0, 3)]
    with pytest.raises(UnsettledError):
        spans_of(rb"abc", b"abc", yes=True, patience=patience)


# -- what becomes of the text --------------------------------------------------------------


def test_a_text_full_of_secrets_keeps_none_of_them() -> None:
    """The first ones are masked one by one, the rest, which nobody looked at, as one."""
    guard = Guard(Policy(salt=bytes(32)))
    many = [f"{MAIL} " * (TEXT_CHARS_MAX // 18), "a@b.co," * (TEXT_CHARS_MAX // 7)]
    for text in many:
        answer = guard.value("note", text)
        assert set(re.split("[ ,]", answer)) == {"[redacted:email]"}
        assert len(re.split("[ ,]", answer)) > 120
        assert guard.value("note", answer) == answer
    few = f"{MAIL} " * 120
    assert guard.value("note", few) == "[redacted:email] " * 120


def test_what_stands_before_and_what_others_found_stays() -> None:
    guard = Guard(Policy(salt=bytes(32)))
    numbers = (f"4111 1111 1111 {number:04}" for number in range(3_300))
    refused = [number for number in numbers if guard.value("note", number) == number]
    answer = guard.value("note", f"sent to {MAIL}: {', '.join(refused)}")
    kept, _, rest = answer.partition("[redacted:card]")
    assert kept.startswith(f"sent to [redacted:email]: {refused[0]}, {refused[1]}, ")
    assert len(kept) > 120 * len(refused[0])
    assert rest == ""
    assert guard.tally.faults == 0


pieces = st.sampled_from(
    [
        "4111 1111 1111 1112 ", "4111111111111111 ", f"{MAIL} ", "a@b.co,", "password=hunter2x7 ",
        "token: q7Zk2mX9vB4n ", "1234-5678-", "00605 9931 ", "ghp_" + "a1B2c3" * 6 + " ", "é", "\0",
        "%34", "\\n", "[redacted:card]", "plain words ", "10.1.2.3 ", "x" * 40,
    ]
)  # fmt: skip
crowded = st.lists(st.builds(lambda part, times: part * times, pieces, st.integers(1, 12)),
                   max_size=8).map("".join)  # fmt: skip


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(("free", "earned"), [(0, 0), (100, 0), (300, 2), (600, 5)])
def test_where_a_budget_ends_is_the_same_for_all(
    monkeypatch: pytest.MonkeyPatch, kind: str, free: int, earned: int
) -> None:
    """In both engines, as the reference has it, and when guarded text is guarded again."""
    for module in (budget, reference):
        monkeypatch.setattr(module, "FREE_BYTES", free)
        monkeypatch.setattr(module, "EARNED_BYTES", earned)
    guard = make_guard(kind)

    @settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
    @given(crowded)
    def agree(text: str) -> None:
        answer = guard.value("note", text)
        assert answer == redact_reference(text, "strict")
        assert guard.value("note", answer) == answer

    agree()
    assert guard.tally.faults == 0


HOSTILE = {
    "one letter, escaped": "=41",
    "escapes of escapes": "%25",
    "escapes of what an escape stands for": "&amp;",
    "backslashes": "\\\\\\u0041",
    "the first letters of a token": "eyJ",
    "half an address": "a@",
    "an address and a half": "a@b.co@",
    "numbers that are no card": "4111 1111 1111 1112 ",
    "lines": "abcd\n",
    "marks": "a\u0332",
    "letters in other clothes": "\uff41",
    "markers cut off": "[redacted:",
    "NULs": "a\0",
}


@pytest.mark.parametrize("part", HOSTILE.values(), ids=HOSTILE)
def test_no_text_stops_the_writer(part: str) -> None:
    guard = Guard(Policy(profile="strict", salt=bytes(32)))
    text = (part * TEXT_CHARS_MAX)[:TEXT_CHARS_MAX]
    began = time.process_time()
    answer = guard.texts([(guard.key("note"), text), (guard.key("note"), f"to {MAIL}")])
    assert time.process_time() - began < NEVER_S
    assert answer[1] == "to [redacted:email]"
    assert answer[0] is DROPPED or len(answer[0]) <= len("[redacted:email]") * len(text)


def test_the_slow_engine_takes_no_text_that_could_stop_it() -> None:
    """Nothing bounds a search of ``re`` that fails but the length of the text."""
    guard = make_guard("re")
    most = engines.ReMatcher.chars_max
    assert most < TEXT_CHARS_MAX
    fits = f"{MAIL} ".ljust(most, ".")
    longer = fits + "."
    verdict = guard.key("note")
    answers = guard.texts([(verdict, longer), (verdict, fits), (verdict, MAIL)])
    assert answers == [DROPPED, fits.replace(MAIL, "[redacted:email]"), "[redacted:email]"]
    assert guard.tally.counts["too-long", "drop"] == 1
    assert guard.value("note", longer) is DROPPED
    assert guard.value("note", longer.encode()) is DROPPED
    assert guard.findings(longer)[0].rule == "too-long"
    assert guard.value("note", "a" * most) == "a" * most
    assert guard.tally.faults == 0
