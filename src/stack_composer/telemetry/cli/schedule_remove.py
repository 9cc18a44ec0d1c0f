"""Take the daily purge away again: the job, and the files that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.schedule import METHOD_KEY, add_method, job_of
from stack_composer.telemetry.schedule import apply

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {**METHOD_KEY, "removed": "whether there was anything"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which kind of timer."""
    add_method(parser)


def run(args: argparse.Namespace) -> int:
    """Remove; nothing to remove is fine."""
    job = job_of(args)
    removed = apply.remove(job)
    if args.json:
        output.print_json({"method": job.method, "removed": removed})
    else:
        output.say(f"removed, from {job.method}" if removed else f"nothing in {job.method}")
    return 0
