"""Keep a header of a destination, such as its credentials, in the keychain.

The value is read from standard input, or asked for without showing it; never from the
command line, which other users of this computer can see. It is sent with each request to
that origin when headers_from = "keychain" stands under [upload].
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import custody, output, places
from stack_composer.telemetry.cli.destinations import add_to, origins_of
from stack_composer.telemetry.cli.parser import UsageError

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.config import Config

JSON_KEYS = {
    "origins": "the destinations whose header it is",
    "header": "its name",
    "used": 'whether headers_from = "keychain", so that it is sent',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which header, of which destination."""
    parser.add_argument("name", metavar="NAME", help="the header, such as authorization")
    add_to(parser, "the destination")
    parser.epilog = "example: stack-composer telemetry headers set authorization < token.txt"


def run(args: argparse.Namespace) -> int:
    """Read the value, check it, keep it."""
    from stack_composer.telemetry.send.headers import read_keychain_headers, write_keychain_headers

    config = places.load(args, bad_rules=True)
    origins = origins_of(args, config)
    name = args.name.strip().lower()
    _check(name, "")
    value = _value(name)
    _check(name, value)
    for origin in origins:
        write_keychain_headers(origin, {**read_keychain_headers(origin), name: value})
    _tell(args, config, origins, f"kept in the keychain: {name} of {' and '.join(origins)}")
    return 0


def _check(name: str, value: str) -> None:
    """Refuse a header that could not be sent, without quoting its value.

    Raises:
        UsageError: With the reason.
    """
    from stack_composer.telemetry.send.headers import fault

    wrong = fault(name, value)
    if wrong:
        raise UsageError(f"the header {wrong}", hint="write it like: headers set authorization")


def _value(name: str) -> str:
    if output.is_interactive():
        value = custody.ask(f"value of {name}: ")
    else:
        value = sys.stdin.readline(2**16).removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageError(
            "the value is empty", hint="type it, or hand it over: headers set NAME < file"
        )
    return value


def _tell(args: argparse.Namespace, config: Config, origins: list[str], done: str) -> None:
    """Say what was done, never a value."""
    used = config.upload_headers_from == "keychain"
    if args.json:
        output.print_json({"origins": origins, "header": args.name.strip().lower(), "used": used})
        return
    output.say(done)
    if not used:
        output.say('it is used once headers_from = "keychain" stands under [upload]')
