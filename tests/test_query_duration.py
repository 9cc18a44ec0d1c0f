"""Times and lengths of time: what people write is understood, or refused by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.errors import QueryError
from stack_composer.telemetry.query.duration import (
    age_text,
    duration_text,
    parse_duration_ns,
    parse_time_ns,
    utc_text,
)

S = 1_000_000_000
NOW = 1_763_838_843 * S  # 2025-11-22T19:14:03Z


@pytest.fixture(autouse=True)
def in_kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone that is neither UTC nor whole hours away shows every mix-up."""
    if not hasattr(time, "tzset"):
        pytest.skip("the zone cannot be set on this platform")
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "length_ns"),
    [
        ("24h", 86_400 * S),
        ("1h30m", 5_400 * S),
        ("7d", 7 * 86_400 * S),
        ("2w", 14 * 86_400 * S),
        ("0.5s", S // 2),
        ("1.25ms", 1_250_000),
        ("10us", 10_000),
        ("3ns", 3),
        ("0s", 0),
        (" 30M ", 1_800 * S),
    ],
)
def test_lengths(text: str, length_ns: int) -> None:
    assert parse_duration_ns(text) == length_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "24",
        "1e3s",
        "-1h",
        "1h-",
        "1 h",
        "nan",
        "infd",
        "٣h",
        "1,5h",
        ".5h",
        "1.h",
        "9" * 65,
    ],
)
def test_what_is_no_length_is_refused_with_the_spellings_that_are(text: str) -> None:
    with pytest.raises(QueryError, match="not a length of time") as caught:
        parse_duration_ns(text)
    assert "24h" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", "2025-11-21T19:14:03Z"),
        ("now", "2025-11-22T19:14:03Z"),
        ("now-1h", "2025-11-22T18:14:03Z"),
        ("now + 1h", "2025-11-22T20:14:03Z"),
        ("2025-11-22", "2025-11-21T18:30:00Z"),
        ("2025-11-22T19:14", "2025-11-22T13:44:00Z"),
        ("2025-11-22 19:14:03.25", "2025-11-22T13:44:03.25Z"),
        ("2025-11-22T19:14:03.123456789Z", "2025-11-22T19:14:03.123456789Z"),
        ("2025-11-22T19:14:03+01:00", "2025-11-22T18:14:03Z"),
        ("2025-11-22Z", "2025-11-22T00:00:00Z"),
        # It is the 23rd already in Kolkata.
        ("today", "2025-11-22T18:30:00Z"),
        ("yesterday", "2025-11-21T18:30:00Z"),
        ("@1763838843.5", "2025-11-22T19:14:03.5Z"),
        ("99999999d", "1970-01-01T00:00:00Z"),
    ],
)
def test_times(text: str, expected: str) -> None:
    assert utc_text(parse_time_ns(text, now_ns=NOW)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-02-30",
        "2025-13-01",
        "yesterdayish",
        "now-",
        "1763838843",
        "25:00",
        "2025-11-22T25:00",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="not a time"):
        parse_time_ns(text, now_ns=NOW)


def test_a_time_that_no_clock_will_show_is_refused() -> None:
    with pytest.raises(QueryError, match="beyond the year 2262"):
        parse_time_ns("@99999999999", now_ns=NOW)
    with pytest.raises(QueryError, match="beyond the year 2262"):
        parse_time_ns("9999-01-01", now_ns=NOW)


def test_a_refusal_is_harmless_to_a_terminal_and_short() -> None:
    with pytest.raises(QueryError) as caught:
        parse_time_ns("\x1b]0;" + "x" * 1000, now_ns=NOW)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120


@given(st.text())
def test_any_text_is_a_time_or_a_query_error(text: str) -> None:
    try:
        found = parse_time_ns(text, now_ns=NOW)
    except QueryError:
        return
    assert 0 <= found < 2**63


@given(st.integers(0, 2**63 - 1))
def test_what_is_printed_as_a_time_is_read_as_the_same(time_ns: int) -> None:
    assert parse_time_ns(utc_text(time_ns), now_ns=NOW) == time_ns


@pytest.mark.parametrize(
    ("length_ns", "text"),
    [
        (0, "0 ns"),
        (999.4, "999 ns"),
        (999.6, "1 us"),
        (84e6, "84 ms"),
        (412_345_678, "412 ms"),
        (1_234_000_000, "1.23 s"),
        (59.94e9, "59.9 s"),
        (59.96e9, "1 min 00 s"),
        (83e9, "1 min 23 s"),
        (3_599.7e9, "1 h 00 min"),
        (90_061e9, "1 d 01 h"),
        (-84e6, "-84 ms"),
    ],
)
def test_lengths_as_people_say_them(length_ns: float, text: str) -> None:
    assert duration_text(length_ns) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 minute"), (7_200, "2 hours"), (200_000, "2 days")],
)
def test_ages_round_down(seconds: int, text: str) -> None:
    assert age_text(seconds * S) == text


def test_a_time_out_of_every_calendar_is_still_shown() -> None:
    """OTLP's times go to 2**64; a damaged line may hold any of them."""
    assert utc_text(2**64 - 1) == "2554-07-21T23:34:33.709551615Z"
    assert utc_text(10**30) == "@1000000000000000000000"


def test_the_zone_of_this_test_is_what_it_says() -> None:
    assert os.environ["TZ"] == "Asia/Kolkata"
    assert time.timezone == -19_800
