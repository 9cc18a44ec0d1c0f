"""A disk that fills costs records, counted, and never more; and ends by itself."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import records
from stack_composer import telemetry
from stack_composer.telemetry import effects, health, process, relief
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store import names, pressure, pressure_note
from stack_composer.telemetry.store.reader import list_bundles

MIB = 2**20
DISK = 100 * 2**30


class Disk:
    """A disk whose room a test sets; ``looks`` counts how often it was asked."""

    def __init__(self) -> None:
        self.free = DISK
        self.looks = 0

    def __call__(self, _path: str) -> tuple[int, int]:
        self.looks += 1
        return self.free, DISK


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk()
    monkeypatch.setattr(effects, "disk_space", made)
    monkeypatch.setattr(relief, "LOOK_S", 0.0)
    # As a new process begins: nothing counted, nothing told.
    monkeypatch.setattr(recorder, "steps", {})
    monkeypatch.setattr(recorder, "dropped", {})
    monkeypatch.setattr(health, "_told", {})
    yield made
    telemetry.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


def many(count: int = 400, name: str = "quick") -> None:
    for _ in range(count):
        with telemetry.span(name):
            pass


def fail() -> None:
    with telemetry.span("failing"):
        raise ValueError("boom")


def names_of(folder: Path) -> list[str]:
    return [span["name"] for span in records.spans(folder)]


def test_without_pressure_all_is_kept_and_a_look_comes_every_five_seconds(
    folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relief, "LOOK_S", 5.0)
    now_ns = [10**9]
    monkeypatch.setattr(effects, "monotonic_ns", lambda: now_ns[0])
    telemetry.configure(folder, flush_s=60)
    for _ in range(10):
        many(5)
        telemetry.flush()
    assert disk.looks == 1
    now_ns[0] += 5 * 10**9
    many(5)
    telemetry.flush()
    assert disk.looks == 2
    assert len(names_of(folder)) == 55
    assert not recorder.steps
    assert not recorder.dropped


@pytest.mark.parametrize(("free", "one_in"), [(512 * MIB, 4), (128 * MIB, 32)])
def test_whole_traces_errors_and_slow_spans_are_kept(
    folder: Path, disk: Disk, free: int, one_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.free = free
    telemetry.configure(folder, flush_s=60)
    for _ in range(1_000):
        with telemetry.span("outer"), telemetry.span("inner"):
            pass
    for _ in range(20):
        with pytest.raises(ValueError, match="boom"):
            fail()
    monkeypatch.setattr(pressure, "SLOW_NS", 5_000_000)
    for _ in range(3):
        with telemetry.span("slow"):
            time.sleep(0.006)
    telemetry.log("info", "said")
    telemetry.log("warn", "warned")
    telemetry.flush()
    found = records.spans(folder)
    kept = [span["name"] for span in found]
    assert kept.count("failing") == 20
    assert kept.count("slow") == 3
    traces = {span["traceId"] for span in found if span["name"] == "outer"}
    # A span that a slow machine made slow stays without the rest of its trace.
    inner = {span["traceId"] for span in found if span["name"] == "inner"}
    assert len(traces ^ inner) < 20
    assert 0 < len(traces) < 3_000 / one_in
    assert recorder.dropped["traces", "pressure"] == 2_023 - len(found)
    bodies = [log["body"]["stringValue"] for log in records.logs(folder)]
    assert bodies == (["said", "warned"] if one_in == 4 else ["warned"])
    telemetry.flush()
    told = records.health(folder, "dropped")
    assert told["traces", "pressure"] == 2_023 - len(found)
    assert records.health(folder, "pressure") == {("throttle" if one_in == 4 else "critical",): 1}


def test_nothing_is_written_at_stop_and_all_goes_on_by_itself(folder: Path, disk: Disk) -> None:
    telemetry.configure(folder, flush_s=60)
    hits = telemetry.counter("relief.hits")
    many(10, "before")
    telemetry.flush()
    size = sum(path.stat().st_size for path in folder.iterdir())
    disk.free = 10 * MIB
    many(10, "during")
    hits.add(3)
    telemetry.metric("point", 1)
    with pytest.raises(telemetry.StoreError, match="11 records could not be written"):
        telemetry.flush()
    note = pressure_note.read_note(str(folder))
    assert note is not None
    assert note.level == "stop"
    (folder / names.PRESSURE_NOTE).unlink()
    assert sum(path.stat().st_size for path in folder.iterdir()) == size
    disk.free = DISK
    many(10, "after")
    hits.add(4)
    telemetry.flush()
    kept = names_of(folder)
    assert (kept.count("before"), kept.count("during"), kept.count("after")) == (10, 0, 10)
    assert pressure_note.read_note(str(folder)) is None
    # What instruments add up waits in memory.
    (total,) = [
        sum(int(point["asInt"]) for point in metric["sum"]["dataPoints"])
        for metric in records.metrics(folder)
        if metric["name"] == "relief.hits"
    ]
    assert total == 7
    dropped = records.health(folder, "dropped")
    assert dropped == {("traces", "pressure"): 10, ("metrics", "pressure"): 1}
    assert records.health(folder, "pressure") == {("stop",): 1, ("normal",): 1}


def test_a_write_that_is_refused_stops_at_once(
    folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the system says is free: a quota is not seen there."""
    assert disk.looks == 0
    monkeypatch.setattr(relief, "LOOK_S", 3600.0)
    telemetry.configure(folder, flush_s=60)
    many(3, "before")
    telemetry.flush()
    tried = []
    write = os.write

    def refuse(fd: int, data: bytes) -> int:
        if len(data) > 512:
            tried.append(len(data))
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return write(fd, data)

    with monkeypatch.context() as full:
        full.setattr(os, "write", refuse)
        many(2_000, "during")
        with pytest.raises(telemetry.StoreError):
            telemetry.flush()
    assert len(tried) == 1, "it was tried again and again"
    assert recorder.dropped == {("traces", "not_written"): 512, ("traces", "pressure"): 1_488}
    many(3, "after")
    telemetry.flush()
    assert sorted(set(names_of(folder))) == ["after", "before"]


