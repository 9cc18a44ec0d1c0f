"""Requests of OTLP become guarded lines: quickly, and never otherwise than thoroughly."""

from __future__ import annotations

import base64
import json
import struct
import weakref
from collections import Counter
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp.protobuf import Reader
from stack_composer.telemetry.outputs import Encoders, make_guard
from stack_composer.telemetry.receive import quick_spans, transcode
from stack_composer.telemetry.receive.transcode import LINE_RECORDS, Transcoder
from stack_composer.telemetry.store import encode
from test_otlp_protobuf import around, field, length

START_NS = 1_764_000_000_000_000_000


def a_span(**fields: Any) -> trace_pb2.Span:
    usual = {
        "trace_id": b"t" * 16,
        "span_id": b"s" * 8,
        "name": "planner.solve",
        "kind": 1,
        "start_time_unix_nano": START_NS,
        "end_time_unix_nano": START_NS + 1_000,
        "flags": 257,
    }
    return trace_pb2.Span(**{**usual, **fields})


def a_request(*spans: trace_pb2.Span, service: str = "planner") -> trace_pb2.TracesData:
    data = trace_pb2.TracesData()
    held = data.resource_spans.add()
    held.resource.attributes.add(key="service.name").value.string_value = service
    held.scope_spans.add().spans.extend(spans)
    return data


def encoders_of(**options: Any) -> Encoders:
    config = load_config(options, environ={"HOME": "/nowhere"})
    return Encoders(config, make_guard(config, b"salt" * 8))


def transcoder_of(**options: Any) -> Transcoder:
    return Transcoder(encoders_of(**options), Reader())


def decoded(lines: list[tuple[bytes, Any, int]]) -> list[Any]:
    return [json.loads(line) for line, _, _ in lines]


