"""What is appended is whole or not there, whatever happens to disk, folder and clock."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock, names, reader, retention, seal
from stack_composer.telemetry.store import writer as writers
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, names_in, spans_line, tick_until_idle

SECOND_NS = 10**9


class Clock:
    """A wall clock that a test turns."""

    def __init__(self) -> None:
        self.now_ns = 1_764_000_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


def test_nothing_is_made_before_the_first_append(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    assert writer.tick() is False
    assert writer.flush() == str(directory)
    writer.append("traces", b"", Sketch())
    writer.close()
    assert not directory.exists()


def test_lines_come_back_as_they_went_in_one_file_a_signal(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    lines = [spans_line(number) for number in range(3)]
    for line in lines:
        append(writer, line)
    append(writer, b'{"resourceLogs":[]}\n', "logs")
    path = writer.flush()
    assert path.endswith(".logs.jsonl")
    traces, logs = sorted(reader.list_bundles(str(directory)).bundles, key=lambda b: -b.bytes)
    assert (traces.signal, logs.signal) == ("traces", "logs")
    assert Path(traces.path).read_bytes() == b"".join(lines)
    assert traces.pid == os.getpid()
    writer.close()
    assert len(names_in(directory)) == 2


def test_data_must_be_whole_lines(directory: Path) -> None:
    with pytest.raises(ValueError, match="newline"):
        BundleWriter(str(directory)).append("traces", b"{}", Sketch())


def test_rotation_by_size_comes_at_a_line_end_and_is_sealed(directory: Path) -> None:
    line = spans_line(1, 20)
    writer = BundleWriter(str(directory), bundle_bytes_max=3 * len(line))
    for _ in range(7):
        append(writer, line)
    tick_until_idle(writer)
    first, second, third = reader.list_bundles(str(directory)).bundles
    assert [first.sealed, second.sealed, third.sealed] == [True, True, False]
    assert [len(list(reader.read_lines(b))) for b in (first, second, third)] == [3, 3, 1]
    sketch = reader.read_sketch(first)
    assert sketch is not None
    assert sketch.records == 60
    assert sketch.spans["step 1"].errors == 3
    writer.close()


def test_one_append_beyond_the_limit_makes_one_larger_bundle(directory: Path) -> None:
    line = spans_line(1, 20)
    writer = BundleWriter(str(directory), bundle_bytes_max=10)
    append(writer, line)
    append(writer, line)
    tick_until_idle(writer)
    writer.close()
    assert all_lines(directory) == [line, line]
    assert len(reader.list_bundles(str(directory)).bundles) == 2


@pytest.mark.parametrize("step_s", [3600, -1, -86_400], ids=["age", "a second back", "a day back"])
def test_a_bundle_ends_with_its_hour_and_when_the_clock_steps_back(
    directory: Path, step_s: int
) -> None:
    clock = Clock()
    writer = BundleWriter(str(directory), clock=clock)
    append(writer, spans_line(1))
    clock.now_ns += 3599 * SECOND_NS
    tick_until_idle(writer)
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [False]
    clock.now_ns += (step_s - 3599) * SECOND_NS
    tick_until_idle(writer)
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [True]
    writer.close()


def test_flush_tells_the_path_that_holds_what_was_written_last(directory: Path) -> None:
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    append(writer, spans_line(1))
    plain = writer.flush()
    assert Path(plain).read_bytes() == spans_line(1)
    append(writer, b'{"resourceLogs":[]}\n', "logs")
    append(writer, spans_line(2))
    last = writer.flush()
    assert last != plain
    assert Path(last).read_bytes() == spans_line(2)
    writer.close()
    assert writer.flush() == last


def test_flush_follows_a_bundle_that_was_sealed(directory: Path) -> None:
    clock = Clock()
    writer = BundleWriter(str(directory), clock=clock)
    append(writer, spans_line(1))
    plain = writer.flush()
    clock.now_ns += 3600 * SECOND_NS
    tick_until_idle(writer)
    assert writer.flush() == plain + ".zst"
    assert Path(plain + ".zst").exists()
    writer.close()


def test_flush_syncs_open_and_waiting_bundles_and_the_folder(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc to tell what was synced")
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    append(writer, spans_line(1))
    append(writer, spans_line(2))
    writer.flush()
    assert sorted(synced) == sorted([str(directory), *map(str, directory.iterdir())])
    synced.clear()
    writer.close()


def test_flush_tells_of_a_bundle_that_was_let_go_unsynced(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        for number in range(writers.SEALINGS_MAX + 2):
            append(writer, spans_line(number))
    with pytest.raises(StoreError, match="Input/output"):
        writer.flush()
    assert writer.flush()
    writer.close()


def test_a_small_bundle_stays_plain_at_the_end_and_a_large_one_is_sealed(directory: Path) -> None:
    small = BundleWriter(str(directory))
    append(small, spans_line(1))
    small.close()
    assert [name.rpartition(".")[2] for name in names_in(directory)] == ["jsonl"]
    shutil.rmtree(directory)
    large = BundleWriter(str(directory))
    append(large, spans_line(2, padding="x" * writers.SEALED_AT_CLOSE_BYTES_MIN))
    large.close()
    assert [name.rpartition(".")[2] for name in names_in(directory)] == ["zst", "json"]


def test_the_lock_is_held_while_writing_and_free_afterwards(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    (bundle,) = reader.list_bundles(str(directory)).bundles
    assert retention.is_being_written(bundle)
    writer.close()
    assert not retention.is_being_written(bundle)


def test_a_closed_writer_starts_new_bundles(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    writer.close()
    append(writer, spans_line(2))
    writer.close()
    assert all_lines(directory) == [spans_line(1), spans_line(2)]


def test_two_writers_share_a_folder(directory: Path) -> None:
    one, other = BundleWriter(str(directory)), BundleWriter(str(directory))
    for number in range(50):
        append(one if number % 2 else other, spans_line(number))
    one.close()
    other.close()
    assert sorted(all_lines(directory)) == sorted(spans_line(n) for n in range(50))


# --- a full or failing disk -------------------------------------------------------


FULL = """
import resource, signal, sys
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
writer = BundleWriter(sys.argv[1])
writer.append("traces", b"[1]\\n", Sketch())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
line = b"[2," + b" " * 60_000 + b"]\\n"
refused = 0
for _ in range(6):
    try:
        writer.append("traces", line, Sketch())
    except StoreError as error:
        refused += 1
        assert "File too large" in str(error), error
