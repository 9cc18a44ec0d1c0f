"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs_blocks import ROOT, blocks
from stack_composer import telemetry

README = ROOT / "README.md"
FIRST_SCREEN_LINES = 60
ANY = "..."
"""A line of the README that stands for any number of lines."""


def shown() -> tuple[str, list[str]]:
    """The command of the first block, and its output."""
    command, *output = blocks(README, "console")[0].text.splitlines()
    return command.removeprefix("$ "), output


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, with this interpreter's programs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(rf"^{target}:[^;\n]*; (.*?)(?: ##.*)?$", makefile, re.MULTILINE)
    assert found, f"the Makefile has no one-line target {target}"
    return found[1].replace("$(BIN)", str(Path(sys.executable).parent)).split(" && ")


def run_recipe(target: str, home: Path) -> str:
    """Do what ``make`` would do, in a home where nothing was recorded before."""
    variables = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA")
    output = ""
    for command in recipe(target):
        done = subprocess.run(
            shlex.split(command),
            cwd=ROOT,
            env={
                **os.environ,
                **dict.fromkeys(variables, str(home)),
                "PYTHONPATH": str(ROOT / "src"),
            },
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        output += done.stdout
    return output


def without_measurements(line: str) -> str:
    """Blank what differs from run to run: durations, sizes, rates, and all spacing.

    The first figure of a line is a count, which must be true.
    """
    line = re.sub(r"\d[\d.,]* (?:[num]?s|min|[kMG]?B)\b", "#", line)
    first = re.search(r"\d[\d.,]*", line)
    if first:
        line = line[: first.end()] + re.sub(r"\d[\d.,]*", "#", line[first.end() :])
    return " ".join(line.split())


def differs(expected: list[str], found: list[str]) -> str:
    """The first line of ``expected`` that is not in ``found`` at its place, or ""."""
    at, skipping = 0, False
    for line in expected:
        if line == ANY:
            skipping = True
            continue
        rest = found[at:] if skipping else found[at : at + 1]
        if line not in rest:
            return line
        at += rest.index(line) + 1
        skipping = False
    return "" if skipping or at == len(found) else found[at]


@pytest.mark.e2e
def test_the_output_is_true(tmp_path: Path) -> None:
    command, expected = shown()
    assert command == "make run"
    output = run_recipe("run", tmp_path)
    found = [without_measurements(line) for line in output.splitlines()]
    wrong = differs([without_measurements(line) for line in expected], found)
    assert not wrong, f"the README shows {wrong!r}; true is:\n{output}"


@pytest.mark.parametrize(
    ("expected", "found", "wrong"),
    [
        (["a", "b"], ["a", "b"], ""),
        (["a", ANY, "d"], ["a", "b", "c", "d"], ""),
        ([ANY], ["a"], ""),
        (["a", "c"], ["a", "b", "c"], "c"),
        ([ANY, "b", "d"], ["a", "b", "c", "d"], "d"),
        (["a"], ["a", "b"], "b"),
        ([ANY, "x"], ["a"], "x"),
    ],
)
def test_the_comparison_sees_a_line_that_is_not_there(
    expected: list[str], found: list[str], wrong: str
) -> None:
    assert differs(expected, found) == wrong


def test_measurements_may_differ_but_counts_may_not() -> None:
    line = "planner.solve    8   3   8   36.2 ms   145 ms"
    assert without_measurements(line) == without_measurements(
        line.replace("36.2 ms", "1.20 s").replace("145", "9")
    )
    assert without_measurements(line) != without_measurements(line.replace(" 8 ", " 9 ", 1))


def test_the_python_example_records_what_it_says() -> None:
    (block,) = blocks(README, "python")
    with telemetry.capture() as captured:
        exec(compile(block.text, "README.md", "exec"), {})  # noqa: S102  # our own README
    span = captured.spans.find("planner.solve")
    assert span.attributes == {"k_dense": 128, "outcome": "found"}
    assert captured.metrics.find("agent.latency_ms").attributes == {
        "agent": "stack",
        "phase": "plan",
    }
    promised = re.search(r'# "\.\.\. (.*)"', block.text)
    assert promised
    assert captured.logs[0].message.endswith(promised[1])


def test_there_are_exactly_two_commands_to_set_up() -> None:
    found = [line for block in blocks(README, "console")[1:] for line in block.text.splitlines()]
    assert found == ["$ make run", "$ make test"]


def test_the_first_screen_holds_what_matters() -> None:
    """What it is, for whom, what it shows, how it is used, and what it will not do."""
    first = "\n".join(README.read_text(encoding="utf-8").splitlines()[:FIRST_SCREEN_LINES])
    for part in ("For people who", "```console", "```python", "It is not a hosted service"):
        assert part in first


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README.read_text(encoding="utf-8"))
    assert len(links) >= 10
    assert [link for link in links if not (ROOT / link).exists()] == []
