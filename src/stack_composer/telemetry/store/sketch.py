"""What ``stats`` needs to know of a bundle, small enough to read a thousand of.

A sketch is a sum: merging the sketches of two bundles gives the sketch of both
together, so questions over a month add up sidecars and decode nothing. Values are
counted in exponential buckets rather than kept: bucket
``i`` holds ``2**(i/32) <= value < 2**((i+1)/32)``, so a quantile is off by at most
1.1 %.

The writer builds a sketch beside the lines (``add_spans`` and its sisters); reading
the same lines back (``add_line``) gives an equal one, which is how an orphan of a
dead process gets its sidecar.

Everything is bounded: at most ``NAMES_MAX`` span names and ``SERIES_MAX`` series;
what is beyond is counted under ``OVERFLOW_NAME`` and ``OVERFLOW_LABELS``.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections import Counter
from itertools import repeat
from math import exp2, floor, inf, isfinite, isnan, log2
from operator import add

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
    from typing import Any, Final, TypeAlias

    Labels: TypeAlias = tuple[tuple[str, "str | int | float | bool"], ...]
    """Label pairs sorted by key; see ``labels_of``."""

    SeriesKey: TypeAlias = tuple[str, str, Labels]
    """Metric name, kind ("gauge", "sum" or "histogram"), labels."""

NAMES_MAX: Final = 2000
NAME_CHARS_MAX: Final = 1024
"""Longer names, and labels longer than this together, count under the overflow."""
SERIES_MAX: Final = 2000
STREAMS_MAX: Final = 256
OVERFLOW_NAME: Final = "otel.overflow"
OVERFLOW_LABELS: Final = (("otel.metric.overflow", True),)

_PENDING_MAX: Final = 256
_LANE_BYTES: Final = 8
_LANE_LIMITS: Final = ((1, "B", 2**8), (2, "H", 2**16), (4, "I", 2**32))
_LANES_SPARE: Final = 64
_SCALE: Final = 5
_PER_DOUBLING: Final = 1 << _SCALE
_LARGEST: Final = 1.797e308
_LARGEST_POWER: Final = 1023.99


def bucket_of(value: float) -> int:
    """The bucket of a finite value above zero."""
    return floor(log2(value) * _PER_DOUBLING)


def _middle(index: int) -> float:
    """The geometric middle of bucket ``index``, or about the largest double."""
    return exp2(min((index + 0.5) / _PER_DOUBLING, _LARGEST_POWER))


class Histogram:
    """Values by bucket, with exact count, sum, least and greatest.

    ``minimum`` and ``maximum`` are ``inf`` and ``-inf`` while nothing is known of
    them. Values that are NaN or infinite are in ``count`` and ``nonfinite`` alone.

    Buckets that were read from a sidecar are *lanes* of one large integer, 64 bits for
    each bucket from ``_low`` on, until somebody asks for ``buckets``: two histograms
    are then merged by one addition, which is what makes a month quick to read.
    """

    __slots__ = (
        "_buckets",
        "_lanes",
        "_low",
        "count",
        "maximum",
        "minimum",
        "negatives",
        "nonfinite",
        "total",
        "zeros",
    )
    _COMPARED = ("count", "total", "minimum", "maximum", "zeros", "nonfinite", "negatives")

    def __init__(self) -> None:
        self.count = 0
        self.total: float = 0
        self.minimum: float = inf
        self.maximum: float = -inf
        self.zeros = 0
        self.nonfinite = 0
        self.negatives: dict[int, int] = {}
        self._buckets: Counter[int] | None = None
        self._low = 0
        self._lanes = 0

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and all(getattr(self, name) == getattr(other, name) for name in self._COMPARED)
            and self.buckets == other.buckets
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def buckets(self) -> Counter[int]:
        """How many values are in which bucket."""
        found = self._buckets
        if found is None:
            # Made late, since of most that are read only the lanes are wanted.
            found = self._buckets = Counter()
        if self._lanes:
            lanes, self._lanes = self._lanes, 0
            for index, count in enumerate(_unpacked(lanes), self._low):
                if count:
                    found[index] += count
        return found

    @property
    def mean(self) -> float | None:
        """Sum over count of the finite values; None when there are none."""
        known = self.count - self.nonfinite
        return self.total / known if known else None

    def add_durations(self, durations_ns: Sequence[int]) -> None:
        """Count durations; what is below zero (a clock step) counts as zero."""
        least = min(durations_ns)
        self.count += len(durations_ns)
        if least <= 0:
            least = 0
            self.zeros += sum(duration <= 0 for duration in durations_ns)
            durations_ns = [duration for duration in durations_ns if duration > 0]
        self.minimum = min(self.minimum, least)
        self.maximum = max(self.maximum, max(durations_ns, default=0))
        self.total += sum(durations_ns)
        # ``int`` rounds down here since the logarithm of a whole number is not
        # negative; a Counter counts a list in C.
        self.buckets.update([int(power * 32.0) for power in map(log2, durations_ns)])

    def add_values(self, values: Iterable[float]) -> None:
        """Count values of any sign."""
        for value in values:
            self.count += 1
            self.add_count(value, 1)
            if isfinite(value):
                self.total = _bounded(self.total + value)
                self.minimum = min(self.minimum, value)
                self.maximum = max(self.maximum, value)

    def add_exponential(
        self, positive: Mapping[int, int], negative: Mapping[int, int], *, scale: int
    ) -> None:
        """Count buckets of OpenTelemetry's exponential histogram, of any scale.

        Finer buckets are joined; a coarser one is counted at its geometric middle.
        Adds to the buckets alone: count, sum, zeros and bounds come with the point.
        """
        for theirs, ours in ((positive, self.buckets), (negative, self.negatives)):
            for index, count in theirs.items():
                _add(ours, _rescale(index, scale), count)

    def add_explicit(
        self,
        bounds: Sequence[float],
        counts: Sequence[int],
        *,
        count: int,
        total: float,
        minimum: float,
        maximum: float,
    ) -> None:
        """Count buckets with explicit bounds: each at its middle, or at its only bound.

        Adds to the buckets alone, as ``add_exponential``; the rest is the point's, by
        which the outermost buckets get their ends. NaN is what was not told.
        """
        for place, held in enumerate(counts):
            if not held:
                continue
            if not bounds:
                value = 0.0 if isnan(total) else total / (count or 1)
            elif place == 0:
                value = bounds[0] if isnan(minimum) else (minimum + bounds[0]) / 2
            elif place < len(bounds):
                value = (bounds[place - 1] + bounds[place]) / 2
            else:
                value = bounds[-1] if isnan(maximum) else (bounds[-1] + maximum) / 2
            self.add_count(value, held)

    def add_count(self, value: float, count: int) -> None:
        """Add ``count`` to the bucket of a value, and to nothing else."""
        if not isfinite(value):
            self.nonfinite += count
        elif value > 0:
            _add(self.buckets, bucket_of(value), count)
        elif value < 0:
            _add(self.negatives, bucket_of(-value), count)
        else:
            self.zeros += count

    def set_bounds(self, total: float | None, minimum: float | None, maximum: float | None) -> None:
        """Take sum, least and greatest as told; None or not finite means not told."""
        if total is not None and isfinite(total):
            self.total = total
        if minimum is not None and maximum is not None and -inf < minimum <= maximum < inf:
            self.minimum, self.maximum = minimum, maximum

    def merge(self, other: Histogram) -> None:
        """Count all that ``other`` counted."""
        self.count += other.count
        self.total = _bounded(self.total + other.total)
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.zeros += other.zeros
        self.nonfinite += other.nonfinite
        if other._lanes:
            self._add_lanes(other._low, other._lanes)
        for theirs, name in ((other._buckets, "buckets"), (other.negatives, "negatives")):
            if not theirs:
                continue
            ours: dict[int, int] = getattr(self, name)
            # This says ``ours[index] = ours.get(index, 0) + count`` for all of theirs,
            # in C: reading a month is little else.
            summed = map(add, map(ours.get, theirs, repeat(0)), theirs.values())
            dict.update(ours, zip(theirs, summed, strict=True))

    def _add_lanes(self, low: int, lanes: int) -> None:
        if not self._lanes:
            self._low, self._lanes = low, lanes
            return
        if low < self._low:
            self._lanes <<= 8 * _LANE_BYTES * (self._low - low)
            self._low = low
        self._lanes += lanes << 8 * _LANE_BYTES * (low - self._low)

    def subtract(self, earlier: Histogram) -> None:
        """Take away what a cumulative stream held before; bounds stay as they are."""
        self.count = max(self.count - earlier.count, 0)
        self.total -= earlier.total
        self.zeros = max(self.zeros - earlier.zeros, 0)
        for before, ours in (
            (earlier.buckets, self.buckets),
            (earlier.negatives, self.negatives),
        ):
            for index, count in before.items():
                left = ours.pop(index, 0) - count
                if left > 0:
                    ours[index] = left

    def copy(self) -> Histogram:
        """An equal one that shares nothing."""
        twin = Histogram()
        twin.merge(self)
        return twin

    def quantile(self, q: float) -> float | None:
        """The value below which a share ``q`` of the values lies, within 1.1 %.

        Args:
            q: From 0 to 1.

        Returns:
            None when no value is in a bucket (an empty histogram, or a summary).
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q is {q}; it must be from 0 to 1")
        known = sum(self.negatives.values()) + self.zeros + sum(self.buckets.values())
        if not known:
            return None
        value = self._value_at(max(q * known, 1))
        # A bucket's middle may lie outside of what was really seen.
        if self.minimum <= self.maximum:
            value = max(min(value, self.maximum), self.minimum)
        return value

    def _value_at(self, rank: float) -> float:
        """The middle of the bucket that holds the value of this rank, from 1."""
        for index, count in sorted(self.negatives.items(), reverse=True):
            rank -= count
            if rank <= 0:
                return -_middle(index)
        rank -= self.zeros
        if rank <= 0 and self.zeros:
            return 0.0
        index = 0
        for index, count in sorted(self.buckets.items()):  # noqa: B007 - wanted afterwards
            rank -= count
            if rank <= 0:
                break
        return _middle(index)

    def to_json(self) -> dict[str, Any]:
        """A form for ``json.dumps``; ``from_json`` reads it back equal."""
        found: dict[str, Any] = {"count": self.count, "sum": self.total}
        if self.minimum <= self.maximum:
            found |= {"min": self.minimum, "max": self.maximum}
        for name in ("zeros", "nonfinite"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        for name, counts in (("buckets", self.buckets), ("negatives", self.negatives)):
            if counts:
                found[name] = _packed(counts) or [list(counts), list(counts.values())]
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Histogram:
        """Read ``to_json``'s form; KeyError, TypeError or ValueError if it is not one."""
        made = cls()
        made.count = int(found["count"])
        made.total = found["sum"] + 0
        made.minimum = found.get("min", inf) + 0
        made.maximum = found.get("max", -inf) + 0
        made.zeros = int(found.get("zeros", 0))
        made.nonfinite = int(found.get("nonfinite", 0))
        for name in ("buckets", "negatives"):
            counts = found.get(name)
            if not counts:
                continue
            if isinstance(counts[0], int):
                low, width, text = counts
                lanes = _lanes_of(text, width)
                if name == "buckets":
                    made._low, made._lanes = low + 0, lanes
                else:
                    made.negatives = {
                        index: count for index, count in enumerate(_unpacked(lanes), low) if count
                    }
            elif name == "buckets":
                made._buckets = Counter(dict(zip(*counts, strict=True)))
            else:
                made.negatives = dict(zip(*counts, strict=True))
        return made


class SpanStats:
    """The spans of one name; ``errors`` of them have status error."""

    __slots__ = ("_histogram", "_pending_ns", "errors")

    def __init__(self) -> None:
        self.errors = 0
        self._histogram = Histogram()
        # Durations that are in no bucket yet. A batch has few spans of each name;
        # counting them a few hundred at a time halves the cost of a span.
        self._pending_ns: list[int] = []

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SpanStats)
            and self.errors == other.errors
            and self.durations == other.durations
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def durations(self) -> Histogram:
        """Durations in nanoseconds."""
        if self._pending_ns:
            self._histogram.add_durations(self._pending_ns)
            self._pending_ns = []
        return self._histogram

    @property
    def count(self) -> int:
        """How many spans."""
        return self._histogram.count + len(self._pending_ns)

    def add(self, durations_ns: Sequence[int], errors: int) -> None:
        """Count spans; the sequence is copied."""
        self.errors += errors
        self._pending_ns += durations_ns
        if len(self._pending_ns) >= _PENDING_MAX:
            self._histogram.add_durations(self._pending_ns)
            self._pending_ns = []

    def merge(self, other: SpanStats) -> None:
        """Count all that ``other`` counted."""
        self.add(other._pending_ns, other.errors)
        if other._histogram.count:
            self._histogram.merge(other._histogram)


