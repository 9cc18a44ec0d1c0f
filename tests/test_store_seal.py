"""Sealing loses and doubles nothing, at whichever moment the process dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import index, lock, names, reader, seal, sidecar
from stack_composer.telemetry.store.folder import Folder, open_folder
from stack_composer.telemetry.store.marks import Marks
from stack_composer.telemetry.store.recover import Recovery, plan_recovery
from stack_composer.telemetry.store.seal import Sealing
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, names_in, spans_line

STEM = names.make_stem(1_764_000_000 * 10**9, 4711, b"\x9f\x3a\x0b\x1c")
PLAIN = names.open_name(STEM, "traces")
SEALED = names.sealed_name(STEM, "traces")
SKETCH = names.sketch_name(STEM, "traces")
LINES = [spans_line(number, 3) for number in range(40)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    place.mkdir(mode=0o700)
    return place


def leave(directory: Path, data: bytes) -> None:
    """Leave a plain bundle as a process does that was killed."""
    (directory / PLAIN).write_bytes(data)


def recover(directory: Path) -> Recovery:
    folder = open_folder(str(directory), create=True)
    recovery = Recovery(folder)
    while not recovery.step():
        pass
    folder.close()
    return recovery


def seal_all(folder: Folder, sketch: Sketch, noted: Marks) -> Sealing:
    fd = folder.open(PLAIN, write=True)
    assert lock.try_lock(fd) == lock.LOCKED
    sealing = Sealing(folder, fd, STEM, "traces", sketch, noted)
    while not sealing.step():
        pass
    return sealing


def whole_sketch() -> Sketch:
    sketch = Sketch()
    for line in LINES:
        sketch.add_line("traces", line)
    return sketch


def whole_marks() -> Marks:
    noted = Marks()
    for number, line in enumerate(LINES):
        sketch = Sketch()
        sketch.add_line("traces", line)
        noted.add(len(line), sketch.first_ns, sketch.last_ns, {f"{number + 1:032x}"})
    return noted


def test_a_sealed_bundle_is_what_zstdcat_reads(directory: Path) -> None:
    leave(directory, b"".join(LINES))
    recover(directory)
    assert names_in(directory) == [SEALED, SKETCH]
    try:
        done = subprocess.run(["zstd", "-dc", directory / SEALED], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("there is no zstd command here")
    assert done.stdout == b"".join(LINES)


def test_each_frame_holds_whole_lines_and_a_checksum(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "FRAME_BYTES", 2 * max(map(len, LINES)))
    leave(directory, b"".join(LINES))
    recover(directory)
    raw = (directory / SEALED).read_bytes()
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    frames = []
    while raw:
        size = zstd.get_frame_size(raw)
        assert raw[4] & 0b100, "a frame without checksum"
        frames.append(zstd.decompress(raw[:size]))
        raw = raw[size:]
        if raw.startswith(index.SKIPPABLE):
            assert zstd.get_frame_size(raw) == len(raw), "something behind the index"
            break
    assert b"".join(frames) == b"".join(LINES)
    assert len(frames) == len(LINES) / 2
    assert all(frame.endswith(b"\n") for frame in frames)


def test_an_adopters_sidecar_equals_the_writers(directory: Path) -> None:
    leave(directory, b"".join(LINES))
    recover(directory)
    (bundle,) = reader.list_bundles(str(directory)).bundles
    told = reader.read_sidecar(bundle)
    assert told is not None
    assert told.sketch == whole_sketch()
    assert (told.lines, told.torn_bytes, told.refused_lines) == (len(LINES), 0, 0)
    assert told.plain_bytes == len(b"".join(LINES))


def test_a_torn_tail_is_cut_and_told(directory: Path) -> None:
    leave(directory, b"".join(LINES) + LINES[0][:-1])
    assert recover(directory).sealed == 1
    assert all_lines(directory) == LINES
    (bundle,) = reader.list_bundles(str(directory)).bundles
    told = reader.read_sidecar(bundle)
    assert told is not None
    assert told.torn_bytes == len(LINES[0]) - 1


@pytest.mark.parametrize("data", [b"", LINES[0][:-1]], ids=["empty", "torn alone"])
def test_what_holds_no_whole_line_goes(directory: Path, data: bytes) -> None:
    leave(directory, data)
    recover(directory)
    assert names_in(directory) == []


def test_a_line_that_is_no_otlp_is_kept_and_told(directory: Path) -> None:
    leave(directory, LINES[0] + b"not json\n" + LINES[1])
    recover(directory)
    assert all_lines(directory) == [LINES[0], b"not json\n", LINES[1]]
    (bundle,) = reader.list_bundles(str(directory)).bundles
    told = reader.read_sidecar(bundle)
    assert told is not None
    assert (told.lines, told.refused_lines) == (3, 1)
    assert told.sketch.records == 6


def test_a_line_longer_than_a_frame_is_sealed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "FRAME_BYTES", 16)
    leave(directory, b"".join(LINES))
    recover(directory)
    assert all_lines(directory) == LINES


def test_a_line_too_long_to_be_ours_is_left_plain_and_does_not_stop_the_rest(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "FRAME_BYTES", 16)
    monkeypatch.setattr(seal, "LINE_BYTES_MAX", 2 * len(LINES[0]))
    leave(directory, LINES[0] + b" " * 10_000 + b"\n")
    later = directory / names.open_name(STEM.replace("2025", "2026"), "traces")
    later.write_bytes(LINES[1])
    recovery = recover(directory)
    assert (recovery.failed, recovery.refused) == (1, [PLAIN])
    assert isinstance(recovery.error, StoreError)
    assert names_in(directory) == [
        PLAIN,
        later.name.replace("jsonl", "jsonl.zst"),
        later.name.replace("jsonl", "sketch.json"),
    ]


def test_a_bundle_with_a_second_name_is_left_alone(directory: Path, tmp_path: Path) -> None:
    leave(directory, LINES[0])
    os.link(directory / PLAIN, tmp_path / "backup")
    recover(directory)
    assert names_in(directory) == [PLAIN]


def test_a_living_writers_bundle_is_left_alone(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, LINES[0])
    before = names_in(directory)
    assert recover(directory).sealed == 0
    assert names_in(directory) == before
    writer.close()


def test_without_locks_nothing_of_others_is_touched(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "try_lock", lambda _fd: lock.UNSUPPORTED)
    leave(directory, LINES[0])
    recover(directory)
    assert names_in(directory) == [PLAIN]


def test_leftovers_of_no_bundle_go_and_foreign_files_stay(directory: Path) -> None:
    leftover = [SEALED + ".tmp", SKETCH + ".tmp", SKETCH]
    foreign = ["notes.txt", "x.sketch.json", "y.tmp"]
    for name in leftover + foreign:
        (directory / name).write_bytes(b"{}")
    assert recover(directory).removed == len(leftover)
    assert names_in(directory) == foreign


def test_of_twins_the_plain_one_goes_and_the_sealed_one_is_not_written_again(
    directory: Path,
) -> None:
    leave(directory, b"".join(LINES))
    recover(directory)
    before = (directory / SEALED).stat()
    leave(directory, b"".join(LINES))  # As after a power cut that undid its deletion.
    again = recover(directory)
    assert (again.sealed, again.removed) == (0, 1)
    assert names_in(directory) == [SEALED, SKETCH]
    assert (directory / SEALED).stat() == before


def test_a_sidecar_whose_bundle_the_listing_missed_stays(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(directory, LINES[0])
    (directory / SKETCH).write_bytes(b"{}")
    monkeypatch.setattr(Folder, "names", lambda _folder: [SKETCH])
    assert recover(directory).removed == 0
    assert names_in(directory) == [PLAIN, SKETCH]


def test_a_sidecar_stays_as_long_as_either_bundle_is_there() -> None:
    assert plan_recovery([PLAIN, SKETCH, SEALED + ".tmp"]).leftover == []
    assert plan_recovery([SEALED, SKETCH]).leftover == []
    assert plan_recovery([SEALED, SKETCH + ".tmp"]).leftover == [SKETCH + ".tmp"]
    assert plan_recovery([SKETCH]).leftover == [SKETCH]


def test_planning_reads_names_alone_and_skips_its_own() -> None:
    plan = plan_recovery([PLAIN, "other.jsonl"], skip={PLAIN})
    assert (plan.unsealed, plan.leftover) == ([], [])


def test_of_two_adopters_one_works_and_the_other_goes_on(directory: Path) -> None:
    leave(directory, b"".join(LINES))
    folder = open_folder(str(directory), create=True)
    one, other = Recovery(folder), Recovery(folder)
    assert one.step() is False  # It has the lock now.
    while not other.step():
        pass
    assert (other.sealed, other.removed, other.error) == (0, 0, None)
    while not one.step():
        pass
    assert one.sealed == 1
    assert all_lines(directory) == LINES
    folder.close()


def test_an_adopter_that_opened_before_the_other_finished_leaves(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens the plain bundle, then the other one seals it, then it gets the lock."""
    leave(directory, b"".join(LINES))
    try_lock = lock.try_lock

    def slow_lock(fd: int) -> str:
        monkeypatch.setattr(lock, "try_lock", try_lock)
        assert recover(directory).sealed == 1
        return try_lock(fd)

    monkeypatch.setattr(lock, "try_lock", slow_lock)
    slow = recover(directory)
    assert (slow.sealed, slow.removed, slow.error) == (0, 0, None)
    assert names_in(directory) == [SEALED, SKETCH]
    assert all_lines(directory) == LINES


