"""Have the official SDK send, and tell what has to arrive."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from interop import peers, same

PROTOCOLS = ("http/protobuf", "http/json", "grpc")


def send(
    protocol: str,
    doors: peers.Doors,
    folder: Path,
    signals: tuple[str, ...] = same.SIGNALS,
    environ: dict[str, str] | None = None,
) -> dict[str, list[str]]:
    """Send to the door that fits; what was sent, by signal.

    Args:
        protocol: One of ``PROTOCOLS``.
        doors: Whose.
        folder: For notes.
        signals: What to send.
        environ: What the sender finds in its environment besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sent.json"
    url = doors.url("grpc" if protocol == "grpc" else "http")
    done = subprocess.run(
        [sys.executable, peers.HERE / "official_sender.py", protocol, url, path, *signals],
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    sent = json.loads(path.read_text())
    return {
        signal: sorted(
            record
            for body in sent[signal]
            for record in same.from_protobuf(signal, base64.b64decode(body))
        )
        for signal in signals
    }
