"""Attacks on the receiver, by raw sockets: each has an answer or an end, and costs little.

What is promised of all of them: no 500, no connection that hangs, no bytes that stay
reserved, and whoever comes next is served.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import struct
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING

import pytest

from receivers import JSON, PROTOBUF, Receiver, receiving, request_of
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.receive import bodies, http
from stack_composer.telemetry.receive.bodies import TooLargeError, unpacked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MIB = 1 << 20
WAIT_S = 20.0
TURNED_OUT = (BrokenPipeError, ConnectionResetError)
"""What a client sees that writes on to a connection which has ended."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One receiver for many attacks, since it must bear one after the other."""
    with receiving(tmp_path_factory.mktemp("hostile")) as receiver:
        yield receiver


@pytest.fixture
def receiver(shared: Receiver) -> Iterator[Receiver]:
    yield shared
    assert_it_serves(shared)


def assert_it_serves(receiver: Receiver) -> None:
    """Nothing is held for nobody, and the next one is answered."""
    until(lambda: receiver.writer.inbox.held_bytes == 0)
    assert receiver.post("/v1/traces", request_of())[0].status == 200


def until(holds: Callable[[], bool]) -> None:
    """Wait for another thread."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)


def connect(receiver: Receiver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", receiver.port), WAIT_S)


def said_to(receiver: Receiver, sent: bytes, *, ends: bool = True) -> bytes:
    """Send, and read until the receiver ends the connection; ``ends``: we end it first."""
    with contextlib.closing(connect(receiver)) as client:
        with contextlib.suppress(*TURNED_OUT):
            client.sendall(sent)
            if ends:
                client.shutdown(socket.SHUT_WR)
        return rest_of(client)


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the connection ends; a hang fails by the socket's time limit."""
    parts = []
    with contextlib.suppress(*TURNED_OUT):
        while part := client.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def statuses(answer: bytes) -> list[int]:
    """The status of each response, by their lengths: what is too much is seen."""
    found = []
    while answer:
        assert answer.startswith(b"HTTP/1.1 "), answer[:80]
        head, _, answer = answer.partition(b"\r\n\r\n")
        found.append(int(head[9:12]))
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        answer = answer[int(length or 0) :]
    return found


