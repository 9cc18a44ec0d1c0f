"""``purge``: the plan that is shown is the one that is applied, and living bundles stay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_running import COMMAND, HOUR_NS, ok, ok_json, refusal, span, spans_line, write
from stack_composer.telemetry.cli import purge
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, names_in

DAY_NS = 24 * HOUR_NS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bundles of 40 days, 31 days, 2 days and 1 hour, all closed."""
    place = tmp_path / "telemetry"
    now_ns = time.time_ns()
    for age_ns in (40 * DAY_NS, 31 * DAY_NS, 2 * DAY_NS, HOUR_NS):
        line = spans_line(span("a", start_ns=now_ns - age_ns))
        write(place, ("traces", line), created_ns=now_ns - age_ns)
    return place


@pytest.mark.parametrize(
    ("options", "deleted"),
    [
        ((), 2),
        (("--older-than", "30d"), 2),
        (("--older-than", "35d"), 1),
        (("--older-than", "90m"), 3),
        (("--older-than", "41d"), 0),
        (("--older-than", "0s"), 4),
        (("--all",), 4),
    ],
)
def test_the_plan_is_what_is_done(options: tuple[str, ...], deleted: int, folder: Path) -> None:
    before = names_in(folder)
    plan = ok_json("telemetry", "purge", *options, "--dry-run", "--dir", folder)
    assert names_in(folder) == before
    assert (plan["dry_run"], plan["deleted"], len(plan["delete"])) == (True, 0, deleted)
    assert [os.path.basename(bundle["path"]) for bundle in plan["delete"]] == before[:deleted]
    size = sum((folder / name).stat().st_size for name in before[:deleted])
    done = ok_json("telemetry", "purge", *options, "--yes", "--dir", folder)
    assert set(done) == set(purge.JSON_KEYS)
    assert done["delete"] == plan["delete"]
    assert (done["deleted"], done["deleted_bytes"], done["kept"]) == (deleted, size, 4 - deleted)
    assert names_in(folder) == before[deleted:]


def test_the_retention_settings_are_the_default(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "telemetry.toml"
    config.write_text("[telemetry]\nlocal_retention_days = 1\n")
    environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
    plan = ok_json("telemetry", "purge", "--dry-run", "--dir", folder, environ=environ)
    assert len(plan["delete"]) == 3


def test_without_a_terminal_nothing_is_deleted_unless_told(folder: Path) -> None:
    before = names_in(folder)
    done = subprocess.run(
        [*COMMAND, "telemetry", "purge", "--dir", str(folder)],
        input=b"y\n",
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert b"2 bundles" in done.stdout
    assert b"hint: add --yes" in done.stderr
    assert names_in(folder) == before
    refusal("telemetry", "purge", "--json", "--dir", folder, stdin="y\n")
    assert names_in(folder) == before


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("answer", "code", "left"), [(b"y\n", 0, 2), (b"n\n", 1, 4), (b"\n", 1, 4), (b"\x04", 1, 4)]
)
def test_on_a_terminal_it_asks(answer: bytes, code: int, left: int, folder: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "telemetry", "purge", "--dir", str(folder)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(ours, 1000)
        assert len(names_in(folder)) == 4
        os.write(ours, answer)
        assert child.wait(30) == code
    os.close(ours)
    assert b"2 bundles" in said
    assert len(names_in(folder)) == left


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_json_is_for_programs_and_asks_nobody(folder: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    os.write(ours, b"y\n")
    arguments = [*COMMAND, "telemetry", "purge", "--json", "--dir", str(folder)]
    done = subprocess.run(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, check=False, timeout=30
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2
    assert len(names_in(folder)) == 4


def test_a_bundle_being_written_stays_whatever_is_asked(folder: Path) -> None:
    writer = BundleWriter(str(folder))
    append(writer, spans_line(span("alive", start_ns=1)))
    done = ok_json("telemetry", "purge", "--all", "--yes", "--dir", folder)
    assert (done["deleted"], done["in_use"], done["kept"]) == (4, 1, 1)
    (left,) = names_in(folder)
    assert f"-{os.getpid()}-" in left
    assert "1 bundle being written" in ok("telemetry", "purge", "--all", "--dir", folder)
    writer.close()


def test_nothing_to_delete_is_success_and_says_what_would_be(tmp_path: Path) -> None:
    write(tmp_path / "t", ("traces", spans_line(span("a", start_ns=1))))
    said = ok("telemetry", "purge", "--dir", tmp_path / "t")
    assert "nothing to delete" in said
    assert "'purge --all' would delete 1 bundle" in said
    assert "nothing to delete" in ok("telemetry", "purge", "--dir", tmp_path / "nowhere")


def test_foreign_files_are_never_deleted(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "x.traces.jsonl").write_text("mine")
    ok("telemetry", "purge", "--all", "--yes", "--dir", folder)
    assert names_in(folder) == ["notes.txt", "x.traces.jsonl"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may delete everywhere"
)
def test_a_folder_that_cannot_be_written_is_an_error(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        what, _ = refusal("telemetry", "purge", "--all", "--yes", "--json", "--dir", folder, code=1)
        assert "cannot delete" in what
    finally:
        folder.chmod(0o700)


def test_long_plans_are_cut_and_counted(tmp_path: Path) -> None:
    for _ in range(15):
        write(tmp_path / "t", ("traces", spans_line(span("a", start_ns=1))))
    said = ok("telemetry", "purge", "--all", "--dry-run", "--dir", tmp_path / "t")
    assert said.count(".traces.jsonl") == 10
    assert "and 5 newer" in said
    assert sys.platform == "win32" or "dry run" in said