# --- dying at each moment ---------------------------------------------------------


CALLS = ("open", "write", "fsync", "replace", "unlink", "close")


def run_and_die(directory: Path, after: int) -> bool:
    """Seal in a forked child that dies before its call number ``after``; did it die?"""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    left = [after]

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return call(*args, **kwargs)

        return wrapper

    folder = open_folder(str(directory), create=True)
    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    seal_all(folder, whole_sketch(), whole_marks())
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_wherever_sealing_dies_each_line_is_there_once_before_and_after_recovery(
    directory: Path,
) -> None:
    expected = whole_sketch()
    deaths = 0
    states = set()
    while True:
        for path in directory.iterdir():
            path.unlink()
        leave(directory, b"".join(LINES))
        if not run_and_die(directory, deaths):
            break
        states.add(frozenset(name.removeprefix(STEM) for name in names_in(directory)))
        assert all_lines(directory) == LINES
        for bundle in reader.list_bundles(str(directory)).bundles:
            assert reader.read_sketch(bundle) in (None, expected)
        recover(directory)
        assert names_in(directory) == [SEALED, SKETCH]
        assert all_lines(directory) == LINES
        (bundle,) = reader.list_bundles(str(directory)).bundles
        assert reader.read_sketch(bundle) == expected
        assert len(reader.frames_of(bundle, trace=f"{5:032x}") or ()) == 1
        assert reader.frames_of(bundle, trace="ff") == []
        deaths += 1
    assert deaths >= 15
    # Each state that the theory speaks of was seen.
    plain, sealed, sketch = ".traces.jsonl", ".traces.jsonl.zst", ".traces.sketch.json"
    for state in (
        {plain},
        {plain, sealed + ".tmp"},
        {plain, sealed + ".tmp", sketch + ".tmp"},
        {plain, sealed + ".tmp", sketch},
        {plain, sealed, sketch},
    ):
        assert state in states


