"""Send by HTTP, on urllib3: one request, one outcome.

The library brings connections, TLS and proxies. What it would do by itself is turned off:
it follows no redirection and repeats nothing, since whoever sends keeps the books. What
it does not do is added here: a deadline for the whole request, and a bound for the answer,
packed and unpacked.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import zlib
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3 import connection, connectionpool, exceptions

from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.send import answers, deadline
from stack_composer.telemetry.send.answers import Outcome
from stack_composer.telemetry.send.credentials import check_place, credentials_of, secrets_of
from stack_composer.telemetry.send.destination import Tls
from stack_composer.telemetry.send.proxies import proxy_for
from stack_composer.telemetry.send.quiet import unobserved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from stack_composer.telemetry.send.destination import Destination, Way
    from stack_composer.telemetry.send.proxies import Proxy
    from stack_composer.telemetry.send.sender import Message

_PIECE_BYTES: Final = 65_536
_ENCODINGS_MAX: Final = 2


class _TooLargeError(Exception):
    """An answer has more bytes than are taken."""


class _BadAnswerError(Exception):
    """An answer is not packed as it says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Lines:
    """A file that remembers whether its last line was none: the end."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.has_ended = False

    def readline(self, *arguments: Any) -> bytes:
        line: bytes = self.file.readline(*arguments)
        # A line without an end is the last one, too.
        self.has_ended = not line.endswith(b"\n")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _Response(http.client.HTTPResponse):
    """An answer whose headers have to end with an empty line.

    The library takes the end of the connection for one: a server that dies behind
    "HTTP/1.1 200 OK" would have acknowledged.
    """

    fp: Any

    def begin(self) -> None:
        lines = _Lines(self.fp)
        self.fp = lines
        super().begin()
        if self.fp is lines:
            self.fp = lines.file
        if lines.has_ended:
            self.close()
            raise http.client.RemoteDisconnected("the headers are cut short")


class _Connection(connection.HTTPConnection):
    """A connection on a socket with a deadline."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _TlsConnection(connection.HTTPSConnection):
    """The same with TLS; the context makes the encrypted socket."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        return _connect(self)


def _connect(self: connection.HTTPConnection) -> socket.socket:
    try:
        return deadline.connect(self._dns_host, self.port, self.socket_options or ())
    except socket.gaierror as error:
        raise exceptions.NameResolutionError(self.host, self, error) from error
    except TimeoutError as error:
        raise exceptions.ConnectTimeoutError(self, "no connection in time") from error
    except OSError as error:
        raise exceptions.NewConnectionError(self, "no connection") from error


class _Pool(connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(connectionpool.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class HttpSender:
    """Sends messages to one destination by HTTP; see ``sender.Sender``.

    Args:
        destination: Where to; none of gRPC.
        environ: For proxies.

    Raises:
        SendError: As ``open_sender``.
    """

    def __init__(self, destination: Destination, environ: Mapping[str, str]) -> None:
        self._ways: dict[str, Way] = {}
        self._proxies: dict[str, Proxy | None] = {}
        self._credentials: dict[str, dict[str, str]] = {}
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._process = os.getpid()
        for signal in destination.signals:
            way = destination.way_of(signal)
            self._ways[signal] = way
            self._proxies[signal] = proxy_for(way.address.origin, environ)
            self._credentials[signal] = credentials_of(destination, signal)
            if way.address.scheme == "https" and way.tls not in self._contexts:
                self._contexts[way.tls] = tls_context(way.tls)
            if self._proxies[signal] is not None:
                # A proxy that is encrypted itself is shown no certificate of the client's.
                only_trust = Tls(way.tls.certificate, None, None)
                self._contexts.setdefault(only_trust, tls_context(only_trust))

    def send(self, message: Message) -> Outcome:
        """Send one message and wait for what comes of it; never raises for the network.

        Raises:
            ValueError: The message is for another place, where credentials must not go.
        """
        way = self._ways[message.signal]
        check_place(message, way)
        credentials = self._credentials[message.signal]
        proxy = self._proxies[message.signal]
        try:
            with unobserved(), deadline.within(way.timeout_s):
                outcome = self._exchange(message, way, proxy)
        except _TooLargeError:
            outcome = Outcome(
                answers.REFUSED,
                "answer too large",
                0,
                f"its answer has more than {answers.ANSWER_BYTES_MAX >> 20} MiB",
            )
        except _FAILED as error:
            outcome = _failure(error, way, proxy)
        secrets = secrets_of(credentials, proxy, way.address.query)
        return outcome._replace(message=answers.clean(outcome.message, secrets))

    def close(self) -> None:
        """Close all connections; a later ``send`` opens others."""
        managers, self._managers = self._managers, {}
        # In a forked child this closes its copies; the parent's connections live on.
        for manager in managers.values():
            manager.clear()
        self._process = os.getpid()

    def _exchange(self, message: Message, way: Way, proxy: Proxy | None) -> Outcome:
        response = self._manager(message.signal).urlopen(
            "PUT" if way.protocol == "put" else "POST",
            message.url,
            body=message.body,
            headers={**message.headers, **self._credentials[message.signal]},
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(None, None, None),
        )
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            body = _unpacked(_read(response), headers.get("content-encoding", ""))
        except BaseException:
            # What is still to come belongs to no other request.
            response.close()
            raise
        response.release_conn()
        if proxy is not None and response.status == 407:
            return answers.outcome_of_proxy("407", proxy.url)
        return answers.outcome_of_http(way.protocol, response.status, headers, body)

    def _manager(self, signal: str) -> urllib3.PoolManager:
        if self._process != os.getpid():
            self.close()
        manager = self._managers.get(signal)
        if manager is None:
            way, proxy = self._ways[signal], self._proxies[signal]
            # Signals that go the same way share its connection.
            for other, made in self._managers.items():
                same = (self._ways[other].address.origin, self._ways[other].tls)
                if same == (way.address.origin, way.tls) and self._proxies[other] == proxy:
                    manager = made
        if manager is None:
            manager = self._made(way, proxy)
        self._managers[signal] = manager
        return manager

    def _made(self, way: Way, proxy: Proxy | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {"num_pools": 2, "maxsize": 1}
        if way.address.scheme == "https":
            options["ssl_context"] = self._contexts[way.tls]
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            given = {"proxy-authorization": proxy.authorization} if proxy.authorization else {}
            manager = urllib3.ProxyManager(
                proxy.url,
                proxy_headers=given,
                proxy_ssl_context=self._contexts[Tls(way.tls.certificate, None, None)],
                **options,
            )
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager


_FAILED: Final = (
    exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    _BadAnswerError,
    # Of the library, where a program makes errors of them: "system time is way off".
    Warning,
)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Make the context of a way out: certificates are always checked, host names too.

    Raises:
        SendError: A file holds no certificate or key, or a key is locked by a password.
    """
    try:
        context = ssl.create_default_context(cafile=tls.certificate)
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError.
        raise SendError(
            f"{tls.certificate} holds no certificates that can be read",
            hint="it has to be a file of certificates in PEM",
        ) from error
    context.sslsocket_class = deadline.DeadlineTlsSocket
    if tls.client_certificate:
        try:
            # Without a password given, OpenSSL would ask for it on the terminal.
            context.load_cert_chain(tls.client_certificate, tls.client_key, password=lambda: "")
        except (OSError, ValueError) as error:
            raise SendError(
                f"{tls.client_certificate} and its key cannot be used together",
                hint="they have to be PEM and belong together, and the key without a password",
            ) from error
    return context


