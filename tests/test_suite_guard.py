"""The suite's own promise: nothing it runs can reach another computer."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

ELSEWHERE = "192.0.2.1"  # reserved for documentation: it belongs to nobody


def test_a_connection_to_another_computer_fails() -> None:
    with closing(socket.socket()) as client, pytest.raises(AssertionError, match=ELSEWHERE):
        client.connect((ELSEWHERE, 80))


def test_a_datagram_to_another_computer_fails() -> None:
    with (
        closing(socket.socket(type=socket.SOCK_DGRAM)) as client,
        pytest.raises(AssertionError, match=ELSEWHERE),
    ):
        client.sendto(b"", (ELSEWHERE, 53))


def test_a_name_look_up_fails() -> None:
    with pytest.raises(AssertionError, match="collector"):
        socket.getaddrinfo("collector.example", 443)


def test_loopback_works() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = ("localhost", server.getsockname()[1])
        with closing(socket.create_connection(address)), closing(server.accept()[0]) as connection:
            assert connection.getpeername()[0] == "127.0.0.1"
