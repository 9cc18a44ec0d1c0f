"""While a program records, the Collector, rotel and Jaeger get what it records."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import records
from interop import peers, same, uploading

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

SPANS = 302
"""Of ``recording.py``."""
WAYS = [("otlp_http", "http/protobuf"), ("otlp_http", "http/json"), ("otlp_grpc", "grpc")]
IDS = [protocol for _, protocol in WAYS]


@contextlib.contextmanager
def recording(
    store: Path,
    folder: Path,
    way: tuple[str, str],
    doors: peers.Doors,
    beside: tuple[str, ...] = ("file",),
) -> Iterator[None]:
    """Run a program that records and sends; the block runs while it is alive."""
    exporter, protocol = way
    environ = uploading.configured(
        folder,
        telemetry_exporter=[*beside, exporter],
        telemetry_directory=str(store),
        otlp_endpoint=doors.url("grpc" if exporter == "otlp_grpc" else "http"),
        otlp_protocol=protocol,
        telemetry_service_name="live",
    )
    ambient = {**os.environ, **environ}
    if not (folder / "consent.json").exists():
        consent = [*peers.OURS, "consent", "give", "--yes"]
        subprocess.run(consent, env=ambient, check=True, capture_output=True, timeout=60)
    program = [sys.executable, str(peers.HERE / "recording.py")]
    with subprocess.Popen(program, env=ambient, stdin=subprocess.PIPE) as process:
        try:
            yield
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0


def files(folder: Path) -> dict[str, dict[str, str]]:
    """The Collector's file exporter, soon in its file."""
    return {
        f"file/{signal}": {"path": str(folder / f"{signal}.jsonl"), "flush_interval": "50ms"}
        for signal in same.SIGNALS
    }


def held(folder: Path, signal: str) -> list[str]:
    """What whole lines it has written."""
    lines = (folder / f"{signal}.jsonl").read_bytes().splitlines(keepends=True)
    return same.from_json(signal, [line for line in lines if line.endswith(b"\n")])


def is_there(folder: Path, spans: int = SPANS) -> bool:
    """Whether all spans have come, and a log record."""
    return len(held(folder, "traces")) >= spans and held(folder, "logs") != []


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_the_collector_gets_it_live(way: tuple[str, str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        peers.collector(tmp_path / "collector", files(tmp_path)) as doors,
        recording(store, tmp_path / "config", way, doors),
    ):
        peers.until(lambda: is_there(tmp_path), "what is recorded")
    for signal in same.SIGNALS:
        stored = same.from_folder(signal, store, own=True)
        assert same.different(held(tmp_path, signal), stored) == ""
    assert len(held(tmp_path, "traces")) == SPANS
    assert len(held(tmp_path, "metrics")) >= 3


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_the_collector_gets_it_live_where_no_files_are_kept(
    way: tuple[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with (
        peers.collector(tmp_path / "collector", files(tmp_path)) as doors,
        recording(store, tmp_path / "config", way, doors, beside=()),
    ):
        peers.until(lambda: is_there(tmp_path), "what is recorded")
    assert len(held(tmp_path, "traces")) == SPANS
    assert records.spans(store) == []


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_what_is_recorded_while_the_collector_is_down_comes_with_the_next_program(
    way: tuple[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with peers.collector(tmp_path / "nobody", files(tmp_path / "nobody")) as doors:
        pass
    with recording(store, tmp_path / "config", way, doors):
        pass
    with (
        peers.collector(
            tmp_path / "collector", files(tmp_path), http_port=doors.http, grpc_port=doors.grpc
        ),
        recording(store, tmp_path / "config", way, doors),
    ):
        peers.until(lambda: is_there(tmp_path, 2 * SPANS), "what both recorded")
    stored = same.from_folder("traces", store)
    assert len(stored) == 2 * SPANS
    assert same.different(held(tmp_path, "traces"), stored) == ""


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]], ids=[IDS[0], IDS[2]])
def test_rotel_gets_it_live(way: tuple[str, str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        peers.Sink() as sink,
        peers.rotel(tmp_path / "rotel", *peers.rotel_to(sink.url, "http")) as doors,
    ):
        with recording(store, tmp_path / "config", way, doors):
            sink.wait_for("traces", SPANS)
            sink.wait_for("logs", 1)
        for signal in same.SIGNALS:
            stored = same.from_folder(signal, store, own=True)
            assert same.different(sink.wait_for(signal, len(stored)), stored) == ""


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_jaeger_tells_of_it_live(way: tuple[str, str], tmp_path: Path) -> None:
    store = tmp_path / "store"

    def found() -> list[tuple[str, str]]:
        url = f"{doors.url('query')}/api/traces?limit=1500&service=live"
        traces = peers.ask(url)["data"]
        return sorted(
            (span["spanID"], span["operationName"]) for trace in traces for span in trace["spans"]
        )

    with (
        peers.jaeger(tmp_path / "jaeger") as doors,
        recording(store, tmp_path / "config", way, doors),
    ):
        peers.until(lambda: len(found()) >= SPANS, "the spans in Jaeger")
        told = found()
    assert told == sorted((span["spanId"], span["name"]) for span in records.spans(store))
