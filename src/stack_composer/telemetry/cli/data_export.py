"""Put all that is kept of you into one file: a ZIP with a manifest.

Each bundle as plain OTLP JSON lines, the log of what left this computer, the configuration
with your consents, and a manifest of what each file is, how much is in it, and what is
left out and why (keys, and files that are not ours). The file has mode 0600. It is not
encrypted, and no purge finds it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.config_path import config_place
from stack_composer.telemetry.cli.parser import UsageError, add_folder
from stack_composer.telemetry.cli.progress import Progress
from stack_composer.telemetry.export.archive import plan_archive, write_archive
from stack_composer.telemetry.export.private_file import private_path
from stack_composer.telemetry.guard.hashing import salt_paths
from stack_composer.telemetry.upload.consent import CONSENT_NAME

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.export.archive import ArchivePlan

JSON_KEYS = {
    "directory": "the folder",
    "dry_run": "whether nothing was written on purpose",
    "bundles": "how many bundles there are",
    "other": "names of files of ours that are no whole bundle",
    "configuration": "path of the configuration file; empty without one",
    "consents": "path of the file of consents; empty without one",
    "audit": "names of the parts of the log of what left this computer",
    "left_out": "what is kept and is not in the file, and why",
    "file": "where it was written; null with --dry-run",
    "manifest": "what the file's manifest says; null with --dry-run",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("-o", "--output", metavar="FILE", help="the ZIP to write")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    parser.add_argument("--dry-run", action="store_true", help="say what would be in it")
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Plan, and write unless it is a dry run."""
    if args.output is None and not args.dry_run:
        raise UsageError("data export needs a file", hint="add -o FILE.zip, or --dry-run")
    folder = places.folder_of(args)
    config_path = config_place()[0]
    plan = plan_archive(
        folder,
        places.bundles_of(folder),
        configuration=config_path,
        keys=salt_paths(os.path.dirname(config_path)),
        consents=os.path.join(os.path.dirname(config_path), CONSENT_NAME),
    )
    path = manifest = None
    if not args.dry_run:
        path = places.absolute(args.output, "--output")
        with (
            Progress() as progress,
            private_path(path, replace=args.force, keep_out_of=folder) as aside,
        ):
            manifest = write_archive(
                aside,
                plan,
                now_ns=effects.wall_ns(),
                progress=lambda done: progress.show(
                    f"exporting: {done:,} of {len(plan.bundles):,} bundles"
                ),
            )
    if args.json:
        output.print_json(
            {
                "directory": folder,
                "dry_run": args.dry_run,
                "bundles": len(plan.bundles),
                "other": list(plan.other),
                "configuration": plan.configuration,
                "consents": plan.consents,
                "audit": list(plan.audit),
                "left_out": [{"what": what, "why": why} for what, why in plan.left_out],
                "file": path,
                "manifest": manifest,
            }
        )
    else:
        _print(plan, path)
    return 0


def _print(plan: ArchivePlan, path: str | None) -> None:
    output.facts("bundles", f"{len(plan.bundles):,}, of {plan.directory}")
    if plan.other:
        output.facts("other", ", ".join(plan.other))
    if plan.audit:
        output.facts("audit", f"{', '.join(plan.audit)}: what left this computer")
    if plan.consents:
        output.facts("consents", plan.consents)
    output.facts("settings", plan.configuration or "no configuration file")
    for why in sorted({why for _, why in plan.left_out}):
        whose = [what for what, reason in plan.left_out if reason == why]
        output.facts(
            "left out",
            f"{why}: {whose[0]}" + (f" and {len(whose) - 1:,} more" if len(whose) > 1 else ""),
        )
    if path is None:
        output.say("dry run: nothing was written")
    else:
        output.say(f"written to {path}, {output.bytes_text(os.path.getsize(path))}")
