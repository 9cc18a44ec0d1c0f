"""What a counter, a histogram and a gauge cost: one call, and all in all until on disk.

Ours are bound: name and attributes are given once. OpenTelemetry has no such thing,
so its calls give the attributes each time, as they must.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from time import process_time_ns, thread_time_ns
from typing import Any

import on_disk
from contenders import MissingError
from running import Bench, BenchError, Rounds

CASES = ("counter", "histogram", "gauge")
COUNTS = {"native": 400_000, "native_otel": 40_000, "sdk": 40_000}
LABELS = {"agent": "planner", "phase": "score"}
NAME = "critic.value"
BURST = 10_000
PACE = 100_000


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure each instrument."""
    return {case: bench.interleave("instruments", case, COUNTS) for case in CASES}


def measure(case: str, contender: str, count: int, folder: str) -> dict[str, float]:
    """Measure one contender in this process; nanoseconds a call."""
    make_loop, flush, close = SET_UP[contender](folder)
    loop = make_loop(case)
    loop(range(1_000))
    flush()
    bursts = [range(at, min(at + BURST, count)) for at in range(0, count, BURST)]
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
        if unflushed >= PACE:
            flush()
            unflushed = 0
    flush()
    written_ns = process_time_ns()
    close()
    # Of a gauge only the last value is kept.
    expected = count - 1 if case == "gauge" else count + 1_000
    written = on_disk.amounts(folder).get(NAME)
    if written != expected:
        raise BenchError(f"{contender} {case}: {expected} expected, {written} on disk")
    return {"caller_ns": caller_ns / count, "total_ns": (written_ns - began_ns) / count}


Loop = Callable[[range], None]
SetUp = tuple[Callable[[str], Loop], Callable[[], Any], Callable[[], Any]]


def native(folder: str) -> SetUp:
    """Set ours up, bound."""
    from stack_composer import telemetry

    telemetry.configure(directory=folder)
    return _bound_loop, telemetry.flush, telemetry.shutdown


def native_otel(folder: str) -> SetUp:
    """Set ours up as OpenTelemetry's provider."""
    from stack_composer import telemetry

    telemetry.configure(directory=folder, opentelemetry=True)
    return _api_loop, telemetry.flush, telemetry.shutdown


def sdk(folder: str) -> SetUp:
    """Set opentelemetry-sdk up with the periodic reader and the official exporter."""
    try:
        from opentelemetry import metrics
        from opentelemetry.exporter.otlp.json.file import FileMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    except ImportError as error:
        raise MissingError("opentelemetry-exporter-otlp-json-file") from error
    os.makedirs(folder)
    exporter = FileMetricExporter(os.path.join(folder, "metrics.jsonl"))
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
    metrics.set_meter_provider(provider)
    return _api_loop, provider.force_flush, provider.shutdown


SET_UP: dict[str, Callable[[str], SetUp]] = {
    "native": native,
    "native_otel": native_otel,
    "sdk": sdk,
}


def _bound_loop(case: str) -> Loop:
    from stack_composer import telemetry

    if case == "counter":
        hits = telemetry.counter(NAME, LABELS)

        def count(burst: range) -> None:
            for _ in burst:
                hits.add(1)

        return count
    if case == "histogram":
        waits = telemetry.histogram(NAME, LABELS)

        def record(burst: range) -> None:
            for value in burst:
                waits.record(value)

        return record
    level = telemetry.gauge(NAME, LABELS)

    def set_level(burst: range) -> None:
        for value in burst:
            level.set(value)

    return set_level


def _api_loop(case: str) -> Loop:
    from opentelemetry import metrics

    meter = metrics.get_meter("bench")
    if case == "counter":
        hits = meter.create_counter(NAME)

        def count(burst: range) -> None:
            for _ in burst:
                hits.add(1, {"agent": "planner", "phase": "score"})

        return count
    if case == "histogram":
        waits = meter.create_histogram(NAME)

        def record(burst: range) -> None:
            for value in burst:
                waits.record(value, {"agent": "planner", "phase": "score"})

        return record
    level = meter.create_gauge(NAME)

    def set_level(burst: range) -> None:
        for value in burst:
            level.set(value, {"agent": "planner", "phase": "score"})

    return set_level
