"""Whole programs on an encrypted store: forks, lost keys, a configuration that changes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cli_running import COMMAND
from encrypted_store import PLANTED, assert_no_plain_text, keys_in, lines_in, need_cipher
from stack_composer.telemetry.store import keys as key_module
from stack_composer.telemetry.store import reader
from stack_composer.telemetry.store.keys import Keys
from store_lines import names_in

need_cipher()
pytestmark = pytest.mark.e2e
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return keys_in(tmp_path)


def environment(folder: Path, keys: Keys) -> dict[str, str]:
    """Of a program whose configuration file lies beside the folder."""
    config = folder.parent / "telemetry.toml"
    if not config.exists():
        config.write_text('[store]\nencryption = "sqlcipher"\n')
    return {
        **os.environ,
        "STACK_COMPOSER_TELEMETRY_DIR": str(folder),
        "STACK_COMPOSER_TELEMETRY_CONFIG": str(config),
        "STACK_COMPOSER_TELEMETRY_KEY_FILE": keys.key_file,
    }


def program(folder: Path, keys: Keys, source: str) -> str:
    """Run a program that records, and return its output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env=environment(folder, keys),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def spans_in(folder: Path, keys: Keys) -> int:
    return sum(line.count(b'"spanId"') for line in lines_in(folder, keys))


def test_a_program_that_just_ends_loses_nothing(folder: Path, keys: Keys) -> None:
    program(
        folder,
        keys,
        f"""
        from stack_composer import telemetry
        for i in range(30):
            with telemetry.span("{PLANTED}", i=i):
                telemetry.metric("m", i)
        telemetry.log("info", "done")
        """,
    )
    assert spans_in(folder, keys) == 30
    bundles = reader.list_bundles(str(folder), keys).bundles
    assert {bundle.signal for bundle in bundles} == {"traces", "metrics", "logs"}
    assert all(bundle.closed for bundle in bundles)
    assert_no_plain_text(folder)


@needs_fork
def test_forks_in_the_middle_of_writing_lose_nothing_and_double_nothing(
    folder: Path, keys: Keys
) -> None:
    """A thread records all the while, the main thread forks, each child records too."""
    told = program(
        folder,
        keys,
        """
        import os, threading, warnings
        from stack_composer import telemetry
        warnings.simplefilter("ignore")
        ending = threading.Event()
        made = [0]

        def record():
            while not ending.is_set():
                for _ in range(200):
                    with telemetry.span("parent"):
                        made[0] += 1
                ending.wait(0.001)

        thread = threading.Thread(target=record)
        thread.start()
        telemetry.flush()
        children = []
        for number in range(12):
            child = os.fork()
            if child == 0:
                for _ in range(50):
                    with telemetry.span("child"):
                        pass
                try:
                    telemetry.flush()
                except Exception:
                    os._exit(9)
                os._exit(0)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        ending.set()
        thread.join()
        telemetry.flush()
        print(made[0], sum(code == 0 for code in codes))
        """,
    )
    made, children = map(int, told.split())
    assert children == 12
    lines = lines_in(folder, keys)
    assert sum(line.count(b'"name":"parent"') for line in lines) == made
    assert sum(line.count(b'"name":"child"') for line in lines) == 12 * 50
    (database,) = [name for name in names_in(folder) if name.endswith(".sqlcipher")]
    assert database


@needs_fork
def test_a_pool_of_forked_workers_writes_to_one_database(folder: Path, keys: Keys) -> None:
    program(
        folder,
        keys,
        """
        import multiprocessing, warnings
        from stack_composer import telemetry
        warnings.simplefilter("ignore")

        def work(number):
            with telemetry.span("work", number=number):
                return number

        if __name__ == "__main__":
            with telemetry.span("parent"):
                pass
            telemetry.flush()
            context = multiprocessing.get_context("fork")
            with context.Pool(4) as pool:
                pool.map(work, range(200))
                pool.close()
                pool.join()
        """,
    )
    assert spans_in(folder, keys) == 201
    assert len([name for name in names_in(folder) if name.endswith(".sqlcipher")]) == 1


