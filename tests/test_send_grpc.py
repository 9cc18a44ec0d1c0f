"""Sending by gRPC to a real server, and to what is none."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import functools
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from send_servers import destination_at, response, serving
from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.send.grpc import GrpcSender, _options
from stack_composer.telemetry.send.proxies import proxy_for
from stack_composer.telemetry.send.sender import message_of, open_sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from send_servers import Server
    from stack_composer.telemetry.send.answers import Outcome

CREDENTIAL = "word-of-nobody"
BODY = b"body " * 100
SERVICES = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}


class Seen:
    """What a server was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.calls: list[tuple[str, bytes, dict[str, str]]] = []


class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # it ships no types
    """Answers every method by one function."""

    def __init__(self, seen: Seen, answer: Callable[[bytes, Any], bytes]) -> None:
        self.seen = seen
        self.answer = answer

    def service(self, call_details: Any) -> Any:
        def handle(request: bytes, context: Any) -> bytes:
            metadata = dict(context.invocation_metadata())
            self.seen.calls.append((call_details.method, request, metadata))
            return self.answer(request, context)

        return grpc.unary_unary_rpc_method_handler(handle)


@contextlib.contextmanager
def grpc_serving(
    answer: Callable[[bytes, Any], bytes] = lambda _request, _context: b"",
    *,
    port: int = 0,
    credentials: Any = None,
    **options: Any,
) -> Iterator[Seen]:
    """Run a server; options are gRPC's, without their "grpc."."""
    seen = Seen()
    named = [(f"grpc.{name}", value) for name, value in options.items()]
    server = grpc.server(futures.ThreadPoolExecutor(2), options=named)
    server.add_generic_rpc_handlers((Handler(seen, answer),))
    place = f"127.0.0.1:{port}"
    if credentials is None:
        seen.port = server.add_insecure_port(place)
    else:
        seen.port = server.add_secure_port(place, credentials)
    server.start()
    try:
        yield seen
    finally:
        server.stop(None).wait()


def send_once(url: str, body: bytes = BODY, **given: Any) -> Outcome:
    destination = destination_at(url, "otlp_grpc", **given)
    sender = open_sender(destination, {})
    try:
        return sender.send(message_of(destination, "traces", body, 3))
    finally:
        sender.close()


def outcome_of(answer: Callable[[bytes, Any], bytes], **given: Any) -> Outcome:
    with grpc_serving(answer) as seen:
        return send_once(f"http://127.0.0.1:{seen.port}", **given)


def aborting(code: str, words: str = "", details: bytes = b"") -> Callable[[bytes, Any], bytes]:
    def answer(_request: bytes, context: Any) -> bytes:
        if details:
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode[code], words)
        return b""

    return answer


def test_each_signal_has_its_service_and_what_was_shown_is_what_is_sent() -> None:
    with grpc_serving() as seen:
        destination = destination_at(
            f"http://127.0.0.1:{seen.port}",
            "otlp_grpc",
            environ={"OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer%20{CREDENTIAL}"},
        )
        sender = open_sender(destination, {})
        assert isinstance(sender, GrpcSender)
        for signal in SERVICES:
            message = message_of(destination, signal, BODY, 3)
            assert message.body == BODY
            assert sender.send(message).verdict == "delivered"
        sender.close()
    assert [(method, body) for method, body, _ in seen.calls] == [
        (method, BODY) for method in SERVICES.values()
    ]
    for _, _, metadata in seen.calls:
        assert metadata["authorization"] == f"Bearer {CREDENTIAL}"
        assert metadata["user-agent"].startswith(message.headers["user-agent"])


def test_e8_messages_are_packed_on_their_way() -> None:
    """Seen by a proxy of bytes in between: a text of zeros hardly takes room."""
    sizes = []
    for compression in ("gzip", "zstd", "none"):
        with grpc_serving() as seen:
            passed: list[int] = []
            with serving(functools.partial(pass_on, seen.port, passed)) as server:
                url = f"http://127.0.0.1:{server.port}"
                found = send_once(url, bytes(100_000), otlp_compression=compression)
            assert found.verdict == "delivered"
            assert seen.calls[0][1] == bytes(100_000)
            sizes.append(sum(passed))
    # There is no zstd in gRPC: gzip is what comes nearest.
    assert sizes[0] < 5_000
    assert sizes[1] < 5_000
    assert sizes[2] > 100_000


