"""One request as it leaves, and whoever brings it there.

A ``Message`` is made before anything is sent, so that a preview shows the very bytes that
leave. Only credentials are added later, by the sender, which knows them alone.

A ``Sender`` is for one thread at a time. It opens its connection with the first message
and keeps it; in a forked child it opens one of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from stack_composer.telemetry.errors import SendError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from stack_composer.telemetry.send.answers import Outcome
    from stack_composer.telemetry.send.destination import Destination

CONTENT_TYPES: Final = {
    "http/protobuf": "application/x-protobuf",
    "http/json": "application/json",
    "grpc": "application/grpc",
    "jaeger": "application/vnd.apache.thrift.binary",
    "put": "application/jsonl",
}
_FILE_TYPES: Final = {"gzip": "application/gzip", "zstd": "application/zstd"}
_FILE_ENDINGS: Final = {"gzip": ".gz", "zstd": ".zst", "none": ""}
_GZIP_LEVEL: Final = 4
"""Level 6 takes off another 3 % of spans in protobuf, 9 % in JSON, for half as much time again."""


class Message(NamedTuple):
    """One request exactly as it leaves, credentials apart.

    Attributes:
        signal: "traces", "metrics" or "logs".
        url: Whole; of ``put`` it may hold a signature. ``Destination.shown_url_of`` is
            for people.
        headers: By lower-case name, without credentials.
        body: The very bytes of the HTTP body; for gRPC the protobuf message, which gRPC
            frames and packs itself.
        records: Spans, log records or data points in it.
    """

    signal: str
    url: str
    headers: dict[str, str]
    body: bytes
    records: int


class Sender(Protocol):
    """Whoever brings messages to one destination."""

    def send(self, message: Message) -> Outcome:
        """Send one message and wait for what comes of it; never raises for the network.

        Raises:
            ValueError: The message is for another place, where credentials must not go.
        """

    def close(self) -> None:
        """Close the connection; a later ``send`` opens another."""


def message_of(
    destination: Destination, signal: str, body: bytes, records: int, name: str = ""
) -> Message:
    """Write down one request: its address, headers and packed body; nothing is sent.

    The same arguments give the same bytes.

    Args:
        destination: Where to.
        signal: One that the destination takes.
        body: In ``destination.form_of(signal)``, not packed.
        records: In it.
        name: Of the object, for ``put``: a bundle's. It gets an ending that says how the
            object is packed, instead of one that it has.

    Raises:
        SendError: The destination does not take that signal.
    """
    way = destination.way_of(signal)
    headers = {"content-type": CONTENT_TYPES[way.protocol], "user-agent": user_agent()}
    if way.protocol == "grpc":
        if way.compression != "none":
            headers["grpc-encoding"] = "gzip"
        return Message(signal, destination.url_of(signal), headers, body, records)
    if way.protocol == "put":
        # The object is a packed file, not a text that is packed on its way: a store would
        # have to remember that, and signed addresses seldom allow the header.
        headers["content-type"] = _FILE_TYPES.get(way.compression, headers["content-type"])
        name = name.removesuffix(".zst").removesuffix(".gz") + _FILE_ENDINGS[way.compression]
    elif way.compression != "none":
        headers["content-encoding"] = way.compression
    url = destination.url_of(signal, name)
    return Message(signal, url, headers, _packed(body, way.compression), records)


def _packed(body: bytes, compression: str) -> bytes:
    if compression == "gzip":
        import gzip

        return gzip.compress(body, _GZIP_LEVEL, mtime=0)
    if compression == "zstd":
        from stack_composer.telemetry.store.zstd import compress_frame

        return compress_frame(body)
    return body


def user_agent() -> str:
    """Say who sends, in the form that OTLP asks for: a product, then the exporter."""
    global _user_agent
    if not _user_agent:
        from importlib import metadata

        try:
            version = metadata.version("stack-composer-telemetry")
        except metadata.PackageNotFoundError:
            version = "0"
        _user_agent = f"stack-composer-telemetry/{version} OTel-OTLP-Exporter-Python/{version}"
    return _user_agent


_user_agent = ""


def open_sender(destination: Destination, environ: Mapping[str, str] | None = None) -> Sender:
    """Give the sender of a destination; no connection is opened yet.

    Files of certificates are read now, the keychain if headers are in it, and the proxy
    is decided upon.

    Args:
        destination: Where to.
        environ: For proxies; by default this process's own.

    Raises:
        SendError: An extra is not installed, a file is not what it should be, a proxy is
            not supported, or the keychain is locked.
    """
    import os

    environ = os.environ if environ is None else environ
    missing = what_is_missing(destination)
    if missing is not None:
        raise missing
    if destination.protocol == "grpc":
        from stack_composer.telemetry.send.grpc import GrpcSender

        return GrpcSender(destination, environ)
    from stack_composer.telemetry.send.http import HttpSender

    return HttpSender(destination, environ)


def what_is_missing(destination: Destination) -> SendError | None:
    """Say which extra a destination needs and is not installed; None if all is there.

    Nothing is imported for it.
    """
    from importlib.util import find_spec

    module, message, extra = _NEEDED_BY_GRPC if destination.protocol == "grpc" else _NEEDED
    if find_spec(module) is not None:
        return None
    return SendError(message, hint=f"pip install 'stack-composer-telemetry[{extra}]'")


_NEEDED: Final = "urllib3", "sending needs the package urllib3", "upload"
_NEEDED_BY_GRPC: Final = "grpc", "gRPC needs the package grpcio", "grpc"