def test_without_the_key_a_program_goes_on_and_counts_what_it_drops(
    folder: Path, keys: Keys
) -> None:
    program(folder, keys, 'from stack_composer import telemetry\ntelemetry.log("info", "hello")\n')
    key_file = Path(keys.key_file)
    key_file.rename(key_file.with_name("elsewhere"))
    told = program(
        folder,
        keys,
        """
        from stack_composer import telemetry
        from stack_composer.telemetry.errors import StoreError
        from stack_composer.telemetry.record import recorder
        for i in range(30):
            with telemetry.span("step"):
                pass
        try:
            telemetry.flush()
        except StoreError as error:
            print(error, "|", error.hint)
        print(recorder.dropped["traces", "not_written"])
        """,
    )
    said, count = told.splitlines()
    assert "records could not be written" in said
    assert "doctor" in said
    assert count == "30"
    assert not key_file.exists(), "no second key for a database that has one"


def test_a_program_follows_the_configuration_into_the_database_and_out_again(
    folder: Path, keys: Keys
) -> None:
    config = folder.parent / "telemetry.toml"
    config.write_text("")
    running = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import sys
                from stack_composer import telemetry
                number = 0
                for line in sys.stdin:
                    with telemetry.span("step", number=number):
                        number += 1
                    telemetry.flush()
                    print(number, flush=True)
                """
            ),
        ],
        env=environment(folder, keys),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdin is not None
    assert running.stdout is not None

    def step() -> None:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write("\n")
        running.stdin.flush()
        running.stdout.readline()

    def has(pattern: str) -> bool:
        return bool(list(folder.glob(pattern)))

    def until(pattern: str, *, is_there: bool) -> int:
        for count in range(1, 200):
            step()
            if has(pattern) is is_there:
                return count
            time.sleep(0.05)
        raise AssertionError(f"{pattern} never {'came' if is_there else 'went'}")

    steps = until("*.jsonl", is_there=True)
    store = [*COMMAND, "telemetry", "store"]
    subprocess.run(
        [*store, "encrypt", "--yes"],
        env=environment(folder, keys),
        check=True,
        capture_output=True,
    )
    steps += until("*.jsonl*", is_there=False)
    assert spans_in(folder, keys) == steps
    subprocess.run(
        [*store, "decrypt", "--yes"],
        env=environment(folder, keys),
        check=True,
        capture_output=True,
    )
    steps += until("*.sqlcipher", is_there=False)
    step()
    running.stdin.close()
    assert running.wait() == 0
    running.stdout.close()
    assert spans_in(folder, keys) == steps + 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_no_file_is_opened_but_those_of_the_folder(folder: Path, keys: Keys) -> None:
    """A temporary file of SQLite's would have no name any more, and stand in /proc."""
    working = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import os, sys
                from pathlib import Path
                from encrypted_store import planted_line, write
                from stack_composer.telemetry.store import convert, reader, retention
                from stack_composer.telemetry.store.keys import Keys
                directory, keys = Path(sys.argv[1]), Keys(sys.argv[2])
                sys.stdout.write("begun\\n")
                sys.stdout.flush()
                write(directory, keys, [planted_line(n, 300) for n in range(60)],
                      bundle_bytes_max=2_000_000)
                for kind in ("rekey", "decrypt", "encrypt"):
                    plan = getattr(convert, "plan_" + kind)(str(directory), keys)
                    list(convert.Conversion(plan, keys).run())
                bundles = reader.list_bundles(str(directory), keys).bundles
                retention.apply_purge(
                    retention.plan_purge(bundles, now_ns=0, keep_days=0, kept_bytes_max=0)
                )
                """
            ),
            str(folder),
            keys.key_file,
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        # pytest's own is a temporary file.
        stderr=subprocess.DEVNULL,
    )
    assert working.stdout is not None
    working.stdout.readline()
    seen: set[str] = set()
    looks = 0
    while working.poll() is None:
        looks += 1
        for entry in Path(f"/proc/{working.pid}/fd").glob("*"):
            try:
                seen.add(str(entry.readlink()))
            except OSError:
                continue
    working.stdout.close()
    assert working.returncode == 0
    assert looks > 10
    files = {place for place in seen if place.startswith("/") and "/dev/" not in place}
    allowed = (str(folder), keys.key_file)
    stray = {place for place in files if not place.startswith(allowed)}
    assert {place for place in stray if not place.endswith((".py", ".pyc", ".so", ".zip"))} == set()
    assert any(place.endswith(".sqlcipher") for place in files)


def test_the_keys_of_this_process_are_its_own() -> None:
    """No test before this one has left keys behind for those after it."""
    assert "" not in key_module._shared or key_module._shared[""].key_file == ""
