"""The pipeline of this process: when it starts, ends, forks and is configured anew.

- The first record starts it; ``atexit`` takes the last turn on the main thread.
- ``fork`` passes the turnstile first, so no lock of ours or of a library is held in
  the child. The child drops what it inherited, since the parent writes that, and
  starts a pipeline of its own with its first record.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading

from stack_composer.telemetry import config as configuration
from stack_composer.telemetry import health
from stack_composer.telemetry.pipeline import Pipeline
from stack_composer.telemetry.record import ids, recorder
from stack_composer.telemetry.record.span import OffSpan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from stack_composer.telemetry.turnstile import Turnstile

FORK_WAIT_S = 1.0
"""A fork waits this long for the end of a chunk. Not for ever: a writer stuck in a
dead network folder must not hang the application."""

lock = threading.Lock()
running: Pipeline | None = None
options: dict[str, Any] = {}
on_internal_error: Callable[[Exception], None] | None = None
stopped = False
make_pipeline: Callable[..., Pipeline] = Pipeline
"""What makes a pipeline; ``capture`` exchanges it."""


def start() -> None:
    """Read the configuration and start the pipeline, once; never raises."""
    global running
    with lock:
        if running is None and not stopped:
            try:
                config = configuration.load_config(options)
                running = make_pipeline(config, options, on_internal_error)
            except Exception:
                # No usable configuration: record nothing, since what may be written
                # where is unknown; 'config check' tells the user what is wrong.
                recorder.fault("config")
                _silence()
                return
        if running is not None:
            running.start()
            _hear(heard=recorder.emptied)


def configure(new_options: dict[str, Any], on_error: Callable[[Exception], None] | None) -> None:
    """Check the options, end the running pipeline and begin one that uses them."""
    global running, options, on_internal_error, stopped
    config = configuration.load_config(new_options)
    with lock:
        old, running = running, None
        if old is not None:
            old.stop(10.0)
        options, on_internal_error, stopped = new_options, on_error, False
        running = make_pipeline(config, options, on_internal_error)
        running.start()
        _hear(heard=recorder.emptied)


def flush(timeout_s: float) -> str:
    """See ``api.flush``."""
    start()
    if running is None:
        return configuration.load_config(options).directory
    return running.flush(timeout_s)


def shutdown(timeout_s: float) -> None:
    """See ``api.shutdown``."""
    global running, stopped
    with lock:
        old, running = running, None
        stopped = True
        if old is not None:
            old.stop(timeout_s)
        _silence()


def _silence() -> None:
    """Record nothing from now on, and keep nothing for later."""
    recorder.stop()
    recorder.span_class = OffSpan
    recorder.emptied = False
    _hear(heard=False)


def _hear(*, heard: bool) -> None:
    """Have instruments keep what they measure, or forget it."""
    instruments = sys.modules.get("stack_composer.telemetry.record.instruments")
    if instruments is not None:
        instruments.hear(heard=heard)


_held: list[Turnstile] = []


def _before_fork() -> None:
    if running is not None and running.turnstile.enter(FORK_WAIT_S):
        _held.append(running.turnstile)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().leave()


def _after_fork_in_child() -> None:
    global running, lock
    _held.clear()
    lock = threading.Lock()
    ids.renew_lock_after_fork()
    recorder.reset_after_fork()
    health.forget()
    instruments = sys.modules.get("stack_composer.telemetry.record.instruments")
    if instruments is not None:
        instruments.forget_after_fork()
    old, running = running, None
    if old is not None:
        old.abandon()
    recorder.recording = not stopped
    recorder.span_class = None


atexit.register(shutdown, 10.0)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
