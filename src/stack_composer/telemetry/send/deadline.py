"""Sockets on which every operation gets what is left of one deadline.

A timeout of a socket is for one operation: a server that sends a byte a second never
runs into it, and a request lasts for days. Here the time is for the whole request, from
looking up the name to the last byte of the answer, and no thread is needed to watch it,
so it also holds while the interpreter ends.

The deadline belongs to the thread that sends; one thread's is no other's.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects
from stack_composer.telemetry.send.addresses import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_here = threading.local()


@contextmanager
def within(timeout_s: float) -> Iterator[None]:
    """Let all that this thread does on such sockets take so many seconds; 0: any time."""
    _here.until_ns = effects.monotonic_ns() + int(timeout_s * 1e9) if timeout_s else None
    try:
        yield
    finally:
        _here.until_ns = None


def left_s() -> float | None:
    """Seconds that are left; None: any.

    Raises:
        TimeoutError: None are.
    """
    until_ns: int | None = getattr(_here, "until_ns", None)
    if until_ns is None:
        return None
    left_ns = until_ns - effects.monotonic_ns()
    if left_ns <= 0:
        raise TimeoutError("the time of the request is over")
    return left_ns / 1e9


class DeadlineSocket(socket.socket):
    """A socket whose operations end with the deadline of their thread: those that are used."""

    def recv_into(self, *arguments: Any) -> int:  # noqa: D102  # as of a socket
        self.settimeout(left_s())
        return super().recv_into(*arguments)

    def send(self, *arguments: Any) -> int:  # noqa: D102  # as of a socket
        self.settimeout(left_s())
        return super().send(*arguments)

    def sendall(self, *arguments: Any) -> None:  # noqa: D102  # as of a socket
        self.settimeout(left_s())
        super().sendall(*arguments)


class DeadlineTlsSocket(ssl.SSLSocket):
    """As ``DeadlineSocket``, encrypted; a context makes them by ``sslsocket_class``."""

    def do_handshake(self, *arguments: Any) -> None:  # noqa: D102  # as of a socket
        self.settimeout(left_s())
        super().do_handshake(*arguments)

    def recv(self, *arguments: Any) -> bytes:  # noqa: D102  # as of a socket
        self.settimeout(left_s())
        return super().recv(*arguments)

    def recv_into(self, *arguments: Any) -> int:  # noqa: D102  # as of a socket
        self.settimeout(left_s())
        return super().recv_into(*arguments)

    def send(self, *arguments: Any) -> int:  # noqa: D102  # as of a socket
        # `sendall` of TLS comes here for each piece.
        self.settimeout(left_s())
        return super().send(*arguments)


def connect(host: str, port: int, options: Sequence[tuple[int, int, Any]]) -> socket.socket:
    """Connect to the first address of a host that takes the connection.

    Each address gets its share of the time that is left, so that one which answers
    nothing leaves some for the next.

    Raises:
        socket.gaierror: The name leads nowhere.
        OSError: No address took the connection.
        TimeoutError: The time is over.
    """
    found = _look_up(host, port)
    error: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        left = left_s()
        try:
            sock = DeadlineSocket(family, kind, protocol)
        except OSError as failed:
            # Such as IPv6 where the system has none.
            error = failed
            continue
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(None if left is None else left / (len(found) - number))
            sock.connect(address)
        except OSError as failed:
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error


def _look_up(host: str, port: int) -> list[Any]:
    left = left_s()
    host = host.strip("[]")
    if left is None or is_loopback(host):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found: list[Any] = []
    errors: list[Exception] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            errors.append(error)

    # The system's look-up knows no deadline; a name server that does not answer takes it
    # a minute. So it is left alone when the time is over.
    thread = threading.Thread(target=look_up, name="stack-composer-look-up", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # The interpreter is ending and starts no more threads.
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    thread.join(left)
    if errors:
        raise errors[0]
    if not found:
        raise TimeoutError("the name was not resolved in time")
    return found
