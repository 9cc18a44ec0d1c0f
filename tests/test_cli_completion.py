"""Completion: the real shells, given the script, offer what can be typed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cli_running import ok, ok_json


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_is_valid_and_loads(name: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(ok("completion", name))
    assert ok_json("completion", name) == {"shell": name, "script": script.read_text()}
    subprocess.run([shell(name), "-n", str(script)], check=True, timeout=30)


BASH = """
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _stack_composer
printf '%s\\n' "${COMPREPLY[@]}"
"""

TYPED = [
    (("",), ["stats", "telemetry", "run", "completion", "--gdpr", "--version", "--help"]),
    (("te",), ["telemetry"]),
    (("--gdpr", "sta"), ["stats"]),
    (("telemetry", "con"), ["consent", "config"]),
    (("telemetry", "config", ""), ["show", "check", "path"]),
    (("telemetry", "show", "--as", ""), ["records", "otlp"]),
    (("telemetry", "show", "--as", "otlp", "--unt"), ["--until"]),
    (("telemetry", "guard", "test", "--profile", "s"), ["strict"]),
    (("completion", "z"), ["zsh"]),
]


@pytest.mark.parametrize(("words", "offered"), TYPED, ids=" ".join)
def test_bash_offers(words: tuple[str, ...], offered: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(ok("completion", "bash"))
    typed = ["stack-composer", *words]
    done = subprocess.run(
        [shell("bash"), "-c", BASH, "bash", str(script), *typed],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == offered


# fish offers options only behind a dash.
@pytest.mark.parametrize(("words", "offered"), TYPED[1:], ids=" ".join)
def test_fish_offers(words: tuple[str, ...], offered: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(ok("completion", "fish"))
    line = " ".join(("stack-composer", *words))
    done = subprocess.run(
        [shell("fish"), "-c", f"source {script}; complete -C '{line}'"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert {row.split("\t")[0] for row in done.stdout.splitlines()} == set(offered)
