"""A repair keeps what can be read, deletes nothing, and may die at any moment."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_running import ok, ok_json, run
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock, names, quarantine, reader, repair, zstd
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.repair import apply_repair, plan_repair, survey
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, names_in, spans_line

STEM = names.make_stem(1_764_000_000 * 10**9, 4711, b"\x9f\x3a\x0b\x1c")
PLAIN = names.open_name(STEM, "traces")
SEALED = names.sealed_name(STEM, "traces")
SKETCH = names.sketch_name(STEM, "traces")
LINES = [spans_line(number, 2) for number in range(3)]
DAY_NS = 86_400 * 10**9


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    place.mkdir(mode=0o700)
    return place


@pytest.fixture(autouse=True)
def private() -> Iterator[None]:
    """What a test writes is private, like what a writer does."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def leave(directory: Path, lines: list[bytes], *, frames: int = 1) -> None:
    """Leave a sealed bundle with its sidecar, of so many frames."""
    (directory / PLAIN).write_bytes(b"".join(lines))
    folder = open_folder(str(directory), create=True)
    recovery = Recovery(folder)
    while not recovery.step():
        pass
    folder.close()
    if frames > 1:
        size = len(lines) // frames
        packed = b"".join(
            zstd.compress_frame(b"".join(lines[at : at + size]))
            for at in range(0, len(lines), size)
        )
        (directory / SEALED).write_bytes(packed)
        (directory / SKETCH).unlink()
        mend(directory)


def read(directory: Path) -> tuple[list[bytes], Counter[str]]:
    odd: Counter[str] = Counter()
    bundles = reader.list_bundles(str(directory)).bundles
    lines = [line + b"\n" for bundle in bundles for line in reader.read_lines(bundle, odd)]
    for bundle in bundles:
        reader.frames_of(bundle, odd)
    return lines, +odd


def plan(directory: Path) -> list[repair.Step]:
    return plan_repair(survey(str(directory)))


def actions(directory: Path) -> list[tuple[str, str]]:
    return [(step.action, step.name) for step in plan(directory)]


def mend(directory: Path) -> repair.RepairResult:
    return apply_repair(str(directory), plan(directory))


def check_healthy(directory: Path, lines: list[bytes]) -> None:
    """Nothing is left to do, each line is there once, and each sidecar is right."""
    assert actions(directory) == []
    assert read(directory) == (lines, Counter())
    for bundle in reader.list_bundles(str(directory)).bundles:
        if bundle.sealed:
            sketch = Sketch()
            for line in reader.read_lines(bundle):
                sketch.add_line(bundle.signal, line)
            assert reader.read_sketch(bundle) == sketch
    assert not [name for name in names_in(directory) if name.endswith(".tmp")]


def aside(directory: Path) -> list[Path]:
    return [Path(entry.path) for entry in quarantine.list_quarantine(str(directory))]


# --- damage at each byte and each bit ---------------------------------------------


def test_each_flipped_bit_of_a_sealed_bundle_is_found_and_changes_no_line(
    directory: Path,
) -> None:
    leave(directory, LINES)
    raw = (directory / SEALED).read_bytes()
    silent = []
    for place in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        (directory / SEALED).write_bytes(flipped)
        lines, odd = read(directory)
        if odd:
            assert set(odd) <= {"damaged_frame", "damaged_index", "truncated", "torn_tail"}
            assert lines == LINES[: len(lines)] or lines == [], place
        else:
            # A bit that says nothing: what is read is all the same.
            assert lines == LINES, place
            silent.append(place)
    # One in the frame's header, which a reader shall ignore, and what pads zstd's streams.
    assert len(silent) < len(raw) * 8 / 100, silent


