"""What OpenTelemetry's tracing API promises, as small programs that run on any provider.

Run as a program, ``otel_scenarios.py PROVIDER FOLDER``: each scenario runs once, and
one JSON object on standard output has, by scenario, what it saw and which spans were
recorded, the same shape from any provider, ids replaced by names.
``test_otel_semantics.py`` compares them. PROVIDER is one of

- official: opentelemetry-sdk
- ours: ``telemetry.configure(opentelemetry=True)``
- ours-elsewhere: the same, where somebody else's runtime context is in force
- ours-unasked: no line of code, only OpenTelemetry's own environment variables
"""

# ruff: noqa: SIM117 - what is nested is the point here, and drawn as such

from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

REMOTE_TRACE = 0x0AF7651916CD43DD8448EB211C80319C
REMOTE_SPAN = 0x00F067AA0BA902B7
FIXED = {f"{REMOTE_TRACE:032x}", f"{REMOTE_SPAN:016x}"}

EARLY = trace.get_tracer("made.before.any.provider", "0.1")
SCENARIOS: dict[str, Callable[[trace.Tracer], Any]] = {}


def scenario(function: Callable[[trace.Tracer], Any]) -> Callable[[trace.Tracer], Any]:
    """List a scenario; what it returns is compared too."""
    SCENARIOS[function.__name__] = function
    return function


