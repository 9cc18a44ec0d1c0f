"""Everything that reaches the terminal goes through here.

Text that was recorded is made printable (query/text.py) at this one place, tables
fit the terminal, and a stream that cannot hold a character gets an escape instead
of a crash. Nothing is coloured: a pipe, a log file and a terminal get the same.
"""

from __future__ import annotations

import errno
import os
import sys

from stack_composer.telemetry.query.text import printable, printable_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

COLUMNS_PIPED = 100
COLUMNS_MIN = 40
NAME_COLUMNS_MIN = 12


def prepare_streams() -> None:
    """Make both streams accept every character; a closed one becomes the null device."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def columns() -> int:
    """Return how wide output may be: COLUMNS, the terminal's width, or 100 for a pipe."""
    wish = os.environ.get("COLUMNS", "")
    if wish.isascii() and wish.isdigit() and 0 < len(wish) < 6 and int(wish):
        return max(int(wish), COLUMNS_MIN)
    try:
        return max(os.get_terminal_size(sys.__stdout__.fileno()).columns, COLUMNS_MIN)  # type: ignore[union-attr]
    except (OSError, ValueError, AttributeError):
        return COLUMNS_PIPED


def say(text: str = "") -> None:
    """Print one line; newlines within it are shown as escapes, never obeyed."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """Print one line for people to standard error, so that data stays clean."""
    sys.stderr.write(printable(text) + "\n")


def fail(message: str, hint: str) -> None:
    """Print the two lines of an error to standard error."""
    sys.stdout.flush()
    sys.stderr.write(f"stack-composer: {printable(message)}\n  hint: {printable(hint)}\n")
    sys.stderr.flush()


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print ``value`` as ASCII JSON, valid in every encoding; NaN becomes null."""
    import json

    text = json.dumps(_finite(value), indent=indent, ensure_ascii=True, allow_nan=False)
    sys.stdout.write(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def is_interactive() -> bool:
    """Whether somebody is there to be asked: a terminal to read from and to write to."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False  # One of the streams is closed.


def ask(question: str) -> bool:
    """Ask on standard error; only ``y`` or ``yes`` is a yes, an end of input a no."""
    sys.stdout.flush()
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_data(line: bytes) -> None:
    """Print one line of JSON as UTF-8, whatever the terminal's encoding is."""
    text = printable_json(line.decode("utf-8", "replace"))
    write_data(text.encode("utf-8") + b"\n")


def write_data(data: bytes) -> None:
    """Write bytes for a program, or what is known to be harmless to a terminal."""
    rest: memoryview | bytes = data
    # With PYTHONUNBUFFERED there is no buffer, and a write may take less than all.
    while rest:
        written = sys.stdout.buffer.write(rest)
        if written is None:
            raise BlockingIOError(errno.EAGAIN, "standard output takes nothing now")
        rest = memoryview(rest)[written:]


def flush() -> None:
    """Hand what was printed to the reader now; ``tail -f`` needs it."""
    sys.stdout.flush()


def cells(text: str) -> int:
    """Return how many terminal cells ``text`` takes; wide letters take two."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def fitted(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` cells, cut in the middle.

    Names of one family differ at their ends, and all start alike.
    """
    if cells(text) <= width:
        return text
    head = (width - 2) // 2
    tail = width - 2 - head
    while cells(text[:head]) > (width - 2) // 2:
        head -= 1
    while cells(text[-tail:]) > width - 2 - (width - 2) // 2:
        tail -= 1
    return f"{text[:head]}..{text[-tail:]}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below heads: the first column left, the others right aligned.

    When the terminal is too narrow the first column gives way, and then, where a
    name would fall below 12 cells, the line is left to wrap.
    """
    body = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(heads, *body, strict=True)]
    room = columns() - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(room, NAME_COLUMNS_MIN))
    for row in [list(heads), *body]:
        first = fitted(row[0], widths[0])
        line = first + " " * (widths[0] - cells(first))
        for cell, width in zip(row[1:], widths[1:], strict=True):
            line += "  " + " " * (width - cells(cell)) + cell
        sys.stdout.write(line.rstrip() + "\n")


def facts(label: str, text: str) -> None:
    """Print a labelled line of a report; the labels of all lines end alike."""
    say(f"{label:10}{text}".rstrip())


def number_text(value: float | None) -> str:
    """Return a number for a table: three figures below 1,000, whole above.

    "-" stands for none, and for what is not finite.
    """
    if value is None or value - value != 0:
        return "-"
    if value == int(value) or abs(value) >= 999.5:
        # Beyond this a float's digits are an accident of binary.
        return f"{round(value):,}" if abs(value) < 1e15 else f"{value:.3g}"
    return f"{value:.3g}"


def rate_text(value: float | None) -> str:
    """Return a rate for a table; what is next to nothing says so in few characters."""
    if value is not None and 0 < value < 0.01:
        return "<0.01"
    return number_text(value)


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 bundle``, ``2,000 bundles``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def bytes_text(count: int) -> str:
    """Return a size as ``870 B``, ``3.1 MB`` (powers of 1,000)."""
    if count < 1_000:
        return f"{count} B"
    size, unit = float(count), "B"
    units = ["TB", "GB", "MB", "kB"]
    while units and size >= 999.5:
        size /= 1_000
        unit = units.pop()
    return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