print(refused)
writer.close()
"""


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE is POSIX")
def test_a_write_cut_short_leaves_no_half_line_and_the_next_bundle_has_room(
    directory: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(directory)], capture_output=True, text=True, check=True
    )
    refused = int(done.stdout)
    assert refused == 3
    lines = all_lines(directory)
    assert lines[0] == b"[1]\n"
    assert [len(line) for line in lines[1:]] == [60_005] * (6 - refused)
    torn = [p for p in directory.iterdir() if not p.read_bytes().endswith((b"\n", b"}"))]
    assert [p for p in torn if p.suffix == ".jsonl"] == []


TMPFS = """
set -e
mount -t tmpfs -o size=1m tmpfs "$1"
exec "$2" -c '
import os, sys
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
from stack_composer.telemetry.store import reader
place = sys.argv[1]
writer = BundleWriter(place + "/t", bundle_bytes_max=300_000)
line = b"[" + b" " * 49_997 + b"]\\n"
written = refused = 0
def append():
    global written, refused
    try:
        writer.append("traces", line, Sketch())
        written += 1
    except StoreError as error:
        refused += 1
        assert "No space left" in str(error) and "purge" in error.hint, error
with open(place + "/ballast", "wb") as ballast:
    ballast.write(bytes(500_000))
for _ in range(30):
    append()
