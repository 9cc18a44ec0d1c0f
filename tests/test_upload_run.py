"""Uploads meet real servers: nothing is lost, nothing leaves unnoted, and it is told."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections import Counter
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli_running import (
    gauge,
    log,
    logs_line,
    metrics_line,
    span,
    spans_line,
    write,
    write_sealed,
)
from encrypted_store import keys_in, need_cipher, writer_of
from stack_composer.telemetry.config import Config, load_config
from stack_composer.telemetry.errors import SendError, StoreError
from stack_composer.telemetry.model import SIGNALS
from stack_composer.telemetry.send.destination import Destination, destination_of
from stack_composer.telemetry.send.sender import open_sender
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.upload import consent
from stack_composer.telemetry.upload.audit import Audit, Selected, audit_of, read_entries
from stack_composer.telemetry.upload.ledger import read_ledger
from stack_composer.telemetry.upload.plan import Plan, Terms, facts_of, plan_upload
from stack_composer.telemetry.upload.run import Result, Upload, only_upload, path_of, sent_to
from store_lines import START_NS, append
from upload_server import OK, Answer, Got, free_port, record_count, serving, span_ids

PROTOBUF = ("content-type", "application/x-protobuf")


class Scene(NamedTuple):
    """A folder and its configuration."""

    home: Path
    folder: Path

    def config(self, url: str, *, rest: str = "") -> Config:
        path = self.home / "telemetry.toml"
        path.write_text(
            f'[telemetry]\nupload_enabled = true\ndirectory = "{self.folder}"\n'
            f'[upload]\nendpoint = "{url}"\n{rest}'
        )
        return load_config({})


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(tmp_path / "telemetry.toml"))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    return Scene(tmp_path, tmp_path / "telemetry")


def plan_of(config: Config, destination: Destination, mode: str = "raw") -> Plan:
    terms = Terms(
        destination.origin,
        destination.protocol,
        mode,
        destination.compression,
        config.upload_request_bytes_max,
    )
    return plan_upload(
        facts_of(list_bundles(config.directory).bundles, Selected()),
        wanted=Selected(),
        signals=None,
        sent=sent_to(read_ledger(config.directory), destination, mode),
        terms=terms,
    )


def upload(config: Config, *, mode: str = "raw", audit: Audit | None = None) -> Result:
    destination = destination_of(config, "upload", {})
    if consent.read_consents(config).lookup(destination.origin) is None:
        consent.give(config, destination.origin, by="prompt")
    sender = open_sender(destination, {})
    try:
        plan = plan_of(config, destination, mode)
        return Upload(config, destination, plan, sender, audit or audit_of(config)).run()
    finally:
        sender.close()


def fill(folder: Path, *, lines: int = 6, spans: int = 10) -> list[str]:
    """Fill a folder with lines of spans, one bundle; return the ids."""
    numbers = [range(at * spans + 1, (at + 1) * spans + 1) for at in range(lines)]
    write(
        folder,
        *(
            ("traces", spans_line(*(span("x", start_ns=START_NS, number=n) for n in some)))
            for some in numbers
        ),
    )
    return [f"{n:016x}" for some in numbers for n in some]


def ids_of(got: list[Got]) -> list[str]:
    return [found for one in got for found in span_ids(one)]


def answers_of(folder: Path) -> list[str]:
    return [e.verdict for _, e in read_entries(str(folder)) if e.entry == "answer"]


# -- all of it, once ---------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_what_arrived_is_what_was_stored(protocol: str, compression: str, scene: Scene) -> None:
    stored = fill(scene.folder)
    write_sealed(scene.folder, ("logs", logs_line(log("x", time_ns=START_NS))))
    write(scene.folder, ("metrics", metrics_line(gauge("g", 1.0, time_ns=START_NS, a="b"))))
    rest = f'protocol = "{protocol}"\ncompression = "{compression}"\n'
    with serving() as server:
        result = upload(scene.config(server.url, rest=rest))
        assert upload(scene.config(server.url, rest=rest)).requests == 0
    assert result.is_whole
    assert (result.records, result.requests) == (62, 3)
    by_path = Counter(got.path for got in server.got)
    assert by_path == {f"/v1/{signal}": 1 for signal in SIGNALS}
    assert ids_of([got for got in server.got if got.path == "/v1/traces"]) == stored
    if protocol == "http/protobuf":
        assert [record_count(got) for got in server.got].count(1) == 2
    assert result.bytes == sum(len(got.raw) for got in server.got)


def test_each_request_is_noted_before_and_after(scene: Scene) -> None:
    fill(scene.folder, lines=6, spans=100)
    noted: list[int] = []

    def judge(_got: Got) -> Answer:
        entries = [entry.entry for _, entry in read_entries(str(scene.folder))]
        noted.append(entries.count("sending") - entries.count("answer"))
        return OK

    with serving(judge) as server:
        result = upload(scene.config(server.url, rest="request_bytes_max = 16384\n"))
    assert noted == [1] * result.requests
    assert result.requests >= 2
    sent = [entry for _, entry in read_entries(str(scene.folder)) if entry.entry == "sending"]
    assert [entry.bytes for entry in sent] == [len(got.raw) for got in server.got]
    assert {entry.path for entry in sent} == {"/v1/traces"}
    assert sum(entry.records for entry in sent) == 600


def test_e16_each_destination_has_a_ledger_of_its_own(scene: Scene) -> None:
    stored = fill(scene.folder)
    with serving() as one, serving() as other:
        assert upload(scene.config(one.url)).records == 60
        assert upload(scene.config(other.url)).records == 60
        assert upload(scene.config(f"{other.url}/tenant")).records == 60
        assert upload(scene.config(one.url)).records == 0
        assert upload(scene.config(other.url)).records == 0
    assert ids_of(one.got) == stored
    assert ids_of(other.got) == [*stored, *stored]


def test_put_brings_whole_bundles_as_files(scene: Scene) -> None:
    stored = fill(scene.folder)
    (bundle,) = list_bundles(str(scene.folder)).bundles
    with serving() as server:
        url = f"{server.url}/bucket/{{name}}?signature=abc"
        result = upload(scene.config(url, rest='protocol = "put"\ncompression = "zstd"\n'))
    (got,) = server.got
    name = Path(bundle.path).name
    assert (got.method, got.path) == ("PUT", f"/bucket/{name}.zst?signature=abc")
    assert got.body == Path(bundle.path).read_bytes()
    assert ids_of(server.got) == stored
    assert result.records == 60
    assert b"signature" not in (scene.folder / "audit.jsonl").read_bytes()


def test_each_bucket_of_a_host_has_a_ledger_of_its_own(scene: Scene) -> None:
    fill(scene.folder)
    put = 'protocol = "put"\n'
    with serving() as server:
        # What went as OTLP is no object yet, nor the other way round.
        assert upload(scene.config(server.url)).records == 60
        for path in ("one/{name}", "two/{name}", "one/in/{name}", "{name}", "one/{name}/x", "x"):
            where = f"{server.url}/{path}?signature=a"
            assert upload(scene.config(where, rest=put)).records == 60, path
            assert upload(scene.config(where.replace("=a", "=b"), rest=put)).records == 0, path
        assert upload(scene.config(server.url)).records == 0


# -- servers that say no -------------------------------------------------------------------


def test_e2_a_server_that_is_busy_is_asked_again(scene: Scene) -> None:
    stored = fill(scene.folder)
    busy = iter([Answer(503, (("retry-after", "0"),)), Answer(429), Answer(0), OK])
    with serving(lambda _got: next(busy)) as server:
        result = upload(scene.config(server.url))
    assert (result.is_whole, result.attempts, result.requests) == (True, 3, 1)
    assert ids_of(server.taken) == stored
    assert answers_of(scene.folder) == ["retry", "retry", "retry", "delivered"]


def test_e3_retry_after_is_waited_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(scene.folder)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    now_ns = [0]

    def monotonic_ns() -> int:
        now_ns[0] += 10**8
        return now_ns[0]

    monkeypatch.setattr("stack_composer.telemetry.effects.monotonic_ns", monotonic_ns)
    answers = iter([Answer(503, (("retry-after", "4"),)), OK])
    with serving(lambda _got: next(answers)) as server:
        assert upload(scene.config(server.url)).is_whole
    # Each look at the clock is a tenth of a second, and each wait has one.
    assert 39 <= len(slept) <= 45


def test_e14_it_gives_up_at_a_dead_port_and_loses_nothing(scene: Scene) -> None:
    stored = fill(scene.folder)
    url = f"http://127.0.0.1:{free_port()}"
    result = upload(scene.config(url, rest="give_up_s = 0\n"))
    assert result.left is not None
    assert result.left.reason.startswith(f"gave up on {url} after 0 s: no connection")
    assert "upload again" in result.left.hint
    assert (result.requests, result.is_whole) == (0, False)
    with serving() as server:
        assert upload(scene.config(server.url)).is_whole
    assert ids_of(server.got) == stored


def test_a_wait_longer_than_it_would_last_ends_at_once(scene: Scene) -> None:
    fill(scene.folder)
    with serving(lambda _got: Answer(503, (("retry-after", "3000"),))) as server:
        result = upload(scene.config(server.url))
    assert len(server.got) == 1
    assert result.left is not None
    assert result.left.reason.endswith("it asks to wait 3000 s")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(301, (("location", "https://elsewhere.example/x"),)), "301"),
        (Answer(401), "401"),
        (Answer(404), "404"),
    ],
)
def test_e5_a_destination_that_refuses_ends_it(answer: Answer, said: str, scene: Scene) -> None:
    fill(scene.folder, lines=6, spans=100)
    with serving(lambda _got: answer) as server:
        result = upload(scene.config(server.url, rest="request_bytes_max = 16384\n"))
    assert len(server.got) == 1
    assert result.left is not None
    assert f"refuses: {said}" in result.left.reason
    assert not result.is_whole
    with serving() as server:
        assert upload(scene.config(server.url)).records == 600


def test_e5_a_portal_is_no_delivery(scene: Scene) -> None:
    stored = fill(scene.folder)
    page = Answer(200, (("content-type", "text/html"),), b"<html>log in</html>")
    with serving(lambda _got: page) as server:
        result = upload(scene.config(server.url, rest="give_up_s = 0\n"))
        assert result.requests == 0
        server.got.clear()
        server.judge = lambda _got: OK
        assert upload(scene.config(server.url)).is_whole
    assert ids_of(server.got) == stored


def test_one_refused_request_does_not_stop_the_others(scene: Scene) -> None:
    stored = fill(scene.folder, lines=6, spans=100)
    poison = stored[250]

    def judge(got: Got) -> Answer:
        body = b"\x12\x03bad"
        return Answer(400, (PROTOBUF,), body) if poison in span_ids(got) else OK

    with serving(judge) as server:
        config = scene.config(server.url, rest="request_bytes_max = 16384\n")
        result = upload(config)
        assert not result.is_whole
        assert result.left is None
        assert 0 < result.refused < 600
        assert result.words[0][:2] == ("400", "bad")
        server.judge = lambda _got: OK
        again = upload(config)
    assert again.records == result.refused
    assert Counter(ids_of(server.taken)) == Counter(stored)


def test_a_server_that_refuses_one_after_the_other_is_left(scene: Scene) -> None:
    fill(scene.folder, lines=30, spans=100)
    with serving(lambda _got: Answer(400)) as server:
        result = upload(scene.config(server.url, rest="request_bytes_max = 16384\n"))
    assert len(server.got) == 3
    assert result.left is not None


def test_e7_what_is_too_large_is_halved_down_to_the_limit(scene: Scene) -> None:
    stored = fill(scene.folder, lines=6, spans=100)

    def judge(got: Got) -> Answer:
        return Answer(413) if len(got.body) > 3_000 else OK

    with serving(judge) as server:
        result = upload(scene.config(server.url))
        assert result.is_whole
        assert Counter(ids_of(server.taken)) == Counter(stored)
        assert upload(scene.config(server.url)).requests == 0


def test_after_one_that_was_too_large_requests_are_smaller(scene: Scene) -> None:
    """Otherwise each of them would be sent twice, and more."""
    fill(scene.folder, lines=40, spans=100)

    def judge(got: Got) -> Answer:
        return Answer(413) if len(got.body) > 40_000 else OK

    with serving(judge) as server:
        rest = 'compression = "none"\nrequest_bytes_max = 70000\n'
        result = upload(scene.config(server.url, rest=rest))
    assert result.is_whole
    assert result.requests > 4
    assert [len(got.raw) > 40_000 for got in server.got].count(True) == 1


def test_a_record_that_no_server_takes_is_passed_over_for_good(scene: Scene) -> None:
    spans = [span("x", start_ns=START_NS, number=n + 1) for n in range(8)]
    spans[3]["attributes"] = [{"key": "k", "value": {"stringValue": "long " * 2_000}}]
    write(scene.folder, ("traces", spans_line(*spans)))

    def judge(got: Got) -> Answer:
        return Answer(413) if len(got.body) > 5_000 else OK

    with serving(judge) as server:
        config = scene.config(server.url, rest='compression = "none"\n')
        result = upload(config)
        assert (result.passed_over, result.records) == (1, 7)
        assert result.words[0].status == "413"
        count = len(server.got)
        assert upload(config).requests == 0
        assert len(server.got) == count
    assert len(set(ids_of(server.taken))) == 7
    assert answers_of(scene.folder).count("passed_over") == 1


def test_e4_a_partial_success_is_told_and_not_repeated(scene: Scene) -> None:
    fill(scene.folder)
    words = b"too old"
    partial = b"\x08\x07\x12" + bytes([len(words)]) + words
    answer = Answer(200, (PROTOBUF,), b"\x0a" + bytes([len(partial)]) + partial)
    with serving(lambda _got: answer) as server:
        result = upload(scene.config(server.url))
        assert (result.rejected, result.words[0].message) == (7, "too old")
        assert result.is_whole
        assert upload(scene.config(server.url)).requests == 0


def test_refusals_among_deliveries_do_not_end_it(scene: Scene) -> None:
    fill(scene.folder, lines=40, spans=100)
    answers = itertools.cycle([Answer(400), Answer(400), OK])
    with serving(lambda _got: next(answers)) as server:
        result = upload(scene.config(server.url, rest="request_bytes_max = 16384\n"))
    assert result.left is None
    assert len(server.got) > 6
    assert result.requests == len(server.taken) > 2


# -- bad days --------------------------------------------------------------------------------


def test_a_consent_that_is_withdrawn_holds_from_the_next_request_on(scene: Scene) -> None:
    fill(scene.folder, lines=6, spans=100)
    config: list[Config] = []

    def judge(_got: Got) -> Answer:
        consent.withdraw(config[0])
        return OK

    with serving(judge) as server:
        config.append(scene.config(server.url, rest="request_bytes_max = 16384\n"))
        result = upload(config[0])
    assert (len(server.got), result.requests) == (1, 1)
    assert result.left is not None
    assert "no consent" in result.left.reason


def test_a_bundle_that_is_purged_meanwhile_is_passed_over(scene: Scene) -> None:
    for at in range(3):
        write(
            scene.folder,
            ("traces", spans_line(span("x", start_ns=START_NS, number=at + 1))),
            created_ns=START_NS + at,
        )
    (_, second, _) = sorted(scene.folder.glob("*.jsonl"))

    def judge(_got: Got) -> Answer:
        second.unlink(missing_ok=True)
        return OK

    with serving(judge) as server:
        result = upload(scene.config(server.url))
    assert (result.oddities["gone"], result.requests, result.is_whole) == (1, 2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few make links")
def test_a_bundle_that_cannot_be_read_does_not_stop_the_rest(scene: Scene) -> None:
    for at in range(3):
        write(
            scene.folder,
            ("traces", spans_line(span("x", start_ns=START_NS, number=at + 1))),
            created_ns=START_NS + at,
        )
    (_, second, _) = sorted(scene.folder.glob("*.jsonl"))

    def judge(_got: Got) -> Answer:
        if not second.is_symlink():
            second.rename(scene.home / "elsewhere")
            second.symlink_to(scene.home / "elsewhere")
        return OK

    with serving(judge) as server:
        result = upload(scene.config(server.url))
    assert (len(result.unread), result.requests, result.is_whole) == (1, 2, False)
    assert "symbolic link" in str(result.unread[0])


def test_of_two_uploads_at_once_the_second_says_so(scene: Scene) -> None:
    directory = str(scene.folder)
    with only_upload(directory):
        with pytest.raises(StoreError, match="another upload") as caught, only_upload(directory):
            pass
        assert "wait" in caught.value.hint
    with only_upload(directory):
        pass


CANNOT_NOTE = """
import resource, sys
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import StoreError
sys.path.insert(0, sys.argv[1])
import test_upload_run as scene
config = load_config({})
size = scene.Path(config.directory, "audit.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + int(sys.argv[2]),) * 2)
try:
    scene.upload(config)
except StoreError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
def test_what_cannot_be_noted_does_not_leave(scene: Scene) -> None:
    fill(scene.folder, lines=6, spans=100)
    with serving() as server:
        config = scene.config(server.url, rest="request_bytes_max = 16384\n")
        consent.give(config, server.url, by="prompt")
        for room, requests in ((100, 0), (800, 1)):
            server.got.clear()
            done = subprocess.run(
                [sys.executable, "-c", CANNOT_NOTE, str(Path(__file__).parent), str(room)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 3, done.stderr
            assert "audit.jsonl" in done.stdout
            assert len(server.got) == requests
        # Nothing is lost by that, and what was noted and answered does not go again.
        assert upload(config).is_whole
    assert sum(map(record_count, server.got)) == 600


def test_a_clock_that_jumps_changes_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = fill(scene.folder)
    wall_ns = iter(range(10**18, 0, -(10**15)))
    monkeypatch.setattr("stack_composer.telemetry.effects.wall_ns", lambda: next(wall_ns))
    busy = iter([Answer(503), Answer(503), OK])
    with serving(lambda _got: next(busy)) as server:
        assert upload(scene.config(server.url)).is_whole
    assert ids_of(server.taken) == stored


# -- aggregates ------------------------------------------------------------------------------


def test_an_aggregate_is_sent_once_and_beside_raw_records(scene: Scene) -> None:
    stored = fill(scene.folder)
    with serving() as server:
        config = scene.config(server.url)
        assert upload(config, mode="aggregate").is_whole
        assert [got.path for got in server.got] == ["/v1/metrics"]
        assert all(found.encode() not in server.got[0].body for found in stored)
        assert upload(config, mode="aggregate").requests == 0
        upload(config)
    assert ids_of(server.got[1:]) == stored


def test_jaeger_takes_no_aggregate(scene: Scene) -> None:
    fill(scene.folder)
    with serving() as server, pytest.raises(SendError, match="metrics"):
        upload(scene.config(f"{server.url}/api/traces"), mode="aggregate")
    assert server.got == []


def test_the_path_of_a_url() -> None:
    assert path_of("https://a.example:443/v1/traces?token=x") == "/v1/traces"
    assert path_of("https://a.example") == "/"


# -- gRPC, and the encrypted store -----------------------------------------------------------


def test_a_server_of_grpc_gets_all_in_messages_that_it_takes(scene: Scene) -> None:
    grpc = pytest.importorskip("grpc")
    came: list[bytes] = []

    class Service(grpc.GenericRpcHandler):  # type: ignore[misc,name-defined]
        def service(self, call: Any) -> Any:
            def take(body: bytes, _context: Any) -> bytes:
                came.append(body)
                return b""

            assert call.method.endswith("TraceService/Export")
            return grpc.unary_unary_rpc_method_handler(take)

    stored = fill(scene.folder, lines=6, spans=100)
    limit = [("grpc.max_receive_message_length", 5_000)]
    server = grpc.server(futures.ThreadPoolExecutor(2), options=limit)
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        rest = 'protocol = "grpc"\ncompression = "none"\n'
        config = scene.config(f"http://127.0.0.1:{port}", rest=rest)
        result = upload(config)
        assert upload(config).requests == 0
    finally:
        server.stop(None).wait()
    assert result.is_whole, result.left
    assert len(came) == result.requests > 5
    assert max(map(len, came)) <= 5_000
    headers = {"content-type": "application/x-protobuf"}
    got = [Got("POST", "/v1/traces", headers, body, acknowledged=True) for body in came]
    assert ids_of(got) == stored


def test_an_encrypted_store_is_sent_like_any_other(scene: Scene) -> None:
    need_cipher()
    keys = keys_in(scene.home)
    key = scene.home / "keys" / "key-file"
    rest = 'request_bytes_max = 16384\n[store]\nencryption = "sqlcipher"\n'
    rest += f'key_file = "{key}"\n'
    lines = [
        spans_line(*(span("x", start_ns=START_NS, number=100 * at + n + 1) for n in range(100)))
        for at in range(6)
    ]
    writer = writer_of(scene.folder, keys)
    append(writer, lines[0])  # type: ignore[arg-type]
    with serving() as server:
        config = scene.config(server.url, rest=rest)
        first = upload(config)
        for line in lines[1:]:
            append(writer, line)  # type: ignore[arg-type]
            while writer.tick():
                pass
        writer.close()
        rest_of_it = upload(config)
        assert upload(config).requests == 0
    assert (first.records, rest_of_it.records) == (100, 500)
    assert ids_of(server.got) == [f"{n:016x}" for n in range(1, 601)]