def with_body(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# -- what is no HTTP/1.1, or might be two things at once -------------------------------------

NEXT = b"GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n"

SHAPES: dict[str, tuple[bytes, list[int]]] = {
    "HTTP/0.9": (b"GET /v1/traces\r\n\r\n", [400]),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(27), [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), [400]),
    "NUL bytes": (bytes(256), [400]),
    "a NUL in the path": (b"POST /v1/tr\0ces HTTP/1.1\r\nHost: localhost\r\n\r\n", [400]),
    "a NUL in a header": (HEAD + b"X: a\0b\r\n\r\n", [400]),
    "a blank before the colon": (HEAD + b"Content-Length : 3\r\n\r\nabc" + NEXT, [400]),
    "a header folded": (HEAD + b"X: a\r\n Content-Length: 3\r\n\r\n" + NEXT, [400]),
    "a header without a colon": (HEAD + b"Content-Length\r\n\r\n", [400]),
    "a bare CR": (HEAD + b"X: a\rContent-Length: 3\r\n\r\n", [400]),
    "no Host": (b"POST /v1/traces HTTP/1.1\r\nConnection: close\r\n\r\n", [400]),
    "two Hosts": (HEAD + b"Host: evil.example\r\nContent-Length: 0\r\n\r\n", [400]),
    "two lengths": (HEAD + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n" + NEXT, [400]),
    "a list of lengths": (HEAD + b"Content-Length: 0, 0\r\n\r\n" + NEXT, [400]),
    "a signed length": (HEAD + b"Content-Length: +1\r\n\r\nx" + NEXT, [400]),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n" + NEXT, [400]),
    "a length in hexadecimal": (HEAD + b"Content-Length: 0x1\r\n\r\nx" + NEXT, [400]),
    "a length of many digits": (HEAD + b"Content-Length: 1" + b"0" * 5000 + b"\r\n\r\n", [400]),
    "a length beyond any": (HEAD + b"Content-Length: 9223372036854775807\r\n\r\n", [413]),
    "length, then chunked": (
        HEAD + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + NEXT, [400]
    ),
    "chunked, then length": (HEAD + CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n" + NEXT, [400]),
    "not chunked at last": (
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + NEXT, [400]
    ),
    "chunked by another name": (
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + NEXT, [400]
    ),
    "chunked with a tab": (HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + NEXT, [400]),
    "chunk of no number": (HEAD + CHUNKED + b"\r\nzz\r\n" + NEXT, [400]),
    "chunk of a negative number": (HEAD + CHUNKED + b"\r\n-1\r\n" + NEXT, [400]),
    "chunk beyond any number": (HEAD + CHUNKED + b"\r\nfffffffffffffffff\r\n" + NEXT, [400]),
    "chunk longer than told": (HEAD + CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    "chunk without its end": (HEAD + CHUNKED + b"\r\n1\r\na0\r\n\r\n" + NEXT, [400]),
    "a method of our own": (b"HACK /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n", [400]),
    "an absolute address": (
        HEAD.replace(b"/v1", b"http://evil.example/v1") + b"Connection: close\r\n\r\n", [404]
    ),
    "a tunnel": (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n" + NEXT, [404]),
    "a path that climbs": (
        HEAD.replace(b"/v1", b"/v1/x/..") + b"Connection: close\r\n\r\n", [404]
    ),
    "headers by the thousand": (HEAD + b"X: y\r\n" * 5000 + b"\r\n", [400]),
    "one endless header": (HEAD + b"X: " + b"y" * 200_000, [431]),
    "an endless path": (b"POST /" + b"y" * 200_000, [431]),
    "an endless length of a chunk": (HEAD + CHUNKED + b"\r\n" + b"0" * 400_000, [431]),
    "an endless extension of a chunk": (HEAD + CHUNKED + b"\r\n1;" + b"x" * 400_000, [431]),
    "an endless header behind the body": (
        HEAD + CHUNKED + b"\r\n0\r\nX: " + b"y" * 400_000, [431]
    ),
    "headers behind the body by the thousand": (
        HEAD + CHUNKED + b"\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n", [400]
    ),
    "a length behind the body": (
        HEAD + CHUNKED + b"\r\n0\r\nHost: evil.example\r\n\r\n" + NEXT, [400]
    ),
    "lengths told twice are an end also behind a good request": (
        with_body(b"") + HEAD + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n" + NEXT,
        [200, 400],
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_no_request_is_refused_and_ends_the_connection(
    receiver: Receiver, shape: str
) -> None:
    """And so nothing behind it is taken for a request of its own."""
    sent, expected = SHAPES[shape]
    # We do not end it: if the receiver does not either, the test fails.
    assert statuses(said_to(receiver, sent, ends=False)) == expected


def test_a_refusal_is_one_answer_whatever_comes_behind_it(tmp_path: Path) -> None:
    """Broken chunks, or no HTTP at all, in the same packet."""
    with receiving(tmp_path, serve_request_bytes_max=1024) as receiver:
        sent = HEAD + CHUNKED + b"\r\n" + chunk(bytes(2000)) + b"zz\r\n" + NEXT
        assert statuses(said_to(receiver, sent, ends=False)) == [413]
        foreign = with_body(b"abc").replace(b"localhost", b"evil.example")
        assert statuses(said_to(receiver, foreign + bytes(10) + NEXT, ends=False)) == [403]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_shapes_are_the_same_when_they_come_in_pieces(receiver: Receiver, size: int) -> None:
    """A proxy may cut anywhere; so may an attacker."""
    for shape, (sent, expected) in SHAPES.items():
        if len(sent) > 2000:
            continue
        with contextlib.closing(connect(receiver)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(*TURNED_OUT):
                for at in range(0, len(sent), size):
                    client.sendall(sent[at : at + size])
            assert statuses(rest_of(client))[: len(expected)] == expected, shape


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
def test_other_methods_get_405_and_the_connection_stays_in_step(
    receiver: Receiver, method: str
) -> None:
    """HEAD above all, whose answer has a length and no body."""
    one = method.encode() + b" /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = with_body(request_of(), b"Connection: close")
    answer = said_to(receiver, one * 2 + last)
    if method == "HEAD":
        assert answer.count(b"HTTP/1.1 405 ") == 2
        assert b"only POST" not in answer
        assert answer.count(b"\r\n\r\nHTTP/1.1 ") == 2
    else:
        assert statuses(answer) == [405, 405, 200]


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0"])
def test_an_offer_to_speak_something_else_is_not_taken_up(tmp_path: Path, offer: str) -> None:
    """Java's own client offers h2c with its first request, and means the request all the same."""
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + offer.encode())
    with receiving(tmp_path) as receiver:
        packed = gzip.compress(request_of(2))
        sent = with_body(request_of(3), *upgrade)
        sent += with_body(packed, *upgrade, b"Content-Encoding: gzip")
        sent += HEAD + CHUNKED + b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n"
        sent += chunk(request_of(4)) + b"0\r\n\r\n"
        sent += with_body(request_of(5), b"Connection: close")
        assert statuses(said_to(receiver, sent)) == [200, 200, 200, 200]
        assert len(receiver.spans()) == 3 + 2 + 4 + 5
        assert_it_serves(receiver)


def test_requests_in_one_packet_are_answered_in_order(receiver: Receiver) -> None:
    sent = b"".join(
        with_body(body) for body in [request_of(), b"\xff", b"", request_of(3)] * 100
    ) + with_body(b"", b"Connection: close")
    assert statuses(said_to(receiver, sent)) == [200, 400, 200, 200] * 100 + [200]


def test_expect_100_continue_is_met_or_refused(receiver: Receiver) -> None:
    """The body is asked for only where it is wanted."""
    expect = b"Expect: 100-continue\r\n"
    body = request_of()
    with contextlib.closing(connect(receiver)) as client:
        client.sendall(HEAD + expect + b"Content-Length: %d\r\n\r\n" % len(body))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    too_much = HEAD + expect + b"Content-Length: 999999999\r\n\r\n"
    assert statuses(said_to(receiver, too_much, ends=False)) == [413]
    foreign = HEAD.replace(b"localhost", b"evil.example") + expect + b"Content-Length: 9\r\n\r\n"
    assert statuses(said_to(receiver, foreign, ends=False)) == [403]


# -- who is on this computer, and who only seems so ------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"evil.example:4318",
        b"127.1", b"0x7f.1", b"2130706433", b"0.0.0.0", b"[::]", b"::ffff:1.2.3.4", b"192.168.0.1",
        b"", b"[", b"[::1", b"localhost\xff", b"%6cocalhost", b"localhost,evil.example",
        b"\xc4\xb1ocalhost", b"user@evil.example", b"x" * 9000,
    ],
)  # fmt: skip
def test_a_foreign_host_gets_nothing(receiver: Receiver, host: bytes) -> None:
    """A name that an attacker has point to this computer is still his."""
    sent = with_body(request_of()).replace(b"Host: localhost", b"Host: " + host)
    answer = said_to(receiver, sent)
    assert statuses(answer) == [403], answer
    assert b"Access-Control" not in answer


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://localhost:4318"])
@pytest.mark.parametrize("kind", [b"text/plain", b"application/json", b""])
def test_a_web_page_gets_nothing(receiver: Receiver, origin: bytes, kind: bytes) -> None:
    """Also with what a browser sends without asking, and with what it asks for first."""
    sent = with_body(b"{}", b"Origin: " + origin)
    sent = sent.replace(b"application/x-protobuf", kind)
    answer = said_to(receiver, sent)
    assert statuses(answer) == [403]
    assert b"Access-Control" not in answer
    asked = (
        b"OPTIONS /v1/traces HTTP/1.1\r\nHost: localhost\r\nOrigin: " + origin + b"\r\n"
        b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Private-Network: true\r\n"
        b"Access-Control-Request-Headers: content-type\r\n\r\n"
    )
    answer = said_to(receiver, asked)
    assert statuses(answer) == [403]
    assert b"Access-Control" not in answer


# -- who is slow, and who goes away ----------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (HEAD, b"X: y\r\n"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (HEAD + CHUNKED + b"\r\n", b"1\r\nx\r\n"),
        (HEAD + CHUNKED + b"\r\n0\r\n", b"X: y\r\n"),
        (b"", b"P"),
    ],
    ids=["head", "body", "chunks", "headers behind the body", "method"],
)
def test_who_drips_is_told_to_be_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: bytes, drip: bytes
) -> None:
    """However it goes on: the time is that of the whole head, and of the whole body."""
    for name in ("HEAD_S", "BODY_S", "IDLE_S", "LINGER_S"):
        monkeypatch.setattr(http, name, 0.4)
    with receiving(tmp_path) as receiver, contextlib.closing(connect(receiver)) as client:
        client.settimeout(0.05)
        client.sendall(begin)
        got = b""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                part = client.recv(1000)
                got += part
                if not part:
                    break
            try:
                client.sendall(drip)
            except TURNED_OUT:
                break
        assert got == b"" or statuses(got) in ([408], [400]), got
        until(lambda: not receiver.http.connections)
        assert receiver.writer.inbox.held_bytes == 0


def test_who_promises_much_and_sends_nothing_takes_no_room(tmp_path: Path) -> None:
    """Two promises would fill it, and all others would be sent away."""
    with receiving(tmp_path) as receiver, contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(contextlib.closing(connect(receiver)))
            client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (64 * MIB) + b"x")
        until(lambda: receiver.writer.inbox.held_bytes == 10)
        assert receiver.post("/v1/traces", request_of())[0].status == 200


