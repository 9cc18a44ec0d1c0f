"""Look for damage and misconfiguration, and say how to mend each.

With --repair: tighten modes, seal what dead programs left (which cuts their torn
tails), and clear away half-made files. Bundles being written are left alone.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import checks, output, places
from stack_composer.telemetry.cli.parser import UsageError, add_folder
from stack_composer.telemetry.errors import ConfigError, TelemetryError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

JSON_KEYS = {
    "ok": "whether nothing is wrong (after the repair, if there was one)",
    "directory": "the folder",
    "checks": "the names of the checks that were made",
    "findings": "check, what, mend and is_repairable of each",
    "repaired": "null, or what --repair did: modes, sealed, removed, refused",
}

PROGRESS_AFTER_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to mend, and where."""
    parser.epilog = "exit code: 0 when nothing is wrong, 1 when something is"
    parser.add_argument("--repair", action="store_true", help="mend what can be mended here")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --repair: say what it would mend"
    )
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Check, mend if asked, check again."""
    if args.dry_run and not args.repair:
        raise UsageError("--dry-run goes with --repair", hint="plain doctor changes nothing anyway")
    directory = _directory(args)
    findings = [] if directory is None else _examine(directory)
    findings[:0] = checks.check_configuration()
    repaired = None
    is_to_repair = args.repair and not args.dry_run
    if is_to_repair and directory and any(finding.is_repairable for finding in findings):
        repaired = _repair(directory)
        findings = [*checks.check_configuration(), *_examine(directory)]
    if args.json:
        output.print_json(
            {
                "ok": not findings,
                "directory": directory,
                "checks": list(_CHECKS),
                "findings": [finding.as_json() for finding in findings],
                "repaired": repaired,
            }
        )
    else:
        _print(findings, directory, repaired, is_plan=args.dry_run)
    return 1 if findings else 0


def _directory(args: argparse.Namespace) -> str | None:
    """Return the folder; None when the configuration that names it is broken."""
    try:
        return places.folder_of(args)
    except ConfigError:
        return None


_CHECKS: dict[str, Callable[[str], list[checks.Finding]] | None] = {
    "configuration": None,
    "environment": lambda _: checks.check_environment(),
    "folder": checks.check_folder,
    "modes": checks.check_modes,
    "foreign": checks.check_foreign,
    "leftovers": checks.check_leftovers,
    "encryption": checks.check_encryption,
    "bundles": lambda directory: checks.check_bundles(directory, progress=_Progress()),
    "losses": checks.check_losses,
    "guard": checks.check_guard,
}


def _examine(directory: str) -> list[checks.Finding]:
    findings: list[checks.Finding] = []
    for name, check in _CHECKS.items():
        if check is None:
            continue
        try:
            found = check(directory)
        except TelemetryError as error:
            found = [checks.Finding(name, str(error), error.hint or "see the finding above")]
        findings += found
        if name == "folder" and any(not finding.is_repairable for finding in found):
            break  # A folder that is refused is not looked into.
    return findings


class _Progress:
    """A line on the terminal, only once the work has become long."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._is_shown = False

    def __call__(self, done: int, of: int) -> None:
        if done == of and self._is_shown:
            sys.stderr.write("\r\x1b[K")
        elif time.monotonic() - self._started > PROGRESS_AFTER_S and output.is_interactive():
            self._is_shown = True
            sys.stderr.write(f"\rreading bundles: {done:,} of {of:,}")
            sys.stderr.flush()


def _repair(directory: str) -> dict[str, Any]:
    """Mend; each step is safe to stop after, and safe beside running programs."""
    from stack_composer.telemetry.store.folder import open_folder
    from stack_composer.telemetry.store.recover import Recovery

    # Opening to write takes from group and others what they may do with the folder.
    folder = open_folder(directory, create=True)
    try:
        loose = checks.loose_files(directory)
        for name in loose:
            if checks.is_of_database(name):
                # By its path, as the end of any descriptor would end SQLite's locks.
                os.chmod(folder.path_of(name), 0o600)
                continue
            # By descriptor: what is opened was checked to be a file of ours.
            descriptor = folder.open(name)
            try:
                os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
        recovery = Recovery(folder)
        try:
            while not recovery.step():
                pass
        finally:
            recovery.close()
    finally:
        folder.close()
    return {
        "modes": len(loose),
        "sealed": recovery.sealed,
        "removed": recovery.removed + checks.clear_half_made(directory),
        "refused": len(recovery.refused),
    }


def _print(
    findings: list[checks.Finding],
    directory: str | None,
    repaired: dict[str, Any] | None,
    *,
    is_plan: bool,
) -> None:
    if repaired is not None:
        done = ", ".join(f"{name} {count:,}" for name, count in repaired.items() if count)
        output.say(f"repaired: {done or 'nothing'}")
    for finding in findings:
        output.say(f"{finding.check}: {finding.what}")
        mend = "would be mended" if is_plan and finding.is_repairable else finding.mend
        output.say(f"  mend: {mend}")
    if not findings:
        where = f" in {directory}" if directory else ""
        output.say(f"nothing is wrong{where} ({len(_CHECKS)} checks)")
