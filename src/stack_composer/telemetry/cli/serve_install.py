"""Have the system keep 'telemetry serve' running from your log-in on, after showing how.

The service runs as you, with this installation of Python and the folders that your
environment names now; it is started at once, and again when it fails. What else it
listens to stands in the configuration file: no other variable of your environment
reaches it, and no secret is written into its files. systemd ends it when you log out,
unless 'loginctl enable-linger' says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli.schedule import (
    INSTALL_KEYS,
    add_consent,
    install_after_showing,
)
from stack_composer.telemetry.cli.services import MANAGER_KEY, add_manager, service_of

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    **MANAGER_KEY,
    **INSTALL_KEYS,
    "line": 'always ""',
    "installed": "whether the service is installed now",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How, and whether to ask."""
    add_manager(parser)
    add_consent(parser)


def run(args: argparse.Namespace) -> int:
    """Show, ask, install."""
    return install_after_showing(service_of(args), args, "a service")
