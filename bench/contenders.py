"""Who is measured: each way of recording a span, set up as its documentation says.

A contender is used in a process of its own: ``start`` once, then ``loop`` over bursts
of rows, ``flush`` in between so that no queue overflows, and ``close``. ``pace`` says
after how many spans its queue wants to be flushed. The loops are written out for each
one, as an application would write them: they are what is measured.

Each contender imports what it needs when it starts, so that no process holds the
packages of another one.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import on_disk

NAME = "planner.solve"


class MissingError(Exception):
    """A package of a peer is not installed; its column stays empty."""


class Contender:
    """What all have in common: a folder, and counting what came to be in it."""

    pace = 16_000

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def start(self) -> None:
        """Set up; not measured."""

    def plain(self, rows: list[Any]) -> None:
        """Make a span of four attributes of each row."""
        raise NotImplementedError

    def rich(self, rows: list[Any]) -> None:
        """Make a span of eight attributes of each row."""
        raise NotImplementedError

    def flush(self) -> None:
        """Have all that was recorded written to the file."""

    def close(self) -> None:
        """Flush and end."""

    def count(self) -> int | None:
        """Count the spans on disk; None for one that writes none."""
        return on_disk.spans(self.folder)


class Native(Contender):
    """Ours, by ``telemetry.span``."""

    options: ClassVar[dict[str, Any]] = {}

    def start(self) -> None:
        """Configure a folder."""
        from stack_composer import telemetry

        telemetry.configure(directory=self.folder, **self.options)

    def plain(self, rows: list[Any]) -> None:
        """Make a span of four attributes of each row."""
        from stack_composer import telemetry

        for agent, phase, k_dense, step in rows:
            with telemetry.span(NAME, agent=agent, phase=phase, k_dense=k_dense, step=step):
                pass

    def rich(self, rows: list[Any]) -> None:
        """Make a span of eight attributes of each row."""
        from stack_composer import telemetry

        for agent, phase, model, document, k_dense, k_sparse, score, distance in rows:
            with telemetry.span(
                NAME,
                agent=agent,
                phase=phase,
                model=model,
                document=document,
                k_dense=k_dense,
                k_sparse=k_sparse,
                score=score,
                distance=distance,
            ):
                pass

    def flush(self) -> None:
        """Flush, which ours makes durable as well: it waits for the disk."""
        from stack_composer import telemetry

        telemetry.flush()

    def close(self) -> None:
        """Shut down: what is open is sealed."""
        from stack_composer import telemetry

        telemetry.shutdown()


class NativeOff(Native):
    """Ours with ``enabled = false``."""

    options: ClassVar[dict[str, Any]] = {"enabled": False}

    def count(self) -> int | None:
        """Nothing may be on disk."""
        return on_disk.spans(self.folder) if os.path.isdir(self.folder) else 0


class NativeMapping(Native):
    """Ours, with the attributes in a mapping, as dotted names need it."""

    def plain(self, rows: list[Any]) -> None:
        """Make a span of four attributes of each row."""
        from stack_composer import telemetry

        for agent, phase, k_dense, step in rows:
            with telemetry.span(
                NAME, {"agent": agent, "phase": phase, "k_dense": k_dense, "step": step}
            ):
                pass


class OpenTelemetry(Contender):
    """The API of OpenTelemetry, whoever stands behind it; by itself it does nothing."""

    tracer: Any

    def start(self) -> None:
        """Take a tracer of whatever provider there is."""
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise MissingError("opentelemetry-api") from error
        self.tracer = trace.get_tracer("bench")

    def plain(self, rows: list[Any]) -> None:
        """Make a span of four attributes of each row."""
        tracer = self.tracer
        for agent, phase, k_dense, step in rows:
            with tracer.start_as_current_span(
                NAME,
                attributes={"agent": agent, "phase": phase, "k_dense": k_dense, "step": step},
            ):
                pass

    def rich(self, rows: list[Any]) -> None:
        """Make a span of eight attributes of each row."""
        tracer = self.tracer
        for agent, phase, model, document, k_dense, k_sparse, score, distance in rows:
            with tracer.start_as_current_span(
                NAME,
                attributes={
                    "agent": agent,
                    "phase": phase,
                    "model": model,
                    "document": document,
                    "k_dense": k_dense,
                    "k_sparse": k_sparse,
                    "score": score,
                    "distance": distance,
                },
            ):
                pass

    def count(self) -> int | None:
        """Without a provider nothing is written."""
        return None


class OursThroughApi(OpenTelemetry):
    """Ours as OpenTelemetry's provider."""

    def start(self) -> None:
        """Install ours, then take a tracer."""
        from stack_composer import telemetry

        telemetry.configure(directory=self.folder, opentelemetry=True)
        super().start()

    flush = Native.flush
    close = Native.close
    count = Contender.count


