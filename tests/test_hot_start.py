"""A short program pays for its spans, not for our imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent

# Each costs a short program more than thirty spans do.
FORBIDDEN = frozenset(
    {
        "argparse",
        "concurrent",
        "dataclasses",
        "enum",
        "inspect",
        "json",
        "logging",
        "msgspec",
        "opentelemetry",
        "pathlib",
        "platformdirs",
        "re",
        "re2",
        "shutil",
        "subprocess",
        "tempfile",
        "tomllib",
        "typing",
        "uuid",
    }
)

IMPORT_ONLY = "from stack_composer import telemetry\n"
THIRTY_SPANS = """\
from stack_composer import telemetry
for number in range(30):
    with telemetry.span("planner.solve", k_dense=number):
        pass

"""
REPORT = "import sys; print(*sorted(sys.modules))\n"


def modules_after(code: str, home: Path) -> set[str]:
    """Name the modules that an interpreter without site packages' own start-up holds."""
    done = subprocess.run(
        # -S: what site and .pth files of this environment import is not ours.
        [sys.executable, "-S", "-c", code + REPORT],
        env={"HOME": str(home), "PYTHONPATH": os.fspath(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("code", [IMPORT_ONLY, THIRTY_SPANS], ids=["import", "thirty spans"])
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="their places need platformdirs")
def test_nothing_dear_is_imported(code: str, tmp_path: Path) -> None:
    assert not FORBIDDEN & modules_after(code, tmp_path)


def test_the_check_sees_what_is_imported(tmp_path: Path) -> None:
    assert {"json", "re"} <= modules_after("import json\n", tmp_path)
