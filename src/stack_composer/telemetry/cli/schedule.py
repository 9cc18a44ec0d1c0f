"""What the three commands of ``schedule`` have in common: the job, and showing it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.schedule import apply
from stack_composer.telemetry.schedule.plans import METHODS

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.schedule.plans import Job

METHOD_KEY = {"method": f"the kind of timer: {', '.join(METHODS)}"}


def add_method(parser: argparse.ArgumentParser) -> None:
    """Which kind of timer."""
    parser.add_argument(
        "--method", choices=METHODS, help="the kind of timer; what this system has, if left out"
    )


def job_of(args: argparse.Namespace) -> Job:
    """The job for this user.

    Raises:
        ScheduleError: No timer is known here.
    """
    return apply.job_of(args.method or apply.best_method(), os.environ)


def print_files(job: Job, verb: str) -> None:
    """Show each file whole."""
    for file in job.files:
        output.say(f"{verb} {file.path}:")
        for line in file.text.splitlines():
            output.say(f"    {line}")
    if job.line:
        output.say(f"{verb} a line in your crontab:")
        output.say(f"    {job.line}")


def print_commands(commands: tuple[tuple[str, ...], ...]) -> None:
    """Show what is run."""
    for command in commands:
        output.say(f"run   {shlex.join(command)}")
