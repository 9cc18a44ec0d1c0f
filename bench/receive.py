"""What it costs to receive a span by OTLP: until it is redacted and durable in a bundle.

The receiver is a process of its own and is measured by its CPU time, all threads, sealing
included; what sends is not in it. Requests are made before any clock starts, as the SDKs
write them: of 510 spans, which is what a batch processor sends, or of 30. Four
connections send, each waits for its answer, as exporters do.

The peer is rotel, a collector in Rust, which throws away what it gets: it redacts, writes
and seals nothing.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import on_disk
from contenders import MissingError
from rows import plain_rows, rich_rows
from running import Bench, BenchError, Rounds

CASES = {
    "plain": {"native": 200, "native_json": 60, "native_grpc": 200, "rotel": 200},
    "rich": {"native": 100, "rotel": 200},
    "small": {"native": 2_000, "native_grpc": 1_000, "rotel": 2_000},
}
"""Requests of each contender."""
SPANS = {"plain": 510, "rich": 510, "small": 30}
WARM = 40
SENDERS = 4
_KINDS = 40
_START_S = 20.0
_TICK_S = 0.01
_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"
_GRPC = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure every case."""
    return {case: bench.interleave("receive", case, counts) for case, counts in CASES.items()}


def measure(case: str, contender: str, count: int, folder: str) -> dict[str, float]:
    """Start a receiver, send to it, and ask what it took; seconds and spans a second."""
    try:
        import psutil
    except ImportError as missing:
        raise MissingError("psutil") from missing
    bodies = [_request(case, number) for number in range(_KINDS)]
    content_type = _PROTOBUF
    if contender == "native_json":
        bodies, content_type = [_json(body) for body in bodies], _JSON
    port = _free_port()
    command = _rotel(port) if contender == "rotel" else _ours(contender, port, folder)
    send = _by_grpc if contender == "native_grpc" else _by_http
    environ = {**os.environ, "HOME": folder}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environ) as process:
        try:
            _wait_for(port)
            send(port, bodies, WARM, content_type)
            watched = psutil.Process(process.pid)
            before, began = _cpu_s(watched), time.perf_counter()
            _all_at_once(lambda: send(port, bodies, count // SENDERS, content_type))
            wall_s = time.perf_counter() - began
            # Systems count in ticks; a quick run may take less than one.
            cpu_s = max(_cpu_s(watched) - before, _TICK_S)
            peak = watched.memory_info().rss
        finally:
            process.terminate()
    sent = count // SENDERS * SENDERS * SPANS[case]
    if contender != "rotel":
        held = on_disk.spans(folder)
        if held != sent + WARM * SPANS[case]:
            raise BenchError(f"{contender}: {sent} spans sent, {held} on disk")
    return {
        "cpu_ns": cpu_s / sent * 1e9,
        "spans_a_core": sent / cpu_s,
        "wall_spans": sent / wall_s,
        "rss_mib": peak / 2**20,
    }


def _request(case: str, number: int) -> bytes:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
    )

    chance = random.Random(number)
    names = ("agent", "phase", "k_dense", "step")
    found: list[Any] = list(plain_rows(SPANS[case]))
    if case == "rich":
        found = list(rich_rows(SPANS[case]))
        names = ("agent", "phase", "model", "document", "k_dense", "k_sparse", "score", "distance")
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "bench"
    scope = resource.scope_spans.add()
    scope.scope.name = "bench"
    for at, row in enumerate(found):
        span = scope.spans.add()
        span.trace_id, span.span_id = chance.randbytes(16), chance.randbytes(8)
        span.parent_span_id = chance.randbytes(8)
        span.name, span.kind, span.flags = "agent.step", 1, 257
        span.start_time_unix_nano = time.time_ns() + at * 1_000
        span.end_time_unix_nano = span.start_time_unix_nano + chance.randrange(10**6)
        span.status.SetInParent()
        for name, value in zip(names, row, strict=True):
            held = span.attributes.add(key=name).value
            if isinstance(value, str):
                held.string_value = value
            elif isinstance(value, int):
                held.int_value = value
            else:
                held.double_value = value
    return request.SerializeToString()


def _json(body: bytes) -> bytes:
    """Give a request as OTLP's JSON, whose ids are hexadecimal."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
    )

    request = ExportTraceServiceRequest.FromString(body)
    document = MessageToDict(request)
    (resource,) = document["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    spans = request.resource_spans[0].scope_spans[0].spans
    for told, span in zip(scope["spans"], spans, strict=True):
        told["traceId"], told["spanId"] = span.trace_id.hex(), span.span_id.hex()
        told["parentSpanId"] = span.parent_span_id.hex()
        told["kind"] = span.kind
    return json.dumps(document, separators=(",", ":")).encode()


def _ours(contender: str, port: int, folder: str) -> list[str]:
    main = "import sys; from stack_composer.telemetry.cli.main import main; sys.exit(main())"
    http, grpc = (0, port) if contender == "native_grpc" else (port, 0)
    ports = ["--http-port", str(http), "--grpc-port", str(grpc)]
    return [sys.executable, "-c", main, "telemetry", "serve", *ports, "--dir", folder]


def _rotel(port: int) -> list[str]:
    try:
        import rotel
    except ImportError as missing:
        raise MissingError("rotel") from missing
    program = os.path.join(os.path.dirname(str(rotel.__file__)), "rotel-agent")
    ours, other = f"127.0.0.1:{port}", f"127.0.0.1:{_free_port()}"
    ends = ["--otlp-http-endpoint", ours, "--otlp-grpc-endpoint", other]
    return [program, "start", *ends, "--exporter", "blackhole"]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise BenchError("the receiver does not listen") from None
            time.sleep(0.05)
        else:
            return


def _all_at_once(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _by_http(port: int, bodies: list[bytes], count: int, content_type: str) -> None:
    head = f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        for number in range(count):
            client.sendall(requests[number % len(requests)])
            answer = client.recv(65_536)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise BenchError(f"answered {answer[:40]!r}")


def _by_grpc(port: int, bodies: list[bytes], count: int, _content_type: str) -> None:
    try:
        import grpc
    except ImportError as missing:
        raise MissingError("grpcio") from missing
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = channel.unary_unary(_GRPC)
        for number in range(count):
            export(bodies[number % len(bodies)], timeout=30)


def _cpu_s(process: Any) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
