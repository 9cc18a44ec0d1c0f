"""Where things would go: the destinations that are configured, or that ``--to`` names.

Nothing is sent and no name is looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.cli.parser import UsageError
from stack_composer.telemetry.config_options import NETWORK_EXPORTERS
from stack_composer.telemetry.errors import SendError

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.config import Config


class Purpose(NamedTuple):
    """What is configured to send something.

    Attributes:
        name: "upload", or of an exporter.
        origins: As ``Destination.origin``; "" if there is no destination.
        problem: Why there is none, or why nothing can be sent to it, or "".
        hint: What to do about it.
    """

    name: str
    origins: str
    problem: str = ""
    hint: str = ""


def purposes_of(config: Config) -> list[Purpose]:
    """What is configured to send: uploads, and exporters over the network."""
    from stack_composer.telemetry.send.destination import destination_of
    from stack_composer.telemetry.send.sender import what_is_missing

    found = []
    for name in ("upload", *(each for each in config.exporter if each in NETWORK_EXPORTERS)):
        try:
            destination = destination_of(config, name)
            missing = what_is_missing(destination)
            problem = ("", "") if missing is None else (str(missing), missing.hint)
            found.append(Purpose(name, destination.origin, *problem))
        except SendError as error:
            found.append(Purpose(name, "", str(error), error.hint))
    return found


def add_to(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--to``; ``what`` says what it is for."""
    parser.add_argument("--to", metavar="URL", help=f"{what} (default: what is configured)")


def origins_of(args: argparse.Namespace, config: Config) -> list[str]:
    """The origins that a command is about: that of ``--to``, or all that are configured.

    Raises:
        SendError: None is configured, or ``--to`` may not be sent to.
        UsageError: ``--to`` is no address.
    """
    if args.to is not None:
        return [origin_of(args.to)]
    found = purposes_of(config)
    origins = [origin for purpose in found for origin in purpose.origins.split()]
    if not origins:
        raise SendError(found[0].problem, hint=found[0].hint)
    return list(dict.fromkeys(origins))


def origin_of(url: str) -> str:
    """The origin of what ``--to`` says.

    Raises:
        UsageError: It is no address, or holds credentials.
        SendError: It is plain http to another computer.
    """
    from stack_composer.telemetry.send.addresses import address_of

    try:
        address = address_of(url, "--to")
    except SendError as error:
        raise UsageError(str(error), hint=error.hint) from None
    if address.scheme == "http" and not address.is_loopback:
        raise SendError(
            f"nothing is ever sent to {address.origin} unencrypted", hint="write https://"
        )
    return address.origin
