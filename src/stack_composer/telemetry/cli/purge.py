"""Delete bundles, after showing which; those being written always stay.

Without an option: what the retention settings say, at once instead of at the next
opportunity (older than local_retention_days, and the oldest beyond kept_bytes_max).
--all deletes every closed bundle, --older-than what is older. In an encrypted store
--all takes bundles being written too (their programs begin others), and destroys the
keys: also of a database that cannot be opened any more. --verify then searches the
folder for whatever was deleted, and fails if anything of it is left.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import UsageError, add_folder
from stack_composer.telemetry.query.duration import age_text, parse_duration_ns, utc_text
from stack_composer.telemetry.store import keys, outboxes
from stack_composer.telemetry.store.encrypted import erase
from stack_composer.telemetry.store.quarantine import (
    list_quarantine,
    plan_quarantine,
    remove_quarantined,
)
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.recover import remove_leftovers
from stack_composer.telemetry.store.retention import (
    PurgePlan,
    apply_purge,
    closed_bundles,
    plan_purge,
    size_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack_composer.telemetry.store.encrypted.database import Database
    from stack_composer.telemetry.store.encrypted.erase import Unread
    from stack_composer.telemetry.store.evidence import Evidence, Left
    from stack_composer.telemetry.store.quarantine import Quarantined
    from stack_composer.telemetry.store.reader import BundleInfo

BUNDLES_SHOWN_MAX = 10

JSON_KEYS = {
    "directory": "the folder",
    "dry_run": "whether nothing was touched on purpose",
    "delete": "the plan, oldest first: path, bytes (sidecar included) and created of each bundle",
    "deleted": "how many bundles were deleted",
    "deleted_bytes": "how much room that gave back",
    "kept": "how many bundles stay, those being written included",
    "kept_bytes": "their size",
    "in_use": "bundles that a process writes: left alone",
    "left": "with --verify: path and why of each file that still holds something; else null",
    "quarantine": "how many files of the quarantine the plan deletes too",
    "destroy": "encrypted databases that go with their keys, under --all",
    "destroyed": "how many of them are gone",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to delete, and whether to ask."""
    parser.epilog = (
        "exit code: 0; 1 also when you answer no, or when --verify finds something; "
        "2 when nobody can be asked"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--older-than", metavar="AGE", help="delete what is at least this old: 12h, 30d, 2w"
    )
    what.add_argument("--all", action="store_true", help="delete every closed bundle")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and touch nothing")
    parser.add_argument(
        "--verify", action="store_true", help="prove that nothing of what was deleted is left"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, show, ask, delete."""
    now_ns = effects.wall_ns()
    older_than_ns = None if args.older_than is None else parse_duration_ns(args.older_than)
    folder = places.folder_of(args)
    # What cannot be read can still be destroyed.
    listed = list_bundles(folder, locked=[] if args.all else None).bundles
    for outbox in outboxes.existing(folder):
        listed += list_bundles(outbox, locked=[] if args.all else None).bundles
    closed = closed_bundles(listed)
    if args.all:
        closed += [bundle for bundle in listed if bundle.database and bundle not in closed]
    in_use = [bundle for bundle in listed if bundle not in closed]
    plan, why = _plan(args, closed, older_than_ns, now_ns)
    aside = _aside(args, folder, older_than_ns, now_ns)
    doomed = Doomed(args, folder)
    if not args.json:
        _print_plan(plan, in_use, why, now_ns)
        if aside:
            output.say(f"{_files(aside)} in quarantine, to delete too")
        doomed.say()
    is_applied = bool(plan.delete or aside or doomed) and not args.dry_run
    if is_applied and not args.yes and not _agreed(args, plan, doomed):
        output.note("nothing was deleted")
        return 1
    if is_applied:
        remove_quarantined(aside)
    return _apply(args, folder, plan, in_use, aside, doomed, is_applied=is_applied)


class Doomed:
    """The encrypted databases that go with their keys: crypto-erase, under --all alone."""

    def __init__(self, args: argparse.Namespace, folder: str) -> None:
        self._folder = folder
        self._opened: list[Database] = []
        self._unread: list[Unread] = []
        self.destroyed = 0
        self._half_made: list[str] = []
        if args.all:
            self._half_made = erase.half_made(folder)
            self._keys = keys.configured(places.load(args, bad_rules=True))
            self._opened, self._unread = erase.plan_destruction(folder, self._keys)

    def __bool__(self) -> bool:
        return bool(self._opened or self._unread or self._half_made)

    @property
    def names(self) -> list[str]:
        """Of the databases."""
        return [database.name for database in self._opened] + [one.name for one in self._unread]

    def say(self) -> None:
        """Print which, and which of them nobody can look into."""
        for database in self._opened:
            output.say(f"to destroy with its key: {database.name}")
        for one in self._unread:
            output.say(f"to destroy, although it cannot be opened: {one.name}")
            output.say(f"  {one.error}")

    def destroy(self) -> None:
        """Destroy them; a database in which something was begun meanwhile stays."""
        for database in self._opened:
            self.destroyed += erase.destroy_if_empty(database)
        for one in self._unread:
            erase.destroy_unread(self._folder, one.name, self._keys)
            self.destroyed += 1
        if self._half_made:
            erase.clear(self._folder, self._keys)


def _plan(
    args: argparse.Namespace, closed: list[BundleInfo], older_than_ns: int | None, now_ns: int
) -> tuple[PurgePlan, str]:
    """Return the plan, and in words what it goes by."""
    if args.all:
        return _everything(closed, []), "all that is closed"
    if older_than_ns is not None:
        # Ages finer than plan_purge's days: choose here, and have all of it deleted.
        old = [b for b in closed if now_ns - b.created_ns >= older_than_ns]
        return _everything(old, [b for b in closed if b not in old]), f"{args.older_than} or older"
    config = places.load(args)
    plan = plan_purge(
        closed,
        now_ns=now_ns,
        keep_days=config.local_retention_days,
        kept_bytes_max=config.kept_bytes_max,
    )
    room = output.bytes_text(config.kept_bytes_max)
    return plan, f"{config.local_retention_days} days or older, or beyond {room} in all"


def _aside(
    args: argparse.Namespace, folder: str, older_than_ns: int | None, now_ns: int
) -> list[Quarantined]:
    """Return what goes from the quarantine: what is as old as the bundles that go."""
    found = list_quarantine(folder)
    if args.all or not found:
        return found
    if older_than_ns is not None:
        return [entry for entry in found if now_ns - entry.created_ns >= older_than_ns]
    keep_days = places.load(args).local_retention_days
    return plan_quarantine(found, now_ns=now_ns, keep_days=keep_days)


def _files(some: Sequence[Quarantined]) -> str:
    return output.counted(len(some), "file")


def _everything(delete: Sequence[BundleInfo], keep: Sequence[BundleInfo]) -> PurgePlan:
    plan = plan_purge(delete, now_ns=0, keep_days=0, kept_bytes_max=0)
    return PurgePlan(plan.delete, tuple(keep))


def _print_plan(plan: PurgePlan, in_use: Sequence[BundleInfo], why: str, now_ns: int) -> None:
    if not plan.delete:
        output.say(f"nothing to delete: no closed bundle is {why}")
        if plan.keep:
            size = output.bytes_text(plan.kept_bytes)
            output.say(f"'purge --all' would delete {_bundles(plan.keep)} ({size})")
    else:
        folder = os.path.dirname(plan.delete[0].path)
        output.say(f"in {folder}, to delete ({why}):")
        rows = [
            (
                os.path.basename(bundle.path),
                output.bytes_text(size_of(bundle)),
                age_text(now_ns - bundle.created_ns),
            )
            for bundle in plan.delete[:BUNDLES_SHOWN_MAX]
        ]
        output.table(("bundle", "size", "age"), rows)
        more = len(plan.delete) - BUNDLES_SHOWN_MAX
        if more > 0:
            output.say(f"and {more:,} newer")
        size = output.bytes_text(plan.deleted_bytes)
        output.say(f"{_bundles(plan.delete)}, {size}; {_bundles(plan.keep)} stay")
    if in_use:
        output.say(f"{_bundles(in_use)} being written: left alone")


def _bundles(some: Sequence[BundleInfo]) -> str:
    return output.counted(len(some), "bundle")


def _agreed(args: argparse.Namespace, plan: PurgePlan, doomed: Doomed) -> bool:
    if args.json or not output.is_interactive():
        raise UsageError(
            "purge deletes, and nobody can be asked here",
            hint="add --yes to delete, or --dry-run to see the plan",
        )
    if doomed:
        count = output.counted(len(doomed.names), "encrypted database")
        return output.ask(f"delete {_bundles(plan.delete)}, and destroy {count} and the key?")
    return output.ask(f"delete {_bundles(plan.delete)}?")


def _apply(
    args: argparse.Namespace,
    folder: str,
    plan: PurgePlan,
    in_use: list[BundleInfo],
    aside: list[Quarantined],
    doomed: Doomed,
    *,
    is_applied: bool,
) -> int:
    deleted = deleted_bytes = 0
    refused = 0
    evidence = _evidence(plan) if is_applied and args.verify else None
    if is_applied:
        result = apply_purge(plan)
        # What purges and sealings that died half-way have left is a trace as well.
        remove_leftovers(folder)
        deleted, deleted_bytes, refused = result.deleted, result.deleted_bytes, result.in_use
        doomed.destroy()
    left = evidence.look(folder) if evidence else []
    if args.json:
        output.print_json(
            {
                "directory": folder,
                "dry_run": args.dry_run,
                "delete": [_described(bundle) for bundle in plan.delete],
                "deleted": deleted,
                "deleted_bytes": deleted_bytes,
                "kept": len(plan.keep) + len(in_use) + refused,
                "kept_bytes": plan.kept_bytes + sum(map(size_of, in_use)),
                "in_use": len(in_use) + refused,
                "left": [one._asdict() for one in left] if evidence else None,
                "quarantine": len(aside),
                "destroy": doomed.names,
                "destroyed": doomed.destroyed,
            }
        )
    elif is_applied:
        output.say(f"deleted {deleted:,}, which frees {output.bytes_text(deleted_bytes)}")
        if doomed:
            count = output.counted(doomed.destroyed, "encrypted database")
            output.say(f"destroyed {count} with the key")
        if refused:
            output.say(f"{refused:,} came into use meanwhile and stay")
        if evidence:
            _print_left(left)
    elif plan.delete:
        output.say("dry run: nothing was deleted")
    return 1 if left else 0


def _evidence(plan: PurgePlan) -> Evidence:
    from stack_composer.telemetry.store.evidence import Evidence

    evidence = Evidence()
    for bundle in plan.delete:
        evidence.note(bundle)
    return evidence


def _print_left(left: Sequence[Left]) -> None:
    if not left:
        output.say("verified: nothing of it is left in the folder")
    for one in left:
        output.say(f"left: {one.path}: {one.why}")


def _described(bundle: BundleInfo) -> dict[str, Any]:
    return {
        "path": bundle.path,
        "bytes": size_of(bundle),
        "created": utc_text(bundle.created_ns),
    }
