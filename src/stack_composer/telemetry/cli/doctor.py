"""Look for damage and misconfiguration, and say how to mend each.

With --repair: tighten modes, clear away half-made files, seal what ends in a torn line,
write sidecars anew that are missing or wrong, and put aside, in quarantine/, what cannot
be read; the lines that can be are kept. Bundles being written are left alone.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import checks, output, places
from stack_composer.telemetry.cli.parser import UsageError, add_folder
from stack_composer.telemetry.errors import ConfigError, TelemetryError
from stack_composer.telemetry.store import repair

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from stack_composer.telemetry.store.repair import Step

JSON_KEYS = {
    "ok": "whether nothing is wrong (after the repair, if there was one)",
    "directory": "the folder",
    "checks": "the names of the checks that were made",
    "findings": "check, what, mend and is_repairable of each",
    "plan": "null, or with --repair the steps: action, name (of the file) and why of each",
    "repaired": "null, or what --repair did: modes, removed, sealed, rebuilt, saved,"
    " quarantined and failed",
}

PROGRESS_AFTER_S = 1.0

_DONE = {
    repair.TIGHTEN: "modes",
    repair.REMOVE: "removed",
    repair.SEAL: "sealed",
    repair.REBUILD: "rebuilt",
    repair.SAVE: "saved",
    repair.QUARANTINE: "quarantined",
}
"""What ``repaired`` calls each action once it is done."""


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
    findings, plan = ([], []) if directory is None else _examine(directory)
    findings[:0] = checks.check_configuration()
    repaired = None
    failed: list[tuple[Step, str]] = []
    if args.repair and not args.dry_run and directory and plan:
        repaired, failed = _repair(directory, plan)
        findings = [*checks.check_configuration(), *_examine(directory)[0]]
    if args.json:
        output.print_json(
            {
                "ok": not findings,
                "directory": directory,
                "checks": list(_CHECKS),
                "findings": [finding.as_json() for finding in findings],
                "plan": [step._asdict() for step in plan] if args.repair else None,
                "repaired": repaired,
            }
        )
    else:
        if args.repair:
            _print_plan(plan, repaired, failed)
        _print(findings, directory)
    return 1 if findings else 0


def _directory(args: argparse.Namespace) -> str | None:
    """Return the folder; None when the configuration that names it is broken."""
    try:
        return places.folder_of(args)
    except ConfigError:
        return None


_CHECKS: dict[str, Callable[[str], list[checks.Finding]] | None] = {
    # Two need more than the folder: see ``run`` and ``_examine``.
    "configuration": None,
    "environment": lambda _: checks.check_environment(),
    "folder": checks.check_folder,
    "modes": checks.check_modes,
    "foreign": checks.check_foreign,
    "leftovers": checks.check_leftovers,
    "gdpr": checks.check_gdpr,
    "encryption": checks.check_encryption,
    "bundles": None,
    "pressure": checks.check_pressure,
    "consent": checks.check_consent,
    "audit": checks.check_audit,
    "losses": checks.check_losses,
    "guard": checks.check_guard,
}


def _examine(directory: str) -> tuple[list[checks.Finding], list[Step]]:
    """Make all checks of the folder; return the findings, and what a repair would do."""
    findings: list[checks.Finding] = []
    plan: list[Step] = []
    for name, check in _CHECKS.items():
        found: list[checks.Finding] = []
        try:
            if name == "bundles":
                survey = repair.survey(directory, progress=_Progress())
                found, plan = checks.check_bundles(survey), repair.plan_repair(survey)
            elif check is not None:
                found = check(directory)
        except TelemetryError as error:
            found = [checks.Finding(name, str(error), error.hint or "see the finding above")]
        findings += found
        if name == "folder" and any(not finding.is_repairable for finding in found):
            break  # A folder that is refused is not looked into.
    return findings, plan


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


def _repair(directory: str, plan: list[Step]) -> tuple[dict[str, int], list[tuple[Step, str]]]:
    """Take the steps; return how many of each kind, and those that failed."""
    result = repair.apply_repair(directory, plan)
    counts = {name: result.done.get(action, 0) for action, name in _DONE.items()}
    return {**counts, "failed": len(result.failed)}, result.failed


def _print_plan(
    plan: list[Step], repaired: dict[str, int] | None, failed: list[tuple[Step, str]]
) -> None:
    """Print the steps: what would be done, or what was."""
    for step in plan:
        output.say(f"{step.action} {step.name}: {step.why}")
    for step, why in failed:
        output.say(f"could not {step.action} {step.name}: {why}")
    if repaired is not None:
        done = ", ".join(f"{name} {count:,}" for name, count in repaired.items() if count)
        output.say(f"repaired: {done or 'nothing'}")
    elif plan:
        output.say("dry run: nothing was changed")


def _print(findings: list[checks.Finding], directory: str | None) -> None:
    for finding in findings:
        output.say(f"{finding.check}: {finding.what}")
        output.say(f"  mend: {finding.mend}")
    if not findings:
        where = f" in {directory}" if directory else ""
        output.say(f"nothing is wrong{where} ({len(_CHECKS)} checks)")
