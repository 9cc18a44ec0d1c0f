"""The program as a whole: dispatch, errors, exit codes, streams that misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from cli_running import AMBIENT, COMMAND, ok, ok_json, refusal, run, span, spans_line, write
from stack_composer.telemetry.cli.commands import Command, Group, walk
from stack_composer.telemetry.cli.parser import build_parser

LEAVES = [
    path
    for path, node in walk()
    if isinstance(node, Command) and path not in {p for p, n in walk() if isinstance(n, Group)}
]
GROUPS = [path for path, node in walk() if isinstance(node, Group)]
NOW = 1_763_838_843 * 10**9


@pytest.fixture(autouse=True)
def buffered_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """As users have them: what is printed last meets its stream at the very end."""
    for name in AMBIENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    write(place, *[("traces", spans_line(span("a", start_ns=NOW)))] * 1000)
    return place


@pytest.mark.parametrize("path", [*LEAVES, *GROUPS], ids=" ".join)
def test_each_command_has_help(path: tuple[str, ...]) -> None:
    said = ok(*path, "--help")
    assert said.startswith("usage: stack-composer")
    assert "--help" in said


def test_each_command_takes_json_but_run() -> None:
    for path, node in walk():
        if isinstance(node, Command):
            parser, _ = build_parser(path, node)
            takes = "--json" in parser._option_string_actions
            assert takes == (path != ("run",)), path


def test_without_a_command_the_help_is_shown() -> None:
    assert ok() == ok("--help")
    assert ok("telemetry") == ok("telemetry", "--help")


def test_version() -> None:
    assert ok("--version").startswith("stack-composer ")


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (("stat",), "unknown command 'stat'", "did you mean 'stack-composer stats'?"),
        (("telemetry", "prge"), "unknown command 'prge'", "stack-composer telemetry purge"),
        (("--gpdr",), "unknown option '--gpdr'", "--gdpr"),
        (("zzz",), "unknown command 'zzz'", "stack-composer --help"),
        (("telemetry", "--gdpr", "status"), "--gdpr stands before the command", "--gdpr telemetry"),
        (("stats", "--sinc", "1h"), "unrecognized arguments: --sinc", "stats --help"),
        (("stats", "--since"), "argument --since: expected one argument", "stats --help"),
        (("stats", "--since", "yesterdayish"), "not a time: 'yesterdayish'", "24h"),
        (("stats", "--since", "1h", "--until", "2h"), "--since is not before --until", "exchange"),
        (("stats", "--dir", ""), "--dir needs a path", "--dir"),
        (("telemetry", "show", "--as", "xml"), "invalid choice: 'xml'", "show --help"),
        (("telemetry", "show", "--limit", "-1"), "--limit", "show --help"),
        (("telemetry", "show", "--limit", "x"), "not a whole number", "show --help"),
        (("telemetry", "show", "--trace", "xyz"), "--trace is not a trace id", "hexadecimal"),
        (("telemetry", "purge", "--older-than", "old"), "not a length of time: 'old'", "7d"),
        (("telemetry", "purge", "--all", "--older-than", "1d"), "not allowed with", "purge --help"),
        (("telemetry", "doctor", "--dry-run"), "--dry-run goes with --repair", "doctor"),
        (("completion",), "required: shell", "completion --help"),
        (("run",), "run needs a program", "stack-composer --gdpr run"),
        (("\x1b[31mred",), "unknown command '\\x1b[31mred'", "--help"),
    ],
)
def test_bad_input_gets_two_lines_and_exit_code_2(
    arguments: tuple[str, ...], what: str, hint: str
) -> None:
    found = refusal(*arguments)
    assert what in found[0]
    assert hint in found[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("stats", "/nowhere/at/all.jsonl"),
        ("telemetry", "show", "/nowhere/at/all.jsonl"),
        ("telemetry", "guard", "test", "/nowhere/at/all.jsonl"),
        ("telemetry", "config", "check", "/nowhere/at/all.toml"),
        ("stats", "/"),
    ],
)
def test_what_the_world_refuses_gets_two_lines_and_exit_code_1(arguments: tuple[str, ...]) -> None:
    what, _ = refusal(*arguments, code=1)
    assert arguments[-1] in what


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs symbolic links")
@pytest.mark.parametrize("command", ["stats", "status", "show", "tail", "purge"])
def test_a_link_in_the_folders_place_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    what, hint = refusal("telemetry", command, "--dir", tmp_path / "link", code=1)
    assert "symbolic link" in what
    assert "STACK_COMPOSER_TELEMETRY_DIR" in hint


def test_a_bug_of_ours_gets_two_lines_that_quote_nothing(tmp_path: Path) -> None:
    """A stand-in program breaks a command, as a bug would."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        textwrap.dedent(
            """
            import sys
            from stack_composer.telemetry.cli import main, status
            def run(args):
                raise KeyError("recorded " + "content")
            status.run = run
            sys.exit(main.main(["telemetry", "status"]))
            """
        )
    )
    what, hint = refusal(program=[sys.executable, str(broken)], code=1)
    assert what == "an internal error, KeyError at broken.py:5"
    assert "STACK_COMPOSER_DEBUG=1" in hint
    said = run(program=[sys.executable, str(broken)], environ={"STACK_COMPOSER_DEBUG": "1"}).stderr
    assert said.startswith("Traceback")


