"""Plans: each record goes once, whatever was wanted before, and the same plan is the same."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli_running import log, logs_line, span, spans_line, write, write_sealed
from stack_composer.telemetry.store import names
from stack_composer.telemetry.store.reader import list_bundles, read_placed_lines
from stack_composer.telemetry.store.writer import BundleWriter
from stack_composer.telemetry.upload.audit import Position, Selected
from stack_composer.telemetry.upload.batches import Batch, Batches
from stack_composer.telemetry.upload.ledger import Range, merged
from stack_composer.telemetry.upload.plan import Plan, Terms, facts_of, plan_upload
from stack_composer.telemetry.upload.pseudonyms import Pseudonyms
from store_lines import START_NS, append, dump, tick_until_idle
from upload_server import line_span_ids

EVERYTHING = Selected()
TERMS = Terms("https://example.org:443", "http/json", "raw", "none", 3_500_000)
PSEUDONYMS = Pseudonyms(bytes(32))
Sent = dict[str, list[Range]]


def planned(
    folder: Path,
    sent: Sent | None = None,
    *,
    wanted: Selected = EVERYTHING,
    terms: Terms = TERMS,
    signals: frozenset[str] | None = None,
) -> Plan:
    found = sent or {}
    return plan_upload(
        facts_of(list_bundles(str(folder)).bundles, wanted),
        wanted=wanted,
        signals=signals,
        sent=lambda key: merged(found.get(key, ())),
        terms=terms,
    )


def batches(plan: Plan, form: str = "json") -> list[Batch]:
    maker = Batches(plan.terms, form, PSEUDONYMS)
    return [batch for portion in plan.portions for batch in maker.of(portion)]


def deliver(some: Sequence[Batch], sent: Sent) -> list[str]:
    """Note batches as the ledger would; return the ids of their spans."""
    ids = []
    for batch in some:
        one = Range(batch.start, batch.end, batch.portion.selected)
        sent.setdefault(batch.portion.key, []).append(one)
        ids += line_span_ids(batch.body)
        assert batch.records == len(line_span_ids(batch.body)) > 0
    return ids


def all_ids(folder: Path) -> list[str]:
    return [
        found
        for bundle in list_bundles(str(folder)).bundles
        if bundle.signal == "traces"
        for _, line in read_placed_lines(bundle)
        for found in line_span_ids(line)
    ]


def write_open(folder: Path, lines: Sequence[bytes], *, created_ns: int = START_NS) -> Path:
    """Put lines into a bundle as a writer that was killed leaves it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    name = names.open_name(names.make_stem(created_ns, 1, bytes(4)), "traces")
    path = folder / name
    path.write_bytes(b"".join(lines))
    return path


def numbered(first: int, count: int, *, name: str = "a", start_ns: int = START_NS) -> bytes:
    """A line of spans with ids from ``first`` on."""
    return spans_line(
        *(span(name, start_ns=start_ns + at, number=first + at + 1) for at in range(count))
    )


# -- each record once ------------------------------------------------------------------

SPANS = st.tuples(st.sampled_from("ab"), st.integers(0, 9))
LINES = st.lists(st.lists(SPANS, min_size=1, max_size=4), min_size=1, max_size=5)
WANTED = st.just(EVERYTHING) | st.builds(
    Selected,
    st.sampled_from((0, START_NS + 3_000, START_NS + 6_000)),
    st.sampled_from((0, START_NS + 5_000, START_NS + 8_000)),
    st.sampled_from(("", "a", "b*")),
)
RUNS = st.lists(
    st.tuples(WANTED, st.lists(st.booleans(), max_size=5), st.sampled_from((150, 400, 3_500))),
    max_size=4,
)
"""What is wanted, which of the requests are taken, and how large they may be."""


def span_of(number: int, name: str, tick: int) -> dict[str, Any]:
    return span(name, start_ns=START_NS + tick * 1_000, duration_ns=1, number=number)


