"""What an answer means, by the rules of OTLP; and how long to wait for the next."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (
    BadRequest,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.send import answers
from stack_composer.telemetry.send.answers import Outcome, outcome_of_grpc, outcome_of_http
from stack_composer.telemetry.send.backoff import Backoff, delay_s

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
PORTAL = b"<!DOCTYPE html><html><body>Welcome! Please log in.</body></html>"
NOW_NS = 1_792_000_000_000_000_000  # 2026-10-14 17:46:40 UTC


def http(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Outcome:
    return outcome_of_http("http/protobuf", status, headers or PROTOBUF, body, now_ns=NOW_NS)


def trace_answer(rejected: int, message: str) -> bytes:
    response = trace_service_pb2.ExportTraceServiceResponse()
    response.partial_success.rejected_spans = rejected
    response.partial_success.error_message = message
    return bytes(response.SerializeToString())


# -- E2 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(400, 600))
def test_e2_exactly_four_statuses_are_retried(status: int) -> None:
    expected = "retry" if status in (429, 502, 503, 504) else "refused"
    assert http(status).verdict == ("too_large" if status == 413 else expected)


def test_e7_the_collector_says_too_large_with_a_400() -> None:
    """Its receiver reads the body by Go's net/http, whose error it takes for bad data."""
    said = Status(code=3, message="http: request body too large").SerializeToString()
    assert http(400, body=said).verdict == "too_large"
    said = Status(code=3, message="proto: illegal wireType 7").SerializeToString()
    assert http(400, body=said).verdict == "refused"


@pytest.mark.parametrize("status", [100, 101, 199])
def test_a_status_that_is_no_final_answer_is_refused(status: int) -> None:
    assert http(status).verdict == "refused"


# -- E3 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("999999", 3_600.0),
        ("9" * 5_000, 3_600.0),
        ("Wed, 14 Oct 2026 17:47:10 GMT", 30.0),
        ("Wednesday, 14-Oct-26 17:47:10 GMT", 30.0),
        ("Wed Oct 14 17:47:10 2026", 30.0),
        ("Wed, 14 Oct 2026 17:46:10 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600.0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("Wed, 99 Oct 2026 99:99:99 GMT", None),
        ("x" * 100_000, None),
    ],
)
def test_e3_retry_after_in_both_forms(text: str, wait_s: float | None) -> None:
    assert answers.retry_after_s(text, NOW_NS) == wait_s
    assert http(503, {"retry-after": text}).retry_after_s == wait_s
    assert http(429, {"retry-after": text}).retry_after_s == wait_s


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set here")
def test_e3_a_date_means_greenwichs_time_wherever_this_computer_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert answers.retry_after_s("Wed Oct 14 17:47:10 2026", NOW_NS) == 30.0
        assert answers.retry_after_s("Wed, 14 Oct 2026 17:47:10 GMT", NOW_NS) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(max_size=80))
def test_e3_no_retry_after_breaks_anything(text: str) -> None:
    wait_s = answers.retry_after_s(text, NOW_NS)
    assert wait_s is None or 0 <= wait_s <= 3_600


# -- E4 ----------------------------------------------------------------------------------


def answer_of(signal: str, rejected: int) -> Any:
    if signal == "traces":
        traces = trace_service_pb2.ExportTraceServiceResponse()
        traces.partial_success.rejected_spans = rejected
        return traces
    if signal == "metrics":
        metrics = metrics_service_pb2.ExportMetricsServiceResponse()
        metrics.partial_success.rejected_data_points = rejected
        return metrics
    logs = logs_service_pb2.ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = rejected
    return logs


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_e4_partial_success_is_delivered_counted_and_said(signal: str) -> None:
    answer = answer_of(signal, 42)
    answer.partial_success.error_message = "too old"
    expected = Outcome("delivered", "200", 42, "too old")
    assert http(200, PROTOBUF, answer.SerializeToString()) == expected
    name = answer.partial_success.ListFields()[0][0].json_name
    for count in (42, "42"):
        body = json.dumps({"partialSuccess": {name: count, "errorMessage": "too old"}}).encode()
        assert outcome_of_http("http/json", 200, JSON, body) == expected


