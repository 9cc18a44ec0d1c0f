"""Say what the guard makes of one text: which rule takes what, why, and at what cost.

What a rule found is shown by its place only. Costs are measured now, on this
computer: the search that every text gets, and the rules that looked closer.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.guard_test import LINE_BYTES_MAX, configured_guard
from stack_composer.telemetry.errors import TelemetryError

if TYPE_CHECKING:
    import argparse

NAMED_MAX = 6
_ACTIONS = {"mask": "masked", "hash": "hashed", "drop": "dropped with all of the value"}

JSON_KEYS = {
    "text": "the text as it would be recorded; null when it would be dropped",
    "findings": "what was found: rule, tier, origin (ours or yours), start and end (in characters"
    " of the text given), action, reason, validator (what confirmed it, or empty), words (of the"
    " key)",
    "rules": "how many rules were asked; 0 when the key decides alone",
    "looked_at": "the rules that one search could not answer for",
    "search_us": "microseconds of that search",
    "rules_us": "microseconds of the rules that looked closer",
    "profile": "the profile",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The text, and what it would stand under."""
    parser.epilog = "example: stack-composer telemetry guard explain 'ask a@example.com'"
    parser.add_argument("text", metavar="TEXT", help="the text; - for standard input")
    parser.add_argument("--key", metavar="KEY", help="the attribute that it is the value of")
    parser.add_argument(
        "--profile", choices=("default", "strict"), help="default: the configured profile"
    )


def run(args: argparse.Namespace) -> int:
    """Explain, and print it."""
    from stack_composer.telemetry.guard.explain import explain

    guard = configured_guard(args.profile)
    found = explain(guard, _text(args.text), args.key or "")
    found["profile"] = guard.policy.profile
    if args.json:
        output.print_json(found)
    else:
        _print(found)
    return 0


def _text(text: str) -> str:
    if text != "-":
        return text
    if sys.stdin is None:
        raise TelemetryError("standard input is closed", hint="give the TEXT itself")
    data = sys.stdin.buffer.read(LINE_BYTES_MAX + 1)
    if len(data) > LINE_BYTES_MAX:
        raise TelemetryError(
            f"standard input is longer than {LINE_BYTES_MAX:,} bytes", hint="give a part of it"
        )
    # The line break that echo adds is not meant.
    return data.decode("utf-8", "replace").removesuffix("\n")


def _print(found: dict[str, Any]) -> None:
    text = found["text"]
    output.facts("recorded", "nothing: the value is dropped" if text is None else text)
    for one in found["findings"]:
        where = f"characters {one['start']:,} to {one['end']:,}"
        yours = ", a rule of yours" if one["origin"] == "yours" else ""
        output.facts("found", f"{one['rule']}{yours}: {where}, {_ACTIONS[one['action']]}")
        output.facts("  why", one["reason"])
        if one["words"]:
            output.facts("  by", f"the key, which says '{one['words']}'")
        elif one["validator"]:
            output.facts("  by", f"its form (tier {one['tier']}), confirmed by {one['validator']}")
        else:
            output.facts("  by", f"its form (tier {one['tier']})")
    if not found["findings"]:
        output.facts("found", "nothing")
    _print_cost(found)


def _print_cost(found: dict[str, Any]) -> None:
    if not found["rules"]:
        output.facts("asked", "the key alone; no text was searched")
        return
    looked_at = found["looked_at"]
    names = ", ".join(looked_at[:NAMED_MAX])
    more = f" and {len(looked_at) - NAMED_MAX} more" if len(looked_at) > NAMED_MAX else ""
    closer = f"{len(looked_at)} looked closer: {names}{more}" if looked_at else "none looked closer"
    rules = f"{found['rules']} rules of profile {found['profile']} in one search"
    output.facts("asked", f"{rules}; {closer}")
    cost = f"{found['search_us']:g} µs for the search"
    output.facts("cost", f"{cost}, {found['rules_us']:g} µs for those" if looked_at else cost)
