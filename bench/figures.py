"""Medians, and ratios pair by pair: what is made of the rounds; pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Figure(NamedTuple):
    """A median over the rounds, and between what it lay."""

    median: float
    least: float
    most: float


def figure(values: Sequence[float]) -> Figure | None:
    """Sum up one contender's rounds; None if it took no part."""
    return Figure(median(values), min(values), max(values)) if values else None


def ratio(peer: Sequence[float], ours: Sequence[float]) -> Figure | None:
    """Tell how many times less than the peer ours took, round by round.

    Rounds are compared with each other, since what disturbs a machine disturbs
    neighbours in time alike.
    """
    return figure([p / o for p, o in zip(peer, ours, strict=True)]) if peer and ours else None


def difference(some: Sequence[float], base: Sequence[float]) -> list[float]:
    """Give what comes on top of ``base``, round by round."""
    return [s - b for s, b in zip(some, base, strict=True)] if some and base else []
