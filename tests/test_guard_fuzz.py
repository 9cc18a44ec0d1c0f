"""The fuzzer: its promises hold for some texts drawn by chance, and it can tell when not."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.views import View

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guard_fuzz", ROOT / "tools/fuzz.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def try_some(fuzz: ModuleType, check: str, count: int) -> None:
    chance = random.Random(count)
    for _ in range(count):
        fuzz.try_input(chance.randbytes(chance.randrange(8, fuzz.INPUT_BYTES_MAX)), check)


@pytest.mark.parametrize("check", ["value", "text", "planted", "views"])
def test_promises_hold_for_texts_drawn_by_chance(fuzz: ModuleType, check: str) -> None:
    try_some(fuzz, check, 20 if check == "text" else 100)


@pytest.mark.parametrize(
    ("value", "marked"),
    [
        ({"a": [{"[redacted:email]": 1}]}, True),
        ([["x [redacted:email]", "b"]], True),
        ({"a": [1, ["[redacted:email]", 2]]}, True),
        ({"a": "[redacted:email]"}, False),
        (["[redacted:email]", "b"], False),
        ([["a", "[redacted:email]"]], False),
        ([["[redacted:email]", "b", "c"]], False),
    ],
)
def test_a_key_with_a_marker_is_known_in_mappings_and_pairs(
    fuzz: ModuleType, value: Any, *, marked: bool
) -> None:
    """What lies below such a key may lose more when it is guarded again."""
    assert fuzz.marked_keys(value) is marked


def lets_all_by(_guard: Guard, _key: str, value: Any) -> Any:
    return value


def raises(_guard: Guard, _key: str, _value: Any) -> Any:
    raise ZeroDivisionError


def answers_too_much(_guard: Guard, pending: list[Any]) -> list[Any]:
    return [f"{text}!" for _, text in pending]


def leads_astray(_view: View, start: int, end: int) -> tuple[int, int]:
    return start + 1, end


@pytest.mark.parametrize(
    ("check", "owner", "name", "fault"),
    [
        ("value", Guard, "value", raises),
        ("text", Guard, "texts", answers_too_much),
        ("planted", Guard, "value", lets_all_by),
        ("views", View, "origin", leads_astray),
    ],
)
def test_a_broken_promise_is_noticed(
    fuzz: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    check: str,
    owner: type,
    name: str,
    fault: Callable[..., Any],
) -> None:
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises((AssertionError, ZeroDivisionError)):
        try_some(fuzz, check, 200)
