"""A lock whose holder can let others go first.

A plain lock is unfair: a thread that releases it and takes it again at once usually
wins over one that has waited for long. Here ``_next`` is held while waiting for
``_turn``, and who comes back in ``let_others`` has to pass ``_next`` as well.
"""

from __future__ import annotations

import threading


class Turnstile:
    """One at a time may write; it opens between chunks."""

    def __init__(self) -> None:
        self._next = threading.Lock()
        self._turn = threading.Lock()

    def enter(self, timeout_s: float) -> bool:
        """Wait for the turn, -1 for ever; False if it did not come in time."""
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