def test_a_reader_that_leaves_early_is_no_error(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "telemetry", "show", "--as", "records", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 0


@pytest.mark.parametrize("command", ["--help", "telemetry status", "telemetry config show --json"])
def test_a_reader_that_never_was_is_no_error_either(command: str) -> None:
    """The little that is printed meets the closed pipe only at the very end."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *command.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
def test_a_file_that_may_not_grow_is_an_error(tmp_path: Path) -> None:
    limited = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0));"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    with (tmp_path / "out").open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", limited, *COMMAND[1:], "telemetry", "status"],
            stdout=file,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("stack-composer: File too large\n  hint: ")
    assert done.stderr.decode().count("\n") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [("--help",), ("telemetry", "show", "--as", "records")])
def test_a_full_disk_behind_the_output_is_an_error(command: tuple[str, ...], folder: Path) -> None:
    arguments = [*command, *(("--dir", str(folder)) if command[0] != "--help" else ())]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, check=False, timeout=30
        )
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 2
    assert b"No space left" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell to close a stream")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("command", ["stats", "telemetry show --as records", "zzz"])
def test_closed_streams_cause_no_crash(closed: str, command: str, folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *command.split()],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder)},
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == (2 if command == "zzz" else 0)
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_every_encoding_of_the_terminal_will_do(encoding: str, tmp_path: Path) -> None:
    line = json.loads(spans_line(span("名前 naïve ☃", start_ns=NOW)))
    write(tmp_path / "t", ("traces", json.dumps(line, ensure_ascii=False).encode() + b"\n"))
    environ = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for command in (("stats", "--since", "@1"), ("telemetry", "show"), ("telemetry", "tail")):
        done = run(*command, "--dir", tmp_path / "t", environ=environ)
        assert (done.returncode, done.stderr) == (0, "")
        assert ("☃" if encoding == "utf-8" else "\\u2603") in done.stdout
    # Data is UTF-8 whatever the terminal is: a pipe's other end reads JSON.
    assert "名前 naïve ☃" in ok(
        "telemetry", "show", "--as", "otlp", "--dir", tmp_path / "t", environ=environ
    )


def test_nothing_recorded_reaches_the_terminal_raw(tmp_path: Path) -> None:
    """Escape sequences in names, values, labels and messages are shown, not obeyed."""
    evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\x9b31m"
    write(
        tmp_path / "t",
        ("traces", spans_line(span(evil, start_ns=NOW, error=True, attributes={evil: evil}))),
    )
    for command in (
        ("stats", "--since", "@1"),
        ("stats", "--since", "@1", "--json"),
        ("telemetry", "show"),
        ("telemetry", "show", "--as", "records"),
        ("telemetry", "show", "--as", "otlp"),
        ("telemetry", "tail"),
        ("telemetry", "tail", "--json"),
    ):
        said = ok(*command, "--dir", tmp_path / "t")
        assert all(line.isprintable() for line in said.split("\n")), command
        assert "owned" in said


def test_unbuffered_streams_get_all_of_a_long_line(tmp_path: Path) -> None:
    name = "n" * 3_000_000
    write(tmp_path / "t", ("traces", spans_line(span(name, start_ns=NOW))))
    arguments = ("telemetry", "show", "--as", "records", "--dir", tmp_path / "t")
    assert name in ok(*arguments, environ={"PYTHONUNBUFFERED": "1"})


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed there")
def test_names_of_files_reach_no_terminal_raw_either(tmp_path: Path) -> None:
    place = tmp_path / "a\x1b[31m\nb"
    write(place, ("traces", spans_line(span("a", start_ns=NOW))))
    for command in ("stats", "status", "doctor", "tail"):
        said = ok("telemetry", command, "--dir", place)
        assert all(line.isprintable() for line in said.split("\n"))
    what, _ = refusal("stats", tmp_path / "c\x1b[31m", code=1)
    assert "c\\x1b[31m" in what


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_ends_quietly_with_130(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "telemetry", "tail", "-f", "-n", "1", "--dir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        try:
            assert b"span    a" in child.stdout.readline()
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=30)
        finally:
            child.kill()
    assert (child.returncode, said) == (130, b"")


def test_gdpr_holds_for_this_program_and_those_it_runs() -> None:
    found = ok_json("--gdpr", "telemetry", "status")
    assert found["recording"] is False
    assert "gdpr" in found["reason"]
    assert ok_json("telemetry", "status")["recording"] is True
    child = "import os; print(os.environ.get('STACK_COMPOSER_GDPR'))"
    assert ok("--gdpr", "run", sys.executable, "-c", child) == "1\n"
    assert ok("run", "--", sys.executable, "-c", child) == "None\n"


def test_a_program_under_gdpr_records_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    child = "from stack_composer import telemetry\nwith telemetry.span('a'): pass"
    environ = {"STACK_COMPOSER_TELEMETRY_DIR": str(folder)}
    ok("--gdpr", "run", sys.executable, "-c", child, environ=environ)
    assert not folder.exists() or not list(folder.iterdir())
    ok("run", sys.executable, "-c", child, environ=environ)
    assert list(folder.iterdir())


def test_run_gives_back_what_the_program_says() -> None:
    child = "import sys; print(sys.argv[1:]); sys.exit(7)"
    done = run("run", sys.executable, "-c", child, "--json", "-x")
    assert (done.returncode, done.stdout) == (7, "['--json', '-x']\n")
    assert "no-such-program-here" in refusal("run", "no-such-program-here", code=127)[0]
    assert refusal("run", os.devnull, code=1)


@pytest.mark.parametrize("columns", ["20", "60", "100", "nonsense", "0"])
def test_tables_fit_the_terminal(columns: str, tmp_path: Path) -> None:
    name = "a.very.long.name." * 10 + "end"
    write(
        tmp_path / "t",
        ("traces", spans_line(span(name, start_ns=NOW, attributes={"note": "x" * 500}))),
    )
    width = max(int(columns), 40) if columns in ("20", "60") else 100
    environ = {"COLUMNS": columns}
    said = ok("stats", "--since", "@1", "--dir", tmp_path / "t", environ=environ)
    lines = said.splitlines()
    at = next(place for place, line in enumerate(lines) if "p95" in line)
    rows = lines[at : at + 2]
    # 12 cells are the least that a name gets, and the numbers take 48 here.
    assert len({len(row) for row in rows}) == 1
    assert len(rows[0]) <= max(width, 62)
    assert "end" in rows[1]
    shown: Any = ok("telemetry", "show", "--dir", tmp_path / "t", environ=environ)
    assert max(map(len, shown.splitlines())) <= width
