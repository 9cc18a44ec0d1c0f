"""Processes that fork, are stopped, or lose their folder: nothing is lost or held."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import records
from cli_running import ok_json
from e2e.store_writers import start_writer
from stack_composer.telemetry.store import reader
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.retention import is_being_written
from store_lines import all_lines, spans_line

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform"),
]
HERE = Path(__file__).resolve().parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


def start(folder: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    """Start a Python program that records into a folder."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def nothing_is_held(folder: Path) -> bool:
    return not any(is_being_written(b) for b in reader.list_bundles(str(folder)).bundles)


# --- prefork servers --------------------------------------------------------------


@contextmanager
def server(folder: Path, *, workers: int, requests_max: int) -> Iterator[int]:
    """A prefork server and its port; ended in an orderly way, without a word."""
    program = start(folder, str(HERE / "prefork_server.py"), str(workers), str(requests_max))
    assert program.stdout is not None
    try:
        yield int(program.stdout.readline())
        program.terminate()
        _, err = program.communicate(timeout=60)
        assert (program.returncode, err) == (0, "")
    finally:
        program.kill()
        program.wait()
        for pipe in (program.stdout, program.stderr):
            if pipe is not None:
                pipe.close()


def ask(port: int, path: str) -> int:
    """Send a request; return the id of the worker that answered."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        said = b""
        while piece := connection.recv(4096):
            said += piece
    return int(said.rpartition(b"\n")[2])


def test_a_prefork_server_loses_no_request_while_workers_come_and_go(folder: Path) -> None:
    workers = set()
    with server(folder, workers=4, requests_max=15) as port:
        for number in range(150):
            workers.add(ask(port, f"/{number}"))
    spans = records.spans(folder)
    assert sorted(s["attrs"]["n"] for s in spans if s["name"] == "request") == list(range(150))
    assert len({s["spanId"] for s in spans}) == len(spans)
    assert len(workers) >= 10
    assert [s["name"] for s in spans].count("preload") == 1
    by_process = {s["resource"]["process.pid"] for s in spans if s["name"] == "request"}
    assert by_process == workers
    requests = sum(
        int(point["asInt"])
        for metric in records.metrics(folder)
        if metric["name"] == "server.requests"
        for point in metric["sum"]["dataPoints"]
    )
    assert requests == 150
    assert nothing_is_held(folder)


def test_workers_that_are_killed_lose_nothing_that_they_flushed_and_hold_nothing(
    folder: Path,
) -> None:
    with server(folder, workers=3, requests_max=1_000) as port:
        for number in range(60):
            worker = ask(port, f"/flush/{number}")
            if number % 6 == 0:
                os.kill(worker, signal.SIGKILL)
            elif number % 6 == 3:
                ask(port, f"/exit/{1_000 + number}")
        mine = {b.pid for b in reader.list_bundles(str(folder)).bundles if is_being_written(b)}
        assert len(mine) <= 4, "a dead worker's bundle is still held"
    found = [s["attrs"]["n"] for s in records.spans(folder) if s["name"] == "request"]
    assert set(range(60)) <= set(found)
    assert len(found) == len(set(found))
    assert nothing_is_held(folder)


def test_gunicorn_itself(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed; the server above is ours")
    (tmp_path / "served.py").write_text(
        textwrap.dedent(
            """
            from stack_composer import telemetry
            telemetry.configure(flush_s=0.01)
            with telemetry.span("preload"):
                pass
            def app(environ, start_response):
                with telemetry.span("request", n=int(environ["PATH_INFO"].strip("/"))):
                    start_response("200 OK", [])
                    return [b"\\n1"]
            """
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = start(
        folder,
        *("-m", "gunicorn", "--preload", "-w", "3", "--max-requests", "15"),
        *("-b", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "served:app"),
    )
    try:
        end = time.monotonic() + 30
        for number in range(100):
            while True:
                try:
                    ask(port, f"/{number}")
                    break
                except ConnectionError:
                    assert time.monotonic() < end
                    time.sleep(0.05)
        program.terminate()
        program.communicate(timeout=60)
    finally:
        program.kill()
        program.communicate()
    spans = records.spans(folder)
    assert sorted(s["attrs"]["n"] for s in spans if s["name"] == "request") == list(range(100))
    assert [s["name"] for s in spans].count("preload") == 1
    assert nothing_is_held(folder)


# --- multiprocessing --------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_multiprocessing_loses_nothing(tmp_path: Path, folder: Path, method: str) -> None:
    script = tmp_path / "pool.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from stack_composer import telemetry
            def work(i):
                with telemetry.span("worker", i=i):
                    telemetry.counter("pool.items").add(1)
                return i
            if __name__ == "__main__":
                context = multiprocessing.get_context({method!r})
                with telemetry.span("parent"):
                    with context.Pool(4, maxtasksperchild=5) as pool:
                        pool.map(work, range(60), chunksize=1)
                        pool.close()
                        pool.join()
            """
        )
    )
    program = start(folder, str(script))
    out, err = program.communicate(timeout=100)
    assert (program.returncode, out, err) == (0, "", "")
    spans = records.spans(folder)
    assert sorted(s["attrs"]["i"] for s in spans if s["name"] == "worker") == list(range(60))
    assert [s["name"] for s in spans].count("parent") == 1
    items = sum(
        int(point["asInt"])
        for metric in records.metrics(folder)
        if metric["name"] == "pool.items"
        for point in metric["sum"]["dataPoints"]
    )
    assert items == 60
    assert nothing_is_held(folder)


