"""What to do when the disk fills: four levels, and what each of them means.

``assess`` decides the level from the room that is left and the level so far; it is
pure, and so is all that follows from a level (``measures``, ``keeps``,
``plan_relief``). So the writer, ``status`` and ``doctor`` come to the same answer.

A level is entered at once and left late: only with a quarter more room than it was
entered with, so that a disk which is just about full does not have us change our mind
every five seconds. A write that the disk refused counts as no room at all, whatever
the system says is free: quotas and reserved blocks are not seen in that number.

On a small disk the three limits would cover most of it, so each counts for a share of
the disk at most (``SHARES``).
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

    from stack_composer.telemetry.model import LogRecord, SpanRecord
    from stack_composer.telemetry.store.reader import BundleInfo

NORMAL: Final = "normal"
THROTTLE: Final = "throttle"
CRITICAL: Final = "critical"
STOP: Final = "stop"

LEVELS: Final = (NORMAL, THROTTLE, CRITICAL, STOP)
"""From room enough to none."""

SHARES: Final = (10, 40, 100)
"""The limits count for at most a tenth, a fortieth and a hundredth of the disk."""

SLOW_NS: Final = 1_000_000_000
"""A span that took as long is kept, whatever happens to its trace."""

SEVERITY_MIN: Final = 13
"""OTLP's WARN: at "critical" log records below it are left out."""

RELIEF_SHARE: Final = 16
"""One look deletes at most this part of what is kept, but a bundle at least: a dip of
some seconds costs little, a minute of it half of all."""

_BUNDLE_BYTES_MAX: Final = {THROTTLE: 4 * 2**20, CRITICAL: 2**20, STOP: 2**20}
_ONE_TRACE_IN: Final = {NORMAL: 1, THROTTLE: 4, CRITICAL: 32, STOP: 32}
_FULL: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Limits:
    """Free bytes below which each level begins; 0 leaves a level out."""

    __slots__ = ("critical", "stop", "throttle")

    def __init__(self, throttle: int, critical: int, stop: int) -> None:
        self.throttle = throttle
        self.critical = critical
        self.stop = stop

    def on(self, total_bytes: int) -> tuple[int, int, int]:
        """The limits on a disk of this size, of "throttle", "critical" and "stop"."""
        given = (self.throttle, self.critical, self.stop)
        throttle, critical, stop = (
            min(limit, total_bytes // share) for limit, share in zip(given, SHARES, strict=True)
        )
        return throttle, critical, stop


class State:
    """A level, since when it holds, and the room that was last seen.

    ``since_ns`` is Unix nanoseconds.
    """

    __slots__ = ("free_bytes", "level", "since_ns", "total_bytes")

    def __init__(
        self, level: str, since_ns: int, free_bytes: int = 0, total_bytes: int = 0
    ) -> None:
        self.level = level
        self.since_ns = since_ns
        self.free_bytes = free_bytes
        self.total_bytes = total_bytes


class Measures:
    """What a level means.

    Attributes:
        bundle_bytes_max: How large a bundle may grow. A small one is sealed soon, which
            takes a tenth of its room, and is a small step when it has to go.
        one_trace_in: One trace in so many is kept whole.
        frees: Whether the oldest sealed bundles are deleted.
        writes: Whether anything is written.
        text: The same in words.
    """

    __slots__ = ("bundle_bytes_max", "frees", "one_trace_in", "text", "writes")

    def __init__(self, level: str, bundle_bytes_max: int) -> None:
        self.bundle_bytes_max = min(
            bundle_bytes_max, _BUNDLE_BYTES_MAX.get(level, bundle_bytes_max)
        )
        self.one_trace_in = _ONE_TRACE_IN[level]
        self.frees = level in (CRITICAL, STOP)
        self.writes = level != STOP
        self.text = _text(level, self)


def _text(level: str, measures: Measures) -> str:
    if level == NORMAL:
        return "all is recorded"
    if level == STOP:
        return "nothing is written, the oldest sealed bundles are deleted"
    kept = (
        f"one trace in {measures.one_trace_in} is kept, with all errors and all spans of "
        f"{SLOW_NS // 10**9} s and more; bundles of {measures.bundle_bytes_max // 2**10:,} KiB"
    )
    if level == THROTTLE:
        return kept
    return f"{kept}; of log records warnings and worse; the oldest sealed bundles are deleted"


def assess(
    state: State | None,
    *,
    free_bytes: int,
    total_bytes: int,
    now_ns: int,
    limits: Limits,
    is_full: bool = False,
) -> State:
    """Decide the level.

    Args:
        state: What held so far; None for a first look.
        free_bytes: Room that this user may fill.
        total_bytes: Size of the disk.
        now_ns: Wall clock, Unix nanoseconds.
        limits: As configured; they are capped here.
        is_full: A write was refused for want of room since the last look.

    Returns:
        The state that holds now; ``since_ns`` is the old one as long as the level is.
    """
    before = NORMAL if state is None else state.level
    level = NORMAL
    for name, limit in zip(LEVELS[1:], limits.on(total_bytes), strict=True):
        is_held = LEVELS.index(before) >= LEVELS.index(name)
        if free_bytes < (limit + limit // 4 if is_held else limit):
            level = name
    if is_full:
        level = STOP
    since_ns = now_ns if state is None or level != before else state.since_ns
    return State(level, since_ns, free_bytes, total_bytes)


def wanted_bytes(state: State, limits: Limits) -> int:
    """How much room is missing until "critical" is left; 0 for none."""
    _, critical, stop = limits.on(state.total_bytes)
    limit = critical or stop
    return max(limit + limit // 4 - state.free_bytes, 0)


def is_full(error: BaseException) -> bool:
    """Whether a write failed for want of room: of the error or of what caused it."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in _FULL:
            return True
        at = at.__cause__
    return False


def keeps(span: SpanRecord, one_trace_in: int) -> bool:
    """Whether to keep a finished span that has its ids.

    By the trace's id, so that a trace is kept or left out as a whole and all processes
    agree on it; errors and slow spans stay in any case.
    """
    if span.end_ns - span.start_ns >= SLOW_NS:
        return True
    details = span.details
    if details is not None and details.status_code == 2:  # OTLP's STATUS_CODE_ERROR
        return True
    return not int(span.trace_id[-8:] if span.trace_id else "0", 16) % one_trace_in


def keeps_log(record: LogRecord, level: str) -> bool:
    """Whether to keep a log record; one without severity counts as a message."""
    return level not in (CRITICAL, STOP) or record.severity >= SEVERITY_MIN


def plan_relief(bundles: Sequence[BundleInfo], wanted: int) -> list[BundleInfo]:
    """Choose the sealed bundles that go, oldest first; touch nothing.

    Args:
        bundles: As listed, oldest first; those that are not sealed stay.
        wanted: Bytes to free; see ``RELIEF_SHARE`` for the bound of one look.
    """
    sealed = [bundle for bundle in bundles if bundle.sealed]
    room = min(wanted, sum(bundle.bytes + bundle.sketch_bytes for bundle in sealed) // RELIEF_SHARE)
    chosen: list[BundleInfo] = []
    freed = 0
    while len(chosen) < len(sealed) and wanted > 0 and (not chosen or freed < room):
        chosen.append(sealed[len(chosen)])
        freed += chosen[-1].bytes + chosen[-1].sketch_bytes
    return chosen
