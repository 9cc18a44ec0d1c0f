"""What our upload sends to rotel comes out of it again, equal to what we have stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop import everything, peers, same, uploading

pytestmark = [pytest.mark.e2e, pytest.mark.interop]


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_rotel_gets_all_that_is_uploaded(protocol: str, compression: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    everything.write(store)
    stored = everything.stored(store)
    with (
        peers.Sink() as sink,
        peers.rotel(tmp_path / "rotel", *peers.rotel_to(sink.url, "http")) as doors,
    ):
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url("grpc" if protocol == "grpc" else "http"),
            upload_protocol=protocol,
            upload_compression=compression,
        )
        said = uploading.upload(store, environ)
        assert said["records"] == sum(map(len, stored.values()))
        for signal in same.SIGNALS:
            found = sink.wait_for(signal, len(stored[signal]))
            assert same.different(found, stored[signal]) == ""


def test_rotel_gets_traces_and_logs_as_json(tmp_path: Path) -> None:
    """Rotel answers 200 to metrics as JSON, and loses them; it refuses "NaN", too."""
    store = tmp_path / "store"
    everything.write(store, finite=True)
    stored = everything.stored(store)
    with (
        peers.Sink() as sink,
        peers.rotel(tmp_path / "rotel", *peers.rotel_to(sink.url, "http")) as doors,
    ):
        environ = uploading.configured(
            tmp_path / "config", upload_endpoint=doors.url(), upload_protocol="http/json"
        )
        for signal in ("traces", "logs"):
            uploading.upload(store, environ, "--signal", signal)
            found = sink.wait_for(signal, len(stored[signal]))
            assert same.different(found, stored[signal]) == ""


def test_a_request_too_large_for_rotel_goes_in_parts(tmp_path: Path) -> None:
    store = tmp_path / "store"
    everything.write(store, plain_spans=20_000)
    stored = everything.stored(store)
    # It drops what is more than two of its batches, after it has said yes.
    how = ["--otlp-grpc-max-recv-msg-size-mib", "1", "--batch-max-size", "100000"]
    with (
        peers.Sink() as sink,
        peers.rotel(tmp_path / "rotel", *how, *peers.rotel_to(sink.url, "http")) as doors,
    ):
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url("grpc"),
            upload_protocol="grpc",
            upload_compression="none",
        )
        uploading.upload(store, environ, "--signal", "traces")
        found = sink.wait_for("traces", len(stored["traces"]))
    assert same.different(found, stored["traces"]) == ""
