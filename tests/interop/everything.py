"""A store that holds everything OTLP has, and what is in it.

Lines of all three signals, of several resources and scopes, with every type of attribute
and of metric, every field, and the ends of each range; in several bundles, one of them
sealed. They are as our encoder would write them, but richer than what it writes itself.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cli_running
from interop import same

SECOND_NS = 1_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROOT = "00f067aa0ba902b7"
SERVICE = "everything"

VALUES: dict[str, dict[str, Any]] = {
    "text": {"stringValue": 'Grüße, 世界 \u2028 \U0001f680 \t"quoted" \\ \x7f'},
    "text.empty": {"stringValue": ""},
    "text.long": {"stringValue": "lorem ipsum " * 500},
    "yes": {"boolValue": True},
    "no": {"boolValue": False},
    "int": {"intValue": "42"},
    "int.zero": {"intValue": "0"},
    "int.max": {"intValue": "9223372036854775807"},
    "int.min": {"intValue": "-9223372036854775808"},
    "double": {"doubleValue": 0.1},
    "double.whole": {"doubleValue": 3.0},
    "double.tiny": {"doubleValue": 5e-324},
    "double.nan": {"doubleValue": "NaN"},
    "double.infinite": {"doubleValue": "-Infinity"},
    "bytes": {"bytesValue": "AP/+AQ=="},
    "list": {
        "arrayValue": {
            "values": [{"stringValue": "a"}, {"intValue": "1"}, {"arrayValue": {"values": []}}]
        }
    },
    "list.empty": {"arrayValue": {"values": []}},
    "map": {
        "kvlistValue": {
            "values": [
                {"key": "deep", "value": {"kvlistValue": {"values": []}}},
                {"key": "flag", "value": {"boolValue": True}},
            ]
        }
    },
}


def attributes(**of: dict[str, Any]) -> list[dict[str, Any]]:
    """OTLP's list of attributes."""
    return [{"key": key, "value": value} for key, value in of.items()]


def text(value: str) -> dict[str, Any]:
    """A text as OTLP has it."""
    return {"stringValue": value}


