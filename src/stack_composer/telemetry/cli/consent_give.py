"""Allow that records leave this computer for a destination, after showing the policy.

The consent is written down with its date and the version of the policy, beside the
configuration and in the audit log. It holds for uploads and for exporters over the network
until it is withdrawn, or the policy comes to allow more. By itself nothing leaves:
upload_enabled must be true, and DO_NOT_TRACK unset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.destinations import add_to, origins_of
from stack_composer.telemetry.cli.parser import UsageError
from stack_composer.telemetry.errors import NotAllowedError
from stack_composer.telemetry.upload import consent
from stack_composer.telemetry.upload.permission import forbidden

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    "origins": "to whom",
    "policy_version": "the version of the policy that was agreed to",
    "policy": "its text",
    "given": "origin, policy_version, date and by of each consent that was written down",
    "held_back": "the setting that lets nothing leave all the same, or null",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """To whom, and whether to ask."""
    parser.epilog = "exit code: 0; 1 also when you answer no; 2 when nobody can be asked"
    add_to(parser, "the destination, of which scheme, host and port count")
    parser.add_argument("-y", "--yes", action="store_true", help="agree without being asked")


def run(args: argparse.Namespace) -> int:
    """Show the policy, ask, write it down."""
    config = places.load(args)
    if config.do_not_track:
        raise NotAllowedError(
            f"DO_NOT_TRACK ({config.origin['do_not_track']}) is set: no consent can be given",
            hint="unset DO_NOT_TRACK first, if you mean it",
        )
    origins = origins_of(args, config)
    policy = consent.policy_text(" and ".join(origins))
    if not args.json:
        print_policy(policy)
    if not args.yes and not _agreed(args):
        output.note("no consent was given")
        return 1
    given = consent.give(config, " ".join(origins), by="--yes" if args.yes else "prompt")
    held_back = forbidden(config)
    if args.json:
        output.print_json(
            {
                "origins": origins,
                "policy_version": consent.POLICY_VERSION,
                "policy": policy,
                "given": [one._asdict() for one in given],
                "held_back": None if held_back is None else held_back.reason,
            }
        )
        return 0
    output.say(f"written down in {consent.consent_path(config)}")
    if held_back is not None:
        output.say(f"nothing leaves yet: {held_back.reason}; {held_back.hint}")
    return 0


def print_policy(policy: str) -> None:
    """Print the policy for who is going to be asked."""
    output.say(f"policy, version {consent.POLICY_VERSION}:")
    for line in policy.splitlines():
        output.say(line)


def _agreed(args: argparse.Namespace) -> bool:
    if args.json or not output.is_interactive():
        raise UsageError(
            "this is yours to decide, and nobody can be asked here",
            hint="read the policy above, and add --yes to agree",
        )
    return output.ask("do you agree?")
