"""``stats``: what was recorded is what is told, in words and as JSON."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cli_running import (
    HOUR_NS,
    SECOND_NS,
    counter,
    gauge,
    log,
    logs_line,
    metrics_line,
    ok,
    ok_json,
    refusal,
    run,
    span,
    spans_line,
    write,
    write_sealed,
)
from stack_composer.telemetry.cli import stats


@pytest.fixture
def now_ns() -> int:
    return time.time_ns()


@pytest.fixture
def folder(tmp_path: Path, now_ns: int) -> Path:
    place = tmp_path / "telemetry"
    at = now_ns - HOUR_NS
    spans = [
        span("planner.solve", start_ns=at, duration_ns=n * 1_000_000, error=n > 95)
        for n in range(1, 101)
    ]
    health = "stack_composer.telemetry."
    latencies = [
        gauge("agent.latency_ms", float(n), time_ns=at + n, agent="ab"[n % 2])
        for n in range(1, 101)
    ]
    write(
        place,
        ("traces", spans_line(*spans)),
        ("traces", spans_line(span("old", start_ns=at - 48 * HOUR_NS))),
        (
            "metrics",
            metrics_line(
                *latencies,
                counter("requests", 30, time_ns=at),
                counter(health + "redacted", 2, time_ns=at, rule="email", action="mask"),
                counter(health + "dropped", 7, time_ns=at, signal="logs", reason="buffer_full"),
            ),
        ),
        ("logs", logs_line(*(log("x", time_ns=at, severity=n) for n in (9, 9, 13, 17)))),
    )
    return place


def test_the_numbers(folder: Path) -> None:
    found = ok_json("stats", "--since", "24h", "--dir", folder)
    (row,) = found["spans"]
    assert (row["name"], row["count"], row["errors"]) == ("planner.solve", 100, 5)
    assert row["per_minute"] == pytest.approx(100 / 60, rel=0.01)
    assert (row["min_ms"], row["max_ms"]) == (1, 100)
    assert row["mean_ms"] == pytest.approx(50.5)
    assert row["p50_ms"] == pytest.approx(50, rel=0.02)
    assert row["p95_ms"] == pytest.approx(95, rel=0.02)
    assert row["p99_ms"] == pytest.approx(99, rel=0.02)
    metric, requests = found["metrics"]
    assert (metric["name"], metric["kind"], metric["count"]) == ("agent.latency_ms", "gauge", 100)
    assert (metric["mean"], metric["last"], metric["labels"]) == (50.5, 100.0, None)
    assert metric["p95"] == pytest.approx(95, rel=0.02)
    assert (requests["name"], requests["total"], requests["p50"]) == ("requests", 30, None)
    assert found["logs"] == {"info": 2, "warn": 1, "error": 1}
    assert found["redacted"] == {"email": 2}
    assert found["dropped"] == {"buffer_full": 7}
    assert found["refused_lines"] == 0
    kept = found["bundles"]
    assert (kept["count"], kept["directory"]) == (3, str(folder))
    assert kept["bytes"] == sum(path.stat().st_size for path in folder.iterdir())


def test_the_words(folder: Path) -> None:
    said = ok("stats", "--since", "24h", "--dir", folder)
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert lines["span"] == ["span", "count", "errors", "per", "min", "p50", "p95", "p99"]
    assert lines["planner.solve"][:4] == ["planner.solve", "100", "5", "1.67"]
    assert lines["planner.solve"][5::2] == ["ms", "ms", "ms"]
    assert lines["agent.latency_ms"][1:3] == ["100", "50.5"]
    assert lines["agent.latency_ms"][-1] == "100"
    assert lines["requests"] == ["requests", "30", "0.5"]
    assert lines["logs"] == ["logs", "4", "(info", "2,", "warn", "1,", "error", "1)"]
    assert lines["redacted"] == ["redacted", "email", "2"]
    assert lines["dropped"] == ["dropped", "buffer_full", "7"]
    assert " in 3 bundles, oldest 0 s, in " in said
    assert "stack_composer.telemetry" not in said.replace(str(folder), "")
    assert "old" not in lines


def test_the_alias_is_the_same(folder: Path) -> None:
    arguments = ("--since", "24h", "--json", "--labels", "--dir", folder)
    assert set(ok_json("telemetry", "stats", *arguments)) == set(stats.JSON_KEYS)
    assert (
        ok_json("telemetry", "stats", *arguments)["metrics"][0]["name"]
        == ok_json("stats", *arguments)["metrics"][0]["name"]
    )


def test_the_last_day_is_the_default_and_a_longer_window_shows_more(folder: Path) -> None:
    def names(*window: str) -> list[str]:
        return [row["name"] for row in ok_json("stats", *window, "--dir", folder)["spans"]]

    assert names() == names("--since", "24h") == ["planner.solve"]
    assert names("--since", "7d") == ["planner.solve", "old"]
    assert names("--since", "7d", "--until", "24h") == ["old"]


def test_a_row_for_each_set_of_labels(folder: Path) -> None:
    found = ok_json("stats", "--labels", "--dir", folder)["metrics"]
    assert [(row["labels"], row["count"]) for row in found[:2]] == [
        ({"agent": "a"}, 50),
        ({"agent": "b"}, 50),
    ]
    said = ok("stats", "--labels", "--dir", folder)
    assert "agent.latency_ms{agent=a}" in said


def test_sealed_bundles_give_the_same_numbers(tmp_path: Path, now_ns: int) -> None:
    lines = [
        ("traces", spans_line(span("a", start_ns=now_ns - n * SECOND_NS))) for n in range(100, 105)
    ]
    write(tmp_path / "plain", *lines)
    write_sealed(tmp_path / "sealed", *lines)
    assert list((tmp_path / "sealed").glob("*.zst"))
    plain, sealed = (
        ok_json("stats", "--dir", tmp_path / name)["spans"][0] for name in ("plain", "sealed")
    )
    del plain["per_minute"], sealed["per_minute"]  # The second program ran later.
    assert plain == sealed


def test_a_missing_and_an_empty_folder_are_no_error(tmp_path: Path) -> None:
    assert "nothing was recorded" in ok("stats", "--dir", tmp_path / "nowhere")
    found = ok_json("stats", "--dir", tmp_path)
    assert (found["spans"], found["bundles"]["oldest"]) == ([], None)


def test_damaged_bundles_lose_what_is_damaged_and_say_so(folder: Path) -> None:
    (path,) = folder.glob("*.traces.jsonl")
    whole = path.read_bytes()
    path.write_bytes(b"\x00nonsense\n" + whole + whole[:30])
    found = ok_json("stats", "--dir", folder)
    assert found["spans"][0]["count"] == 100
    assert found["refused_lines"] == 1
    assert found["oddities"]["torn_tail"] == 1
    said = ok("stats", "--dir", folder)
    assert "refused   1 line of no OTLP" in said
    assert f"{path}: line 1 " in said


def test_files_of_any_age_instead_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(spans_line(span("ancient", start_ns=SECOND_NS)))
    found = ok_json("stats", path)
    assert found["spans"][0]["name"] == "ancient"
    assert found["window"]["since"] is None
    assert found["bundles"]["directory"] is None
    assert ok_json("stats", "--since", "24h", path)["spans"] == []


def test_a_broken_configuration_stops_nobody_who_names_the_folder(
    folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "telemetry.toml"
    config.write_text("[telemetry\n")
    environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
    assert "is not TOML" in refusal("stats", code=1, environ=environ)[0]
    assert "planner.solve" in ok("stats", "--dir", folder, environ=environ)


def test_the_corpus_is_counted_without_a_crash(corpus: Path) -> None:
    files = sorted(path for path in (corpus / "otlp").rglob("*") if path.is_file())
    assert len(files) > 100
    found = ok_json("stats", *files)
    assert sum(row["count"] for row in found["spans"]) >= 50
    assert len(found["metrics"]) > 200
    assert found["refused_lines"] > 0
    assert run("stats", "--labels", *files).returncode == 0