def remote(flags: int = 1, state: str = "") -> Context:
    """A context with a parent of another process, as a propagator would make it."""
    parent = SpanContext(
        REMOTE_TRACE,
        REMOTE_SPAN,
        is_remote=True,
        trace_flags=TraceFlags(flags),
        trace_state=TraceState.from_header([state]) if state else None,
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def flags_of(span: Span) -> int:
    return int(span.get_span_context().trace_flags)


# -- parents ---------------------------------------------------------------------------


@scenario
def nested_blocks(t: trace.Tracer) -> Any:
    with t.start_as_current_span("root") as root:
        with t.start_as_current_span("child") as child:
            seen = trace.get_current_span() is child
            with t.start_as_current_span("grandchild"):
                pass
        back = trace.get_current_span() is root
        with t.start_as_current_span("second"):
            pass
    return seen, back, trace.get_current_span() is INVALID_SPAN


@scenario
def a_started_span_is_not_current(t: trace.Tracer) -> Any:
    with t.start_as_current_span("root") as root:
        started = t.start_span("started")
        current = trace.get_current_span() is root
        with t.start_as_current_span("sibling"):
            pass
        started.end()
    return current


@scenario
def use_span_makes_it_current(t: trace.Tracer) -> Any:
    span = t.start_span("used")
    with use_span(span, end_on_exit=False):
        same = trace.get_current_span() is span
        with t.start_as_current_span("inside"):
            pass
    recording = span.is_recording()
    with use_span(span, end_on_exit=True), t.start_span("inside again"):
        pass
    return same, recording, span.is_recording()


@scenario
def an_explicit_context_gives_the_parent_and_not_what_is_current(t: trace.Tracer) -> Any:
    with t.start_as_current_span("other") as other:
        pass
    with t.start_as_current_span("current") as current:
        token = context.attach(baggage.set_baggage("here", "yes"))
        with t.start_as_current_span("below other", context=set_span_in_context(other)) as below:
            inside = trace.get_current_span() is below, baggage.get_baggage("here")
            with t.start_as_current_span("below below"):
                pass
        after = trace.get_current_span() is current
        context.detach(token)
        t.start_span("started below other", context=set_span_in_context(other)).end()
    return inside, after


@scenario
def an_empty_context_makes_a_root(t: trace.Tracer) -> Any:
    with t.start_as_current_span("outer"):
        with t.start_as_current_span("root in block", context=Context()):
            with t.start_as_current_span("its child"):
                pass
        t.start_span("root started", context=Context()).end()


@scenario
def remote_parents(t: trace.Tracer) -> Any:
    seen = []
    for flags in (1, 3):
        with t.start_as_current_span(f"server {flags}", context=remote(flags, "a=1,b=2")) as span:
            with t.start_as_current_span(f"inside {flags}") as inside:
                state = inside.get_span_context().trace_state.to_header()
                seen.append((flags_of(span), flags_of(inside), state))
        t.start_span(f"started {flags}", context=remote(flags)).end()
        token = context.attach(remote(flags))
        with t.start_as_current_span(f"attached {flags}"):
            pass
        context.detach(token)
    return seen


@scenario
def an_unsampled_remote_parent_silences_what_is_below(t: trace.Tracer) -> Any:
    seen: list[Any] = []
    for flags in (0, 2):
        token = context.attach(remote(flags, "k=v"))
        with t.start_as_current_span("server") as server:
            started = t.start_span("started")
            with t.start_as_current_span("inside", kind=SpanKind.CLIENT) as inside:
                inside.set_attribute("a", 1)
                inside.record_exception(ValueError("x"))
                ids = inside.get_span_context()
                carrier: dict[str, str] = {}
                propagate.inject(carrier)
                seen.append(
                    (
                        [s.is_recording() for s in (server, started, inside)],
                        [flags_of(s) for s in (server, started, inside)],
                        ids.trace_id == REMOTE_TRACE,
                        ids.span_id not in (0, REMOTE_SPAN, server.get_span_context().span_id),
                        ids.trace_state.to_header(),
                        carrier["traceparent"][-2:],
                    )
                )
            started.end()
        context.detach(token)
        with t.start_as_current_span("explicit", context=remote(flags)) as explicit:
            seen.append((explicit.is_recording(), trace.get_current_span() is explicit))
    with t.start_as_current_span("loud again"):
        pass
    return seen


@scenario
def an_invalid_parent_is_none(t: trace.Tracer) -> Any:
    with t.start_as_current_span("outer"):
        with use_span(INVALID_SPAN), t.start_as_current_span("root"):
            pass
        t.start_span("started", context=set_span_in_context(INVALID_SPAN)).end()


@scenario
def attached_and_detached_by_hand(t: trace.Tracer) -> Any:
    span = t.start_span("by hand")
    token = context.attach(set_span_in_context(span))
    with t.start_as_current_span("below"):
        pass
    context.detach(token)
    with t.start_as_current_span("beside"):
        pass
    span.end()


@scenario
def threads(t: trace.Tracer) -> Any:
    with t.start_as_current_span("main"):

        def work(name: str) -> None:
            with t.start_as_current_span(name):
                pass

        bare = threading.Thread(target=work, args=("bare thread",))
        copied = threading.Thread(target=contextvars.copy_context().run, args=(work, "copied"))
        here = context.get_current()

        def attaching() -> None:
            token = context.attach(here)
            work("attached")
            context.detach(token)

        by_hand = threading.Thread(target=attaching)
        for thread in (bare, copied, by_hand):
            thread.start()
            thread.join()
        ended_elsewhere = t.start_span("ended on another thread")
        thread = threading.Thread(target=ended_elsewhere.end)
        thread.start()
        thread.join()


@scenario
def tasks(t: trace.Tracer) -> Any:
    async def work(number: int) -> None:
        with t.start_as_current_span(f"task {number}"):
            await asyncio.sleep(0)
            with t.start_as_current_span(f"inside {number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        with t.start_as_current_span("main"):
            await asyncio.gather(*(work(number) for number in range(3)))

    asyncio.run(main())


@scenario
def decorators(t: trace.Tracer) -> Any:
    @t.start_as_current_span("function", kind=SpanKind.PRODUCER, attributes={"k": 1})
    def function(value: int) -> int:
        with t.start_as_current_span(f"in function {value}"):
            return value + 1

    @t.start_as_current_span("coroutine")
    async def coroutine(value: int) -> int:
        await asyncio.sleep(0)
        with t.start_as_current_span(f"in coroutine {value}"):
            return value + 1

    @t.start_as_current_span("failing", record_exception=False)
    def failing() -> None:
        raise ValueError("no")

    answers: list[Any] = [function(1), function(2), asyncio.run(coroutine(3))]
    try:
        failing()
    except ValueError:
        answers.append(function.__name__)
    return answers


@scenario
def tracers_made_before_the_provider(_: trace.Tracer) -> Any:
    with EARLY.start_as_current_span("early"):
        EARLY.start_span("early started").end()

    @EARLY.start_as_current_span("early decorated")
    def function() -> int:
        return 1

    return function()


# -- what a span holds -----------------------------------------------------------------


@scenario
def kinds(t: trace.Tracer) -> Any:
    seen = []
    for kind in SpanKind:
        with t.start_as_current_span(f"block {kind.name}", kind=kind) as span:
            seen.append(not span.is_recording() or span.kind is kind)  # type: ignore[attr-defined]
        with t.start_span(f"started {kind.name}", kind=kind) as span:
            seen.append(not span.is_recording() or span.kind is kind)  # type: ignore[attr-defined]
    return seen


@scenario
def attributes(t: trace.Tracer) -> Any:
    given: dict[str, Any] = {
        "text": "t",
        "int": 1,
        "float": 0.5,
        "yes": True,
        "texts": ["a", "b"],
        "ints": (1, 2),
    }
    with t.start_as_current_span("at start", attributes=given) as span:
        given["text"] = "changed afterwards"
        span.set_attribute("int", 2)
        span.set_attributes({"more": "m", "empty": []})
    with t.start_span("started", attributes={"a": 1}) as span:
        span.set_attribute("b", b"bytes")


@scenario
def links(t: trace.Tracer) -> Any:
    with t.start_as_current_span("target") as target:
        pass
    far = trace.get_current_span(remote()).get_span_context()
    nowhere = INVALID_SPAN.get_span_context()
    given = [Link(target.get_span_context(), {"why": "because"}), Link(far), Link(nowhere)]
    with t.start_as_current_span("block", links=given) as span:
        span.add_link(far, {"late": True})
        span.add_link(nowhere)
        span.add_link(nowhere, {"but": "it has attributes"})
    t.start_span("started", links=given).end()


@scenario
def events(t: trace.Tracer) -> Any:
    with t.start_as_current_span("span") as span:
        span.add_event("at", {"a": 1, "b": "two"}, timestamp=1_700_000_000_000_000_000)
        span.add_event("second", timestamp=1_700_000_000_000_000_001)
        span.record_exception(
            KeyError("k"),
            {"exception.message": "mine", "x": 1},
            timestamp=1_700_000_000_000_000_002,
        )
    span.add_event("too late")


@scenario
def status_rules(t: trace.Tracer) -> Any:
    ok, error, unset = StatusCode.OK, StatusCode.ERROR, StatusCode.UNSET
    orders: list[list[Any]] = [
        [ok],
        [error],
        [Status(error, "why")],
        [Status(error, "first"), Status(error, "second")],
        [error, ok],
        [ok, error],
        [error, unset],
        [Status(ok)],
        [unset],
    ]
    for number, order in enumerate(orders):
        with t.start_as_current_span(f"order {number}") as span:
            for status in order:
                span.set_status(status)
    with t.start_as_current_span("described") as span:
        span.set_status(error, "in words")
    with t.start_as_current_span("both") as span:
        span.set_status(Status(error, "inside"), "outside")


@scenario
def names(t: trace.Tracer) -> Any:
    with t.start_as_current_span("old name") as span:
        span.update_name("new name")
    span.update_name("too late")


@scenario
def explicit_times(t: trace.Tracer) -> Any:
    start, end = 1_600_000_000_000_000_000, 1_600_000_001_000_000_000
    span = t.start_span("started", start_time=start)
    span.end(end_time=end)
    with t.start_as_current_span("block", start_time=start, end_on_exit=False) as block:
        with t.start_as_current_span("inside"):
            pass
    block.end(end)


@scenario
def ends(t: trace.Tracer) -> Any:
    span = t.start_span("twice")
    span.end(1_900_000_000_000_000_000)
    span.end(1_900_000_000_000_000_001)
    span.set_attribute("late", 1)
    span.set_status(StatusCode.ERROR)
    t.start_span("never")
    with t.start_as_current_span("ended inside") as inside:
        inside.set_attribute("a", 1)
        inside.end(1_900_000_000_000_000_000)
        inside.end(1_600_000_000_000_000_000)
        after = inside.is_recording(), trace.get_current_span() is inside
        with t.start_as_current_span("child of an ended one"):
            pass
    return span.is_recording(), span.get_span_context().is_valid, after


@scenario
def scopes(_: trace.Tracer) -> Any:
    for name, version in (("lib.a", "1.0"), ("lib.b", None), ("lib.a", "2.0")):
        with trace.get_tracer(name, version).start_as_current_span(f"{name} {version}"):
            pass
    full = trace.get_tracer("lib.c", "3", schema_url="https://example.org/s", attributes={"x": 1})
    full.start_span("full").end()


@scenario
def what_is_a_span(t: trace.Tracer) -> Any:
    with t.start_as_current_span("block") as block, t.start_span("started") as started:
        ids = block.get_span_context()
        return (
            isinstance(block, Span),
            isinstance(started, Span),
            isinstance(ids, SpanContext),
            ids == block.get_span_context(),
            ids.is_valid,
            ids.is_remote,
            ids.trace_state.to_header(),
            flags_of(block),
            flags_of(started),
            block.is_recording(),
            trace.get_current_span(context.get_current()) is block,
        )


# -- exceptions ------------------------------------------------------------------------


def failing(manager: Any, error: BaseException) -> bool:
    """Raise inside a block; tell that it came through."""
    try:
        with manager:
            raise error
    except BaseException as caught:  # noqa: BLE001 - it is compared
        return caught is error


@scenario
def exceptions_leave_an_event_and_a_status(t: trace.Tracer) -> Any:
    return [
        failing(t.start_as_current_span("block"), ValueError("in block")),
        failing(t.start_span("started"), ValueError("in started")),
        failing(use_span(t.start_span("used"), end_on_exit=True), ValueError("in used")),
    ]


@scenario
def exceptions_as_the_caller_chose(t: trace.Tracer) -> Any:
    answers = []
    for number, (record, status) in enumerate([(True, False), (False, True), (False, False)]):
        chosen: Any = {"record_exception": record, "set_status_on_exception": status}
        for make, name in ((t.start_as_current_span, "block"), (t.start_span, "started")):
            manager = make(f"{name} {number}", **chosen)
            answers.append(failing(manager, ValueError("x")))
    return answers


@scenario
def exceptions_that_are_no_errors(t: trace.Tracer) -> Any:
    return failing(t.start_as_current_span("block"), KeyboardInterrupt()), failing(
        t.start_as_current_span("chosen", start_time=1), GeneratorExit()
    )


@scenario
def a_status_set_before_stays(t: trace.Tracer) -> Any:
    try:
        with t.start_as_current_span("fine") as span:
            span.set_status(StatusCode.OK)
            raise ValueError("after all")
    except ValueError:
        pass
    try:
        with t.start_as_current_span("outer"), t.start_as_current_span("inner"):
            raise ValueError("through both")
    except ValueError:
        pass


# -- context, baggage, propagators -----------------------------------------------------


@scenario
def baggage_and_other_values_stay(t: trace.Tracer) -> Any:
    key = context.create_key("mine")
    token = context.attach(context.set_value(key, 1, baggage.set_baggage("a", "1")))
    seen: list[Any] = []
    with t.start_as_current_span("outer"):
        seen.append((baggage.get_all(), context.get_value(key)))
        inner = context.attach(baggage.set_baggage("b", "2"))
        with t.start_as_current_span("inner") as span:
            seen.append((baggage.get_all(), context.get_value(key)))
            seen.append(trace.get_current_span() is span)
        context.detach(inner)
        seen.append(baggage.get_all())
    context.detach(token)
    return [*seen, baggage.get_all(), context.get_value(key)]


@scenario
def propagation_out_and_in(t: trace.Tracer) -> Any:
    both = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    token = context.attach(baggage.set_baggage("user.tier", "gold"))
    carrier: dict[str, str] = {}
    with t.start_as_current_span("client") as client:
        both.inject(carrier)
        ids = client.get_span_context()
        wire = f"00-{ids.trace_id:032x}-{ids.span_id:016x}-{ids.trace_flags:02x}"
    context.detach(token)
    token = context.attach(both.extract(carrier))
    with t.start_as_current_span("server") as server:
        seen = baggage.get_all(), server.get_span_context().trace_id == ids.trace_id
        inside: dict[str, str] = {}
        both.inject(inside)
    context.detach(token)
    empty: dict[str, str] = {}
    both.inject(empty)
    return carrier["traceparent"] == wire, carrier["baggage"], seen, sorted(inside), empty


@scenario
def trace_state_travels(t: trace.Tracer) -> Any:
    carrier = {"traceparent": f"00-{REMOTE_TRACE:032x}-{REMOTE_SPAN:016x}-01", "tracestate": "v=1"}
    out: dict[str, str] = {}
    token = context.attach(propagate.extract(carrier))
    with t.start_as_current_span("server"), t.start_as_current_span("client"):
        propagate.inject(out)
    context.detach(token)
    return out["tracestate"], out["traceparent"][:36]


# -- the two providers ---------------------------------------------------------------------


def run_ours(folder: Path) -> Callable[[], list[dict[str, Any]]]:
    """Install ours; return what gives the spans that are new on disk."""
    from stack_composer import telemetry

    telemetry.configure(folder, opentelemetry=True, on_internal_error=_fail)
    return reader_of(folder)


def run_ours_elsewhere(folder: Path) -> Callable[[], list[dict[str, Any]]]:
    """Have a runtime context that is not the stock one."""
    from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

    class Elsewhere(ContextVarsRuntimeContext):
        _CONTEXT_KEY = "somebody_elses"

    context._RUNTIME_CONTEXT = Elsewhere()
    recorded = run_ours(folder)
    assert type(context._RUNTIME_CONTEXT) is Elsewhere
    return recorded


def run_ours_unasked(folder: Path) -> Callable[[], list[dict[str, Any]]]:
    """Do nothing: the environment has named everything."""
    assert type(trace.get_tracer_provider()).__module__.startswith("stack_composer.")
    assert type(context._RUNTIME_CONTEXT).__module__.startswith("stack_composer.")
    return reader_of(folder)


def reader_of(folder: Path) -> Callable[[], list[dict[str, Any]]]:
    """Give what flushes and reads the spans that are new on disk."""
    import records
    from stack_composer import telemetry

    seen: set[str] = set()

    def recorded() -> list[dict[str, Any]]:
        telemetry.flush()
        found = []
        for line in records.lines(folder, "traces"):
            for scope in line["resourceSpans"][0]["scopeSpans"]:
                for span in scope["spans"]:
                    if span["spanId"] not in seen:
                        seen.add(span["spanId"])
                        found.append(_from_line(span, scope["scope"]))
        return found

    return recorded


def _fail(error: Exception) -> None:
    raise error


def _from_line(span: dict[str, Any], scope: dict[str, Any]) -> dict[str, Any]:
    import records

    return {
        "name": span["name"],
        "trace": span["traceId"],
        "id": span["spanId"],
        "parent": span.get("parentSpanId"),
        "parent_is_remote": bool(int(span["flags"]) & 0x200),
        "kind": span["kind"],
        "attributes": records.attributes(span),
        "status": [
            span.get("status", {}).get("code", 0),
            span.get("status", {}).get("message", ""),
        ],
        "times": [int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])],
        "trace_state": span.get("traceState", ""),
        "events": [
            [e["name"], int(e["timeUnixNano"]), records.attributes(e)]
            for e in span.get("events", [])
        ],
        "links": [
            [k["traceId"], k["spanId"], records.attributes(k)] for k in span.get("links", [])
        ],
        "dropped": [span.get(f"dropped{x}Count", 0) for x in ("Attributes", "Events", "Links")],
        "scope": [scope.get("name", ""), scope.get("version", ""), records.attributes(scope)],
    }


