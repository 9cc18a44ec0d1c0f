"""Replace the salt of hashed ids by a new one, and that of uploads with it.

From then on an id has another hash: what is recorded cannot be joined with what was
recorded before, by anyone, you included. Running programs follow within a second.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.config_path import config_place
from stack_composer.telemetry.cli.parser import UsageError

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    "folder": "the configuration folder, where the salts lie",
    "dry_run": "whether nothing was touched on purpose",
    "salts": "the files to replace; empty when no id was hashed yet",
    "rotated": "how many were replaced",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to ask."""
    parser.epilog = "exit code: 0; 1 also when you answer no; 2 when nobody can be asked"
    parser.add_argument("--dry-run", action="store_true", help="say what it would do")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Show, ask, rotate. The configuration itself is not read, so a broken one is no bar."""
    from stack_composer.telemetry.guard.hashing import rotate_salts, salt_paths

    folder = os.path.dirname(config_place()[0])
    salts = salt_paths(folder)
    rotated: list[str] = []
    if not args.json:
        _print_plan(folder, salts)
    if salts and not args.dry_run:
        if not args.yes and not _agreed(args):
            output.note("nothing was changed")
            return 1
        rotated = rotate_salts(folder)
    if args.json:
        output.print_json(
            {
                "folder": folder,
                "dry_run": args.dry_run,
                "salts": salts,
                "rotated": len(rotated),
            }
        )
    elif rotated:
        output.say(f"replaced {output.counted(len(rotated), 'salt')}")
    elif salts:
        output.say("dry run: nothing was changed")
    return 0


def _print_plan(folder: str, salts: list[str]) -> None:
    if not salts:
        output.say(f"there is no salt in {folder} yet: nothing to replace")
        return
    names = " and ".join(os.path.basename(path) for path in salts)
    output.say(f"in {folder}, to replace: {names}")
    output.say("ids hashed before will no longer match those hashed from now on")


def _agreed(args: argparse.Namespace) -> bool:
    if args.json or not output.is_interactive():
        raise UsageError(
            "this cannot be undone, and nobody can be asked here",
            hint="add --yes to replace the salt, or --dry-run to see what would be",
        )
    return output.ask("replace the salt?")
