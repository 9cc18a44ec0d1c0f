from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from records import spans as spans_in
from stack_composer import telemetry
from stack_composer.telemetry import TELEMETRY, Telemetry, TelemetryEvent, events


def start(name: str) -> None:
    TELEMETRY.record_event(TelemetryEvent.SpanStart(name))


def end() -> None:
    TELEMETRY.record_event(TelemetryEvent.SpanEnd())


def tree(captured: Any) -> dict[str, str | None]:
    """Each span's name with its parent's."""
    names = {span.span_id: span.name for span in captured.spans}
    return {span.name: names.get(span.parent_id) for span in captured.spans}


def test_a_metric_event_is_one_measurement(telemetry_capture: Any) -> None:
    event = TelemetryEvent.Metric("agent.latency_ms", 12.5, {"agent": "stack"})
    TELEMETRY.record_event(event)
    TELEMETRY.record_event(TelemetryEvent.Metric("critic.value", 1))
    latency, value = telemetry_capture.metrics
    assert (latency.name, latency.value, latency.attributes) == (
        "agent.latency_ms",
        12.5,
        {"agent": "stack"},
    )
    assert (value.value, value.attributes) == (1, {})


def test_starts_and_ends_nest_with_each_other_and_with_spans(telemetry_capture: Any) -> None:
    start("a")
    start("b")
    with telemetry.span("c"):
        start("d")
        end()
    end()
    start("e")
    end()
    end()
    assert tree(telemetry_capture) == {"d": "c", "c": "b", "b": "a", "e": "a", "a": None}
    assert telemetry_capture.dropped == {}


def test_an_end_without_a_start_is_counted(telemetry_capture: Any) -> None:
    end()
    with telemetry.span("block"):
        end()
    assert tree(telemetry_capture) == {"block": None}
    assert telemetry_capture.dropped == {("traces", "unmatched_end"): 2}


def test_an_end_inside_of_a_later_block_ends_nothing(telemetry_capture: Any) -> None:
    """Else the block would end outside of its parent, and stay current for ever."""
    start("a")
    with telemetry.span("block"):
        end()
    end()
    with telemetry.span("root"):
        pass
    assert tree(telemetry_capture) == {"block": "a", "a": None, "root": None}
    assert telemetry_capture.dropped == {("traces", "unmatched_end"): 1}


def test_each_task_ends_its_own_spans_only(telemetry_capture: Any) -> None:
    async def worker(name: str) -> None:
        start(name)
        await asyncio.sleep(0)
        start(f"{name}.inner")
        await asyncio.sleep(0)
        end()
        end()
        end()  # inherited from the parent task, so not this task's to end

    async def main() -> None:
        start("main")
        await asyncio.gather(worker("a"), worker("b"))
        end()

    asyncio.run(main())
    assert tree(telemetry_capture) == {
        "a.inner": "a",
        "b.inner": "b",
        "a": "main",
        "b": "main",
        "main": None,
    }
    assert telemetry_capture.dropped == {("traces", "unmatched_end"): 2}


def test_a_thread_has_a_nesting_of_its_own(telemetry_capture: Any) -> None:
    def work() -> None:
        end()
        start("thread")
        end()

    start("main")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    end()
    assert tree(telemetry_capture) == {"thread": None, "main": None}
    assert telemetry_capture.dropped == {("traces", "unmatched_end"): 1}


def test_nesting_has_a_bound_and_still_comes_out_even(telemetry_capture: Any) -> None:
    beyond = 5
    for _ in range(events.DEPTH_MAX + beyond):
        start("deep")
    for _ in range(events.DEPTH_MAX + beyond):
        end()
    assert len(telemetry_capture.spans) == events.DEPTH_MAX
    assert telemetry_capture.dropped == {("traces", "too_deep"): beyond}
    end()
    assert telemetry_capture.dropped["traces", "unmatched_end"] == 1


@pytest.mark.parametrize(
    "event",
    [
        None,
        "SpanStart",
        object(),
        TelemetryEvent(),
        TelemetryEvent.SpanStart(None),  # type: ignore[arg-type]
        TelemetryEvent.Metric("m", "no number"),  # type: ignore[arg-type]
        TelemetryEvent.Metric("m", 1, 7),  # type: ignore[arg-type]
    ],
)
def test_whatever_comes_nothing_is_raised(event: Any, telemetry_capture: Any) -> None:
    TELEMETRY.record_event(event)
    end()
    assert telemetry_capture.faults == {}


def test_what_is_no_event_is_counted(telemetry_capture: Any) -> None:
    TELEMETRY.record_event("SpanStart")  # type: ignore[arg-type]
    assert telemetry_capture.dropped == {("events", "unknown_event"): 1}


@pytest.mark.parametrize("options", [{"enabled": False}, {"sampler": "always_off"}])
def test_while_nothing_is_recorded_events_still_match(options: dict[str, Any]) -> None:
    with telemetry.capture(**options) as captured:
        start("a")
        start("b")
        end()
        end()
        end()
    assert captured.spans == []
    assert captured.dropped in ({}, {("traces", "unmatched_end"): 1})


def test_events_while_off_leave_nothing_behind() -> None:
    """Else nesting would be at its bound when recording is turned on again."""
    with telemetry.capture(enabled=False):
        for _ in range(events.DEPTH_MAX + 1):
            start("off")
            end()
    with telemetry.capture() as captured:
        start("on")
        end()
    assert tree(captured) == {"on": None}
    assert captured.dropped == {}


def test_flush_returns_the_bundle(tmp_path: Path) -> None:
    telemetry.configure(tmp_path)
    start("a")
    end()
    path = TELEMETRY.flush()
    assert path.parent == tmp_path
    assert path.stat().st_size > 0
    assert [span["name"] for span in spans_in(tmp_path)] == ["a"]


def test_the_protocol_and_the_variants() -> None:
    """As the specification has them: variants of one type, and a sink that anyone can be."""

    class Own:
        def record_event(self, ev: TelemetryEvent) -> None: ...

        def flush(self) -> Path:
            return Path()

    assert isinstance(TELEMETRY, Telemetry)
    assert isinstance(Own(), Telemetry)
    assert not isinstance(object(), Telemetry)
    event: TelemetryEvent = TelemetryEvent.Metric("m", 1.5)
    match event:
        case TelemetryEvent.Metric(name, value):
            assert (name, value) == ("m", 1.5)
        case _:
            raise AssertionError("no match")
    with pytest.raises(AttributeError):
        event.name = "other"  # type: ignore[misc]
