"""Read what people write for times and lengths of time, and write lengths back.

The idea: one strict grammar, no guessing. ``24h`` is a length and, as a point in
time, that long ago; a date is a date in the reader's own time zone, since that is
the calendar the reader looks at. Everything else is refused with the spellings
that would have worked, because a guessed window answers another question.
"""

from __future__ import annotations

import re

from stack_composer.telemetry.errors import QueryError

SECOND_NS = 1_000_000_000
UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3_600 * SECOND_NS,
    "d": 86_400 * SECOND_NS,
    "w": 7 * 86_400 * SECOND_NS,
}
TEXT_CHARS_MAX = 64
TIME_NS_MAX = 2**63 - 1
"""Later than this no file name and no OTLP reader agrees on the date: April 2262."""

# Texts, not compiled patterns: compiling all of them would cost every command 7 ms,
# and most use one. The re module keeps what it has compiled.
_PART = r"([0-9]+)(?:\.([0-9]+))?(ns|us|ms|s|m|h|d|w)"
_DURATION = rf"(?:{_PART})+"
_NOW = r"now(?:\s*([+-])\s*(\S+))?"
_UNIX = r"@([0-9]+)(?:\.([0-9]{1,9}))?"
_DATE = (
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<hour>[0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2})?(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?"
)

DURATION_HINT = "write a number and a unit: 30s, 15m, 24h, 7d, 2w, 1h30m"
TIME_HINT = (
    "write how long ago (24h, 7d, 1h30m), a date (2026-11-22), a time"
    " (2026-11-22T19:14, 2026-11-22T19:14:03Z), now-1h, today, yesterday or @1763838843"
)


def parse_duration_ns(text: str) -> int:
    """Return the length of time in nanoseconds that ``text`` names, such as ``1h30m``.

    Days are 86,400 s and weeks seven of them, whatever the clock change.

    Raises:
        QueryError: ``text`` is not a length of time.
    """
    word = text.strip().lower()
    if len(word) > TEXT_CHARS_MAX or not re.fullmatch(_DURATION, word):
        raise QueryError(f"not a length of time: {shown(text)}", hint=DURATION_HINT)
    total = 0
    for whole, fraction, unit in re.findall(_PART, word):
        scale = UNITS_NS[unit]
        total += int(whole) * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    return total


def parse_time_ns(text: str, *, now_ns: int) -> int:
    """Return the moment that ``text`` names, in Unix nanoseconds.

    A bare length of time is that long before ``now_ns``, and never before 1970. A
    date without a zone is midnight, a time without one is wall time, both on this
    computer's clock.

    Raises:
        QueryError: ``text`` is no time, or lies beyond the year 2262.
    """
    word = text.strip()
    if len(word) > TEXT_CHARS_MAX:
        raise QueryError(f"not a time: {shown(text)}", hint=TIME_HINT)
    found = _relative_ns(word.lower(), now_ns)
    if found is None:
        found = _absolute_ns(word, now_ns)
    if found is None:
        raise QueryError(f"not a time: {shown(text)}", hint=TIME_HINT)
    if found > TIME_NS_MAX:
        raise QueryError(f"a time beyond the year 2262: {shown(text)}", hint=TIME_HINT)
    return max(found, 0)


def _relative_ns(word: str, now_ns: int) -> int | None:
    if re.fullmatch(_DURATION, word):
        return now_ns - parse_duration_ns(word)
    now = re.fullmatch(_NOW, word)
    if now is None:
        return None
    sign, length = now.groups()
    if sign is None:
        return now_ns
    return now_ns + parse_duration_ns(length) * (1 if sign == "+" else -1)


def _absolute_ns(word: str, now_ns: int) -> int | None:
    unix = re.fullmatch(_UNIX, word)
    if unix:
        return int(unix[1]) * SECOND_NS + _fraction_ns(unix[2])
    if word.lower() in ("today", "yesterday"):
        return _midnight_ns(now_ns, days_ago=word.lower() == "yesterday")
    date = re.fullmatch(_DATE, word)
    return _date_ns(date) if date else None


def _fraction_ns(digits: str | None) -> int:
    return int(digits.ljust(9, "0")) if digits else 0


def _midnight_ns(now_ns: int, *, days_ago: int) -> int:
    from datetime import datetime, time, timedelta

    # Both without a zone on purpose: this is the calendar on the user's wall.
    today = datetime.fromtimestamp(now_ns // SECOND_NS).date()  # noqa: DTZ006
    midnight = datetime.combine(today - timedelta(days=days_ago), time())
    return int(midnight.timestamp()) * SECOND_NS


def _date_ns(date: re.Match[str]) -> int | None:
    from datetime import datetime

    text = f"{date['date']}T{date['hour'] or '00:00'}{date['second'] or ':00'}{date['zone'] or ''}"
    try:
        # timestamp() takes a time without a zone for this computer's.
        moment = datetime.fromisoformat(text)
        return int(moment.timestamp()) * SECOND_NS + _fraction_ns(date["fraction"])
    except (ValueError, OverflowError, OSError):
        # 2026-02-30, or a year that the platform's calendar cannot hold.
        return None


def shown(text: str) -> str:
    """Return what the user typed, short and harmless to a terminal."""
    from stack_composer.telemetry.query.text import printable

    cut = text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "..."
    return f"'{printable(cut)}'"


def duration_text(length_ns: float) -> str:
    """Return a length of time as people say it: ``84 ms``, ``1.2 s``, ``3 h 05 min``.

    Three figures below a minute, so that columns of percentiles can be compared.
    """
    if length_ns < 0:
        return "-" + duration_text(-length_ns)
    for unit, scale, limit in (
        ("ns", 1, 1e3),
        ("us", 1_000, 1e6),
        ("ms", 1_000_000, 1e9),
        ("s", SECOND_NS, 60e9),
    ):
        # 999.6 us must become 1 ms, not "1000 us": compare what will be printed.
        if float(f"{length_ns:.3g}") < limit:
            return f"{_three_figures(length_ns / scale)} {unit}"
    return _long_text(round(length_ns / SECOND_NS))


def _long_text(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days:,} d {hours:02} h"


def _three_figures(value: float) -> str:
    rounded = float(f"{value:.3g}")
    if rounded >= 100:
        return f"{rounded:.0f}"
    text = f"{rounded:.1f}" if rounded >= 10 else f"{rounded:.2f}"
    return text.rstrip("0").rstrip(".")


def age_text(length_ns: int) -> str:
    """Return an age in one unit, rounded down: ``2 days``, ``5 hours``, ``40 s``."""
    for unit, scale in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = length_ns // (scale * SECOND_NS)
        if count >= 1:
            return f"{count:,} {unit}{'' if count == 1 else 's'}"
    return f"{max(length_ns, 0) // SECOND_NS} s"


def utc_text(time_ns: int) -> str:
    """Return ``time_ns`` as RFC 3339 in UTC; a fraction only where there is one.

    Out of the calendar's range (a damaged line) the answer is ``@<seconds>``.
    """
    import time

    seconds, fraction = divmod(time_ns, SECOND_NS)
    try:
        moment = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        return f"@{seconds}"
    if moment.tm_year > 9999:
        return f"@{seconds}"
    text = (
        f"{moment.tm_year:04}-{moment.tm_mon:02}-{moment.tm_mday:02}"
        f"T{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    )
    if fraction:
        text += "." + f"{fraction:09}".rstrip("0")
    return text + "Z"
