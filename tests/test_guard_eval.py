"""What measures the guard counts rightly: on strings made up here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contestants
import pytest
import tables
import worst
from contestants import (
    TITLES,
    DetectSecretsFile,
    DetectSecretsLine,
    Logfire,
    Ours,
    Presidio,
    Simple,
    Tool,
    lost,
    make_all,
    places,
)
from evaluate import RESULTS, ROOT, EgressError, measure, refuse_egress
from labelled import Row, Score, Span, covered, is_hit, merged, rate, read_rows, row_of

from stack_composer.telemetry.guard.engines import best_matcher
from stack_composer.telemetry.guard.rules import TextRule

EMAIL = "jane.roe" + "@" + "post-office.net"
PAGE = ROOT / "docs" / "privacy.md"


def positive(text: str, span: Span | None = None, kind: str = "token") -> Row:
    return Row(text, "secret", kind, "positive", span)


# --- the scorer -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "hit"),
    [
        ([(4, 12)], True),
        ([], False),
        ([(0, 4), (12, 20)], False),
        ([(4, 8)], False),
        ([(4, 9)], True),
        ([(4, 6), (9, 12)], True),
        ([(0, 20)], True),
    ],
    ids=["whole", "none", "beside", "half", "more than half", "in pieces", "too much"],
)
def test_a_hit_leaves_less_than_half_of_the_secret(found: list[Span], hit: bool) -> None:
    assert is_hit(positive("key=abcdefgh and more", (4, 12)), found) is hit


def test_without_a_span_the_whole_text_is_the_secret() -> None:
    row = positive("abcdefgh")
    assert not is_hit(row, [(0, 4)])
    assert is_hit(row, [(0, 5)])


def test_spans_are_counted_in_characters() -> None:
    """In bytes, this secret would begin elsewhere and be twice as long."""
    row = positive("schlüssel=äöüäöü", (10, 16))
    score = Score()
    score.add(row, [(10, 16)])
    assert score.found["secret"] == [1, 1]
    assert score.kept == [10, 10]


def test_overlapping_spans_count_once() -> None:
    assert merged([(5, 9), (0, 3), (2, 4), (9, 10)]) == [(0, 4), (5, 10)]
    assert covered(merged([(0, 4), (2, 6), (0, 4)]), 0, 10) == 6


def test_each_group_is_counted_for_itself() -> None:
    score = Score()
    score.add(Row("a" * 8, "secret", "generic_kv", "benign"), [(0, 1)])
    score.add(Row("b" * 8, "pii", "path", "benign", has_ip=True), [])
    score.add(Row("c" * 8, "pii", "iban", "near_miss"), [(0, 8)])
    score.add(Row("d" * 8, "secret", "token", "ambiguous"), [(0, 8)])
    score.add(positive("x=abcd y", (2, 6)), [(0, 6)])
    score.add(positive("x=abcd y", (2, 6)), [])
    assert score.as_json() == {
        "found": {"secret": [1, 2], "secret/token": [1, 2]},
        "changed": {
            "all": [1, 2],
            "keyword": [1, 1],
            "kind/generic_kv": [1, 1],
            "kind/path": [0, 1],
            "no ip": [1, 1],
        },
        "near": {"all": [1, 1], "pii": [1, 1]},
        # Beside the secret of four stand four characters; two of them went with it.
        "kept": [2, 4],
        "spared": [2, 4],
    }


def test_what_is_spared_leaves_out_labels_that_cut_a_word_and_other_finds() -> None:
    score = Score()
    score.add(positive("x=abcd y=efgh", (2, 6)), [(1, 6), (9, 13)])
    assert score.kept == [4, 9]
    assert score.spared == [8, 9]
    score.add(positive("x=abcd-efgh y", (2, 6)), [(2, 11)])
    assert score.kept == [8, 18]
    assert score.spared == [8, 9]


def test_nothing_counted_is_no_rate() -> None:
    assert rate([0, 0]) is None
    assert rate(None) is None
    assert rate([1, 4]) == 0.25


def test_rows_are_read_as_the_corpus_writes_them(tmp_path: Path) -> None:
    lines = [
        {"text": "x=1", "domain": "secret", "label": "positive", "kind": "t", "span": [2, 3]},
        {"text": "y", "domain": "pii", "label": "negative", "class": "benign", "kind": "u",
         "span": None, "attr_key": "http.path", "contains_ip": True},
    ]  # fmt: skip
    path = tmp_path / "strings.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert read_rows(path) == [
        Row("x=1", "secret", "t", "positive", (2, 3)),
        Row("y", "pii", "u", "benign", key="http.path", has_ip=True),
    ]
    with pytest.raises(KeyError):
        row_of({"text": "no label"})


def test_a_value_counts_wherever_it_stands() -> None:
    assert list(places("aXbXX", "X")) == [(1, 2), (3, 4), (4, 5)]
    assert list(places("abc", "")) == []
    assert list(places("abc", None)) == []


def test_what_a_rewritten_text_has_lost_is_found() -> None:
    assert lost('{"user": "jane", "age": 7}', '{"user": "[gone]", "age": 7}') == [(10, 14)]
    assert lost("same text", "same text") == []
    assert lost("a secret", "----") == [(0, 8)]


# --- the tools --------------------------------------------------------------------------


class Slow(Tool):
    """It finds the first character, and takes its time in no clock of the test's."""

    title = "slow"

    def look(self, text: str, key: str) -> Any:
        return text + key

    def spans(self, text: str, seen: Any) -> list[Span]:
        assert seen.startswith(text)
        return [(0, 1)]


