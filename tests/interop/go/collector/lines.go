package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
)

// otlp_lines reads files of OTLP JSON lines once, at its start, with the decoders of the
// Collector itself, and hands on what they hold. It stops the Collector at the first line
// that a decoder refuses, and says which one that is.

const lineBytesMax = 64 << 20

type linesConfig struct {
	// Include is a pattern of file names, as filepath.Glob takes it.
	Include string `mapstructure:"include"`
}

// take decodes one line and hands on what it holds.
type take func(ctx context.Context, line []byte) error

type linesReceiver struct {
	include string
	take    take
}

func newLinesFactory() receiver.Factory {
	return receiver.NewFactory(
		component.MustNewType("otlp_lines"),
		func() component.Config { return &linesConfig{} },
		receiver.WithTraces(newTraces, component.StabilityLevelDevelopment),
		receiver.WithMetrics(newMetrics, component.StabilityLevelDevelopment),
		receiver.WithLogs(newLogs, component.StabilityLevelDevelopment),
	)
}

func newTraces(
	_ context.Context, _ receiver.Settings, config component.Config, next consumer.Traces,
) (receiver.Traces, error) {
	decoder := ptrace.JSONUnmarshaler{}
	return newReceiver(config, func(ctx context.Context, line []byte) error {
		found, err := decoder.UnmarshalTraces(line)
		if err != nil {
			return err
		}
		return next.ConsumeTraces(ctx, found)
	}), nil
}

func newMetrics(
	_ context.Context, _ receiver.Settings, config component.Config, next consumer.Metrics,
) (receiver.Metrics, error) {
	decoder := pmetric.JSONUnmarshaler{}
	return newReceiver(config, func(ctx context.Context, line []byte) error {
		found, err := decoder.UnmarshalMetrics(line)
		if err != nil {
			return err
		}
		return next.ConsumeMetrics(ctx, found)
	}), nil
}

func newLogs(
	_ context.Context, _ receiver.Settings, config component.Config, next consumer.Logs,
) (receiver.Logs, error) {
	decoder := plog.JSONUnmarshaler{}
	return newReceiver(config, func(ctx context.Context, line []byte) error {
		found, err := decoder.UnmarshalLogs(line)
		if err != nil {
			return err
		}
		return next.ConsumeLogs(ctx, found)
	}), nil
}

func newReceiver(config component.Config, take take) *linesReceiver {
	return &linesReceiver{include: config.(*linesConfig).Include, take: take}
}

// Start reads everything before it returns: the exporters have started by then.
func (r *linesReceiver) Start(ctx context.Context, _ component.Host) error {
	names, err := filepath.Glob(r.include)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.read(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *linesReceiver) Shutdown(context.Context) error { return nil }

func (r *linesReceiver) read(ctx context.Context, name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 1<<16), lineBytesMax)
	number := 0
	for lines.Scan() {
		number++
		if err := r.take(ctx, lines.Bytes()); err != nil {
			return fmt.Errorf("%s: line %d: %w", filepath.Base(name), number, err)
		}
	}
	return lines.Err()
}
