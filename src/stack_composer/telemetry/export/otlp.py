"""The exporters ``otlp_http`` and ``otlp_grpc``, as the writer's thread sees them.

A writer of bundles with one bell or two: after each turn it rings for the streams
(``upload.stream``), which read what was written and send it. All that is dear (the network,
TLS, protobuf) is imported on their threads, and nothing here waits for one. Only ``linger``,
at the end of a program, waits for what is still to be sent, as long as is configured.

Where ``file`` is among the exporters, its bundles are what is sent; they stay. Otherwise
the writer writes into an *outbox*, which is emptied as it is sent.

A thread is started when the first line is written, or found *parked*: a program that
ends at once gets to its first line only while the interpreter ends, when no thread can
be started any more (CPython 3.12 and later).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from importlib import import_module

from stack_composer.telemetry import effects
from stack_composer.telemetry.record import recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Protocol

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.store.sketch import Sketch
    from stack_composer.telemetry.upload.queue import Queue

    class Writer(Protocol):
        """``BundleWriter`` or ``DatabaseWriter``."""

        fills_disk: bool

        def append(self, signal: str, data: bytes, sketch: Sketch) -> None:
            """Append whole lines."""

        def stem_of(self, signal: str) -> str:
            """The stem of the bundle that has the last line of a signal."""

        def tick(self) -> bool:
            """Do a little of what takes time."""

        def settle(self) -> None:
            """End a turn."""

        def narrow(self, bundle_bytes_max: int) -> None:
            """Write smaller bundles."""

        def flush(self) -> str:
            """Make durable what was appended."""

        def close(self) -> None:
            """Finish."""

        def abandon(self) -> None:
            """Let go in a forked child."""


FORK_WAIT_S: Final = 10.0
"""A fork waits so long for the end of a stream's imports: some tenths of a second, or
seconds on a machine that is very busy."""
RING_BYTES: Final = 2**20
"""So much written rings at once, even within a turn."""


class Feed:
    """What the writer tells one stream, and the stream's thread; see ``upload.stream.Feed``."""

    __slots__ = (
        "_bell",
        "_config",
        "_purpose",
        "_thread",
        "begun",
        "current",
        "directory",
        "is_ending",
        "queue",
        "until_ns",
    )

    def __init__(self, config: Config, purpose: str, directory: str) -> None:
        self.begun: deque[tuple[str, str]] = deque()
        self.current: dict[str, str] = {}
        self.is_ending = False
        self.until_ns = 0
        self.queue: Queue | None = None
        self.directory = directory
        self._config = config
        self._purpose = purpose
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None

    def wait(self, timeout_s: float) -> None:
        """Wait until it rings; the stream's thread calls it."""
        self._bell.wait(timeout_s)
        self._bell.clear()

    def tell(self, signal: str, stem: str) -> None:
        """Say which bundle has the last line of a signal."""
        if self.current.get(signal) != stem:
            if self.directory != self._config.directory:
                self._claim(signal, stem)
            self.begun.append((stem, signal))
            self.current[signal] = stem

    def _claim(self, signal: str, stem: str) -> None:
        """Have other programs leave a bundle of an outbox to this one's stream."""
        from stack_composer.telemetry.errors import StoreError
        from stack_composer.telemetry.upload.queue import ANYBODY, Queue

        try:
            if self.queue is None or not self.queue.is_held:
                self.queue = Queue(self.directory, ANYBODY)
            self.queue.add(f"{stem}.{signal}")
        except StoreError:
            recorder.fault("stream_queue")  # Others may send it too.

    def ring(self) -> None:
        """Have the stream look; its thread is started with the first ring."""
        if self._thread is None:
            self._thread = _carried(self._run, f"stack-composer-{self._purpose}")
        self._bell.set()

    def _run(self) -> None:
        try:
            with imports:
                from stack_composer.telemetry.upload.stream import Stream
            Stream(self._config, self._purpose, self.directory, self, imports).run()
        except Exception:
            recorder.fault("stream")

    def finish(self) -> None:
        """Say that nothing more will come."""
        if not self.current:
            return
        self.until_ns = effects.monotonic_ns() + int(self._config.otlp_close_s_max * 1e9)
        self.is_ending = True
        self.ring()
        if self._thread is None and self.queue is not None:
            self.queue.close(is_done=False)

    def linger(self) -> None:
        """Wait for the stream's end, until its time is over."""
        if self._thread is not None and self.is_ending:
            left_s = (self.until_ns - effects.monotonic_ns()) / 1e9
            self._thread.join(max(left_s, 0.0))

    def abandon(self) -> None:
        """Let go in a forked child; the parent's thread and bell are the parent's."""
        if self.queue is not None:
            self.queue.abandon()


