"""The Collector holds what we uploaded, and each of us reads the other's files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

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
    stored = everything.stored(store)
    exporters = {name: {**how, "flush_interval": "50ms"} for name, how in files(tmp_path).items()}
    with peers.collector(tmp_path / "collector", exporters, receivers):
        # It reads at its start; asked to end before it looks out for that, it flushes nothing.
        peers.until(
            lambda: all(
                (tmp_path / f"{signal}.jsonl").exists()
                and (tmp_path / f"{signal}.jsonl").read_bytes().count(b"\n") >= line_count
                for signal, line_count in lines_in(plain).items()
            ),
            "the Collector's files",
        )
    for signal in same.SIGNALS:
        assert same.different(held(tmp_path, signal), stored[signal]) == ""


def lines_in(folder: Path) -> dict[str, int]:
    """How many lines of each signal a folder of plain bundles holds."""
    return {
        signal: sum(path.read_bytes().count(b"\n") for path in folder.glob(f"*.{signal}.jsonl"))
        for signal in same.SIGNALS
    }


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_collector_is_spoken_to_by_tls_and_sees_our_certificate(
    protocol: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    everything.write(store)
    stored = everything.stored(store)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("localhost", "client.example.org"):
        leaf = authority.issue_cert(name)
        leaf.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for part in leaf.cert_chain_pems:
            part.write_to_path(tmp_path / f"{name}.pem", append=True)
    tls = {
        "cert_file": str(tmp_path / "localhost.pem"),
        "key_file": str(tmp_path / "localhost.key"),
        "client_ca_file": str(tmp_path / "ca.pem"),
    }
    ours = {"otlp_certificate": str(tmp_path / "ca.pem")}
    shown = {
        "otlp_client_certificate": str(tmp_path / "client.example.org.pem"),
        "otlp_client_key": str(tmp_path / "client.example.org.key"),
    }
    with peers.collector(tmp_path / "collector", files(tmp_path), tls=tls) as doors:
        door = doors.grpc if protocol == "grpc" else doors.http
        to = {
            "upload_endpoint": f"https://localhost:{door}",
            "upload_protocol": protocol,
            "upload_give_up_s": 1.0,
        }
        without = uploading.configured(tmp_path / "without", **to, **ours)
        assert uploading.upload(store, without, code=1)["records"] == 0
        environ = uploading.configured(tmp_path / "config", **to, **ours, **shown)
        uploading.upload(store, environ)
    for signal in same.SIGNALS:
        assert same.different(held(tmp_path, signal), stored[signal]) == ""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_request_too_large_for_the_collector_goes_in_parts(protocol: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    everything.write(store, plain_spans=20_000)
    stored = everything.stored(store)
    limits = {
        "http": {"max_request_body_size": 2**20},
        "grpc": {"max_recv_msg_size_mib": 1},
    }
    with peers.collector(tmp_path / "collector", files(tmp_path), limits=limits) as doors:
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url("grpc" if protocol == "grpc" else "http"),
            upload_protocol=protocol,
            upload_compression="none",
        )
        uploading.upload(store, environ, "--signal", "traces")
    assert same.different(held(tmp_path, "traces"), stored["traces"]) == ""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_the_collector_cannot_hand_on_goes_next_time(protocol: str, tmp_path: Path) -> None:
    """It answers 503 and UNAVAILABLE while the next one is down."""
    store = tmp_path / "store"
    everything.write(store)
    stored = everything.stored(store)
    port = peers.free_port()
    to_next = {
        "endpoint": f"http://127.0.0.1:{port}",
        "sending_queue": {"enabled": False},
        "retry_on_failure": {"enabled": False},
    }
    with peers.collector(tmp_path / "first", {"otlphttp": to_next}) as doors:
        environ = uploading.configured(
            tmp_path / "config",
            upload_endpoint=doors.url("grpc" if protocol == "grpc" else "http"),
            upload_protocol=protocol,
            upload_give_up_s=1.0,
        )
        assert uploading.upload(store, environ, code=1)["records"] == 0
        with peers.collector(tmp_path / "next", files(tmp_path), http_port=port):
            said = uploading.upload(store, environ)
    assert said["records"] == sum(map(len, stored.values()))
    for signal in same.SIGNALS:
        assert same.different(held(tmp_path, signal), stored[signal]) == ""


def test_the_collector_takes_counts_instead_of_spans(tmp_path: Path) -> None:
    store = tmp_path / "store"
    everything.write(store)
    with peers.collector(tmp_path / "collector", files(tmp_path)) as doors:
        environ = uploading.configured(
            tmp_path / "config", upload_endpoint=doors.url(), upload_mode="aggregate"
        )
        uploading.upload(store, environ)
    counted = sum(
        int(point["asInt"])
        for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
        for metric in metrics_of(json.loads(line))
        if metric["name"] == "stack_composer.span.count"
        for point in metric["sum"]["dataPoints"]
    )
    assert counted == len(same.from_folder("traces", store))
    assert held(tmp_path, "traces") == []
    assert held(tmp_path, "logs") == []


def metrics_of(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The metrics of one line."""
    for resource in line["resourceMetrics"]:
        for scope in resource["scopeMetrics"]:
            yield from scope["metrics"]