assert refused > 10, refused
assert written > 5, written
before = refused
os.unlink(place + "/ballast")
for _ in range(3):
    append()
assert refused == before, "it did not recover by itself"
try:
    while writer.tick():
        pass
except StoreError as error:
    print("could not seal")
writer.close()
lines = [x for b in reader.list_bundles(place + "/t").bundles for x in reader.read_lines(b)]
assert lines == [line[:-1]] * written, (len(lines), written)
for name in os.listdir(place + "/t"):
    assert not name.endswith(".tmp"), name
print("whole")
' "$1"
"""


def run_on_a_disk_of_its_own(script: str, tmp_path: Path) -> str:
    """Run a shell script that may mount at its first argument; its output."""
    place = tmp_path / "disk"
    place.mkdir()
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urm", "true"], check=False).returncode:
        pytest.skip("unshare -Urm is not allowed here, so there is no disk to mount")
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", script, "sh", str(place), sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_file_system_loses_only_what_was_refused_and_recovers(tmp_path: Path) -> None:
    assert "whole" in run_on_a_disk_of_its_own(TMPFS, tmp_path)


def test_a_short_write_goes_on_where_it_stopped(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    writer.close()
    assert all_lines(directory) == [spans_line(1)]


def test_a_tail_that_cannot_be_cut_ends_its_bundle(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    write = os.write

    def fail(fd: int, data: memoryview) -> int:
        write(fd, data[:9])
        raise OSError(errno.EIO, "Input/output error")

    def fail_too(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", fail)
        broken.setattr(os, "ftruncate", fail_too)
        with pytest.raises(StoreError, match="Input/output"):
            append(writer, spans_line(2))
    append(writer, spans_line(3))
    writer.close()
    assert all_lines(directory) == [spans_line(1), spans_line(3)]


def test_a_file_cut_by_somebody_else_gets_no_zeros_from_a_rollback(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    path = Path(writer.flush())
    os.truncate(path, 0)
    write = os.write

    def fail(fd: int, data: memoryview) -> int:
        write(fd, data[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", fail)
        with pytest.raises(StoreError, match="No space"):
            append(writer, spans_line(2))
    append(writer, spans_line(3))
    writer.close()
    assert path.read_bytes() == spans_line(3)


READ_ONLY = """
set -e
mount -t tmpfs -o ro tmpfs "$1"
exec "$2" -c '
import sys
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
writer = BundleWriter(sys.argv[1] + "/a/t")
try:
    writer.append("traces", b"[]\\n", Sketch())
except StoreError as error:
    print(str(error), error.hint)
