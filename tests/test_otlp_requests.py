"""Bodies of requests: each record that was asked for, once, in each form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack_composer.telemetry.otlp.requests import Slice, records_of, request_of
from stack_composer.telemetry.otlp.walk import Item
from store_lines import dump, spans_line
from test_otlp_protobuf import DATA

FORMS = ("protobuf", "json", "jsonl")


def ids_in(form: str, body: bytes) -> list[str]:
    """The ids of the spans of a body, in order."""
    if form == "protobuf":
        made: Any = DATA["traces"].FromString(body)
        return [
            span.span_id.hex()
            for held in made.resource_spans
            for some in held.scope_spans
            for span in some.spans
        ]
    lines = body.splitlines()
    assert form == "jsonl" or len(lines) == 1
    return [
        span["spanId"]
        for line in lines
        for held in json.loads(line)["resourceSpans"]
        for some in held["scopeSpans"]
        for span in some["spans"]
    ]


def ids(*numbers: int) -> list[str]:
    return [f"{number:016x}" for number in numbers]


@pytest.mark.parametrize("form", FORMS)
def test_whole_lines_follow_each_other(form: str) -> None:
    body, records = request_of(
        form, "traces", [Slice(spans_line(1, 3)), Slice(spans_line(2, 2).rstrip())]
    )
    assert records == 5
    assert ids_in(form, body) == ids(1, 2, 3, 1, 2)


@pytest.mark.parametrize("form", FORMS)
def test_a_slice_is_counted_after_what_is_kept_out(form: str) -> None:
    def keep(item: Item) -> bool:
        return int(item.record.span_id, 16) % 2 == 0

    line = spans_line(1, 9)
    body, records = request_of(form, "traces", [Slice(line, 1, 3)], keep)
    assert (records, ids_in(form, body)) == (2, ids(4, 6))
    assert records_of("traces", line, keep) == 4
    body, records = request_of(form, "traces", [Slice(line, 7)])
    assert (records, ids_in(form, body)) == (2, ids(8, 9))


@pytest.mark.parametrize("form", FORMS)
def test_a13_there_is_no_empty_envelope(form: str) -> None:
    empty = dump({"resourceSpans": [{"scopeSpans": [{"spans": []}]}]})
    assert request_of(form, "traces", []) == (b"", 0)
    assert request_of(form, "traces", [Slice(empty)]) == (b"", 0)
    assert request_of(form, "traces", [Slice(spans_line(1), 1)]) == (b"", 0)
    assert request_of(form, "traces", [Slice(spans_line(1))], lambda _: False) == (b"", 0)
    body, records = request_of(form, "traces", [Slice(empty), Slice(spans_line(1)), Slice(empty)])
    assert (records, ids_in(form, body)) == (1, ids(1))


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="form must be one of protobuf, json, thrift, jsonl"):
        request_of("xml", "traces", [])
