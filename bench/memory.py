"""What a finished span holds while it waits to be written.

Python's own count of allocated bytes (tracemalloc) over spans that the writer is kept
from taking. Attribute values are shared by all of them, as texts of a program are.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from contenders import MissingError, make, official_processor
from rows import plain_rows
from running import Bench, Rounds

COUNTS = {"native": 50_000, "sdk": 10_000}
_KEPT_S = 3_600


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure both in turn."""
    return {"plain": bench.interleave("memory", "plain", COUNTS)}


def measure(_case: str, contender: str, count: int, folder: str) -> dict[str, float]:
    """Measure one contender in this process: bytes a span."""
    found = plain_rows(count)
    loop, release = HOLD[contender](folder, count)
    loop(found[:100])
    gc.collect()
    tracemalloc.start()
    loop(found)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    release()
    return {"bytes": held / count}


def native(folder: str, _count: int) -> tuple[Any, Any]:
    """Set ours up, and hold its writer back at the turnstile that all writing passes."""
    one = make("native", folder)
    one.plain(plain_rows(1))
    one.flush()
    from stack_composer.telemetry import process

    assert process.running is not None
    turnstile = process.running.turnstile
    turnstile.enter(-1)

    def release() -> None:
        turnstile.leave()
        one.close()

    return one.plain, release


def sdk(folder: str, count: int) -> tuple[Any, Any]:
    """Set the SDK up with a queue that has room for all, and no hurry."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError as error:
        raise MissingError("opentelemetry-sdk") from error
    room = 2 * count
    provider = TracerProvider()
    provider.add_span_processor(
        official_processor(
            folder,
            max_queue_size=room,
            max_export_batch_size=room,
            schedule_delay_millis=_KEPT_S * 1_000,
        )
    )
    trace.set_tracer_provider(provider)
    return make("noop", folder).plain, lambda: None


HOLD = {"native": native, "sdk": sdk}
