"""Bring in what other programs and computers recorded, through the guard, once.

A file may be OTLP as JSON (a line each, or one document), OTLP as protobuf (one message,
or a stream of them as the Collector writes it), records of ``export --as records``, or a
bundle of another computer; each plain, or packed with zstd or gzip. It is told by what is
in it, not by its name. ``-`` is standard input.

A message that was imported before is passed over, in whatever file it comes. What is
imported is as old as its import: it goes when ``local_retention_days`` have passed since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects, health
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import add_folder
from stack_composer.telemetry.cli.progress import Progress
from stack_composer.telemetry.config import effective_mode
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.imports.importer import FileReport, Importer
from stack_composer.telemetry.imports.source import STDIN
from stack_composer.telemetry.model import SIGNALS
from stack_composer.telemetry.outputs import Encoders, hashing_salt, make_guard, salt_of
from stack_composer.telemetry.store import keys

if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.config import Config

REFUSALS_SHOWN_MAX = 5

JSON_KEYS = {
    "directory": "the folder",
    "dry_run": "whether nothing was written on purpose",
    "files": "of each file: file, form (what it is), messages (how many were taken), known (how"
    " many of them were imported before), records (new ones by signal), refused (messages left"
    " out), refusals (the first of them, by number), oddities (what was mended or left out) and"
    " error (null, or why it could not be read to its end)",
    "records": "new ones by signal, of all files",
    "redacted": "what the guard took out, by rule",
    "bundles": "names of the bundles written",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files, and whether to write."""
    parser.epilog = "exit code: 0; 1 also when a message or a file was refused"
    parser.add_argument(
        "--dry-run", action="store_true", help="read, guard and count all, and write nothing"
    )
    parser.add_argument(
        "--signal",
        choices=SIGNALS,
        help="what protobuf messages hold, where nothing in them tells",
    )
    add_folder(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="what to import; - is stdin")


def run(args: argparse.Namespace) -> int:
    """Import file by file; one that cannot be read does not keep the rest from it."""
    config = places.load(args)
    _refuse_if_off(config)
    files = [file if file == STDIN else places.absolute(file, "FILE") for file in args.files]
    encoders = Encoders(config, make_guard(config, hashing_salt(config)))
    importer = Importer(
        config.directory,
        encoders,
        bundle_bytes_max=config.bundle_bytes_max,
        salt=salt_of(config),
        bundles=places.bundles_of(config.directory),
        keys=None if config.encryption == "none" else keys.configured(config),
        dry_run=args.dry_run,
        signal=args.signal,
    )
    reports = []
    try:
        for file in files:
            reports.append(_read(importer, file))
            if not args.json:
                _print_file(reports[-1])
        # As a program that records says it: `stats` and `doctor` show it.
        importer.finish(lambda: health.untold(health.count(encoders.guard), effects.wall_ns()))
    finally:
        importer.close()
    redacted = _redacted(encoders)
    if args.json:
        _print_json(args, config, reports, redacted, importer.committed)
    else:
        _print_end(args, config, reports, redacted, importer)
    return int(any(report.refused or report.error for report in reports))


def _refuse_if_off(config: Config) -> None:
    is_recording, why = effective_mode(config)
    if not is_recording:
        raise StoreError(
            f"nothing is written now: {why}",
            hint="'stack-composer stats FILE' and 'telemetry show FILE' read a file as it lies",
        )


def _read(importer: Importer, file: str) -> FileReport:
    with Progress() as progress:

        def show(read_bytes: int, size: int, records: int) -> None:
            of = f" of {output.bytes_text(size)}" if size else ""
            progress.show(f"importing: {output.bytes_text(read_bytes)}{of}, {records:,} records")

        return importer.read(file, show)


def _print_file(report: FileReport) -> None:
    if report.error and not report.messages:
        output.fail(str(report.error), report.error.hint)
        return
    new = _listed({name: report.records[name] for name in SIGNALS if report.records[name]})
    output.say(f"{report.path} ({report.form or 'unknown'}): {new or 'nothing new'}")
    if report.known:
        output.say(f"  {output.counted(report.known, 'message')} imported before: passed over")
    if report.refused:
        output.say(f"  {output.counted(report.refused, 'message')} refused; the first:")
        for text in report.first[:REFUSALS_SHOWN_MAX]:
            output.say(f"    {text}")
    odd = {name.replace("_", " "): count for name, count in report.oddities.items() if count}
    if odd:
        output.say(f"  mended or left out: {_listed(odd)}")
    if report.error:
        output.fail(str(report.error), report.error.hint)


def _print_end(
    args: argparse.Namespace,
    config: Config,
    reports: list[FileReport],
    redacted: dict[str, int],
    importer: Importer,
) -> None:
    output.facts("redacted", _listed(redacted) or "nothing")
    total = output.counted(sum(report.records.total() for report in reports), "record")
    if args.dry_run:
        output.say(f"dry run: nothing was written; {total} would be")
    elif importer.committed:
        bundles = output.counted(len(importer.committed), "bundle")
        output.say(f"imported {total} into {bundles} in {config.directory}")
    else:
        output.say("imported nothing new")
    if importer.forgotten:
        output.note(f"{importer.forgotten:,} messages would not be known again: too many for once")


def _print_json(
    args: argparse.Namespace,
    config: Config,
    reports: list[FileReport],
    redacted: dict[str, int],
    bundles: list[str],
) -> None:
    output.print_json(
        {
            "directory": config.directory,
            "dry_run": args.dry_run,
            "files": [_as_json(report) for report in reports],
            "records": {name: sum(report.records[name] for report in reports) for name in SIGNALS},
            "redacted": redacted,
            "bundles": bundles,
        }
    )


def _as_json(report: FileReport) -> dict[str, Any]:
    return {
        "file": report.path,
        "form": report.form,
        "messages": report.messages,
        "known": report.known,
        "records": {name: report.records[name] for name in SIGNALS},
        "refused": report.refused,
        "refusals": report.first,
        "oddities": {name: count for name, count in report.oddities.items() if count},
        "error": str(report.error) if report.error else None,
    }


def _redacted(encoders: Encoders) -> dict[str, int]:
    found: dict[str, int] = {}
    for (rule, _), count in encoders.guard.tally.counts.items():
        found[rule] = found.get(rule, 0) + count
    return found


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
