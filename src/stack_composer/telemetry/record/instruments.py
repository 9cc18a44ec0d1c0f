"""Counters, histograms and gauges whose caller only appends.

A bound instrument has one name and one set of attributes, given once; its ``add``,
``record`` or ``set`` *is* the ``append`` of a list, so a call costs what an append
costs. The writer takes the lists on each of its turns (at the latest after
``flush_s``) and adds them up, which also bounds them.
"""

from __future__ import annotations

import sys
from threading import RLock
from time import time_ns

from stack_composer.telemetry.model import Metric, NumberPoint, Scope
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.aggregate import GaugeSeries, HistogramSeries, SumSeries
from stack_composer.telemetry.record.ids import LOCK_WAIT_S
from stack_composer.telemetry.values import copy_attributes, plain, plain_key, text_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    BoundT = TypeVar("BoundT", bound="Bound")
    Series = SumSeries | GaugeSeries | HistogramSeries

SERIES_MAX = 2_000
"""Sets of attributes of one instrument (OpenTelemetry's cardinality limit); what is
beyond is added up under ``otel.metric.overflow``."""
INSTRUMENTS_MAX = 10_000
"""Instruments of a process; further ones share one that is dropped and counted."""
_SLICE = 65_536
"""Values added up at a time, so that the interpreter is not held for long."""

NATIVE = Scope()
_HASHABLE = frozenset({str, int, float, bool, bytes, type(None)})
_OVERFLOW = {"otel.metric.overflow": True}
_lock = RLock()
"""Reentrant: a signal handler or a ``__del__`` may come here while this thread has it."""
_instruments: dict[tuple[Any, ...], Instrument] = {}
_bound: dict[tuple[Any, ...], Any] = {}


class Instrument:
    """One named instrument and its series by attributes.

    ``kind`` is "counter", "updown", "histogram" or "gauge".
    """

    def __init__(self, kind: str, name: str, unit: str, description: str, scope: Scope) -> None:
        self.kind = kind
        self.name = name
        self.unit = unit
        self.description = description
        self.scope = scope
        self._series: dict[Any, Series] = {}
        self._since_ns = time_ns()

    def add(self, attributes: Mapping[str, Any] | None, values: list[Any]) -> None:
        """Add measured values up; the writer's thread only."""
        try:
            refused = self.series(attributes).add(values)
        except Exception:
            # An amount's own arithmetic failed; the others of the turn must not go with it.
            refused = len(values)
        if refused:
            recorder.drop("metrics", "invalid_value", refused)

    def series(self, attributes: Mapping[str, Any] | None) -> Series:
        """Give the series of these attributes, made if need be, within the bound."""
        key = series_key(attributes)
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= SERIES_MAX:
                attributes = _OVERFLOW
                key = series_key(attributes)
                if key in self._series:
                    return self._series[key]
            told = text_keys(dict(attributes)) if attributes else None
            found = self._series[key] = self._new_series(told)
        return found

    def metric(self, now_ns: int) -> Metric | None:
        """Give the points since the last call, or None when nothing was measured."""
        points = [p for s in list(self._series.values()) if (p := s.point(now_ns)) is not None]
        self._since_ns = now_ns
        if not points:
            return None
        return Metric(
            self.name,
            {"counter": "sum", "updown": "sum", "gauge": "gauge"}.get(
                self.kind, "exponentialHistogram"
            ),
            points,
            self.scope,
            unit=self.unit,
            description=self.description,
            temporality=1 if self._is_delta() else 2,
            monotonic=self.kind == "counter",
        )

    def _is_delta(self) -> bool:
        # A sum that may fall is cumulative whatever is preferred: OpenTelemetry's
        # "delta" preference says so, since a level is what its readers want.
        return recorder.temporality != "cumulative" and self.kind != "updown"

    def _new_series(self, attributes: Mapping[str, Any] | None) -> Series:
        if self.kind == "gauge":
            return GaugeSeries(attributes)
        if self.kind == "histogram":
            return HistogramSeries(attributes, self._since_ns, delta=self._is_delta())
        return SumSeries(
            attributes, self._since_ns, delta=self._is_delta(), monotonic=self.kind == "counter"
        )


class Bound:
    """An instrument with its attributes; ``take`` is the writer's side of it.

    ``measures`` is the kind of instrument; ``verb`` names the method that measures: the
    list's own ``append``, or one that forgets while no pipeline empties the list.
    """

    __slots__ = ("attributes", "instrument", "values")
    measures = ""
    verb = ""

    def __init__(self, instrument: Instrument, attributes: Mapping[str, Any] | None) -> None:
        self.instrument = instrument
        self.attributes = attributes
        self.values: list[Any] = []
        self.hear(heard=recorder.emptied)

    def begin(self, value: float) -> None:
        """Take the first value of a forked child: it starts the child's writer."""
        self.values.append(value)
        self.hear(heard=recorder.emptied)
        recorder.begin()

    def begin_anew(self) -> None:
        """Forget what was measured, in a forked child, which has no writer yet."""
        self.values.clear()
        if recorder.emptied:
            setattr(self, self.verb, self.begin)

    def hear(self, *, heard: bool) -> None:
        """Keep what is measured from now on, or forget it."""
        setattr(self, self.verb, self.values.append if heard else _ignore)

    def take(self) -> None:
        """Move what was measured into the series."""
        while self.values:
            some = recorder.take(self.values, _SLICE)
            self.instrument.add(self.attributes, some)


