"""Whole programs: how they end, fork and fail, and what is on disk afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import records
from stack_composer.telemetry.store.reader import list_bundles, read_lines

pytestmark = pytest.mark.e2e
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the programs of a test record."""
    return tmp_path / "telemetry"


def program(folder: Path, source: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program that records into ``folder``; it has a minute."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def clean(done: subprocess.CompletedProcess[str]) -> str:
    """The program's output, once it ended well and said nothing on stderr."""
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def names(folder: Path) -> list[str]:
    return [span["name"] for span in records.spans(folder)]


def test_a_program_that_just_ends_loses_nothing(folder: Path) -> None:
    clean(
        program(
            folder,
            """
            from stack_composer import telemetry
            for i in range(30):
                with telemetry.span("step", i=i):
                    telemetry.metric("m", i)
            telemetry.counter("hits").add(2)
            telemetry.log("info", "done")
            """,
        )
    )
    assert [span["attrs"]["i"] for span in records.spans(folder)] == list(range(30))
    assert {metric["name"] for metric in records.metrics(folder)} == {"m", "hits"}
    assert len(records.logs(folder)) == 1
    assert folder.stat().st_mode & 0o777 == 0o700 or os.name == "nt"
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600 or os.name == "nt"


def test_daemon_threads_that_still_record_at_the_end_do_no_harm(folder: Path) -> None:
    clean(
        program(
            folder,
            """
            import threading, time
            from stack_composer import telemetry
            def work():
                while True:
                    with telemetry.span("busy"):
                        pass
            for _ in range(3):
                threading.Thread(target=work, daemon=True).start()
            time.sleep(0.3)
            """,
        )
    )
    assert "busy" in names(folder)


def test_what_flush_returned_for_survives_os_exit_and_kill(tmp_path: Path) -> None:
    for ending in ("os._exit(0)", "os.kill(os.getpid(), 9)"):
        folder = tmp_path / ending[3:6].strip("_.")
        done = program(
            folder,
            f"""
            import os
            from stack_composer import telemetry
            for i in range(100):
                with telemetry.span("kept", i=i):
                    pass
            print(telemetry.flush(), flush=True)
            {ending}
            """,
        )
        assert done.stderr == ""
        assert Path(done.stdout.strip()).parent == folder
        assert len(names(folder)) == 100


def test_sigterm_ends_the_program_as_ever_and_keeps_what_was_written(folder: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "import time\n"
                "from stack_composer import telemetry\n"
                "telemetry.configure(flush_s=0.05)\n"
                "with telemetry.span('before'): pass\n"
                "time.sleep(0.5); print('ready', flush=True)\n"
                "time.sleep(60)"
            ),
        ],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    process.stdout.close()
    assert process.wait(10) == -signal.SIGTERM or os.name == "nt"
    assert names(folder) == ["before"]


@needs_fork
def test_children_of_a_busy_parent_neither_hang_nor_repeat_its_records(folder: Path) -> None:
    out = clean(
        program(
            folder,
            """
            import os, threading, time, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from stack_composer import telemetry
            telemetry.configure(flush_s=0.01)
            stop = []
            def work():
                i = 0
                while not stop:
                    with telemetry.span("parent", text=f"unseen text {i} with a dot. and @"):
                        i += 1
            thread = threading.Thread(target=work)
            thread.start()
            time.sleep(0.1)
            slow = 0
            for n in range(30):
                begun = time.monotonic()
                child = os.fork()
                if child == 0:
                    with telemetry.span("child", n=n):
                        pass
                    telemetry.flush(5)
                    os._exit(0)
                _, status = os.waitpid(child, 0)
                assert status == 0, status
                slow += time.monotonic() - begun > 5
            stop.append(1)
            thread.join()
            print("slow", slow)
            """,
        )
    )
    assert out == "slow 0\n"
    spans = records.spans(folder)
    children = [span for span in spans if span["name"] == "child"]
    assert sorted(span["attrs"]["n"] for span in children) == list(range(30))
    assert len({span["resource"]["process.pid"] for span in children}) == 30
    assert len({span["spanId"] for span in spans}) == len(spans), "no record was written twice"


@needs_fork
def test_a_fork_inside_a_span_goes_on_below_it(folder: Path) -> None:
    clean(
        program(
            folder,
            """
            import os, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from stack_composer import telemetry
            with telemetry.span("parent") as span:
                telemetry.flush()
                trace = span.get_span_context().trace_id
                child = os.fork()
                if child == 0:
                    with telemetry.span("child"):
                        pass
                    telemetry.flush()
                    os._exit(0)
                os.waitpid(child, 0)
            """,
        )
    )
    got = {span["name"]: span for span in records.spans(folder)}
    assert got["child"]["traceId"] == got["parent"]["traceId"]
    assert got["child"]["parentSpanId"] == got["parent"]["spanId"]


