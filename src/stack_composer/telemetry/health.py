"""What the pipeline says of itself: losses, redactions and faults, as metrics.

They are ordinary delta sums in the metrics bundles (docs/decisions/0004), so ``stats``
and ``doctor`` of another process see them. Counts only ever grow; what could not be
written is told with the next line that can.
"""

from __future__ import annotations

from stack_composer.telemetry.model import Metric, NumberPoint, Scope
from stack_composer.telemetry.record import recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from stack_composer.telemetry.guard.engine import Guard

    Counts: TypeAlias = dict[tuple[str, str, str], int]
    """By what ("dropped", "redacted", "faults", ...) and the values of its attributes."""

SCOPE = Scope("stack_composer.telemetry")
_ATTRIBUTES = {
    "dropped": ("signal", "reason"),
    "redacted": ("rule", "action"),
    "faults": ("where",),
    "pressure": ("step",),
    "judged": (),
    "hit": ("rule",),
}

_told: Counts = {}
"""What this process has written already."""


def count(guard: Guard | None) -> Counts:
    """Add up what happened so far in this process, and in ``guard`` since it was made."""
    counts: Counts = {}
    for (signal, reason), number in list(recorder.dropped.items()):
        counts["dropped", signal, reason] = number
    for where, number in list(recorder.faults.items()):
        counts["faults", where, ""] = number
    for what, number in list(recorder.steps.items()):
        counts["pressure", what, ""] = number
    if guard is not None:
        for (rule, action), number in list(guard.tally.counts.items()):
            counts["redacted", rule, action] = number
        if guard.tally.faults:
            counts["faults", "guard", ""] = guard.tally.faults
        for rule, number in list(guard.tally.hits.items()):
            counts["hit", rule, ""] = number
        if guard.tally.hits:
            # Only then is it asked for: a program without hits writes no metrics for it.
            counts["judged", "", ""] = guard.tally.judged
    return counts


def untold(counts: Counts, now_ns: int) -> list[Metric]:
    """Give the metrics that tell what ``counts`` has beyond what was written."""
    return [
        _metric(*key, number - _told.get(key, 0), now_ns)
        for key, number in counts.items()
        if number > _told.get(key, 0)
    ]


def tell(counts: Counts) -> None:
    """Note that ``counts`` are written."""
    _told.update(counts)


def forget_guard() -> None:
    """Note that a new guard begins to count from nothing."""
    ours = ("redacted", "judged", "hit")
    for key in [key for key in _told if key[0] in ours or key[1] == "guard"]:
        del _told[key]


def forget() -> None:
    """Note that a new process begins to count from nothing."""
    _told.clear()


def _metric(what: str, first: str, second: str, increment: int, now_ns: int) -> Metric:
    attributes = dict(zip(_ATTRIBUTES[what], (first, second), strict=False))
    point = NumberPoint(attributes, 0, now_ns, increment)
    return Metric(f"{SCOPE.name}.{what}", "sum", [point], SCOPE, monotonic=True)
