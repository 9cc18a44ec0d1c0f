"""Requests on their way from the sockets to the writer: bounded, and each answered once.

Threads that hold sockets put requests in; one thread, the writer, takes them out, and
answers when what they hold is as durable as the configuration says. What waits is
bounded in bytes: beyond that a request is refused at once, so that whoever sends slows
down, and memory does not grow.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

TAKEN: Final = "taken"
BAD: Final = "bad"
TOO_LARGE: Final = "too large"
OVERLOADED: Final = "overloaded"
NO_ROOM: Final = "no room"
OFF: Final = "off"
BROKEN: Final = "broken"
CLOSING: Final = "closing"


class Answer(NamedTuple):
    """What became of a request.

    Attributes:
        verdict: ``TAKEN``: it is durable at the configured level. ``BAD``: it is no OTLP,
            and will never be. ``TOO_LARGE``: it unpacks to more than is taken. All others:
            nothing of it counts, and it may be sent again.
        message: Why, for a developer; quotes nothing of the request. With ``TAKEN``: what
            was mended, or "".
        rejected: Of a request that was taken, records that were not.
    """

    verdict: str
    message: str = ""
    rejected: int = 0


class Request:
    """One ``Export*ServiceRequest`` as it came."""

    __slots__ = ("answer", "body", "encoding", "is_json", "signal")

    def __init__(
        self,
        signal: str,
        body: bytes,
        answer: Callable[[Answer], None],
        *,
        is_json: bool,
        encoding: str,
    ) -> None:
        self.signal = signal
        self.body = body
        self.answer = answer
        self.is_json = is_json
        self.encoding = encoding


class Inbox:
    """What waits for the writer. Safe for threads.

    Args:
        bytes_max: Of all bodies that wait or are being received.
        wake: Called after each request that was put in, to wake the writer.
    """

    def __init__(self, bytes_max: int, wake: Callable[[], None]) -> None:
        self._bytes_max = bytes_max
        self._wake = wake
        self._lock = threading.Lock()
        self._requests: deque[Request] = deque()
        self._bytes = 0
        self._is_closed = False

    @property
    def held_bytes(self) -> int:
        """Of all bodies that wait, are being received, or are being written."""
        return self._bytes

    def __bool__(self) -> bool:
        return bool(self._requests)

    def reserve(self, size: int) -> bool:
        """Keep room for bytes that are being received; whether there is any."""
        with self._lock:
            if self._bytes + size > self._bytes_max:
                return False
            self._bytes += size
            return True

    def release(self, size: int) -> None:
        """Give room back: what was received is not coming, or is written."""
        with self._lock:
            self._bytes -= size

    def put(
        self,
        signal: str,
        body: bytes,
        *,
        is_json: bool,
        answer: Callable[[Answer], None],
        encoding: str = "",
        reserved: bool = False,
    ) -> None:
        """Hand a request over; ``answer`` is called once, by the writer or at once.

        Args:
            signal: One of ``model.SIGNALS``.
            body: As it came.
            is_json: OTLP JSON, rather than protobuf.
            answer: Is told what became of it, mostly on the writer's thread; it must not
                raise, nor wait.
            encoding: How the body is packed: "gzip", "deflate", "zstd" or "".
            reserved: Whether room for the body was reserved before.
        """
        if not reserved and not self.reserve(len(body)):
            answer(Answer(OVERLOADED, "too much waits to be written: try again later"))
            return
        request = Request(signal, body, answer, is_json=is_json, encoding=encoding)
        with self._lock:
            is_closed = self._is_closed
            if is_closed:
                self._bytes -= len(body)
            else:
                self._requests.append(request)
        if is_closed:
            answer(Answer(CLOSING, "the receiver is ending"))
        else:
            self._wake()

    def take(self, bytes_max: int) -> list[Request]:
        """Take the oldest requests, together some ``bytes_max`` bytes; at least one if any."""
        taken: list[Request] = []
        size = 0
        with self._lock:
            while self._requests and (not taken or size < bytes_max):
                taken.append(self._requests.popleft())
                size += len(taken[-1].body)
        return taken

    def done(self, request: Request, answer: Answer) -> None:
        """Give the room of a request back, and tell what became of it."""
        self.release(len(request.body))
        request.answer(answer)

    def close(self) -> None:
        """Refuse what comes from now on; what is in it, the writer still takes."""
        with self._lock:
            self._is_closed = True