@pytest.mark.parametrize("frames", [1, 3])
def test_a_sealed_bundle_cut_at_each_byte_gives_a_beginning_and_is_mended(
    directory: Path, frames: int
) -> None:
    leave(directory, LINES, frames=frames)
    raw, sidecar = (directory / SEALED).read_bytes(), (directory / SKETCH).read_bytes()
    before = 0
    for size in range(len(raw)):
        (directory / SEALED).write_bytes(raw[:size])
        (directory / SKETCH).write_bytes(sidecar)
        lines, _ = read(directory)
        assert lines == LINES[: len(lines)]
        assert len(lines) >= before, "more bytes gave fewer lines"
        before = len(lines)
        # Not each of them is mended, since that takes a dozen calls that sync.
        if size % 11 == 0 or size == len(raw) - 1:
            (step,) = plan(directory)
            mend(directory)
            check_healthy(directory, lines)
            if step.action != "rebuild":  # As where a frame ends, which is no damage.
                (kept,) = aside(directory)
                assert kept.read_bytes() == raw[:size]
            quarantine.remove_quarantined(quarantine.list_quarantine(str(directory)))
            assert aside(directory) == []
            for path in directory.glob("*.zst"):
                path.unlink()
    assert before == len(LINES) if frames == 1 else before >= len(LINES) - 1


def test_a_sidecar_cut_at_each_byte_is_made_anew(directory: Path) -> None:
    leave(directory, LINES)
    sidecar = (directory / SKETCH).read_bytes()
    for size in range(0, len(sidecar), 23):
        (directory / SKETCH).write_bytes(sidecar[:size])
        assert actions(directory) == [("rebuild", SEALED)]
        mend(directory)
        assert (directory / SKETCH).read_bytes() == sidecar
    assert names_in(directory) == [SEALED, SKETCH], "nothing is left of the repair"


