"""Real writers, killed at any moment, lose no line that they had appended."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from e2e.store_writers import kill_and_count, start_writer
from stack_composer.telemetry.store import reader
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.sketch import Sketch
from store_lines import names_in

pytestmark = pytest.mark.e2e

PROCESSES = 2
ROUNDS = 6
FAR = 1_000_000


def numbers_in(directory: Path, oddities: Counter[str]) -> list[int]:
    """The number of every line in the folder."""
    found = []
    for bundle in reader.list_bundles(str(directory)).bundles:
        for line in reader.read_lines(bundle, oddities):
            spans = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
            assert len(spans) == 2
            found.append(int(spans[0]["name"].removeprefix("step ")))
    return found


def test_kill_9_loses_no_appended_line_and_doubles_none(tmp_path: Path) -> None:
    """Several processes write, seal, and adopt each other's orphans while being killed."""
    directory = tmp_path / "telemetry"
    dice = random.Random(os.getpid())
    appended: set[int] = set()
    next_first = 0
    for _ in range(ROUNDS):
        writers = []
        for _ in range(PROCESSES):
            writers.append(start_writer(directory, first=next_first))
            next_first += FAR
        for writer in writers:
            assert writer.stdout is not None
            appended.add(int(writer.stdout.readline()))  # It is at work.
        time.sleep(dice.uniform(0, 0.15))
        for writer in writers:
            appended.update(kill_and_count(writer))
        oddities: Counter[str] = Counter()
        found = numbers_in(directory, oddities)
        assert len(found) == len(set(found)), "a line came twice"
        assert appended <= set(found), "an appended line is missing"
        # Beside what was told, each writer may have appended one line before its end.
        assert len(set(found) - appended) <= next_first // FAR
        assert set(+oddities) <= {"torn_tail"}
    assert len(appended) > 100
    mend_and_check(directory, appended)


def mend_and_check(directory: Path, appended: set[int]) -> None:
    folder = open_folder(str(directory), create=True)
    recovery = Recovery(folder)
    while not recovery.step():
        pass
    folder.close()
    assert recovery.error is None
    listing = reader.list_bundles(str(directory))
    assert all(bundle.sealed for bundle in listing.bundles)
    assert not [name for name in names_in(directory) if name.endswith((".tmp", ".jsonl"))]
    oddities: Counter[str] = Counter()
    found = numbers_in(directory, oddities)
    assert appended <= set(found)
    assert len(found) == len(set(found))
    assert not +oddities
    for bundle in listing.bundles:
        again = Sketch()
        for line in reader.read_lines(bundle):
            again.add_line(bundle.signal, line)
        assert reader.read_sketch(bundle) == again
    for name in names_in(directory):
        assert (directory / name).stat().st_mode & 0o777 == 0o600