writer.tick()
writer.flush()
writer.close()
' "$1"
"""


def test_a_read_only_place_is_one_error_with_a_hint(tmp_path: Path) -> None:
    done = run_on_a_disk_of_its_own(READ_ONLY, tmp_path)
    assert "Read-only file system" in done
    assert "STACK_COMPOSER_TELEMETRY_DIR" in done


def test_errors_name_the_place_and_never_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    secret = "hunter" + "2" * 9
    with pytest.raises(StoreError) as caught:
        append(BundleWriter(str(tmp_path / "file" / "t")), spans_line(1, padding=secret))
    assert str(tmp_path) in str(caught.value)
    assert secret not in str(caught.value) + caught.value.hint


# --- a folder that goes away ------------------------------------------------------


def test_a_folder_removed_while_writing_is_made_anew(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    shutil.rmtree(directory)
    append(writer, spans_line(2))
    assert all_lines(directory) == [spans_line(2)]
    assert os.stat(directory).st_mode & 0o777 == 0o700
    writer.close()


def test_a_bundle_removed_while_writing_is_made_anew(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    os.unlink(writer.flush())
    append(writer, spans_line(2))
    writer.close()
    assert all_lines(directory) == [spans_line(2)]


def test_a_folder_moved_away_is_left_at_the_next_tick(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    directory.rename(directory.with_name("old"))
    writer.tick()
    append(writer, spans_line(2))
    writer.close()
    assert all_lines(directory.with_name("old")) == [spans_line(1)]
    assert all_lines(directory) == [spans_line(2)]


def test_a_folder_removed_while_sealing_is_no_crash(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "TICK_NS", 0)
    line = spans_line(1, padding="x" * 3_000_000)
    writer = BundleWriter(str(directory), bundle_bytes_max=len(line))
    append(writer, line)
    append(writer, line)
    assert writer.tick() is True
    shutil.rmtree(directory)
    assert writer.tick() is False
    append(writer, spans_line(2))
    writer.close()
    assert all_lines(directory) == [spans_line(2)]


def test_files_deleted_while_sealing_are_no_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "TICK_NS", 0)
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    append(writer, spans_line(1))
    append(writer, spans_line(2))
    assert writer.tick() is True
    (half_made,) = directory.glob("*.tmp")
    half_made.unlink()
    tick_until_idle(writer)
    writer.close()
    assert all_lines(directory) == [spans_line(1), spans_line(2)]
    assert not list(directory.glob("*.tmp"))


# --- forks and closed descriptors -------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_bundle_alone(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    child = os.fork()
    if child == 0:
        writer.abandon()
        append(writer, spans_line(2))
        writer.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    mine = [b for b in reader.list_bundles(str(directory)).bundles if b.pid == os.getpid()]
    assert [retention.is_being_written(bundle) for bundle in mine] == [True]
    append(writer, spans_line(3))
    writer.close()
    by_pid = {
        b.pid: list(reader.read_lines(b)) for b in reader.list_bundles(str(directory)).bundles
    }
    assert [line + b"\n" for line in by_pid[os.getpid()]] == [spans_line(1), spans_line(3)]
    assert [line + b"\n" for line in by_pid[child]] == [spans_line(2)]


@pytest.mark.skipif(os.name == "nt", reason="Windows' daemons close nothing")
def test_a_descriptor_that_now_means_another_file_is_not_written_to(
    directory: Path, tmp_path: Path
) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    victim = tmp_path / "victim"
    fds = [live.fd for live in writer._live.values()]
    other = os.open(victim, os.O_RDWR | os.O_CREAT)
    for fd in fds:  # What a daemon does: close all, then open files of its own.
        os.dup2(other, fd)
    append(writer, spans_line(2))
    writer.close()
    assert victim.read_bytes() == b""
    assert all_lines(directory) == [spans_line(1), spans_line(2)]
    for fd in (*fds, other):
        os.close(fd)  # Still open: the writer may not close what is not its own.


# --- locks ------------------------------------------------------------------------


def test_where_locks_are_unknown_writing_goes_on(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", fail)
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    (bundle,) = reader.list_bundles(str(directory)).bundles
    assert retention.is_being_written(bundle)
    writer.close()
    assert all_lines(directory) == [spans_line(1)]
    monkeypatch.setattr(effects, "wall_ns", lambda: bundle.created_ns + 3 * 86_400 * SECOND_NS)
    assert not retention.is_being_written(bundle)


def test_an_adopter_that_takes_the_new_file_first_costs_only_a_name(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([lock.HELD, lock.LOCKED])
    monkeypatch.setattr(lock, "try_lock", lambda _fd: next(answers))
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    assert len(names_in(directory)) == 2  # the one that was taken, and ours
    assert all_lines(directory) == [spans_line(1)]
    writer.abandon()


# --- the rules for short programs -------------------------------------------------


SHORT = """
import sys
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
writer = BundleWriter(sys.argv[1])
for _ in range(30):
    writer.append("traces", b"{}\\n", Sketch())
    writer.tick()
