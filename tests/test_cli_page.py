"""docs/cli.md says what the program does, and the program does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stack_composer.telemetry.cli.commands import PROGRAM, Command, walk
from stack_composer.telemetry.cli.parser import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"


def test_the_page_is_in_step_with_the_parsers() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "cli_page.py")],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    assert made.decode() == PAGE.read_text(encoding="utf-8"), "run tools/cli_page.py > docs/cli.md"


@pytest.mark.parametrize(
    "path", [path for path, node in walk() if isinstance(node, Command)], ids=" ".join
)
def test_each_command_and_option_stands_in_the_page(path: tuple[str, ...]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(f"## `{' '.join((PROGRAM, *path))}`\n")[2].partition("\n## ")[0]
    assert section
    if path == ("telemetry", "stats"):
        return  # It refers to ``stats``.
    node = dict(walk())[path]
    assert isinstance(node, Command)
    parser, module = build_parser(path, node)
    for action in parser._actions:
        for option in action.option_strings:
            if option not in ("-h", "--help", "--json"):
                assert option in section
    for key in module.JSON_KEYS:
        assert f"`{key}`" in section
