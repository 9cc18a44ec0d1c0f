"""The receiver over HTTP: OTLP.md's rules D, each by its number, and what it bears."""

from __future__ import annotations

import gzip
import json
import os
import socket
import threading
import time
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from receivers import JSON, PROTOBUF, receiving, request_of
from stack_composer.telemetry import effects
from stack_composer.telemetry.store import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def logs_request() -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano = 1_700_000_000_000_000_000
    record.body.string_value = "it began"
    return request.SerializeToString()


def metrics_request() -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "room"
    point = metric.gauge.data_points.add()
    point.time_unix_nano = 1_700_000_000_000_000_000
    point.as_int = 7
    return request.SerializeToString()


def json_of(body: bytes) -> bytes:
    """Give the same request as OTLP's JSON, whose ids are hexadecimal."""
    request = ExportTraceServiceRequest.FromString(body)
    document = json.loads(MessageToJson(request))
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for number, span in enumerate(scope["spans"], 1):
                span["traceId"] = f"{number:032x}"
                span["spanId"] = f"{number:016x}"
    return json.dumps(document).encode()


# D1 to D7: what is taken, and what it is answered


def test_d1_each_signal_has_its_path(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        for path, body in (
            ("/v1/traces", request_of()),
            ("/v1/metrics", metrics_request()),
            ("/v1/logs", logs_request()),
        ):
            assert receiver.post(path, body)[0].status == 200
        for signal in ("traces", "metrics", "logs"):
            assert len(receiver.lines(signal)) == 1, signal
        assert receiver.post("/v1/profiles", b"")[0].status == 404


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8"])
def test_d2_json_is_taken_and_answered_in_json(tmp_path: Path, content_type: str) -> None:
    with receiving(tmp_path) as receiver:
        response, body = receiver.post("/v1/traces", json_of(request_of(3)), content_type)
        assert (response.status, response.headers["Content-Type"], body) == (200, JSON, b"{}")
        assert [span["spanId"] for span in receiver.spans()] == [f"{n:016x}" for n in (1, 2, 3)]


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress_frame,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_d3_packed_bodies_are_taken(tmp_path: Path, encoding: str) -> None:
    with receiving(tmp_path) as receiver:
        body = PACKED[encoding](request_of(5))
        response, _ = receiver.post("/v1/traces", body, Content_Encoding=encoding)
        assert response.status == 200
        assert len(receiver.spans()) == 5


def test_d3_deflate_without_its_header_is_taken_too(tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(request_of(5)) + packer.flush()
    with receiving(tmp_path) as receiver:
        assert receiver.post("/v1/traces", body, Content_Encoding="deflate")[0].status == 200
        assert len(receiver.spans()) == 5


def test_d4_a_body_beyond_the_limit_is_refused_before_and_after_unpacking(tmp_path: Path) -> None:
    with receiving(tmp_path, serve_request_bytes_max=4096) as receiver:
        response, body = receiver.post("/v1/traces", b"\0" * 4097)
        assert response.status == 413
        assert b"4,096" in body
        bomb = gzip.compress(b"\0" * 10_000_000)
        response, _ = receiver.post("/v1/traces", bomb[:4096], Content_Encoding="gzip")
        assert response.status == 413 or len(bomb) > 4096
        small_bomb = gzip.compress(b"\0" * 1_000_000)
        assert len(small_bomb) < 4096
        response, body = receiver.post("/v1/traces", small_bomb, Content_Encoding="gzip")
        assert response.status == 413
        assert receiver.lines("traces") == []


def test_d4_a_chunked_body_beyond_the_limit_is_refused_while_it_comes(tmp_path: Path) -> None:
    with (
        receiving(tmp_path, serve_request_bytes_max=4096) as receiver,
        closing(socket.create_connection(("127.0.0.1", receiver.port), 20)) as client,
    ):
        head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        client.sendall(head + b"Content-Type: application/x-protobuf\r\n\r\n")
        for _ in range(5):
            client.sendall(b"400\r\n" + b"\0" * 1024 + b"\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
        assert receiver.writer.inbox.held_bytes == 0


def test_d5_success_says_nothing(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        response, body = receiver.post("/v1/traces", request_of())
        assert (response.status, body) == (200, b"")
        assert response.headers["Content-Type"] == PROTOBUF


@pytest.mark.parametrize(("body", "content_type"), [(b"", PROTOBUF), (b"{}", JSON)])
def test_d6_an_empty_request_is_a_success(tmp_path: Path, body: bytes, content_type: str) -> None:
    with receiving(tmp_path) as receiver:
        assert receiver.post("/v1/traces", body, content_type)[0].status == 200
        assert receiver.lines("traces") == []


def test_c1_fields_that_are_not_known_say_nothing(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        assert receiver.post("/v1/traces", b'{"resourceProfiles":[]}', JSON)[0].status == 200
        response, body = receiver.post("/v1/traces", b'{"resourceLogs":[]}', JSON)
        assert response.status == 400, "most likely meant for another path"
        assert b"no OTLP traces" in body


def test_d7_what_was_mended_is_told_with_the_success(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest.FromString(request_of())
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    with receiving(tmp_path) as receiver:
        response, body = receiver.post("/v1/traces", request.SerializeToString())
        assert response.status == 200
        told = ExportTraceServiceResponse.FromString(body).partial_success
        assert told.rejected_spans == 0
        assert "ids that are none" in told.error_message


def test_a_log_record_without_any_time_was_observed_when_it_came(tmp_path: Path) -> None:
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hello"}}]}]}]}'
    before = time.time_ns()
    with receiving(tmp_path) as receiver:
        assert receiver.post("/v1/logs", body, JSON)[0].status == 200
        (line,) = receiver.lines("logs")
    (record,) = line["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert before <= int(record["observedTimeUnixNano"]) <= time.time_ns()


# D8 to D11: what is refused


def test_d8_d9_bad_data_is_told_by_status_and_quotes_nothing(tmp_path: Path) -> None:
    secret = b"ghp_" + b"A1b2" * 9
    with receiving(tmp_path) as receiver:
        response, body = receiver.post("/v1/traces", b"\x0a\xff" + secret)
        assert response.status == 400
        assert body.startswith(b"\x08\x03\x12")
        assert b"google.rpc.BadRequest" in body
        assert secret not in body
        response, body = receiver.post("/v1/traces", b'{"resourceSpans":["' + secret, JSON)
        status = json.loads(body)
        assert (response.status, status["code"]) == (400, 3)
        assert status["details"][0]["@type"].endswith("google.rpc.BadRequest")
        assert secret not in body


def test_d10_too_much_at_once_is_told_to_come_again(tmp_path: Path) -> None:
    with receiving(tmp_path, serve_waiting_bytes_max=2**20) as receiver:
        assert receiver.writer.inbox.reserve(2**20 - 10)
        response, _ = receiver.post("/v1/traces", request_of())
        assert response.status == 429
        assert response.headers["Retry-After"] == "1"
        receiver.writer.inbox.release(2**20 - 10)
        assert receiver.post("/v1/traces", request_of())[0].status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_d11_only_post_is_taken(tmp_path: Path, method: str) -> None:
    with receiving(tmp_path) as receiver:
        response, _ = receiver.post("/v1/traces", b"", method=method)
        assert (response.status, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_d11_other_media_types_are_refused(tmp_path: Path, content_type: str) -> None:
    with receiving(tmp_path) as receiver:
        assert receiver.post("/v1/traces", b"{}", content_type)[0].status == 415
        assert receiver.post("/v1/traces", b"", Content_Encoding="br")[0].status == 415


# D14: an answer means what it says


@pytest.mark.parametrize("durability", ["buffered", "batch", "sync"])
def test_d14_what_is_answered_is_in_the_bundle(
    tmp_path: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name, os.fsync)

        def sync(fd: int, real: Callable[[int], None] = real) -> None:
            synced.append(fd)
            real(fd)

        monkeypatch.setattr(os, name, sync, raising=False)
    with receiving(tmp_path, durability=durability) as receiver:
        for count in range(1, 6):
            assert receiver.post("/v1/traces", request_of())[0].status == 200
            assert len(receiver.spans()) == count
        # The folder, when it is made, is synced by each.
        assert (len(synced) >= 5) is (durability != "buffered")


def test_d14_a_full_disk_is_503_and_never_200(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(tmp_path) as receiver:
        monkeypatch.setattr(effects, "disk_space", lambda _path: (0, 1 << 40))
        response, _ = receiver.post("/v1/traces", request_of())
        assert (response.status, response.headers["Retry-After"]) == (503, "30")
        assert receiver.lines("traces") == []


def test_what_is_not_recorded_is_not_taken(tmp_path: Path) -> None:
    with receiving(tmp_path, enabled=False) as receiver:
        response, body = receiver.post("/v1/traces", request_of())
        assert response.status == 503
        assert b"enabled = false" in body
        assert not list(tmp_path.iterdir())


# D15: only programs of this computer


def test_d15_a_foreign_host_is_refused(tmp_path: Path) -> None:
    with receiving(tmp_path, serve_hosts=["telemetry.test"]) as receiver:
        for host, status in (
            ("evil.example", 403),
            ("localhost.evil.example:4318", 403),
            ("127.0.0.1.evil.example", 403),
            ("localhost:4318", 200),
            ("127.0.0.1", 200),
            ("[::1]:4318", 200),
            ("telemetry.test:4318", 200),
        ):
            response, _ = receiver.post("/v1/traces", request_of(), Host=host)
            assert response.status == status, host


def test_d15_web_pages_may_not_send_unless_they_are_named(tmp_path: Path) -> None:
    with receiving(tmp_path, serve_origins=["http://localhost:3000"]) as receiver:
        refused, _ = receiver.post("/v1/traces", b"{}", JSON, Origin="https://evil.example")
        assert refused.status == 403
        assert refused.headers["Access-Control-Allow-Origin"] is None
        preflight, _ = receiver.post(
            "/v1/traces", b"", method="OPTIONS", Origin="http://localhost:3000"
        )
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        allowed, _ = receiver.post("/v1/traces", b"{}", JSON, Origin="http://localhost:3000")
        assert allowed.status == 200


def test_a_token_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    token = "fake" + "0123456789"
    with receiving(tmp_path, token=token) as receiver:
        for given, status in (("", 401), ("Bearer wrong", 401), (f"Bearer {token}", 200)):
            response, body = receiver.post("/v1/traces", request_of(), Authorization=given)
            assert response.status == status, given
            assert token.encode() not in body
        assert receiver.post("/v1/traces", b"")[0].headers["WWW-Authenticate"] == "Bearer"


# What it bears


def test_secrets_are_gone_before_they_are_written(tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2c3D4" * 4 + "e5F6"
    with receiving(tmp_path) as receiver:
        body = request_of(2, name=f"clone {secret}", note=f"token {secret}", api_key="hunter2")
        assert receiver.post("/v1/traces", body)[0].status == 200
        assert receiver.post("/v1/traces", body)[0].status == 200
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        plain = zstd.ZstdDecompressor().decompress(data) if path.name.endswith(".zst") else data
        assert secret.encode() not in plain, path.name
        assert b"hunter2" not in plain, path.name


def test_one_connection_serves_many_requests_in_their_order(tmp_path: Path) -> None:
    body = request_of(2)
    one = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    bad = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        b"Content-Length: 1\r\n\r\n\xff"
    )
    count = 40  # More than may wait for answers at once.
    with (
        receiving(tmp_path) as receiver,
        closing(socket.create_connection(("127.0.0.1", receiver.port), 20)) as client,
    ):
        client.sendall((one + bad) * count)
        got = b""
        while got.count(b"HTTP/1.1 ") < 2 * count:
            piece = client.recv(65_536)
            assert piece, "the connection ended"
            got += piece
        statuses = [part[:3] for part in got.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"400"] * count
        assert len(receiver.spans()) == 2 * count


def test_memory_of_bodies_that_never_end_is_given_back(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        head += b"Content-Type: application/x-protobuf\r\n\r\n"
        clients = [socket.create_connection(("127.0.0.1", receiver.port), 20) for _ in range(8)]
        for client in clients:
            client.sendall(head + b"\0" * 1000)
        wait_for(lambda: receiver.writer.inbox.held_bytes == 8_000)
        for client in clients:
            client.close()
        wait_for(lambda: receiver.writer.inbox.held_bytes == 0)


def test_beyond_the_last_connection_there_is_an_answer(tmp_path: Path) -> None:
    begun = b"POST /v1/traces HTTP/1.1\r\n"
    with receiving(tmp_path, serve_connections_max=2) as receiver:
        held = [socket.create_connection(("127.0.0.1", receiver.port), 20) for _ in range(2)]
        for client in held:
            client.sendall(begun)
        wait_for(lambda: sum(not one.is_idle for one in receiver.http.connections) == 2)
        with closing(socket.create_connection(("127.0.0.1", receiver.port), 20)) as third:
            assert third.recv(4096).startswith(b"HTTP/1.1 503 ")
        for client in held:
            client.close()
        wait_for(lambda: not receiver.http.connections)
        assert receiver.post("/v1/traces", request_of())[0].status == 200


def test_who_only_holds_a_connection_makes_way_for_who_sends(tmp_path: Path) -> None:
    with receiving(tmp_path, serve_connections_max=3) as receiver:
        held = []
        for count in range(1, 4):
            held.append(socket.create_connection(("127.0.0.1", receiver.port), 20))
            wait_for(lambda count=count: len(receiver.http.connections) == count)  # type: ignore[misc]
        assert receiver.post("/v1/traces", request_of())[0].status == 200
        assert held[0].recv(1) == b"", "the one that was idle for longest is ended"
        for client in held[1:]:
            client.settimeout(0)
            with pytest.raises(BlockingIOError):
                client.recv(1)
        for client in held:
            client.close()


def test_what_was_accepted_is_answered_though_it_ends(tmp_path: Path) -> None:
    statuses: list[int] = []
    with receiving(tmp_path) as receiver:

        def send() -> None:
            for _ in range(50):
                try:
                    statuses.append(receiver.post("/v1/traces", request_of(200))[0].status)
                except OSError:
                    return

        senders = [threading.Thread(target=send) for _ in range(4)]
        for sender in senders:
            sender.start()
        wait_for(lambda: len(statuses) > 10)
    for sender in senders:
        sender.join()
    assert set(statuses) <= {200, 503}
    assert len(receiver.spans()) == 200 * statuses.count(200)


def test_ten_times_the_load_is_refused_and_nothing_that_was_answered_is_lost(
    tmp_path: Path,
) -> None:
    """Memory is bounded by what may wait; a sender that is refused keeps its data."""
    answered: list[int] = []
    body = request_of(510, note="x" * 40)
    with receiving(tmp_path, serve_waiting_bytes_max=2**20) as receiver:
        most = [0]

        def send() -> None:
            for _ in range(12):
                answered.append(receiver.post("/v1/traces", body)[0].status)
                most[0] = max(most[0], receiver.writer.inbox.held_bytes)

        senders = [threading.Thread(target=send) for _ in range(20)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert set(answered) == {200, 429}
        assert most[0] <= 2**20
        assert len(receiver.spans()) == 510 * answered.count(200)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something holds that another thread brings about."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.01)
