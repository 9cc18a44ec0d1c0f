"""Purging deletes what the plan says and nothing that somebody writes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.store import lock, names, reader, retention
from stack_composer.telemetry.store.reader import BundleInfo
from stack_composer.telemetry.store.retention import apply_purge, closed_bundles, plan_purge
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, names_in, spans_line, tick_until_idle

DAY_NS = 86_400 * 10**9
NOW_NS = 1_764_000_000 * 10**9


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    place.mkdir(mode=0o700)
    return place


def bundle(created_ns: int, size: int = 100, sketch: int = 0) -> BundleInfo:
    stem = names.make_stem(max(created_ns, 0), 1, bytes(4))
    return BundleInfo(
        path=f"/t/{stem}",
        signal="traces",
        created_ns=created_ns,
        pid=1,
        sealed=True,
        bytes=size,
        stem=stem,
        sketch_bytes=sketch,
    )


bundles = st.lists(
    st.builds(
        bundle,
        st.integers(NOW_NS - 60 * DAY_NS, NOW_NS + DAY_NS),
        st.integers(0, 1000),
        st.integers(0, 100),
    ),
    max_size=12,
)


def plan(found: list[BundleInfo], days: int = 30, room: int = 10**9) -> retention.PurgePlan:
    return plan_purge(found, now_ns=NOW_NS, keep_days=days, kept_bytes_max=room)


def test_exactly_thirty_days_is_too_old() -> None:
    young, old = bundle(NOW_NS - 30 * DAY_NS + 1), bundle(NOW_NS - 30 * DAY_NS)
    assert plan([young, old]) == ((old,), (young,))


def test_zero_days_deletes_all_even_from_the_future() -> None:
    found = [bundle(NOW_NS - 1), bundle(NOW_NS + DAY_NS)]
    assert plan(found, days=0).delete == tuple(found)


def test_the_oldest_goes_when_room_is_short_and_sidecars_take_room() -> None:
    found = [bundle(NOW_NS - age * DAY_NS, 90, 10) for age in (3, 2, 1)]
    assert plan(found, room=300).delete == ()
    assert plan(found, room=299).delete == tuple(found[:1])
    assert plan(found, room=199).delete == tuple(found[:2])
    assert plan(found, room=0).delete == tuple(found)
    assert plan(found, room=299).deleted_bytes == 100
    assert plan(found, room=299).kept_bytes == 200


@given(bundles, st.integers(0, 61), st.integers(0, 5000))
def test_a_plan_keeps_both_bounds_and_deletes_no_more_than_they_ask(
    found: list[BundleInfo], days: int, room: int
) -> None:
    made = plan(found, days, room)
    assert sorted(made.delete + made.keep) == sorted(found)
    assert made.kept_bytes <= room
    assert all(NOW_NS - b.created_ns < days * DAY_NS for b in made.keep)
    ages = [b.created_ns for b in made.delete + made.keep]
    assert ages == sorted(ages), "the oldest goes first"
    if made.delete and days:
        last = made.delete[-1]
        too_old = NOW_NS - last.created_ns >= days * DAY_NS
        assert too_old or made.kept_bytes + retention.size_of(last) > room


@pytest.mark.parametrize(("days", "room"), [(-1, 0), (0, -1)])
def test_negative_bounds_are_the_callers_mistake(days: int, room: int) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        plan([], days, room)


def test_planning_touches_nothing(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    writer.close()
    plan(reader.list_bundles(str(directory)).bundles, days=0)
    assert all_lines(directory) == [spans_line(1)]


def purge_all(directory: Path) -> retention.PurgeResult:
    found = closed_bundles(reader.list_bundles(str(directory)).bundles)
    return apply_purge(plan(found, days=0))


def test_bundles_go_with_their_sidecars_and_foreign_files_stay(directory: Path) -> None:
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    for number in range(3):
        append(writer, spans_line(number))
        tick_until_idle(writer)
    writer.close()
    (directory / "notes.txt").touch()
    size = sum(path.stat().st_size for path in directory.iterdir())
    assert purge_all(directory) == (3, size, 0)
    assert names_in(directory) == ["notes.txt"]


def test_a_bundle_that_somebody_writes_is_neither_planned_nor_deleted(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    found = reader.list_bundles(str(directory)).bundles
    assert closed_bundles(found) == []
    # Even a plan that lists it by mistake deletes nothing.
    assert apply_purge(plan(found, days=0)) == (0, 0, 1)
    append(writer, spans_line(2))
    writer.close()
    assert all_lines(directory) == [spans_line(1), spans_line(2)]
    assert purge_all(directory).deleted == 1
    assert names_in(directory) == []


def test_two_purges_at_once_are_harmless(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    writer.close()
    made = plan(reader.list_bundles(str(directory)).bundles, days=0)
    assert apply_purge(made).deleted == 1
    assert apply_purge(made).in_use == 0
    assert names_in(directory) == []


def test_a_bundle_sealed_since_the_plan_goes_too(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    made = plan(reader.list_bundles(str(directory)).bundles, days=0)
    writer._retire(writer._live["traces"])
    tick_until_idle(writer)
    writer.close()
    assert len(names_in(directory)) == 2
    assert apply_purge(made).deleted == 1
    assert names_in(directory) == []


def test_what_a_dead_sealer_left_beside_a_bundle_goes_with_it(directory: Path) -> None:
    stem = names.make_stem(NOW_NS, 1, bytes(4))
    plain = names.open_name(stem, "traces")
    sealed, sketch = names.sealed_name(stem, "traces"), names.sketch_name(stem, "traces")
    for name in (plain, sealed + ".tmp", sketch + ".tmp", sketch):
        (directory / name).write_bytes(b"{}\n")
    purge_all(directory)
    assert names_in(directory) == []


def test_a_purge_stopped_anywhere_leaves_only_what_the_next_one_finds(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink
    for stop_at in range(1, 7):
        writer = BundleWriter(str(directory), bundle_bytes_max=1)
        for number in range(3):
            append(writer, spans_line(number))
            tick_until_idle(writer)
        writer.close()
        left = [stop_at]

        def stopping(*args: object, left: list[int] = left, **kwargs: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            unlink(*args, **kwargs)  # type: ignore[arg-type]

        with monkeypatch.context() as stopped:
            stopped.setattr(os, "unlink", stopping)
            with contextlib.suppress(KeyboardInterrupt):
                purge_all(directory)
        kept = all_lines(directory)
        assert kept == [spans_line(number) for number in range(3 - len(kept), 3)]
        listed = {
            Path(b.path).name.split(".")[0] for b in reader.list_bundles(str(directory)).bundles
        }
        assert {name.split(".")[0] for name in names_in(directory)} == listed
        purge_all(directory)
        assert names_in(directory) == []


def test_a_link_in_the_place_of_a_bundle_is_not_followed(directory: Path, tmp_path: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    writer.close()
    (found,) = reader.list_bundles(str(directory)).bundles
    (tmp_path / "mine").write_bytes(b"mine")
    os.unlink(found.path)
    os.symlink(tmp_path / "mine", found.path)
    assert apply_purge(plan([found], days=0)) == (0, 0, 1)
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_without_locks_only_what_is_long_idle_goes(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    writer.close()
    monkeypatch.setattr(lock, "try_lock", lambda _fd: lock.UNSUPPORTED)
    assert closed_bundles(reader.list_bundles(str(directory)).bundles) == []
    (path,) = directory.iterdir()
    old = path.stat().st_mtime - lock.UNLOCKABLE_IDLE_S - 60
    os.utime(path, (old, old))
    assert purge_all(directory).deleted == 1
