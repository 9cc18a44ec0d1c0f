"""Say whether the system purges once a day, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.schedule import (
    METHOD_KEY,
    add_method,
    job_of,
    print_files,
    print_status,
    status_of,
)

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    **METHOD_KEY,
    "installed": "whether the system runs the job",
    "current": "whether it is the one that 'schedule install' would install now",
    "files": "the files that it is made of",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which kind of timer."""
    parser.epilog = "exit code: 0, installed or not"
    add_method(parser)


def run(args: argparse.Namespace) -> int:
    """Look, and print."""
    job = job_of(args)
    status = status_of(job)
    if args.json:
        output.print_json(status)
        return 0
    print_status(status, "timer", "schedule install")
    if status["current"]:
        print_files(job, "by")
    return 0