class Streamed:
    """A writer of bundles that are sent as they are written."""

    def __init__(self, writer: Writer, feeds: list[Feed]) -> None:
        self.fills_disk = writer.fills_disk
        self._writer = writer
        self._feeds = feeds
        self._unrung_bytes = 0

    def append(self, signal: str, data: bytes, sketch: Sketch) -> None:
        """Take whole lines.

        Raises:
            StoreError: It took nothing.
        """
        self._writer.append(signal, data, sketch)
        stem = self._writer.stem_of(signal)
        for feed in self._feeds:
            feed.tell(signal, stem)
        self._unrung_bytes += len(data)
        if self._unrung_bytes >= RING_BYTES:
            self._ring()

    def _ring(self) -> None:
        if self._unrung_bytes:
            self._unrung_bytes = 0
            for feed in self._feeds:
                feed.ring()

    def tick(self) -> bool:
        """Do a little of what takes time; True if more of it is left."""
        return self._writer.tick()

    def settle(self) -> None:
        """End a turn."""
        self._ring()
        self._writer.settle()

    def narrow(self, bundle_bytes_max: int) -> None:
        """Write smaller bundles than so far, or larger ones again."""
        self._writer.narrow(bundle_bytes_max)

    def flush(self) -> str:
        """Make durable what was appended, on this computer; nothing waits for the network."""
        self._ring()
        return self._writer.flush()

    def close(self) -> None:
        """Finish writing; the streams go on with what is left."""
        try:
            self._writer.close()
        finally:
            for feed in self._feeds:
                feed.finish()

    def linger(self) -> None:
        """Wait for the streams, each as long as is configured."""
        for feed in self._feeds:
            feed.linger()

    def abandon(self) -> None:
        """Let go in a forked child."""
        self._writer.abandon()
        for feed in self._feeds:
            feed.abandon()


class Forbidden:
    """Where records go that may never leave, and that nobody wants kept: nowhere.

    They are counted. So nothing waits in an outbox that was recorded under
    ``DO_NOT_TRACK``.
    """

    fills_disk = False

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def append(self, signal: str, _data: bytes, sketch: Sketch) -> None:
        """Count what is dropped."""
        recorder.drop(signal, "not_permitted", sketch.records)

    def tick(self) -> bool:
        """Have nothing to do."""
        return False

    def settle(self) -> None:
        """Have nothing to make durable."""

    def narrow(self, _bundle_bytes_max: int) -> None:
        """Have no bundles."""

    def flush(self) -> str:
        """Say where bundles would be."""
        return self._directory

    def close(self) -> None:
        """Have nothing to finish."""

    def abandon(self) -> None:
        """Hold nothing."""


def may_ever_leave(config: Config) -> bool:
    """Whether no switch forbids that anything leaves; the user's consent is another matter."""
    return bool(config.upload_enabled) and not config.do_not_track


class Imports:
    """Held by a stream's thread while it imports, so that no fork comes in the middle.

    In a child the module would be half imported for ever, and whoever imports it there,
    the application too, would wait for the thread that was at it.

    A fork takes this before the lock of ``logging``, whose hook was set first: what is
    imported may well ask for a logger.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: set[int] = set()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def hold(self) -> None:
        """Before a fork: wait until nobody imports; not for ever."""
        if self._lock.acquire(timeout=FORK_WAIT_S):
            self._holders.add(threading.get_ident())

    def let_go(self) -> None:
        """After it, in the parent."""
        if threading.get_ident() in self._holders:
            self._holders.discard(threading.get_ident())
            self._lock.release()

    def renew(self) -> None:
        """After it, in the child."""
        self._lock = threading.Lock()
        self._holders = set()


# -- threads -----------------------------------------------------------------------------


class _Carrier(threading.Thread):
    """A thread that waits for its job."""

    def __init__(self) -> None:
        super().__init__(name="stack-composer-parked", daemon=True)
        self.pid = os.getpid()
        self._ready = threading.Event()
        self._job: Callable[[], None] | None = None

    def run(self) -> None:
        self._ready.wait()
        if self._job is not None:
            self._job()

    def carry(self, job: Callable[[], None], name: str) -> None:
        self.name = name
        self._job = job
        self._ready.set()


_parked: list[_Carrier] = []


def park(count: int) -> None:
    """Start threads that wait for streams to run on, unless so many wait already."""
    # Those of a parent process are not here any more.
    _parked[:] = [one for one in _parked if one.pid == os.getpid()]
    try:
        while len(_parked) < count:
            carrier = _Carrier()
            carrier.start()
            _parked.append(carrier)
    except RuntimeError:
        return  # The interpreter is ending, or the system has no thread left.


def _carried(job: Callable[[], None], name: str) -> threading.Thread | None:
    park(1)
    if not _parked:
        recorder.fault("thread")
        return None
    carrier = _parked.pop()
    carrier.carry(job, name)
    return carrier


imports = Imports()

if hasattr(os, "register_at_fork"):
    import_module("logging")  # Its own hooks are set first, as ``imports`` relies on.
    os.register_at_fork(
        before=imports.hold,
        after_in_parent=imports.let_go,
        after_in_child=imports.renew,
    )
