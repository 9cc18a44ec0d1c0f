"""The receiver as its users have it: a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from cli_running import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports that nobody had a moment ago."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


@contextlib.contextmanager
def serving(
    folder: Path, *options: str, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run ``telemetry serve`` on two free ports; gives what it prints once it listens."""
    http_port, grpc_port = free_ports(2)
    ports = ("--http-port", str(http_port), "--grpc-port", str(grpc_port))
    process = subprocess.Popen(
        [*COMMAND, "telemetry", "serve", "--dir", str(folder), "--json", *ports, *options],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process, _told_by(process)
        finally:
            process.kill()


def _told_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it prints once it listens; afterwards it says nothing."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        with contextlib.suppress(ValueError):
            found: dict[str, Any] = json.loads(text)
            return found
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())
