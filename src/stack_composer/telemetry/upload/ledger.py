"""What need not be sent again: the audit log, read as a ledger.

A part of a bundle counts once a request with it was answered "delivered" (what the server
said it did not take of it, too: sent again it would be refused again) or "passed_over". A
request without an answer does not count, so after a crash it goes again: at least once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.upload.entries import (
    ANSWER,
    SENDING,
    Entry,
    Position,
    Selected,
    plain_text,
)
from stack_composer.telemetry.upload.history import read_entries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

DELIVERED: Final = "delivered"
PASSED_OVER: Final = "passed_over"
SETTLED: Final = frozenset((DELIVERED, PASSED_OVER))
"""Verdicts after which a request's records are not sent again."""


class Range(NamedTuple):
    """A part of a bundle that went, of those records that ``selected`` keeps."""

    start: Position
    end: Position
    selected: Selected


class Ledger:
    """What was settled, by destination, mode and bundle."""

    __slots__ = ("_parts",)

    def __init__(self, entries: Iterable[tuple[str, Entry]] = ()) -> None:
        """Take the entries of a log in their order, each with its id."""
        self._parts: dict[tuple[str, str, str], dict[tuple[str, bool], list[Range]]] = {}
        waiting: dict[str, Entry] = {}
        for number, entry in entries:
            if entry.entry == SENDING:
                waiting[number] = entry
            elif entry.entry == ANSWER:
                # "retry" leaves nothing to be answered: another attempt is another entry.
                sent = waiting.pop(entry.of, None)
                if sent is not None and entry.verdict in SETTLED:
                    self._add(sent)

    def _add(self, sent: Entry) -> None:
        selected = Selected(sent.since_ns, sent.until_ns, sent.name)
        for bundle, from_offset, from_record, to_offset, to_record in sent.parts:
            by_path = self._parts.setdefault((sent.to, sent.mode, bundle), {})
            ranges = by_path.setdefault((sent.path, sent.protocol == "put"), [])
            start = Position(from_offset, from_record)
            end = Position(to_offset, to_record)
            last = ranges[-1] if ranges else None
            # Requests come in the order of the bundle: a long one is one range, not thousands.
            if last is not None and last.selected == selected and last.end == start:
                ranges[-1] = Range(last.start, end, selected)
            else:
                ranges.append(Range(start, end, selected))

    def sent(self, origin: str, mode: str, bundle: str, *, path: str | None = None) -> list[Range]:
        """What of ``bundle`` (``<stem>.<signal>``) need not go to ``origin`` again.

        Args:
            origin: As ``Destination.origin``.
            mode: "raw" or "aggregate".
            bundle: ``<stem>.<signal>``.
            path: Of the URL, where the same origin has several; None for any.

        Returns:
            By selection, then position; what overlaps or adjoins under one selection is
            one range.
        """
        by_path = self._parts.get((origin, mode, bundle), {})
        if path is not None:
            return merged(by_path.get((plain_text(path), False), ()))
        return merged(one for ranges in by_path.values() for one in ranges)

    def put(self, origin: str, mode: str, bundle: str, *, path: str) -> list[Range]:
        """As ``sent``, of what was put there as objects.

        Args:
            origin: As ``Destination.origin``.
            mode: "raw" or "aggregate".
            bundle: ``<stem>.<signal>``.
            path: Of the URL as it is configured, with ``{name}`` where the object's name
                stands; another bucket is another destination.
        """
        head, *tail = plain_text(path).split("{name}")
        by_path = self._parts.get((origin, mode, bundle), {})
        return merged(
            one
            for (found, is_put), ranges in by_path.items()
            if is_put and _is_object(found, head, tail)
            for one in ranges
        )


def _is_object(path: str, head: str, tail: list[str]) -> bool:
    """Whether a path is ``head``, and behind it each of ``tail`` with one name before it."""
    if not tail:
        return path == head
    if not path.startswith(head) or not path.endswith(tail[-1]):
        return False
    # A name has no slash in it; so no bucket within this one, and none around it, is it.
    return path.count("/") == head.count("/") + sum(each.count("/") for each in tail)


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Order ranges, and make one of those that overlap or adjoin under one selection."""
    found: list[Range] = []
    for one in sorted(ranges, key=lambda each: (each.selected, each.start)):
        last = found[-1] if found else None
        if last is not None and last.selected == one.selected and one.start <= last.end:
            found[-1] = last._replace(end=max(last.end, one.end))
        else:
            found.append(one)
    return found


def read_ledger(directory: str, *, since_ns: int = 0) -> Ledger:
    """Read the log of a telemetry folder as a ledger; a missing one settles nothing.

    Args:
        directory: The telemetry folder.
        since_ns: When the oldest bundle that is asked about was made, Unix nanoseconds:
            parts of the log that were closed before that say nothing of it.

    Raises:
        StoreError: It cannot be read.
    """
    return Ledger(read_entries(directory, since_ns=since_ns))
