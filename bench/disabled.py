"""What a span costs where nothing is recorded, and how fast this machine is.

Ours with ``enabled = false`` beside the OpenTelemetry API without a provider. The
latter, and an empty loop, are also what figures of another machine are scaled by.
"""

from __future__ import annotations

import gc
from time import thread_time_ns

from contenders import make
from rows import plain_rows
from running import Bench, BenchError, Rounds

COUNTS = {"native_off": 200_000, "noop": 50_000}


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure both in turn."""
    return {"plain": bench.interleave("disabled", "plain", COUNTS)}


def measure(_case: str, contender: str, count: int, folder: str) -> dict[str, float]:
    """Measure one contender in this process: nanoseconds a span, and a turn of a loop."""
    found = plain_rows(count)
    one = make(contender, folder)
    one.plain(found[:1_000])
    gc.collect()
    gc.freeze()
    before_ns = thread_time_ns()
    one.plain(found)
    after_ns = thread_time_ns()
    for _ in found:
        pass
    looped_ns = thread_time_ns() - after_ns
    one.close()
    if one.count():
        raise BenchError(f"{contender}: spans on disk although nothing is recorded")
    return {"caller_ns": (after_ns - before_ns) / count, "loop_ns": looped_ns / count}