def pass_on(port: int, passed: list[int], near: socket.socket, _: Server) -> None:
    """Hand on what comes, both ways, and note how much goes to the port."""

    def back(far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := far.recv(65_536):
                near.sendall(piece)

    with socket.create_connection(("127.0.0.1", port)) as far:
        threading.Thread(target=back, args=(far,), daemon=True).start()
        while piece := near.recv(65_536):
            passed.append(len(piece))
            far.sendall(piece)


RETRIED = {
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
}


@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode if code.name != "OK"])
def test_f1_codes_of_a_real_server(code: str) -> None:
    found = outcome_of(aborting(code, "for a reason"))
    assert (found.verdict, found.status) == ("retry" if code in RETRIED else "refused", code)
    assert found.message == "for a reason"


def test_f3_a_wait_that_was_asked_for_is_handed_on() -> None:
    """As Go's ``status.WithDetails`` sends it; the official exporter waited 0.84 s of 4."""
    status = Status(code=14)
    status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=4)))
    for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
        found = outcome_of(aborting(code, "busy", status.SerializeToString()))
        assert (found.verdict, found.retry_after_s) == ("retry", 4.0)
    assert outcome_of(aborting("RESOURCE_EXHAUSTED", "quota")).verdict == "refused"


def test_f6_partial_success_is_counted_and_said() -> None:
    answer = trace_service_pb2.ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "no name"
    found = outcome_of(lambda _request, _context: bytes(answer.SerializeToString()))
    assert (found.verdict, found.status, found.rejected, found.message) == (
        "delivered",
        "OK",
        2,
        "no name",
    )


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_e7_a_message_beyond_the_servers_limit_is_too_large(compression: str) -> None:
    with grpc_serving(max_receive_message_length=100_000) as seen:
        url = f"http://127.0.0.1:{seen.port}"
        found = send_once(url, os.urandom(150_000), otlp_compression=compression)
        assert found.verdict == "too_large"
        assert send_once(url, bytes(50_000)).verdict == "delivered"
        # Packed it is small, and is counted unpacked.
        assert send_once(url, bytes(150_000)).verdict == "too_large"


@pytest.mark.parametrize("size", [1_000, 10_000_000])
def test_f5_an_answer_beyond_our_limit_is_refused(size: int) -> None:
    with grpc_serving(
        lambda _request, _context: bytes(5_000_000), max_receive_message_length=-1
    ) as seen:
        found = send_once(f"http://127.0.0.1:{seen.port}", bytes(size))
    assert (found.verdict, found.status) == ("refused", "answer too large")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
def test_f5_a_bomb_is_not_unpacked_to_its_end() -> None:
    """As of grpcio 1.84; older ones unpack first and look afterwards."""
    rest = """
import resource
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
print(sender.send(message).status, peak() - before < 50)
"""
    options: dict[str, Any] = {"max_send_message_length": -1}
    with grpc_serving(
        lambda _request, _context: bytes(100_000_000), default_compression_algorithm=2, **options
    ) as seen:
        done = run(rest, f"http://127.0.0.1:{seen.port}")
    assert done.stdout == "answer too large True\n", done.stderr


def test_a_slow_server_takes_no_longer_than_the_deadline() -> None:
    def answer(_request: bytes, _context: Any) -> bytes:
        time.sleep(1.5)
        return b""

    found = outcome_of(answer, otlp_timeout_s=0.3)
    assert (found.verdict, found.status) == ("retry", "DEADLINE_EXCEEDED")
    assert found.message.endswith("took too long: more than 0.3 s")


def test_a_server_that_says_nothing_takes_no_longer_than_the_deadline() -> None:
    with serving(lambda connection, _: [connection.recv(1000) for _ in range(100)]) as server:
        found = send_once(f"http://127.0.0.1:{server.port}", otlp_timeout_s=0.3)
    assert found.verdict == "retry"