def test_bundles_are_small_and_the_oldest_go_first(folder: Path, disk: Disk) -> None:
    telemetry.configure(folder, flush_s=60, bundle_bytes_max=64 * 1024)
    for _ in range(30):
        many(1_000)
        telemetry.flush()
    assert process.running is not None
    for _ in range(5):
        process.running.turn()
    before = [b for b in list_bundles(str(folder)).bundles if b.sealed]
    assert len(before) > 5
    disk.free = 200 * MIB
    telemetry.flush()
    left = [b for b in list_bundles(str(folder)).bundles if b.sealed]
    gone = recorder.steps["deleted"]
    assert 1 <= gone <= len(before) / 4
    # Others of the same moment may have been sealed since.
    assert [b.path for b in left if b in before] == [b.path for b in before[gone:]]


def test_under_pressure_bundles_are_smaller(
    folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pressure._BUNDLE_BYTES_MAX, "throttle", 20_000)
    telemetry.configure(folder, flush_s=60)
    many(300)
    telemetry.flush()
    disk.free = 512 * MIB
    for _ in range(20):
        many(300)
        telemetry.flush()
    assert process.running is not None
    process.running.turn()
    traces = [b for b in list_bundles(str(folder)).bundles if b.signal == "traces"]
    # The open one that was too large was closed as soon as the level began.
    assert len(traces) > 3


def test_the_terminal_still_gets_what_the_disk_cannot_take(
    folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr("stack_composer.telemetry.export.stdout._STDOUT", writing)
    disk.free = 0
    telemetry.configure(folder, exporter=["file", "stdout"], flush_s=60)
    many(3)
    with pytest.raises(telemetry.StoreError):
        telemetry.flush()
    assert b'"name":"quick"' in os.read(reading, 100_000)
    assert not folder.exists()
    os.close(reading)
    os.close(writing)


def test_a_process_goes_on_from_the_level_of_the_one_before(folder: Path, disk: Disk) -> None:
    """Between a limit and a quarter more the level is the one that held."""
    folder.mkdir(mode=0o700)
    pressure_note.write_note(str(folder), pressure.State("throttle", 77, 0, DISK))
    disk.free = 1100 * MIB
    telemetry.configure(folder, flush_s=60)
    many(400)
    telemetry.flush()
    assert recorder.dropped["traces", "pressure"] > 200
    note = pressure_note.read_note(str(folder))
    assert note is not None
    assert (note.level, note.since_ns) == ("throttle", 77)


def test_the_limits_can_be_taken_away(folder: Path, disk: Disk) -> None:
    telemetry.configure(
        folder, throttle_free_bytes=0, critical_free_bytes=0, stop_free_bytes=0, flush_s=60
    )
    disk.free = 0
    many(50)
    telemetry.flush()
    assert len(names_of(folder)) == 50


def test_a_system_that_does_not_tell_is_left_alone(
    folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "disk_space", lambda _path: None)
    telemetry.configure(folder, flush_s=60)
    many(50)
    telemetry.flush()
    assert len(names_of(folder)) == 50
    assert disk.looks == 0


def test_nothing_dear_is_imported_for_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom stack_composer import telemetry\n"
        "with telemetry.span('x'): pass\n"
        "telemetry.flush()\n"
        "print(*sorted(m for m in sys.modules if m.startswith('stack_composer')))"
    )
    source = Path(relief.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"HOME": str(tmp_path), "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "stack_composer.telemetry.store.pressure" in loaded
    for late in ("reader", "retention", "quarantine", "repair", "pressure_note"):
        assert f"stack_composer.telemetry.store.{late}" not in loaded
