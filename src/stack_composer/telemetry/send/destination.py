"""What is sent where: one frozen ``Destination``, out of configuration and environment.

The configuration has one address, protocol and so on; OpenTelemetry's variables may say
otherwise for a single signal (``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``). So a destination
is three ways out, one a signal, which are mostly the same. Consent is given to where they
lead (``origin``); whoever asks for the words of one request asks for a signal.

What a person wrote counts more than what a program inherits: an address for uploads, or
one given in code, is never replaced by a variable of OpenTelemetry. And headers, which
are credentials, go only to the origin that their own source names: those of a variable
never to an address that stands elsewhere while the environment names another one.

Nothing is resolved and no connection is opened; of files it is only seen that they can be
read. Plain http is for this computer alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from stack_composer.telemetry.config_options import COMPRESSIONS
from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.model import SIGNALS
from stack_composer.telemetry.send import headers as header_rules
from stack_composer.telemetry.send.addresses import Address, address_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final, NoReturn

    from stack_composer.telemetry.config import Config

PURPOSES: Final = ("upload", "otlp_http", "otlp_grpc")
PROTOCOLS: Final = ("http/protobuf", "http/json", "grpc", "jaeger", "put")
FORMS: Final = {
    "http/protobuf": "protobuf",
    "http/json": "json",
    "grpc": "protobuf",
    "jaeger": "thrift",
    "put": "jsonl",
}
"""What bodies are written in, by protocol; ``otlp.requests`` makes them."""

UPLOAD_HEADERS: Final = "STACK_COMPOSER_UPLOAD_HEADERS"
"""Headers of uploads alone, in the form of OpenTelemetry's variables; they win."""

JAEGER_PATH: Final = "/api/traces"
SERVICES: Final = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
TIMEOUT_PROBABLY_MEANT_S: Final = 0.1
"""Who sets less has counted seconds, as the official Python exporters do."""

_PREFIX: Final = "OTEL_EXPORTER_OTLP"
_ONLY_HERE: Final = "use https://; plain http is only for this computer, such as http://localhost"


class Tls(NamedTuple):
    """Files of one way out (PEM), each a path or None."""

    certificate: str | None
    client_certificate: str | None
    client_key: str | None


class Way(NamedTuple):
    """How one signal goes out.

    Attributes:
        address: Taken apart.
        url: Whole, as it is asked for; of ``put`` with ``{name}`` still in it.
        protocol: One of ``PROTOCOLS``.
        compression: "gzip", "zstd" or "none".
        timeout_s: Of one request; 0 for no limit.
        tls: Files.
        headers: Secrets, by lower-case name.
    """

    address: Address
    url: str
    protocol: str
    compression: str
    timeout_s: float
    tls: Tls
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Way({self.address.origin!r}, {self.protocol!r})"