def test_records_of_one_program_share_a_line() -> None:
    """Also where a request has each in a piece of its own."""
    data = a_request(a_span(), a_span())
    data.MergeFrom(a_request(a_span(), service="other"))
    data.MergeFrom(a_request(a_span()))
    lines = transcoder_of().lines("traces", data.SerializeToString(), Counter())
    assert [count for _, _, count in lines] == [3, 1]
    spans = [line["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in decoded(lines)]
    assert [len(some) for some in spans] == [3, 1]
    assert [sketch.records for _, sketch, _ in lines] == [3, 1]


FLAGS = (0, 1, 0x100, 0x101, 0x301, 0x8000_0402, 2**32 - 1)


@pytest.mark.parametrize("is_json", [False, True], ids=["protobuf", "json"])
@pytest.mark.parametrize("parent", [b"", b"p" * 8], ids=["root", "child"])
def test_a12_flags_of_spans_and_links_are_kept_as_they_came(parent: bytes, is_json: bool) -> None:
    """Unknown bits too, on the quick way and beside it; 0 is left out."""
    plain = [a_span(flags=flags, parent_span_id=parent) for flags in FLAGS]
    linking = [a_span(flags=flags, parent_span_id=parent) for flags in FLAGS]
    for span in linking:
        span.links.add(trace_id=b"l" * 16, span_id=b"k" * 8, flags=span.flags)
    made = transcoder_of()
    for _ in range(2):  # Learnt from the first, remembered for the second.
        raw = a_request(*plain, *linking).SerializeToString()
        if is_json:
            tree = {"resourceSpans": [{"scopeSpans": [{"spans": list(map(in_json, linking))}]}]}
            raw = json.dumps(tree).encode()
        (line,) = decoded(made.lines("traces", raw, Counter(), is_json=is_json))
        spans = line["resourceSpans"][0]["scopeSpans"][0]["spans"]
        told = [flags or None for flags in FLAGS]
        assert [span.get("flags") for span in spans] == told * (1 if is_json else 2)
        assert [span["links"][0].get("flags") for span in spans[-len(FLAGS) :]] == told


def in_json(span: trace_pb2.Span) -> dict[str, Any]:
    given = json_format.MessageToDict(span)
    for held in (given, *given["links"]):
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in held:
                held[key] = base64.b64decode(held[key]).hex()
    return given


@pytest.mark.parametrize("span_id", [b"", b"s" * 8], ids=["of no span", "of a span"])
def test_a12_flags_of_log_records_are_kept_as_they_came(span_id: bytes) -> None:
    data = logs_pb2.LogsData()
    records = data.resource_logs.add().scope_logs.add().log_records
    for flags in FLAGS:
        records.add(time_unix_nano=START_NS, flags=flags, span_id=span_id, trace_id=span_id * 2)
    (line,) = decoded(transcoder_of().lines("logs", data.SerializeToString(), Counter()))
    kept = line["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert [record.get("flags") for record in kept] == [flags or None for flags in FLAGS]


@pytest.mark.parametrize("flags", [-1, 2**32])
def test_flags_beyond_32_bits_are_left_out_and_counted(flags: int) -> None:
    ids = {"traceId": "1" * 32, "spanId": "2" * 16}
    span = {**ids, "name": "n", "flags": flags, "links": [{**ids, "flags": flags}]}
    log = {**ids, "timeUnixNano": "5", "flags": flags}
    for signal, tree, times in (
        ("traces", {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}, 2),
        ("logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}, 1),
    ):
        counts = Counter[str]()
        raw = json.dumps(tree).encode()
        ((line, _, _),) = transcoder_of().lines(signal, raw, counts, is_json=True)
        assert (b"flags" in line, counts["out_of_range"]) == (False, times)


def test_a_line_holds_so_many_records() -> None:
    data = a_request(*[a_span()] * (LINE_RECORDS + 1))
    lines = transcoder_of().lines("traces", data.SerializeToString(), Counter())
    assert [count for _, _, count in lines] == [LINE_RECORDS, 1]


def test_metrics_are_counted_by_their_points() -> None:
    data = metrics_pb2.MetricsData()
    scope = data.resource_metrics.add().scope_metrics.add()
    for many in (300, 212, 1, 600, 2):
        metric = scope.metrics.add(name="m")
        for at in range(many):
            metric.gauge.data_points.add(as_int=at, time_unix_nano=START_NS)
    lines = transcoder_of().lines("metrics", data.SerializeToString(), Counter())
    assert [count for _, _, count in lines] == [512, 1, 600, 2]


def test_logs_are_taken_in_both_forms() -> None:
    data = logs_pb2.LogsData()
    record = data.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=START_NS)
    record.body.string_value = "a message"
    line = transcoder_of().lines("logs", data.SerializeToString(), Counter())[0][0]
    again = transcoder_of().lines("logs", line, Counter(), is_json=True)
    assert [made for made, _, _ in again] == [line]


def test_a_request_without_records_makes_no_lines() -> None:
    for signal in ("traces", "metrics", "logs"):
        assert transcoder_of().lines(signal, b"", Counter()) == []
        assert transcoder_of().lines(signal, b"{}", Counter(), is_json=True) == []


def test_a_request_is_taken_whole_or_refused_whole() -> None:
    """What is refused has asked the guard nothing: nothing of it was redacted."""
    whole = a_request(*[a_span(name="password=" + "hunter2" * 3)] * 3).SerializeToString()
    made = transcoder_of()
    with pytest.raises(LineRefusedError):
        made.lines("traces", whole[:-1], Counter())
    assert not made._encoders.guard.tally.counts


def test_json_of_too_many_objects_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcode, "PARTS_MAX", 10)
    with pytest.raises(LineRefusedError, match="more than 10 objects"):
        transcoder_of().lines("logs", b"{" * 11, Counter(), is_json=True)


def test_a_line_longer_than_a_bundle_may_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the bundle that got it could never be sealed."""
    monkeypatch.setattr(transcode, "LINE_BYTES_MAX", 100)
    with pytest.raises(LineRefusedError, match="more than 100 bytes"):
        transcoder_of().lines("traces", a_request(a_span()).SerializeToString(), Counter())


# -- the quick way agrees with the thorough one -------------------------------------------

TOKEN = "ghp_" + "a1B2c3D4e5F6" * 3
OTHER = TOKEN.swapcase().replace("GHP", "ghp")
NAMES = ["planner.solve", "GET /9", "J", "Jay 9 A", "ünïcode", "n" * 200, f"call {TOKEN}"]
KEYS = [
    *("http.route", "k_dense", "J", "9", "", "ключ", "k" * 140, "session.id", "user.email"),
    *("password", "db.statement", "gen_ai.prompt"),
    # Both look alike once they are masked, and get numbers therefore.
    *(f"key {TOKEN}", f"key {OTHER}"),
]
TEXTS = [
    *("GET", "JSON", "J" * 74, "", "ж", "x" * 126, "x" * 300, "\0", 'say "hi"\n', "2" * 90),
    *(
        TOKEN,
        f"token={TOKEN}",
        "y" * 70_000,
        "me@example.org",
        "4111 1111 1111 1111",
        "[redacted:email]",
    ),
]


def a_value(draw: st.DrawFn, value: Any) -> None:
    kind = draw(st.sampled_from(["text", "text", "text", "int", "double", "bool", "odd"]))
    if kind == "text":
        value.string_value = draw(st.one_of(st.sampled_from(TEXTS), st.text(max_size=6)))
    elif kind == "int":
        value.int_value = draw(
            st.one_of(st.sampled_from([0, 200, -1]), st.integers(-(2**63), 2**62))
        )
    elif kind == "double":
        value.double_value = draw(st.one_of(st.sampled_from([0.5, 1e16, -0.0]), st.floats()))
    elif kind == "bool":
        value.bool_value = draw(st.booleans())
    else:
        odd = draw(st.integers(0, 2))
        if odd == 0:
            value.bytes_value = draw(st.binary(max_size=3))
        elif odd == 1:
            value.array_value.values.add().string_value = draw(st.sampled_from(TEXTS))


@st.composite
def some_spans(draw: st.DrawFn) -> trace_pb2.Span:
    """Spans that repeat what others say, with a secret here and there; most are plain."""
    span = a_span(
        trace_id=draw(st.sampled_from([b"t" * 16, b"u" * 16, b"9AJ\n\x10\x12" * 2 + b"last"])),
        name=draw(st.sampled_from(NAMES)),
        kind=draw(st.integers(0, 3)),
        flags=draw(st.sampled_from([0, 1, 257, 257, 769, 0x401, 2**32 - 1])),
        parent_span_id=draw(st.sampled_from([b"", b"p" * 8])),
        start_time_unix_nano=draw(st.sampled_from([1, START_NS, START_NS + 57])),
        end_time_unix_nano=draw(st.sampled_from([9, START_NS + 10, 2**64 - 1])),
    )
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=4)):
        a_value(draw, span.attributes.add(key=key).value)
    if draw(st.integers(0, 3)) == 0:
        status: Any = span.status
        status.code = draw(st.integers(0, 2))
    if draw(st.integers(0, 4)) == 0:
        make_odd(span, draw(st.sampled_from(ODDITIES)))
    return span


ODDITIES = [
    *({"trace_id": b"\0" * 16}, {"span_id": b"\0" * 8}, {"parent_span_id": b"\0" * 8}),
    *({"parent_span_id": b"short"}, {"kind": 200}, {"kind": -1}, {"name": f"call {TOKEN}"}),
    *({"start_time_unix_nano": 0}, {"end_time_unix_nano": 0}, {"name": ""}),
    *({"trace_state": "a=b"}, {"dropped_attributes_count": 3}),
    *({"message": "it failed"}, {"message": f"no {TOKEN}"}, {"event": "exception"}),
]


def make_odd(span: trace_pb2.Span, odd: dict[str, Any]) -> None:
    for name, value in odd.items():
        if name == "message":
            status: Any = span.status
            status.message = value
        elif name == "event":
            span.events.add(name=value, time_unix_nano=5).attributes.add(key="k")
        else:
            setattr(span, name, value)


def thoroughly(made: Transcoder, raw: bytes, counts: Counter[str]) -> list[Any]:
    return [
        (line, sketch, sketch.records)
        for line, sketch in made._by_records("traces", raw, counts, is_json=False)
    ]


def tally_of(made: Transcoder) -> tuple[Any, ...]:
    tally = made._encoders.guard.tally
    return dict(tally.counts), dict(tally.hits), tally.faults, tally.judged


def assert_agree(
    quick: Transcoder, slow: Transcoder, raw: bytes, *, is_judged_alike: bool = True
) -> None:
    """Both say the same of ``raw``, after whatever each has seen before."""
    ours, theirs = Counter[str](), Counter[str]()
    try:
        lines = thoroughly(slow, raw, theirs)
    except LineRefusedError:
        with pytest.raises(LineRefusedError):
            quick.lines("traces", raw, ours)
    else:
        got = quick.lines("traces", raw, ours)
        assert got == lines
        for (_, one, _), (_, other, _) in zip(got, lines, strict=True):
            assert set(one.traces or ()) == set(other.traces or ())
        assert ours["bad_id"] == theirs["bad_id"]
        assert bool(ours["not_strict"]) == bool(theirs["not_strict"])
    mine, wanted = tally_of(quick), tally_of(slow)
    assert mine[:3] == wanted[:3]
    assert mine[3] == wanted[3] or not is_judged_alike


OPTIONS: list[dict[str, Any]] = [
    {},
    {"span_attribute_count_max": 2},
    {"span_attribute_chars_max": 5},
    {"profile": "strict"},
]


@pytest.mark.parametrize("options", OPTIONS)
@given(
    requests=st.lists(st.lists(some_spans(), max_size=8), min_size=1, max_size=4),
    line_records=st.sampled_from([1, 3, LINE_RECORDS]),
)
@settings(max_examples=40, deadline=None)
def test_the_quick_way_writes_what_the_thorough_one_writes(
    options: dict[str, Any], requests: list[list[trace_pb2.Span]], line_records: int
) -> None:
    """The same lines, sketches and redactions, the first time and once all is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcode, "LINE_RECORDS", line_records)
        quick, slow = transcoder_of(**options), transcoder_of(**options)
        for spans in requests * 3:
            assert_agree(quick, slow, a_request(*spans).SerializeToString())


@given(
    requests=st.lists(
        st.tuples(st.lists(some_spans(), max_size=12), st.booleans()), min_size=1, max_size=4
    ),
    bounds=st.tuples(
        st.sampled_from([1, 10, 40, 100, 10_000]), st.integers(1, 4), st.integers(1, 6)
    ),
    line_records=st.integers(1, 5),
    kept_max=st.sampled_from([0, 4, 100]),
)
@settings(max_examples=80, deadline=None)
def test_it_does_so_while_it_forgets_and_over_several_lines(
    requests: list[tuple[list[trace_pb2.Span], bool]],
    bounds: tuple[int, int, int],
    line_records: int,
    kept_max: int,
) -> None:
    """Whatever is full, and also when others use the encoder in between."""
    remembered_max, pieces_max, learnt_max = bounds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "REMEMBERED_MAX", remembered_max)
        patch.setattr(encode, "PIECES_MAX", pieces_max)
        patch.setattr(quick_spans, "PIECES_MAX", pieces_max)
        patch.setattr(quick_spans, "LEARNT_MAX", learnt_max)
        patch.setattr(quick_spans, "KEPT_MAX", kept_max)
        patch.setattr(transcode, "LINE_RECORDS", line_records)
        quick, slow = transcoder_of(), transcoder_of()
        for spans, is_apart in requests * 3:
            raw = a_request(*spans).SerializeToString()
            if is_apart:
                assert thoroughly(quick, raw, Counter()) == thoroughly(slow, raw, Counter())
            else:
                assert_agree(quick, slow, raw, is_judged_alike=False)
            known = quick._spans
            for learnt in (known._pairs, known._keys, known._names, known._ends):
                assert len(learnt) <= learnt_max