class Sdk(OpenTelemetry):
    """opentelemetry-sdk, batch processor, official JSON file exporter; all defaults."""

    pace = 1_000  # the queue holds 2,048

    def start(self) -> None:
        """Set the provider up, with a file of its own."""
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.trace import TracerProvider
        except ImportError as error:
            raise MissingError("opentelemetry-sdk") from error
        self.provider = TracerProvider()
        self.provider.add_span_processor(official_processor(self.folder))
        trace.set_tracer_provider(self.provider)
        super().start()

    def flush(self) -> None:
        """Wait for the batch processor."""
        self.provider.force_flush()

    def close(self) -> None:
        """Shut down: the file is closed."""
        self.provider.shutdown()

    count = Contender.count


class Logfire(Contender):
    """logfire, sending nothing, with the same exporter behind the same processor."""

    pace = 1_000

    def start(self) -> None:
        """Configure without network, console and metrics."""
        try:
            import logfire
        except ImportError as error:
            raise MissingError("logfire") from error
        self.logfire = logfire.configure(
            send_to_logfire=False,
            console=False,
            metrics=False,
            # Otherwise a git process is asked for it.
            service_version="1",
            additional_span_processors=[official_processor(self.folder)],
        )

    def plain(self, rows: list[Any]) -> None:
        """Make a span of four attributes of each row."""
        import logfire

        for agent, phase, k_dense, step in rows:
            with logfire.span(NAME, agent=agent, phase=phase, k_dense=k_dense, step=step):
                pass

    def rich(self, rows: list[Any]) -> None:
        """Make a span of eight attributes of each row."""
        import logfire

        for agent, phase, model, document, k_dense, k_sparse, score, distance in rows:
            with logfire.span(
                NAME,
                agent=agent,
                phase=phase,
                model=model,
                document=document,
                k_dense=k_dense,
                k_sparse=k_sparse,
                score=score,
                distance=distance,
            ):
                pass

    def flush(self) -> None:
        """Wait for the batch processor."""
        self.logfire.force_flush()

    def close(self) -> None:
        """Shut down: the file is closed."""
        self.logfire.shutdown()


def official_processor(folder: str, **options: Any) -> Any:
    """Make the batch processor with the official file exporter behind it."""
    try:
        from opentelemetry.exporter.otlp.json.file import FileSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingError("opentelemetry-exporter-otlp-json-file") from error
    os.makedirs(folder, exist_ok=True)
    return BatchSpanProcessor(FileSpanExporter(os.path.join(folder, "traces.jsonl")), **options)


CONTENDERS: dict[str, type[Contender]] = {
    "native": Native,
    "native_mapping": NativeMapping,
    "native_off": NativeOff,
    "native_otel": OursThroughApi,
    "noop": OpenTelemetry,
    "sdk": Sdk,
    "logfire": Logfire,
}


def make(name: str, folder: str) -> Contender:
    """Give the started contender of this name.

    Raises:
        MissingError: A package that it needs is not installed.
    """
    contender = CONTENDERS[name](folder)
    contender.start()
    return contender