def test_e2_nobody_listens_and_then_somebody_does() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    destination = destination_at(f"http://127.0.0.1:{port}", "otlp_grpc")
    sender = open_sender(destination, {})
    message = message_of(destination, "traces", BODY, 3)
    found = sender.send(message)
    assert (found.verdict, found.status) == ("retry", "UNAVAILABLE")
    assert found.message == f"nobody listens at http://127.0.0.1:{port}"
    with grpc_serving(port=port):
        # The channel shall not go on failing for as long as it pleases.
        until = time.monotonic() + 20
        while sender.send(message).verdict != "delivered":
            assert time.monotonic() < until
            time.sleep(0.1)
    assert sender.send(message).verdict == "retry"
    sender.close()


def test_what_is_no_server_of_grpc() -> None:
    def talk(connection: socket.socket, _: Server) -> None:
        connection.recv(1_000)
        connection.sendall(response(400))

    with serving(talk) as server:
        found = send_once(f"http://127.0.0.1:{server.port}")
        assert (found.verdict, found.status) == ("refused", "not gRPC")
        found = send_once(f"https://127.0.0.1:{server.port}")
        assert (found.verdict, found.status) == ("refused", "tls")


def test_a_server_that_says_back_the_credentials_is_not_quoted() -> None:
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{CREDENTIAL}"}
    found = outcome_of(aborting("UNAUTHENTICATED", f"bad {CREDENTIAL}\n\x1b[0m"), environ=environ)
    assert found.message == "bad *** ?[0m"
    assert found.is_about_destination


# -- certificates ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def credentials(leaf: trustme.LeafCert, clients: bytes | None = None) -> Any:
    pair = (leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())
    return grpc.ssl_server_credentials([pair], clients, require_client_auth=clients is not None)


def test_e11_f4_https_is_encrypted_and_checked(authority: trustme.CA, ca: Path) -> None:
    with grpc_serving(credentials=credentials(authority.issue_cert("127.0.0.1"))) as seen:
        url = f"https://127.0.0.1:{seen.port}"
        assert send_once(url, otlp_certificate=str(ca)).verdict == "delivered"
        # The scheme wins: nothing goes unencrypted.
        insecure = {"OTEL_EXPORTER_OTLP_INSECURE": "true"}
        assert send_once(url, otlp_certificate=str(ca), environ=insecure).verdict == "delivered"
        # Without a file the system's authorities count, of whom this is none.
        assert send_once(url).status == "certificate"
        assert len(seen.calls) == 2