@given(st.lists(some_spans(), min_size=1, max_size=3), st.data())
@settings(max_examples=120, deadline=None)
def test_the_two_ways_agree_on_damage_too(spans: list[trace_pb2.Span], data: st.DataObject) -> None:
    """A byte that makes a span another one makes it the same other one in both."""
    whole = a_request(*spans).SerializeToString()
    raw = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 2))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    quick, slow = transcoder_of(), transcoder_of()
    for some in (whole, bytes(raw), whole):
        assert_agree(quick, slow, some)


@given(st.binary(max_size=60), st.binary(max_size=60))
@settings(max_examples=120, deadline=None)
def test_any_bytes_at_the_end_of_a_span_are_read_the_same(extra: bytes, other: bytes) -> None:
    quick, slow = transcoder_of(), transcoder_of()
    for more in (b"", extra, b"J" + extra, other, extra):
        span = a_span().SerializeToString() + more
        assert_agree(quick, slow, around(span))


def test_spans_that_the_sdk_wrote_need_no_records_once_they_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor do new texts, numbers and ids under keys that are known."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("library", "1.2")

    def request(number: int) -> bytes:
        kept.clear()
        with tracer.start_as_current_span("GET /9", kind=SpanKind.SERVER) as outer:
            outer.set_attribute("url.path", f"/orders/{number}")
            outer.set_attribute("session.id", f"session-{number}")
            outer.set_attribute("text", f"J {number} {'x' * 200}")
            for at in range(3):
                with tracer.start_as_current_span("planner.solve") as span:
                    span.set_attributes({"k_dense": at + number, "share": number / 7, "ok": True})
                    span.set_attribute("sizes", [1, 2, number])
                    span.set_status(StatusCode.ERROR if at else StatusCode.OK)
        return bytes(encode_spans(kept.get_finished_spans()).SerializeToString())

    made = transcoder_of()
    made.lines("traces", request(1), Counter())

    def never(*_: Any) -> None:
        raise AssertionError("a span was read as a record")

    monkeypatch.setattr(Reader, "span", never)
    raw = request(2)
    lines = made.lines("traces", raw, Counter())
    monkeypatch.undo()
    slow = transcoder_of()
    thoroughly(slow, request(1), Counter())
    assert lines == thoroughly(slow, raw, Counter())


