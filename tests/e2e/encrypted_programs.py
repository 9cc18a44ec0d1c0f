"""Real processes that write to an encrypted store, or convert one, for the tests to kill.

``encrypted_programs.py write DIRECTORY KEY_FILE FIRST BYTES_MAX [LINES]`` appends numbered
lines and prints each number once it is appended; ``encrypt``, ``decrypt`` or ``rekey``
DIRECTORY KEY_FILE convert, and print a line for each bundle that has moved.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent.parent / "src"


def start(*arguments: str | Path | int) -> subprocess.Popen[str]:
    """Start one; its standard output tells how far it is."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path])}
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def write(directory: str, key_file: str, first: int, bundle_bytes_max: int, lines: int) -> None:
    """Append, until killed if ``lines`` is 0."""
    from encrypted_store import planted_line
    from stack_composer.telemetry.store.encrypted import writer as writers
    from stack_composer.telemetry.store.keys import Keys
    from store_lines import sketch_of

    for name in ("ADOPT_AFTER_S", "ADOPT_EVERY_S"):
        setattr(writers, name, 0)
    writer = writers.DatabaseWriter(
        directory, keys=Keys(key_file), bundle_bytes_max=bundle_bytes_max
    )
    number = first
    while not lines or number < first + lines:
        line = planted_line(number)
        writer.append("traces", line, sketch_of(line))
        os.write(1, b"%d\n" % number)
        writer.tick()
        number += 1
    writer.close()


def convert(kind: str, directory: str, key_file: str) -> None:
    """Convert all, and tell each bundle."""
    from stack_composer.telemetry.store import convert as converting
    from stack_composer.telemetry.store.keys import Keys

    keys = Keys(key_file)
    plan = getattr(converting, f"plan_{kind}")(directory, keys)
    os.write(1, b"planned\n")
    for _ in converting.Conversion(plan, keys).run():
        os.write(1, b"moved\n")


if __name__ == "__main__":
    what, directory, key_file, *rest = sys.argv[1:]
    if what == "write":
        write(directory, key_file, int(rest[0]), int(rest[1]), int(rest[2]) if rest[2:] else 0)
    else:
        convert(what, directory, key_file)
