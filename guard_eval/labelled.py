"""Labelled strings, and how a tool's answers to them are counted; pure but for reading.

A *hit* leaves less than half of the labelled secret: it is the same measure for a tool
that masks, one that replaces the whole text and one that only names what it found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import ascii_letters, digits
from typing import Any, NamedTuple, TypeAlias

Span: TypeAlias = tuple[int, int]
"""Characters ``[start, end)`` of a text."""


class Row(NamedTuple):
    """One labelled string.

    Attributes:
        domain: "secret", "pii" (personal data) or "natid" (national ids).
        kind: What it is, or what it only looks like.
        group: "positive", "benign", "near_miss", or "ambiguous", which is not counted.
        span: Where the secret stands; None is the whole text, or no secret.
        key: The attribute it is the value of, or "".
        has_ip: It holds an IP address, which the profile strict changes on purpose.
    """

    text: str
    domain: str
    kind: str
    group: str
    span: Span | None = None
    key: str = ""
    has_ip: bool = False


def read_rows(path: Path) -> list[Row]:
    """The strings of a JSON-lines file, in its order.

    Raises:
        KeyError: A line lacks a field.
    """
    with path.open(encoding="utf-8") as lines:
        return [row_of(json.loads(line)) for line in lines]


def row_of(fields: dict[str, Any]) -> Row:
    """One string as the corpus writes it."""
    positive = fields["label"] == "positive"
    return Row(
        text=fields["text"],
        domain=fields["domain"],
        kind=fields["kind"],
        group="positive" if positive else fields["class"],
        span=tuple(fields["span"]) if fields.get("span") else None,
        key=fields.get("attr_key") or "",
        has_ip=bool(fields.get("contains_ip")),
    )


def merged(spans: Iterable[Span]) -> list[Span]:
    """Disjoint spans in order that cover the same characters."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def covered(spans: Sequence[Span], start: int, end: int) -> int:
    """How many characters of ``[start, end)`` lie in ``spans``, which are disjoint."""
    return sum(max(0, min(end, stop) - max(start, begin)) for begin, stop in spans)


def is_hit(row: Row, spans: Sequence[Span]) -> bool:
    """Whether less than half of the labelled secret survives; ``spans`` are disjoint."""
    start, end = row.span or (0, len(row.text))
    return 2 * covered(spans, start, end) > end - start


def cuts_word(text: str, label: Span) -> bool:
    """Whether ``label`` begins or ends inside a run of the characters that keys are made of."""
    start, end = label
    begins = start == 0 or not {text[start - 1], text[start]} <= _RUN_CHARS
    ends = end == len(text) or not {text[end - 1], text[end]} <= _RUN_CHARS | {"="}
    return not (begins and ends)


_RUN_CHARS = frozenset(ascii_letters + digits + "+/_-.")


class Score:
    """What one tool did, as pairs of a count and what it is out of.

    Attributes:
        found: Hits, by domain and by "domain/kind".
        changed: Benign strings in which it found anything: "all", "keyword" (of the kind
            generic_kv, which holds a word for a credential), "no ip", and by kind.
        near: Near misses in which it found anything, by domain.
        kept: Characters beside a secret that were left alone, in texts with a hit.
        spared: The same for secrets whose label cuts no word, and less only what went with
            the secret: what else was found in the text may be a secret without a label.
    """

    def __init__(self) -> None:
        self.found: dict[str, list[int]] = {}
        self.changed: dict[str, list[int]] = {}
        self.near: dict[str, list[int]] = {}
        self.kept = [0, 0]
        self.spared = [0, 0]

    def add(self, row: Row, found: Iterable[Span]) -> None:
        """Count the answer ``found`` to ``row``; its spans may overlap."""
        spans = merged(found)
        if row.group == "positive":
            hit = is_hit(row, spans)
            _count(self.found, (row.domain, f"{row.domain}/{row.kind}"), counts=hit)
            if hit and row.span:
                self._add_kept(row, row.span, spans)
        elif row.group == "benign":
            groups = ["all", f"kind/{row.kind}"]
            groups += ["keyword"] * (row.kind == "generic_kv") + ["no ip"] * (not row.has_ip)
            _count(self.changed, groups, counts=bool(spans))
        elif row.group == "near_miss":
            _count(self.near, ("all", row.domain), counts=bool(spans))

    def _add_kept(self, row: Row, secret: Span, spans: Sequence[Span]) -> None:
        _add_beside(self.kept, row.text, secret, spans)
        if not cuts_word(row.text, secret):
            _add_beside(self.spared, row.text, secret, [s for s in spans if covered([s], *secret)])

    def as_json(self) -> dict[str, Any]:
        """The counts, sorted, so that two runs differ only where their figures do."""
        return {
            "found": dict(sorted(self.found.items())),
            "changed": dict(sorted(self.changed.items())),
            "near": dict(sorted(self.near.items())),
            "kept": self.kept,
            "spared": self.spared,
        }


def _count(tally: dict[str, list[int]], names: Iterable[str], *, counts: bool) -> None:
    for name in names:
        pair = tally.setdefault(name, [0, 0])
        pair[0] += counts
        pair[1] += 1


def _add_beside(pair: list[int], text: str, secret: Span, spans: Sequence[Span]) -> None:
    beside = len(text) - (secret[1] - secret[0])
    lost = covered(spans, 0, len(text)) - covered(spans, *secret)
    pair[0] += beside - lost
    pair[1] += beside


def rate(pair: Sequence[int] | None) -> float | None:
    """The share of a pair, 0 to 1; None where nothing was counted."""
    return pair[0] / pair[1] if pair and pair[1] else None
