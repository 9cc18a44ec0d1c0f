"""OTLP over gRPC: calls in, requests into the inbox, answers out.

The three services are served without generated code: what they take and give are bytes,
which the writer reads like those of HTTP. All runs on the event loop; a call that waits
for the writer holds no thread.

A unary call is served as one whose client streams, which is the same on the wire, so that
the credentials are judged, and a place is had, before gRPC collects the message: it
collects all of it before it shows any. So many calls may be at that, and a client that
stalls there must make room when others wait.

What a client packed comes here as it was sent, and the writer unpacks it within bounds as
it does for HTTP. Otherwise gRPC would, for everyone at once and before it is known whether
there is room.

Source: OTLP 1.11, "OTLP/gRPC" (docs of opentelemetry-proto).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import logging
import os
import socket
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from stack_composer.telemetry.otlp.to_protobuf import varint
from stack_composer.telemetry.receive import answers, inbox
from stack_composer.telemetry.receive.inbox import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any, Final, NoReturn

    from stack_composer.telemetry.receive.inbox import Inbox

SERVICES: Final = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
}
"""Each has one method, ``Export``."""
CALLS_MAX: Final = 1_024
"""At once; one more is told to come again."""
READING_MAX: Final = 4
"""Calls whose messages are collected at once, each of ``request_bytes_max`` at most."""
READING_S: Final = 60.0
"""For a message to come, while nobody waits for its place."""
HURRY_S: Final = 1.0
"""For a message to come, while somebody does."""
PLACE_S: Final = 30.0
"""For a place among those that are collected."""
IDLE_S: Final = 75.0
"""A connection without a call is ended then."""

_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_DETAILS: Final = "grpc-status-details-bin"
_STATUS: Final = {
    inbox.BAD: (grpc.StatusCode.INVALID_ARGUMENT, 0),
    # Without a time to come again it is final.
    inbox.TOO_LARGE: (grpc.StatusCode.RESOURCE_EXHAUSTED, 0),
    inbox.OVERLOADED: (grpc.StatusCode.UNAVAILABLE, answers.BUSY_S),
    inbox.NO_ROOM: (grpc.StatusCode.UNAVAILABLE, answers.NO_ROOM_S),
    inbox.OFF: (grpc.StatusCode.UNAVAILABLE, answers.NO_ROOM_S),
    inbox.BROKEN: (grpc.StatusCode.UNAVAILABLE, answers.NO_ROOM_S),
    inbox.CLOSING: (grpc.StatusCode.UNAVAILABLE, answers.BUSY_S),
}


class GrpcServer:
    """Listens, and holds the calls. Made and used on the thread of one event loop.

    Args:
        box: Where requests go.
        request_bytes_max: Of one message, as it comes.
        token: What the metadata must hold as ``authorization: Bearer ...``; "" for none.
    """

    def __init__(self, box: Inbox, *, request_bytes_max: int, token: str = "") -> None:
        self._box = box
        self._token = token.encode()
        self._loop = asyncio.get_running_loop()
        self._places = _Places(READING_MAX)
        self._calls = 0
        self._reading: dict[asyncio.Timeout, float] = {}
        # gRPC tells of each client that leaves at a bad moment, with a traceback.
        logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", request_bytes_max),
                ("grpc.per_message_decompression", 0),
                ("grpc.max_concurrent_streams", 128),
                ("grpc.max_connection_idle_ms", round(IDLE_S * 1000)),
                # No guess at how much may be under way: here it is all one computer, and
                # what comes before its call has a place is kept by gRPC.
                ("grpc.http2.bdp_probe", 0),
                # Otherwise a second receiver would take half of the calls.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    service, {"Export": grpc.stream_unary_rpc_method_handler(serving)}
                )
                for service, signal in SERVICES.items()
                for serving in [_serving(self._export, signal)]
            ]
        )

    async def start(self, host: str, port: int) -> int:
        """Begin to listen; returns the port.

        Raises:
            OSError: The address is taken, or may not be used.
        """
        _try_address(host, port)
        try:
            bound: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError:  # Somebody was quicker.
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no more; what is not answered after ``grace_s`` seconds is cut off."""
        await self._server.stop(grace_s)

    async def _export(self, signal: str, context: Any) -> bytes:
        """Serve one call; gRPC cancels it when its client is gone."""
        if self._token and not self._is_known(context):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "a token is needed: authorization: Bearer"
            )
        if self._calls >= CALLS_MAX:
            await _refuse(context, Answer(inbox.OVERLOADED, "there are too many calls"))
        self._calls += 1
        try:
            # The message has no name here: an exception would keep it, by its traceback,
            # until the garbage is collected, and there is little garbage but messages.
            answer = await self._written(signal, await self._message(context))
        finally:
            self._calls -= 1
        if answer.verdict != inbox.TAKEN:
            await _refuse(context, answer)
        return answers.success(signal, answer, is_json=False)

    def _is_known(self, context: Any) -> bool:
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str):
                scheme, _, given = value.partition(" ")
                return scheme.lower() == "bearer" and hmac.compare_digest(
                    given.strip().encode(), self._token
                )
        return False

    async def _message(self, context: Any) -> bytes:
        """Collect what the client sends."""
        try:
            async with self._place():
                body = await context.read()
        except TimeoutError:
            await _refuse(context, Answer(inbox.OVERLOADED, "the message does not come to its end"))
        if body is grpc.aio.EOF:
            await _refuse(context, Answer(inbox.BAD, "there is no message"))
        return bytes(body)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Hold one of the places among those that are collected.

        Raises:
            TimeoutError: None became free, or this one was held for too long.
        """
        if not self._places.free:
            self._hurry()
        async with asyncio.timeout(PLACE_S):
            await self._places.take()
        try:
            limit = asyncio.timeout(HURRY_S if self._places.waiting else READING_S)
            self._reading[limit] = self._loop.time()
            try:
                async with limit:
                    yield
            finally:
                del self._reading[limit]
        finally:
            self._places.give()

    def _hurry(self) -> None:
        """Have those that hold a place end soon, or give it up."""
        now = self._loop.time()
        for limit, began in self._reading.items():
            if not limit.expired():
                limit.reschedule(max(began + HURRY_S, now))

    async def _written(self, signal: str, body: bytes) -> Answer:
        """Have the writer take it, and wait for what it says."""
        told: asyncio.Future[Answer] = self._loop.create_future()

        def tell(answer: Answer) -> None:
            # Without a loop, or a client, nobody can be told any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, told, answer)

        self._box.put(signal, body, is_json=False, encoding=packing_of(body), answer=tell)
        return await told


class _Places:
    """So many at once, and of those that wait the newest first.

    Who has something to send does so at once; a crowd that stalls would otherwise have to
    be waited out, one after the other.
    """

    def __init__(self, free: int) -> None:
        self.free = free
        self.waiting: list[asyncio.Future[None]] = []

    async def take(self) -> None:
        """Have a place."""
        if self.free:
            self.free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # It was given in the same moment.
                self.give()
            elif mine in self.waiting:
                self.waiting.remove(mine)
            raise

    def give(self) -> None:
        """Give it to the next, or back."""
        while self.waiting:
            next_one = self.waiting.pop()
            if not next_one.done():  # It may be about to leave.
                next_one.set_result(None)
                return
        self.free += 1


def _serving(export: Callable[[str, Any], Any], signal: str) -> Callable[[Any, Any], Any]:
    async def serve(_messages: Any, context: Any) -> bytes:
        body: bytes = await export(signal, context)
        return body

    return serve


def packing_of(body: bytes) -> str:
    """Say how a message is packed, by its first bytes: "gzip", "deflate" or "".

    gRPC keeps to itself what the client said of it. No request of OTLP begins so: its one
    field has the number 1.
    """
    if body.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    is_zlib = len(body) > 1 and body[0] == 0x78 and not (body[0] << 8 | body[1]) % 31
    return "deflate" if is_zlib else ""


def details_of(code: int, message: str, retry_s: int) -> bytes:
    """Give a ``google.rpc.Status``: with ``RetryInfo`` when a client may come again."""
    if code == grpc.StatusCode.INVALID_ARGUMENT.value[0]:
        return answers.status_body(message, code, is_json=False)
    status = b"\x08" + varint(code) + answers.field(2, message.encode())
    if not retry_s:
        return status
    delay = b"\x08" + varint(retry_s)
    info = answers.field(1, _RETRY_INFO.encode()) + answers.field(2, answers.field(1, delay))
    return status + answers.field(3, info)


async def _refuse(context: Any, answer: Answer) -> NoReturn:
    code, retry_s = _STATUS[answer.verdict]
    metadata = ((_DETAILS, details_of(code.value[0], answer.message, retry_s)),)
    await context.abort(code, answer.message, trailing_metadata=metadata)
    raise AssertionError("abort raises")


def _settle(told: asyncio.Future[Answer], answer: Answer) -> None:
    if not told.done():
        told.set_result(answer)


def _try_address(host: str, port: int) -> None:
    """Bind once, since gRPC does not say why it cannot.

    Raises:
        OSError: The address is taken, or may not be used.
    """
    if not port:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # As gRPC binds, or the rest of old connections would count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
