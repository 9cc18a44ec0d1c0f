"""An index passes over what holds no answer, and nothing else; damaged, it is as good as absent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_composer.telemetry.query.collect import collect
from stack_composer.telemetry.query.follow import Follower
from stack_composer.telemetry.query.read import Reading
from stack_composer.telemetry.query.select import Selection
from stack_composer.telemetry.store import index, marks, names, reader, seal
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import dump, tick_until_idle

BASE_NS = 1_764_000_000_000_000_000
STEM = names.make_stem(BASE_NS, 4711, b"\x9f\x3a\x0b\x1c")
PLAIN = names.open_name(STEM, "traces")

# Few digits, so that beginnings are shared, within a frame and across frames.
trace_ids = st.one_of(
    st.text("01f", min_size=32, max_size=32).filter(lambda text: text.strip("0")),
    st.integers(1, 2**64 - 1).map("{:032x}".format),
    st.integers(1, 2**128 - 1).map("{:032x}".format),
)
times = st.one_of(st.just(0), st.integers(BASE_NS, BASE_NS + 50))
spans = st.tuples(trace_ids, times, times)


def line_of(some: list[tuple[str, int, int]], *, padding: int = 0) -> bytes:
    """A line of spans given by trace, start and end."""
    found = [
        {
            "traceId": trace,
            "spanId": f"{place + 1:016x}",
            "name": "step" + "." * padding,
            "startTimeUnixNano": str(start_ns),
            "endTimeUnixNano": str(end_ns),
        }
        for place, (trace, start_ns, end_ns) in enumerate(some)
    ]
    return dump({"resourceSpans": [{"scopeSpans": [{"spans": found}]}]})


def keys_one_by_one(traces: list[str]) -> bytes:
    return b"".join(bytes.fromhex(trace)[:4] + bytes.fromhex(trace)[-2:] for trace in traces)


@given(st.lists(trace_ids, unique=True))
def test_keys_are_the_first_and_last_bytes_of_each_id(traces: list[str]) -> None:
    assert marks.keys_of(traces) == keys_one_by_one(traces)
    assert marks.keys_of([*traces, ""]) == keys_one_by_one(traces)


@pytest.mark.parametrize("odd", ["abc", "0" * 31 + "g", "0" * 64, "a" * 31 + "\u00e9", "ab" * 8])
def test_what_is_no_trace_id_makes_the_keys_unknown(odd: str) -> None:
    assert marks.keys_of([odd, "ab" * 16]) is None


def test_ids_whose_lengths_make_up_for_each_other_are_unknown() -> None:
    assert marks.keys_of(["ab" * 15, "ab" * 17]) in (None, b"\xab" * 12)


@given(
    appends=st.lists(st.lists(spans, min_size=1, max_size=4), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 8), max_size=4),
    prefix_chars=st.integers(1, 32),
    since_ns=times,
    until_ns=times,
    data=st.data(),
)
def test_the_frames_that_hold_an_answer_are_among_the_chosen(
    appends: list[list[tuple[str, int, int]]],
    cuts: list[int],
    prefix_chars: int,
    since_ns: int,
    until_ns: int,
    data: st.DataObject,
) -> None:
    """Brute force over all spans; frames are cut anywhere between appends."""
    noted = marks.Marks()
    for some in appends:
        starts, ends = [one[1] for one in some], [one[2] or one[1] for one in some]
        noted.add(10, min(starts), max(ends), {one[0] for one in some})
    places = sorted({0, *(cut for cut in cuts if cut < len(appends)), len(appends)})
    notes, held = [], []
    for start, end in pairwise(places):
        told = noted.within(10 * start, 10 * end)
        notes.append(index.FrameNote(7, 10 * (end - start), end - start, *told))
        held.append([one for some in appends[start:end] for one in some])
    found = index.decode_index(index.encode_index(notes, 7 * len(notes)))
    assert found is not None
    assert [frame.first_line for frame in found.frames()] == [place + 1 for place in places[:-1]]
    known = st.sampled_from([one[0] for some in appends for one in some])
    trace = data.draw(st.one_of(known, trace_ids))[:prefix_chars]
    chosen = {
        frame.offset // 7
        for frame in found.frames(trace=trace, since_ns=since_ns, until_ns=until_ns)
    }
    for place, some in enumerate(held):
        wanted = [
            one
            for one in some
            if one[0].startswith(trace)
            and (
                not (one[1] or one[2])
                or ((one[2] or one[1]) >= since_ns and (not until_ns or one[1] < until_ns))
            )
        ]
        if wanted:
            assert place in chosen
        # A key is of six bytes: nothing else may be chosen in vain.
        begins = {one[0][:8] + one[0][-4:] * (len(trace) == 32) for one in some}
        if len(trace) > 1 and not any(begin.startswith(trace[:8]) for begin in begins):
            assert place not in chosen


def test_times_pass_over_frames() -> None:
    notes = [index.FrameNote(1, 1, 1, at, at + 5, b"") for at in (10, 20, 30)]
    found = index.decode_index(index.encode_index(notes, 3))
    assert found is not None
    offsets = [frame.offset for frame in found.frames(since_ns=16, until_ns=30)]
    assert offsets == [1]
    assert found.frames(trace="ab") == []


def test_no_flipped_bit_and_no_cut_in_an_index_is_believed() -> None:
    notes = [index.FrameNote(9, 20, 2, BASE_NS, BASE_NS + 9, bytes(range(12))) for _ in range(3)]
    data = index.encode_index(notes, 27)
    assert index.decode_index(data) is not None
    for place in range(len(data)):
        assert index.decode_index(data[:place]) is None
        flipped = data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        assert index.decode_index(flipped) is None


@given(st.binary(max_size=200))
def test_any_bytes_with_a_right_checksum_are_an_index_or_none(body: bytes) -> None:
    import struct
    import zlib

    for many in (0, 1, 2):
        data = index.SKIPPABLE + struct.pack("<I", len(body) + 24) + body
        data += struct.pack("<IQI8s", many, 0, zlib.crc32(data), index.MAGIC)
        found = index.decode_index(data)
        assert found is None or len(found.frames()) == many


# --- in sealed bundles --------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    place.mkdir(mode=0o700)
    return place


def adopt(directory: Path) -> reader.BundleInfo:
    folder = open_folder(str(directory), create=True)
    recovery = Recovery(folder)
    while not recovery.step():
        pass
    folder.close()
    (bundle,) = reader.list_bundles(str(directory)).bundles
    assert bundle.sealed
    return bundle


def write(directory: Path, lines: list[list[tuple[str, int, int]]]) -> reader.BundleInfo:
    """Write as the pipeline does: sketches that tell the traces."""
    writer = BundleWriter(str(directory), bundle_bytes_max=10**9, bundle_age_s_max=10**6)
    for some in lines:
        line = line_of(some)
        sketch = Sketch()
        sketch.add_line("traces", line)
        sketch.traces = {one[0] for one in some}
        sketch.first_ns = min(one[1] for one in some)
        writer.append("traces", line, sketch)
    for live in list(writer._live.values()):
        writer._retire(live)
    tick_until_idle(writer)
    writer.close()
    (bundle,) = reader.list_bundles(str(directory)).bundles
    assert bundle.sealed
    return bundle


def answers(bundle: reader.BundleInfo, **question: Any) -> list[tuple[int, str, str]]:
    """Line number, trace and span of each record that a question finds."""
    reading = Reading(Selection(**question))
    return [
        (found.number, item.record.trace_id, item.record.span_id)
        for found in reading.find([bundle])
        for item in found.matches()
    ]


@pytest.mark.parametrize("how", ["adopted", "written"])
@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(st.lists(spans, min_size=1, max_size=3), min_size=1, max_size=12),
    asked=st.lists(st.tuples(st.integers(0, 11), st.integers(1, 32), times, times), min_size=3),
)
def test_with_an_index_the_answers_are_those_without(
    how: str,
    lines: list[list[tuple[str, int, int]]],
    asked: list[tuple[int, int, int, int]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "FRAME_BYTES", 700)
        if how == "written":
            bundle = write(directory, lines)
        else:
            (directory / PLAIN).write_bytes(b"".join(map(line_of, lines)))
            bundle = adopt(directory)
        assert reader.frames_of(bundle) is not None
        questions: list[dict[str, Any]] = []
        for line, chars, since_ns, until_ns in asked:
            trace = lines[line % len(lines)][0][0][:chars]
            window = {"since_ns": since_ns, "until_ns": until_ns}
            questions += [{"trace": trace}, window, {"trace": trace, **window}]
        with_index = [answers(bundle, **question) for question in questions]
        patch.setattr("stack_composer.telemetry.query.read.frames_of", lambda *_, **__: None)
        patch.setattr("stack_composer.telemetry.query.read.cannot_match", lambda *_: False)
        assert with_index == [answers(bundle, **question) for question in questions]


def test_a_file_that_somebody_cut_while_it_was_written_is_not_told_of_wrongly(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "FRAME_BYTES", 700)
    writer = BundleWriter(str(directory), bundle_bytes_max=10**9, bundle_age_s_max=10**6)
    lines = [line_of([(f"{at + 1:032x}", BASE_NS + at, BASE_NS + at + 1)]) for at in range(40)]
    for number, line in enumerate(lines):
        if number == 20:
            (path,) = directory.iterdir()
            os.truncate(path, len(b"".join(lines[:3])))
        sketch = Sketch()
        sketch.add_line("traces", line)
        sketch.traces = [f"{number + 1:032x}"]
        writer.append("traces", line, sketch)
    writer._retire(writer._live["traces"])
    tick_until_idle(writer)
    writer.close()
    (bundle,) = reader.list_bundles(str(directory)).bundles
    for number in (*range(3), *range(20, 40)):
        assert answers(bundle, trace=f"{number + 1:032x}"), number
    assert len(reader.frames_of(bundle, trace=f"{40:032x}") or ()) < len(
        reader.frames_of(bundle) or ()
    )


@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(st.lists(spans, min_size=1, max_size=3), min_size=1, max_size=12),
    since_ns=times,
    until_ns=times,
)
def test_statistics_of_a_window_are_the_same_with_an_index_and_without(
    lines: list[list[tuple[str, int, int]]],
    since_ns: int,
    until_ns: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "FRAME_BYTES", 700)
        (directory / PLAIN).write_bytes(b"".join(map(line_of, lines)))
        bundle = adopt(directory)
        os.unlink(directory / names.sketch_name(STEM, "traces"))
        found = collect([bundle], since_ns=since_ns, until_ns=until_ns)
        patch.setattr("stack_composer.telemetry.query.collect.frames_of", lambda *_, **__: None)
        assert found.sketch == collect([bundle], since_ns=since_ns, until_ns=until_ns).sketch


def test_of_a_sealed_bundle_only_the_last_frames_are_read_for_its_last_lines(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed_bundle(directory, monkeypatch)
    everything = [line for _, line in Follower(str(directory)).last_lines(100)]
    read = []

    def reading(*args: Any, **kwargs: Any) -> Any:
        for line in reader.read_lines(*args, **kwargs):
            read.append(line)
            yield line

    monkeypatch.setattr("stack_composer.telemetry.query.follow.read_lines", reading)
    for lines in (1, 2, 5):
        read.clear()
        assert [line for _, line in Follower(str(directory)).last_lines(lines)] == everything[
            -lines:
        ]
        assert lines <= len(read) <= lines + 1
    wanted = Selection(trace=f"{7:032x}")
    read.clear()
    some = [line for _, line in Follower(str(directory)).last_lines(100, wanted)]
    assert everything[6] in some
    assert len(read) == len(some) <= 2
    assert (
        list(Follower(str(directory)).last_lines(9, Selection(signals=frozenset({"logs"})))) == []
    )


def sealed_bundle(directory: Path, monkeypatch: pytest.MonkeyPatch) -> reader.BundleInfo:
    monkeypatch.setattr(seal, "FRAME_BYTES", 700)
    lines = [[(f"{at + 1:032x}", BASE_NS + at, BASE_NS + at + 1)] * 2 for at in range(12)]
    (directory / PLAIN).write_bytes(b"".join(map(line_of, lines)))
    bundle = adopt(directory)
    frames = reader.frames_of(bundle)
    assert frames is not None
    assert len(frames) > 3
    return bundle


def test_a_trace_costs_one_frame(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = sealed_bundle(directory, monkeypatch)
    chosen = reader.frames_of(bundle, trace=f"{5:032x}")
    assert chosen is not None
    assert len(chosen) == 1
    assert reader.frames_of(bundle, trace="ff") == []
    assert len(reader.frames_of(bundle, since_ns=BASE_NS + 12) or ()) == 1
    with_counts: Counter[str] = Counter()
    lines = list(reader.read_lines(bundle, with_counts, frames=chosen))
    assert 0 < len(lines) < 12
    assert not with_counts


def test_a_program_that_records_writes_an_index_that_finds_its_traces(tmp_path: Path) -> None:
    code = """
