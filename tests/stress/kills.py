"""Kill real writers at random moments, again and again, and count what is missing.

``run`` does it, in a process of its own: the others are forked from it, and it records
nothing itself. Each of them is one of these, by chance:

``store``
    Appends numbered lines with a ``BundleWriter`` of a random durability, seals and
    adopts on the way, and tells each line that ``append`` returned for.
``threads``
    Records with the public interface from three threads, while a fourth one calls
    ``flush`` and tells what was recorded before it.
``mender``
    Repairs the folder, over and over.

All are killed with SIGKILL after a random time. What was told must be there; nothing
may be there twice, nor anything that was never recorded; a file may end in one torn
line. From time to time sidecars are damaged, and all is mended: then each bundle is
sealed, each sidecar is right, and nothing is torn any more.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import reader, repair
from stack_composer.telemetry.store import writer as writers
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.recover import Recovery
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import dump, sketch_of

ROUNDS_A_FOLDER = 12
THREADS = 3
DURABILITIES = ("buffered", "buffered", "batch", "sync")


class Figures:
    """What a run counted."""

    def __init__(self) -> None:
        self.kills = self.rounds = self.confirmed = self.found = 0
        self.torn_tails = self.sidecars_checked = self.sidecars_rebuilt = 0
        self.lost = self.doubled = self.invented = 0

    def as_json(self) -> dict[str, int]:
        """Return all of them."""
        return dict(vars(self))


class Child(NamedTuple):
    """A process to kill, and where it tells what it did."""

    pid: int
    kind: str
    number: int
    told: int


def span_of(kind: str, name: str, number: int) -> dict[str, Any]:
    """A span that carries its own check, so that none can be made up."""
    check = zlib.crc32(f"{name} {number}".encode())
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": name,
        "startTimeUnixNano": str(1_764_000_000_000_000_000 + number),
        "endTimeUnixNano": str(1_764_000_000_000_001_000 + number),
        "attributes": [
            {"key": "n", "value": {"intValue": str(number)}},
            {"key": "check", "value": {"intValue": str(check)}},
            {"key": "kind", "value": {"stringValue": kind}},
        ],
    }


def fork(kind: str, directory: str, number: int, seed: int) -> Child:
    """Start a process of a kind."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        return Child(pid, kind, number, told)
    os.close(told)
    try:
        {"store": write_lines, "threads": record_spans, "mender": mend_forever}[kind](
            directory, number, tell, random.Random(seed)
        )
    except BaseException:  # noqa: BLE001 - it is told, and fails the run
        import traceback

        traceback.print_exc()
        os.write(tell, b"failed\n")
    os._exit(1)


def write_lines(directory: str, number: int, tell: int, dice: random.Random) -> NoReturn:
    """Append until killed."""
    writer = BundleWriter(
        directory,
        bundle_bytes_max=dice.choice((4_000, 20_000, 200_000)),
        durability=dice.choice(DURABILITIES),
    )
    name = f"store {number}"
    at = 0
    while True:
        some = [span_of("store", name, n) for n in range(at, at + dice.randint(1, 40))]
        line = dump({"resourceSpans": [{"scopeSpans": [{"spans": some}]}]})
        writer.append("traces", line, sketch_of(line))
        at += len(some)
        os.write(tell, f"{name}:{at}\n".encode())
        if dice.random() < 0.5:
            writer.settle()
            writer.tick()


