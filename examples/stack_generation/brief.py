"""Read a brief: which needs its words name, and what it may cost."""

from __future__ import annotations

import re
from dataclasses import dataclass

from catalogue import Catalogue, Need

DEFAULT = (
    "A booking site for a climbing gym in Porto: members reserve slots from their "
    "phones, pay by card, and get reminders by e-mail; staff look at live lists and "
    "monthly figures. Two thousand members, two developers, 140 euros a month."
)
BUDGET_EUR = 150.0
"""What a brief that names no sum may cost a month."""

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_SUM = re.compile(r"(?:€|eur(?:os?)?\b)\s*(\d[\d.,]*\d|\d)|(\d[\d.,]*\d|\d)\s*(?:€|eur(?:os?)?\b)")


@dataclass(frozen=True)
class Brief:
    """A brief and what was understood of it."""

    text: str
    needs: tuple[Need, ...]
    budget_eur: float


def words_of(text: str) -> list[str]:
    """Split a text into its words, without case; ``e-mail`` is one."""
    return _WORD.findall(text.casefold())


def read_brief(text: str, catalogue: Catalogue) -> Brief:
    """Find the needs that the text names, and those that every system has."""
    words = set(words_of(text))
    needs = tuple(need for need in catalogue.needs if need.always or need.words & words)
    return Brief(text, needs, _budget(text))


def _budget(text: str) -> float:
    found = _SUM.search(text.casefold())
    if found is None:
        return BUDGET_EUR
    # 1.200 and 1,200 are both twelve hundred: nobody plans a month in cents.
    return float(re.sub(r"[.,]", "", found[1] or found[2]))
