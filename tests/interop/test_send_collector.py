"""The Collector holds what we uploaded, and each of us reads the other's files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import records
from interop import everything, peers, same, uploading

pytestmark = [pytest.mark.e2e, pytest.mark.interop]


def files(folder: Path) -> dict[str, dict[str, str]]:
    """The Collector's file exporter, with a file for each signal in ``folder``."""
    return {f"file/{signal}": {"path": str(folder / f"{signal}.jsonl")} for signal in same.SIGNALS}


def held(folder: Path, signal: str) -> list[str]:
    """What its file of a signal holds."""
    return same.from_json(signal, (folder / f"{signal}.jsonl").read_bytes().splitlines())


@pytest.mark.parametrize(
    ("protocol", "compression"),
    [
        ("http/protobuf", "gzip"),
        ("http/protobuf", "zstd"),
        ("http/protobuf", "none"),
        ("http/json", "gzip"),
        ("http/json", "zstd"),
        ("http/json", "none"),
        ("grpc", "gzip"),
        ("grpc", "none"),
    ],
)
def test_the_collector_gets_all_that_is_uploaded(
    protocol: str, compression: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    everything.write(store)
    stored = everything.stored(store)
    with peers.collector(tmp_path / "collector", files(tmp_path)) as doors:
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url("grpc" if protocol == "grpc" else "http"),
            upload_protocol=protocol,
            upload_compression=compression,
        )
        said = uploading.upload(store, environ)
    assert said["records"] == sum(map(len, stored.values()))
    for signal in same.SIGNALS:
        assert same.different(held(tmp_path, signal), stored[signal]) == ""


def test_many_small_requests_reach_the_collector_each_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    everything.write(store, plain_spans=2_000)
    stored = everything.stored(store)
    with peers.collector(tmp_path / "collector", files(tmp_path)) as doors:
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url(),
            upload_request_bytes_max=16 * 1024,
        )
        said = uploading.upload(store, environ)
        assert said["requests"] > 10
        assert uploading.upload(store, environ)["records"] == 0
    for signal in same.SIGNALS:
        assert same.different(held(tmp_path, signal), stored[signal]) == ""


def test_import_reads_what_the_collector_wrote(tmp_path: Path) -> None:
    store, again = tmp_path / "store", tmp_path / "again"
    everything.write(store)
    stored = everything.stored(store)
    with peers.collector(tmp_path / "collector", files(tmp_path)) as doors:
        uploading.upload(
            store, uploading.configured(tmp_path / "config", upload_endpoint=doors.url())
        )
    names = [str(tmp_path / f"{signal}.jsonl") for signal in same.SIGNALS]
    done = subprocess.run(
        [*peers.OURS, "import", *names, "--dir", str(again)],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for signal in same.SIGNALS:
        imported = same.from_folder(signal, again)
        assert same.different(imported, same.as_stored(stored[signal])) == ""


def test_the_collector_reads_our_bundles(tmp_path: Path) -> None:
    store, plain = tmp_path / "store", tmp_path / "plain"
    everything.write(store)
    plain.mkdir()
    for path in store.glob("*.jsonl*"):
        (plain / path.name.removesuffix(".zst")).write_bytes(records.content(path))
    receivers = {
        f"otlp_lines/{signal}": {"include": str(plain / f"*.{signal}.jsonl")}
        for signal in same.SIGNALS
    }
    # It reads before it says that it is there, and writes when it ends.
    with peers.collector(tmp_path / "collector", files(tmp_path), receivers) as doors:
        peers.until(doors.said("Everything is ready"), "the Collector's start")
    for signal, stored in everything.stored(store).items():
        assert same.different(held(tmp_path, signal), stored) == ""
