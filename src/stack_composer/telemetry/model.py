"""What crosses from stage to stage, and nothing else.

A *record* is in memory, a *line* is its bytes, a *bundle* is a file of lines.
Records are plain slotted classes rather than dataclasses: a span is built about a
million times a second, and importing ``dataclasses`` costs a small command line
program more than thirty spans do.
"""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final, Protocol, TypeAlias

    AnyValue: TypeAlias = (
        "str | bool | int | float | bytes | Sequence[AnyValue] | Mapping[str, AnyValue] | None"
    )
    """What OTLP's AnyValue can hold; every other type is turned into one of these
    by the record stage, on the caller's thread."""

    Point: TypeAlias = "NumberPoint | HistogramPoint | BucketPoint | SummaryPoint"
else:
    Protocol = object

SIGNALS: Final = ("traces", "metrics", "logs")
"""One signal a file; the words are OTLP's own."""


class _Dropped:
    """The answer of the guard for a value that must not be written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DROPPED"

    def __bool__(self) -> bool:
        return False


DROPPED: Final = _Dropped()
"""Stands where the guard found a value that must not be written at all."""


class Scope:
    """The instrumentation scope: which library recorded. Frozen by convention."""

    __slots__ = ("attributes", "name", "schema_url", "version")

    def __init__(
        self,
        name: str = "",
        version: str = "",
        attributes: Mapping[str, Any] | None = None,
        schema_url: str = "",
    ) -> None:
        self.name = name
        self.version = version
        self.attributes = attributes
        self.schema_url = schema_url


class Resource:
    """The program that records: ``service.name`` and its relatives."""

    __slots__ = ("attributes", "schema_url")

    def __init__(self, attributes: Mapping[str, Any], schema_url: str = "") -> None:
        self.attributes = attributes
        self.schema_url = schema_url


class RemoteParent:
    """A parent that lives in another process, or a span of another tracer.

    ``trace_id`` is 32 and ``span_id`` 16 lower-case hexadecimal characters;
    ``flags`` are the eight bits of W3C trace flags.
    """

    __slots__ = ("flags", "is_remote", "span_id", "trace_id", "trace_state")

    def __init__(
        self, trace_id: str, span_id: str, flags: int, trace_state: str, *, is_remote: bool
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.trace_state = trace_state
        self.is_remote = is_remote


class SpanDetails:
    """What few spans have, kept off the common path: kind, status, events, links.

    ``flags`` are OTLP's, of 32 bits, of a span that came from elsewhere; None for one of
    ours, which has what its parent says.
    """

    __slots__ = (
        "dropped_attributes",
        "dropped_events",
        "dropped_links",
        "events",
        "flags",
        "kind",
        "links",
        "status_code",
        "status_message",
        "trace_state",
    )

    def __init__(self) -> None:
        self.kind = 1  # OTLP's SPAN_KIND_INTERNAL
        self.status_code = 0  # OTLP's STATUS_CODE_UNSET; 1 ok, 2 error
        self.status_message = ""
        self.events: list[Event] = []
        self.links: list[Link] = []
        self.trace_state = ""
        self.dropped_attributes = 0
        self.dropped_events = 0
        self.dropped_links = 0
        self.flags: int | None = None


class Event:
    """Something that happened at one moment of a span."""

    __slots__ = ("attributes", "dropped_attributes", "name", "time_ns")

    def __init__(
        self,
        name: str,
        time_ns: int,
        attributes: Mapping[str, Any] | None = None,
        dropped_attributes: int = 0,
    ) -> None:
        self.name = name
        self.time_ns = time_ns
        self.attributes = attributes
        self.dropped_attributes = dropped_attributes


class Link:
    """A pointer from one span to another, in this trace or any.

    ``flags`` are OTLP's, of 32 bits, where it came from elsewhere; None for one of ours.
    """

    __slots__ = ("attributes", "dropped_attributes", "flags", "target")

    def __init__(
        self,
        target: RemoteParent,
        attributes: Mapping[str, Any] | None = None,
        dropped_attributes: int = 0,
    ) -> None:
        self.target = target
        self.attributes = attributes
        self.dropped_attributes = dropped_attributes
        self.flags: int | None = None


class SpanRecord:
    """A finished span. Times are Unix nanoseconds.

    ``trace_id`` and ``span_id`` are None until somebody needs them: the writer
    gives ids to a whole batch at once. ``details`` is None for a plain span.
    ``scope`` is an attribute of the class, since each tracer has a class of its own.
    """

    __slots__ = (
        "__weakref__",
        "attributes",
        "details",
        "end_ns",
        "name",
        "parent",
        "span_id",
        "start_ns",
        "trace_id",
    )
    scope: Scope = Scope()

    name: str
    attributes: dict[str, Any] | None
    parent: SpanRecord | RemoteParent | None
    start_ns: int
    end_ns: int
    trace_id: str | None
    span_id: str | None
    details: SpanDetails | None


class LogRecord:
    """One log record. ``severity`` is OTLP's number, 1 to 24; 0 is unspecified.

    ``flags`` are OTLP's, of 32 bits, where it came from elsewhere; None for one of ours,
    whose span tells them.
    """

    __slots__ = (
        "attributes",
        "body",
        "dropped_attributes",
        "event_name",
        "flags",
        "observed_ns",
        "scope",
        "severity",
        "severity_text",
        "span",
        "time_ns",
    )

    def __init__(
        self,
        time_ns: int,
        severity: int,
        severity_text: str,
        body: AnyValue,
        attributes: Mapping[str, Any] | None,
        span: SpanRecord | RemoteParent | None,
        scope: Scope,
    ) -> None:
        self.time_ns = time_ns
        self.observed_ns = time_ns
        self.severity = severity
        self.severity_text = severity_text
        self.body = body
        self.attributes = attributes
        self.span = span
        self.scope = scope
        self.event_name = ""
        self.dropped_attributes = 0
        self.flags: int | None = None


class NumberPoint:
    """One value of a gauge or a sum at ``time_ns``; ``start_ns`` 0 means absent.

    A ``value`` of None says that there was none, as a point that came by OTLP may.
    """

    __slots__ = ("attributes", "start_ns", "time_ns", "value")

    def __init__(
        self, attributes: Mapping[str, Any] | None, start_ns: int, time_ns: int, value: float | None
    ) -> None:
        self.attributes = attributes
        self.start_ns = start_ns
        self.time_ns = time_ns
        self.value = value


class HistogramPoint:
    """One exponential histogram (base ``2 ** (2 ** -scale)``), OTLP's own form.

    ``positive`` and ``negative`` map a bucket's index to its count. ``total``,
    ``minimum`` and ``maximum`` are NaN where another program did not tell them.
    """

    __slots__ = (
        "attributes",
        "count",
        "maximum",
        "minimum",
        "negative",
        "positive",
        "scale",
        "start_ns",
        "time_ns",
        "total",
        "zero_count",
        "zero_threshold",
    )

    def __init__(
        self, attributes: Mapping[str, Any] | None, start_ns: int, time_ns: int, scale: int
    ) -> None:
        self.attributes = attributes
        self.start_ns = start_ns
        self.time_ns = time_ns
        self.scale = scale
        self.count = 0
        self.total = 0.0
        self.minimum = 0.0
        self.maximum = 0.0
        self.zero_count = 0
        self.zero_threshold = 0.0
        self.positive: dict[int, int] = {}
        self.negative: dict[int, int] = {}


class BucketPoint:
    """A histogram with bounds of its own, as other programs have them; none of ours makes one.

    ``counts`` has one number more than ``bounds``, or both are empty. NaN as for
    ``HistogramPoint``.
    """

    __slots__ = (
        "attributes",
        "bounds",
        "count",
        "counts",
        "maximum",
        "minimum",
        "start_ns",
        "time_ns",
        "total",
    )

    def __init__(
        self, attributes: Mapping[str, Any] | None, start_ns: int, time_ns: int, count: int
    ) -> None:
        self.attributes = attributes
        self.start_ns = start_ns
        self.time_ns = time_ns
        self.count = count
        self.total = math.nan
        self.minimum = math.nan
        self.maximum = math.nan
        self.counts: Sequence[int] = ()
        self.bounds: Sequence[float] = ()


class SummaryPoint:
    """Quantiles that another program worked out: pairs of a quantile and its value."""

    __slots__ = ("attributes", "count", "quantiles", "start_ns", "time_ns", "total")

    def __init__(
        self, attributes: Mapping[str, Any] | None, start_ns: int, time_ns: int, count: int
    ) -> None:
        self.attributes = attributes
        self.start_ns = start_ns
        self.time_ns = time_ns
        self.count = count
        self.total = 0.0
        self.quantiles: Sequence[tuple[float, float]] = ()


class Metric:
    """A named instrument and its points since the last batch.

    ``kind`` is "gauge", "sum" or "exponentialHistogram", and of what came by OTLP also
    "histogram" or "summary"; ``temporality`` is OTLP's number (1 delta, 2 cumulative) and
    means nothing for a gauge and a summary.
    """

    __slots__ = (
        "description",
        "kind",
        "monotonic",
        "name",
        "points",
        "scope",
        "temporality",
        "unit",
    )

    def __init__(
        self,
        name: str,
        kind: str,
        points: Sequence[Point],
        scope: Scope,
        *,
        unit: str = "",
        description: str = "",
        temporality: int = 1,
        monotonic: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.points = points
        self.scope = scope
        self.unit = unit
        self.description = description
        self.temporality = temporality
        self.monotonic = monotonic


class KeyVerdict:
    """What the guard says of an attribute key, whatever value it has.

    Attributes:
        text: The key as it may be written (a secret can hide in a key).
        action: "scan": search a text value. "value": every value of this key, of any
            type, must go through ``Screen.value`` (key rules that drop, mask or hash).
        key: The key as it was recorded; what ``Screen.value`` wants.
    """

    __slots__ = ("action", "key", "text")

    def __init__(self, key: str, text: str, action: str) -> None:
        self.key = key
        self.text = text
        self.action = action


class Screen(Protocol):
    """The one door: what the encoder asks of the guard for everything it writes."""

    def key(self, key: str) -> KeyVerdict:
        """Judge an attribute key; cheap enough to ask once a key, not once a value."""

    def texts(self, pending: Sequence[tuple[KeyVerdict, str]]) -> list[Any]:
        """Judge many texts in one search; the answers stand in the same order.

        An answer equal to its text means clean; otherwise it is the text with
        markers in place of what was found, or ``DROPPED``.
        """

    def value(self, key: str, value: AnyValue) -> Any:
        """Judge one value of any type, with the rules for its key; slow and thorough.

        Returns an AnyValue with nothing forbidden in it, or ``DROPPED``.
        """
