"""Write records to a file or to standard output, in a form that other programs read.

Filters join: what is written matches all of them. The file is made with mode 0600. What
is exported has passed the guard when it was recorded, and leaves its care now: no purge
finds it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import UsageError, add_filters, add_folder, add_window
from stack_composer.telemetry.cli.progress import Progress
from stack_composer.telemetry.export import rows
from stack_composer.telemetry.export.columns import COLUMNS
from stack_composer.telemetry.export.private_file import private_path
from stack_composer.telemetry.query.read import Reading

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from stack_composer.telemetry.export.rows import Exported
    from stack_composer.telemetry.query.read import Found

FORMS = ("otlp", "records", "csv", "parquet")
_ONE_SIGNAL = ("csv", "parquet")

JSON_KEYS = {
    "file": "where it was written",
    "as": "the form",
    "records": "how many records",
    "bytes": "the size of the file",
    "refused_lines": "lines that are no OTLP, and so were left out",
}
"""What --json prints of an export to a file; the export itself is in the form of --as."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The form, the filters, and where to."""
    parser.epilog = "exit code: 0; 1 also when lines were left out that are no OTLP"
    parser.add_argument(
        "--as",
        dest="form",
        choices=FORMS,
        default="otlp",
        help="otlp: OTLP JSON lines (the default); records: one plain JSON object a line;"
        " csv, parquet: a row for each record of one signal (parquet needs the extra 'sql')",
    )
    add_window(parser)
    add_filters(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="where to; default: standard output")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Find the records and write them."""
    signal = _check(args)
    since_ns, until_ns = places.window(args.since, args.until, now_ns=effects.wall_ns())
    reading = Reading(places.selection(args, since_ns=since_ns, until_ns=until_ns))
    folder = places.folder_of(args)
    exported = rows.Exported()
    with Progress() as progress:
        found = _watched(reading.find(places.bundles_of(folder)), progress, exported)
        if args.output is None:
            _print(_lines(args.form, found, reading, signal, exported))
        else:
            path = places.absolute(args.output, "--output")
            with private_path(path, replace=args.force, keep_out_of=folder) as aside:
                _write(args.form, aside, found, reading, signal, exported)
    if args.output is not None:
        _tell(args, path, reading, exported)
    refusals = reading.refusals
    if refusals.count:
        output.note(f"left out {output.counted(refusals.count, 'line')} of no OTLP; the first:")
        for text in refusals.first[:5]:
            output.note(f"  {text}")
    return int(bool(refusals.count))


def _check(args: argparse.Namespace) -> str:
    """Return the one signal of a table; any for the other forms."""
    signals = args.signal or []
    if args.form in _ONE_SIGNAL and len(set(signals)) != 1:
        raise UsageError(
            f"--as {args.form} holds one signal, since each has columns of its own",
            hint="add --signal traces, --signal metrics or --signal logs",
        )
    if args.output is None and (args.form == "parquet" or args.json):
        what = "--as parquet" if args.form == "parquet" else "--json"
        raise UsageError(f"{what} needs a file", hint="add -o FILE")
    return signals[0] if signals else ""


def _watched(found: Iterable[Found], progress: Progress, exported: Exported) -> Iterator[Found]:
    for one in found:
        yield one
        progress.show(f"exporting: {exported.records:,} records")


def _lines(
    form: str, found: Iterable[Found], reading: Reading, signal: str, exported: Exported
) -> Iterator[bytes]:
    if form == "otlp":
        return rows.otlp_lines(found, exported)
    if form == "records":
        return rows.record_lines(found, reading, exported)
    return rows.csv_lines(found, reading, signal, exported)


def _print(lines: Iterator[bytes]) -> None:
    if sys.stdout.isatty():
        for line in lines:
            output.print_data(line.rstrip(b"\r\n"))
        return
    for line in lines:
        output.write_data(line)


def _write(
    form: str,
    path: str,
    found: Iterable[Found],
    reading: Reading,
    signal: str,
    exported: Exported,
) -> None:
    if form == "parquet":
        from stack_composer.telemetry.export.duck import write_parquet

        columns = COLUMNS[signal]
        write_parquet(path, columns, rows.rows(found, reading, columns, exported))
        return
    with open(path, "wb") as file:
        file.writelines(_lines(form, found, reading, signal, exported))
        file.flush()
        os.fsync(file.fileno())


def _tell(args: argparse.Namespace, path: str, reading: Reading, exported: Exported) -> None:
    size = os.path.getsize(path)
    if args.json:
        output.print_json(
            {
                "file": path,
                "as": args.form,
                "records": exported.records,
                "bytes": size,
                "refused_lines": reading.refusals.count,
            }
        )
    else:
        count = output.counted(exported.records, "record")
        output.say(f"exported {count}, {output.bytes_text(size)}, to {path}")
