"""``show`` and ``tail``: the records themselves, in three forms, filtered."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_running import (
    COMMAND,
    HOUR_NS,
    SECOND_NS,
    counter,
    gauge,
    log,
    logs_line,
    metrics_line,
    ok,
    ok_lines,
    run,
    span,
    spans_line,
    write,
    write_sealed,
)
from stack_composer.telemetry.store import otlp
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, dump

T = 1_763_838_843 * SECOND_NS
SPANS = [
    span(
        "planner.solve",
        start_ns=T,
        duration_ns=5_000_000,
        trace=0xA,
        number=1,
        attributes={"k_dense": 128},
    ),
    span("retrieval.search", start_ns=T + 1, trace=0xA, number=2, parent=1, error=True),
    span("critic", start_ns=T + HOUR_NS, trace=0xB, number=3),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    point = gauge("agent.latency_ms", 123, time_ns=T, agent="stack", phase="score")
    write(
        place,
        ("traces", spans_line(*SPANS)),
        ("metrics", metrics_line(point, counter("c", 2, time_ns=T))),
        ("logs", logs_line(log("hello there", time_ns=T + 5, severity=13, trace=0xA))),
    )
    return place


def test_the_two_records_of_the_specification(folder: Path) -> None:
    found = ok_lines("telemetry", "show", "--as", "records", "--dir", folder)
    spans = [record for record in found if "start_ns" in record]
    assert spans[0] == {
        "trace_id": f"{0xA:032x}",
        "span_id": f"{1:016x}",
        "parent_id": None,
        "name": "planner.solve",
        "start_ns": T,
        "end_ns": T + 5_000_000,
        "attrs": {"k_dense": 128},
    }
    (metric,) = [record for record in found if record.get("metric") == "agent.latency_ms"]
    assert metric == {
        "timestamp": "2025-11-22T19:14:03Z",
        "metric": "agent.latency_ms",
        "value": 123,
        "labels": {"agent": "stack", "phase": "score"},
    }
    (record,) = [record for record in found if "message" in record]
    assert (record["level"], record["message"]) == ("warn", "hello there")
    assert ok_lines("telemetry", "show", "--json", "--dir", folder) == found


def spans_of(lines: list[Any]) -> list[str]:
    return [
        held["name"]
        for line in lines
        for resource in line.get("resourceSpans", ())
        for scope in resource["scopeSpans"]
        for held in scope["spans"]
    ]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (("--signal", "traces"), ["planner.solve", "retrieval.search", "critic"]),
        (("--name", "*.s*"), ["planner.solve", "retrieval.search"]),
        (("--trace", f"{0xB:032x}"), ["critic"]),
        (("--trace", f"{0xB:032x}"[:31]), ["planner.solve", "retrieval.search", "critic"]),
        (("--until", "2025-11-22T19:14:03.0000005Z"), ["planner.solve", "retrieval.search"]),
        (("--since", "2025-11-22T20:00:00Z"), ["critic"]),
        (("--limit", "1"), ["critic"]),
        (("--limit", "2", "--signal", "traces"), ["planner.solve", "critic"]),
        (("--signal", "logs", "--signal", "metrics"), []),
        (("--name", "planner.solve", "--since", "2025-11-22T20:00:00Z"), []),
    ],
)
def test_filters_in_otlp_and_in_records(
    filters: tuple[str, ...], names: list[str], folder: Path
) -> None:
    lines = ok_lines("telemetry", "show", "--as", "otlp", "--dir", folder, *filters)
    assert spans_of(lines) == names
    records = ok_lines("telemetry", "show", "--as", "records", "--dir", folder, *filters)
    assert [record["name"] for record in records if "name" in record] == names
    # What is printed is OTLP: our own strict reader takes each line as it is.
    for line in lines:
        otlp.decode_line(None, json.dumps(line).encode())


def test_all_of_it_as_otlp_is_what_was_written(folder: Path) -> None:
    said = ok("telemetry", "show", "--as", "otlp", "--dir", folder).encode()
    written = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    assert said == written


def test_the_tree(folder: Path) -> None:
    lines = ok("telemetry", "show", "--dir", folder).splitlines()
    assert lines[0].startswith(f"trace {0xA:032x}  ")
    assert lines[0].endswith("  5 ms  2 spans, 1 failed")
    assert lines[1] == "  planner.solve  5 ms  k_dense=128"
    assert lines[2] == "    retrieval.search  1 ms  error: it broke"
    assert lines[5] == "  critic  1 ms"
    assert any(
        line.endswith("metric  agent.latency_ms  123  agent=stack phase=score") for line in lines
    )
    assert any(line.endswith("warn    hello there") for line in lines)


def test_strange_families_are_shown_whole_and_once(tmp_path: Path) -> None:
    """Circles, orphans, doubles and depth: foreign data has them all."""
    spans = [
        span("circle 1", start_ns=T, number=1, parent=2),
        span("circle 2", start_ns=T, number=2, parent=1),
        span("below circle", start_ns=T, number=3, parent=2),
        span("self", start_ns=T, number=4, parent=4),
        span("orphan", start_ns=T, number=5, parent=99),
        span("double", start_ns=T, number=5),
        span("below double", start_ns=T, number=6, parent=5),
    ]
    spans += [span(f"deep {n}", start_ns=T, number=n, parent=n - 1) for n in range(100, 1600)]
    path = tmp_path / "x.json"
    path.write_bytes(spans_line(*spans))
    lines = ok("telemetry", "show", "--limit", "0", path).splitlines()
    assert sorted(line.strip().rsplit("  ", 1)[0] for line in lines[1:]) == sorted(
        str(held["name"]) for held in spans
    )


def test_nothing_found_is_said_on_the_side(folder: Path) -> None:
    done = run("telemetry", "show", "--name", "nope", "--dir", folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nothing matches\n")


def test_a_readable_listing_is_bounded_and_says_so(tmp_path: Path) -> None:
    records = [log(f"m{n}", time_ns=T + n) for n in range(600)]
    write(tmp_path / "t", ("logs", logs_line(*records)))
    done = run("telemetry", "show", "--dir", tmp_path / "t")
    assert len(done.stdout.splitlines()) == 500
    assert "m599" in done.stdout
    assert "--limit 0 shows all" in done.stderr
    assert len(ok("telemetry", "show", "--limit", "0", "--dir", tmp_path / "t").splitlines()) == 600
    assert (
        len(ok("telemetry", "show", "--as", "records", "--dir", tmp_path / "t").splitlines()) == 600
    )


def test_refused_lines_are_named_and_never_quoted(tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    path = tmp_path / "x.jsonl"
    path.write_bytes(spans_line(SPANS[0]) + secret.encode() + b"\n" + spans_line(SPANS[2]))
    done = run("telemetry", "show", "--as", "records", path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.startswith("left out 1 line of no OTLP")
    assert f"{path}: line 2 " in done.stderr
    assert secret not in done.stderr


def test_an_attribute_nested_beyond_reason_stops_nothing(tmp_path: Path) -> None:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(300):
        value = {"arrayValue": {"values": [value]}}
    deep = {**SPANS[0], "attributes": [{"key": "k", "value": value}]}
    path = tmp_path / "x.jsonl"
    path.write_bytes(spans_line(deep) + spans_line(SPANS[2]))
    for form in ((), ("--as", "records"), ("--as", "otlp")):
        done = run("telemetry", "show", *form, path)
        assert done.returncode == 0
        assert "critic" in done.stdout


def test_the_corpus_in_every_form(corpus: Path) -> None:
    files = sorted(path for path in (corpus / "otlp").rglob("*") if path.is_file())
    otlp_lines = run("telemetry", "show", "--as", "otlp", *files)
    assert otlp_lines.returncode == 0
    records = run("telemetry", "show", "--as", "records", *files)
    assert records.returncode == 0
    assert run("telemetry", "show", "--limit", "0", *files).returncode == 0


def test_the_corpus_printed_as_otlp_reads_back_the_same(corpus: Path, tmp_path: Path) -> None:
    compared = 0
    for number, path in enumerate(sorted((corpus / "otlp").rglob("*.json*"))):
        first = run("telemetry", "show", "--as", "records", path)
        if not first.stdout or number % 4:
            continue
        again = tmp_path / f"{number}.jsonl"
        again.write_text(run("telemetry", "show", "--as", "otlp", path).stdout)
        # Narrowed to nothing less than all, but by a filter that looks at each.
        second = run("telemetry", "show", "--as", "records", "--since", "@0", again)
        assert second.stdout == first.stdout, path
        compared += 1
    assert compared > 10


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so; the suite's own time limit is the bound."""
    while not condition():
        time.sleep(0.02)