def run_official(_: Path) -> Callable[[], list[dict[str, Any]]]:
    """Install the official SDK; return what gives the spans since the last call."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)

    def recorded() -> list[dict[str, Any]]:
        found = [_from_readable(span) for span in memory.get_finished_spans()]
        memory.clear()
        return found

    return recorded


def _from_readable(span: Any) -> dict[str, Any]:
    scope = span.instrumentation_scope
    return {
        "name": span.name,
        "trace": f"{span.context.trace_id:032x}",
        "id": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else None,
        "parent_is_remote": bool(span.parent and span.parent.is_remote),
        "kind": span.kind.value + 1,
        "attributes": {k: _jsonable(v) for k, v in (span.attributes or {}).items()},
        "status": [span.status.status_code.value, span.status.description or ""],
        "times": [span.start_time, span.end_time],
        "trace_state": span.context.trace_state.to_header(),
        "events": [
            [e.name, e.timestamp, {k: _jsonable(v) for k, v in (e.attributes or {}).items()}]
            for e in span.events
        ],
        "links": [
            [f"{k.context.trace_id:032x}", f"{k.context.span_id:016x}", dict(k.attributes or {})]
            for k in span.links
        ],
        "dropped": [span.dropped_attributes, span.dropped_events, span.dropped_links],
        "scope": [scope.name, scope.version or "", dict(scope.attributes or {})],
    }


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    return list(value) if isinstance(value, tuple) else value


def normal(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace what differs from run to run: ids by names, new times and stack traces."""
    names = {span["id"]: span["name"] for span in spans}
    traces: dict[str, str] = {}
    for span in sorted(spans, key=lambda s: (s["name"], s["times"])):
        traces.setdefault(span["trace"], f"trace of {span['name']}")
    for span in spans:
        span["links"] = [
            [traces.get(t, _fixed(t)), names.get(s, _fixed(s)), a] for t, s, a in span["links"]
        ]
        span["trace"] = _fixed(span["trace"]) or traces[span["trace"]]
        span["parent"] = span["parent"] and names.get(span["parent"], _fixed(span["parent"]))
        span["times"] = [
            time if time < 1_750_000_000_000_000_000 else "now" for time in span["times"]
        ]
        del span["id"]
        for event in span["events"]:
            if event[1] >= 1_750_000_000_000_000_000:
                event[1] = "now"
            if "exception.stacktrace" in event[2]:
                event[2]["exception.stacktrace"] = event[2]["exception.stacktrace"].splitlines()[-1]
    return sorted(spans, key=lambda s: json.dumps(s, sort_keys=True))


def _fixed(some_id: str) -> str | None:
    return some_id if some_id in FIXED or not int(some_id, 16) else None


PROVIDERS = {
    "official": run_official,
    "ours": run_ours,
    "ours-elsewhere": run_ours_elsewhere,
    "ours-unasked": run_ours_unasked,
}


def main() -> None:
    which, folder = sys.argv[1], Path(sys.argv[2])
    recorded = PROVIDERS[which](folder)
    tracer = trace.get_tracer("scenarios", "1.2.3")
    found = {}
    for name, function in SCENARIOS.items():
        saw = function(tracer)
        found[name] = {"saw": saw, "spans": normal(recorded())}
    json.dump(found, sys.stdout, default=dict)


if __name__ == "__main__":
    main()
