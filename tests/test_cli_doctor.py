"""``doctor``: finds each kind of damage, says how to mend it, and mends what it can."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from cli_running import (
    HOUR_NS,
    counter,
    metrics_line,
    ok,
    ok_json,
    run,
    span,
    spans_line,
    write,
    write_sealed,
)
from stack_composer.telemetry.cli import doctor
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, names_in

LINE = spans_line(span("a", start_ns=1_763_838_843 * 10**9))
posix = pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    write(place, ("traces", LINE))
    write_sealed(place, ("traces", LINE), ("traces", LINE))
    return place


def findings(folder: Path, *options: str) -> dict[str, str]:
    """Run ``doctor``, expect findings, return each check with what it found."""
    done = run("telemetry", "doctor", *options, "--json", "--dir", folder)
    assert (done.returncode, done.stderr) == (1, "")
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["ok"] is False
    assert all(finding["mend"] for finding in found["findings"])
    return {finding["check"]: finding["what"] for finding in found["findings"]}


def test_a_healthy_folder(folder: Path) -> None:
    found = ok_json("telemetry", "doctor", "--dir", folder)
    assert set(found) == set(doctor.JSON_KEYS)
    assert (found["ok"], found["findings"], found["repaired"]) == (True, [], None)
    assert "nothing is wrong" in ok("telemetry", "doctor", "--dir", folder)


def test_no_folder_yet_is_healthy_and_stays_so(tmp_path: Path) -> None:
    ok("telemetry", "doctor", "--repair", "--dir", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@posix
def test_open_modes_are_found_and_closed(folder: Path) -> None:
    folder.chmod(0o755)
    (bundle,) = [path for path in folder.iterdir() if path.name.endswith(".jsonl")]
    bundle.chmod(0o644)
    sidecar = next(folder.glob("*.sketch.json"))
    sidecar.chmod(0o640)
    found = findings(folder)
    assert set(found) == {"folder", "modes"}
    assert "0755" in found["folder"]
    assert "2 files" in found["modes"]
    dry = run("telemetry", "doctor", "--repair", "--dry-run", "--dir", folder)
    assert dry.returncode == 1
    assert dry.stdout.count("tighten ") == 3
    assert "nothing was changed" in dry.stdout
    assert folder.stat().st_mode & 0o777 == 0o755
    repaired = ok_json("telemetry", "doctor", "--repair", "--dir", folder)["repaired"]
    assert repaired["modes"] == 3
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_torn_tail_is_found_and_cut(folder: Path) -> None:
    (bundle,) = [path for path in folder.iterdir() if path.name.endswith(".jsonl")]
    with bundle.open("ab") as file:
        file.write(LINE[:40])
    before = all_lines(folder)
    assert "ends without a newline" in findings(folder)["bundles"]
    found = ok_json("telemetry", "doctor", "--repair", "--dir", folder)
    assert found["repaired"]["sealed"] == 1
    assert all_lines(folder) == before
    assert all(info.sealed for info in list_bundles(str(folder)).bundles)


def test_a_bundle_being_written_is_left_alone(folder: Path) -> None:
    before = names_in(folder)
    writer = BundleWriter(str(folder))
    append(writer, LINE)
    (bundle,) = (folder / name for name in names_in(folder) if name not in before)
    with bundle.open("ab") as file:
        file.write(LINE[:40])
    # Half a line in a living bundle is a line on its way.
    ok("telemetry", "doctor", "--repair", "--dir", folder)
    assert bundle.read_bytes() == LINE + LINE[:40]
    writer.close()


def test_damage_to_a_sealed_bundle_is_found(folder: Path) -> None:
    sealed = next(folder.glob("*.zst"))
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 0xFF
    sealed.write_bytes(data)
    assert "is damaged and was left out" in findings(folder)["bundles"]
    sealed.write_bytes(data[: len(data) // 2])
    assert "bundles" in findings(folder)


def test_a_damaged_index_is_only_slower(folder: Path) -> None:
    sealed = next(folder.glob("*.zst"))
    before = all_lines(folder)
    data = bytearray(sealed.read_bytes())
    for place in (-40, -3):
        data[place] ^= 0x10
        sealed.write_bytes(data)
        assert "only slower" in findings(folder)["bundles"]
        assert "left out" not in findings(folder)["bundles"]
        assert all_lines(folder) == before
        data[place] ^= 0x10


def test_refused_lines_foreign_files_and_leftovers(folder: Path) -> None:
    (bundle,) = [path for path in folder.iterdir() if path.name.endswith(".jsonl")]
    secret = "ghp_" + "a1B2" * 9
    bundle.write_bytes(LINE + secret.encode() + b"\n")
    (folder / "notes.txt").write_text("mine")
    sidecar = next(folder.glob("*.sketch.json"))
    gone = sidecar.name.replace("traces.sketch.json", "logs.sketch.json")
    (folder / gone).write_text("{}")
    found = findings(folder)
    assert set(found) == {"bundles", "foreign", "leftovers"}
    assert "1 line" in found["bundles"]
    assert secret not in str(found)
    assert "notes.txt" in found["foreign"]
    assert gone in found["leftovers"]
    assert set(findings(folder, "--repair")) == {"foreign"}
    assert gone not in names_in(folder)
    assert "notes.txt" in names_in(folder)


def test_losses_of_the_last_week_are_found_and_older_ones_are_history(tmp_path: Path) -> None:
    def lost(folder: Path, age_ns: int) -> None:
        at = time.time_ns() - age_ns
        health = "stack_composer.telemetry."
        line = metrics_line(
            counter(health + "dropped", 7, time_ns=at, signal="traces", reason="buffer_full"),
            counter(health + "faults", 2, time_ns=at, where="guard"),
        )
        write(folder, ("metrics", line))

    lost(tmp_path / "new", HOUR_NS)
    done = run("telemetry", "doctor", "--dir", tmp_path / "new")
    assert done.returncode == 1
    assert "dropped in the last 7 days: buffer_full 7" in done.stdout
    assert "raise store.buffered_records_max" in done.stdout
    assert "guard 2" in done.stdout
    lost(tmp_path / "old", 8 * 24 * HOUR_NS)
    ok("telemetry", "doctor", "--dir", tmp_path / "old")


def test_configuration_problems_are_findings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "telemetry.toml"
    config.write_text("[telemetry]\nenabld = true\n")
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(config))
    assert "enabld" in findings(folder)["configuration"]
    # Which folder is meant is not known then, and the rest is not looked at.
    done = run("telemetry", "doctor", "--repair")
    assert done.returncode == 1
    assert "enabld" in done.stdout
    config.write_text("")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "soon")
    assert "OTEL_BSP_SCHEDULE_DELAY" in findings(folder)["configuration"]


@posix
def test_a_refused_folder_is_a_finding_and_not_looked_into(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    found = findings(tmp_path / "link", "--repair")
    assert list(found) == ["folder"]
    assert "symbolic link" in found["folder"]
