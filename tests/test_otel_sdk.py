"""Programs that run opentelemetry-sdk: what it recorded stands in our bundles, guarded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import otel_children
import records
from stack_composer import telemetry
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.sdk import (
    TelemetryLogExporter,
    TelemetryMetricExporter,
    TelemetrySpanExporter,
)

EMAIL = "jane.doe" + chr(64) + "corp.example"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A pipeline of its own that lets a test see faults of our code."""

    def raise_it(error: Exception) -> None:
        raise error

    recorder.resource, recorder.written_resource = {}, None
    telemetry.configure(tmp_path / "telemetry", on_internal_error=raise_it)
    yield tmp_path / "telemetry"
    telemetry.shutdown()
    recorder.resource, recorder.written_resource = {}, None


def tracer_of(**resource: Any) -> tuple[TracerProvider, trace.Tracer]:
    """The official SDK, with our exporter."""
    provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(TelemetrySpanExporter()))
    return provider, provider.get_tracer("lib", "1.0", "https://example.org/schema", {"x": 1})


def test_a_span_of_the_sdk_is_written_whole_and_guarded(folder: Path) -> None:
    _, tracer = tracer_of()
    far = trace.SpanContext(
        0xA,
        0xB,
        is_remote=True,
        trace_flags=trace.TraceFlags(1),
        trace_state=trace.TraceState.from_header(["k=v"]),
    )
    context = trace.set_span_in_context(trace.NonRecordingSpan(far))
    with tracer.start_as_current_span(
        "outer",
        context,
        trace.SpanKind.SERVER,
        {"n": 1, "list": ["a", "b"], "mail": EMAIL},
        [trace.Link(far, {"l": 1})],
    ) as outer:
        outer.add_event("event", {"e": EMAIL}, 1_700_000_000_000_000_000)
        outer.set_status(trace.StatusCode.ERROR, f"for {EMAIL}")
        with tracer.start_as_current_span("inner") as inner:
            pass
    telemetry.flush()
    found = {span["name"]: span for span in records.spans(folder)}
    line = found["outer"]
    assert line["traceId"] == f"{0xA:032x}"
    assert line["spanId"] == f"{outer.get_span_context().span_id:016x}"
    assert line["parentSpanId"] == f"{0xB:016x}"
    assert line["traceState"] == found["inner"]["traceState"] == "k=v"
    assert line["kind"] == 2
    assert line["attrs"]["n"] == 1
    assert line["attrs"]["list"] == ["a", "b"]
    assert line["status"]["code"] == 2
    assert line["events"][0]["timeUnixNano"] == "1700000000000000000"
    assert line["links"][0]["spanId"] == f"{0xB:016x}"
    assert (int(line["startTimeUnixNano"]), int(line["endTimeUnixNano"])) == (
        outer.start_time,  # type: ignore[attr-defined]
        outer.end_time,  # type: ignore[attr-defined]
    )
    assert found["inner"]["parentSpanId"] == line["spanId"]
    assert found["inner"]["spanId"] == f"{inner.get_span_context().span_id:016x}"
    (scope,) = {s["scope"] for s in found.values()}
    assert scope == "lib"
    assert EMAIL not in "".join(p.read_text() for p in folder.glob("*.jsonl"))


