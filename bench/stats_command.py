"""What ``stack-composer stats`` costs over a day of a million spans.

The spans are written once, by ours: sealed bundles with their sidecars. Beside it lie
the same bundles without sidecars, which have to be decoded. The peer is the loop that
one writes by hand over the official exporter's file, with the fastest JSON reader that
is installed; it reads fewer spans, and its time is scaled up: the loop is linear.
"""

from __future__ import annotations

import json
import os
import sys
from time import process_time
from typing import Any

import contenders
from contenders import make
from rows import plain_rows
from running import Bench, BenchError, Rounds

SPANS = 1_000_000
PEER_SPANS = 50_000
NAMES = ("planner.solve", "retrieval.search", "critic.score", "agent.run", "writer.draft")
COMMAND = "import sys; from stack_composer.telemetry.cli.main import main; sys.exit(main())"
_BURST = 10_000


def run(bench: Bench) -> dict[str, Rounds]:
    """Write once, then read in turn."""
    count = bench.count(SPANS)
    sealed, bare, official = (os.path.join(bench.root, n) for n in ("day", "bare", "official"))
    bench.child("stats_command", "write", "native", count, sealed)
    _without_sidecars(sealed, bare)
    found: Rounds = {"start": [], "sketches": [], "ad_hoc": [], "loop": []}
    peer = bench.child("stats_command", "write", "sdk", bench.count(PEER_SPANS), official)
    for _ in range(bench.rounds):
        found["start"].append({"cpu_s": bench.cpu_s([sys.executable, "-c", ""])})
        found["sketches"].append({"cpu_s": _stats(bench, sealed, count)})
        found["ad_hoc"].append({"cpu_s": _stats(bench, bare, count)})
        if peer is not None:
            one = bench.child("stats_command", "loop", "sdk", count, official)
            assert one is not None
            found["loop"].append(one)
    return {"day": found}


def measure(case: str, contender: str, count: int, folder: str) -> dict[str, Any]:
    """Write a day, or read one with the loop."""
    return _loop(folder, count) if case == "loop" else _write(contender, count, folder)


def _write(contender: str, count: int, folder: str) -> dict[str, Any]:
    one = make(contender, folder)
    step = min(one.pace, _BURST)
    found = plain_rows(step)
    for at in range(0, count, step):
        contenders.NAME = NAMES[at // step % len(NAMES)]
        one.plain(found[: count - at])
        one.flush()
    one.close()
    if one.count() != count:
        raise BenchError(f"{contender}: {count} spans made, {one.count()} on disk")
    return {}


def _without_sidecars(sealed: str, bare: str) -> None:
    os.mkdir(bare, 0o700)
    for name in os.listdir(sealed):
        if not name.endswith(".sketch.json"):
            os.link(os.path.join(sealed, name), os.path.join(bare, name))


def _stats(bench: Bench, folder: str, count: int) -> float:
    output = os.path.join(bench.root, "stats.json")
    command = ["stats", "--since", "24h", "--dir", folder, "--json"]
    cpu_s = bench.cpu_s([sys.executable, "-c", COMMAND, *command], output=output)
    with open(output, encoding="utf-8") as file:
        told = sum(row["count"] for row in json.load(file)["spans"])
    if told != count:
        raise BenchError(f"stats: {count} spans written, {told} told")
    return cpu_s


def _loop(folder: str, count: int) -> dict[str, Any]:
    """Do by hand what ``stats`` does for spans: count, errors and percentiles by name."""
    try:
        from orjson import loads

        reader = "orjson"
    except ImportError:
        loads, reader = json.loads, "json"
    began = process_time()
    durations: dict[str, list[int]] = {}
    errors: dict[str, int] = {}
    with open(os.path.join(folder, "traces.jsonl"), "rb") as file:
        for line in file:
            for resource in loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        name = span["name"]
                        took = int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
                        durations.setdefault(name, []).append(took)
                        if span.get("status", {}).get("code") == 2:
                            errors[name] = errors.get(name, 0) + 1
    read = sum(map(len, durations.values()))
    for some in durations.values():
        some.sort()
        _ = [some[len(some) * percent // 100] for percent in (50, 95, 99)]
    return {"cpu_s": (process_time() - began) * count / read, "reader": reader}
