"""What one text may cost, however it was made."""

from __future__ import annotations

import re
import time

import pytest

from stack_composer.telemetry.guard import matcher
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.matcher import Patience, UnsettledError, search_rule
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.texts import TEXT_CHARS_MAX
from stack_composer.telemetry.model import DROPPED

MAIL = "alice@" + "example.org"
NEVER_S = 10.0  # CPU; ten times what the slowest text takes on a small machine.


def test_a_run_refused_at_every_place_is_given_up() -> None:
    """Read again from each of its bytes, it would cost the square of its length."""
    asked = []

    def refuse(_data: bytes, start: int, _end: int) -> bool:
        asked.append(start)
        return False

    run = b"A" * 60_000
    with pytest.raises(UnsettledError):
        search_rule(re.compile(rb"A{9,}"), refuse, run, 0, Patience())
    assert asked == list(range(len(asked)))
    assert len(asked) < matcher.PATIENCE // (len(run) - len(asked))
    short = b" ".join([b"A" * 40] * 1400)
    assert search_rule(re.compile(rb"A{9,}"), refuse, short, 0, Patience()) == []


def test_what_follows_a_secret_is_not_read_without_end_either() -> None:
    """A pattern that wants to see what comes after it may reread it for each hit."""
    pattern = re.compile(rb"(ab)[^x]*")
    with pytest.raises(UnsettledError):
        search_rule(pattern, lambda *_: True, b"ab" * 30_000, 0, Patience())


def test_a_text_full_of_secrets_is_masked_to_its_end() -> None:
    """Patience is for texts made to cost, not for long ones."""
    guard = Guard(Policy(salt=bytes(32)))
    texts = [f"{MAIL} " * (TEXT_CHARS_MAX // 18), "a@b.co," * (TEXT_CHARS_MAX // 7)]
    for text in texts:
        assert set(re.split("[ ,]", guard.value("note", text))) == {"[redacted:email]", ""}


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