def test_a_slow_tool_is_stopped_and_says_how_much_it_saw() -> None:
    rows = [positive("a")] * 50
    assert measure(Slow(), rows, cap_s=0.0)["strings"] == 1
    whole = measure(Slow(), rows, cap_s=60.0)
    assert (whole["strings"], whole["found"]["secret"]) == (50, [50, 50])


def test_ours_and_the_simple_patterns_tell_places() -> None:
    text = f"écrit à {EMAIL} hier"
    place = (text.index("jane"), text.index(" hier"))
    for tool in (Ours("default"), Simple()):
        assert tool.spans(text, tool.look(text, "")) == [place]
        assert tool.spans("nothing here", tool.look("nothing here", "")) == []


def test_only_what_is_installed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_self: Tool) -> None:
        raise ImportError

    monkeypatch.setattr(Logfire, "__init__", missing)
    monkeypatch.setattr(contestants, "PEERS", (Logfire, Simple))
    made = dict(make_all())
    assert made["Logfire"] is None
    assert made["12 patterns"]
    assert [title for title, _ in make_all(peers=False)] == ["ours, default", "ours, strict"]


@pytest.fixture
def installed(request: pytest.FixtureRequest) -> Iterator[Tool]:
    try:
        tool = request.param()
    except ImportError as error:
        pytest.skip(f"a peer of `make guard-eval` alone: {error}")
    yield tool
    tool.close()


@pytest.mark.parametrize("installed", [Logfire], indirect=True)
def test_logfire_takes_the_whole_text_and_the_key_matters(installed: Tool) -> None:
    def ask(text: str, key: str = "") -> list[Span]:
        return installed.spans(text, installed.look(text, key))

    text = "my password is here"
    assert ask(text) == [(0, len(text))]
    assert ask(text, "http.url") == []
    assert ask("nothing", "db.password") == [(0, 7)]
    assert ask("nothing here") == []
    kept = ask(json.dumps({"long_enough": 1, "password": "abcdefgh"}))
    assert len(kept) == 1
    assert kept[0][0] > len('{"long_enough"')


@pytest.mark.parametrize("installed", [DetectSecretsFile, DetectSecretsLine], indirect=True)
def test_detect_secrets_counts_by_the_value_it_names(installed: Tool) -> None:
    value = "AKIA" + "QZ7T" * 4
    text = f"first line\naws_access_key_id = {value}\n"
    spans = merged(installed.spans(text, installed.look(text, "")))
    start = text.index(value)
    assert covered(spans, start, start + len(value)) == len(value)


@pytest.mark.parametrize("installed", [Presidio], indirect=True)
def test_presidio_asks_nobody_and_tells_places(installed: Tool) -> None:
    text = f"write to {EMAIL} now"
    start = text.index("jane")
    assert is_hit(
        positive(text, (start, start + len(EMAIL))),
        merged(installed.spans(text, installed.look(text, ""))),
    )


def test_no_tool_reaches_another_computer() -> None:
    with pytest.raises(EgressError):
        refuse_egress("socket.getaddrinfo", ("localhost", 80))
    refuse_egress("open", ("file", "r", 0))


# --- the program and the page -----------------------------------------------------------


def evaluate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "guard_eval/evaluate.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.e2e
def test_without_strings_it_says_so(tmp_path: Path) -> None:
    done = evaluate(TELEMETRY_CORPUS=str(tmp_path))
    assert done.returncode == 2
    assert "TELEMETRY_CORPUS" in done.stderr


