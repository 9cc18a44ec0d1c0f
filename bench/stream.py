"""What it costs a program to send its spans while it records, and how far behind that is.

*cost*: a program records spans as fast as it can, in bursts, and ends when all have
arrived; its CPU time, all threads, less that of the same program which only keeps them.
*delay*: a program records 500 spans a second for some seconds; from the end of a span
until the server has it.

Ours keeps the spans in redacted bundles too. The peer is the SDK with its batch
processor and its exporter for OTLP over HTTP, all defaults, which keeps nothing.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

from contenders import MissingError
from rows import plain_rows
from running import Bench, BenchError, Rounds

COSTS = {"none": 60_000, "native": 60_000, "native_json": 60_000, "sdk": 10_000}
DELAYS = {"native": 2_000, "native_json": 2_000, "sdk": 2_000}
PACE_S: Final = 0.002
_BURST: Final = 1_000
_WAIT_S: Final = 60.0


def run(bench: Bench) -> dict[str, Rounds]:
    """Measure both."""
    return {
        "cost": bench.interleave("stream", "cost", COSTS),
        "delay": bench.interleave("stream", "delay", DELAYS),
    }


def measure(case: str, contender: str, count: int, folder: str) -> dict[str, float]:
    """Be the server, and have a program send."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    command = [sys.executable, __file__, case, contender, str(count), folder, endpoint]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline().strip() != "recorded":
        process.wait()
        if process.returncode == _MISSING:
            raise MissingError(contender)
        raise BenchError(f"{contender}: the program failed")
    until = time.monotonic() + _WAIT_S
    while contender != "none" and len(_Handler.delays_ns) < count:
        if time.monotonic() > until:
            raise BenchError(f"{contender}: {len(_Handler.delays_ns)} of {count} spans arrived")
        time.sleep(0.01)
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or (contender != "none" and len(_Handler.delays_ns) != count):
        raise BenchError(f"{contender}: {len(_Handler.delays_ns)} of {count} spans arrived")
    delays = sorted(_Handler.delays_ns) or [0]
    return {
        "cpu_ns": (usage.ru_utime + usage.ru_stime) / count * 1e9,
        "p50_ns": delays[len(delays) // 2],
        "p99_ns": delays[len(delays) * 99 // 100],
    }


class _Handler(BaseHTTPRequestHandler):
    """Takes all, and notes how old each span is that it has not seen."""

    protocol_version = "HTTP/1.1"
    delays_ns: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        """Read, answer, then look."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        now_ns = time.time_ns()
        kind = self.headers["Content-Type"]
        answer = b"{}" if kind == "application/json" else b""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        if self.path == "/v1/traces":
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            self.delays_ns.extend(now_ns - end_ns for end_ns in _ends(body, kind))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _ends(body: bytes, kind: str) -> list[int]:
    if kind == "application/json":
        return [
            int(span["endTimeUnixNano"])
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return [
        span.end_time_unix_nano
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


# -- the program ---------------------------------------------------------------------------

_MISSING: Final = 3


def program(case: str, contender: str, count: int, folder: str, endpoint: str) -> int:
    """Record, say so, and wait until whoever watches has seen all of it."""
    try:
        record, flush = _sdk(endpoint) if contender == "sdk" else _ours(contender, folder, endpoint)
    except ImportError:
        return _MISSING
    for at, row in enumerate(plain_rows(count)):
        record(*row)
        if case == "delay":
            time.sleep(PACE_S)
        elif at % _BURST == _BURST - 1:
            flush()
    print("recorded", flush=True)
    sys.stdin.read()
    return 0


def _ours(contender: str, folder: str, endpoint: str) -> tuple[Any, Any]:
    from stack_composer import telemetry
    from stack_composer.telemetry.config import load_config
    from stack_composer.telemetry.upload import consent

    options: dict[str, Any] = {"directory": folder, "config_path": f"{folder}.toml"}
    if contender != "none":
        options |= {"exporter": ["file", "otlp_http"], "upload_enabled": True}
        options |= {"otlp_endpoint": endpoint}
        options["otlp_protocol"] = "http/json" if contender == "native_json" else "http/protobuf"
        consent.give(load_config(options), endpoint, by="--yes")
    telemetry.configure(**options)

    def record(agent: str, phase: str, k_dense: int, step: int) -> None:
        with telemetry.span("step", agent=agent, phase=phase, k_dense=k_dense, step=step):
            pass

    return record, lambda: None


def _sdk(endpoint: str) -> tuple[Any, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", compression=Compression.Gzip)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")

    def record(agent: str, phase: str, k_dense: int, step: int) -> None:
        given = {"agent": agent, "phase": phase, "k_dense": k_dense, "step": step}
        with tracer.start_as_current_span("step", attributes=given):
            pass

    # Its queue holds 2,048 spans; beyond that it would drop them.
    return record, provider.force_flush


if __name__ == "__main__":
    sys.exit(program(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
