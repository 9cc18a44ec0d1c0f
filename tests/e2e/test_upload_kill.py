"""An upload that is killed at any moment goes on where it was: nothing lost, little twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from cli_running import COMMAND, span, spans_line, write
from stack_composer.telemetry.upload.audit import read_entries
from store_lines import START_NS
from upload_server import OK, Answer, Got, serving, span_ids

pytestmark = pytest.mark.e2e

LINES = 60
SPANS = 100
KILLS = 12


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
@pytest.mark.parametrize("seed", [1, 2])
def test_e15_at_most_one_request_is_repeated_for_each_kill(seed: int, tmp_path: Path) -> None:
    folder = tmp_path / "telemetry"
    numbers = iter(range(1, LINES * SPANS + 1))
    for at in range(3):
        lines = [
            spans_line(*(span("x", start_ns=START_NS, number=next(numbers)) for _ in range(SPANS)))
            for _ in range(LINES // 3)
        ]
        write(folder, *(("traces", line) for line in lines), created_ns=START_NS + at)
    chance = random.Random(seed)
    # Answers take their time, so that kills meet requests that were taken and not noted.
    slow_s = chance.uniform(0.0, 0.02)

    def judge(_got: Got) -> Answer:
        time.sleep(slow_s)
        return OK

    with serving(judge) as server:
        config = tmp_path / "telemetry.toml"
        config.write_text(
            f'[telemetry]\nupload_enabled = true\ndirectory = "{folder}"\n'
            f'[upload]\nendpoint = "{server.url}"\nrequest_bytes_max = 16384\n'
        )
        environ = {**os.environ, "STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
        kills = 0
        while kills < KILLS:
            before = len(server.got)
            process = subprocess.Popen(
                [*COMMAND, "telemetry", "upload", "--yes"],
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # Somewhere in what it sends, or between two requests.
            wanted = before + chance.randint(0, 3)
            while len(server.got) < wanted and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0.0, 0.03))
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            kills += 1
        done = subprocess.run(
            [*COMMAND, "telemetry", "upload", "--yes"],
            env=environ,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        # What was on its way when the last one was killed may still be on the server's.
        time.sleep(5 * slow_s + 0.1)
    assert kills > 3
    batches = Counter(tuple(span_ids(got)) for got in server.taken)
    repeated = sum(count - 1 for count in batches.values())
    assert repeated <= kills
    ids = Counter(found for batch in batches for found in batch)
    # No record is missing, and none is in two different requests.
    assert ids == Counter(f"{n:016x}" for n in range(1, LINES * SPANS + 1))
    entries = [entry.entry for _, entry in read_entries(str(folder))]
    assert entries.count("sending") >= len(server.got)
    assert entries.count("sending") - entries.count("answer") <= kills