def test_native_spans_and_the_sdks_nest_and_share_a_trace(tmp_path: Path) -> None:
    otel_children.run(
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from stack_composer import telemetry
        from stack_composer.telemetry.record.sdk import TelemetrySpanExporter
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(TelemetrySpanExporter()))
        trace.set_tracer_provider(provider)
        tracer = trace.get_tracer("theirs")
        with tracer.start_as_current_span("theirs"):
            with telemetry.span("native"):
                with tracer.start_as_current_span("theirs in native"):
                    telemetry.log("info", "hello")
        """,
        tmp_path,
    )
    spans = {span["name"]: span for span in records.spans(tmp_path)}
    assert spans["native"]["parentSpanId"] == spans["theirs"]["spanId"]
    assert spans["theirs in native"]["parentSpanId"] == spans["native"]["spanId"]
    assert len({span["traceId"] for span in spans.values()}) == 1
    (log,) = records.logs(tmp_path)
    assert log["spanId"] == spans["theirs in native"]["spanId"]


def test_what_a_batch_processor_holds_at_the_end_is_written(tmp_path: Path) -> None:
    """A program that never flushes, with batches, and a reader that waits a minute."""
    otel_children.run(
        """
        from opentelemetry import _logs, metrics, trace
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from stack_composer.telemetry.record import sdk
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(sdk.TelemetrySpanExporter()))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(
            MeterProvider([PeriodicExportingMetricReader(sdk.TelemetryMetricExporter())])
        )
        logs = LoggerProvider()
        logs.add_log_record_processor(BatchLogRecordProcessor(sdk.TelemetryLogExporter()))
        _logs.set_logger_provider(logs)
        for number in range(20):
            trace.get_tracer("t").start_span(f"span {number}").end()
        metrics.get_meter("m").create_counter("counter").add(2)
        _logs.get_logger("l").emit(body="log")
        """,
        tmp_path,
    )
    assert len(records.spans(tmp_path)) == 20
    assert len(records.logs(tmp_path)) == 1
    assert [m["name"] for m in records.metrics(tmp_path)] == ["counter"]


def test_the_sdk_finds_our_exporters_by_its_own_variables(tmp_path: Path) -> None:
    """What `opentelemetry-instrument` and every distribution of the SDK do at the start."""
    otel_children.run(
        """
        from opentelemetry.sdk._configuration import _OTelSDKConfigurator
        _OTelSDKConfigurator().configure()
        from opentelemetry import _logs, metrics, trace
        trace.get_tracer("t").start_span("span").end()
        metrics.get_meter("m").create_counter("counter").add(2)
        _logs.get_logger("l").emit(body="log")
        """,
        tmp_path,
        **{f"OTEL_{s}_EXPORTER": "stack_composer" for s in ("TRACES", "METRICS", "LOGS")},
    )
    assert [span["name"] for span in records.spans(tmp_path)] == ["span"]
    assert [metric["name"] for metric in records.metrics(tmp_path)] == ["counter"]
    assert len(records.logs(tmp_path)) == 1


def test_the_first_resource_joins_ours_and_another_ones_differences_go_to_the_scope(
    folder: Path,
) -> None:
    _, first = tracer_of(**{"service.name": "shop", "deployment.environment": "test"})
    _, second = tracer_of(**{"service.name": "warehouse", "deployment.environment": "test"})
    first.start_span("of the first").end()
    second.start_span("of the second").end()
    telemetry.flush()
    lines = records.lines(folder, "traces")
    resource = records.attributes(lines[0]["resourceSpans"][0]["resource"])
    assert resource["service.name"] == "shop"
    assert resource["deployment.environment"] == "test"
    assert resource["telemetry.sdk.name"] == "stack-composer-telemetry"
    scopes = {
        span["name"]: records.attributes(scope["scope"])
        for line in lines
        for scope in line["resourceSpans"][0]["scopeSpans"]
        for span in scope["spans"]
    }
    assert scopes["of the first"] == {"x": 1}
    assert scopes["of the second"] == {"x": 1, "service.name": "warehouse"}


def test_a_resource_that_comes_late_is_told_by_the_scope(folder: Path) -> None:
    with telemetry.span("native, first"):
        pass
    telemetry.flush()
    _, tracer = tracer_of(**{"service.name": "shop"})
    tracer.start_span("late").end()
    telemetry.flush()
    (scope,) = [
        scope["scope"]
        for line in records.lines(folder, "traces")
        for scope in line["resourceSpans"][0]["scopeSpans"]
        if scope["spans"][0]["name"] == "late"
    ]
    assert {"x": 1, "service.name": "shop"}.items() <= records.attributes(scope).items()


def test_the_sdks_word_for_an_unknown_service_is_not_taken_over(folder: Path) -> None:
    telemetry.configure(folder, service_name="known")
    recorder.written_resource = None  # earlier tests' losses may have been written
    _, tracer = tracer_of(region="north")
    tracer.start_span("span").end()
    telemetry.flush()
    resource = records.spans(folder)[0]["resource"]
    assert (resource["service.name"], resource["region"]) == ("known", "north")


def test_what_the_sdk_dropped_is_told(folder: Path) -> None:
    provider = TracerProvider(
        span_limits=SpanLimits(max_span_attributes=1, max_events=1, max_links=1),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SimpleSpanProcessor(TelemetrySpanExporter()))
    links = [trace.Link(trace.SpanContext(1, number, is_remote=True)) for number in range(1, 5)]
    with provider.get_tracer("t").start_as_current_span("span", links=links) as span:
        for number in range(3):
            span.set_attribute(str(number), number)
            span.add_event(str(number))
    telemetry.flush()
    (line,) = records.spans(folder)
    counts = [line[f"dropped{what}Count"] for what in ("Attributes", "Events", "Links")]
    assert counts == [2, 2, 3]


def test_logs_of_the_sdk(folder: Path) -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(TelemetryLogExporter()))
    logger = provider.get_logger("lib", "1")
    _, tracer = tracer_of()
    with tracer.start_as_current_span("span") as span:
        logger.emit(
            body=f"to {EMAIL}",
            severity_number=SeverityNumber.ERROR,
            attributes={"a": 1},
            event_name="event",
            timestamp=1_700_000_000_000_000_000,
        )
    telemetry.flush()
    (log,) = records.logs(folder)
    assert log["spanId"] == f"{span.get_span_context().span_id:016x}"
    assert log["severityNumber"] == 17
    assert log["attrs"] == {"a": 1}
    assert log["eventName"] == "event"
    assert log["timeUnixNano"] == "1700000000000000000"
    assert EMAIL not in str(log)


def test_metrics_of_the_sdk(folder: Path) -> None:
    reader = PeriodicExportingMetricReader(TelemetryMetricExporter())
    bounds = ExplicitBucketHistogramAggregation([0, 10, 100])
    provider = MeterProvider(
        [reader],
        views=[View(instrument_name="with.bounds", aggregation=bounds)],
        shutdown_on_exit=False,
    )
    meter = provider.get_meter("lib", "1")
    meter.create_counter("counter", "By").add(3, {"mail": EMAIL})
    meter.create_up_down_counter("updown").add(-3)
    meter.create_gauge("gauge").set(1.5)
    for value in (1.0, 2.0, 4.0):
        meter.create_histogram("histogram").record(value)
    for value in (0.0, 5.0, 7.0, 50.0, 1000.0):
        meter.create_histogram("with.bounds").record(value)
    provider.force_flush()
    provider.shutdown()
    telemetry.flush()
    found = {m["name"]: m for m in records.metrics(folder) if m["scope"] == "lib"}
    assert found["counter"]["sum"]["aggregationTemporality"] == 1
    assert found["counter"]["sum"]["isMonotonic"] is True
    assert found["counter"]["sum"]["dataPoints"][0]["asInt"] == "3"
    assert found["updown"]["sum"]["aggregationTemporality"] == 2
    assert found["gauge"]["gauge"]["dataPoints"][0]["asDouble"] == 1.5
    point = found["histogram"]["exponentialHistogram"]["dataPoints"][0]
    assert (point["count"], point["sum"], point["min"], point["max"]) == ("3", 7.0, 1.0, 4.0)
    assert point["scale"] == 5
    assert sum(map(int, point["positive"]["bucketCounts"])) == 3
    point = found["with.bounds"]["exponentialHistogram"]["dataPoints"][0]
    assert (point["count"], point["sum"], point["min"], point["max"]) == ("5", 1062, 0, 1000)
    assert sum(map(int, point["positive"]["bucketCounts"])) == 4
    assert point["zeroCount"] == "1"
    assert EMAIL not in "".join(p.read_text() for p in folder.glob("*.jsonl"))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("exporter", [TelemetrySpanExporter, TelemetryLogExporter])
def test_a_record_that_cannot_be_read_is_dropped_and_counted(exporter: Any) -> None:
    before = sum(recorder.dropped.values())
    assert exporter().export([object(), None]).name == "SUCCESS"
    assert sum(recorder.dropped.values()) - before == 2


def test_force_flush_is_durable(folder: Path) -> None:
    exporter = TelemetrySpanExporter()
    _, tracer = tracer_of()
    tracer.start_span("span").end()
    assert exporter.force_flush()
    assert len(records.spans(folder)) == 1


def test_nothing_is_taken_while_recording_is_off(folder: Path) -> None:
    _, tracer = tracer_of()
    telemetry.configure(folder, enabled=False)
    tracer.start_span("span").end()
    assert recorder.spans == []
