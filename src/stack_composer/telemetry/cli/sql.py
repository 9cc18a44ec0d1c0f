"""Ask a question in SQL: one SELECT over the views spans, metrics and logs.

DuckDB answers it (the extra 'sql'), in memory and shut in: the question can reach no file,
load nothing and change nothing. Only the columns that it names are read, and only the
window. docs/import-export.md lists the columns.
"""

from __future__ import annotations

import base64
import decimal
import json
import math
import sys
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import add_folder, add_window
from stack_composer.telemetry.cli.progress import Progress
from stack_composer.telemetry.export import rows
from stack_composer.telemetry.export.duck import Answer, Question, bound_memory
from stack_composer.telemetry.query.read import Reading
from stack_composer.telemetry.query.select import Selection

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from stack_composer.telemetry.export.columns import Column
    from stack_composer.telemetry.store.reader import BundleInfo

SINCE_DEFAULT = "24h"
ROWS_SHOWN_MAX = 1_000
CELL_CHARS_MAX = 80

JSON_KEYS = {
    "columns": "their names",
    "rows": "a list of values for each row; times are text, bytes base64",
    "refused_lines": "lines that are no OTLP, and so were left out",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The question, the window, and how the answer is printed."""
    add_window(parser, since=SINCE_DEFAULT)
    parser.add_argument("--csv", action="store_true", help="print the answer as CSV")
    add_folder(parser)
    parser.add_argument("question", metavar="SELECT", help="the question; - reads it from stdin")


def run(args: argparse.Namespace) -> int:
    """Plan, load, ask, print."""
    text = sys.stdin.read() if args.question == "-" else args.question
    bound_memory()
    question = Question(text)
    since_ns, until_ns = places.window(args.since, args.until, now_ns=effects.wall_ns())
    bundles = places.bundles_of(places.folder_of(args))
    readings = []
    with Progress() as progress:

        def records(signal: str, columns: Sequence[Column]) -> Iterable[list[Any]]:
            reading = Reading(
                Selection(since_ns=since_ns, until_ns=until_ns, signals=frozenset({signal}))
            )
            readings.append(reading)
            return _watched(reading, bundles, columns, progress)

        answer = question.ask(records)
    refused = sum(reading.refusals.count for reading in readings)
    try:
        _print(args, answer, refused)
    finally:
        answer.close()
    if refused:
        output.note(f"left out {output.counted(refused, 'line')} of no OTLP")
    return 0


def _watched(
    reading: Reading, bundles: list[BundleInfo], columns: Sequence[Column], progress: Progress
) -> Iterable[list[Any]]:
    exported = rows.Exported()
    for row in rows.rows(reading.find(bundles), reading, columns, exported):
        yield row
        if not exported.records % 1_000:
            progress.show(f"loading: {exported.records:,} records")


def _print(args: argparse.Namespace, answer: Answer, refused: int) -> None:
    if args.json:
        _print_json(answer, refused)
    elif args.csv:
        output.write_data(rows.csv_line([rows.safe_cell(name) for name in answer.columns]))
        for row in answer.rows():
            output.write_data(rows.csv_line([_csv_cell(value) for value in row]))
    else:
        shown = list(islice(answer.rows(), ROWS_SHOWN_MAX + 1))
        if answer.columns:
            cells = [[_cell(value) for value in row] for row in shown[:ROWS_SHOWN_MAX]]
            output.table(answer.columns, cells)
        if len(shown) > ROWS_SHOWN_MAX:
            output.note(f"only the first {ROWS_SHOWN_MAX:,} rows are shown; --csv prints all")


def _print_json(answer: Answer, refused: int) -> None:
    """Print row by row, so that an answer of any size takes no more memory than a row."""
    sys.stdout.write(f'{{"columns": {json.dumps(answer.columns)}, "rows": [')
    comma = ""
    for row in answer.rows():
        sys.stdout.write(f"{comma}\n{json.dumps([_plain(value) for value in row])}")
        comma = ","
    sys.stdout.write(f'\n], "refused_lines": {refused}}}\n')


def _plain(value: Any) -> Any:
    """Give what DuckDB answers as JSON can say it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    return str(value)


def _float(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _time(value: datetime) -> str:
    return value.isoformat() + ("Z" if value.tzinfo is None else "")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _object(value: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(item) for key, item in value.items()}


def _list(value: Sequence[Any]) -> list[Any]:
    return [_plain(item) for item in value]


_FORMS: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((float,), _float),
    ((decimal.Decimal,), float),
    ((datetime,), _time),
    ((bytes, bytearray), _base64),
    ((dict,), _object),
    ((list, tuple), _list),
)
"""What JSON has no word for, and how it is said."""


def _text(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, dict | list):
        return json.dumps(plain, ensure_ascii=False)
    return str(plain)


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return rows.safe_cell(_text(value))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _text(value)
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 2] + ".."
