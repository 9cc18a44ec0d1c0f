"""The receiver on its bad days: killed at any moment, the disk full, switched off."""

from __future__ import annotations

import contextlib
import http.client
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from e2e_serving import serving
from receivers import PROTOBUF, lines_in, request_of, spans_of
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.upload import consent

pytestmark = pytest.mark.e2e

TESTS = Path(__file__).resolve().parent.parent
SENDERS = 4


class Sender(threading.Thread):
    """Sends requests of ten spans, each by a name of its own, until the receiver is gone."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__()
        self.port = port
        self.number = number
        self.sent = 0
        self.answered: list[str] = []

    def run(self) -> None:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as client,
        ):
            while True:
                name = f"{self.number}.{self.sent}"
                self.sent += 1
                body = request_of(10, name=name, text="something to fill a line with")
                client.request("POST", "/v1/traces", body, {"Content-Type": PROTOBUF})
                response = client.getresponse()
                response.read()
                if response.status == 200:
                    self.answered.append(name)


@pytest.mark.parametrize("durability", ["buffered", "batch"])
def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path, durability: str) -> None:
    chance = random.Random(5)
    config = tmp_path / "telemetry.toml"
    config.write_text(f'[store]\ndurability = "{durability}"\nbundle_bytes_max = 65536\n')
    answered: list[str] = []
    sent = 0
    for round_ in range(6):
        environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
        with serving(tmp_path / "telemetry", environ=environ) as (process, listening):
            port = int(listening["http"].rpartition(":")[2])
            senders = [Sender(port, round_ * SENDERS + one) for one in range(SENDERS)]
            for sender in senders:
                sender.start()
            until = time.monotonic() + 20
            while not all(sender.answered for sender in senders):
                assert time.monotonic() < until, "nothing is answered"
                time.sleep(0.01)
            time.sleep(chance.uniform(0.0, 0.3))
            process.kill()
            process.wait()
        for sender in senders:
            sender.join()
            answered += sender.answered
            sent += sender.sent
    found: dict[str, int] = {}
    for span in spans_of(lines_in(tmp_path / "telemetry", "traces")):
        found[span["name"]] = found.get(span["name"], 0) + 1
    assert [name for name in answered if found.get(name) != 10] == []
    # What was being written when it was killed is there whole, or not at all.
    assert set(found.values()) == {10}
    assert len(answered) <= len(found) <= sent


FULL = """
import contextlib, http.client, os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from e2e_serving import serving
from receivers import PROTOBUF, request_of
import records

place = Path(sys.argv[1])
os.environ["HOME"] = str(place)

def post(name):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(client):
        body = request_of(200, name=name, text="something to fill the disk with")
        client.request("POST", "/v1/traces", body, {"Content-Type": PROTOBUF})
        response = client.getresponse()
        response.read()
        return response.status, response.headers["Retry-After"]

answered, refused = [], 0
with serving(place / "telemetry") as (process, listening):
    port = int(listening["http"].rpartition(":")[2])
    number = 0
    while not refused and number < 2000:
        status, retry = post(str(number))
        if status == 200:
            answered.append(str(number))
        else:
            assert (status, retry) == (503, "30"), (status, retry)
            refused += 1
        number += 1
    assert refused, "the disk never filled"
    status, _ = post("while it is full")
    assert status == 503, status
    for path in (place / "telemetry").iterdir():
        if path.name.endswith(".zst"):
            path.unlink()
            gone = True
    os.unlink(place / "ballast")
    until = time.monotonic() + 60
    while post("afterwards")[0] != 200:
        assert time.monotonic() < until, "it never takes any again"
        time.sleep(0.5)
    assert process.poll() is None
found = [span["name"] for span in records.spans(place / "telemetry")]
assert found.count("while it is full") == 0
assert found.count("afterwards") == 200
there = [name for name in answered if found.count(name) == 200]
assert set(found) - {"afterwards"} == set(there), "a part of a request is there"
print("held", len(there), "of", len(answered))
"""

ON_A_DISK_OF_ITS_OWN = """
set -e
mount -t tmpfs -o size=12m tmpfs "$1"
head -c 6000000 /dev/zero > "$1/ballast"
exec "$2" -c "$3" "$1" "$4"
"""


def test_a_disk_that_fills_is_503_until_there_is_room_again(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urm", "true"], check=False).returncode:
        pytest.skip("unshare -Urm is not allowed here, so there is no disk to fill")
    shell = (*(unshare, "-Urm", "sh", "-c", ON_A_DISK_OF_ITS_OWN, "sh"), str(tmp_path))
    done = subprocess.run(
        [*shell, sys.executable, FULL, str(TESTS)],
        capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("held ")


def test_it_follows_the_configuration_while_it_runs(tmp_path: Path) -> None:
    config = tmp_path / "telemetry.toml"
    config.write_text("")
    environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
    with serving(tmp_path / "telemetry", environ=environ) as (_, listening):
        port = int(listening["http"].rpartition(":")[2])
        assert wait_for_status(port, 200)
        config.write_text("[telemetry]\nenabled = false\n")
        assert wait_for_status(port, 503)
        config.write_text("")
        assert wait_for_status(port, 200)


def wait_for_status(port: int, status: int) -> bool:
    """Send until it is answered in that way."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        with contextlib.closing(client):
            client.request("POST", "/v1/traces", request_of(), {"Content-Type": PROTOBUF})
            if client.getresponse().status == status:
                return True
        time.sleep(0.1)
    return False


def test_it_never_sends_to_itself(tmp_path: Path) -> None:
    """A program's configuration may name the receiver as its exporter's place."""
    config = tmp_path / "telemetry.toml"
    config.write_text("")
    environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
    with serving(tmp_path / "telemetry", environ=environ) as (_, listening):
        config.write_text(
            '[telemetry]\nexporter = ["otlp_http"]\nupload_enabled = true\n'
            f'[otlp]\nendpoint = "{listening["http"]}"\n'
        )
        give_consent(config, listening["http"])
        port = int(listening["http"].rpartition(":")[2])
        time.sleep(1.5)  # It looks at the configuration each half second.
        for _ in range(3):
            assert wait_for_status(port, 200)
        time.sleep(1.5)
    assert len(spans_of(lines_in(tmp_path / "telemetry", "traces"))) == 3


def give_consent(config: Path, origin: str) -> None:
    """Consent as ``telemetry consent give --yes`` does."""
    given = load_config({"config_path": str(config), "directory": str(config.parent / "telemetry")})
    consent.give(given, origin, by="--yes")
