"""Delete all that is kept of you, after showing it.

Bundles and what belongs to them, encrypted databases, half-made files, what was put
aside, and the ledger of imports; with --keys also the keys of those databases, after
which no copy of them can be read, and the salts of hashed ids, after which nobody can tell
whose an id was, in copies of the files either. Files that are not ours stay, and are
named; so do the configuration and your consents ('consent withdraw' takes these back).

The log of what left this computer stays too, since it says where else your data is, so
that you can have it erased there: 'audit' shows it, and --audit has it gone as well. It
holds times, sizes and names of bundles, and nothing that was recorded.
A program that records goes on, with a new file: 'telemetry disable' comes first.

Deleted files may live on in backups, and on the disk until they are overwritten.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.config_path import config_place
from stack_composer.telemetry.cli.parser import UsageError, add_folder
from stack_composer.telemetry.guard.hashing import erase_salts, salt_paths
from stack_composer.telemetry.store.erase import WHAT, apply_erase, keys_of, plan_erase
from stack_composer.telemetry.upload.anchor import remove_anchor

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.store.erase import ErasePlan, EraseResult

JSON_KEYS = {
    "directory": "the folder",
    "dry_run": "whether nothing was touched on purpose",
    "files": "what is ours there: files and bytes by kind",
    "keys": "the salts that go too; empty without --keys",
    "database_keys": "stems of the encrypted databases whose keys go too; empty without --keys",
    "foreign": "names of what is not ours: it stays",
    "kept": "names of what is ours and stays: the log of what left, without --audit",
    "deleted": "how many files are gone, salts included, keys of databases not",
    "deleted_bytes": "their size, without salts",
    "left": "names of ours that are still there, or came meanwhile",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether keys go too, and whether to ask."""
    parser.epilog = (
        "exit code: 0; 1 also when you answer no or something is left; 2 when nobody can be asked"
    )
    parser.add_argument(
        "--keys",
        action="store_true",
        help="delete the salts of hashed ids and the keys of databases too",
    )
    parser.add_argument(
        "--audit", action="store_true", help="delete the log of what left this computer too"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would go")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, ask, delete, look again."""
    plan = plan_erase(places.folder_of(args), audit=args.audit)
    salts = salt_paths(os.path.dirname(config_place()[0])) if args.keys else []
    doomed = keys_of(plan) if args.keys else []
    if not args.json:
        _print_plan(plan, salts, doomed)
    result = None
    deleted_salts: list[str] = []
    if (plan.files or salts) and not args.dry_run:
        if not args.yes and not _agreed(args, plan, salts):
            output.note("nothing was deleted")
            return 1
        # Keys last: half-way through, what is left can still be read by its owner.
        result = apply_erase(plan)
        if args.audit:
            remove_anchor(plan.directory, os.path.dirname(config_place()[0]))
        deleted_salts = erase_salts(salts)
        _destroy(args, doomed)
    _tell(args, plan, salts, result, deleted_salts)
    return int(bool(result and result.left))


def _destroy(args: argparse.Namespace, doomed: list[tuple[str, str]]) -> None:
    """Destroy keys of databases; a passphrase is in its owner's head alone."""
    if doomed:
        from stack_composer.telemetry.store import keys

        held = keys.configured(places.load(args, bad_rules=True))
        for stem, source in doomed:
            held.destroy(stem, source)


def _print_plan(plan: ErasePlan, salts: list[str], doomed: list[tuple[str, str]]) -> None:
    if plan.files:
        output.say(f"in {plan.directory}, to delete:")
        rows = []
        for kind, what in WHAT.items():
            sizes = [file.bytes for file in plan.files if file.kind == kind]
            if sizes:
                rows.append((what, f"{len(sizes):,}", output.bytes_text(sum(sizes))))
        output.table(("what", "files", "size"), rows)
    else:
        output.say(f"nothing is kept in {plan.directory}")
    for path in salts:
        output.say(f"and the salt {path}")
    for stem, source in doomed:
        where = {"keychain": "keychain", "keyfile": "key file"}.get(source)
        if where:
            output.say(f"and the key of {stem} in the {where}")
    if plan.kept:
        output.say(
            f"{', '.join(plan.kept)} stays: it says what left this computer; --audit takes it too"
        )
    if plan.foreign:
        names = ", ".join(plan.foreign[:5]) + (" and more" if len(plan.foreign) > 5 else "")
        output.say(f"not ours, stays: {names}")


def _agreed(args: argparse.Namespace, plan: ErasePlan, salts: list[str]) -> bool:
    if args.json or not output.is_interactive():
        raise UsageError(
            "erase deletes all, and nobody can be asked here",
            hint="add --yes to delete, or --dry-run to see what would go",
        )
    keys = f" and {output.counted(len(salts), 'salt')}" if salts else ""
    return output.ask(f"delete {output.counted(len(plan.files), 'file')}{keys} for good?")


def _tell(
    args: argparse.Namespace,
    plan: ErasePlan,
    salts: list[str],
    result: EraseResult | None,
    deleted_salts: list[str],
) -> None:
    left = result.left if result else ()
    deleted = (result.deleted if result else 0) + len(deleted_salts)
    deleted_bytes = result.deleted_bytes if result else 0
    if args.json:
        files = {
            kind: {
                "files": sum(file.kind == kind for file in plan.files),
                "bytes": sum(file.bytes for file in plan.files if file.kind == kind),
            }
            for kind in WHAT
        }
        output.print_json(
            {
                "directory": plan.directory,
                "dry_run": args.dry_run,
                "files": files,
                "keys": salts,
                "database_keys": [stem for stem, _ in keys_of(plan)] if args.keys else [],
                "foreign": list(plan.foreign),
                "kept": list(plan.kept),
                "deleted": deleted,
                "deleted_bytes": deleted_bytes,
                "left": list(left),
            }
        )
        return
    if args.dry_run:
        output.say("dry run: nothing was deleted")
    elif result is not None:
        output.say(f"deleted {output.counted(deleted, 'file')}, {output.bytes_text(deleted_bytes)}")
    if left:
        output.say(f"{output.counted(len(left), 'file')} of ours still there: a program records")
        output.say("run 'stack-composer telemetry disable' first, and this again")