# -- answers -----------------------------------------------------------------------------


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read what an answer holds, packed as it came."""
    pieces: list[bytes] = []
    size = 0
    while piece := response.read(_PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        size += len(piece)
        if size > answers.ANSWER_BYTES_MAX:
            raise _TooLargeError
    return b"".join(pieces)


def _unpacked(data: bytes, encodings: str) -> bytes:
    """Undo what an answer says was done to it, within bounds.

    Raises:
        _BadAnswerError: It is not packed as it says, or in a way that nobody asked for.
        _TooLargeError: It has more bytes than are taken.
    """
    names = [name.strip().lower() for name in encodings.split(",") if name.strip()]
    if len(names) > _ENCODINGS_MAX:
        raise _BadAnswerError("packed too many times")
    for name in reversed(names):
        if name != "identity" and data:
            data = b"".join(_pieces(data, name))
    return data


def _pieces(data: bytes, encoding: str) -> Iterator[bytes]:
    if encoding in ("gzip", "x-gzip", "deflate"):
        unpacker: Any = zlib.decompressobj(zlib.MAX_WBITS | 32)
        error: type[Exception] = zlib.error
    elif encoding == "zstd":
        from stack_composer.telemetry.store import zstd

        unpacker, error = zstd.ZstdDecompressor(), zstd.ZstdError
    else:
        raise _BadAnswerError("packed in an unknown way")
    try:
        piece = unpacker.decompress(data, answers.ANSWER_BYTES_MAX + 1)
    except error as failed:
        raise _BadAnswerError("not packed as it says") from failed
    if len(piece) > answers.ANSWER_BYTES_MAX:
        raise _TooLargeError
    if not unpacker.eof:
        raise _BadAnswerError("cut short")
    yield piece


# -- failures ----------------------------------------------------------------------------


def _failure(error: Exception, way: Way, proxy: Proxy | None) -> Outcome:
    """Say what a failure means, and where it was; the library's own words are not shown."""
    causes = list(_causes(error))
    place = way.address.origin
    if proxy is not None:
        outcome = _proxy_failure(causes, proxy)
        if outcome is not None:
            return outcome
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            words = f"the certificate of {place} is not accepted: {cause.verify_message}"
            return Outcome(answers.REFUSED, "certificate", 0, words)
    return _network_failure(causes, place, way)


