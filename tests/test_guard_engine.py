"""The engine: one search for many texts, the reference's answers, and never a leak."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, Unsatisfiable

from stack_composer.telemetry.guard import engine, engines, matcher, rules, texts
from stack_composer.telemetry.guard.budget import TEXT_CHARS_MAX, Patience
from stack_composer.telemetry.guard.engine import DEPTH_MAX, Guard
from stack_composer.telemetry.guard.examples import expand
from stack_composer.telemetry.guard.plain import is_plain
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.reference import redact_reference
from stack_composer.telemetry.model import DROPPED

FOLDER = Path(rules.__file__).parent
SALT = bytes(range(32))
MAIL = "alice@" + "example.org"
TOKEN = "ghp_" + "a1B2c3" * 6
ENGINES = ("re2", "re")


@cache
def shared_matcher(kind: str, profile: str) -> matcher.Matcher:
    """Compiled once for the suite; a matcher keeps nothing of what it saw."""
    if kind == "re2":
        pytest.importorskip("re2")
        return engines.Re2Matcher(rules.text_rules(profile))
    return engines.ReMatcher(rules.text_rules(profile))


def make_guard(kind: str = "re2", profile: str = "default", **options: Any) -> Guard:
    return Guard(
        Policy(profile=profile, salt=SALT, **options),
        make_matcher=lambda profile: shared_matcher(kind, profile),
    )


def guard_texts(guard: Guard, texts: list[str], key: str = "note") -> list[Any]:
    verdict = guard.key(key)
    return guard.texts([(verdict, text) for text in texts])


# -- the same answers as the reference ----------------------------------------

EXAMPLES = [
    example
    for rule in rules.parse_rules((FOLDER / "rules.toml").read_text(encoding="utf-8"))
    if rule["tier"] != "key"
    for example in rule["hit"] + rule["miss"]
]
secrets = st.builds(expand, st.sampled_from(EXAMPLES), st.integers(1, 50))
noise = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="abcXYZ019 _-.:=/@\"'\\\n\0é\ud800", max_size=16),
    st.sampled_from(
        ["password=", "token: ", "key", "Bearer ", " ", "://", "@", "\0", "[redacted:email]",
         "[redacted:", "]", "eyJ", "-----BEGIN ", "secret", "=", '"', "é", "\ud83d\ude00"]
    ),
)  # fmt: skip
mixed = st.lists(st.one_of(noise, secrets), max_size=6).map("".join)


@pytest.mark.parametrize("profile", ["default", "strict"])
@pytest.mark.parametrize("kind", ENGINES)
def test_the_fast_path_agrees_with_the_reference(kind: str, profile: str) -> None:
    """The gate, the joining and the set may save time; they may not change one answer."""
    guard = make_guard(kind, profile)

    @settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
    @given(st.lists(mixed, max_size=8))
    def agree(texts: list[str]) -> None:
        answers = guard_texts(guard, texts)
        assert answers == [redact_reference(text, profile) for text in texts]

    agree()
    assert guard.tally.faults == 0


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(mixed)
def test_guarding_twice_changes_nothing(text: str) -> None:
    guard = make_guard()
    once = guard_texts(guard, [text])[0]
    assert guard_texts(guard, [once]) == [once]
    assert guard.tally.faults == 0


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(mixed)
def test_findings_are_what_is_masked(text: str) -> None:
    guard = make_guard()
    pieces, at = [], 0
    for finding in guard.findings(text):
        assert at <= finding.start < finding.end <= len(text)
        pieces += [text[at : finding.start], f"[redacted:{finding.rule}]"]
        at = finding.end
    assert guard_texts(guard, [text]) == ["".join([*pieces, text[at:]])]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="abcdefghijkABC019_.-", max_size=17), max_size=5))
def test_plain_texts_hold_nothing(texts: list[str]) -> None:
    """What skips the search must be what the search would let by."""
    for profile in ("default", "strict"):
        for text in texts:
            if is_plain(text, profile):
                assert redact_reference(text, profile) == text


def test_no_pattern_makes_a_plain_text_that_it_hits() -> None:
    """Each pattern's own texts, made of the characters that plain texts have."""
    for rule in rules.text_rules("strict"):
        for characters in ("abcdefABCDEF_.-", "abcxyzABCXYZ019_.-"):
            hunt_plain_hits(rule, characters)


