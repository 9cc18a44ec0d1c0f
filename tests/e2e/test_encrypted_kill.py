"""Writers and converters of the encrypted store, killed at any moment: nothing is lost."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from e2e.encrypted_programs import start
from e2e.store_writers import kill_and_count
from encrypted_store import PLANTED, assert_no_plain_text, keys_in, lines_in, need_cipher
from stack_composer.telemetry.store import convert, reader
from stack_composer.telemetry.store.keys import Keys
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, names_in, spans_line

need_cipher()
pytestmark = pytest.mark.e2e

FAR = 1_000_000
WRITERS = 2
ROUNDS = 5
KILLS = 14
BUNDLES = 30


def numbers_in(directory: Path, keys: Keys, oddities: Counter[str]) -> list[int]:
    found = []
    for bundle in reader.list_bundles(str(directory), keys).bundles:
        for line in reader.read_lines(bundle, oddities):
            spans = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
            assert len(spans) == 2
            found.append(int(spans[0]["name"].removeprefix(PLANTED)))
    return found


def test_kill_9_of_writers_loses_no_appended_line_and_doubles_none(tmp_path: Path) -> None:
    directory, keys = tmp_path / "telemetry", keys_in(tmp_path)
    dice = random.Random(os.getpid())
    appended: set[int] = set()
    next_first = 0
    for _ in range(ROUNDS):
        writers = []
        for _ in range(WRITERS):
            writers.append(start("write", directory, keys.key_file, next_first, 20_000))
            next_first += FAR
        for writer in writers:
            assert writer.stdout is not None
            appended.add(int(writer.stdout.readline()))
        time.sleep(dice.uniform(0, 0.2))
        for writer in writers:
            appended.update(kill_and_count(writer))
        assert_no_plain_text(directory)
        oddities: Counter[str] = Counter()
        found = numbers_in(directory, keys, oddities)
        assert len(found) == len(set(found)), "a line came twice"
        assert appended <= set(found), "an appended line is missing"
        assert len(set(found) - appended) <= next_first // FAR
        assert not +oddities
    assert len(appended) > 50
    assert len([name for name in names_in(directory) if name.endswith(".sqlcipher")]) == 1
    for bundle in reader.list_bundles(str(directory), keys).bundles:
        if bundle.sealed:
            again = Sketch()
            for line in reader.read_lines(bundle):
                again.add_line(bundle.signal, line)
            assert reader.read_sketch(bundle) == again


def test_eight_processes_write_at_once(tmp_path: Path) -> None:
    directory, keys = tmp_path / "telemetry", keys_in(tmp_path)
    lines = 40
    writers = [
        start("write", directory, keys.key_file, number * FAR, 20_000, lines) for number in range(8)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert len(writer.stdout.read().split()) == lines
        assert writer.wait() == 0
        writer.stdout.close()
    oddities: Counter[str] = Counter()
    found = numbers_in(directory, keys, oddities)
    wanted = [number * FAR + line for number in range(8) for line in range(lines)]
    assert sorted(found) == wanted
    assert not +oddities
    databases = [name for name in names_in(directory) if name.endswith(".sqlcipher")]
    assert len(databases) == 1, "all of them found, or waited for, the one that the first made"
    assert reader.list_bundles(str(directory), keys).foreign == []


def test_kill_9_of_conversions_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """Each kind, killed between any two of its steps and within them, and run again."""
    directory, keys = tmp_path / "telemetry", keys_in(tmp_path)
    lines = [spans_line(number, 2) for number in range(BUNDLES)]
    writer = BundleWriter(str(directory), bundle_bytes_max=len(lines[0]))
    for number, line in enumerate(lines):
        append(writer, line)
        # Half of the bundles are left plain, for the conversion to pack.
        while number % 2 and writer.tick():
            pass
    writer.abandon()
    dice = random.Random(os.getpid())
    cut_short = 0
    kinds = ["encrypt", "rekey", "decrypt", "encrypt", "decrypt", "rekey"]
    for round_ in range(KILLS):
        kind = kinds[round_ % len(kinds)]
        converter = start(kind, directory, keys.key_file)
        assert converter.stdout is not None
        for _ in range(dice.choice([dice.randrange(BUNDLES), BUNDLES + 1])):
            if not converter.stdout.readline():
                break
        time.sleep(dice.uniform(0, 0.02))
        converter.kill()
        cut_short += converter.wait() != 0
        converter.stdout.close()
        found = lines_in(directory, Keys(keys.key_file))
        assert sorted(found) == sorted(lines), f"after a killed {kind}"
    assert cut_short > KILLS // 3
    for kind in ("rekey", "encrypt", "rekey", "decrypt"):
        finish(kind, directory, Keys(keys.key_file))
        assert sorted(lines_in(directory, Keys(keys.key_file))) == sorted(lines)
        if kind in ("encrypt", "rekey"):
            continue
    left = [name for name in names_in(directory) if "sqlcipher" in name or name.endswith(".tmp")]
    assert left == []
    digits = {line.split()[-1] for line in Path(keys.key_file).read_text().splitlines() if line}
    assert digits == {"0" * 64}, "each key went with its database"


def finish(kind: str, directory: Path, keys: Keys) -> None:
    plan = getattr(convert, f"plan_{kind}")(str(directory), keys)
    conversion = convert.Conversion(plan, keys)
    assert len(list(conversion.run())) == len(plan.moves)
    assert conversion.left == 0
