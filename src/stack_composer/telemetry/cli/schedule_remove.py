"""Take the daily purge away again: the job, and the files that it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli.schedule import METHOD_KEY, add_method, job_of, remove_and_say

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {**METHOD_KEY, "removed": "whether there was anything"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which kind of timer."""
    add_method(parser)


def run(args: argparse.Namespace) -> int:
    """Remove; nothing to remove is fine."""
    return remove_and_say(job_of(args), args)
