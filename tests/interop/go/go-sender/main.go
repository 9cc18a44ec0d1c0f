// Program sender sends traces, metrics and logs with OpenTelemetry's SDK for Go.
//
// Usage: sender PROTOCOL ADDRESS, where PROTOCOL is http/protobuf or grpc and ADDRESS has
// host and port. It prints one JSON object: of each span its ids, its parent and its name.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otellog "go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const steps = 300

type exporters struct {
	spans   sdktrace.SpanExporter
	metrics sdkmetric.Exporter
	logs    sdklog.Exporter
}

func open(ctx context.Context, protocol, address string) (exporters, error) {
	var found exporters
	var errs [3]error
	if protocol == "grpc" {
		found.spans, errs[0] = otlptracegrpc.New(ctx,
			otlptracegrpc.WithEndpoint(address), otlptracegrpc.WithInsecure(),
			otlptracegrpc.WithCompressor("gzip"))
		found.metrics, errs[1] = otlpmetricgrpc.New(ctx,
			otlpmetricgrpc.WithEndpoint(address), otlpmetricgrpc.WithInsecure())
		found.logs, errs[2] = otlploggrpc.New(ctx,
			otlploggrpc.WithEndpoint(address), otlploggrpc.WithInsecure())
	} else {
		found.spans, errs[0] = otlptracehttp.New(ctx,
			otlptracehttp.WithEndpoint(address), otlptracehttp.WithInsecure(),
			otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		found.metrics, errs[1] = otlpmetrichttp.New(ctx,
			otlpmetrichttp.WithEndpoint(address), otlpmetrichttp.WithInsecure())
		found.logs, errs[2] = otlploghttp.New(ctx,
			otlploghttp.WithEndpoint(address), otlploghttp.WithInsecure())
	}
	return found, errors.Join(errs[:]...)
}

func sendTraces(ctx context.Context, exporter sdktrace.SpanExporter, about *resource.Resource) (tracetest.SpanStubs, error) {
	seen := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithSyncer(seen), sdktrace.WithResource(about))
	tracer := provider.Tracer("interop.tracer", trace.WithInstrumentationVersion("1.2"))
	elsewhere := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5, 6},
		TraceFlags: trace.FlagsSampled, Remote: true,
	})
	within, root := tracer.Start(ctx, "root", trace.WithSpanKind(trace.SpanKindServer))
	_, whole := tracer.Start(within, "whole",
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithLinks(trace.Link{SpanContext: elsewhere}),
		trace.WithAttributes(
			attribute.String("text", "Grüße, 世界"),
			attribute.Bool("yes", true),
			attribute.Int64("whole", 9007199254740993),
			attribute.Float64("half", 0.5),
			attribute.StringSlice("texts", []string{"a", "b"}),
		))
	whole.AddEvent("retry", trace.WithAttributes(attribute.Int("attempt", 2)))
	whole.SetStatus(codes.Error, "it broke")
	whole.End()
	for number := range steps {
		_, step := tracer.Start(within, "step")
		step.SetAttributes(attribute.Int("n", number))
		step.End()
	}
	root.End()
	err := provider.ForceFlush(ctx)
	stubs := seen.GetSpans()
	return stubs, errors.Join(err, provider.Shutdown(ctx))
}

func sendMetrics(ctx context.Context, exporter sdkmetric.Exporter, about *resource.Resource) error {
	provider := sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(time.Hour))),
		sdkmetric.WithResource(about))
	meter := provider.Meter("interop.meter")
	requests, first := meter.Int64Counter("requests")
	duration, second := meter.Float64Histogram("duration", metric.WithUnit("s"))
	for number := range 20 {
		requests.Add(ctx, 1)
		duration.Record(ctx, float64(number)/100)
	}
	return errors.Join(first, second, provider.Shutdown(ctx))
}

func sendLogs(ctx context.Context, exporter sdklog.Exporter, about *resource.Resource) error {
	provider := sdklog.NewLoggerProvider(
		sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)), sdklog.WithResource(about))
	logger := provider.Logger("interop.logger")
	for _, body := range []attribute.Value{
		attribute.StringValue("plain text"), attribute.Int64Value(42), attribute.BoolValue(true),
	} {
		record := otellog.Record{}
		record.SetTimestamp(time.Now())
		record.SetSeverity(otellog.SeverityWarn)
		record.SetBody(body)
		logger.Emit(ctx, record)
	}
	return provider.Shutdown(ctx)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	about := resource.NewSchemaless(attribute.String("service.name", "go-sender"))
	to, err := open(ctx, os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	spans, err := sendTraces(ctx, to.spans, about)
	err = errors.Join(err, sendMetrics(ctx, to.metrics, about), sendLogs(ctx, to.logs, about))
	if err != nil {
		log.Fatal(err)
	}
	told := [][4]string{}
	for _, span := range spans {
		parent := ""
		if span.Parent.HasSpanID() {
			parent = span.Parent.SpanID().String()
		}
		told = append(told, [4]string{
			span.SpanContext.TraceID().String(), span.SpanContext.SpanID().String(), parent, span.Name,
		})
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"spans": told}); err != nil {
		log.Fatal(err)
	}
}
