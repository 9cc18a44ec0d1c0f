"""What holds for the whole suite: no test reaches beyond this computer.

An audit hook sees every connection and name look-up of this process, also from C code
and from libraries that keep their own reference to ``socket``, so no test can slip
past it. It does not reach child processes: end-to-end tests look after theirs.
"""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname")
AMBIENT = ("OTEL_", "STACK_COMPOSER_", "DO_NOT_TRACK")


class EgressError(AssertionError):
    """A test tried to reach another computer."""


def is_local(host: object) -> bool:
    """Whether a name or an address stays on this computer."""
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def refuse_egress(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop what leaves; a Unix socket's address is a text and never leaves."""
    if event in CONNECTIONS:
        address = arguments[1]
        if isinstance(address, tuple) and not is_local(address[0]):
            raise EgressError(f"{event} to {address[0]}")
    elif event in LOOK_UPS and not is_local(arguments[0]):
        raise EgressError(f"{event} of {arguments[0]}")


sys.addaudithook(refuse_egress)


@pytest.fixture(autouse=True)
def plain_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Give each test a home of its own, and no setting of whoever runs the suite."""
    for name in [name for name in os.environ if name.startswith(AMBIENT)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real data of public projects, which lies beside the checkout; without it: skip."""
    place = Path(os.environ.get("TELEMETRY_CORPUS") or ROOT.parent / "shared" / "corpus")
    if not (place / "otlp").is_dir():
        pytest.skip(f"no corpus at {place}: set TELEMETRY_CORPUS to run this test")
    return place
