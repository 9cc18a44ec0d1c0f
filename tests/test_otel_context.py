"""Native spans and OpenTelemetry's nest in each other, whatever the runtime context is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import otel_children
import records

pytestmark = pytest.mark.e2e

ASKED = """
    from stack_composer import telemetry
    telemetry.configure(FOLDER, opentelemetry=True)
    from opentelemetry import trace
"""
LATE = """
    from opentelemetry import context, trace
    tracer = trace.get_tracer("made before")
    from stack_composer import telemetry
    telemetry.configure(FOLDER, opentelemetry=True)
"""
ELSEWHERE = """
    from opentelemetry import context, trace
    from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
    class Elsewhere(ContextVarsRuntimeContext):
        _CONTEXT_KEY = "somebody_elses"
    context._RUNTIME_CONTEXT = Elsewhere()
    from stack_composer import telemetry
    telemetry.configure(FOLDER, opentelemetry=True)
"""
NAMED = """
    from opentelemetry import trace
    from stack_composer import telemetry
"""
ENVIRONMENT = {
    "OTEL_PYTHON_CONTEXT": "stack_composer",
    "OTEL_PYTHON_TRACER_PROVIDER": "stack_composer",
}
ONLY_PROVIDER = {"OTEL_PYTHON_TRACER_PROVIDER": "stack_composer"}
OURS_FIRST = """
    import stack_composer.telemetry.record.otel.context
    from opentelemetry import trace
    from stack_composer import telemetry
"""

WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "asked": (ASKED, {}),
    "asked, tracer made before": (LATE, {}),
    "asked, context named": (ASKED, {"OTEL_PYTHON_CONTEXT": "stack_composer"}),
    "somebody else's runtime context": (ELSEWHERE, {}),
    "named in the environment": (NAMED, ENVIRONMENT),
    "only the provider named": (NAMED, ONLY_PROVIDER),
    "named, our module imported first": (OURS_FIRST, ENVIRONMENT),
}

NESTING = """
    import asyncio, threading, contextvars
    from opentelemetry import context, baggage
    tracer = trace.get_tracer("library")
    seen = []

    def in_a_thread():
        with telemetry.span("in a thread"):
            pass

    def current(span):
        seen.append(trace.get_current_span() is span and isinstance(span, trace.Span))

    with telemetry.span("native"):
        current(trace.get_current_span())
        trace.get_current_span().set_attribute("set", "through the API")
        token = context.attach(baggage.set_baggage("k", "v"))
        with tracer.start_as_current_span("otel") as otel:
            current(otel)
            with telemetry.span("native in otel") as inner:
                current(inner)
                seen.append(baggage.get_baggage("k") == "v")
                started = tracer.start_span("started")
                with trace.use_span(started, end_on_exit=True):
                    current(started)
                    with telemetry.span("native in started"):
                        telemetry.log("info", "inside")
            current(otel)
            thread = threading.Thread(
                target=contextvars.copy_context().run,
                args=(in_a_thread,),
            )
            thread.start()
            thread.join()

            async def task():
                with telemetry.span("native task"):
                    await asyncio.sleep(0)
                    with tracer.start_as_current_span("otel task"):
                        await asyncio.sleep(0)

            asyncio.run(task())
        context.detach(token)
        seen.append(baggage.get_baggage("k") is None)
        with tracer.start_as_current_span("sibling"):
            pass
    seen.append(trace.get_current_span() is trace.INVALID_SPAN)
    telemetry.flush()
    answer(seen)
"""
PARENTS = {
    "native": None,
    "otel": "native",
    "native in otel": "otel",
    "started": "native in otel",
    "native in started": "started",
    "in a thread": "otel",
    "native task": "otel",
    "otel task": "native task",
    "sibling": "native",
}


def parents(folder: Path) -> dict[str, str | None]:
    """Each span's parent, by names."""
    spans = records.spans(folder)
    names = {span["spanId"]: span["name"] for span in spans}
    return {s["name"]: names[s["parentSpanId"]] if "parentSpanId" in s else None for s in spans}


