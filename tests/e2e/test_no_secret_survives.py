"""Of what a program records, no four characters of a secret are anywhere afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import records
from e2e.leaking_program import secrets

pytestmark = pytest.mark.e2e
PROGRAM = Path(__file__).with_name("leaking_program.py")
SEED = 20_261_122
CHARS = 4
FAULTS = ("none", "validator", "views", "hasher", "rules", "engine", "abort")


def pieces() -> Iterator[tuple[str, bytes]]:
    """Every run of four characters of each secret's own part, with the secret's name."""
    for name, secret in secrets(SEED).items():
        own = secret.removeprefix("ghp_").removesuffix(".example")
        for word in own.split():
            for at in range(len(word) - CHARS + 1):
                yield name, word[at : at + CHARS].encode()


def survivors(data: bytes) -> set[str]:
    """The secrets of which a piece is in ``data``, as it is or in wider characters."""
    return {name for name, piece in pieces() if piece in data or piece in data.replace(b"\0", b"")}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("profile", ["default", "strict"])
def test_nothing_of_a_secret_is_on_disk_or_on_a_terminal(
    tmp_path: Path, fault: str, profile: str
) -> None:
    folder = tmp_path / "telemetry"
    config = tmp_path / "config" / "telemetry.toml"
    config.parent.mkdir()
    config.write_text(f'[redaction]\nprofile = "{profile}"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(SEED), fault],
        env={
            **os.environ,
            "STACK_COMPOSER_TELEMETRY_DIR": str(folder),
            "STACK_COMPOSER_TELEMETRY_CONFIG": str(config),
        },
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) == (fault != "abort"), done.stderr
    assert not survivors(done.stdout + done.stderr)
    found = {path: content(path) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name: survivors(data) for path, data in found.items() if survivors(data)} == {}
    # All else is there: the guard did not save itself the work by losing the records.
    names = [span["name"] for span in records.spans(folder)]
    assert {"raises", "run", "long", "deep", "wide"} <= set(names)
    assert len(names) == 3 * 10 + 6
    assert bool(records.health(folder, "faults")) == (fault not in {"none", "engine", "abort"})


def content(path: Path) -> bytes:
    return path.name.encode() + (
        records.content(path) if ".jsonl" in path.name else path.read_bytes()
    )
