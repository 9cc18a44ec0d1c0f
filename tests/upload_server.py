"""A server for uploads on this computer: it keeps what comes, and answers as it is told."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stack_composer.telemetry.store.zstd import ZstdDecompressor


class Got(NamedTuple):
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    acknowledged: bool

    @property
    def body(self) -> bytes:
        """The body, unpacked."""
        packed = self.headers.get("content-encoding", "")
        if packed == "gzip" or self.path.partition("?")[0].endswith(".gz"):
            return gzip.decompress(self.raw)
        if packed == "zstd" or self.path.partition("?")[0].endswith(".zst"):
            return ZstdDecompressor().decompress(self.raw)
        return self.raw


class Answer(NamedTuple):
    """What is answered; ``status`` 0 closes the connection without a word."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


OK = Answer()
Judge = Callable[[Got], Answer]


class Server:
    """A running server.

    Attributes:
        url: Its base.
        got: What came, in order.
        judge: Says what is answered.
    """

    def __init__(self, judge: Judge) -> None:
        self.got: list[Got] = []
        self.judge = judge
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                came = Got(self.command, self.path, headers, raw, acknowledged=False)
                answer = outer.judge(came)
                outer.got.append(came._replace(acknowledged=200 <= answer.status < 300))
                if not answer.status:
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_PUT = do_POST  # noqa: N815  # the name that http.server asks for

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that was killed is none."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def taken(self) -> list[Got]:
        """The requests that were acknowledged."""
        return [got for got in self.got if got.acknowledged]


@contextlib.contextmanager
def serving(judge: Judge = lambda _got: OK) -> Iterator[Server]:
    """Run a server for a while."""
    server = Server(judge)
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    """A port of this computer on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def message_of(got: Got) -> Any:
    """What a request of OTLP/protobuf holds, by the official classes."""
    kinds: dict[str, Any] = {
        "traces": ExportTraceServiceRequest,
        "metrics": ExportMetricsServiceRequest,
        "logs": ExportLogsServiceRequest,
    }
    message = kinds[got.path.rpartition("/")[2]]()
    message.ParseFromString(got.body)
    return message


def span_ids(got: Got) -> list[str]:
    """The ids of the spans in a request of OTLP/protobuf, JSON, or of lines."""
    if got.headers["content-type"] == "application/x-protobuf":
        return [
            span.span_id.hex()
            for resource in message_of(got).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    return [found for line in got.body.splitlines() for found in line_span_ids(line)]


def line_span_ids(line: bytes) -> list[str]:
    """The ids of the spans in a line."""
    return [
        span["spanId"]
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def record_count(got: Got) -> int:
    """How many spans, points and log records a request of OTLP/protobuf holds."""
    message = message_of(got)
    if hasattr(message, "resource_spans"):
        return len(span_ids(got))
    if hasattr(message, "resource_logs"):
        return sum(
            len(scope.log_records)
            for resource in message.resource_logs
            for scope in resource.scope_logs
        )
    return sum(
        len(getattr(metric, metric.WhichOneof("data")).data_points)
        for resource in message.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
