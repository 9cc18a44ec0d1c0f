"""Say what you allowed to leave this computer, to whom, and whether it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.destinations import purposes_of
from stack_composer.telemetry.upload import consent
from stack_composer.telemetry.upload.permission import forbidden, permission_for

if TYPE_CHECKING:
    import argparse
    from typing import Any

JSON_KEYS = {
    "path": "the file of consents",
    "problem": "why the file counts for nothing, or null",
    "policy_version": "the version of the policy that holds now",
    "policy": "its text",
    "consents": "origin, policy_version, date and by of each, and whether it holds",
    "held_back": "the setting that lets nothing leave all the same, or null",
    "purposes": "name, origins, allowed and reason of upload and of each exporter over the network",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""
    parser.epilog = "exit code: 0, whatever you allowed"


def run(args: argparse.Namespace) -> int:
    """Look, and print."""
    config = places.load(args, bad_rules=True)
    consents = consent.read_consents(config)
    held_back = forbidden(config)
    purposes: list[dict[str, Any]] = []
    for purpose in purposes_of(config):
        decided = permission_for(config, consents, purpose.origins)
        reason = decided.reason if held_back or not purpose.problem else purpose.problem
        purposes.append(
            {
                "name": purpose.name,
                "origins": purpose.origins.split(),
                "allowed": decided.allowed,
                "reason": reason,
            }
        )
    found = {
        "path": consent.consent_path(config),
        "problem": consents.problem or None,
        "policy_version": consent.POLICY_VERSION,
        "policy": consent.policy_text("the destinations that you consent to,"),
        "consents": [{**one._asdict(), "holds": _holds(one)} for one in consents.given],
        "held_back": None if held_back is None else held_back.reason,
        "purposes": purposes,
    }
    if args.json:
        output.print_json(found)
    else:
        _print(found, consents)
    return 0


def _holds(one: consent.Consent) -> bool:
    return one.policy_version == consent.POLICY_VERSION


def _print(found: dict[str, Any], consents: consent.Consents) -> None:
    if consents.problem:
        output.say(f"no consent counts: {consents.problem}")
    elif not consents.given:
        output.say("no consent was given: nothing may leave this computer")
    else:
        rows = [
            (
                one.origin,
                one.date[:10],
                one.by,
                "holds" if _holds(one) else f"was for version {one.policy_version} of the policy",
            )
            for one in consents.given
        ]
        output.table(("to", "since", "by", "now"), rows)
    for purpose in found["purposes"]:
        state = "allowed" if purpose["allowed"] else "held back"
        output.facts(purpose["name"], f"{state}: {purpose['reason']}")
