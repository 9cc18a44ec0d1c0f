"""Under GDPR what was recorded goes after each generation, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_running import COMMAND, ok, run, write, write_sealed
from stack_composer import telemetry
from stack_composer.telemetry import gdpr
from stack_composer.telemetry.store import names, reader
from store_lines import spans_line

RECORDING = """
from stack_composer import telemetry
with telemetry.span("a"): pass
"""
GENERATING = """
import os, signal, sys
from stack_composer import telemetry
with telemetry.generation(project_id="p"):
    print("in it", flush=True)
    {inside}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "t"
    telemetry.shutdown()


def record(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RECORDING], env=environ(folder), check=True, capture_output=True
    )
    assert not done.stderr
    assert bundles(folder)


def environ(folder: Path, *, gdpr: bool = False) -> dict[str, str]:
    found = {**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder)}
    return {**found, "STACK_COMPOSER_GDPR": "1"} if gdpr else found


def bundles(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in names.SINGLES]


def is_empty(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {names.PURGE_STAMP}


def generate(folder: Path, inside: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", GENERATING.format(inside=inside)],
        env=environ(folder, gdpr=True),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("inside", "code"),
    [("pass", 0), ("raise ValueError", 1), ("sys.exit(3)", 3)],
    ids=["ends", "fails", "exits"],
)
def test_a_generation_purges_when_it_is_over(folder: Path, inside: str, code: int) -> None:
    record(folder)
    with generate(folder, inside) as program:
        program.communicate(timeout=60)
    assert program.returncode == code
    assert is_empty(folder)


def test_sealed_bundles_sidecars_and_leftovers_go_too(folder: Path) -> None:
    write_sealed(folder, ("traces", spans_line(1)))
    write(folder, ("traces", spans_line(2)))
    stem = names.make_stem(1, 2, b"abcd")
    (folder / (names.sealed_name(stem, "traces") + ".tmp")).write_bytes(b"half")
    (folder / "a-note-of-mine.txt").write_text("stays")
    telemetry.configure(folder, gdpr=True)
    with telemetry.generation():
        assert len(list(folder.iterdir())) > 2
    assert [path.name for path in folder.iterdir()] == ["a-note-of-mine.txt"]


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_the_next_start_pays_for_a_killed_generation(folder: Path) -> None:
    record(folder)
    with generate(folder, "os.kill(os.getpid(), signal.SIGKILL)") as program:
        program.communicate(timeout=60)
    assert program.returncode == -signal.SIGKILL
    assert gdpr.is_owed(str(folder))
    found = json.loads(run("telemetry", "doctor", "--json", "--dir", folder).stdout)
    assert [one["check"] for one in found["findings"]] == ["gdpr"]
    before = bundles(folder)
    assert before
    done = subprocess.run(
        [sys.executable, "-c", RECORDING], env=environ(folder), check=True, capture_output=True
    )
    assert not done.stderr
    assert not gdpr.is_owed(str(folder))
    assert not set(before) & set(bundles(folder))


@pytest.mark.skipif(os.name == "nt", reason="locks are not shared there")
def test_a_start_leaves_a_living_generation_its_mark(folder: Path) -> None:
    record(folder)
    with generate(folder, "sys.stdin.read()") as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert gdpr.is_owed(str(folder))
        assert not gdpr.pay_if_left(str(folder))
        assert bundles(folder)
        program.kill()
        program.wait(60)
    assert gdpr.pay_if_left(str(folder))
    assert is_empty(folder)


@pytest.mark.skipif(os.name == "nt", reason="locks are not shared there")
def test_of_two_generations_the_last_one_takes_the_mark_away(folder: Path) -> None:
    record(folder)
    first, second = gdpr.owe(str(folder)), gdpr.owe(str(folder))
    assert first is not None
    assert second is not None
    first.pay()
    assert not bundles(folder)
    assert gdpr.is_owed(str(folder))
    record(folder)
    second.pay()
    assert is_empty(folder)


def test_generations_of_many_threads_all_purge(folder: Path) -> None:
    record(folder)
    telemetry.configure(folder, gdpr=True)

    def generate_some() -> None:
        for _ in range(20):
            with telemetry.generation():
                pass

    threads = [threading.Thread(target=generate_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert is_empty(folder)
    assert not descriptors_of(names.GDPR_PENDING)


def descriptors_of(name: str) -> list[str]:
    try:
        found = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    except OSError:
        return []
    return [path for path in found if name in path]


def test_a_decorated_function_purges_after_each_call(folder: Path) -> None:
    telemetry.configure(folder)

    @telemetry.generation(project_id="p")
    def plan() -> None:
        """Do nothing."""

    plan()
    telemetry.flush()
    assert bundles(folder)
    telemetry.configure(folder, gdpr=True)
    plan()
    assert is_empty(folder)
    telemetry.configure(folder)
    plan()
    telemetry.flush()
    assert bundles(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_leaves_the_mark_to_its_parent(folder: Path) -> None:
    record(folder)
    telemetry.configure(folder, gdpr=True)
    with telemetry.generation() as generation:
        child = os.fork()
        if child == 0:
            generation.__exit__(None, None, None)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert gdpr.is_owed(str(folder))
    assert is_empty(folder)


def test_no_folder_owes_nothing_and_is_not_made(folder: Path) -> None:
    telemetry.configure(folder, gdpr=True)
    with telemetry.generation():
        pass
    assert not folder.exists()


def test_what_another_process_writes_stays_until_it_is_closed(folder: Path) -> None:
    script = RECORDING + "telemetry.flush()\nprint('now', flush=True)\nimport sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environ(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        telemetry.configure(folder, gdpr=True)
        with telemetry.generation():
            pass
        assert bundles(folder)
        writer.communicate(timeout=60)
    with telemetry.generation():
        pass
    assert is_empty(folder)


def test_run_purges_when_the_program_has_ended(folder: Path) -> None:
    record(folder)
    done = run("--gdpr", "run", "--", sys.executable, "-c", "import sys; sys.exit(7)",
               environ=environ(folder))  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    assert is_empty(folder)


def test_run_purges_what_a_program_recorded_all_the_same(folder: Path) -> None:
    """A program may overrule the environment; its traces go nevertheless."""
    script = f"from stack_composer import telemetry\ntelemetry.configure(gdpr=False){RECORDING}"
    ok("--gdpr", "run", sys.executable, "-c", script, environ=environ(folder))
    assert is_empty(folder)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_run_purges_when_it_is_told_to_end(folder: Path, sent: signal.Signals) -> None:
    record(folder)
    # Ctrl-C reaches the whole group of a terminal: so it does here.
    script = (
        "import signal, time; signal.signal(2, signal.SIG_DFL); print('up', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [*COMMAND, "--gdpr", "run", sys.executable, "-c", script],
        env=environ(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        program.stdout.readline()
        send = os.kill if sent == signal.SIGTERM else os.killpg
        send(program.pid, sent)
        _, said = program.communicate(timeout=60)
    assert (program.returncode, said) == (-sent, b"")
    assert is_empty(folder)


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_the_next_start_pays_for_a_run_that_was_killed(folder: Path) -> None:
    record(folder)
    with subprocess.Popen(
        [*COMMAND, "--gdpr", "run", sys.executable, "-c",
         "import os; print(os.getpid(), flush=True); input()"],
        env=environ(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        program.stdout.readline()
        program.kill()
        program.communicate(timeout=60)
    assert gdpr.is_owed(str(folder))
    record(folder)
    until = time.monotonic() + 30
    while gdpr.is_owed(str(folder)) and time.monotonic() < until:
        time.sleep(0.05)
        record(folder)
    assert not gdpr.is_owed(str(folder))


def test_without_a_mark_a_generation_purges_all_the_same(folder: Path) -> None:
    """Something else has the mark's name, or the disk is full: what is owed is paid."""
    record(folder)
    (folder / names.GDPR_PENDING).mkdir()
    telemetry.configure(folder, gdpr=True)
    with telemetry.generation():
        pass
    assert not bundles(folder)


def test_a_generation_that_is_entered_twice_is_paid_for_twice(folder: Path) -> None:
    record(folder)
    telemetry.configure(folder, gdpr=True)
    generation = telemetry.generation()
    with generation:
        with generation:
            pass
        assert gdpr.is_owed(str(folder))
        record(folder)
    assert is_empty(folder)
    assert not descriptors_of(names.GDPR_PENDING)


def test_a_mark_is_no_foreign_file(folder: Path) -> None:
    record(folder)
    mark = gdpr.owe(str(folder))
    assert mark is not None
    assert (folder / names.GDPR_PENDING).stat().st_mode & 0o777 in (0o600, 0o666)
    assert reader.list_bundles(str(folder)).foreign == []
    mark.pay()


def test_a_folder_that_refuses_owes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever cannot be deleted now is owed on, and the application does not notice."""
    record(folder)
    telemetry.configure(folder, gdpr=True)
    with monkeypatch.context() as patched:
        patched.setattr("os.unlink", refuse)
        with telemetry.generation():
            pass
    assert gdpr.is_owed(str(folder))
    assert gdpr.pay_if_left(str(folder))
    assert is_empty(folder)


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "refused")