@pytest.mark.parametrize("way", WAYS)
def test_both_kinds_of_spans_nest(way: str, tmp_path: Path) -> None:
    preparation, environment = WAYS[way]
    seen = otel_children.run(preparation + NESTING, tmp_path, **environment)
    assert all(seen), seen
    assert parents(tmp_path) == PARENTS
    spans = {span["name"]: span for span in records.spans(tmp_path)}
    assert len({span["traceId"] for span in spans.values()}) == 1
    assert spans["native"]["attrs"] == {"set": "through the API"}
    (log,) = records.logs(tmp_path)
    assert log["spanId"] == spans["native in started"]["spanId"]


def test_what_was_attached_before_stays_until_it_is_detached(tmp_path: Path) -> None:
    seen = otel_children.run(
        """
        import threading
        from opentelemetry import baggage, context, trace
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
        far = NonRecordingSpan(SpanContext(0xA, 0xB, True, TraceFlags(1)))
        def attach():
            return context.attach(baggage.set_baggage("k", "v", trace.set_span_in_context(far)))

        attached, installed = threading.Event(), threading.Event()
        elsewhere = []
        def work():
            token = attach()
            attached.set()
            installed.wait()
            elsewhere.append(baggage.get_baggage("k"))
            with telemetry.span("on a thread, native"):
                elsewhere.append(baggage.get_baggage("k"))
            context.detach(token)
            elsewhere.append(baggage.get_baggage("k"))
        thread = threading.Thread(target=work)
        thread.start()
        attached.wait()

        token = attach()
        from stack_composer import telemetry
        telemetry.configure(FOLDER, opentelemetry=True)
        installed.set()
        thread.join()
        seen = [baggage.get_baggage("k")]
        with telemetry.span("native"):
            seen.append(baggage.get_baggage("k"))
        with trace.get_tracer("t").start_as_current_span("otel"):
            seen.append(baggage.get_baggage("k"))
        context.detach(token)
        seen.append(baggage.get_baggage("k"))
        with telemetry.span("afterwards"):
            seen.append(baggage.get_baggage("k"))
        telemetry.flush()
        answer([seen, elsewhere])
        """,
        tmp_path,
    )
    assert seen == [["v", "v", "v", None, None], ["v", "v", None]]
    spans = {span["name"]: span for span in records.spans(tmp_path)}
    assert spans["native"]["parentSpanId"] == spans["otel"]["parentSpanId"] == f"{0xB:016x}"
    assert spans["native"]["flags"] == 0x301
    assert "parentSpanId" not in spans["afterwards"]


def test_a_detach_in_the_wrong_task_is_told_as_the_official_one_tells_it(tmp_path: Path) -> None:
    """The API logs it; nothing is raised, and what is current stays right."""
    seen = otel_children.run(
        """
        import contextvars, logging
        from stack_composer import telemetry
        telemetry.configure(FOLDER, opentelemetry=True)
        from opentelemetry import baggage, context
        told = []
        class Handler(logging.Handler):
            def emit(self, record):
                told.append(record.getMessage())
        logging.getLogger().addHandler(Handler())
        token = contextvars.copy_context().run(context.attach, baggage.set_baggage("a", "1"))
        here = context.attach(baggage.set_baggage("b", "2"))
        context.detach(token)
        seen = dict(baggage.get_all())
        context.detach(here)
        context.detach(here)
        answer([told, seen, dict(baggage.get_all())])
        """,
        tmp_path,
    )
    assert seen == [["Failed to detach context"] * 2, {"b": "2"}, {}]


