"""The writer's side: turns, losses, purging, and what happens after the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import records
from stack_composer import telemetry
from stack_composer.telemetry import pipeline, process
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store import names
from stack_composer.telemetry.turnstile import Turnstile

DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    telemetry.shutdown()


def test_a_running_process_purges_what_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "PURGE_FIRST_S", 0.0)
    old, young = (
        tmp_path
        / names.open_name(names.make_stem(time.time_ns() - days * DAY_NS, 1, b"abcd"), "logs")
        for days in (31, 29)
    )
    for path in (old, young):
        path.write_bytes(b'{"resourceLogs":[]}\n')
    (tmp_path / "mine.txt").write_text("not ours")
    (tmp_path / names.QUARANTINE).mkdir(mode=0o700)
    aside_old, aside_young = (
        tmp_path / names.QUARANTINE / f"{path.name}.1" for path in (old, young)
    )
    for path in (aside_old, aside_young):
        path.write_bytes(b"damaged")
    os.chmod(tmp_path, 0o700)
    telemetry.configure(tmp_path, flush_s=0.01)
    with telemetry.span("s"):
        pass
    end = time.monotonic() + 10
    while (old.exists() or aside_old.exists()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not old.exists()
    assert not aside_old.exists()
    assert aside_young.exists()
    assert young.exists()
    assert (tmp_path / "mine.txt").exists()


def old_bundles(folder: Path, count: int) -> list[Path]:
    folder.mkdir(mode=0o700, exist_ok=True)
    month_ago_ns = time.time_ns() - 31 * DAY_NS
    found = [
        folder / names.open_name(names.make_stem(month_ago_ns + number, 1, b"abcd"), "logs")
        for number in range(0, count * 1000, 1000)
    ]
    for path in found:
        path.write_bytes(b'{"resourceLogs":[]}\n')
    return found


def record_and_end(folder: Path) -> None:
    telemetry.configure(folder)
    with telemetry.span("s"):
        pass
    telemetry.shutdown()


def test_a_short_process_purges_at_its_end_once_a_day(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    old = old_bundles(folder, 3)
    for _ in range(2):  # The first one only begins the day.
        record_and_end(folder)
        assert all(path.exists() for path in old)
    stamp = folder / names.PURGE_STAMP
    for age_s in (86_400, -3_600):  # A day old; and from the future, as after a step back.
        os.utime(stamp, (time.time() - age_s,) * 2)
        old = old_bundles(folder, 3)
        record_and_end(folder)
        assert not any(path.exists() for path in old)
    assert stamp.stat().st_mode & 0o077 == 0


def test_a_short_process_purges_so_much_at_its_end_and_the_next_one_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "PURGED_AT_END_MAX", 2)
    folder = tmp_path / "t"
    old = old_bundles(folder, 3)
    stamp = folder / names.PURGE_STAMP
    stamp.touch()
    os.utime(stamp, (0, 0))
    record_and_end(folder)
    assert [path.exists() for path in old] == [False, False, True]
    assert stamp.stat().st_mtime == 0
    record_and_end(folder)
    assert not old[2].exists()
    assert stamp.stat().st_mtime > 0


def test_a_test_that_captures_purges_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_DIR", str(tmp_path / "t"))
    old = old_bundles(tmp_path / "t", 1)
    for gdpr in (False, True):
        with telemetry.capture(gdpr=gdpr), telemetry.generation(), telemetry.span("s"):
            pass
    assert old[0].exists()


def test_one_exporter_that_fails_does_not_stop_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack_composer.telemetry.export.stdout._STDOUT", 999_999)
    telemetry.configure(tmp_path, exporter=["stdout", "file"])
    with telemetry.span("kept"):
        pass
    with pytest.raises(telemetry.StoreError, match="could not be written"):
        telemetry.flush()
    monkeypatch.undo()
    assert [span["name"] for span in records.spans(tmp_path)] == ["kept"]


def test_a_loss_is_told_once(tmp_path: Path) -> None:
    telemetry.configure(tmp_path)
    recorder.drop("traces", "test", 3)
    for _ in range(3):
        telemetry.flush()
    telemetry.configure(tmp_path)
    recorder.drop("traces", "test", 1)
    telemetry.flush()
    assert records.health(tmp_path, "dropped")["traces", "test"] == 4


def test_after_shutdown_nothing_is_kept_in_memory(tmp_path: Path) -> None:
    telemetry.configure(tmp_path)
    before = telemetry.counter("pipeline.before")
    telemetry.shutdown()
    after = telemetry.histogram("pipeline.after")
    for _ in range(100):
        before.add(1)
        after.record(1)
        telemetry.metric("m", 1)
        telemetry.log("info", "x")
        with telemetry.span("s"):
            pass
    assert before.values == after.values == []
    assert [*recorder.spans, *recorder.logs, *recorder.measurements] == []
    telemetry.configure(tmp_path)
    before.add(2)
    telemetry.flush()
    (point,) = [
        point
        for metric in records.metrics(tmp_path)
        if metric["name"] == "pipeline.before"
        for point in metric["sum"]["dataPoints"]
    ]
    assert point["asInt"] == "2"


def test_configure_refuses_nonsense_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    telemetry.configure(tmp_path)
    running = process.running
    for options in ({"no_such": 1}, {"flush_s": "soon"}, {"profile": "lax"}, {"exporter": "fax"}):
        with pytest.raises(telemetry.ConfigError):
            telemetry.configure(**options)
    assert process.running is running
    with telemetry.span("still"):
        pass
    telemetry.flush()
    assert [span["name"] for span in records.spans(tmp_path)] == ["still"]


def test_flush_says_where_even_if_there_is_nothing(tmp_path: Path) -> None:
    telemetry.configure(tmp_path / "none")
    assert telemetry.flush() == tmp_path / "none"
    assert not (tmp_path / "none").exists()


def test_flush_gives_up_in_time(tmp_path: Path) -> None:
    telemetry.configure(tmp_path)
    assert process.running is not None
    process.running.turnstile.enter(-1)
    try:
        with pytest.raises(telemetry.StoreError, match=r"not done within 0\.05 s"):
            telemetry.flush(0.05)
    finally:
        process.running.turnstile.leave()


def test_the_turnstile_lets_whoever_waits_go_first() -> None:
    turnstile = Turnstile()
    order: list[str] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        turnstile.enter(-1)
        order.append("waiter")
        turnstile.leave()

    turnstile.enter(-1)
    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    time.sleep(0.05)
    turnstile.let_others()
    order.append("holder")
    turnstile.leave()
    thread.join()
    assert order == ["waiter", "holder"]
    assert turnstile.enter(0.01)
    assert not turnstile.enter(0.01)


def test_a_fault_of_ours_is_counted_and_shown_to_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Exception] = []
    telemetry.configure(tmp_path, on_internal_error=seen.append)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stack_composer.telemetry.store.encode.Encoder.encode_spans", broken)
    with telemetry.span("lost"):
        pass
    telemetry.flush()
    monkeypatch.undo()
    assert [type(error) for error in seen] == [ZeroDivisionError]
    assert records.health(tmp_path, "dropped")["traces", "unencodable"] == 1
    assert records.health(tmp_path, "faults")["encode",] == 1


def test_sealing_keeps_up_with_a_program_that_writes_all_the_time(tmp_path: Path) -> None:
    """Bundles used to fill faster than the writer's idle moments came to seal them."""
    telemetry.configure(tmp_path, bundle_bytes_max=2**22)
    for _ in range(35):
        for _ in range(2_000):
            with telemetry.span("busy", k=1, text="so that a bundle fills the sooner" * 3):
                pass
        telemetry.flush()
    telemetry.shutdown()
    assert len(list(tmp_path.glob("*.traces.jsonl.zst"))) > 5
    assert not list(tmp_path.glob("*.traces.jsonl"))
    assert len(records.spans(tmp_path)) == 70_000
