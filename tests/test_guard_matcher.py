"""The matcher's parts, each by itself: bounds that whole texts rarely touch."""

from __future__ import annotations

import re

import pytest

from stack_composer.telemetry.guard import engines, markers, matcher, rules
from stack_composer.telemetry.guard.budget import Patience, UnsettledError
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.engines import after_text, found_by_re, text_starts
from stack_composer.telemetry.guard.gates import forget_last_bounds
from stack_composer.telemetry.guard.markers import blank_markers
from stack_composer.telemetry.guard.matcher import Span, merge, repeats, search_rule, secret_span
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.reference import redact_reference

TEXT = "aé€\U0001f600b"


def test_a_span_takes_whole_characters() -> None:
    """Wherever it begins and ends, and in bytes that are no text at all."""
    data = TEXT.encode()
    borders = [len(TEXT[:at].encode()) for at in range(len(TEXT) + 1)]
    for start in range(len(data)):
        for end in range(start + 1, len(data) + 1):
            whole = matcher._whole_characters(data, Span(start, end, 5))
            assert whole.start == max(border for border in borders if border <= start)
            assert whole.end == min(border for border in borders if border >= end)
            assert whole.rule == 5
    broken = b"\x80\xbfab\xbf\x80"
    whole = matcher._whole_characters(broken, Span(1, 3, 0))
    assert (whole.start, whole.end) == (0, 3)
    whole = matcher._whole_characters(broken, Span(2, 4, 0))
    assert (whole.start, whole.end) == (2, 6)
    whole = matcher._whole_characters(b"\xc0\xc1", Span(1, 1, 0))
    assert (whole.start, whole.end) == (1, 1)


def test_what_is_blanked_keeps_its_place() -> None:
    blanked = matcher._blank(b"abcdefgh", [Span(1, 3, 0), Span(6, 8, 0)])
    assert blanked == b"a\0\0def\0\0"


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        ("x[redacted:email]y", True),
        ("[redacted:" + "n" * markers.MARKER_NAME_CHARS_MAX + "]", True),
        ("[redacted:" + "n" * (markers.MARKER_NAME_CHARS_MAX + 1) + "]", False),
        ("[redacted:]", False),
        ("[redacted:Email]", False),
        ("[redacted:a b]", False),
        ("[redacted:email", False),
        ("[redacted:" + "n" * markers.MARKER_NAME_CHARS_MAX + ":" + "a0" * 32 + "]", True),
        ("x[redacted:project:" + "f9" * 16 + "]y", True),
        ("[redacted:project:" + "f9" * 15 + "]", False),
        ("[redacted:project:" + "g9" * 16 + "]", False),
        ("[redacted::" + "f9" * 16 + "]", False),
    ],
)
def test_markers_and_nothing_else_are_blanked(text: str, *, blank: bool) -> None:
    data = text.encode()
    kept = data.strip(b"xy") if blank else b""
    assert blank_markers(data) == data.replace(kept, b"\0" * len(kept)) if kept else data
    assert (b"\0" in blank_markers(data)) is blank
    assert blank_markers(data + b"[redacted:email]").endswith(b"\0" * 16)


def test_texts_begin_where_their_bytes_do() -> None:
    """With one character of two bytes as with none, and with several."""
    for texts in (["ab", "", "c"], ["é", "ab"], ["é", "é", "x"], ["", "\U0001f600"]):
        joined = "\0".join(texts).encode()
        starts = text_starts(texts, len(joined))
        assert [joined[start:].split(b"\0")[0].decode() for start in starts[:-1]] == texts
        assert starts[-1] == len(joined) + 1


def test_a_search_that_would_stand_still_is_given_up() -> None:
    assert after_text([0, 4, 8], 0, 2) == 3
    with pytest.raises(UnsettledError):
        after_text([0, 4, 8], 0, 3)


def test_a_group_that_took_nothing_is_no_secret() -> None:
    find = found_by_re(re.compile(rb"ab(c?)"))
    found = search_rule(find, lambda *_: True, 1, b"ab abc ab", 0, Patience())
    assert [(span.start, span.end) for span in found] == [(5, 6)]


def test_the_secret_is_the_first_group_that_took_part() -> None:
    """Wherever it stands; the whole match if none did."""
    assert secret_span([(2, 9)]) == (2, 9)
    assert secret_span([(2, 9), (-1, -1)]) == (2, 9)
    assert secret_span([(2, 9), (-1, -1), (3, 5), (6, 7)]) == (3, 5)
    assert secret_span([(0, 9), (0, 2), (3, 5)]) == (0, 2)


def test_the_last_bytes_of_a_text_are_searched() -> None:
    find = found_by_re(re.compile(rb"abc"))
    found = search_rule(find, lambda *_: True, 1, b"abc", 0, Patience())
    assert [(span.start, span.end) for span in found] == [(0, 3)]


def test_spans_that_touch_stay_two() -> None:
    """They are two finds; only what overlaps is one, with the earliest rule's name."""
    spans = [Span(4, 6, 1), Span(0, 4, 2), Span(5, 9, 0), Span(6, 7, 3)]
    assert [(one.start, one.end, one.rule) for one in merge(spans)] == [(0, 4, 2), (4, 9, 0)]


def test_what_was_found_is_found_wherever_it_stands() -> None:
    """If it is long and no plain word; what is short before it does not matter."""
    secret, word = b"q7Zk2mX9vB4n", b"password" * 2
    data = b" ".join([b"ab1", secret, word, b"ab1", secret, word, secret])
    found = [Span(0, 3, 0), Span(4, 16, 1), Span(17, 33, 2)]
    more = repeats(data, found)
    assert {(span.start, span.rule) for span in more} == {
        (match.start(), 1) for match in re.finditer(secret, data)
    }
    assert all(span.end - span.start == len(secret) for span in more)
    assert repeats(data, found * 30) == []
    assert repeats(secret[:-1] * 2, [Span(0, 11, 0)]) == []


