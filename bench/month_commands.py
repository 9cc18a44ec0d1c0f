"""What the commands cost in the folder of a month, and what the month takes on the disk.

Nothing here can be fast by chance: each command is a program of its own, started anew.
What deletes or writes does so in a copy of hard links. The peer is a bare interpreter,
which says how much of a command is starting Python.
"""

from __future__ import annotations

import json
import os
import shutil
import sys

import on_disk
from month import DAYS, HOURS, Month, month
from running import Bench, BenchError, Rounds

A_DAY = 100_000
QUICK_DAYS = 2
COMMAND = "import sys; from stack_composer.telemetry.cli.main import main; sys.exit(main())"
WRITER = """
import sys
from stack_composer import telemetry
telemetry.configure(directory=sys.argv[1])
with telemetry.span("planner.solve"):
    pass
telemetry.flush()
"""
_S = 1_000_000_000


def run(bench: Bench) -> dict[str, Rounds]:
    """Find or make the month, then ask each question in turn."""
    days = QUICK_DAYS if bench.quick else DAYS
    found = month(bench.count(bench.a_day or A_DAY), days, bench.root if bench.quick else "")
    copy = os.path.join(bench.root, "month")
    commands = _commands(found, copy)
    rounds: Rounds = {name: [] for name in ("start", *commands, "writer", "writer_empty", "disk")}
    for _ in range(bench.rounds):
        rounds["start"].append({"cpu_s": bench.cpu_s([sys.executable, "-c", ""])})
        _link(found.folder, copy)
        for name, (options, expected) in commands.items():
            rounds[name].append({"cpu_s": _ask(bench, options, expected)})
        for name, folder in (("writer", found.folder), ("writer_empty", "")):
            scratch = bench.folder()
            if folder:
                _link(folder, scratch)
            rounds[name].append({"cpu_s": bench.cpu_s([sys.executable, "-c", WRITER, scratch])})
            shutil.rmtree(scratch)
        sizes = on_disk.sizes(found.folder)
        rounds["disk"].append(
            {
                "sealed_bytes": sizes["sealed"] / found.spans,
                "sidecar_bytes": sizes["sidecar"] / found.spans,
                "spans": found.spans,
            }
        )
    return {"month": rounds}


def _commands(found: Month, copy: str) -> dict[str, tuple[list[str], bytes]]:
    """Give the options of each command, and what its output has to say."""
    folder = ["--dir", found.folder]
    day = f"@{(found.end_ns - HOURS * 3_600 * _S) // _S}"
    minute = [
        "--since",
        f"@{found.end_ns // _S - 1_830}",
        "--until",
        f"@{found.end_ns // _S - 1_770}",
    ]
    trace = found.traces[len(found.traces) // 2]
    telemetry = "telemetry"
    return {
        "stats_day": (["stats", "--since", day, *folder], b"composer.steps"),
        "stats_month": (
            ["stats", "--since", "@0", *folder, "--json"],
            b"composer.steps",
        ),
        "show_trace": ([telemetry, "show", "--trace", trace, *folder, "--json"], trace.encode()),
        "show_prefix": (
            [telemetry, "show", "--trace", trace[:7], *folder, "--json"],
            trace.encode(),
        ),
        "show_minute": ([telemetry, "show", *minute, *folder, "--json"], b"agent.latency"),
        "tail": ([telemetry, "tail", *folder], b"span"),
        "status": ([telemetry, "status", *folder], b"folder"),
        "purge": ([telemetry, "purge", "--older-than", "1s", "--yes", "--dir", copy], b"bundles"),
    }


def _ask(bench: Bench, options: list[str], expected: bytes) -> float:
    output = os.path.join(bench.root, "answer")
    cpu_s = bench.cpu_s([sys.executable, "-c", COMMAND, *options], output=output)
    with open(output, "rb") as file:
        said = file.read()
    if expected not in said:
        raise BenchError(f"{' '.join(options)}: {json.dumps(said[-500:].decode())}")
    return cpu_s


def _link(folder: str, copy: str) -> None:
    """Make a copy that costs no room, in which deleting deletes nothing."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, copy_function=_link_or_copy)
    os.chmod(copy, 0o700)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # Another disk.
        shutil.copy2(source, target)
