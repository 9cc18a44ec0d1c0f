"""What the official SDK, the Collector and rotel send to our receiver is in our store."""

from __future__ import annotations

from pathlib import Path

import pytest

import records
from interop import official, peers, same

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

FORGED = "gh" + "p_" + "a1B2" * 9
"""Looks like a token of GitHub's, and is none."""


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", official.PROTOCOLS)
def test_every_record_of_the_official_sdk_is_stored_as_it_was(
    protocol: str, compression: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    # The official gRPC exporter does not take the word "none", which the specification has.
    packed = {"OTEL_EXPORTER_OTLP_COMPRESSION": compression} if compression != "none" else {}
    with peers.serving(store, tmp_path / "logs", grpc=protocol == "grpc") as doors:
        sent = official.send(protocol, doors, tmp_path / "sdk", environ=packed)
    for signal in same.SIGNALS:
        stored = same.from_folder(signal, store)
        assert same.different(stored, same.as_stored(sent[signal])) == ""


@pytest.mark.parametrize("protocol", official.PROTOCOLS)
def test_a_secret_of_the_official_sdks_is_not_stored(protocol: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with peers.serving(store, tmp_path / "logs", grpc=protocol == "grpc") as doors:
        sent = official.send(protocol, doors, tmp_path / "sdk", ("traces",), {"SECRET": FORGED})
    wanted = same.as_stored(sent["traces"])
    (root,) = [record for record in wanted if FORGED in record]
    stored = same.from_folder("traces", store)
    assert len(stored) == len(wanted)
    assert set(wanted) - set(stored) == {root}
    assert all(FORGED.encode() not in records.content(path) for path in store.glob("*.jsonl*"))
