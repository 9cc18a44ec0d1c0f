"""OTLP over HTTP/1.1: connections in, requests into the inbox, answers out.

One ``Connection`` a socket, all on the event loop's thread. httptools parses; a request
is judged by its head (``gate``) before any of its body is kept. What a body may take is
reserved in the inbox as it comes, so that many slow senders together are bounded as one
is. Answers come from the writer's thread by ``call_soon_threadsafe``, and leave in the
order of their requests.

Every state has an end: a head that does not come, a body that stalls, an idle connection
and one that lingers after a refusal are closed by a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING

import httptools

from stack_composer.telemetry.receive import answers, inbox
from stack_composer.telemetry.receive.gate import Head
from stack_composer.telemetry.receive.inbox import Answer

if TYPE_CHECKING:
    from typing import Any, Final

    from stack_composer.telemetry.receive.answers import Response
    from stack_composer.telemetry.receive.gate import Gate
    from stack_composer.telemetry.receive.inbox import Inbox

HEAD_BYTES_MAX: Final = 32 * 1024
HEADERS_MAX: Final = 100
HEAD_S: Final = 10.0
"""From the first byte of a request until its head is whole."""
BODY_S: Final = 60.0
"""From then until its body is whole."""
IDLE_S: Final = 75.0
LINGER_S: Final = 2.0
"""After a refusal that ends a connection, what still comes is read for so long, or the
client would see a reset instead of the answer."""
PIPELINED_MAX: Final = 16
"""Requests of one connection that wait for answers; then nothing more is read from it."""

_TICK_S: Final = 0.02
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Limits:
    """What one receiver bears.

    Attributes:
        request_bytes_max: Of a body, as it comes.
        connections_max: At once.
    """

    __slots__ = ("connections_max", "request_bytes_max")

    def __init__(self, *, request_bytes_max: int, connections_max: int) -> None:
        self.request_bytes_max = request_bytes_max
        self.connections_max = connections_max


class HttpServer:
    """Listens, and holds the connections.

    Args:
        box: Where requests go.
        gate: Who may send.
        limits: What is borne.
    """

    def __init__(self, box: Inbox, gate: Gate, limits: Limits) -> None:
        self.box = box
        self.gate = gate
        self.limits = limits
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.is_closing = False
        self._server: asyncio.Server | None = None
        self._gone = asyncio.Event()

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that has ended."""
        self.connections.discard(connection)
        if self.is_closing and not self.connections:
            self._gone.set()

    async def start(self, host: str, port: int) -> int:
        """Begin to listen; returns the port.

        Raises:
            OSError: The address is taken.
        """
        self._server = await self.loop.create_server(lambda: Connection(self), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Take no more; end each connection once its requests are answered.

        After ``grace_s`` seconds what is left is cut off; its senders have no answer, and
        send again.
        """
        self.is_closing = True
        if self._server is not None:
            self._accept_no_more(self._server)
            await asyncio.sleep(_TICK_S)  # What is accepted already becomes a connection.
            self._server.close()
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), grace_s)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(_TICK_S)  # And learns of its end.

    def end_an_idle_one(self, *, besides: Connection) -> bool:
        """End the connection that has been idle for longest; False if none is."""
        idle = [one for one in self.connections if one is not besides and one.is_idle]
        if not idle:
            return False
        longest = min(idle, key=lambda one: one.idle_since)
        longest.close_when_idle()
        self.connections.discard(longest)
        return True

    def _accept_no_more(self, server: asyncio.Server) -> None:
        """Leave the backlog alone, since what is accepted while a server closes is leaked.

        asyncio then neither tells its protocol of the connection nor closes it (seen with
        CPython 3.11), and a client would wait for ever.
        """
        for listener in server.sockets:
            with contextlib.suppress(NotImplementedError):  # Windows has no readers.
                self.loop.remove_reader(listener.fileno())


class _Exchange:
    """One request and its answer.

    Attributes:
        response: What is to be sent; None until it is known.
        is_last: The connection ends with it.
        is_bare: The answer has no body, whatever its head says of one: to HEAD.
    """

    __slots__ = ("head", "is_bare", "is_last", "response")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.response: Response | None = None
        self.is_last = False
        self.is_bare = False


class Connection(asyncio.Protocol):
    """One client. The methods named ``on_...`` are called by httptools."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._box = server.box
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._exchanges: deque[_Exchange] = deque()
        self._current: _Exchange | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._header_count = 0
        self._unseen = 0
        self._fault = ""
        self._is_upgrade = False
        self._body: list[bytes] = []
        self._reserved = 0
        self._is_lingering = False
        self._is_paused = False
        self._is_client_slow = False
        self.idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being received, and no answer is due."""
        return not (self._exchanges or self._current or self._unseen or self._is_lingering)

    # -- the transport -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        connections = self._server.connections
        is_one_too_many = len(connections) >= self._server.limits.connections_max
        connections.add(self)
        if self._server.is_closing:
            self.abort()
            return
        if is_one_too_many and not self._server.end_an_idle_one(besides=self):
            self._refuse(503, "there are too many connections", ("Retry-After", "1"))
            return
        self._be_idle()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End; what was being received is forgotten."""
        self._server.forget(self)
        self._stop_waiting()
        self._forget_body()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if self._is_lingering:
            return
        if self._current is None and self._timer is not None and not self._unseen:
            self._wait(HEAD_S)
        # What is neither a whole head nor a piece of a body, the parser collects: a head, a
        # header behind a chunked body.
        self._unseen += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(400, self._fault or "this is not HTTP/1.1")
        else:
            if self._unseen > HEAD_BYTES_MAX:
                self._refuse(431, "the head of the request is too large")

    def _feed(self, data: bytes) -> None:
        """Parse; an offer to speak something else is not taken up, as HTTP allows."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                if self._is_lingering:  # It was CONNECT, which is refused.
                    return
                # The parser leaves it at that, and would skip the body: another one is
                # shown the same head, without the offer.
                data = self._plain_head() + data[stop.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
            else:
                return

    def _plain_head(self) -> bytes:
        method = self._parser.get_method()
        headers = {name: text for name, text in self._headers.items() if name != "upgrade"}
        lines = [f"{name}: {text}\r\n".encode("latin-1") for name, text in headers.items()]
        version = self._parser.get_http_version().encode()
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self._url, version, b"".join(lines))

    def eof_received(self) -> bool:
        """Keep the connection while answers are due, unless a request was cut short."""
        if self._current is not None or not self._exchanges:
            return False
        self._exchanges[-1].is_last = True
        return True

    def pause_writing(self) -> None:
        """Read nothing more while the client does not read."""
        self._is_client_slow = True
        self._pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_client_slow = False
        if len(self._exchanges) < PIPELINED_MAX:
            self._resume()

    # -- the parser --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._headers = {}
        self._header_count = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the address."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; of those that may come once, a second one is a fault."""
        self._header_count += 1
        if self._header_count > HEADERS_MAX:
            self._fault = "there are too many headers"
            raise ValueError(self._fault)
        key = name.decode("latin-1").lower()
        if key in self._headers and key in ("host", "content-length", "authorization"):
            self._fault = "a header is there twice"
            raise ValueError(self._fault)
        self._headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Judge the head."""
        self._unseen = 0
        if self._is_lingering:
            return
        self._is_upgrade = self._parser.should_upgrade()
        if self._is_upgrade and self._parser.get_method() != b"CONNECT":
            return
        exchange = self._current = _Exchange()
        self._exchanges.append(exchange)
        exchange.is_last = not self._parser.should_keep_alive() or self._server.is_closing
        path = self._url.partition(b"?")[0].decode("latin-1")
        head = exchange.head = Head(path, self._headers)
        method = self._parser.get_method().decode("latin-1")
        exchange.is_bare = method == "HEAD"
        exchange.response = self._server.gate.refusal(method, head, self._headers)
        if exchange.response is None and not self._make_room(exchange):
            return
        if exchange.response is None:
            self._wait(BODY_S)
            if self._headers.get("expect", "").lower() == "100-continue":
                self._transport.write(_CONTINUE)
        elif self._has_body() or self._is_upgrade:
            # Its body is not wanted: answered at once, and the end of the connection.
            exchange.is_last = True
            self._linger()

    def _has_body(self) -> bool:
        length = self._headers.get("content-length", "0")
        return "transfer-encoding" in self._headers or length.strip("0") != ""

    def _make_room(self, exchange: _Exchange) -> bool:
        """Tell whether a body may come; room is kept for what does come, not for a promise."""
        told = self._headers.get("content-length", "0")
        size = int(told) if told.isdigit() else 0
        if size > self._server.limits.request_bytes_max:
            self._too_large(exchange)
            return False
        if not self._box.reserve(size):
            self._overloaded(exchange)
            return False
        self._box.release(size)
        return True

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body; room is reserved as it comes."""
        self._unseen = 0
        exchange = self._current
        if exchange is None or exchange.response is not None:
            return
        self._body.append(piece)
        if not self._box.reserve(len(piece)):
            self._overloaded(exchange)
            return
        self._reserved += len(piece)
        if self._reserved > self._server.limits.request_bytes_max:
            self._too_large(exchange)

    def on_message_complete(self) -> None:
        """Hand the request over."""
        self._unseen = 0
        exchange, self._current = self._current, None
        if self._is_lingering or exchange is None:
            return
        self._stop_waiting()
        if len(self._exchanges) >= PIPELINED_MAX:
            self._pause()
        if exchange.response is not None:
            self._flush()
            return
        assert exchange.head is not None, "the head was judged"
        body, self._body = b"".join(self._body), []
        self._reserved = 0
        self._box.put(
            exchange.head.signal,
            body,
            is_json=exchange.head.is_json,
            encoding=exchange.head.encoding,
            answer=lambda answer: self._answered(exchange, answer),
            reserved=True,
        )

    def _too_large(self, exchange: _Exchange) -> None:
        most = self._server.limits.request_bytes_max
        answer = Answer(inbox.TOO_LARGE, f"the body is larger than {most:,} bytes")
        self._answer_early(exchange, answer)

    def _overloaded(self, exchange: _Exchange) -> None:
        text = "too much waits to be written: try again later"
        self._answer_early(exchange, Answer(inbox.OVERLOADED, text))

    def _answer_early(self, exchange: _Exchange, answer: Answer) -> None:
        """Answer before the body is whole; the rest of it is not read as requests."""
        assert exchange.head is not None, "the head was judged"
        head = exchange.head
        exchange.response = answers.response_of(head.signal, answer, is_json=head.is_json)
        exchange.is_last = True
        self._forget_body()
        self._linger()

    def _forget_body(self) -> None:
        self._body.clear()
        if self._reserved:
            self._box.release(self._reserved)
            self._reserved = 0

    # -- answers -----------------------------------------------------------------------

    def _answered(self, exchange: _Exchange, answer: Answer) -> None:
        """Take the writer's answer, on its thread."""
        head = exchange.head
        assert head is not None, "the head was judged"
        response = answers.response_of(head.signal, answer, is_json=head.is_json)
        try:
            self._server.loop.call_soon_threadsafe(self._respond, exchange, response)
        except RuntimeError:
            return  # The loop has ended: nobody can be told any more.

    def _respond(self, exchange: _Exchange, response: Response) -> None:
        exchange.response = response
        self._flush()

    def _refuse(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        """Answer what is no request, behind all answers that are due, and end."""
        if self._is_lingering:
            return
        exchange = self._current or _Exchange()
        if self._current is None:
            self._exchanges.append(exchange)
        is_json = exchange.head is not None and exchange.head.is_json
        kind = answers.JSON if is_json else answers.PROTOBUF
        body = answers.status_body(message, 0, is_json=is_json)
        exchange.response = answers.Response(status, kind, body, headers)
        exchange.is_last = True
        self._forget_body()
        self._linger()

    def _flush(self) -> None:
        """Send what is answered, in the order of the requests."""
        while self._exchanges and self._exchanges[0].response is not None:
            exchange = self._exchanges.popleft()
            if self._transport is None:
                continue
            is_last = exchange.is_last or self._server.is_closing
            self._transport.write(self._bytes_of(exchange, is_last=is_last))
            if is_last:
                self._exchanges.clear()
                self._end()
                return
        if self._transport is None or self._is_lingering:
            return
        if len(self._exchanges) < PIPELINED_MAX and not self._is_client_slow:
            self._resume()
        if not self._exchanges and self._current is None:
            self._be_idle()

    def _bytes_of(self, exchange: _Exchange, *, is_last: bool) -> bytes:
        response = exchange.response
        assert response is not None, "there is an answer"
        status = HTTPStatus(response.status)
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        if response.content_type:
            lines.append(f"Content-Type: {response.content_type}")
        if response.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(response.body)}")
        lines += [f"{name}: {value}" for name, value in response.headers]
        origin = exchange.head.origin if exchange.head is not None else ""
        if origin and self._server.gate.allows_origin(origin):
            lines += [f"Access-Control-Allow-Origin: {origin}", "Vary: Origin"]
        if is_last:
            lines.append("Connection: close")
        body = b"" if exchange.is_bare else response.body
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    # -- how it ends -------------------------------------------------------------------

    def _linger(self) -> None:
        """Read on without looking at it, so that the client gets to read the answer."""
        self._is_lingering = True
        self._flush()

    def _end(self) -> None:
        if self._transport is None:
            return
        if not self._is_lingering:
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._resume()
        self._wait(LINGER_S)

    def close_when_idle(self) -> None:
        """End now, or with the last answer that is due."""
        if not self._exchanges and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut off."""
        if self._transport is not None:
            self._transport.abort()

    def _be_idle(self) -> None:
        self.idle_since = self._server.loop.time()
        self._wait(IDLE_S)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self._server.loop.call_later(seconds, self._is_late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        if self._is_lingering or (self._current is None and not self._unseen):
            self.abort()
        else:
            self._refuse(408, "the request does not come to its end")

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
