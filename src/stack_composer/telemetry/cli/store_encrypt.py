"""Encrypt the store: what is recorded from now on, and all that is there.

The configuration is changed first, so running programs write encrypted within a second;
then bundle after bundle moves into the database. Stopped half-way nothing is lost, and
running it again goes on. The key is made at random and kept in the keychain, or in the
configured key_file; with STACK_COMPOSER_TELEMETRY_PASSPHRASE set it is made of that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import converting, output, places
from stack_composer.telemetry.config import edit_config
from stack_composer.telemetry.store import convert, keys
from stack_composer.telemetry.store.encrypted.database import library, open_for_writing

if TYPE_CHECKING:
    import argparse

JSON_KEYS = converting.JSON_KEYS

KEY_PLACES = {
    "keychain": "in the keychain",
    "passphrase": f"made of the passphrase in {keys.VARIABLE}",
    "keyfile": "in the key file",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to ask, and where."""
    converting.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, ask, convert."""
    library()
    config = places.load(args)
    unlock = keys.configured(config)
    plan = convert.plan_encrypt(config.directory, unlock)
    configure = converting.configure_text(args, config, "sqlcipher")
    if not args.json:
        _say(args, plan, configure, unlock)
    if plan.is_nothing and configure is None:
        return converting.report(args, plan, configure, None)
    if not converting.agreed(args, "encrypt the store?"):
        return converting.report(args, plan, configure, None) if args.dry_run else _no()
    # First a database that opens: without one, programs would write nothing.
    open_for_writing(config.directory, unlock).close()
    if configure is not None:
        edit_config(config.config_path, "store.encryption", "sqlcipher")
    done = converting.convert(plan, unlock)
    if configure is not None and plan.in_use:
        # What was being written in plain is closed by now.
        time.sleep(converting.RELOAD_S)
        plan = convert.plan_encrypt(config.directory, unlock)
        done = converting.convert(plan, unlock, done)
    code = converting.report(args, plan, configure, done)
    if plan.in_use and not args.json:
        output.say(f"{output.counted(len(plan.in_use), 'bundle')} are still being written in plain")
    return code


def _say(
    args: argparse.Namespace, plan: convert.ConversionPlan, configure: str | None, unlock: keys.Keys
) -> None:
    if plan.is_nothing and configure is None:
        output.say(f"nothing to do: no plain bundle in {plan.directory}")
        return
    key = KEY_PLACES[unlock.source()]
    notes = [f"the key of a new database: {key}; without it nothing can be read again"]
    if unlock.source() == "passphrase":
        notes.append("every program that records needs that variable too")
    if args.dir is None and configure is None and places.load(args).encryption == "none":
        notes.append("the configuration comes from elsewhere than the file, and stays as it is")
    converting.say_plan(plan, "to move into an encrypted database", configure, notes)


def _no() -> int:
    output.note("nothing was changed")
    return 1
