"""Whether two programs hold the same records, whatever they wrote them in.

Each record becomes one text: with its resource and its scope, fields in the order of
their names, attributes by key, and nothing that is at its default, since protobuf and
JSON differ there. The official protobuf classes read both, so what they refuse is an
error here; only ids, which OTLP's JSON writes in hex, are turned for them first.
"""

from __future__ import annotations

import base64
import json
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


def from_folder(signal: str, folder: Path) -> list[str]:
    """What our bundles hold, less what our own pipeline says of itself."""
    lines = [json.dumps(line) for line in records.lines(folder, signal)]
    return [record for record in from_json(signal, lines) if not is_own(record)]


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
                yield {**metric, kind: {**metric[kind], "dataPoints": [point]}}


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_order(held) for key, held in value.items()}
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