class Stream:
    """A cumulative series since one start: its first and last point seen.

    The value is a Histogram; a sum is one whose ``total`` alone matters.
    """

    __slots__ = ("first", "first_ns", "last", "last_ns")

    def __init__(self, time_ns: int, value: Histogram) -> None:
        self.first_ns = self.last_ns = time_ns
        self.first = self.last = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]

    def merge(self, other: Stream) -> None:
        """Widen to what ``other`` saw."""
        if other.first_ns < self.first_ns:
            self.first_ns, self.first = other.first_ns, other.first
        if other.last_ns >= self.last_ns:
            self.last_ns, self.last = other.last_ns, other.last


class Series:
    """One metric with one set of labels.

    Attributes:
        unit: As recorded, or "".
        points: How many data points were seen.
        values: For a gauge every point is a value; for a histogram the delta points
            merged; for a sum ``total`` alone, of its delta points.
        last: The newest point's value (a histogram's mean), None if there is none.
        last_ns: Its time, Unix nanoseconds.
        streams: Cumulative points, by their start time; see ``distribution``.
    """

    __slots__ = ("last", "last_ns", "points", "streams", "unit", "values")

    def __init__(self) -> None:
        self.unit = ""
        self.points = 0
        self.values = Histogram()
        self.last: float | None = None
        self.last_ns = 0
        self.streams: dict[int, Stream] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Series) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]

    def saw(self, time_ns: int, value: float | None, points: int = 1) -> None:
        """Note ``points`` points, of which the newest has this time and value."""
        self.points += points
        if time_ns >= self.last_ns and value is not None and isfinite(value):
            self.last_ns, self.last = time_ns, value

    def add_cumulative(self, start_ns: int, time_ns: int, value: Histogram) -> None:
        """Note a cumulative point; ``value`` is kept, not copied."""
        self._add_stream(start_ns, Stream(time_ns, value))

    def _add_stream(self, start_ns: int, stream: Stream) -> None:
        known = self.streams.get(start_ns)
        if known is not None:
            known.merge(stream)
        elif len(self.streams) < STREAMS_MAX:
            self.streams[start_ns] = stream
        else:
            # Beyond the bound the increments still count, without their start.
            self.values.merge(stream.last)

    def distribution(self, *, since_ns: int = 0) -> Histogram:
        """All values together: deltas, and what cumulative streams grew by.

        Args:
            since_ns: A stream that began before counts from its first point seen;
                one that began later, or at an unknown time, counts in full.
        """
        made = self.values.copy()
        for start_ns, stream in self.streams.items():
            grown = stream.last.copy()
            if 0 < start_ns < since_ns:
                grown.subtract(stream.first)
            made.merge(grown)
        return made

    def merge(self, other: Series) -> None:
        """Count all that ``other`` counted."""
        self.unit = self.unit or other.unit
        self.saw(other.last_ns, other.last, other.points)
        self.values.merge(other.values)
        for start_ns, stream in other.streams.items():
            self._add_stream(start_ns, _copy_stream(stream))


