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
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from stack_composer.telemetry import effects
from stack_composer.telemetry.send.addresses import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_P = ParamSpec("_P")
_Result = TypeVar("_Result")
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


def _in_time(operation: Callable[_P, _Result]) -> Callable[_P, _Result]:
    """Give an operation of a socket what is left of the deadline."""

    @wraps(operation)
    def timed(*arguments: _P.args, **options: _P.kwargs) -> _Result:
        sock: Any = arguments[0]
        sock.settimeout(left_s())
        return operation(*arguments, **options)

    return timed


class DeadlineSocket(socket.socket):
    """A socket whose operations end with the deadline of their thread: those that are used."""

    recv_into = _in_time(socket.socket.recv_into)
    send = _in_time(socket.socket.send)
    sendall = _in_time(socket.socket.sendall)


class DeadlineTlsSocket(ssl.SSLSocket):
    """As ``DeadlineSocket``, encrypted; a context makes them by ``sslsocket_class``.

    ``sendall`` calls ``send`` for each piece.
    """

    do_handshake = _in_time(ssl.SSLSocket.do_handshake)
    recv = _in_time(ssl.SSLSocket.recv)
    recv_into = _in_time(ssl.SSLSocket.recv_into)
    send = _in_time(ssl.SSLSocket.send)


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
