"""Every Python example of the documentation runs, by itself, as a visitor would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs_blocks import ROOT, Block, blocks, pages

EXAMPLES = [block for page in pages() for block in blocks(page, "python")]

pytestmark = pytest.mark.e2e


def run(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one example in a fresh process; one with tests in it, under pytest."""
    script = folder / "test_example.py"
    script.write_text(text, encoding="utf-8")
    quiet = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    how = quiet if "def test_" in text else ["-W", "error"]
    return subprocess.run(
        [sys.executable, *how, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("block", EXAMPLES, ids=[block.name for block in EXAMPLES])
def test_an_example_runs_by_itself(block: Block, tmp_path: Path) -> None:
    done = run(block.text, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_the_pages_that_promise_examples_have_them() -> None:
    """Else a changed fence would make the tests above pass with nothing to run."""
    counts = {
        page.name: sum(block.page == page for block in EXAMPLES)
        for page in (ROOT / "README.md", ROOT / "docs" / "embedding.md")
    }
    assert counts["README.md"] == 1
    assert counts["embedding.md"] >= 15


def test_a_wrong_example_is_seen(tmp_path: Path) -> None:
    assert run("assert False", tmp_path).returncode != 0
    assert run("def test_it():\n    assert False", tmp_path).returncode != 0