import sys
from stack_composer import telemetry
telemetry.configure(directory=sys.argv[1], bundle_bytes_max=40_000)
for number in range(1500):
    with telemetry.span("outer"):
        with telemetry.span("inner"):
            telemetry.log("info", "said")
    if not number % 50:
        telemetry.flush()
telemetry.shutdown()
"""
    folder = tmp_path / "telemetry"
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code, folder], env=home, check=True)
    seen: Counter[tuple[str, str]] = Counter()
    for bundle in reader.list_bundles(str(folder)).bundles:
        if not bundle.sealed or bundle.signal == "metrics":
            continue
        everything = answers(bundle)
        traces = sorted({trace for _, trace, _ in everything})
        for trace in traces[:: len(traces) // 5]:
            found = [one for one in everything if one[1] == trace]
            assert found == answers(bundle, trace=trace) == answers(bundle, trace=trace.upper())
            seen[bundle.signal, "hit"] += 1
        # It was the encoder that told the traces: no frame has unknown ones.
        assert reader.frames_of(bundle, trace="0" * 31 + "1") == []
        seen[bundle.signal, "miss"] += 1
    assert seen["traces", "miss"] > 3
    assert seen["logs", "hit"] > 3


def test_other_readers_pass_over_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = sealed_bundle(directory, monkeypatch)
    raw = Path(bundle.path).read_bytes()
    lines = b"".join(line + b"\n" for line in reader.read_lines(bundle))
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    assert zstd.decompress(raw) == lines
    with zstd.open(bundle.path) as file:
        assert file.read() == lines
    try:
        done = subprocess.run(["zstdcat", bundle.path], capture_output=True, check=True)
        subprocess.run(["zstd", "-tq", bundle.path], check=True)
    except FileNotFoundError:
        pytest.skip("there is no zstd command here")
    assert done.stdout == lines


def test_a_bundle_without_an_index_gives_the_same_answers(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = sealed_bundle(directory, monkeypatch)
    question = {"trace": f"{5:032x}"}
    expected = answers(bundle, **question)
    raw = Path(bundle.path).read_bytes()
    Path(bundle.path).write_bytes(raw[: raw.index(index.SKIPPABLE)])
    (bare,) = reader.list_bundles(str(directory)).bundles
    assert reader.frames_of(bare) is None
    assert answers(bare, **question) == expected


def test_a_bundle_cut_anywhere_gives_a_beginning_of_its_answers(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = sealed_bundle(directory, monkeypatch)
    raw = Path(bundle.path).read_bytes()
    start = raw.rindex(index.SKIPPABLE)
    everything = answers(bundle)
    traces = sorted({trace for _, trace, _ in everything})
    for size in range(len(raw)):
        Path(bundle.path).write_bytes(raw[:size])
        (cut,) = reader.list_bundles(str(directory)).bundles
        assert reader.frames_of(cut) is None
        left = answers(cut)
        assert left == everything[: len(left)]
        for trace in traces[size % 4 :: 4]:
            assert answers(cut, trace=trace) == [one for one in left if one[1] == trace]
        if size >= start:
            counts: Counter[str] = Counter()
            assert len(list(reader.read_lines(cut, counts))) == 12
            assert set(counts) <= {"damaged_index"}
            assert len(left) == len(everything)


def test_a_flipped_bit_anywhere_invents_nothing_and_in_an_index_loses_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = sealed_bundle(directory, monkeypatch)
    raw = Path(bundle.path).read_bytes()
    start = raw.rindex(index.SKIPPABLE)
    everything = answers(bundle)
    trace = everything[6][1]
    wanted = [one for one in everything if one[1] == trace]
    for place in range(len(raw)):
        flipped = raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :]
        Path(bundle.path).write_bytes(flipped)
        left = {one[1:] for one in answers(bundle)}
        assert left <= {one[1:] for one in everything}
        found = answers(bundle, trace=trace)
        assert found in (wanted, []) or place < start
        if place >= start:
            counts: Counter[str] = Counter()
            assert len(list(reader.read_lines(bundle, counts))) == 12
            assert set(counts) <= {"damaged_index"}
            assert found == wanted
            assert reader.frames_of(bundle, counts) is None
            # One of the two sees it: who looks into the index, or who passes over it.
            assert counts["damaged_index"]
