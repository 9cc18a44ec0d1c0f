"""A line on the terminal that tells how far long work has come.

It appears when the work has become long, where somebody sees it, and goes when it is
done; a pipe or a log file never gets it.
"""

from __future__ import annotations

import sys
import time

from stack_composer.telemetry.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

AFTER_S = 1.0
EVERY_S = 0.1


class Progress:
    """The line; use it as a context manager, so that it always goes."""

    def __init__(self) -> None:
        self._is_seen = output.is_interactive()
        self._next_s = time.monotonic() + AFTER_S
        self._is_shown = False

    def show(self, text: str) -> None:
        """Say how far it is; cheap to call often."""
        if self._is_seen and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            self._is_shown = True
            sys.stderr.write(f"\r\x1b[K{output.fitted(text, output.columns() - 1)}")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