# --- sidecars ---------------------------------------------------------------------


def sealed_bundle(directory: Path) -> reader.BundleInfo:
    leave(directory, b"".join(LINES))
    recover(directory)
    (bundle,) = reader.list_bundles(str(directory)).bundles
    assert reader.read_sketch(bundle) == whole_sketch()
    return bundle


def test_a_sidecar_is_one_strict_json_object(directory: Path) -> None:
    sealed_bundle(directory)
    raw = (directory / SKETCH).read_bytes()
    found = json.loads(raw, parse_constant=pytest.fail)
    assert found["format"] == 2
    assert found["bytes"] == (directory / SEALED).stat().st_size
    assert raw.count(b"\n") == 1


def test_no_flipped_bit_in_a_sidecar_changes_an_answer(directory: Path) -> None:
    bundle = sealed_bundle(directory)
    raw = (directory / SKETCH).read_bytes()
    expected = whole_sketch()
    for place in range(len(raw)):
        (directory / SKETCH).write_bytes(
            raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :]
        )
        assert reader.read_sketch(bundle) in (None, expected)


def test_a_sidecar_of_another_bundle_is_not_believed(directory: Path) -> None:
    sealed_bundle(directory)
    with open(directory / SEALED, "ab") as file:
        file.write(b"\x00")
    (bundle,) = reader.list_bundles(str(directory)).bundles
    assert reader.read_sketch(bundle) is None


def test_a_missing_cut_or_linked_sidecar_is_none(directory: Path, tmp_path: Path) -> None:
    bundle = sealed_bundle(directory)
    raw = (directory / SKETCH).read_bytes()
    for size in range(0, len(raw) - 1, 97):
        (directory / SKETCH).write_bytes(raw[:size])
        assert reader.read_sketch(bundle) is None
    (directory / SKETCH).unlink()
    assert reader.read_sketch(bundle) is None
    (tmp_path / "elsewhere").write_bytes(raw)
    (directory / SKETCH).symlink_to(tmp_path / "elsewhere")
    assert reader.read_sketch(bundle) is None


def test_the_head_of_a_sidecar_says_the_same_or_nothing(directory: Path) -> None:
    bundle = sealed_bundle(directory)
    whole = reader.read_sidecar(bundle)
    assert whole is not None
    raw = (directory / SKETCH).read_bytes()
    assert reader.read_head(bundle) == whole.head
    start = raw.index(b',"sketch":')
    for place in range(start):
        flipped = raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :]
        assert sidecar.decode_head(flipped[: sidecar.HEAD_BYTES_MAX]) in (None, whole.head)
    (directory / SKETCH).write_bytes(raw[: start - 1])
    assert reader.read_head(bundle) is None
    head = raw[: start + 20]
    # What is behind the head is not looked at, so that a month's heads cost little.
    (directory / SKETCH).write_bytes(head)
    assert reader.read_head(bundle) == whole.head
    assert reader.read_sidecar(bundle) is None


def test_a_sidecar_of_another_format_is_none(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = sealed_bundle(directory)
    monkeypatch.setattr(sidecar, "FORMATS_READ", (1,))
    assert reader.read_sketch(bundle) is None