def test_multiprocessing_by_spawn_writes_files_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "spawning.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing
            from stack_composer import telemetry
            def work(i):
                with telemetry.span("worker", i=i):
                    return i
            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(2) as pool:
                    pool.map(work, range(8))
                    pool.close()
                    pool.join()
            """
        )
    )
    folder = tmp_path / "telemetry"
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    clean(done)
    assert sorted(span["attrs"]["i"] for span in records.spans(folder)) == list(range(8))


@pytest.mark.parametrize(
    "place", ["a file", "a symlink", "read-only", "below a file", "no permission"]
)
def test_a_folder_that_cannot_be_used_never_reaches_the_application(
    tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "telemetry"
    if place == "a file":
        folder.write_text("mine")
    elif place == "a symlink":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif place == "below a file":
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file" / "telemetry"
    else:
        folder.mkdir(mode=0o500 if place == "read-only" else 0)
        if os.name == "nt" or os.geteuid() == 0:
            pytest.skip("permissions do not bind this user")
    out = clean(
        program(
            folder,
            """
            from stack_composer import telemetry
            for _ in range(10):
                with telemetry.span("lost"):
                    pass
            try:
                telemetry.flush()
            except telemetry.StoreError as error:
                print("told:", bool(str(error)), bool(error.hint))
            """,
        )
    )
    assert out == "told: True True\n"
    assert not list((tmp_path / "elsewhere").glob("*"))


def test_a_broken_configuration_is_no_exception_in_the_application(tmp_path: Path) -> None:
    config = tmp_path / "telemetry.toml"
    config.write_text("[telemetry\nenabled = maybe")
    clean(
        program(
            tmp_path / "telemetry",
            """
            from stack_composer import telemetry
            with telemetry.span("not recorded"):
                telemetry.metric("m", 1)
                telemetry.counter("c").add(1)
                telemetry.log("info", "x")
            """,
            STACK_COMPOSER_TELEMETRY_CONFIG=str(config),
        )
    )
    assert not (tmp_path / "telemetry").exists()


@pytest.mark.parametrize(
    "environ",
    [{"OTEL_SDK_DISABLED": "true"}, {"STACK_COMPOSER_GDPR": "1"}],
    ids=["OTEL_SDK_DISABLED", "gdpr"],
)
def test_switched_off_nothing_is_written(tmp_path: Path, environ: dict[str, str]) -> None:
    clean(
        program(
            tmp_path / "telemetry",
            """
            from stack_composer import telemetry
            with telemetry.span("x") as span:
                span.set_attribute("k", "v")
                telemetry.metric("m", 1)
                telemetry.counter("c").add(1)
                telemetry.log("info", "x")
            with telemetry.generation(project_id="p", brief="b"):
                pass
            telemetry.flush()
            """,
            **environ,
        )
    )
    assert not list((tmp_path / "telemetry").glob("*"))


def test_disabling_in_the_file_stops_new_writes_within_a_second_and_keeps_files(
    tmp_path: Path,
) -> None:
    config = tmp_path / "telemetry.toml"
    config.write_text("[telemetry]\nenabled = true\n")
    folder = tmp_path / "telemetry"
    out = clean(
        program(
            folder,
            f"""
            import time
            from pathlib import Path
            from stack_composer import telemetry
            config = Path({str(config)!r})
            def second(name):
                end = time.monotonic() + 1.2
                while time.monotonic() < end:
                    with telemetry.span(name):
                        time.sleep(0.01)
            second("first")
            config.write_text("[telemetry]\\nenabled = false\\n")
            second("turning off")
            size = sum(p.stat().st_size for p in Path({str(folder)!r}).iterdir())
            second("off")
            print(size == sum(p.stat().st_size for p in Path({str(folder)!r}).iterdir()))
            config.write_text("[telemetry]\\nenabled = ")
            second("broken file")
            config.write_text("[telemetry]\\nenabled = true\\n")
            second("turning on")
            second("on again")
            """,
            STACK_COMPOSER_TELEMETRY_CONFIG=str(config),
        )
    )
    assert out == "True\n"
    got = names(folder)
    assert "first" in got
    assert "off" not in got
    assert "broken file" not in got
    assert got.count("on again") > 50


def test_stdout_gets_guarded_lines(tmp_path: Path) -> None:
    out = clean(
        program(
            tmp_path / "telemetry",
            """
            from stack_composer import telemetry
            telemetry.configure(exporter="stdout")
            with telemetry.span("x", mail="someone@example.org"):
                pass
            """,
        )
    )
    assert out.count("\n") >= 1
    assert '"name":"x"' in out
    assert "someone" not in out
    assert not (tmp_path / "telemetry").exists()


def test_a_closed_stdout_does_no_harm(folder: Path) -> None:
    clean(
        program(
            folder,
            """
            import os
            from stack_composer import telemetry
            telemetry.configure(exporter="stdout")
            os.close(1)
            with telemetry.span("x"):
                pass
            """,
        )
    )


def test_what_does_not_fit_the_buffer_is_dropped_and_counted(folder: Path) -> None:
    clean(
        program(
            folder,
            """
            from stack_composer import telemetry
            telemetry.configure(buffered_records_max=100, flush_s=60)
            for i in range(1_000):
                with telemetry.span("many"):
                    pass
            """,
        )
    )
    written = len(names(folder))
    assert written >= 100
    assert records.health(folder, "dropped") == {("traces", "buffer_full"): 1_000 - written}


def test_a_writer_that_is_killed_damages_nothing_that_was_complete(folder: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            (
                "from stack_composer import telemetry\n"
                "telemetry.configure(flush_s=0.01)\n"
                "i = 0\n"
                "while True:\n"
                "    with telemetry.span('s', i=i): i += 1\n"
            ),
        ],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder)},
    )
    time.sleep(1.5)
    process.kill()
    process.wait(10)
    bundles = [b for b in list_bundles(str(folder)).bundles if b.signal == "traces"]
    lines = b"".join(line + b"\n" for bundle in bundles for line in read_lines(bundle))
    seen = [span["attrs"]["i"] for span in _spans_of(lines)]
    assert len(seen) > 1_000
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)


def _spans_of(data: bytes) -> list[dict[str, Any]]:
    import json

    found = []
    for line in data.splitlines():
        for scope in json.loads(line)["resourceSpans"][0]["scopeSpans"]:
            found += [{"attrs": records.attributes(span)} for span in scope["spans"]]
    return found


def test_nothing_is_written_at_import_in_a_read_only_home(folder: Path) -> None:
    clean(program(folder, "from stack_composer import telemetry", HOME="/nonexistent"))
    assert not folder.exists()


RULE = "[[redaction.rules]]\nname = '{}'\npattern = '{}'\n"
RECORDING = """
import time
from pathlib import Path
from stack_composer import telemetry
config = Path({config!r})
def second(name):
    end = time.monotonic() + {seconds}
    while time.monotonic() < end:
        with telemetry.span(name, note=f"at {{name}} ACME-123456, 203.0.113.7", project_id="p-1"):
            time.sleep(0.01)
