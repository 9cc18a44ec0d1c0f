"""End the service 'telemetry serve' and take it away: what runs, and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli.schedule import remove_and_say
from stack_composer.telemetry.cli.services import MANAGER_KEY, add_manager, service_of

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {**MANAGER_KEY, "removed": "whether there was anything"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which manager of services."""
    add_manager(parser)


def run(args: argparse.Namespace) -> int:
    """Remove; nothing to remove is fine."""
    return remove_and_say(service_of(args), args)
