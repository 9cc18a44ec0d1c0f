"""Turn the encrypted store back into plain files, and destroy its key.

The configuration is changed first. A bundle is on the disk in its plain form before its
encrypted form goes, so stopped half-way nothing is lost; running it again goes on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import converting, output, places
from stack_composer.telemetry.config import edit_config
from stack_composer.telemetry.store import convert, keys
from stack_composer.telemetry.store.encrypted.database import library
from stack_composer.telemetry.store.retention import is_being_written

if TYPE_CHECKING:
    import argparse

JSON_KEYS = converting.JSON_KEYS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to ask, and where."""
    converting.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, ask, convert."""
    library()
    config = places.load(args)
    unlock = keys.configured(config)
    plan = convert.plan_decrypt(config.directory, unlock)
    configure = converting.configure_text(args, config, "none")
    if not args.json:
        if plan.is_nothing and configure is None:
            output.say(f"nothing to do: no encrypted database in {plan.directory}")
        else:
            notes = ["afterwards everybody who gets at these files can read them"]
            converting.say_plan(plan, "to move into plain files", configure, notes)
    if plan.is_nothing and configure is None:
        return converting.report(args, plan, configure, None)
    if not converting.agreed(args, "decrypt the store?"):
        if args.dry_run:
            return converting.report(args, plan, configure, None)
        output.note("nothing was changed")
        return 1
    if configure is not None:
        edit_config(config.config_path, "store.encryption", "none")
        if any(map(is_being_written, plan.moves)):
            # Otherwise programs that have not seen it yet would make another database.
            time.sleep(converting.RELOAD_S)
            plan = convert.plan_decrypt(config.directory, unlock)
    done = converting.convert(plan, unlock)
    return converting.report(args, plan, configure, done)
