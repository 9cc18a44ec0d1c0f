"""Time and randomness: all that a test replaces.

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

random_bytes = os.urandom
"""``random_bytes(n)``: ``n`` bytes from the operating system, fit for ids and salts."""
