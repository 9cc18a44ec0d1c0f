"""What the commands of ``schedule`` and ``serve install`` have in common: showing a job."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.parser import UsageError
from stack_composer.telemetry.schedule import apply
from stack_composer.telemetry.schedule.plans import METHODS

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from stack_composer.telemetry.schedule.plans import Job

METHOD_KEY = {"method": f"the kind of timer: {', '.join(METHODS)}"}
INSTALL_KEYS = {
    "dry_run": "whether nothing was touched on purpose",
    "files": "path and text of each file that it writes",
    "line": 'the line that it puts into the crontab, or ""',
    "commands": "what it runs then",
    "installed": "whether the job is installed now",
}


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


def install_after_showing(job: Job, args: argparse.Namespace, what: str) -> int:
    """Show, ask, install; ``what`` says in an error what nobody could be asked about.

    Raises:
        ScheduleError: The system refused.
        UsageError: Nobody can be asked.
    """
    if not args.json:
        print_files(job, "write")
        print_commands((*job.before, *job.install))
    if not args.dry_run:
        if not args.yes and not _agreed(args, what):
            output.note("nothing was installed")
            return 1
        apply.install(job)
    if args.json:
        output.print_json(
            {
                "method": job.method,
                "dry_run": args.dry_run,
                "files": [file._asdict() for file in job.files],
                "line": job.line,
                "commands": [list(command) for command in (*job.before, *job.install)],
                "installed": not args.dry_run,
            }
        )
    else:
        done = "dry run: nothing was touched" if args.dry_run else f"installed, by {job.method}"
        output.say(done)
    return 0


def _agreed(args: argparse.Namespace, what: str) -> bool:
    if args.json or not output.is_interactive():
        raise UsageError(
            f"this installs {what}, and nobody can be asked here",
            hint="add --yes to install it, or --dry-run to see it",
        )
    return output.ask("install this?")


def remove_and_say(job: Job, args: argparse.Namespace) -> int:
    """Remove; nothing to remove is fine."""
    removed = apply.remove(job)
    if args.json:
        output.print_json({"method": job.method, "removed": removed})
    else:
        output.say(f"removed, from {job.method}" if removed else f"nothing in {job.method}")
    return 0


def add_consent(parser: argparse.ArgumentParser) -> None:
    """Whether to ask."""
    parser.epilog = "exit code: 0; 1 also when you answer no; 2 when nobody can be asked"
    parser.add_argument("--dry-run", action="store_true", help="show it and touch nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def status_of(job: Job) -> dict[str, Any]:
    """What the system knows of a job, by the keys of ``--json``."""
    installed = apply.is_installed(job)
    return {
        "method": job.method,
        "installed": installed,
        "current": installed and apply.is_current(job),
        "files": [file.path for file in job.files],
    }


def print_status(status: dict[str, Any], what: str, install: str) -> None:
    """Say what ``status_of`` found; ``install`` is the command that installs it."""
    output.facts(what, status["method"])
    output.facts("installed", "yes" if status["installed"] else f"no: '{install}' shows how")
    if status["installed"] and not status["current"]:
        output.facts("but", f"not as it would be now; '{install}' writes it anew")
