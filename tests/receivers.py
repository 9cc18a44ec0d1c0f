"""A receiver within the test's process: real sockets, real bundles, a thread for the loop."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.receive.gate import Gate
from stack_composer.telemetry.receive.http import HttpServer, Limits
from stack_composer.telemetry.receive.writing import Receiving
from stack_composer.telemetry.store.reader import list_bundles, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


class Receiver:
    """What a test asks of a receiver that runs.

    Attributes:
        port: Of HTTP, on 127.0.0.1.
        directory: The telemetry folder.
        writer: The pipeline.
    """

    def __init__(self, writer: Receiving, http: HttpServer, port: int, directory: Path) -> None:
        self.writer = writer
        self.http = http
        self.port = port
        self.directory = directory

    def post(
        self,
        path: str,
        body: bytes,
        content_type: str = PROTOBUF,
        *,
        method: str = "POST",
        **headers: str,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request on a connection of its own; headers with ``_`` for ``-``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Content-Type": content_type, **given})
            response = connection.getresponse()
            return response, response.read()

    def lines(self, signal: str) -> list[dict[str, Any]]:
        """Give the lines of one signal that are in the store now, but for our own health."""
        found = lines_in(self.directory, signal)
        return [line for line in found if b"stack_composer.telemetry" not in _bytes(line)]

    def spans(self) -> list[dict[str, Any]]:
        """Give the spans in the store."""
        return spans_of(self.lines("traces"))


def spans_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the spans of lines."""
    return [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def lines_in(directory: Path, signal: str) -> list[dict[str, Any]]:
    """Give the whole lines of one signal that a folder holds, in whatever state it is."""
    return [
        json.loads(line)
        for bundle in list_bundles(str(directory)).bundles
        if bundle.signal == signal
        for line in read_lines(bundle)
    ]


def _bytes(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode()


@contextlib.contextmanager
def receiving(directory: Path, *, token: str = "", **options: Any) -> Iterator[Receiver]:
    """Run a receiver while the block runs; options as ``configure`` takes them.

    Nothing may fail on its loop unseen: at the end that is an error.
    """
    given = {"directory": str(directory), **options}
    config = load_config(given)
    writer = Receiving(config, given)
    loop = asyncio.new_event_loop()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    gate = Gate(hosts=config.serve_hosts, origins=config.serve_origins, token=token)
    limits = Limits(
        request_bytes_max=config.serve_request_bytes_max,
        connections_max=config.serve_connections_max,
    )

    async def start() -> tuple[HttpServer, int]:
        server = HttpServer(writer.inbox, gate, limits)
        return server, await server.start("127.0.0.1", 0)

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    writer.start()
    try:
        yield Receiver(writer, server, port, directory)
    finally:
        writer.inbox.close()
        asyncio.run_coroutine_threadsafe(server.stop(2.0), loop).result(10)
        writer.stop(10.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    assert faults == []


def request_of(count: int = 1, *, name: str = "work", **attributes: str) -> bytes:
    """Give an ``ExportTraceServiceRequest`` of so many spans."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "elsewhere"
    scope = resource.scope_spans.add()
    scope.scope.name = "test"
    for number in range(count):
        span = scope.spans.add()
        span.trace_id = (number + 1).to_bytes(16, "big")
        span.span_id = (number + 1).to_bytes(8, "big")
        span.name = name
        span.start_time_unix_nano = 1_700_000_000_000_000_000 + number
        span.end_time_unix_nano = span.start_time_unix_nano + 1_000_000
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()
