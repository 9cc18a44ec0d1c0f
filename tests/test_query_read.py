"""Finding records, and printing lines that hold just those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli_running import (
    SECOND_NS,
    counter,
    gauge,
    log,
    logs_line,
    metrics_line,
    span,
    spans_line,
    write_sealed,
)
from stack_composer.telemetry.errors import QueryError
from stack_composer.telemetry.otlp.lines import filtered_line
from stack_composer.telemetry.query.read import Found, Reading, newest
from stack_composer.telemetry.query.records import record_of
from stack_composer.telemetry.query.select import Selection, items
from stack_composer.telemetry.query.text import printable, printable_json
from stack_composer.telemetry.store import otlp
from stack_composer.telemetry.store.reader import BundleInfo, list_bundles, read_lines
from store_lines import dump

T = 1_763_838_843 * SECOND_NS


def find(line: bytes, signal: str | None = None, **wanted: Any) -> Found | None:
    reading = Reading(Selection(**wanted))
    found = reading.judge(line.rstrip(b"\n"), signal, "here", 1)
    assert reading.refusals.count == 0
    return found


def names(line: bytes, **wanted: Any) -> list[str]:
    found = find(line, **wanted)
    return [item.name for item in found.matches()] if found else []


SPANS = spans_line(
    span("planner.solve", start_ns=T, trace=0xABC, number=1),
    span("planner.step", start_ns=T + SECOND_NS, trace=0xABC, number=2, parent=1),
    span("critic", start_ns=T + 2 * SECOND_NS, trace=0xDEF, number=3),
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["planner.solve", "planner.step", "critic"]),
        ({"name": "planner.*"}, ["planner.solve", "planner.step"]),
        ({"name": "planner"}, []),
        ({"name": "Critic"}, []),
        ({"name": "[cd]ritic"}, ["critic"]),
        ({"trace": f"{0xABC:032x}"}, ["planner.solve", "planner.step"]),
        ({"trace": f"{0xDEF:032X}"}, ["critic"]),
        ({"trace": "0000"}, ["planner.solve", "planner.step", "critic"]),
        ({"since_ns": T + SECOND_NS}, ["planner.step", "critic"]),
        ({"until_ns": T + SECOND_NS}, ["planner.solve"]),
        ({"since_ns": T + 1_000_000, "until_ns": T + 2}, ["planner.solve"]),
        ({"since_ns": T + 1_000_001, "until_ns": T + SECOND_NS}, []),
        ({"signals": frozenset({"logs"})}, []),
    ],
)
def test_filters(wanted: dict[str, Any], expected: list[str]) -> None:
    assert names(SPANS, **wanted) == expected


def test_data_points_and_events_have_names_and_plain_logs_have_none() -> None:
    metrics = metrics_line(gauge("m.a", 1.0, time_ns=T), counter("m.b", 1, time_ns=T))
    assert names(metrics, name="m.*") == ["m.a", "m.b"]
    assert names(metrics, trace="0") == []
    event = {**log("x", time_ns=T), "eventName": "m.event"}
    assert names(logs_line(event, log("plain", time_ns=T)), name="*") == ["m.event"]


def test_what_tells_no_time_is_in_every_window() -> None:
    line = logs_line(log("x", time_ns=0))
    assert find(line, since_ns=T) is not None
    assert find(line, until_ns=T) is not None


@pytest.mark.parametrize("trace", ["", "xyz", "0" * 33, "0x12", "abc\n"])
def test_what_is_no_trace_id_is_refused(trace: str) -> None:
    with pytest.raises(QueryError, match="--trace is not a trace id"):
        Selection(trace=trace)


def cut(line: bytes, keep: set[int], *, signal: str | None = None) -> Any:
    found = find(line, signal)
    assert found is not None
    flags = [index in keep for index in range(len(found.items))]
    made = filtered_line(found.line, found.data, flags, mended=found.mended)
    return None if made is None else json.loads(made)


def test_a_line_that_matches_wholly_goes_out_as_its_own_bytes() -> None:
    odd = b'{ "resourceSpans": [{"scopeSpans":[{"spans":[{"name":"a","later":1}]}]}] }'
    found = find(odd)
    assert found is not None
    assert filtered_line(odd, found.data, [True], mended=False) == odd


def test_a_cut_line_keeps_fields_that_nobody_knows() -> None:
    spans = [span("a", start_ns=T), {**span("b", start_ns=T), "fromTheFuture": {"x": [1]}}]
    line = dump(
        {
            "resourceSpans": [
                {"scopeSpans": [{"spans": spans, "schemaUrl": "s"}], "entityRefs": [{"t": 1}]},
                {"scopeSpans": [{"spans": [span("c", start_ns=T)]}]},
            ]
        }
    )
    assert cut(line, {1}) == {
        "resourceSpans": [
            {"scopeSpans": [{"spans": [spans[1]], "schemaUrl": "s"}], "entityRefs": [{"t": 1}]}
        ]
    }
    assert cut(line, set()) is None


def test_another_signal_in_the_same_object_never_comes_along() -> None:
    tree = json.loads(SPANS) | json.loads(logs_line(log("not asked for", time_ns=T)))
    for signal in ("traces", None):
        for keep in ({0}, {0, 1, 2}):
            assert list(cut(dump(tree), keep, signal=signal)) == ["resourceSpans"]


def test_metrics_are_cut_by_point_and_empty_ones_go() -> None:
    line = metrics_line(
        gauge("a", 1.0, time_ns=T), counter("b", 1, time_ns=T), gauge("c", 2.0, time_ns=T)
    )
    kept = cut(line, {1})["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    assert kept == [counter("b", 1, time_ns=T)]


@pytest.mark.parametrize(
    "change",
    [
        ('"kind":1', '"kind":"SPAN_KIND_SERVER"'),
        ('"startTimeUnixNano"', '"start_time_unix_nano"'),
        ('"attributes":[]', '"attributes":null'),
    ],
)
def test_a_mended_line_goes_out_in_the_strict_form(change: tuple[str, str]) -> None:
    line = SPANS.decode().replace(*change, 1).encode()
    assert line != SPANS
    written = cut(line, {0, 2})
    (first, last) = written["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert first["startTimeUnixNano"] == str(T)
    assert first["kind"] in (1, 2)
    assert last["name"] == "critic"
    # What was written anew reads as what was read before.
    again = otlp.decode_traces(json.dumps(written).encode())
    assert again.resource_spans[0].scope_spans[0].spans[0].name == "planner.solve"


def test_nulls_in_lists_cannot_shift_what_is_shown() -> None:
    spans = [None, span("public", start_ns=T), None, span("other", start_ns=T)]
    line = dump({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    (kept,) = cut(line, {1})["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert kept["name"] == "other"


def test_the_strict_form_loses_no_value() -> None:
    values = [
        {"stringValue": ""},
        {"boolValue": False},
        {"intValue": 0},
        {"intValue": -(2**63)},
        {"doubleValue": "NaN"},
        {"doubleValue": "-Infinity"},
        {"arrayValue": {"values": [{}, {"intValue": "7"}]}},
        {"kvlistValue": {"values": [{"key": "k", "value": {"bytesValue": "AA=="}}]}},
        {},
    ]
    attributes = [{"key": f"k{place}", "value": value} for place, value in enumerate(values)]
    spans = [{**span("a", start_ns=T), "attributes": attributes, "kind": "SPAN_KIND_CLIENT"}]
    line = dump({"resource_spans": [{"scope_spans": [{"spans": spans}]}]})
    written = cut(line, {0})["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert [pair["value"] for pair in written["attributes"]] == [
        {"stringValue": ""},
        {"boolValue": False},
        {"intValue": "0"},
        {"intValue": str(-(2**63))},
        {"doubleValue": "NaN"},
        {"doubleValue": "-Infinity"},
        {"arrayValue": {"values": [{}, {"intValue": "7"}]}},
        {"kvlistValue": {"values": [{"key": "k", "value": {"bytesValue": "AA=="}}]}},
        {},
    ]


def test_records_have_the_specifications_keys_in_its_order() -> None:
    line = spans_line(
        span(
            "a", start_ns=T, trace=7, number=2, parent=1, attributes={"k": 128, "s": "x", "b": True}
        )
    )
    (item,) = items(otlp.decode_line(None, line))
    assert record_of(item) == {
        "trace_id": f"{7:032x}",
        "span_id": f"{2:016x}",
        "parent_id": f"{1:016x}",
        "name": "a",
        "start_ns": T,
        "end_ns": T + 1_000_000,
        "attrs": {"k": 128, "s": "x", "b": True},
    }
    assert list(record_of(item)) == [
        "trace_id", "span_id", "parent_id", "name", "start_ns", "end_ns", "attrs",
    ]  # fmt: skip
    (item,) = items(otlp.decode_line(None, metrics_line(gauge("m", 2.0, time_ns=T, agent="x"))))
    assert record_of(item) == {
        "timestamp": "2025-11-22T19:14:03Z",
        "metric": "m",
        "value": 2.0,
        "labels": {"agent": "x"},
    }
    assert list(record_of(item)) == ["timestamp", "metric", "value", "labels"]


def test_a_root_has_no_parent_and_a_histogram_has_its_mean() -> None:
    (item,) = items(otlp.decode_line(None, spans_line(span("a", start_ns=T))))
    assert record_of(item)["parent_id"] is None
    point = {"timeUnixNano": str(T), "count": "4", "sum": 10.0, "scale": 0}
    held = {"aggregationTemporality": 1, "dataPoints": [point, {**point, "count": "0"}]}
    line = metrics_line({"name": "h", "exponentialHistogram": held})
    assert [record_of(i)["value"] for i in items(otlp.decode_line(None, line))] == [2.5, None]


def test_the_newest_are_the_newest_wherever_they_stand() -> None:
    def found(*times: int) -> Found:
        one = find(logs_line(*(log(str(time), time_ns=T + time) for time in times)))
        assert one is not None
        return one

    lines = [found(5, 1), found(9, 2, 7), found(3)]
    chosen = newest(lines, 3)
    bodies = [item.record.body.string_value for one in chosen for item in one.matches()]
    assert bodies == ["5", "9", "7"]
    assert len(newest([found(1), found(2)], 9)) == 2


@settings(max_examples=20, deadline=None)
@given(
    bundles=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=4), min_size=1, max_size=6),
    plain=st.lists(st.integers(1, 40), max_size=3),
    limit=st.integers(1, 9),
)
def test_reading_the_latest_bundles_first_finds_the_newest_of_all(
    bundles: list[list[int]],
    plain: list[int],
    limit: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Also where a record tells no time (0), and with a bundle that is not sealed."""
    folder = tmp_path_factory.mktemp("newest")
    lines = [logs_line(*(log("x", time_ns=T + t if t else 0) for t in some)) for some in bundles]
    write_sealed(folder, *(("logs", line) for line in lines))
    foreign = tmp_path_factory.mktemp("plain") / "f.jsonl"
    foreign.write_bytes(b"".join(logs_line(log("y", time_ns=T + t)) for t in plain))
    sources: list[BundleInfo | str] = [*list_bundles(str(folder)).bundles, str(foreign)]

    def told(found: list[Found]) -> list[tuple[str, int, int]]:
        return [(one.path, one.number, item.end_ns) for one in found for item in one.matches()]

    reading = Reading(Selection())
    assert told(reading.newest(sources, limit)) == told(newest(reading.find(sources), limit))


