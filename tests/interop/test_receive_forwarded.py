"""What the Collector, rotel and our own upload hand on to our receiver is in our store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interop import everything, official, peers, same, uploading

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

# The first of many destinations, so that nothing is sent twice where the first try fails.
AT_ONCE = {"sending_queue": {"enabled": False}, "retry_on_failure": {"enabled": False}}


def assert_stored(sent: dict[str, list[str]], store: Path) -> None:
    """Every record that was sent is in the store, once."""
    for signal, wanted in sent.items():
        stored = same.from_folder(signal, store)
        assert same.different(stored, same.as_stored(wanted)) == ""


@pytest.mark.parametrize("encoding", ["proto", "json"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "deflate", "none"])
def test_the_collector_hands_on_by_http(encoding: str, compression: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with peers.serving(store, tmp_path / "logs", grpc=False) as ours:
        exporter: dict[str, Any] = {"endpoint": ours.url(), "encoding": encoding}
        exporters = {"otlphttp": {**exporter, "compression": compression, **AT_ONCE}}
        with peers.collector(tmp_path / "collector", exporters) as doors:
            sent = official.send("http/protobuf", doors, tmp_path / "sdk")
    assert_stored(sent, store)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_the_collector_hands_on_by_grpc(compression: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with peers.serving(store, tmp_path / "logs") as ours:
        exporter = {"endpoint": f"127.0.0.1:{ours.grpc}", "tls": {"insecure": True}}
        exporters = {"otlp": {**exporter, "compression": compression, **AT_ONCE}}
        with peers.collector(tmp_path / "collector", exporters) as doors:
            sent = official.send("grpc", doors, tmp_path / "sdk")
    assert_stored(sent, store)


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_rotel_hands_on(protocol: str, compression: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with peers.serving(store, tmp_path / "logs", grpc=protocol == "grpc") as ours:
        to = peers.rotel_to(ours.url(protocol), protocol, compression)
        with peers.rotel(tmp_path / "rotel", *to) as doors:
            sent = official.send("http/protobuf", doors, tmp_path / "sdk")
    assert_stored(sent, store)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_we_hand_on_to_ourselves(protocol: str, compression: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    everything.write(ours)
    with peers.serving(theirs, tmp_path / "logs", grpc=protocol == "grpc") as doors:
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url("grpc" if protocol == "grpc" else "http"),
            upload_protocol=protocol,
            upload_compression=compression,
        )
        uploading.upload(ours, environ)
    assert_stored(everything.stored(ours), theirs)
