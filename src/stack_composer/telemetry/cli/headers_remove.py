"""Take a header of a destination out of the keychain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.destinations import add_to, origins_of

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    "origins": "the destinations whose header it was",
    "header": "its name",
    "removed": "whether there was one",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which header, of which destination."""
    parser.add_argument("name", metavar="NAME", help="the header, such as authorization")
    add_to(parser, "the destination")


def run(args: argparse.Namespace) -> int:
    """Take it out, and say whether it was there."""
    from stack_composer.telemetry.send.headers import read_keychain_headers, write_keychain_headers

    config = places.load(args, bad_rules=True)
    name = args.name.strip().lower()
    removed = []
    for origin in origins_of(args, config):
        headers = read_keychain_headers(origin)
        if headers.pop(name, None) is not None:
            write_keychain_headers(origin, headers)
            removed.append(origin)
    if args.json:
        output.print_json({"origins": removed, "header": name, "removed": bool(removed)})
    elif removed:
        output.say(f"gone from the keychain: {name} of {' and '.join(removed)}")
    else:
        output.say(f"there is no header {name} in the keychain")
    return 0
