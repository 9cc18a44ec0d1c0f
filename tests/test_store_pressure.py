"""What follows from the room on a disk: levels, their hysteresis, and what they mean."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.model import LogRecord, Scope, SpanDetails, SpanRecord
from stack_composer.telemetry.store import names, pressure, pressure_note
from stack_composer.telemetry.store.pressure import Limits, Measures, State, assess
from stack_composer.telemetry.store.reader import BundleInfo, list_bundles

MIB = 2**20
GIB = 2**30
LIMITS = Limits(GIB, 256 * MIB, 64 * MIB)
DISK = 100 * GIB
rooms = st.integers(0, 3 * GIB)


def level(free: int, before: str | None = None, total: int = DISK) -> str:
    state = None if before is None else State(before, 1)
    return assess(state, free_bytes=free, total_bytes=total, now_ns=2, limits=LIMITS).level


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (GIB, "normal"),
        (GIB - 1, "throttle"),
        (256 * MIB, "throttle"),
        (256 * MIB - 1, "critical"),
        (64 * MIB, "critical"),
        (64 * MIB - 1, "stop"),
        (0, "stop"),
    ],
)
def test_a_level_begins_below_its_limit(free: int, expected: str) -> None:
    assert level(free) == level(free, "normal") == expected


def test_a_level_is_left_with_a_quarter_more_than_its_limit() -> None:
    assert level(80 * MIB - 1, "stop") == "stop"
    assert level(80 * MIB, "stop") == "critical"
    assert level(320 * MIB - 1, "critical") == "critical"
    assert level(320 * MIB, "critical") == "throttle"
    assert level(1280 * MIB - 1, "stop") == "throttle"
    assert level(1280 * MIB, "stop") == "normal"


def test_on_a_small_disk_the_limits_are_shares_of_it() -> None:
    assert LIMITS.on(DISK) == (GIB, 256 * MIB, 64 * MIB)
    assert LIMITS.on(GIB) == (GIB // 10, GIB // 40, GIB // 100)
    assert level(110 * MIB, total=GIB) == "normal"
    assert level(20 * MIB, total=GIB) == "critical"


def test_a_limit_of_0_leaves_its_level_out() -> None:
    def at(free: int, limits: Limits, *, is_full: bool = False) -> str:
        return assess(
            None, free_bytes=free, total_bytes=DISK, now_ns=1, limits=limits, is_full=is_full
        ).level

    assert at(0, Limits(0, 0, 0)) == "normal"
    assert at(0, Limits(GIB, 0, 0)) == "throttle"
    assert at(GIB, Limits(0, 0, 0), is_full=True) == "stop"


def test_a_refused_write_stops_and_the_next_look_tries_again() -> None:
    full = assess(None, free_bytes=DISK, total_bytes=DISK, now_ns=5, limits=LIMITS, is_full=True)
    assert (full.level, full.since_ns) == ("stop", 5)
    again = assess(full, free_bytes=DISK, total_bytes=DISK, now_ns=6, limits=LIMITS)
    assert (again.level, again.since_ns) == ("normal", 6)


@given(st.lists(rooms, max_size=30), st.integers(0, 10 * GIB))
def test_less_room_never_means_a_better_level(some: list[int], total: int) -> None:
    """And since when is the moment at which the level last changed."""
    state: State | None = None
    changed = 0
    for at, free in enumerate(some, start=1):
        found = assess(state, free_bytes=free, total_bytes=total, now_ns=at, limits=LIMITS)
        fresh = assess(None, free_bytes=free, total_bytes=total, now_ns=at, limits=LIMITS)
        # What held before can only make it worse.
        assert pressure.LEVELS.index(found.level) >= pressure.LEVELS.index(fresh.level)
        less = assess(state, free_bytes=free // 2, total_bytes=total, now_ns=at, limits=LIMITS)
        assert pressure.LEVELS.index(less.level) >= pressure.LEVELS.index(found.level)
        if state is None or found.level != state.level:
            changed = at
        assert found.since_ns == changed
        state = found


@given(st.integers(0, 2 * GIB), st.integers(0, 20 * MIB))
def test_a_disk_that_wavers_changes_the_level_once(free: int, more: int) -> None:
    """A little more and a little less room, in turns: after the first two no change."""
    state: State | None = None
    seen = []
    for at in range(8):
        room = free + (more if at % 2 and more < free // 8 else 0)
        state = assess(state, free_bytes=room, total_bytes=DISK, now_ns=at, limits=LIMITS)
        seen.append(state.level)
    assert len(set(seen[2:])) == 1


# --- what a level means -----------------------------------------------------------


def span(*, trace: str = "0" * 31 + "1", ns: int = 10, error: bool = False) -> SpanRecord:
    made = SpanRecord()
    made.start_ns, made.end_ns, made.trace_id, made.details = 0, ns, trace, None
    if error:
        made.details = SpanDetails()
        made.details.status_code = 2
    return made


def test_errors_and_slow_spans_are_kept_whatever_their_trace() -> None:
    assert not pressure.keeps(span(), 4)
    assert pressure.keeps(span(error=True), 4)
    assert pressure.keeps(span(ns=pressure.SLOW_NS), 4)
    assert not pressure.keeps(span(ns=pressure.SLOW_NS - 1), 4)


def test_a_trace_is_kept_or_left_out_as_a_whole() -> None:
    traces = [os.urandom(16).hex() for _ in range(4_000)]
    for one_in in (4, 32):
        kept = [trace for trace in traces if pressure.keeps(span(trace=trace), one_in)]
        assert 0.5 < len(kept) * one_in / len(traces) < 1.6
        assert all(pressure.keeps(span(trace=trace, ns=99), one_in) for trace in kept)
    # What "critical" keeps, "throttle" keeps too.
    assert all(
        pressure.keeps(span(trace=t), 4) for t in traces if pressure.keeps(span(trace=t), 32)
    )


def test_of_log_records_warnings_stay() -> None:
    def log(severity: int) -> LogRecord:
        return LogRecord(0, severity, "", None, None, None, Scope())

    for at in ("normal", "throttle"):
        assert pressure.keeps_log(log(1), at)
    assert not pressure.keeps_log(log(12), "critical")
    assert pressure.keeps_log(log(13), "critical")


def test_measures_grow_with_the_level() -> None:
    found = [Measures(at, 32 * MIB) for at in pressure.LEVELS]
    assert [m.bundle_bytes_max for m in found] == [32 * MIB, 4 * MIB, MIB, MIB]
    assert [m.one_trace_in for m in found] == [1, 4, 32, 32]
    assert [m.frees for m in found] == [False, False, True, True]
    assert [m.writes for m in found] == [True, True, True, False]
    assert len({m.text for m in found}) == 4
    # A bound that is smaller already stays.
    assert Measures("throttle", 4096).bundle_bytes_max == 4096


def bundle(number: int, size: int, *, sealed: bool = True) -> BundleInfo:
    return BundleInfo(f"/t/{number}", "traces", number, 1, sealed, size, str(number), 0)


def test_the_oldest_sealed_bundles_go_a_little_at_a_time() -> None:
    found = [bundle(n, 10, sealed=n != 2) for n in range(40)]
    assert pressure.plan_relief(found, 0) == []
    assert pressure.plan_relief(found, 1) == found[:1]
    # A sixteenth of 390 is 24: three bundles, and none that is being written.
    assert pressure.plan_relief(found, 10**9) == [found[0], found[1], found[3]]
    assert pressure.plan_relief(found[2:3], 10**9) == []
    assert pressure.plan_relief([bundle(1, 999)], 1) == [bundle(1, 999)]


def test_what_is_missing_is_what_ends_the_level() -> None:
    assert pressure.wanted_bytes(State("critical", 0, 300 * MIB, DISK), LIMITS) == 20 * MIB
    assert pressure.wanted_bytes(State("critical", 0, 320 * MIB, DISK), LIMITS) == 0


def test_a_full_disk_is_told_from_other_errors() -> None:
    def wrapped(number: int) -> StoreError:
        error = StoreError("x")
        error.__cause__ = OSError(number, "x")
        return error

    assert pressure.is_full(wrapped(errno.ENOSPC))
    assert pressure.is_full(OSError(errno.EDQUOT, "x"))
    assert not pressure.is_full(wrapped(errno.EIO))
    assert not pressure.is_full(ValueError())


# --- the note, and the room -------------------------------------------------------


def test_the_note_is_written_in_place_and_goes_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "telemetry"
    assert pressure_note.read_note(str(folder)) is None
    assert not pressure_note.write_note(str(folder), State("stop", 1))
    assert not folder.exists()
    folder.mkdir(mode=0o700)
    inodes = set()
    for at in ("throttle", "critical", "stop"):
        assert pressure_note.write_note(str(folder), State(at, 7, 8, 9))
        found = pressure_note.read_note(str(folder))
        assert found is not None
        assert (found.level, found.since_ns, found.free_bytes, found.total_bytes) == (at, 7, 8, 9)
        note = folder / names.PRESSURE_NOTE
        assert note.stat().st_size == pressure_note.NOTE_BYTES
        assert note.stat().st_mode & 0o777 == 0o600 or os.name == "nt"
        assert json.loads(note.read_bytes())["level"] == at
        inodes.add(note.stat().st_ino)
    assert len(inodes) == 1
    assert list_bundles(str(folder)).foreign == []
    assert pressure_note.write_note(str(folder), State("normal", 7))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "raw", [b"", b"\x00" * 512, b"{}", b'{"level":"much"}', b"[" * 512, b'{"level":[]}']
)
def test_a_note_that_is_none_is_as_good_as_absent(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / names.PRESSURE_NOTE).write_bytes(raw)
    assert pressure_note.read_note(str(tmp_path)) is None


def test_the_room_of_a_path_that_is_not_there_is_its_parents(tmp_path: Path) -> None:
    found = effects.disk_space(str(tmp_path / "a" / "b" / "c"))
    there = effects.disk_space(str(tmp_path))
    assert found is not None
    assert there is not None
    assert found[1] == there[1] > 0
    assert 0 < found[0] <= found[1]
    assert effects.disk_space("\0") is None
