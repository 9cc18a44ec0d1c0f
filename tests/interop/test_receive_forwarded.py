"""What the Collector, rotel and our own upload hand on to our receiver is in our store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import records
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


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_the_collector_tries_again_until_we_are_back(way: str, tmp_path: Path) -> None:
    """Killed with all that was acknowledged, and away when the next records come."""
    store = tmp_path / "store"
    port = peers.free_port()
    retry = {
        "sending_queue": {"enabled": True},
        "retry_on_failure": {"initial_interval": "200ms", "max_interval": "500ms"},
    }
    exporters: dict[str, Any] = {
        "http": {"otlphttp": {"endpoint": f"http://127.0.0.1:{port}", **retry}},
        "grpc": {
            "otlp": {"endpoint": f"127.0.0.1:{port}", "tls": {"insecure": True}, **retry},
        },
    }
    ports = (port, 0) if way == "http" else (0, port)
    with peers.collector(tmp_path / "collector", exporters[way]) as doors:
        with peers.serving(store, tmp_path / "logs", http_port=ports[0], grpc_port=ports[1]) as us:
            first = official.send("http/protobuf", doors, tmp_path / "sdk")
            peers.until(lambda: is_held(first, store), "the first records")
            us.kill()
        second = official.send("http/protobuf", doors, tmp_path / "sdk")
        with peers.serving(store, tmp_path / "logs", http_port=ports[0], grpc_port=ports[1]):
            peers.until(lambda: is_held(second, store), "what waited")
    for signal in same.SIGNALS:
        # What was answered while the answer's reader was gone may come twice.
        stored = set(same.from_folder(signal, store))
        assert stored == set(same.as_stored(first[signal] + second[signal]))


def content(path: Path) -> bytes:
    """What is in a bundle; nothing if it was sealed meanwhile, and has another name."""
    try:
        return records.content(path)
    except FileNotFoundError:
        return b""


def is_held(sent: dict[str, list[str]], store: Path) -> bool:
    """Whether all that was sent is in whole lines; a writer may be in the midst of one."""
    for signal, wanted in sent.items():
        lines = [
            line
            for path in store.glob(f"*.{signal}.jsonl*")
            for line in content(path).splitlines(keepends=True)
            if line.endswith(b"\n")
        ]
        if not set(same.as_stored(wanted)) <= set(same.from_json(signal, lines)):
            return False
    return True