def test_e4_a_warning_rejects_nothing() -> None:
    assert http(200, PROTOBUF, trace_answer(0, "mind the gap")) == Outcome(
        "delivered", "200", 0, "mind the gap"
    )


@pytest.mark.parametrize(
    "body", [b"{}", b'{"partialSuccess":null}', b'{"partialSuccess":{}}', b'{"new":1}', b""]
)
def test_e4_what_servers_answer_for_full_success(body: bytes) -> None:
    assert outcome_of_http("http/json", 200, JSON, body) == Outcome("delivered", "200")


@pytest.mark.parametrize(
    "partial",
    [
        {"rejectedSpans": -1},
        {"rejectedSpans": "many"},
        {"rejectedSpans": 1e300},
        {"rejectedSpans": [1]},
        {"rejectedSpans": True, "errorMessage": {"a": 1}},
        {"rejectedSpans": "9" * 5_000},
    ],
)
def test_e4_counts_that_are_none_count_as_nothing(partial: dict[str, Any]) -> None:
    body = json.dumps({"partialSuccess": partial}).encode()
    assert outcome_of_http("http/json", 200, JSON, body) == Outcome("delivered", "200")


def test_e4_nobody_rejects_less_than_nothing() -> None:
    assert http(200, PROTOBUF, trace_answer(-5, "")).rejected == 0


@pytest.mark.parametrize(
    "body", [b"\x02\x00", b"\x0a\x04\x08\x01", b"\x0a", b"\x0a\x02\x08", b"\xff" * 20]
)
def test_e4_what_is_no_protobuf_is_not_read_as_some(body: bytes) -> None:
    with pytest.raises(LineRefusedError):
        answers.partial_of_protobuf(body)
    assert http(200, PROTOBUF, body) == Outcome(
        "delivered", "200", 0, "its answer could not be read"
    )


# -- E5 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(300, 400))
def test_e5_no_redirection_is_a_delivery(status: int) -> None:
    found = http(status, {"location": "https://user:pw@evil.example:8443/in?token=abc#x"})
    assert found.verdict == "refused"
    assert found.is_about_destination
    if status not in (300, 304):
        assert "redirected to another place (https://evil.example:8443)" in found.message
    assert "abc" not in found.message


@pytest.mark.parametrize("location", ["", "/login", "//evil.example", "javascript:x", "\x00"])
def test_e5_a_redirection_to_nowhere(location: str) -> None:
    found = http(302, {"location": location})
    assert found.message == "redirected to another place, which is never followed"


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "jaeger", "put"])
@pytest.mark.parametrize(
    "kind", ["text/html", "text/html; charset=utf-8", "text/plain", "application/json", ""]
)
def test_e5_a_page_is_no_acknowledgement(protocol: str, kind: str) -> None:
    found = outcome_of_http(protocol, 200, {"content-type": kind}, PORTAL)
    assert found.verdict == "retry"
    assert "log-in page" in found.message


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"OK"),
        ("application/json", b'{"status":"log in first"}'),
        ("application/json", b"[]"),
        ("application/json", b"not json"),
        ("application/json", b"[" * 100_000),
        ("", b"\x12\x02hi"),
    ],
)
def test_e5_an_answer_in_another_form_has_to_look_like_one(kind: str, body: bytes) -> None:
    assert http(200, {"content-type": kind}, body).verdict == "retry"


@pytest.mark.parametrize(
    ("kind", "body", "rejected"),
    [
        ("application/json", b"{}", 0),
        ("application/json; charset=utf-8", b'{"partialSuccess":{"rejectedSpans":"3"}}', 3),
        ("", b"{}", 0),
        ("application/octet-stream", trace_answer(3, "x"), 3),
        ("", trace_answer(3, "x"), 3),
        ("text/plain", b"", 0),
        ("text/html", b"", 0),
    ],
)
def test_e5_servers_that_label_an_answer_wrongly_have_answered(
    kind: str, body: bytes, rejected: int
) -> None:
    found = http(200, {"content-type": kind}, body)
    assert (found.verdict, found.rejected) == ("delivered", rejected)


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("body", [b"", b"ok", b"\x00"])
def test_jaeger_acknowledges_with_any_small_answer(status: int, body: bytes) -> None:
    assert outcome_of_http("jaeger", status, {}, body).verdict == "delivered"


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_store_acknowledges_an_object(status: int) -> None:
    html = {"content-type": "text/html; charset=UTF-8"}
    assert outcome_of_http("put", status, html, b"").verdict == "delivered"


