"""Take back what you allowed: nothing more leaves, from the next request on.

What has left cannot be called back; 'telemetry audit' lists it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.destinations import origin_of
from stack_composer.telemetry.upload import consent

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {"withdrawn": "origin, policy_version, date and by of each consent that is gone"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which."""
    parser.epilog = "exit code: 0, also when there was nothing to withdraw"
    parser.add_argument("--to", metavar="URL", help="only that to this destination (default: all)")


def run(args: argparse.Namespace) -> int:
    """Withdraw. It is not asked about: it takes no more than can be given again."""
    config = places.load(args, bad_rules=True)
    origin = None if args.to is None else origin_of(args.to)
    gone = consent.withdraw(config, origin)
    if args.json:
        output.print_json({"withdrawn": [one._asdict() for one in gone]})
        return 0
    for one in gone:
        output.say(f"withdrawn: the consent to {one.origin} of {one.date[:10]}")
    if not gone:
        output.say("there is no such consent" if origin else "there is no consent")
    return 0
