"""OTLP JSON as the specification has it, and as real files have it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store import otlp, reader
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.sketch_line import add_line
from store_lines import dump, spans_line

TRACE_ID = "5b8efff798038103d269b633813fc60c"
SPAN_ID = "eee19b7ec3c1b174"


def traces(*spans: dict[str, Any], **more: Any) -> bytes:
    return dump({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}], **more}]})


def span_of(line: bytes, counts: otlp.Counts | None = None) -> otlp.Span:
    return otlp.decode_traces(line, counts).resource_spans[0].scope_spans[0].spans[0]


def value(found: object) -> Any:
    line = traces({"attributes": [{"key": "k", "value": found}]})
    return otlp.attributes_of(span_of(line).attributes)["k"]


# --- what must be read (OTLP 1.x, JSON Protobuf Encoding) -------------------------


def test_unknown_fields_are_ignored_at_every_depth() -> None:
    odd = {"new": {"deep": [1, {"x": None}]}, "list": [[]], "n": 5}
    line = dump(
        {
            "resourceSpans": [
                {
                    "scopeSpans": [{"spans": [{"name": "x", "status": odd, **odd}], **odd}],
                    "resource": odd,
                    **odd,
                }
            ],
            **odd,
        }
    )
    counts: otlp.Counts = Counter()
    assert span_of(line, counts).name == "x"
    assert not +counts


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("form", [str, int])
def test_64_bit_integers_are_exact_as_text_and_as_number(number: int, form: type) -> None:
    assert value({"intValue": form(number)}) == number


def test_unsigned_times_are_exact() -> None:
    line = traces({"startTimeUnixNano": str(2**64 - 1), "endTimeUnixNano": 2**64 - 1})
    assert span_of(line).start_time_unix_nano == span_of(line).end_time_unix_nano == 2**64 - 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf), (1e3, 1000.0), (5, 5.0)],
)
def test_doubles_are_read_in_every_form(written: object, expected: float) -> None:
    found = value({"doubleValue": written})
    assert isinstance(found, float)
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_numbers_in_exponent_form_are_read() -> None:
    line = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":1.5e3}]}]}]}'
    assert span_of(line).start_time_unix_nano == 1500


def test_ids_are_read_in_any_case_and_given_in_lower_case() -> None:
    found = span_of(traces({"traceId": TRACE_ID.upper(), "spanId": SPAN_ID.upper()}))
    assert (found.trace_id, found.span_id, found.parent_span_id) == (TRACE_ID, SPAN_ID, "")


def test_unknown_enum_numbers_are_kept() -> None:
    found = span_of(traces({"kind": 77, "status": {"code": 99}}))
    assert (found.kind, found.status.code) == (77, 99)


def test_what_is_missing_has_the_protocols_default() -> None:
    for line in (b"{}", b'{"resourceSpans":[]}', b'{"resourceSpans":[{}]}', traces()):
        otlp.decode_traces(line)
    found = span_of(traces({}))
    assert (found.name, found.kind, found.start_time_unix_nano) == ("", 0, 0)
    assert (found.attributes, found.events, found.links) == ([], [], [])
    assert found.status.code == 0


def test_null_is_absent_everywhere() -> None:
    nulls = dict.fromkeys(
        [
            "traceId", "spanId", "parentSpanId", "traceState", "flags", "name", "kind",
            "startTimeUnixNano", "endTimeUnixNano", "attributes", "droppedAttributesCount",
            "events", "droppedEventsCount", "links", "droppedLinksCount", "status",
        ]
    )  # fmt: skip
    counts: otlp.Counts = Counter()
    assert span_of(traces(nulls), counts) == span_of(traces({}))
    assert not +counts
    assert otlp.decode_logs(b'{"resourceLogs":null}') == otlp.LogsData()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({}, None),
        ({"stringValue": ""}, ""),
        ({"boolValue": False}, False),
        ({"bytesValue": "AAECAw=="}, b"\x00\x01\x02\x03"),
        ({"bytesValue": "-_8"}, b"\xfb\xff"),
        ({"bytesValue": ""}, b""),
        ({"arrayValue": {}}, []),
        ({"arrayValue": {"values": [{"intValue": "1"}, {}, {"arrayValue": {}}]}}, [1, None, []]),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}]}}, {"a": True}),
        ({"kvlistValue": {"values": [{"key": "a"}]}}, {"a": None}),
    ],
)
def test_every_kind_of_value(written: object, expected: object) -> None:
    assert value(written) == expected


def test_a_bytes_value_that_is_no_base64_is_refused_without_a_quote() -> None:
    with pytest.raises(LineRefusedError) as caught:
        value({"bytesValue": "hunter2?"})
    assert "hunter2" not in str(caught.value)


# --- what real files have beside it -----------------------------------------------


def test_enum_names_are_counted() -> None:
    counts: otlp.Counts = Counter()
    line = traces({"kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR"}})
    found = span_of(line, counts)
    assert (found.kind, found.status.code) == (2, 2)
    assert +counts == {"enum_name": 2}
    logs = dump(
        {
            "resourceLogs": [
                {"scopeLogs": [{"logRecords": [{"severityNumber": "SEVERITY_NUMBER_WARN2"}]}]}
            ]
        }
    )
    record = otlp.decode_logs(logs, counts).resource_logs[0].scope_logs[0].log_records[0]
    assert record.severity_number == 14
    total = {"aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "dataPoints": [{}]}
    metrics = dump({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": total}]}]}]})
    (metric,) = otlp.decode_metrics(metrics, counts).resource_metrics[0].scope_metrics[0].metrics
    assert metric.sum is not None
    assert metric.sum.aggregation_temporality == 2


def test_an_unknown_enum_name_is_refused() -> None:
    with pytest.raises(LineRefusedError, match="kind"):
        otlp.decode_traces(traces({"kind": "SPAN_KIND_TELEPATHIC"}))


def test_snake_case_is_counted_whole_or_mixed() -> None:
    snake = {"trace_id": TRACE_ID, "start_time_unix_nano": "5", "dropped_events_count": 3}
    for line in (
        dump({"resource_spans": [{"scope_spans": [{"spans": [snake]}]}]}),
        traces(snake),
    ):
        counts: otlp.Counts = Counter()
        found = span_of(line, counts)
        assert found.trace_id == TRACE_ID
        assert (found.start_time_unix_nano, found.dropped_events_count) == (5, 3)
        assert counts["snake_case"] >= 3


def test_attribute_keys_in_snake_case_are_what_they_are() -> None:
    counts: otlp.Counts = Counter()
    pair = {"key": "start_time_unix_nano", "value": {"stringValue": "x"}}
    found = span_of(traces({"attributes": [pair]}), counts)
    assert otlp.attributes_of(found.attributes) == {"start_time_unix_nano": "x"}
    assert not +counts


def test_base64_ids_are_counted() -> None:
    counts: otlp.Counts = Counter()
    found = span_of(
        traces({"traceId": "W47/95gDgQPSabYzgT/GDA==", "spanId": "7uGbfsPBsXQ="}), counts
    )
    assert (found.trace_id, found.span_id) == (TRACE_ID, SPAN_ID)
    assert +counts == {"base64_id": 2}


@pytest.mark.parametrize("bad", ["xyz", "0" * 32, "g" * 32, TRACE_ID[:-1], "A" * 24])
def test_what_is_no_id_counts_as_absent(bad: str) -> None:
    counts: otlp.Counts = Counter()
    assert span_of(traces({"traceId": bad}), counts).trace_id == ""
    assert +counts == {"bad_id": 1}


def test_the_old_name_of_scope_is_counted() -> None:
    counts: otlp.Counts = Counter()
    old = {"instrumentationLibrary": {"name": "lib"}, "spans": [{"name": "x"}]}
    line = dump({"resourceSpans": [{"instrumentationLibrarySpans": [old]}]})
    scope = otlp.decode_traces(line, counts).resource_spans[0].scope_spans[0]
    assert (scope.scope.name, scope.spans[0].name) == ("lib", "x")
    assert +counts == {"old_scope": 2}


def test_objects_glued_on_one_line_are_all_read() -> None:
    counts: otlp.Counts = Counter()
    line = traces({"name": "a"}).strip() + b" " + traces({"name": "b"}).strip()
    names = [
        r.scope_spans[0].spans[0].name for r in otlp.decode_traces(line, counts).resource_spans
    ]
    assert names == ["a", "b"]
    assert +counts == {"glued": 1}


def test_lone_surrogates_become_replacement_characters() -> None:
    counts: otlp.Counts = Counter()
    line = traces({"name": "x"}).replace(b'"x"', b'"a\\ud800b \\ud83d\\ude00"')
    assert span_of(line, counts).name == "a\ufffdb \U0001f600"
    assert +counts == {"not_strict": 1}


def test_a_bare_nan_is_read_and_counted() -> None:
    counts: otlp.Counts = Counter()
    pair = {"key": "k", "value": {"doubleValue": math.nan}}
    found = span_of(traces({"attributes": [pair]}), counts)
    assert math.isnan(otlp.attributes_of(found.attributes)["k"])
    assert +counts == {"not_strict": 1}


# --- what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"nonsense",
        b"[]",
        b"5",
        b'"text"',
        b"null",
        b"{",
        b'{"resourceSpans":',
        b"\xff\xfe{}",
        b'{"resourceSpans":5}',
        b'{"resourceSpans":[5]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":5}]}]}]}',
        b'{"resourceLogs":[]}',
        b'{"session_id":"x"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"resourceSpans":[' + b"1" * 10_000 + b"]}",
    ],
    ids=lambda line: line[:20].decode("latin-1"),
)
def test_what_is_no_traces_data_is_refused(line: bytes) -> None:
    with pytest.raises(LineRefusedError):
        otlp.decode_traces(line)
    with pytest.raises(LineRefusedError):
        otlp.decode_traces_lite(line)


def test_refusals_never_quote_the_line() -> None:
    secret = "hunter" + "2" * 9
    for line in (
        secret.encode(),
        b'{"' + secret.encode(),
        traces({"name": [secret]}),
        traces({"kind": secret}),
        traces({"startTimeUnixNano": secret}),
        traces({"attributes": [{"key": "k", "value": {"intValue": secret}}]}),
        dump({secret: 1}),
        traces({secret: {secret: [[secret]]}, "events": secret}),
    ):
        with pytest.raises(LineRefusedError) as caught:
            otlp.decode_line(None, line)
        assert secret not in str(caught.value)


@pytest.mark.parametrize("depth", [10, 100, 300, 1000, 5000])
def test_deep_values_are_read_or_refused_and_never_crash(depth: int) -> None:
    deep = '{"stringValue":"x"}'
    deep = '{"arrayValue":{"values":[' * depth + deep + "]}}" * depth
    pair = f'[{{"key":"k","value":{deep}}}]'
    span = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"attributes":{pair}}}]}}]}}]}}'
    gauge = f'{{"dataPoints":[{{"asInt":"1","attributes":{pair}}}]}}'
    metric = f'{{"name":"m","gauge":{gauge}}}'
    point = f'{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{metric}]}}]}}]}}'
    try:
        found = span_of(span.encode())
        unpacked = otlp.attributes_of(found.attributes)
    except LineRefusedError:
        assert depth > 100
    else:
        assert list(unpacked) == ["k"]
    one = Sketch()
    try:
        add_line(one, "metrics", point.encode())
    except LineRefusedError:
        assert depth > 100
        assert one == Sketch()


FIELDS = [
    "resourceSpans",
    "resource_spans",
    "scopeSpans",
    "instrumentationLibrarySpans",
    "spans",
    "name",
    "traceId",
    "kind",
    "status",
    "attributes",
    "value",
    "intValue",
    "kvlistValue",
    "resourceMetrics",
    "scopeMetrics",
    "metrics",
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=30,
)


def is_refused(decode: Callable[..., object], *arguments: object) -> bool:
    """Whether a line is refused; any other exception is a fault and passes through."""
    try:
        decode(*arguments)
    except LineRefusedError:
        return True
    return False


@given(trees)
def test_any_json_is_read_or_refused(tree: object) -> None:
    line = json.dumps(tree).encode()
    # The light decoder looks at less, so that it may only be the more lenient one.
    assert is_refused(otlp.decode_traces_lite, line) <= is_refused(otlp.decode_traces, line)
    for decode in (otlp.decode_metrics, otlp.decode_logs):
        is_refused(decode, line)
    if not isinstance(tree, dict):
        assert is_refused(otlp.decode_line, None, line)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(line: bytes) -> None:
    if is_refused(otlp.decode_line, None, line):
        assert is_refused(add_line, Sketch(), None, line)


# --- one decoder for each signal --------------------------------------------------


def test_the_signal_is_told_by_the_content() -> None:
    for signal, key in (
        ("traces", "resourceSpans"),
        ("metrics", "resourceMetrics"),
        ("logs", "resourceLogs"),
    ):
        assert otlp.signal_of(dump({"x": 1, key: [{}]})) == signal
    assert otlp.signal_of(b'{"resource_logs":[]}') == "logs"
    assert otlp.signal_of(b"{}") == "traces"
    counts: otlp.Counts = Counter()
    both = dump({"resourceLogs": [{}], "resourceMetrics": [{}]})
    assert otlp.signal_of(both, counts) == "metrics"
    assert +counts == {"mixed": 1}


def test_the_light_decoder_agrees_with_the_full_one() -> None:
    line = spans_line(7, 5, padding="x")
    (full,) = otlp.decode_traces(line).resource_spans[0].scope_spans
    (lite,) = otlp.decode_traces_lite(line).resource_spans[0].scope_spans
    assert [(s.name, s.start_time_unix_nano, s.end_time_unix_nano) for s in full.spans] == [
        (s.name, s.start_time_unix_nano, s.end_time_unix_nano) for s in lite.spans
    ]
    assert [s.status.code for s in full.spans] == [
        s.status.code if s.status else 0 for s in lite.spans
    ]


def test_golden_spans_say_what_was_written_by_hand() -> None:
    (path,) = (Path(__file__).parent / "golden" / "format-1").glob("*.traces.jsonl.zst")
    lines = list(reader.read_lines(str(path)))
    planner = span_of(lines[1])
    assert (planner.name, planner.kind, planner.flags) == ("planner.solve", 3, 257)
    assert planner.parent_span_id == "9c2a000000000001"
    attributes = otlp.attributes_of(planner.attributes)
    assert attributes["steps"] == [1, "two", None]
    assert attributes["graph"] == {"nodes": 2**63 - 1, "empty": []}
    assert attributes["digest"] == b"\x00\x01\x02\x03"
    assert math.isnan(attributes["ratio"])
    assert attributes["note"] == "Größe 漢字 \u2028"
    (event,) = planner.events
    assert otlp.attributes_of(event.attributes)["exception.type"] == "ValueError"
    (link,) = planner.links
    assert (link.trace_id[-1], link.flags) == ("2", 1)
    assert (planner.status.code, planner.status.message) == (2, "no plan")
    assert (planner.dropped_attributes_count, planner.dropped_links_count) == (2, 1)


# --- real data --------------------------------------------------------------------


def test_the_corpus_is_read_and_every_refused_line_is_counted(corpus: Path) -> None:
    rows = (corpus / "otlp" / "SOURCES.tsv").read_text().splitlines()
    header = rows[0].split("\t")
    told = {}
    for row in rows[1:]:
        fields = dict(zip(header, row.split("\t"), strict=False))
        told[f"{fields['repo'].replace('/', '+')}/{fields['path']}"] = fields
    refused: Counter[str] = Counter()
    oddities: otlp.Counts = Counter()
    records: Counter[str] = Counter()
    files = 0
    for path in sorted((corpus / "otlp").rglob("*.json*")):
        name = path.relative_to(corpus / "otlp").as_posix()
        files += 1
        one = Sketch()
        for line in reader.read_lines(str(path), oddities):
            try:
                add_line(one, None, line)
                otlp.decode_line(None, line, oddities)
            except LineRefusedError:
                refused[name] += 1
        records["all"] += one.records
        if name in told and not refused[name]:
            kinds = ("spans", "logs", "datapoints")
            expected = sum(int(told[name][kind] or 0) for kind in kinds)
            assert one.records == expected, name
            records["checked"] += one.records
    assert files >= 90
    assert records["checked"] > 5000
    foreign = {
        name for name in refused if "faro" in name or "snapshot" in name or "profiles" in name
    }
    assert set(refused) == foreign
    assert not set(oddities) - set(otlp.ODDITIES) - set(reader.ODDITIES)
    assert oddities["enum_name"] > 0
    assert oddities["snake_case"] > 0


def test_cutting_corpus_files_anywhere_never_crashes(corpus: Path, tmp_path: Path) -> None:
    refused = 0
    for path in sorted((corpus / "otlp").rglob("*.json"))[::10]:
        whole = path.read_bytes()
        for size in range(0, len(whole), max(len(whole) // 25, 1)):
            (tmp_path / "cut.json").write_bytes(whole[:size])
            for line in reader.read_lines(str(tmp_path / "cut.json")):
                refused += is_refused(add_line, Sketch(), None, line)
    assert refused > 100
