"""Records as lines and trees for people to read; ``--as`` is for programs.

One line a record, cut to the terminal: the whole of it is what ``--as records`` and
``--as otlp`` are for.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.query.duration import duration_text, utc_text
from stack_composer.telemetry.query.records import level_of, plain_attributes, point_value
from stack_composer.telemetry.query.text import printable
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stack_composer.telemetry.query.select import Item

DEPTH_SHOWN_MAX = 24
"""Deeper spans are not indented further, or nothing would be left of the line."""

_ERROR = 2


def say_cut(text: str) -> None:
    """Print one line, cut at the terminal's width."""
    text = printable(text)
    width = output.columns()
    if output.cells(text) > width:
        text = text[: width - 2]
        while output.cells(text) > width - 2:
            text = text[:-1]
        text += ".."
    output.say(text)


def item_line(item: Item, *, date: bool) -> str:
    """Return one record as a line, its time first, on the reader's own clock."""
    when = clock_text(item.end_ns, date=date)
    if item.signal == "traces":
        return f"{when}  span    {span_text(item.record)}"
    if item.signal == "logs":
        body = _value_text(_read(otlp.value_of, item.record.body), quoted=False)
        rest = attributes_text(item.record.attributes)
        return f"{when}  {level_of(item.record):7} {body}  {rest}".rstrip()
    value = output.number_text(point_value(item.record))
    labels = attributes_text(item.record.attributes)
    return f"{when}  metric  {item.name}  {value}  {labels}".rstrip()


def clock_text(time_ns: int, *, date: bool) -> str:
    """Return a time of day with milliseconds, and the date where asked for."""
    try:
        moment = time.localtime(time_ns // 1_000_000_000)
        form = "%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S"
        return f"{time.strftime(form, moment)}.{time_ns % 1_000_000_000 // 1_000_000:03}"
    except (OverflowError, ValueError, OSError):
        return utc_text(time_ns)


def span_text(span: otlp.Span) -> str:
    """Return a span's name, length, failure and attributes."""
    length = duration_text(max(span.end_time_unix_nano - span.start_time_unix_nano, 0))
    failure = ""
    if span.status.code == _ERROR:
        failure = f"  error: {span.status.message}" if span.status.message else "  error"
    rest = attributes_text(span.attributes)
    return f"{span.name}  {length}{failure}  {rest}".rstrip()


def attributes_text(pairs: Sequence[otlp.KeyValue]) -> str:
    """Return attributes as ``key=value`` with spaces between."""
    attributes: Mapping[str, Any] | None = _read(plain_attributes, pairs)
    if attributes is None:
        return "(attributes cannot be read)"
    return " ".join(f"{key}={_value_text(value)}" for key, value in attributes.items())


def _read(reader: Any, value: Any) -> Any:
    try:
        return reader(value)
    except LineRefusedError:
        return None  # A value nested beyond reason; the line says so in its place.


def _value_text(value: Any, *, quoted: bool = True) -> str:
    if isinstance(value, str):
        # Quotes only where a reader could take one value for two.
        return json.dumps(value, ensure_ascii=False) if quoted and " " in value else value
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "(nested too deeply)"


def print_traces(spans: Iterable[Item]) -> None:
    """Print spans as a tree a trace, oldest trace first."""
    traces: dict[str, list[Item]] = {}
    for item in spans:
        traces.setdefault(item.record.trace_id, []).append(item)
    for number, members in enumerate(
        sorted(traces.values(), key=lambda some: min(item.start_ns for item in some))
    ):
        if number:
            output.say()
        members.sort(key=lambda item: item.start_ns)
        _print_trace(members)


def _print_trace(members: list[Item]) -> None:
    start_ns = members[0].start_ns
    length = duration_text(max(item.end_ns for item in members) - start_ns)
    errors = sum(item.record.status.code == _ERROR for item in members)
    count = output.counted(len(members), "span")
    failed = f", {errors:,} failed" if errors else ""
    trace_id = members[0].record.trace_id or "without an id"
    say_cut(f"trace {trace_id}  {clock_text(start_ns, date=True)}  {length}  {count}{failed}")
    for item, depth in _in_tree(members):
        say_cut("  " * (min(depth, DEPTH_SHOWN_MAX) + 1) + span_text(item.record))


def _in_tree(members: list[Item]) -> Iterator[tuple[Item, int]]:
    """Yield parents before children with their depth; each member exactly once.

    Foreign data may repeat an id, lose a parent or make a circle: what no root leads
    to is a root itself.
    """
    ids = {item.record.span_id for item in members if item.record.span_id}
    children: dict[str, list[Item]] = {}
    roots = []
    for item in members:
        parent = item.record.parent_span_id
        if parent in ids:
            children.setdefault(parent, []).append(item)
        else:
            roots.append(item)
    yield from _below(roots, children)
    while children:
        circle = children[next(iter(children))]
        yield from _below([circle.pop(0)], children)
        for parent in [parent for parent, left in children.items() if not left]:
            del children[parent]


def _below(roots: list[Item], children: dict[str, list[Item]]) -> Iterator[tuple[Item, int]]:
    # A stack of our own: a trace may be deeper than Python's.
    waiting = [(item, 0) for item in reversed(roots)]
    while waiting:
        item, depth = waiting.pop()
        yield item, depth
        # Taken out, so that a repeated id cannot show its children twice.
        below = children.pop(item.record.span_id, [])
        waiting += [(child, depth + 1) for child in reversed(below)]
