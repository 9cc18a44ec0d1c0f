"""A month of telemetry, made fast: what one program leaves in thirty days.

The lines are composed here, as the encoder would have written them, since encoding
thirty million records would take an hour; from there on all is ours: the writer appends,
rotates by a clock that is turned on by hand, compresses, and makes sidecars. There is a
bundle of each signal for each hour: spans in traces of five to thirty, of some sixty names;
a log record for every tenth span; a dozen instruments, written every minute.

It is kept in the folder for temporary files, one for each size: 1.5 GB for a million spans
a day. When this module or the format changes, so does ``VERSION``, and it is made anew.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from operator import itemgetter
from random import Random
from typing import NamedTuple

VERSION = 2
DAYS = 30
HOURS = 24
WORKERS = 2
TIMEOUT_S = 3_600
SPANS_A_LINE = 512
SPANS_A_LOG = 10
METRICS_EVERY_S = 60
PARTS = ("agent", "planner", "retrieval", "critic", "writer", "router", "index", "http.server")
DEEDS = ("run", "solve", "search", "score", "draft", "choose", "embed", "validate")
ROUTES = ("GET /projects/{id}", "POST /generations", "GET /health", "SELECT projects", "INSERT run")
_S = 1_000_000_000
_HOUR = 3_600 * _S


class Month(NamedTuple):
    """A month on the disk.

    Attributes:
        folder: The telemetry folder.
        end_ns: When the month ends.
        spans: How many there are.
        traces: Ids of some traces, from all over the month.
    """

    folder: str
    end_ns: int
    spans: int
    traces: list[str]


class _Shape(NamedTuple):
    """A trace without ids and times: for each span its parent, name, times and rest."""

    parents: list[int]
    names: list[str]
    starts_ns: list[int]
    took_ns: list[int]
    rests: list[str]


def month(a_day: int, days: int = DAYS, root: str = "") -> Month:
    """Find the month of this size, or make it; ``root`` says where instead of /tmp."""
    name = f"telemetry-bench-month-{VERSION}-{days}-{a_day}"
    kept = os.path.join(root or tempfile.gettempdir(), name)
    about = os.path.join(kept, "about.json")
    if not os.path.exists(about):
        shutil.rmtree(kept, ignore_errors=True)
        os.makedirs(os.path.join(kept, "telemetry"), mode=0o700)
        _make(kept, a_day, days)
    with open(about, encoding="utf-8") as file:
        return Month(**json.load(file))


def _make(kept: str, a_day: int, days: int) -> None:
    folder = os.path.join(kept, "telemetry")
    # A whole hour, so that every bundle is of one hour.
    end_ns = time.time_ns() // _HOUR * _HOUR
    script = os.path.abspath(__file__)
    workers = [
        subprocess.Popen(
            [sys.executable, script, folder, str(end_ns), str(a_day), str(days), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(WORKERS)
    ]
    spans, traces = 0, []
    for worker in workers:
        said, _ = worker.communicate(timeout=TIMEOUT_S)
        if worker.returncode:
            raise RuntimeError("a month could not be made")
        told = json.loads(said)
        spans += told["spans"]
        traces += told["traces"]
    about = {"folder": folder, "end_ns": end_ns, "spans": spans, "traces": traces}
    with open(os.path.join(kept, "about.json"), "w", encoding="utf-8") as file:
        json.dump(about, file)


def _work(folder: str, end_ns: int, a_day: int, days: int, number: int) -> None:
    """Make every second day, and say what was made."""
    random = Random(number)
    shapes = [_shape(random) for _ in range(300)]
    spans, traces = 0, []
    for day in range(number, days, WORKERS):
        found = _day(folder, end_ns - (days - day) * HOURS * _HOUR, a_day, shapes, random)
        spans += found[0]
        traces.append(found[1])
    print(json.dumps({"spans": spans, "traces": traces}))


def _day(
    folder: str, start_ns: int, a_day: int, shapes: list[_Shape], random: Random
) -> tuple[int, str]:
    from stack_composer.telemetry.store.writer import BundleWriter

    now_ns = start_ns
    writer = BundleWriter(folder, clock=lambda: now_ns)
    spans, trace = 0, ""
    for hour in range(HOURS):
        now_ns = start_ns + hour * _HOUR
        for at_ns, signal, data, sketch, known in _lines(now_ns, a_day // HOURS, shapes, random):
            now_ns = at_ns
            writer.append(signal, data, sketch)
            writer.tick()
            if signal == "traces":
                spans += sketch.records
                trace = known
        now_ns = start_ns + (hour + 1) * _HOUR
        while writer.tick():
            pass
        _set_back(folder, start_ns + hour * _HOUR)
    writer.close()
    return spans, trace


def _set_back(folder: str, start_ns: int) -> None:
    """Give the files of an hour the times that they would have."""
    prefix = time.strftime("%Y%m%dT%H", time.gmtime(start_ns // _S))
    for name in os.listdir(folder):
        if name.startswith(prefix):
            moment_ns = start_ns + _HOUR
            os.utime(os.path.join(folder, name), ns=(moment_ns, moment_ns))


def _lines(
    start_ns: int, count: int, shapes: list[_Shape], random: Random
) -> Iterator[tuple[int, str, bytes, object, str]]:
    """Give the lines of an hour, roughly in the order of their time."""
    yield from heapq.merge(
        _traces(start_ns, count, shapes, random),
        _logs(start_ns, count // SPANS_A_LOG, random),
        _metrics(start_ns, random),
        key=itemgetter(0),
    )


def _head(outer: str, inner: str, scope: str, records: str) -> str:
    resource = (
        '{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"composer"}},'
        '{"key":"telemetry.sdk.name","value":{"stringValue":"stack-composer-telemetry"}},'
        '{"key":"telemetry.sdk.language","value":{"stringValue":"python"}},'
        '{"key":"process.pid","value":{"intValue":"4711"}}]},'
    )
    return f'{{"{outer}":[{resource}"{inner}":[{{"scope":{{{scope}}},"{records}":['


def _attribute(key: str, value: str) -> str:
    return f'{{"key":"{key}","value":{{"stringValue":"{value}"}}}}'


def _shape(random: Random) -> _Shape:
    names = [f"{part}.{deed}" for part in PARTS for deed in DEEDS[: 7 if part != "index" else 3]]
    size = random.randint(5, 30)
    shape = _Shape([-1], [random.choice(ROUTES)], [0], [0], [])
    for place in range(1, size):
        shape.parents.append(random.randrange(max(place - 6, 0), place))
        shape.names.append(random.choice(names))
        shape.starts_ns.append(shape.starts_ns[-1] + random.randrange(10_000, 20_000_000))
        shape.took_ns.append(int(random.lognormvariate(15.0, 1.5)))
    shape.took_ns[0] = shape.starts_ns[-1] + max(shape.took_ns)
    for place in range(size):
        attributes = ",".join(
            (
                _attribute("agent", random.choice(PARTS)),
                _attribute("phase", random.choice(("prepare", "search", "score", "finish"))),
                f'{{"key":"k_dense","value":{{"intValue":"{random.choice((32, 64, 128))}"}}}}',
                f'{{"key":"step","value":{{"intValue":"{place}"}}}}',
            )
        )
        status = ',"status":{"code":2}' if random.random() < 0.01 else ""
        shape.rests.append(f',"attributes":[{attributes}]{status}}}')
    return shape


def _traces(
    start_ns: int, count: int, shapes: list[_Shape], random: Random
) -> Iterator[tuple[int, str, bytes, object, str]]:
    from stack_composer.telemetry.store.sketch import Sketch

    head = _head("resourceSpans", "scopeSpans", "", "spans")
    pace_ns = _HOUR // max(count, 1)
    out: list[str] = []
    durations: dict[str, list[int]] = {}
    errors: dict[str, int] = {}
    sketch = Sketch()
    sketch.traces = known = set[str]()
    made, first_ns, last_ns = 0, 0, 0
    while made < count:
        shape = random.choice(shapes)
        size = min(len(shape.names), count - made)
        factor = random.uniform(0.5, 2.0)
        begin_ns = start_ns + made * pace_ns + random.randrange(1_000_000)
        trace = random.randbytes(16).hex()
        ids = random.randbytes(8 * size).hex()
        known.add(trace)
        for place in range(size):
            begun_ns = begin_ns + shape.starts_ns[place]
            took_ns = int(shape.took_ns[place] * factor)
            above = shape.parents[place]
            parent = f'","parentSpanId":"{ids[16 * above : 16 * above + 16]}' if above >= 0 else ""
            name = shape.names[place]
            rest = shape.rests[place]
            out.append(
                f'{{"traceId":"{trace}","spanId":"{ids[16 * place : 16 * place + 16]}{parent}'
                f'","flags":257,"name":"{name}","kind":1,"startTimeUnixNano":"{begun_ns}"'
                f',"endTimeUnixNano":"{begun_ns + took_ns}"{rest}'
            )
            durations.setdefault(name, []).append(took_ns)
            errors[name] = errors.get(name, 0) + rest.endswith('"code":2}}')
            last_ns = max(last_ns, begun_ns + took_ns)
        first_ns = first_ns or begin_ns
        made += size
        if len(out) >= SPANS_A_LINE or made >= count:
            for name, some in durations.items():
                sketch.add_spans(name, some, errors[name])
            sketch.saw(first_ns, last_ns, len(out))
            line = f"{head}{','.join(out)}]}}]}}]}}\n".encode()
            yield begin_ns, "traces", line, sketch, trace
            out, durations, errors, sketch = [], {}, {}, Sketch()
            sketch.traces = known = set()
            first_ns, last_ns = 0, 0


def _logs(
    start_ns: int, count: int, random: Random
) -> Iterator[tuple[int, str, bytes, object, str]]:
    from stack_composer.telemetry.store.sketch import Sketch

    head = _head("resourceLogs", "scopeLogs", '"name":"composer.agent"', "logRecords")
    pace_ns = _HOUR // max(count, 1)
    for at in range(0, count, 64):
        out = []
        sketch = Sketch()
        sketch.traces = known = set[str]()
        time_ns = 0
        for place in range(at, min(at + 64, count)):
            time_ns = start_ns + place * pace_ns
            severity = random.choice((5, 9, 9, 9, 13, 17))
            ids = random.randbytes(24).hex()
            known.add(ids[:32])
            out.append(
                f'{{"timeUnixNano":"{time_ns}","observedTimeUnixNano":"{time_ns}"'
                f',"severityNumber":{severity},"severityText":"INFO"'
                f',"body":{{"stringValue":"step {place} of {random.choice(DEEDS)} done"}}'
                f',"flags":1,"traceId":"{ids[:32]}","spanId":"{ids[32:]}"}}'
            )
            sketch.add_logs(severity)
        sketch.saw(start_ns + at * pace_ns, time_ns, len(out))
        yield time_ns, "logs", f"{head}{','.join(out)}]}}]}}]}}\n".encode(), sketch, ""


def _metrics(start_ns: int, random: Random) -> Iterator[tuple[int, str, bytes, object, str]]:
    from stack_composer.telemetry.store.sketch import Sketch

    head = _head("resourceMetrics", "scopeMetrics", '"name":"composer"', "metrics")
    for at in range(0, 3_600, METRICS_EVERY_S):
        time_ns = start_ns + at * _S
        sketch = Sketch()
        sketch.traces = set()
        points = f'"startTimeUnixNano":"{time_ns - 10 * _S}","timeUnixNano":"{time_ns}"'
        out = []
        for deed in DEEDS:
            labels = (("deed", deed),)
            amount = random.randrange(1, 900)
            sketch.add_sum("composer.steps", labels, amount, time_ns, unit="1")
            out.append(
                f'{{"name":"composer.steps","unit":"1","sum":{{"dataPoints":[{{{points}'
                f',"attributes":[{_attribute("deed", deed)}],"asInt":"{amount}"}}]'
                ',"aggregationTemporality":1,"isMonotonic":true}}'
            )
        for part in PARTS[:4]:
            labels = (("agent", part),)
            value = random.lognormvariate(3.0, 1.0)
            sketch.add_gauge("agent.latency", labels, [value], time_ns, unit="ms")
            out.append(
                f'{{"name":"agent.latency","unit":"ms","gauge":{{"dataPoints":[{{{points}'
                f',"attributes":[{_attribute("agent", part)}],"asDouble":{value!r}}}]}}}}'
            )
        sketch.saw(time_ns, time_ns, len(out))
        yield time_ns, "metrics", f"{head}{','.join(out)}]}}]}}]}}\n".encode(), sketch, ""


if __name__ == "__main__":
    _work(sys.argv[1], *map(int, sys.argv[2:]))
