"""What each level of durability promises, and that flush keeps it at every level."""

from __future__ import annotations

import errno
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from power_loss import Trace
from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import reader
from stack_composer.telemetry.store import writer as writers
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, dump, spans_line, tick_until_idle

posix = pytest.mark.skipif(os.name == "nt", reason="a folder cannot be synced there")
STATES = int(os.environ.get("TELEMETRY_STRESS_STATES", "300"))
"""Folders that a power cut may leave, per level; each is read, mended and read again."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


def run(directory: Path, durability: str, *, flush: bool) -> Trace:
    """A writer's life: two signals, rotation, sealing, adoption; confirm what is promised."""
    left = BundleWriter(str(directory))
    for number in (900, 901):
        append(left, spans_line(number))
    left.flush()
    left.close()
    trace = Trace()
    with trace.recording():
        line_bytes = len(spans_line(0, 3, padding="x" * 200))
        writer = BundleWriter(
            str(directory), bundle_bytes_max=3 * line_bytes, durability=durability
        )
        appended = []
        for turn in range(6):
            for number in range(turn * 4, turn * 4 + 4):
                if number % 4:
                    append(writer, spans_line(number, 3, padding="x" * 200))
                else:
                    append(writer, logs_line(number), "logs")
                appended.append(number)
                if durability == "sync":
                    trace.confirm(number)
            writer.settle()
            if flush and turn % 2:
                writer.flush()
            if durability == "batch" or (flush and turn % 2):
                for number in appended:
                    trace.confirm(number)
            tick_until_idle(writer)
        writer.close()
    return trace


def logs_line(number: int) -> bytes:
    record = {"timeUnixNano": "1764000000000000000", "body": {"stringValue": f"step {number}"}}
    return dump({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})


