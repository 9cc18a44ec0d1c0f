"""For tests of programs that record: see what was recorded, without any file.

``capture`` puts a pipeline of its own in the place of the process's. It is the real
one, with guard and encoder; only the end differs, where lines stay in memory. So what
a test sees is what a bundle would hold. The pipeline that was there pauses, and goes
on afterwards as if nothing had happened.

Nothing outside the test has a say: no configuration file, no environment, and the
salt of hashed ids is a fixed one, so that the same id gives the same hash each time.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import config as configuration
from stack_composer.telemetry import process
from stack_composer.telemetry.outputs import Outputs, make_guard
from stack_composer.telemetry.pipeline import Pipeline
from stack_composer.telemetry.record import instruments, recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stack_composer.telemetry.captured import (
        CapturedLog,
        CapturedMetric,
        CapturedSpan,
        Records,
    )
    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.store.sketch import Sketch

SALT = b"the salt of captured records....!"
"""Not a secret: what it hashes never leaves the memory of a test."""

_NOWHERE = os.path.join(os.devnull, "telemetry.toml")
"""A file that cannot be there, so that the user's own configuration is not read."""


class Captured:
    """What was recorded since ``capture`` began, after the guard; grows until it ends."""

    def __init__(self) -> None:
        self._memory = _Memory()
        self._redacted: dict[tuple[str, str], int] = {}
        self._dropped: dict[tuple[str, str], int] = {}
        self._faults: dict[str, int] = {}

    @property
    def spans(self) -> Records[CapturedSpan]:
        """The finished spans, in the order in which they ended."""
        from stack_composer.telemetry import captured

        return captured.spans_of(self.lines("traces"))

    @property
    def metrics(self) -> Records[CapturedMetric]:
        """The data points, each instrument's since the last look at it."""
        from stack_composer.telemetry import captured

        return captured.metrics_of(self.lines("metrics"))

    @property
    def logs(self) -> Records[CapturedLog]:
        """The log records."""
        from stack_composer.telemetry import captured

        return captured.logs_of(self.lines("logs"))

    @property
    def redacted(self) -> dict[tuple[str, str], int]:
        """How often each rule changed a value, by (rule, action)."""
        self._take()
        return dict(self._redacted)

    @property
    def dropped(self) -> dict[tuple[str, str], int]:
        """How many records were lost, by (signal, reason)."""
        self._take()
        return dict(self._dropped)

    @property
    def faults(self) -> dict[str, int]:
        """How often the package's own code failed, by place; a bug if not empty."""
        self._take()
        return dict(self._faults)

    def lines(self, signal: str) -> list[bytes]:
        """Give the OTLP JSON lines of "traces", "metrics" or "logs", as a bundle has them."""
        self._take()
        return list(self._memory.lines[signal])

    def _take(self) -> None:
        """Have written what waits in the buffers, be it this capture's or an inner one's."""
        running = process.running
        if isinstance(running, _CapturingPipeline):
            running.take_now()


@contextmanager
def capture(
    *, on_internal_error: Callable[[Exception], None] | None = None, **options: Any
) -> Iterator[Captured]:
    """Capture all that this process records inside the block, on every thread.

    May be nested, also inside a program that has called ``configure`` and records for
    real: the innermost block gets the records, and afterwards all is as before.
    ``configure`` and ``shutdown`` inside of the block act within it, and write no file.

    Args:
        on_internal_error: Called with each exception of the package's own code.
        **options: As of ``configure``; the defaults stand for what is not given,
            whatever the environment and the configuration file say.

    Raises:
        ConfigError: An unknown option or a value that it refuses.
    """
    captured = Captured()
    outer = _Outer()

    def make(_: Config, given: dict[str, Any], on_error: Any) -> _CapturingPipeline:
        return _CapturingPipeline(captured, {**options, **given}, on_error or on_internal_error)

    _config(options)  # raises now if it must, while nothing has changed yet
    with process.lock:
        outer.set_aside()
        begun = _CapturingPipeline(captured, options, on_internal_error)
        vars(process).update(make_pipeline=make, options={}, stopped=False, running=begun)
        begun.start()
    try:
        try:
            yield captured
        finally:
            captured._take()
    finally:
        # Whatever on_internal_error raises: the next test finds what this one found.
        with process.lock:
            outer.put_back()


