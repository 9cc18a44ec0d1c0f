"""The audit log: what left is on the disk before it leaves, and every change to it shows."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import FolderRefusedError, StoreError
from stack_composer.telemetry.store import folder as folder_module
from stack_composer.telemetry.store import lock, names, reader
from stack_composer.telemetry.store.zstd import compress_frame
from stack_composer.telemetry.upload import audit as audit_module
from stack_composer.telemetry.upload.anchor import anchor_path, read_anchor
from stack_composer.telemetry.upload.audit import Audit
from stack_composer.telemetry.upload.entries import (
    ENTRY_BYTES_MAX,
    GENESIS,
    Entry,
    Part,
    Position,
    Selected,
    Sending,
    hash_of,
)
from stack_composer.telemetry.upload.history import read_entries, read_parts, unpacked
from stack_composer.telemetry.upload.ledger import Ledger, Range, merged, read_ledger
from stack_composer.telemetry.upload.verify import PROBLEMS_MAX, Verification, verify

ORIGIN = "https://collector.example:443"
BUNDLE = "20261127T030000-000001Z-77-deadbeef.traces"
DIGEST = "ab" * 32
EVERYTHING = Selected()


def request(
    start: int = 0,
    end: int = 100,
    *,
    origin: str = ORIGIN,
    path: str = "/v1/traces",
    mode: str = "raw",
    selected: Selected = EVERYTHING,
    bundle: str = BUNDLE,
) -> Sending:
    return Sending(
        origin=origin,
        path=path,
        purpose="upload",
        protocol="http/protobuf",
        plan="0123abcd",
        mode=mode,
        selected=selected,
        parts=(Part(bundle, Position(start), Position(end)),),
        records=10,
        bytes=1_000,
        sha256=DIGEST,
    )


def fine(*, lines: int, requests: int, is_anchored: bool = True) -> Verification:
    return Verification(lines, requests, 0, 0, is_anchored, (), 0)


class Place:
    """A telemetry folder and a configuration folder, as a program has them."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "telemetry"
        self.anchors = home / "config"
        self.log = Audit(str(self.directory), str(self.anchors))
        self.path = self.directory / "audit.jsonl"

    def deliver(self, sent: Sending, verdict: str = "delivered") -> str:
        number = self.log.sending(sent)
        self.log.answer(number, verdict=verdict, status="200")
        return number

    def lines(self) -> list[bytes]:
        return self.path.read_bytes().splitlines()

    def entries(self) -> list[Any]:
        return [json.loads(line) for line in self.lines()]

    def kinds(self) -> list[str]:
        return [entry["entry"] for entry in self.entries()]

    def rewrite(self, lines: list[bytes]) -> None:
        self.path.write_bytes(b"".join(line + b"\n" for line in lines))

    def verify(self) -> Verification:
        return verify(str(self.directory), str(self.anchors))

    def parts(self) -> list[Path]:
        return sorted(self.directory.glob("audit-*.jsonl.zst"))

    def problems(self) -> list[tuple[int, str]]:
        return [(line, what) for line, what in self.verify().problems]

    @property
    def anchor(self) -> Path:
        return Path(anchor_path(str(self.directory), str(self.anchors)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_request_is_noted_before_it_leaves_and_its_answer_after(place: Place) -> None:
    number = place.log.sending(
        request(5, 90, selected=Selected(1_000, 2_000, "plan*"))._replace(
            parts=(
                Part(BUNDLE, Position(5, 2), Position(90)),
                Part("other.traces", Position(0), Position(7, 3)),
            )
        )
    )
    begun, sending = place.entries()
    assert begun["entry"] == "begun"
    assert begun["previous"] == GENESIS
    assert sending | {"previous": "", "time": ""} == {
        "entry": "sending",
        "previous": "",
        "time": "",
        "to": ORIGIN,
        "path": "/v1/traces",
        "purpose": "upload",
        "protocol": "http/protobuf",
        "plan": "0123abcd",
        "mode": "raw",
        "since_ns": 1_000,
        "until_ns": 2_000,
        "name": "plan*",
        "parts": [[BUNDLE, 5, 2, 90, 0], ["other.traces", 0, 0, 7, 3]],
        "records": 10,
        "bytes": 1_000,
        "sha256": DIGEST,
    }
    assert number == hash_of(place.lines()[1])[:16]
    place.log.answer(number, verdict="delivered", status="200", rejected=3, message="three bad")
    answer = place.entries()[2]
    assert (answer["of"], answer["verdict"], answer["status"]) == (number, "delivered", "200")
    assert (answer["rejected"], answer["message"]) == (3, "three bad")


def test_each_line_is_chained_to_the_one_before_it(place: Place) -> None:
    for at in range(5):
        place.deliver(request(at, at + 1))
    lines = place.lines()
    assert [entry["previous"] for entry in place.entries()] == [
        GENESIS,
        *(hash_of(line) for line in lines[:-1]),
    ]
    found = place.verify()
    assert found == fine(lines=11, requests=5)


def test_log_and_anchor_are_their_users_alone_whatever_the_umask(place: Place) -> None:
    old = os.umask(0)
    try:
        place.deliver(request())
    finally:
        os.umask(old)
    assert place.path.stat().st_mode & 0o777 == 0o600
    assert place.anchor.stat().st_mode & 0o777 == 0o600
    assert place.anchors.stat().st_mode & 0o777 == 0o700


def test_a_request_is_on_the_disk_when_it_may_leave(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []

    def sync(descriptor: int) -> None:
        synced.append(place.path.read_bytes())
        os.fsync(descriptor)

    monkeypatch.setattr(audit_module, "sync_file", sync)
    number = place.log.sending(request())
    assert synced == [place.path.read_bytes()]
    place.log.answer(number, verdict="delivered", status="200")
    assert len(synced) == 1
    place.log.flush()
    assert synced[1:] == [place.path.read_bytes()]


def test_a_flush_of_a_log_that_is_not_there_makes_none(place: Place) -> None:
    place.log.flush()
    assert not place.directory.exists()


@pytest.mark.parametrize("at", range(1, 7))
def test_a_changed_line_shows(place: Place, at: int) -> None:
    for number in range(3):
        place.deliver(request(number, number + 1))
    lines = place.lines()
    lines[at - 1] = lines[at - 1].replace(b"2026", b"2025").replace(b"20", b"21", 1)
    place.rewrite(lines)
    found = place.problems()
    assert found
    # The line after it no longer follows; of the last one the anchor tells, once flushed.
    assert found[0][0] in (at, at + 1)


@pytest.mark.parametrize("at", range(1, 6))
def test_a_removed_a_repeated_and_a_moved_line_show(place: Place, at: int) -> None:
    for number in range(3):
        place.deliver(request(number, number + 1))
    lines = place.lines()
    place.rewrite([*lines[: at - 1], *lines[at:]])
    assert place.problems()
    place.rewrite([*lines[:at], *lines[at - 1 :]])
    assert place.problems()
    place.rewrite([*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]])
    assert place.problems()
    place.rewrite(lines)
    assert place.problems() == []


def test_a_line_that_is_no_entry_shows(place: Place) -> None:
    place.deliver(request())
    lines = place.lines()
    place.rewrite([lines[0], b'{"entry": 7}', *lines[1:]])
    assert place.problems()[0] == (2, "is no entry of this log")


def test_a_cut_off_end_shows(place: Place) -> None:
    for number in range(3):
        place.deliver(request(number, number + 1))
    place.log.flush()
    lines = place.lines()
    for kept in range(len(lines)):
        place.rewrite(lines[:kept])
        assert place.problems() == [
            (0, f"the log was {sum(map(len, lines)) + 7:,} bytes long, and that end is gone")
        ]
    place.path.unlink()
    assert place.problems()
    place.rewrite(lines)
    assert place.problems() == []


def test_what_was_cut_off_shows_after_the_next_request_too(place: Place) -> None:
    for number in range(3):
        place.deliver(request(number, number + 1))
    place.rewrite(place.lines()[:4])
    place.deliver(request(9, 10))
    assert place.kinds()[4:] == ["missing", "sending", "answer"]
    assert [line for line, _ in place.problems()] == [5]
    # And it shows once, not at each request after it.
    place.deliver(request(10, 11))
    assert place.kinds().count("missing") == 1


def test_a_log_that_is_gone_shows_after_the_next_request_too(place: Place) -> None:
    place.deliver(request())
    place.path.unlink()
    place.deliver(request())
    assert place.kinds() == ["begun", "missing", "sending", "answer"]
    assert [line for line, _ in place.problems()] == [2]


def test_a_changed_last_line_shows_by_its_anchor(place: Place) -> None:
    place.deliver(request())
    place.log.flush()
    lines = place.lines()
    lines[-1] = lines[-1].replace(b'"200"', b'"201"')
    place.rewrite(lines)
    assert place.problems() == [(3, "is not what its anchor says was written there")]
    place.deliver(request())
    assert place.kinds()[3] == "missing"


def test_a_log_without_an_anchor_is_said_to_have_none(place: Place) -> None:
    place.deliver(request())
    place.anchor.unlink()
    assert place.verify()[4:] == (False, (), 0)
    place.deliver(request())
    assert place.verify()[4:] == (True, (), 0)


def test_an_anchor_of_others_or_without_sense_is_a_finding(place: Place) -> None:
    place.deliver(request())
    place.anchor.chmod(0o644)
    assert "has mode 0644" in place.problems()[0][1]
    place.anchor.chmod(0o600)
    place.anchor.write_bytes(b"[1]")
    assert "cannot be understood" in place.problems()[0][1]
    place.deliver(request())
    assert place.problems() == []


def test_an_anchor_half_of_which_is_older_is_not_believed(place: Place) -> None:
    place.deliver(request())
    old = place.anchor.read_bytes()
    place.deliver(request())
    new = place.anchor.read_bytes()
    assert old[:6] != new[:6]
    place.anchor.write_bytes(new[:6] + old[6:])
    assert [what.endswith("cannot be understood") for _, what in place.problems()] == [True]


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_folder_that_is_reached_by_a_link_has_the_same_anchor(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    through = str(tmp_path / "link" / "telemetry")
    assert anchor_path(through, str(place.anchors)) == str(place.anchor)


def test_where_no_anchor_can_be_written_requests_are_noted_all_the_same(place: Place) -> None:
    place.anchors.write_bytes(b"")
    place.deliver(request())
    assert place.kinds() == ["begun", "sending", "answer"]


def test_two_configurations_each_have_an_anchor_of_one_log(place: Place, tmp_path: Path) -> None:
    other = Audit(str(place.directory), str(tmp_path / "other"))
    other.sending(request())
    for number in range(400):
        place.log.answer(f"{number:016x}", verdict="retry", status="503")
    place.deliver(request())
    assert verify(str(place.directory), str(tmp_path / "other")).problems == ()
    other.sending(request())
    assert "missing" not in place.kinds()
    assert place.problems() == []


def test_an_anchored_line_that_is_read_in_part_is_no_other(place: Place, tmp_path: Path) -> None:
    other = Audit(str(place.directory), str(tmp_path / "other"))
    other.sending(request())
    anchored = place.path.stat().st_size
    # So that the last 64 kB begin in the middle of that line.
    while place.path.stat().st_size < anchored - 200 + 2**16:
        place.log.answer("0", verdict="retry", status="503", message="x" * 150)
    assert place.path.stat().st_size < anchored + 2**16
    other.sending(request())
    assert "missing" not in place.kinds()


@pytest.mark.parametrize("tail", [b'{"entry":"answ', b"\0" * 4096, b"x" * 300_000])
def test_a_torn_line_is_ended_marked_and_counted(place: Place, tail: bytes) -> None:
    place.deliver(request())
    with place.path.open("ab") as file:
        file.write(tail)
    assert place.verify().torn == 0
    place.deliver(request(100, 200))
    whole = [json.loads(line) for line in place.lines() if line != tail]
    assert [entry["entry"] for entry in whole[3:]] == ["torn", "sending", "answer"]
    assert whole[3]["bytes"] == len(tail)
    found = place.verify()
    assert (found.torn, found.problems) == (1, ())
    sent = read_ledger(str(place.directory)).sent(ORIGIN, "raw", BUNDLE)
    assert sent == [Range(Position(0), Position(200), EVERYTHING)]


def test_what_was_put_behind_the_end_is_marked_and_shows(place: Place) -> None:
    place.deliver(request())
    with place.path.open("ab") as file:
        file.write(b'{"entry":"answer"}')
    place.deliver(request())
    assert place.kinds()[3:] == ["answer", "torn", "sending", "answer"]
    assert [line for line, _ in place.problems()] == [4]


def test_a_line_that_lacks_its_newline_alone_is_a_whole_one(place: Place) -> None:
    place.deliver(request())
    place.path.write_bytes(place.path.read_bytes()[:-1])
    place.deliver(request())
    assert place.kinds() == ["begun", "sending", "answer", "sending", "answer"]
    assert place.problems() == []


def test_a_torn_line_that_nothing_vouches_for_shows(place: Place) -> None:
    place.deliver(request())
    with place.path.open("ab") as file:
        file.write(b"torn\n")
    place.deliver(request())
    assert place.problems() == [(4, "is no entry of this log")]


def test_a_full_disk_leaves_the_log_as_it_was_and_the_request_here(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.deliver(request())
    before = place.path.read_bytes()
    real_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        if len(data) < 300:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StoreError, match="No space left") as caught:
        place.log.sending(request(100, 200))
    assert "free some space" in caught.value.hint
    monkeypatch.undo()
    assert place.path.read_bytes() == before


def test_an_entry_beyond_bounds_is_the_callers_mistake(place: Place) -> None:
    parts = (Part(BUNDLE, Position(0), Position(1)),) * 2_000
    with pytest.raises(ValueError, match=f"{ENTRY_BYTES_MAX:,} at most"):
        place.log.sending(request()._replace(parts=parts))
    assert place.verify().problems == ()


def test_the_longest_entry_is_chained_to_as_any_other(place: Place) -> None:
    place.log.sending(request())
    short = len(place.lines()[-1])
    place.log.sending(request(path="/v1/traces" + "x" * (ENTRY_BYTES_MAX - short)))
    assert len(place.lines()[-1]) == ENTRY_BYTES_MAX
    place.deliver(request())
    assert place.problems() == []
    with pytest.raises(ValueError, match="at most"):
        place.log.sending(request(path="/v1/traces" + "x" * (ENTRY_BYTES_MAX - short + 1)))


def test_a_servers_words_are_made_harmless(place: Place) -> None:
    number = place.log.sending(request())
    said = "\x1b[31mred\r\n\u202eevil\u00e9 " + "x" * 500
    place.log.answer(number, verdict="refused", status="400\n", message=said)
    answer = place.entries()[-1]
    assert answer["status"] == "400"
    assert answer["message"] == ("[31mredevil " + "x" * 500)[:200]


def test_a_name_that_is_no_unicode_is_noted_and_found_again(place: Place) -> None:
    selected = Selected(name="caf\udce9*")
    place.deliver(request(selected=selected))
    (found,) = read_ledger(str(place.directory)).sent(ORIGIN, "raw", BUNDLE)
    assert found.selected == Selected(name="caf\\udce9*")
    assert place.problems() == []


def test_a_link_in_place_of_the_log_is_refused(place: Place, tmp_path: Path) -> None:
    place.directory.mkdir(mode=0o700)
    (tmp_path / "elsewhere").write_bytes(b"")
    place.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderRefusedError, match="symbolic link"):
        place.log.sending(request())
    with pytest.raises(FolderRefusedError):
        place.verify()
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_clock_before_1970_or_stepping_back_does_no_harm(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.deliver(request())
    monkeypatch.setattr(effects, "wall_ns", lambda: -5)
    place.deliver(request())
    assert place.entries()[-1]["time"] == "1970-01-01T00:00:00.000000Z"
    assert place.problems() == []


CHILD = """
import sys
from stack_composer.telemetry.upload import audit
from stack_composer.telemetry.upload.audit import *
audit.PART_BYTES_MAX = int(sys.argv[5])
log = Audit(sys.argv[1], sys.argv[2])
for at in range(int(sys.argv[3])):
    part = Part(sys.argv[4], Position(at), Position(at + 1))
    made = log.sending(Sending("https://x:443", "/", "upload", "grpc", "", "raw", Selected(),
                               (part,), 1, 1, "ab" * 32))
    log.answer(made, verdict="delivered", status="OK")
    print(at, flush=True)
"""


def child(
    place: Place, count: int, bundle: str, part_bytes_max: int = 2**20
) -> subprocess.Popen[bytes]:
    numbers = str(count), bundle, str(part_bytes_max)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, place.directory, place.anchors, *numbers],
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("part_bytes_max", [2**20, 5_000])
def test_many_processes_append_and_the_chain_holds(place: Place, part_bytes_max: int) -> None:
    children = [child(place, 50, f"{number}.traces", part_bytes_max) for number in range(4)]
    seen = 0
    while any(one.poll() is None for one in children):
        # Looked at while it grows, it is right too.
        found = place.verify()
        assert found.problems == ()
        assert found.lines >= seen
        seen = found.lines
    for one in children:
        assert one.communicate()[1] is None
        assert one.returncode == 0
    found = place.verify()
    parts = len(place.parts())
    assert found == fine(lines=1 + parts + 4 * 100, requests=200)
    assert (parts > 10) is (part_bytes_max == 5_000)
    ledger = read_ledger(str(place.directory))
    for number in range(4):
        (whole,) = ledger.sent("https://x:443", "raw", f"{number}.traces")
        assert whole == Range(Position(0), Position(50), EVERYTHING)


@pytest.mark.parametrize("part_bytes_max", [2**20, 1_500])
@pytest.mark.parametrize("after", [1, 7, 20])
def test_a_killed_process_leaves_a_chain_that_holds(
    place: Place, after: int, part_bytes_max: int
) -> None:
    one = child(place, 10**6, "a.traces", part_bytes_max)
    assert one.stdout is not None
    for _ in range(after):
        one.stdout.readline()
    one.kill()
    one.communicate()
    place.deliver(request())
    found = place.verify()
    assert found.problems == ()
    assert found.unanswered <= 1
    assert found.requests >= after + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_the_log_is_locked_does_not_keep_the_lock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = os.pipe()
    children = []

    def sync(_: int) -> None:
        pid = os.fork()
        if not pid:
            os.read(read_end, 1)
            os._exit(0)
        children.append(pid)

    monkeypatch.setattr(audit_module, "sync_file", sync)
    number = place.log.sending(request())
    monkeypatch.undo()
    try:
        # Were the lock still held by the child, this would wait for ten seconds, and fail.
        place.log.answer(number, verdict="delivered", status="200")
    finally:
        os.write(write_end, b"x" * len(children))
        for pid in children:
            os.waitpid(pid, 0)
        os.close(read_end)
        os.close(write_end)
    assert place.kinds() == ["begun", "sending", "answer"]


def test_a_log_that_is_held_for_long_is_an_error_in_words(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.deliver(request())
    descriptor = os.open(place.path, os.O_RDWR)
    try:
        assert lock.try_lock(descriptor) == "locked"
        clock = iter(range(0, 10**15, 6 * 10**9))
        monkeypatch.setattr(effects, "monotonic_ns", lambda: next(clock))
        with pytest.raises(StoreError, match="held by another program for 10 seconds"):
            place.log.sending(request())
    finally:
        os.close(descriptor)


def test_without_locks_two_at_once_are_no_break(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "try_lock", lambda _: "unsupported")
    place.deliver(request(0, 1))
    tail = audit_module._read_tail
    seen: list[Any] = []

    def late(descriptor: int) -> Any:
        # Another one writes between our look at the end and our line.
        found = tail(descriptor)
        if not seen:
            seen.append(found)
            place.log.sending(request(7, 8))
        return found

    monkeypatch.setattr(audit_module, "_read_tail", late)
    place.deliver(request(1, 2))
    entries = place.entries()
    assert all(entry["unlocked"] for entry in entries)
    assert entries[3]["previous"] == entries[4]["previous"]
    assert place.problems() == []
    # With the mark taken away it would be one.
    lines = place.lines()
    lines[4] = lines[4].replace(b'"unlocked":true', b'"unlocked":false')
    place.rewrite(lines)
    assert [line for line, _ in place.problems()] == [5, 6]


def test_without_locks_no_part_is_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "try_lock", lambda _: "unsupported")
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 1_000)
    for at in range(5):
        place.deliver(request(at, at + 1))
    assert place.parts() == []


def test_problems_are_bounded_and_counted(place: Place) -> None:
    place.deliver(request())
    with place.path.open("ab") as file:
        file.write(b"no\n" * 1_000)
    found = place.verify()
    assert len(found.problems) == PROBLEMS_MAX
    assert found.problem_count == 1_000


def test_a_consent_is_an_entry(place: Place) -> None:
    place.log.consent("given", ORIGIN, policy_version=3, by="prompt")
    entry = place.entries()[1]
    assert (entry["action"], entry["to"], entry["policy"], entry["by"]) == (
        "given",
        ORIGIN,
        3,
        "prompt",
    )


def test_what_is_unknown_to_this_version_is_read_over(place: Place) -> None:
    place.deliver(request())
    with place.path.open("ab") as file:
        file.write(
            b'{"entry":"later","previous":"%b","new":[1]}\n' % hash_of(place.lines()[-1]).encode()
        )
    place.deliver(request())
    assert place.problems() == []


# The parts.


@pytest.fixture
def in_parts(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A log of many small parts."""
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 3_000)
    for at in range(40):
        place.deliver(request(at, at + 1))
    place.log.flush()
    assert len(place.parts()) > 5
    return place


def test_a_log_that_has_grown_large_is_closed_and_read_on(in_parts: Place) -> None:
    parts = in_parts.parts()
    found = in_parts.verify()
    assert found == fine(lines=81 + len(parts), requests=40)
    assert in_parts.path.stat().st_size < 4_000
    named = [names.audit_part(part.name) or (0, 0) for part in parts]
    assert [number for number, _ in named] == list(range(1, len(parts) + 1))
    assert all(abs(effects.wall_ns() - until_ns) < 10**11 for _, until_ns in named)
    assert {part.stat().st_mode & 0o777 for part in parts} == {0o600}
    sent = read_ledger(str(in_parts.directory)).sent(ORIGIN, "raw", BUNDLE)
    assert sent == [Range(Position(0), Position(40), EVERYTHING)]
    (first, *_, last) = in_parts.entries()
    assert (first["entry"], first["part"]) == ("begun", len(parts) + 1)
    assert last["entry"] == "answer"
    assert reader.list_bundles(str(in_parts.directory)).foreign == []
    assert not (in_parts.directory / names.AUDIT_NEW).exists()


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_part_that_is_gone_or_another_shows(in_parts: Place, which: int) -> None:
    parts = in_parts.parts()
    kept = parts[which].read_bytes()
    parts[which].unlink()
    assert in_parts.problems()
    parts[which].write_bytes(parts[2].read_bytes())
    assert in_parts.problems()
    parts[which].write_bytes(kept[:-9] + b"\xff" + kept[-8:])
    assert in_parts.problems()
    parts[which].write_bytes(kept[: len(kept) // 2])
    assert in_parts.problems()
    parts[which].write_bytes(kept)
    assert in_parts.problems() == []


def test_an_end_that_is_gone_with_whole_parts_shows(in_parts: Place) -> None:
    kept = in_parts.path.read_bytes()
    in_parts.path.unlink()
    number = len(in_parts.parts()) + 1
    assert in_parts.problems() == [
        (0, f"part {number} of the log was {len(kept):,} bytes long, and that end is gone")
    ]
    in_parts.deliver(request(99, 100))
    assert in_parts.kinds() == ["begun", "missing", "sending", "answer"]
    assert in_parts.problems()


@pytest.mark.parametrize("which", [0, 1, -1])
def test_an_older_log_in_its_place_shows(in_parts: Place, which: int) -> None:
    folder = folder_module.open_folder(str(in_parts.directory), create=False)
    old = b"".join(unpacked(folder, in_parts.parts()[which].name))
    folder.close()
    in_parts.path.write_bytes(old)
    assert in_parts.problems()
    in_parts.deliver(request(99, 100))
    assert "missing" in in_parts.kinds()
    assert in_parts.problems()


def test_an_anchor_of_an_earlier_part_is_met_there(place: Place, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    Audit(str(place.directory), other).sending(request())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_module, "PART_BYTES_MAX", 3_000)
        for at in range(20):
            place.deliver(request(at, at + 1))
    assert len(place.parts()) > 1
    assert verify(str(place.directory), other).problems == ()
    Audit(str(place.directory), other).sending(request())
    assert place.problems() == []
    assert "missing" not in place.kinds()


def test_closed_and_killed_before_the_new_file_came_it_is_read_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(10):
        place.deliver(request(at, at + 1))
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 3_000)
    real_rename = folder_module.Folder.rename

    def rename(self: folder_module.Folder, old: str, new: str) -> None:
        if new == names.AUDIT:
            raise OSError(errno.EIO, "killed here")
        real_rename(self, old, new)

    monkeypatch.setattr(folder_module.Folder, "rename", rename)
    place.deliver(request(10, 11))
    assert len(place.parts()) >= 1
    assert place.verify() == fine(lines=23, requests=11)
    monkeypatch.setattr(folder_module.Folder, "rename", real_rename)
    (place.directory / names.AUDIT_NEW).write_bytes(b"half")
    now_ns = effects.wall_ns()
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns + 5 * 10**9)
    place.deliver(request(11, 12))
    assert len(place.parts()) == 1
    assert place.verify() == fine(lines=26, requests=12)
    assert place.kinds() == ["begun", "sending", "answer"]


def test_a_log_that_has_grown_far_too_large_is_packed_in_pieces(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(30):
        place.deliver(request(at, at + 1))
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 1_000)
    monkeypatch.setattr(audit_module, "_PACKED_BYTES", 700)
    place.deliver(request(30, 31))
    (part, *_) = place.parts()
    assert part.read_bytes().count(b"\x28\xb5\x2f\xfd") > 10
    assert place.verify().problems == ()
    assert place.verify().requests == 31


def test_a_part_of_the_same_number_that_is_no_copy_stays_and_shows(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = place.directory / names.audit_part_name(1, 0)
    place.deliver(request())
    foreign.write_bytes(compress_frame(b"another\n"))
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 300)
    place.deliver(request())
    assert foreign.exists()
    assert place.problems()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ImportError("no zstd")])
def test_a_part_that_cannot_be_made_hinders_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 1_000)

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(audit_module, "_pack", refuse)
    for at in range(5):
        place.deliver(request(at, at + 1))
    assert place.parts() == []
    assert place.verify() == fine(lines=11, requests=5)


def test_where_no_part_can_be_made_it_is_not_tried_at_each_entry(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 128 * 2_000)
    place.log.sending(request())
    with place.path.open("ab") as file:
        file.write(b"x" * 128 * 2_000 + b"\n")
    tried: list[int] = []

    def refuse(*_: object) -> None:
        tried.append(place.path.stat().st_size)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(audit_module, "_pack", refuse)
    for at in range(50):
        place.deliver(request(at, at + 1))
    grown = place.path.stat().st_size - 128 * 2_000
    assert grown // 2_000 - 2 <= len(tried) <= grown // 2_000 + 2
    assert len(tried) < 50


def test_who_reads_while_a_part_is_closed_misses_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(10):
        place.deliver(request(at, at + 1))
    reading = read_parts(str(place.directory))
    number, lines = next(reading)
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 1_000)
    place.deliver(request(10, 11))
    assert number == 1
    assert sum(b'"sending"' in line for line in lines) == 10
    assert list(reading) == []


def test_parts_that_were_closed_long_ago_need_not_be_read(
    in_parts: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = str(in_parts.directory)
    now_ns = effects.wall_ns()

    def numbers(since_ns: int) -> list[int]:
        return [number for number, _ in read_parts(directory, since_ns=since_ns)]

    parts = len(in_parts.parts())
    assert numbers(now_ns - 3600 * 10**9) == list(range(1, parts + 2))
    assert numbers(now_ns + 3600 * 10**9) == [parts + 1]
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns + 7200 * 10**9)
    while len(in_parts.parts()) == parts:
        in_parts.deliver(request(50, 51))
    assert numbers(now_ns + 3600 * 10**9) == [parts + 1, parts + 2]


def test_what_its_user_had_forgotten_is_no_fault(
    in_parts: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_before = [part.name for part in in_parts.parts()]
    now_ns = effects.wall_ns()
    assert in_parts.log.forget(now_ns - 3600 * 10**9) == []
    assert "forgotten" not in in_parts.kinds()
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns + 7200 * 10**9)
    while len(in_parts.parts()) < len(names_before) + 2:
        in_parts.deliver(request(50, 51))
    assert in_parts.log.forget(now_ns + 3600 * 10**9) == names_before
    assert in_parts.kinds()[-1] == "forgotten"
    assert len(in_parts.parts()) == 2
    assert in_parts.verify().problems == ()
    in_parts.deliver(request(51, 52))
    assert in_parts.verify().problems == ()
    # One more than was forgotten is a fault, and so is another one in its place.
    kept = in_parts.parts()[0].read_bytes()
    in_parts.parts()[0].unlink()
    (problem,) = in_parts.problems()
    assert problem[1].endswith("and what was before is gone")
    folder = folder_module.open_folder(str(in_parts.directory), create=False)
    (in_parts.directory / names.audit_part_name(len(names_before) + 1, now_ns)).write_bytes(kept)
    assert in_parts.problems() == []
    changed = b"".join(unpacked(folder, in_parts.parts()[0].name)).replace(b'"part"', b'"Part"')
    folder.close()
    in_parts.parts()[0].write_bytes(compress_frame(changed))
    assert in_parts.problems()


def test_forgetting_that_was_stopped_half_way_goes_on(
    in_parts: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = in_parts.parts()
    now_ns = effects.wall_ns()
    monkeypatch.setattr(effects, "wall_ns", lambda: now_ns + 7200 * 10**9)
    real_remove = folder_module.Folder.remove

    def remove(self: folder_module.Folder, name: str) -> bool:
        if name == parts[2].name:
            raise OSError(errno.EIO, "stopped here")
        return real_remove(self, name)

    monkeypatch.setattr(folder_module.Folder, "remove", remove)
    with pytest.raises(StoreError):
        in_parts.log.forget(now_ns + 3600 * 10**9)
    assert in_parts.parts() == parts[2:]
    assert in_parts.problems() == []
    monkeypatch.setattr(folder_module.Folder, "remove", real_remove)
    in_parts.log.forget(now_ns + 3600 * 10**9)
    assert in_parts.parts() == []
    assert in_parts.problems() == []
    in_parts.log.flush()
    assert in_parts.problems() == []


def test_an_anchor_of_a_forgotten_part_is_no_fault(in_parts: Place, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    kept = in_parts.anchor.read_bytes()
    in_parts.log.forget(effects.wall_ns() + 10**10)
    in_parts.deliver(request(50, 51))
    assert in_parts.parts() == []
    assert verify(str(in_parts.directory), other).problems == ()
    in_parts.anchor.write_bytes(kept)
    assert in_parts.problems() == []


@pytest.mark.parametrize(("number", "digit", "wrong"), [(1, "1", 0), (1, "2", 1), (2, "2", 0)])
def test_what_was_forgotten_is_told_by_the_hash_that_the_rest_follows(
    place: Place, number: int, digit: str, wrong: int
) -> None:
    place.directory.mkdir(mode=0o700)
    begun = json.dumps({"entry": "begun", "previous": "1" * 64, "part": 2}).encode()
    forgotten = {"entry": "forgotten", "part": number, "sha256": digit * 64}
    place.rewrite([begun, json.dumps({**forgotten, "previous": hash_of(begun)}).encode()])
    place.path.chmod(0o600)
    assert place.verify().problem_count == wrong


def test_a_copy_of_what_is_not_closed_is_not_forgotten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.deliver(request())
    copy = place.directory / names.audit_part_name(1, 10**18)
    copy.write_bytes(compress_frame(place.path.read_bytes()))
    assert place.log.forget(effects.wall_ns()) == []
    assert copy.exists()
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 300)
    place.deliver(request())
    assert not copy.exists()
    assert place.problems() == []


def test_a_log_without_parts_has_nothing_to_forget(place: Place) -> None:
    assert place.log.forget(2**62) == []
    place.deliver(request())
    assert place.log.forget(2**62) == []
    assert place.kinds() == ["begun", "sending", "answer"]


def test_names_of_parts_are_told_by_themselves_alone() -> None:
    name = names.audit_part_name(7, 1_795_756_800 * 10**9)
    assert name == "audit-000007-20261127T052000Z.jsonl.zst"
    assert names.audit_part(name) == (7, 1_795_756_800 * 10**9)
    for wrong in (
        "audit-7-20261127T052000Z.jsonl.zst",
        "audit-000007-20261127T052060Z.jsonl.zst",
        "audit-000007-20261131T052000Z.jsonl.zst",
        "audit-000007-20261127T052000.jsonl.zst",
        "audit-000007.jsonl.zst",
        "audit-00000\u0667-20261127T052000Z.jsonl.zst",
        "audit-000007-20261127T052000Z.jsonl",
        "audit-.jsonl.zst",
        "audit.jsonl",
    ):
        assert names.audit_part(wrong) is None
    parsed = names.parse_name(name)
    assert parsed is not None
    assert parsed.kind == names.AUDIT_PART


# The ledger.


def test_only_what_was_delivered_or_passed_over_is_settled(place: Place) -> None:
    for at, verdict in enumerate(["delivered", "retry", "refused", "too_large", "passed_over"]):
        place.deliver(request(at * 10, at * 10 + 10), verdict)
    place.log.sending(request(50, 60))
    found = read_ledger(str(place.directory)).sent(ORIGIN, "raw", BUNDLE)
    assert [(part.start.offset, part.end.offset) for part in found] == [(0, 10), (40, 50)]


def test_the_ledger_tells_destinations_modes_bundles_and_paths_apart(place: Place) -> None:
    place.deliver(request(0, 10))
    place.deliver(request(10, 20, origin="https://other:443"))
    place.deliver(request(20, 30, mode="aggregate"))
    place.deliver(request(30, 40, bundle="other.traces"))
    place.deliver(request(40, 50, path="/tenant/v1/traces"))
    ledger = read_ledger(str(place.directory))

    def offsets(*what: str, **how: str) -> list[int]:
        return [part.start.offset for part in ledger.sent(*what, **how)]

    assert offsets(ORIGIN, "raw", BUNDLE) == [0, 40]
    assert offsets("https://other:443", "raw", BUNDLE) == [10]
    assert offsets(ORIGIN, "aggregate", BUNDLE) == [20]
    assert offsets(ORIGIN, "raw", "other.traces") == [30]
    assert offsets(ORIGIN, "raw", BUNDLE, path="/v1/traces") == [0]
    assert offsets(ORIGIN, "raw", BUNDLE, path="/tenant/v1/traces") == [40]
    assert offsets("https://third:443", "raw", BUNDLE) == []


def test_what_went_under_another_selection_is_a_range_of_its_own(place: Place) -> None:
    some = Selected(name="a*")
    place.deliver(request(0, 10, selected=some))
    place.deliver(request(10, 20))
    place.deliver(request(20, 30))
    assert read_ledger(str(place.directory)).sent(ORIGIN, "raw", BUNDLE) == [
        Range(Position(10), Position(30), EVERYTHING),
        Range(Position(0), Position(10), some),
    ]


def test_ranges_of_one_selection_are_merged_where_they_meet() -> None:
    one, two = EVERYTHING, Selected(name="a*")

    def piece(start: int, end: int, selected: Selected = one, record: int = 0) -> Range:
        return Range(Position(start, record), Position(end), selected)

    assert merged([]) == []
    assert merged([piece(20, 30), piece(0, 10), piece(10, 20)]) == [piece(0, 30)]
    assert merged([piece(0, 10), piece(11, 20)]) == [piece(0, 10), piece(11, 20)]
    assert merged([piece(0, 50), piece(10, 20)]) == [piece(0, 50)]
    assert merged([piece(0, 10), piece(10, 20, two)]) == [piece(0, 10), piece(10, 20, two)]
    # Within a line it goes by records.
    assert merged([piece(0, 10), piece(10, 20, record=1)]) == [
        piece(0, 10),
        piece(10, 20, record=1),
    ]


def test_a_month_of_requests_is_read_as_few_ranges() -> None:
    entries = []
    for at in range(3_000):
        sent = Entry("sending", to=ORIGIN, mode="raw", parts=((BUNDLE, at, 0, at + 1, 0),))
        entries += [
            (f"{at}", sent),
            ("", Entry("answer", of=f"{at}", verdict="delivered")),
        ]
    ledger = Ledger(entries)
    assert ledger.sent(ORIGIN, "raw", BUNDLE) == [Range(Position(0), Position(3_000), EVERYTHING)]
    assert len(ledger._parts[ORIGIN, "raw", BUNDLE]["", False]) == 1


def test_entries_are_read_with_the_ids_that_answers_name(place: Place) -> None:
    number = place.deliver(request())
    found = list(read_entries(str(place.directory)))
    assert [(made, entry.entry) for made, entry in found] == [
        ("", "begun"),
        (number, "sending"),
        ("", "answer"),
    ]
    assert found[2][1].of == number


def test_a_log_that_never_was_has_nothing_wrong(place: Place) -> None:
    assert place.verify() == fine(lines=0, requests=0, is_anchored=False)
    assert read_anchor(str(place.anchor)) is None
    assert read_ledger(str(place.directory)).sent(ORIGIN, "raw", BUNDLE) == []


def test_the_log_is_no_foreign_file_of_the_folder(place: Place) -> None:
    place.deliver(request())
    assert reader.list_bundles(str(place.directory)).foreign == []
    assert folder_module.open_folder(str(place.directory), create=False).names() == ["audit.jsonl"]
