"""Start fresh processes one after the other, contenders in turn, and keep what they say.

A round is one measurement of each contender, A B C; rounds follow each other, so
that a disturbance of the machine meets all alike. Nothing runs in parallel.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import child

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT_S = 120

Rounds = dict[str, list[dict[str, float]]]


class BenchError(Exception):
    """A measurement went wrong: a process failed, or spans were lost."""


class Bench:
    """What the scenarios share: a scratch folder, the number of rounds, a size."""

    def __init__(self, *, rounds: int, quick: bool, a_day: int = 0) -> None:
        self.rounds = rounds
        self.a_day = a_day
        self.quick = quick
        self.root = tempfile.mkdtemp(prefix="telemetry-bench-")
        self._number = 0

    def close(self) -> None:
        """Delete all that was written."""
        shutil.rmtree(self.root, ignore_errors=True)

    def count(self, many: int) -> int:
        """Give how many of something to do; a quick run does a twentieth."""
        return max(many // 20, 100) if self.quick else many

    def folder(self) -> str:
        """Give a name for a folder that is not there yet."""
        self._number += 1
        return os.path.join(self.root, f"run-{self._number}")

    def child(
        self, scenario: str, case: str, contender: str, count: int, folder: str = ""
    ) -> dict[str, Any] | None:
        """Measure once; None if the contender is not installed.

        Raises:
            BenchError: The process failed; its message says how.
        """
        scratch = folder or self.folder()
        script = os.path.join(HERE, "child.py")
        done = subprocess.run(
            [sys.executable, script, scenario, case, contender, str(count), scratch],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if not folder:
            shutil.rmtree(scratch, ignore_errors=True)
        if done.returncode == child.MISSING:
            return None
        if done.returncode:
            raise BenchError(f"{scenario} {case} {contender}: {done.stderr.strip()[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def interleave(self, scenario: str, case: str, counts: Mapping[str, int]) -> Rounds:
        """Measure each contender in each round; ``counts`` says who, and how many.

        A contender that is not installed keeps an empty list.
        """
        found: Rounds = {name: [] for name in counts}
        missing: set[str] = set()
        for _ in range(self.rounds):
            for name, count in counts.items():
                if name in missing:
                    continue
                one = self.child(scenario, case, name, self.count(count))
                if one is None:
                    missing.add(name)
                else:
                    found[name].append(one)
        return found

    def environment(self) -> dict[str, str]:
        """Give what children see: a home of their own, no setting of the user's.

        Compiled files are kept, since every program but the very first finds them.
        """
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OTEL_", "LOGFIRE_", "STACK_COMPOSER_", "XDG_", "PYTHONDONT"))
        }
        home = os.path.join(self.root, "home")
        os.makedirs(home, exist_ok=True)
        return {
            **kept,
            "HOME": home,
            "STACK_COMPOSER_TELEMETRY_CONFIG": os.path.join(home, "telemetry.toml"),
            "LOGFIRE_SEND_TO_LOGFIRE": "false",
        }

    def cpu_s(self, command: Sequence[str], *, output: str | None = None) -> float:
        """Run a program; give the CPU seconds of the whole process, start and end included.

        Raises:
            BenchError: It failed.
        """
        with open(output or os.devnull, "wb") as stdout, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command, env=self.environment(), stdout=stdout, stderr=errors, cwd=self.root
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                errors.seek(0)
                said = errors.read()[-2000:].decode(errors="replace")
                raise BenchError(f"{' '.join(command)[:200]}: {said}")
        return usage.ru_utime + usage.ru_stime


def column(rounds: Rounds, contender: str, key: str, scale: float = 1.0) -> list[float]:
    """Take one number of each round of a contender."""
    return [one[key] * scale for one in rounds.get(contender, [])]