@pytest.mark.e2e
def test_another_file_is_measured_and_nothing_published(tmp_path: Path) -> None:
    lines = [
        {"text": f"mail {EMAIL}", "domain": "pii", "label": "positive", "kind": "email",
         "span": [5, 5 + len(EMAIL)]},
        {"text": "GET /orders", "domain": "secret", "label": "negative", "class": "benign",
         "kind": "span_name", "span": None},
    ]  # fmt: skip
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    before = (RESULTS.read_bytes(), PAGE.read_bytes())
    out = tmp_path / "out.json"
    done = evaluate("--file", str(path), "--tools", "ours", "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert "personal data found" in done.stdout
    assert "100 %" in done.stdout
    assert "secrets found" not in done.stdout
    assert (RESULTS.read_bytes(), PAGE.read_bytes()) == before
    assert json.loads(out.read_text())["tools"]["ours, strict"]["found"]["pii"] == [1, 1]


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def test_the_page_shows_the_last_run() -> None:
    """docs/privacy.md is made of guard_eval/results.json, and was not edited since."""
    text = PAGE.read_text(encoding="utf-8")
    assert tables.page(text, results()) == text, "run `python guard_eval/evaluate.py --page`"


def test_the_last_run_was_a_whole_one_without_a_trace_of_the_machine() -> None:
    """Every tool has its column; whoever lacks one sees "not installed"."""
    told = results()
    assert list(told["tools"]) == list(TITLES)
    assert all(tool["installed"] for tool in told["tools"].values())
    text = tables.figures(told) + RESULTS.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert "/home/" not in text


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        tables.page("# Privacy\n", results())


def made_up(**tools: Any) -> dict[str, Any]:
    ours = {
        "installed": True, "version": "", "strings": 40, "us": 3.2,
        "found": {"secret": [33, 40], "secret/strong": [30, 30], "secret/vendor:weak": [3, 6],
                  "secret/rare": [0, 4]},
        "changed": {"all": [1, 1000]}, "near": {}, "kept": [999, 1000],
        "spared": [1000, 1000],
    }  # fmt: skip
    return {
        "date": "2026-01-01",
        "python": "CPython 3",
        "system": "Linux",
        "strings": 40,
        "tools": {"ours, default": ours, "ours, strict": ours, **tools},
    }


def test_the_table_is_aligned_and_names_what_is_missing() -> None:
    peer = {"installed": False}
    lines = tables.terminal(made_up(Logfire=peer)).splitlines()
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[1].split() == ["secrets", "found", "40", "82", "%", "82", "%", "not", "installed"]
    assert lines[4].split()[-2:] == ["not", "installed"]


def test_weak_kinds_are_named_and_rare_ones_counted() -> None:
    text = " ".join(tables.weak(made_up()).split())
    assert "Of 3 kinds of secrets, profile default, 2 are found" in text
    assert "`weak` (3 of 6); 1 of them have fewer than 5 strings" in text
    assert "strong" not in text


def test_a_tool_that_saw_a_part_says_so() -> None:
    slow = {**made_up()["tools"]["ours, default"], "strings": 7}
    assert "slow and saw 7 of the strings" in tables.figures(made_up(Slow=slow))
    assert "slow and saw" not in tables.figures(made_up())


def test_a_percentage_never_rounds_to_all_or_nothing() -> None:
    assert tables.percent([1, 1000], 0) == "0.10 %"
    assert tables.percent([999, 1000], 0) == "99.90 %"
    assert tables.percent([0, 1000], 0) == "0 %"
    assert tables.percent(None, 0) == "not installed"


# --- the worst case -----------------------------------------------------------------------


def rule_of(pattern: str, validator: str = "") -> TextRule:
    made = (pattern,) * 3
    return TextRule("made-up", "structure", "default", "mask", (), *made, validator, "")


def test_inputs_are_many_as_long_as_asked_and_the_same_each_time() -> None:
    rule = rule_of(r"\b(?:key_|tok-)([a-f0-9]{8,64})(?:[^a-f]|\x00|$)")
    inputs = list(worst.hostile(rule, 1000))
    assert inputs == list(worst.hostile(rule, 1000))
    assert len({data for _, data in inputs}) >= 12
    assert {len(data) for _, data in inputs} == {1000}
    for prefix in (b"key_", b"tok-"):
        assert any(re.search(prefix + b"[a-f0-9]{64}", data) for _, data in inputs)


def test_a_rule_that_looks_again_and_again_at_a_long_run_is_found_out() -> None:
    """A validator refuses each hit, and each hit is as long as the rest of the text."""
    rules = [rule_of("[a-z]{20,40}", "tokens.jwt"), rule_of("[a-z]{20,40}@", "tokens.jwt")]
    matcher = best_matcher(rules)
    trap, harmless = (worst.worst_of(matcher, at, size=1 << 15) for at in (0, 1))
    assert trap.asked > 100
    assert b"@" in harmless.start or harmless.asked < trap.asked


def test_a_megabyte_is_searched_as_the_guard_does_it() -> None:
    """In texts of the longest that it takes, each with a budget of its own."""
    search = best_matcher([rule_of("[a-z]{20,}", "tokens.jwt")])._search(0)
    whole = worst.timed("made-up", "letters", search, b"a" * worst.TEXT_BYTES * 3)
    assert whole.asked == 3 * worst.timed("", "", search, b"a" * worst.TEXT_BYTES).asked
    assert whole.asked < 10


def test_a_search_without_end_is_stopped() -> None:
    rule = rule_of("a", "tokens.jwt")
    search = best_matcher([rule])._search(0)
    case = worst.timed("made-up", "letters", search, b"aaa" * 10_000, cap_s=0.0)
    assert (case.stopped, case.asked, case.start) == (True, 1, b"a" * 60)
    assert not worst.timed("made-up", "letters", search, b"aaa").stopped
