"""Many writers in one folder for a while: nothing lost, nothing torn, nothing held.

Half of the writers are forked
from a process that records itself, half are programs of their own. Each records with
two threads, rotates small bundles, seals, adopts what others left, and ends by itself
after its time; then another one takes its place, until the time is over. Meanwhile some
are stopped (SIGSTOP) and go on later, and one process reads and repairs all the time.

Each tells at its end how much it recorded and how many descriptors it held early and
late. Then every record is there once, no file is torn, no lock is held, and there were
not more descriptors than a writer of three signals may have.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from stack_composer.telemetry.store import reader, repair, retention
from stack_composer.telemetry.store.otlp import decode_traces

WORK = """
import sys
sys.path[:0] = {path!r}
from stress.crowd import record
record({folder!r}, {name!r}, {seconds!r})
"""
DESCRIPTORS_MORE_MAX = 12
"""An open bundle of each signal, those that wait to be sealed (four) and their sealed file,
what is adopted meanwhile, and the folder that each has open: on a busy machine all at once."""


def descriptors() -> int:
    """How many this process has open; 0 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def record(folder: str, name: str, seconds: float) -> None:
    """Record for so long, and say how much that was."""
    from stack_composer import telemetry
    from stack_composer.telemetry.record import recorder
    from stack_composer.telemetry.store import writer as writers

    writers.ADOPT_AFTER_S = writers.ADOPT_EVERY_S = 0.2  # type: ignore[misc,assignment]
    telemetry.configure(folder, flush_s=0.05, bundle_bytes_max=50_000)
    until = time.monotonic() + seconds
    counts = [0, 0]

    def work(thread: int) -> None:
        while time.monotonic() < until:
            for _ in range(20):
                with telemetry.span(f"{name} {thread}", n=counts[thread]):
                    counts[thread] += 1
            telemetry.log("info", "said", thread=thread)
            telemetry.metric("crowd.size", thread)
            time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 3)
    early = descriptors()
    for thread in threads:
        thread.join()
    late = descriptors()
    telemetry.flush()
    said = {
        "name": name,
        "counts": counts,
        "early": early,
        "late": late,
        "dropped": sum(recorder.dropped.values()),
        "faults": recorder.faults,
    }
    telemetry.shutdown()
    os.write(1, (json.dumps(said) + "\n").encode())


class Crowd:
    """The processes, and what they said."""

    def __init__(self, folder: str, writers: int, seconds: float, dice: random.Random) -> None:
        self.folder = folder
        self.said: list[dict[str, Any]] = []
        self.stops = 0
        self._dice = dice
        self._count = 0
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._writers = writers
        self._lock = threading.Lock()

    def run(self) -> None:
        """Keep so many writers at work until the time is over; wait for all of them."""
        threads = [
            threading.Thread(target=self._keep, args=(n % 2 == 0,)) for n in range(self._writers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _keep(self, forked: bool) -> None:
        while True:
            left = self._until - time.monotonic()
            with self._lock:
                self._count += 1
                name = f"writer {self._count}"
                seconds = min(max(left, 0.5), self._dice.uniform(0.3, 1.0) * self._seconds)
            self._one(name, seconds, forked=forked)
            if time.monotonic() > self._until:
                return

    def _one(self, name: str, seconds: float, *, forked: bool) -> None:
        path = [str(Path(__file__).resolve().parents[1]), *sys.path]
        code = WORK.format(path=path, folder=self.folder, name=name, seconds=seconds)
        if forked:
            # A program that records, and whose child does too.
            code = (
                f"import os, sys\nsys.path[:0] = {path!r}\n"
                "from stack_composer import telemetry\n"
                f"telemetry.configure({self.folder!r}, flush_s=0.05)\n"
                "with telemetry.span('parent'): pass\n"
                "child = os.fork()\n"
                f"if not child:\n    {code.strip().replace(chr(10), chr(10) + '    ')}\n"
                "    os._exit(0)\n"
                "assert os.waitpid(child, 0)[1] == 0\n"
            )
        program = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._dice.random() < 0.4 and not forked:
            time.sleep(self._dice.uniform(0.1, seconds / 2))
            program.send_signal(signal.SIGSTOP)
            time.sleep(self._dice.uniform(0.1, 0.5))
            program.send_signal(signal.SIGCONT)
            self.stops += 1
        out, err = program.communicate(timeout=seconds + 100)
        assert (program.returncode, err) == (0, ""), err
        with self._lock:
            self.said += [json.loads(line) for line in out.splitlines()]


def watch(folder: str, stop: threading.Event, counts: Counter[str]) -> None:
    """Read and repair while others write: what an impatient user does."""
    while not stop.wait(0.2):
        if os.path.isdir(folder):
            for bundle in reader.list_bundles(folder).bundles:
                counts["lines read meanwhile"] += sum(1 for _ in reader.read_lines(bundle))
            steps = repair.plan_repair(repair.survey(folder))
            counts["steps"] += len(steps)
            assert not repair.apply_repair(folder, steps).failed


def check(folder: str, said: list[dict[str, Any]]) -> dict[str, int]:
    """Hold what is there against what was said."""
    found: dict[str, list[int]] = {}
    torn = held = 0
    listing = reader.list_bundles(folder)
    assert listing.foreign == []
    for bundle in listing.bundles:
        odd: Counter[str] = Counter()
        for line in reader.read_lines(bundle, odd):
            if bundle.signal != "traces":
                continue
            for resource in decode_traces(line, Counter()).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        numbers = [int(a.value.int_value or 0) for a in span.attributes]
                        found.setdefault(span.name, []).extend(numbers)
        torn += odd.total()
        held += retention.is_being_written(bundle)
    lost = doubled = spans = 0
    for one in said:
        assert (one["dropped"], one["faults"]) == (0, {}), one
        assert one["late"] - one["early"] <= DESCRIPTORS_MORE_MAX, one
        for thread, count in enumerate(one["counts"]):
            numbers = found.pop(f"{one['name']} {thread}", [])
            lost += len(set(range(count)) - set(numbers))
            doubled += len(numbers) - len(set(numbers))
            spans += count
    assert set(found) <= {"parent"}, f"nobody recorded {set(found)}"
    more = max(one["late"] - one["early"] for one in said)
    return {
        "programs": len(said),
        "spans": spans,
        "bundles": len(listing.bundles),
        "lost": lost,
        "doubled": doubled,
        "torn": torn,
        "held": held,
        "descriptors_more": more,
    }


def run(writers: int, seconds: float, seed: int) -> dict[str, int]:
    """Do it all; return the figures."""
    place = Path(tempfile.mkdtemp(prefix="crowd-"))
    folder = str(place / "telemetry")
    stop = threading.Event()
    counts: Counter[str] = Counter()
    failed: list[BaseException] = []

    def watching() -> None:
        try:
            watch(folder, stop, counts)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    watcher = threading.Thread(target=watching)
    watcher.start()
    crowd = Crowd(folder, writers, seconds, random.Random(seed))
    try:
        crowd.run()
    finally:
        stop.set()
        watcher.join()
    if failed:
        raise failed[0]
    figures = {**check(folder, crowd.said), "stops": crowd.stops, **counts}
    assert not figures["lost"] + figures["doubled"] + figures["torn"] + figures["held"], figures
    shutil.rmtree(place)
    return figures