def test_a_secret_never_survives_what_is_known() -> None:
    """In each place where a text can stand, the first time and the fourth; each is counted."""
    data = a_request(a_span(name=f"name {TOKEN}"))
    held = data.resource_spans[0]
    held.schema_url = f"https://example.org/{TOKEN}"
    held.resource.attributes.add(key=f"r {TOKEN}").value.string_value = TOKEN
    held.scope_spans[0].schema_url = f"https://example.org/{TOKEN}"
    scope = held.scope_spans[0].scope
    scope.name, scope.version = f"library {TOKEN}", TOKEN
    scope.attributes.add(key="s").value.string_value = TOKEN
    plain = a_span()
    plain.attributes.add(key="k").value.string_value = f"is {TOKEN}"
    plain.attributes.add(key=f"k {OTHER}").value.int_value = 5
    plain.attributes.add(key="password").value.string_value = TOKEN
    plain.attributes.add(key="many").value.array_value.values.add().string_value = TOKEN
    plain.attributes.add(key="raw").value.bytes_value = TOKEN.encode()
    odd = a_span(trace_state=f"a={TOKEN}")
    status: Any = odd.status
    status.message = TOKEN
    odd.events.add(name=TOKEN).attributes.add(key="e").value.string_value = TOKEN
    odd.links.add(trace_id=b"l" * 16, span_id=b"l" * 8).attributes.add(key=TOKEN)
    failed = a_span()
    status = failed.status
    status.message = f"no {TOKEN}"
    held.scope_spans[0].spans.extend([plain, odd, failed] * 3)
    raw = data.SerializeToString()
    made = transcoder_of()
    seen = []
    for _ in range(4):
        for line, sketch, _ in made.lines("traces", raw, Counter()):
            for secret in (TOKEN, OTHER):
                assert secret.encode() not in line
                assert secret not in str(sketch.to_json())
        seen.append(sum(made._encoders.guard.tally.counts.values()))
    # Keys, resource and scope are remembered as they are written; values never are.
    assert seen[1] - seen[0] == seen[2] - seen[1] == seen[3] - seen[2] > 6 * 3
    known = made._spans
    learnt: list[dict[bytes, Any]] = [known._pairs, known._keys, known._names, known._ends]
    memory = str([list(some.items()) for some in learnt])
    assert OTHER in memory  # As a key, by which a second one is found.
    assert TOKEN not in memory


