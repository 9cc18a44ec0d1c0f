"""How long to wait before the next attempt: exponential, with jitter, as OTLP asks.

A wait is drawn anew from the whole range between nothing and the step that is reached
("full jitter"), so that many who failed at once do not come back at once. A server's own
word (Retry-After, RetryInfo) is the least that is waited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry import effects

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

FIRST_S: Final = 1.0
STEP_S_MAX: Final = 60.0


def delay_s(
    failures: int, retry_after_s: float | None = None, *, chance: Callable[[], float] | None = None
) -> float:
    """Seconds to wait after so many failures in a row.

    Args:
        failures: At least 1.
        retry_after_s: What the server asked for; never waited less.
        chance: Gives a number from 0 to 1; by default from the system's randomness.

    Returns:
        At most ``STEP_S_MAX``, or what the server asked for and up to a tenth of the step
        more: it asked others, too.

    Raises:
        ValueError: ``failures`` is less than 1.
    """
    if failures < 1:
        message = f"failures must be at least 1, not {failures}"
        raise ValueError(message)
    step = min(STEP_S_MAX, FIRST_S * 2.0 ** min(failures - 1, 16))
    drawn = (chance or _chance)() * step
    if retry_after_s is None:
        return drawn
    return max(drawn, retry_after_s + drawn / 10)


def _chance() -> float:
    # Through effects, so that a test which sets the randomness sets this too.
    return int.from_bytes(effects.random_bytes(7), "big") / 2.0**56


class Backoff:
    """Counts the failures of one destination.

    Attributes:
        failures: In a row, until now.
    """

    def __init__(self, chance: Callable[[], float] | None = None) -> None:
        self.failures = 0
        self._chance = chance

    def failed(self, retry_after_s: float | None = None) -> float:
        """Count a failure; returns the seconds to wait, as ``delay_s``."""
        self.failures += 1
        return delay_s(self.failures, retry_after_s, chance=self._chance)

    def succeeded(self) -> None:
        """Begin anew: the next failure is the first."""
        self.failures = 0
