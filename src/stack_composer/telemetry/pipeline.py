"""The one place that wires the stages: record -> guard -> store, and the exporters.

One thread per process does all that costs time. On each *turn* it takes what the
buffers hold, has it guarded and encoded in chunks, and appends the lines to the
bundles of this process. A turn comes every ``flush_s`` seconds, or sooner when a
buffer fills.

Who writes (the thread, ``flush``, the interpreter's end) has passed the ``Turnstile``,
one at a time; it opens between chunks, so nobody waits for more than a chunk, some
milliseconds. ``os._exit`` and kill -9 lose what no turn has taken: at most ``flush_s`` of spans,
logs and single measurements, and ``METRICS_S`` of what instruments add up.

A failure here never reaches the application: the world's (a full disk) is counted as
dropped records, our own as a fault; ``stats`` and ``doctor`` show both.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from stack_composer.telemetry import config as configuration
from stack_composer.telemetry import effects, health
from stack_composer.telemetry.config_options import NETWORK_EXPORTERS
from stack_composer.telemetry.errors import StoreError, TelemetryError
from stack_composer.telemetry.outputs import make_outputs, salt_signature
from stack_composer.telemetry.record import ids, recorder
from stack_composer.telemetry.record import span as spans
from stack_composer.telemetry.record.span import OffSpan, Span
from stack_composer.telemetry.relief import Relief
from stack_composer.telemetry.store.names import GDPR_PENDING
from stack_composer.telemetry.turnstile import Turnstile
from stack_composer.telemetry.values import plain_key, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.outputs import Exporter, Outputs
    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.sketch import Sketch

CHUNK_RECORDS = 512
"""Records of one line and one search; the interpreter is held about a millisecond."""
CHUNKS_A_TICK = 4
"""While much is written, sealing gets a step after so many chunks: some forty in the
time that a bundle takes to fill, more than it has steps, so it keeps up on a slow disk
too. Without it bundles would fill faster than idle moments come."""
METRICS_S = 10.0
"""Instruments are written this often; ``metric()`` points go with each turn."""
STREAM_TURN_S = 0.4
"""With a network exporter a turn comes at least so often: it is to be less than a second
behind."""
CONFIG_S = 0.5
"""The configuration file is looked at this often (a ``stat``, 5 µs)."""
_LAST_WAIT_S = 0.1
"""``stop`` waits this long for the turn, even if the thread took all of its time."""
PURGE_FIRST_S = 5.0
PURGE_S = 3_600.0
"""A process that lives for so long purges, unless another one did within the hour; and so
often after that."""
PURGE_AT_END_S = 86_400.0
PURGED_AT_END_MAX = 100
"""At its end any process purges if none did for a day: so many bundles, in some
milliseconds. What is left is for the next one."""


class Pipeline:
    """One process's writer: its configuration, its thread and what it writes to."""

    def __init__(
        self,
        config: Config,
        options: dict[str, Any],
        on_internal_error: Callable[[Exception], None] | None,
    ) -> None:
        self.turnstile = Turnstile()
        self._options = options
        self._on_internal_error = on_internal_error
        self._bell = _Bell()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._finish_late = False
        self._unwritten = 0
        self._chunks_since_tick = 0
        self._outputs: Outputs | None = None
        self._closed: Outputs | None = None
        self._salt_signature: tuple[int, int, int] | None = None
        self._metrics_due = _Due(METRICS_S, METRICS_S)
        self._config_due = _Due(0.0, CONFIG_S)
        self._purge_due = _Due(PURGE_FIRST_S, PURGE_S)
        self.use(config)

    # -- configuration -------------------------------------------------------------

    def use(self, config: Config) -> None:
        """Take a configuration, and tell the recording side what it needs of it."""
        self.config = config
        self._relief = Relief(config)
        self._turn_s = _turn_s(config)
        self._signature = configuration.signature(config.config_path)
        self._recording, _ = configuration.effective_mode(config)
        recorder.buffered_max = config.buffered_records_max
        recorder.recording = self._recording
        recorder.span_class = _span_class(config) if self._recording else OffSpan
        recorder.off_generation = self.off_generation()
        recorder.temporality = config.metrics_temporality
        spans.attributes_max = config.span_attribute_count_max
        spans.events_max = config.event_count_max
        spans.links_max = config.link_count_max
        spans.event_attributes_max = config.event_attribute_count_max
        spans.link_attributes_max = config.link_attribute_count_max

    def off_generation(self) -> Callable[[dict[str, Any] | None], Span] | None:
        """Give what makes generations that purge, under GDPR; None otherwise."""
        if not self.config.gdpr or "file" not in self.config.exporter:
            return None
        from stack_composer.telemetry.gdpr import erasing_in

        return erasing_in(self.config.directory, self._unlock())

    def _unlock(self) -> Keys:
        """Give the keys of this configuration, which options of ``configure`` may name."""
        from stack_composer.telemetry.store import keys

        return keys.configured(self.config)

    def reload(self) -> None:
        """Follow the configuration file; a broken one keeps the last good one.

        And the salt of hashed ids, which ``guard rotate-salt`` replaces.
        """
        if not self._config_due.now():
            return
        found = configuration.signature(self.config.config_path)
        if found == self._signature:
            if self._is_salt_new():
                self._finish()
            return
        self._signature = found
        try:
            config = configuration.load_config(self._options)
        except TelemetryError:
            recorder.fault("config")
            return
        self._finish()
        self.use(config)

    def _is_salt_new(self) -> bool:
        if self._outputs is None or self._salt_signature is None:
            return False
        found = salt_signature(self.config)
        # A salt that is gone changes nothing here: who starts next makes another.
        return found is not None and found != self._salt_signature

    def _make_outputs(self) -> Outputs:
        # Looked at before it is read: a salt that comes in between is seen as new.
        before = salt_signature(self.config)
        outputs = self.make_outputs()
        self._salt_signature = before or salt_signature(self.config)
        return outputs

    def make_outputs(self) -> Outputs:
        """Make what lines are written with; a test's pipeline makes something else."""
        return make_outputs(self.config)

    # -- the thread ----------------------------------------------------------------

    def start(self) -> None:
        """Begin to take what is recorded, on a thread of our own."""
        recorder.wake = self.wake
        # Below the bound, so that the common path never appends beyond it.
        recorder.wake_at = max(1, min(recorder.WAKE_AT, self.config.buffered_records_max // 2))
        recorder.emptied = not self.config.sdk_disabled
        if recorder.emptied and self._thread is None:
            self.start_thread()

    def start_thread(self) -> None:
        """Start the thread; a test's pipeline has none."""
        try:
            thread = threading.Thread(
                target=self._run, name="stack-composer-telemetry", daemon=True
            )
            thread.start()
        except RuntimeError:
            # The system has no thread left, or the interpreter is ending. Then flush
            # and the end write what the buffers hold.
            recorder.fault("thread")
            return
        self._thread = thread

    def wake(self) -> None:
        """Have the thread take a turn now."""
        self._bell.ring()

    def _run(self) -> None:
        self._pay_what_is_owed()
        self._prepare_streams()
        while not self._stopping:
            self._bell.wait(self._turn_s)
            if self._stopping:
                return
            self.turnstile.enter(-1)
            try:
                self.turn()
            except BaseException:
                # What the application gave us to call has raised. It is told as if
                # that had ended the thread, which must go on.
                recorder.fault("callback")
                told = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                threading.excepthook(told)
            finally:
                self._leave()

    def _pay_what_is_owed(self) -> None:
        """Purge for a generation under GDPR that was killed before it could."""
        directory = self.config.directory
        if os.path.lexists(os.path.join(directory, GDPR_PENDING)):
            from stack_composer.telemetry.gdpr import pay_if_left

            try:
                pay_if_left(directory, self._unlock())
            except Exception as error:
                self._failed(error, "gdpr")

    def _prepare_streams(self) -> None:
        """Start the threads of network exporters, while threads can be started."""
        count = len(set(self.config.exporter) & set(NETWORK_EXPORTERS))
        if count and self._recording:
            # A fork waits for the turn, and so for the end of this import.
            self.turnstile.enter(-1)
            try:
                from stack_composer.telemetry.export import otlp

                if otlp.may_ever_leave(self.config):
                    otlp.park(count)
            finally:
                self.turnstile.leave()

    def _leave(self) -> None:
        try:
            if self._finish_late:
                self._finish()
        finally:
            self.turnstile.leave()

    def turn(self) -> None:
        """Write what was recorded, and do a little of what takes time."""
        try:
            self.reload()
            self.take(last=False)
            if self._outputs is not None:
                self._outputs.settle()
            self._tidy()
        except StoreError as error:
            self._failed(error, "store")
        except Exception as error:
            self._failed(error, "turn")

    def _tidy(self) -> None:
        """Rotate, seal and purge, as long as nothing else waits."""
        outputs = self._outputs
        if outputs is None:
            return
        if self._purge_due.now():
            self.purge(every_s=PURGE_S)
        while outputs.tick() and not (self.waits() or self._stopping):
            self.turnstile.let_others()

    def waits(self) -> bool:
        """Tell whether there is something to write, so that sealing has to wait."""
        return bool(recorder.spans or recorder.logs)

    def _failed(self, error: Exception, where: str) -> None:
        if self._outputs is not None and self._relief.refused(error, self._outputs):
            recorder.step("unsealed")  # The world's doing; what was to be sealed stays plain.
        else:
            recorder.fault(where)
        if self._on_internal_error is not None:
            self._on_internal_error(error)

    def flush(self, timeout_s: float) -> str:
        """Write all, make it durable, return the last bundle's path.

        Returns "", with nothing done, if ``stop`` was called: another pipeline has
        taken over, and what waits was recorded for that one.
        """
        if not self.turnstile.enter(timeout_s):
            raise StoreError(
                f"flush: not done within {timeout_s:g} s",
                hint="give it more time, or see 'stack-composer telemetry doctor'",
            )
        try:
            if self._stopping:
                return ""
            self.take(last=True)
            if self._stopping:
                return ""
            place = self._outputs.flush() if self._outputs else self.config.directory
            # Those too that the thread could not write since the last flush.
            unwritten, self._unwritten = self._unwritten, 0
            if unwritten:
                raise StoreError(
                    f"flush: {unwritten} records could not be written",
                    hint="run 'stack-composer telemetry doctor'; it says why",
                )
            return place
        finally:
            self._leave()

    def stop(self, timeout_s: float) -> None:
        """Take the last turn and end the thread, within ``timeout_s`` seconds.

        What is recorded from now on stays in the buffers, for the next pipeline.
        """
        until_ns = effects.monotonic_ns() + int(timeout_s * 1e9)
        self._stopping = True
        self._bell.ring()
        if self.turnstile.is_inside():
            # A signal's handler or a callback, in the middle of a turn: that one ends it.
            self._finish_late = True
            return
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        left_s = (until_ns - effects.monotonic_ns()) / 1e9
        if not self.turnstile.enter(max(left_s, _LAST_WAIT_S)):
            return  # The thread is stuck in the operating system; leave it alone.
        try:
            self._finish()
        except Exception as error:
            self._failed(error, "stop")
        finally:
            self.turnstile.leave()
        if self._closed is not None:
            # The turn is given back: whoever else wants it shall not wait for a network.
            self._closed.linger()

    def abandon(self) -> None:
        """Let go in a forked child: what is here, the parent writes."""
        if self._outputs is not None:
            self._outputs.abandon()

    def _finish(self) -> None:
        """Write what is left in the way it was configured, and close."""
        self.take(last=True)
        if self._outputs is not None:
            self._closed = self._outputs
            self._outputs.close()
            self._outputs = None
            health.forget_guard()
            self.purge(every_s=PURGE_AT_END_S, at_most=PURGED_AT_END_MAX)

    def purge(self, *, every_s: float, at_most: int | None = None) -> None:
        """Delete bundles that are too old or take too much room, if it is time."""
        if "file" not in self.config.exporter:
            return
        from stack_composer.telemetry.store import opportunity

        directory = self.config.directory
        if at_most is not None and opportunity.is_missing(directory):
            # Most likely a new folder. A program that ends at once shall not load all
            # that a purge needs to find nothing.
            opportunity.stamp(directory)
        if opportunity.is_due(directory, every_s=every_s):
            opportunity.purge(
                directory,
                keep_days=self.config.local_retention_days,
                kept_bytes_max=self.config.kept_bytes_max,
                at_most=at_most,
                unlock=self._unlock(),
            )

    # -- one turn --------------------------------------------------------------------

    def take(self, *, last: bool) -> None:
        """Write all that the buffers hold; ``last`` adds what waits for its time."""
        if not self._recording:
            _discard()
            return
        if self._outputs is None:
            if not _anything():
                return
            self._outputs = self._make_outputs()
        outputs = self._outputs
        self._relief.look(outputs, now=last and not self._relief.writes)
        self._take_spans(outputs)
        self._take_logs(outputs)
        if self._outputs is outputs:
            self._take_metrics(outputs, due=self._metrics_due.now() or last)
        if self._outputs is not outputs and not self._stopping:
            self.take(last=last)  # Another thread has followed the configuration meanwhile.

    def _take_spans(self, outputs: Outputs) -> None:
        for some in self._chunks(recorder.spans, outputs):
            ids.identify_all(some)
            self._write("traces", self._relief.thin(some), outputs.spans.encode_spans)
            spans.release(some)
            self._tick_at_times(outputs)

    def _tick_at_times(self, outputs: Outputs) -> None:
        self._chunks_since_tick += 1
        if self._chunks_since_tick >= CHUNKS_A_TICK:
            self._chunks_since_tick = 0
            try:
                outputs.tick()
            except StoreError as error:
                # What was to be sealed stays plain; what is to be written goes on.
                self._failed(error, "store")

    def _take_logs(self, outputs: Outputs) -> None:
        for some in self._chunks(recorder.logs, outputs):
            ids.identify_all([r.span for r in some if isinstance(r.span, Span)])
            self._write("logs", self._relief.thin_logs(some), outputs.logs.encode_logs)

    def _take_metrics(self, outputs: Outputs, *, due: bool) -> None:
        instruments = _instruments()
        if instruments is not None:
            instruments.drain()
            for some in self._chunks(recorder.measurements, outputs):
                self._write("metrics", instruments.measured(some), outputs.metrics.encode_metrics)
            # A disk without room is no reason to forget what they have added up.
            if due and self._outputs is outputs and self._can_write(outputs):
                collected = instruments.collect(effects.wall_ns())
                self._write("metrics", collected, outputs.metrics.encode_metrics)
        if due and self._outputs is outputs and self._can_write(outputs):
            self.tell_health(outputs)

    def _can_write(self, outputs: Outputs) -> bool:
        return self._relief.writes or not all(e.fills_disk for e in outputs.exporters)

    def tell_health(self, outputs: Outputs) -> None:
        """Write what was lost, redacted and gone wrong since the last time."""
        counts = health.count(outputs.guard)
        metrics = health.untold(counts, effects.wall_ns())
        if metrics and self._write("metrics", metrics, outputs.metrics.encode_metrics):
            health.tell(counts)

    def _chunks(self, buffer: list[Any], outputs: Outputs) -> Iterator[list[Any]]:
        """Take what the buffer holds now, a chunk at a time; others go in between.

        What comes meanwhile is left for the next turn, so a turn always ends. It ends
        at once when one of those others has closed the outputs, for what is left then
        belongs to the next ones.
        """
        left = len(buffer)
        while left > 0 and self._outputs is outputs:
            some = recorder.take(buffer, min(left, CHUNK_RECORDS))
            if not some:
                return
            left -= len(some)
            yield some
            self.turnstile.let_others()
            if len(buffer) < recorder.WAKE_AT and not self._stopping:
                # Let the application run too, unless it is far ahead.
                time.sleep(0)

    def _write(
        self, signal: str, records: list[Any], encode: Callable[..., Any], *, mended: bool = False
    ) -> bool:
        """Encode and append one chunk; if that fails, each record by itself, mended.

        Returns whether any exporter took it.
        """
        if not records:
            return False
        if self._outputs is not None and not self._can_write(self._outputs):
            self._unwritten += len(records)
            recorder.drop(signal, "pressure", len(records))
            return False
        try:
            data, sketch = encode(records)
        except Exception as error:
            if not mended:
                return any(
                    [self._write(signal, [_mended(r)], encode, mended=True) for r in records]  # noqa: C419 - each of them
                )
            recorder.drop(signal, "unencodable")
            self._failed(error, "encode")
            return False
        exporters = self._outputs.exporters if self._outputs else ()
        count = len(records)
        # Each of them gets the lines, whatever the one before it said.
        taken = [self._append(exporter, signal, data, sketch, count) for exporter in exporters]
        return any(taken)

    def _append(
        self, exporter: Exporter, signal: str, data: bytes, sketch: Sketch, count: int
    ) -> bool:
        """Hand a chunk to one exporter; whether it took it. What it did not is counted."""
        if exporter.fills_disk and not self._relief.writes:
            reason = "pressure"
        else:
            try:
                exporter.append(signal, data, sketch)
            except StoreError as error:
                reason = "not_written"
                if self._outputs is not None:
                    self._relief.refused(error, self._outputs)
                if self._on_internal_error is not None:
                    self._on_internal_error(error)
            else:
                return True
        self._unwritten += count
        recorder.drop(signal, reason, count)
        return False


def _turn_s(config: Config) -> float:
    """How long to wait for the next turn."""
    if set(config.exporter).isdisjoint(NETWORK_EXPORTERS):
        return min(config.flush_s, 1.0)
    return min(config.flush_s, STREAM_TURN_S)


class _Bell:
    """Wakes the thread.

    No ``Event``, which has a lock inside: a record made by a signal's handler while
    this very thread rings, or waits, would never get it.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """End one wait, the next one if nobody waits now."""
        if self._silence.locked():
            try:  # noqa: SIM105 - contextlib costs a small program too much
                self._silence.release()
            except RuntimeError:
                pass  # Another thread has rung at this moment.

    def wait(self, timeout_s: float) -> None:
        """Wait until it rings, or for ``timeout_s`` seconds."""
        self._silence.acquire(timeout=timeout_s)


class _Due:
    """Tells when it is time again, by the monotonic clock."""

    def __init__(self, first_s: float, every_s: float) -> None:
        self._every_ns = int(every_s * 1e9)
        self._at_ns = effects.monotonic_ns() + int(first_s * 1e9)

    def now(self) -> bool:
        """Tell whether it is time; if so, the next time is set."""
        now_ns = effects.monotonic_ns()
        if now_ns < self._at_ns:
            return False
        self._at_ns = now_ns + self._every_ns
        return True


def _span_class(config: Config) -> type[Span]:
    name = config.sampler
    spans.ignore_parent_flag = name == "always_on"
    if name in ("always_on", "parentbased_always_on"):
        return Span
    from stack_composer.telemetry.record import sampling

    sampling.sampler = sampling.Sampler(name, config.sampler_ratio)
    return sampling.DrawnSpan


def _instruments() -> Any:
    """Give the module of the instruments, or None while nothing was measured.

    Not imported at the top: a program that only has spans does without.
    """
    if recorder.measurements:
        from stack_composer.telemetry.record import instruments

        return instruments
    return recorder.instruments


def _anything() -> bool:
    """Tell whether there can be anything to write; an idle program loads no guard."""
    waiting = recorder.spans or recorder.logs or recorder.dropped or recorder.faults
    return bool(waiting) or _instruments() is not None


def _discard() -> None:
    """Empty all buffers: nothing is recorded by this configuration."""
    for buffer in (recorder.spans, recorder.logs, recorder.measurements):
        buffer.clear()
    instruments = _instruments()
    if instruments is not None:
        instruments.collect(effects.wall_ns())


def _mended(record: Any) -> Any:
    """Mend what the hot path does not look at: names and keys that are no text."""
    if isinstance(record, Span):
        record.name = plain_key(record.name)
        if record.attributes:
            record.attributes = settle({plain_key(k): v for k, v in record.attributes.items()})
    return record
