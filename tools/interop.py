"""Build the programs that others run, let them and us speak, print a table of what held.

Usage: ``make interop``; ``ARGS=--build`` only builds, other ``ARGS`` are pytest's.

rotel and the official SDK come with the development packages. The OpenTelemetry
Collector and Jaeger are built with Go, once, into the user's folder of caches: some six
minutes of work and 120 MB for the two. Tempo is used where one is on the ``PATH``. What a
machine lacks is in the table, with the reason. Exit code 1: something that ran failed.
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
    "test_send_rotel",
    "test_send_collector",
    "test_send_jaeger",
    "test_send_live",
    "test_send_tempo",
)
PEERS = ("official SDK", "rotel", "collector", "jaeger", "tempo")
BUILT = ("collector", "jaeger")
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
        who = [peer for peer in PEERS if peer.split()[0] in where]
        self.rows.append((who[-1], what, f"{report.outcome}{why}"))

    def lines(self) -> list[str]:
        """Make the table: peer, version, what ran, result."""
        versions = {name: peers.version(name) for name in PEERS[1:]}
        versions[PEERS[0]] = peers.version_of("opentelemetry-sdk")
        rows = [("peer", "version", "what ran", "result")]
        rows += [(peer, versions[peer], what, how) for peer, what, how in self.rows]
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
    for name in BUILT:
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
    return f"{name} {peers.version(name)}: {path.stat().st_size / MIB:.0f} MiB, {took_s:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
