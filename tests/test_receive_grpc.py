"""The receiver over gRPC: OTLP.md's rule D17, the rules that it shares with HTTP, and bad days."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import socket
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from receivers import Receiver, receiving, request_of
from stack_composer.telemetry.receive import grpc as receive_grpc
from stack_composer.telemetry.receive import inbox
from stack_composer.telemetry.receive.grpc import SERVICES, GrpcServer, packing_of
from stack_composer.telemetry.receive.inbox import Answer, Inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# They ship no types.
error_details_pb2 = importlib.import_module("google.rpc.error_details_pb2")
status_pb2 = importlib.import_module("google.rpc.status_pb2")

EXPORT = {signal: f"/{service}/Export" for service, signal in SERVICES.items()}
LIMIT = 1 << 20


class Loop:
    """An event loop on a thread of its own; at its end nothing may have failed on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.faults: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, fault: self.faults.append(fault))
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        assert self.faults == []


@contextlib.contextmanager
def listening(box: Inbox, port: int = 0, **options: Any) -> Iterator[tuple[GrpcServer, int, Loop]]:
    loop = Loop()

    async def start() -> tuple[GrpcServer, int]:
        server = GrpcServer(box, **{"request_bytes_max": LIMIT, **options})
        return server, await server.start("127.0.0.1", port)

    try:
        server, bound = loop.run(start())
        try:
            yield server, bound, loop
        finally:
            loop.run(server.stop(2.0))
    finally:
        loop.end()


@contextlib.contextmanager
def running(directory: Path, **options: Any) -> Iterator[tuple[Receiver, int]]:
    """Run the whole of it: the server, and the writer with its bundles."""
    token = options.pop("token", "")
    limit = options.get("serve_request_bytes_max", LIMIT)
    with (
        receiving(directory, **options) as receiver,
        listening(receiver.writer.inbox, request_bytes_max=limit, token=token) as (_, port, _),
    ):
        yield receiver, port


@contextlib.contextmanager
def answering(answer: Answer | None, **options: Any) -> Iterator[tuple[int, Inbox]]:
    """Serve with a writer that gives one answer to all; None: it never gets that far."""
    bell = threading.Event()
    box = Inbox(options.pop("bytes_max", 8 * LIMIT), bell.set)
    ended = False

    def write() -> None:
        while not ended:
            bell.wait(0.05)
            bell.clear()
            if answer is not None:
                for request in box.take(LIMIT):
                    box.done(request, answer)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with listening(box, **options) as (_, port, _):
            yield port, box
    finally:
        ended = True
        writer.join(10)


@contextlib.contextmanager
def exporting(port: int, signal: str = "traces") -> Iterator[Callable[..., bytes]]:
    """A call to one of the services, in bytes."""
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        yield channel.unary_unary(EXPORT[signal])


def refused(export: Callable[..., bytes], body: bytes = b"", **how: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        export(body, **{"timeout": 20, **how})
    return caught.value


def details(error: grpc.RpcError) -> Any:
    found = dict(error.trailing_metadata())["grpc-status-details-bin"]
    return status_pb2.Status.FromString(found)


def retry_s(error: grpc.RpcError) -> float | None:
    """What ``RetryInfo`` says, as OTLP has it read; None without."""
    if "grpc-status-details-bin" not in dict(error.trailing_metadata()):
        return None
    status = details(error)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    info = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


# -- what is taken ------------------------------------------------------------------------


@pytest.mark.interop
@pytest.mark.parametrize("packing", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_d1_the_official_exporters_are_served(
    tmp_path: Path, packing: grpc.Compression | None
) -> None:
    """Spans, metrics and logs, packed or not; what the exporter calls a success is stored."""
    with running(tmp_path) as (receiver, port):
        how: dict[str, Any] = {
            "endpoint": f"http://127.0.0.1:{port}", "insecure": True, "compression": packing,
        }  # fmt: skip
        spans = TracerProvider()
        spans.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**how)))
        tracer: trace.Tracer = spans.get_tracer("t")
        for number in range(3):
            with tracer.start_as_current_span(f"step {number}"):
                pass
        spans.shutdown()
        meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(**how))])
        meters.get_meter("t").create_counter("done").add(7)
        meters.shutdown()
        logs = LoggerProvider()
        logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**how)))
        logs.get_logger("t").emit(body="it began")
        logs.shutdown()
        assert [span["name"] for span in receiver.spans()] == ["step 0", "step 1", "step 2"]
        assert "done" in str(receiver.lines("metrics"))
        assert "it began" in str(receiver.lines("logs"))


