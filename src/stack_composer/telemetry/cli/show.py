"""Print spans, metrics and logs: as trees to read, as plain records, or as OTLP.

Filters join: what is printed matches all of them. A span is in a window if it
overlaps it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import msgspec

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places, readable
from stack_composer.telemetry.cli.parser import (
    add_filters,
    add_folder,
    add_window,
    count_argument,
)
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp.lines import filtered_line
from stack_composer.telemetry.query.read import Found, Reading
from stack_composer.telemetry.query.records import record_of
from stack_composer.telemetry.store.reader import list_bundles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stack_composer.telemetry.query.select import Item
    from stack_composer.telemetry.store.reader import BundleInfo

LIMIT_READABLE = 500
"""How many records the readable form shows unless told: more is for programs."""

JSON_KEYS = {
    "trace_id, span_id, parent_id, name, start_ns, end_ns, attrs": "of a span",
    "timestamp, metric, value, labels": "of a measurement",
    "timestamp, level, message, attrs, trace_id, span_id": "of a log record",
}
"""Of each line: --json is --as records."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The form, the filters, the folder, and files instead of it."""
    parser.add_argument(
        "--as",
        dest="form",
        choices=("records", "otlp"),
        help="records: one plain JSON object a line; otlp: OTLP JSON lines"
        " (default: trees and lines to read)",
    )
    add_window(parser)
    add_filters(parser)
    parser.add_argument(
        "--limit",
        type=count_argument,
        metavar="N",
        help=f"only the N newest records; 0: all (default: all, {LIMIT_READABLE} to read)",
    )
    add_folder(parser)
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="OTLP JSON files to read instead of the folder"
    )


def run(args: argparse.Namespace) -> int:
    """Find the records and print them; name refused lines on standard error."""
    since_ns, until_ns = places.window(args.since, args.until, now_ns=effects.wall_ns())
    reading = Reading(places.selection(args, since_ns=since_ns, until_ns=until_ns))
    sources: list[BundleInfo | str] = [places.absolute(file, "FILE") for file in args.files]
    if not sources:
        sources += list_bundles(places.folder_of(args)).bundles
    form = args.form or ("records" if args.json else "readable")
    limit = args.limit if args.limit is not None else LIMIT_READABLE * (form == "readable")
    found: Iterable[Found] = reading.newest(sources, limit) if limit else reading.find(sources)
    if form == "otlp":
        _print_otlp(found)
    elif form == "records":
        _print_records(found, reading)
    else:
        _print_readable(found, limit, is_limit_given=args.limit is not None)
    _note_refusals(reading)
    return 0


def _print_otlp(found: Iterable[Found]) -> None:
    for one in found:
        line = filtered_line(one.line, one.data, one.flags, mended=one.mended)
        if line is not None:
            output.print_data(line)


def _print_records(found: Iterable[Found], reading: Reading) -> None:
    for one in found:
        for item in one.matches():
            try:
                record = record_of(item)
            except LineRefusedError as error:
                reading.refusals.add(one.path, one.number, error)
                continue
            output.print_data(msgspec.json.encode(record))


def _print_readable(found: Iterable[Found], limit: int, *, is_limit_given: bool) -> None:
    spans: list[Item] = []
    others: list[Item] = []
    for one in found:
        for item in one.matches():
            (spans if item.signal == "traces" else others).append(item)
    readable.print_traces(spans)
    if spans and others:
        output.say()
    for item in sorted(others, key=lambda item: item.end_ns):
        readable.say_cut(readable.item_line(item, date=True))
    if not spans and not others:
        output.note("nothing matches")
    elif len(spans) + len(others) == limit and not is_limit_given:
        output.note(f"only the {limit:,} newest records are shown; --limit 0 shows all")


def _note_refusals(reading: Reading) -> None:
    refusals = reading.refusals
    if refusals.count:
        output.note(f"left out {output.counted(refusals.count, 'line')} of no OTLP; the first:")
        for text in refusals.first:
            output.note(f"  {text}")
