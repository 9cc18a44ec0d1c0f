from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from records import health, metrics
from records import spans as spans_in
from stack_composer import telemetry
from stack_composer.telemetry import config as configuration

SRC = Path(__file__).resolve().parent.parent / "src"
TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A program that already records for real, into this folder."""
    telemetry.configure(tmp_path / "t", on_internal_error=_raise)
    return tmp_path / "t"


def _raise(error: Exception) -> None:
    raise error


def test_spans_metrics_and_logs_come_back_as_plain_objects() -> None:
    with telemetry.capture(on_internal_error=_raise) as captured:
        with telemetry.span("planner.solve", k_dense=128) as outer:
            with telemetry.span("planner.step"):
                telemetry.log("warning", "over budget", agent="stack")
            outer.add_event("found", {"cost": 1.5})
        telemetry.metric("agent.latency_ms", 12, agent="stack")
        telemetry.counter("tried").add(2)
        for value in (3, 5):
            telemetry.histogram("wait").record(value)

    solve, step = captured.spans.find("planner.solve"), captured.spans.find("planner.step")
    assert [span.name for span in captured.spans] == ["planner.step", "planner.solve"]
    assert solve.attributes == {"k_dense": 128}
    assert (solve.parent_id, step.parent_id) == (None, solve.span_id)
    assert step.trace_id == solve.trace_id
    assert solve.duration_ns >= step.duration_ns >= 0
    assert (solve.status, solve.kind) == ("unset", "internal")
    assert [(event.name, event.attributes) for event in solve.events] == [("found", {"cost": 1.5})]

    latency = captured.metrics.find("agent.latency_ms")
    assert (latency.value, latency.attributes, latency.kind) == (12, {"agent": "stack"}, "gauge")
    assert captured.metrics.find("tried").value == 2
    wait = captured.metrics.find("wait")
    assert (wait.value, wait.count, wait.kind) == (4.0, 2, "exponential_histogram")

    (log,) = captured.logs
    assert (log.message, log.level, log.attributes) == ("over budget", "warn", {"agent": "stack"})
    assert (log.trace_id, log.span_id) == (step.trace_id, step.span_id)


def test_what_is_captured_has_passed_the_guard() -> None:
    with (
        telemetry.capture() as captured,
        telemetry.generation(project_id="p-7", brief="a shop for left shoes"),
    ):
        telemetry.log("info", f"using {TOKEN}")
    text = b"".join(captured.lines("traces") + captured.lines("logs")).decode()
    assert TOKEN not in text
    assert "left shoes" not in text
    assert "p-7" not in text
    assert captured.logs[0].message.startswith("using [redacted:")
    assert sum(captured.redacted.values()) == 2


def test_the_same_id_has_the_same_hash_in_every_capture() -> None:
    hashes = set()
    for _ in range(2):
        with telemetry.capture() as captured, telemetry.generation(project_id="p-7"):
            pass
        hashes.add(captured.spans[0].attributes["project.id"])
    (only,) = hashes
    assert only.startswith("hmac:")


def test_an_exception_is_recorded_and_goes_on() -> None:
    @telemetry.span("fails")
    def fail() -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError), telemetry.capture() as captured:
        fail()
    span = captured.spans.find("fails")
    assert span.status == "error"
    assert span.events[0].attributes["exception.type"] == "ZeroDivisionError"


def test_records_can_be_looked_at_while_more_are_made() -> None:
    with telemetry.capture() as captured:
        for count in (1, 2, 3):
            with telemetry.span("again"):
                pass
            assert len(captured.spans.named("again")) == count


def test_find_says_what_there_is() -> None:
    with telemetry.capture() as captured:
        for name in ("a", "b", "b"):
            with telemetry.span(name):
                pass
    with pytest.raises(LookupError, match="no record is named 'c'; there is: 'a', 'b'"):
        captured.spans.find("c")
    with pytest.raises(LookupError, match="2 records are named 'b'"):
        captured.spans.find("b")
    with pytest.raises(LookupError, match="there is: nothing"):
        captured.logs.find("x")


def test_threads_and_tasks_are_captured() -> None:
    async def task() -> None:
        with telemetry.span("in a task"):
            await asyncio.sleep(0)

    def thread() -> None:
        with telemetry.span("in a thread"):
            pass

    with telemetry.capture() as captured:
        asyncio.run(task())
        started = threading.Thread(target=thread)
        started.start()
        started.join()
    assert {span.name for span in captured.spans} == {"in a task", "in a thread"}


def test_more_than_a_buffer_holds_is_captured_whole() -> None:
    with telemetry.capture(buffered_records_max=5_000) as captured:
        for _ in range(12_000):
            with telemetry.span("many"):
                pass
    assert len(captured.spans) == 12_000
    assert captured.dropped == {}


def test_a_recording_program_goes_on_as_before(recording: Path) -> None:
    """Each record is in exactly one place: its own."""
    hits = telemetry.counter("hits")
    hits.add(1)
    with telemetry.span("before"):
        pass
    with telemetry.capture(span_attribute_count_max=1) as captured:
        hits.add(10)
        with telemetry.span("inside"):
            pass
    with telemetry.span("after", a=1, b=2) as after:
        after.set_attribute("c", 3)
    hits.add(100)
    telemetry.flush()
    assert [span["name"] for span in spans_in(recording)] == ["before", "after"]
    assert spans_in(recording)[1]["attrs"] == {"a": 1, "b": 2, "c": 3}
    assert [span.name for span in captured.spans] == ["inside"]
    assert captured.metrics.find("hits").value == 10
    assert _sum_of("hits", recording) == 101


def test_losses_are_told_where_they_happened(recording: Path) -> None:
    hits = telemetry.counter("hits.refused")
    hits.add(-1)
    with telemetry.capture() as captured:
        for _ in range(3):
            hits.add(-1)
    telemetry.flush()
    assert captured.dropped == {("metrics", "invalid_value"): 3}
    assert health(recording, "dropped") == {("metrics", "invalid_value"): 1}


def test_the_configuration_file_has_no_say() -> None:
    file = Path(configuration.default_config_path())
    file.parent.mkdir(parents=True)
    file.write_text("[telemetry]\nenabled = false\n")
    with telemetry.capture() as captured, telemetry.span("s"):
        pass
    assert len(captured.spans) == 1


def _sum_of(name: str, folder: Path) -> int:
    found = [metric for metric in metrics(folder) if metric["name"] == name]
    return sum(int(point["asInt"]) for metric in found for point in metric["sum"]["dataPoints"])


def test_a_file_is_written_by_nobody_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when the captured program configures and shuts down by itself."""
    telemetry.shutdown()
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_DIR", str(tmp_path / "t"))
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(tmp_path / "c" / "telemetry.toml"))
    with telemetry.capture() as captured:
        telemetry.configure(tmp_path / "own", flush_s=0.01)
        with telemetry.generation(project_id="p-7"):
            pass
        assert telemetry.flush() == Path(os.devnull)
        telemetry.shutdown()
        with telemetry.span("too late"):
            pass
    assert [span.name for span in captured.spans] == ["stack.generation"]
    assert not (tmp_path / "t").exists()
    assert not (tmp_path / "own").exists()
    assert not (tmp_path / "c").exists()


