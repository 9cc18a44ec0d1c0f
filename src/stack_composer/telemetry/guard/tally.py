"""Count what the guard did, and make what stands for a value that is gone."""

from __future__ import annotations

from .markers import tombstone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FAULT: Final = "fault"


class Gone(str):
    """The tombstone of a value that must not be written; at the top, ``DROPPED``."""

    __slots__ = ()


class Tally:
    """What the guard did so far; never reset.

    Attributes:
        counts: Redactions by rule and action.
        faults: Values dropped because the guard itself failed.
        judged: Texts judged.
        hits: Texts in which a rule found something, by rule.
    """

    __slots__ = ("_noted", "counts", "faults", "hits", "judged")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.faults = 0
        self.judged = 0
        self.hits: dict[str, int] = {}
        self._noted: list[tuple[str, str]] | None = None

    def count(self, rule: str, action: str) -> None:
        """Count one redaction."""
        self.counts[rule, action] = self.counts.get((rule, action), 0) + 1
        if self._noted is not None:
            self._noted.append((rule, action))

    def hit(self, rule: str) -> None:
        """Count one text in which ``rule`` found something."""
        self.hits[rule] = self.hits.get(rule, 0) + 1
        if self._noted is not None:
            self._noted.append((rule, ""))

    def gone(self, rule: str) -> Gone:
        """Count a value that is dropped, and give its tombstone."""
        self.count(rule, "drop")
        return Gone(tombstone(rule))

    def fault(self) -> Gone:
        """Count a fault of the guard's own, and give the tombstone of what it was at."""
        self.faults += 1
        return self.gone(FAULT)

    def note(self) -> list[tuple[str, str]]:
        """Write down, from now on, what is counted; until ``end_note``."""
        noted: list[tuple[str, str]] = []
        self._noted = noted
        return noted

    def end_note(self) -> None:
        """Write down no more."""
        self._noted = None

    def repeat(self, noted: list[tuple[str, str]]) -> None:
        """Count once more what was written down."""
        for rule, action in noted:
            if action:
                self.count(rule, action)
            else:
                self.hit(rule)
