"""What a span costs: its caller, and all in all until it is on disk.

The caller's is the producing thread's CPU time over bursts of spans. The total is the
process's, all threads, from the first span on: until all is written, and until all is
sealed too (ours only: zstd and sidecar). Set-up and the first spans, which import
what is needed, are not in it; ``program`` measures those.
"""

from __future__ import annotations

import gc
from time import process_time_ns, thread_time_ns
from typing import Any

import on_disk
import rows
from contenders import Contender, make
from running import Bench, BenchError, Rounds

# Ours stay below one bundle (32 MiB), so that nothing is sealed before the end.
WARM = 1_000
BURST = 1_000
CASES = {
    "plain": {
        "native": 60_000,
        "native_mapping": 60_000,
        "native_otel": 60_000,
        "noop": 60_000,
        "sdk": 16_000,
        "logfire": 6_000,
    },
    "rich": {
        "native": 40_000,
        "native_otel": 40_000,
        "noop": 40_000,
        "sdk": 12_000,
        "logfire": 4_000,
    },
    "leaky": {"native": 60_000},
}
MAKE = {"plain": rows.plain_rows, "rich": rows.rich_rows, "leaky": rows.leaky_rows}


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure every case."""
    return {case: bench.interleave("spans", case, counts) for case, counts in CASES.items()}


def measure(case: str, contender: str, count: int, folder: str) -> dict[str, float]:
    """Measure one contender in this process; nanoseconds and bytes a span."""
    found: Any = MAKE[case](WARM + count)
    one = make(contender, folder)
    loop = one.rich if case == "rich" else one.plain
    loop(found[:WARM])
    one.flush()
    bursts = [found[at : at + BURST] for at in range(WARM, WARM + count, BURST)]
    # What the rows cost the garbage collector is not the contender's.
    gc.collect()
    gc.freeze()
    caller_ns = 0
    unflushed = 0
    began_ns = process_time_ns()
    for burst in bursts:
        before_ns = thread_time_ns()
        loop(burst)
        caller_ns += thread_time_ns() - before_ns
        unflushed += len(burst)
        if unflushed >= one.pace:
            one.flush()
            unflushed = 0
    one.flush()
    written_ns = process_time_ns()
    open_bytes = on_disk.sizes(folder)["open"] if one.count() is not None else 0
    closing_ns = process_time_ns()
    one.close()
    sealed_ns = process_time_ns() - closing_ns + written_ns
    return {
        "caller_ns": caller_ns / count,
        "total_ns": (written_ns - began_ns) / count,
        "sealed_ns": (sealed_ns - began_ns) / count,
        "open_bytes": open_bytes / (WARM + count),
        **_checked(one, case, WARM + count),
    }


def _checked(one: Contender, case: str, count: int) -> dict[str, float]:
    """Compare what is on disk with what was made."""
    written = one.count()
    if written is None:
        return {}
    if written != count:
        raise BenchError(f"{type(one).__name__}: {count} spans made, {written} on disk")
    if case == "leaky":
        redacted = on_disk.occurrences(one.folder, b"[redacted:")
        if redacted != rows.leaks(count):
            raise BenchError(f"{rows.leaks(count)} secrets, {redacted} redacted")
    sizes = on_disk.sizes(one.folder)
    return {"sealed_bytes": sizes["sealed"] / count, "sidecar_bytes": sizes["sidecar"]}
