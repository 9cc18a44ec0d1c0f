"""Stop recording, by setting enabled = false in the configuration file.

Running programs notice within a second; bundles stay until they are purged.
"""

from __future__ import annotations

import argparse

from stack_composer.telemetry.cli.switch import JSON_KEYS, switch

__all__ = ["JSON_KEYS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""
    parser.epilog = "example: stack-composer telemetry disable"


def run(args: argparse.Namespace) -> int:
    """Edit the file and say what now holds."""
    return switch(args, enabled=False)
