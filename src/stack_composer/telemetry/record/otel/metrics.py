"""OpenTelemetry's meters: a call appends, the writer's thread adds up.

What a counter, histogram or gauge is told waits in the buffer of the measurements,
and is added up by ``record.instruments`` like everything native. An observable
instrument is asked when its points are due, on the writer's thread: a callback that
is slow delays what is written, never the application.

Histograms are exponential whatever buckets are advised: finer than any advice, and
mergeable. Exemplars are not kept, so an explicit ``context`` changes nothing.
"""

from __future__ import annotations

from collections.abc import Generator

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions

from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.aggregate import ReportedSumSeries
from stack_composer.telemetry.record.instruments import Instrument, get_instrument
from stack_composer.telemetry.record.otel.durable import Durable
from stack_composer.telemetry.record.otel.scope import scope_of
from stack_composer.telemetry.values import copy_attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from opentelemetry.context import Context

    from stack_composer.telemetry.model import Metric
    from stack_composer.telemetry.record.instruments import Series

CALLBACKS_MAX = 1_000
"""Callbacks of one observable instrument; what is beyond is counted, and never called."""
OBSERVATIONS_MAX = 10_000
"""Observations of one call of a callback; an endless generator is cut there."""


class _Synchronous:
    """What the instruments with a method for measuring have in common."""

    __slots__ = ("_instrument",)

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    def _measure(
        self,
        amount: float,
        attributes: Mapping[str, Any] | None = None,
        context: Context | None = None,  # noqa: ARG002 - for exemplars, which are not kept
    ) -> None:
        """Take one value; one that is no number, or below zero for a counter, is counted."""
        if not recorder.recording:
            return
        copied = copy_attributes(attributes) if attributes else None
        entry = (self._instrument, amount, copied, 0)
        buffer = recorder.measurements
        if len(buffer) < recorder.wake_at:
            buffer.append(entry)
        else:
            recorder.crowded("metrics", buffer, entry)


class Counter(_Synchronous, api.Counter):
    """A sum that only grows."""

    add = _Synchronous._measure


class UpDownCounter(_Synchronous, api.UpDownCounter):
    """A sum that may fall."""

    add = _Synchronous._measure


class Histogram(_Synchronous, api.Histogram):
    """A distribution."""

    record = _Synchronous._measure


class Gauge(_Synchronous, api._Gauge):
    """A level."""

    set = _Synchronous._measure


class _Observed(Instrument):
    """An instrument whose callbacks are asked for what they see."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._callbacks: list[Any] = []

    def ask_too(self, callbacks: Iterable[Any]) -> None:
        """Ask these callbacks from now on, each once."""
        for callback in callbacks:
            if callback in self._callbacks:
                continue
            if len(self._callbacks) >= CALLBACKS_MAX:
                recorder.drop("metrics", "too_many_callbacks")
                return
            if isinstance(callback, Generator):
                next(callback)  # to its first yield, where it waits for options
            self._callbacks.append(callback)

    def metric(self, now_ns: int) -> Metric | None:
        """Ask the callbacks; give what they saw, or None if they saw nothing."""
        for callback in list(self._callbacks):
            try:
                self._observe(callback)
            except Exception:
                # The application's own code; the other callbacks still have their say.
                recorder.fault("metric_callback")
        return super().metric(now_ns)

    def _observe(self, callback: Any) -> None:
        options = CallbackOptions()
        if isinstance(callback, Generator):
            try:
                seen = callback.send(options)
            except StopIteration:
                self._callbacks.remove(callback)
                return
        else:
            seen = callback(options)
        for count, observation in enumerate(seen):
            if count >= OBSERVATIONS_MAX:
                recorder.drop("metrics", "too_many_observations")
                return
            attributes = observation.attributes
            self.add(copy_attributes(attributes) if attributes else None, [observation.value])

    def _is_delta(self) -> bool:
        return self.kind == "counter" and recorder.temporality == "delta"

    def _new_series(self, attributes: Mapping[str, Any] | None) -> Series:
        if self.kind == "gauge":
            return super()._new_series(attributes)
        return ReportedSumSeries(
            attributes, self._since_ns, delta=self._is_delta(), monotonic=self.kind == "counter"
        )


class ObservableCounter(api.ObservableCounter):
    """A sum that only grows, and that callbacks report."""

    def __init__(self) -> None:
        """Have nothing to be told: the callbacks are asked."""


class ObservableUpDownCounter(api.ObservableUpDownCounter):
    """A sum that may fall, and that callbacks report."""

    def __init__(self) -> None:
        """Have nothing to be told: the callbacks are asked."""


class ObservableGauge(api.ObservableGauge):
    """A level that callbacks report."""

    def __init__(self) -> None:
        """Have nothing to be told: the callbacks are asked."""


class Meter(api.Meter):
    """Makes the instruments of one scope; the same name and kind are one instrument."""

    def __init__(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, version, schema_url)
        self._scope = scope_of(name, version, schema_url, attributes)

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        """Give the counter of this name."""
        return Counter(self._instrument("counter", name, unit, description))

    def create_up_down_counter(
        self, name: str, unit: str = "", description: str = ""
    ) -> UpDownCounter:
        """Give the up-and-down counter of this name; its points are cumulative."""
        return UpDownCounter(self._instrument("updown", name, unit, description))

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,  # noqa: ARG002
    ) -> Histogram:
        """Give the histogram of this name; exponential, so it needs no advice."""
        return Histogram(self._instrument("histogram", name, unit, description))

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Gauge:
        """Give the gauge of this name."""
        return Gauge(self._instrument("gauge", name, unit, description))

    def create_observable_counter(
        self,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableCounter:
        """Have ``callbacks`` report the totals of a sum that only grows."""
        self._observed("counter", name, callbacks, unit, description)
        return ObservableCounter()

    def create_observable_up_down_counter(
        self,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableUpDownCounter:
        """Have ``callbacks`` report the totals of a sum that may fall."""
        self._observed("updown", name, callbacks, unit, description)
        return ObservableUpDownCounter()

    def create_observable_gauge(
        self,
        name: str,
        callbacks: Sequence[Any] | None = None,
        unit: str = "",
        description: str = "",
    ) -> ObservableGauge:
        """Have ``callbacks`` report levels."""
        self._observed("gauge", name, callbacks, unit, description)
        return ObservableGauge()

    def _instrument(
        self, kind: str, name: str, unit: str, description: str, sort: type[Instrument] = Instrument
    ) -> Instrument:
        return get_instrument(kind, name, unit, description, self._scope, sort)

    def _observed(
        self,
        kind: str,
        name: str,
        callbacks: Sequence[Any] | None,
        unit: str,
        description: str,
    ) -> None:
        instrument = self._instrument(kind, name, unit, description, _Observed)
        assert isinstance(instrument, _Observed), "get_instrument gives the sort asked for"
        try:
            instrument.ask_too(callbacks or ())
        except Exception:
            recorder.fault("metric_callback")
        recorder.begin()  # Nothing is ever appended, so nothing else starts the writer.


class MeterProvider(Durable, api.MeterProvider):
    """Gives meters."""

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Meter:
        """Give the meter of this scope."""
        return Meter(name, version, schema_url, attributes)
