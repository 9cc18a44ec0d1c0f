from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = (
    "disabled",
    "spans",
    "instruments",
    "program",
    "latency",
    "memory",
    "receive",
    "upload",
    "stream",
    "stats_command",
    "month_commands",
)
OURS = ("native", "native_otel")


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "bench", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the bench needs wait4, which POSIX has")
def test_a_quick_bench_measures_everything_and_loses_no_span(tmp_path: Path) -> None:
    """It counts the spans on disk itself, and fails when one is missing; times are no matter."""
    path = tmp_path / "results.json"
    done = bench("--quick", "--json", os.fspath(path))
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert tuple(found["scenarios"]) == SCENARIOS
    for case in ("plain", "rich"):
        for contender in (*OURS, "noop", "sdk"):
            (one,) = found["scenarios"]["spans"][case][contender]
            assert one["caller_ns"] > 0
    assert all(goal["ours"] for goal in found["goals"]), "a goal without a figure of ours"
    # logfire is a peer of `make bench` alone.
    assert all(goal["peer"] for goal in found["goals"])
    assert found["calibration"]["noop_us"] > 0
    assert "span while disabled" in done.stdout


def test_the_page_shows_the_last_full_run() -> None:
    """docs/performance.md is made of bench/results.json, and was not edited since."""
    done = bench("--page")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
