"""A real proxy stands in between: tinyproxy, with a user and a password.

This computer is never reached by a proxy, so the servers are at another address of a
network that is made for the test, and that leads nowhere.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).with_name("behind_proxy.py")
INSIDE = """
ip link set lo up && ip addr add 10.9.8.7/32 dev lo &&
mount --bind "$1" /etc/resolv.conf && shift && exec "$@"
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the program once; each of its rows is looked at by a test."""
    for name in ("tinyproxy", "unshare", "ip"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: apt-get install tinyproxy util-linux iproute2")
    namespace = ["unshare", "-Urnm"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare -Urnm is not allowed here, so there is no network to be had")
    folder = tmp_path_factory.mktemp("proxy")
    names = folder / "resolv.conf"
    names.write_text("nameserver 10.9.8.7\n")
    command = [*namespace, "sh", "-c", INSIDE, "sh", str(names), sys.executable, str(PROGRAM)]
    done = subprocess.run(
        [*command, str(folder)], check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    # Each row knows what came before it.
    taken = asked = 0
    for row in found.values():
        row["taken"], taken = row["taken"] - taken, row["taken"]
        row["asked"], asked = row["asked"] - asked, row["asked"]
    return found


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "large"])
def test_e17_requests_go_through_the_proxy_with_its_credentials(
    rows: dict[str, Any], name: str
) -> None:
    assert rows[name]["outcome"][:2] == ["delivered", "200"]
    assert (rows[name]["asked"], rows[name]["taken"]) == (1, 1)


@pytest.mark.parametrize("name", ["straight", "cidr", "port"])
def test_e17_requests_that_are_exempt_go_straight(rows: dict[str, Any], name: str) -> None:
    assert rows[name]["outcome"][:2] == ["delivered", "200"]
    assert (rows[name]["asked"], rows[name]["taken"]) == (0, 1)


def test_e17_an_exemption_of_another_port_is_none(rows: dict[str, Any]) -> None:
    assert (rows["other port"]["asked"], rows["other port"]["taken"]) == (1, 1)


@pytest.mark.parametrize("name", ["wrong", "none"])
def test_e17_a_proxy_that_refuses_is_not_passed_by(rows: dict[str, Any], name: str) -> None:
    verdict, status, message, _ = rows[name]["outcome"]
    assert verdict == "refused"
    assert status in ("proxy 401", "proxy 407")
    assert "wants a user and a password" in message
    assert (rows[name]["asked"], rows[name]["taken"]) == (1, 0)


def test_e17_a_proxy_that_is_down_is_not_passed_by(rows: dict[str, Any]) -> None:
    verdict, status, message, _ = rows["dead"]["outcome"]
    assert (verdict, status) == ("retry", "no connection")
    assert message == "no way to the proxy http://10.9.8.7:1"
    assert rows["dead"]["taken"] == 0


def test_e17_a_proxy_that_says_nothing_takes_no_longer_than_the_deadline(
    rows: dict[str, Any],
) -> None:
    assert rows["deaf"]["outcome"][:2] == ["retry", "timeout"]
    assert rows["deaf"]["taken"] == 0


def test_e17_a_proxy_may_itself_be_encrypted(rows: dict[str, Any]) -> None:
    assert rows["tls"]["outcome"][:2] == ["delivered", "200"]
    assert rows["tls"]["taken"] == 1


def test_e17_a_slow_server_behind_an_encrypted_proxy_takes_no_longer_than_the_deadline(
    rows: dict[str, Any],
) -> None:
    assert rows["slow"]["outcome"][:2] == ["retry", "timeout"]


def test_e2_when_the_proxy_finds_nobody_it_is_tried_again(rows: dict[str, Any]) -> None:
    assert rows["nobody"]["outcome"][0] == "retry"
    assert rows["nobody"]["outcome"][1].startswith("proxy 5")


def test_e17_grpc_goes_through_the_same_proxy_and_reads_no_variable_itself(
    rows: dict[str, Any],
) -> None:
    through, wrong, straight = rows["grpc"]["outcome"]
    assert through == ["delivered", "OK", "", 1]
    assert (wrong[0], wrong[3]) == ("refused", 1)
    assert "wants a user and a password" in wrong[2]
    # Its environment names a proxy that is down.
    assert straight == ["delivered", "OK", "", 0]


def test_e2_a_name_that_leads_nowhere_is_tried_again(rows: dict[str, Any]) -> None:
    verdict, status, message, _ = rows["no name"]["outcome"]
    assert (verdict, status) == ("retry", "no connection")
    assert message == "the name in https://collector.example:443 leads to no address"


def test_a_name_server_that_says_nothing_takes_no_longer_than_the_deadline(
    rows: dict[str, Any],
) -> None:
    """The system's own look-up would take five seconds, or ten."""
    assert rows["name"]["outcome"][:2] == ["retry", "timeout"]
    assert float(rows["name"]["outcome"][3]) < 4


def test_no_credential_of_a_proxy_is_shown(rows: dict[str, Any]) -> None:
    text = json.dumps(rows)
    assert "someone" not in text
    assert "word" not in text.replace("password", "")
