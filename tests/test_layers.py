"""Who may import whom is a rule that fails here, not a habit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src") / "stack_composer" / "telemetry"

# A module, a line that breaks the rules in it, and the contract that says so.
FORBIDDEN = [
    ("errors.py", "from stack_composer.telemetry import model", "Data flows one way"),
    ("store/names.py", "from stack_composer.telemetry.guard import engine", "meets the guard"),
    ("store/names.py", "from stack_composer.telemetry.record import ids", "Data flows one way"),
    ("guard/engine.py", "from stack_composer.telemetry import pipeline", "Data flows one way"),
    ("query/select.py", "from stack_composer.telemetry.store import writer", "never writes them"),
    ("export/rows.py", "from stack_composer.telemetry.store import intake", "never writes them"),
    ("otlp/wire.py", "from stack_composer.telemetry.guard import engine", "meets the guard"),
    ("otlp/wire.py", "from stack_composer.telemetry.query import read", "Data flows one way"),
    ("guard/engine.py", "import socket", "open connections"),
    ("cli/main.py", "import urllib.request", "open connections"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the package in ``folder``."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
            "--config",
            str(folder / "pyproject.toml"),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_layers_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("module", "line", "contract"), FORBIDDEN)
def test_a_forbidden_import_is_seen(module: str, line: str, contract: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / PACKAGE / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\ndef _wrong():\n    {line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    (broken,) = [row for row in done.stdout.splitlines() if row.endswith("BROKEN")]
    assert contract in broken
