"""The name of a file says what it is, or that it is not ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.store import names

STEM = "20261122T191403-123456Z-4711-9f3a0b1c"

# Up to the year 3000, where Windows' clock ends too.
moments = st.integers(0, 32_503_679_999).map(lambda seconds: seconds * 10**9)


@given(
    moments, st.integers(0, 999_999), st.integers(0, 2**32 - 1), st.binary(min_size=4, max_size=4)
)
def test_a_name_reads_back_as_what_it_was_made_of(
    moment_ns: int, micros: int, pid: int, nonce: bytes
) -> None:
    created_ns = moment_ns + micros * 1000
    stem = names.make_stem(created_ns, pid, nonce)
    for signal in ("traces", "metrics", "logs"):
        for make, kind in (
            (names.open_name, names.OPEN),
            (names.sealed_name, names.SEALED),
            (names.sketch_name, names.SKETCH),
        ):
            parsed = names.parse_name(make(stem, signal))
            assert parsed is not None
            assert (parsed.created_ns, parsed.pid) == (created_ns, pid)
            assert (parsed.stem, parsed.signal, parsed.kind) == (stem, signal, kind)


@given(moments, moments)
def test_names_sort_by_creation(one_ns: int, other_ns: int) -> None:
    one, other = (names.make_stem(ns, 1, bytes(4)) for ns in (one_ns, other_ns))
    assert (one < other) == (one_ns < other_ns)


def test_the_name_of_the_contract() -> None:
    parsed = names.parse_name(STEM + ".traces.jsonl")
    assert parsed is not None
    assert parsed.created_ns == 1_795_374_843_123_456_000
    assert parsed.pid == 4711


def test_a_clock_before_1970_still_gives_a_name() -> None:
    stem = names.make_stem(-5, 1, bytes(4))
    assert stem.startswith("19700101T000000-000000Z-")
    assert names.parse_name(stem + ".logs.jsonl") is not None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "notes.txt",
        "traces.jsonl",
        STEM,
        STEM + ".jsonl",
        STEM + ".spans.jsonl",
        STEM + ".traces.jsonl.gz",
        STEM + ".traces.jsonl.tmp",
        STEM + ".traces.jsonl\n",
        STEM.upper() + ".traces.jsonl",
        STEM.replace("-4711-", "-04711-") + ".traces.jsonl",
        STEM.replace("-4711-", "-4_711-") + ".traces.jsonl",
        STEM.replace("-4711-", "-\uff14711-") + ".traces.jsonl",
        STEM.replace("-4711-", "-99999999999-") + ".traces.jsonl",
        STEM.replace("20261122", "20261322") + ".traces.jsonl",
        STEM.replace("20261122", "20260230") + ".traces.jsonl",
        STEM.replace("T191403", "T251403") + ".traces.jsonl",
        STEM.replace("Z", "") + ".traces.jsonl",
        STEM.replace("9f3a0b1c", "9f3a0b1") + ".traces.jsonl",
        STEM.replace("9f3a0b1c", "9f3a0b1c00") + ".traces.jsonl",
        "../" + STEM + ".traces.jsonl",
        " " + STEM + ".traces.jsonl",
    ],
)
def test_what_is_not_quite_ours_is_foreign(name: str) -> None:
    assert names.parse_name(name) is None


@given(st.text())
def test_no_name_makes_the_parser_fail(name: str) -> None:
    assert names.parse_name(name) is None
    assert names.parse_name(name + ".traces.jsonl") is None
