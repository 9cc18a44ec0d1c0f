"""``purge``: the plan that is shown is the one that is applied, and living bundles stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_running import COMMAND, HOUR_NS, ok, ok_json, refusal, run, span, spans_line, write
from stack_composer.telemetry.cli import purge
from stack_composer.telemetry.store.writer import BundleWriter
from stack_composer.telemetry.store.zstd import compress_frame
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


# -- what is left -----------------------------------------------------------------------


def purge_and_verify(folder: Path, *, code: int = 0) -> list[tuple[str, str]]:
    done = run("telemetry", "purge", "--older-than", "30d", "--yes", "--verify", "--json",
               "--dir", folder)  # fmt: skip
    assert done.returncode == code, done.stderr
    left = json.loads(done.stdout)["left"]
    return [(os.path.relpath(one["path"], folder), one["why"]) for one in left]


def test_a_purge_proves_that_nothing_is_left(folder: Path) -> None:
    assert purge_and_verify(folder) == []
    said = ok("telemetry", "purge", "--all", "--yes", "--verify", "--dir", folder)
    assert said.endswith("verified: nothing of it is left in the folder\n")
    assert ok_json("telemetry", "purge", "--all", "--yes", "--dir", folder)["left"] is None


@pytest.mark.parametrize("form", ["copy", "sealed copy", "database", "below", "temporary"])
def test_whatever_form_a_rest_has_it_is_found(folder: Path, form: str) -> None:
    oldest = folder / names_in(folder)[0]
    content = oldest.read_bytes()
    young = names_in(folder)[-1].removesuffix(".traces.jsonl")
    other = f"{young[:-8]}0badcafe.traces.jsonl"
    if form == "copy":
        name = other
        (folder / name).write_bytes(content)
    elif form == "sealed copy":
        name = f"{other}.zst"
        (folder / name).write_bytes(compress_frame(content))
    elif form == "below":
        (folder / "quarantine").mkdir()
        name = f"quarantine/{oldest.name}"
        (folder / name).write_bytes(b"cut")
    elif form == "temporary":
        name = f"{oldest.name.removesuffix('.jsonl')}.sketch.json.tmp.bak"
        (folder / name).write_bytes(b"half")
    else:
        name = "some.db-wal"
        (folder / name).write_bytes(bytes(5000) + content[10:] + bytes(5000))
    left = purge_and_verify(folder, code=1)
    assert [path for path, _ in left] == [name]


def test_what_a_purge_that_died_has_left_goes_too(folder: Path) -> None:
    """It had deleted the bundle, and not yet what was half-made of it."""
    oldest = folder / names_in(folder)[0]
    rest = oldest.with_name(oldest.name.removesuffix(".jsonl") + ".sketch.json.tmp")
    rest.write_bytes(b"half")
    oldest.unlink()
    assert purge_and_verify(folder) == []
    assert not rest.exists()


def test_what_is_left_quotes_nothing(folder: Path) -> None:
    content = (folder / names_in(folder)[0]).read_bytes()
    (folder / "notes.txt").write_bytes(content)
    done = run("telemetry", "purge", "--all", "--yes", "--verify", "--dir", folder)
    assert done.returncode == 1
    assert "notes.txt: ids or times that stood in a purged line" in done.stdout
    assert json.loads(content)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["spanId"] not in (
        done.stdout + done.stderr
    )