def hunt_plain_hits(rule: rules.TextRule, characters: str) -> None:
    alphabet = st.characters(codec="ascii", categories=(), include_characters=characters)
    pattern = re.compile(rule.pattern.decode("latin-1"), re.ASCII)
    try:
        texts = st.from_regex(pattern, fullmatch=True, alphabet=alphabet)
        texts.validate()
    except InvalidArgument:
        return  # The pattern needs a character that no plain text has.

    @settings(
        max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(texts.map(lambda text: text[:30]))
    def check(text: str) -> None:
        for profile in ("default", "strict"):
            if is_plain(text, profile):
                assert redact_reference(text, profile) == text, rule.name

    with contextlib.suppress(Unsatisfiable):
        check()


def test_the_shortest_secrets_are_not_plain() -> None:
    """Just beyond each of the bounds that plain.py draws."""
    assert is_plain("planner.solve", "strict")
    assert is_plain("k_dense-128", "default") is False
    assert is_plain("k-dense-12", "default")
    assert not is_plain("pk_live_" + "abcdefghi", "default")
    assert not is_plain("ab-cd-ef-ab-cd-ef", "default")
    assert not is_plain("abcd.efab.cdef", "strict")
    assert not is_plain("219-09-9999", "default")
    assert not is_plain("1.1.1.1", "strict")
    assert not is_plain("a@b.cd", "default")


def test_no_example_of_a_secret_is_plain() -> None:
    for example in EXAMPLES:
        text = expand(example)
        if redact_reference(text, "strict") != text:
            assert not is_plain(text, "strict")


# -- many texts in one search -------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
def test_each_answer_stands_where_its_text_stood(kind: str) -> None:
    """Among texts of every kind: empty, long, not ASCII, with the separator itself."""
    guard = make_guard(kind)
    clean = ["", "x", "größe 12", "a\0b", "\0", "\ud800 lone", "plain text", "é" * 500]
    texts = [part for text in clean for part in (text, f"{text} {MAIL}", f"{MAIL} {text}")]
    answers = guard_texts(guard, texts)
    for at, text in enumerate(clean):
        assert answers[3 * at] == text
        assert answers[3 * at + 1] == f"{text} [redacted:email]"
        assert answers[3 * at + 2] == f"[redacted:email] {text}"


@pytest.mark.parametrize("kind", ENGINES)
def test_only_the_texts_with_hits_are_looked_at_again(kind: str) -> None:
    """A hit may take the separator with it; it still belongs to its own text."""
    texts = ["is clean", MAIL, "4111 1111 1111 1111", "größe", f"für {MAIL}", "is clean"]
    assert shared_matcher(kind, "default").suspects(texts, "\0".join(texts)) == [1, 2, 4]


@pytest.mark.parametrize("kind", ENGINES)
def test_neighbours_make_no_secret_together(kind: str) -> None:
    """A secret's two halves in two texts are two clean texts."""
    for at in range(1, len(TOKEN)):
        halves = [TOKEN[:at], TOKEN[at:]]
        alone = [guard_texts(make_guard(kind), [half])[0] for half in halves]
        assert guard_texts(make_guard(kind), halves) == alone


def test_only_the_secret_is_replaced() -> None:
    answers = guard_texts(make_guard(), [f"login of {MAIL} failed at /home/alice/app.py:12"])
    assert answers == ["login of [redacted:email] failed at /home/[redacted:home-folder]/app.py:12"]


def test_overlapping_hits_leave_nothing_between_them() -> None:
    answers = guard_texts(make_guard(), [f"password={TOKEN} end"])
    assert answers == ["password=[redacted:github-token] end"]


def test_the_host_behind_credentials_stays() -> None:
    """What stands before the @ of a URL is no e-mail address."""
    password = "Tr0ub" + "4dor"
    answers = guard_texts(make_guard(), [f"postgres://app:{password}@db.example.com:5432/shop"])
    assert answers == ["postgres://[redacted:url-credentials]@db.example.com:5432/shop"]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_refused_hit_does_not_hide_the_one_inside_it(kind: str) -> None:
    """The first sixteen digits fail the check; those that begin within them do not."""
    answers = guard_texts(make_guard(kind), ["4000 4111 1111 1111 1111"])
    assert answers == ["4000 [redacted:card]"]


@pytest.mark.parametrize("kind", ENGINES)
def test_no_character_is_cut_in_two(kind: str) -> None:
    """A pattern counts bytes, and may stop in the middle of a character."""
    answers = guard_texts(make_guard(kind), ['password="x1y2z' + "é" * 90 + '"'])
    assert answers[0].startswith('password="[redacted:password]')
    assert set(answers[0].removeprefix('password="[redacted:password]')) <= {"é", '"'}


def test_what_only_looks_like_a_marker_is_searched() -> None:
    answers = guard_texts(make_guard(), [f"[redacted:{MAIL}]", f"[redacted:email{MAIL}"])
    assert answers == ["[redacted:[redacted:email]]", "[redacted:[redacted:email]"]


def test_an_empty_batch_has_no_answers() -> None:
    assert make_guard().texts([]) == []


def test_redactions_are_counted_by_rule_and_action() -> None:
    guard = make_guard()
    guard_texts(guard, [MAIL, f"{MAIL} {MAIL}", "clean text"])
    assert guard.tally.counts == {("email", "mask"): 3}


def test_machine_ids_are_searched_for_credentials_only() -> None:
    card = "4111 1111 1111 1111"
    guard = make_guard()
    assert guard_texts(guard, [card, TOKEN], "container.id") == [card, "[redacted:github-token]"]
    assert guard_texts(guard, [card], "note") == ["[redacted:card]"]


def test_profiles_differ_in_persons_only() -> None:
    text = f"{TOKEN} at 192.0.2.7 and +44 20 7946 0958"
    assert guard_texts(make_guard(), [text]) == [
        "[redacted:github-token] at 192.0.2.7 and +44 20 7946 0958"
    ]
    assert guard_texts(make_guard(profile="strict"), [text]) == [
        "[redacted:github-token] at [redacted:ipv4] and [redacted:phone]"
    ]


# -- fail closed ---------------------------------------------------------------


def test_a_text_too_long_is_dropped_and_counted() -> None:
    guard = make_guard()
    long = "a " * (TEXT_CHARS_MAX // 2)
    answers = guard_texts(guard, [long + "b", "next", long, MAIL])
    assert answers == [DROPPED, "next", long, "[redacted:email]"]
    assert guard.tally.counts["too-long", "drop"] == 1
    assert guard.value("note", long) == long
    assert guard.value("note", long + "b") is DROPPED
    assert guard.value("note", long.encode() + b"b") is DROPPED
    assert guard.findings(long + "b")[0].rule == "too-long"


def test_a_value_too_deep_gets_a_tombstone() -> None:
    guard = make_guard()
    value: Any = "bottom"
    for _ in range(DEPTH_MAX):
        value = [value]
    assert guard.value("note", value) == value
    deeper = str(guard.value("note", [value]))
    assert "bottom" not in deeper
    assert "[redacted:too-deep]" in deeper
    endless: list[Any] = []
    endless.append(endless)
    assert "[redacted:too-deep]" in str(guard.value("note", endless))


class BrokenMatcher(engines.ReMatcher):
    """Fails where it is told to."""

    def __init__(self, part: str) -> None:
        super().__init__(rules.text_rules("default"))
        self.part = part

    def suspects(self, texts: Any, joined: str) -> list[int]:
        if self.part == "gate":
            raise MemoryError
        return super().suspects(texts, joined)

    def spans(
        self,
        data: bytes,
        leave: matcher.Leave | None = None,
        patience: Patience | None = None,
    ) -> list[matcher.Span]:
        if self.part == "spans" and b"cursed" in data:
            raise RuntimeError("never shown")
        return super().spans(data, leave, patience)


def broken_guard(part: str) -> Guard:
    return Guard(Policy(salt=SALT), make_matcher=lambda _: BrokenMatcher(part))


def test_a_fault_of_the_gate_loses_nothing_and_leaks_nothing() -> None:
    guard = broken_guard("gate")
    assert guard_texts(guard, [MAIL, "plain text here"]) == ["[redacted:email]", "plain text here"]


def test_a_fault_in_one_text_drops_that_text_only() -> None:
    guard = broken_guard("spans")
    answers = guard_texts(guard, [f"cursed {MAIL}", MAIL, "next one is clean"])
    assert answers == [DROPPED, "[redacted:email]", "next one is clean"]
    assert guard.tally.faults == 1
    assert guard.tally.counts["fault", "drop"] == 1
    assert guard.value("note", f"cursed {MAIL}") is DROPPED
    assert guard.value("note", [f"cursed {MAIL}", 1]) == ["[redacted:fault]", 1]
    assert guard.findings(f"cursed {MAIL}")[0].rule == "fault"
    assert guard.key(f"cursed {MAIL}").text == "[redacted:fault]"


@pytest.mark.parametrize("kind", ENGINES)
def test_a_fault_in_any_rule_drops_the_value(kind: str) -> None:
    """Every rule in turn has a validator that raises."""

    def cursed(*_span: object) -> bool:
        raise ZeroDivisionError

    own = engines.Re2Matcher if kind == "re2" else engines.ReMatcher
    if kind == "re2":
        pytest.importorskip("re2")
    faulty = own(rules.text_rules("strict"))
    names = {rule.name: index for index, rule in enumerate(faulty.rules)}
    parsed = rules.parse_rules((FOLDER / "rules.toml").read_text(encoding="utf-8"))
    for rule in parsed:
        if rule["tier"] == "key":
            continue
        index = names[rule["name"]]
        sound = faulty._search(index)
        faulty._searches[index] = (sound[0], cursed, sound[2])
        guard = Guard(Policy(profile="strict", salt=SALT), make_matcher=lambda _: faulty)
        text = expand(rule["hit"][0])
        assert guard_texts(guard, [text, "clean: yes"]) == [DROPPED, "clean: yes"]
        assert guard.tally.faults == 1
        faulty._searches[index] = sound


def test_rules_that_do_not_compile_drop_everything_not_plain() -> None:
    calls = []

    def fail(profile: str) -> matcher.Matcher:
        calls.append(profile)
        raise OSError("no rules")

    guard = Guard(Policy(salt=SALT), make_matcher=fail)
    assert guard_texts(guard, ["planner.solve"]) == ["planner.solve"]
    assert guard_texts(guard, ["not: plain", "ok"]) == [DROPPED, "ok"]
    assert guard.value("note", b"bytes") is DROPPED
    assert guard.tally.faults == 2
    assert len(calls) == 1, "a broken engine is not built again for each text"


def test_what_is_no_text_is_dropped() -> None:
    guard = make_guard()
    assert guard_texts(guard, [3, MAIL]) == [DROPPED, "[redacted:email]"]  # type: ignore[list-item]
    assert guard.value("note", object()) is DROPPED  # type: ignore[arg-type]
    assert guard.key(7).text == "[redacted:fault]"  # type: ignore[arg-type]
    assert guard.value(7, "text") is DROPPED  # type: ignore[arg-type]


def test_a_text_that_does_not_settle_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "ROUNDS_MAX", 1)
    guard = make_guard()
    assert guard_texts(guard, [f"to {MAIL}"]) == [DROPPED]
    assert guard.tally.faults == 1


def test_a_set_without_room_asks_every_rule() -> None:
    """RE2's set answers "nothing" when it runs out of memory; the gate knows better."""
    pytest.importorskip("re2")
    own = engines.Re2Matcher(rules.text_rules("default"))

    class FullSet:
        def Match(self, _data: bytes) -> None:  # noqa: N802 - the name that RE2's binding has
            return None

    own._sets = [FullSet() for _ in own._parts]
    guard = Guard(Policy(salt=SALT), make_matcher=lambda _: own)
    assert guard_texts(guard, [MAIL, "clean: yes"]) == ["[redacted:email]", "clean: yes"]


# -- keys ------------------------------------------------------------------------


def test_a_secret_in_a_key_is_masked() -> None:
    verdict = make_guard().key(f"header.{TOKEN}")
    assert verdict.text == "header.[redacted:github-token]"
    assert verdict.key == f"header.{TOKEN}"


def test_a_key_too_long_takes_its_values_along() -> None:
    guard = make_guard()
    key = "k" * 2000
    assert guard.key(key).text == "[redacted:too-long]"
    assert guard.value(key, "text") is DROPPED
    assert guard.value(key, 7) is DROPPED


def test_many_keys_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_KEYS_MAX", 8)
    guard = make_guard()
    for number in range(100):
        guard.key(f"key-{number}")
    assert len(guard._keys) <= 8


# -- values of any type ------------------------------------------------------------


def test_credentials_are_masked_whatever_their_type() -> None:
    guard = make_guard()
    marker = "[redacted:credential-key]"
    assert guard.key("authorization").action == "value"
    assert guard.value("authorization", "Bearer x") == marker
    assert guard.value("authorization", ["a", "b"]) == [marker, marker]
    assert guard.value("api_key", b"\xff\xfe") == marker
    assert guard.value("credentials", {"user": "bob", "pw": ["x"], "n": 3}) == {
        "user": marker,
        "pw": [marker],
        "n": 3,
    }
    assert guard.value("password", 1234) == "[redacted:password-key]"
    yes = True
    assert guard.value("password", yes) is True
    before = dict(guard.tally.counts)
    assert guard.value("authorization", marker) == marker
    assert guard.tally.counts == before


def test_content_is_dropped_but_not_its_numbers() -> None:
    guard = make_guard()
    assert guard.value("brief", "build me a shop") is DROPPED
    assert guard.value("gen_ai.input.messages", [{"role": "user"}]) is DROPPED
    assert guard.value("brief", b"build") is DROPPED
    assert guard.value("brief", 12) == 12
    assert guard.tally.counts == {("content-key", "drop"): 3}


def test_content_below_another_key_gets_a_tombstone() -> None:
    guard = make_guard()
    value = guard.value("request", {"role": "user", "prompt": "build me a shop", "n": 1})
    assert value == {"role": "user", "prompt": "[redacted:content-key]", "n": 1}


def test_content_turned_on_by_name_is_still_searched() -> None:
    guard = make_guard(record_content=["gen_ai.input.messages"])
    value = guard.value("gen_ai.input.messages", [{"role": "user", "content": f"I am {MAIL}"}])
    assert value == [{"role": "user", "content": "I am [redacted:email]"}]
    nested = guard.value("gen_ai.input.messages", [{"content": [{"password": "x"}]}])
    assert nested == [{"content": [{"password": "[redacted:password-key]"}]}]
    assert guard.value("gen_ai.output.messages", "text") is DROPPED


def test_identifiers_are_hashed_and_stay_so() -> None:
    guard = make_guard()
    hashed = guard.value("project.id", "p-17")
    assert hashed.startswith("hmac:")
    assert "p-17" not in hashed
    assert guard.value("app.project_id", "p-17") == hashed
    assert guard.value("project.id", hashed) == hashed
    assert guard.value("user.id", 17) == guard.value("user.id", "17")
    assert guard.value("user.id", ["17", None]) == [guard.value("user.id", "17"), None]
    plain = Guard(Policy(identifiers="sha256"))
    assert plain.value("project.id", "p-17").startswith("sha256:")


def test_secrets_are_found_at_any_depth() -> None:
    guard = make_guard()
    value: Any = {
        "a": [{"note": MAIL, "token": "abc"}, (1, 2.5, None, True)],
        TOKEN: {"b": "clean"},
    }
    assert guard.value("payload", value) == {
        "a": [
            {"note": "[redacted:email]", "token": "[redacted:credential-key]"},
            [1, 2.5, None, True],
        ],
        "[redacted:github-token]": {"b": "clean"},
    }


def test_bytes_are_searched_as_they_are() -> None:
    guard = make_guard()
    assert guard.value("blob", b"\x00\xff\x80 nothing") == b"\x00\xff\x80 nothing"
    assert guard.value("blob", b"\xff\xfe" + TOKEN.encode() + b"\x00") is DROPPED
    assert guard.value("note", [TOKEN.encode()]) == ["[redacted:github-token]"]


def test_numbers_pass_untouched() -> None:
    guard = make_guard()
    for value in (4111111111111111, 0.1, True, None, 2**80, float("inf")):
        assert guard.value("note", value) is value


# -- where google-re2 is not installed, and where nothing needs it -----------------


def run_python(program: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)


def test_without_re2_the_slower_engine_serves() -> None:
    out = run_python(
        "import sys; sys.modules['re2'] = None\n"
        "from stack_composer.telemetry.guard.engine import Guard\n"
        "from stack_composer.telemetry.guard.policy import Policy\n"
        "guard = Guard(Policy(salt=bytes(32)))\n"
        f"print(guard.texts([(guard.key('note'), 'to ' + {MAIL!r})]))\n"
        "print(type(guard._text_judge._matcher).__name__)"
    )
    assert out.split("\n")[:2] == ["['to [redacted:email]']", "ReMatcher"]


def test_a_plain_program_compiles_nothing() -> None:
    out = run_python(
        "import sys; before = set(sys.modules)\n"
        "from stack_composer.telemetry.guard.engine import Guard\n"
        "from stack_composer.telemetry.guard.policy import Policy\n"
        "guard = Guard(Policy(salt=bytes(32)))\n"
        "for key in ('agent', 'phase', 'k_dense', 'outcome', 'gen_ai.usage.input_tokens',"
        " 'telemetry.sdk.language', 'service.name'):\n"
        "    guard.texts([(guard.key(key), text) for text in ('planner.solve', 'score', 'ok')])\n"
        "heavy = {'re', 're2', 'tomllib', 'json', 'typing', 'dataclasses', 'enum', 'hashlib'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)), guard._text_judge._matcher)"
    )
    assert out.strip() == "[] None"


def test_what_was_judged_before_is_answered_and_counted_again() -> None:
    guard = Guard(Policy(salt=bytes(32)))
    text = f"to {MAIL}"
    first = guard.texts([(guard.key("note"), text)])
    assert guard.tally.counts == {("email", "mask"): 1}
    assert guard.texts([(guard.key("note"), text)] * 3) == first * 3
    assert guard.tally.counts == {("email", "mask"): 4}


def test_no_text_that_was_judged_is_kept_to_remember_it() -> None:
    guard = Guard(Policy(salt=bytes(32)))
    guard.texts([(guard.key("note"), f"to {MAIL}"), (guard.key("note"), "card 4111 1111")])
    assert MAIL not in repr((vars(guard), vars(guard._text_judge)))


def test_the_verdict_on_one_key_is_not_that_on_another() -> None:
    """A run of digits is a card under one key, and a machine's id under another."""
    guard = Guard(Policy(salt=bytes(32)))
    number = "4111111111111111"
    keys = [guard.key(name) for name in ("note", "container.id", "note")]
    answers = guard.texts([(key, number) for key in keys])
    assert answers == ["[redacted:card]", number, "[redacted:card]"]


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_JUDGED_MAX", 8)
    guard = Guard(Policy(salt=bytes(32)))
    for number in range(50):
        assert guard.texts([(guard.key("note"), f"a{number}@example.org")]) == ["[redacted:email]"]
    assert len(guard._text_judge._judged) <= 8