def test_older_bundles_are_not_read_for_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [logs_line(log(str(at), time_ns=T + at * SECOND_NS)) for at in range(6)]
    write_sealed(tmp_path / "t", *(("logs", line) for line in lines))
    read = []

    def reading(source: Any, *args: Any, **kwargs: Any) -> Any:
        read.append(source.path)
        return read_lines(source, *args, **kwargs)

    monkeypatch.setattr("stack_composer.telemetry.query.read.read_lines", reading)
    bundles = list_bundles(str(tmp_path / "t")).bundles
    found = Reading(Selection()).newest(bundles, 2)
    assert [one.path for one in found] == [bundle.path for bundle in bundles[-2:]]
    assert len(read) == 2


@given(st.text())
def test_nothing_recorded_can_steer_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    line = printable_json(json.dumps({"k": text}, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == {"k": text}


def test_printable_text_stays_and_the_rest_is_told() -> None:
    assert printable("naïve 名 ok") == "naïve 名 ok"
    assert printable("a\x1b[31m\nb\u202e\x9b\x7f") == "a\\x1b[31m\\nb\\u202e\\x9b\\x7f"


def test_reading_passes_over_what_cannot_match(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(SPANS + b"[]\n" + metrics_line(gauge("m", 1.0, time_ns=T)))
    reading = Reading(Selection(signals=frozenset({"metrics"})))
    (one,) = reading.find([str(path)])
    assert [item.name for item in one.matches()] == ["m"]
    assert reading.refusals.count == 1
