"""Have the system run 'telemetry purge --yes' once a day, after showing how.

For computers where only short programs record. The job runs as you, with this
installation of Python and the folders that your environment names now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli.schedule import (
    INSTALL_KEYS,
    METHOD_KEY,
    add_consent,
    add_method,
    install_after_showing,
    job_of,
)

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {**METHOD_KEY, **INSTALL_KEYS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How, and whether to ask."""
    add_method(parser)
    add_consent(parser)


def run(args: argparse.Namespace) -> int:
    """Show, ask, install."""
    return install_after_showing(job_of(args), args, "a daily job")
