"""Programs that stream are killed, fork, run side by side and end at once; nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
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

TESTS = Path(__file__).resolve().parent.parent
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


PARENT = """
import os, sys, time
from stack_composer import telemetry
with telemetry.span("parent's"):
    pass
telemetry.flush()
time.sleep(1.0)
pid = os.fork()
if not pid:
    time.sleep(120)
print(pid, flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
def test_a_child_does_not_hold_what_its_dead_parent_left(exporter: Any, scene: Scene) -> None:
    with serving(lambda _got: Answer(503)) as server:
        scene.write(server.url, exporter, rest="close_s_max = 20.0")
        scene.consent()
        process = start(scene, code=PARENT)
        child = int(process.stdout.readline())
        try:
            process.kill()
            process.wait()
            server.judge = lambda _got: OK
            finished(start(scene, 0, 1, 0, "end"))
            assert sorted(names_of(server.taken)) == ["parent's", "step 0"]
        finally:
            os.kill(child, signal.SIGKILL)
            process.communicate()


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


WITHOUT = """
import sys
sys.modules["urllib3"] = sys.modules["grpc"] = None
from stack_composer import telemetry
from stack_composer.telemetry.record import recorder
import time
with telemetry.span("s"):
    pass
telemetry.flush()
time.sleep(1.5)
print(recorder.faults)
"""


@pytest.mark.parametrize("exporter", [HTTP, GRPC])
def test_an_extra_that_is_missing_is_told_and_loses_nothing(exporter: str, scene: Scene) -> None:
    scene.write(f"http://127.0.0.1:{free_port()}", ["file", exporter])
    scene.consent(exporter)
    assert finished(start(scene, code=WITHOUT)) == f"{{'{exporter}': 1}}\n"
    assert len(scene.stored_ids()) == 1
    assert len(scene.queues()) == 1
    assert not scene.entries("sending")


def test_a_dead_port_costs_the_end_no_more_than_is_configured(scene: Scene) -> None:
    scene.write(f"http://127.0.0.1:{free_port()}", ["file", HTTP], rest="close_s_max = 0.3")
    scene.consent()
    began = time.monotonic()
    finished(start(scene, 0, 100, 0, "end"))
    # Ten seconds is what one request may take; starting the program is the most of it.
    assert time.monotonic() - began < 8
    assert len(scene.stored_ids()) == 100
    assert len(scene.queues()) == 1


ON_A_DISK_OF_ITS_OWN = """
set -e
mount -t tmpfs -o size=2m tmpfs "$1"
exec "$2" -c "$3" "$1"
"""

FULL = """
import os, sys, threading, time
sys.path[:0] = os.environ["TESTS"].split(os.pathsep)
from pathlib import Path
from stack_composer import telemetry
from stack_composer.telemetry import relief
from stack_composer.telemetry.upload import stream
from streaming import Scene, ids_of, wait_until
from upload_server import serving

relief.LOOK_S = 0.05
stream.BROKEN_S = 0.2
place = Path(sys.argv[1])
scene = Scene(place)
with serving() as server:
    scene.write(server.url, sys.argv[2:] or ["file", "otlp_http"])
    scene.consent()
    scene.configure()
    scene.record("first")
    wait_until(lambda: len(ids_of(server.taken)) == 1)
    with open(place / "ballast", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    before = len(server.got)
    for _ in range(20):
        with telemetry.span("lost"):
            pass
        try:
            telemetry.flush()
        except telemetry.TelemetryError:
            pass
        time.sleep(0.05)
    # What cannot be noted does not leave.
    entries = len(scene.entries("sending"))
    assert len(server.got) <= entries, (len(server.got), entries)
    os.unlink(place / "ballast")
    deadline = time.monotonic() + 30
    while True:
        try:
            scene.record("last")
            break
        except telemetry.TelemetryError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    wait_until(lambda: set(scene.stored_ids()) <= set(ids_of(server.taken)))
    telemetry.shutdown()
    found = ids_of(server.taken)
    assert len(found) == len(set(found))
    assert set(found) == set(scene.stored_ids())
    print("whole")
"""


def test_a_full_disk_stops_what_leaves_and_both_recover(tmp_path: Path) -> None:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("this needs Linux' own file systems of a size")
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare is not permitted here")
    done = subprocess.run(
        [*alone, "sh", "-c", ON_A_DISK_OF_ITS_OWN, "sh", str(tmp_path), sys.executable, FULL],
        env={**os.environ, "TESTS": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("whole\n", 0), done.stderr[-2000:]