def test_who_does_not_read_is_not_read_from(receiver: Receiver) -> None:
    """Otherwise his answers would be kept for him, without a bound."""
    with contextlib.closing(connect(receiver)) as client:
        client.settimeout(1.0)
        many = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
        with pytest.raises(TimeoutError):
            send_on(client, many)
        (connection,) = receiver.http.connections
        assert connection._transport.get_write_buffer_size() < 2 * MIB


def send_on(client: socket.socket, data: bytes) -> None:
    for _ in range(1000):
        client.sendall(data)


@pytest.mark.parametrize("at", [10, len(HEAD), len(HEAD) + 30, len(HEAD) + 60])
def test_a_reset_in_the_middle_leaves_nothing_behind(receiver: Receiver, at: int) -> None:
    sent = with_body(request_of(10))
    before = len(receiver.spans())
    for _ in range(50):
        client = connect(receiver)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(sent[:at])
        client.close()
    until(lambda: not receiver.http.connections)
    assert len(receiver.spans()) == before


def test_a_body_that_is_cut_short_is_not_taken(receiver: Receiver) -> None:
    """Neither by its length nor by its chunks; gzip's own end is looked for as well."""
    body = request_of(10)
    before = len(receiver.spans())
    for cut in range(1, len(body), 97):
        assert said_to(receiver, with_body(body)[: -len(body) + cut]) == b""
        assert said_to(receiver, HEAD + CHUNKED + b"\r\n" + chunk(body[:cut])) == b""
    packed = gzip.compress(body)
    for cut in range(1, len(packed), 13):
        sent = with_body(packed[:cut], b"Content-Encoding: gzip", b"Connection: close")
        assert statuses(said_to(receiver, sent)) == [400]
    assert len(receiver.spans()) == before


