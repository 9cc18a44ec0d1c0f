"""OpenTelemetry's samplers decide by trace; what loses leaves no trace on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

import records
from stack_composer import telemetry
from stack_composer.telemetry.record.sampling import Sampler


def spans_with(tmp_path: Path, sampler: str, ratio: float = 1.0, roots: int = 200) -> list[str]:
    """Names written of ``roots`` traces of three spans each."""
    telemetry.configure(tmp_path, sampler=sampler, sampler_ratio=ratio)
    for _ in range(roots):
        with telemetry.span("root"), telemetry.span("child"), telemetry.span("grandchild"):
            pass
    telemetry.flush()
    telemetry.shutdown()
    return [span["name"] for span in records.spans(tmp_path)]


@pytest.mark.parametrize("sampler", ["always_on", "parentbased_always_on"])
def test_always_on_keeps_all(tmp_path: Path, sampler: str) -> None:
    assert len(spans_with(tmp_path, sampler)) == 600


@pytest.mark.parametrize("sampler", ["always_off", "parentbased_always_off"])
def test_always_off_keeps_none(tmp_path: Path, sampler: str) -> None:
    assert spans_with(tmp_path, sampler) == []


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_ratio_keeps_whole_traces(tmp_path: Path, sampler: str) -> None:
    names = spans_with(tmp_path, sampler, 0.5, roots=400)
    assert names.count("root") == names.count("child") == names.count("grandchild")
    assert 120 < names.count("root") < 280  # 8 standard deviations


def test_a_generation_is_drawn_too(tmp_path: Path) -> None:
    telemetry.configure(tmp_path, sampler="parentbased_traceidratio", sampler_ratio=0.0)
    with telemetry.generation(project_id="p"), telemetry.span("below"):
        pass
    telemetry.flush()
    telemetry.shutdown()
    assert records.spans(tmp_path) == []


def test_the_draw_is_by_the_low_64_bits() -> None:
    sampler = Sampler("traceidratio", 0.25)
    assert sampler.draws("f" * 16 + "3" + "f" * 15)
    assert not sampler.draws("0" * 16 + "4" + "0" * 15)
    assert not Sampler("traceidratio", 0.0).draws("0" * 32)
    assert Sampler("traceidratio", 1.0).draws("f" * 32)