def around(signal: str, leaves: list[dict[str, Any]], service: str = SERVICE) -> bytes:
    """One line: the leaves in two scopes of a resource."""
    resources, scopes, name = {
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
        "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    }[signal]
    resource = {"attributes": attributes(**{"service.name": text(service)})}
    scope = {"name": "lib", "version": "1.0", "attributes": attributes(kind=text("x"))}
    held = [{"scope": scope, "schemaUrl": "https://example.org/s", name: leaves[:1]}]
    if leaves[1:]:
        held.append({"scope": {"name": "other"}, name: leaves[1:]})
    line = {resources: [{"resource": resource, scopes: held}]}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def spans(now_ns: int, values: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A tree: a root that failed, children of every kind, with events and links."""
    root = {
        "traceId": TRACE,
        "spanId": ROOT,
        "traceState": "vendor=opaque,other=1",
        "flags": 0x101,
        "name": "root",
        "kind": 2,
        "startTimeUnixNano": str(now_ns),
        "endTimeUnixNano": str(now_ns + 10_000_000),
        "attributes": attributes(**values),
        "droppedAttributesCount": 3,
        "events": [
            {
                "timeUnixNano": str(now_ns + 1_000),
                "name": "retry",
                "attributes": attributes(attempt={"intValue": "2"}),
                "droppedAttributesCount": 1,
            },
            {"timeUnixNano": str(now_ns + 2_000), "name": "bare"},
        ],
        "droppedEventsCount": 4,
        "links": [
            {
                "traceId": OTHER_TRACE,
                "spanId": "00f067aa0ba902b8",
                "traceState": "vendor=linked",
                "attributes": attributes(why=text("batch")),
                "droppedAttributesCount": 2,
                "flags": 0x301,
            }
        ],
        "droppedLinksCount": 5,
        "status": {"code": 2, "message": "it broke"},
    }
    children = [
        {
            "traceId": TRACE,
            "spanId": f"{kind + 1:016x}",
            "parentSpanId": ROOT,
            "flags": 0x101,
            "name": f"child {kind}",
            "kind": kind,
            "startTimeUnixNano": str(now_ns + kind),
            "endTimeUnixNano": str(now_ns + kind + 1_000),
            "status": {"code": 1} if kind % 2 else {},
        }
        for kind in range(1, 6)
    ]
    return [root, *children]


def metrics(now_ns: int) -> list[dict[str, Any]]:
    """One of each type, with exemplars."""
    times = {"startTimeUnixNano": str(now_ns - SECOND_NS), "timeUnixNano": str(now_ns)}
    labels = {"attributes": attributes(route=text("/a"), n={"intValue": "1"})}
    exemplar = {
        "timeUnixNano": str(now_ns - 5),
        "asDouble": 0.25,
        "traceId": TRACE,
        "spanId": ROOT,
        "filteredAttributes": attributes(user=text("none")),
    }
    return [
        {
            "name": "level",
            "description": "how high",
            "unit": "m",
            "gauge": {
                "dataPoints": [
                    {**times, **labels, "asDouble": 1.5, "exemplars": [exemplar]},
                    {**times, "asInt": "-7"},
                    {**times, "flags": 1},
                ]
            },
        },
        {
            "name": "requests",
            "unit": "1",
            "sum": {
                "dataPoints": [{**times, **labels, "asInt": "9223372036854775807"}],
                "aggregationTemporality": 1,
                "isMonotonic": True,
            },
        },
        {
            "name": "duration",
            "unit": "s",
            "histogram": {
                "dataPoints": [
                    {
                        **times,
                        **labels,
                        "count": "6",
                        "sum": 2.5,
                        "bucketCounts": ["1", "2", "3"],
                        "explicitBounds": [0.1, 1.0],
                        "min": 0.01,
                        "max": 1.5,
                        "exemplars": [exemplar],
                    }
                ],
                "aggregationTemporality": 2,
            },
        },
        {
            "name": "sizes",
            "unit": "By",
            "exponentialHistogram": {
                "dataPoints": [
                    {
                        **times,
                        "count": "7",
                        "sum": 40.0,
                        "scale": -2,
                        "zeroCount": "1",
                        "zeroThreshold": 0.001,
                        "positive": {"offset": -1, "bucketCounts": ["1", "0", "3"]},
                        "negative": {"offset": 3, "bucketCounts": ["2"]},
                        "min": -3.0,
                        "max": 30.0,
                    }
                ],
                "aggregationTemporality": 1,
            },
        },
        {
            "name": "old",
            "summary": {
                "dataPoints": [
                    {
                        **times,
                        "count": "10",
                        "sum": 100.0,
                        "quantileValues": [
                            {"quantile": 0.0, "value": 1.0},
                            {"quantile": 0.99, "value": 90.0},
                        ],
                    }
                ]
            },
        },
    ]


def logs(now_ns: int, values: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Bodies of every type, one of them with all other fields."""
    whole = {
        "timeUnixNano": str(now_ns),
        "observedTimeUnixNano": str(now_ns + 100),
        "severityNumber": 17,
        "severityText": "ERROR",
        "body": text("plain text"),
        "attributes": attributes(**values),
        "droppedAttributesCount": 1,
        "flags": 1,
        "traceId": TRACE,
        "spanId": ROOT,
        "eventName": "app.failed",
    }
    others = [
        {"timeUnixNano": str(now_ns + n), "severityNumber": n % 24 + 1, "body": value}
        for n, value in enumerate(values.values())
    ]
    return [whole, *others, {"observedTimeUnixNano": str(now_ns)}]


def write(store: Path, plain_spans: int = 300, *, finite: bool = False) -> None:
    """Write it all, as of a minute ago.

    Args:
        store: The folder.
        plain_spans: How many simple ones besides, in lines of a hundred.
        finite: Leave out the numbers that JSON has no digits for.
    """
    values = {
        key: value
        for key, value in VALUES.items()
        if not finite or key not in ("double.nan", "double.infinite")
    }
    now_ns = time.time_ns() - 60 * SECOND_NS
    plain = [
        cli_running.span(f"step {n % 3}", start_ns=now_ns + n, trace=n + 1, number=n + 1)
        for n in range(plain_spans)
    ]
    lines = [
        ("traces", around("traces", spans(now_ns, values))),
        *(("traces", around("traces", plain[n : n + 100])) for n in range(0, plain_spans, 100)),
        ("metrics", around("metrics", metrics(now_ns))),
        ("metrics", around("metrics", metrics(now_ns - SECOND_NS), "elsewhere")),
        ("logs", around("logs", logs(now_ns, values))),
    ]
    cli_running.write(store, *lines)
    cli_running.write_sealed(store, ("traces", around("traces", spans(now_ns, values), "sealed")))


def stored(store: Path) -> dict[str, list[str]]:
    """What is in a store, by signal."""
    return {signal: same.from_folder(signal, store) for signal in same.SIGNALS}
