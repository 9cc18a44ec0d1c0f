"""Throw damaged requests at the receiver and see whether its promises hold.

Usage: ``python tools/fuzz_receive.py [--seconds S] [--seed N] [--only CHECK]``

It needs the extra ``serve``. Inputs are requests of the three signals, in protobuf, JSON and
whole HTTP, with bytes changed, cut, doubled and mixed; the same seed makes the same inputs.
What fails is printed with its seed and number, and kept in a file.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.model import SIGNALS
from stack_composer.telemetry.otlp.protobuf import Reader
from stack_composer.telemetry.outputs import Encoders, make_guard
from stack_composer.telemetry.receive.gate import Gate
from stack_composer.telemetry.receive.http import HttpServer, Limits
from stack_composer.telemetry.receive.transcode import Transcoder
from stack_composer.telemetry.receive.writing import Receiving
from stack_composer.telemetry.store.otlp import decode_line

CHANGES_MAX = 8
WAIT_S = 10.0
MIB = 1 << 20
NOW_NS = 1_764_000_000_000_000_000

# -- what inputs are made of -------------------------------------------------------------------


def field(number: int, value: bytes) -> bytes:
    """A message or a text of protobuf."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A number of protobuf."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def fixed(number: int, value: int) -> bytes:
    """A number of eight bytes."""
    return varint(number << 3 | 1) + value.to_bytes(8, "little")


def attribute(key: str, value: bytes) -> bytes:
    """A key and what it holds."""
    return field(1, key.encode()) + field(2, value)


def protobufs() -> dict[str, bytes]:
    """A request of each signal, with something of everything."""
    texts = b"".join(
        field(9, attribute(key, value))
        for key, value in (
            ("k", field(1, b"text")), ("n", b"\x18\x07"), ("b", b"\x10\x01"),
            ("d", b"\x21" + bytes(8)), ("l", field(5, field(1, field(1, b"x")))),
            ("m", field(6, field(1, attribute("k", field(1, b"x"))))), ("y", field(7, b"\0\1")),
        )
    )  # fmt: skip
    ids = field(1, bytes(range(16))) + field(2, bytes(range(8)))
    event = field(11, fixed(1, NOW_NS) + field(2, b"it broke"))
    times = fixed(7, NOW_NS) + fixed(8, NOW_NS + 1000)
    span = ids + field(4, bytes(8)) + field(5, b"work") + b"\x30\x01" + times + texts + event
    span += field(13, ids) + field(15, field(2, b"bad") + b"\x18\x02")
    resource = field(1, field(1, attribute("service.name", field(1, b"s"))))
    log = fixed(1, NOW_NS) + b"\x10\x09" + field(5, field(1, b"body"))
    point = fixed(3, NOW_NS) + fixed(6, 7)
    metric = field(1, b"m") + field(7, field(1, point) + b"\x10\x02\x18\x01")
    histogram = fixed(3, NOW_NS) + fixed(4, 3) + field(6, bytes(16)) + field(7, bytes(8))
    metrics = field(2, metric) + field(2, field(1, b"h") + field(9, field(1, histogram)))
    inner = {"traces": field(2, span) * 3, "logs": field(2, log) * 3, "metrics": metrics}
    scope = field(1, field(1, b"scope"))
    return {
        signal: field(1, resource + field(2, scope + records)) for signal, records in inner.items()
    }


def jsons() -> dict[str, bytes]:
    """The same as OTLP's JSON: what the receiver makes of it."""
    config = load_config({}, environ={"HOME": "/nowhere"})
    made = Transcoder(Encoders(config, make_guard(config, b"salt" * 8)), Reader())
    return {
        signal: made.lines(signal, body, Counter())[0][0] for signal, body in protobufs().items()
    }


def https() -> list[bytes]:
    """Whole requests."""
    found = []
    for is_json, bodies in ((False, protobufs()), (True, jsons())):
        kind = "json" if is_json else "x-protobuf"
        for signal, body in bodies.items():
            head = f"POST /v1/{signal} HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Content-Type: application/{kind}\r\n"
            packed = gzip.compress(body)
            found += [
                f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body,
                f"{head}Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
                + packed,
                f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
                + body
                + b"\r\n0\r\n\r\n",
            ]
    return [
        *found,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ]


ODD = (b"\0", b"\xff", b"\r\n", b"\n", b":", b"{", b"[", b'"', b"\\u0000", b"\x80" * 11, b"0" * 40)


