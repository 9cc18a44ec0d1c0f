"""What the rules reach on strings that none of us wrote; their file stays outside."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.policy import Policy

PLACE = Path(__file__).resolve().parents[2] / "shared" / "corpus"
STRINGS = Path(os.environ.get("TELEMETRY_CORPUS", PLACE)) / "redaction" / "strings.jsonl"

pytestmark = pytest.mark.skipif(
    not STRINGS.is_file(),
    reason=f"no labelled strings at {STRINGS}: set TELEMETRY_CORPUS to measure the rules",
)


def strings() -> list[dict[str, Any]]:
    with STRINGS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def is_hit(guard: Guard, row: dict[str, Any]) -> bool:
    """Whether less than half of the labelled secret survives."""
    start, end = row["span"] or (0, len(row["text"]))
    covered = sum(
        max(0, min(end, finding.end) - max(start, finding.start))
        for finding in guard.findings(row["text"])
    )
    return 2 * covered > end - start


def measure(profile: str, record: Callable[[str, object], None]) -> dict[str, float]:
    """The rates, which the test's report shows too."""
    guard = Guard(Policy(profile=profile, salt=bytes(32)))
    seen: dict[str, list[bool]] = {"secret": [], "pii": [], "benign": [], "benign without ip": []}
    for row in strings():
        if row["label"] == "positive" and row["domain"] in seen:
            seen[row["domain"]].append(is_hit(guard, row))
        elif row["label"] == "negative" and row.get("class") == "benign":
            changed = bool(guard.findings(row["text"]))
            seen["benign"].append(changed)
            if not row["contains_ip"]:
                seen["benign without ip"].append(changed)
    assert guard.faults == 0
    rates = {kind: sum(found) / len(found) for kind, found in seen.items()}
    record(profile, {kind: round(rate, 4) for kind, rate in rates.items()})
    return rates


def test_the_default_profile_finds_credentials_and_leaves_the_rest(
    record_property: Callable[[str, object], None],
) -> None:
    rates = measure("default", record_property)
    assert rates["secret"] >= 0.80
    assert rates["benign"] <= 0.005


def test_the_strict_profile_finds_persons_too(
    record_property: Callable[[str, object], None],
) -> None:
    rates = measure("strict", record_property)
    assert rates["pii"] >= 0.70
    assert rates["benign without ip"] <= 0.02