def test_of_a_stores_error_only_the_code_is_shown() -> None:
    body = b"<?xml?><Error><Code>AccessDenied</Code><AWSAccessKeyId>AK1</AWSAccessKeyId></Error>"
    found = outcome_of_http("put", 403, {"content-type": "application/xml"}, body)
    assert (found.verdict, found.message) == ("refused", "AccessDenied")


# -- the words of a server ---------------------------------------------------------------


def test_d8_the_words_of_a_status_are_shown() -> None:
    body = Status(code=3, message="span 7 has no name").SerializeToString()
    assert http(400, PROTOBUF, body).message == "span 7 has no name"
    assert http(400, JSON, b'{"code":3,"message":"span 7"}').message == "span 7"
    assert http(400, {"content-type": "text/plain"}, b"no\n").message == "no"
    assert http(401, {"content-type": "text/html"}, PORTAL).message.startswith("it wants cred")


@given(st.text() | st.binary())
def test_words_of_a_server_are_made_fit_to_be_shown(text: str | bytes) -> None:
    found = answers.clean(text)
    assert len(found) <= 200
    assert all(" " <= character <= "~" for character in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "?[31mred?[0m"),
        ("a\r\nb\tc", "a b c"),
        ("\u202eevil", "?evil"),
        (b"caf\xc3\xa9 \xff", "caf? ?"),
        ("x" * 300, "x" * 197 + "..."),
    ],
)
def test_words_without_tricks(text: str | bytes, expected: str) -> None:
    assert answers.clean(text) == expected


def test_a_server_that_says_back_what_it_was_sent_is_not_quoted() -> None:
    assert answers.clean("bad token abcdefgh!", ["abcdefgh"]) == "bad token ***!"


@given(st.integers(100, 599), st.text(), st.binary(max_size=200), st.text(max_size=20))
def test_any_answer_has_an_outcome(status: int, kind: str, body: bytes, header: str) -> None:
    headers = {"content-type": kind, "retry-after": header, "location": header}
    for protocol in ("http/protobuf", "http/json", "jaeger", "put"):
        for known in (kind, "application/json", "application/x-protobuf"):
            found = outcome_of_http(protocol, status, {**headers, "content-type": known}, body)
            assert found.verdict in ("delivered", "retry", "too_large", "refused")
            assert (found.verdict == "delivered") <= (200 <= status < 300)


@pytest.mark.parametrize(
    ("status", "is_about_destination"),
    [(400, False), (422, False), (500, False), (401, True), (403, True), (404, True), (415, True)],
)
def test_a_refusal_is_about_the_request_or_about_the_place(
    status: int, is_about_destination: bool
) -> None:
    assert http(status).is_about_destination is is_about_destination
    assert not http(503).is_about_destination


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("407", "refused"),
        ("401", "refused"),
        ("403", "refused"),
        ("500", "retry"),
        ("503", "retry"),
    ],
)
def test_what_a_proxy_refuses_is_never_the_fault_of_a_request(status: str, verdict: str) -> None:
    found = answers.outcome_of_proxy(status, "http://proxy.example:3128")
    assert (found.verdict, found.status) == (verdict, f"proxy {status}")
    assert found.is_about_destination == (verdict == "refused")
    assert "http://proxy.example:3128" in found.message


# -- F: gRPC -----------------------------------------------------------------------------

RETRIED = {
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
}
CODES = {
    *RETRIED,
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "INTERNAL",
}


def details(*messages: Any) -> list[tuple[str, bytes]]:
    status = Status(code=8, message="busy")
    for message in messages:
        status.details.add().Pack(message)
    return [("other", b"x"), ("grpc-status-details-bin", status.SerializeToString())]


def grpc(code: str, words: str = "", metadata: Any = (), sent_bytes: int = 5_000_000) -> Outcome:
    return outcome_of_grpc(code, words, metadata, sent_bytes=sent_bytes)


@pytest.mark.parametrize("code", sorted(CODES))
def test_f1_the_codes_that_are_retried(code: str) -> None:
    assert grpc(code).verdict == ("retry" if code in RETRIED else "refused")


