"""Have the system run 'telemetry purge --yes' once a day, after showing how.

For computers where only short programs record. The job runs as you, with this
installation of Python and the folders that your environment names now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.parser import UsageError
from stack_composer.telemetry.cli.schedule import (
    METHOD_KEY,
    add_method,
    job_of,
    print_commands,
    print_files,
)
from stack_composer.telemetry.schedule import apply

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    **METHOD_KEY,
    "dry_run": "whether nothing was touched on purpose",
    "files": "path and text of each file that it writes",
    "line": 'the line that it puts into the crontab, or ""',
    "commands": "what it runs then",
    "installed": "whether the job is installed now",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How, and whether to ask."""
    parser.epilog = "exit code: 0; 1 also when you answer no; 2 when nobody can be asked"
    add_method(parser)
    parser.add_argument("--dry-run", action="store_true", help="show it and touch nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Show, ask, install."""
    job = job_of(args)
    if not args.json:
        print_files(job, "write")
        print_commands(job.install)
    if not args.dry_run:
        if not args.yes and not _agreed(args):
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
                "commands": [list(command) for command in job.install],
                "installed": not args.dry_run,
            }
        )
    else:
        done = "dry run: nothing was touched" if args.dry_run else f"installed, by {job.method}"
        output.say(done)
    return 0


def _agreed(args: argparse.Namespace) -> bool:
    if args.json or not output.is_interactive():
        raise UsageError(
            "this installs a daily job, and nobody can be asked here",
            hint="add --yes to install it, or --dry-run to see it",
        )
    return output.ask("install this?")