class Counter(Bound):
    """A monotonic sum; ``add(amount)`` never blocks and never raises."""

    __slots__ = ("add",)
    measures = "counter"
    verb = "add"
    add: Callable[[float], None]


class Histogram(Bound):
    """A distribution; ``record(value)`` never blocks and never raises."""

    __slots__ = ("record",)
    measures = "histogram"
    verb = "record"
    record: Callable[[float], None]


class Gauge(Bound):
    """A level; of several ``set(value)`` within a turn the last one counts."""

    __slots__ = ("set",)
    measures = "gauge"
    verb = "set"
    set: Callable[[float], None]


def bind(
    kind: type[BoundT],
    name: str,
    attributes: Mapping[str, Any] | None,
    unit: str,
    description: str,
) -> BoundT:
    """Give the bound instrument of this name and these attributes; the same each time."""
    copied = copy_attributes(attributes) if attributes else None
    instrument = get_instrument(kind.measures, name, unit, description, NATIVE)
    key = (kind, instrument, series_key(copied))
    with _lock:
        found: BoundT | None = _bound.get(key)
        if found is None:
            found = kind(instrument, copied)
            if len(_bound) < INSTRUMENTS_MAX:
                found = _bound.setdefault(key, found)
            else:
                # Not registered, so nobody would empty it.
                found.hear(heard=False)
                recorder.drop("metrics", "too_many_instruments")
    return found


def get_instrument(
    kind: str,
    name: str,
    unit: str,
    description: str,
    scope: Scope,
    sort: type[Instrument] = Instrument,
) -> Instrument:
    """Give the instrument of this kind, name and scope; the same each time."""
    name, unit, description = (
        plain_key(text) if text else "" for text in (name, unit, description)
    )
    key = (sort, kind, name.lower(), unit, scope)
    with _lock:
        found = _instruments.get(key)
        if found is None:
            found = sort(kind, name, unit, description, scope)
            if len(_instruments) < INSTRUMENTS_MAX:
                found = _instruments.setdefault(key, found)
            else:
                recorder.drop("metrics", "too_many_instruments")
    return found


def collect(now_ns: int) -> list[Metric]:
    """Give every instrument's points since the last call; the writer's thread only."""
    drain()
    instruments = _all_of(_instruments)
    return [m for i in instruments if (m := i.metric(now_ns)) is not None]


def drain() -> None:
    """Empty the bound instruments' lists into their series."""
    for one in _all_of(_bound):
        if one.values:
            one.take()


def hear(*, heard: bool) -> None:
    """Have all bound instruments keep what is measured, or forget it."""
    for one in _all_of(_bound):
        one.hear(heard=heard)


def _all_of(registered: dict[Any, Any]) -> list[Any]:
    held = _lock.acquire(timeout=LOCK_WAIT_S)
    try:
        return list(registered.values())
    finally:
        if held:
            _lock.release()


def forget_after_fork() -> None:
    """Start anew in a child: what the parent measured, the parent writes."""
    global _lock
    _lock = RLock()
    for one in _bound.values():
        one.begin_anew()
    for instrument in _instruments.values():
        instrument._series.clear()


def series_key(attributes: Mapping[str, Any] | None) -> Any:
    """Give a hashable name for a set of attributes, whatever their order."""
    if not attributes:
        return ()
    items = [(key, type(value), _hashable(value)) for key, value in attributes.items()]
    return frozenset(items) if len(items) > 1 else tuple(items)


def _hashable(value: Any) -> Any:
    if type(value) in _HASHABLE:
        return value
    # A list or mapping; or what the garbage collector does not track, so that nobody
    # has looked at it, such as a bytearray.
    return repr(plain(value))


def _ignore(value: float) -> None:
    """Forget a value that nobody would take."""


def measured(entries: list[tuple[Any, ...]]) -> list[Metric]:
    """Turn the entries of the measurements' buffer into metrics.

    An entry is ``(name, value, attributes, time_ns)`` from ``metric()``, kept as a
    gauge's point of its own, or ``(Instrument, value, attributes, 0)`` from a meter
    of the OpenTelemetry API, which is added up here and written by ``collect``, or
    ``(Metric, 0, None, 0)`` from an exporter, which has added up already.
    """
    found: dict[str, Metric] = {}
    whole: list[Metric] = []
    for name, value, attributes, measured_ns in entries:
        if isinstance(name, Instrument):
            name.add(attributes, [value])
            continue
        if isinstance(name, Metric):
            whole.append(name)
            continue
        if type(value) is not float and type(value) is not int:
            value = plain(value)  # noqa: PLW2901 - a subclass, or a numpy scalar
        if not isinstance(value, int | float):
            recorder.drop("metrics", "invalid_value")
            continue
        if attributes:
            attributes = text_keys(attributes)  # noqa: PLW2901
        text = plain_key(name)
        metric = found.get(text)
        if metric is None:
            metric = found[text] = Metric(text, "gauge", [], NATIVE)
        metric.points.append(NumberPoint(attributes or None, 0, measured_ns, value))  # type: ignore[attr-defined]
    return [*found.values(), *whole]


recorder.instruments = sys.modules[__name__]
