"""Unmodified OpenTelemetry instrumentations record into our bundles, rightly nested."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import records

pytestmark = [pytest.mark.e2e, pytest.mark.interop]

HERE = Path(__file__).resolve().parent
CLIENT, SERVER, INTERNAL = 3, 2, 1
REMOTE_PARENT = 0x200

BEGIN = """
from stack_composer import telemetry
telemetry.configure(opentelemetry=True)
"""


def start(source: str, folder: Path, **environ: str) -> subprocess.Popen[str]:
    """Start a program that records into ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(source)],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder), **environ},
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(source: str, folder: Path, **environ: str) -> str:
    """Run such a program to its end, which is a good one; give its output."""
    process = start(source, folder, **environ)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors[-4000:]
    return output


def spans_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Spans by name; no two have the same in these programs."""
    found = records.spans(folder)
    by_name = {span["name"]: span for span in found}
    assert len(by_name) == len(found), sorted(span["name"] for span in found)
    return by_name


def tree(folder: Path) -> dict[str, str | None]:
    """Each span's parent, by names; all in one trace."""
    spans = spans_in(folder)
    assert len({span["traceId"] for span in spans.values()}) == 1
    names = {span["spanId"]: span["name"] for span in spans.values()}
    return {
        name: names[span["parentSpanId"]] if "parentSpanId" in span else None
        for name, span in spans.items()
    }


FLASK_SERVER = """
    import sqlite3, sys, threading
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
    FlaskInstrumentor().instrument()
    SQLite3Instrumentor().instrument()
    from flask import Flask
    from werkzeug.serving import make_server

    app = Flask("shop")

    @app.get("/items/<int:number>")
    def item(number):
        with telemetry.span("handler", number=number):
            with sqlite3.connect(":memory:") as connection:
                cursor = connection.cursor()
                cursor.execute("SELECT ?", (number,))
                return {"found": cursor.fetchone()}

    @app.get("/broken")
    def broken():
        raise RuntimeError("broken")

    server = make_server("127.0.0.1", 0, app)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.readline()
    server.shutdown()
"""


def test_requests_to_flask_to_sqlite3_in_two_processes(tmp_path: Path) -> None:
    """One trace: the client's span is the parent of the server's, over the wire."""
    server = start(FLASK_SERVER, tmp_path)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    output = run(
        f"""
        from opentelemetry.instrumentation.requests import RequestsInstrumentor
        RequestsInstrumentor().instrument()
        import requests
        with telemetry.span("order"):
            print(requests.get("http://127.0.0.1:{port}/items/7", timeout=10).json())
        """,
        tmp_path,
    )
    _, errors = server.communicate("stop\n", timeout=30)
    assert server.returncode == 0, errors[-4000:]
    assert output.strip() == "{'found': [7]}"
    assert tree(tmp_path) == {
        "order": None,
        "GET": "order",
        "GET /items/<int:number>": "GET",
        "handler": "GET /items/<int:number>",
        "SELECT": "handler",
    }
    spans = spans_in(tmp_path)
    assert [spans[n]["kind"] for n in ("order", "GET", "handler", "SELECT")] == [1, 3, 1, 3]
    served = spans["GET /items/<int:number>"]
    assert served["kind"] == SERVER
    assert served["flags"] & REMOTE_PARENT
    assert not spans["handler"]["flags"] & REMOTE_PARENT
    assert spans["order"]["resource"]["process.pid"] != served["resource"]["process.pid"]
    assert spans["SELECT"]["scope"] == "opentelemetry.instrumentation.sqlite3"
    assert spans["SELECT"]["attrs"]["db.system"] == "sqlite"


def test_a_view_that_fails_is_an_error_on_both_sides(tmp_path: Path) -> None:
    server = start(FLASK_SERVER, tmp_path)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    run(
        f"""
        from opentelemetry.instrumentation.requests import RequestsInstrumentor
        RequestsInstrumentor().instrument()
        import requests
        assert requests.get("http://127.0.0.1:{port}/broken", timeout=10).status_code == 500
        try:
            requests.get("http://127.0.0.1:1/unreachable", timeout=10)
        except requests.ConnectionError:
            pass
        """,
        tmp_path,
    )
    server.communicate("stop\n", timeout=30)
    spans = records.spans(tmp_path)
    (served,) = [span for span in spans if span["kind"] == SERVER]
    assert served["status"]["code"] == 2
    assert served["events"][0]["name"] == "exception"
    assert records.attributes(served["events"][0])["exception.type"] == "RuntimeError"
    answered, unreachable = (span for span in spans if span["kind"] == CLIENT)
    assert answered["status"]["code"] == unreachable["status"]["code"] == 2
    assert answered["spanId"] == served["parentSpanId"]
    # Metrics of the instrumentations, by the same providers.
    assert {m["name"] for m in records.metrics(tmp_path)} >= {"http.client.duration"}


