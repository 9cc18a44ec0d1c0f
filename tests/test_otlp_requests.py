"""Bodies of requests: each record that was asked for, once, in each form."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp.requests import Slice, records_of, request_of, thrift_batches
from stack_composer.telemetry.otlp.walk import Item
from store_lines import dump, spans_line
from test_otlp_protobuf import DATA
from test_otlp_to_protobuf import without_empty

FORMS = ("protobuf", "json", "jsonl")
SIGNALS = ("traces", "metrics", "logs")
LEVELS = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
}
KINDS = ("gauge", "sum")


def documents(form: str, signal: str, body: bytes) -> list[dict[str, Any]]:
    """A body as plain JSON, whatever its form; keys as the protocol has them."""
    if form == "protobuf":
        return [json_format.MessageToDict(DATA[signal].FromString(body))]
    lines = body.splitlines(keepends=True)
    if form == "json":
        assert len(lines) == 1
        assert not body.endswith(b"\n")
    else:
        assert all(line.endswith(b"\n") for line in lines)
    return [json.loads(line) for line in lines]


def records_in(signal: str, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records of a document in order; each level must hold something."""
    outer, middle, inner = LEVELS[signal]
    assert set(document) == {outer}
    assert document[outer]
    for held in document[outer]:
        assert held[middle]
        for some in held[middle]:
            assert some[inner]
            if signal != "metrics":
                yield from some[inner]
                continue
            for metric in some[inner]:
                points = [metric.get(kind, {}).get("dataPoints", []) for kind in KINDS]
                assert any(points)
                for found in points:
                    yield from found


def number_of(signal: str, record: dict[str, Any]) -> int:
    return int(
        record["asInt"] if signal == "metrics" else record["attributes"][0]["value"]["intValue"]
    )


def numbers_in(form: str, signal: str, body: bytes) -> list[int]:
    return [
        number_of(signal, record)
        for document in documents(form, signal, body)
        for record in records_in(signal, document)
    ]


def numbered(signal: str, shape: list[list[int]], first: int) -> tuple[bytes, int]:
    """A line with as many records as ``shape`` says, by resource and scope, numbered."""
    outer, middle, inner = LEVELS[signal]
    number = first
    resources = []
    for number_of_resource, scopes in enumerate(shape):
        groups = []
        for count in scopes:
            records: list[dict[str, Any]] = []
            for _ in range(count):
                records.append(one_record(signal, number))
                number += 1
            if signal == "metrics":
                records = as_metrics(records)
            groups.append({"scope": {"name": "lib"}, inner: records})
        attribute = {"key": "n", "value": {"intValue": str(number_of_resource)}}
        resources.append({"resource": {"attributes": [attribute]}, middle: groups})
    return dump({outer: resources}), number


def one_record(signal: str, number: int) -> dict[str, Any]:
    if signal == "metrics":
        return {"timeUnixNano": "5", "asInt": str(number)}
    record: dict[str, Any] = {"attributes": [{"key": "n", "value": {"intValue": str(number)}}]}
    if signal == "traces":
        record |= {"traceId": f"{number + 1:032x}", "spanId": f"{number + 1:016x}", "name": "x"}
    return record


