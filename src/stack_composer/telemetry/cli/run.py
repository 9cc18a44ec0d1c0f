"""Run a program; ``stack-composer --gdpr run PROGRAM`` runs it without recording.

The program takes this process's place, so that its signals, its terminal and its
exit code are its own. Under GDPR somebody must be there when it has ended, to purge:
then it is a child, which gets the signals that are sent to us, and we end as it ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.parser import UsageError
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import TelemetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

JSON_KEYS: dict[str, str] = {}
"""Nothing: all output is the program's own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything after ``run`` is the program and its arguments."""
    parser.epilog = (
        "exit code: the program's own; 127 when there is no such program. Under --gdpr what was "
        "recorded in the folder is purged when the program has ended, or, if this command is "
        "killed, when the next program that records starts."
    )
    parser.add_argument(
        "program",
        nargs=argparse.REMAINDER,
        metavar="PROGRAM [ARGUMENT ...]",
        help="what to run; found as the shell would",
    )


def run(args: argparse.Namespace) -> int:
    """Become the program, or start it, wait and purge."""
    words = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not words:
        raise UsageError("run needs a program", hint="stack-composer --gdpr run python app.py")
    directory = _folder_to_purge()
    sys.stdout.flush()
    try:
        if directory is not None:
            return _run_and_purge(words, directory)
        return _become(words)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name holds a null character"
        if isinstance(error, FileNotFoundError):
            raise ProgramMissingError(
                f"{words[0]}: {reason}", hint="check the spelling and PATH"
            ) from error
        raise TelemetryError(
            f"{words[0]}: {reason}", hint="check that it is a program and may be run"
        ) from error


def _folder_to_purge() -> str | None:
    """The telemetry folder, if GDPR holds."""
    config = load_config(bad_rules=True)
    return config.directory if config.gdpr else None


def _become(words: list[str]) -> int:
    if os.name == "nt":
        # exec on Windows lets the shell go on before the program has ended.
        import subprocess

        return subprocess.run(words, check=False).returncode
    return os.execvp(words[0], words)  # noqa: S606


def _run_and_purge(words: list[str], directory: str) -> int:
    import subprocess

    from stack_composer.telemetry import gdpr

    mark = gdpr.owe(directory)
    try:
        with subprocess.Popen(words) as program:
            _hand_on_signals(program)
            code = program.wait()
    finally:
        try:
            if mark is not None:
                mark.pay()
            else:
                gdpr.purge_closed(directory)
        except TelemetryError as error:
            output.fail(str(error), error.hint or "run 'stack-composer telemetry purge --all'")
    return _end_as(code)


def _hand_on_signals(program: subprocess.Popen[bytes]) -> None:
    """Stay alive until the program has ended, whoever is told to end."""
    for name in ("SIGINT", "SIGQUIT", "SIGBREAK"):
        # A terminal sends these to the program as well. Not SIG_IGN: programs inherit that.
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, _: program.send_signal(number))


def _end_as(code: int) -> int:
    """Die of the signal that the program died of, so that a shell sees the same."""
    if code >= 0 or os.name == "nt":
        return code
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code


class ProgramMissingError(TelemetryError):
    """There is no program of that name."""

    exit_code = 127
