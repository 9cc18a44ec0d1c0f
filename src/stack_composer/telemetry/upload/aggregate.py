"""Counts and histograms instead of records: what the mode ``aggregate`` sends.

A range of a bundle becomes a sketch, as statistics are made of it, and the sketch becomes
OTLP metrics: how many spans of each name, how many failed, how long they took; how many
log records of each severity; and each metric, by name and labels. There is no id in it,
no attribute of a span and no text of a log: only names and labels, which passed the guard
when they were recorded.

The metrics are increments (delta) over the time of their records, so that ranges add up
at the receiver, in whatever pieces they came. Buckets are those of the sketch, which are
OpenTelemetry's at scale 5; a gauge goes as the histogram of its values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp.requests import Slice, request_of
from stack_composer.telemetry.store.reader import read_head, read_placed_lines, read_sketch
from stack_composer.telemetry.store.sketch import Histogram, Sketch
from stack_composer.telemetry.upload.audit import Position
from stack_composer.telemetry.upload.batches import LINES, Batches, object_name
from stack_composer.telemetry.upload.plan import EVERYTHING, Stretch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from stack_composer.telemetry.store.sketch import Labels, SpanStats
    from stack_composer.telemetry.upload.plan import Portion, Terms
    from stack_composer.telemetry.upload.pseudonyms import Pseudonyms

SCALE: Final = 5
SPAN_COUNT: Final = "stack_composer.span.count"
SPAN_ERRORS: Final = "stack_composer.span.errors"
SPAN_DURATION: Final = "stack_composer.span.duration"
LOG_COUNT: Final = "stack_composer.log.count"
SERVICE: Final = "stack-composer"
"""The resource's name: which program it was, an aggregate does not tell."""

_DELTA: Final = 1
_INT_MAX: Final = 2**63 - 1
_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