"""


def notes(folder: Path, name: str) -> set[str]:
    found = [span["attrs"]["note"] for span in records.spans(folder) if span["name"] == name]
    assert len(found) > 20
    return set(found)


def test_rules_hold_within_a_second_and_a_broken_file_keeps_the_last_good_ones(
    tmp_path: Path,
) -> None:
    """As the file changes: no rule, a rule, a rule that is broken, a file that is, another rule."""
    config = tmp_path / "telemetry.toml"
    config.write_text("[telemetry]\n")
    folder = tmp_path / "telemetry"
    steps = "".join(
        f"second({name!r})\nconfig.write_text({text!r})\nsecond('in between')\n"
        for name, text in {
            "without": RULE.format("ticket", "ACME-[0-9]{6}"),
            "with": RULE.format("ticket", "ACME-(?=[0-9])"),
            "broken rule": "[[redaction.rules]\nname = ",
            "broken file": RULE.format("customer", "ACME-[0-9]{6}"),
        }.items()
    )
    source = RECORDING.format(config=str(config), seconds=1.2) + steps + "second('another')\n"
    clean(program(folder, source, STACK_COMPOSER_TELEMETRY_CONFIG=str(config)))
    assert notes(folder, "without") == {"at without ACME-123456, 203.0.113.7"}
    for name in ("with", "broken rule", "broken file"):
        assert notes(folder, name) == {f"at {name} [redacted:ticket], 203.0.113.7"}
    assert notes(folder, "another") == {"at another [redacted:customer], 203.0.113.7"}


def test_a_program_that_starts_with_a_broken_rule_is_strict(tmp_path: Path) -> None:
    """What the broken rule was for is unknown; so more is taken, and the others hold."""
    config = tmp_path / "telemetry.toml"
    config.write_text(RULE.format("broken", "(?=x)") + RULE.format("ticket", "ACME-[0-9]{6}"))
    folder = tmp_path / "telemetry"
    source = RECORDING.format(config=str(config), seconds=0.5) + "second('only')\n"
    clean(program(folder, source, STACK_COMPOSER_TELEMETRY_CONFIG=str(config)))
    assert notes(folder, "only") == {"at only [redacted:ticket], [redacted:ipv4]"}
    assert records.health(folder, "faults") == {("rules",): 1}


def test_a_new_salt_is_used_within_a_second(tmp_path: Path) -> None:
    config = tmp_path / "config" / "telemetry.toml"
    folder = tmp_path / "telemetry"
    source = RECORDING.format(config=str(config), seconds=1.2) + textwrap.dedent(
        """
        second("before")
        from stack_composer.telemetry.guard.hashing import rotate_salts
        print(len(rotate_salts(str(config.parent))))
        second("in between")
        second("after")
        """
    )
    environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
    config.parent.mkdir()
    config.write_text("[telemetry]\n")
    assert clean(program(folder, source, **environ)) == "1\n"

    def ids(name: str) -> set[str]:
        return {s["attrs"]["project_id"] for s in records.spans(folder) if s["name"] == name}

    (before,), (after,) = ids("before"), ids("after")
    assert before != after
    assert ids("in between") <= {before, after}
    # No bundle was begun but for the new salt: none because the first salt appeared.
    traces = [b for b in list_bundles(str(folder)).bundles if b.signal == "traces"]
    assert len({bundle.stem for bundle in traces}) == 2
