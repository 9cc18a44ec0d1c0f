"""Print the newest records; with -f go on as they arrive.

Following survives rotation, sealing and purging, and programs that start later.
Stop it with Ctrl-C (exit code 130).
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import msgspec

from stack_composer.telemetry.cli import output, places, readable
from stack_composer.telemetry.cli.parser import add_filters, add_folder, count_argument
from stack_composer.telemetry.cli.show import JSON_KEYS
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.query.follow import Follower
from stack_composer.telemetry.query.read import Found, Reading, newest
from stack_composer.telemetry.query.records import record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stack_composer.telemetry.query.select import Item
    from stack_composer.telemetry.store.reader import BundleInfo

__all__ = ["JSON_KEYS", "add_arguments", "run"]

RECORDS_DEFAULT = 10
POLL_S = 0.25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many, whether to go on, and the filters."""
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on as records arrive, until Ctrl-C"
    )
    parser.add_argument(
        "-n",
        "--records",
        type=count_argument,
        default=RECORDS_DEFAULT,
        metavar="N",
        help=f"how many to begin with (default: {RECORDS_DEFAULT})",
    )
    add_filters(parser)
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Print the last records, and follow."""
    reading = Reading(places.selection(args))
    follower = Follower(places.folder_of(args))
    # A line holds a batch: a filter may find none in many lines, so it sees them all.
    is_filtered = not reading.selection.is_everything
    last = follower.last_lines(
        _EVERY_LINE if is_filtered and args.records else args.records, reading.selection
    )
    found = _found(reading, last)
    # The lines are read to the end in any case, for following goes on behind them.
    chosen = newest(found, args.records) if args.records else list(found)[:0]
    _print(chosen, is_json=args.json)
    while args.follow:
        _print(list(_found(reading, follower.new_lines())), is_json=args.json)
        time.sleep(POLL_S)
    if reading.refusals.count:
        output.note(f"left out {output.counted(reading.refusals.count, 'line')} of no OTLP")
    return 0


_EVERY_LINE = 2**31


def _found(reading: Reading, lines: Iterable[tuple[BundleInfo, bytes]]) -> Iterator[Found]:
    for number, (bundle, line) in enumerate(lines, 1):
        if reading.selection.wants(bundle.signal):
            one = reading.judge(line, bundle.signal, bundle.path, number)
            if one is not None:
                yield one


def _print(found: Iterable[Found], *, is_json: bool) -> None:
    items = [item for one in found for item in one.matches()]
    for item in sorted(items, key=lambda item: item.end_ns):
        if is_json:
            _print_record(item)
        else:
            readable.say_cut(readable.item_line(item, date=False))
    output.flush()


def _print_record(item: Item) -> None:
    try:
        record = record_of(item)
    except LineRefusedError:
        output.note(f"a record of signal {item.signal} cannot be shown: nested too deeply")
        return
    output.print_data(msgspec.json.encode(record))
