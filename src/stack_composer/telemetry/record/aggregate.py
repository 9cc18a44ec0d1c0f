"""Add measurements up, on the writer's thread.

One *series* is one instrument with one set of attributes. ``add`` takes the values
measured since the last call; ``point`` gives the point to write, or None when there
is nothing new. With delta temporality a series starts anew after each point, so
bundles can be cut and merged without knowing what came before.
"""

from __future__ import annotations

from math import frexp, isfinite, log

from stack_composer.telemetry.model import HistogramPoint, NumberPoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SCALE_MAX = 5
"""Finest histogram: bases of 2**(1/32), so a bucket's middle is within 1.1 %."""
BUCKETS_MAX = 320
"""Buckets of one side; beyond, two become one (OpenTelemetry's own rule)."""

_PER_LOG = (1 << SCALE_MAX) / log(2.0)


class SumSeries:
    """A counter's total. ``monotonic`` ones refuse what would make them fall."""

    kind = "sum"

    def __init__(
        self, attributes: Mapping[str, Any] | None, now_ns: int, *, delta: bool, monotonic: bool
    ) -> None:
        self.attributes = attributes
        self._start_ns = now_ns
        self._delta = delta
        self._monotonic = monotonic
        self._total: float = 0
        self._changed = False

    def add(self, values: list[Any]) -> int:
        """Take ``values``; return how many were refused."""
        refused = 0
        for value in values:
            if not _is_finite(value) or (self._monotonic and value < 0):
                refused += 1
            else:
                self._total += value
                self._changed = True
        return refused

    def point(self, now_ns: int) -> NumberPoint | None:
        """Give the point since the last one (delta) or since the start (cumulative)."""
        if not self._changed:
            return None
        point = NumberPoint(self.attributes, self._start_ns, now_ns, self._total)
        self._changed = False
        if self._delta:
            self._start_ns = now_ns
            self._total = 0
        return point


class ReportedSumSeries(SumSeries):
    """A total that somebody else adds up, and reports from time to time."""

    _reported: float = 0

    def add(self, values: list[Any]) -> int:
        """Take reported totals; return how many were refused. The last one holds."""
        refused = 0
        for value in values:
            if not _is_finite(value) or (self._monotonic and value < 0):
                refused += 1
                continue
            grown = value - self._reported
            if self._monotonic and grown < 0:
                grown = value  # what adds up has begun anew, from zero
            self._total = self._total + grown if self._delta else value
            self._reported = value
            self._changed = True
        return refused


class GaugeSeries:
    """The last value wins."""

    kind = "gauge"

    def __init__(self, attributes: Mapping[str, Any] | None) -> None:
        self.attributes = attributes
        self._last: float | None = None

    def add(self, values: list[Any]) -> int:
        """Take ``values``; return how many were refused."""
        good = [value for value in values if _is_number(value)]
        if good:
            self._last = good[-1]
        return len(values) - len(good)

    def point(self, now_ns: int) -> NumberPoint | None:
        """Give the last value once."""
        if self._last is None:
            return None
        point = NumberPoint(self.attributes, 0, now_ns, self._last)
        self._last = None
        return point


class HistogramSeries:
    """An exponential histogram; the scale falls as the spread of values grows."""

    kind = "exponentialHistogram"

    def __init__(self, attributes: Mapping[str, Any] | None, now_ns: int, *, delta: bool) -> None:
        self.attributes = attributes
        self._delta = delta
        self._start_ns = now_ns
        self._state = HistogramPoint(attributes, now_ns, now_ns, SCALE_MAX)
        self._changed = False

    def add(self, values: list[Any]) -> int:
        """Take ``values``; return how many were refused."""
        refused = 0
        state = self._state
        good: list[float] = []
        for value in values:
            if not _is_finite(value):
                refused += 1
                continue
            good.append(value)
            if value > 0:
                self._count(state.positive, value)
            elif value < 0:
                self._count(state.negative, -value)
            else:
                state.zero_count += 1
        if good:
            low, high = min(good), max(good)
            state.minimum = float(low if not state.count else min(low, state.minimum))
            state.maximum = float(high if not state.count else max(high, state.maximum))
            state.count += len(good)
            state.total += sum(good)
            self._changed = True
        return refused

    def point(self, now_ns: int) -> HistogramPoint | None:
        """Give the histogram since the last one (delta) or since the start."""
        if not self._changed:
            return None
        state = self._state
        self._changed = False
        point = HistogramPoint(self.attributes, self._start_ns, now_ns, state.scale)
        for name in ("count", "total", "minimum", "maximum", "zero_count"):
            setattr(point, name, getattr(state, name))
        point.positive = dict(state.positive)
        point.negative = dict(state.negative)
        if self._delta:
            self._start_ns = now_ns
            self._state = HistogramPoint(self.attributes, now_ns, now_ns, SCALE_MAX)
        return point

    def _count(self, buckets: dict[int, int], value: float) -> None:
        index = bucket_index(value) >> (SCALE_MAX - self._state.scale)
        known = buckets.get(index)
        if known is not None:
            buckets[index] = known + 1
            return
        buckets[index] = 1
        while max(buckets) - min(buckets) >= BUCKETS_MAX:
            self._halve()

    def _halve(self) -> None:
        """Make two buckets one on both sides, so that they keep one scale."""
        state = self._state
        state.scale -= 1
        for buckets in (state.positive, state.negative):
            merged: dict[int, int] = {}
            for index, count in buckets.items():
                merged[index >> 1] = merged.get(index >> 1, 0) + count
            buckets.clear()
            buckets.update(merged)


def bucket_index(value: float) -> int:
    """Give the index at ``SCALE_MAX`` of the bucket (base**i, base**(i+1)] of ``value``."""
    fraction, exponent = frexp(value)
    if fraction == 0.5:
        # A power of two is its bucket's upper bound, which log() may miss by a hair.
        return ((exponent - 1) << SCALE_MAX) - 1
    within = int(log(fraction * 2) * _PER_LOG)
    return ((exponent - 1) << SCALE_MAX) + min(within, (1 << SCALE_MAX) - 1)


def _is_finite(value: Any) -> bool:
    """Tell whether ``value`` is a number that fits a double."""
    try:
        return _is_number(value) and isfinite(value)
    except OverflowError:  # an integer beyond 1.8e308
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
