"""Whether two programs hold the same records, whatever they wrote them in.

Each record becomes one text: with its resource and its scope, fields in the order of
their names, attributes by key, and nothing that is at its default, since protobuf and
JSON differ there. The official protobuf classes read both, so what they refuse is an
error here; only ids, which OTLP's JSON writes in hex, are turned for them first.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import records

SIGNALS = ("traces", "metrics", "logs")

REQUESTS: dict[str, type[Message]] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}

_NESTED = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
_IDS = ("traceId", "spanId", "parentSpanId")
_POINTS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


def from_protobuf(signal: str, body: bytes) -> list[str]:
    """The records of one request, or of a file's message: the two look alike."""
    message = REQUESTS[signal]()
    message.ParseFromString(body)
    return sorted(_records(signal, message))


def from_json(signal: str, lines: Iterable[bytes | str]) -> list[str]:
    """The records of OTLP JSON, one object a line."""
    found: list[str] = []
    for line in lines:
        message = REQUESTS[signal]()
        json_format.ParseDict(_without_hex(json.loads(line)), message)
        found += _records(signal, message)
    return sorted(found)


def from_folder(signal: str, folder: Path, *, own: bool = False) -> list[str]:
    """What our bundles hold; with ``own``, also what our pipeline says of itself."""
    lines = [json.dumps(line) for line in records.lines(folder, signal)]
    return [record for record in from_json(signal, lines) if own or not is_own(record)]


def as_stored(found: Iterable[str]) -> list[str]:
    """Records as our receiver keeps them, less what ``docs/import-export.md`` says it does not.

    Exemplars are left out, and counted. A log record that nobody says when it was observed
    was observed when it happened.
    """
    stored = []
    for text in found:
        whole = json.loads(text)
        record = whole["record"]
        if "timeUnixNano" in record:
            record.setdefault("observedTimeUnixNano", record["timeUnixNano"])
        for kind in _POINTS:
            for point in record.get(kind, {}).get("dataPoints", ()):
                point.pop("exemplars", None)
        stored.append(json.dumps(whole, sort_keys=True))
    return sorted(stored)


def is_own(record: str) -> bool:
    """Whether a record tells of our own pipeline's health."""
    return '"name": "stack_composer.telemetry' in record


def _records(signal: str, message: Message) -> Iterator[str]:
    whole = json_format.MessageToDict(message)
    resources, scopes, leaves = _NESTED[signal]
    for resource in whole.get(resources, ()):
        for scope in resource.get(scopes, ()):
            around = {
                "resource": resource.get("resource", {}),
                "resourceSchema": resource.get("schemaUrl", ""),
                "scope": scope.get("scope", {}),
                "scopeSchema": scope.get("schemaUrl", ""),
            }
            for leaf in scope.get(leaves, ()):
                for record in _points(leaf) if signal == "metrics" else (leaf,):
                    whole_record = _in_order({**around, "record": record})
                    yield json.dumps(whole_record, sort_keys=True)


def _points(metric: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each point with what its metric says, since batches are cut between points."""
    for kind in _POINTS:
        if kind in metric:
            for point in metric[kind].get("dataPoints", ()):
                told = {**point, **_buckets(point)}
                yield {**metric, kind: {**metric[kind], "dataPoints": [told]}}


def _buckets(point: dict[str, Any]) -> dict[str, dict[str, str]]:
    """An exponential histogram's buckets that count something, by their index."""
    told = {}
    for side in ("positive", "negative"):
        buckets = point.get(side, {})
        counts = enumerate(buckets.get("bucketCounts", ()), buckets.get("offset", 0))
        told[side] = {str(index): count for index, count in counts if count != "0"}
    return told


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _in_order(held)
            for key, held in value.items()
            if (key, held) not in (("status", {}), ("body", {}))
        }
    if isinstance(value, list):
        held = [_in_order(item) for item in value]
        is_attributes = all(isinstance(item, dict) and "key" in item for item in held)
        return sorted(held, key=lambda item: item["key"]) if is_attributes else held
    return value


def _without_hex(value: Any) -> Any:
    """The ids as base64, which protobuf's own JSON has for bytes."""
    if isinstance(value, list):
        return [_without_hex(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(held)).decode() if key in _IDS else _without_hex(held)
        for key, held in value.items()
    }


def different(found: list[str], wanted: list[str]) -> str:
    """What differs first, for a person to read; "" where all is the same."""
    more = sorted((Counter(found) - Counter(wanted)).elements())
    less = sorted((Counter(wanted) - Counter(found)).elements())
    if not more and not less:
        return ""
    counts = f"{len(found)} records, not {len(wanted)}; {len(more)} unknown, {len(less)} missing"
    if not more or not less:
        return f"{counts}: {(more or less)[0]}"
    ours, theirs = _leaves(json.loads(more[0])), _leaves(json.loads(less[0]))
    places = sorted(place for place in ours | theirs if ours.get(place) != theirs.get(place))
    told = (f"{place} is {ours.get(place)}, not {theirs.get(place)}" for place in places)
    return "\n  ".join([counts, *told])


def _leaves(value: Any, place: str = "") -> dict[str, Any]:
    if value in ({}, []):
        return {place: value}
    if isinstance(value, dict):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        return {place: value}
    return {k: v for key, held in pairs for k, v in _leaves(held, f"{place}/{key}").items()}
