"""What the example prints: at most 80 columns, no colours."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

from brief import Brief
from generation import Outcome
from proof import Proof

WIDTH = 80
LABEL = 10
COMMANDS = (
    ("stats --since 24h", "counts, errors, percentiles"),
    ("telemetry show --name planner.solve --as records", "the spans themselves"),
    ("telemetry status", "what is recorded, and where"),
    ("telemetry purge --dry-run", "what would be deleted"),
)


def print_brief(brief: Brief, note: str) -> None:
    """Say what was asked, and what was understood."""
    _paragraph("brief", brief.text)
    needs = ", ".join(need.name for need in brief.needs)
    _paragraph("needs", f"{needs}; at most {brief.budget_eur:g} euros a month")
    if note:
        _paragraph("note", note)
    print()


def print_outcomes(outcomes: Iterable[Outcome]) -> None:
    """One line a generation."""
    print(f"{'generation':<21}{'outcome':<15}{'parts':>5}{'EUR':>6}{'ms':>6}{'value':>7}")
    for one in outcomes:
        if one.plan is None:
            print(f"{one.scenario:<21}{one.outcome:<15}{one.reason}")
            continue
        plan = one.plan
        figures = f"{len(plan.parts):>5}{plan.cost_eur:>6.0f}{plan.latency_ms:>6.0f}"
        print(f"{one.scenario:<21}{one.outcome:<15}{figures}{one.value:>7.2f}")
    print()


def print_plan(outcomes: Iterable[Outcome]) -> None:
    """Name the parts of the first plan."""
    for one in outcomes:
        if one.plan is not None:
            _paragraph("plan", ", ".join(part.name for part in one.plan.parts))
            print()
            return


def print_files(folder: Path, files: list[Path]) -> None:
    """Say where the records are, and who may read them."""
    _paragraph("folder", f"{folder}  (mode {_mode(folder)})")
    for number, file in enumerate(files):
        size = f"{file.stat().st_size / 1000:.1f} kB"
        _paragraph("files" if number == 0 else "", f"{file.name}  ({_mode(file)}, {size})")


def print_proof(proof: Proof, files: int) -> None:
    """Say what was searched for, and whether it was found."""
    searched = f"{files} files, {proof.text_chars / 1000:.0f} kB unpacked"
    if proof.found_in:
        names = ", ".join(file.name for file in proof.found_in)
        _paragraph("LEAK", f"words of the brief are in {names}; searched: {searched}")
        return
    _paragraph(
        "proof",
        f"searched {searched}, for the whole brief and for its {proof.distinctive} "
        f"distinctive words: nothing found. The other {proof.ordinary} are numbers, names of "
        "parts, or words that stand in these files for an empty brief too.",
    )
    print()


def print_commands() -> None:
    """Say what to try next, with the path that works from here."""
    command = "stack-composer"
    if shutil.which(command) is None:
        command = os.path.relpath(Path(sys.executable).with_name(command))
    for number, (arguments, purpose) in enumerate(COMMANDS):
        label = "next" if number == 0 else ""
        print(f"{label:<{LABEL}}{command} {arguments}\n{'':<{LABEL + 4}}{purpose}")


def _paragraph(label: str, text: str) -> None:
    indent = " " * LABEL
    print(
        textwrap.fill(
            text,
            WIDTH,
            initial_indent=f"{label:<{LABEL}}",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:04o}"
