"""The receiver's fuzzer: its promises hold for some inputs, and it can tell when not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stack_composer.telemetry.receive import answers, inbox, transcode

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_receive", ROOT / "tools/fuzz_receive.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_some_inputs_hold(fuzz: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--seconds", "2", "--seed", "1"]) == 0
    assert capsys.readouterr().out.count("all held") == 2


def test_what_is_damaged_was_a_request(fuzz: ModuleType) -> None:
    """Otherwise it would only ever change what is refused anyway."""
    found = fuzz.jsons()
    assert [len(found[signal]) > 200 for signal in ("traces", "metrics", "logs")] == [True] * 3


def test_an_exception_is_found(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = transcode.Transcoder.lines

    def lines(self: transcode.Transcoder, signal: str, data: bytes, *rest: Any, **how: Any) -> Any:
        if b"\xff" in data:
            raise IndexError
        return real(self, signal, data, *rest, **how)

    monkeypatch.setattr(transcode.Transcoder, "lines", lines)
    assert fuzz.main(["--seconds", "5", "--seed", "1", "--only", "transcode"]) == 1
    assert "IndexError" in capsys.readouterr().out


def test_a_500_is_found(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(answers._STATUS, inbox.BAD, (500, 0))
    assert fuzz.main(["--seconds", "5", "--seed", "1", "--only", "listen"]) == 1