def test_tail_shows_the_newest_last(folder: Path) -> None:
    lines = ok("telemetry", "tail", "-n", "2", "--dir", folder).splitlines()
    assert [line.split("  ")[3] for line in lines] == ["planner.solve", "critic"]
    assert ok("telemetry", "tail", "-n", "0", "--dir", folder) == ""
    (one,) = ok_lines("telemetry", "tail", "-n", "1", "--json", "--dir", folder)
    assert one["name"] == "critic"
    (one,) = ok_lines("telemetry", "tail", "--json", "--name", "planner.*", "--dir", folder)
    assert one["name"] == "planner.solve"


def test_tail_looks_behind_the_last_lines_for_what_is_asked_for(tmp_path: Path) -> None:
    lines = [("traces", spans_line(span(f"s{n}", start_ns=T + n))) for n in range(30)]
    write(tmp_path / "t", *lines)
    arguments = ("telemetry", "tail", "-n", "1", "--json", "--dir", tmp_path / "t")
    (one,) = ok_lines(*arguments, "--name", "s3")
    assert one["name"] == "s3"


def test_tail_f_follows_programs_that_start_later_and_rotate(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    out = tmp_path / "out"
    with out.open("wb") as file:
        child = subprocess.Popen(
            [*COMMAND, "telemetry", "tail", "-f", "--json", "--dir", str(folder)], stdout=file
        )
    try:

        def seen() -> list[str]:
            return [json.loads(line)["name"] for line in out.read_text().splitlines()]

        writer = BundleWriter(str(folder), bundle_bytes_max=400)
        expected = []
        for number in range(20):
            append(writer, spans_line(span(f"s{number}", start_ns=T + number)))
            while writer.tick():
                pass
            expected.append(f"s{number}")
            if number % 5 == 0:
                wait_for(lambda: len(seen()) == len(expected))
        writer.close()
        wait_for(lambda: len(seen()) == len(expected))
        assert sorted(seen()) == sorted(expected)
    finally:
        child.terminate()
        child.wait(30)


def test_tail_of_sealed_bundles(tmp_path: Path) -> None:
    write_sealed(
        tmp_path / "t",
        *(("traces", spans_line(span(f"s{n}", start_ns=T + n * SECOND_NS))) for n in range(5)),
    )
    found = ok_lines("telemetry", "tail", "--json", "-n", "3", "--dir", tmp_path / "t")
    assert [record["name"] for record in found] == ["s2", "s3", "s4"]


def test_a_foreign_file_of_several_signals_and_forms(tmp_path: Path) -> None:
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps(json.loads(spans_line(SPANS[0])), indent=2))
    assert spans_of(ok_lines("telemetry", "show", "--as", "otlp", path)) == ["planner.solve"]
    path.write_bytes(dump({}) + logs_line(log("x", time_ns=T)))
    assert len(ok("telemetry", "show", "--as", "records", path).splitlines()) == 1