@pytest.mark.parametrize(
    ("packing", "name"), [(grpc.Compression.Gzip, "gzip"), (grpc.Compression.Deflate, "deflate")]
)
def test_what_is_packed_waits_packed(packing: grpc.Compression, name: str) -> None:
    """A hundred bombs take the room of a hundred small requests, until one is written."""
    body = request_of(1, padding="x" * LIMIT)
    with answering(None) as (port, box), exporting(port) as export:
        call = export.future(body, timeout=20, compression=packing)  # type: ignore[attr-defined]
        until(lambda: bool(box))
        assert box.held_bytes < len(body) / 100
        (request,) = box.take(LIMIT)
        assert request.encoding == name
        box.done(request, Answer(inbox.TAKEN))
        assert call.result(20) == b""


@pytest.mark.parametrize("signal", EXPORT)
def test_d5_d6_an_empty_request_succeeds_with_an_empty_answer(tmp_path: Path, signal: str) -> None:
    with running(tmp_path) as (_, port), exporting(port, signal) as export:
        assert export(b"", timeout=20) == b""


def test_d7_partial_success_tells_what_was_rejected() -> None:
    answer = Answer(inbox.TAKEN, "two were odd", 2)
    with answering(answer) as (port, _), exporting(port) as export:
        said = ExportTraceServiceResponse.FromString(export(b"", timeout=20)).partial_success
        assert (said.rejected_spans, said.error_message) == (2, "two were odd")


def test_d14_an_answer_comes_when_it_is_written_and_not_before(tmp_path: Path) -> None:
    """What was answered is there when the process is gone: it is read from the files."""
    with running(tmp_path, durability="batch") as (receiver, port), exporting(port) as export:
        for count in range(1, 4):
            assert export(request_of(100), timeout=20) == b""
            assert len(receiver.spans()) == count * 100
    with answering(None) as (port, box), exporting(port) as export:
        waiting = export.future(request_of(), timeout=20)  # type: ignore[attr-defined]
        until(lambda: bool(box))
        assert not waiting.done()
        (request,) = box.take(LIMIT)
        box.done(request, Answer(inbox.TAKEN))
        assert waiting.result(20) == b""


