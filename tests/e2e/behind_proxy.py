"""A program for ``test_send_proxy``: it sends within a network of its own and says what came.

The network is a namespace with a loopback alone, on which 10.9.8.7 is an address too. So
the servers are at a place that is not this computer's by its text, and nothing can leave.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trustme

from send_servers import destination_at, read_request, response, server_context
from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.send.sender import message_of, open_sender

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "10.9.8.7"
USER, WORD = "someone", "nobodysword"
ENCODED = "nobodys%77ord"


class Place:
    """A server at the address that is no loopback.

    Attributes:
        taken: How many connections came.
    """

    def __init__(self, talk: Callable[[socket.socket], object], context: Any = None) -> None:
        self.talk = talk
        self.context = context
        self.taken = 0
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            self.taken += 1
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.talk(connection)


def answer_always(connection: socket.socket) -> None:
    while read_request(connection) is not None:
        connection.sendall(response())


def drip(connection: socket.socket) -> None:
    read_request(connection)
    while True:
        connection.sendall(b" ")
        time.sleep(0.2)


def be_proxy(connection: socket.socket) -> None:
    """Do what CONNECT asks, as a proxy with TLS does; tinyproxy has none."""
    request = read_request(connection)
    if request is None:
        return
    host, _, port = request.line.split()[1].rpartition(":")
    with socket.create_connection((host, int(port))) as far:
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")

        def back() -> None:
            with contextlib.suppress(OSError):
                while piece := far.recv(65_536):
                    connection.sendall(piece)

        threading.Thread(target=back, daemon=True).start()
        while piece := connection.recv(65_536):
            far.sendall(piece)


class Tinyproxy:
    """The real one, with a user and a password."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server((HOST, 0)) as unused:
            self.port = unused.getsockname()[1]
        self.log = folder / "log"
        (folder / "conf").write_text(
            f'Port {self.port}\nListen {HOST}\nTimeout 30\nLogFile "{self.log}"\n'
            f"LogLevel Connect\nMaxClients 20\nBasicAuth {USER} {WORD}\n"
        )
        command = ["tinyproxy", "-d", "-c", str(folder / "conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port)):
                return
            assert time.monotonic() < until, "tinyproxy does not listen"
            time.sleep(0.05)

    def connects(self) -> int:
        """How often it was asked to."""
        return self.log.read_text().count("Request (file descriptor")


def send(
    url: str, environ: dict[str, str], purpose: str = "otlp_http", body: bytes = b"x", **given: Any
) -> list[str]:
    destination = destination_at(url, purpose, **given)
    try:
        sender = open_sender(destination, environ)
    except SendError as error:
        return ["error", str(error), error.hint]
    start = time.monotonic()
    found = sender.send(message_of(destination, "traces", body, 1))
    took = time.monotonic() - start
    sender.close()
    return [found.verdict, found.status, found.message, f"{took:.1f}"]


def main() -> None:
    folder = Path(sys.argv[1])
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert(HOST)
    server = Place(answer_always, server_context(leaf))
    tls_proxy = Place(be_proxy, server_context(leaf))
    slow_server = Place(drip, server_context(leaf))
    deaf_proxy = Place(lambda _: time.sleep(60))
    tinyproxy = Tinyproxy(folder)
    url = f"https://{HOST}:{server.port}"
    trust: dict[str, Any] = {"otlp_certificate": str(folder / "ca.pem")}
    proxy = f"http://{USER}:{ENCODED}@{HOST}:{tinyproxy.port}"
    found: dict[str, Any] = {}

    def note(name: str, outcome: list[str]) -> None:
        found[name] = {"outcome": outcome, "taken": server.taken, "asked": tinyproxy.connects()}

    note("straight", send(url, {}, **trust))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        note(name, send(url, {name: proxy}, **trust))
    note("large", send(url, {"https_proxy": proxy}, body=os.urandom(3_000_000), **trust))
    for name, exempt in (("cidr", "10.0.0.0/8"), ("port", f"{HOST}:{server.port}")):
        note(name, send(url, {"HTTPS_PROXY": proxy, "NO_PROXY": exempt}, **trust))
    note("other port", send(url, {"HTTPS_PROXY": proxy, "NO_PROXY": f"{HOST}:1"}, **trust))
    note("wrong", send(url, {"HTTPS_PROXY": proxy.replace("someone", "other")}, **trust))
    note("none", send(url, {"HTTPS_PROXY": f"http://{HOST}:{tinyproxy.port}"}, **trust))
    note("dead", send(url, {"HTTPS_PROXY": f"http://u:{ENCODED}@{HOST}:1"}, **trust))
    deaf = {"HTTPS_PROXY": f"http://{HOST}:{deaf_proxy.port}"}
    note("deaf", send(url, deaf, otlp_timeout_s=0.5, **trust))
    through_tls = {"HTTPS_PROXY": f"https://{HOST}:{tls_proxy.port}"}
    note("tls", send(url, through_tls, **trust))
    note(
        "slow", send(f"https://{HOST}:{slow_server.port}", through_tls, otlp_timeout_s=0.7, **trust)
    )
    note("nobody", send(f"https://{HOST}:1", {"HTTPS_PROXY": proxy}, **trust))
    note("grpc", grpc_rows(folder, leaf, proxy, trust))
    note("no name", send("https://collector.example", {}))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf_name_server:
        deaf_name_server.bind((HOST, 53))
        note("name", send("https://collector.example", {}, otlp_timeout_s=0.5))
    tinyproxy.process.terminate()
    tinyproxy.process.wait()
    sys.stdout.write(json.dumps(found))


def grpc_rows(folder: Path, leaf: trustme.LeafCert, proxy: str, trust: dict[str, Any]) -> list[Any]:
    # As a program has it that did not ask for gRPC: nothing is written of handshakes.
    from stack_composer.telemetry.send import grpc as ours

    grpc: Any = vars(ours)["grpc"]

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # it ships no types
        def service(self, _call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")

    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    pair = (leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())
    port = server.add_secure_port(f"{HOST}:0", grpc.ssl_server_credentials([pair]))
    server.start()
    log = folder / "log"
    rows = []
    wrong = proxy.replace("someone", "other")
    # What gRPC itself would read from the environment is never ours.
    os.environ.update(https_proxy=f"http://{HOST}:1", grpc_proxy=f"http://{HOST}:1")
    for environ in ({"https_proxy": proxy}, {"https_proxy": wrong}, {}):
        before = log.read_text().count("Request (file descriptor")
        outcome = send(f"https://{HOST}:{port}", environ, "otlp_grpc", **trust)
        rows.append([*outcome[:3], log.read_text().count("Request (file descriptor") - before])
    server.stop(None).wait()
    return rows


if __name__ == "__main__":
    main()