def test_the_innermost_capture_gets_the_records() -> None:
    with telemetry.capture() as outer:
        with telemetry.span("one"):
            pass
        with telemetry.capture() as inner, telemetry.span("two"):
            assert len(outer.spans) == 1
        with telemetry.span("three"):
            pass
    assert [span.name for span in outer.spans] == ["one", "three"]
    assert [span.name for span in inner.spans] == ["two"]


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED", "STACK_COMPOSER_GDPR"])
def test_the_environment_has_no_say(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "true")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with telemetry.capture() as captured, telemetry.span("s", a=1) as span:
        span.set_attribute("b", 2)
    assert captured.spans.find("s").attributes == {"a": 1, "b": 2}


def test_options_hold_within_the_block_only(recording: Path) -> None:
    with telemetry.capture(enabled=False) as captured, telemetry.span("off"):
        pass
    assert captured.spans == []
    with telemetry.capture(profile="strict") as captured:
        telemetry.log("info", "from 203.0.113.77 came a request")
    assert "203.0.113.77" not in captured.logs[0].message
    with telemetry.capture() as captured:
        telemetry.log("info", "from 203.0.113.77 came a request")
    assert "203.0.113.77" in captured.logs[0].message
    with telemetry.span("after"):
        pass
    telemetry.flush()
    assert [span["name"] for span in spans_in(recording)] == ["after"]


def test_before_the_first_record_a_capture_leaves_no_trace(tmp_path: Path) -> None:
    """The pipeline that starts afterwards is configured as if nothing had been."""
    code = (
        "from stack_composer import telemetry\n"
        "with telemetry.capture(enabled=False), telemetry.span('inside'): pass\n"
        "with telemetry.span('after'): pass\n"
        "telemetry.flush()\n"
    )
    environment = {**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(tmp_path / "t")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert [span["name"] for span in spans_in(tmp_path / "t")] == ["after"]


def test_a_wrong_option_changes_nothing(recording: Path) -> None:
    with pytest.raises(telemetry.ConfigError, match="unknown option"), telemetry.capture(colour=1):
        raise AssertionError("entered")
    with telemetry.span("after"):
        pass
    telemetry.flush()
    assert [span["name"] for span in spans_in(recording)] == ["after"]


def test_after_shutdown_a_capture_works_and_nothing_is_recorded_afterwards(
    recording: Path,
) -> None:
    telemetry.shutdown()
    with telemetry.capture() as captured, telemetry.span("inside"):
        pass
    with telemetry.span("after"):
        pass
    assert [span.name for span in captured.spans] == ["inside"]
    assert spans_in(recording) == []


FIXTURE_TEST = """
from stack_composer import telemetry

def test_solve(telemetry_capture):
    with telemetry.span("planner.solve", outcome="found"):
        pass
    assert telemetry_capture.spans.find("planner.solve").attributes == {"outcome": "found"}

def test_each_test_has_its_own(telemetry_capture):
    assert telemetry_capture.spans == []
"""


@pytest.mark.e2e
def test_the_pytest_fixture(tmp_path: Path) -> None:
    """A project that has the package installed has the fixture, without an import."""
    (tmp_path / "test_theirs.py").write_text(FIXTURE_TEST)
    environment: dict[str, Any] = {
        **os.environ,
        "PYTHONPATH": str(SRC),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "STACK_COMPOSER_TELEMETRY_DIR": str(tmp_path / "t"),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "stack_composer.telemetry.pytest_plugin",
            tmp_path,
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "t").exists()


def test_the_installed_entry_point_brings_the_fixture(request: pytest.FixtureRequest) -> None:
    captured = request.getfixturevalue("telemetry_capture")
    with telemetry.span("seen"):
        pass
    assert captured.spans.find("seen")
