"""A real file system that is full: no exception, no torn line, recovery by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ON_A_DISK_OF_ITS_OWN = """
set -e
mount -t tmpfs -o size="$3" tmpfs "$1"
exec "$2" -c "$4" "$1"
"""

HEAD = """
import os, sys, time
from pathlib import Path
from stack_composer import telemetry
from stack_composer.telemetry import process, relief
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store import pressure_note, reader, names
import records
place = Path(sys.argv[1])
folder = place / "telemetry"
relief.LOOK_S = 0.05
telemetry.configure(folder, flush_s=0.02)

def ballast(free):
    found = os.statvfs(place)
    size = found.f_bavail * found.f_frsize - free
    with open(place / "ballast", "ab") as file:
        try:
            file.write(bytes(max(size, 0)))
        except OSError:
            pass

def work(count, name):
    "What an application does; it never sees an exception."
    for n in range(count):
        with telemetry.span(name, n=n, text="some text to fill the disk with"):
            pass
    return count

def level():
    return process.running._relief.level

def told():
    "What others see; the writer's thread tells it a moment after it knows."
    note = pressure_note.read_note(str(folder))
    return "normal" if note is None else note.level

def wait_until_told(wanted):
    end = time.monotonic() + 30
    while told() != wanted:
        time.sleep(0.01)
        assert time.monotonic() < end, (told(), wanted)

def wait_for(wanted, meanwhile=lambda: None):
    end = time.monotonic() + 30
    while level() != wanted:
        meanwhile()
        work(1, "waiting")
        time.sleep(0.01)
        assert time.monotonic() < end, (level(), wanted)

def flush():
    "What could not be written meanwhile is told once."
    try:
        telemetry.flush()
    except telemetry.StoreError as error:
        assert error.hint
        telemetry.flush()

def check():
    odd = reader.Counter()
    lines = 0
    for bundle in reader.list_bundles(str(folder)).bundles:
        for line in reader.read_lines(bundle, odd):
            assert line.endswith(b"}") and line.startswith(b"{")
            lines += 1
    assert not +odd, odd
    return lines
"""

FULL = (
    HEAD
    + """
first = work(300, "first")
telemetry.flush()
ballast(0)
second = 0
while not recorder.dropped:
    second += work(100, "second")
    time.sleep(0.001)
second += work(2_000, "second")
try:
    telemetry.flush()
except telemetry.StoreError as error:
    assert error.hint
else:
    raise SystemExit("nothing was refused")
wait_for("stop")
check()
os.unlink(place / "ballast")
wait_for("normal")
third = work(300, "third")
flush()
check()
found = [span["name"] for span in records.spans(folder)]
assert found.count("third") == third, (found.count("third"), third)
assert found.count("first") == first
kept, waiting = found.count("second"), found.count("waiting")
lost = {key: n for key, n in records.health(folder, "dropped").items() if key[0] == "traces"}
assert kept < second
assert sum(lost.values()) >= second - kept, (lost, second, kept)
steps = records.health(folder, "pressure")
assert steps["stop",] and steps["normal",], steps
assert not recorder.faults, recorder.faults
telemetry.shutdown()
assert not [n for n in os.listdir(folder) if n.endswith(".tmp")]
print("whole")
"""
)

LEVELS = (
    HEAD
    + """
seen = []
total = os.statvfs(place).f_blocks * os.statvfs(place).f_frsize
work(300, "warm")
telemetry.flush()
for wanted, share in (("throttle", 16), ("critical", 60), ("stop", 300)):
    # Again and again, since the writer makes room meanwhile.
    wait_for(wanted, lambda: ballast(total // share))
    wait_until_told(wanted)
    seen.append(wanted)
check()
os.unlink(place / "ballast")
wait_for("normal")
wait_until_told("normal")
flush()
check()
assert not recorder.faults, recorder.faults
print(*seen, level())
"""
)

SEEN = (
    HEAD
    + """
import json, subprocess
work(300, "warm")
telemetry.flush()
total = os.statvfs(place).f_blocks * os.statvfs(place).f_frsize
wait_for("throttle", lambda: ballast(total // 16))
wait_until_told("throttle")
command = [sys.executable, "-m", "stack_composer.telemetry.cli", "telemetry"]
status = json.loads(subprocess.check_output([*command, "status", "--json", "--dir", folder]))
assert status["pressure"]["level"] == "throttle", status
assert status["pressure"]["since"]
assert "one trace in 4" in status["pressure"]["does"]
doctor = subprocess.run([*command, "doctor", "--dir", folder], capture_output=True, text=True)
assert doctor.returncode == 1
assert "pressure: the disk has" in doctor.stdout, doctor.stdout
assert "free some space" in doctor.stdout
assert "throttle since" in subprocess.check_output([*command, "status", "--dir", folder], text=True)
print("seen")
"""
)


def run_on_a_small_disk(source: str, size: str, tmp_path: Path) -> str:
    place = tmp_path / "disk"
    place.mkdir()
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urm", "true"], check=False).returncode:
        pytest.skip("unshare -Urm is not allowed here, so there is no disk to fill")
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [
            *(unshare, "-Urm", "sh", "-c", ON_A_DISK_OF_ITS_OWN, "sh"),
            *(str(place), sys.executable, size, source),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("size", ["1m", "8m"])
def test_a_full_disk_never_reaches_the_application_and_recovery_is_its_own(
    tmp_path: Path, size: str
) -> None:
    assert run_on_a_small_disk(FULL, size, tmp_path).startswith("whole")


def test_each_level_comes_and_goes_with_the_room(tmp_path: Path) -> None:
    out = run_on_a_small_disk(LEVELS, "64m", tmp_path)
    assert out == "throttle critical stop normal\n"


def test_status_and_doctor_tell_the_level_since_when_and_what_it_does(tmp_path: Path) -> None:
    assert run_on_a_small_disk(SEEN, "16m", tmp_path) == "seen\n"


FILE_SIZE = """
import resource, sys
from stack_composer import telemetry
from stack_composer.telemetry.record import recorder
telemetry.configure(flush_s=60)
with telemetry.span("first"):
    pass
telemetry.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
for n in range(2_000):
    with telemetry.span("large", n=n, text="x" * 50):
        pass
try:
    telemetry.flush()
except telemetry.StoreError as error:
    print("told")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with telemetry.span("last"):
    pass
telemetry.flush()
"""


@pytest.mark.skipif(os.name == "nt", reason="RLIMIT_FSIZE is POSIX")
def test_where_nothing_can_be_mounted_a_limit_on_file_size_says_the_same(tmp_path: Path) -> None:
    import records
    from stack_composer.telemetry.store.reader import list_bundles, read_lines

    folder = tmp_path / "telemetry"
    done = subprocess.run(
        [sys.executable, "-c", FILE_SIZE],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "told\n")
    names = [span["name"] for span in records.spans(folder)]
    assert names[0] == "first"
    assert names[-1] == "last"
    for bundle in list_bundles(str(folder)).bundles:
        assert all(line.endswith(b"}") for line in read_lines(bundle))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_terminal_that_is_full_does_no_harm(tmp_path: Path) -> None:
    code = (
        "from stack_composer import telemetry\n"
        "telemetry.configure(exporter='stdout')\n"
        "with telemetry.span('x'): pass\n"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(tmp_path / "t")},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    # 120 is Python's own: it could not flush its standard output.
    assert done.returncode in (0, 120)
    assert b"stack_composer" not in done.stderr
