"""List the rules of the guard: ours, and those of the configuration.

They are shown in the order in which they are asked; a rule over keys comes before
those that look into texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.guard.own import OwnRule

JSON_KEYS = {"rules": "name, tier, profile, action, origin (ours or yours) and reason of each"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which profile."""
    parser.add_argument(
        "--profile", choices=("default", "strict"), help="only the rules of that profile"
    )


def run(args: argparse.Namespace) -> int:
    """List them."""
    from stack_composer.telemetry.config import load_config
    from stack_composer.telemetry.guard.rules import describe

    rows = [{**row, "origin": "ours"} for row in describe()]
    rows += map(_described, load_config().redaction_rules)
    if args.profile == "default":
        rows = [row for row in rows if row["profile"] == "default"]
    if args.json:
        output.print_json({"rules": rows})
        return 0
    columns = ("tier", "profile", "action", "origin")
    output.table(("rule", *columns), [(row["name"], *(row[c] for c in columns)) for row in rows])
    return 0


def _described(rule: OwnRule) -> dict[str, str]:
    return {
        "name": rule.name,
        "tier": "key" if rule.key else "own",
        "profile": rule.profile,
        "action": rule.action,
        "reason": rule.reason,
        "origin": "yours",
    }