def test_a_sign_of_another_writing_is_seen_where_the_text_begins() -> None:
    searcher = engines.ReMatcher(())
    for text in (b"%41%42", b"\\u0041", b"&#65;", b"\xe2\x80\x8b", b"ab %41%42"):
        assert list(searcher._candidates(text)) == [0], text
    assert list(searcher._candidates(b"ab cd")) == []


def test_rules_that_need_many_states_share_no_automaton_with_others() -> None:
    """Each rule is in one; one more, for other writings, is with the cheap ones."""
    own = rules.text_rules("strict")
    first, *others = engines._parts(own)
    assert sorted(at for part in (first, *others) for at in part) == list(range(len(own) + 1))
    assert len(own) in first
    assert {own[at].profile for at in first if at < len(own)} == {"default"}
    assert not {own[at].tier for at in first if at < len(own)} & {"structure", "assignment"}
    tiers = [{own[at].tier for at in part} for part in others]
    assert all(len(one) == 1 for one in tiers)
    assert len(set().union(*tiers)) == len(others)


def test_a_wrapper_of_another_make_gives_the_same_answers() -> None:
    """RE2's own search is reached by a private name, which another version may not have."""
    re2 = pytest.importorskip("re2")

    class Wrapped:
        def __init__(self, pattern: bytes) -> None:
            options = re2.Options()
            options.encoding = re2.Options.Encoding.LATIN1
            compiled = re2.compile(pattern, options)
            self.own = engines.found_by_re2(compiled)
            self.search, self.match = compiled.search, compiled.match

    for pattern in (rb"b(c)|(d)", rb"(?s:.*?)bc"):
        wrapped = Wrapped(pattern)
        by_wrapper = engines.found_by_re2(wrapped)
        by_re = found_by_re(re.compile(pattern))
        for data in (b"abcd", b"ad", b"abc", b"", b"xyz"):
            for start in range(len(data) + 1):
                finds = (wrapped.own, by_wrapper, by_re)
                answers = [find(data, start, len(data)) for find in finds]
                assert len({answer[0] for answer in answers}) == 1
                if answers[0][0][0] >= 0:
                    assert list(answers[0]) == list(answers[1]) == list(answers[2])
    assert engines.found_by_re2(wrapped, anchored=True)(b"abc", 0, 3)[0] == (0, 3)


def test_a_set_without_room_leaves_no_rule_out() -> None:
    pytest.importorskip("re2")
    own = engines.Re2Matcher(rules.text_rules("default"))

    class FullSet:
        def Match(self, _data: bytes) -> None:  # noqa: N802 - the name that RE2's binding has
            return None

    own._sets = [FullSet() for _ in own._parts]
    (email,) = [at for at, rule in enumerate(own.rules) if rule.name == "email"]
    (part,) = [part for part in own._parts if email in part]
    assert list(own._candidates(b"to alice@" + b"example.org")) == sorted(part)
    assert list(own._candidates(b"nothing")) == []


@pytest.mark.parametrize("before", ["password=", "token: ", "https://app:", "api_key='"])
@pytest.mark.parametrize("chars", [63, 64, 65, 127, 128, 129, 256, 257, 3000])
def test_however_long_a_secret_is_none_of_it_stays(before: str, chars: int) -> None:
    """Patterns count to some number; what is beyond it in the same run goes too."""
    secret = ("q7Zk2mX9vB4nR8tY3wL6" * 150)[: chars - 1] + "Z"
    guard = Guard(Policy(salt=bytes(32)))
    after = "@db.example.com/x" if before.endswith("app:") else " and more"
    answer = guard.value("note", before + secret + after)
    assert secret[-8:] not in answer
    assert answer.endswith(after)
    if chars <= 200:
        assert answer == redact_reference(before + secret + after)


def test_only_a_long_hit_goes_on_to_the_end_of_its_run() -> None:
    run = b"a" * 70
    assert matcher.run_end(run + b" b", 0, 64) == 70
    assert matcher.run_end(run + b" b", 0, 63) == 63
    assert matcher.run_end(run + b" b", 6, 70) == 70
    assert matcher.run_end(b"x" * 64 + b'"aaa', 0, 65) == 65


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("a{1,128}", "a{1,}"),
        ("(?:a{1,128}|b)c", None),
        ("(?:a{1,128}|b)|c", "(?:a{1,}|b)|c"),
        ("(?:a{1,128}|b[)|]c)", "(?:a{1,}|b[)|]c)"),
        (r"(?:a{1,128}|b\)|c[]|x])", r"(?:a{1,}|b\)|c[]|x])"),
        (r"(?:a{1,128}|b\))c", None),
        ("(a{1,128})?", None),
        ("(?:a{1,128}){2}", None),
        ("a{1,512}={0,2}", "a{1,}={0,2}"),
        ("a{1,128}={1,2}", None),
        ("a{1,128}?b", None),
        ("a{1,128}?", None),
        ("a{1,99}", None),
        (r"a{1,128}\b", None),
        ("a{1,200}b{2,200}", "a{1,200}b{2,}"),
    ],
)
def test_only_what_a_match_ends_with_loses_its_bound(pattern: str, left: str | None) -> None:
    assert forget_last_bounds(pattern) == (left or pattern)
