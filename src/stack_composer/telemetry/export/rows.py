"""Records as lines and rows: what ``export`` writes, whatever the form."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any

import msgspec

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.export.columns import COLUMNS
from stack_composer.telemetry.otlp.lines import filtered_line
from stack_composer.telemetry.query.duration import utc_text
from stack_composer.telemetry.query.records import record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from stack_composer.telemetry.export.columns import Column
    from stack_composer.telemetry.query.read import Found, Reading

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take a cell for a formula, in both widths."""

_STEERING: Final = re.compile(
    "[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]"
)
"""Control characters but tab and newline, and what turns the direction of writing."""


class Exported:
    """How much was written so far."""

    __slots__ = ("records",)

    def __init__(self) -> None:
        self.records = 0


def otlp_lines(found: Iterable[Found], exported: Exported) -> Iterator[bytes]:
    """Yield OTLP JSON lines with what was asked for, each with its newline."""
    for one in found:
        line = filtered_line(one.line, one.data, one.flags, mended=one.mended)
        if line is not None:
            exported.records += sum(one.flags)
            yield line + b"\n"


def record_lines(found: Iterable[Found], reading: Reading, exported: Exported) -> Iterator[bytes]:
    """Yield the plain records, one a line."""
    for one in found:
        for item in one.matches():
            try:
                line = msgspec.json.encode(record_of(item)) + b"\n"
            except LineRefusedError as error:
                reading.refusals.add(one.path, one.number, error)
                continue
            exported.records += 1
            yield line


def rows(
    found: Iterable[Found], reading: Reading, columns: Sequence[Column], exported: Exported
) -> Iterator[list[Any]]:
    """Yield a row of values for each record."""
    for one in found:
        for item in one.matches():
            try:
                row = [column.value(item) for column in columns]
            except LineRefusedError as error:
                reading.refusals.add(one.path, one.number, error)
                continue
            exported.records += 1
            yield row


def csv_lines(
    found: Iterable[Found], reading: Reading, signal: str, exported: Exported
) -> Iterator[bytes]:
    """Yield a CSV (RFC 4180, UTF-8): a line of names, then one for each record.

    No cell is a formula: a text that a spreadsheet would take for one gets a ``'`` in
    front. Characters that steer a terminal are written as escapes.
    """
    columns = COLUMNS[signal]
    yield csv_line([column.name for column in columns])
    for row in rows(found, reading, columns, exported):
        yield csv_line([_cell(value, column) for value, column in zip(row, columns, strict=True)])


def _cell(value: Any, column: Column) -> Any:
    if value is None:
        return ""
    if column.kind == "time":
        return utc_text(value)
    if column.kind == "json":
        return safe_cell(msgspec.json.encode(value).decode())
    if isinstance(value, bool):
        return "true" if value else "false"
    return safe_cell(value) if isinstance(value, str) else value


def safe_cell(text: str) -> str:
    """Give a text that no spreadsheet takes for a formula, and no terminal for a command."""
    text = _STEERING.sub(_escaped, text.replace("\r\n", "\n"))
    return "'" + text if text.startswith(_FORMULA) else text


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def csv_line(cells: Sequence[Any]) -> bytes:
    """Write one line."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue().encode("utf-8", "replace")
