"""The harnesses, for as long as a run of all tests has time: ``make stress`` goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.stress,
    pytest.mark.e2e,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform"),
]


def figures(code: str) -> dict[str, Any]:
    """Run a harness in a process of its own, since it forks and stops others."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, random\n{code}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_hundreds_of_kills_lose_nothing_that_was_confirmed(record_property: Any) -> None:
    seed = int.from_bytes(os.urandom(4))
    found = figures(
        f"from stress import kills\nprint(json.dumps(kills.run(300, 40.0, {seed}).as_json()))"
    )
    record_property("figures", found)
    assert (found["lost"], found["doubled"], found["invented"]) == (0, 0, 0), (seed, found)
    # However slow the machine is, it killed some that had told something.
    assert found["kills"] >= 30
    assert found["confirmed"] > 100
    assert found["sidecars_checked"] > 0


def test_sixteen_writers_share_a_folder_and_leave_it_whole(record_property: Any) -> None:
    seed = int.from_bytes(os.urandom(4))
    found = figures(f"from stress import crowd\nprint(json.dumps(crowd.run(16, 10.0, {seed})))")
    record_property("figures", found)
    assert (found["lost"], found["doubled"], found["torn"], found["held"]) == (0, 0, 0, 0)
    assert found["programs"] >= 16
    assert found["spans"] > 1_000
