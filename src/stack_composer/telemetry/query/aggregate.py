"""Turn one merged sketch into the rows that ``stats`` shows.

Pure and small: the work of counting was done by the sketches, so all that is left
is to name, divide and sort. What the pipeline measures of itself (metrics below
``stack_composer.telemetry.``) is set apart here, so that a user's table holds the
user's own names and every loss has a line of its own.

Imports nothing heavy: ``stats`` over sealed bundles is to feel instant.
"""

from __future__ import annotations

from stack_composer.telemetry.store.sketch import Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from stack_composer.telemetry.store.sketch import Labels, Series, Sketch, SpanStats

HEALTH_PREFIX = "stack_composer.telemetry."
"""Names of the pipeline's own metrics start so: ``dropped``, ``redacted``, ``faults``."""

MINUTE_NS = 60_000_000_000

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal")
"""OTLP's levels; each has four severity numbers, the first from 1."""


class SpanRow:
    """The spans of one name; durations in ns, within 1.1 %, None where unknown."""

    __slots__ = ("count", "errors", "maximum", "mean", "minimum", "name", "p50", "p95", "p99")

    def __init__(self, name: str, stats: SpanStats) -> None:
        durations = stats.durations
        self.name = name
        self.count = stats.count
        self.errors = stats.errors
        self.mean = durations.mean
        self.minimum, self.maximum = _bounds(durations)
        self.p50 = durations.quantile(0.5)
        self.p95 = durations.quantile(0.95)
        self.p99 = durations.quantile(0.99)


class MetricRow:
    """One metric, or one series of it when ``labels`` is not None.

    ``count`` is values for a gauge or histogram, points for a sum; ``total`` is
    their sum. What has no value (a sum's percentiles) is None.
    """

    __slots__ = (
        "count",
        "kind",
        "labels",
        "last",
        "last_ns",
        "maximum",
        "mean",
        "minimum",
        "name",
        "p50",
        "p95",
        "total",
        "unit",
    )

    def __init__(
        self,
        name: str,
        kind: str,
        labels: Labels | None,
        series: Iterable[Series],
        *,
        since_ns: int,
    ) -> None:
        together = Histogram()
        self.name = name
        self.kind = kind
        self.labels = labels
        self.unit = ""
        self.last: float | None = None
        self.last_ns = 0
        points = 0
        for one in series:
            together.merge(one.distribution(since_ns=since_ns))
            points += one.points
            self.unit = self.unit or one.unit
            if one.last is not None and one.last_ns >= self.last_ns:
                self.last, self.last_ns = one.last, one.last_ns
        counter = kind == "sum"
        self.count = points if counter else together.count
        self.total = together.total
        self.mean = None if counter else together.mean
        self.minimum, self.maximum = (None, None) if counter else _bounds(together)
        self.p50 = None if counter else together.quantile(0.5)
        self.p95 = None if counter else together.quantile(0.95)


class Summary:
    """What happened between two moments.

    Attributes:
        spans: A row a name, most frequent first.
        metrics: A row a metric (or a series), by name.
        logs: Log records by level, most severe last; levels without one are left out.
        redacted: What the guard took out, by rule.
        dropped: Records that were lost, by reason.
        faults: Failures of our own, by place.
        judged: Texts that the guard judged, of programs in which it found anything.
        hits: In how many of them it found something, by rule.
        seconds: Length of the window that rates are counts over; see ``_window_ns``.
    """

    __slots__ = (
        "dropped",
        "faults",
        "hits",
        "judged",
        "logs",
        "metrics",
        "redacted",
        "seconds",
        "spans",
    )

    def __init__(
        self, sketch: Sketch, *, since_ns: int, until_ns: int, by_labels: bool = False
    ) -> None:
        self.seconds = _window_ns(sketch, since_ns, until_ns) / 1e9
        self.spans = sorted(
            (SpanRow(name, stats) for name, stats in sketch.spans.items()),
            key=lambda row: (-row.count, row.name),
        )
        self.metrics = _metric_rows(sketch, since_ns=since_ns, by_labels=by_labels)
        self.logs = _levels(sketch.logs)
        self.redacted = _health(sketch, "redacted", "rule", since_ns=since_ns)
        self.dropped = _health(sketch, "dropped", "reason", since_ns=since_ns)
        self.faults = _health(sketch, "faults", "where", since_ns=since_ns)
        self.judged = sum(_health(sketch, "judged", "", since_ns=since_ns).values())
        self.hits = _health(sketch, "hit", "rule", since_ns=since_ns)

    def per_minute(self, count: float) -> float | None:
        """Return ``count`` per minute of the window; None for a window of no length."""
        return count * 60 / self.seconds if self.seconds > 0 else None


def level_name(severity: int) -> str:
    """Return OTLP's word for a severity number; six levels of four numbers each."""
    return LEVELS[(severity - 1) // 4] if 1 <= severity <= 24 else "unspecified"


def _window_ns(sketch: Sketch, since_ns: int, until_ns: int) -> int:
    """Return how long a time the records are spread over; 0 when there are none.

    From the later of ``since_ns`` and the first record to ``until_ns``; but where a
    minute or more was asked for, a minute at least. A program that ran for a tenth of
    a second has no rate a minute of 100,000.
    """
    if not sketch.first_ns:
        return 0
    asked_ns = max(until_ns - since_ns, 0)
    return min(max(until_ns - max(since_ns, sketch.first_ns), MINUTE_NS), asked_ns)


def _bounds(histogram: Histogram) -> tuple[float | None, float | None]:
    if histogram.minimum > histogram.maximum:
        return None, None
    return histogram.minimum, histogram.maximum


def _metric_rows(sketch: Sketch, *, since_ns: int, by_labels: bool) -> list[MetricRow]:
    groups: dict[tuple[str, str, Labels | None], list[Series]] = {}
    for (name, kind, labels), series in sketch.metrics.items():
        if not name.startswith(HEALTH_PREFIX):
            groups.setdefault((name, kind, labels if by_labels else None), []).append(series)
    rows = [
        MetricRow(name, kind, labels, series, since_ns=since_ns)
        for (name, kind, labels), series in groups.items()
    ]
    rows.sort(key=lambda row: (row.name, row.kind, str(row.labels)))
    return rows


def _levels(logs: dict[int, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for severity in sorted(logs):
        level = level_name(severity)
        counts[level] = counts.get(level, 0) + logs[severity]
    return counts


def _health(sketch: Sketch, what: str, label: str, *, since_ns: int) -> dict[str, int]:
    """Sum one of the pipeline's own counters by one of its labels, most first."""
    counts: dict[str, int] = {}
    for (name, _, labels), series in sketch.metrics.items():
        if name == HEALTH_PREFIX + what:
            key = str(dict(labels).get(label, "unspecified"))
            total = round(series.distribution(since_ns=since_ns).total)
            counts[key] = counts.get(key, 0) + total
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
