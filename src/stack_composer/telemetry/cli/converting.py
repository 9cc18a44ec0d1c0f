"""What ``store encrypt``, ``decrypt`` and ``rekey`` have in common: show, ask, do, tell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.parser import UsageError, add_folder
from stack_composer.telemetry.store.convert import Conversion

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.store.convert import ConversionPlan
    from stack_composer.telemetry.store.keys import Keys

RELOAD_S = 1.5
"""Programs follow a changed configuration within a second."""

JSON_KEYS = {
    "directory": "the folder",
    "dry_run": "whether nothing was touched on purpose",
    "configure": "the setting that is changed in the configuration file, or null",
    "bundles": "how many bundles there are to move",
    "bytes": "their size",
    "in_use": "plain bundles that a process is writing: they stay, for the next run",
    "destroy": "databases that go with their keys, once they are empty",
    "moved": "how many bundles were moved",
    "left": "how many stay as they are, being damaged or in use",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to ask, and where."""
    parser.epilog = (
        "exit code: 0; 1 also when you answer no, or when a bundle stays as it is;"
        " 2 when nobody can be asked"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and touch nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_folder(parser)


def agreed(args: argparse.Namespace, question: str) -> bool:
    """Whether to go on."""
    if args.dry_run:
        return False
    if args.yes:
        return True
    if args.json or not output.is_interactive():
        raise UsageError(
            "this changes the whole store, and nobody can be asked here",
            hint="add --yes to do it, or --dry-run to see the plan",
        )
    return output.ask(question)


def say_plan(plan: ConversionPlan, what: str, configure: str | None, notes: Sequence[str]) -> None:
    """Print what would be done."""
    size = output.bytes_text(plan.bytes)
    output.say(f"in {plan.directory}, {what}: {_bundles(len(plan.moves))}, {size}")
    if configure is not None:
        output.say(f"in the configuration: {configure}")
    if plan.leftover:
        output.say(f"{output.counted(len(plan.leftover), 'file')} of an earlier run: to delete")
    if plan.emptied:
        output.say(f"with their keys, to destroy once empty: {', '.join(plan.emptied)}")
    if plan.in_use:
        output.say(f"{_bundles(len(plan.in_use))} being written: left alone, for the next run")
    for note in notes:
        output.say(note)


def convert(plan: ConversionPlan, keys: Keys, done: Conversion | None = None) -> Conversion:
    """Carry a plan out, with a line of progress on a terminal."""
    conversion = Conversion(plan, keys)
    if done is not None:
        conversion.moved, conversion.left = done.moved, done.left
    is_shown = output.is_interactive()
    for count in conversion.run():
        if is_shown:
            sys.stderr.write(f"\rmoving bundles: {count:,} of {len(plan.moves):,}")
            sys.stderr.flush()
    if is_shown and plan.moves:
        sys.stderr.write("\r\x1b[K")
    return conversion


def report(
    args: argparse.Namespace,
    plan: ConversionPlan,
    configure: str | None,
    conversion: Conversion | None,
) -> int:
    """Print what was done, and return the exit code."""
    moved = conversion.moved if conversion is not None else 0
    left = conversion.left if conversion is not None else 0
    if args.json:
        output.print_json(_as_json(args, plan, configure, moved, left))
    elif conversion is not None:
        output.say(f"moved {_bundles(moved)}")
        if left:
            output.say(f"{_bundles(left)} stay as they were")
        if conversion.error is not None:
            output.note(f"{conversion.error}: {conversion.error.hint}")
    elif args.dry_run:
        output.say("dry run: nothing was changed")
    return 1 if left else 0


def _as_json(
    args: argparse.Namespace, plan: ConversionPlan, configure: str | None, moved: int, left: int
) -> dict[str, Any]:
    return {
        "directory": plan.directory,
        "dry_run": args.dry_run,
        "configure": configure,
        "bundles": len(plan.moves),
        "bytes": plan.bytes,
        "in_use": len(plan.in_use),
        "destroy": list(plan.emptied),
        "moved": moved,
        "left": left,
    }


def configure_text(args: argparse.Namespace, config: Config, wanted: str) -> str | None:
    """Say what is to be set in the file; None if nothing is, or another folder is meant."""
    if args.dir is not None or config.encryption == wanted:
        return None
    if not config.origin["encryption"].startswith(("file", "default")):
        return None
    return f'encryption = "{wanted}" under [store] in {config.config_path}'


def _bundles(count: int) -> str:
    return output.counted(count, "bundle")
