"""What rotel, a collector of others, answers to what we send, and how it is understood."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from interop import peers
from send_servers import destination_at
from stack_composer.telemetry.send.sender import message_of, open_sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack_composer.telemetry.send.answers import Outcome

pytestmark = [pytest.mark.interop, pytest.mark.e2e]

WAYS = [("otlp_http", "gzip"), ("otlp_http", "none"), ("otlp_grpc", "gzip"), ("otlp_grpc", "none")]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Doors]:
    with peers.rotel(tmp_path_factory.mktemp("rotel")) as found:
        yield found


def spans(count: int, text_bytes: int = 1) -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for _ in range(count):
        span = scope.spans.add(name="x", trace_id=os.urandom(16), span_id=os.urandom(8))
        attribute = span.attributes.add(key="k")
        attribute.value.string_value = os.urandom(text_bytes).hex()
    return bytes(request.SerializeToString())


def send(doors: peers.Doors, purpose: str, compression: str, body: bytes) -> Outcome:
    url = doors.url("grpc" if purpose == "otlp_grpc" else "http")
    destination = destination_at(url, purpose, otlp_compression=compression)
    sender = open_sender(destination, {})
    try:
        return sender.send(message_of(destination, "traces", body, 1))
    finally:
        sender.close()


@pytest.mark.parametrize(("purpose", "compression"), WAYS)
def test_rotel_takes_what_we_send(doors: peers.Doors, purpose: str, compression: str) -> None:
    found = send(doors, purpose, compression, spans(10))
    assert (found.verdict, found.rejected, found.message) == ("delivered", 0, "")


@pytest.mark.parametrize(("purpose", "compression"), WAYS)
def test_e7_rotel_says_that_a_request_is_too_large(
    doors: peers.Doors, purpose: str, compression: str
) -> None:
    """By HTTP with 413, by gRPC with OUT_OF_RANGE, which as such would be tried for ever."""
    assert send(doors, purpose, compression, spans(200, 60_000)).verdict == "too_large"


@pytest.mark.parametrize(("purpose", "compression"), WAYS)
def test_rotel_refuses_what_is_no_protobuf(
    doors: peers.Doors, purpose: str, compression: str
) -> None:
    found = send(doors, purpose, compression, b"\xff\xff")
    assert found.verdict == "refused"
    assert not found.is_about_destination