def test_what_is_received_passes_the_guard(tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    with running(tmp_path) as (receiver, port), exporting(port) as export:
        export(request_of(2, header=f"Bearer {secret}"), timeout=20)
        assert len(receiver.spans()) == 2
        assert secret not in str(receiver.lines("traces"))


# -- what is refused ----------------------------------------------------------------------


def test_d17_undecodable_is_invalid_argument_and_says_what(tmp_path: Path) -> None:
    with running(tmp_path) as (_, port), exporting(port) as export:
        error = refused(export, b"\x0a\xff\xff\xff\xff\x0f")
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert retry_s(error) is None
        bad = error_details_pb2.BadRequest()
        assert details(error).details[0].Unpack(bad)
        assert bad.field_violations[0].field == "body"
        assert bad.field_violations[0].description == error.details()


def test_d17_oversize_is_resource_exhausted_and_final(tmp_path: Path) -> None:
    """As it comes, and unpacked: neither carries RetryInfo, so no client sends it again."""
    body = request_of(1, padding="x" * LIMIT)
    with running(tmp_path, serve_request_bytes_max=LIMIT) as (receiver, port):
        with exporting(port) as export:
            for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                error = refused(export, body, compression=packing)
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert retry_s(error) is None
            assert export(request_of(), timeout=20) == b""
        assert len(receiver.spans()) == 1


def test_what_is_refused_is_not_kept() -> None:
    """Not until the garbage is collected either: that is seldom, and each may be 64 MiB."""
    body = request_of(1, padding="x" * (LIMIT // 2))
    with answering(Answer(inbox.BAD, "no")) as (port, _), exporting(port) as export:
        refused(export, body)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(20):
                refused(export, body)
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
        assert now < 4 * len(body)


@pytest.mark.parametrize(
    "verdict", [inbox.OVERLOADED, inbox.NO_ROOM, inbox.OFF, inbox.BROKEN, inbox.CLOSING]
)
def test_d17_what_may_come_again_is_unavailable_with_retry_info(verdict: str) -> None:
    """A full disk (D14) too: it may be empty again, and nothing was acknowledged."""
    with answering(Answer(verdict, "not now")) as (port, _), exporting(port) as export:
        error = refused(export)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "not now")
        assert retry_s(error) in (1.0, 30.0)


def test_d17_too_much_that_waits_is_unavailable_with_retry_info() -> None:
    """And what waits is bounded: here one request fits."""
    body = request_of(100)
    with answering(None, bytes_max=len(body) * 3 // 2) as (port, box), exporting(port) as export:
        first = export.future(body, timeout=20)  # type: ignore[attr-defined]
        until(lambda: bool(box))
        error = refused(export, body)
        assert (error.code(), retry_s(error)) == (grpc.StatusCode.UNAVAILABLE, 1.0)
        assert box.held_bytes == len(body)
        box.done(box.take(LIMIT)[0], Answer(inbox.TAKEN))
        assert first.result(20) == b""
        assert box.held_bytes == 0


@pytest.mark.parametrize(
    ("metadata", "is_known"),
    [
        ([], False),
        ([("authorization", "Bearer open-sesame")], True),
        ([("authorization", "bearer open-sesame")], True),
        ([("authorization", "Bearer open-sesam")], False),
        ([("authorization", "Basic open-sesame")], False),
        ([("authorization", "Bearer")], False),
        ([("authorization-bin", b"Bearer open-sesame")], False),
        ([("authorization", "Bearer no"), ("authorization", "Bearer open-sesame")], False),
    ],
)
def test_a_token_is_asked_for(metadata: list[tuple[str, str]], *, is_known: bool) -> None:
    with (
        answering(Answer(inbox.TAKEN), token="open-" + "sesame") as (port, _),
        exporting(port) as export,
    ):
        if is_known:
            assert export(b"", timeout=20, metadata=metadata) == b""
        else:
            error = refused(export, b"", metadata=metadata)
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED


def test_without_the_token_no_message_is_collected() -> None:
    """The credentials are judged first: the call is over before its message is whole."""
    with (
        answering(Answer(inbox.TAKEN), token="open-" + "sesame") as (port, _),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        gate = threading.Event()
        call = channel.stream_unary(EXPORT["traces"]).future(iter_when(gate), timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            call.result(20)
        gate.set()
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "method",
    [
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/x/y",
        "/",
    ],
)
def test_other_services_are_not_implemented(method: str) -> None:
    with (
        answering(Answer(inbox.TAKEN)) as (port, _),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        error = refused(channel.unary_unary(method))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED


# -- how it ends, and bad days ------------------------------------------------------------


def test_a_port_that_is_taken_is_an_error_also_where_another_receiver_has_it() -> None:
    """By its default gRPC shares it, and half of the calls would go elsewhere."""
    box = Inbox(LIMIT, lambda: None)
    with (
        listening(box) as (_, port, _),
        pytest.raises(OSError, match="in use"),
        listening(box, port),
    ):
        pass
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"), listening(box, port):
            pass


def test_the_end_waits_for_what_was_accepted(tmp_path: Path) -> None:
    """Ended while a call waits for the writer: it is answered, then the port is closed."""
    box = Inbox(LIMIT, lambda: None)
    with listening(box) as (server, port, loop), exporting(port) as export:
        call = export.future(request_of(), timeout=20)  # type: ignore[attr-defined]
        until(lambda: bool(box))
        box.close()
        ending = asyncio.run_coroutine_threadsafe(server.stop(10.0), loop.loop)
        (request,) = box.take(LIMIT)
        box.done(request, Answer(inbox.TAKEN))
        assert call.result(20) == b""
        ending.result(20)
        error = refused(export, b"", timeout=5)
        assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert not list(tmp_path.iterdir())


def test_the_end_does_not_wait_for_ever() -> None:
    box = Inbox(LIMIT, lambda: None)
    with listening(box) as (server, port, loop), exporting(port) as export:
        call = export.future(request_of(), timeout=20)  # type: ignore[attr-defined]
        until(lambda: bool(box))
        loop.run(server.stop(0.1))
        with pytest.raises(grpc.RpcError):
            call.result(20)
        # The writer answers later, and there is nobody left to hear it.
        box.done(box.take(LIMIT)[0], Answer(inbox.TAKEN))


def test_a_client_that_leaves_takes_nothing_along() -> None:
    box = Inbox(LIMIT, lambda: None)
    with listening(box) as (server, port, _), exporting(port) as export:
        call = export.future(request_of(), timeout=20)  # type: ignore[attr-defined]
        until(lambda: bool(box))
        call.cancel()
        until(lambda: server._calls == 0)
        box.done(box.take(LIMIT)[0], Answer(inbox.TAKEN))
        assert box.held_bytes == 0
        again = export.future(request_of(), timeout=20)  # type: ignore[attr-defined]
        until(lambda: bool(box))
        box.done(box.take(LIMIT)[0], Answer(inbox.TAKEN))
        assert again.result(20) == b""


def test_clients_that_stall_give_their_places_to_those_that_send(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many times as many as are collected at once begin a call, and never send."""
    monkeypatch.setattr(receive_grpc, "HURRY_S", 0.3)
    with (
        answering(Answer(inbox.TAKEN)) as (port, box),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        exporting(port) as export,
    ):
        stall = channel.stream_unary(EXPORT["traces"])
        gate = threading.Event()
        stalled = [
            stall.future(iter_when(gate), timeout=100) for _ in range(receive_grpc.READING_MAX * 25)
        ]
        try:
            for _ in range(5):
                # All of them, one after the other, would take longer.
                assert export(request_of(), timeout=6) == b""
            assert box.held_bytes == 0
        finally:
            gate.set()
            for call in stalled:
                call.cancel()


def test_no_place_is_lost_to_who_leaves_while_it_is_given() -> None:
    """Just before, or just after: it goes to the next, or back."""

    async def leave() -> None:
        for is_given_first in (True, False):
            places = receive_grpc._Places(1)
            await places.take()
            waiting = [asyncio.create_task(places.take()) for _ in range(2)]
            await asyncio.sleep(0)
            if is_given_first:
                places.give()
                waiting[1].cancel()
            else:
                waiting[1].cancel()
                places.give()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert [task.cancelled() for task in waiting] == [False, True]
            assert (places.free, places.waiting) == (0, [])
            places.give()
            assert places.free == 1

    asyncio.run(leave())


def test_no_place_is_lost_to_calls_that_are_cut_off(capfd: pytest.CaptureFixture[str]) -> None:
    """HTTP/2's rapid reset: thousands of calls begin and are taken back in one breath."""

    def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
        length = len(content).to_bytes(3, "big")
        return length + bytes([kind, flags]) + stream.to_bytes(4, "big") + content

    def header(name: str, value: str) -> bytes:
        return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    head = b"".join(
        header(name, value)
        for name, value in (
            (":method", "POST"), (":scheme", "http"), (":path", EXPORT["traces"]),
            (":authority", "x"), ("content-type", "application/grpc"), ("te", "trailers"),
        )
    )  # fmt: skip
    calls = b"".join(
        frame(1, 4, stream, head) + frame(3, 0, stream, b"\0\0\0\x08")
        for stream in range(1, 12_001, 2)
    )
    box = Inbox(LIMIT, lambda: None)
    with listening(box) as (server, port, _):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
                drain = threading.Thread(target=read_all, args=(client,))
                drain.start()
                client.sendall(calls)
                client.shutdown(socket.SHUT_WR)
                drain.join(20)
        until(lambda: server._calls == 0)
        assert server._places.free == receive_grpc.READING_MAX
        assert server._places.waiting == []
    assert capfd.readouterr().err == ""


def read_all(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(65_536):
            pass


def test_more_calls_than_are_held_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive_grpc, "CALLS_MAX", 4)
    with answering(None) as (port, box), exporting(port) as export:
        held = [export.future(request_of(), timeout=20) for _ in range(4)]  # type: ignore[attr-defined]
        until(lambda: box.held_bytes == 4 * len(request_of()))
        error = refused(export, request_of())
        assert (error.code(), retry_s(error)) == (grpc.StatusCode.UNAVAILABLE, 1.0)
        for request in box.take(LIMIT):
            box.done(request, Answer(inbox.TAKEN))
        assert [call.result(20) for call in held] == [b""] * 4


def test_bytes_that_are_no_http2_do_no_harm(tmp_path: Path) -> None:
    with running(tmp_path) as (_, port), exporting(port) as export:
        for rubbish in (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\0" * 4096,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(rubbish)
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while connection.recv(65536):
                        pass
        assert export(request_of(), timeout=20) == b""


def test_packings_are_told_from_requests() -> None:
    assert packing_of(request_of()) == packing_of(b"") == packing_of(b"\x78") == ""
    assert packing_of(b"\x1f\x8b\x08\x00") == "gzip"
    for head in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        assert packing_of(head) == "deflate"


def iter_when(gate: threading.Event) -> Iterator[bytes]:
    gate.wait(100)
    yield from ()


def until(holds: Callable[[], bool]) -> None:
    """Wait for another thread; the test's own time limit ends what never holds."""
    while not holds():
        time.sleep(0.005)
