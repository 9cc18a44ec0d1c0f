"""What it costs a program to stream its spans, and how far a stream is behind.

One program records spans for some seconds, and ends; its CPU is that of the whole process,
with its start, its end and the file, and what a program with the file alone takes is the
first contender. Another one records a span each few milliseconds, and the server, a process
of its own on this computer, compares the ends of spans with when they came.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from running import Bench, BenchError, Rounds

SPANS = 100_000
DELAY_SPANS = 1_000
WAYS: Final = {
    "file": ("file", "", ""),
    "protobuf": ("otlp_http", "http/protobuf", "gzip"),
    "protobuf_plain": ("otlp_http", "http/protobuf", "none"),
    "json": ("otlp_http", "http/json", "gzip"),
    "json_plain": ("otlp_http", "http/json", "none"),
    "grpc": ("otlp_grpc", "grpc", "gzip"),
    "grpc_plain": ("otlp_grpc", "grpc", "none"),
}

PROGRAM: Final = """
import sys, time
from stack_composer import telemetry
count, burst, pause_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
for first in range(0, count, burst):
    for number in range(first, min(first + burst, count)):
        given = {"agent": "planner", "phase": "search", "k_dense": 64, "step": number % 64}
        with telemetry.span("planner.solve", **given):
            pass
    time.sleep(pause_s)
"""


def run(bench: Bench) -> dict[str, Rounds]:
    """Stream in each way in turn; then measure the delay."""
    count, few = bench.count(SPANS), bench.count(DELAY_SPANS)
    cost: Rounds = {name: [] for name in WAYS}
    delay: Rounds = {"json_plain": []}
    for _ in range(bench.rounds):
        for name, way in WAYS.items():
            cost[name].append(_stream(bench, way, count, burst=2_000, pause_s=0.1))
        delay["json_plain"].append(_stream(bench, WAYS["json_plain"], few, burst=1, pause_s=0.005))
    return {"cost": cost, "delay": delay}


def _stream(
    bench: Bench, way: tuple[str, str, str], count: int, *, burst: int, pause_s: float
) -> dict[str, float]:
    exporter, protocol, compression = way
    scratch = bench.folder()
    os.makedirs(os.path.join(scratch, "configuration"), mode=0o700)
    config = os.path.join(scratch, "configuration", "telemetry.toml")
    with _answering() as (http_port, grpc_port):
        port = grpc_port if protocol == "grpc" else http_port
        exporters = '"file"' if exporter == "file" else f'"file", "{exporter}"'
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f"[telemetry]\nexporter = [{exporters}]\nupload_enabled = true\n"
                f'directory = "{scratch}/telemetry"\n[otlp]\nclose_s_max = 60.0\n'
                f'endpoint = "http://127.0.0.1:{port}"\n'
            )
            if protocol:
                file.write(f'protocol = "{protocol}"\ncompression = "{compression}"\n')
        environ = {**bench.environment(), "STACK_COMPOSER_TELEMETRY_CONFIG": config}
        _consent(config, port)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(count), str(burst), str(pause_s)], env=environ
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        found = json.load(urllib.request.urlopen(f"http://127.0.0.1:{http_port}/"))
    shutil.rmtree(scratch)
    if process.returncode or (protocol and not found["requests"]):
        raise BenchError("stream: the program failed, or nothing came")
    told = {
        "cpu_ns": (usage.ru_utime + usage.ru_stime) / count * 1e9,
        "requests": float(found["requests"]),
    }
    delays = sorted(found["delays_s"])
    if delays:
        if len(delays) != count:
            raise BenchError(f"stream: {len(delays)} of {count} spans came")
        told |= {
            "delay_s": delays[len(delays) // 2],
            "delay_p99_s": delays[len(delays) * 99 // 100],
            "delay_max_s": delays[-1],
        }
    return told


def _consent(config: str, port: int) -> None:
    from stack_composer.telemetry.config import load_config
    from stack_composer.telemetry.upload import consent

    found = load_config({"config_path": config}, {})
    consent.give(found, f"http://127.0.0.1:{port}", by="prompt")


@contextmanager
def _answering() -> Iterator[tuple[int, int]]:
    """Run a server, as a process of its own, that reads what comes and answers."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ports = process.stdout.readline().split()
            yield int(ports[0]), int(ports[1])
        finally:
            process.terminate()


_came: list[tuple[int, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    """Takes everything, and tells what came."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Read all of it, then answer as OTLP wants it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"] == "application/json"
        if self.path == "/v1/traces":
            is_plain = is_json and not self.headers["Content-Encoding"]
            _came.append((time.time_ns(), body if is_plain else b""))
        self._answer(b"{}" if is_json else b"", self.headers["Content-Type"])

    def do_GET(self) -> None:
        """Tell how many requests came, and how long after their spans' ends."""
        delays = [
            (came_ns - int(span["endTimeUnixNano"])) / 1e9
            for came_ns, body in _came
            if body
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
        told = json.dumps({"requests": len(_came), "delays_s": delays})
        self._answer(told.encode(), "application/json")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _serve() -> None:
    import grpc  # type: ignore[import-untyped]  # it ships no types

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # it ships no types
        def service(self, details: Any) -> Any:
            def export(_data: bytes, _context: Any) -> bytes:
                if "TraceService" in details.method:
                    _came.append((time.time_ns(), b""))
                return b""

            return grpc.unary_unary_rpc_method_handler(export)

    calls = grpc.server(futures.ThreadPoolExecutor(2))
    calls.add_generic_rpc_handlers((Handler(),))
    grpc_port = calls.add_insecure_port("127.0.0.1:0")
    calls.start()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], grpc_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve()
