"""Our tracers where the official SDK is no measure: bad input, bounds, memory, off."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace import TracerProvider as OfficialProvider
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

import otel_children
import records
from stack_composer import telemetry
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.otel import scope as scopes
from stack_composer.telemetry.record.otel.trace import TracerProvider


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A pipeline of its own that lets a test see faults of our code."""

    def raise_it(error: Exception) -> None:
        raise error

    telemetry.configure(tmp_path / "telemetry", on_internal_error=raise_it)
    yield tmp_path / "telemetry"
    telemetry.shutdown()


@pytest.fixture
def tracer() -> trace.Tracer:
    """A tracer that nobody has installed: it needs no global to work."""
    return TracerProvider().get_tracer("tests")


def written(folder: Path) -> dict[str, dict[str, Any]]:
    """Spans by name, after a flush."""
    telemetry.flush()
    return {span["name"]: span for span in records.spans(folder)}


class Hostile:
    """A value whose every use raises."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Hostile  # pytest looks at it too
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__

    def __bool__(self) -> bool:
        return True


BAD: list[Any] = [5, "text", b"b", object(), [1], {1: 2}, float("nan"), 10**400, -1, Hostile()]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_no_argument_raises_into_the_application(
    number: int, folder: Path, tracer: trace.Tracer
) -> None:
    """Each argument in turn is nonsense; a span comes out, and what fits is kept."""
    bad = BAD[number]
    for argument in ("context", "kind", "attributes", "links", "start_time"):
        with tracer.start_as_current_span(f"block {argument}", **{argument: bad}) as block:
            block.set_attribute("kept", 1)
        tracer.start_span(f"started {argument}", **{argument: bad}).end()
    with tracer.start_as_current_span("calls") as span:
        span.set_attribute("bad", bad)
        span.set_attribute(bad, 1)
        span.set_attributes(bad)
        span.add_event("event", bad)
        span.add_event("event", None, bad)
        span.add_event(bad)
        span.add_link(bad)
        span.add_link(SpanContext(1, 2, is_remote=False), bad)
        span.record_exception(bad)
        span.record_exception(ValueError("x"), bad, bad)
        span.set_status(bad)
        span.set_status(trace.StatusCode.ERROR, bad)
        span.end(bad)
    with tracer.start_as_current_span("renamed") as span:
        span.update_name(bad)
    with tracer.start_as_current_span(bad):
        pass
    recorder.faults.clear()  # Those of the bad links and contexts; writing has none.
    found = written(folder)
    for argument in ("context", "kind", "attributes", "links", "start_time"):
        assert found[f"block {argument}"]["attrs"]["kept"] == 1
        assert f"started {argument}" in found
    assert "calls" in found


def test_a_tracer_is_the_same_each_time_and_their_number_is_bounded(folder: Path) -> None:
    provider = TracerProvider()
    same = provider.get_tracer("a", "1", "url", {"k": [1, 2]})
    assert provider.get_tracer("a", "1", "url", {"k": [1, 2]}) is same
    others: list[Any] = [
        ("b", "1"),
        ("a", "2"),
        ("a", "1", "url2"),
        ("a", "1", "url", {"k": [1, 3]}),
    ]
    assert len({same, *(provider.get_tracer(*other) for other in others)}) == 5
    for number in range(scopes.SCOPES_MAX + 5):
        last = provider.get_tracer(f"made for request {number}")
    with last.start_as_current_span("overflow"):
        pass
    assert written(folder)["overflow"]["scope"] == "stack_composer.telemetry.overflow"
    scopes._scopes.clear()


@pytest.mark.parametrize("number", range(4))
def test_a_tracer_without_a_name_records(number: int, folder: Path) -> None:
    bad: Any = [None, "", 5, Hostile()][number]
    provider = TracerProvider()
    with provider.get_tracer(bad, bad, bad, bad).start_as_current_span("span"):
        pass
    assert "span" in written(folder)


def test_limits_count_what_they_drop_as_the_official_sdk_does(folder: Path) -> None:
    limits: dict[str, Any] = {
        "span_attribute_count_max": 3,
        "event_count_max": 2,
        "link_count_max": 1,
        "event_attribute_count_max": 2,
        "link_attribute_count_max": 1,
    }
    telemetry.configure(folder, **limits)
    official = OfficialProvider(
        span_limits=SpanLimits(
            max_span_attributes=3,
            max_events=2,
            max_links=1,
            max_event_attributes=2,
            max_link_attributes=1,
        ),
        shutdown_on_exit=False,
    )
    far = SpanContext(1, 2, is_remote=True)
    made = []
    for provider in (official, TracerProvider()):
        with provider.get_tracer("t").start_as_current_span(
            "span",
            attributes={"a": 1, "b": 2},
            links=[Link(far, {"x": 1, "y": 2, "z": 3}), Link(far)],
        ) as span:
            for key in "cdef":
                span.set_attribute(key, 1)
            span.set_attribute("a", 2)
            for number in range(5):
                span.add_event(str(number), {"x": 1, "y": 2, "z": 3})
            span.add_link(far)
        made.append(span)
    theirs: Any = made[0]
    ours = written(folder)["span"]
    assert len(ours["attrs"]) == len(theirs.attributes) == 3
    # The official SDK drops the oldest, so it also counts "a", dropped and set again.
    assert ours["droppedAttributesCount"] == theirs.dropped_attributes - 1 == 3
    assert len(ours["events"]) == len(theirs.events) == 2
    assert ours["droppedEventsCount"] == theirs.dropped_events == 3
    assert len(ours["links"]) == len(theirs.links) == 1
    assert ours["droppedLinksCount"] == theirs.dropped_links == 2
    assert [e["droppedAttributesCount"] for e in ours["events"]] == [1, 1]
    assert [k["droppedAttributesCount"] for k in ours["links"]] == [2]


def test_a_limit_met_at_the_start_and_later_is_counted_once(
    folder: Path, tracer: trace.Tracer
) -> None:
    telemetry.configure(folder, span_attribute_count_max=3)
    with tracer.start_as_current_span("span", attributes=dict.fromkeys("abcde", 1)) as span:
        span.set_attribute("f", 1)
    span_line = written(folder)["span"]
    assert span_line["droppedAttributesCount"] == 3
    (line,) = folder.glob("*.traces.jsonl")
    assert line.read_text().count("droppedAttributesCount") == 1, (
        "a key that stands twice is no JSON"
    )


def test_generators_keep_their_span_until_they_end(folder: Path, tracer: trace.Tracer) -> None:
    @tracer.start_as_current_span("generator", kind=SpanKind.CONSUMER)
    def numbers() -> Iterator[int]:
        with tracer.start_as_current_span("in generator"):
            yield 1
        yield 2

    @tracer.start_as_current_span("chosen generator", record_exception=False)
    def chosen() -> Iterator[int]:
        yield 1
        raise ValueError("ends it")

    for _ in numbers():
        assert trace.get_current_span() is trace.INVALID_SPAN
        with tracer.start_as_current_span("consumer"):
            pass
    with pytest.raises(ValueError, match="ends it"):
        list(chosen())
    found = written(folder)
    assert found["in generator"]["parentSpanId"] == found["generator"]["spanId"]
    assert found["generator"]["kind"] == 5
    assert "parentSpanId" not in found["consumer"]
    assert found["chosen generator"]["status"]["code"] == 2
    assert "events" not in found["chosen generator"]


def test_a_decorated_function_follows_the_configuration(folder: Path, tracer: trace.Tracer) -> None:
    """Whether recording was off or on when it was decorated."""
    made: dict[str, Callable[[], trace.Span]] = {}

    def decorate(when: str) -> None:
        made[f"{when}"] = tracer.start_as_current_span(when, kind=SpanKind.CLIENT)(
            trace.get_current_span
        )
        made[f"{when}, chosen"] = tracer.start_as_current_span(
            f"{when}, chosen", kind=SpanKind.CLIENT, record_exception=False
        )(trace.get_current_span)

    decorate("on")
    telemetry.configure(folder, enabled=False)
    decorate("off")
    for function in made.values():
        assert not function().is_recording()
    telemetry.configure(folder)
    for function in made.values():
        assert function().get_span_context().is_valid
    found = written(folder)
    assert set(found) == {"on", "on, chosen", "off", "off, chosen"}
    assert {span["kind"] for span in found.values()} == {3}
    assert len(records.spans(folder)) == 4


@pytest.mark.parametrize("ratio", [0.3])
def test_the_sampler_is_asked_once_a_trace(
    ratio: float, folder: Path, tracer: trace.Tracer
) -> None:
    """Also for a decorated generator, whose span is entered at each step."""
    telemetry.configure(folder, sampler="parentbased_traceidratio", sampler_ratio=ratio)

    @tracer.start_as_current_span("generator")
    def steps() -> Iterator[int]:
        for number in range(20):
            with tracer.start_as_current_span("inside"):
                yield number

    for _ in range(200):
        list(steps())
    telemetry.flush()
    spans = records.spans(folder)
    kept = {span["traceId"] for span in spans if span["name"] == "generator"}
    assert 20 < len(kept) < 120
    inside = [span["traceId"] for span in spans if span["name"] == "inside"]
    assert set(inside) == kept, "a trace is kept whole or not at all"
    assert len(inside) == 20 * len(kept)


def test_turned_off_it_lets_a_remote_parent_pass(folder: Path, tracer: trace.Tracer) -> None:
    """As OpenTelemetry demands of an API without an SDK: a proxy must not break a trace."""
    far = SpanContext(0xA, 0xB, is_remote=True, trace_flags=TraceFlags(1))
    context = trace.set_span_in_context(NonRecordingSpan(far), Context())
    telemetry.configure(folder, enabled=False)
    assert tracer.start_span("started", context=context).get_span_context() == far
    with tracer.start_as_current_span("block", context=context):
        assert trace.get_current_span().get_span_context() == far
        with tracer.start_as_current_span("inner") as inner:
            assert trace.get_current_span().get_span_context() == far
            assert not inner.is_recording()
            assert not inner.get_span_context().is_valid
    assert tracer.start_span("root") is trace.INVALID_SPAN
    for bad in BAD:
        tracer.start_span("bad", context=bad).end()
        with tracer.start_as_current_span("bad", context=bad):
            pass
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert not list(folder.glob("*"))


WAYS_TO_BE_CURRENT: dict[str, Callable[[trace.Tracer], Any]] = {
    "native": lambda _: telemetry.span("native"),
    "block": lambda tracer: tracer.start_as_current_span("block"),
    "used": lambda tracer: trace.use_span(tracer.start_span("used"), end_on_exit=True),
    "chosen": lambda tracer: tracer.start_as_current_span("chosen", record_exception=False),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("way", [*WAYS_TO_BE_CURRENT, "each in turn"])
def test_a_task_that_starts_its_successor_keeps_no_ancestors(
    way: str, flags: int, tracer: trace.Tracer
) -> None:
    """Whatever makes the span current, recorded or not."""
    ways = (
        [WAYS_TO_BE_CURRENT[way]] if way in WAYS_TO_BE_CURRENT else [*WAYS_TO_BE_CURRENT.values()]
    )
    alive: list[weakref.ref[Any]] = []
    counts: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    async def step(number: int) -> None:
        telemetry.flush()
        with ways[number % len(ways)](tracer) as span:
            alive.append(weakref.ref(span))
            if number < 60:
                # The successor outlives this one's block.
                tasks.append(asyncio.get_running_loop().create_task(step(number + 1)))
            else:
                gc.collect()
                counts.append(sum(reference() is not None for reference in alive))

    async def main() -> None:
        far = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(flags))
        with trace.use_span(NonRecordingSpan(far)):
            await step(0)
        while tasks:
            await tasks.pop(0)

    asyncio.run(main())
    assert len(alive) == 61
    assert counts[0] < 8, "while the last one was open"


@pytest.mark.usefixtures("folder")
def test_a_span_that_is_not_recorded_keeps_nothing_that_is_said_to_it(
    tracer: trace.Tracer,
) -> None:
    quiet = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0))
    far = trace.set_span_in_context(NonRecordingSpan(quiet), Context())
    started = tracer.start_span("started", far, attributes={"a": 1})
    with tracer.start_as_current_span("block", far) as block:
        held: Any
        for held in (started, block):
            held.set_attribute("b", 2)
            held.add_event("event")
            assert held.attributes is None
            assert held.details is None


def test_a_child_after_fork_has_traces_of_its_own(tmp_path: Path) -> None:
    otel_children.run(
        """
        import os
        from stack_composer import telemetry
        telemetry.configure(FOLDER, opentelemetry=True)
        from opentelemetry import trace
        tracer = trace.get_tracer("t")
        if not hasattr(os, "fork"):
            answer(None)
            raise SystemExit
        with tracer.start_as_current_span("parent"):
            child = os.fork()
            if child == 0:
                with tracer.start_as_current_span("in child"):
                    pass
                trace.get_tracer("made in child").start_span("made in child").end()
                telemetry.flush()
                os._exit(0)
            os.waitpid(child, 0)
        telemetry.flush()
        """,
        tmp_path,
    )
    found = {span["name"]: span for span in records.spans(tmp_path)}
    if found:
        assert set(found) == {"parent", "in child", "made in child"}
        assert len(records.spans(tmp_path)) == 3


def test_what_came_from_outside_outlives_the_spans_that_brought_it(
    folder: Path, tracer: trace.Tracer
) -> None:
    """A child that is open when its parents are written still hands on flags and state."""
    state = trace.TraceState.from_header(["k=v"])
    far = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    context = trace.set_span_in_context(NonRecordingSpan(far), Context())
    with (
        tracer.start_as_current_span("server", context),
        telemetry.span("middle"),
        tracer.start_as_current_span("child"),
    ):
        last = tracer.start_span("open")
    telemetry.flush()
    ids = last.get_span_context()
    assert (ids.trace_id, ids.trace_flags, ids.trace_state.to_header()) == (1, 1, "k=v")
    last.end()
    spans = written(folder)
    assert spans["open"]["parentSpanId"] == spans["child"]["spanId"]
    assert {span["traceState"] for span in spans.values()} == {"k=v"}


def test_force_flush_means_it(folder: Path) -> None:
    provider = TracerProvider()
    provider.get_tracer("t").start_span("durable").end()
    assert provider.force_flush()
    assert [span["name"] for span in records.spans(folder)] == ["durable"]
