"""Measure what telemetry costs, ours beside the peers, in one run.

A full run takes some minutes, writes bench/results.json and docs/performance.md, and
prints the table. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import latency
import memory
import month
import month_commands
import page
import stats_command
from running import HERE, Bench, BenchError

SCENARIOS = (
    "disabled",
    "spans",
    "instruments",
    "program",
    "latency",
    "memory",
    "receive",
    "upload",
    "stream",
    "stats_command",
    "month_commands",
)
RESULTS = os.path.join(HERE, "results.json")
PAGE = os.path.join(HERE, os.pardir, "docs", "performance.md")
PACKAGES = (
    "stack-composer-telemetry",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-json-file",
    "logfire",
    "rotel",
    "orjson",
)


def main() -> int:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round of all, for tests")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="this one (repeatable)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: 5)")
    parser.add_argument(
        "--a-day",
        type=int,
        default=month_commands.A_DAY,
        metavar="N",
        help=f"spans a day of the month (default: {month_commands.A_DAY:,}; the goals are of"
        " 1,000,000, which takes four minutes and 1.5 GB, kept for the next time)",
    )
    parser.add_argument("--json", metavar="FILE", help="write what was measured there too")
    parser.add_argument(
        "--page", action="store_true", help="print docs/performance.md of the last full run"
    )
    args = parser.parse_args()
    if args.page:
        sys.stdout.write(page.page(_read(RESULTS)))
        return 0
    bench = Bench(rounds=1 if args.quick else args.rounds, quick=args.quick, a_day=args.a_day)
    try:
        results = measure(bench, args.only)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        bench.close()
    report(results, args.json, keep=not (args.quick or args.only))
    if args.quick:
        print("quick: this many spans and rounds show that the bench works, and no more")
    return 0


def measure(bench: Bench, only: list[str] | None) -> dict[str, Any]:
    """Run the scenarios, the calibration always."""
    began = time.time()
    load = os.getloadavg()[0]
    found: dict[str, Any] = {}
    for name in SCENARIOS:
        if only and name not in only and name != "disabled":
            continue
        at = time.monotonic()
        found[name] = importlib.import_module(name).run(bench)
        sys.stderr.write(f"{name}: {time.monotonic() - at:.0f} s\n")
    return {"about": about(bench, began, load), "scenarios": found}


def about(bench: Bench, began: float, load: float) -> dict[str, Any]:
    """Say where and when this was measured, and what with."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "seconds": round(time.time() - began),
        "rounds": bench.rounds,
        "quick": bench.quick,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": f"{load:.1f}",
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "sizes": {
            "work": f"{latency.STEPS:,} additions",
            "held": bench.count(memory.COUNTS["native"]),
            "held_peer": bench.count(memory.COUNTS["sdk"]),
            "day": bench.count(stats_command.SPANS),
            "month_spans": bench.count(bench.a_day),
            "month_days": month_commands.QUICK_DAYS if bench.quick else month.DAYS,
            "peer_day": bench.count(stats_command.PEER_SPANS),
            "reader": "orjson" if _version("orjson") else "the standard library's json",
        },
    }


def report(results: dict[str, Any], path: str | None, *, keep: bool) -> None:
    """Print the table; write the JSON, and the page where the run was a whole one."""
    results["calibration"] = page.calibration(results)
    results["goals"] = [
        {
            "key": verdict.goal.key,
            "what": verdict.goal.what,
            "unit": verdict.goal.unit,
            "goal": verdict.goal.goal,
            "goal_here": verdict.goal_here,
            "times": verdict.goal.times,
            "ours": verdict.ours,
            "peer": verdict.peer,
            "peer_name": verdict.goal.peer_name,
            "ratio": verdict.ratio,
            "met": verdict.met,
            "unclear": verdict.unclear,
        }
        for verdict in page.verdicts(results)
    ]
    speed = results["calibration"]
    print(page.terminal(results))
    print(
        f"calibration: empty loop {speed['loop_ns']:.1f} ns, OpenTelemetry no-op"
        f" {speed['noop_us']:.2f} µs (reference {speed['reference_noop_us']} µs)"
    )
    for place in filter(None, (path, RESULTS if keep else None)):
        with open(place, "w", encoding="utf-8") as file:
            json.dump(_rounded(results), file, indent=1, ensure_ascii=False)
            file.write("\n")
    if keep:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(page.page(_read(RESULTS)))


def _rounded(value: Any) -> Any:
    """Keep the digits that mean something, so that the file stays readable."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(some) for key, some in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(some) for some in value]
    return value


def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
        return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # Not Linux; the platform's own word will do.
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
