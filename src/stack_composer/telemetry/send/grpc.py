"""Send by gRPC, on grpcio: one call, one outcome.

A message is bytes already, so no generated code is needed: the method is named, and what
is sent and what comes are bytes. Attempts and waits are the caller's, so the library's
own are turned off.

gRPC starts threads in C with the first channel, so none is made before the first message.
The library looks after forks itself; a channel that was made before one is left alone by
the child, which makes its own.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.errors import LineRefusedError, SendError
from stack_composer.telemetry.send import answers
from stack_composer.telemetry.send.answers import Outcome
from stack_composer.telemetry.send.credentials import check_place, credentials_of, secrets_of
from stack_composer.telemetry.send.proxies import proxy_for
from stack_composer.telemetry.send.quiet import unobserved


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Have gRPC write nothing to the standard error of a program that is not ours.

    It would, about each handshake that fails. Whether it may it looks up just once: some
    versions when they are imported, others with the first channel.
    """
    is_ours = "GRPC_VERBOSITY" not in os.environ
    if is_ours:
        os.environ["GRPC_VERBOSITY"] = "NONE"
    try:
        yield
    finally:
        if is_ours:
            os.environ.pop("GRPC_VERBOSITY", None)


with _silence():
    import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

    from stack_composer.telemetry.send.destination import Destination, Tls, Way
    from stack_composer.telemetry.send.proxies import Proxy
    from stack_composer.telemetry.send.sender import Message

_RECONNECT_MS_MAX: Final = 2_000
"""The caller waits between attempts; the channel shall not make it wait longer still."""

_inherited: list[Any] = []
"""Channels of the parent process, kept so that nothing here ends them."""


class GrpcSender:
    """Sends messages to one destination by gRPC; see ``sender.Sender``.

    Args:
        destination: Where to; of gRPC.
        environ: For proxies.

    Raises:
        SendError: As ``open_sender``.
    """

    def __init__(self, destination: Destination, environ: Mapping[str, str]) -> None:
        self._ways: dict[str, Way] = {}
        self._proxies: dict[str, Proxy | None] = {}
        self._metadata: dict[str, tuple[tuple[str, str], ...]] = {}
        self._tls: dict[Tls, Any] = {}
        self._channels: dict[Any, Any] = {}
        self._process = os.getpid()
        for signal in destination.signals:
            way = destination.way_of(signal)
            self._ways[signal] = way
            self._proxies[signal] = _proxy(way, environ)
            credentials = credentials_of(destination, signal)
            # What ends in "-bin" is bytes in gRPC, which no header here is.
            self._metadata[signal] = tuple(
                (name, value) for name, value in credentials.items() if not name.endswith("-bin")
            )
            if way.address.scheme == "https" and way.tls not in self._tls:
                self._tls[way.tls] = _tls_credentials(way.tls)

    def send(self, message: Message) -> Outcome:
        """Send one message and wait for what comes of it; never raises for the network.

        Raises:
            ValueError: The message is for another place, where credentials must not go.
        """
        way = self._ways[message.signal]
        check_place(message, way)
        with unobserved():
            outcome = self._call(message, way)
        secrets = secrets_of(dict(self._metadata[message.signal]), self._proxies[message.signal])
        return outcome._replace(message=answers.clean(outcome.message, secrets))

    def close(self) -> None:
        """Close all channels; a later ``send`` opens others."""
        channels, self._channels = self._channels, {}
        if self._process != os.getpid():
            _inherited.extend(channels.values())
        else:
            for channel in channels.values():
                channel.close()
        self._process = os.getpid()

    def _call(self, message: Message, way: Way) -> Outcome:
        method = "/" + message.url.split("/", 3)[3]
        packed = "grpc-encoding" in message.headers
        try:
            call = self._channel(message, way).unary_unary(method)
            answer = call(
                message.body,
                timeout=way.timeout_s or None,
                metadata=self._metadata[message.signal],
                compression=grpc.Compression.Gzip if packed else grpc.Compression.NoCompression,
            )
        except grpc.RpcError as error:
            return _outcome(error, len(message.body), way, self._proxies[message.signal])
        try:
            return Outcome(answers.DELIVERED, "OK", *answers.partial_of_protobuf(answer))
        except LineRefusedError:
            return Outcome(answers.DELIVERED, "OK", 0, "its answer could not be read")

    def _channel(self, message: Message, way: Way) -> Any:
        if self._process != os.getpid():
            self.close()
        proxy = self._proxies[message.signal]
        key = way.address.origin, way.tls, proxy
        channel = self._channels.get(key)
        if channel is None:
            options = _options(message.headers["user-agent"], proxy)
            with _silence():
                channel = self._made(way, options)
            self._channels[key] = channel
        return channel

    def _made(self, way: Way, options: list[tuple[str, Any]]) -> Any:
        if way.address.scheme == "https":
            return grpc.secure_channel(way.address.netloc, self._tls[way.tls], options)
        return grpc.insecure_channel(way.address.netloc, options)


