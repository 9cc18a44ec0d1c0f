"""Say whether the system purges once a day, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.schedule import METHOD_KEY, add_method, job_of, print_files
from stack_composer.telemetry.schedule import apply

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
    installed = apply.is_installed(job)
    current = installed and apply.is_current(job)
    if args.json:
        output.print_json(
            {
                "method": job.method,
                "installed": installed,
                "current": current,
                "files": [file.path for file in job.files],
            }
        )
        return 0
    output.facts("timer", job.method)
    output.facts("installed", "yes" if installed else "no: 'schedule install' shows how")
    if installed and not current:
        output.facts("but", "not as it would be now; 'schedule install' writes it anew")
    if current:
        print_files(job, "by")
    return 0
