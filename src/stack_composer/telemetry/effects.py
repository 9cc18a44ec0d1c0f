"""Time, randomness and the room on a disk: all that a test replaces.

Call these through the module (``effects.wall_ns()``), so that a test which sets
``effects.wall_ns`` is heard everywhere. Files, processes and sockets are not here:
tests use real ones.
"""

from __future__ import annotations

import os
import time

wall_ns = time.time_ns
"""Wall clock, Unix nanoseconds. It can step back; never measure a duration with it."""

monotonic_ns = time.monotonic_ns
"""Nanoseconds that never step back, from an unknown start; for durations and budgets."""


def disk_space(path: str) -> tuple[int, int] | None:
    """Free and total bytes of the disk that holds ``path``, or would: one ``statvfs``.

    Free is what this user may write. Of a path that is not there yet, its nearest
    parent is asked. None if the system does not tell.
    """
    try:
        while not os.path.lexists(path) and os.path.dirname(path) != path:
            path = os.path.dirname(path)
        if hasattr(os, "statvfs"):
            found = os.statvfs(path)
            return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        # Windows only, since it costs a small program some milliseconds.
        import shutil

        usage = shutil.disk_usage(path)
    except (OSError, ValueError):
        return None
    return usage.free, usage.total


random_bytes = os.urandom
"""``random_bytes(n)``: ``n`` bytes from the operating system, fit for ids and salts."""