def damaged(chance: random.Random, body: bytes, others: list[bytes]) -> bytes:
    """Some bytes changed, cut, doubled, or those of another one."""
    found = bytearray(body)
    for _ in range(chance.randrange(CHANGES_MAX)):
        at = chance.randrange(len(found) + 1)
        to = min(len(found), at + chance.choice((0, 1, 1, 2, 8, 64)))
        other = chance.choice(others)
        begin = chance.randrange(len(other))
        changes = (
            b"",
            chance.randbytes(to - at),
            chance.choice(ODD),
            bytes(found[at:to]) * 2,
            other[begin : begin + 64],
        )
        found[at:to] = chance.choice(changes)
    return bytes(found)


# -- what is promised ----------------------------------------------------------------------------


@contextmanager
def transcoding() -> Iterator[Callable[[random.Random], bytes]]:
    """A body is refused, or becomes lines that can be read; nothing else comes of it."""
    config = load_config({}, environ={"HOME": "/nowhere"})
    made = Transcoder(Encoders(config, make_guard(config, b"salt" * 8)), Reader())
    seeds = [(False, protobufs()), (True, jsons())]

    def check(chance: random.Random) -> bytes:
        is_json, bodies = chance.choice(seeds)
        signal = chance.choice(SIGNALS)
        body = damaged(chance, bodies[signal], list(bodies.values()))
        with suppress(LineRefusedError):
            for line, _sketch, count in made.lines(signal, body, Counter(), is_json=is_json):
                assert line.endswith(b"\n"), body
                assert line.count(b"\n") == 1, body
                assert count > 0, body
                json.loads(line)
                decode_line(signal, line)
        return body

    yield check


@contextmanager
def listening() -> Iterator[Callable[[random.Random], bytes]]:
    """Whatever comes by a socket, there is an answer that is not 500, or an end."""
    loop = asyncio.new_event_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, object] = {"directory": folder}
        writer = Receiving(load_config(options), options)
        writer.start()
        limits = Limits(request_bytes_max=MIB, connections_max=64)

        async def start() -> tuple[HttpServer, int]:
            server = HttpServer(writer.inbox, Gate(), limits)
            return server, await server.start("127.0.0.1", 0)

        server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT_S)
        seeds = https()

        def check(chance: random.Random) -> bytes:
            sent = b"".join(
                damaged(chance, chance.choice(seeds), seeds) for _ in range(chance.randrange(1, 4))
            )
            answer = answer_to(port, sent, chance.choice((1 << 20, 1 << 20, 100, 7)))
            assert not answer or answer.startswith(b"HTTP/1.1 "), answer
            assert b"HTTP/1.1 500" not in answer, answer
            assert b"internal error" not in answer, answer
            assert not faults, faults
            return sent

        try:
            yield check
            time.sleep(0.5)
            assert writer.inbox.held_bytes == 0, "room is kept for nobody"
        finally:
            writer.inbox.close()
            asyncio.run_coroutine_threadsafe(server.stop(1.0), loop).result(WAIT_S)
            writer.stop(WAIT_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(WAIT_S)
            loop.close()


def answer_to(port: int, sent: bytes, size: int) -> bytes:
    """Send in pieces, end, and read to the end; that it does not come is an error."""
    parts = []
    with closing(socket.create_connection(("127.0.0.1", port), WAIT_S)) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            for at in range(0, len(sent), size):
                client.sendall(sent[at : at + size])
            client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while part := client.recv(65_536):
                parts.append(part)
    return b"".join(parts)


CHECKS = {"transcode": transcoding, "listen": listening}


def main(arguments: list[str] | None = None) -> int:
    """Run each check for its share of the time; 1 if one found something."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", choices=CHECKS)
    args = parser.parse_args(arguments)
    seed = random.randrange(2**32) if args.seed is None else args.seed
    names = [args.only] if args.only else list(CHECKS)
    for name in names:
        end = time.monotonic() + args.seconds / len(names)
        number = 0
        try:
            with CHECKS[name]() as check:
                while time.monotonic() < end:
                    number += 1
                    check(random.Random(f"{seed} {number}"))
        except Exception as error:  # noqa: BLE001 - any is a finding
            kept = Path(tempfile.gettempdir()) / f"fuzz-receive-{seed}-{number}.txt"
            kept.write_text(repr(error))
            print(f"{name}: seed {seed}, input {number}: {type(error).__name__}; see {kept}")
            return 1
        print(f"{name}: {number:,} inputs, seed {seed}: all held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
