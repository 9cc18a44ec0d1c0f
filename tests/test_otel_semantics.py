"""OpenTelemetry's own semantics: whatever the official SDK does, ours does."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import otel_scenarios

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

OURS = ("ours", "ours-elsewhere", "ours-unasked")
SAMPLERS = {
    "parentbased_always_on": "",
    "always_on": "",
    "always_off": "",
    "traceidratio": "0.0",
    "parentbased_always_off": "",
    "parentbased_traceidratio": "1.0",
}


@functools.cache
def run(provider: str, sampler: str = "", ratio: str = "") -> dict[str, Any]:
    """What all scenarios gave with this provider, in a process of its own."""
    environment = dict(os.environ)
    if sampler:
        environment["OTEL_TRACES_SAMPLER"] = sampler
    if ratio:
        environment["OTEL_TRACES_SAMPLER_ARG"] = ratio
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "telemetry")
        environment["STACK_COMPOSER_TELEMETRY_DIR"] = str(folder)
        if provider == "ours-unasked":
            for name in ("CONTEXT", "TRACER_PROVIDER", "METER_PROVIDER", "LOGGER_PROVIDER"):
                environment[f"OTEL_PYTHON_{name}"] = "stack_composer"
        done = subprocess.run(
            [sys.executable, otel_scenarios.__file__, provider, str(folder)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("scenario", otel_scenarios.SCENARIOS)
@pytest.mark.parametrize("provider", OURS)
def test_ours_does_what_the_official_sdk_does(provider: str, scenario: str) -> None:
    official = run("official")[scenario]
    assert official["spans"], "the scenario records something, or it would compare nothing"
    assert run(provider)[scenario] == official


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ours_samples_as_the_official_sdk_does(sampler: str) -> None:
    """Also what is not recorded has ids, flags and children; all scenarios tell."""
    official = run("official", sampler, SAMPLERS[sampler])
    assert run("ours", sampler, SAMPLERS[sampler]) == official