def record_spans(directory: str, number: int, tell: int, dice: random.Random) -> NoReturn:
    """Record from several threads until killed; flush and tell."""
    from stack_composer import telemetry

    telemetry.configure(
        directory,
        flush_s=0.01,
        bundle_bytes_max=dice.choice((8_192, 100_000)),
        durability=dice.choice(DURABILITIES),
    )
    done = [0] * THREADS

    def work(thread: int) -> None:
        name = f"thread {number} {thread}"
        while True:
            at = done[thread]
            check = zlib.crc32(f"{name} {at}".encode())
            with telemetry.span(name, n=at, check=check):
                pass
            done[thread] = at + 1
            if at % 50 == 0:
                time.sleep(0.001)

    for thread in range(THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    while True:
        before = list(done)
        telemetry.flush()
        told = [f"thread {number} {thread}:{count}\n" for thread, count in enumerate(before)]
        os.write(tell, "".join(told).encode())


def mend_forever(directory: str, _number: int, tell: int, dice: random.Random) -> NoReturn:
    """Repair until killed; other repairers and purgers may come in between."""
    while True:
        if os.path.isdir(directory):
            try:
                repair.apply_repair(directory, repair.plan_repair(repair.survey(directory)))
            except StoreError as error:
                if "another repair" not in str(error):
                    raise
        os.write(tell, b"mended\n")
        time.sleep(dice.uniform(0, 0.01))


def kill(child: Child, confirmed: Counter[str]) -> None:
    """Kill it and take down what it had told; of a number cut short, the rest counts."""
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    with os.fdopen(child.told, "rb") as pipe:
        told = pipe.read()
    assert b"failed" not in told, f"a {child.kind} failed by itself"
    for line in told[: told.rfind(b"\n") + 1].decode().split("\n"):
        name, _, count = line.rpartition(":")
        if name:
            confirmed[name] = max(confirmed[name], int(count))


def look(directory: str, figures: Figures) -> dict[str, list[int]]:
    """Read all numbers by name, and hold each line to its check."""
    found: dict[str, list[int]] = {}
    for bundle in reader.list_bundles(directory).bundles:
        odd: Counter[str] = Counter()
        for line in reader.read_lines(bundle, odd):
            for resource in json.loads(line).get("resourceSpans", ()):
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        values = {a["key"]: a["value"] for a in span["attributes"]}
                        number = int(values["n"]["intValue"])
                        check = zlib.crc32(f"{span['name']} {number}".encode())
                        figures.invented += int(values["check"]["intValue"]) != check
                        found.setdefault(span["name"], []).append(number)
        assert set(+odd) <= {"torn_tail"}, (bundle, odd)
        assert odd["torn_tail"] <= (0 if bundle.sealed else 1), bundle
        figures.torn_tails += odd["torn_tail"]
    return found


def check(directory: str, confirmed: Counter[str], figures: Figures) -> None:
    """Compare what is there with what was told."""
    found = look(directory, figures)
    for name, count in confirmed.items():
        figures.lost += len(set(range(count)) - set(found.get(name, ())))
    for numbers in found.values():
        figures.doubled += len(numbers) - len(set(numbers))
        # Each wrote its numbers in their order, so none is missing before the last.
        figures.lost += max(numbers) + 1 - len(set(numbers))
    figures.found += sum(map(len, found.values()))


def damage_sidecars(directory: Path, dice: random.Random) -> int:
    """Delete, cut or exchange some; count them."""
    sidecars = sorted(directory.glob("*.sketch.json"))
    chosen = dice.sample(sidecars, min(len(sidecars), 3))
    for path in chosen:
        raw = path.read_bytes()
        what = dice.randrange(3)
        if what == 0:
            path.unlink()
        elif what == 1:
            path.write_bytes(raw[: dice.randrange(len(raw))])
        else:
            path.write_bytes(raw.replace(b'"lines":', b'"lines":1', 1))
        if what:
            path.chmod(0o600)
    return len(chosen)


def mend(directory: Path, confirmed: Counter[str], figures: Figures, dice: random.Random) -> None:
    """Seal what is left, repair, and hold every sidecar to its bundle."""
    folder = open_folder(str(directory), create=True)
    recovery = Recovery(folder)
    while not recovery.step():
        pass
    folder.close()
    assert recovery.error is None, recovery.error
    damaged = damage_sidecars(directory, dice)
    plan = repair.plan_repair(repair.survey(str(directory)))
    assert {step.action for step in plan} <= {repair.REBUILD, repair.REMOVE}, plan
    result = repair.apply_repair(str(directory), plan)
    assert not result.failed, result.failed
    assert result.done.get(repair.REBUILD, 0) == damaged
    figures.sidecars_rebuilt += damaged
    assert repair.plan_repair(repair.survey(str(directory))) == []
    before = figures.torn_tails
    check(str(directory), confirmed, figures)
    assert figures.torn_tails == before
    for bundle in reader.list_bundles(str(directory)).bundles:
        assert bundle.sealed
        again = Sketch()
        for line in reader.read_lines(bundle):
            again.add_line(bundle.signal, line)
        assert reader.read_sketch(bundle) == again
        figures.sidecars_checked += 1
    assert not [p for p in directory.iterdir() if p.name.endswith((".tmp", ".jsonl"))]


def run(kills: int, seconds: float, seed: int) -> Figures:
    """Kill so many, or as many as the time allows."""
    writers.ADOPT_AFTER_S = writers.ADOPT_EVERY_S = 0  # type: ignore[misc]
    dice = random.Random(seed)
    figures = Figures()
    until = time.monotonic() + seconds
    number = 0
    while figures.kills < kills and time.monotonic() < until:
        place = Path(tempfile.mkdtemp(prefix="kills-"))
        directory = place / "telemetry"
        confirmed: Counter[str] = Counter()
        for _ in range(ROUNDS_A_FOLDER):
            kinds = ["store", "threads", dice.choice(("store", "threads", "mender"))]
            children = []
            for kind in kinds:
                number += 1
                children.append(fork(kind, str(directory), number, dice.getrandbits(32)))
            longest = dice.choice((0.02, 0.1, 0.3))
            time.sleep(dice.uniform(longest / 10, longest))
            dice.shuffle(children)
            for child in children:
                kill(child, confirmed)
                figures.kills += 1
            figures.rounds += 1
            if figures.kills >= kills or time.monotonic() > until:
                break
        if directory.exists():
            check(str(directory), confirmed, figures)
            mend(directory, confirmed, figures, dice)
        figures.confirmed += sum(confirmed.values())
        assert not figures.lost + figures.doubled + figures.invented, (place, figures.as_json())
        shutil.rmtree(place)
    return figures
