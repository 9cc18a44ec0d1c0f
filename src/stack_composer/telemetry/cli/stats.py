"""Show what happened: counts, rates, errors and percentiles, by name.

Percentiles are within 1.1 %. Rates are counts over the window: from the later of
--since and the first record, to --until or now (with FILE, to the last record), but
a minute at least.
"""

from __future__ import annotations

import os
import time

from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import add_folder, add_window
from stack_composer.telemetry.query.aggregate import Summary
from stack_composer.telemetry.query.collect import collect
from stack_composer.telemetry.query.duration import (
    age_text,
    duration_text,
    utc_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from stack_composer.telemetry.query.aggregate import MetricRow, SpanRow
    from stack_composer.telemetry.query.collect import Collected
    from stack_composer.telemetry.store.reader import BundleInfo

SINCE_DEFAULT = "24h"

JSON_KEYS = {
    "window": "since and until (UTC; null: no limit), and its length in seconds",
    "spans": "for each name: name, count, errors, per_minute,"
    " mean_ms, min_ms, max_ms, p50_ms, p95_ms, p99_ms",
    "metrics": "for each name and kind: name, kind, unit, labels (null without --labels), count,"
    " total, mean, min, max, p50, p95, per_minute, last, last_time",
    "logs": "log records by level",
    "bundles": "directory, count, bytes, oldest; of all that is kept, whatever the window",
    "redacted": "what the guard took out, by rule",
    "dropped": "records that were lost, by reason",
    "faults": "failures of our own, by place",
    "refused_lines": "lines that are no OTLP",
    "oddities": "what reading had to mend or leave out, by kind",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The window, the folder, and files instead of it."""
    add_window(parser, since=None, default_text=f"{SINCE_DEFAULT}; with FILE everything")
    add_folder(parser)
    parser.add_argument("--labels", action="store_true", help="a row for each set of labels")
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="OTLP JSON files to read instead of the folder"
    )


def run(args: argparse.Namespace) -> int:
    """Collect the window and print it."""
    now_ns = effects.wall_ns()
    since_text = args.since or (None if args.files else SINCE_DEFAULT)
    since_ns, until_ns = places.window(since_text, args.until, now_ns=now_ns)
    sources: list[BundleInfo | str] = []
    if args.files:
        folder, bundles = None, []
        sources += [places.absolute(file, "FILE") for file in args.files]
    else:
        from stack_composer.telemetry.store.reader import list_bundles

        folder = places.folder_of(args)
        bundles = list_bundles(folder).bundles
        sources += bundles
    found = collect(sources, since_ns=since_ns, until_ns=until_ns)
    # Files are of any age: their window ends with them.
    end_ns = until_ns or (found.sketch.last_ns if args.files else now_ns)
    summary = Summary(found.sketch, since_ns=since_ns, until_ns=end_ns, by_labels=args.labels)
    if args.json:
        kept = {
            "directory": folder,
            "count": len(bundles),
            "bytes": sum(bundle.bytes for bundle in bundles),
            "oldest": utc_text(bundles[0].created_ns) if bundles else None,
        }
        window = {
            "since": utc_text(since_ns) if since_ns else None,
            "until": utc_text(until_ns) if until_ns else None,
            "seconds": round(summary.seconds, 3),
        }
        output.print_json(_as_json(summary, found, window, kept))
        return 0
    _print_window(since_text, args.until, since_ns, until_ns)
    _print(summary)
    if folder is not None:
        _print_kept(folder, bundles, now_ns)
    _print_health(summary, found)
    return 0


def _as_json(
    summary: Summary, found: Collected, window: dict[str, Any], kept: dict[str, Any]
) -> dict[str, Any]:
    return {
        "window": window,
        "spans": [_span_json(row, summary) for row in summary.spans],
        "metrics": [_metric_json(row, summary) for row in summary.metrics],
        "logs": summary.logs,
        "bundles": kept,
        "redacted": summary.redacted,
        "dropped": summary.dropped,
        "faults": summary.faults,
        "refused_lines": found.refusals.count,
        "oddities": {name: count for name, count in sorted(found.oddities.items()) if count},
    }


def _span_json(row: SpanRow, summary: Summary) -> dict[str, Any]:
    return {
        "name": row.name,
        "count": row.count,
        "errors": row.errors,
        "per_minute": _figures(summary.per_minute(row.count)),
        "mean_ms": _milliseconds(row.mean),
        "min_ms": _milliseconds(row.minimum),
        "max_ms": _milliseconds(row.maximum),
        "p50_ms": _milliseconds(row.p50),
        "p95_ms": _milliseconds(row.p95),
        "p99_ms": _milliseconds(row.p99),
    }


def _metric_json(row: MetricRow, summary: Summary) -> dict[str, Any]:
    counted = row.total if row.kind == "sum" else row.count
    return {
        "name": row.name,
        "kind": row.kind,
        "unit": row.unit,
        "labels": None if row.labels is None else dict(row.labels),
        "count": row.count,
        "total": row.total,
        "mean": _figures(row.mean),
        "min": row.minimum,
        "max": row.maximum,
        "p50": _figures(row.p50),
        "p95": _figures(row.p95),
        "per_minute": _figures(summary.per_minute(counted)),
        "last": row.last,
        "last_time": utc_text(row.last_ns) if row.last_ns else None,
    }


def _milliseconds(length_ns: float | None) -> float | None:
    return None if length_ns is None else _figures(length_ns / 1e6)


def _figures(value: float | None) -> float | None:
    """Six figures: what is within 1.1 % needs no sixteen, and a mean no more."""
    return None if value is None else float(f"{value:.6g}")


def _print_window(
    since_text: str | None, until_text: str | None, since_ns: int, until_ns: int
) -> None:
    if since_text is None and until_text is None:
        output.say("all that was recorded")
        return
    words = []
    if since_ns:
        words.append(f"since {_local_text(since_ns)} ({since_text})")
    if until_ns:
        words.append(f"until {_local_text(until_ns)} ({until_text})")
    output.say(" ".join(words) or "all that was recorded")


def _local_text(time_ns: int) -> str:
    """A moment on the reader's own clock, to the minute."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_ns // 1_000_000_000))
    except (OverflowError, ValueError, OSError):
        return utc_text(time_ns)


def _print(summary: Summary) -> None:
    if summary.spans:
        output.say()
        output.table(
            ("span", "count", "errors", "per min", "p50", "p95", "p99"),
            [_span_cells(row, summary) for row in summary.spans],
        )
    values = [row for row in summary.metrics if row.kind != "sum"]
    if values:
        output.say()
        output.table(
            ("metric", "count", "mean", "p50", "p95", "last"),
            [
                (
                    _metric_name(row),
                    f"{row.count:,}",
                    *(output.number_text(v) for v in (row.mean, row.p50, row.p95, row.last)),
                )
                for row in values
            ],
        )
    counters = [row for row in summary.metrics if row.kind == "sum"]
    if counters:
        output.say()
        output.table(
            ("counter", "total", "per min"),
            [
                (
                    _metric_name(row),
                    output.number_text(row.total),
                    output.rate_text(summary.per_minute(row.total)),
                )
                for row in counters
            ],
        )
    output.say()
    if not (summary.spans or summary.metrics or summary.logs):
        output.say("nothing was recorded in this time")
    if summary.logs:
        output.facts("logs", _listed(summary.logs))


def _span_cells(row: SpanRow, summary: Summary) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.count:,}",
        f"{row.errors:,}",
        output.rate_text(summary.per_minute(row.count)),
        *("-" if p is None else duration_text(p) for p in (row.p50, row.p95, row.p99)),
    )


