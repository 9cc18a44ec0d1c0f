"""schemathesis against the receiver: what its description allows, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from schemathesis.specs.openapi.checks import negative_data_rejection
from schemathesis.specs.openapi.checks import positive_data_acceptance as accepts

from receivers import JSON, Receiver, receiving, request_of

EXAMPLES = 30
NOT_ASKED: list[Any] = [negative_data_rejection]
"""A null is an absent field, and more than is described is taken (OTLP.md, C)."""
schema = schemathesis.openapi.from_path(Path(__file__).with_name("receiver_openapi.yaml"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with some of its bytes changed, left out or doubled."""
    body = bytearray(request_of(draw(st.integers(1, 5)), name=draw(st.text(max_size=20))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
        if not body:
            break
    return bytes(body)


def requests() -> st.SearchStrategy[bytes]:
    empty = [
        kind().SerializeToString()
        for kind in (
            ExportTraceServiceRequest, ExportMetricsServiceRequest, ExportLogsServiceRequest,
        )
    ]  # fmt: skip
    return st.binary(max_size=200) | damaged() | st.sampled_from(empty)


schemathesis.openapi.media_type("application/x-protobuf", requests())


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiving(tmp_path_factory.mktemp("schema")) as found:
        yield found


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_each_request_is_answered_as_described(
    case: schemathesis.Case[Any], receiver: Receiver
) -> None:
    """No 500; the status, the type and the body are among those that are described."""
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{receiver.port}",
        timeout=20,
        excluded_checks=NOT_ASKED if case.media_type == JSON else [*NOT_ASKED, accepts],
    )
    assert receiver.writer.inbox.held_bytes == 0