def test_what_is_no_utf8_is_mended_in_both() -> None:
    broken = b"\xed\xa0\x80"  # A lone surrogate
    key = field(1, 2, length(b"k")) + field(2, 2, length(field(1, 2, length(broken))))
    odd_key = field(1, 2, length(broken)) + field(2, 2, length(field(1, 2, length(b"v"))))
    named = a_span(name="").SerializeToString() + field(5, 2, length(broken))
    span = a_span().SerializeToString() + field(9, 2, length(key)) + field(9, 2, length(odd_key))
    quick, slow = transcoder_of(), transcoder_of()
    for raw in [around(span), around(named)] * 3:
        assert_agree(quick, slow, raw)


def test_a_span_of_very_many_attributes_is_read_the_same() -> None:
    """Also where each of its bytes looks like the beginning of one."""
    known = a_span()
    known.attributes.add(key="k").value.string_value = "v"
    attribute = known.SerializeToString()[-16:-6]
    assert attribute.startswith(b"J")
    many = a_span()
    many.attributes.add(key="k").value.string_value = "J" * 40_000
    quick, slow = transcoder_of(), transcoder_of()
    for raw in [known, many] * 2:
        assert_agree(quick, slow, around(raw.SerializeToString()))
    for more in (attribute * 200, attribute * 40_000, b"J" * 40_000):
        for span in (known.SerializeToString(), known.SerializeToString()[:-6]):
            assert_agree(quick, slow, around(span + more))


