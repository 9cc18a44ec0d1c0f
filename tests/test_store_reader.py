"""Whatever state a file is in: whole lines come back, all else is counted, nothing invented."""

from __future__ import annotations

import inspect
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack_composer.telemetry.errors import LineRefusedError, StoreError
from stack_composer.telemetry.store import names, otlp, reader, seal, unpack, zstd
from stack_composer.telemetry.store.folder import Folder
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import all_lines, append, dump, names_in, spans_line, tick_until_idle

LINES = [spans_line(number) for number in range(6)]
BARE = [line[:-1] for line in LINES]
STEM = names.make_stem(1_764_000_000 * 10**9, 4711, b"\x9f\x3a\x0b\x1c")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "telemetry"
    place.mkdir(mode=0o700)
    return place


def put(directory: Path, data: bytes, *, sealed: bool) -> reader.BundleInfo:
    make = names.sealed_name if sealed else names.open_name
    (directory / make(STEM, "traces")).write_bytes(data)
    (bundle,) = reader.list_bundles(str(directory)).bundles
    return bundle


def read(source: reader.BundleInfo | str, **limits: Any) -> tuple[list[bytes], Counter[str]]:
    counts: Counter[str] = Counter()
    found = list(reader.read_lines(source, counts, **limits))
    return found, +counts


def frames(*groups: list[bytes]) -> bytes:
    return b"".join(zstd.compress_frame(b"".join(group)) for group in groups)


