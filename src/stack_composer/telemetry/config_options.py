"""Every option, once: this table drives parsing, checks, ``config show`` and the docs.

Whoever adds an option adds a row here and an annotation to ``config.Config``;
tests fail until ``docs/configuration.md`` and the annotations follow. A row says
what a value may be (kind, bounds, choices), never how it is used.

The module is on the hot start path, so it holds plain slotted objects and imports
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

NETWORK_EXPORTERS: Final = ("otlp_http", "otlp_grpc")
"""Those that need the same consent as an upload."""

EXPORTERS_AVAILABLE: Final = ("file", "stdout", *NETWORK_EXPORTERS)
"""What ``exporter`` may name in this version."""

EXPORTERS_KNOWN: Final = (*EXPORTERS_AVAILABLE, "prometheus")
"""What ``exporter`` will come to name: asking early gets an answer, not a riddle."""

COMPRESSIONS: Final = ("gzip", "zstd", "none")
"""How what is sent may be packed."""

DURABILITIES: Final = ("buffered", "batch", "sync")
"""When written lines are forced to the disk; docs/format.md has each one's promise."""

SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
"""OpenTelemetry's own names for its samplers."""

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
DAY_S: Final = 86_400
COUNT_MAX: Final = 1_000_000


class Option:
    """One option: where it may be set, and which values are allowed.

    Attributes:
        name: The attribute of ``Config`` and the argument of ``configure``.
        section: Table of ``telemetry.toml``; "" for an option that the file lacks.
        key: Key in that table.
        kind: "bool", "int", "float", "text", "texts" (one text or a list of them),
            "path", "url", "mapping", "rules" or "exceptions" (of the guard, which
            checks them: ``guard/own.py``).
        default: The value when nothing sets it; None where it is worked out
            (``default_text`` says how) or where None means "no limit".
        minimum: Smallest allowed number.
        maximum: Largest allowed number.
        choices: Allowed texts, or () for any.
        variable: Environment variable, or "".
        variable_unit: What one unit of the variable's number is worth here.
        inherits: Name of the option whose value holds when this one is not set.
        default_text: The default in words, for people.
        doc: What it does; one or two sentences.
    """

    __slots__ = (
        "choices",
        "default",
        "default_text",
        "doc",
        "inherits",
        "key",
        "kind",
        "maximum",
        "minimum",
        "name",
        "section",
        "variable",
        "variable_unit",
    )

    def __init__(  # noqa: PLR0913  # a row has as many columns as it needs
        self,
        name: str,
        place: str,
        kind: str,
        *,
        default: Any,
        doc: str,
        minimum: float = 0,
        maximum: float = COUNT_MAX,
        choices: tuple[str, ...] = (),
        variable: str = "",
        variable_unit: float = 1,
        inherits: str = "",
        default_text: str = "",
    ) -> None:
        self.name = name
        self.section, _, self.key = place.partition(".")
        self.kind = kind
        self.default = default
        self.doc = doc
        self.minimum = minimum
        self.maximum = maximum
        self.choices = choices
        self.variable = variable
        self.variable_unit = variable_unit
        self.inherits = inherits
        self.default_text = default_text

    @property
    def place(self) -> str:
        """The option's dotted name in the file, such as ``upload.endpoint``, or ""."""
        return f"{self.section}.{self.key}" if self.section else ""


