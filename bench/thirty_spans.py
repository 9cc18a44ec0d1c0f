"""Thirty spans and nothing else, each way; no import but what that way needs.

Compared with a bare interpreter this is all that a program pays, with nothing shared.
"""

from __future__ import annotations

import sys


def native(folder: str, steps: int) -> None:
    """Ours, with no more set-up than a folder."""
    from stack_composer import telemetry

    telemetry.configure(directory=folder)
    for step in range(steps):
        with telemetry.span("planner.solve", step=step, phase="score"):
            pass


def native_otel(folder: str, steps: int) -> None:
    """Ours behind the OpenTelemetry API, whose import is then most of the cost."""
    from stack_composer import telemetry

    telemetry.configure(directory=folder, opentelemetry=True)
    from opentelemetry import trace

    _through_api(trace.get_tracer("bench"), steps)


def sdk(folder: str, steps: int) -> None:
    """Record by opentelemetry-sdk, batch processor and official exporter."""
    import os

    from opentelemetry import trace
    from opentelemetry.exporter.otlp.json.file import FileSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.makedirs(folder, exist_ok=True)
    provider = TracerProvider()
    exporter = FileSpanExporter(os.path.join(folder, "traces.jsonl"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    _through_api(trace.get_tracer("bench"), steps)


def logfire(folder: str, steps: int) -> None:
    """Record by logfire, sending nothing, with the same processor and exporter."""
    import os

    import logfire
    from opentelemetry.exporter.otlp.json.file import FileSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.makedirs(folder, exist_ok=True)
    exporter = FileSpanExporter(os.path.join(folder, "traces.jsonl"))
    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        service_version="1",
        additional_span_processors=[BatchSpanProcessor(exporter)],
    )
    for step in range(steps):
        with logfire.span("planner.solve", step=step, phase="score"):
            pass


def _through_api(tracer: object, steps: int) -> None:
    for step in range(steps):
        with tracer.start_as_current_span(  # type: ignore[attr-defined]
            "planner.solve", attributes={"step": step, "phase": "score"}
        ):
            pass


HOW = {"native": native, "native_otel": native_otel, "sdk": sdk, "logfire": logfire}


def main() -> None:
    """Record as ``sys.argv`` says: CONTENDER FOLDER."""
    HOW[sys.argv[1]](sys.argv[2], 30)
