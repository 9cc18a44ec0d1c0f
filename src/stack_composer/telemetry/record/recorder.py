"""The buffers between the application and the writer thread, and their switch.

An application's thread only ever appends to a list; the writer takes what is there.
Both are single operations under the interpreter's own lock, so no lock of ours
stands on the common path. There is one check on it: while a buffer is shorter than
``wake_at`` a record is appended and nothing else happens. ``wake_at`` is 0 until the
first record, which therefore starts the writer, and 0 again in a forked child.

A module rather than an object: an attribute of a module is the cheapest variable
that two threads of CPython can share.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from stack_composer.telemetry.model import LogRecord, SpanRecord
    from stack_composer.telemetry.record.span import Span

WAKE_AT = 16_384
"""Records that wake the writer before its interval has passed."""

recording = True
"""Whether anything is recorded at all; the configuration decides."""
span_class: type[Span] | None = None
"""What ``span()`` makes: ``Span``, one that asks the sampler, or one that does nothing.
None until the configuration is read."""

spans: list[SpanRecord] = []
logs: list[LogRecord] = []
measurements: list[tuple[Any, ...]] = []
"""``(name, value, attributes, time_ns)`` of each ``metric()``: one point each."""

emptied = True
"""Whether a pipeline empties what instruments append to; without one they are deaf."""

wake_at = 0
buffered_max = 65_536
"""Records of one signal that may wait; beyond, the newest is dropped and counted."""

temporality = "delta"
"""What sums and histograms tell: "delta", "cumulative", or "lowmemory", which is delta
but for observable counters. Sums that may fall are cumulative whatever is said here."""

resource: Mapping[str, Any] = {}
"""What the program's own OpenTelemetry SDK says of the program, if it has one."""
written_resource: Mapping[str, Any] | None = None
"""What is written of it; None until the first line."""

dropped: dict[tuple[str, str], int] = {}
"""Records lost so far, by (signal, reason); only ever grows."""
faults: dict[str, int] = {}
"""Times that our own code failed so far, by place; only ever grows."""
steps: dict[str, int] = {}
"""Steps taken against a full disk so far, by what they were; only ever grows."""


instruments: Any = None
"""The module of the instruments, once it is whole; a program without any never loads it.

It says so itself at its end: in ``sys.modules`` a module is from its first line on, and
another thread would find it without what it is asked for.
"""

off_generation: Callable[[dict[str, Any] | None], Span] | None = None
"""What ``generation()`` makes of its attributes while nothing is recorded; None: no more
than ``span()`` does then."""


def _nothing() -> None:
    """Stand in for the pipeline until it is wired."""


def _flush_nothing(timeout_s: float) -> object:
    """Stand in for ``api.flush`` likewise."""


start: Callable[[], None] = _nothing
wake: Callable[[], None] = _nothing
flush: Callable[[float], object] = _flush_nothing


def begin() -> None:
    """Start the writer, unless it runs. The first record of a process comes here."""
    if wake_at == 0 and recording:
        start()


def stop() -> None:
    """Record nothing any more; even a span that is open goes nowhere when it ends."""
    global recording, wake_at
    recording = False
    wake_at = 0


def crowded(signal: str, buffer: list[Any], record: object) -> None:
    """Take ``record`` when the common path could not: start or wake the writer."""
    if wake_at == 0:
        begin()
    if not recording:
        return
    if len(buffer) >= buffered_max:
        drop(signal, "buffer_full")
        return
    buffer.append(record)
    if len(buffer) >= wake_at:
        wake()


def take(buffer: list[Any], count_max: int) -> list[Any]:
    """Remove and return the oldest records of ``buffer``, at most ``count_max``."""
    # Two steps, and still nothing is lost or taken twice: others only append, so the
    # first len(taken) items are the same when they are deleted.
    taken = buffer[:count_max]
    del buffer[: len(taken)]
    return taken


def drop(signal: str, reason: str, count: int = 1) -> None:
    """Count lost records. A lost update between threads is tolerated: it is a tally."""
    dropped[signal, reason] = dropped.get((signal, reason), 0) + count


def fault(where: str) -> None:
    """Count a failure of our own code, which the application never sees."""
    faults[where] = faults.get(where, 0) + 1


def step(what: str, count: int = 1) -> None:
    """Count steps taken against a full disk."""
    steps[what] = steps.get(what, 0) + count


def reset_after_fork() -> None:
    """Forget the parent's records: it will write them itself."""
    global wake_at, span_class
    wake_at = 0
    span_class = None
    spans.clear()
    logs.clear()
    measurements.clear()
    dropped.clear()
    faults.clear()
    steps.clear()
