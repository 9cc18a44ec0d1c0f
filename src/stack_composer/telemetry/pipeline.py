"""The one place that wires the stages: record -> guard -> store, and the exporters.

One thread per process, started by the first record, does all that costs time. On
each *turn* it takes what the buffers hold, has it guarded and encoded in chunks, and
appends the lines to the bundles of this process. A turn comes every ``flush_s``
seconds, or sooner when a buffer fills.

What may happen at once, and why it is harmless:

- ``flush`` and the thread: who writes has passed the ``Turnstile``, one at a time; it
  opens between chunks, so nobody waits for more than a chunk (some milliseconds).
- ``fork`` while the thread works: the fork passes the turnstile first, so no lock of
  ours or of a library is held in the child. The child drops what it inherited and
  starts its own thread with its first record.
- The interpreter's end: ``atexit`` takes the last turn on the main thread.
- ``os._exit`` and kill -9: what no turn has taken is lost, at most ``flush_s``.

A failure here never reaches the application: the world's (a full disk) is counted
as dropped records, our own as a fault; ``stats`` and ``doctor`` show both.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time

from stack_composer.telemetry import config as configuration
from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import GuardError, StoreError, TelemetryError
from stack_composer.telemetry.model import Metric, NumberPoint, Resource, Scope
from stack_composer.telemetry.record import ids, recorder
from stack_composer.telemetry.record import span as spans
from stack_composer.telemetry.record.span import OffSpan, Span
from stack_composer.telemetry.values import plain_key, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.guard.engine import Guard
    from stack_composer.telemetry.store.encode import Encoder
    from stack_composer.telemetry.store.sketch import Sketch

    class Exporter(Protocol):
        """Where guarded lines go; ``BundleWriter`` is one, the terminal another."""

        def append(self, signal: str, data: bytes, sketch: Sketch, /) -> None:
            """Take whole lines; raises ``StoreError`` if it took nothing."""

        def tick(self) -> bool:
            """Do a little of what takes time; True if more of it is left."""

        def flush(self) -> str:
            """Make durable what was appended; returns where the last line went."""

        def close(self) -> None:
            """Finish; nothing is appended afterwards."""

        def abandon(self) -> None:
            """Let go in a forked child, without touching what the parent has."""


CHUNK_RECORDS = 512
"""Records of one line and one search; the interpreter is held about a millisecond."""
METRICS_S = 10.0
"""Instruments are written this often; ``metric()`` points go with each turn."""
CONFIG_S = 0.5
"""The configuration file is looked at this often (a ``stat``, 5 µs)."""

HEALTH = Scope("stack_composer.telemetry")
"""The scope of what the pipeline says of itself."""


class Turnstile:
    """A lock whose holder can let the longest waiter go first.

    ``_next`` is held while waiting for ``_turn``: so the holder, who comes back in
    ``let_others`` through ``_next`` as well, cannot snatch the turn again.
    """

    def __init__(self) -> None:
        self._next = threading.Lock()
        self._turn = threading.Lock()

    def enter(self, timeout_s: float) -> bool:
        """Wait for the turn; False if it did not come in time."""
        if not self._next.acquire(timeout=timeout_s):
            return False
        try:
            return self._turn.acquire(timeout=timeout_s)
        finally:
            self._next.release()

    def leave(self) -> None:
        """Give the turn back."""
        self._turn.release()

    def let_others(self) -> None:
        """Give the turn to whoever waits, and wait for it again."""
        self._turn.release()
        with self._next:
            self._turn.acquire()


class Pipeline:
    """One process's writer: its configuration, its thread and what it writes to."""

    def __init__(self, config: Config, options: dict[str, Any], on_internal_error: Any) -> None:
        self._options = options
        self._on_internal_error = on_internal_error
        self.turnstile = Turnstile()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._unwritten = 0
        self._metrics_at = effects.monotonic_ns() + int(METRICS_S * 1e9)
        self._config_at = 0
        self._signature: object = None
        self._exporters: list[Exporter] = []
        self._encoder: Encoder | None = None
        self._guard: Guard | None = None
        self._use(config)

    # -- configuration -------------------------------------------------------------

    def _use(self, config: Config) -> None:
        """Take a configuration; what it does not change stays as it is."""
        self.config = config
        self._signature = configuration.signature(config.config_path)
        self._recording, _ = configuration.effective_mode(config)
        recorder.buffered_max = config.buffered_records_max
        recorder.recording = self._recording
        recorder.span_class = _span_class(config) if self._recording else OffSpan
        spans.attributes_max = config.span_attribute_count_max
        spans.events_max = config.event_count_max
        spans.links_max = config.link_count_max
        spans.event_attributes_max = config.event_attribute_count_max
        spans.link_attributes_max = config.link_attribute_count_max
        recorder.temporality = config.metrics_temporality

    def _reload(self) -> None:
        """Follow the configuration file; a broken one keeps the last good one."""
        now = effects.monotonic_ns()
        if now < self._config_at:
            return
        self._config_at = now + int(CONFIG_S * 1e9)
        found = configuration.signature(self.config.config_path)
        if found == self._signature:
            return
        self._signature = found
        try:
            config = configuration.load_config(self._options)
        except TelemetryError:
            recorder.fault("config")
            return
        self._finish_outputs()
        self._use(config)

    def _outputs(self) -> tuple[Encoder, list[Exporter]]:
        """Make guard, encoder and exporters when the first line is due."""
        if self._encoder is None:
            self._guard = _guard(self.config)
            self._encoder = _encoder(self.config, self._guard)
            self._exporters = [_exporter(name, self.config) for name in self.config.exporter]
        return self._encoder, self._exporters

    def _finish_outputs(self) -> None:
        """Write what is left in the way it was configured, and close."""
        self._take_all(last=True)
        for exporter in self._exporters:
            exporter.close()
        self._exporters = []
        self._encoder = self._guard = None
        # A new guard counts from nothing; what was lost is counted by the process.
        for key in [key for key in _told if key[0] == "redacted" or key[1] == "guard"]:
            del _told[key]

    # -- the thread ----------------------------------------------------------------

    def start(self) -> None:
        """Start the thread; the first record of a process comes here."""
        recorder.wake = self.wake
        # Below the bound, so that the common path never appends beyond it.
        recorder.wake_at = max(1, min(recorder.WAKE_AT, self.config.buffered_records_max // 2))
        if self.config.sdk_disabled or self._thread is not None:
            return
        self._thread = threading.Thread(
            target=self._run, name="stack-composer-telemetry", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """Have the thread take a turn now."""
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(min(self.config.flush_s, 1.0))
            self._wake.clear()
            if self._stopping:
                return
            self.turnstile.enter(-1)
            try:
                self._turn()
            finally:
                self.turnstile.leave()

    def _turn(self) -> None:
        try:
            self._reload()
            self._take_all(last=False)
            while self._tick() and not (recorder.spans or recorder.logs or self._stopping):
                self.turnstile.let_others()
        except StoreError as error:
            self._internal(error, "store")
        except Exception as error:
            self._internal(error, "turn")

    def _tick(self) -> bool:
        """Let the exporters do a little of what takes time; True if more is left."""
        return any([exporter.tick() for exporter in self._exporters])  # noqa: C419 - each of them

    def _internal(self, error: Exception, where: str) -> None:
        recorder.fault(where)
        if self._on_internal_error is not None:
            self._on_internal_error(error)

    def flush(self, timeout_s: float) -> str:
        """Write all, make it durable, return the last bundle's path."""
        if not self.turnstile.enter(timeout_s):
            raise StoreError(
                f"flush: not done within {timeout_s:g} s",
                hint="give it more time, or see 'stack-composer telemetry doctor'",
            )
        try:
            self._unwritten = 0
            self._take_all(last=True)
            places = [exporter.flush() for exporter in self._exporters]
            if self._unwritten:
                raise StoreError(
                    "flush: some records could not be written",
                    hint="run 'stack-composer telemetry doctor'; it says which and why",
                )
            return places[0] if places else self.config.directory
        finally:
            self.turnstile.leave()

    def stop(self, timeout_s: float) -> None:
        """Take the last turn and end the thread; what comes later is not recorded."""
        recorder.stop()
        self._stopping = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        if not self.turnstile.enter(timeout_s):
            return  # The thread is stuck in the operating system; leave it alone.
        try:
            self._finish_outputs()
        except Exception as error:
            self._internal(error, "stop")
        finally:
            self.turnstile.leave()

    # -- one turn --------------------------------------------------------------------

    def _take_all(self, *, last: bool) -> None:
        """Write everything that the buffers hold; ``last`` adds what waits for its time."""
        if not self._recording:
            self._discard()
            return
        self._take_spans()
        self._take_logs()
        self._take_metrics(last=last)

    def _discard(self) -> None:
        for buffer in (recorder.spans, recorder.logs, recorder.measurements):
            buffer.clear()
        instruments = _instruments()
        if instruments is not None:
            instruments.collect(effects.wall_ns())

    def _take_spans(self) -> None:
        for some in self._chunks(recorder.spans):
            ids.identify_all(some)
            self._write("traces", some, self._outputs()[0].encode_spans)
            spans.release(some)

    def _take_logs(self) -> None:
        for some in self._chunks(recorder.logs):
            ids.identify_all([r.span for r in some if isinstance(r.span, Span)])
            self._write("logs", some, self._outputs()[0].encode_logs)

    def _chunks(self, buffer: list[Any]) -> Iterator[list[Any]]:
        """Take what the buffer holds now, a chunk at a time; others go in between.

        What comes meanwhile is left for the next turn, so a turn always ends.
        """
        left = len(buffer)
        while left > 0:
            some = recorder.take(buffer, min(left, CHUNK_RECORDS))
            if not some:
                return
            left -= len(some)
            yield some
            self.turnstile.let_others()
            if len(buffer) < recorder.WAKE_AT and not self._stopping:
                # Let the application run too, unless it is far ahead.
                time.sleep(0)

    def _take_metrics(self, *, last: bool) -> None:
        now_ns = effects.wall_ns()
        metrics: list[Metric] = []
        due = last or effects.monotonic_ns() >= self._metrics_at
        instruments = _instruments()
        if instruments is not None:
            instruments.drain()
            for some in self._chunks(recorder.measurements):
                measured = instruments.measured(some)
                if measured:
                    self._write("metrics", measured, self._outputs()[0].encode_metrics)
            if due:
                metrics.extend(instruments.collect(now_ns))
        if due:
            self._metrics_at = effects.monotonic_ns() + int(METRICS_S * 1e9)
        if metrics:
            self._write("metrics", metrics, self._outputs()[0].encode_metrics)
        if due:
            self._write_health(now_ns)

    def _write(
        self, signal: str, records: list[Any], encode: Callable[..., Any], *, mended: bool = False
    ) -> None:
        """Encode and append one chunk; if that fails, each record by itself, mended."""
        try:
            data, sketch = encode(records)
        except Exception as error:
            if not mended:
                for record in records:
                    self._write(signal, [_mended(record)], encode, mended=True)
                return
            recorder.drop(signal, "unencodable")
            self._internal(error, "encode")
            return
        for exporter in self._exporters:
            try:
                exporter.append(signal, data, sketch)
            except StoreError as error:
                self._unwritten += len(records)
                recorder.drop(signal, "not_written", len(records))
                if self._on_internal_error is not None:
                    self._on_internal_error(error)

    # -- what the pipeline says of itself --------------------------------------------

    def _write_health(self, now_ns: int) -> None:
        """Write what was lost, redacted and gone wrong since the last time."""
        counts: dict[tuple[str, str, str], int] = {}
        for (signal, reason), count in list(recorder.dropped.items()):
            counts["dropped", signal, reason] = count
        for where, count in list(recorder.faults.items()):
            counts["faults", where, ""] = count
        if self._guard is not None:
            for (rule, action), count in list(self._guard.counts.items()):
                counts["redacted", rule, action] = count
            if self._guard.faults:
                counts["faults", "guard", ""] = self._guard.faults
        metrics = [
            _health_metric(key, count - _told.get(key, 0), now_ns)
            for key, count in counts.items()
            if count > _told.get(key, 0)
        ]
        if not metrics:
            return
        encoder, exporters = self._outputs()
        data, sketch = encoder.encode_metrics(metrics)
        for exporter in exporters:
            try:
                exporter.append("metrics", data, sketch)
            except StoreError:
                return  # Told again next time: the counts only grow.
        _told.update(counts)


_told: dict[tuple[str, str, str], int] = {}
"""What the bundles of this process say already of losses, redactions and faults."""

_HEALTH_KEYS = {
    "dropped": ("signal", "reason"),
    "redacted": ("rule", "action"),
    "faults": ("where", ""),
}


def _health_metric(key: tuple[str, str, str], increment: int, now_ns: int) -> Metric:
    what, first, second = key
    names = _HEALTH_KEYS[what]
    attributes = {names[0]: first}
    if names[1]:
        attributes[names[1]] = second
    point = NumberPoint(attributes, 0, now_ns, increment)
    return Metric(f"{HEALTH.name}.{what}", "sum", [point], HEALTH, monotonic=True)


def _span_class(config: Config) -> type[Span]:
    name = config.sampler
    spans.ignore_parent_flag = name == "always_on"
    if name in ("always_on", "parentbased_always_on"):
        return Span
    from stack_composer.telemetry.record import sampling

    sampling.sampler = sampling.Sampler(name, config.sampler_ratio)
    return sampling.DrawnSpan


_INSTRUMENTS = "stack_composer.telemetry.record.instruments"


def _instruments() -> Any:
    """Give the module of the instruments, or None while nothing was measured.

    Not imported at the top: a program that only has spans does without.
    """
    if recorder.measurements:
        from stack_composer.telemetry.record import instruments

        return instruments
    return sys.modules.get(_INSTRUMENTS)


# These three import here, on the writer's thread, so that the application's first
# span does not wait for modules that it does not need.


def _guard(config: Config) -> Guard:
    from stack_composer.telemetry.guard.engine import Guard
    from stack_composer.telemetry.guard.policy import Policy

    policy = Policy(
        profile=config.profile,
        identifiers=config.identifiers,
        salt=_salt(config),
        record_content=config.record_content,
    )
    return Guard(policy)


def _encoder(config: Config, guard: Guard) -> Encoder:
    from stack_composer.telemetry.store.encode import Encoder

    return Encoder(
        guard,
        resource_of(config),
        attributes_max=config.span_attribute_count_max,
        chars_max=config.span_attribute_chars_max or 0,
    )


def _exporter(name: str, config: Config) -> Exporter:
    if name == "stdout":
        from stack_composer.telemetry.export.stdout import StdoutExporter

        return StdoutExporter()
    from stack_composer.telemetry.store.writer import BundleWriter

    return BundleWriter(
        config.directory,
        bundle_bytes_max=config.bundle_bytes_max,
        bundle_age_s_max=config.bundle_age_s_max,
    )


def _salt(config: Config) -> bytes:
    """Load the salt of hashed ids; without one, ids group within this process only."""
    if config.identifiers == "sha256":
        return b""
    from stack_composer.telemetry.guard.hashing import load_salt

    try:
        return load_salt(os.path.dirname(config.config_path))
    except GuardError:
        recorder.fault("salt")
        return effects.random_bytes(32)


def resource_of(config: Config) -> Resource:
    """Give what each line says of this program."""
    attributes = {
        **config.resource_attributes,
        **recorder.resource,
        "telemetry.sdk.name": "stack-composer-telemetry",
        "telemetry.sdk.language": "python",
        "process.pid": os.getpid(),
    }
    recorder.written_resource = attributes
    return Resource(attributes)


def _mended(record: Any) -> Any:
    """Mend what the hot path does not look at: names and keys that are no text."""
    if isinstance(record, Span):
        record.name = plain_key(record.name)
        if record.attributes:
            record.attributes = settle({plain_key(k): v for k, v in record.attributes.items()})
    return record


# -- the process's pipeline -----------------------------------------------------------

_pipeline: Pipeline | None = None
_lock = threading.Lock()
_options: dict[str, Any] = {}
_on_internal_error: Any = None
_stopped = False


def start() -> None:
    """Read the configuration and start the thread, once; never raises."""
    global _pipeline
    with _lock:
        if _pipeline is None and not _stopped:
            try:
                config = configuration.load_config(_options)
                _pipeline = Pipeline(config, _options, _on_internal_error)
            except Exception:
                # No usable configuration: record nothing, since what may be written
                # where is unknown; 'config check' tells the user what is wrong.
                _turn_off("config")
                return
        if _pipeline is not None:
            _pipeline.start()


def configure(options: dict[str, Any], on_internal_error: Any) -> None:
    """Check ``options``, end the running pipeline and begin one that uses them."""
    global _pipeline, _options, _on_internal_error, _stopped
    config = configuration.load_config(options)
    with _lock:
        old, _pipeline = _pipeline, None
        if old is not None:
            old.stop(10.0)
        _options, _on_internal_error, _stopped = options, on_internal_error, False
        _pipeline = Pipeline(config, options, on_internal_error)
        _pipeline.start()


def flush(timeout_s: float) -> str:
    """See ``api.flush``."""
    start()
    if _pipeline is None:
        return configuration.load_config(_options).directory
    return _pipeline.flush(timeout_s)


def shutdown(timeout_s: float) -> None:
    """See ``api.shutdown``."""
    global _pipeline, _stopped
    with _lock:
        old, _pipeline = _pipeline, None
        _stopped = True
        if old is not None:
            old.stop(timeout_s)
        recorder.stop()
        recorder.span_class = OffSpan


def _turn_off(where: str) -> None:
    recorder.fault(where)
    recorder.stop()
    recorder.span_class = OffSpan


_held: list[Turnstile] = []
_FORK_WAIT_S = 1.0


def _before_fork() -> None:
    # Not for ever: a writer stuck in a dead network folder must not hang a fork.
    if _pipeline is not None and _pipeline.turnstile.enter(_FORK_WAIT_S):
        _held.append(_pipeline.turnstile)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().leave()


def _after_fork_in_child() -> None:
    global _pipeline, _lock
    _held.clear()
    _lock = threading.Lock()
    ids.renew_lock_after_fork()
    recorder.reset_after_fork()
    _told.clear()
    instruments = sys.modules.get(_INSTRUMENTS)
    if instruments is not None:
        instruments.forget_after_fork()
    old, _pipeline = _pipeline, None
    if old is not None:
        for exporter in old._exporters:
            exporter.abandon()
    recorder.recording = not _stopped
    recorder.span_class = None


atexit.register(shutdown, 10.0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
