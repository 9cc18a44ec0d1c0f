"""The keychain is a real one: gnome-keyring's Secret Service on a bus of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from encrypted_store import assert_no_plain_text, need_cipher

need_cipher()
pytest.importorskip("secretstorage", reason="secretstorage is not installed: Linux alone has it")
pytestmark = pytest.mark.e2e

PROGRAMS = ("dbus-run-session", "gnome-keyring-daemon")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]

HEAD = """
import json, os, subprocess, sys
from pathlib import Path
import keyring, secretstorage
SERVICE = "stack-composer-telemetry"
found = {}

def cli(*words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "stack_composer.telemetry.cli", "telemetry", *words],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr

def record(name):
    source = "import sys\\nfrom stack_composer import telemetry\\n"
    source += "for i in range(40):\\n    with telemetry.span(sys.argv[1]): pass\\n"
    done = subprocess.run([sys.executable, "-c", source, name], capture_output=True, text=True)
    assert done.stderr == "", done.stderr

def spans():
    return len(cli("show", "--as", "records", "--limit", "0").splitlines())

def stems():
    folder = Path(os.environ["STACK_COMPOSER_TELEMETRY_DIR"])
    return sorted(path.name.partition(".")[0] for path in folder.glob("*.keychain.sqlcipher"))

def key(stem):
    return keyring.get_password(SERVICE, stem)

def collection():
    return secretstorage.get_default_collection(secretstorage.dbus_init())
"""


def in_session(tmp_path: Path, source: str, *, unlock: bool = True) -> dict[str, Any]:
    """Run a script on a bus of its own, with a keychain; what it puts in ``found``."""
    if MISSING:
        pytest.skip(f"no keychain to test with here: {' and '.join(MISSING)} missing (Debian)")
    for name in ("home", "run"):
        (tmp_path / name).mkdir(mode=0o700, exist_ok=True)
    config = tmp_path / "telemetry.toml"
    if not config.exists():
        config.write_text('[store]\nencryption = "sqlcipher"\n')
    script = tmp_path / "script.py"
    script.write_text(HEAD + textwrap.dedent(source) + "\nprint(json.dumps(found))\n")
    # A keychain's own password; where none is to be unlocked, it stays locked.
    start = "printf session | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1"
    done = subprocess.run(
        [
            "dbus-run-session",
            "--",
            "sh",
            "-c",
            f'{start if unlock else ":"}; exec "$0" "$1"',
            sys.executable,
            script,
        ],
        env={
            **os.environ,
            "HOME": str(tmp_path / "home"),
            "XDG_RUNTIME_DIR": str(tmp_path / "run"),
            "STACK_COMPOSER_TELEMETRY_DIR": str(tmp_path / "telemetry"),
            "STACK_COMPOSER_TELEMETRY_CONFIG": str(config),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_key_is_made_found_changed_and_destroyed(tmp_path: Path) -> None:
    found = in_session(
        tmp_path,
        """
        record("planted-kestrelkestrelkestrel")
        found["backend"] = type(keyring.get_keyring()).__module__
        found["spans"] = spans()
        (stem,) = stems()
        first = key(stem)
        found["digits"] = len(first)
        cli("store", "rekey", "--yes")
        (second,) = stems()
        found["is_new"] = second != stem and key(second) != first
        found["old"] = key(stem)
        found["spans_after"] = spans()
        record("planted-kestrelkestrelkestrel")
        found["spans_more"] = spans()
        cli("purge", "--all", "--yes")
        found["destroyed"] = key(second)
        found["left"] = stems()
        """,
    )
    assert found["backend"] in ("keyring.backends.SecretService", "keyring.backends.chainer")
    assert (found["spans"], found["spans_after"], found["spans_more"]) == (40, 40, 80)
    assert (found["digits"], found["is_new"]) == (64, True)
    assert (found["old"], found["destroyed"], found["left"]) == (None, None, [])
    assert_no_plain_text(tmp_path / "telemetry", tmp_path / "home")


def test_a_locked_keychain_is_said_and_never_waited_for(tmp_path: Path) -> None:
    found = in_session(
        tmp_path,
        """
        record("step")
        found["spans"] = spans()
        collection().lock()
        found["stats"] = cli("stats", code=1)
        found["status"] = json.loads(cli("status", "--json"))["locked"]
        found["doctor"] = cli("doctor", code=1)
        record("step")  # It goes on, and drops.
        """,
    )
    assert found["spans"] == 40
    for text in (found["stats"], found["status"][0], found["doctor"]):
        assert "the keychain is locked" in text
        assert "unlock it" in text
    found = in_session(tmp_path, 'found["spans"] = spans()')
    assert found["spans"] == 40, "unlocked again, with the same key, and none was added"


def test_without_a_keychain_nothing_is_written_in_its_place(tmp_path: Path) -> None:
    found = in_session(
        tmp_path,
        """
        record("step")
        folder = Path(os.environ["STACK_COMPOSER_TELEMETRY_DIR"])
        found["names"] = sorted(path.name for path in folder.iterdir())
        """,
        unlock=False,
    )
    assert not [name for name in found["names"] if name.endswith((".jsonl", ".sqlcipher"))]