OPTIONS: Final = (
    # The order is the order of ``config show`` and of the documentation: first the
    # specification's keys, then ours.
    Option(
        "enabled",
        "telemetry.enabled",
        "bool",
        default=True,
        doc="Record at all. Turning it off stops new writes within a second and keeps "
        "the files until they are purged.",
    ),
    Option(
        "exporter",
        "telemetry.exporter",
        "texts",
        default=("file",),
        doc="Where redacted records go: `file` (bundles in the folder), `stdout` (OTLP "
        "JSON lines), `otlp_http` and `otlp_grpc` (a server, while programs record; needs "
        "`upload_enabled` and your consent), or a list of these.",
        choices=EXPORTERS_KNOWN,
    ),
    Option(
        "local_retention_days",
        "telemetry.local_retention_days",
        "int",
        default=30,
        doc="Bundles this many days old are deleted; 0 keeps none that is closed.",
        maximum=36_500,
    ),
    Option(
        "upload_enabled",
        "telemetry.upload_enabled",
        "bool",
        default=False,
        doc="Permit that records leave this computer, by `upload` or a network exporter. "
        "Each destination needs your consent too: `stack-composer telemetry consent`.",
    ),
    Option(
        "directory",
        "telemetry.directory",
        "path",
        default=None,
        doc="The folder of the bundles. In the file: an absolute path, or one that "
        "starts with `~`.",
        variable="STACK_COMPOSER_TELEMETRY_DIR",
        default_text="the platform's data folder, `stack-composer/telemetry`",
    ),
    Option(
        "gdpr",
        "telemetry.gdpr",
        "bool",
        default=False,
        doc="Record nothing at all, and delete what there is after each stack generation, "
        "like the flag `--gdpr`. Of the variable's values only `0`, `false`, `no` and `off` "
        "leave recording on.",
        variable="STACK_COMPOSER_GDPR",
    ),
    Option(
        "service_name",
        "telemetry.service_name",
        "text",
        default=None,
        doc="The resource's `service.name`.",
        variable="OTEL_SERVICE_NAME",
        default_text="`unknown_service:` and the name of the executable",
    ),
    Option(
        "upload_endpoint",
        "upload.endpoint",
        "url",
        default="",
        doc="Where uploads go: https, or http on this computer. Of OTLP the base, to which "
        "`v1/traces` and its relatives are appended; a path that ends in `/api/traces` is "
        "Jaeger's. Credentials never stand in the file. Not set: `otlp.endpoint`.",
        variable="STACK_COMPOSER_UPLOAD_ENDPOINT",
    ),
    Option(
        "upload_compression",
        "upload.compression",
        "text",
        default="gzip",
        doc="How uploads are packed.",
        choices=COMPRESSIONS,
        variable="STACK_COMPOSER_UPLOAD_COMPRESSION",
    ),
    Option(
        "upload_protocol",
        "upload.protocol",
        "text",
        default="auto",
        doc="What uploads are written in: OTLP over HTTP (`http/protobuf`, `http/json`), "
        "OTLP over `grpc`, Jaeger's Thrift over HTTP (`jaeger`), or whole bundles by `put`, "
        "for an object store; the address then holds `{name}`. `auto`: `jaeger` where the "
        "path ends in `/api/traces`, otherwise `http/protobuf`.",
        choices=("auto", "http/protobuf", "http/json", "grpc", "jaeger", "put"),
        variable="STACK_COMPOSER_UPLOAD_PROTOCOL",
    ),
    Option(
        "upload_mode",
        "upload.mode",
        "text",
        default="raw",
        doc="What uploads hold: `raw` records, or their `aggregate`: counts and histograms "
        "by name, no record itself. `dp` is for a later version.",
        choices=("raw", "aggregate", "dp"),
        variable="STACK_COMPOSER_UPLOAD_MODE",
    ),
    Option(
        "upload_request_bytes_max",
        "upload.request_bytes_max",
        "int",
        default=3_500_000,
        doc="Bytes of one request, before it is packed. Most servers take 4 MiB by gRPC and "
        "20 MiB by HTTP; one that says that it is too large gets smaller ones.",
        minimum=16 * KIB,
        maximum=64 * MIB,
    ),
    Option(
        "upload_timeout_s",
        "upload.timeout_s",
        "float",
        default=30.0,
        doc="Seconds that one request may take; 0 for no limit.",
        maximum=3_600.0,
    ),
    Option(
        "upload_give_up_s",
        "upload.give_up_s",
        "float",
        default=300.0,
        doc="After so many seconds of failures an upload ends; the next one goes on there.",
        maximum=86_400.0,
    ),
    Option(
        "upload_headers_from",
        "upload.headers_from",
        "text",
        default="environment",
        doc="Where the headers of uploads and exporters stand, such as `authorization`: in "
        "the `environment` (`OTEL_EXPORTER_OTLP_HEADERS`), or in the `keychain`, where "
        "`stack-composer telemetry headers set` puts them (needs the extra `encrypt`).",
        choices=("environment", "keychain"),
    ),
    Option(
        "otlp_endpoint",
        "otlp.endpoint",
        "url",
        default="",
        doc="Where the exporters `otlp_http` and `otlp_grpc` send to. Of HTTP the base, to "
        "which `v1/traces` and its relatives are appended.",
        variable="OTEL_EXPORTER_OTLP_ENDPOINT",
        default_text="`http://localhost:4318`, for gRPC `http://localhost:4317`",
    ),
    Option(
        "otlp_protocol",
        "otlp.protocol",
        "text",
        default="http/protobuf",
        doc="What `otlp_http` writes in.",
        choices=("http/protobuf", "http/json", "grpc"),
        variable="OTEL_EXPORTER_OTLP_PROTOCOL",
    ),
    Option(
        "otlp_compression",
        "otlp.compression",
        "text",
        default="gzip",
        doc="How the exporters pack.",
        choices=COMPRESSIONS,
        variable="OTEL_EXPORTER_OTLP_COMPRESSION",
    ),
    Option(
        "otlp_timeout_s",
        "otlp.timeout_s",
        "float",
        default=10.0,
        doc="Seconds that one request may take, 0 for no limit. The variable counts "
        "milliseconds, as OpenTelemetry specifies.",
        maximum=3_600.0,
        variable="OTEL_EXPORTER_OTLP_TIMEOUT",
        variable_unit=0.001,
    ),
    Option(
        "otlp_certificate",
        "otlp.certificate",
        "path",
        default=None,
        doc="A file of certificates (PEM) to trust, for uploads too.",
        variable="OTEL_EXPORTER_OTLP_CERTIFICATE",
        default_text="those that this system trusts",
    ),
    Option(
        "otlp_client_certificate",
        "otlp.client_certificate",
        "path",
        default=None,
        doc="The certificate (PEM) that servers are shown, for uploads too.",
        variable="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        default_text="none",
    ),
    Option(
        "otlp_client_key",
        "otlp.client_key",
        "path",
        default=None,
        doc="Its private key (PEM).",
        variable="OTEL_EXPORTER_OTLP_CLIENT_KEY",
        default_text="none",
    ),
    Option(
        "otlp_queue_bytes_max",
        "otlp.queue_bytes_max",
        "int",
        default=256 * MIB,
        doc="Room in bytes for what waits for a destination; beyond it the oldest is "
        "dropped and counted. With `file` among the exporters the bundles are the queue.",
        minimum=MIB,
        maximum=64 * GIB,
    ),
    Option(
        "otlp_close_s_max",
        "otlp.close_s_max",
        "float",
        default=1.0,
        doc="A program that ends waits so many seconds at most for what is still to be "
        "sent; what is left goes with the next program's.",
        maximum=60.0,
    ),
    Option(
        "serve_http_port",
        "serve.http_port",
        "int",
        default=4318,
        doc="Where `serve` takes OTLP over HTTP, on 127.0.0.1; 0: nowhere.",
        maximum=65_535,
    ),
    Option(
        "serve_grpc_port",
        "serve.grpc_port",
        "int",
        default=4317,
        doc="Where `serve` takes OTLP over gRPC, on 127.0.0.1; 0: nowhere.",
        maximum=65_535,
    ),
    Option(
        "serve_request_bytes_max",
        "serve.request_bytes_max",
        "int",
        default=64 * MIB,
        doc="Bytes of one request that `serve` takes, packed and unpacked.",
        minimum=KIB,
        maximum=GIB,
    ),
    Option(
        "serve_waiting_bytes_max",
        "serve.waiting_bytes_max",
        "int",
        default=128 * MIB,
        doc="Bytes of all requests that wait in `serve`; beyond it a request is told to "
        "come again (429).",
        minimum=MIB,
        maximum=16 * GIB,
    ),
    Option(
        "serve_connections_max",
        "serve.connections_max",
        "int",
        default=256,
        doc="Connections that `serve` holds at once.",
        minimum=1,
        maximum=65_535,
    ),
    Option(
        "serve_hosts",
        "serve.hosts",
        "texts",
        default=(),
        doc="Names, besides those of this computer's loopback, under which requests may "
        "ask for `serve`: against DNS rebinding.",
    ),
    Option(
        "serve_origins",
        "serve.origins",
        "texts",
        default=(),
        doc="Origins of web pages, such as `http://localhost:3000`, that may send to "
        "`serve`; none by default.",
    ),
    Option(
        "bundle_bytes_max",
        "store.bundle_bytes_max",
        "int",
        default=32 * MIB,
        doc="A bundle that has grown to this many bytes is closed and a new one begun.",
        minimum=4 * KIB,
        maximum=GIB,
    ),
    Option(
        "bundle_age_s_max",
        "store.bundle_age_s_max",
        "int",
        default=3_600,
        doc="A bundle that has been written to for this many seconds is closed and a "
        "new one begun.",
        minimum=1,
        maximum=7 * DAY_S,
    ),
    Option(
        "kept_bytes_max",
        "store.kept_bytes_max",
        "int",
        default=GIB,
        doc="Room in bytes for all bundles together; beyond it the oldest are deleted.",
        minimum=MIB,
        maximum=1024 * GIB,
    ),
    Option(
        "durability",
        "store.durability",
        "text",
        default="buffered",
        doc="What a power cut may take: `buffered` leaves written lines to the operating "
        "system until `flush` or sealing, `batch` forces them to the disk after each turn "
        "of the writer, `sync` with each line. [What survives what](format.md) has the "
        "promises. A killed program loses the same with each.",
        choices=DURABILITIES,
    ),
    Option(
        "throttle_free_bytes",
        "store.throttle_free_bytes",
        "int",
        default=GIB,
        doc="With less free room on the disk than this, bundles are smaller and one trace "
        "in four is kept, with all errors and slow spans. 0: never. On a small disk at "
        "most a tenth of it counts.",
        maximum=1024 * GIB,
    ),
    Option(
        "critical_free_bytes",
        "store.critical_free_bytes",
        "int",
        default=256 * MIB,
        doc="With less than this, one trace in 32 is kept, of log records only warnings and "
        "worse, and the oldest sealed bundles are deleted. 0: never. At most a fortieth of "
        "the disk counts.",
        maximum=1024 * GIB,
    ),
    Option(
        "stop_free_bytes",
        "store.stop_free_bytes",
        "int",
        default=64 * MIB,
        doc="With less than this nothing is written until there is room again. 0: only when "
        "the disk is full. At most a hundredth of the disk counts.",
        maximum=1024 * GIB,
    ),
    Option(
        "flush_s",
        "store.flush_s",
        "float",
        default=1.0,
        doc="A finished record reaches its bundle after at most this many seconds. The "
        "variable counts milliseconds.",
        minimum=0.01,
        maximum=60.0,
        variable="OTEL_BSP_SCHEDULE_DELAY",
        variable_unit=0.001,
    ),
    Option(
        "buffered_records_max",
        "store.buffered_records_max",
        "int",
        default=65_536,
        doc="Records that may wait for the writer; beyond it the newest are dropped and counted.",
        minimum=1,
        maximum=10_000_000,
        variable="OTEL_BSP_MAX_QUEUE_SIZE",
    ),
    Option(
        "encryption",
        "store.encryption",
        "text",
        default="none",
        doc="How bundles lie on the disk: `none` (plain files, for their owner alone) or "
        "`sqlcipher` (an encrypted database; needs the extra `encrypt`). "
        "`stack-composer telemetry store encrypt` turns it on and converts what is there.",
        choices=("none", "sqlcipher"),
    ),
    Option(
        "key_file",
        "store.key_file",
        "path",
        default=None,
        doc="Keep the keys of new encrypted databases in this file, mode 0600, instead of "
        "the keychain; it is made if it is not there.",
        variable="STACK_COMPOSER_TELEMETRY_KEY_FILE",
        default_text="none: the keychain, or the passphrase",
    ),
    Option(
        "profile",
        "redaction.profile",
        "text",
        default="default",
        doc="Which set of redaction rules applies; `strict` also masks IP addresses and "
        "other quasi-identifiers.",
        choices=("default", "strict"),
    ),
    Option(
        "identifiers",
        "redaction.identifiers",
        "text",
        default="hmac",
        doc="How project and user ids are hashed: `hmac` with this computer's own salt, "
        "or plain `sha256`, which can be joined elsewhere and guessed from a list.",
        choices=("hmac", "sha256"),
    ),
    Option(
        "record_content",
        "redaction.record_content",
        "texts",
        default=(),
        doc="Attribute keys with content (such as prompts) to record all the same. Their "
        "values still pass every other rule.",
    ),
    Option(
        "redaction_rules",
        "redaction.rules",
        "rules",
        default=(),
        doc="Rules of your own: each a table `[[redaction.rules]]`, as below.",
    ),
    Option(
        "redaction_allow",
        "redaction.allow",
        "exceptions",
        default=(),
        doc="What is let be: a table of keys (or globs over keys), each with a list of the "
        "rules whose matches stay there; as below.",
    ),
    Option(
        "sampler",
        "sampling.sampler",
        "text",
        default="parentbased_always_on",
        doc="Which traces are recorded, by OpenTelemetry's names.",
        choices=SAMPLERS,
        variable="OTEL_TRACES_SAMPLER",
    ),
    Option(
        "sampler_ratio",
        "sampling.ratio",
        "float",
        default=1.0,
        doc="Share of traces that the two `traceidratio` samplers keep.",
        maximum=1.0,
        variable="OTEL_TRACES_SAMPLER_ARG",
    ),
    Option(
        "attribute_count_max",
        "limits.attribute_count_max",
        "int",
        default=128,
        doc="Attributes of one record; what is beyond is dropped and counted.",
        variable="OTEL_ATTRIBUTE_COUNT_LIMIT",
    ),
    Option(
        "attribute_chars_max",
        "limits.attribute_chars_max",
        "int",
        default=None,
        doc="Characters of one text value; what is beyond is cut off.",
        minimum=1,
        maximum=GIB,
        variable="OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        default_text="no limit",
    ),
    Option(
        "span_attribute_count_max",
        "limits.span_attribute_count_max",
        "int",
        default=None,
        doc="The same for the attributes of spans.",
        variable="OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        inherits="attribute_count_max",
    ),
    Option(
        "span_attribute_chars_max",
        "limits.span_attribute_chars_max",
        "int",
        default=None,
        doc="The same for the text values of spans, their events and links.",
        minimum=1,
        maximum=GIB,
        variable="OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        inherits="attribute_chars_max",
    ),
    Option(
        "log_attribute_count_max",
        "limits.log_attribute_count_max",
        "int",
        default=None,
        doc="The same for the attributes of log records.",
        variable="OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
        inherits="attribute_count_max",
    ),
    Option(
        "log_attribute_chars_max",
        "limits.log_attribute_chars_max",
        "int",
        default=None,
        doc="The same for the text values of log records.",
        minimum=1,
        maximum=GIB,
        variable="OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        inherits="attribute_chars_max",
    ),
    Option(
        "event_count_max",
        "limits.event_count_max",
        "int",
        default=128,
        doc="Events of one span.",
        variable="OTEL_SPAN_EVENT_COUNT_LIMIT",
    ),
    Option(
        "event_attribute_count_max",
        "limits.event_attribute_count_max",
        "int",
        default=128,
        doc="Attributes of one event.",
        variable="OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    ),
    Option(
        "link_count_max",
        "limits.link_count_max",
        "int",
        default=128,
        doc="Links of one span.",
        variable="OTEL_SPAN_LINK_COUNT_LIMIT",
    ),
    Option(
        "link_attribute_count_max",
        "limits.link_attribute_count_max",
        "int",
        default=128,
        doc="Attributes of one link.",
        variable="OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    ),
    Option(
        "config_path",
        "",
        "path",
        default=None,
        doc="The configuration file. The salt of hashed ids lies beside it.",
        variable="STACK_COMPOSER_TELEMETRY_CONFIG",
        default_text="the platform's configuration folder, `stack-composer/telemetry.toml`",
    ),
    Option(
        "sdk_disabled",
        "",
        "bool",
        default=False,
        doc="Record nothing: OpenTelemetry's own switch.",
        variable="OTEL_SDK_DISABLED",
    ),
    Option(
        "do_not_track",
        "",
        "bool",
        default=False,
        doc="Let nothing leave this computer, whatever else is set. Of the variable's values "
        "only `0`, `false`, `no` and `off` permit it.",
        variable="DO_NOT_TRACK",
    ),
    Option(
        "resource_attributes",
        "",
        "mapping",
        default={},
        doc="Attributes of the resource, `key=value` with commas between, percent-encoded. "
        "`OTEL_SERVICE_NAME` beats a `service.name` in it.",
        variable="OTEL_RESOURCE_ATTRIBUTES",
        default_text="none",
    ),
    Option(
        "metrics_temporality",
        "",
        "text",
        default="delta",
        doc="Temporality of the OpenTelemetry API's instruments.",
        choices=("cumulative", "delta", "lowmemory"),
        variable="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    ),
)

BY_NAME: Final = {option.name: option for option in OPTIONS}
BY_PLACE: Final = {option.place: option for option in OPTIONS if option.section}
