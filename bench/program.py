"""What telemetry adds to a small program: the whole process, from start to end.

Two programs: an argparse one, compared with itself without telemetry, and thirty
spans alone, compared with a bare interpreter. CPU time as the operating system
counts it, so imports, threads and the last flush are all in it.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys

import on_disk
from running import HERE, Bench, BenchError, Rounds

ROUNDS_FACTOR = 3
"""A run takes a fraction of a second, so there can be more of them."""
SPANS = 30
# Imported, as installed programs are: a script would be compiled at each start.
_PATH = "import sys; sys.path.insert(0, sys.argv.pop(1)); "
START = {
    "argparse": _PATH + "import small_program; small_program.main()",
    "bare": _PATH + "sys.argv[1] == 'none' or __import__('thirty_spans').main()",
}
NEEDS = {
    "native": ("stack_composer.telemetry",),
    "native_otel": ("stack_composer.telemetry",),
    "sdk": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.json.file"),
    "logfire": ("logfire", "opentelemetry.exporter.otlp.json.file"),
}


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure both programs."""
    return {
        "argparse": _rounds(bench, "argparse"),
        "bare": _rounds(bench, "bare"),
    }


def _rounds(bench: Bench, program: str) -> Rounds:
    present = [name for name, modules in NEEDS.items() if all(map(_installed, modules))]
    found: Rounds = {"none": [], **{name: [] for name in NEEDS}}
    # One round that does not count: it leaves the compiled files that all later ones,
    # like any program's second start, find.
    warm = 0 if bench.quick else 1
    for turn in range(warm + bench.rounds * (1 if bench.quick else ROUNDS_FACTOR)):
        for name in ("none", *present):
            cpu_s = _one(bench, program, name)
            if turn >= warm:
                found[name].append({"cpu_s": cpu_s})
    return found


def _one(bench: Bench, program: str, contender: str) -> float:
    folder = bench.folder()
    cpu_s = bench.cpu_s([sys.executable, "-c", START[program], HERE, contender, folder])
    if contender == "none":
        return cpu_s
    written = on_disk.spans(folder)
    if written != SPANS:
        raise BenchError(f"{program} {contender}: {SPANS} spans made, {written} on disk")
    shutil.rmtree(folder)
    return cpu_s


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