def test_of_a_bundle_the_good_frames_are_kept(directory: Path) -> None:
    leave(directory, LINES, frames=3)
    raw = bytearray((directory / SEALED).read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    (directory / SEALED).write_bytes(raw)
    (step,) = plan(directory)
    assert step == ("save", SEALED, "damaged_frame 1")
    assert mend(directory) == ({"save": 1}, [])
    check_healthy(directory, [LINES[0], LINES[2]])
    (kept,) = aside(directory)
    assert kept.read_bytes() == raw
    assert kept.name == SEALED + ".1"
    note = json.loads(kept.with_name(kept.name + ".note.json").read_text())
    assert (note["file"], note["bytes"], note["why"]) == (SEALED, len(raw), "damaged_frame 1")
    assert note["kept_lines"] == 2
    assert note["when"].endswith("+00:00")
    assert kept.parent.stat().st_mode & 0o777 == 0o700 or os.name == "nt"
    for path in kept.parent.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600 or os.name == "nt"
        if path.name.endswith("json"):
            assert "step" not in path.read_text(), "a note tells nothing of the content"


def test_what_holds_nothing_readable_is_moved_as_it_is(directory: Path) -> None:
    (directory / SEALED).write_bytes(b"no zstd at all")
    (directory / SKETCH).write_bytes(b"{}")
    assert actions(directory) == [("quarantine", SEALED)]
    mend(directory)
    assert [path.read_bytes() for path in aside(directory)] == [b"no zstd at all"]
    assert names_in(directory) == [names.QUARANTINE]
    assert reader.list_bundles(str(directory)).foreign == []


def test_a_bomb_is_moved_and_not_unpacked(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PLAIN_BYTES_MAX", 2**20)
    leave(directory, LINES)
    with (directory / SEALED).open("ab") as file:
        file.writelines(zstd.compress_frame(bytes(2**20)) for _ in range(4))
    assert actions(directory) == [("quarantine", SEALED)]
    mend(directory)
    assert len(aside(directory)) == 1
    assert reader.list_bundles(str(directory)).bundles == []


@pytest.mark.parametrize("sealed", [False, True])
def test_a_line_that_is_no_otlp_goes_and_its_bundle_is_put_aside(
    directory: Path, sealed: bool
) -> None:
    lines = [LINES[0], b"not json\n", LINES[1]]
    if sealed:
        leave(directory, lines)
    else:
        (directory / PLAIN).write_bytes(b"".join(lines))
    name = SEALED if sealed else PLAIN
    assert actions(directory) == [("save", name)]
    before = (directory / name).read_bytes()
    mend(directory)
    check_healthy(directory, [LINES[0], LINES[1]])
    assert [path.read_bytes() for path in aside(directory)] == [before]
    assert names_in(directory) == [SEALED, SKETCH, names.QUARANTINE]


def test_a_torn_tail_is_cut_by_sealing_and_needs_no_quarantine(directory: Path) -> None:
    (directory / PLAIN).write_bytes(b"".join(LINES) + LINES[0][:-7])
    assert actions(directory) == [("seal", PLAIN)]
    mend(directory)
    check_healthy(directory, LINES)
    assert names_in(directory) == [SEALED, SKETCH]


def test_a_damaged_bundle_whose_plain_one_is_still_there_is_sealed_again(
    directory: Path,
) -> None:
    leave(directory, LINES)
    (directory / SEALED).write_bytes(b"damage")
    (directory / PLAIN).write_bytes(b"".join(LINES))
    mend(directory)
    assert all_lines(directory) == LINES
    assert len(aside(directory)) == 1


def test_a_sidecar_that_says_another_number_of_lines_is_made_anew(directory: Path) -> None:
    leave(directory, LINES)
    (bundle,) = reader.list_bundles(str(directory)).bundles
    told = reader.read_sidecar(bundle)
    assert told is not None
    from stack_composer.telemetry.store.sidecar import encode_sidecar

    (directory / SKETCH).write_bytes(encode_sidecar(told._replace(lines=7, torn_bytes=5)))
    assert actions(directory) == [("rebuild", SEALED)]
    mend(directory)
    check_healthy(directory, LINES)
    again = reader.read_sidecar(bundle)
    assert again is not None
    assert (again.lines, again.torn_bytes) == (3, 5), "what only the old one knew is kept"


# --- who else is there ------------------------------------------------------------


def test_what_a_living_process_writes_is_left_alone(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, LINES[0])
    (name,) = names_in(directory)
    with (directory / name).open("ab") as file:
        file.write(b"no otlp\nhalf")
    assert plan(directory) == []
    (by_mistake,) = [repair.Step(repair.SAVE, name, "by mistake")]
    assert apply_repair(str(directory), [by_mistake]) == ({}, [])
    assert names_in(directory) == [name]
    writer.close()


def test_steps_for_what_changed_since_do_nothing(directory: Path) -> None:
    leave(directory, LINES)
    (directory / SKETCH).unlink()
    made = plan(directory)
    for path in directory.iterdir():
        path.unlink()
    assert apply_repair(str(directory), made) == ({}, [])
    leave(directory, LINES)
    assert apply_repair(str(directory), made) == ({}, [])
    check_healthy(directory, LINES)


def test_of_two_repairs_one_is_told_to_wait(directory: Path) -> None:
    leave(directory, LINES)
    (directory / SKETCH).unlink()
    place = open_folder(quarantine.place_of(str(directory)), create=True)
    fd = place.create(quarantine.LOCK_NAME)
    assert lock.try_lock(fd) == lock.LOCKED
    with pytest.raises(StoreError, match="another repair is at work"):
        mend(directory)
    os.close(fd)
    mend(directory)
    check_healthy(directory, LINES)


def test_a_disk_that_refuses_leaves_all_as_it_was(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(directory, LINES, frames=3)
    raw = bytearray((directory / SEALED).read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    (directory / SEALED).write_bytes(raw)

    def full(_fd: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(repair, "write_all", full)
        result = mend(directory)
    assert result.done == {}
    assert [why for _, why in result.failed] == ["No space left on device"]
    assert names_in(directory) == [SEALED, SKETCH]
    assert (directory / SEALED).read_bytes() == raw
    mend(directory)
    check_healthy(directory, [LINES[0], LINES[2]])


def test_where_there_are_no_hard_links_it_is_copied(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    (directory / SEALED).write_bytes(b"damage" * 1000)
    mend(directory)
    assert [path.read_bytes() for path in aside(directory)] == [b"damage" * 1000]
    assert names_in(directory) == [names.QUARANTINE]


CALLS = ("open", "write", "fsync", "replace", "unlink", "close", "link", "rmdir")


def repair_and_die(directory: Path, after: int) -> bool:
    """Repair in a forked child that dies before its call number ``after``; did it die?"""
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

    made = plan(directory)
    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))
    apply_repair(str(directory), made)
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("sealed", [True, False])
def test_wherever_a_repair_dies_each_line_is_there_once_and_the_next_one_ends_it(
    directory: Path, sealed: bool
) -> None:
    deaths = 0
    lines = [LINES[0], b"damage\n", LINES[2]]
    good = [LINES[0], LINES[2]]
    while True:
        quarantine.remove_quarantined(quarantine.list_quarantine(str(directory)))
        for path in directory.rglob("*"):
            if path.is_file():
                path.unlink()
        if sealed:
            leave(directory, lines)
            original = (directory / SEALED).read_bytes()
        else:
            (directory / PLAIN).write_bytes(b"".join(lines))
            original = b"".join(lines)
        if not repair_and_die(directory, deaths):
            break
        seen, _ = read(directory)
        assert seen in (lines, good)
        # What another process does meanwhile: seal orphans, clear leftovers.
        folder = open_folder(str(directory), create=True)
        recovery = Recovery(folder)
        while not recovery.step():
            pass
        folder.close()
        seen, _ = read(directory)
        assert seen in (lines, good)
        mend(directory)
        assert mend(directory) == ({}, [])
        check_healthy(directory, good)
        if sealed:
            assert [path.read_bytes() for path in aside(directory)] == [original]
        else:
            # It may have been sealed in between, with the line that is none.
            assert aside(directory)
        deaths += 1
    assert deaths > 25


# --- growing old, and the commands ------------------------------------------------


def put_aside(directory: Path, age_days: int) -> None:
    stem = names.make_stem(time.time_ns() - age_days * DAY_NS, 1, bytes([age_days] * 4))
    (directory / names.sealed_name(stem, "logs")).write_bytes(b"damage")


def test_what_was_put_aside_goes_with_the_bundles_of_its_age(directory: Path) -> None:
    for age in (1, 29, 31, 40):
        put_aside(directory, age)
    mend(directory)
    assert len(aside(directory)) == 4
    status = ok_json("telemetry", "status", "--dir", directory)
    assert status["quarantine"]["files"] == 4
    assert status["quarantine"]["bytes"] > 24
    assert "4 files" in ok("telemetry", "status", "--dir", directory)
    dry = ok_json("telemetry", "purge", "--dry-run", "--dir", directory)
    assert dry["quarantine"] == 2
    assert len(aside(directory)) == 4
    ok("telemetry", "purge", "--yes", "--dir", directory)
    assert len(aside(directory)) == 2
    ok("telemetry", "purge", "--older-than", "20d", "--yes", "--dir", directory)
    assert len(aside(directory)) == 1
    ok("telemetry", "purge", "--all", "--yes", "--dir", directory)
    assert names_in(directory) == []


def test_a_dry_run_prints_the_very_steps(directory: Path) -> None:
    leave(directory, LINES, frames=3)
    raw = bytearray((directory / SEALED).read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    (directory / SEALED).write_bytes(raw)
    put_aside(directory, 3)
    (directory / names.sketch_name(STEM, "logs")).write_bytes(b"{}")
    before = {path: path.read_bytes() for path in directory.iterdir()}
    done = run("telemetry", "doctor", "--repair", "--dry-run", "--dir", directory)
    assert done.returncode == 1
    steps = plan(directory)
    printed = done.stdout.splitlines()[: len(steps)]
    assert printed == [f"{step.action} {step.name}: {step.why}" for step in steps]
    assert [step.action for step in steps] == ["remove", "save", "quarantine"]
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    found = json.loads(
        run("telemetry", "doctor", "--repair", "--dry-run", "--json", "--dir", directory).stdout
    )
    assert found["plan"] == [step._asdict() for step in steps]
    assert found["repaired"] is None
    repaired = ok_json("telemetry", "doctor", "--repair", "--dir", directory)
    assert repaired["plan"] == found["plan"]
    assert repaired["repaired"] == {
        "modes": 0,
        "removed": 1,
        "sealed": 0,
        "rebuilt": 0,
        "saved": 1,
        "quarantined": 1,
        "failed": 0,
    }
    check_healthy(directory, [LINES[0], LINES[2]])


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_the_place_of_the_quarantine_is_not_followed(
    directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (directory / names.QUARANTINE).symlink_to(tmp_path / "elsewhere")
    (directory / SEALED).write_bytes(b"damage")
    with pytest.raises(StoreError, match="symbolic link"):
        mend(directory)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert quarantine.list_quarantine(str(directory)) == []
    assert (directory / SEALED).read_bytes() == b"damage"
