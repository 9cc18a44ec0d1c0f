"""Where something is sent, and how: configuration and OpenTelemetry's variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.model import SIGNALS
from stack_composer.telemetry.send.destination import UPLOAD_HEADERS, Destination, destination_of
from stack_composer.telemetry.send.sender import message_of

if TYPE_CHECKING:
    from pathlib import Path

OTLP = "OTEL_EXPORTER_OTLP"


def destination(purpose: str, environ: dict[str, str] | None = None, **given: Any) -> Destination:
    environ = {"HOME": "/nowhere", **(environ or {})}
    return destination_of(load_config(given, environ), purpose, environ)


def urls(found: Destination) -> list[str]:
    return [found.url_of(signal) for signal in SIGNALS]


# -- E1: addresses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "traces"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://collector.example", "https://collector.example/v1/traces"),
        ("https://collector.example:443", "https://collector.example/v1/traces"),
        (
            "https://Collector.Example/Mycollector/",
            "https://collector.example/Mycollector/v1/traces",
        ),
        (
            "https://collector.example/a/b?tenant=1",
            "https://collector.example/a/b/v1/traces?tenant=1",
        ),
        ("http://[::1]:4318/x", "http://[::1]:4318/x/v1/traces"),
        ("http://127.0.0.1", "http://127.0.0.1/v1/traces"),
        ("https://bücher.example", "https://xn--bcher-kva.example/v1/traces"),
    ],
)
def test_e1_the_general_address_is_a_base(base: str, traces: str) -> None:
    for found in (
        destination("otlp_http", {f"{OTLP}_ENDPOINT": base}),
        destination("otlp_http", otlp_endpoint=base),
        destination("upload", upload_endpoint=base),
    ):
        assert urls(found) == [
            traces,
            traces.replace("/v1/traces", "/v1/metrics"),
            traces.replace("/v1/traces", "/v1/logs"),
        ]


@pytest.mark.parametrize(
    ("own", "asked"),
    [
        ("https://traces.example/", "https://traces.example/"),
        ("https://traces.example", "https://traces.example/"),
        ("https://traces.example:4318/v1/traces/", "https://traces.example:4318/v1/traces/"),
        ("https://traces.example/in?key=a%2Fb", "https://traces.example/in?key=a%2Fb"),
    ],
)
def test_e1_a_signals_own_address_is_taken_as_it_is(own: str, asked: str) -> None:
    found = destination(
        "otlp_http", {f"{OTLP}_TRACES_ENDPOINT": own, f"{OTLP}_ENDPOINT": "https://all.example/x"}
    )
    assert urls(found) == [
        asked,
        "https://all.example/x/v1/metrics",
        "https://all.example/x/v1/logs",
    ]


def test_e1_without_any_address_exporters_send_to_this_computer() -> None:
    assert urls(destination("otlp_http"))[0] == "http://localhost:4318/v1/traces"
    assert destination("otlp_grpc").origin == "http://localhost:4317"


def test_an_upload_without_any_address_is_refused() -> None:
    with pytest.raises(SendError, match="there is no destination") as caught:
        destination("upload")
    assert "endpoint" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example/x?key=v", "https://a.example:443"),
        ("https://A.Example.:8443", "https://a.example.:8443"),
        ("http://localhost/", "http://localhost:80"),
        ("http://[::1]:4318", "http://[::1]:4318"),
    ],
)
def test_the_origin_always_has_its_port(url: str, origin: str) -> None:
    assert destination("upload", upload_endpoint=url).origin == origin


def test_consent_to_one_place_is_none_to_another_that_a_variable_names() -> None:
    found = destination(
        "otlp_http", {f"{OTLP}_LOGS_ENDPOINT": "https://b.example/in"}, otlp_protocol="http/json"
    )
    assert found.origin == "http://localhost:4318 https://b.example:443"


# -- what a person wrote and what is inherited -------------------------------------------


def test_inherited_variables_never_override_what_was_written_for_uploads() -> None:
    found = destination(
        "upload",
        {
            f"{OTLP}_ENDPOINT": "https://inherited.example",
            f"{OTLP}_TRACES_ENDPOINT": "https://inherited.example/t",
            f"{OTLP}_TRACES_COMPRESSION": "none",
            f"{OTLP}_TRACES_TIMEOUT": "1000",
            f"{OTLP}_PROTOCOL": "grpc",
            f"{OTLP}_HEADERS": "authorization=secret-of-another-place",
        },
        upload_endpoint="https://mine.example",
    )
    assert urls(found)[0] == "https://mine.example/v1/traces"
    assert (found.protocol, found.compression, found.timeout_s) == ("http/protobuf", "gzip", 30.0)
    assert found.headers == {}
    assert "goes with another address" in " ".join(found.warnings)
    assert "secret" not in repr(found) + " ".join(found.warnings)


def test_an_upload_without_an_address_of_its_own_goes_where_the_exporters_do() -> None:
    found = destination(
        "upload",
        {
            f"{OTLP}_ENDPOINT": "https://all.example/base",
            f"{OTLP}_TRACES_ENDPOINT": "https://all.example/traces",
            f"{OTLP}_HEADERS": "authorization=abc",
        },
    )
    assert urls(found)[:2] == [
        "https://all.example/traces",
        "https://all.example/base/v1/metrics",
    ]
    assert found.headers == {"authorization": "abc"}


def test_an_address_given_in_code_is_not_replaced_by_a_variable() -> None:
    environ = {f"{OTLP}_TRACES_ENDPOINT": "https://inherited.example/t"}
    found = destination("otlp_http", environ, otlp_endpoint="https://mine.example")
    assert urls(found)[0] == "https://mine.example/v1/traces"


# -- Jaeger and object stores ------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["https://jaeger.example:14268/api/traces", "https://j.example/sub/api/traces?format=t"]
)
def test_a_path_of_jaeger_is_recognised_and_kept(url: str) -> None:
    found = destination("upload", upload_endpoint=url)
    assert (found.protocol, found.signals) == ("jaeger", ("traces",))
    assert found.form_of("traces") == "thrift"
    assert found.url_of("traces") == url
    with pytest.raises(SendError, match="takes traces, not logs"):
        found.url_of("logs")


def test_jaeger_by_name_gets_its_path() -> None:
    found = destination("upload", upload_endpoint="https://j.example", upload_protocol="jaeger")
    assert found.url_of("traces") == "https://j.example/api/traces"


def test_put_names_its_objects() -> None:
    found = destination(
        "upload",
        upload_endpoint="https://store.example/bucket/{name}?signature=abc%2Fdef",
        upload_protocol="put",
    )
    assert not found.is_one_object
    assert found.url_of("logs", "a b/c") == (
        "https://store.example/bucket/a%20b%2Fc?signature=abc%2Fdef"
    )
    message = message_of(found, "logs", b"{}\n", 1, "2026-11-22.jsonl.zst")
    assert message.url.startswith("https://store.example/bucket/2026-11-22.jsonl.gz?")
    assert message.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in message.headers


def test_put_without_a_name_is_for_one_object() -> None:
    found = destination(
        "upload", upload_endpoint="https://store.example/x?signature=abc", upload_protocol="put"
    )
    assert found.is_one_object
    assert found.url_of("logs", "n") == "https://store.example/x?signature=abc"


def test_a_signature_in_an_address_is_shown_nowhere() -> None:
    found = destination(
        "upload", upload_endpoint="https://s.example/{name}?sig=abcdef", upload_protocol="put"
    )
    assert found.shown_url_of("logs", "n") == "https://s.example/n?..."
    assert "abcdef" not in repr(found) + str(found)


# -- only encrypted, but for this computer -----------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["collector.example", "10.0.0.1", "127.0.0.1.example", "localhost.example", "0x7f.1", "[::2]"],
)
@pytest.mark.parametrize("purpose", ["upload", "otlp_http", "otlp_grpc"])
def test_plain_http_is_for_this_computer_alone(host: str, purpose: str) -> None:
    option = "upload_endpoint" if purpose == "upload" else "otlp_endpoint"
    with pytest.raises(SendError, match="unencrypted") as caught:
        destination(purpose, {}, **{option: f"http://{host}:4318"})
    assert "https" in caught.value.hint


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_plain_http_reaches_this_computer(host: str) -> None:
    assert destination("upload", upload_endpoint=f"http://{host}:4318").origin.startswith("http://")


def test_a_signals_own_plain_address_is_refused_too() -> None:
    with pytest.raises(SendError, match=f"{OTLP}_LOGS_ENDPOINT would send to http://x.example:80"):
        destination("otlp_http", {f"{OTLP}_LOGS_ENDPOINT": "http://x.example/v1/logs"})


@pytest.mark.parametrize(
    "value",
    [
        "collector:4318",
        "ftp://x.example",
        "https://",
        "https://x.example:99999",
        "https://x.example:0",
        "https://user:password@x.example",
        "https://x.example/a b",
        "https://x.example/\r\nhost: y",
        "https://x y",
        "https://[::1",
        "https://..",
    ],
)
def test_what_is_no_address_is_an_error_that_quotes_nothing(value: str) -> None:
    name = f"{OTLP}_TRACES_ENDPOINT"
    with pytest.raises(SendError, match=name) as caught:
        destination("otlp_http", {name: value})
    assert "password" not in str(caught.value) + caught.value.hint


# -- F4: gRPC ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "origin"),
    [
        ({f"{OTLP}_ENDPOINT": "http://localhost:4317"}, "http://localhost:4317"),
        ({f"{OTLP}_ENDPOINT": "https://c.example:4317"}, "https://c.example:4317"),
        (
            {f"{OTLP}_ENDPOINT": "https://c.example:4317", f"{OTLP}_INSECURE": "true"},
            "https://c.example:4317",
        ),
        (
            {f"{OTLP}_ENDPOINT": "localhost:4317", f"{OTLP}_INSECURE": "true"},
            "http://localhost:4317",
        ),
        ({f"{OTLP}_ENDPOINT": "localhost:4317"}, "https://localhost:4317"),
        ({f"{OTLP}_ENDPOINT": "c.example:4317"}, "https://c.example:4317"),
    ],
)
def test_f4_the_scheme_decides_about_tls_and_wins(environ: dict[str, str], origin: str) -> None:
    assert destination("otlp_grpc", environ).origin == origin


def test_f4_insecure_is_for_this_computer_alone() -> None:
    environ = {f"{OTLP}_ENDPOINT": "c.example:4317", f"{OTLP}_INSECURE": "true"}
    with pytest.raises(SendError, match="unencrypted"):
        destination("otlp_grpc", environ)


def test_f4_a_signal_may_have_its_own_address_without_a_scheme() -> None:
    environ = {
        f"{OTLP}_TRACES_ENDPOINT": "localhost:1",
        f"{OTLP}_TRACES_INSECURE": "true",
        f"{OTLP}_LOGS_ENDPOINT": "localhost:2",
    }
    found = destination("otlp_grpc", environ)
    assert found.way_of("traces").address.origin == "http://localhost:1"
    assert found.way_of("logs").address.origin == "https://localhost:2"
    assert found.url_of("logs") == (
        "https://localhost:2/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    )


def test_a_path_means_nothing_to_grpc() -> None:
    found = destination("otlp_grpc", otlp_endpoint="https://c.example:4317/x")
    assert "no paths" in found.warnings[0]


# -- E8, E18: compression and protocol ---------------------------------------------------


def test_e8_compression_may_differ_by_signal() -> None:
    environ = {f"{OTLP}_COMPRESSION": "none", f"{OTLP}_LOGS_COMPRESSION": "GZIP"}
    found = destination("otlp_http", environ)
    assert [found.way_of(signal).compression for signal in SIGNALS] == ["none", "none", "gzip"]
    packed = message_of(found, "logs", b"a" * 1000, 1)
    plain = message_of(found, "traces", b"a" * 1000, 1)
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert plain.body == b"a" * 1000
    assert packed == message_of(found, "logs", b"a" * 1000, 1)
    # No time stands in it, so a preview and what is sent later are the same bytes.
    assert packed.body[4:8] == bytes(4)


def test_e18_the_protocol_may_differ_by_signal() -> None:
    found = destination("otlp_http", {f"{OTLP}_LOGS_PROTOCOL": "http/json"})
    assert [found.form_of(signal) for signal in SIGNALS] == ["protobuf", "protobuf", "json"]
    assert message_of(found, "logs", b"{}", 1).headers["content-type"] == "application/json"
    assert message_of(found, "traces", b"", 1).headers["content-type"] == "application/x-protobuf"


def test_e18_unknown_values_are_ignored_with_a_warning() -> None:
    environ = {
        f"{OTLP}_PROTOCOL": "carrier/pigeon",
        f"{OTLP}_TRACES_PROTOCOL": "thrift",
        f"{OTLP}_LOGS_COMPRESSION": "lzma",
        f"{OTLP}_METRICS_TIMEOUT": "soon",
    }
    found = destination("otlp_http", environ)
    assert found.protocol_of("traces") == "http/protobuf"
    assert found.way_of("logs").compression == "gzip"
    assert found.way_of("metrics").timeout_s == 10.0
    assert [warning.partition(" ")[0] for warning in found.warnings] == [
        f"{OTLP}_TRACES_PROTOCOL",
        f"{OTLP}_METRICS_TIMEOUT",
        f"{OTLP}_LOGS_COMPRESSION",
    ]


def test_e18_the_exporter_of_http_says_that_it_speaks_no_grpc() -> None:
    found = destination("otlp_http", otlp_protocol="grpc")
    assert found.protocol == "http/protobuf"
    assert "otlp_grpc" in found.warnings[0]
    upload = destination("upload", {}, otlp_endpoint="https://c.example:4317", otlp_protocol="grpc")
    assert upload.protocol == "grpc"
    assert destination("otlp_grpc", {f"{OTLP}_TRACES_PROTOCOL": "http/json"}).warnings == ()


# -- E9: headers -------------------------------------------------------------------------


def test_e9_a_signals_headers_replace_the_general_ones() -> None:
    environ = {
        f"{OTLP}_HEADERS": "Authorization=Bearer%20abc,x-tenant=1",
        f"{OTLP}_LOGS_HEADERS": "authorization=Bearer%20logs",
    }
    found = destination("otlp_http", environ)
    assert found.headers == {"authorization": "Bearer abc", "x-tenant": "1"}
    assert found.way_of("logs").headers == {"authorization": "Bearer logs"}
    assert found.way_of("traces").headers == found.headers


def test_e9_headers_go_only_to_the_place_that_their_source_names() -> None:
    environ = {
        f"{OTLP}_ENDPOINT": "https://vendor.example",
        f"{OTLP}_HEADERS": "authorization=abcdefgh",
    }
    here = destination("otlp_http", environ)
    assert here.headers == {"authorization": "abcdefgh"}
    elsewhere = destination("otlp_http", environ, otlp_endpoint="https://other.example")
    assert elsewhere.headers == {}
    assert "https://other.example:443" in elsewhere.warnings[0]
    same = destination("upload", environ, upload_endpoint="https://vendor.example:443/other/path")
    assert same.headers == {"authorization": "abcdefgh"}


def test_headers_of_uploads_have_a_variable_of_their_own() -> None:
    environ = {
        f"{OTLP}_ENDPOINT": "https://vendor.example",
        f"{OTLP}_HEADERS": "authorization=abcdefgh",
        UPLOAD_HEADERS: "x-key=mine",
    }
    found = destination("upload", environ, upload_endpoint="https://mine.example")
    assert (found.headers, found.warnings) == ({"x-key": "mine"}, ())
    assert destination("otlp_http", environ).headers == {"authorization": "abcdefgh"}


def test_a_signed_address_is_sent_no_headers_of_otlp() -> None:
    found = destination(
        "upload",
        {f"{OTLP}_HEADERS": "authorization=abcdefgh"},
        upload_endpoint="https://store.example/{name}?sig=1",
        upload_protocol="put",
    )
    assert found.headers == {}


def test_no_secret_is_shown_by_a_destination() -> None:
    found = destination("otlp_http", {f"{OTLP}_HEADERS": "authorization=abcdefgh"})
    assert "abcdefgh" not in repr(found) + repr(found.way_of("logs")) + str(found.warnings)
    message = message_of(found, "logs", b"", 0)
    assert "authorization" not in message.headers


# -- E10: timeouts -----------------------------------------------------------------------


def test_e10_timeouts_of_variables_are_milliseconds() -> None:
    found = destination("otlp_http", {f"{OTLP}_TIMEOUT": "2500", f"{OTLP}_LOGS_TIMEOUT": "0"})
    assert found.timeout_s == 2.5
    assert [found.way_of(signal).timeout_s for signal in SIGNALS] == [2.5, 2.5, 0.0]
    assert found.warnings == ()


def test_e10_who_counts_seconds_is_told() -> None:
    found = destination("otlp_http", {f"{OTLP}_TIMEOUT": "10", f"{OTLP}_LOGS_TIMEOUT": "30"})
    assert found.timeout_s == 0.01
    assert len(found.warnings) == 2
    assert all("milliseconds" in warning for warning in found.warnings)


# -- E11: certificates -------------------------------------------------------------------


def test_e11_files_may_differ_by_signal(tmp_path: Path) -> None:
    for name in ("ca", "logs-ca", "cert", "key"):
        (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----\n")
    found = destination(
        "otlp_http",
        {
            f"{OTLP}_ENDPOINT": "https://c.example",
            f"{OTLP}_CERTIFICATE": str(tmp_path / "ca"),
            f"{OTLP}_LOGS_CERTIFICATE": str(tmp_path / "logs-ca"),
            f"{OTLP}_TRACES_CLIENT_CERTIFICATE": str(tmp_path / "cert"),
            f"{OTLP}_TRACES_CLIENT_KEY": str(tmp_path / "key"),
        },
    )
    assert found.certificate == str(tmp_path / "ca")
    assert found.client_key is None
    assert found.way_of("logs").tls.certificate == str(tmp_path / "logs-ca")
    assert found.way_of("traces").tls == (
        str(tmp_path / "ca"),
        str(tmp_path / "cert"),
        str(tmp_path / "key"),
    )


def test_e11_a_file_that_is_not_there_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(SendError, match="cannot be read: No such file"):
        destination(
            "upload", upload_endpoint="https://c.example", otlp_certificate=str(tmp_path / "no")
        )
    key = tmp_path / "key"
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(SendError, match="without its certificate"):
        destination("upload", upload_endpoint="https://c.example", otlp_client_key=str(key))


# -- E12 ---------------------------------------------------------------------------------


def test_e12_the_user_agent_names_the_product_and_the_exporter() -> None:
    agent = message_of(destination("otlp_http"), "logs", b"", 0).headers["user-agent"]
    product, exporter = agent.split(" ")
    assert product.startswith("stack-composer-telemetry/")
    assert exporter.startswith("OTel-OTLP-Exporter-Python/")


def test_a_destination_is_frozen() -> None:
    with pytest.raises(AttributeError, match="frozen"):
        destination("otlp_http").url = "https://elsewhere.example"


def test_a_wrong_purpose_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="purpose"):
        destination("telepathy")
