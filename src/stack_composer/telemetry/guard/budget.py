"""What looking at the hits of a text may cost, however the text was made.

A hit that its validator refuses is stepped over by one byte, since the secret may begin
inside of it. So a text that is full of near-hits, or is one long one, would be read
again and again. Costs are counted in bytes read, never in time: what a text becomes must
be the same on every machine, in both engines and when it is guarded again.

Two bounds. A rule has a ``Budget`` in each text; where it is spent, all that follows is
masked in that rule's name, since nobody has looked at it. What all rules together do to a
text has a ``Patience``; beyond it the text is dropped.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

TEXT_CHARS_MAX: Final = 1 << 16
"""Characters of the longest text that is looked at; a longer one is dropped."""
HIT_BYTES: Final = 112
"""What a hit costs besides its bytes: the call, the validator, the span; some 3 µs."""
READS: Final = 3
"""How often a hit's bytes are read: for its ends, for its groups, by the validator."""
_WEIGHTS: Final = {
    "assigned": 3,
    "assigned.password_argument": 8,
    "content": 4,
    "persons.user_name": 4,
    "tokens.bearer": 4,
    "urls.path_secret": 4,
    "wallets": 4,
}
"""How many times dearer hits are where the validator, or the pattern before it, takes long."""
FREE_BYTES: Final = 1 << 15
"""What a rule may spend wherever its hits stand: on 190 of the usual length, or 60 dear ones."""
EARNED_BYTES: Final = 3
"""What it may spend more with each byte that stands before: as much as one in a match costs."""
PATIENCE_BYTES: Final = 1 << 22
"""What all rules may spend on one text, however often it is searched; it is some 0.2 s."""


def weight(validator: str) -> int:
    """How dear a hit is that the validator of this name looks at."""
    return _WEIGHTS.get(validator) or _WEIGHTS.get(validator.partition(".")[0], 1)


class UnsettledError(Exception):
    """A text cannot be judged: hits are left after so many rounds, or there are too many."""


class Patience:
    """What is left for the hits of one text."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = PATIENCE_BYTES

    def spend(self, cost: int) -> None:
        """Pay for what a rule looked at.

        Raises:
            UnsettledError: Nothing is left; the text must be dropped.
        """
        self.left -= cost
        if self.left < 0:
            raise UnsettledError


class Budget:
    """What one rule may spend in one text, which earns it with each of its bytes.

    NULs earn nothing: they stand for what was found before. So a text from which only
    refused hits are left has the same budget again when its markers, shorter or longer
    than what they stand for, are NULs in it.
    """

    __slots__ = ("_allowed", "_data", "_seen", "_weight", "spent")

    def __init__(self, data: bytes, weight: int) -> None:
        self.spent = 0
        self._data = data
        self._weight = weight
        self._allowed = FREE_BYTES
        self._seen = 0

    def pay(self, match_bytes: int) -> None:
        """Pay for a hit."""
        self.spent += self._weight * (HIT_BYTES + READS * match_bytes)

    def is_spent(self, place: int) -> bool:
        """Whether a hit at ``place``, not before the last one, can no longer be afforded."""
        if self.spent > self._allowed:
            nuls = self._data.count(0, self._seen, place)
            self._allowed += EARNED_BYTES * (place - self._seen - nuls)
            self._seen = place
        return self.spent > self._allowed
