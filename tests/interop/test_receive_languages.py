"""What programs in Go and JavaScript send with their SDKs is in our store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import records
from interop import peers

pytestmark = [pytest.mark.e2e, pytest.mark.interop]


def sent_and_stored(command: list[str | Path], protocol: str, tmp_path: Path, url: str) -> None:
    """Let a program send to our receiver; hold what it says against our store.

    Args:
        command: The program, without what it is told.
        protocol: What it is to speak.
        tmp_path: For the store.
        url: How it wants the address; ``{}`` stands for host and port.
    """
    store = tmp_path / "store"
    with peers.serving(store, tmp_path / "logs", grpc=protocol == "grpc") as doors:
        door = doors.grpc if protocol == "grpc" else doors.http
        done = subprocess.run(
            [*command, protocol, url.format(f"127.0.0.1:{door}")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    sent = sorted(tuple(span) for span in json.loads(done.stdout)["spans"])
    spans = records.spans(store)
    assert sent == sorted(
        (span["traceId"], span["spanId"], span.get("parentSpanId", ""), span["name"])
        for span in spans
    )
    (whole,) = [span for span in spans if span["name"] == "whole"]
    assert whole["status"] == {"code": 2, "message": "it broke"}
    assert whole["attrs"]["text"] == "Grüße, 世界"
    assert whole["attrs"]["half"] == 0.5
    assert [event["name"] for event in whole["events"]] == ["retry"]
    assert len(whole["links"]) == 1
    metrics = {metric["name"]: metric for metric in records.metrics(store)}
    (total,) = metrics["requests"]["sum"]["dataPoints"]
    assert float(total.get("asInt", total.get("asDouble"))) == 20
    assert metrics["duration"]["histogram"]["dataPoints"][0]["count"] == "20"
    bodies = [record["body"] for record in records.logs(store)]
    assert bodies == [{"stringValue": "plain text"}, {"intValue": "42"}, {"boolValue": True}]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_go_program_is_understood(protocol: str, tmp_path: Path) -> None:
    sent_and_stored([peers.needed("go-sender")], protocol, tmp_path, "{}")


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_a_javascript_program_is_understood(protocol: str, tmp_path: Path) -> None:
    command: list[str | Path] = ["node", peers.needed(peers.JAVASCRIPT)]
    sent_and_stored(command, protocol, tmp_path, "http://{}")