class Sketch:
    """The sum of what some lines hold. Pure: no file, no clock.

    Attributes:
        records: Spans, log records and data points in all.
        first_ns: The earliest time any of them tells, 0 if none does.
        last_ns: The latest one.
        spans: By span name.
        logs: Log records by OTLP's severity number (0 unspecified, 1 to 24).
        metrics: By name, kind and labels.
        traces: Ids of the traces that the records belong to. The encoder tells them in
            the sketch of one append, for the index, and by that vouches for ``first_ns``:
            0 if any record has no time. None elsewhere; they are no part of the sum, so
            merging, comparing and writing leave them out.
    """

    __slots__ = ("first_ns", "last_ns", "logs", "metrics", "records", "spans", "traces")

    def __init__(self) -> None:
        self.records = 0
        self.first_ns = 0
        self.last_ns = 0
        self.spans: dict[str, SpanStats] = {}
        self.logs: dict[int, int] = {}
        self.metrics: dict[SeriesKey, Series] = {}
        self.traces: Collection[str] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and all(
            getattr(self, name) == getattr(other, name)
            for name in self.__slots__
            if name != "traces"
        )

    __hash__ = None  # type: ignore[assignment]

    def saw(self, first_ns: int, last_ns: int, records: int) -> None:
        """Note that ``records`` records lie between two Unix times.

        A span counts from its start to its end, a log record by its time (or the
        observed one when it has none), a data point by its time; 0 means unknown.
        """
        self.records += records
        if first_ns and (first_ns < self.first_ns or not self.first_ns):
            self.first_ns = first_ns
        self.last_ns = max(self.last_ns, last_ns)

    def add_spans(self, name: str, durations_ns: Sequence[int], errors: int) -> None:
        """Count finished spans of one name, ``errors`` of them with status error."""
        if not durations_ns:
            return
        self._span(name).add(durations_ns, errors)

    def _span(self, name: str) -> SpanStats:
        stats = self.spans.get(name)
        if stats is None:
            room = len(self.spans) < NAMES_MAX and len(name) <= NAME_CHARS_MAX
            if not room and name != OVERFLOW_NAME:
                return self._span(OVERFLOW_NAME)
            stats = self.spans[name] = SpanStats()
        return stats

    def add_logs(self, severity_number: int, count: int = 1) -> None:
        """Count log records of one severity."""
        self.logs[severity_number] = self.logs.get(severity_number, 0) + count

    def add_gauge(
        self, name: str, labels: Labels, values: Sequence[float], last_ns: int, *, unit: str = ""
    ) -> None:
        """Count gauge points; ``last_ns`` is the time of the last of ``values``."""
        if values:
            series = self._series(name, "gauge", labels, unit)
            series.values.add_values(values)
            series.saw(last_ns, values[-1], len(values))

    def add_sum(
        self, name: str, labels: Labels, increment: float, time_ns: int, *, unit: str = ""
    ) -> None:
        """Count one delta point of a sum."""
        series = self._series(name, "sum", labels, unit)
        series.saw(time_ns, increment)
        if isfinite(increment):
            series.values.total = _bounded(series.values.total + increment)

    def add_cumulative_sum(
        self,
        name: str,
        labels: Labels,
        value: float,
        time_ns: int,
        *,
        start_ns: int,
        unit: str = "",
    ) -> None:
        """Count one cumulative point of a sum.

        Points of one name, labels and ``start_ns`` are taken for one stream.
        """
        series = self._series(name, "sum", labels, unit)
        series.saw(time_ns, value)
        if isfinite(value):
            reached = Histogram()
            reached.total = value
            series.add_cumulative(start_ns, time_ns, reached)

    def add_histogram(
        self,
        name: str,
        labels: Labels,
        value: Histogram,
        time_ns: int,
        *,
        cumulative_start_ns: int | None = None,
        unit: str = "",
    ) -> None:
        """Count one histogram point; ``value`` is kept, not copied.

        ``cumulative_start_ns`` is None for a delta point.
        """
        series = self._series(name, "histogram", labels, unit)
        series.saw(time_ns, value.mean)
        if cumulative_start_ns is None:
            series.values.merge(value)
        else:
            series.add_cumulative(cumulative_start_ns, time_ns, value)

    def _series(self, name: str, kind: str, labels: Labels, unit: str) -> Series:
        series = self.metrics.get((name, kind, labels))
        if series is None:
            key = self._place(name, kind, labels)
            series = self.metrics.setdefault(key, Series())
        series.unit = series.unit or unit
        return series

    def _place(self, name: str, kind: str, labels: Labels) -> SeriesKey:
        if len(name) > NAME_CHARS_MAX:
            return (OVERFLOW_NAME, kind, OVERFLOW_LABELS)
        if len(self.metrics) < SERIES_MAX and _chars(labels) <= NAME_CHARS_MAX:
            return (name, kind, labels)
        # Room for an overflow series of most names, then one for all the rest.
        if len(self.metrics) < 2 * SERIES_MAX:
            return (name, kind, OVERFLOW_LABELS)
        return (OVERFLOW_NAME, kind, OVERFLOW_LABELS)

    def merge(self, other: Sketch) -> None:
        """Count all that ``other`` counted; ``other`` stays as it is."""
        self.saw(other.first_ns, other.last_ns, other.records)
        for name, stats in other.spans.items():
            self._span(name).merge(stats)
        for severity_number, count in other.logs.items():
            self.add_logs(severity_number, count)
        for (name, kind, labels), series in other.metrics.items():
            self._series(name, kind, labels, series.unit).merge(series)

    def add_line(self, signal: str, line: bytes) -> None:
        """Count what one OTLP JSON line holds, by decoding it.

        Raises:
            LineRefusedError: It is not OTLP JSON; nothing is counted then.
        """
        from stack_composer.telemetry.store.sketch_line import add_line

        add_line(self, signal, line)

    def to_json(self) -> dict[str, Any]:
        """A form for ``json.dumps``, strict JSON; ``from_json`` reads it back equal."""
        return {
            "records": self.records,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "spans": [
                [name, stats.errors, stats.durations.to_json()]
                for name, stats in self.spans.items()
            ],
            "logs": [list(pair) for pair in self.logs.items()],
            "metrics": [
                [name, kind, dict(labels), _series_to_json(series)]
                for (name, kind, labels), series in self.metrics.items()
            ],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Sketch:
        """Read ``to_json``'s form.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: It is not one.
        """
        made = cls()
        made.records = int(found["records"])
        made.first_ns = int(found["first_ns"])
        made.last_ns = int(found["last_ns"])
        for name, errors, durations in found["spans"]:
            stats = made.spans[name] = SpanStats()
            stats.errors = int(errors)
            stats._histogram = Histogram.from_json(durations)
        made.logs = {int(number): int(count) for number, count in found["logs"]}
        for name, kind, labels, series in found["metrics"]:
            key = (name, kind, tuple(sorted(labels.items())))
            made.metrics[key] = _series_from_json(series)
        return made


def _chars(labels: Labels) -> int:
    return sum(len(key) + (len(value) if isinstance(value, str) else 0) for key, value in labels)


def labels_of(attributes: Mapping[str, Any] | None) -> Labels:
    """Make labels of attributes as they were written; sorted, so that order is no matter.

    Texts, booleans and finite numbers stay; any other value becomes the text of its
    JSON, as ``json.dumps`` writes it without spaces (bytes as base64 first).
    """
    if not attributes:
        return ()
    if len(attributes) == 1:
        (pair,) = attributes.items()
        return ((pair[0], _label(pair[1])),)
    return tuple((key, _label(attributes[key])) for key in sorted(attributes))


def _label(value: Any) -> str | int | float | bool:
    if isinstance(value, (str, bool, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    import base64
    import json

    def encode(other: object) -> object:
        if isinstance(other, bytes):
            return base64.b64encode(other).decode()
        raise TypeError(f"a label holds a {type(other).__name__}")

    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return json.dumps(value, separators=(",", ":"), default=encode)


def _series_to_json(series: Series) -> dict[str, Any]:
    found: dict[str, Any] = {
        "points": series.points,
        "last": series.last,
        "last_ns": series.last_ns,
        "values": series.values.to_json(),
    }
    if series.unit:
        found["unit"] = series.unit
    if series.streams:
        found["streams"] = [
            [start, s.first_ns, s.first.to_json(), s.last_ns, s.last.to_json()]
            for start, s in series.streams.items()
        ]
    return found


def _series_from_json(found: Mapping[str, Any]) -> Series:
    made = Series()
    made.points = int(found["points"])
    made.last = found["last"]
    made.last_ns = int(found["last_ns"])
    made.values = Histogram.from_json(found["values"])
    made.unit = str(found.get("unit", ""))
    for start_ns, first_ns, first, last_ns, last in found.get("streams", ()):
        stream = Stream(int(first_ns), Histogram.from_json(first))
        stream.last_ns, stream.last = int(last_ns), Histogram.from_json(last)
        made.streams[int(start_ns)] = stream
    return made


def _copy_stream(stream: Stream) -> Stream:
    twin = Stream(stream.first_ns, stream.first)
    twin.last_ns, twin.last = stream.last_ns, stream.last
    return twin


def _add(counts: MutableMapping[int, int], index: int, count: int) -> None:
    counts[index] = counts.get(index, 0) + count


def _packed(counts: Mapping[int, int]) -> list[int | str] | None:
    """Write buckets as lanes: the first index, the bytes a lane, the lanes in base64.

    None where that takes more room than pairs do, or a count fills four bytes.
    """
    import sys
    from array import array

    low, high, most = min(counts), max(counts), max(counts.values())
    if high - low >= 8 * len(counts) + _LANES_SPARE or min(counts.values()) < 0:
        return None
    for width, code, limit in _LANE_LIMITS:
        if most < limit:
            lanes = array(code, bytes(width * (high - low + 1)))
            for index, count in counts.items():
                lanes[index - low] = count
            if sys.byteorder == "big":
                lanes.byteswap()
            return [low, width, b2a_base64(lanes, newline=False).decode("ascii")]
    return None


def _lanes_of(text: str, width: int) -> int:
    """Read the lanes that ``_packed`` wrote, and make them as wide as sums need."""
    narrow = a2b_base64(text)
    if width not in (1, 2, 4) or len(narrow) % width:
        raise ValueError("not lanes of a histogram")
    wide = bytearray(len(narrow) // width * _LANE_BYTES)
    for place in range(width):
        wide[place::_LANE_BYTES] = narrow[place::width]
    return int.from_bytes(wide, "little")


def _unpacked(lanes: int) -> Sequence[int]:
    """The counts in lanes, from the lowest on."""
    import sys
    from array import array

    size = -(-lanes.bit_length() // (8 * _LANE_BYTES)) * _LANE_BYTES
    counts = array("Q", lanes.to_bytes(size, "little"))
    if sys.byteorder == "big":
        counts.byteswap()
    return counts


def _rescale(index: int, scale: int) -> int:
    if scale >= _SCALE:
        return index >> (scale - _SCALE)
    return ((2 * index + 1) << (_SCALE - scale)) >> 1


def _bounded(total: float) -> float:
    # A sum beyond a double would be infinite, which JSON cannot say.
    return max(min(total, _LARGEST), -_LARGEST)