_FAILURES: Final[tuple[tuple[tuple[type[BaseException], ...], str, str, str], ...]] = (
    (
        # Not urllib3's own, among which is whatever goes wrong while connecting.
        (TimeoutError,),
        answers.RETRY,
        "timeout",
        "{place} took too long{limit}",
    ),
    (
        (ssl.SSLEOFError, ssl.SSLZeroReturnError),
        answers.RETRY,
        "no answer",
        "{place} closed the connection",
    ),
    (
        (ssl.SSLError,),
        answers.REFUSED,
        "tls",
        "no encrypted connection to {place}: {reason}",
    ),
    (
        (socket.gaierror,),
        answers.RETRY,
        "no connection",
        "the name in {place} leads to no address",
    ),
    (
        (ConnectionRefusedError,),
        answers.RETRY,
        "no connection",
        "nobody listens at {place}",
    ),
    (
        (http.client.RemoteDisconnected,),
        answers.RETRY,
        "no answer",
        "{place} closed the connection without an answer",
    ),
    (
        (http.client.BadStatusLine, http.client.UnknownProtocol),
        answers.REFUSED,
        "not HTTP",
        "what answers at {place} does not speak HTTP/1; gRPC has a port of its own",
    ),
    (
        (exceptions.NewConnectionError,),
        answers.RETRY,
        "no connection",
        "no way to {place}",
    ),
    (
        (_BadAnswerError,),
        answers.RETRY,
        "no answer",
        "the answer of {place} is {reason}",
    ),
)
"""What is looked for in turn; each among all causes before the next."""


def _network_failure(causes: list[BaseException], place: str, way: Way) -> Outcome:
    for kinds, verdict, status, words in _FAILURES:
        for cause in causes:
            if isinstance(cause, kinds):
                limit = f": more than {way.timeout_s:g} s" if way.timeout_s else ""
                reason = str(getattr(cause, "reason", "") or "").replace("_", " ").lower()
                text = words.format(place=place, limit=limit, reason=reason)
                return Outcome(verdict, status, 0, text)
    return Outcome(answers.RETRY, "no answer", 0, f"the connection to {place} broke")


def _proxy_failure(causes: list[BaseException], proxy: Proxy) -> Outcome | None:
    """Say what went wrong with the proxy itself; None: nothing did."""
    for cause in causes:
        # The words are those of http.client: "Tunnel connection failed: 407 Proxy ...".
        status = str(cause).partition("Tunnel connection failed: ")[2][:3]
        if type(cause) is OSError and status.isdigit():
            return answers.outcome_of_proxy(status, proxy.url)
    if not any(isinstance(cause, exceptions.ProxyError) for cause in causes):
        return None
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            words = f"no encrypted connection to the proxy {proxy.url}"
            return Outcome(answers.REFUSED, "proxy", 0, words)
    return Outcome(answers.RETRY, "no connection", 0, f"no way to the proxy {proxy.url}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it comes of, the outermost first."""
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < 32:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [getattr(found, "original_error", None), getattr(found, "reason", None)]
        waiting += [*found.args, found.__cause__, found.__context__]