def test_httpx_to_fastapi(tmp_path: Path) -> None:
    run(
        """
        import asyncio
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
        HTTPXClientInstrumentor().instrument()
        import httpx
        from asgi_server import serving
        from fastapi import FastAPI
        from opentelemetry import baggage, context
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        app = FastAPI()

        @app.get("/async/{number}")
        async def in_a_task(number: int):
            with telemetry.span("async handler"):
                await asyncio.sleep(0)
                return {"number": number, "baggage": baggage.get_baggage("tier")}

        @app.get("/sync/{number}")
        def in_a_thread(number: int):
            with telemetry.span("sync handler"):
                return {"number": number}

        FastAPIInstrumentor.instrument_app(app)

        async def main():
            async with serving(app) as address:
                with telemetry.span("main"):
                    token = context.attach(baggage.set_baggage("tier", "gold"))
                    async with httpx.AsyncClient() as client:
                        with telemetry.span("first"):
                            answer = (await client.get(f"{address}/async/1")).json()
                            assert answer == {"number": 1, "baggage": "gold"}, answer
                        with telemetry.span("second"):
                            assert (await client.get(f"{address}/sync/2")).json() == {"number": 2}
                    context.detach(token)

        asyncio.run(main())
        """,
        tmp_path,
    )
    spans = records.spans(tmp_path)
    ids = {span["spanId"]: span for span in spans}
    assert len({span["traceId"] for span in spans}) == 1
    for outer, kind in (("first", "async"), ("second", "sync")):
        (handler,) = [span for span in spans if span["name"] == f"{kind} handler"]
        served = ids[handler["parentSpanId"]]
        assert served["name"] == f"GET /{kind}/{{number}}"
        assert served["kind"] == SERVER
        assert served["flags"] & REMOTE_PARENT
        client = ids[served["parentSpanId"]]
        assert client["kind"] == CLIENT
        assert ids[client["parentSpanId"]]["name"] == outer
        # What the ASGI instrumentation adds below the server's span.
        sent = [s for s in spans if s["name"] == f"GET /{kind}/{{number}} http send"]
        assert sent
        assert {s["parentSpanId"] for s in sent} == {served["spanId"]}
        assert {s["kind"] for s in sent} == {INTERNAL}


def test_logging(tmp_path: Path) -> None:
    output = run(
        """
        import logging
        from opentelemetry.instrumentation.logging import LoggingInstrumentor
        LoggingInstrumentor().instrument(set_logging_format=True)
        log = logging.getLogger("shop")
        with telemetry.span("order"):
            log.warning("low on %s", "tea", extra={"left": 3})
            try:
                raise ValueError("none")
            except ValueError:
                log.exception("out of it")
        log.error("outside")
        """,
        tmp_path,
    )
    assert output == ""
    (span,) = records.spans(tmp_path)
    low, out, outside = records.logs(tmp_path)
    assert records.value(low["body"]) == "low on tea"
    assert low["severityNumber"] == 13
    assert low["attrs"]["left"] == 3
    assert low["scope"] == "shop"
    assert out["attrs"]["exception.type"] == "ValueError"
    for log in (low, out):
        assert (log["traceId"], log["spanId"]) == (span["traceId"], span["spanId"])
        # What the instrumentation itself wrote into the record.
        assert log["attrs"]["otelSpanID"] == span["spanId"]
        assert log["attrs"]["otelTraceID"] == span["traceId"]
    assert "spanId" not in outside


def test_threading(tmp_path: Path) -> None:
    run(
        """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor
        ThreadingInstrumentor().instrument()

        def work(name):
            with telemetry.span(name):
                pass

        with telemetry.span("main"):
            thread = threading.Thread(target=work, args=("in a thread",))
            thread.start()
            thread.join()
            timer = threading.Timer(0, work, ("in a timer",))
            timer.start()
            timer.join()
            with ThreadPoolExecutor(1) as pool:
                with telemetry.span("first"):
                    pool.submit(work, "of the first").result()
                with telemetry.span("second"):
                    pool.submit(work, "of the second").result()
        """,
        tmp_path,
    )
    assert tree(tmp_path) == {
        "main": None,
        "in a thread": "main",
        "in a timer": "main",
        "first": "main",
        "of the first": "first",
        "second": "main",
        "of the second": "second",
    }


def test_asyncio(tmp_path: Path) -> None:
    run(
        """
        import asyncio
        from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
        AsyncioInstrumentor().instrument()

        async def traced(number):
            await asyncio.sleep(0)
            with telemetry.span(f"inside {number}"):
                pass

        async def failing():
            raise ValueError("no")

        def blocking():
            with telemetry.span("in to_thread"):
                pass

        async def main():
            with telemetry.span("main"):
                await asyncio.gather(traced(1))
                await asyncio.to_thread(blocking)
                await asyncio.gather(failing(), return_exceptions=True)

        asyncio.run(main())
        """,
        tmp_path,
        OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE="traced,failing",
        OTEL_PYTHON_ASYNCIO_TO_THREAD_FUNCTION_NAMES_TO_TRACE="blocking",
    )
    # This instrumentation starts spans and leaves what is current alone.
    assert tree(tmp_path) == {
        "main": None,
        "asyncio coro-traced": "main",
        "inside 1": "main",
        "asyncio to_thread-blocking": "main",
        "in to_thread": "main",
        "asyncio coro-failing": "main",
    }
    assert spans_in(tmp_path)["asyncio coro-failing"]["status"]["code"] == 2
    assert "asyncio.process.duration" in {m["name"] for m in records.metrics(tmp_path)}
