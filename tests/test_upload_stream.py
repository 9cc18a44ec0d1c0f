"""What is recorded arrives while it is recorded: all of it, allowed, and nothing waits for it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import send_servers
from encrypted_store import need_cipher
from stack_composer import telemetry
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.send import backoff
from stack_composer.telemetry.send import grpc as grpc_sender
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.store.writer import BundleWriter
from stack_composer.telemetry.upload import queue, stream
from stack_composer.telemetry.upload.audit import read_entries
from stack_composer.telemetry.upload.ledger import read_ledger
from stack_composer.telemetry.upload.plan import key_of
from stack_composer.telemetry.upload.verify import verify
from store_lines import append, spans_line
from streaming import Scene, grpc_serving, ids_of, names_of, wait_until
from upload_server import OK, Answer, Got, free_port, serving

HTTP = "otlp_http"
GRPC = "otlp_grpc"
OUTBOX = names.OUTBOXES


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(backoff, "FIRST_S", 0.05)
    monkeypatch.setattr(stream, "SWEEP_FIRST_S", 0.1)
    monkeypatch.setattr(stream, "SWEEP_S", 0.2)
    recorder.dropped.clear()
    recorder.faults.clear()
    yield Scene(tmp_path)
    telemetry.shutdown()
    assert not recorder.faults


def numbered(first: int, count: int) -> list[str]:
    return [f"step {number}" for number in range(first, first + count)]


# -- all of it, once ---------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("exporter", [["file", HTTP], [HTTP, "file"], HTTP])
def test_what_arrived_is_what_was_recorded(exporter: Any, protocol: str, scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, exporter, rest=f'protocol = "{protocol}"')
        scene.consent()
        scene.configure()
        for first in range(0, 2_000, 500):
            scene.record(*numbered(first, 500))
        wait_until(lambda: len(ids_of(server.taken)) >= 2_000)
        telemetry.log("info", "hello")
        telemetry.counter("things").add(1)
        telemetry.shutdown()
        found = ids_of(server.taken)
        assert len(found) == len(set(found)) == 2_000
        paths = {got.path for got in server.taken}
        assert paths == {"/v1/traces", "/v1/logs", "/v1/metrics"}
    if "file" in exporter:
        assert sorted(scene.stored_ids()) == sorted(found)
    assert not scene.queues()


@pytest.mark.parametrize("exporter", [["file", GRPC], GRPC])
def test_the_same_by_grpc(exporter: Any, scene: Scene) -> None:
    with grpc_serving() as server:
        scene.write(server.url, exporter)
        scene.consent(GRPC)
        scene.configure()
        scene.record(*numbered(0, 1_500))
        telemetry.shutdown()
        assert len(server.ids) == len(set(server.ids)) == 1_500


def test_it_goes_while_the_program_runs_and_few_requests_take_it(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 2:
            with telemetry.span(f"step {number}"):
                number += 1
            time.sleep(0.001)
        spent_s = time.monotonic() - began
        assert len(ids_of(server.taken)) > number / 2
        wait_until(lambda: len(ids_of(server.taken)) == number)
        assert len(server.got) <= spent_s / stream.PACE_S + 3


def test_each_request_is_noted_and_the_ledger_knows_it(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 700))
        telemetry.shutdown()
        assert len(scene.entries("sending")) == len(server.got)
        assert sum(entry.records for entry in scene.entries("sending")) == 700
        assert [entry.verdict for entry in scene.entries("answer")] == ["delivered"] * len(
            server.got
        )
        checked = verify(str(scene.folder), str(scene.path.parent))
        assert (checked.problems, checked.unanswered) == ((), 0)
        (bundle,) = list_bundles(str(scene.folder)).bundles
        known = read_ledger(str(scene.folder)).sent(scene.origin(), "raw", key_of(bundle))
        assert [(one.start.offset, one.end.offset) for one in known] == [(0, bundle.bytes)]


def test_bundles_that_were_rotated_and_sealed_meanwhile_go_too(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure(bundle_bytes_max=65_536)
        for first in range(0, 5_000, 1_000):
            scene.record(*numbered(first, 1_000))
        telemetry.shutdown()
        assert len({bundle.stem for bundle in list_bundles(str(scene.folder)).bundles}) > 3
        found = ids_of(server.taken)
        assert sorted(found) == sorted(scene.stored_ids())
        assert len(found) == 5_000


# -- bad days ----------------------------------------------------------------------------


@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
def test_a_server_that_is_down_for_a_while_gets_all_later(exporter: Any, scene: Scene) -> None:
    bad = [503, 429, 0, 502, 504]

    def judge(_got: Got) -> Answer:
        return Answer(bad.pop(0)) if bad else OK

    with serving(judge) as server:
        scene.write(server.url, exporter)
        scene.consent()
        scene.configure()
        for first in range(0, 1_000, 200):
            scene.record(*numbered(first, 200))
            time.sleep(0.1)
        wait_until(lambda: len(ids_of(server.taken)) >= 1_000)
        telemetry.shutdown()
        found = ids_of(server.taken)
        assert len(found) == len(set(found)) == 1_000
        assert not bad


def test_what_a_program_could_not_send_the_next_one_does(scene: Scene) -> None:
    scene.write(f"http://127.0.0.1:{free_port()}", ["file", HTTP], rest="close_s_max = 0.2")
    with serving() as server:
        # Nobody listened at first; the address stays the same.
        server.judge = lambda _got: Answer(503)
        scene.write(server.url, ["file", HTTP], rest="close_s_max = 0.2")
        scene.consent()
        for first in (0, 100):
            scene.configure()
            scene.record(*numbered(first, 100))
            telemetry.shutdown()
        assert len(scene.queues()) == 2
        server.judge = lambda _got: OK
        scene.configure()
        scene.record(*numbered(200, 100))
        wait_until(lambda: len(ids_of(server.taken)) >= 300)
        telemetry.shutdown()
        assert sorted(ids_of(server.taken)) == sorted(scene.stored_ids())
        assert not scene.queues()


def test_what_is_recorded_now_does_not_wait_for_what_was_left(scene: Scene) -> None:
    with serving(lambda _got: Answer(503)) as server:
        rest = "close_s_max = 0.1\n[upload]\nrequest_bytes_max = 16_384"
        scene.write(server.url, ["file", HTTP], rest=rest)
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 8_000))
        telemetry.shutdown()

        def judge(_got: Got) -> Answer:
            time.sleep(0.03)
            return OK

        server.judge = judge
        scene.configure()
        scene.record("first")
        wait_until(lambda: len(server.taken) > 5)
        scene.record("now")
        wait_until(lambda: len(ids_of(server.taken)) == 8_002)
        telemetry.shutdown()
        (at,) = [at for at, got in enumerate(server.taken) if "now" in names_of([got])]
        assert at < len(server.taken) - 20


def test_an_outbox_waits_for_the_next_program_and_is_empty_at_its_end(scene: Scene) -> None:
    with serving(lambda _got: Answer(503)) as server:
        scene.write(server.url, HTTP, rest="close_s_max = 0.2")
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 100))
        telemetry.shutdown()
        outbox = scene.folder / OUTBOX[HTTP]
        waiting = scene.stored_ids(outbox)
        assert len(waiting) == 100
        assert outbox.stat().st_mode & 0o777 == 0o700
        assert not list_bundles(str(scene.folder)).bundles
        server.judge = lambda _got: OK
        scene.configure()
        scene.record(*numbered(100, 100))
        wait_until(lambda: len(ids_of(server.taken)) >= 200)
        telemetry.shutdown()
        found = ids_of(server.taken)
        assert len(found) == len(set(found)) == 200
        assert set(waiting) <= set(found)
        assert not list_bundles(str(outbox)).bundles
        assert not scene.queues(outbox)


def test_a_bundle_of_a_living_stream_is_not_taken_over(scene: Scene) -> None:
    outbox = scene.folder / OUTBOX[HTTP]
    writer = BundleWriter(str(outbox))
    append(writer, spans_line(1))
    stem = writer.stem_of("traces")
    writer.close()  # Rotated, that is: nobody writes it any more, and it is still to be sent.
    theirs = queue.Queue(str(outbox), queue.ANYBODY)
    theirs.add(f"{stem}.traces")
    with serving() as server:
        scene.write(server.url, HTTP)
        scene.consent()
        scene.configure()
        scene.record("mine")
        wait_until(lambda: server.taken)
        time.sleep(3 * stream.SWEEP_S)
        assert names_of(server.taken) == ["mine"]
        # It ends, or is killed: then there is somebody to send it.
        theirs.close(is_done=False)
        wait_until(lambda: sorted(names_of(server.taken)) == ["mine", "step 1"])
        wait_until(lambda: not any(stem in path.name for path in outbox.iterdir()))
        telemetry.shutdown()


def test_an_outbox_has_a_bound_and_what_goes_is_counted(scene: Scene) -> None:
    with serving(lambda _got: Answer(503)) as server:
        scene.write(server.url, HTTP, rest="close_s_max = 0.2\nqueue_bytes_max = 1_048_576")
        scene.consent()
        scene.configure()
        for first in range(0, 12_000, 1_000):
            # So that it cannot be packed to nothing.
            for number in range(first, first + 1_000):
                with telemetry.span(f"step {number}", text=f"{hash((number, 'x')):x}" * 8):
                    pass
            telemetry.flush()
        outbox = str(scene.folder / OUTBOX[HTTP])

        def room() -> int:
            return sum(one.bytes + one.sketch_bytes for one in list_bundles(outbox).bundles)

        wait_until(lambda: recorder.dropped.get(("traces", "queue_full")))
        wait_until(lambda: room() <= 2**20)
        telemetry.shutdown()
        lost = recorder.dropped["traces", "queue_full"]
        waiting = len(scene.stored_ids(Path(outbox)))
        assert lost + waiting == 12_000
        assert waiting > 100


def test_too_large_goes_in_halves_and_each_record_once(scene: Scene) -> None:
    def judge(got: Got) -> Answer:
        return Answer(413) if len(ids_of([got])) > 60 else OK

    with serving(judge) as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 700))
        telemetry.shutdown()
        assert sorted(ids_of(server.taken)) == sorted(scene.stored_ids())


def test_one_record_that_is_too_large_is_passed_over_and_counted(scene: Scene) -> None:
    def judge(got: Got) -> Answer:
        return Answer(413) if "step 3" in names_of([got]) else OK

    with serving(judge) as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 8))
        telemetry.shutdown()
        assert sorted(names_of(server.taken)) == [
            name for name in numbered(0, 8) if name[-1] != "3"
        ]
        assert recorder.dropped == {("traces", "otlp_http_refused"): 1}
        assert [e.verdict for e in scene.entries("answer")].count("passed_over") == 1
    assert not scene.queues()


def test_a_refused_request_is_noted_counted_and_not_tried_for_ever(scene: Scene) -> None:
    with serving(lambda _got: Answer(400)) as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 10))
        wait_until(lambda: server.got)
        server.judge = lambda _got: OK
        scene.record(*numbered(10, 10))
        telemetry.shutdown()
        assert sorted(names_of(server.taken)) == numbered(10, 10)
        assert recorder.dropped == {("traces", "otlp_http_refused"): 10}
        # The last one is the metric that tells of the loss.
        verdicts = [entry.verdict for entry in scene.entries("answer")]
        assert verdicts == ["refused", "delivered", "delivered"]


def test_a_destination_that_refuses_everything_is_left_alone_and_nothing_is_lost(
    scene: Scene,
) -> None:
    with serving(lambda _got: Answer(401)) as server:
        scene.write(server.url, ["file", HTTP], rest="close_s_max = 0.2")
        scene.consent()
        scene.configure()
        for first in range(0, 50, 10):
            scene.record(*numbered(first, 10))
            time.sleep(0.1)
        telemetry.shutdown()
        assert len(server.got) == 1
        assert not recorder.dropped
        server.judge = lambda _got: OK
        scene.configure()
        scene.record("last")
        wait_until(lambda: len(ids_of(server.taken)) >= 51)
        assert sorted(ids_of(server.taken)) == sorted(scene.stored_ids())


def test_a_portal_is_not_the_collector(scene: Scene) -> None:
    portal = Answer(200, (("content-type", "text/html"),), b"<html>pay for the net</html>")
    with serving(lambda _got: portal) as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 10))
        wait_until(lambda: server.got)
        server.judge = lambda _got: OK
        before = len(server.got)
        wait_until(lambda: len(server.got) > before)
        telemetry.shutdown()
        assert sorted(ids_of(server.got[before:])) == sorted(scene.stored_ids())


def test_a_server_that_stalls_holds_up_neither_the_program_nor_its_end(scene: Scene) -> None:
    stalled = threading.Event()

    def judge(_got: Got) -> Answer:
        stalled.wait(30)
        return OK

    with serving(judge) as server:
        scene.write(server.url, ["file", HTTP], rest="close_s_max = 0.5")
        scene.consent()
        scene.configure()
        began = time.monotonic()
        scene.record(*numbered(0, 2_000))
        wait_until(lambda: len(scene.entries("sending")) == 1)
        scene.record(*numbered(2_000, 2_000))
        assert len(scene.stored_ids()) == 4_000
        telemetry.shutdown()
        # Far from what the request may take, ten seconds, and from what it does.
        assert time.monotonic() - began < 8
        stalled.set()
        wait_until(lambda: len(scene.queues()) == 1)


# -- what may leave ------------------------------------------------------------------------


def test_without_consent_nothing_is_sent_and_all_stays(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.configure()
        scene.record(*numbered(0, 10))
        time.sleep(0.3)
        telemetry.shutdown()
        assert not server.got
        assert len(scene.stored_ids()) == 10
        assert not scene.entries("sending")
    assert not scene.queues()


def test_consent_holds_for_what_is_written_from_then_on(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.configure()
        scene.record(*numbered(0, 10))
        time.sleep(2 * stream.LOOK_S)
        scene.consent()
        time.sleep(2 * stream.LOOK_S)
        scene.record(*numbered(10, 10))
        telemetry.shutdown()
        assert sorted(names_of(server.taken)) == numbered(10, 10)
        # Nor do other programs send what was written before.
        scene.configure()
        scene.record("last")
        telemetry.shutdown()
        assert sorted(names_of(server.taken)) == ["last", *numbered(10, 10)]


def test_a_consent_that_is_withdrawn_ends_it_within_a_second(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 10))
        wait_until(lambda: len(ids_of(server.taken)) == 10)
        scene.withdraw()
        for first in range(10, 110, 10):
            scene.record(*numbered(first, 10))
            time.sleep(0.1)
        telemetry.shutdown()
        assert sorted(names_of(server.taken)) == numbered(0, 10)
        assert not scene.queues()
        # Given anew, it does not reach back.
        scene.consent()
        scene.configure()
        scene.record("last")
        telemetry.shutdown()
        assert sorted(names_of(server.taken)) == ["last", *numbered(0, 10)]


def test_a_consent_withdrawn_and_given_again_at_once_was_withdrawn(scene: Scene) -> None:
    """Between two looks: what waited meanwhile must not go under the new one."""
    scene.write("http://127.0.0.1:9", ["file", HTTP])
    scene.consent()
    gate = stream.Gate(scene.config, scene.origin())
    assert gate.is_open()
    scene.withdraw()
    scene.consent()
    assert not gate.is_open()
    assert not gate.is_open(), "until whoever sends has given up what waited"
    gate.enter()
    assert gate.is_open()


def test_after_a_withdrawal_nothing_knocks_any_more(scene: Scene) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        # Bound and not listened to: whoever connects is refused, and gRPC tries again by itself.
        scene.write(f"http://127.0.0.1:{held.getsockname()[1]}", ["file", GRPC])
        scene.consent(GRPC)
        scene.configure()
        scene.record("step")
        wait_until(lambda: scene.entries("answer"))
        scene.withdraw()
        time.sleep(2 * stream.LOOK_S)
        held.listen()
        held.settimeout(stream.LOOK_S + grpc_sender._RECONNECT_MS_MAX * 1.5 / 1000)
        with pytest.raises(TimeoutError):
            held.accept()


def test_after_a_withdrawal_no_connection_stays(scene: Scene) -> None:
    with send_servers.serving(send_servers.answering(send_servers.response())) as server:
        scene.write(f"http://127.0.0.1:{server.port}", ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record("step")
        wait_until(lambda: server.requests)
        assert not server.closed
        scene.withdraw()
        wait_until(lambda: server.closed)


@pytest.mark.skipif(os.name == "nt", reason="it has other modes")
def test_a_consent_that_others_can_write_suddenly_is_none_from_then_on(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        gate = stream.Gate(scene.config, scene.origin())
        assert gate.is_open()
        path = scene.path.parent / "consent.json"
        path.chmod(0o666)
        assert not gate.is_open()
        path.chmod(0o600)
        assert gate.is_open()
        path.rename(scene.home / "elsewhere")
        path.symlink_to(scene.home / "elsewhere")
        assert not gate.is_open()


def test_do_not_track_that_a_program_sets_itself_holds_from_then_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record("before")
        wait_until(lambda: len(ids_of(server.taken)) == 1)
        monkeypatch.setenv("DO_NOT_TRACK", "1")
        scene.record("after")
        telemetry.shutdown()
        assert names_of(server.taken) == ["before"]
        gate = stream.Gate(scene.config, scene.origin())
        assert not gate.is_open()
        monkeypatch.setenv("DO_NOT_TRACK", "Off")
        assert gate.is_open()


def test_a_consent_is_asked_for_before_each_request(scene: Scene) -> None:
    def judge(got: Got) -> Answer:
        scene.withdraw()
        return OK if ids_of([got]) else Answer(400)

    with serving(judge) as server:
        scene.write(server.url, ["file", HTTP], rest="[upload]\nrequest_bytes_max = 16_384")
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 3_000))
        telemetry.shutdown()
        # What is in flight is not called back.
        assert len(server.got) == 1
        assert 0 < len(ids_of(server.got)) < 1_000


def test_what_waited_under_a_consent_that_was_withdrawn_is_not_sent_later(scene: Scene) -> None:
    with serving(lambda _got: Answer(503)) as server:
        scene.write(server.url, ["file", HTTP], rest="close_s_max = 0.1")
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 10))
        telemetry.shutdown()
        assert len(scene.queues()) == 1
        scene.withdraw()
        scene.consent()
        server.judge = lambda _got: OK
        scene.configure()
        scene.record("last")
        wait_until(lambda: server.taken)
        wait_until(lambda: len(scene.queues()) == 1)
        telemetry.shutdown()
        assert names_of(server.taken) == ["last"]
        assert not scene.queues()


@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
@pytest.mark.parametrize("switch", ["DO_NOT_TRACK", "upload_enabled"])
def test_a_switch_forbids_it_whatever_the_consent(
    switch: str, exporter: Any, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        scene.write(server.url, exporter)
        scene.consent()
        if switch == "DO_NOT_TRACK":
            monkeypatch.setenv("DO_NOT_TRACK", "1")
        else:
            scene.write(server.url, exporter, enabled=False)
        scene.configure()
        scene.record(*numbered(0, 10))
        telemetry.shutdown()
        monkeypatch.delenv("DO_NOT_TRACK", raising=False)
        scene.write(server.url, exporter)
        dropped = dict(recorder.dropped)
        scene.configure()
        scene.record("last")
        telemetry.shutdown()
        # What was recorded under the switch does not leave afterwards either.
        assert names_of(server.taken) == ["last"]
    if "file" in exporter:
        assert (len(scene.stored_ids()), dropped) == (11, {})
    else:
        assert dropped["traces", "not_permitted"] == 10


def test_a_switch_that_is_turned_while_the_program_runs_holds_within_a_second(
    scene: Scene,
) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record(*numbered(0, 10))
        wait_until(lambda: len(ids_of(server.taken)) == 10)
        scene.write(server.url, ["file", HTTP], enabled=False)
        # From this moment on: what the writer has not read yet, the gate sees.
        scene.record(*numbered(10, 10))
        time.sleep(1.2)
        scene.record(*numbered(20, 10))
        telemetry.shutdown()
        assert sorted(names_of(server.taken)) == numbered(0, 10)


def test_what_programs_record_that_do_not_stream_is_not_streamed_by_others(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, "file")
        scene.consent()
        scene.configure()
        scene.record("mine")
        telemetry.shutdown()
        scene.write(server.url, ["file", HTTP])
        scene.configure()
        scene.record("ours")
        time.sleep(0.5)
        telemetry.shutdown()
        assert names_of(server.taken) == ["ours"]


def test_an_outbox_waits_for_the_consent(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, HTTP)
        scene.configure()
        scene.record(*numbered(0, 10))
        time.sleep(0.3)
        assert not server.got
        scene.consent()
        wait_until(lambda: len(ids_of(server.taken)) == 10)
        telemetry.shutdown()
    assert not recorder.dropped


# -- the rest ----------------------------------------------------------------------------


def test_hashes_leave_hashed_once_more(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP], rest='compression = "none"')
        scene.consent()
        scene.configure()
        with telemetry.generation(project_id="project-7"):
            pass
        telemetry.shutdown()
        (bundle,) = [b for b in list_bundles(str(scene.folder)).bundles if b.signal == "traces"]
        stored = Path(bundle.path).read_bytes()
        at = stored.index(b"hmac:")
        mark = stored[at : at + 37]
        (sent,) = [got.raw for got in server.taken if got.path == "/v1/traces"]
        assert b"upload:" in sent
        assert mark not in sent


@pytest.mark.parametrize("exporter", [["file", HTTP], HTTP])
def test_an_encrypted_store_is_streamed_and_its_outbox_is_encrypted(
    exporter: Any, scene: Scene
) -> None:
    need_cipher()
    with serving(lambda _got: Answer(503)) as server:
        rest = (
            "close_s_max = 0.2\n[store]\n"
            f'encryption = "sqlcipher"\nkey_file = "{scene.home / "key-file"}"\n'
        )
        scene.write(server.url, exporter, rest=rest)
        scene.consent()
        scene.configure()
        planted = "kestrel" * 3
        scene.record(planted, *numbered(0, 10))
        telemetry.shutdown()
        folder = scene.folder if "file" in exporter else scene.folder / OUTBOX[HTTP]
        assert list(folder.glob("*.sqlcipher"))
        for path in scene.folder.rglob("*"):
            assert not path.is_file() or planted.encode() not in path.read_bytes()
        server.judge = lambda _got: OK
        scene.configure()
        scene.record(*numbered(10, 10))
        wait_until(lambda: len(ids_of(server.taken)) >= 21)
        telemetry.shutdown()
        found = ids_of(server.taken)
        assert len(found) == len(set(found)) == 21
        assert planted in names_of(server.taken)


def test_an_exporter_that_cannot_send_holds_up_no_other_and_keeps_its_queue(scene: Scene) -> None:
    with serving() as server:
        # Both go to one address, where only one of them is understood.
        scene.write(server.url, ["file", HTTP, GRPC], rest="close_s_max = 0.5")
        scene.consent()
        for first in (0, 10):
            scene.configure()
            scene.record(*numbered(first, 10))
            wait_until(lambda: len({e.purpose for e in scene.entries("sending")}) == 2)
            telemetry.shutdown()
        assert len(ids_of(server.taken)) == 20
        wait_until(lambda: len(scene.queues()) == 2)


def test_a_queue_that_was_torn_says_what_is_whole(tmp_path: Path) -> None:
    folder = str(tmp_path / "t")
    made = queue.Queue(folder, queue.origin_bytes("otlp_http https://a:1"), "2026-11-27T00:00:00Z")
    stem = names.make_stem(1, 1, b"abcd")
    made.add(f"{stem}.traces", 17)
    made.add(f"{stem}.logs")
    path = tmp_path / "t" / made.name
    assert queue.Queues(folder, queue.origin_bytes("otlp_http https://a:1"), made.name).left == []
    held = queue.Queues(folder, queue.origin_bytes("otlp_http https://a:1"))
    assert (held.left, held.claimed) == ([], {f"{stem}.traces", f"{stem}.logs"})
    made.close(is_done=False)
    path.write_bytes(path.read_bytes() + f"{stem}.metr".encode() + b"\nrubbish x\n" + stem.encode())
    assert queue.Queues(folder, queue.origin_bytes("otlp_http https://b:1")).left == []
    found = queue.Queues(folder, queue.origin_bytes("otlp_http https://a:1"))
    (left,) = found.left
    assert left.consent == "2026-11-27T00:00:00Z"
    assert left.starts == {f"{stem}.traces": 17, f"{stem}.logs": 0}
    # Who has it keeps others from it.
    assert queue.Queues(folder, queue.origin_bytes("otlp_http https://a:1")).left == []
    found.close()
    assert path.exists()


def test_a_queue_is_ours_for_all_who_look_into_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    made = queue.Queue(str(folder), queue.origin_bytes("otlp_http https://a:1"))
    (folder / OUTBOX[HTTP]).mkdir(mode=0o700)
    (folder / "stream-0-0.queue").touch()
    assert list_bundles(str(folder)).foreign == ["stream-0-0.queue"]
    assert (folder / made.name).stat().st_mode & 0o777 == 0o600
    made.close(is_done=True)
    assert not (folder / made.name).exists()


def test_all_entries_say_that_it_was_a_stream(scene: Scene) -> None:
    with serving() as server:
        scene.write(server.url, ["file", HTTP])
        scene.consent()
        scene.configure()
        scene.record("s")
        telemetry.shutdown()
        assert server.got
    (sent,) = [e for _, e in read_entries(str(scene.folder)) if e.entry == "sending"]
    assert (sent.purpose, sent.plan, sent.mode, sent.path) == (HTTP, "", "raw", "/v1/traces")
