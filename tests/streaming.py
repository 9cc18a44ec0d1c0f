"""Programs that stream to a server on this computer, for the tests of that."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from stack_composer import telemetry
from stack_composer.telemetry.config import Config, load_config
from stack_composer.telemetry.send.destination import destination_of
from stack_composer.telemetry.store.reader import list_bundles, read_lines
from stack_composer.telemetry.upload import consent
from stack_composer.telemetry.upload.audit import read_entries
from upload_server import Got, line_span_ids, span_ids

PROGRAM = """
import os, signal, sys, time
from stack_composer import telemetry
first, count, pause_s, end = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
for number in range(first, first + count):
    with telemetry.span(f"step {number}"):
        pass
    if pause_s:
        time.sleep(pause_s)
telemetry.flush()
print("recorded", flush=True)
if end == "wait":
    sys.stdin.readline()
"""
"""Records numbered spans, flushes, says so, and ends, or waits for a line."""


class Scene:
    """A telemetry folder and a configuration that streams to ``url``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "telemetry"
        self.path = home / "configuration" / "telemetry.toml"
        self.path.parent.mkdir(mode=0o700)

    def write(self, url: str, exporter: object, *, enabled: bool = True, rest: str = "") -> None:
        """Write the configuration."""
        listed = exporter if isinstance(exporter, list) else [exporter]
        names = ", ".join(f'"{name}"' for name in listed)
        self.path.write_text(
            f"[telemetry]\nexporter = [{names}]\nupload_enabled = {str(enabled).lower()}\n"
            f'directory = "{self.folder}"\n[otlp]\nendpoint = "{url}"\n{rest}'
        )

    @property
    def config(self) -> Config:
        """What holds."""
        return load_config({"config_path": str(self.path)}, {})

    def origin(self, purpose: str = "otlp_http") -> str:
        """To whom consent is given."""
        return destination_of(self.config, purpose, {}).origin

    def consent(self, purpose: str = "otlp_http") -> None:
        """Give the consent."""
        consent.give(self.config, self.origin(purpose), by="prompt")

    def withdraw(self) -> None:
        """Take it back."""
        consent.withdraw(self.config)

    def record(self, *names: str) -> None:
        """Record spans in this process, as it is configured, and have them written."""
        for name in names:
            with telemetry.span(name):
                pass
        telemetry.flush()

    def configure(self, **options: Any) -> None:
        """Begin to record in this process."""
        telemetry.configure(config_path=str(self.path), **options)

    def stored_ids(self, folder: Path | None = None) -> list[str]:
        """The ids of all spans in the bundles."""
        return [
            found
            for bundle in list_bundles(str(folder or self.folder)).bundles
            if bundle.signal == "traces"
            for line in read_lines(bundle)
            for found in line_span_ids(line)
        ]

    def entries(self, kind: str) -> list[Any]:
        """What the audit log has of a kind."""
        return [entry for _, entry in read_entries(str(self.folder)) if entry.entry == kind]

    def queues(self, folder: Path | None = None) -> list[Path]:
        """The queues that are there."""
        return sorted((folder or self.folder).glob("stream-*.queue"))


def ids_of(got: list[Got]) -> list[str]:
    """The ids of the spans in requests."""
    return [found for one in got if one.path.endswith("traces") for found in span_ids(one)]


def names_of(got: list[Got]) -> list[str]:
    """The names of the spans in requests of OTLP/protobuf."""
    from upload_server import message_of

    return [
        span.name
        for one in got
        if one.path.endswith("traces")
        for resource in message_of(one).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def wait_until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for something; it not being so at last is the test's failure."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


class GrpcServer:
    """A server of OTLP/gRPC.

    Attributes:
        url: Its address.
        requests: The spans' ids of each request of traces that came.
        refuse: Called with each call's context; may abort it.
    """

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.refuse: Callable[[grpc.ServicerContext], None] = lambda _context: None
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    @property
    def ids(self) -> list[str]:
        """All of them."""
        return [found for request in list(self.requests) for found in request]

    def close(self) -> None:
        """End it."""
        self._server.stop(0).wait()


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # it ships no types
    def __init__(self, server: GrpcServer) -> None:
        self._server = server

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def export(data: bytes, context: grpc.ServicerContext) -> bytes:
            self._server.refuse(context)
            if "TraceService" in details.method:
                request = ExportTraceServiceRequest.FromString(data)
                self._server.requests.append(
                    [
                        span.span_id.hex()
                        for resource in request.resource_spans
                        for scope in resource.scope_spans
                        for span in scope.spans
                    ]
                )
            return ExportTraceServiceResponse().SerializeToString()

        return grpc.unary_unary_rpc_method_handler(export)


@contextlib.contextmanager
def grpc_serving() -> Iterator[GrpcServer]:
    """Run a server of OTLP/gRPC for a while."""
    server = GrpcServer()
    try:
        yield server
    finally:
        server.close()
