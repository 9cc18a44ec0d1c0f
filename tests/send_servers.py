"""Servers that misbehave on purpose, by hand on a socket, for the tests of what is sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.send.destination import Destination, destination_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    import trustme


class Request(NamedTuple):
    """What a client sent."""

    line: str
    headers: dict[str, str]
    body: bytes


class Server:
    """What a server has seen.

    Attributes:
        port: On 127.0.0.1.
        requests: In the order in which they came.
        connections: How many were taken.
        closed: How many of these were closed again.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[Request] = []
        self.connections = 0
        self.closed = 0


def read_request(connection: socket.socket) -> Request | None:
    """Read one request whole; None if the client has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rows = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (r.partition(":") for r in rows)}
    while len(body) < int(headers.get("content-length", "0")):
        piece = connection.recv(65_536)
        if not piece:
            return None
        body += piece
    return Request(line, headers, body)


def response(
    status: int = 200,
    body: bytes = b"",
    kind: str = "application/x-protobuf",
    **headers: str,
) -> bytes:
    """Write down one answer; names of headers have "_" for "-"."""
    rows = {"content-type": kind, "content-length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in rows.items())
    return f"HTTP/1.1 {status} Words\r\n{head}\r\n".encode("latin-1") + body


@contextlib.contextmanager
def serving(
    talk: Callable[[socket.socket, Server], object], context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Have ``talk`` speak on each connection, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener.getsockname()[1])
    open_ones: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        # A client that goes away is none of the server's errors.
        with contextlib.suppress(OSError), connection:
            taken = connection
            if context is not None:
                taken = context.wrap_socket(connection, server_side=True)
                open_ones.append(taken)
            with taken:
                talk(taken, server)
        server.closed += 1

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                server.connections += 1
                open_ones.append(connection)
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        # Closing alone does not wake whoever waits in `accept` or in `recv`.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in open_ones:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        thread.join(10)


def answering(*answers: bytes) -> Callable[[socket.socket, Server], None]:
    """Give these answers in turn, the last one again and again, and keep the connection."""

    def talk(connection: socket.socket, server: Server) -> None:
        while (request := read_request(connection)) is not None:
            server.requests.append(request)
            connection.sendall(answers[min(len(server.requests), len(answers)) - 1])

    return talk


def destination_at(url: str, purpose: str = "otlp_http", **given: Any) -> Destination:
    """The destination at an address; ``environ`` is its whole environment."""
    environ = {"HOME": "/nowhere", **given.pop("environ", {})}
    option = "upload_endpoint" if purpose == "upload" else "otlp_endpoint"
    return destination_of(load_config({option: url, **given}, environ), purpose, environ)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """The context of a server that shows a certificate."""
    import ssl as module

    context = module.SSLContext(module.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
