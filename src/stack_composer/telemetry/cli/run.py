"""Run a program; ``stack-composer --gdpr run PROGRAM`` runs it without recording.

The program takes this process's place, so that its signals, its terminal and its
exit code are its own.
"""

from __future__ import annotations

import argparse
import os
import sys

from stack_composer.telemetry.cli.parser import UsageError
from stack_composer.telemetry.errors import TelemetryError

JSON_KEYS: dict[str, str] = {}
"""Nothing: all output is the program's own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything after ``run`` is the program and its arguments."""
    parser.epilog = "exit code: the program's own; 127 when there is no such program"
    parser.add_argument(
        "program",
        nargs=argparse.REMAINDER,
        metavar="PROGRAM [ARGUMENT ...]",
        help="what to run; found as the shell would",
    )


def run(args: argparse.Namespace) -> int:
    """Become the program, or, where no process can, start it and wait."""
    words = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not words:
        raise UsageError("run needs a program", hint="stack-composer --gdpr run python app.py")
    sys.stdout.flush()
    try:
        return _start(words)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name holds a null character"
        if isinstance(error, FileNotFoundError):
            raise ProgramMissingError(
                f"{words[0]}: {reason}", hint="check the spelling and PATH"
            ) from error
        raise TelemetryError(
            f"{words[0]}: {reason}", hint="check that it is a program and may be run"
        ) from error


def _start(words: list[str]) -> int:
    if os.name == "nt":
        # exec on Windows lets the shell go on before the program has ended.
        import subprocess

        return subprocess.run(words, check=False).returncode  # noqa: S603
    return os.execvp(words[0], words)  # noqa: S606


class ProgramMissingError(TelemetryError):
    """There is no program of that name."""

    exit_code = 127