class _CapturingPipeline(Pipeline):
    """A pipeline without thread and without files; whoever looks does the work."""

    def __init__(self, captured: Captured, options: dict[str, Any], on_internal_error: Any) -> None:
        self.captured = captured
        super().__init__(_config(options), options, on_internal_error)

    def make_outputs(self) -> Outputs:
        """Keep the lines in memory."""
        return Outputs(make_guard(self.config, SALT), self.config, [self.captured._memory])

    def reload(self) -> None:
        """Follow no file."""

    def purge(self, *, every_s: float, at_most: int | None = None) -> None:
        """Delete nothing: the folder is the user's."""

    def off_generation(self) -> None:
        """Purge nothing under GDPR either."""

    def start_thread(self) -> None:
        """Start none: the thread that fills a buffer empties it."""

    def wake(self) -> None:
        """Take a turn, unless another thread is at it."""
        if self.turnstile.enter(0):
            try:
                self.take(last=False)
            finally:
                self.turnstile.leave()

    def take_now(self) -> None:
        """Write all that was recorded so far."""
        self.turnstile.enter(-1)
        try:
            self.take(last=True)
        finally:
            self.turnstile.leave()

    def take(self, *, last: bool) -> None:
        """Note what was lost, too, though there may be nothing to write."""
        super().take(last=last)
        self.captured._dropped = dict(recorder.dropped)
        self.captured._faults = dict(recorder.faults)

    def tell_health(self, outputs: Outputs) -> None:
        """Tell the test, instead of adding metrics that it did not record."""
        self.captured._redacted = dict(outputs.guard.tally.counts)
        if outputs.guard.tally.faults:
            recorder.faults["guard"] = outputs.guard.tally.faults


class _Memory:
    """An exporter that keeps the lines."""

    fills_disk = False

    def __init__(self) -> None:
        self.lines: dict[str, list[bytes]] = {"traces": [], "metrics": [], "logs": []}

    def append(self, signal: str, data: bytes, _sketch: Sketch) -> None:
        """Keep lines; the sketch says nothing that they do not say."""
        self.lines[signal].extend(data.splitlines(keepends=True))

    def tick(self) -> bool:
        """Have nothing to do, and nothing left."""
        return False

    def settle(self) -> None:
        """Have nothing to make durable."""

    def narrow(self, _bundle_bytes_max: int) -> None:
        """Have no bundles."""

    def flush(self) -> str:
        """Say that it went nowhere."""
        return os.devnull

    def close(self) -> None:
        """Keep what there is."""

    def abandon(self) -> None:
        """Keep what there is: a child's records go to the child's own copy."""


class _Outer:
    """What was in force before a capture: the process's pipeline, or an outer capture's."""

    _PROCESS = ("make_pipeline", "options", "on_internal_error", "stopped", "running")
    _RECORDER = ("recording", "span_class", "wake", "wake_at", "buffered_max", "emptied")

    def set_aside(self) -> None:
        """Let the pipeline write what was recorded so far, and pause it."""
        self._running = process.running
        if self._running is not None:
            # Held until put_back: the writer's thread waits, and drains no buffer.
            self._running.turnstile.enter(-1)
            self._running.turn()
        self._process = {name: vars(process)[name] for name in self._PROCESS}
        self._recorder = {name: vars(recorder)[name] for name in self._RECORDER}
        self._tallies = recorder.dropped, recorder.faults, recorder.steps
        recorder.dropped, recorder.faults, recorder.steps = {}, {}, {}
        self._series = _exchange_series({})

    def put_back(self) -> None:
        """Go on as before."""
        vars(process).update(self._process)
        recorder.dropped, recorder.faults, recorder.steps = self._tallies
        _exchange_series(self._series)
        if self._running is not None:
            # Limits, sampler and temporality lie in several modules; this sets them.
            self._running.use(self._running.config)
        vars(recorder).update(self._recorder)
        if self._running is not None:
            self._running.turnstile.leave()


def _exchange_series(
    series: dict[instruments.Instrument, dict[Any, Any]],
) -> dict[instruments.Instrument, dict[Any, Any]]:
    """Give every instrument other series, or empty ones; return what it had."""
    with instruments._lock:
        all_of_them = list(instruments._instruments.values())
    instruments.drain()
    before = {instrument: instrument._series for instrument in all_of_them}
    for instrument in all_of_them:
        instrument._series = series.get(instrument, {})
    return before


def _config(options: dict[str, Any]) -> Config:
    places = {"directory": os.devnull, "config_path": _NOWHERE}
    return configuration.load_config({**options, **places}, environ={})
