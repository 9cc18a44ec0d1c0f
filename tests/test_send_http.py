"""Sending by HTTP to servers that do what servers do, and worse."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import logging
import os
import socket
import ssl
import sys
import threading
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from send_servers import (
    Server,
    answering,
    destination_at,
    read_request,
    response,
    server_context,
    serving,
)
from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.send import deadline
from stack_composer.telemetry.send.http import HttpSender
from stack_composer.telemetry.send.quiet import unobserved
from stack_composer.telemetry.send.sender import message_of, open_sender
from stack_composer.telemetry.store.zstd import ZstdDecompressor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stack_composer.telemetry.send.answers import Outcome
    from stack_composer.telemetry.send.sender import Sender

CREDENTIAL = "token-of-nobody"
BODY = b"body " * 100


@contextlib.contextmanager
def sender_to(url: str, **given: Any) -> Iterator[Callable[[], Outcome]]:
    """Open a sender; what is yielded sends one message of traces."""
    proxies = given.pop("proxies", {})
    destination = destination_at(url, **given)
    made: Sender = open_sender(destination, proxies)
    message = message_of(destination, "traces", BODY, 3, "a-bundle")
    try:
        yield lambda: made.send(message)
    finally:
        made.close()


def send_once(url: str, **given: Any) -> Outcome:
    with sender_to(url, **given) as send:
        return send()


def outcome_of(talk: Callable[[socket.socket, Server], object], **given: Any) -> Outcome:
    with serving(talk) as server:
        return send_once(f"http://127.0.0.1:{server.port}", **given)


def saying(data: bytes) -> Callable[[socket.socket, Server], None]:
    """Read a request, say something, and close."""

    def talk(connection: socket.socket, server: Server) -> None:
        request = read_request(connection)
        assert request is not None
        server.requests.append(request)
        connection.sendall(data)

    return talk


# -- what is sent ------------------------------------------------------------------------


def test_e8_e9_e12_what_is_shown_before_is_what_leaves_but_for_credentials() -> None:
    with serving(answering(response())) as server:
        destination = destination_at(
            f"http://127.0.0.1:{server.port}/base",
            environ={"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{CREDENTIAL},x-a=1"},
        )
        message = message_of(destination, "logs", BODY, 3)
        sender = open_sender(destination, {})
        assert sender.send(message).verdict == "delivered"
        sender.close()
    (request,) = server.requests
    assert request.line == "POST /base/v1/logs HTTP/1.1"
    assert request.body == message.body
    assert gzip.decompress(request.body) == BODY
    assert CREDENTIAL not in repr(message)
    shown = {**message.headers, "authorization": f"Bearer {CREDENTIAL}", "x-a": "1"}
    theirs = {"host", "content-length", "accept-encoding"}
    assert {k: v for k, v in request.headers.items() if k not in theirs} == shown
    assert shown["user-agent"].startswith("stack-composer-telemetry/")


def test_e8_zstd_is_said_and_none_is_not() -> None:
    for compression in ("zstd", "none"):
        with serving(answering(response())) as server:
            url = f"http://127.0.0.1:{server.port}"
            assert send_once(url, otlp_compression=compression).verdict == "delivered"
        (request,) = server.requests
        if compression == "zstd":
            assert request.headers["content-encoding"] == "zstd"
            assert ZstdDecompressor().decompress(request.body) == BODY
        else:
            assert "content-encoding" not in request.headers
            assert request.body == BODY


def test_put_sends_an_object_whole() -> None:
    with serving(answering(response(201))) as server:
        url = f"http://127.0.0.1:{server.port}/bucket/{{name}}?sig=a%2Fb"
        found = send_once(url, purpose="upload", upload_protocol="put")
    assert (found.verdict, found.status) == ("delivered", "201")
    assert server.requests[0].line == "PUT /bucket/a-bundle.gz?sig=a%2Fb HTTP/1.1"


def test_jaeger_is_sent_thrift() -> None:
    with serving(answering(response(202))) as server:
        url = f"http://127.0.0.1:{server.port}/api/traces"
        found = send_once(url, purpose="upload")
    assert (found.verdict, found.status) == ("delivered", "202")
    assert server.requests[0].line == "POST /api/traces HTTP/1.1"
    assert server.requests[0].headers["content-type"] == "application/vnd.apache.thrift.binary"


def test_e13_one_connection_serves_many_requests_and_signals() -> None:
    with serving(answering(response())) as server:
        destination = destination_at(f"http://127.0.0.1:{server.port}")
        sender = open_sender(destination, {})
        for _ in range(5):
            for signal in ("traces", "metrics", "logs"):
                assert sender.send(message_of(destination, signal, BODY, 1)).verdict == "delivered"
        sender.close()
    assert (len(server.requests), server.connections) == (15, 1)


def test_e13_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    def talk(connection: socket.socket, server: Server) -> None:
        request = read_request(connection)
        assert request is not None
        server.requests.append(request)
        connection.sendall(response())

    with serving(talk) as server, sender_to(f"http://127.0.0.1:{server.port}") as send:
        outcomes = []
        for number in range(1, 6):
            outcomes.append(send())
            while server.closed < number:
                time.sleep(0.01)
    assert [found.verdict for found in outcomes] == ["delivered"] * 5
    assert server.connections == 5


@pytest.mark.parametrize("protocol", ["http/protobuf", "put"])
def test_nothing_is_sent_twice_by_itself(protocol: str) -> None:
    with serving(saying(b"")) as server:
        url = f"http://127.0.0.1:{server.port}/{{name}}"
        with sender_to(url, purpose="upload", upload_protocol=protocol) as send:
            found = send()
            assert (found.verdict, found.status) == ("retry", "no answer")
            assert len(server.requests) == 1
            send()
            assert len(server.requests) == 2


# -- E2, E3, E4, E5 ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429, 500, 501, 502, 503, 504])
def test_e2_statuses_of_a_real_server(status: int) -> None:
    found = outcome_of(answering(response(status)))
    assert found.verdict == ("retry" if status in (429, 502, 503, 504) else "refused")
    assert found.status == str(status)


@pytest.mark.parametrize(
    ("status", "kind"), [(301, "text/plain"), (304, "text/plain"), (200, "text/html")]
)
def test_e5_what_the_official_exporter_calls_success(status: int, kind: str) -> None:
    """301, 304 and a page of HTML: it reported SUCCESS, and the data was lost."""
    answer = response(status, b"<html>hello</html>", kind, location="https://evil.example/")
    assert outcome_of(answering(answer)).verdict != "delivered"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_e5_no_redirection_is_followed_and_no_credential_goes_elsewhere(status: int) -> None:
    with serving(answering(response())) as other:
        location = f"http://localhost:{other.port}/v1/traces"
        with serving(answering(response(status, location=location))) as server:
            found = send_once(
                f"http://127.0.0.1:{server.port}",
                environ={"OTEL_EXPORTER_OTLP_HEADERS": f"authorization={CREDENTIAL}"},
            )
        assert (found.verdict, found.status) == ("refused", str(status))
        assert f"redirected to another place (http://localhost:{other.port})" in found.message
        assert (len(server.requests), other.connections) == (1, 0)


def test_e5_not_even_to_the_same_host() -> None:
    with serving(answering(response(308, location="/elsewhere"), response())) as server:
        assert send_once(f"http://127.0.0.1:{server.port}").verdict == "refused"
    assert len(server.requests) == 1


def test_e3_retry_after_is_handed_on() -> None:
    assert outcome_of(answering(response(503, retry_after="4"))).retry_after_s == 4.0
    assert outcome_of(answering(response(503))).retry_after_s is None


def test_e4_partial_success_over_the_wire() -> None:
    answer = trace_service_pb2.ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "no\nname"
    found = outcome_of(answering(response(200, answer.SerializeToString())))
    assert (found.verdict, found.rejected, found.message) == ("delivered", 2, "no name")


def test_e7_413_asks_for_less() -> None:
    assert outcome_of(answering(response(413))).verdict == "too_large"


def test_e7_413_may_come_before_the_request_was_read() -> None:
    """A server that refuses by Content-Length does not read, and closes."""

    def talk(connection: socket.socket, _: Server) -> None:
        connection.recv(1000)
        connection.sendall(response(413))
        # Closing with data unread would reset the connection and the answer with it.
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass

    with serving(talk) as server:
        destination = destination_at(f"http://127.0.0.1:{server.port}", otlp_compression="none")
        sender = open_sender(destination, {})
        found = sender.send(message_of(destination, "logs", bytes(20_000_000), 1))
        sender.close()
    assert found.verdict == "too_large"


@pytest.mark.parametrize("purpose", ["otlp_http", "otlp_grpc"])
def test_a_message_for_another_place_is_not_sent(purpose: str) -> None:
    with serving(answering(response())) as server:
        mine = destination_at("http://127.0.0.1:1", purpose)
        other = destination_at(f"http://127.0.0.1:{server.port}", purpose)
        sender = open_sender(mine, {})
        with pytest.raises(ValueError, match=r"not for http://127\.0\.0\.1:1"):
            sender.send(message_of(other, "logs", BODY, 1))
        sender.close()
    assert server.connections == 0


def test_a_server_that_says_back_the_credentials_is_not_quoted() -> None:
    answer = response(401, f"bad token: Bearer {CREDENTIAL}".encode(), "text/plain")
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{CREDENTIAL}"}
    found = outcome_of(answering(answer), environ=environ)
    assert found.verdict == "refused"
    assert found.message == "bad token: ***"


def test_a_store_that_says_back_the_signature_is_not_quoted() -> None:
    with serving(
        answering(response(403, b"no: sig=abc/defgh, abc%2Fdefgh", "text/plain"))
    ) as server:
        url = f"http://127.0.0.1:{server.port}/{{name}}?sig=abc%2Fdefgh"
        found = send_once(url, purpose="upload", upload_protocol="put")
    assert found.message == "no: sig=***, ***"


# -- connections that fail ---------------------------------------------------------------


def test_e2_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        found = send_once(f"http://127.0.0.1:{port}")
    assert (found.verdict, found.status) == ("retry", "no connection")
    assert found.message == f"nobody listens at http://127.0.0.1:{port}"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take more than they were told")
def test_a_connection_that_is_never_taken_takes_no_longer_than_the_deadline() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # Those that wait to be taken; what comes after them gets no answer.
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.settimeout(0)
            one.connect_ex(address)
        found = send_once(f"http://127.0.0.1:{address[1]}", otlp_timeout_s=0.5)
    assert (found.verdict, found.status) == ("retry", "timeout")


def test_a_name_with_several_addresses_is_reached_at_the_one_that_listens() -> None:
    with serving(answering(response())) as server:
        assert send_once(f"http://localhost:{server.port}").verdict == "delivered"


def test_ipv6_is_spoken_too() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"there is no IPv6 on this computer: {error}")
    with listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                read_request(connection)
                connection.sendall(response())

        thread = threading.Thread(target=talk)
        thread.start()
        found = send_once(f"http://[::1]:{listener.getsockname()[1]}")
        thread.join()
    assert found.verdict == "delivered"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000,
    ],
)
def test_e2_an_answer_that_ends_half_way_is_no_answer(data: bytes) -> None:
    found = outcome_of(saying(data))
    assert (found.verdict, found.status) == ("retry", "no answer")


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"\0\0\x12\x04\0\0\0\0\0", b"\x15\x03\x01"])
def test_what_speaks_no_http_is_refused(data: bytes) -> None:
    found = outcome_of(saying(data + b"\r\n\r\n"))
    assert (found.verdict, found.status) == ("refused", "not HTTP")


def test_e2_a_connection_that_is_reset_is_retried() -> None:
    def talk(connection: socket.socket, _: Server) -> None:
        connection.recv(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert outcome_of(talk).verdict == "retry"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}and more than it said",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: no number\r\n\r\n",
    ],
)
def test_odd_answers_that_are_answers(data: bytes) -> None:
    assert outcome_of(saying(data)).verdict == "delivered"


def test_what_comes_behind_an_answer_is_not_taken_for_the_next_one() -> None:
    said = threading.Event()

    def talk(connection: socket.socket, server: Server) -> None:
        while (request := read_request(connection)) is not None:
            server.requests.append(request)
            connection.sendall(response())
            if len(server.requests) == 1:
                connection.sendall(response(400, b"", "text/plain"))
                said.set()

    with serving(talk) as server, sender_to(f"http://127.0.0.1:{server.port}") as send:
        assert send().verdict == "delivered"
        assert said.wait(10)
        assert send().verdict == "delivered"
        assert len(server.requests) == 2


# -- slow servers: one deadline for all --------------------------------------------------


def dripping(data: bytes, start: bytes = b"") -> Callable[[socket.socket, Server], None]:
    """Say something, then one byte each fifth of a second, for as long as anybody listens."""

    def talk(connection: socket.socket, _: Server) -> None:
        read_request(connection)
        connection.sendall(start)
        while True:
            for byte in data:
                connection.sendall(bytes([byte]))
                time.sleep(0.2)

    return talk


@pytest.mark.parametrize(
    "talk",
    [
        dripping(b"HTTP/1.1 200 OK" + b" " * 1_000),
        dripping(b"header: value\r\n", b"HTTP/1.1 200 OK\r\n"),
        dripping(b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
        dripping(b"1\r\nx\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n"),
        lambda connection, _: [read_request(connection) for _ in range(2)],
        lambda _connection, _server: time.sleep(60),
    ],
    ids=["status", "headers", "body", "chunks", "continue", "silence", "deafness"],
)
def test_a_slow_server_takes_no_longer_than_the_deadline(
    talk: Callable[[socket.socket, Server], object],
) -> None:
    # Longer than a byte takes, so that no single reading runs out of time.
    found = outcome_of(talk, otlp_timeout_s=0.7)
    assert (found.verdict, found.status) == ("retry", "timeout")
    assert found.message.endswith("took too long: more than 0.7 s")


def test_a_server_that_does_not_read_takes_no_longer_than_the_deadline() -> None:
    def talk(connection: socket.socket, _: Server) -> None:
        while connection.recv(1):
            time.sleep(0.2)

    with serving(talk) as server:
        destination = destination_at(
            f"http://127.0.0.1:{server.port}", otlp_compression="none", otlp_timeout_s=0.7
        )
        sender = open_sender(destination, {})
        found = sender.send(message_of(destination, "logs", bytes(50_000_000), 1))
        sender.close()
    assert (found.verdict, found.status) == ("retry", "timeout")


def test_a_slow_handshake_takes_no_longer_than_the_deadline(ca: Path) -> None:
    def talk(connection: socket.socket, _: Server) -> None:
        connection.recv(5_000)
        while True:
            # A record of TLS that says it has 16,384 bytes, and has one a time.
            connection.sendall(b"\x16")
            time.sleep(0.2)
            connection.sendall(b"\x03\x03\x40\x00" + b"\x02")

    with serving(talk) as server:
        found = send_once(
            f"https://127.0.0.1:{server.port}", otlp_timeout_s=0.7, otlp_certificate=str(ca)
        )
    assert found.verdict in ("retry", "refused")
    assert found.status in ("timeout", "tls")


def test_a_slow_server_with_tls_takes_no_longer_than_the_deadline(
    authority: trustme.CA, ca: Path
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    for start in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"):
        with serving(dripping(b"HTTP/1.1 200 OK" + b" " * 1_000, start), context) as server:
            found = send_once(
                f"https://127.0.0.1:{server.port}", otlp_timeout_s=0.7, otlp_certificate=str(ca)
            )
        assert (found.verdict, found.status) == ("retry", "timeout")


def test_without_a_limit_a_slow_server_is_waited_for() -> None:
    def talk(connection: socket.socket, _: Server) -> None:
        read_request(connection)
        for byte in response():
            connection.sendall(bytes([byte]))
            time.sleep(0.005)

    assert outcome_of(talk, otlp_timeout_s=0.0).verdict == "delivered"


def test_a_deadline_holds_on_a_connection_that_was_made_without_one() -> None:
    with serving(lambda _connection, _server: time.sleep(60)) as server:
        sock = deadline.connect("127.0.0.1", server.port, ())
        with sock, deadline.within(0.3), pytest.raises(TimeoutError):
            sock.sendall(bytes(50_000_000))


def test_one_threads_deadline_is_no_other_threads() -> None:
    seen: list[float | None] = []
    with deadline.within(60):
        thread = threading.Thread(target=lambda: seen.append(deadline.left_s()))
        thread.start()
        thread.join()
        assert deadline.left_s() is not None
    assert seen == [None]


# -- E6: large answers -------------------------------------------------------------------


def test_e6_an_answer_of_a_gigabyte_is_not_read_to_its_end() -> None:
    sent = []

    def talk(connection: socket.socket, _server: Server) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        piece = bytes(2**20)
        for _number in range(1_000):
            connection.sendall(piece)
            sent.append(1)

    found = outcome_of(talk)
    assert (found.verdict, found.status) == ("refused", "answer too large")
    assert len(sent) < 100


def test_e6_a_bomb_is_not_unpacked_to_its_end() -> None:
    bomb = b"\0" * 50_000_000
    packed = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    data = b"".join([packed.compress(bomb) for _ in range(6)]) + packed.flush()
    del bomb
    assert len(data) < 2**20
    with serving(answering(response(200, data, content_encoding="gzip"))) as server:
        tracemalloc.start()
        try:
            found = send_once(f"http://127.0.0.1:{server.port}")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (found.verdict, found.status) == ("refused", "answer too large")
    assert peak < 30 * 2**20


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "identity", "x-gzip"])
def test_e6_packed_answers_are_unpacked(encoding: str) -> None:
    from stack_composer.telemetry.store.zstd import compress_frame

    answer = trace_service_pb2.ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 7
    body = bytes(answer.SerializeToString())
    if encoding == "zstd":
        body = compress_frame(body)
    elif encoding != "identity":
        body = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    found = outcome_of(answering(response(200, body, content_encoding=encoding)))
    assert (found.verdict, found.rejected) == ("delivered", 7)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"not packed", "gzip"),
        (gzip.compress(b"cut")[:-5], "gzip"),
        (b"not packed", "zstd"),
        (b"x", "br"),
        (b"x", "gzip, gzip, gzip, gzip"),
    ],
)
def test_e6_an_answer_that_is_not_packed_as_it_says_is_no_answer(
    body: bytes, encoding: str
) -> None:
    found = outcome_of(answering(response(200, body, content_encoding=encoding)))
    assert (found.verdict, found.status) == ("retry", "no answer")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.1 503 x\r\n",
                b"content-length: 2\r\n",
                b"content-type: application/json\r\n",
                b"content-encoding: gzip\r\n",
                b"transfer-encoding: chunked\r\n",
                b"retry-after: ",
                b"\r\n",
                b"{}",
                b"2\r\n{}\r\n0\r\n\r\n",
            ]
        ),
        max_size=8,
    ).map(b"".join)
)
def test_whatever_a_server_says_there_is_an_outcome(data: bytes) -> None:
    found = outcome_of(saying(data))
    assert found.verdict in ("delivered", "retry", "refused", "too_large")
    assert (found.verdict == "delivered") <= (b"HTTP/1." in data)
    assert found.message.isascii()


# -- E11: certificates -------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def test_e11_a_certificate_of_a_trusted_authority(authority: trustme.CA, ca: Path) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    with serving(answering(response()), context) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert send_once(url, otlp_certificate=str(ca)).verdict == "delivered"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("unknown", "unable to get local issuer"), ("expired", "expired"), ("other", "IP address")],
)
def test_e11_other_certificates_are_refused_and_nothing_is_sent(
    authority: trustme.CA, ca: Path, kind: str, words: str
) -> None:
    if kind == "unknown":
        made = trustme.CA().issue_cert("127.0.0.1")
    elif kind == "expired":
        past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        made = authority.issue_cert("127.0.0.1", not_after=past)
    else:
        made = authority.issue_cert("other.example")
    with serving(answering(response()), server_context(made)) as server:
        url = f"https://127.0.0.1:{server.port}"
        found = send_once(url, otlp_certificate=str(ca))
    assert (found.verdict, found.status) == ("refused", "certificate")
    assert words in found.message
    assert found.message.startswith(f"the certificate of {url} is not accepted: ")
    assert found.is_about_destination
    assert server.requests == []


def test_e11_without_a_file_the_systems_authorities_count(authority: trustme.CA) -> None:
    with serving(
        answering(response()), server_context(authority.issue_cert("127.0.0.1"))
    ) as server:
        assert send_once(f"https://127.0.0.1:{server.port}").status == "certificate"
    assert server.requests == []


def test_e11_the_clients_certificate_is_shown(
    authority: trustme.CA, ca: Path, tmp_path: Path
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("client.example")
    client.private_key_pem.write_to_path(tmp_path / "key.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    files = {
        "otlp_client_certificate": str(tmp_path / "cert.pem"),
        "otlp_client_key": str(tmp_path / "key.pem"),
    }
    with serving(answering(response()), context) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert send_once(url, otlp_certificate=str(ca), **files).verdict == "delivered"
        without = send_once(url, otlp_certificate=str(ca))
    assert without.verdict in ("refused", "retry")
    assert len(server.requests) == 1


def test_e11_files_that_hold_something_else(ca: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    destination = destination_at("https://127.0.0.1:1", otlp_certificate=str(other))
    with pytest.raises(SendError, match="no certificates that can be read"):
        open_sender(destination, {})
    destination = destination_at("https://127.0.0.1:1", otlp_client_certificate=str(ca))
    with pytest.raises(SendError, match="cannot be used together"):
        open_sender(destination, {})


def lock(authority: trustme.CA, folder: Path) -> None:
    """Put a client's certificate and its key, behind a password, into a folder."""
    from cryptography.hazmat.primitives import serialization as form

    client = authority.issue_cert("client.example")
    key = form.load_pem_private_key(client.private_key_pem.bytes(), None)
    locked = form.BestAvailableEncryption(b"hidden")
    (folder / "key.pem").write_bytes(
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)
    )
    client.cert_chain_pems[0].write_to_path(folder / "cert.pem")


