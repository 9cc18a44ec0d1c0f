"""The audit log after a power cut: what was noted before it left is there, and the chain holds."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from power_loss import Call, Trace
from stack_composer.telemetry.store import names
from stack_composer.telemetry.upload import audit as audit_module
from stack_composer.telemetry.upload.anchor import ANCHOR_BYTES, anchor_path
from stack_composer.telemetry.upload.audit import Audit, Part, Position, Selected, Sending
from stack_composer.telemetry.upload.history import read_entries
from stack_composer.telemetry.upload.verify import verify

posix = pytest.mark.skipif(os.name == "nt", reason="the simulation speaks of folders' syncs")

REQUESTS = 12
STATES = 400


def request(number: int) -> Sending:
    part = Part("s.traces", Position(number), Position(number + 1))
    return Sending(
        *("https://x:443", "/v1/traces", "upload", "grpc", "", "raw"),
        Selected(),
        (part,),
        *(1, 1, "ab" * 32),
    )


def traced(home: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Note requests in a log of several parts, and each call that this made."""
    monkeypatch.setattr(audit_module, "PART_BYTES_MAX", 1_500)
    (home / "telemetry").mkdir(mode=0o700)
    (home / "config").mkdir()
    log = Audit(str(home / "telemetry"), str(home / "config"))
    trace = Trace()
    with trace.recording():
        for number in range(REQUESTS):
            made = log.sending(request(number))
            trace.confirm(number)
            log.answer(made, verdict="delivered", status="200")
    assert len(list((home / "telemetry").glob("audit-*.zst"))) > 1
    return trace


def anchors_of(trace: Trace, until: int) -> list[bytes]:
    """All that was ever written to the anchor: a disk may hold any of it, or nothing."""
    return [
        call.data
        for call in trace.calls[:until]
        if call.what == "write" and len(call.data) == ANCHOR_BYTES
    ]


def without_anchor(calls: list[Call]) -> list[Call]:
    """It lies in another folder, and is written in place: the simulation knows neither."""
    files = {call.file for call in calls if call.what == "create" and os.path.isabs(call.name)}
    assert files
    return [Call("") if call.file in files else call for call in calls]


def restart(place: Path, anchors: Path, anchor: bytes | None) -> set[int]:
    """Look at what is there, as verify and the ledger do; return the requests noted."""
    path = Path(anchor_path(str(place), str(anchors)))
    path.unlink(missing_ok=True)
    if anchor is not None:
        path.write_bytes(anchor)
        path.chmod(0o600)
    for name in os.listdir(place):
        (place / name).chmod(0o600)
    found = verify(str(place), str(anchors))
    assert found.problems == ()
    return {entry.parts[0][1] for _, entry in read_entries(str(place)) if entry.entry == "sending"}


@posix
def test_no_power_cut_takes_a_request_that_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced(tmp_path, monkeypatch)
    moments = len(trace.calls)
    anchors = {until: anchors_of(trace, until) for until in range(moments + 1)}
    trace.calls = without_anchor(trace.calls)
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    dice = random.Random(11)
    torn = 0
    for round_ in range(max(STATES, moments + 1)):
        until = round_ if round_ <= moments else dice.randint(0, moments)
        place = tmp_path / f"lost {round_}"
        trace.after_power_loss(until, place, dice)
        anchor = dice.choice([None, *anchors[until][-3:]])
        noted = restart(place, tmp_path / "config", anchor)
        assert trace.confirmed(until) <= noted
        # And on it goes.
        log = Audit(str(place), str(tmp_path / "config"))
        log.sending(request(900))
        found = verify(str(place), str(tmp_path / "config"))
        assert found.problems == ()
        torn += found.torn
        assert names.AUDIT_NEW not in os.listdir(place) or found.lines
    assert torn > 20


@posix
def test_without_the_syncs_the_simulation_does_lose_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the test above would show nothing."""
    trace = traced(tmp_path, monkeypatch)
    trace.calls = [
        call for call in without_anchor(trace.calls) if call.what not in ("sync", "sync folder")
    ]
    dice = random.Random(11)
    lost = 0
    for round_ in range(40):
        place = tmp_path / f"lost {round_}"
        until = dice.randint(0, len(trace.calls))
        trace.after_power_loss(until, place, dice)
        for name in os.listdir(place):
            (place / name).chmod(0o600)
        found = {e.parts[0][1] for _, e in read_entries(str(place)) if e.entry == "sending"}
        lost += not trace.confirmed(until) <= found
    assert lost > 10
