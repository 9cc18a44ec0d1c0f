"""``telemetry audit``, and what ``status``, ``doctor`` and ``data`` say of what left."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cli_running import ok, ok_json, refusal, run, span, spans_line, write
from stack_composer.telemetry import effects
from stack_composer.telemetry.cli import audit as audit_command
from stack_composer.telemetry.cli import data_erase, data_export
from stack_composer.telemetry.cli import status as status_command
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.upload import audit as audit_module
from stack_composer.telemetry.upload import consent
from stack_composer.telemetry.upload.audit import Audit, Part, Position, Selected, Sending

ORIGIN = "https://collector.example:443"
OTHER = "http://127.0.0.1:4318"
DAY_NS = 86_400 * 10**9


def request(bundle: str = "s.traces", **changes: Any) -> Sending:
    made = Sending(
        origin=ORIGIN,
        path="/v1/traces",
        purpose="upload",
        protocol="http/protobuf",
        plan="0123456789abcdef",
        mode="raw",
        selected=Selected(),
        parts=(Part(bundle, Position(0), Position(100)),),
        records=510,
        bytes=40_000,
        sha256="abcdef012345" + "0" * 52,
    )
    return made._replace(**changes)


class Place:
    """A telemetry folder with a log, as the program under test finds it."""

    def __init__(self, home: Path) -> None:
        self.folder = home / ".local" / "share" / "stack-composer" / "telemetry"
        self.config = home / ".config" / "stack-composer"
        self.log = Audit(str(self.folder), str(self.config))
        self.path = self.folder / "audit.jsonl"

    def deliver(self, sent: Sending, verdict: str = "delivered", **how: Any) -> None:
        self.log.answer(self.log.sending(sent), verdict=verdict, status="200", **how)

    def configure(self, text: str) -> None:
        self.config.mkdir(parents=True, exist_ok=True)
        (self.config / "telemetry.toml").write_text(text)

    def break_line(self) -> None:
        lines = self.path.read_bytes().splitlines(keepends=True)
        lines[1] = lines[1].replace(b'"records":510', b'"records":511')
        self.path.write_bytes(b"".join(lines))


@pytest.fixture
def place() -> Place:
    return Place(Path(os.environ["HOME"]))


def test_before_anything_left_it_says_so() -> None:
    assert ok("telemetry", "audit") == "nothing left this computer\n"
    assert ok("telemetry", "audit", "--verify") == "there is no log: nothing left this computer\n"
    found = ok_json("telemetry", "audit")
    assert set(found) == set(audit_command.JSON_KEYS)
    assert (found["entries"], found["requests"], found["verified"]) == ([], 0, None)


def test_each_request_is_a_row(place: Place) -> None:
    place.log.consent("given", ORIGIN, policy_version=1, by="prompt")
    place.deliver(request())
    place.deliver(
        request("s.logs", origin=OTHER, mode="aggregate", plan="", records=7, bytes=900),
        "retry",
        rejected=3,
        message="not now",
    )
    place.log.sending(request())
    said = ok("telemetry", "audit", environ={"COLUMNS": "200"}).splitlines()
    assert said[0].split()[:4] == ["to", "when", "(UTC)", "plan"]
    assert said[1].split()[3:] == ["consent", "given", "(prompt)"]
    assert said[2].startswith(ORIGIN)
    for word in ("01234567", "510 spans", "40 kB", "abcdef01", "delivered (200)"):
        assert word in said[2]
    for word in (OTHER, "stream", "7 data points, aggregate", "900 B", "retry (200), 3 not taken"):
        assert word in said[3]
    assert said[4].endswith("not known")
    assert said[5:] == ["3 requests, 1,027 records, 81 kB", "what was answered: not now"]


def test_an_exporter_without_its_extra_is_held_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"exporter": ["file", "otlp_http"], "upload_enabled": True, "otlp_endpoint": ORIGIN}
    config = load_config({**given, "directory": str(place.folder)})
    consent.give(config, ORIGIN, by="--yes")
    (exporter,) = status_command.sending_of(config)["exporters"]
    assert exporter["is_sending"] is True
    monkeypatch.setitem(sys.modules, "urllib3", None)
    (exporter,) = status_command.sending_of(config)["exporters"]
    assert (exporter["is_sending"], exporter["to"]) == (False, ORIGIN)
    assert "urllib3" in exporter["reason"]


def test_what_reached_nobody_did_not_leave(place: Place) -> None:
    place.deliver(request())
    number = place.log.sending(request())
    place.log.answer(number, verdict="retry", status="no connection", message="nobody listens")
    said = ok("telemetry", "audit", environ={"COLUMNS": "200"}).splitlines()
    assert said[-2:] == [
        "1 request, 510 records, 40 kB; 1 more reached nobody",
        "what was answered: nobody listens",
    ]
    found = ok_json("telemetry", "audit")
    assert (found["requests"], found["records"], found["reached_nobody"]) == (1, 510, 1)
    sent = ok_json("telemetry", "status")["sent"]
    assert (sent["requests"], sent["records"]) == (1, 510)


def test_lines_that_cannot_be_read_are_told(place: Place) -> None:
    place.deliver(request())
    place.path.write_bytes(place.path.read_bytes() + b"not json\n")
    assert ok_json("telemetry", "audit")["unreadable"] == 1
    assert ok_json("telemetry", "status")["sent"]["unreadable"] == 1
    assert "1 line of the log cannot be read" in ok("telemetry", "status")
    place.path.write_bytes(b"not json\n")
    assert "1 line of the log cannot be read" in ok("telemetry", "status")


def test_as_json_it_tells_all_of_each_entry(place: Place) -> None:
    place.log.consent("withdrawn", ORIGIN, policy_version=1)
    place.deliver(
        request(selected=Selected(10**18, 2 * 10**18, "plan*")), rejected=2, message="two"
    )
    found = ok_json("telemetry", "audit")
    assert found["path"] == str(place.path)
    assert (found["requests"], found["records"], found["bytes"]) == (1, 510, 40_000)
    consent, sent = found["entries"]
    del consent["time"]
    assert consent == {"to": ORIGIN, "consent": "withdrawn", "policy_version": 1, "by": None}
    del sent["time"]
    assert sent == {
        "to": ORIGIN,
        "path": "/v1/traces",
        "purpose": "upload",
        "protocol": "http/protobuf",
        "plan": "0123456789abcdef",
        "mode": "raw",
        "since": "2001-09-09T01:46:40Z",
        "until": "2033-05-18T03:33:20Z",
        "name": "plan*",
        "parts": [{"bundle": "s.traces", "from": [0, 0], "to": [100, 0]}],
        "records": 510,
        "bytes": 40_000,
        "sha256": "abcdef012345" + "0" * 52,
        "verdict": "delivered",
        "status": "200",
        "rejected": 2,
        "message": "two",
    }


def test_a_window_and_a_destination_narrow_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = effects.wall_ns()
    for days in (9, 5, 0):
        monkeypatch.setattr(effects, "wall_ns", lambda days=days: now_ns - days * DAY_NS)
        place.deliver(request(records=days))
    place.deliver(request(origin=OTHER, records=100))

    def listed(*options: str) -> list[int]:
        found = ok_json("telemetry", "audit", *options)
        return [entry["records"] for entry in found["entries"]]

    assert listed() == [9, 5, 0, 100]
    assert listed("--since", "7d") == [5, 0, 100]
    assert listed("--until", "now-1d") == [9, 5]
    assert listed("--since", "7d", "--until", "now-1d") == [5]
    assert listed("--to", "127.0.0.1") == [100]
    assert listed("--to", ORIGIN) == [9, 5, 0]
    assert listed("--to", "nobody") == []
    what, _ = refusal("telemetry", "audit", "--since", "yesterdayish")
    assert "yesterdayish" in what


def test_a_log_that_is_what_was_written_is_confirmed(place: Place) -> None:
    place.deliver(request())
    place.log.sending(request())
    assert ok("telemetry", "audit", "--verify").splitlines() == [
        "the log is what was written: 4 lines, 2 requests",
        "of 1 request the answer is not known",
    ]
    found = ok_json("telemetry", "audit", "--verify")
    assert found["entries"] == []
    assert found["verified"] == {
        "ok": True,
        "lines": 4,
        "requests": 2,
        "unanswered": 1,
        "torn": 0,
        "is_anchored": True,
        "problems": [],
        "problem_count": 0,
    }


def test_a_changed_log_is_told_with_the_line_and_exit_code_1(place: Place) -> None:
    place.deliver(request())
    place.deliver(request())
    place.break_line()
    done = run("telemetry", "audit", "--verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("line 3 does not follow the line before it")
    done = run("telemetry", "audit", "--verify", "--json")
    assert done.returncode == 1
    verified = json.loads(done.stdout)["verified"]
    assert (verified["ok"], verified["problem_count"]) == (False, 1)
    assert verified["problems"][0]["line"] == 3
    # To list it is no failure.
    assert "510 spans" in ok("telemetry", "audit", environ={"COLUMNS": "200"})


def test_a_log_that_is_gone_is_told(place: Place) -> None:
    place.deliver(request())
    place.path.unlink()
    done = run("telemetry", "audit", "--verify")
    assert done.returncode == 1
    assert "that end is gone" in done.stdout
    place.deliver(request())
    said = ok("telemetry", "audit")
    assert "what was noted before this is gone, in part or altogether" in said


def test_torn_lines_and_a_missing_anchor_are_told(place: Place) -> None:
    place.deliver(request())
    with place.path.open("ab") as file:
        file.write(b'{"entry":"sen')
    place.deliver(request())
    for anchor in place.config.glob("audit-*.head"):
        anchor.unlink()
    said = ok("telemetry", "audit", "--verify")
    assert "1 line not finished by a killed program" in said
    assert "a cut-off end would not show" in said
    assert "the line before was not finished" in ok("telemetry", "audit")


def test_many_problems_are_counted(place: Place) -> None:
    place.deliver(request())
    with place.path.open("ab") as file:
        file.write(b"no\n" * 50)
    assert "and 30 more\n" in run("telemetry", "audit", "--verify").stdout


def test_a_broken_configuration_is_no_bar_when_the_folder_is_named(place: Place) -> None:
    place.deliver(request())
    place.configure("[telemetry\n")
    said = ok("telemetry", "audit", "--verify", "--dir", place.folder)
    assert said == "the log is what was written: 3 lines, 1 request\n"


def test_control_characters_in_a_log_that_was_tampered_with_reach_no_terminal(
    place: Place,
) -> None:
    place.deliver(request(origin="https://\x1b[31mred:443"))
    assert "\x1b" not in ok("telemetry", "audit")


def test_old_parts_are_forgotten_after_showing_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 2_000)
    now_ns = effects.wall_ns()
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns - 400 * DAY_NS)
    for _ in range(12):
        place.deliver(request())
    old = sorted(path.name for path in place.folder.glob("audit-*"))
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns)
    for _ in range(12):
        place.deliver(request())
    parts = sorted(path.name for path in place.folder.glob("audit-*"))
    forget = ("telemetry", "audit", "--forget-before")
    assert ok(*forget, "800d") == "no part of the log was closed before that\n"
    done = run(*forget, "365d")
    assert done.returncode == 2
    assert f"to delete: {len(old)} parts of the log, up to {old[-1]}" in done.stdout
    assert "nobody can be asked" in done.stderr
    assert sorted(path.name for path in place.folder.glob("audit-*")) == parts
    found = ok_json(*forget, "365d", "--yes")
    assert set(found) == set(audit_command.JSON_KEYS)
    assert found["forgotten"] == old
    assert ok_json("telemetry", "audit", "--verify")["verified"]["ok"]
    assert "parts of the log were deleted, as you asked for" in ok("telemetry", "audit")
    what, _ = refusal(*forget, "365d", "--verify")
    assert "exclude each other" in what


# What status says.


def sent(requests: int, records: int, bytes_: int, *, unanswered: int) -> dict[str, int]:
    told = {"requests": requests, "records": records, "bytes": bytes_}
    return {**told, "unanswered": unanswered, "unreadable": 0}


def test_status_says_why_nothing_leaves(place: Place) -> None:
    found = ok_json("telemetry", "status")
    assert set(found) == set(status_command.JSON_KEYS)
    assert (found["upload"], found["upload_reason"]) == ("off", "upload_enabled = false (default)")
    assert (found["upload_to"], found["exporters"], found["last_sent"]) == (None, [], None)
    assert found["sent"] == {
        "requests": 0,
        "records": 0,
        "bytes": 0,
        "unanswered": 0,
        "unreadable": 0,
    }
    place.configure("[telemetry]\nupload_enabled = true\n")
    assert "upload    off: there is no destination: upload.endpoint is not set\n" in ok(
        "telemetry", "status"
    )
    place.configure(f"[telemetry]\nupload_enabled = true\n[upload]\nendpoint = '{ORIGIN}/base'\n")
    found = ok_json("telemetry", "status")
    assert (found["upload"], found["upload_to"]) == ("off", ORIGIN)
    assert found["upload_reason"] == f"no consent to {ORIGIN}"
    ok("telemetry", "consent", "give", "--yes")
    found = ok_json("telemetry", "status")
    assert found["upload"] == "on"
    said = ok("telemetry", "status")
    assert f"upload    on, to {ORIGIN}: consent to {ORIGIN} of 20" in said
    said = ok("telemetry", "status", environ={"DO_NOT_TRACK": "1"})
    assert "upload    off: DO_NOT_TRACK (environment DO_NOT_TRACK)\n" in said
    said = ok("--gdpr", "telemetry", "status")
    assert "upload    off: gdpr (environment STACK_COMPOSER_GDPR)\n" in said


def test_status_says_which_exporters_send_and_why_not(place: Place) -> None:
    text = "[telemetry]\nexporter = ['file', 'otlp_http']\n"
    place.configure(text)
    found = ok_json("telemetry", "status")
    assert found["exporters"] == [
        {
            "name": "otlp_http",
            "to": "http://localhost:4318",
            "is_sending": False,
            "reason": "upload_enabled = false (default)",
        }
    ]
    place.configure(f"{text}upload_enabled = true\n[otlp]\nendpoint = '{ORIGIN}'\n")
    said = ok("telemetry", "status")
    assert f"otlp_http held back, to {ORIGIN}: no consent to {ORIGIN}\n" in said
    ok("telemetry", "consent", "give", "--yes")
    said = ok("telemetry", "status")
    assert f"otlp_http on, to {ORIGIN}: consent to {ORIGIN} of 20" in said


def test_status_says_what_left_lately(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = effects.wall_ns()
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns - 8 * DAY_NS)
    place.deliver(request())
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns)
    place.deliver(request())
    place.log.sending(request(origin=OTHER, records=3, bytes=70))
    found = ok_json("telemetry", "status")
    assert found["sent"] == {
        "requests": 2,
        "records": 513,
        "bytes": 40_070,
        "unanswered": 1,
        "unreadable": 0,
    }
    last = found["last_sent"]
    assert (last["to"], last["records"], last["bytes"], last["verdict"]) == (OTHER, 3, 70, None)
    said = ok("telemetry", "status")
    assert "sent      513 records, 40 kB in 7 days; last 20" in said
    assert f"to {OTHER}: answer not known\n" in said


def test_status_stands_a_log_that_cannot_be_read(place: Place, tmp_path: Path) -> None:
    place.folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "elsewhere").write_bytes(b"")
    place.path.symlink_to(tmp_path / "elsewhere")
    assert ok_json("telemetry", "status")["sent"] is None
    assert "the audit log cannot be read" in ok("telemetry", "status")


# What doctor says.


def findings(check: str) -> list[str]:
    found = json.loads(run("telemetry", "doctor", "--json").stdout)
    assert check in found["checks"]
    return [one["what"] for one in found["findings"] if one["check"] == check]


def test_doctor_names_a_broken_chain(place: Place) -> None:
    place.deliver(request())
    place.deliver(request())
    assert findings("audit") == []
    place.break_line()
    (what,) = findings("audit")
    assert what.startswith("the audit log: line 3 does not follow the line before it")


def test_doctor_names_a_file_of_consents_that_counts_for_nothing(place: Place) -> None:
    ok("telemetry", "consent", "give", "--yes", "--to", ORIGIN)
    assert findings("consent") == []
    (place.config / "consent.json").chmod(0o640)
    (what,) = findings("consent")
    assert "has mode 0640" in what


def test_doctor_closes_a_log_that_others_can_read(place: Place) -> None:
    place.deliver(request())
    place.path.chmod(0o644)
    (what,) = findings("modes")
    assert "audit.jsonl" in what
    ok("telemetry", "doctor", "--repair")
    assert place.path.stat().st_mode & 0o777 == 0o600


# What purge, export and erase make of it.


def test_no_purge_deletes_the_log(place: Place) -> None:
    write(place.folder, ("traces", spans_line(span("a", start_ns=1))))
    place.deliver(request())
    before = place.path.read_bytes()
    ok("telemetry", "purge", "--all", "--yes")
    ok("--gdpr", "run", "true")
    assert place.path.read_bytes() == before
    assert ok_json("telemetry", "audit", "--verify")["verified"]["ok"]


def test_the_log_in_parts_is_listed_taken_along_and_erased_as_one(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 2_000)
    for _ in range(12):
        place.deliver(request())
    parts = sorted(path.name for path in place.folder.glob("audit-*"))
    assert len(parts) > 2
    assert ok_json("telemetry", "audit")["requests"] == 12
    assert ok_json("telemetry", "audit", "--verify")["verified"]["ok"]
    assert ok_json("telemetry", "status")["sent"]["requests"] == 12
    ok("telemetry", "purge", "--all", "--yes")
    assert findings("foreign") == findings("modes") == findings("audit") == []
    ok("telemetry", "data", "export", "-o", tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert {*parts, "audit.jsonl"} <= set(archive.namelist())
    assert ok_json("telemetry", "data", "erase", "--yes")["kept"] == [*parts, "audit.jsonl"]
    ok("telemetry", "data", "erase", "--yes", "--audit")
    assert not place.folder.exists()


def test_what_is_taken_along_has_the_log_and_the_consents(place: Place, tmp_path: Path) -> None:
    ok("telemetry", "consent", "give", "--yes", "--to", ORIGIN)
    place.deliver(request())
    dry = ok_json("telemetry", "data", "export", "--dry-run")
    assert set(dry) == set(data_export.JSON_KEYS)
    assert dry["audit"] == ["audit.jsonl"]
    assert dry["consents"] == str(place.config / "consent.json")
    found = ok_json("telemetry", "data", "export", "-o", tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.read("audit.jsonl") == place.path.read_bytes()
        consents = json.loads(archive.read("configuration/consent.json"))
        assert consents["consents"][0]["origin"] == ORIGIN
    what = {file["name"]: file["what"] for file in found["manifest"]["files"]}
    assert what["audit.jsonl"] == "what left this computer"
    assert "to whom you allowed to send" in what["configuration/consent.json"]
    said = ok("telemetry", "data", "export", "--dry-run")
    assert "audit     audit.jsonl: what left this computer" in said


def test_erasing_leaves_the_log_and_says_so(place: Place) -> None:
    write(place.folder, ("traces", spans_line(span("a", start_ns=1))))
    place.deliver(request())
    before = place.path.read_bytes()
    told = ok_json("telemetry", "data", "erase", "--dry-run")
    assert set(told) == set(data_erase.JSON_KEYS)
    assert told["kept"] == ["audit.jsonl"]
    said = ok("telemetry", "data", "erase", "--yes")
    assert "audit.jsonl stays: it says what left this computer; --audit takes it too" in said
    assert [entry.name for entry in place.folder.iterdir()] == ["audit.jsonl"]
    assert place.path.read_bytes() == before
    # And erased on purpose, it is not missed.
    told = ok_json("telemetry", "data", "erase", "--yes", "--audit")
    assert (told["kept"], told["left"], told["deleted"]) == ([], [], 1)
    assert not place.folder.exists()
    assert ok_json("telemetry", "audit", "--verify")["verified"]["ok"]
    place.deliver(request())
    assert ok_json("telemetry", "audit", "--verify")["verified"]["ok"]
