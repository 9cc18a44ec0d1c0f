"""The receiver as a whole: the writer's thread, the listeners, and the way it ends.

It ends in the order in which data flows: first nothing more is accepted, then what was
accepted is written and answered, then the writer closes its bundles.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.errors import ReceiveError
from stack_composer.telemetry.receive.gate import Gate
from stack_composer.telemetry.receive.http import HttpServer, Limits
from stack_composer.telemetry.receive.writing import Receiving
from stack_composer.telemetry.schedule.services import CREDENTIAL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.receive.grpc import GrpcServer

HOST: Final = "127.0.0.1"
GRACE_S: Final = 5.0
"""So long requests that are being received may take to end, once the receiver is to stop."""
STOP_S: Final = 10.0
"""And so long the writer, for its last turn."""


class Listening(NamedTuple):
    """Where the receiver listens; 0 for a protocol that it does not speak."""

    http_port: int
    grpc_port: int


def serve(
    config: Config,
    options: dict[str, Any],
    *,
    with_grpc: bool,
    started: Callable[[Listening], None],
) -> None:
    """Receive until SIGINT or SIGTERM; returns when all that was accepted is written.

    Args:
        config: What holds; ports that are 0 are not listened on.
        options: What of it was given by name, to hold on when the file changes.
        with_grpc: Whether to speak gRPC too, which needs the extra.
        started: Called once it listens.

    Raises:
        ReceiveError: A port is taken, or may not be used.
    """
    writer = Receiving(config, options)
    writer.start()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(writer, config, with_grpc=with_grpc, started=started))
    finally:
        writer.stop(STOP_S)


async def _serve(
    writer: Receiving,
    config: Config,
    *,
    with_grpc: bool,
    started: Callable[[Listening], None],
) -> None:
    ending = asyncio.Event()
    _hear_signals(ending)
    token = os.environ.get(CREDENTIAL_VARIABLE, "")
    gate = Gate(hosts=config.serve_hosts, origins=config.serve_origins, token=token)
    limits = Limits(
        request_bytes_max=config.serve_request_bytes_max,
        connections_max=config.serve_connections_max,
    )
    http = HttpServer(writer.inbox, gate, limits)
    servers: list[HttpServer | GrpcServer] = [http]
    try:
        http_port = await _listen(http, config.serve_http_port) if config.serve_http_port else 0
        grpc_port = 0
        if with_grpc and config.serve_grpc_port:
            # An extra, and 18 MB: for those who want it.
            from stack_composer.telemetry.receive.grpc import GrpcServer

            grpc = GrpcServer(
                writer.inbox, request_bytes_max=config.serve_request_bytes_max, token=token
            )
            servers.append(grpc)
            grpc_port = await _listen(grpc, config.serve_grpc_port)
        started(Listening(http_port, grpc_port))
        await ending.wait()
    finally:
        writer.inbox.close()
        await asyncio.gather(*(server.stop(GRACE_S) for server in servers))


async def _listen(server: HttpServer | GrpcServer, port: int) -> int:
    try:
        return await server.start(HOST, port)
    except OSError as error:
        raise listen_error(port, error) from error


def listen_error(port: int, error: OSError) -> ReceiveError:
    """Say why a port cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return ReceiveError(
            f"{HOST}:{port} is taken: another program listens there",
            hint="end it, or choose another port: --http-port, --grpc-port",
        )
    return ReceiveError(
        f"cannot listen on {HOST}:{port}: {error.strerror or type(error).__name__}",
        hint="choose a port above 1023",
    )


def _hear_signals(ending: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows' loop has none; there Ctrl-C ends ``Runner.run`` by KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ending.set)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