def test_of_a_huge_request_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes make a span: what is made of them must not be kept all at once."""
    monkeypatch.setattr(quick_spans, "KEPT_MAX", LINE_RECORDS)
    alive = most = 0

    made = transcoder_of()
    read = quick_spans.QuickSpans._read

    def counted(self: Any, draft: Any, *given: Any) -> None:
        nonlocal alive, most
        read(self, draft, *given)
        alive += len(draft.put_off)
        most = max(most, alive)
        weakref.finalize(draft, gone, len(draft.put_off))

    def gone(many: int) -> None:
        nonlocal alive
        alive -= many

    monkeypatch.setattr(quick_spans.QuickSpans, "_read", counted)
    raw = field(1, 2, length(field(2, 2, length(field(2, 2, b"\0") * LINE_RECORDS * 8))))
    assert [count for _, _, count in made.lines("traces", raw, Counter())] == [LINE_RECORDS] * 8
    assert most <= 2 * LINE_RECORDS


KEY = field(1, 2, length(b"k"))
DOUBLE = field(4, 1, struct.pack("<d", 2.5))
ODD_PAIRS = {
    "a double and more": KEY + field(2, 2, length(DOUBLE)) + field(9, 0, b"\1"),
    "a double and more in its value": KEY + field(2, 2, length(DOUBLE + field(9, 0, b"\1"))),
    "half a double": KEY + field(2, 2, length(DOUBLE[:-1])),
    "a size of half a double": KEY + b"\x12\x09" + DOUBLE[:-1],
    "a text and more": KEY + field(2, 2, length(field(1, 2, length(b"v")))) + field(9, 0, b"\1"),
    "two values": KEY + field(2, 2, length(field(1, 2, length(b"v")) + field(3, 0, b"\5"))),
    "two keys": KEY + field(1, 2, length(b"j")) + field(2, 2, length(field(3, 0, b"\5"))),
    "the value first": field(2, 2, length(field(3, 0, b"\5"))) + KEY,
    "another field for the key": field(3, 2, length(b"k"))
    + field(2, 2, length(field(1, 2, length(b"v")))),
    "another field for the value": KEY + field(3, 2, length(field(1, 2, length(b"v")))),
    "no key": field(2, 2, length(field(3, 0, b"\5"))),
    "no value": KEY,
    "an empty value": KEY + b"\x12\0",
    "an empty text": KEY + field(2, 2, length(field(1, 2, b"\0"))),
    "a text of another size": KEY + b"\x12\x05" + b"\x0a\x04abc",
    "a size in two bytes": KEY + b"\x12\x86\0" + b"\x0a\x84\0abcd",
    "a number in ten bytes": KEY + field(2, 2, length(field(3, 0, b"\xff" * 9 + b"\1"))),
    "a number in twelve bytes": KEY + field(2, 2, length(field(3, 0, b"\xff" * 11 + b"\1"))),
    "a number that never ends": KEY + field(2, 2, length(field(3, 0, b"\xff"))),
    "a truth value": KEY + field(2, 2, length(field(2, 0, b"\7"))),
    "not a number": KEY + field(2, 2, length(field(4, 1, struct.pack("<d", float("nan"))))),
    "nothing": b"",
}


@pytest.mark.parametrize("odd", ODD_PAIRS.values(), ids=ODD_PAIRS)
def test_an_odd_attribute_is_read_the_same(odd: bytes) -> None:
    quick, slow = transcoder_of(), transcoder_of()
    usual = a_span()
    usual.attributes.add(key="k").value.string_value = "v"
    start = a_span(flags=0).SerializeToString()
    for attribute in (
        field(9, 2, length(odd)),
        field(9, 2, bytes((len(odd) | 128, 0)) + odd),
        field(9, 2, length(odd)[:-1]),
    ):
        for number in range(3):
            assert_agree(quick, slow, around(usual.SerializeToString()))
            new = field(
                9, 2, length(KEY + field(2, 2, length(field(1, 2, length(b"%d" % number)))))
            )
            for span in (start + attribute, start + new + attribute, start + attribute + new):
                assert_agree(quick, slow, around(span))


def with_attributes(**attributes: int | str) -> trace_pb2.Span:
    span = a_span()
    for key, value in attributes.items():
        kind = "string_value" if isinstance(value, str) else "int_value"
        setattr(span.attributes.add(key=key).value, kind, value)
    return span


def test_what_one_line_taught_is_asked_no_more_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcode, "LINE_RECORDS", 1)
    quick, slow = transcoder_of(), transcoder_of()
    for text in ("first", "second"):
        spans = [with_attributes(k=text)] * 3
        assert_agree(quick, slow, a_request(*spans).SerializeToString())


def test_what_the_encoder_forgets_between_two_lines_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keys that look alike get other numbers then; in all lines that follow."""
    monkeypatch.setattr(transcode, "LINE_RECORDS", 1)
    one, other = f"key {TOKEN}", f"key {OTHER}"
    quick, slow = transcoder_of(), transcoder_of()
    known = [with_attributes(**{one: 1}), with_attributes(**{other: 1}), with_attributes(k="v")]
    raw = a_request(*known).SerializeToString()
    for _ in range(2):
        assert_agree(quick, slow, raw)
    full = quick._encoders._spans._remembered
    monkeypatch.setattr(encode, "REMEMBERED_MAX", full)
    new, again = with_attributes(k="new"), known[1::-1] * 2
    raw = a_request(new, *again).SerializeToString()
    assert_agree(quick, slow, raw)
    assert quick._encoders._spans.forgotten == 1
    assert_agree(quick, slow, raw)


def test_of_a_key_with_ever_new_values_only_so_many_are_remembered() -> None:
    made = transcoder_of()
    for number in range(5):
        spans = [with_attributes(k=number * 600 + at, t=f"{number} {at}") for at in range(600)]
        made.lines("traces", a_request(*spans).SerializeToString(), Counter())
    assert encode.PIECES_MAX < len(made._spans._pairs) <= 2 * encode.PIECES_MAX
