"""Write doubles many at a time, since one at a time they cost more than all else.

``repr`` of a double takes half a microsecond; ``msgspec`` writes a list of them at a
seventh of that. So a batch leaves a hole for each and fills them together. Importing
``msgspec`` costs as much as writing ``REPR_DOUBLES`` doubles one by one, so a program
with few never does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HOLE = "\x00"
"""Stands for a double that is written later. JSON never holds this character raw."""
REPR_DOUBLES = 50_000


class Doubles:
    """The finite doubles of a batch, and how many there were before.

    Whoever begins a batch empties ``waiting``: one that failed may have left some.
    """

    def __init__(self) -> None:
        self.waiting: list[float] = []
        self._written = 0
        self._encode: Callable[[list[float]], bytes] | None = None

    def fill(self, text: str) -> str:
        """Put the waiting doubles into the holes of ``text``, in their order."""
        if not self.waiting:
            return text
        between = text.split(HOLE)
        filled = [""] * (2 * len(between) - 1)
        filled[::2] = between
        filled[1::2] = self._texts()  # As many as holes, or this raises.
        return "".join(filled)

    def _texts(self) -> list[str]:
        if self._encode is not None:
            return self._encode(self.waiting)[1:-1].decode().split(",")
        self._written += len(self.waiting)
        if self._written > REPR_DOUBLES:
            from msgspec.json import encode

            self._encode = encode
        return list(map(repr, self.waiting))