def _metric_name(row: MetricRow) -> str:
    unit = f" [{row.unit}]" if row.unit and row.unit != "1" else ""
    if not row.labels:
        return row.name + unit
    return row.name + "{" + ",".join(f"{key}={value}" for key, value in row.labels) + "}" + unit


def _print_kept(folder: str, bundles: list[BundleInfo], now_ns: int) -> None:
    text = "nothing"
    if bundles:
        size = output.bytes_text(sum(bundle.bytes for bundle in bundles))
        age = age_text(now_ns - bundles[0].created_ns)
        text = f"{size} in {output.counted(len(bundles), 'bundle')}, oldest {age}"
    output.facts("kept", f"{text}, in {folder}{os.sep}")


def _print_health(summary: Summary, found: Collected) -> None:
    output.facts("redacted", _listed(summary.redacted) or "nothing")
    output.facts("dropped", _listed(summary.dropped) or "nothing")
    if summary.faults:
        output.facts("faults", _listed(summary.faults))
    if found.refusals.count:
        output.facts("refused", f"{output.counted(found.refusals.count, 'line')} of no OTLP")
        for text in found.refusals.first[:3]:
            output.facts("", text)
    odd = {name.replace("_", " "): count for name, count in found.oddities.items() if count}
    if odd:
        output.facts("mended", _listed(odd))


def _listed(counts: Mapping[str, int]) -> str:
    """``12 (email 10, jwt 2)``, or ``10 email`` when there is but one kind."""
    parts = [f"{name} {count:,}" for name, count in counts.items()]
    if len(parts) < 2:
        return "".join(parts)
    return f"{sum(counts.values()):,} ({', '.join(parts)})"