def is_wanted(wanted: Selected, name: str, tick: int) -> bool:
    start_ns = START_NS + tick * 1_000
    return (
        start_ns + 1 >= wanted.since_ns
        and (not wanted.until_ns or start_ns < wanted.until_ns)
        and wanted.name.rstrip("*") in ("", name)
    )


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=LINES, runs=RUNS)
def test_whatever_was_wanted_and_wherever_it_stopped_each_record_goes_once(
    lines: list[list[tuple[str, int]]],
    runs: list[tuple[Selected, list[bool], int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("store")
    numbers = itertools.count(1)
    known = {}
    written = []
    for line in lines:
        spans = []
        for name, tick in line:
            number = next(numbers)
            known[f"{number:016x}"] = (name, tick)
            spans.append(span_of(number, name, tick))
        written.append(spans_line(*spans))
    write_open(folder, written)
    sent: Sent = {}
    gone: Counter[str] = Counter()
    for wanted, taken, request_bytes_max in runs:
        terms = TERMS._replace(request_bytes_max=request_bytes_max)
        plan = planned(folder, sent, wanted=wanted, terms=terms)
        made = batches(plan)
        expected = {key for key, (n, t) in known.items() if is_wanted(wanted, n, t)} - set(gone)
        # What is planned is what is wanted and did not go, in the order of the bundle.
        found = [key for batch in made for key in line_span_ids(batch.body)]
        assert found == sorted(expected)
        gone.update(deliver(list(itertools.compress(made, taken)), sent))
    gone.update(deliver(batches(planned(folder, sent)), sent))
    assert gone == Counter(list(known))
    # Under patterns it may be planned to look again, and nothing is found.
    assert batches(planned(folder, sent)) == []


def test_what_went_under_a_pattern_does_not_go_again_with_everything(tmp_path: Path) -> None:
    line = spans_line(*(span_of(number, "ab"[number % 2], 0) for number in range(1, 9)))
    write_open(tmp_path / "t", [line, line.replace(b'"spanId":"0', b'"spanId":"f')])
    sent: Sent = {}
    first = deliver(batches(planned(tmp_path / "t", sent, wanted=Selected(name="a*"))), sent)
    assert len(first) == 8
    rest = deliver(batches(planned(tmp_path / "t", sent)), sent)
    assert sorted(first + rest) == sorted(all_ids(tmp_path / "t"))
    assert batches(planned(tmp_path / "t", sent)) == []


# -- requests ------------------------------------------------------------------------


def test_a_request_holds_whole_lines_up_to_its_limit(tmp_path: Path) -> None:
    lines = [numbered(10 * at, 10) for at in range(9)]
    write_open(tmp_path / "t", lines)
    limit = 3 * len(lines[0]) + 10
    made = batches(planned(tmp_path / "t", terms=TERMS._replace(request_bytes_max=limit)))
    assert [batch.records for batch in made] == [30, 30, 30]
    assert all(len(batch.body) <= limit for batch in made)
    assert [batch.start for batch in made[1:]] == [batch.end for batch in made[:-1]]


@pytest.mark.parametrize("form", ["json", "protobuf", "jsonl"])
def test_e7_a_line_larger_than_a_request_is_cut_between_records(form: str, tmp_path: Path) -> None:
    write_open(tmp_path / "t", [numbered(0, 100), numbered(100, 3)])
    terms = TERMS._replace(request_bytes_max=2_000)
    made = batches(planned(tmp_path / "t", terms=terms), form)
    assert all(len(batch.body) <= 2_000 for batch in made)
    assert sum(batch.records for batch in made) == 103
    assert made[0].end.record == made[0].records
    assert made[0].end.offset == 0


def test_halves_end_at_one_record(tmp_path: Path) -> None:
    write_open(tmp_path / "t", [numbered(0, 5), numbered(5, 2)])
    (whole,) = batches(planned(tmp_path / "t"))
    waiting, single = [whole], []
    while waiting:
        batch = waiting.pop(0)
        parts = batch.halves()
        assert len(parts) in (0, 2)
        if parts:
            assert (parts[0].start, parts[0].end, parts[1].end) == (
                batch.start,
                parts[1].start,
                batch.end,
            )
        waiting = parts + waiting
        single += [] if parts else [batch]
    assert [batch.records for batch in single] == [1] * 7
    assert [key for one in single for key in line_span_ids(one.body)] == all_ids(tmp_path / "t")


def test_a_jaeger_batch_is_of_one_program(tmp_path: Path) -> None:
    def line(*services: str) -> bytes:
        return dump(
            {
                "resourceSpans": [
                    {
                        "resource": {
                            "attributes": [
                                {"key": "service.name", "value": {"stringValue": service}}
                            ]
                        },
                        "scopeSpans": [{"spans": [span("x", start_ns=START_NS, number=at + 1)]}],
                    }
                    for at, service in enumerate(services)
                ]
            }
        )

    write_open(tmp_path / "t", [line("one"), line("one", "two"), line("two"), line("one")])
    plan = planned(tmp_path / "t", terms=TERMS._replace(protocol="jaeger"))
    made = batches(plan, "thrift")
    assert [batch.records for batch in made] == [2, 2, 1]
    assert [batch.start for batch in made[1:]] == [batch.end for batch in made[:-1]]
    assert (b"one" in made[0].body, b"two" in made[0].body) == (True, False)


def test_a_line_that_is_no_otlp_is_passed_over(tmp_path: Path) -> None:
    write_open(tmp_path / "t", [numbered(0, 2), b'{"resourceSpans":[{"scope\n', numbered(2, 2)])
    plan = planned(tmp_path / "t")
    for form in ("json", "protobuf"):
        maker = Batches(plan.terms, form, PSEUDONYMS)
        (batch,) = maker.of(plan.portions[0])
        assert batch.records == 4
        assert maker.oddities["refused_line"] == 1


# -- places --------------------------------------------------------------------------


def test_places_stay_when_a_bundle_is_sealed(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    now_ns = [START_NS]
    writer = BundleWriter(str(folder), clock=lambda: now_ns[0], bundle_age_s_max=60)
    for at in range(40):
        append(writer, numbered(100 * at, 100))
    limit = TERMS._replace(request_bytes_max=100_000)
    sent: Sent = {}
    before = deliver(batches(planned(folder, sent, terms=limit))[:3], sent)
    now_ns[0] += 61 * 10**9
    tick_until_idle(writer)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".zst"]
    after = deliver(batches(planned(folder, sent, terms=limit)), sent)
    writer.close()
    assert sorted(before + after) == sorted(all_ids(folder))


def test_an_index_changes_no_place(tmp_path: Path) -> None:
    big = [numbered(1_000 * at, 700) for at in range(30)]
    write_sealed(tmp_path / "t", ("traces", big[0]))
    folder = tmp_path / "u"
    writer = BundleWriter(str(folder), clock=lambda: START_NS, bundle_age_s_max=1)
    for line in big:
        append(writer, line)
    writer._clock = lambda: START_NS + 2 * 10**9
    tick_until_idle(writer)
    writer.close()
    (bundle,) = list_bundles(str(folder)).bundles
    assert bundle.sealed
    places = list(itertools.accumulate((len(line) for line in big), initial=0))
    expected = [(place, line[:-1]) for place, line in zip(places, big, strict=False)]
    assert list(read_placed_lines(bundle)) == expected
    for start in (0, 1, places[7], places[7] + 1, places[-1], places[-1] + 5):
        rest = [one for one in expected if one[0] >= start]
        assert list(read_placed_lines(bundle, start=start)) == rest


def test_a_torn_tail_is_not_planned(tmp_path: Path) -> None:
    path = write_open(tmp_path / "t", [numbered(0, 2), numbered(2, 2)[:-20]])
    (facts,) = facts_of(list_bundles(str(tmp_path / "t")).bundles, EVERYTHING)
    assert facts.end == len(numbered(0, 2))
    sent: Sent = {}
    assert len(deliver(batches(planned(tmp_path / "t")), sent)) == 2
    with path.open("ab") as file:
        file.write(numbered(2, 2)[-20:])
    assert deliver(batches(planned(tmp_path / "t", sent)), sent) == all_ids(tmp_path / "t")[2:]


# -- plans ---------------------------------------------------------------------------


def test_the_same_store_and_ledger_give_the_same_plan_and_bytes(tmp_path: Path) -> None:
    write_open(tmp_path / "t", [numbered(10 * at, 10) for at in range(9)])
    sent: Sent = {}
    terms = TERMS._replace(request_bytes_max=5_000)
    deliver(batches(planned(tmp_path / "t", terms=terms))[:2], sent)
    first, second = (planned(tmp_path / "t", sent, terms=terms) for _ in range(2))
    assert first == second
    assert [one.body for one in batches(first)] == [one.body for one in batches(second)]
    ids = {first.id}
    for other in (
        terms._replace(origin="https://example.com:443"),
        terms._replace(protocol="http/protobuf"),
        terms._replace(mode="aggregate"),
        terms._replace(compression="gzip"),
        terms._replace(request_bytes_max=5_001),
    ):
        ids.add(planned(tmp_path / "t", sent, terms=other).id)
    ids.add(planned(tmp_path / "t", terms=terms).id)
    ids.add(planned(tmp_path / "t", sent, terms=terms, wanted=Selected(name="a")).id)
    assert len(ids) == 8


def test_a_window_that_a_bundle_keeps_does_not_change_its_plan(tmp_path: Path) -> None:
    """So that a window which moves with the clock gives the same plan, and one range."""
    write_sealed(tmp_path / "t", ("traces", numbered(0, 5)))
    write_open(tmp_path / "t", [numbered(5, 5)])
    plans = {planned(tmp_path / "t", wanted=Selected(START_NS - at)).id for at in range(3)}
    assert plans == {planned(tmp_path / "t").id}
    narrow = planned(tmp_path / "t", wanted=Selected(START_NS + 1_000_003))
    assert narrow.portions[0].selected.since_ns


def test_the_end_of_a_window_is_not_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    lines = [logs_line(*(log("x", time_ns=START_NS + at) for at in range(4)))]
    write(folder, *(("logs", line) for line in lines))
    for until_ns, expected in ((START_NS + 3, 3), (START_NS + 4, 4)):
        made = batches(planned(folder, wanted=Selected(0, until_ns)))
        assert sum(batch.records for batch in made) == expected


def test_a_bundle_outside_of_the_window_is_not_planned(tmp_path: Path) -> None:
    write_sealed(tmp_path / "t", ("traces", numbered(0, 5)))
    bundles = list_bundles(str(tmp_path / "t")).bundles
    assert len(facts_of(bundles, Selected(START_NS))) == 1
    assert facts_of(bundles, Selected(START_NS + 10**9)) == []
    assert facts_of(bundles, Selected(0, START_NS)) == []


def test_jaeger_takes_spans_alone(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    write(folder, ("traces", numbered(0, 1)), ("logs", logs_line(log("x", time_ns=START_NS))))
    plan = planned(folder, terms=TERMS._replace(protocol="jaeger"))
    assert ([one.bundle.signal for one in plan.portions], plan.unfit) == (["traces"], 1)
    plan = planned(folder, terms=TERMS._replace(protocol="jaeger", mode="aggregate"))
    assert (plan.portions, plan.unfit) == ((), 2)
    assert planned(folder, signals=frozenset({"logs"})).portions[0].bundle.signal == "logs"


def test_an_object_of_a_part_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = write_open(tmp_path / "t", [numbered(0, 5), numbered(5, 5)])
    (whole,) = batches(planned(tmp_path / "t"), "jsonl")
    assert whole.name == path.name
    first, second = whole.halves()
    (chosen,) = batches(planned(tmp_path / "t", wanted=Selected(name="a")), "jsonl")
    seen = {whole.name, first.name, second.name, chosen.name}
    assert len(seen) == 4
    assert all(name.endswith(".traces.jsonl") or ".traces." in name for name in seen)
    assert whole.body == path.read_bytes()


def test_a_position_is_a_line_and_a_record(tmp_path: Path) -> None:
    """The number counts all records of the line, whatever was wanted."""
    write_open(tmp_path / "t", [spans_line(*(span_of(n, "ab"[n % 2], 0) for n in range(6)))])
    (batch,) = batches(planned(tmp_path / "t", wanted=Selected(name="b")))
    first, second = batch.halves()
    assert (first.end, second.start) == (Position(0, 3), Position(0, 3))
    assert json.loads(first.body)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "b"
