"""Retrieval by likeness: pieces of words hashed into vectors, compared by their angle.

No model and no download: the four-letter pieces of ``reservation`` and ``reserve``
overlap, so texts that share no whole word can still be near each other.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable

from brief import words_of
from catalogue import Component

DIMENSIONS = 4_096
PIECES = (3, 4, 5)

Vector = dict[int, float]


class DenseIndex:
    """Vectors of all parts; a piece weighs less the more parts have it."""

    def __init__(self, components: Iterable[Component]) -> None:
        counts = {part.name: _pieces(f"{part.name} {part.text}") for part in components}
        spread = Counter(piece for pieces in counts.values() for piece in pieces)
        self._weights = {p: math.log(1 + len(counts) / n) for p, n in spread.items()}
        self._vectors = {name: self._vector(pieces) for name, pieces in counts.items()}

    def search(self, query: str, k: int) -> list[str]:
        """Give the names of the ``k`` nearest parts, nearest first."""
        wanted = self._vector(_pieces(query))
        near = [(-_dot(wanted, vector), name) for name, vector in self._vectors.items()]
        return [name for distance, name in sorted(near)[:k] if distance < 0]

    def _vector(self, pieces: Counter[int]) -> Vector:
        rough = {p: math.log1p(n) * self._weights.get(p, 1.0) for p, n in pieces.items()}
        length = math.sqrt(sum(value * value for value in rough.values())) or 1.0
        return {piece: value / length for piece, value in rough.items()}


def _pieces(text: str) -> Counter[int]:
    found: Counter[int] = Counter()
    for word in words_of(text):
        marked = f"<{word}>"
        for size in PIECES:
            for start in range(len(marked) - size + 1):
                # crc32 and not hash(): the latter differs from run to run.
                found[zlib.crc32(marked[start : start + size].encode()) % DIMENSIONS] += 1
    return found


def _dot(one: Vector, other: Vector) -> float:
    return sum(value * other.get(piece, 0.0) for piece, value in one.items())
