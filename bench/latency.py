"""How long the application waits, with the writer at work beside it.

The only wall-clock figures. A producer does some 60 µs of work beside each span, for
seconds; each turn of its loop is timed. What the 99th percentile of that is, compared
with the same loop without telemetry in the same round, is what telemetry does to the
application's slow moments.
"""

from __future__ import annotations

import gc
from array import array
from time import perf_counter_ns

from contenders import Contender, make
from rows import plain_rows
from running import Bench, BenchError, Rounds

COUNTS = {"none": 40_000, "native": 40_000, "native_otel": 40_000, "sdk": 40_000}
STEPS = 2_000
"""Additions of one span's work."""


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure all in turn."""
    return {"busy": bench.interleave("latency", "busy", COUNTS)}


def measure(_case: str, contender: str, count: int, folder: str) -> dict[str, float]:
    """Measure one contender in this process: nanoseconds of a turn of the loop."""
    found = plain_rows(count)
    one = None if contender == "none" else make(contender, folder)
    _loop(one, found[:1_000])
    if one is not None:
        one.flush()
    gc.collect()
    gc.freeze()
    times = sorted(_loop(one, found))
    if one is not None:
        one.close()
        written = one.count()
        if written != count + 1_000:
            raise BenchError(f"{contender}: {count + 1_000} spans made, {written} on disk")
    return {
        "p50_ns": times[count // 2],
        "p99_ns": times[count * 99 // 100],
        "p999_ns": times[count * 999 // 1000],
    }


def _loop(one: Contender | None, found: list[tuple[str, str, int, int]]) -> array[int]:
    """Work once for each row, and make its span; give the time of each."""
    span = _nothing if one is None else one.plain
    times = array("q", bytes(8 * len(found)))
    for at, row in enumerate(found):
        before_ns = perf_counter_ns()
        _work()
        span([row])
        times[at] = perf_counter_ns() - before_ns
    return times


def _nothing(_rows: list[tuple[str, str, int, int]]) -> None:
    """Stand in for telemetry."""


def _work() -> int:
    total = 0
    for step in range(STEPS):
        total += step
    return total
