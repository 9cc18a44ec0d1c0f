"""What we upload to Tempo is what its API gives back.

Not run where this was written: its licence lets nothing of it be brought in here. It runs
where a ``tempo`` is on the ``PATH``.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

import records
from interop import everything, peers, uploading

pytestmark = [pytest.mark.e2e, pytest.mark.interop]


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_tempo_gives_back_every_span_of_a_trace(protocol: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    everything.write(store)
    wanted = {
        (span["spanId"], span["name"])
        for span in records.spans(store)
        if span["traceId"] == everything.TRACE
    }
    with peers.tempo(tmp_path / "tempo") as doors:
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url("grpc" if protocol == "grpc" else "http"),
            upload_protocol=protocol,
        )
        uploading.upload(store, environ, "--signal", "traces")
        url = f"{doors.url('query')}/api/traces/{everything.TRACE}"
        assert peers.until(lambda: named(peers.asked(url), wanted), "the trace in Tempo")


def named(trace: Any, wanted: set[tuple[str, str]]) -> bool:
    """Whether Tempo's answer holds these spans; it is OTLP, with the ids in base64."""
    found = {
        (base64.b64decode(span["spanId"]).hex(), span["name"])
        for batch in (trace or {}).get("batches", ())
        for scope in batch["scopeSpans"]
        for span in scope["spans"]
    }
    return found >= wanted
