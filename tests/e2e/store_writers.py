"""Real writer processes for the tests to kill.

Run as a program: ``store_writers.py DIRECTORY FIRST BYTES_MAX`` appends numbered lines,
starting with FIRST, as fast as it can and seals on the way. It prints a number once
that line is appended, so that a test knows what may not be missing. Orphans are
adopted from the first tick on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"


def start_writer(
    directory: Path, *, first: int = 0, bundle_bytes_max: int = 20_000
) -> subprocess.Popen[str]:
    """Start a writer; its standard output tells which lines were appended."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path])}
    return subprocess.Popen(
        [sys.executable, __file__, str(directory), str(first), str(bundle_bytes_max)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def kill_and_count(writer: subprocess.Popen[str]) -> list[int]:
    """Kill a writer and tell which lines it said were appended."""
    writer.kill()
    assert writer.stdout is not None
    # The last number may be cut short, so only whole lines count.
    told = writer.stdout.read()
    writer.wait()
    writer.stdout.close()
    return [int(number) for number in told[: told.rfind("\n") + 1].split()]


def write_forever(directory: str, first: int, bundle_bytes_max: int) -> None:
    """Append until killed."""
    from stack_composer.telemetry.store import writer as writers
    from stack_composer.telemetry.store.writer import BundleWriter
    from store_lines import sketch_of, spans_line

    writers.ADOPT_AFTER_S = writers.ADOPT_EVERY_S = 0  # type: ignore[misc]
    writer = BundleWriter(directory, bundle_bytes_max=bundle_bytes_max)
    number = first
    while True:
        line = spans_line(number, 2)
        writer.append("traces", line, sketch_of(line))
        os.write(1, b"%d\n" % number)
        writer.tick()
        number += 1


if __name__ == "__main__":
    write_forever(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