class AggregateBatch:
    """What one request holds: the sum of a range of a bundle; as ``batches.Batch``."""

    __slots__ = ("_maker", "_stretch", "body", "lines", "portion", "records", "signal")

    def __init__(self, maker: AggregateBatches, portion: Portion, stretch: Stretch) -> None:
        self._maker = maker
        self._stretch = stretch
        self.portion = portion
        self.signal = "metrics"
        sketch = maker.sketch_of(portion, stretch)
        line = maker.pseudonyms.line(metrics_line(sketch, portion.bundle.created_ns))
        self.lines = [line] if sketch.records else []
        self.body, self.records = request_of(
            maker.form, "metrics", [Slice(line) for line in self.lines]
        )

    @property
    def start(self) -> Position:
        """The first place."""
        return self._stretch.start

    @property
    def end(self) -> Position:
        """The first place behind it."""
        return self._stretch.end

    @property
    def name(self) -> str:
        """What an object store may call it."""
        stem = object_name(self.portion, self.start, self.end).removesuffix(".jsonl")
        return f"{stem}.aggregate.jsonl"

    def halves(self) -> list[AggregateBatch]:
        """Return two batches that add up to this one; none if it is of one line."""
        start, end, earlier = self._stretch
        places = [
            Position(offset)
            for offset, _ in read_placed_lines(self.portion.bundle, start=start.offset)
            if start < Position(offset) < end
        ]
        if not places:
            return []
        middle = places[len(places) // 2]
        return [
            AggregateBatch(self._maker, self.portion, Stretch(first, last, earlier))
            for first, last in ((start, middle), (middle, end))
        ]


class AggregateBatches:
    """What makes the batches of a plan in the mode ``aggregate``; as ``batches.Batches``."""

    def __init__(self, terms: Terms, form: str, pseudonyms: Pseudonyms) -> None:
        self.form = form
        self.pseudonyms = pseudonyms
        self.bytes_max = terms.request_bytes_max
        self._lines = Batches(terms, LINES, pseudonyms)
        self.oddities = self._lines.oddities

    def of(self, portion: Portion) -> Iterator[AggregateBatch]:
        """Yield the batches of a bundle, in order: as a rule one.

        Raises:
            StoreError: The bundle cannot be read.
        """
        for stretch in portion.stretches:
            yield from self._fitting(AggregateBatch(self, portion, stretch))

    def _fitting(self, batch: AggregateBatch) -> Iterator[AggregateBatch]:
        parts = batch.halves() if len(batch.body) > self.bytes_max else []
        if parts:
            for part in parts:
                yield from self._fitting(part)
        elif batch.records:
            yield batch

    def sketch_of(self, portion: Portion, stretch: Stretch) -> Sketch:
        """Add up what of a range is wanted and did not go."""
        if portion.selected == EVERYTHING and not stretch.earlier and not any(stretch.start):
            head = read_head(portion.bundle)
            sketch = read_sketch(portion.bundle)
            if head and sketch is not None and head.plain_bytes == stretch.end.offset:
                return sketch
        sketch = Sketch()
        for piece in self._lines.pieces(portion, stretch):
            try:
                sketch.add_line(portion.bundle.signal, piece.line)
            except LineRefusedError:
                self.oddities["refused_line"] += 1
        return sketch


def metrics_line(sketch: Sketch, time_ns: int) -> bytes:
    """Write a sketch as one line of OTLP JSON metrics.

    Args:
        sketch: What was added up.
        time_ns: What counts where no record tells a time, Unix nanoseconds.
    """
    first_ns = sketch.first_ns or time_ns
    window = {
        "startTimeUnixNano": str(first_ns),
        "timeUnixNano": str(max(sketch.last_ns, first_ns + 1)),
    }
    metrics = [
        *_of_spans(sketch, window),
        *_of_logs(sketch, window),
        *_of_metrics(sketch, window),
    ]
    resource = {"attributes": [_attribute("service.name", SERVICE)]}
    scope = {"scope": {"name": "stack_composer.telemetry"}, "metrics": metrics}
    held = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}
    return json.dumps(held, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


_Window = dict[str, str]


def _of_spans(sketch: Sketch, window: _Window) -> list[dict[str, Any]]:
    by_name: dict[Labels, SpanStats] = {
        (("span.name", name),): stats for name, stats in sorted(sketch.spans.items())
    }
    counts = {labels: stats.count for labels, stats in by_name.items()}
    errors = {labels: stats.errors for labels, stats in by_name.items() if stats.errors}
    durations = [
        {**_labelled(labels), **window, **_distribution(stats.durations)}
        for labels, stats in by_name.items()
    ]
    found = [_counter(SPAN_COUNT, "{span}", counts, window)] if counts else []
    if errors:
        found.append(_counter(SPAN_ERRORS, "{span}", errors, window))
    if durations:
        found.append(_metric(SPAN_DURATION, "ns", "exponentialHistogram", durations))
    return found


def _of_logs(sketch: Sketch, window: _Window) -> list[dict[str, Any]]:
    counts: dict[Labels, int] = {}
    for number, count in sorted(sketch.logs.items()):
        labels: Labels = (("log.severity_number", number),)
        if 1 <= number <= 24:
            labels = (("log.severity", _LEVELS[(number - 1) // 4]), *labels)
        counts[labels] = count
    return [_counter(LOG_COUNT, "{record}", counts, window)] if counts else []


def _of_metrics(sketch: Sketch, window: _Window) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for (name, kind, labels), series in sketch.metrics.items():
        # What a cumulative stream had reached before this range belongs to ranges before.
        values = series.distribution(since_ns=sketch.first_ns)
        count = values.count - values.nonfinite
        if kind == "sum":
            form, point = "sum", _number(values.total)
        elif values.buckets or values.negatives or values.zeros:
            form, point = "exponentialHistogram", _distribution(values)
        elif count:  # A summary, which has no buckets.
            form, point = "histogram", {"count": str(count), "sum": float(values.total)}
        else:
            continue  # Points that tell no value.
        held = {**_labelled(labels), **window, **point}
        found.setdefault((name, form, series.unit), []).append(held)
    # Whether a sum only ever grew, a sketch does not tell, so none says that it did.
    return [_metric(name, unit, form, points) for (name, form, unit), points in found.items()]


def _counter(name: str, unit: str, counts: dict[Labels, int], window: _Window) -> dict[str, Any]:
    points = [
        {**_labelled(labels), **window, "asInt": str(count)} for labels, count in counts.items()
    ]
    held = {"dataPoints": points, "aggregationTemporality": _DELTA, "isMonotonic": True}
    return {"name": name, "unit": unit, "sum": held}


def _metric(name: str, unit: str, form: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    held = {"dataPoints": points, "aggregationTemporality": _DELTA}
    return {"name": name, "unit": unit, form: held}


def _distribution(values: Histogram) -> dict[str, Any]:
    positive, negative = values.buckets, values.negatives
    # OTLP wants the count to be that of the buckets, so what is not finite is left out.
    count = sum(positive.values()) + sum(negative.values()) + values.zeros
    point: dict[str, Any] = {"count": str(count), "sum": float(values.total)}
    if values.minimum <= values.maximum:
        point |= {"min": float(values.minimum), "max": float(values.maximum)}
    point |= {"scale": SCALE, "zeroCount": str(values.zeros)}
    for side, buckets in (("positive", positive), ("negative", negative)):
        if buckets:
            point[side] = _dense(buckets)
    return point


def _dense(buckets: dict[int, int]) -> dict[str, Any]:
    low, high = min(buckets), max(buckets)
    counts = [str(buckets.get(index, 0)) for index in range(low, high + 1)]
    return {"offset": low, "bucketCounts": counts}


def _number(value: float) -> dict[str, Any]:
    if isinstance(value, int) and -_INT_MAX <= value <= _INT_MAX:
        return {"asInt": str(value)}
    return {"asDouble": float(value)}


def _labelled(labels: Labels) -> dict[str, Any]:
    return {"attributes": [_attribute(key, value) for key, value in labels]} if labels else {}


def _attribute(key: str, value: str | float) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        if -_INT_MAX <= value <= _INT_MAX:
            return {"key": key, "value": {"intValue": str(value)}}
        value = str(value)
    kind = "stringValue" if isinstance(value, str) else "doubleValue"
    return {"key": key, "value": {kind: value}}
