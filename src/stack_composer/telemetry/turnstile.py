"""A lock whose holder can let others go first.

A plain lock is unfair: a thread that releases it and takes it again at once usually
wins over one that has waited for long. Here ``_next`` is held while waiting for
``_turn``, and who comes back in ``let_others`` has to pass ``_next`` as well.

A signal's handler, a ``__del__`` or a callback can bring a thread here that is inside
already, or waiting. So who is inside is refused at once, rather than waiting for
itself, and who is waiting waits for the turn alone. Both locks are reentrant ones only
since those know their owner, at every moment; nobody passes twice.
"""

from __future__ import annotations

from threading import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Turnstile:
    """One at a time may write; it opens between chunks."""

    def __init__(self) -> None:
        # ``_is_owned`` is not in their types; ``threading.Condition`` builds on it too.
        self._next: Any = RLock()
        self._turn: Any = RLock()

    def enter(self, timeout_s: float) -> bool:
        """Wait for the turn, -1 for ever; False if it did not come in time.

        False at once for the thread whose turn it is. The turn is not taken when the
        handler of a signal raises meanwhile.
        """
        if self.is_inside():
            return False
        try:
            if not self._next.acquire(timeout=timeout_s):
                return False
            return bool(self._turn.acquire(timeout=timeout_s))
        except BaseException:
            if self.is_inside():
                self._turn.release()
            raise
        finally:
            if self._next._is_owned():
                self._next.release()

    def is_inside(self) -> bool:
        """Tell whether it is this very thread's turn."""
        return bool(self._turn._is_owned())

    def leave(self) -> None:
        """Give the turn back."""
        self._turn.release()

    def let_others(self) -> None:
        """Give the turn to whoever waits, and wait for it again.

        What the handler of a signal raises meanwhile is raised once the turn is back:
        the caller's ``leave`` would end somebody else's otherwise.
        """
        self.leave()
        interruption: BaseException | None = None
        while not self.is_inside():
            try:
                self.enter(-1)
            except BaseException as error:  # noqa: BLE001 - raised again below
                interruption = error
        if interruption is not None:
            raise interruption
