"""The pipeline of this process: when it starts, ends, forks and is configured anew.

- The first record starts it; ``atexit`` takes the last turn on the main thread.
- No record waits for another thread that starts or exchanges the pipeline: it is in
  its buffer meanwhile. The same holds for what a signal's handler records while its
  own thread does so.
- ``fork`` passes the turnstile first, so no lock of ours or of a library is held in
  the child. The child drops what it inherited, since the parent writes that, and
  starts a pipeline of its own with its first record.
"""

from __future__ import annotations

import os
import sys
import threading

from stack_composer.telemetry import config as configuration
from stack_composer.telemetry import health
from stack_composer.telemetry.errors import TelemetryError
from stack_composer.telemetry.pipeline import Pipeline
from stack_composer.telemetry.record import ids, recorder
from stack_composer.telemetry.record import span as spans
from stack_composer.telemetry.record.span import OffSpan, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.turnstile import Turnstile

FORK_WAIT_S = 1.0
"""A fork waits this long for the end of a chunk. Not for ever: a writer stuck in a
dead network folder must not hang the application."""

lock = threading.RLock()
"""Held by whoever changes what follows; reentrant, for signals' handlers."""
starting = False
"""Whether that is going on now; a handler that comes in between must not begin it too."""
running: Pipeline | None = None
options: dict[str, Any] = {}
on_internal_error: Callable[[Exception], None] | None = None
stopped = False
make_pipeline: Callable[..., Pipeline] = Pipeline
"""What makes a pipeline; ``capture`` exchanges it."""


def start(timeout_s: float = 0.0) -> None:
    """Read the configuration and start the pipeline, once; never raises.

    Waits ``timeout_s`` for another thread that is at it.
    """
    global running, starting
    if not lock.acquire(timeout=timeout_s):
        return
    try:
        if starting or stopped:
            return
        starting = True
        if running is None:
            running = make_pipeline(_load_config(), options, on_internal_error)
        _begin(running)
    except Exception:
        # No usable configuration: record nothing, since what may be written where is
        # unknown; 'config check' tells the user what is wrong.
        recorder.fault("config")
        _silence()
    finally:
        starting = False
        lock.release()


def _load_config() -> Config:
    """Load the configuration; a wrong rule of the guard's is no reason to go without all.

    Then the profile is strict and the rules that are right hold (``bad_rules``).
    """
    try:
        return configuration.load_config(options)
    except TelemetryError:
        config = configuration.load_config(options, bad_rules=True)
    recorder.fault("rules")
    return config


def configure(
    new_options: dict[str, Any],
    on_error: Callable[[Exception], None] | None,
    prepare: Callable[[], None] | None = None,
) -> None:
    """Check the options, end the running pipeline and begin one that uses them.

    ``prepare`` is called in between; if it raises, nothing has changed either.
    """
    global running, options, on_internal_error, stopped, starting
    config = configuration.load_config(new_options)
    if prepare is not None:
        prepare()
    with lock:
        starting = True
        old, running = running, None
        try:
            if old is not None:
                old.stop(10.0)
        finally:
            options, on_internal_error, stopped = new_options, on_error, False
            running = make_pipeline(config, options, on_internal_error)
            _begin(running)
            starting = False


def _begin(pipeline: Pipeline) -> None:
    pipeline.start()
    _hear(heard=recorder.emptied)
    _end_with_worker()


def flush(timeout_s: float) -> str:
    """See ``api.flush``."""
    place = ""
    while not place:
        start(timeout_s)
        pipeline = running
        if pipeline is None:
            return configuration.load_config(options).directory
        place = pipeline.flush(timeout_s)
    return place


def shutdown(timeout_s: float) -> None:
    """See ``api.shutdown``."""
    global running, stopped
    with lock:
        old, running = running, None
        stopped = True
        recorder.stop()
        try:
            if old is not None:
                old.stop(timeout_s)
        finally:
            _silence()


_worker_pid = 0


def _end_with_worker() -> None:
    """Have a worker process of ``multiprocessing`` write what is left when it ends.

    It ends with ``os._exit``, which passes ``atexit`` by, but has a list of its own.
    """
    global _worker_pid
    util = sys.modules.get("multiprocessing.util")
    if util is None or _worker_pid == os.getpid():
        return
    if sys.modules["multiprocessing.process"].parent_process() is not None:
        _worker_pid = os.getpid()
        # After whatever else ends there, and may record.
        util.Finalize(None, _flush_worker, exitpriority=-1_000)


def _flush_worker() -> None:
    try:
        flush(10.0)
    except TelemetryError:
        recorder.fault("worker_end")


def _silence() -> None:
    """Record nothing from now on, and keep nothing for later."""
    recorder.stop()
    recorder.span_class = OffSpan
    recorder.emptied = False
    _hear(heard=False)


def _hear(*, heard: bool) -> None:
    """Have instruments keep what they measure, or forget it."""
    if recorder.instruments is not None:
        recorder.instruments.hear(heard=heard)


_DATABASE = "stack_composer.telemetry.store.encrypted.database"
"""Whose connections must not live on in a child; looked up, since few programs load it."""


def _database() -> Any:
    """The module of encrypted databases, once it is whole: before, it has none open."""
    module = sys.modules.get(_DATABASE)
    return module if hasattr(module, "after_fork_in_child") else None


_held: dict[int, Turnstile] = {}
"""By thread, since several may fork at once."""


def _before_fork() -> None:
    # So that parent and child agree on the ids of what is open now.
    at: Any = spans._get()
    at = at.parent if type(at) is spans.Attached else at
    while isinstance(at, Span) and not isinstance(at, OffSpan):
        ids.identify(at)
        at = at.parent
    pipeline = running
    if pipeline is not None and pipeline.turnstile.enter(FORK_WAIT_S):
        _held[threading.get_ident()] = pipeline.turnstile
    # Behind the turnstile, since the writer waits for a database with its turn in hand.
    database = _database()
    if database is not None:
        database.close_before_fork()


def _after_fork_in_parent() -> None:
    database = _database()
    if database is not None:
        database.after_fork_in_parent()
    held = _held.pop(threading.get_ident(), None)
    if held is not None:
        held.leave()


def _after_fork_in_child() -> None:
    global running, lock, starting
    _held.clear()
    database = _database()
    if database is not None:
        database.after_fork_in_child()
    lock = threading.RLock()
    starting = False
    ids.renew_lock_after_fork()
    recorder.reset_after_fork()
    health.forget()
    if recorder.instruments is not None:
        recorder.instruments.forget_after_fork()
    old, running = running, None
    if old is not None:
        old.abandon()
    recorder.recording = not stopped
    recorder.span_class = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