class Destination:
    """Where something is sent, and how. Frozen; its ``repr`` shows no secret.

    Attributes:
        purpose: One of ``PURPOSES``.
        protocol: One of ``PROTOCOLS``; a signal may differ (``protocol_of``).
        url: As configured: a base, or full.
        compression: "gzip", "zstd" or "none"; a signal may differ.
        timeout_s: Of one request; 0 for no limit.
        certificate: A file of certificates to trust (PEM), or None for the system's.
        client_certificate: A file that servers are shown (PEM), or None.
        client_key: Its private key (PEM), or None.
        headers: Secret values by lower-case name, of the general way. Empty if they are
            in the keychain, which is opened by ``open_sender`` and not before.
        headers_from: "environment" or "keychain".
        warnings: What was ignored and why.
        signals: What this destination takes: all, or only traces.
    """

    __slots__ = (
        "_ways",
        "certificate",
        "client_certificate",
        "client_key",
        "compression",
        "headers",
        "headers_from",
        "protocol",
        "purpose",
        "signals",
        "timeout_s",
        "url",
        "warnings",
    )

    purpose: str
    protocol: str
    url: str
    compression: str
    timeout_s: float
    certificate: str | None
    client_certificate: str | None
    client_key: str | None
    headers: Mapping[str, str]
    headers_from: str
    warnings: tuple[str, ...]
    signals: tuple[str, ...]
    _ways: Mapping[str, Way]

    def __init__(
        self,
        purpose: str,
        url: str,
        general: Way,
        ways: Mapping[str, Way],
        *,
        headers_from: str = "environment",
        warnings: tuple[str, ...] = (),
    ) -> None:
        values: dict[str, Any] = {
            "_ways": dict(ways),
            "purpose": purpose,
            "url": url,
            "protocol": general.protocol,
            "compression": general.compression,
            "timeout_s": general.timeout_s,
            "headers": dict(general.headers),
            "headers_from": headers_from,
            "warnings": warnings,
            "signals": tuple(ways),
            **general.tls._asdict(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        message = f"Destination is frozen: {name} cannot be set"
        raise AttributeError(message)

    def __repr__(self) -> str:
        return f"Destination({self.purpose!r}, {self.protocol!r}, {self.origin!r})"

    @property
    def origin(self) -> str:
        """What consent is given to: ``https://host:port``, the port always written.

        Where signals go to different places, all of them, sorted, with blanks between: so
        consent to one of them is none to the others.
        """
        return " ".join(sorted({way.address.origin for way in self._ways.values()}))

    @property
    def is_one_object(self) -> bool:
        """Whether this is the address of a single object, which takes a single bundle."""
        return self.protocol == "put" and "{name}" not in self.url

    def way_of(self, signal: str) -> Way:
        """How a signal goes out.

        Raises:
            SendError: This destination does not take that signal.
        """
        way = self._ways.get(signal)
        if way is None:
            raise SendError(
                f"{self.origin} takes {' and '.join(self.signals)}, not {signal}",
                hint=f"add --signal {self.signals[0]}",
            )
        return way

    def url_of(self, signal: str, name: str = "") -> str:
        """The full address of one request.

        Args:
            signal: One of ``signals``.
            name: Of the object, for ``put``.

        Raises:
            SendError: This destination does not take that signal.
        """
        way = self.way_of(signal)
        if way.protocol == "put":
            return way.url.replace("{name}", quote(name, safe=""))
        return way.url

    def shown_url_of(self, signal: str, name: str = "") -> str:
        """As ``url_of``, for people and logs: without the query, which may be a signature.

        Raises:
            SendError: This destination does not take that signal.
        """
        url, separator, _ = self.url_of(signal, name).partition("?")
        return f"{url}?..." if separator else url

    def protocol_of(self, signal: str) -> str:
        """The protocol of a signal, one of ``PROTOCOLS``.

        Raises:
            SendError: This destination does not take that signal.
        """
        return self.way_of(signal).protocol

    def form_of(self, signal: str) -> str:
        """What bodies of a signal are written in: "protobuf", "json", "thrift" or "jsonl".

        Raises:
            SendError: This destination does not take that signal.
        """
        return FORMS[self.way_of(signal).protocol]


def destination_of(
    config: Config, purpose: str, environ: Mapping[str, str] | None = None
) -> Destination:
    """Work out where something goes.

    Args:
        config: What is configured.
        purpose: One of ``PURPOSES``. Uploads without an address of their own go where the
            exporters do.
        environ: For what OpenTelemetry's variables say of one signal, and for headers; by
            default this process's own.

    Raises:
        SendError: There is no address, or none that may be sent to; a file cannot be
            read. The hint says what to change.
        ValueError: ``purpose`` is none.
    """
    if purpose not in PURPOSES:
        message = f"purpose must be one of {PURPOSES}, not {purpose!r}"
        raise ValueError(message)
    return _Reading(config, purpose, os.environ if environ is None else environ).destination()


class _Reading:
    """One reading of all sources."""

    def __init__(self, config: Config, purpose: str, environ: Mapping[str, str]) -> None:
        self.config = config
        self.purpose = purpose
        self.environ = environ
        self.warnings: list[str] = []
        self.inherits = purpose != "upload" or not config.upload_endpoint
        """Whether the address is the exporters', and their variables count."""
        self.url, self.label = self._base()
        self.protocol = self._protocol()

    def destination(self) -> Destination:
        signals = ("traces",) if self.protocol == "jaeger" else SIGNALS
        general = self._way(None)
        ways = {signal: self._way(signal) for signal in signals}
        self._judge_timeout()
        return Destination(
            self.purpose,
            self.url,
            general,
            ways,
            headers_from=self.config.upload_headers_from,
            # A mistake in a general variable would be said once for each signal.
            warnings=tuple(dict.fromkeys(self.warnings)),
        )

    # -- where ----------------------------------------------------------------------

    def _base(self) -> tuple[str, str]:
        config = self.config
        if not self.inherits:
            return config.upload_endpoint, "upload.endpoint"
        if config.otlp_endpoint:
            return config.otlp_endpoint, _label_of(config, "otlp_endpoint", "otlp.endpoint")
        variable = f"{_PREFIX}_ENDPOINT"
        named = self.environ.get(variable, "")
        is_grpc = self.purpose == "otlp_grpc" or config.otlp_protocol == "grpc"
        if is_grpc and named and "://" not in named:
            # Which the configuration refuses, for HTTP rightly.
            return self._with_scheme(named, f"{_PREFIX}_INSECURE"), variable
        if self.purpose == "upload":
            raise SendError(
                "there is no destination: upload.endpoint is not set",
                hint='set endpoint = "https://..." under [upload] in telemetry.toml',
            )
        return ("http://localhost:4317" if is_grpc else "http://localhost:4318"), "the default"

    def _with_scheme(self, text: str, *variables: str) -> str:
        if "://" in text:
            # F4: the scheme wins over INSECURE.
            return text
        insecure = next((self.environ[name] for name in variables if self.environ.get(name)), "")
        return ("http://" if insecure.strip().lower() == "true" else "https://") + text

    def _protocol(self) -> str:
        config = self.config
        if self.purpose == "otlp_grpc":
            return "grpc"
        if self.purpose == "otlp_http":
            if config.otlp_protocol == "grpc":
                self.warnings.append(
                    "otlp.protocol is grpc, which the exporter otlp_http does not speak: "
                    "http/protobuf is (the exporter otlp_grpc speaks gRPC)"
                )
                return "http/protobuf"
            return config.otlp_protocol
        if config.upload_protocol != "auto":
            return config.upload_protocol
        path = address_of(self.url, self.label).path
        if path.rstrip("/").endswith(JAEGER_PATH):
            return "jaeger"
        return config.otlp_protocol if self.inherits else "http/protobuf"

    # -- one way out ----------------------------------------------------------------

    def _way(self, signal: str | None) -> Way:
        """Read how a signal goes out; None: the general way, of whose address the base is."""
        protocol = self._protocol_of(signal)
        base, label, is_whole = self._address_of(signal)
        address = address_of(base, label)
        if address.scheme == "http" and not address.is_loopback:
            raise SendError(f"{label} would send to {address.origin} unencrypted", hint=_ONLY_HERE)
        tls = self._tls(signal)
        if address.scheme == "https":
            _check_files(tls)
        return Way(
            address,
            self._whole(address, protocol, signal, is_whole=is_whole),
            protocol,
            self._compression(signal),
            self._timeout_s(signal),
            tls,
            self._headers(signal, address),
        )

    def _variable(self, signal: str | None, what: str) -> tuple[str, str]:
        """Name and value of a signal's own variable, or two empty texts."""
        if signal is None or not self.inherits:
            return "", ""
        name = f"{_PREFIX}_{signal.upper()}_{what}"
        value = self.environ.get(name, "").strip()
        return (name, value) if value else ("", "")

    def _address_of(self, signal: str | None) -> tuple[str, str, bool]:
        name, value = self._variable(signal, "ENDPOINT")
        if not value or self.config.origin.get("otlp_endpoint") == "argument":
            return self.url, self.label, False
        if self.protocol == "grpc":
            general = f"{_PREFIX}_INSECURE"
            value = self._with_scheme(value, name.replace("ENDPOINT", "INSECURE"), general)
        return value, name, True

    def _whole(self, address: Address, protocol: str, signal: str | None, *, is_whole: bool) -> str:
        if protocol == "grpc":
            if address.path.strip("/") or address.query:
                self.warnings.append(
                    f"{self.label}: gRPC has no paths, so that of the address is left out"
                )
            return f"{address.origin}/{SERVICES[signal or 'traces']}/Export"
        path = address.path
        if protocol == "jaeger":
            path = path if path.strip("/") else JAEGER_PATH
        elif protocol != "put" and not is_whole:
            path = f"{path.rstrip('/')}/v1/{signal or 'traces'}"
        scheme, port = address.scheme, address.port
        netloc = address.netloc
        if port == {"http": 80, "https": 443}[scheme]:
            netloc = netloc.rpartition(":")[0]
        query = f"?{address.query}" if address.query else ""
        return f"{scheme}://{netloc}{path or '/'}{query}"

    def _protocol_of(self, signal: str | None) -> str:
        name, value = self._variable(signal, "PROTOCOL")
        if not value or self.purpose == "upload":
            return self.protocol
        word = value.lower()
        allowed = ("grpc",) if self.purpose == "otlp_grpc" else ("http/protobuf", "http/json")
        if word in allowed:
            return word
        if self.purpose != "otlp_grpc" or word not in PROTOCOLS:
            self.warnings.append(f"{name} is not {' or '.join(allowed)}: ignored")
        return self.protocol

    def _compression(self, signal: str | None) -> str:
        general = (
            self.config.upload_compression
            if self.purpose == "upload"
            else self.config.otlp_compression
        )
        name, value = self._variable(signal, "COMPRESSION")
        if not value or self.purpose == "upload":
            return general
        word = value.lower()
        if word in COMPRESSIONS:
            return word
        self.warnings.append(f"{name} is not {' or '.join(COMPRESSIONS)}: ignored")
        return general

    def _timeout_s(self, signal: str | None) -> float:
        config = self.config
        general = config.upload_timeout_s if self.purpose == "upload" else config.otlp_timeout_s
        name, value = self._variable(signal, "TIMEOUT")
        if not value or self.purpose == "upload":
            return general
        # Milliseconds, 0 for no limit, and an hour at most, as of the general one.
        if not value.isascii() or not value.isdigit() or len(value) > 7 or int(value) > 3_600_000:
            self.warnings.append(f"{name} is not a number of milliseconds: ignored")
            return general
        self._judge(name, int(value) / 1000)
        return int(value) / 1000

    def _judge_timeout(self) -> None:
        source = self.config.origin.get("otlp_timeout_s", "")
        if self.purpose != "upload" and source.startswith("environment"):
            self._judge(f"{_PREFIX}_TIMEOUT", self.config.otlp_timeout_s)

    def _judge(self, name: str, timeout_s: float) -> None:
        if 0 < timeout_s < TIMEOUT_PROBABLY_MEANT_S:
            self.warnings.append(
                f"{name} counts milliseconds: every request that takes more than "
                f"{timeout_s * 1000:g} ms fails; for seconds multiply by 1000"
            )

    def _tls(self, signal: str | None) -> Tls:
        config = self.config
        values = {}
        for field, general in (
            ("certificate", config.otlp_certificate),
            ("client_certificate", config.otlp_client_certificate),
            ("client_key", config.otlp_client_key),
        ):
            _, value = self._variable(signal, field.upper())
            values[field] = os.path.abspath(os.path.expanduser(value)) if value else general
        return Tls(**values)

    # -- headers --------------------------------------------------------------------

    def _headers(self, signal: str | None, address: Address) -> dict[str, str]:
        if self.config.upload_headers_from == "keychain":
            return {}
        if self.purpose == "upload" and self.environ.get(UPLOAD_HEADERS):
            return self._parsed(UPLOAD_HEADERS)
        if self.protocol == "put":
            # A signed address is the whole permission, and stores refuse a second one.
            return {}
        return self._otel_headers(signal, address)

    def _otel_headers(self, signal: str | None, address: Address) -> dict[str, str]:
        """Take OpenTelemetry's headers, unless its variables mean them for elsewhere."""
        own = f"{_PREFIX}_{signal.upper()}_HEADERS" if signal else ""
        name = own if own and self.environ.get(own) else f"{_PREFIX}_HEADERS"
        if not self.environ.get(name):
            return {}
        theirs = self.environ.get(f"{_PREFIX}_{signal.upper()}_ENDPOINT", "") if signal else ""
        theirs = theirs.strip() or self.environ.get(f"{_PREFIX}_ENDPOINT", "").strip()
        if not theirs and not self.inherits:
            theirs = self.config.otlp_endpoint
        if theirs and not self._is_there(theirs, address):
            self.warnings.append(
                f"{name} goes with another address, so it is not sent to {address.origin}: "
                f"set {UPLOAD_HEADERS}, or keep headers in the keychain"
            )
            return {}
        return self._parsed(name)

    def _is_there(self, url: str, address: Address) -> bool:
        try:
            found = address_of(url if "://" in url else f"{address.scheme}://{url}", "")
        except SendError:
            return False
        return found.origin == address.origin

    def _parsed(self, name: str) -> dict[str, str]:
        headers, warnings = header_rules.parse_headers(self.environ[name], name)
        self.warnings += warnings
        return headers


def _label_of(config: Config, option: str, place: str) -> str:
    source = config.origin.get(option, "")
    return source.removeprefix("environment ") if source.startswith("environment ") else place


def _check_files(tls: Tls) -> None:
    for what, path in zip(
        ("the file of certificates", "the client's certificate", "the client's key"),
        tls,
        strict=True,
    ):
        if path is None:
            continue
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise SendError(
                f"{what} {path} cannot be read: {error.strerror or type(error).__name__}",
                hint="correct certificate, client_certificate and client_key under [otlp]",
            ) from error
    if tls.client_key and not tls.client_certificate:
        raise SendError(
            "there is a client's key without its certificate",
            hint="set client_certificate under [otlp] too",
        )
