"""What the writer's thread sees of network exporters: a bell, an outbox, and no waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack_composer import telemetry
from stack_composer.telemetry import gdpr, pipeline, process
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.export import otlp
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store import names, opportunity
from stack_composer.telemetry.store.erase import apply_erase, plan_erase
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, sketch_of, spans_line
from streaming import Scene, wait_until
from upload_server import Answer, free_port, serving

HTTP = "otlp_http"
OUTBOX = names.OUTBOXES[HTTP]
DAY_NS = 86_400 * 10**9


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    recorder.dropped.clear()
    recorder.faults.clear()
    yield
    telemetry.shutdown()
    assert not recorder.faults


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


DEAR = """
import sys
from stack_composer import telemetry
from stack_composer.telemetry import process
telemetry.configure(sys.argv[1], exporter=["file", "otlp_http"], upload_enabled=True,
                    config_path=sys.argv[2])
with telemetry.span("s"):
    pass
pipeline = process.running
pipeline.turnstile.enter(-1)
from stack_composer.telemetry.export import otlp
otlp.Feed.ring = lambda self: None
pipeline.take(last=False)
pipeline.turnstile.leave()
print(" ".join(sorted(sys.modules)))
"""


def test_nothing_dear_is_imported_on_the_writers_thread(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEAR, str(tmp_path / "t"), str(tmp_path / "telemetry.toml")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    assert "stack_composer.telemetry.export.otlp" in loaded
    for name in ("ssl", "urllib3", "grpc", "stack_composer.telemetry.upload.stream"):
        assert name not in loaded
    assert not [name for name in loaded if name.startswith("stack_composer.telemetry.send")]


def test_a_bundle_is_told_once_however_much_is_appended(tmp_path: Path) -> None:
    config = load_config({"directory": str(tmp_path / "t")}, {})
    writer = BundleWriter(config.directory)
    feed = otlp.Feed(config, HTTP, config.directory)
    streamed = otlp.Streamed(writer, [feed])
    line = spans_line(1)
    append(writer, line)
    streamed.append("traces", line, sketch_of(line))
    streamed.append("traces", line, sketch_of(line))
    assert list(feed.begun) == [(writer.stem_of("traces"), "traces")]
    assert feed._thread is None
    streamed.close()


def test_the_writers_turn_comes_often_enough(scene: Scene) -> None:
    scene.write("http://127.0.0.1:1", ["file", HTTP])
    scene.configure(flush_s=5.0)
    assert process.running is not None
    assert process.running._turn_s == pipeline.STREAM_TURN_S <= 0.5
    scene.configure(flush_s=0.1)
    assert process.running._turn_s == 0.1
    scene.write("http://127.0.0.1:1", "file")
    scene.configure(flush_s=1.0)
    assert process.running._turn_s == 1.0


def test_flush_waits_for_the_disk_and_not_for_the_network(scene: Scene) -> None:
    waiting = threading.Event()

    def judge(_got: object) -> Answer:
        waiting.wait(20)
        return Answer()

    with serving(judge) as server:
        scene.write(server.url, HTTP, rest="close_s_max = 0.0")
        scene.consent()
        scene.configure()
        with telemetry.span("s"):
            pass
        path = telemetry.flush(timeout_s=5.0)
        assert path.parent == scene.folder / OUTBOX
        assert len(scene.stored_ids(scene.folder / OUTBOX)) == 1
        telemetry.shutdown()
        waiting.set()


def test_no_thread_is_started_where_nothing_may_ever_leave(scene: Scene) -> None:
    otlp._parked.clear()
    before = set(threading.enumerate())
    scene.write("http://127.0.0.1:1", ["file", HTTP], enabled=False)
    scene.configure()
    scene.record("s")
    assert {one.name for one in set(threading.enumerate()) - before} == {"stack-composer-telemetry"}
    assert not otlp._parked


def test_a_thread_waits_for_a_program_that_ends_at_once(scene: Scene) -> None:
    # The first line is written at the end, when newer interpreters start no thread.
    scene.write(f"http://127.0.0.1:{free_port()}", ["file", HTTP], rest="close_s_max = 0.0")
    scene.consent()
    otlp._parked.clear()
    scene.configure(flush_s=30.0)
    with telemetry.span("s"):
        pass
    wait_until(lambda: otlp._parked)
    (parked,) = otlp._parked
    assert parked.is_alive()
    telemetry.shutdown()
    assert parked.name == f"stack-composer-{HTTP}"


def test_without_any_thread_records_wait_for_the_next_program(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "park", lambda _count: None)
    otlp._parked.clear()
    with serving() as server:
        scene.write(server.url, HTTP)
        scene.consent()
        scene.configure()
        scene.record("s")
        telemetry.shutdown()
        assert not server.got
        assert recorder.faults == {"thread": 2}
        recorder.faults.clear()
        monkeypatch.undo()
        scene.configure()
        scene.record("t")
        wait_until(lambda: len(server.taken) >= 1)
        telemetry.shutdown()
        assert not list_bundles(str(scene.folder / OUTBOX)).bundles


def test_what_lies_in_an_outbox_goes_with_all_else_that_was_recorded(scene: Scene) -> None:
    def fill(days: int = 0) -> None:
        writer = BundleWriter(
            str(scene.folder / OUTBOX), clock=lambda: time.time_ns() - days * DAY_NS
        )
        append(writer, spans_line(1))
        writer.close()

    outbox = str(scene.folder / OUTBOX)
    fill()
    gdpr.purge_closed(str(scene.folder))
    assert not list_bundles(outbox).bundles
    fill(31)
    fill(1)
    opportunity.purge(str(scene.folder), keep_days=30, kept_bytes_max=2**40)
    assert len(list_bundles(outbox).bundles) == 1
    plan = plan_erase(str(scene.folder))
    assert not plan.foreign
    assert not apply_erase(plan).left
    assert not os.path.exists(outbox)


def test_a_link_in_the_place_of_an_outbox_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    writer = BundleWriter(str(elsewhere))
    append(writer, spans_line(1))
    writer.close()
    scene.folder.mkdir(mode=0o700)
    (scene.folder / OUTBOX).symlink_to(elsewhere)
    gdpr.purge_closed(str(scene.folder))
    apply_erase(plan_erase(str(scene.folder)))
    assert len(list_bundles(str(elsewhere)).bundles) == 1
    scene.folder.mkdir(mode=0o700, exist_ok=True)
    (scene.folder / OUTBOX).symlink_to(elsewhere)
    scene.write("http://127.0.0.1:1", HTTP)
    scene.configure()
    with telemetry.span("s"):
        pass
    with pytest.raises(StoreError, match="could not be written"):
        telemetry.flush()
    assert recorder.dropped["traces", "not_written"] == 1
    assert len(list_bundles(str(elsewhere)).bundles) == 1
