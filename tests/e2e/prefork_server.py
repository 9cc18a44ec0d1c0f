"""A server like gunicorn's: one process listens and forks, its workers answer.

Usage: ``python prefork_server.py WORKERS REQUESTS_MAX``. It prints its port. A worker
that has answered REQUESTS_MAX requests ends by itself, as with gunicorn's
``max_requests``, and one that dies is replaced. ``/flush/N`` answers once the span of
the request is on the disk, ``/N`` at once, ``/exit/N`` after which the worker calls
``os._exit``. SIGTERM ends the workers, and then the server, in an orderly way.

The master records too, before it forks and all the time, on a thread: so each fork
finds the writer somewhere in its work.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import warnings
from typing import NoReturn

from stack_composer import telemetry

warnings.simplefilter("ignore", DeprecationWarning)


def answer(connection: socket.socket) -> bool:
    """Answer one request; whether the worker is asked to go at once."""
    with connection:
        path = connection.recv(4096).split()[1].decode().strip("/").split("/")
        with telemetry.span("request", n=int(path[-1])):
            telemetry.counter("server.requests").add(1)
        if path[0] == "flush":
            telemetry.flush()
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + str(os.getpid()).encode())
    return path[0] == "exit"


def work(listener: socket.socket, requests_max: int, stopping: list[int]) -> NoReturn:
    """Answer requests until told to end, by the handler that the master has set."""
    listener.settimeout(0.05)
    answered = 0
    while not stopping and answered < requests_max:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(5)
        if answer(connection):
            os._exit(0)
        answered += 1
    # What atexit does in a worker of gunicorn's.
    telemetry.shutdown()
    os._exit(0)


def main(workers: int, requests_max: int) -> None:
    """Listen, fork, replace, end."""
    telemetry.configure(flush_s=0.01)
    with telemetry.span("preload"):
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))

    def record() -> None:
        while not stopping:
            with telemetry.span("master", text="a text, so that there is work for the guard"):
                time.sleep(0.0005)

    thread = threading.Thread(target=record)
    thread.start()
    os.write(1, f"{listener.getsockname()[1]}\n".encode())
    pids: set[int] = set()
    while not stopping:
        while len(pids) < workers:
            pid = os.fork()
            if not pid:
                work(listener, requests_max, stopping)
            pids.add(pid)
        ended, _ = os.waitpid(-1, os.WNOHANG)
        if ended:
            pids.discard(ended)
        else:
            time.sleep(0.005)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    for pid in pids:
        os.waitpid(pid, 0)
    thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
