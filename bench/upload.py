"""What it costs to upload a span that was kept: read, packed, sent, and written down.

A store of sealed bundles is uploaded to a server on this computer, which reads and
answers; its own cost is not in it. Start and end of the command are. The peer is the
SDK's exporter for OTLP over HTTP: what it takes to encode and to post finished spans,
from memory, in batches of 512, with nothing written down.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import perf_counter, process_time
from typing import Any, Final

from contenders import MissingError, make
from rows import plain_rows
from running import Bench, BenchError, Rounds

SPANS = 1_000_000
PEER_SPANS = 30_000
COMMAND = "import sys; from stack_composer.telemetry.cli.main import main; sys.exit(main())"
WAYS = {
    "native": ("http/protobuf", "gzip"),
    "native_plain": ("http/protobuf", "none"),
    "native_json": ("http/json", "gzip"),
}
_BATCH: Final = 512
_BURST: Final = 10_000


def run(bench: Bench) -> dict[str, Rounds]:
    """Write a store once, then upload it in turn."""
    count = bench.count(SPANS)
    folder = os.path.join(bench.root, "to-upload")
    bench.child("upload", "write", "native", count, folder)
    found: Rounds = {name: [] for name in (*WAYS, "sdk")}
    for _ in range(bench.rounds):
        for name, way in WAYS.items():
            found[name].append(_upload(bench, folder, count, way))
        one = bench.child("upload", "export", "sdk", bench.count(PEER_SPANS))
        found["sdk"] += [] if one is None else [one]
    shutil.rmtree(folder)
    return {"plain": found}


def measure(case: str, contender: str, count: int, folder: str) -> dict[str, Any]:
    """Write the store, or have the SDK's exporter send."""
    return _export(count) if case == "export" else _write(contender, count, folder)


def _write(contender: str, count: int, folder: str) -> dict[str, Any]:
    one = make(contender, folder)
    rows = plain_rows(_BURST)
    for at in range(0, count, _BURST):
        one.plain(rows[: count - at])
        one.flush()
    one.close()
    return {}


def _upload(bench: Bench, folder: str, count: int, way: tuple[str, str]) -> dict[str, float]:
    # A folder of its own: what went is remembered beside the bundles.
    scratch = bench.folder()
    os.mkdir(scratch, 0o700)
    for name in os.listdir(folder):
        os.link(os.path.join(folder, name), os.path.join(scratch, name))
    with _answering() as port:
        environ = {
            **bench.environment(),
            "STACK_COMPOSER_UPLOAD_ENDPOINT": f"http://127.0.0.1:{port}",
            "STACK_COMPOSER_UPLOAD_PROTOCOL": way[0],
            "STACK_COMPOSER_UPLOAD_COMPRESSION": way[1],
            "STACK_COMPOSER_TELEMETRY_CONFIG": os.path.join(scratch, os.pardir, "upload.toml"),
        }
        with open(environ["STACK_COMPOSER_TELEMETRY_CONFIG"], "w", encoding="utf-8") as file:
            file.write("[telemetry]\nupload_enabled = true\n")
        options = ["--since", "7d", "--signal", "traces", "--dir", scratch, "--yes", "--json"]
        began = perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "telemetry", "upload", *options],
            env=environ,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        told = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = perf_counter() - began
    shutil.rmtree(scratch)
    if process.returncode or told["records"] != count:
        raise BenchError(f"upload: {told['records']} of {count} spans")
    cpu_s = usage.ru_utime + usage.ru_stime
    return {
        "cpu_ns": cpu_s / count * 1e9,
        "wall_s": wall_s,
        "bytes_a_second": told["bytes"] / wall_s,
        "rss_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }


def _export(count: int) -> dict[str, float]:
    """Time the SDK's exporter alone; nanoseconds a span."""
    try:
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SpanExportResult
    except ImportError as missing:
        raise MissingError(str(missing.name)) from missing
    spans = []
    tracer = TracerProvider().get_tracer("bench")
    for agent, phase, k_dense, step in plain_rows(count):
        given = {"agent": agent, "phase": phase, "k_dense": k_dense, "step": step}
        with tracer.start_as_current_span("planner.solve", attributes=given) as span:
            spans.append(span)
    with _answering() as port:
        endpoint = f"http://127.0.0.1:{port}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=endpoint, compression=Compression.Gzip)
        exporter.export(spans[:_BATCH])
        began = process_time()
        for at in range(0, count, _BATCH):
            if exporter.export(spans[at : at + _BATCH]) is not SpanExportResult.SUCCESS:
                raise BenchError("the SDK's exporter could not send")
        cpu_s = process_time() - began
    return {"cpu_ns": cpu_s / count * 1e9}


@contextlib.contextmanager
def _answering() -> Iterator[int]:
    """Run a server, as a process of its own, that reads what comes and answers 200."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class _Handler(BaseHTTPRequestHandler):
    """Takes everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read all of it, then answer as OTLP wants it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"{}" if self.headers["Content-Type"] == "application/json" else b""
        self.send_response(200)
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever).start()
