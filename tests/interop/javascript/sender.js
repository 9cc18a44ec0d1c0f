// Send traces, metrics and logs with OpenTelemetry's SDK for JavaScript.
//
// Usage: sender.js PROTOCOL URL, where PROTOCOL is http/protobuf, http/json or grpc and URL
// the base address. Prints one JSON object: of each span its ids, its parent and its name.
"use strict";

const api = require("@opentelemetry/api");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const trace = require("@opentelemetry/sdk-trace-base");
const metrics = require("@opentelemetry/sdk-metrics");
const logs = require("@opentelemetry/sdk-logs");

const STEPS = 300;
const NEVER_MS = 3_600_000;
const FORMS = { "http/protobuf": "proto", "http/json": "http", grpc: "grpc" };

function exporter(signal, name, protocol, url) {
  const made = require(`@opentelemetry/exporter-${signal}-otlp-${FORMS[protocol]}`);
  const path = { trace: "traces" }[signal] ?? signal;
  return new made[name]({
    url: protocol === "grpc" ? url : `${url}/v1/${path}`,
    compression: "gzip",
  });
}

async function sendTraces(to, resource) {
  const seen = new trace.InMemorySpanExporter();
  const provider = new trace.BasicTracerProvider({
    resource,
    spanProcessors: [new trace.SimpleSpanProcessor(seen), new trace.BatchSpanProcessor(to)],
  });
  const tracer = provider.getTracer("interop.tracer", "1.2");
  const root = tracer.startSpan("root", { kind: api.SpanKind.SERVER });
  const within = api.trace.setSpan(api.ROOT_CONTEXT, root);
  const whole = tracer.startSpan(
    "whole",
    {
      kind: api.SpanKind.CLIENT,
      links: [{ context: { traceId: "1".repeat(32), spanId: "2".repeat(16), traceFlags: 1 } }],
      attributes: { text: "Grüße, 世界", yes: true, whole: 2 ** 40, half: 0.5, texts: ["a", "b"] },
    },
    within,
  );
  whole.addEvent("retry", { attempt: 2 });
  whole.setStatus({ code: api.SpanStatusCode.ERROR, message: "it broke" });
  whole.end();
  for (let number = 0; number < STEPS; number += 1) {
    tracer.startSpan("step", { attributes: { n: number } }, within).end();
  }
  root.end();
  const told = seen.getFinishedSpans().map((span) => [
    span.spanContext().traceId,
    span.spanContext().spanId,
    span.parentSpanContext?.spanId ?? "",
    span.name,
  ]);
  await provider.shutdown();
  return told;
}

async function sendMetrics(to, resource) {
  const reader = new metrics.PeriodicExportingMetricReader({
    exporter: to,
    exportIntervalMillis: NEVER_MS,
  });
  const provider = new metrics.MeterProvider({ resource, readers: [reader] });
  const meter = provider.getMeter("interop.meter");
  const requests = meter.createCounter("requests");
  const duration = meter.createHistogram("duration", { unit: "s" });
  for (let number = 0; number < 20; number += 1) {
    requests.add(1);
    duration.record(number / 100);
  }
  await provider.shutdown();
}

async function sendLogs(to, resource) {
  const processor = new logs.BatchLogRecordProcessor({ exporter: to });
  const provider = new logs.LoggerProvider({ resource, processors: [processor] });
  const logger = provider.getLogger("interop.logger");
  for (const body of ["plain text", 42, true]) {
    logger.emit({ severityNumber: 13, body });
  }
  await provider.shutdown();
}

async function main(protocol, url) {
  const resource = resourceFromAttributes({ "service.name": "node-sender" });
  const made = (signal, name) => exporter(signal, name, protocol, url);
  const spans = await sendTraces(made("trace", "OTLPTraceExporter"), resource);
  await sendMetrics(made("metrics", "OTLPMetricExporter"), resource);
  await sendLogs(made("logs", "OTLPLogExporter"), resource);
  console.log(JSON.stringify({ spans }));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
