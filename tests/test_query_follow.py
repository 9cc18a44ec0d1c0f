"""Following gives every line once, whatever happens to its bundle meanwhile."""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path

import pytest

from cli_running import SECOND_NS, write_sealed
from stack_composer.telemetry.query.follow import Follower
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, spans_line, tick_until_idle

LINES = [spans_line(number) for number in range(9)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


def last(follower: Follower, lines: int = 100) -> list[bytes]:
    return [line + b"\n" for _, line in follower.last_lines(lines)]


def new(follower: Follower) -> list[bytes]:
    return [line + b"\n" for _, line in follower.new_lines()]


def rotating(folder: Path) -> BundleWriter:
    ages = count()
    return BundleWriter(
        str(folder),
        clock=lambda: time.time_ns() + next(ages) * 10 * SECOND_NS,
        bundle_age_s_max=1,
    )


def test_a_folder_that_is_not_there_yet_is_waited_for(folder: Path) -> None:
    follower = Follower(str(folder))
    assert last(follower) == []
    assert new(follower) == []
    writer = BundleWriter(str(folder))
    append(writer, LINES[0])
    assert new(follower) == LINES[:1]
    writer.close()


def test_lines_come_once_and_a_line_half_written_comes_when_it_is_whole(folder: Path) -> None:
    writer = BundleWriter(str(folder))
    append(writer, LINES[0])
    follower = Follower(str(folder))
    assert last(follower) == LINES[:1]
    append(writer, LINES[1])
    assert new(follower) == LINES[1:2]
    assert new(follower) == []
    (bundle,) = list_bundles(str(folder)).bundles
    with Path(bundle.path).open("ab") as file:
        file.write(LINES[2][:20])
        file.flush()
        assert new(follower) == []
        file.write(LINES[2][20:])
    assert new(follower) == LINES[2:3]
    writer.close()


def test_rotation_and_sealing_between_two_looks_lose_nothing(folder: Path) -> None:
    writer = rotating(folder)
    append(writer, LINES[0])
    follower = Follower(str(folder))
    assert last(follower) == LINES[:1]
    # All of this happens between two looks: lines are appended, the bundle is
    # rotated and sealed, and so is the next one, which was never seen plain.
    append(writer, LINES[1])
    tick_until_idle(writer)
    append(writer, LINES[2])
    tick_until_idle(writer)
    append(writer, LINES[3])
    assert any(bundle.sealed for bundle in list_bundles(str(folder)).bundles)
    assert new(follower) == LINES[1:4]
    assert new(follower) == []
    writer.close()


def test_an_adopted_orphan_is_not_given_out_again(folder: Path) -> None:
    writer = BundleWriter(str(folder))
    append(writer, LINES[0])
    writer.close()
    follower = Follower(str(folder))
    assert last(follower) == LINES[:1]
    opened = open_folder(str(folder), create=True)
    recovery = Recovery(opened)
    while not recovery.step():
        pass
    opened.close()
    (bundle,) = list_bundles(str(folder)).bundles
    assert bundle.sealed
    assert new(follower) == []


def test_only_the_last_lines_of_each_bundle_come_first(folder: Path) -> None:
    writer = BundleWriter(str(folder))
    for line in LINES:
        append(writer, line)
    follower = Follower(str(folder))
    assert last(follower, 2) == LINES[-2:]
    assert new(follower) == []
    writer.close()


def test_old_sealed_bundles_are_not_read_for_a_few_last_lines(folder: Path) -> None:
    write_sealed(folder, *(("traces", line) for line in LINES))
    assert last(Follower(str(folder)), 2) == LINES[-2:]
    assert last(Follower(str(folder)), 0) == []
    assert sorted(last(Follower(str(folder)), 100)) == LINES


def test_the_folder_is_listed_again_whenever_its_time_changed_or_is_recent(folder: Path) -> None:
    def add(line: bytes) -> None:
        writer = BundleWriter(str(folder))
        append(writer, line)
        writer.close()

    add(LINES[0])
    follower = Follower(str(folder))
    assert last(follower) == LINES[:1]
    # Back in time: it changed, though it looks settled.
    add(LINES[1])
    os.utime(folder, ns=(10**18, 10**18))
    assert new(follower) == LINES[1:2]
    # Within one tick of the folder's clock: the time is the same, and recent.
    now_ns = time.time_ns()
    os.utime(folder, ns=(now_ns, now_ns))
    assert new(follower) == []
    add(LINES[2])
    os.utime(folder, ns=(now_ns, now_ns))
    assert new(follower) == LINES[2:3]


def test_purging_is_no_error(folder: Path) -> None:
    write_sealed(folder, ("traces", LINES[0]), ("traces", LINES[1]))
    follower = Follower(str(folder))
    assert last(follower) == LINES[:2]
    for path in folder.iterdir():
        path.unlink()
    assert new(follower) == []
    folder.rmdir()
    assert new(follower) == []