@pytest.fixture(params=[2**20, 16, 7], ids="pieces of {}".format)
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in pieces of several sizes: what matters may lie across two of them."""
    monkeypatch.setattr(reader, "_PIECE_BYTES", request.param)
    monkeypatch.setattr(reader, "_READ_BYTES", request.param)
    monkeypatch.setattr(unpack, "PIECE_BYTES", request.param)


# --- bundles cut and damaged ------------------------------------------------------


def test_a_plain_bundle_cut_at_any_byte_gives_a_prefix_of_its_lines(directory: Path) -> None:
    whole = b"".join(LINES)
    for size in range(len(whole) + 1):
        found, counts = read(put(directory, whole[:size], sealed=False))
        kept = whole[:size].count(b"\n")
        assert found == BARE[:kept]
        torn = not whole[:size].endswith(b"\n") and size > 0
        assert counts == ({"torn_tail": 1} if torn else {})


def test_a_sealed_bundle_cut_at_any_byte_gives_a_prefix_of_its_lines(directory: Path) -> None:
    whole = frames(LINES[:2], LINES[2:4], LINES[4:])
    ends = [0, *(len(frames(*groups)) for groups in ((LINES[:2],), (LINES[:2], LINES[2:4])))]
    for size in range(len(whole) + 1):
        found, counts = read(put(directory, whole[:size], sealed=True))
        assert found == BARE[: len(found)]
        assert len(found) >= 2 * (sum(end <= size for end in ends) - 1)
        at_an_end = size in (*ends, len(whole))
        assert counts["truncated"] == (0 if at_an_end else 1)


@pytest.mark.usefixtures("pieces")
def test_no_flipped_bit_in_a_sealed_bundle_becomes_a_record(directory: Path) -> None:
    whole = frames(LINES[:2], LINES[2:4], LINES[4:])
    middle = range(len(frames(LINES[:2])), len(frames(LINES[:2], LINES[2:4])))
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        found, counts = read(put(directory, bytes(damaged), sealed=True))
        assert set(found) <= set(BARE), place
        assert found == sorted(found, key=BARE.index)
        if len(found) < len(BARE):
            assert counts["damaged_frame"] or counts["truncated"], place
        if place in middle and place - middle[0] >= 4:
            assert found[:2] == BARE[:2]
            assert found[-2:] == BARE[-2:], "one damaged frame cost another"


@pytest.mark.usefixtures("pieces")
def test_damaged_frames_cost_no_more_than_themselves(directory: Path) -> None:
    raw = [bytearray(frames([line])) for line in LINES]
    for damaged in (1, 2, 4):
        raw[damaged][-1] ^= 1  # Its checksum.
    found, counts = read(put(directory, b"".join(raw), sealed=True))
    assert found == [BARE[0], BARE[3], BARE[5]]
    assert counts == {"damaged_frame": 3}


@pytest.mark.usefixtures("pieces")
def test_a_large_damaged_frame_hides_no_small_one_behind_it(directory: Path) -> None:
    large = spans_line(9, padding=os.urandom(4000).hex())
    raw = [bytearray(frames([line])) for line in (large, LINES[0], LINES[1])]
    raw[0][-1] ^= 1
    raw[1][-1] ^= 1
    found, counts = read(put(directory, b"".join(raw), sealed=True))
    assert found == BARE[1:2]
    # Random bytes may look like the start of a frame, once in a million runs.
    assert counts["damaged_frame"] >= 2


@pytest.mark.parametrize("sealed", [False, True])
@settings(max_examples=200)
@given(data=st.binary(max_size=400))
def test_no_bytes_make_reading_fail(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, *, sealed: bool
) -> None:
    place = tmp_path_factory.mktemp("noise")
    place.chmod(0o700)
    for line in read(put(place, data, sealed=sealed))[0]:
        assert line
        assert b"\n" not in line
    read(put(place, frames(LINES[:1]) + data, sealed=sealed))


def test_garbage_behind_the_last_frame_is_counted(directory: Path) -> None:
    found, counts = read(put(directory, frames(LINES) + b"garbage", sealed=True))
    assert found == BARE
    assert counts == {"damaged_frame": 1}


def test_an_empty_bundle_is_no_error(directory: Path) -> None:
    assert read(put(directory, b"", sealed=False)) == ([], {})
    assert read(put(directory, b"", sealed=True))[0] == []


# --- bounds -----------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True])
def test_a_line_beyond_the_limit_is_left_out_alone(directory: Path, *, sealed: bool) -> None:
    limit = len(BARE[0])
    data = LINES[0] + b"x" * (limit + 1) + b"\n" + LINES[1]
    bundle = put(directory, frames([data]) if sealed else data, sealed=sealed)
    found, counts = read(bundle, line_bytes_max=limit)
    assert found == BARE[:2]
    assert counts == {"line_too_long": 1}


def test_a_line_over_many_reads_is_whole(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PIECE_BYTES", 7)
    monkeypatch.setattr(reader, "_READ_BYTES", 5)
    assert read(put(directory, b"".join(LINES), sealed=False)) == (BARE, {})
    (directory / names.open_name(STEM, "traces")).unlink()
    assert read(put(directory, frames(LINES[:3], LINES[3:]), sealed=True)) == (BARE, {})


def test_a_bomb_ends_at_the_bound_and_takes_little_memory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="Windows does not tell")
    monkeypatch.setattr(reader, "PLAIN_BYTES_MAX", 300 * 2**20)
    bomb = zstd.compress_frame(bytes(2**26)) * 200  # 12.5 GiB in half a megabyte.
    bundle = put(directory, frames(LINES) + bomb, sealed=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, counts = read(bundle)
    assert found == BARE
    assert counts["too_large"] == 1
    assert counts["torn_tail"] == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_many_false_starts_of_frames_come_to_an_end(directory: Path) -> None:
    found, counts = read(put(directory, b"\x28\xb5\x2f\xfd\xff" * 50_000, sealed=True))
    assert found == []
    assert counts["damaged_frame"] == unpack.RESYNCS_MAX + 1


# --- while others write -----------------------------------------------------------


def test_a_bundle_sealed_since_it_was_listed_is_read(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    for line in LINES:
        append(writer, line)
    (bundle,) = reader.list_bundles(str(directory)).bundles
    writer._retire(writer._live["traces"])
    tick_until_idle(writer)
    writer.close()
    assert not os.path.exists(bundle.path)
    assert read(bundle) == (BARE, {})


def test_a_bundle_purged_since_it_was_listed_gives_nothing(directory: Path) -> None:
    bundle = put(directory, b"".join(LINES), sealed=False)
    os.unlink(bundle.path)
    assert read(bundle) == ([], {"gone": 1})


def test_of_twins_the_sealed_one_is_listed(directory: Path) -> None:
    put(directory, b"".join(LINES), sealed=False)
    bundle = put(directory, frames(LINES), sealed=True)
    assert bundle.sealed
    assert all_lines(directory) == LINES


@pytest.mark.parametrize("missed", ["both names", "the new name"])
@pytest.mark.parametrize("torn", [1, 2])
def test_a_bundle_sealed_while_listing_is_seen_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, torn: int, missed: str
) -> None:
    """A listing that is read half before and half after a rename may miss both names."""
    put(directory, b"".join(LINES), sealed=False)
    listed = Folder.names
    calls = []

    def torn_names(folder: Folder) -> list[str]:
        calls.append(1)
        if len(calls) != torn:
            return listed(folder)
        found = listed(folder)
        (directory / names.sealed_name(STEM, "traces")).write_bytes(frames(LINES))
        (directory / names.open_name(STEM, "traces")).unlink()
        return found if missed == "the new name" else []

    monkeypatch.setattr(Folder, "names", torn_names)
    (bundle,) = reader.list_bundles(str(directory)).bundles
    assert bundle.sealed
    assert len(calls) >= torn


def test_following_a_bundle_gives_each_line_once_through_its_sealing(directory: Path) -> None:
    writer = BundleWriter(str(directory))
    append(writer, LINES[0])
    (bundle,) = reader.list_bundles(str(directory)).bundles
    seen, offset = reader.read_new_lines(bundle, 0)
    assert reader.read_new_lines(bundle, offset) == ([], offset)
    append(writer, LINES[1])
    with open(bundle.path, "ab") as file:
        file.write(LINES[2][:20])
    new, offset = reader.read_new_lines(bundle, offset)
    assert new == BARE[1:2]
    seen += new
    with open(bundle.path, "ab") as file:
        file.write(LINES[2][20:])
    writer._retire(writer._live["traces"])
    tick_until_idle(writer)
    writer.close()
    new, offset = reader.read_new_lines(bundle, offset)
    assert seen + new == BARE[:3]
    assert reader.read_new_lines(bundle, offset) == ([], offset)
    for name in names_in(directory):
        (directory / name).unlink()
    assert reader.read_new_lines(bundle, offset) == ([], offset)


def test_following_reads_a_line_longer_than_a_piece(directory: Path) -> None:
    bundle = put(directory, b"".join(LINES), sealed=False)
    assert reader.read_new_lines(bundle, 0, read_bytes_max=3)[0] == BARE[:1]


# --- the listing ------------------------------------------------------------------


def test_bundles_come_in_order_of_creation_and_foreign_files_apart(directory: Path) -> None:
    stems = [names.make_stem(n * 10**9, 1, bytes(4)) for n in (3, 1, 2)]
    for stem in stems:
        (directory / names.open_name(stem, "logs")).write_bytes(b"{}\n")
        (directory / names.sealed_name(stem, "traces")).write_bytes(b"")
        (directory / names.sketch_name(stem, "traces")).write_bytes(b"{}")
    for foreign in ("notes.txt", "with\nnewline.jsonl", ".hidden"):
        (directory / foreign).touch()
    (directory / names.temporary_name(names.sealed_name(stems[0], "traces"))).touch()
    listing = reader.list_bundles(str(directory))
    assert [(b.created_ns // 10**9, b.signal) for b in listing.bundles] == [
        (second, signal) for second in (1, 2, 3) for signal in ("logs", "traces")
    ]
    assert [b.sketch_bytes for b in listing.bundles] == [0, 2] * 3
    assert listing.foreign == [".hidden", "notes.txt", "with\nnewline.jsonl"]


# --- files that others wrote ------------------------------------------------------


def test_a_sidecar_is_as_foreign_as_its_bundle(directory: Path) -> None:
    twins = [STEM[:-1] + "g.traces" + end for end in (".jsonl.zst", ".sketch.json")]
    for name in twins:
        (directory / name).touch()
    assert reader.list_bundles(str(directory)) == ([], sorted(twins))


def test_a_foreign_files_last_line_needs_no_newline(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES[0] + BARE[1])
    assert read(str(tmp_path / "x.jsonl")) == (BARE[:2], {})


def test_a_document_over_many_lines_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{\n  "resourceSpans": []\n}\n')
    assert read(str(tmp_path / "x.json")) == ([b'{\n  "resourceSpans": []\n}'], {})


def test_json_lines_are_lines_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\n" + b"".join(LINES))
    assert read(str(tmp_path / "x.json")) == (BARE, {"blank_line": 1})


def test_windows_lines_blank_lines_and_a_byte_order_mark_are_counted(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + BARE[0] + b"\r\n\r\n  \n" + LINES[1]
    (tmp_path / "x.jsonl").write_bytes(data)
    found, counts = read(str(tmp_path / "x.jsonl"))
    assert found == BARE[:2]
    assert counts == {"bom": 1, "crlf": 2, "blank_line": 2}


def test_a_compressed_file_of_one_frame_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.zst").write_bytes(frames(LINES))
    assert read(str(tmp_path / "x.zst")) == (BARE, {})


def test_a_document_beyond_the_limit_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{\n"a": "' + b"x" * 100 + b'"\n}')
    assert read(str(tmp_path / "x.json"), line_bytes_max=50) == ([], {"line_too_long": 1})


@pytest.mark.parametrize("make", [None, Path.mkdir, os.mkfifo], ids=["missing", "folder", "pipe"])
def test_what_is_no_file_is_an_error(tmp_path: Path, make: object) -> None:
    place = tmp_path / "x.jsonl"
    if callable(make):
        make(place)
    with pytest.raises(StoreError, match="cannot read"):
        list(reader.read_lines(str(place)))


def test_every_oddity_has_words_for_users(directory: Path) -> None:
    for counts in (Counter(reader.ODDITIES), Counter(otlp.ODDITIES)):
        assert all(counts)
    source = "".join(map(inspect.getsource, (reader, unpack, otlp)))
    counted = set(re.findall(r'counts\["(\w+)"\]', source))
    assert counted == set(reader.ODDITIES) | set(otlp.ODDITIES)
    assert seal.LINE_BYTES_MAX == reader.LINE_BYTES_MAX
    assert directory.exists()


# --- golden bundles ---------------------------------------------------------------


GOLDEN = Path(__file__).parent / "golden"


def test_every_released_format_stays_readable(directory: Path) -> None:
    kept = sorted(GOLDEN.glob("format-*/*"))
    assert {path.parent.name for path in kept} == {"format-1", "format-2"}
    for path in kept:
        (directory / path.name).write_bytes(path.read_bytes())
    seen: Counter[str] = Counter()
    for bundle in reader.list_bundles(str(directory)).bundles:
        for line in reader.read_lines(bundle, seen):
            data = otlp.decode_line(bundle.signal, line, seen)
            assert getattr(data, data.__struct_fields__[0])
            seen[bundle.signal] += 1
        if bundle.sealed:
            sketch = reader.read_sketch(bundle)
            assert sketch is not None
            again = type(sketch)()
            for line in reader.read_lines(bundle):
                again.add_line(bundle.signal, line)
            assert again == sketch
            has_index = bundle.stem.endswith("5eed1e55")
            assert (reader.frames_of(bundle) is not None) == has_index
    assert seen == {"traces": 7, "metrics": 7, "logs": 7}


def test_dump_makes_lines() -> None:
    assert dump({}) == b"{}\n"
    with pytest.raises(LineRefusedError):
        otlp.decode_line("traces", b"")