def test_a_span_of_another_tracer_is_a_parent(tmp_path: Path) -> None:
    """The official SDK's spans and ours nest in one process; each writes its own."""
    answer = otel_children.run(
        """
        from stack_composer import telemetry
        telemetry.configure(FOLDER, opentelemetry=True)
        from opentelemetry.sdk.trace import TracerProvider
        official = TracerProvider(shutdown_on_exit=False).get_tracer("official")
        with telemetry.span("native") as native:
            with official.start_as_current_span("theirs") as theirs:
                with telemetry.span("native below theirs"):
                    pass
        telemetry.flush()
        ids = native.get_span_context()
        answer([
            theirs.parent.span_id == ids.span_id,
            theirs.get_span_context().trace_id == ids.trace_id,
            format(theirs.get_span_context().span_id, "016x"),
        ])
        """,
        tmp_path,
    )
    assert answer[:2] == [True, True]
    spans = {span["name"]: span for span in records.spans(tmp_path)}
    assert spans["native below theirs"]["parentSpanId"] == answer[2]
    assert spans["native below theirs"]["traceId"] == spans["native"]["traceId"]
    assert spans["native below theirs"]["flags"] == 0x101, "it is in this process, not remote"


def test_a_broken_span_of_somebody_else_is_no_parent_and_is_counted(tmp_path: Path) -> None:
    otel_children.run(
        """
        from stack_composer import telemetry
        telemetry.configure(FOLDER, opentelemetry=True)
        from opentelemetry import context, trace
        class Broken(trace.NonRecordingSpan):
            def get_span_context(self):
                raise RuntimeError("broken")
        with trace.use_span(Broken(trace.INVALID_SPAN_CONTEXT)):
            with telemetry.span("root"):
                pass
        telemetry.flush()
        """,
        tmp_path,
    )
    (span,) = records.spans(tmp_path)
    assert "parentSpanId" not in span
    assert records.health(tmp_path, "faults") == {("context",): 1}


@pytest.mark.parametrize("kind", ["tracer", "meter", "logger"])
def test_another_provider_in_place_is_an_error_that_changes_nothing(
    kind: str, tmp_path: Path
) -> None:
    setters: dict[str, Any] = {
        "tracer": "trace.set_tracer_provider(trace.NoOpTracerProvider())",
        "meter": "metrics.set_meter_provider(metrics.NoOpMeterProvider())",
        "logger": "_logs.set_logger_provider(_logs.NoOpLoggerProvider())",
    }
    message, hint, unchanged = otel_children.run(
        f"""
        from opentelemetry import _logs, metrics, trace
        {setters[kind]}
        from stack_composer import telemetry
        def providers():
            tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
            return tracers, meters, _logs.get_logger_provider()
        before = providers()
        try:
            telemetry.configure(FOLDER, opentelemetry=True)
        except telemetry.ConfigError as error:
            answer([str(error), error.hint, providers() == before])
        """,
        tmp_path,
    )
    assert f"another {kind} provider" in message
    assert "docs/opentelemetry.md" in hint
    assert unchanged


def test_installing_twice_is_installing_once(tmp_path: Path) -> None:
    assert otel_children.run(
        """
        from stack_composer import telemetry
        from opentelemetry import context, trace
        telemetry.configure(FOLDER, opentelemetry=True)
        first = trace.get_tracer_provider(), context._RUNTIME_CONTEXT
        telemetry.configure(FOLDER, opentelemetry=True)
        answer(first == (trace.get_tracer_provider(), context._RUNTIME_CONTEXT))
        """,
        tmp_path,
    )


def test_nothing_of_opentelemetry_is_imported_before_it_is_asked_for(tmp_path: Path) -> None:
    modules = """
        import sys
        def loaded(prefix):
            return sorted(name for name in sys.modules if name.split(".")[:2] == prefix.split("."))
    """
    native = """
        from stack_composer import telemetry
        with telemetry.span("s"):
            pass
        telemetry.flush()
        answer([name for name in sys.modules if name.startswith("opentelemetry")])
    """
    assert otel_children.run(modules + native, tmp_path) == []
    ours = """
        from stack_composer import telemetry
        telemetry.configure(FOLDER, opentelemetry=True)
        from opentelemetry import trace
        with trace.get_tracer("t").start_as_current_span("s"):
            pass
        telemetry.flush()
        answer(loaded("opentelemetry.sdk"))
    """
    assert otel_children.run(modules + ours, tmp_path) == []
