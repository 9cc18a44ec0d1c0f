"""The programs that the tests of interoperation speak with: found, built, started, ended.

rotel comes with the development packages. The Collector, Jaeger and a program with the SDK
for Go are built from ``tests/interop/go/``, one with the SDK for JavaScript from
``tests/interop/javascript/``, where ``go.sum`` and ``package-lock.json`` hold the hash of
every source, into a folder of caches outside of the checkout; ``make interop`` does it.
Tempo is under a licence that nothing of is brought in here: one that is on the ``PATH`` is
used.

What is missing has a reason, and a test that needs it skips with that. Everything
listens on 127.0.0.1, on ports that were free, and is ended by its process id.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import pytest

from interop import same

HERE = Path(__file__).resolve().parent
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "stack-composer-telemetry"
    / "interop"
)
"""Read at import: each test has a home of its own."""
GO = {
    "collector": ".",
    "jaeger": "github.com/jaegertracing/jaeger/cmd/jaeger",
    "go-sender": ".",
}
"""What is built with Go, from the folder of the same name: the package."""
JAVASCRIPT = "javascript-sender"
START_S_MAX = 30.0
WAIT_S_MAX = 30.0
PATHS = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}

Value = TypeVar("Value")


class MissingError(Exception):
    """A peer is not on this machine; the message says why, and how to get it."""


# -- found and built -------------------------------------------------------------------


def find(name: str) -> Path:
    """Where the program of a peer is.

    Raises:
        MissingError: It is nowhere.
    """
    if name == "rotel":
        return _find_rotel()
    if name == "tempo":
        return _find_on_path(name)
    path = built(name)
    if not path.exists():
        raise MissingError(f"{name} is not built on this machine: 'make interop' builds it")
    return path


def sources(name: str) -> Path:
    """The folder that a peer is built from."""
    return HERE / ("javascript" if name == JAVASCRIPT else f"go/{name}")


def built(name: str) -> Path:
    """Where a peer of these very sources is, or would be; others are not used."""
    told = hashlib.sha256()
    for path in sorted(sources(name).iterdir()):
        told.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    made = CACHE / f"{name}-{told.hexdigest()[:12]}"
    if name == JAVASCRIPT:
        return made / "sender.js"
    return made.with_suffix(".exe") if os.name == "nt" else made


def build(name: str) -> Path:
    """Build a peer, unless these very sources were built before.

    Raises:
        MissingError: What builds it is not here, or cannot.
    """
    path = built(name)
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            if name == JAVASCRIPT:
                _build_javascript(Path(unfinished) / "made").replace(path.parent)
            else:
                _build_go(name, Path(unfinished) / "made").replace(path)
    return path


def _build_go(name: str, made: Path) -> Path:
    command = [_tool("go", name), "build", "-trimpath", "-buildvcs=false", "-mod=readonly"]
    command += ["-p=1", "-ldflags=-s -w", "-o", str(made), GO[name]]
    _run(command, sources(name), f"go cannot build {name}")
    return made


def _build_javascript(made: Path) -> Path:
    shutil.copytree(sources(JAVASCRIPT), made)
    command = [_tool("npm", JAVASCRIPT), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    _run(command, made, f"npm cannot fetch what {JAVASCRIPT} needs")
    return made


def _tool(tool: str, name: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise MissingError(f"{name} is built with {tool}, which is not on the PATH")
    return path


def _run(command: list[str], folder: Path, trouble: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{trouble}: {(done.stderr.splitlines() or [''])[0]}")


PINNED = {
    "jaeger": ("go.mod", r"github.com/jaegertracing/jaeger v(\S+)"),
    "go-sender": ("go.mod", r"go.opentelemetry.io/otel/sdk v(\S+)"),
    JAVASCRIPT: ("package.json", r'exporter-trace-otlp-http": "([^"]+)'),
}
"""Where the version of a peer stands that does not tell it."""


def version(name: str) -> str:
    """What a peer calls itself, or "missing"."""
    if name == "official":
        return importlib.metadata.version("opentelemetry-sdk")
    try:
        path = find(name)
    except MissingError:
        return "missing"
    if name in PINNED:
        file, pattern = PINNED[name]
        found = re.search(pattern, (sources(name) / file).read_text())
        return found[1] if found else "unknown"
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return (said.stdout.split() or ["unknown"])[-1]


def needed(name: str) -> Path:
    """Where a peer is; without it the test skips, aloud."""
    try:
        return find(name)
    except MissingError as missing:
        pytest.skip(str(missing))


def _find_rotel() -> Path:
    spec = find_spec("rotel")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "rotel-agent"
        if path.exists():
            return path
    raise MissingError("rotel is a wheel for Linux on x86-64, and not installed here")


def _find_on_path(name: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"no {name} on the PATH; this project neither ships nor builds it")
    return Path(path)


# -- started and ended -----------------------------------------------------------------


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: list[str | Path],
    folder: Path,
    *ports: int,
    environ: dict[str, str] | None = None,
    end_s_max: float = 15.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; in it, it listens on all ``ports``.

    What it says is in ``folder``, in a file with its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("ab") as said:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(environ or {})},
        )
    try:
        _wait_for_ports(process, ports, log)
        yield process
    finally:
        end(process, end_s_max)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a process to end, and end it if it does not."""
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def until(look: Callable[[], Value], what: str, seconds: float = WAIT_S_MAX) -> Value:
    """Look until there is something to see.

    Raises:
        AssertionError: There was nothing for ``seconds``.
    """
    ends = time.monotonic() + seconds
    while True:
        if seen := look():
            return seen
        if time.monotonic() > ends:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