def test_idle_connections_are_ended_and_meanwhile_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times as many as are held: who was idle for longest makes way, without a word."""
    monkeypatch.setattr(http, "IDLE_S", 2.0)
    with receiving(tmp_path, serve_connections_max=64) as receiver:
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(contextlib.closing(connect(receiver))) for _ in range(256)
            ]
            assert len(receiver.http.connections) <= 64 + 1
            answers = [rest_of(client) for client in clients]
        assert [statuses(answer) for answer in answers] == [[]] * 256
        until(lambda: not receiver.http.connections)
        assert_it_serves(receiver)


# -- bombs -----------------------------------------------------------------------------------


def bomb(packing: str, size: int) -> bytes:
    """Zeros, packed as closely as it goes."""
    if packing == "zstd":
        return zstd.compress(bytes(size), 19)
    wbits = {"gzip": 31, "deflate": 15, "deflate without a head": -15}[packing]
    deflater = zlib.compressobj(9, wbits=wbits)
    return deflater.compress(bytes(size)) + deflater.flush()


@pytest.mark.parametrize("packing", ["gzip", "deflate", "deflate without a head", "zstd"])
def test_a_bomb_is_refused_when_it_bursts(receiver: Receiver, packing: str) -> None:
    body = bomb(packing, 65 * MIB)
    assert len(body) < 100_000
    encoding = b"Content-Encoding: " + packing.partition(" ")[0].encode()
    assert statuses(said_to(receiver, with_body(body, encoding, b"Connection: close"))) == [413]


def test_bombs_within_bombs_are_not_unpacked(receiver: Receiver) -> None:
    """One layer is taken; more are no encoding that is known."""
    body = gzip.compress(bomb("gzip", 65 * MIB))
    for encoding in (b"gzip, gzip", b"gzip,gzip,gzip", b"gzip, zstd", b"br", b"x" * 5000):
        sent = with_body(body, b"Content-Encoding: " + encoding, b"Connection: close")
        assert statuses(said_to(receiver, sent)) == [415]
    sent = with_body(body, b"Content-Encoding: gzip", b"Connection: close")
    assert statuses(said_to(receiver, sent)) == [400]


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_parts_by_the_thousand_are_refused(packing: str) -> None:
    with pytest.raises(LineRefusedError, match="parts"):
        unpacked(bomb(packing, 0) * 2000, packing, MIB)
    assert unpacked(bomb(packing, 10) * 1000, packing, MIB) == bytes(10_000)


def test_small_parts_before_a_large_one_cost_their_length_only() -> None:
    """What lies behind a part is copied for it, so it must not be all that is left."""
    shown = []

    class Unpacker:
        def __init__(self) -> None:
            self.real = zlib.decompressobj(31)

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        def decompress(self, data: bytes, most: int) -> bytes:
            shown.append(len(data))
            return self.real.decompress(data, most)

    body = gzip.compress(b"") * 1000 + gzip.compress(os.urandom(8 * MIB), 0)
    assert len(bodies._all_of(body, Unpacker, "gzip", 64 * MIB)) == 8 * MIB
    assert sum(shown) < len(body) + 1001 * 64 * 1024


def test_a_bound_is_a_bound_to_the_byte() -> None:
    for packing in ("gzip", "deflate", "zstd"):
        for size in (bodies._PIECE_BYTES, 3 * bodies._PIECE_BYTES + 1, 1):
            packed = bomb(packing, size)
            assert unpacked(packed, packing, size) == bytes(size)
            with pytest.raises(TooLargeError):
                unpacked(packed, packing, size - 1)
            with pytest.raises(LineRefusedError):
                unpacked(packed[:-1], packing, size)


# -- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b'{"resourceSpans":' + b"[" * 1_000_000,
        b'{"resourceSpans":[{"resource":{"attributes":[{"value":'
        + b'{"arrayValue":{"values":[' * 100_000,
        b"\0" * 100_000,
        b'{"resourceSpans":[]}\0',
        b'\xef\xbb\xbf{"resourceSpans":[]}\xff',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"' + b"\xff" * 1000 + b'"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\\ud800"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":1' + b"0" * 100_000
        + b"}]}]}]}",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":1e999999999}]}]}]}',
        b'{"resourceSpans":null}',
        b"null", b"1", b'""', b"[]", b"NaN", b" ", b"{", b"\n" * 1000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [b"/v1/traces", b"/v1/metrics", b"/v1/logs"])
def test_json_that_is_odd_is_taken_or_refused(receiver: Receiver, body: bytes, path: bytes) -> None:
    sent = with_body(body, b"Connection: close")
    sent = sent.replace(PROTOBUF.encode(), JSON.encode()).replace(b"/v1/traces", path, 1)
    assert statuses(said_to(receiver, sent)) in ([200], [400])


def nested(depth: int) -> bytes:
    """A message within a message, each a field 1: resources, attributes, lists of lists."""
    body = b""
    for _ in range(depth):
        length = len(body)
        told = bytearray()
        while length > 0x7F:
            told.append(length & 0x7F | 0x80)
            length >>= 7
        told.append(length)
        body = b"\x0a" + bytes(told) + body
    return body


@pytest.mark.parametrize(
    "body",
    [
        nested(5_000),
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x7f" + b"x" * 10,
        b"\xff" * 10_000,
        b"\x0b" * 10_000,
        b"\x00" * 10_000,
        b"\x0a\x00" * 200_000,
        b"\x08" + b"\x80" * 10_000 + b"\x01",
        os.urandom(10_000),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("path", [b"/v1/traces", b"/v1/metrics", b"/v1/logs"])
def test_protobuf_that_is_odd_is_taken_or_refused(
    receiver: Receiver, body: bytes, path: bytes
) -> None:
    sent = with_body(body, b"Connection: close").replace(b"/v1/traces", path, 1)
    assert statuses(said_to(receiver, sent)) in ([200], [400])


def test_many_attack_at_once_and_others_are_served(receiver: Receiver) -> None:
    """Sixteen threads with all the shapes, while one sends what it should."""

    def attack(first: int) -> None:
        shapes = list(SHAPES.values())
        for number in range(len(shapes)):
            sent, expected = shapes[(first * 5 + number) % len(shapes)]
            assert statuses(said_to(receiver, sent, ends=False)) == expected

    attackers = [threading.Thread(target=attack, args=(first,)) for first in range(16)]
    for attacker in attackers:
        attacker.start()
    served = [receiver.post("/v1/traces", request_of())[0].status for _ in range(100)]
    for attacker in attackers:
        attacker.join()
    assert set(served) <= {200}
