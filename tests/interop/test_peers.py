"""The peers among themselves, without us: what goes wrong here is not our fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interop import official, peers, same

pytestmark = [pytest.mark.e2e, pytest.mark.interop]


@pytest.mark.parametrize("protocol", official.PROTOCOLS)
def test_the_official_sdk_reaches_the_collector(protocol: str, tmp_path: Path) -> None:
    exporters = {f"file/{s}": {"path": str(tmp_path / f"{s}.jsonl")} for s in same.SIGNALS}
    with peers.collector(tmp_path / "collector", exporters) as doors:
        sent = official.send(protocol, doors, tmp_path / "sdk")
    for signal in same.SIGNALS:
        lines = (tmp_path / f"{signal}.jsonl").read_bytes().splitlines()
        assert same.from_json(signal, lines) == sent[signal]


@pytest.mark.parametrize("protocol", official.PROTOCOLS)
def test_the_official_sdk_reaches_rotel(protocol: str, tmp_path: Path) -> None:
    with (
        peers.Sink() as sink,
        peers.rotel(tmp_path / "rotel", *peers.rotel_to(sink.url, "http")) as doors,
    ):
        sent = official.send(protocol, doors, tmp_path / "sdk")
        for signal in same.SIGNALS:
            # rotel 0.0.1a15 answers 200 to JSON metrics, and loses them.
            if (protocol, signal) != ("http/json", "metrics"):
                assert sink.wait_for(signal, len(sent[signal])) == sent[signal]


def test_the_official_sdk_reaches_jaeger(tmp_path: Path) -> None:
    with peers.jaeger(tmp_path / "jaeger") as doors:
        sent = official.send("grpc", doors, tmp_path / "sdk", ("traces",))
        found = peers.until(
            lambda: peers.ask(f"{doors.url('query')}/api/traces?service=official-sender")["data"],
            "a trace in Jaeger",
        )
    assert sum(len(trace["spans"]) for trace in found) == len(sent["traces"])


def test_what_the_collector_says_it_is_is_what_its_sources_say() -> None:
    folder = peers.HERE / "go" / "collector"
    said = re.search(r'version = "([\d.]+)"', (folder / "main.go").read_text())
    assert said is not None
    parts = re.findall(
        r"exporter/(?:file|otlp|otlphttp)exporter v([\d.]+)", (folder / "go.mod").read_text()
    )
    assert set(parts) == {said.group(1)}
