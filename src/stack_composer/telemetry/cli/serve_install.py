"""Have the system keep 'telemetry serve' running from your log-in on, after showing how.

The service runs as you, with this installation of Python and the folders that your
environment names now; it is started at once, and again when it fails. Ports and limits
stand in the configuration file: no other variable of your environment reaches it, and no
secret is written into its files. A token that clients must know stands in a file of yours,
serve.env beside the configuration, with mode 0600, which systemd reads; elsewhere in the
environment of your log-in. systemd ends the service when you log out, unless 'loginctl
enable-linger' says otherwise.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.schedule import (
    INSTALL_KEYS,
    add_consent,
    install_after_showing,
)
from stack_composer.telemetry.cli.services import MANAGER_KEY, add_manager, service_of
from stack_composer.telemetry.schedule.services import CREDENTIAL_VARIABLE

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
    if os.environ.get(CREDENTIAL_VARIABLE):
        output.note(
            f"{CREDENTIAL_VARIABLE} is set here, and is not written into the service: without it "
            "the service asks for no token; see --help"
        )
    return install_after_showing(service_of(args), args, "a service")