def test_e11_the_systems_authorities_count_and_not_a_list_of_the_librarys_own(
    authority: trustme.CA, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with grpc_serving(credentials=credentials(authority.issue_cert("127.0.0.1"))) as seen:
        assert send_once(f"https://127.0.0.1:{seen.port}").verdict == "delivered"


@pytest.mark.parametrize("kind", ["unknown", "expired", "other"])
def test_e11_other_certificates_are_refused_and_nothing_is_sent(
    authority: trustme.CA, ca: Path, kind: str
) -> None:
    if kind == "unknown":
        made = trustme.CA().issue_cert("127.0.0.1")
    elif kind == "expired":
        made = authority.issue_cert("127.0.0.1", not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    else:
        made = authority.issue_cert("other.example")
    with grpc_serving(credentials=credentials(made)) as seen:
        found = send_once(f"https://127.0.0.1:{seen.port}", otlp_certificate=str(ca))
    assert (found.verdict, found.status) == ("refused", "certificate")
    assert found.message.startswith(f"the certificate of https://127.0.0.1:{seen.port} is not")
    assert ("another host" in found.message) == (kind == "other")
    assert seen.calls == []


def test_e11_the_clients_certificate_is_shown(
    authority: trustme.CA, ca: Path, tmp_path: Path
) -> None:
    client = authority.issue_cert("client.example")
    client.private_key_pem.write_to_path(tmp_path / "key.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server = credentials(authority.issue_cert("127.0.0.1"), authority.cert_pem.bytes())
    with grpc_serving(credentials=server) as seen:
        url = f"https://127.0.0.1:{seen.port}"
        files: dict[str, Any] = {
            "otlp_client_certificate": str(tmp_path / "cert.pem"),
            "otlp_client_key": str(tmp_path / "key.pem"),
        }
        assert send_once(url, otlp_certificate=str(ca), **files).verdict == "delivered"
        assert send_once(url, otlp_certificate=str(ca)).verdict != "delivered"
        assert len(seen.calls) == 1


def test_e11_files_that_hold_something_else(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    with pytest.raises(SendError, match="not in PEM"):
        send_once("https://127.0.0.1:1", otlp_certificate=str(other))
    locked = tmp_path / "locked.pem"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    files: dict[str, Any] = {"otlp_client_certificate": str(locked), "otlp_client_key": str(locked)}
    with pytest.raises(SendError, match="locked by a password"):
        send_once("https://127.0.0.1:1", **files)


# -- proxies -----------------------------------------------------------------------------


def test_e17_the_proxy_is_ours_to_decide() -> None:
    """The library would read the environment by rules of its own."""
    assert ("grpc.enable_http_proxy", 0) in _options("agent", None)
    proxy = proxy_for("https://c.example", {"https_proxy": "http://a:b%20c@proxy.example:1"})
    options = dict(_options("agent", proxy))
    assert options["grpc.http_proxy"] == "http://a:b%20c@proxy.example:1"
    assert "grpc.enable_http_proxy" not in options


def test_e17_an_https_proxy_is_refused() -> None:
    destination = destination_at("https://c.example", "otlp_grpc")
    with pytest.raises(SendError, match="https proxy") as caught:
        open_sender(destination, {"HTTPS_PROXY": "https://proxy.example"})
    assert "http/protobuf" in caught.value.hint


# -- processes ---------------------------------------------------------------------------

PROGRAM = """
import os, sys
sys.path.insert(0, {tests!r})
from send_servers import destination_at
from stack_composer.telemetry.send.sender import message_of, open_sender
destination = destination_at(sys.argv[1], "otlp_grpc")
sender = open_sender(destination, {{}})
message = message_of(destination, "traces", b"x", 1)
{rest}
"""


def run(rest: str, url: str, **environ: str) -> subprocess.CompletedProcess[str]:
    text = PROGRAM.format(tests=os.path.dirname(__file__), rest=rest)
    command = [sys.executable, "-c", text, url]
    return subprocess.run(
        command,
        check=False,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_a_channel_of_its_own() -> None:
    rest = """
assert sender.send(message).verdict == "delivered"
child = os.fork()
if child == 0:
    verdict = sender.send(message).verdict
    sender.close()
    os._exit(0 if verdict == "delivered" else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert sender.send(message).verdict == "delivered"
sender.close()
print("done")
"""
    with grpc_serving() as seen:
        done = run(rest, f"http://127.0.0.1:{seen.port}")
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    assert len(seen.calls) == 3


def test_nothing_is_written_to_the_standard_error_of_the_program() -> None:
    rest = "print(sender.send(message).status, 'GRPC_VERBOSITY' in os.environ)"
    made = trustme.CA().issue_cert("127.0.0.1")
    with grpc_serving(credentials=credentials(made)) as seen:
        done = run(rest, f"https://127.0.0.1:{seen.port}")
    assert (done.stdout, done.stderr) == ("certificate False\n", "")


def test_sending_by_grpc_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = destination_at("https://collector.example", "otlp_grpc")
    for name in ("grpc", "stack_composer.telemetry.send.grpc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SendError, match="grpcio") as caught:
        open_sender(destination, {})
    assert "[grpc]" in caught.value.hint


def test_metadata_that_is_bytes_is_left_out() -> None:
    value = base64.b64encode(b"x").decode()
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": f"key-bin={value},other=1"}
    with grpc_serving() as seen:
        found = send_once(f"http://127.0.0.1:{seen.port}", environ=environ)
    assert found.verdict == "delivered"
    assert seen.calls[0][2]["other"] == "1"
    assert "key-bin" not in seen.calls[0][2]