writer.flush()
writer.close()
print(*sorted(name for name in sys.modules if name not in sys.argv[2].split()))
"""


def test_a_short_program_imports_neither_sealing_nor_decoding(directory: Path) -> None:
    bare = "import sys; print(*sys.modules)"
    known = subprocess.run(
        [sys.executable, "-c", bare], capture_output=True, text=True, check=True
    ).stdout
    done = subprocess.run(
        [sys.executable, "-c", SHORT, str(directory), known],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    forbidden = [
        "argparse",
        "backports.zstd",
        "compression.zstd",
        "contextlib",
        "dataclasses",
        "enum",
        "inspect",
        "json",
        "logging",
        "msgspec",
        "opentelemetry",
        "pathlib",
        "platformdirs",
        "re",
        "re2",
        "subprocess",
        "tempfile",
        "tomllib",
        "typing",
        "stack_composer.telemetry.store.seal",
        "stack_composer.telemetry.store.otlp",
    ]
    assert loaded & set(forbidden) == set()


def test_orphans_wait_until_the_writer_is_five_seconds_old(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = BundleWriter(str(directory))
    append(dead, spans_line(1))
    dead.close()
    now_ns = [10**9]
    monkeypatch.setattr(effects, "monotonic_ns", lambda: now_ns[0])
    writer = BundleWriter(str(directory))
    append(writer, spans_line(2))
    now_ns[0] += 5 * SECOND_NS - 1
    tick_until_idle(writer)
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [False, False]
    now_ns[0] += 1
    tick_until_idle(writer)
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [True, False]
    assert all_lines(directory) == [spans_line(1), spans_line(2)]
    writer.close()


def test_a_bundle_that_cannot_be_sealed_is_one_error_and_stays_readable(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    append(writer, spans_line(1))
    append(writer, spans_line(2))

    def fail(_fd: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(seal, "write_all", fail)
        with pytest.raises(StoreError, match="No space left"):
            tick_until_idle(writer)
        tick_until_idle(writer)
    assert all_lines(directory) == [spans_line(1), spans_line(2)]
    assert not re.search("tmp|zst|sketch", " ".join(names_in(directory)))
    writer.close()


def test_what_a_full_disk_left_plain_is_sealed_with_the_next_orphans(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = [SECOND_NS]
    monkeypatch.setattr(effects, "monotonic_ns", lambda: now_ns[0])
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    append(writer, spans_line(1))
    append(writer, spans_line(2))

    def fail(_fd: int, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(seal, "write_all", fail)
        with pytest.raises(StoreError, match="No space left"):
            writer.tick()
        now_ns[0] += writers.ADOPT_AFTER_S * SECOND_NS
        with pytest.raises(StoreError, match=r"1 bundles of ended .*No space left"):
            writer.tick()
    writer.tick()
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [False, False]
    now_ns[0] += writers.ADOPT_EVERY_S * SECOND_NS
    tick_until_idle(writer)
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [True, False]
    assert all_lines(directory) == [spans_line(1), spans_line(2)]
    writer.close()


def test_a_tick_ends_soon_and_the_next_one_goes_on(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "TICK_NS", 0)
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    append(writer, spans_line(1))
    append(writer, spans_line(2))
    ticks = 1
    while writer.tick():
        ticks += 1
    assert ticks > 2
    assert [b.sealed for b in reader.list_bundles(str(directory)).bundles] == [True, False]
    writer.close()


def test_when_sealing_falls_behind_the_oldest_stays_plain(directory: Path) -> None:
    writer = BundleWriter(str(directory), bundle_bytes_max=1)
    count = writers.SEALINGS_MAX + 4
    for number in range(count):
        append(writer, spans_line(number))
    tick_until_idle(writer)
    sealed = [bundle.sealed for bundle in reader.list_bundles(str(directory)).bundles]
    assert sealed == [False] * 3 + [True] * writers.SEALINGS_MAX + [False]
    assert all_lines(directory) == [spans_line(number) for number in range(count)]
    writer.close()


def test_names_of_bundles_are_ours(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, spans_line(1))
    (name,) = names_in(directory)
    parsed = names.parse_name(name)
    assert parsed is not None
    assert parsed.pid == os.getpid()
    writer.close()