def as_metrics(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metrics of at most two points each, of both kinds by turns, and one without any."""
    metrics: list[dict[str, Any]] = [{"name": "none", "gauge": {}}]
    for at in range(0, len(points), 2):
        kind = KINDS[at // 2 % 2]
        metrics.append({"name": "m", kind: {"dataPoints": points[at : at + 2]}})
    return metrics


shapes = st.lists(
    st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3), min_size=1, max_size=3
)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("form", FORMS)
@given(shapes=shapes, data=st.data())
@settings(max_examples=60, deadline=None)
def test_however_lines_are_cut_each_record_is_in_one_request(
    form: str, signal: str, shapes: list[list[list[int]]], data: st.DataObject
) -> None:
    modulus = data.draw(st.sampled_from([0, 2, 3]))

    def keep(item: Item) -> bool:
        assert item.signal == signal
        value = (
            item.record.as_int if signal == "metrics" else item.record.attributes[0].value.int_value
        )
        assert (item.metric is not None) == (signal == "metrics")
        return int(value) % modulus == 0

    chosen: Callable[[Item], bool] | None = keep if modulus else None
    total = 0
    wanted: list[int] = []
    found: list[int] = []
    for shape in shapes:
        line, after = numbered(signal, shape, total)
        kept = [n for n in range(total, after) if not modulus or n % modulus == 0]
        total = after
        assert records_of(signal, line, chosen) == len(kept)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(kept) + 1), max_size=3)))
        for first, last in zip([0, *cuts], [*cuts, None], strict=True):
            body, records = request_of(form, signal, [Slice(line, first, last)], chosen)
            numbers = numbers_in(form, signal, body) if body else []
            assert (numbers, records) == (kept[first:last], len(kept[first:last]))
            found += numbers
        wanted += kept
    assert found == wanted


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("form", FORMS)
def test_lines_and_pieces_of_lines_make_one_request(form: str, signal: str) -> None:
    line, after = numbered(signal, [[3, 2], [4]], 0)
    other, _ = numbered(signal, [[2]], after)
    slices = [Slice(line, 1, 4), Slice(other.rstrip()), Slice(line, 8), Slice(line, 2, 2)]
    body, records = request_of(form, signal, slices)
    assert numbers_in(form, signal, body) == [1, 2, 3, 9, 10, 8]
    assert records == 6


@pytest.mark.parametrize("form", FORMS)
def test_a13_there_is_no_empty_envelope(form: str) -> None:
    empty = dump({"resourceSpans": [{"scopeSpans": [{"spans": []}]}]})
    none = dump({"resourceSpans": []})
    assert request_of(form, "traces", []) == (b"", 0)
    assert request_of(form, "traces", [Slice(empty), Slice(none)]) == (b"", 0)
    assert request_of(form, "traces", [Slice(spans_line(1), 1)]) == (b"", 0)
    assert request_of(form, "traces", [Slice(spans_line(1))], lambda _: False) == (b"", 0)
    _, records = request_of(form, "traces", [Slice(empty), Slice(spans_line(1)), Slice(empty)])
    assert records == 1


def test_json_of_whole_lines_is_their_own_text() -> None:
    # As nobody would write it anew: that is how one sees that nobody did.
    one, two = spans_line(1, 2), spans_line(2, 3).replace(b"step", b"st\\u0065p")
    opening = b'{"resourceSpans":['
    body, _ = request_of("json", "traces", [Slice(one), Slice(two)])
    assert body == opening + one[len(opening) : -3] + b"," + two[len(opening) :].rstrip()
    body, _ = request_of("jsonl", "traces", [Slice(one), Slice(two)])
    assert body == one + two


@pytest.mark.parametrize("form", ["json", "jsonl"])
@pytest.mark.parametrize("part", [Slice(b""), Slice(b"", 0, 1)])
def test_a14_a_field_that_is_not_known_stays_in_json(form: str, part: Slice) -> None:
    line = spans_line(1, 1).replace(b'"name"', b'"new":{"deep":[1]},"name"')
    body, _ = request_of(form, "traces", [part._replace(line=line)])
    assert b'"new":{"deep":[1]}' in body


ODD_LINES = {
    "lines": b'{"resourceSpans":[\n{"scopeSpans":[{"spans":[{"name":\n"odd"}]}]}\n]}',
    "control": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd","new":"\x01"}]}]}]}',
    "null span": b'{"resourceSpans":[{"scopeSpans":[{"spans":[null,{"name":"odd"}]}]}]}',
    "spaces": b' { "resourceSpans" : [ {"scopeSpans":[{"spans":[{"name":"odd"}]}]} ] } \r\n',
    "more beside": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd"}]}]}],"new":[1]}',
    "more before": b'{"new":1,"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd"}]}]}]}',
    "two signals": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd"}]}]}],'
    b'"resourceLogs":[{"scopeLogs":[]}]}',
    "glued": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd"}]}]}]}{"resourceSpans":[]}',
    "null": b'{"resourceSpans":[{"resource":null,"scopeSpans":[{"spans":[{"name":"odd"}]}]}]}',
    "twice": b'{"resourceSpans":[],"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd"}]}]}]}',
    "snake": b'{"resource_spans":[{"scope_spans":[{"spans":[{"name":"odd",'
    b'"start_time_unix_nano":"5"}]}]}]}',
    "no utf-8": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd","new":"\xff"}]}]}]}',
    "enum name": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd",'
    b'"kind":"SPAN_KIND_SERVER"}]}]}]}',
    "base64 id": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd",'
    b'"spanId":"AAAAAAAAAAE="}]}]}]}',
    "surrogate": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"odd",'
    b'"traceState":"\\ud800"}]}]}]}',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("odd", list(ODD_LINES))
def test_a_line_of_a_foreign_writer_spoils_no_request(form: str, odd: str) -> None:
    """What is odd about it is mended, and its neighbours arrive as they are."""
    slices = [Slice(spans_line(1)), Slice(ODD_LINES[odd]), Slice(spans_line(2))]
    body, records = request_of(form, "traces", slices)
    body.decode("utf-8", "strict" if form != "protobuf" else "replace")
    names = [
        span.get("name")
        for document in documents(form, "traces", body)
        for held in document["resourceSpans"]
        for some in held["scopeSpans"]
        for span in some["spans"]
    ]
    assert names == ["step 1", "odd", "step 2"]
    assert records == 3


@pytest.mark.parametrize("form", FORMS)
def test_pieces_of_a_line_with_nulls_are_the_right_ones(form: str) -> None:
    line = spans_line(1, 3).replace(b'"spans":[', b'"spans":[null,')
    body, records = request_of(form, "traces", [Slice(line, 1, 2)])
    assert records == 1
    ((span,),) = [list(records_in("traces", one)) for one in documents(form, "traces", body)]
    assert span["startTimeUnixNano"] == "1764000000000001001"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", [Slice(b""), Slice(b"", 1)])
def test_what_only_the_forgiving_parser_reads_is_written_strictly(form: str, part: Slice) -> None:
    line = spans_line(1, 3).replace(b"step 1", b"step\x01 1")
    body, _ = request_of(form, "traces", [part._replace(line=line)])
    for document in documents(form, "traces", body):
        assert {span["name"] for span in records_in("traces", document)} == {"step\x01 1"}


@pytest.mark.parametrize("form", FORMS)
def test_who_is_asked_sees_ids_as_they_are_sent(form: str) -> None:
    line = spans_line(1).replace(b'"spanId":"0000000000000001"', b'"spanId":"AAAAAAAAAAE="')
    seen = []

    def keep(item: Item) -> bool:
        seen.append(item.record.span_id)
        return True

    _, records = request_of(form, "traces", [Slice(line)], keep)
    assert (records, seen) == (1, ["0000000000000001"])


def strictly(document: dict[str, Any]) -> Any:
    """What the official classes make of OTLP JSON; ids as bytes."""
    for held in document["resourceSpans"]:
        for some in held["scopeSpans"]:
            for span in some["spans"]:
                for name in {"traceId", "spanId"} & set(span):
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(document, DATA["traces"](), ignore_unknown_fields=True)


@pytest.mark.parametrize("odd", sorted(set(ODD_LINES) - {"more beside", "two signals"}))
def test_all_forms_say_the_same(odd: str) -> None:
    slices = [Slice(ODD_LINES[odd]), Slice(spans_line(2, 3), 1)]
    protobuf, _ = request_of("protobuf", "traces", slices)
    body, _ = request_of("json", "traces", slices)
    made = DATA["traces"].FromString(protobuf)
    assert without_empty(strictly(json.loads(body))) == without_empty(made)


@pytest.mark.parametrize("form", FORMS)
def test_a_line_that_is_none_is_refused_unquoted(form: str) -> None:
    for line in (b"", b"{}x", b"not json", b'{"resourceLogs":[]}', spans_line(1)[:-30]):
        with pytest.raises(LineRefusedError) as caught:
            request_of(form, "traces", [Slice(spans_line(1)), Slice(line)])
        assert "step" not in str(caught.value)
        with pytest.raises(LineRefusedError):
            records_of("traces", line)


def test_a_thrift_batch_has_what_was_kept() -> None:
    line, _ = numbered("traces", [[2, 1], [3]], 0)

    def keep(item: Item) -> bool:
        return int(item.record.attributes[0].value.int_value or 0) != 4

    assert [records for _, records in thrift_batches([Slice(line)])] == [3, 3]
    assert [records for _, records in thrift_batches([Slice(line, 1)], keep)] == [2, 2]
    body, records = request_of("thrift", "traces", [Slice(line, 0, 3), Slice(line, 0, 1)])
    assert (records, body) == (4, thrift_batches([Slice(line, 0, 3), Slice(line, 0, 1)])[0][0])


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="form must be one of protobuf, json, thrift, jsonl"):
        request_of("xml", "traces", [])
