"""``upload``: refused in two lines, asked for once, shown as it leaves, and told how it went."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_running import (
    COMMAND,
    gauge,
    log,
    logs_line,
    metrics_line,
    refusal,
    run,
    span,
    spans_line,
    write,
)
from stack_composer.telemetry.cli import upload as command
from stack_composer.telemetry.upload import preview
from stack_composer.telemetry.upload.run import Result
from store_lines import START_NS
from upload_server import OK, Answer, Got, Server, free_port, serving, span_ids

PROTOBUF = ("content-type", "application/x-protobuf")


class Scene:
    """A folder with three bundles, its configuration, and a server.

    Attributes:
        folder: The telemetry folder.
        server: Where uploads go.
    """

    def __init__(self, home: Path, server: Server) -> None:
        self.folder = home / "telemetry"
        self.server = server
        self._path = home / "config" / "telemetry.toml"
        self._path.parent.mkdir()
        spans = [span("a.one", start_ns=START_NS, number=n, attributes={"k": n}) for n in (1, 2)]
        write(
            self.folder,
            ("traces", spans_line(*spans, span("b", start_ns=START_NS, number=3))),
            ("metrics", metrics_line(gauge("g", 1.5, time_ns=START_NS, agent="x"))),
            ("logs", logs_line(log("hello", time_ns=START_NS))),
        )
        self.configure()

    def configure(
        self, telemetry: str = "upload_enabled = true", upload: str = "", endpoint: str = ""
    ) -> None:
        self._path.write_text(
            f'[telemetry]\n{telemetry}\ndirectory = "{self.folder}"\n'
            f'[upload]\nendpoint = "{endpoint or self.server.url}"\n{upload}\n'
        )

    @property
    def environ(self) -> dict[str, str]:
        return {"STACK_COMPOSER_TELEMETRY_CONFIG": str(self._path)}

    @property
    def consent(self) -> Path:
        return self._path.parent / "consent.json"

    def run(self, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return run("telemetry", "upload", *options, environ={**self.environ, **environ})

    def said(self, *options: str, code: int = 0) -> dict[str, Any]:
        done = self.run(*options, "--json")
        assert done.returncode == code, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def refusal(self, *options: str, code: int = 1, **environ: str) -> tuple[str, str]:
        found = {**self.environ, **environ}
        return refusal("telemetry", "upload", *options, code=code, environ=found)

    def on_terminal(self, *options: str, typed: str = "") -> tuple[int, str]:
        """Run it on a terminal; return its code and all that it showed."""
        pty = pytest.importorskip("pty")
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "telemetry", "upload", *options],
            stdin=child,
            stdout=child,
            stderr=child,
            env={**os.environ, **self.environ, "COLUMNS": "120"},
            close_fds=True,
        )
        os.close(child)
        os.write(parent, typed.encode())
        shown = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:  # Linux says so when the other side is closed.
                break
            if not piece:
                break
            shown += piece
        os.close(parent)
        return process.wait(timeout=60), shown.decode()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with serving() as server:
        yield Scene(tmp_path, server)


# -- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "true"])
def test_do_not_track_forbids_it_whatever_else_is_set(value: str, scene: Scene) -> None:
    scene.run("--yes")
    count = len(scene.server.got)
    assert count
    what, hint = scene.refusal("--yes", DO_NOT_TRACK=value)
    assert what.startswith("nothing may leave: DO_NOT_TRACK")
    assert "unset" in hint
    assert len(scene.server.got) == count


def test_it_is_off_until_it_is_enabled(scene: Scene) -> None:
    scene.configure(telemetry="upload_enabled = false")
    what, hint = scene.refusal("--yes")
    assert what.startswith("nothing may leave: upload_enabled = false")
    assert "upload_enabled = true" in hint
    assert not scene.consent.exists()
    assert scene.server.got == []


def test_gdpr_forbids_it(scene: Scene) -> None:
    environ = scene.environ
    what, _ = refusal("--gdpr", "telemetry", "upload", "--yes", code=1, environ=environ)
    assert "gdpr" in what
    assert scene.server.got == []


def test_without_consent_and_without_anybody_to_ask_nothing_leaves(scene: Scene) -> None:
    what, hint = scene.refusal(code=2)
    assert what == f"no consent to {scene.server.url}, and nobody can be asked here"
    assert "--yes" in hint
    assert scene.server.got == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mode", "dp"), "not in this version"),
        (("--show",), "--dry-run"),
        (("--dry-run", "--show", "--json"), "--show"),
        (("--name", ""), "pattern"),
        (("--since", "1h", "--until", "2h"), "--since"),
    ],
)
def test_what_makes_no_sense_is_said(options: tuple[str, ...], said: str, scene: Scene) -> None:
    what, _ = scene.refusal("--yes", *options, code=2)
    assert said in what


def test_plain_http_is_for_this_computer(scene: Scene) -> None:
    what, hint = scene.refusal("--yes", "--to", "http://192.0.2.1/")
    assert "unencrypted" in what
    assert "https://" in hint


@pytest.mark.parametrize("to", ["", "nonsense", "127.0.0.1:4318", "https://h:99999"])
def test_a_mistake_in_to_is_told_of_it(scene: Scene, to: str) -> None:
    what, hint = scene.refusal("--yes", "--to", to, code=2)
    assert "--to" in what
    assert hint


def test_without_a_destination_it_says_which_setting_is_missing(scene: Scene) -> None:
    scene.configure(endpoint=" ")
    what, _ = scene.refusal("--yes")
    assert "upload.endpoint" in what


# -- consent -----------------------------------------------------------------------------


def test_yes_is_a_consent_that_holds(scene: Scene) -> None:
    assert scene.said("--yes", "--signal", "traces")["records"] == 3
    (given,) = json.loads(scene.consent.read_text())["consents"]
    assert (given["origin"], given["by"]) == (scene.server.url, "--yes")
    assert scene.said()["records"] == 2


def test_another_place_or_policy_is_asked_for_anew(scene: Scene) -> None:
    scene.run("--yes")
    with serving() as other:
        what, _ = scene.refusal("--to", other.url, code=2)
        assert f"no consent to {other.url}" in what
        assert other.got == []
    held = json.loads(scene.consent.read_text())
    held["consents"][0]["policy_version"] = 0
    scene.consent.write_text(json.dumps(held))
    what, _ = scene.refusal(code=2)
    assert "version 0 of the policy" in what


def test_on_a_terminal_it_shows_and_asks_and_sends(scene: Scene) -> None:
    code, shown = scene.on_terminal(typed="n\n")
    assert (code, scene.server.got) == (1, [])
    for word in (scene.server.url, "http/protobuf, gzip", "3 spans", "a.one", "agent", "redacted"):
        assert word in shown
    assert "nothing was sent" in shown
    assert not scene.consent.exists()
    code, shown = scene.on_terminal(typed="y\n")
    assert (code, len(scene.server.got)) == (0, 3)
    assert "sent 5 records in 3 requests" in shown
    assert json.loads(scene.consent.read_text())["consents"][0]["by"] == "prompt"
    # The consent is there now: nothing is asked.
    code, shown = scene.on_terminal()
    assert (code, "[y/N]" in shown) == (0, False)


# -- dry runs ------------------------------------------------------------------------------


def test_a_dry_run_needs_no_permission_and_says_so(scene: Scene) -> None:
    scene.configure(telemetry="upload_enabled = false")
    done = scene.run("--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    *_, last, why = done.stdout.splitlines()
    assert last == "dry run: nothing was sent"
    assert why.startswith("and nothing would leave now: upload_enabled = false (")
    assert not (scene.folder / "audit.jsonl").exists()
    assert scene.server.got == []


def test_a_dry_run_says_that_something_may_leave_and_why(scene: Scene) -> None:
    scene.run("--yes", "--signal", "logs")
    *_, last, why = scene.run("--dry-run").stdout.splitlines()
    assert last == "dry run: nothing was sent"
    assert why.startswith(f"would leave now: yes, consent to {scene.server.url} of ")
    assert len(scene.server.got) == 1


@pytest.mark.parametrize(
    ("options", "is_of_grpc"),
    [('protocol = "grpc"', True), ('protocol = "grpc"\ncompression = "none"', False), ("", False)],
)
def test_a_dry_run_says_which_bytes_of_grpc_it_counts(
    scene: Scene, options: str, *, is_of_grpc: bool
) -> None:
    scene.configure(upload=options)
    (line,) = (text for text in scene.run("--dry-run").stdout.splitlines() if text[:5] == "bytes")
    assert ("before gRPC packs it" in line) == is_of_grpc
    assert ("unpacked" in line) != is_of_grpc


def test_a_dry_run_counts_what_would_leave(scene: Scene) -> None:
    found = scene.said("--dry-run")
    assert set(found) == set(command.JSON_KEYS)
    assert found["signals"] == {"traces": 3, "metrics": 1, "logs": 1}
    assert found["names"] == {"a.one": 2, "b": 1, "g": 1}
    assert found["attributes"] == {"k": 2, "agent": 1}
    assert (found["first"], found["allowed"]) == ("2025-11-24T16:00:00Z", False)
    sent = scene.said("--yes")
    assert set(sent) == set(command.JSON_KEYS)
    assert sent["bytes"] == found["bytes"] == sum(len(got.raw) for got in scene.server.got)
    assert sent["requests"] == found["requests"] == 3
    assert (sent["plan"], sent["records"]) == (found["plan"], found["records"])
    assert (sent["allowed"], sent["reason"][:10]) == (True, "consent to")


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "jaeger"])
def test_what_show_prints_is_what_leaves(protocol: str, scene: Scene) -> None:
    scene.configure(upload=f'protocol = "{protocol}"')
    secret = "X-Key=very secret".replace(" ", "-")
    environ = {**scene.environ, "STACK_COMPOSER_UPLOAD_HEADERS": secret}
    arguments = [*COMMAND, "telemetry", "upload"]
    shown = subprocess.run(
        [*arguments, "--dry-run", "--show"],
        env={**os.environ, **environ},
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    subprocess.run([*arguments, "--yes"], env={**os.environ, **environ}, check=True, timeout=60)
    assert b"very-secret" not in shown
    requests = list(parsed(shown))
    assert len(requests) == len(scene.server.got) == (1 if protocol == "jaeger" else 3)
    for (line, headers, body), got in zip(requests, scene.server.got, strict=True):
        assert line == f"{got.method} {got.path} HTTP/1.1"
        assert body == got.raw
        assert headers.pop("x-key") == "(from the environment, not shown)"
        assert headers == {name: text for name, text in got.headers.items() if name != "x-key"}


def parsed(stream: bytes) -> Iterator[tuple[str, dict[str, str], bytes]]:
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = dict(text.split(": ", 1) for text in lines)
        size = int(headers["content-length"])
        yield line, headers, rest[:size]
        assert rest[size : size + 2] == b"\r\n"
        stream = rest[size + 2 :]


def test_a_message_of_grpc_stands_behind_its_path(scene: Scene) -> None:
    scene.configure(upload='protocol = "grpc"')
    done = subprocess.run(
        [*COMMAND, "telemetry", "upload", "--dry-run", "--show", "--signal", "traces"],
        env={**os.environ, **scene.environ},
        capture_output=True,
        check=True,
        timeout=60,
    )
    ((line, _, body),) = parsed(done.stdout)
    assert line == "POST /opentelemetry.proto.collector.trace.v1.TraceService/Export HTTP/2"
    got = Got("POST", "", {"content-type": "application/x-protobuf"}, body, acknowledged=True)
    assert span_ids(got._replace(path="/v1/traces")) == [f"{n:016x}" for n in (1, 2, 3)]


def test_what_there_is_too_much_of_is_counted_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "APART_MAX", 1)
    counted: Counter[str] = Counter()
    for text, count in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        preview._add(counted, text, count)
    assert counted == {"a": 4, "(others)": 6}


def test_on_a_terminal_show_prints_records(scene: Scene) -> None:
    code, shown = scene.on_terminal("--dry-run", "--show", "--signal", "traces")
    first, line = shown.splitlines()
    assert code == 0
    assert first.startswith(f"POST {scene.server.url}/v1/traces ")
    assert len(json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 3


def test_a_plan_that_was_seen_can_be_held_to(scene: Scene) -> None:
    plan = scene.said("--dry-run")["plan"]
    write(scene.folder, ("traces", spans_line(span("new", start_ns=START_NS, number=9))))
    what, hint = scene.refusal("--yes", "--plan", plan)
    assert re.fullmatch("the plan is [0-9a-f]{16} now", what)
    assert "--dry-run" in hint
    assert scene.server.got == []
    plan = scene.said("--dry-run")["plan"]
    assert scene.said("--yes", "--plan", plan)["plan"] == plan


# -- sending -------------------------------------------------------------------------------


def test_a_selection_first_and_then_the_rest(scene: Scene) -> None:
    first = scene.said("--yes", "--name", "a.*")
    assert (first["records"], first["requests"]) == (2, 1)
    rest = scene.said("--yes")
    assert (rest["records"], rest["requests"]) == (3, 3)
    ids = [found for got in scene.server.got if "traces" in got.path for found in span_ids(got)]
    assert sorted(ids) == [f"{n:016x}" for n in (1, 2, 3)]
    done = scene.run("--yes")
    assert (done.returncode, done.stdout) == (
        0,
        "nothing to send: all of it went before (3 bundles)\n",
    )


def test_the_window_is_kept(scene: Scene) -> None:
    assert scene.said("--yes", "--since", "1h")["records"] == 0
    assert scene.said("--yes", "--until", "2025-11-24T16:00:00.000000001Z")["records"] == 5


def test_jaeger_gets_spans_and_the_rest_is_said_to_be_left_out(scene: Scene) -> None:
    to = f"{scene.server.url}/api/traces"
    done = scene.run("--dry-run", "--to", to)
    assert "left out  2 bundles: jaeger has no place for their signal" in done.stdout
    assert scene.said("--yes", "--to", to)["records"] == 3
    assert [got.path for got in scene.server.got] == ["/api/traces"]
    done = scene.run("--yes", "--to", to, "--signal", "logs")
    assert done.stdout == "nothing to send: jaeger has no place for what is there\n"


def test_one_object_takes_one_bundle(scene: Scene) -> None:
    scene.configure(upload='protocol = "put"', endpoint=f"{scene.server.url}/one?sig=x")
    what, hint = scene.refusal("--yes")
    assert "one object" in what
    assert "{name}" in hint
    shown = scene.run("--dry-run", "--show", "--signal", "logs").stdout
    assert shown.startswith("PUT /one?... HTTP/1.1\r\n")
    assert "sig=x" not in shown
    assert scene.said("--yes", "--signal", "logs")["records"] == 1
    assert [got.method for got in scene.server.got] == ["PUT"]


def test_an_aggregate_holds_names_and_no_records(scene: Scene) -> None:
    found = scene.said("--yes", "--mode", "aggregate")
    assert (found["requests"], found["mode"]) == (3, "aggregate")
    assert {got.path for got in scene.server.got} == {"/v1/metrics"}
    assert b"hello" not in b"".join(got.body for got in scene.server.got)


def test_what_the_server_did_not_take_is_said_aloud(scene: Scene) -> None:
    partial = b"\x08\x02\x12\x03old"
    body = b"\x0a" + bytes([len(partial)]) + partial
    scene.server.judge = lambda got: Answer(200, (PROTOBUF,), body) if "traces" in got.path else OK
    done = scene.run("--yes")
    assert done.returncode == 0
    assert done.stderr == (
        "the server did not take 2 records of requests that it acknowledged\n  200: old\n"
    )


def test_what_is_left_is_said_and_goes_next_time(scene: Scene) -> None:
    scene.server.judge = lambda got: Answer(404) if "logs" in got.path else OK
    done = scene.run("--yes")
    assert done.returncode == 1
    *_, what, hint = done.stderr.splitlines()
    assert what.startswith(f"stack-composer: {scene.server.url} refuses: 404")
    assert what.endswith(" left")
    assert hint.startswith("  hint: ")
    scene.server.judge = lambda _got: OK
    scene.run("--yes")
    assert {got.path for got in scene.server.taken} == {"/v1/traces", "/v1/metrics", "/v1/logs"}


def test_a_dead_port_is_two_lines(scene: Scene) -> None:
    scene.configure(upload="give_up_s = 0", endpoint=f"http://127.0.0.1:{free_port()}")
    done = scene.run("--yes")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no connection" in done.stderr


def test_an_interrupted_upload_says_so_and_goes_on(scene: Scene) -> None:
    came: list[Got] = []

    def stall(got: Got) -> Answer:
        came.append(got)
        if len(came) == 2:
            time.sleep(20)
        return OK

    scene.server.judge = stall
    process = subprocess.Popen(
        [*COMMAND, "telemetry", "upload", "--yes"],
        env={**os.environ, **scene.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(came) < 2:
        time.sleep(0.01)
        assert process.poll() is None
    # While it runs, another one is told so.
    what, _ = scene.refusal("--yes")
    assert "another upload" in what
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == (
        f"stack-composer: interrupted after {came_text(came[0])} in 1 request\n"
        "  hint: nothing is lost: upload again to go on; at most one request is sent twice\n"
    )
    scene.server.judge = lambda _got: OK
    assert scene.said("--yes")["requests"] == 2


def came_text(got: Got) -> str:
    return "3 records" if got.path.endswith("traces") else "1 record"


def test_on_a_terminal_a_bar_is_seen_while_it_lasts(scene: Scene) -> None:
    def slow(_got: Got) -> Answer:
        time.sleep(0.6)
        return OK

    scene.server.judge = slow
    code, shown = scene.on_terminal("--yes")
    assert code == 0
    assert "sending [" in shown
    assert "sent 5 records" in shown.rstrip().splitlines()[-1]


def test_the_bar_tells_how_far_it_is() -> None:
    result = Result()
    result.reached, result.records, result.bytes = 50, 1_200, 3_100_000
    assert command._bar(result, 100) == (
        "sending [##########..........]  50%  1,200 records, 3.1 MB"
    )
    result.waiting = "503, again in 4 s"
    assert command._bar(result, 0).endswith("] 100%  1,200 records, 3.1 MB; 503, again in 4 s")
