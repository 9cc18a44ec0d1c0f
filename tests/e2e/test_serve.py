"""The receiver as its users have it: a process, two ports, and the ways in which it ends."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import grpc
import pytest

from cli_running import refusal
from e2e_serving import free_ports, serving
from receivers import PROTOBUF, request_of
from records import lines, spans

pytestmark = pytest.mark.e2e

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def send_by_http(address: str, body: bytes) -> int:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/traces", body, {"Content-Type": PROTOBUF})
        response = connection.getresponse()
        response.read()
        return response.status


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to be told by")
def test_both_protocols_reach_one_folder_and_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with serving(tmp_path / "t") as (process, told):
        assert send_by_http(told["http"], request_of(3)) == 200
        with grpc.insecure_channel(told["grpc"]) as channel:
            assert channel.unary_unary(EXPORT)(request_of(2), timeout=30) == b""
        process.send_signal(signal.SIGTERM)
        said, complained = process.communicate(timeout=30)
        assert (process.returncode, said, complained) == (0, "", "")
    assert len(spans(tmp_path / "t")) == 5


@pytest.mark.skipif(os.name == "nt", reason="files that are open cannot be read there as here")
def test_what_was_answered_outlives_kill_9(tmp_path: Path) -> None:
    """By both protocols; a line that was never answered may be there, or not."""
    answered = [0, 0]
    with serving(tmp_path / "t") as (process, told):
        bell = threading.Semaphore(0)

        def by_http() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                while send_by_http(told["http"], request_of(10)) == 200:
                    answered[0] += 10
                    bell.release()

        def by_grpc() -> None:
            with (
                grpc.insecure_channel(told["grpc"]) as channel,
                contextlib.suppress(grpc.RpcError),
            ):
                while channel.unary_unary(EXPORT)(request_of(10), timeout=30) == b"":
                    answered[1] += 10
                    bell.release()

        senders = [threading.Thread(target=send) for send in (by_http, by_grpc)]
        for sender in senders:
            sender.start()
        for _ in range(60):
            assert bell.acquire(timeout=60)
        process.kill()
        for sender in senders:
            sender.join(60)
    assert all(answered)
    assert sum(answered) <= len(spans(tmp_path / "t")) <= sum(answered) + 20


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port"])
def test_a_port_that_is_taken_is_told_in_two_lines(tmp_path: Path, option: str) -> None:
    others = {"--http-port": "--grpc-port", "--grpc-port": "--http-port"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        (free,) = free_ports(1)
        message, hint = refusal(
            "telemetry", "serve", "--dir", tmp_path / "t",
            option, port, others[option], str(free), code=1,
        )  # fmt: skip
    assert f"127.0.0.1:{port} is taken" in message
    assert option in hint


def memory(process: subprocess.Popen[str], what: str) -> int:
    """Of a process, in bytes: ``VmRSS`` is now, ``VmHWM`` the most that it ever was."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith(f"{what}:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_ten_times_the_load_and_a_thousand_connections_do_not_make_it_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much is refused, nothing that was answered is lost, and memory stays."""
    configured = tmp_path / "telemetry.toml"
    configured.write_text("[serve]\nwaiting_bytes_max = 1_048_576\n")
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(configured))
    body = request_of(510, note="x" * 40)
    with serving(tmp_path / "t") as (process, told):
        # All that is made once is made.
        answered = [send_by_http(told["http"], body) for _ in range(100)]
        before = memory(process, "VmRSS")
        host, _, port = told["http"].removeprefix("http://").partition(":")
        with contextlib.ExitStack() as stack:
            for _ in range(1_000):
                client = socket.create_connection((host, int(port)), 30)
                stack.enter_context(contextlib.closing(client))
        # Their ends are noticed before those that follow are told of too many.
        while (status := send_by_http(told["http"], body)) != 200:
            assert status == 503
        answered.append(status)

        def flood() -> None:
            answered.extend([send_by_http(told["http"], body) for _ in range(40)])

        floods = [threading.Thread(target=flood) for _ in range(32)]
        for thread in floods:
            thread.start()
        for thread in floods:
            thread.join()
        assert memory(process, "VmHWM") < before + 64 * 2**20
        process.terminate()
        assert process.wait(30) == 0
    assert set(answered) <= {200, 429}
    assert answered.count(429) > 0
    stored = sum(
        len(scope["spans"])
        for line in lines(tmp_path / "t", "traces")
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
    )
    assert stored == 510 * answered.count(200)


def test_what_cannot_be_served_is_refused_before_it_listens(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    both = ("--http-port", str(port), "--grpc-port", str(port))
    message, hint = refusal("telemetry", "serve", "--dir", tmp_path / "t", *both, code=2)
    assert "same port" in message
    assert "--grpc-port" in hint
    file = tmp_path / "file"
    file.write_text("")
    message, _ = refusal("telemetry", "serve", "--dir", file, "--http-port", str(port), code=1)
    assert str(file) in message
