"""Build the programs that others run, let them and us speak, print a table of what held.

Usage: ``make interop``; ``ARGS=--build`` only builds, other ``ARGS`` are pytest's.

rotel and the SDK for Python come with the development packages. The OpenTelemetry
Collector, Jaeger and a program with the SDK for Go are built with Go, one with the SDK for
JavaScript is fetched with npm, once, into the user's folder of caches: some seven minutes
and 200 MB. Tempo is used where one is on the ``PATH``. What a machine lacks is in the table,
with the reason. Exit code 1: something that ran failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import pytest

from interop import peers

HERE = Path(__file__).resolve().parent.parent
SUITE = HERE / "tests" / "interop"
MODULES = (
    "test_peers",
    "test_receive_official",
    "test_receive_forwarded",
    "test_receive_languages",
    "test_send_rotel",
    "test_send_collector",
    "test_send_jaeger",
    "test_send_live",
    "test_send_tempo",
)
PEERS = {
    "official": "SDK for Python",
    "_go_": "SDK for Go",
    "javascript": "SDK for JavaScript",
    "rotel": "rotel",
    "collector": "Collector",
    "jaeger": "Jaeger",
    "tempo": "Tempo",
}
"""By a word in the name of a test: with whom it speaks; the last one counts."""
NAMES = {"_go_": "go-sender", "javascript": peers.JAVASCRIPT}
MIB = 2**20


class Table:
    """A plugin of pytest's that keeps what became of each test."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test's end, or why it did not begin."""
        if report.when != "call" and report.outcome == "passed":
            return
        module, _, name = report.nodeid.partition("::")
        why = ""
        if report.skipped and isinstance(report.longrepr, tuple):
            why = f": {report.longrepr[2].removeprefix('Skipped: ')}"
        what = name.removeprefix("test_").replace("_", " ")
        where = f"{Path(module).stem} {name}"
        who = [word for word in PEERS if word in where] or ["ourselves"]
        how = "expected to fail" if hasattr(report, "wasxfail") else report.outcome
        self.rows.append((who[-1], what, f"{how}{why}"))

    def lines(self) -> list[str]:
        """Make the table: peer, version, what ran, result."""
        versions = {word: peers.version(NAMES.get(word, word)) for word in PEERS}
        rows = [("peer", "version", "what ran", "result")]
        rows += [
            (PEERS.get(word, word), versions.get(word, ""), what, how)
            for word, what, how in self.rows
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return [
            "  ".join([*(row[n].ljust(width) for n, width in enumerate(widths)), row[3]])
            for row in rows
        ]


def main() -> int:
    """Build, run, print."""
    parser = argparse.ArgumentParser(description="speak with other programs")
    parser.add_argument("--build", action="store_true", help="only build")
    args, rest = parser.parse_known_args()
    for name in (*peers.GO, peers.JAVASCRIPT):
        print(build(name), flush=True)
    if args.build:
        return 0
    table = Table()
    os.chdir(HERE)
    paths = [str(SUITE / f"{name}.py") for name in MODULES if (SUITE / f"{name}.py").exists()]
    code = pytest.main(["-q", *paths, *rest], plugins=[table])
    print()
    print("\n".join(table.lines()))
    return int(code)


def build(name: str) -> str:
    """Build one peer; says how long it took and how large it is, or what hinders it."""
    begun = time.monotonic()
    try:
        path = peers.build(name)
    except peers.MissingError as missing:
        return f"{name}: not here: {missing}"
    took_s = time.monotonic() - begun
    size = sum(one.stat().st_size for one in path.parent.rglob("*") if one.is_file())
    size = size if name == peers.JAVASCRIPT else path.stat().st_size
    return f"{name} {peers.version(name)}: {size / MIB:.0f} MiB, {took_s:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