def _options(user_agent: str, proxy: Proxy | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", answers.ANSWER_BYTES_MAX),
        ("grpc.max_send_message_length", -1),
        ("grpc.primary_user_agent", user_agent),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS_MAX),
        # Channels of one address would share a connection, and so a proxy.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if proxy is None:
        # It would read the environment by rules of its own.
        options.append(("grpc.enable_http_proxy", 0))
    else:
        options.append(("grpc.http_proxy", proxy.url_with_credentials))
    return options


def _proxy(way: Way, environ: Mapping[str, str]) -> Proxy | None:
    proxy = proxy_for(way.address.origin, environ)
    if proxy is not None and proxy.url.startswith("https:"):
        raise SendError(
            f"{proxy.variable} names an https proxy, which gRPC cannot use",
            hint="name a proxy of http://, or send by http/protobuf",
        )
    return proxy


def _tls_credentials(tls: Tls) -> Any:
    roots = _file(tls.certificate) if tls.certificate else _system_roots()
    key, chain = None, None
    if tls.client_certificate:
        chain = _file(tls.client_certificate)
        key = _file(tls.client_key) if tls.client_key else chain
        if b"ENCRYPTED" in key:
            raise SendError(
                f"the key {tls.client_key or tls.client_certificate} is locked by a password",
                hint="give gRPC a key without one",
            )
    return grpc.ssl_channel_credentials(roots, key, chain)


def _file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SendError(
            f"{path} cannot be read: {error.strerror or type(error).__name__}",
            hint="correct certificate, client_certificate and client_key under [otlp]",
        ) from error
    if b"-----BEGIN " not in data:
        raise SendError(f"{path} is not in PEM", hint="convert it: openssl has -outform PEM")
    return data


def _system_roots() -> bytes | None:
    """What this system trusts, as PEM; None where that is not to be had: gRPC's own list."""
    context = ssl.create_default_context()
    found = context.get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode("ascii") or None


def _outcome(error: Any, sent_bytes: int, way: Way, proxy: Proxy | None) -> Outcome:
    code, details = error.code().name, error.details() or ""
    status = details.partition(_OF_PROXY)[2][:3]
    if proxy is not None and code == "UNAVAILABLE" and status.isdigit():
        return answers.outcome_of_proxy(status, proxy.url)
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        for words, verdict, status, ours in _FAILURES:
            if words in details:
                limit = f": more than {way.timeout_s:g} s" if way.timeout_s else ""
                through = f", or at the proxy {proxy.url}" if proxy else ""
                text = ours.format(place=way.address.origin, limit=limit, proxy=through)
                return Outcome(verdict, status, 0, text)
    metadata = error.trailing_metadata() or ()
    return answers.outcome_of_grpc(code, details, metadata, sent_bytes=sent_bytes)


_OF_PROXY: Final = "HTTP proxy returned response code "
_FAILURES: Final = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        answers.REFUSED,
        "certificate",
        "the certificate of {place} is not accepted: it is expired, or of nobody who is trusted",
    ),
    (
        "Hostname Verification Check failed",
        answers.REFUSED,
        "certificate",
        "the certificate of {place} is not accepted: it is for another host",
    ),
    (
        # The same, of older versions.
        "is not in peer certificate",
        answers.REFUSED,
        "certificate",
        "the certificate of {place} is not accepted: it is for another host",
    ),
    (
        "WRONG_VERSION_NUMBER",
        answers.REFUSED,
        "tls",
        "no encrypted connection to {place}: what answers there does not speak TLS",
    ),
    (
        "connect an http1.x server",
        answers.REFUSED,
        "not gRPC",
        "what answers at {place} speaks HTTP/1, not gRPC; http/protobuf has a port of its own",
    ),
    (
        "Connection refused",
        answers.RETRY,
        "UNAVAILABLE",
        "nobody listens at {place}{proxy}",
    ),
    (
        "DNS resolution failed",
        answers.RETRY,
        "UNAVAILABLE",
        "the name in {place} leads to no address",
    ),
    (
        "Deadline Exceeded",
        answers.RETRY,
        "DEADLINE_EXCEEDED",
        "{place} took too long{limit}",
    ),
)
"""What the library counts as unavailable, by a part of its words: some of it no attempt will
mend, and all of it can be said more plainly."""