def numbers_in(place: Path, odd: Counter[str]) -> list[int]:
    """The numbers of all lines; a stretch of zeros is no line of ours."""
    found = []
    for bundle in reader.list_bundles(str(place)).bundles:
        for line in reader.read_lines(bundle, odd):
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if bundle.signal == "logs":
                record = said["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
                name = record["body"]["stringValue"]
            else:
                name = said["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"]
            found.append(int(name.removeprefix("step ")))
    return found


def mend(place: Path) -> None:
    folder = open_folder(str(place), create=True)
    recovery = Recovery(folder)
    while not recovery.step():
        pass
    folder.close()
    assert recovery.error is None


@posix
@pytest.mark.parametrize(
    ("durability", "flush"), [("buffered", True), ("batch", False), ("sync", False)]
)
def test_no_power_cut_takes_what_was_promised(
    directory: Path,
    tmp_path: Path,
    durability: str,
    flush: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whenever it comes, and whatever of the rest the disk had written by then."""
    monkeypatch.setattr(writers, "ADOPT_AFTER_S", 0)
    trace = run(directory, durability, flush=flush)
    # From here on only what is read counts, and syncing takes all the time.
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    moments = len(trace.calls)
    assert moments > 60
    dice = random.Random(7)
    checked = 0
    for round_ in range(STATES):
        # Each moment in turn, so that none is left out.
        until = round_ % (moments + 1) if round_ <= moments else dice.randint(0, moments)
        place = tmp_path / f"lost {round_}"
        trace.after_power_loss(until, place, dice)
        confirmed = trace.confirmed(until)
        for _ in ("before", "after mending"):
            odd: Counter[str] = Counter()
            found = [n for n in numbers_in(place, odd) if n < 900]
            assert set(+odd) <= {"torn_tail"}
            assert confirmed <= set(found), (until, trace.calls[until - 1])
            assert len(found) == len(set(found)), (until, trace.calls[until - 1])
            checked += len(found)
            mend(place)
    assert checked > STATES


@posix
def test_without_the_syncs_the_simulation_does_lose_lines(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the tests above would show nothing."""
    monkeypatch.setattr(writers, "ADOPT_AFTER_S", 0)
    trace = run(directory, "sync", flush=False)
    trace.calls = [call for call in trace.calls if call.what not in ("sync", "sync folder")]
    dice = random.Random(7)
    lost = 0
    for round_ in range(40):
        until = dice.randint(0, len(trace.calls))
        place = tmp_path / f"lost {round_}"
        trace.after_power_loss(until, place, dice)
        lost += not trace.confirmed(until) <= set(numbers_in(place, Counter()))
    assert lost > 10


@posix
@pytest.mark.parametrize("durability", ["buffered", "batch", "sync"])
def test_the_order_of_calls_keeps_its_rules(
    directory: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synced before renamed; the folder synced after, before anything is removed for it."""
    monkeypatch.setattr(writers, "ADOPT_AFTER_S", 0)
    trace = run(directory, durability, flush=True)
    files: dict[str, int] = {}
    dirty: set[int] = set()
    named: list[str] = []
    renames = 0
    for call in trace.calls:
        if call.what == "create":
            files[call.name] = call.file
        elif call.what == "write":
            dirty.add(call.file)
        elif call.what == "sync":
            dirty.discard(call.file)
        elif call.what == "sync folder":
            named.clear()
        elif call.what == "rename":
            assert files[call.name] not in dirty, f"{call.name} was renamed before it was synced"
            files[call.other] = files.pop(call.name)
            named.append(call.other)
            renames += 1
        elif call.what == "remove" and call.name.endswith(".jsonl"):
            assert not named, f"{call.name} went before {named} were safe"
    assert renames >= 6


def counted_syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    synced: list[int] = []
    fsync = os.fsync

    def count(fd: int) -> None:
        synced.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", count)
    return synced


@posix
def test_each_level_syncs_when_it_says_and_not_more_often(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = counted_syncs(monkeypatch)
    seen = {}
    for durability in ("buffered", "batch", "sync"):
        writer = BundleWriter(str(directory / durability), durability=durability)
        counts = []
        for turn in range(3):
            synced.clear()
            for number in range(4):
                append(writer, spans_line(turn * 4 + number))
            counts.append(len(synced))
            writer.settle()
            writer.settle()
            counts.append(len(synced))
        seen[durability] = counts
        writer.close()
    # By turn: after its appends, and after its end. The first one syncs the folder too.
    assert seen["buffered"] == [0, 0, 0, 0, 0, 0]
    assert seen["batch"] == [0, 2, 0, 1, 0, 1]
    assert seen["sync"] == [5, 5, 4, 4, 4, 4]


@pytest.mark.parametrize("durability", ["batch", "sync"])
def test_the_end_of_a_writer_is_the_end_of_its_turn(
    directory: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory), durability=durability)
    append(writer, spans_line(1))
    synced = counted_syncs(monkeypatch)
    writer.close()
    assert len(synced) == (2 if durability == "batch" and os.name != "nt" else len(synced))


def fail(_fd: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


@posix
def test_what_the_disk_did_not_confirm_is_taken_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory), durability="sync")
    append(writer, spans_line(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="Input/output"):
            append(writer, spans_line(2))
        with pytest.raises(StoreError, match="Input/output"):
            append(writer, spans_line(3))
    append(writer, spans_line(4))
    writer.flush()
    writer.close()
    assert all_lines(directory) == [spans_line(1), spans_line(4)]


@posix
@pytest.mark.parametrize("durability", ["buffered", "batch"])
def test_a_failed_sync_is_told_and_its_file_not_trusted_again(
    directory: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells a failure once; the next fsync of that file would say nothing."""
    writer = BundleWriter(str(directory), durability=durability)
    append(writer, spans_line(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        if durability == "batch":
            with pytest.raises(StoreError, match="Input/output"):
                writer.settle()
        else:
            with pytest.raises(StoreError, match="Input/output"):
                writer.flush()
    if durability == "batch":
        with pytest.raises(StoreError, match="Input/output"):
            writer.flush()
    append(writer, spans_line(2))
    second = writer.flush()
    assert Path(second).read_bytes() == spans_line(2)
    writer.close()
    assert all_lines(directory) == [spans_line(1), spans_line(2)]


def test_narrower_bundles_close_those_beyond(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    for number in range(3):
        append(writer, spans_line(number, padding="x" * 500))
    append(writer, b'{"resourceLogs":[]}\n', "logs")
    writer.narrow(1_000)
    tick_until_idle(writer)
    sealed = {b.signal: b.sealed for b in reader.list_bundles(str(directory)).bundles}
    assert sealed == {"traces": True, "logs": False}
    writer.narrow(10**6)
    for number in range(3, 6):
        append(writer, spans_line(number, padding="x" * 500))
    writer.close()
    assert len(reader.list_bundles(str(directory)).bundles) == 3


# --- the clock, and network file systems ------------------------------------------


@pytest.mark.parametrize("steps_s", [(-3600, 7200), (10**9, -(10**9)), (86_400 * 400, -1)])
def test_a_clock_that_steps_loses_nothing(directory: Path, steps_s: tuple[int, ...]) -> None:
    now_ns = [1_764_000_000 * 10**9]
    writer = BundleWriter(str(directory), clock=lambda: now_ns[0])
    number = 0
    for step_s in (0, *steps_s, 0):
        now_ns[0] += step_s * 10**9
        for _ in range(3):
            append(writer, spans_line(number))
            number += 1
        tick_until_idle(writer)
    writer.close()
    assert sorted(all_lines(directory)) == sorted(spans_line(n) for n in range(number))
    listing = reader.list_bundles(str(directory))
    assert listing.foreign == []
    assert all(bundle.created_ns > 0 for bundle in listing.bundles)


def test_a_handle_that_has_gone_stale_costs_one_append(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS says it when the file was removed on another computer."""
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    stale = OSError(errno.ESTALE, "Stale file handle")

    def refuse(*_: object) -> int:
        raise stale

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", refuse)
        broken.setattr(os, "ftruncate", refuse)
        with pytest.raises(StoreError, match="Stale"):
            append(writer, spans_line(2))
    append(writer, spans_line(3))
    writer.close()
    assert all_lines(directory) == [spans_line(1), spans_line(3)]


def test_a_folder_that_has_gone_stale_is_opened_anew(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    os.unlink(writer.flush())
    opened = os.open
    left = [1]

    def stale(path: str, *args: object, **kwargs: object) -> int:
        if str(path).endswith(".jsonl") and left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return opened(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", stale)
    append(writer, spans_line(2))
    writer.close()
    assert left == [0]
    assert all_lines(directory) == [spans_line(2)]


@posix
def test_a_rename_that_nfs_repeats_has_worked_the_first_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    replace = os.replace

    def twice(*args: object, **kwargs: object) -> None:
        replace(*args, **kwargs)  # type: ignore[arg-type]
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "replace", twice)
    append(writer, spans_line(1))
    append(writer, spans_line(2))
    tick_until_idle(writer)
    writer.close()
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [True, False]
    assert all_lines(directory) == [spans_line(1), spans_line(2)]


@posix
def test_a_rename_that_found_nothing_is_an_error_all_the_same(directory: Path) -> None:
    folder = open_folder(str(directory), create=True)
    with pytest.raises(FileNotFoundError):
        folder.rename("a", "b")
    os.close(folder.create("b"))
    with pytest.raises(FileNotFoundError):
        folder.rename("a", "b")
    folder.close()


def test_a_name_that_is_taken_is_not_written_to(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats a creation too, and then says that the file is there: with EEXIST."""
    monkeypatch.setattr(effects, "wall_ns", lambda: 1_764_000_000 * 10**9)
    nonces = iter([b"aaaa", b"aaaa", b"bbbb"])
    monkeypatch.setattr(effects, "random_bytes", lambda _n: next(nonces))
    first = BundleWriter(str(directory), clock=effects.wall_ns)
    append(first, spans_line(1))
    second = BundleWriter(str(directory), clock=effects.wall_ns)
    append(second, spans_line(2))
    first.close()
    second.close()
    assert sorted(all_lines(directory)) == [spans_line(1), spans_line(2)]


def test_a_file_that_nfs_hides_instead_of_deleting_is_passed_over(directory: Path) -> None:
    """``.nfs…`` is what a file becomes that somebody still reads; it goes by itself."""
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    (directory / ".nfs000000000271f42900000001").write_bytes(spans_line(9))
    writer.close()
    mend(directory)
    assert all_lines(directory) == [spans_line(1)]
    assert (directory / ".nfs000000000271f42900000001").exists()