def test_e11_a_key_behind_a_password_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    lock(authority, tmp_path)
    destination = destination_at(
        "https://127.0.0.1:1",
        otlp_client_certificate=str(tmp_path / "cert.pem"),
        otlp_client_key=str(tmp_path / "key.pem"),
    )
    with pytest.raises(SendError, match="cannot be used together"):
        open_sender(destination, {})


@pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals of this kind")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_e11_a_key_behind_a_password_asks_nobody_at_a_terminal(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """OpenSSL would ask whoever sits there, and wait."""
    import pty

    lock(authority, tmp_path)
    source = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from send_servers import destination_at
from stack_composer.telemetry.send.sender import open_sender
files = {{"otlp_client_certificate": "cert.pem", "otlp_client_key": "key.pem"}}
try:
    open_sender(destination_at("https://127.0.0.1:1", **files), {{}})
except Exception as error:
    print("refused:", type(error).__name__)
"""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", source])  # noqa: S606  # as S603
    said = b""
    with contextlib.suppress(OSError):  # a terminal whose program has ended
        while piece := os.read(terminal, 1_000):
            said += piece
            assert b"pass phrase" not in said
    os.close(terminal)
    os.waitpid(child, 0)
    assert b"refused: SendError" in said


def test_e11_the_systems_authorities_may_be_named_by_its_variable(
    authority: trustme.CA, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    with serving(
        answering(response()), server_context(authority.issue_cert("127.0.0.1"))
    ) as server:
        assert send_once(f"https://127.0.0.1:{server.port}").verdict == "delivered"


def test_a_warning_of_the_library_that_a_program_makes_an_error_is_an_outcome(
    authority: trustme.CA, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It warns of a clock that stands before it was released."""
    monkeypatch.setattr("urllib3.connection.RECENT_DATE", dt.date(9999, 1, 1))
    context = server_context(authority.issue_cert("127.0.0.1"))
    with serving(answering(response()), context) as server:
        found = send_once(f"https://127.0.0.1:{server.port}", otlp_certificate=str(ca))
    assert found.verdict == "retry"


def test_a_plain_server_behind_https_is_refused(ca: Path) -> None:
    def talk(connection: socket.socket, _: Server) -> None:
        connection.recv(5_000)
        connection.sendall(response(400))

    with serving(talk) as server:
        found = send_once(f"https://127.0.0.1:{server.port}", otlp_certificate=str(ca))
    assert (found.verdict, found.status) == ("refused", "tls")
    assert found.is_about_destination


# -- processes and threads ---------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own() -> None:
    with (
        serving(answering(response())) as server,
        sender_to(f"http://127.0.0.1:{server.port}") as send,
    ):
        assert send().verdict == "delivered"
        child = os.fork()
        if child == 0:
            os._exit(0 if send().verdict == "delivered" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert send().verdict == "delivered"
        assert server.connections == 2


# -- nothing observes what we send -------------------------------------------------------


def test_our_requests_leave_no_trace_in_the_programs_own_telemetry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Or each would be recorded, and sent, and recorded."""
    import urllib3

    caplog.set_level(logging.DEBUG)
    with serving(answering(response())) as server:
        url = f"http://127.0.0.1:{server.port}"
        send_once(f"{url}/x?signature={CREDENTIAL}", purpose="upload", upload_protocol="put")
        assert not [r for r in caplog.records if r.name.startswith("urllib3")]
        with urllib3.PoolManager() as theirs:
            theirs.request("GET", url, retries=False)
        assert [r for r in caplog.records if r.name.startswith("urllib3")]
    with unobserved():
        assert not is_instrumentation_enabled()
    assert is_instrumentation_enabled()


def test_sending_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = destination_at("https://collector.example")
    for name in ("urllib3", "stack_composer.telemetry.send.http"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SendError, match="urllib3") as caught:
        open_sender(destination, {})
    assert "[upload]" in caught.value.hint


def test_a_sender_of_http_is_given_for_http() -> None:
    sender = open_sender(destination_at("https://collector.example"), {})
    assert isinstance(sender, HttpSender)
    sender.close()