def test_a_child_that_outlives_its_killed_parent_holds_nothing_of_its(folder: Path) -> None:
    code = """
        import os, time, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from stack_composer import telemetry
        with telemetry.span("parent"): pass
        telemetry.flush()
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
        time.sleep(60)
    """
    program = start(folder, "-c", textwrap.dedent(code))
    assert program.stdout is not None
    assert program.stderr is not None
    child = int(program.stdout.readline())
    try:
        assert not nothing_is_held(folder)
        program.kill()
        program.wait()
        os.kill(child, 0)  # It lives.
        assert nothing_is_held(folder)
    finally:
        os.kill(child, signal.SIGKILL)
        program.stdout.close()
        program.stderr.close()


# --- stopped, and without a folder ------------------------------------------------


def test_a_stopped_writer_is_neither_purged_nor_adopted_and_goes_on(folder: Path) -> None:
    writer = start_writer(folder, bundle_bytes_max=10**6)
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(20)]
    writer.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    purged = ok_json("telemetry", "purge", "--all", "--yes", "--dir", folder)
    assert purged["in_use"] >= 1
    opened = open_folder(str(folder), create=True)
    recovery = Recovery(opened)
    while not recovery.step():
        pass
    opened.close()
    ok_json("telemetry", "doctor", "--repair", "--dir", folder)
    assert (recovery.failed, recovery.error) == (0, None)
    writer.send_signal(signal.SIGCONT)
    # What the pipe held while it was stopped, and then new ones.
    told += [int(writer.stdout.readline()) for _ in range(2_000)]
    writer.kill()
    writer.wait()
    writer.stdout.close()
    found = all_lines(folder)
    assert {spans_line(number, 2) for number in told} <= set(found)
    assert len(found) == len(set(found))
    assert nothing_is_held(folder)


def test_a_folder_that_is_removed_and_renamed_while_in_use_is_made_anew(folder: Path) -> None:
    code = f"""
        import os, shutil, sys, time
        from stack_composer import telemetry
        from stack_composer.telemetry.record import recorder
        folder = {str(folder)!r}
        telemetry.configure(folder, flush_s=0.01, bundle_bytes_max=20_000)
        def second(name):
            for n in range(300):
                with telemetry.span(name, n=n): pass
                if n % 50 == 0: time.sleep(0.01)
            telemetry.flush()
        for round in range(5):
            second("before")
            shutil.rmtree(folder, ignore_errors=True)
            second("removed")
            os.rename(folder, folder + str(round))
            second("renamed")
        telemetry.shutdown()
        print(recorder.dropped, recorder.faults)
    """
    program = start(folder, "-c", textwrap.dedent(code))
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    assert out == "{} {}\n"
    assert nothing_is_held(folder)
    # A writer sees at its next turn that the folder has moved; until then it goes along.
    last = [
        span["name"]
        for place in (folder, folder.with_name(folder.name + "4"))
        for span in records.spans(place)
    ]
    assert last.count("removed") == last.count("renamed") == 300
    assert "renamed" in [span["name"] for span in records.spans(folder)]


READ_ONLY = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
exec "$2" -c "$3"
"""


def test_a_home_that_is_read_only_costs_the_records_and_no_more(tmp_path: Path) -> None:
    """Mounted so, since permissions do not bind who runs as root."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urm", "true"], check=False).returncode:
        pytest.skip("unshare -Urm is not allowed here, so no home can be made read-only")
    code = """
        import json, time
        from stack_composer import telemetry
        from stack_composer.telemetry.record import recorder
        for n in range(100):
            with telemetry.span("lost"): pass
        telemetry.counter("c").add(1)
        telemetry.log("info", "lost")
        with telemetry.generation(project_id="p"): pass
        try:
            telemetry.flush()
        except telemetry.StoreError as error:
            told = [str(error), error.hint]
        dropped = {" ".join(key): n for key, n in recorder.dropped.items()}
        print(json.dumps([told, dropped, recorder.faults]))
    """
    home = tmp_path / "home"
    home.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    done = subprocess.run(
        [
            *(unshare, "-Urm", "sh", "-c", READ_ONLY, "sh"),
            *(str(home), sys.executable, textwrap.dedent(code)),
        ],
        env={**environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    told, dropped, faults = json.loads(done.stdout)
    assert "could not be written" in told[0]
    assert "doctor" in told[1]
    assert dropped["traces not_written"] == 101
    assert dropped["logs not_written"] == 1
    # The salt cannot be kept either; then ids group within this process only.
    assert set(faults) <= {"salt"}
    assert list(home.iterdir()) == []