def test_f2_resource_exhausted_is_retried_only_with_retry_info() -> None:
    assert grpc("RESOURCE_EXHAUSTED", "quota").verdict == "refused"
    assert grpc("RESOURCE_EXHAUSTED", "quota", details(BadRequest())).verdict == "refused"
    wait = RetryInfo(retry_delay=Duration(seconds=4))
    assert grpc("RESOURCE_EXHAUSTED", "quota", details(wait)) == Outcome(
        "retry", "RESOURCE_EXHAUSTED", 0, "quota", 4.0
    )
    nothing = RetryInfo()
    assert grpc("RESOURCE_EXHAUSTED", "quota", details(nothing)).verdict == "retry"


def test_f3_retry_info_is_read_from_the_details() -> None:
    wait = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    assert grpc("UNAVAILABLE", "", details(BadRequest(), wait)).retry_after_s == 1.5
    text = base64.b64encode(details(wait)[1][1]).decode().rstrip("=")
    assert grpc("UNAVAILABLE", "", [("grpc-status-details-bin", text)]).retry_after_s == 1.5
    far = RetryInfo(retry_delay=Duration(seconds=10**9))
    assert grpc("UNAVAILABLE", "", details(far)).retry_after_s == 3_600.0
    past = RetryInfo(retry_delay=Duration(seconds=-4))
    assert grpc("UNAVAILABLE", "", details(past)).retry_after_s == 0.0


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_f3_no_details_break_anything(raw: bytes | str) -> None:
    found = grpc("UNAVAILABLE", "", [("grpc-status-details-bin", raw)])
    assert found.verdict == "retry"


def test_f3_details_of_another_kind_are_no_retry_info() -> None:
    wrong = AnyMessage(type_url="x/NotRetryInfo", value=b"\x0a\x02\x08\x04")
    status = Status(details=[wrong]).SerializeToString()
    assert grpc("UNAVAILABLE", "", [("grpc-status-details-bin", status)]).retry_after_s is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (31234 vs. 4194304)"),
        (
            "RESOURCE_EXHAUSTED",
            "grpc: received message after decompression larger than max (5000000 vs. 4194304)",
        ),
        ("RESOURCE_EXHAUSTED", "Decompressed message larger than max"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
        (
            "OUT_OF_RANGE",
            "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304",
        ),
    ],
)
def test_e7_servers_that_say_a_message_is_too_large(code: str, words: str) -> None:
    assert grpc(code, words).verdict == "too_large"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "RESOURCE_EXHAUSTED",
            "Stream removed (CLIENT: Received message larger than max (5000 vs. 4194304))",
        ),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (6000000 vs. 4194304)"),
    ],
)
def test_f5_an_answer_that_is_too_large_is_refused(code: str, words: str) -> None:
    assert grpc(code, words)[:2] == ("refused", "answer too large")


def test_f5_what_no_server_could_find_too_large_was_the_answer() -> None:
    found = grpc("RESOURCE_EXHAUSTED", "Decompressed message larger than max", sent_bytes=5_000)
    assert (found.verdict, found.status) == ("refused", "answer too large")


# -- waiting -----------------------------------------------------------------------------


def test_e3_waits_double_up_to_a_minute_and_have_jitter() -> None:
    longest = [delay_s(failures, chance=lambda: 1.0) for failures in range(1, 10)]
    assert longest == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert delay_s(10**9, chance=lambda: 1.0) == 60
    assert delay_s(5, chance=lambda: 0.0) == 0.0
    assert len({delay_s(7) for _ in range(100)}) > 90


@given(st.integers(1, 100), st.floats(0, 3_600))
def test_e3_what_a_server_asks_for_is_waited_out(failures: int, asked_s: float) -> None:
    for drawn in (0.0, 0.3, 1.0):
        assert delay_s(failures, asked_s, chance=iter([drawn]).__next__) >= asked_s


def test_waits_begin_anew_after_a_success() -> None:
    backoff = Backoff(lambda: 1.0)
    assert [backoff.failed(), backoff.failed(), backoff.failed(9.0)] == [1.0, 2.0, 9.4]
    backoff.succeeded()
    assert backoff.failed() == 1.0


def test_no_wait_before_the_first_failure() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        delay_s(0)
