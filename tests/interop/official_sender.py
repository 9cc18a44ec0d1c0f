"""Send traces, metrics and logs with the official SDK and its exporters.

Usage: ``official_sender.py PROTOCOL URL FILE SIGNAL ...``

PROTOCOL is ``http/protobuf``, ``http/json`` or ``grpc``; URL the base address. FILE gets,
by signal, the requests as the official protobuf encoder writes them, in base64: what has
to arrive. The texts hold no secret, but for one that ``SECRET`` in the environment gives.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import (
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

ROOM = "opentelemetry.exporter.otlp."
MODULES = {"http/protobuf": "proto.http", "http/json": "json.http", "grpc": "proto.grpc"}
EXPORTERS = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
ENCODERS: dict[str, Callable[[Any], Any]] = {
    "traces": encode_spans,
    "metrics": encode_metrics,
    "logs": encode_logs,
}
SPANS = 700
"""More than one batch of the SDK's."""
NEVER_MS = 3_600_000

sent: dict[str, list[str]] = {"traces": [], "metrics": [], "logs": []}


def exporter(protocol: str, url: str, signal: str) -> Any:
    """The official exporter, which also notes what it is given and must succeed."""
    module, name = EXPORTERS[signal]
    official: Any = getattr(importlib.import_module(f"{ROOM}{MODULES[protocol]}.{module}"), name)

    class Noting(official):  # type: ignore[misc]  # the class is found at run time
        def export(self, batch: Any, *args: Any, **named: Any) -> Any:
            body = ENCODERS[signal](batch).SerializeToString()
            sent[signal].append(base64.b64encode(body).decode())
            result = super().export(batch, *args, **named)
            if result.name != "SUCCESS":
                sys.exit(f"{signal} by {protocol}: {result}")
            return result

    if protocol == "grpc":
        return Noting(endpoint=url, insecure=True)
    return Noting(endpoint=f"{url}/v1/{signal}")


def send_traces(made: Any, resource: Resource) -> None:
    """A tree of spans with all that a span can have, and many plain ones."""
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(made, schedule_delay_millis=NEVER_MS))
    tracer = provider.get_tracer("interop.tracer", "1.2", "https://example.org/schema")
    elsewhere = SpanContext(
        0x0AF7651916CD43DD8448EB211C80319C,
        0x00F067AA0BA902B7,
        is_remote=True,
        trace_flags=TraceFlags(1),
        trace_state=TraceState([("vendor", "opaque")]),
    )
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER) as root:
        root.set_attribute("note", os.environ.get("SECRET", "nothing"))
        with tracer.start_as_current_span(
            "whole",
            kind=SpanKind.CLIENT,
            links=[Link(elsewhere, {"why": "batch"})],
            attributes={
                "text": "Grüße, 世界",
                "yes": True,
                "whole": 9_007_199_254_740_993,
                "half": 0.5,
                "texts": ["a", "b"],
                "numbers": [1, 2],
                "halves": [0.5, 1.5],
                "flags": [True, False],
            },
        ) as span:
            span.add_event("retry", {"attempt": 2})
            span.set_status(Status(StatusCode.ERROR, "it broke"))
        for number in range(SPANS):
            with tracer.start_as_current_span("step") as span:
                span.set_attribute("n", number)
                if number % 7 == 0:
                    span.set_status(Status(StatusCode.OK))
    provider.shutdown()


def send_metrics(made: Any, resource: Resource) -> None:
    """One instrument of each kind, with exemplars."""
    reader = PeriodicExportingMetricReader(made, export_interval_millis=NEVER_MS)
    view = View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource=resource, views=[view])
    meter = provider.get_meter("interop.meter", "1.2")
    counter = meter.create_counter("requests", unit="1", description="how many")
    waiting = meter.create_up_down_counter("waiting")
    duration = meter.create_histogram("duration", unit="s")
    sizes = meter.create_histogram("sizes", unit="By")
    level = meter.create_gauge("level")
    span = trace.NonRecordingSpan(
        SpanContext(0xABCDEF, 0x1234, is_remote=False, trace_flags=TraceFlags(1))
    )
    with trace.use_span(span):
        for number in range(20):
            counter.add(1, {"route": f"/{number % 3}"})
            waiting.add(-number)
            duration.record(number / 100)
            sizes.record(2.0**number)
            level.set(number / 2)
    provider.shutdown()


def send_logs(made: Any, resource: Resource) -> None:
    """Records with bodies of several types."""
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(made, schedule_delay_millis=NEVER_MS))
    logger = provider.get_logger("interop.logger", "1.2")
    bodies: list[Any] = ["plain text", 42, 0.5, True, ["a", 1], {"nested": {"deep": [1, "x"]}}]
    for number, body in enumerate(bodies):
        logger.emit(
            timestamp=1_764_000_000_000_000_000 + number,
            observed_timestamp=1_764_000_000_000_000_100 + number,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body=body,
            attributes={"n": number},
            event_name="interop.event" if number % 2 else None,
        )
    provider.shutdown()


def main(protocol: str, url: str, path: str, *signals: str) -> None:
    """Send, one signal after the other."""
    resource = Resource({"service.name": "official-sender", "service.version": "3"})
    senders = {"traces": send_traces, "metrics": send_metrics, "logs": send_logs}
    for signal in signals:
        senders[signal](exporter(protocol, url, signal), resource)
    Path(path).write_text(json.dumps(sent))


if __name__ == "__main__":
    main(*sys.argv[1:])
