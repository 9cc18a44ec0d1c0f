"""Programs that stream are killed, fork, run side by side and end at once; nothing is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry.upload.audit import read_entries
from streaming import PROGRAM, Scene, grpc_serving, ids_of, names_of, wait_until
from upload_server import OK, Answer, Got, free_port, serving

pytestmark = pytest.mark.e2e

HTTP, GRPC = "otlp_http", "otlp_grpc"

FORKING = """
import os, sys, time
from stack_composer import telemetry
def record(first, count):
    for number in range(first, first + count):
        with telemetry.span(f"step {number}"):
            pass
record(0, 50)
time.sleep(1.0)     # The stream of the parent is in the middle of it.
children = []
for child in (1, 2, 3):
    pid = os.fork()
    if not pid:
        record(child * 100, 50)
        time.sleep(0.7)
        telemetry.shutdown()
        os._exit(0)
    children.append(pid)
record(50, 50)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
print("recorded", flush=True)
"""

WATCHED = """
import os, sys

def watch(event, arguments):
    if event.startswith("socket.") or event in ("os.exec", "subprocess.Popen", "os.posix_spawn"):
        os.write(2, f"watched: {event}\\n".encode())
        os._exit(99)

sys.addaudithook(watch)
from stack_composer import telemetry
import time
with telemetry.span("s"):
    pass
telemetry.log("info", "hello")
time.sleep(1.5)
"""
"""A program that dies at its first socket or look-up."""


def start(scene: Scene, *arguments: object, code: str = PROGRAM, **environ: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_CONFIG": str(scene.path), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(process: Any, timeout_s: float = 60.0) -> str:
    out, _ = process.communicate(timeout=timeout_s)
    assert process.returncode == 0
    return str(out)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
def test_a_program_that_ends_at_once_has_sent_all(exporter: Any, scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, exporter, rest="close_s_max = 20.0")
        scene.consent()
        finished(start(scene, 0, 30, 0, "end"))
        found = ids_of(server.taken)
        assert len(found) == len(set(found)) == 30
    assert not scene.queues()


@pytest.mark.parametrize("exporter", [["file", GRPC], GRPC])
def test_the_same_by_grpc(exporter: Any, scene: Scene) -> None:
    with grpc_serving() as server:
        scene.write(server.url, exporter, rest="close_s_max = 20.0")
        scene.consent(GRPC)
        finished(start(scene, 0, 30, 0, "end"))
        assert len(server.ids) == len(set(server.ids)) == 30
    if exporter == GRPC:
        assert not scene.stored_ids(scene.folder / "outbox-grpc")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_kill_loses_nothing_and_repeats_one_request_at_most(
    seed: int, exporter: Any, scene: Scene
) -> None:
    chance = random.Random(seed)
    slow_s = chance.uniform(0.0, 0.1)

    def judge(_got: Got) -> Answer:
        time.sleep(slow_s)
        return OK

    kills = 4
    with serving(judge) as server:
        scene.write(server.url, exporter, rest="close_s_max = 30.0")
        scene.consent()
        kept: set[str] = set()
        queue = scene.folder if "file" in exporter else scene.folder / "outbox-http"
        for kill in range(kills):
            before = len(server.got)
            process = start(scene, kill * 10_000, 10_000, 0.001, "wait")
            wait_until(lambda seen=before: len(server.got) > seen + 2)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.5))
            process.kill()
            process.communicate()
            if queue == scene.folder:
                kept |= set(scene.stored_ids())
            else:
                kept |= set(scene.stored_ids(queue))
        # What was on its way when the last one was killed may still be on the server's.
        time.sleep(0.3)
        finished(start(scene, 90_000, 10, 0, "end"))
        arrived = Counter(ids_of(server.taken))
        assert kept <= set(arrived)
        if queue == scene.folder:
            assert set(arrived) == set(scene.stored_ids())
        seen: set[str] = set()
        repeats = 0
        for got in server.taken:
            found = set(ids_of([got]))
            repeats += bool(found & seen)
            seen |= found
        assert repeats <= kills
        # And of records no more than were in requests whose answers are not known.
        sent = {name: e.records for name, e in read_entries(str(scene.folder)) if name}
        for answer in scene.entries("answer"):
            del sent[answer.of]
        assert len(sent) <= kills
        assert arrived.total() - len(arrived) <= sum(sent.values())
    assert not scene.queues(queue)


@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
def test_two_programs_at_once_send_each_their_own_once(exporter: Any, scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, exporter, rest="close_s_max = 20.0")
        scene.consent()
        programs = [start(scene, first, 2_000, 0.001, "end") for first in (0, 10_000, 20_000)]
        for program in programs:
            finished(program)
        found = names_of(server.taken)
        assert len(found) == len(set(found)) == 6_000
    assert not scene.queues()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
def test_forked_children_send_their_own(exporter: Any, scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, exporter, rest="close_s_max = 20.0")
        scene.consent()
        finished(start(scene, code=FORKING))
        found = names_of(server.taken)
        assert len(found) == len(set(found)) == 250
    assert not scene.queues()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_children_of_a_program_that_uses_grpc_lose_nothing(scene: Scene) -> None:
    with grpc_serving() as server:
        scene.write(server.url, ["file", GRPC], rest="close_s_max = 5.0")
        scene.consent(GRPC)
        finished(start(scene, code=FORKING))
        # What a child could not send, since the library cannot, the next program does.
        finished(start(scene, 1_000, 10, 0, "end"))
        assert len(server.ids) == len(set(server.ids)) == 260
    assert not scene.queues()


def test_a_server_that_comes_later_gets_all(scene: Scene) -> None:
    scene.write(f"http://127.0.0.1:{free_port()}", ["file", HTTP])
    with serving(lambda _got: Answer(0)) as server:
        scene.write(server.url, ["file", HTTP], rest="close_s_max = 20.0")
        scene.consent()
        program = start(scene, 0, 100, 0.01, "end")
        wait_until(lambda: server.got)
        server.judge = lambda _got: OK
        finished(program)
        assert len(ids_of(server.taken)) == 100


@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP, ["file", GRPC], GRPC])
@pytest.mark.parametrize("environ", [{"DO_NOT_TRACK": "1"}, {"DO_NOT_TRACK": "true"}, {}])
def test_what_must_not_leave_opens_no_socket_and_asks_no_name_server(
    environ: dict[str, str], exporter: Any, scene: Scene
) -> None:
    scene.write("https://collector.example:4318", exporter)
    if environ:
        scene.consent()
    # Without DO_NOT_TRACK it is the consent that is missing.
    finished(start(scene, code=WATCHED, **environ))
    assert not scene.entries("sending")


def test_the_watcher_sees_what_may_leave(scene: Scene) -> None:
    scene.write(f"http://127.0.0.1:{free_port()}", ["file", HTTP])
    scene.consent()
    process = start(scene, code=WATCHED)
    process.communicate()
    assert process.returncode == 99


def test_a_dead_port_costs_the_end_no_more_than_is_configured(scene: Scene) -> None:
    scene.write(f"http://127.0.0.1:{free_port()}", ["file", HTTP], rest="close_s_max = 0.3")
    scene.consent()
    began = time.monotonic()
    finished(start(scene, 0, 100, 0, "end"))
    # Ten seconds is what one request may take; starting the program is the most of it.
    assert time.monotonic() - began < 8
    assert len(scene.stored_ids()) == 100
    assert len(scene.queues()) == 1
