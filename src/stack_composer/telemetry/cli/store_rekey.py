"""Give the encrypted store a new key, and destroy the old one.

A new database with a key of its own is made, and bundle after bundle moves there. Until
the last one has moved both keys are kept, so stopped half-way nothing is lost; running it
again goes on. The new key goes where the configuration says now: so this is also the way
from the keychain to a key file, or back.

A new passphrase is taken from STACK_COMPOSER_TELEMETRY_NEW_PASSPHRASE, or asked for with
--new-passphrase; without either the same one makes another key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import converting, custody, output, places
from stack_composer.telemetry.cli.parser import UsageError
from stack_composer.telemetry.cli.store_encrypt import KEY_PLACES
from stack_composer.telemetry.store import convert, keys
from stack_composer.telemetry.store.encrypted.database import library

if TYPE_CHECKING:
    import argparse

JSON_KEYS = converting.JSON_KEYS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to ask, and where."""
    parser.add_argument(
        "--new-passphrase", action="store_true", help="ask for a new passphrase, twice"
    )
    converting.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, ask, convert."""
    library()
    if args.new_passphrase:
        _take_new_passphrase()
    config = places.load(args)
    unlock = keys.configured(config)
    plan = convert.plan_rekey(config.directory, unlock)
    if plan.is_nothing:
        if not args.json:
            output.say(f"nothing to do: no encrypted database in {plan.directory}")
        return converting.report(args, plan, None, None)
    if not args.json:
        notes = [f"the new key: {KEY_PLACES[unlock.source()]}"]
        converting.say_plan(plan, "to move under a new key", None, notes)
    if not converting.agreed(args, "change the key?"):
        if args.dry_run:
            return converting.report(args, plan, None, None)
        output.note("nothing was changed")
        return 1
    done = converting.convert(plan, unlock)
    code = converting.report(args, plan, None, done)
    if os.environ.get(keys.NEW_VARIABLE) and not args.json:
        output.say(f"set the new passphrase as {keys.VARIABLE} for every program that records")
    return code


def _take_new_passphrase() -> None:
    if not output.is_interactive():
        raise UsageError(
            "--new-passphrase asks, and nobody can be asked here",
            hint=f"set {keys.NEW_VARIABLE} instead",
        )
    text = custody.ask("new passphrase: ")
    if not text or text != custody.ask("once more: "):
        raise UsageError("the two are not the same, or empty", hint="nothing was changed")
    os.environ[keys.NEW_VARIABLE] = text