def _wait_for_ports(process: subprocess.Popen[bytes], ports: tuple[int, ...], log: Path) -> None:
    ends = time.monotonic() + START_S_MAX
    for port in ports:
        while not _listens(port):
            said = log.read_text(errors="replace")[-4000:]
            assert process.poll() is None, f"it ended with {process.returncode}: {said}"
            assert time.monotonic() < ends, f"it never listened on {port}: {said}"
            time.sleep(0.05)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Doors(NamedTuple):
    """Where a program takes OTLP, or is asked; 0: nowhere."""

    http: int = 0
    grpc: int = 0
    query: int = 0
    thrift: int = 0
    process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End it now, without a word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def url(self, door: str = "http") -> str:
        """The base address of a door."""
        return f"http://127.0.0.1:{getattr(self, door)}"


def ask(url: str) -> Any:
    """GET a JSON value."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # our own peer
        return json.loads(answer.read())


def asked(url: str) -> Any:
    """The same; None while the server says that it does not know."""
    with contextlib.suppress(urllib.error.HTTPError):
        return ask(url)
    return None


@contextlib.contextmanager
def rotel(folder: Path, *to: str) -> Iterator[Doors]:
    """Run rotel; ``to`` says where it hands on what it gets."""
    doors = Doors(http=free_port(), grpc=free_port())
    command: list[str | Path] = [needed("rotel"), "start"]
    command += ["--otlp-http-endpoint", f"127.0.0.1:{doors.http}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{doors.grpc}"]
    command += ["--batch-timeout", "50ms", *(to or ("--exporter", "blackhole"))]
    with running(command, folder, doors.http, doors.grpc):
        yield doors


def rotel_to(url: str, protocol: str, compression: str = "gzip") -> list[str]:
    """The arguments that have rotel hand on by OTLP; ``protocol``: "http" or "grpc"."""
    words = ["--exporter", "otlp", "--otlp-exporter-endpoint", url]
    words += ["--otlp-exporter-protocol", protocol]
    return [*words, "--otlp-exporter-compression", compression]


@contextlib.contextmanager
def collector(
    folder: Path,
    exporters: dict[str, Any],
    receivers: dict[str, Any] | None = None,
    *,
    http_port: int = 0,
    grpc_port: int = 0,
    tls: dict[str, str] | None = None,
    limits: dict[str, dict[str, int]] | None = None,
) -> Iterator[Doors]:
    """Run the Collector; all that it takes goes to each of its exporters.

    Args:
        folder: For its configuration and its log.
        exporters: By name, as its configuration has them.
        receivers: Likewise; not given: OTLP, by both doors. A name that ends in
            ``/traces`` and so on is only in that pipeline, so too for exporters.
        http_port: Where it takes OTLP over HTTP; 0: where it is free.
        grpc_port: Likewise over gRPC.
        tls: Its certificate and whose it trusts, for both doors.
        limits: Of each door.
    """
    program = needed("collector")
    doors = Doors()
    if receivers is None:
        doors = doors._replace(http=http_port or free_port(), grpc=grpc_port or free_port())
        protocols = {
            name: {
                "endpoint": f"127.0.0.1:{getattr(doors, name)}",
                **({"tls": tls} if tls else {}),
                **(limits or {}).get(name, {}),
            }
            for name in ("http", "grpc")
        }
        receivers = {"otlp": {"protocols": protocols}}
    pipelines = {}
    for signal in PATHS.values():
        ends = {
            "receivers": [name for name in receivers if _is_for(name, signal)],
            "exporters": [name for name in exporters if _is_for(name, signal)],
        }
        if all(ends.values()):
            pipelines[signal] = ends
    config = {
        "receivers": receivers,
        "exporters": exporters,
        "service": {"pipelines": pipelines, "telemetry": {"metrics": {"level": "none"}}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "collector.yaml").write_text(json.dumps(config))
    command: list[str | Path] = [program, "--config", f"file:{folder / 'collector.yaml'}"]
    with running(command, folder, *filter(None, doors[:2])):
        yield doors


def _is_for(name: str, signal: str) -> bool:
    _, _, end_ = name.partition("/")
    return end_ not in PATHS.values() or end_ == signal


@contextlib.contextmanager
def jaeger(folder: Path) -> Iterator[Doors]:
    """Run Jaeger v2 with its memory as the store."""
    ports = [free_port() for _ in range(5)]
    http, grpc, query, thrift, query_grpc = ports

    def at(port: int) -> dict[str, str]:
        return {"endpoint": f"127.0.0.1:{port}"}

    config = {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {
                "traces": {
                    "receivers": ["otlp", "jaeger"],
                    "exporters": ["jaeger_storage_exporter"],
                }
            },
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": {
            "jaeger_query": {
                "storage": {"traces": "kept"},
                "http": at(query),
                "grpc": at(query_grpc),
            },
            "jaeger_storage": {"backends": {"kept": {"memory": {"max_traces": 10_000}}}},
        },
        "receivers": {
            "otlp": {"protocols": {"http": at(http), "grpc": at(grpc)}},
            "jaeger": {"protocols": {"thrift_http": at(thrift)}},
        },
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "kept"}},
    }
    program = needed("jaeger")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jaeger.yaml").write_text(json.dumps(config))
    command: list[str | Path] = [program, "--config", f"file:{folder / 'jaeger.yaml'}"]
    # It waits ten seconds for who may still ask; what it keeps is in its memory.
    with running(command, folder, *ports, end_s_max=0.1):
        yield Doors(http=http, grpc=grpc, query=query, thrift=thrift)


@contextlib.contextmanager
def tempo(folder: Path) -> Iterator[Doors]:
    """Run Tempo as one process with its files in ``folder``."""
    program = needed("tempo")
    http, grpc, query, query_grpc = (free_port() for _ in range(4))
    protocols = {
        "http": {"endpoint": f"127.0.0.1:{http}"},
        "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
    }
    config = {
        "server": {
            "http_listen_address": "127.0.0.1",
            "http_listen_port": query,
            "grpc_listen_address": "127.0.0.1",
            "grpc_listen_port": query_grpc,
        },
        "distributor": {"receivers": {"otlp": {"protocols": protocols}}},
        "storage": {
            "trace": {
                "backend": "local",
                "local": {"path": str(folder / "blocks")},
                "wal": {"path": str(folder / "wal")},
            }
        },
        "usage_report": {"reporting_enabled": False},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tempo.yaml").write_text(json.dumps(config))
    with running([program, f"-config.file={folder / 'tempo.yaml'}"], folder, http, grpc, query):
        yield Doors(http=http, grpc=grpc, query=query)


# -- a server that keeps what it gets --------------------------------------------------


class Sink:
    """An OTLP/HTTP server that takes everything and keeps it.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        requests: What came: path, headers by their lower-case names, and body unpacked.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sink._take(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, signal: str) -> list[bytes]:
        """The bodies of one signal's requests so far."""
        return [body for path, _, body in self.requests if PATHS.get(path) == signal]

    def wait_for(self, signal: str, count: int) -> list[str]:
        """The records of one signal, once there are at least ``count`` of them."""

        def found() -> list[str]:
            bodies = self.bodies(signal)
            return sorted(r for body in bodies for r in same.from_protobuf(signal, body))

        until(lambda: len(found()) >= count, f"{count} records of {signal}")
        return found()

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        if headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, 31)
        self.requests.append((handler.path, headers, body))
        handler.send_response(200)
        handler.send_header("Content-Type", headers["content-type"])
        handler.send_header("Content-Length", "0")
        handler.end_headers()


# -- ours ------------------------------------------------------------------------------

OURS = [sys.executable, "-m", "stack_composer.telemetry.cli", "telemetry"]


@contextlib.contextmanager
def serving(
    folder: Path, logs: Path, *, grpc: bool = True, http_port: int = 0, grpc_port: int = 0
) -> Iterator[Doors]:
    """Run our receiver; when the block ends, all is written.

    Args:
        folder: Where it writes to.
        logs: For what it says.
        grpc: Whether by gRPC, too.
        http_port: Where; 0: where it is free.
        grpc_port: Likewise.
    """
    doors = Doors(http=http_port or free_port(), grpc=(grpc_port or free_port()) if grpc else 0)
    command: list[str | Path] = [*OURS, "serve", "--dir", folder]
    command += ["--http-port", str(doors.http), "--grpc-port", str(doors.grpc)]
    with running(command, logs, *filter(None, doors[:2])) as process:
        yield doors._replace(process=process)
