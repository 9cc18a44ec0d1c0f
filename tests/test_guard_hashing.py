"""Hashes of identifiers, and the salt that keys them."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry.errors import GuardError
from stack_composer.telemetry.guard import hashing
from stack_composer.telemetry.guard.hashing import (
    Hasher,
    UploadHasher,
    is_hash,
    load_salt,
    rotate_salts,
    salt_paths,
)
from stack_composer.telemetry.guard.policy import Policy

SALT = bytes(range(32))
posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX modes and owners")


def test_the_hash_is_hmac_with_a_key_of_the_field() -> None:
    """Against the standard library's own HMAC."""
    key = hmac.digest(SALT, b"field\0project id", "sha256")
    wanted = hmac.new(key, b"p-17", hashlib.sha256).hexdigest()[:32]
    assert Hasher(Policy(salt=SALT)).hash("project id", "p-17") == f"hmac:{wanted}"


def test_fields_and_salts_have_hashes_of_their_own() -> None:
    hasher = Hasher(Policy(salt=SALT))
    assert hasher.hash("user id", "17") == hasher.hash("user id", "17")
    assert hasher.hash("user id", "17") != hasher.hash("project id", "17")
    assert Hasher(Policy(salt=bytes(32))).hash("user id", "17") != hasher.hash("user id", "17")
    assert Hasher(Policy(salt=bytes(99))).hash("user id", "17").startswith("hmac:")


def test_plain_sha256_is_what_others_compute() -> None:
    hashed = Hasher(Policy(identifiers="sha256")).hash("project id", "p-17")
    assert hashed == "sha256:" + hashlib.sha256(b"p-17").hexdigest()


@pytest.mark.parametrize("policy", [Policy(salt=SALT), Policy(identifiers="sha256")])
def test_a_hash_is_not_hashed_again(policy: Policy) -> None:
    hasher = Hasher(policy)
    once = hasher.hash("user id", "alice")
    assert is_hash(once)
    assert hasher.hash("user id", once) == once


def test_lookalikes_of_a_hash_are_hashed() -> None:
    for text in ("hmac:", "hmac:xyz", "hmac:" + "g" * 32, "sha256:" + "a" * 32, "a" * 32):
        assert not is_hash(text)


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "lax", "salt": SALT},
        {"identifiers": "md5", "salt": SALT},
        {"identifiers": "hmac", "salt": b"short"},
        {"identifiers": "hmac"},
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"^(profile|identifiers|salt)="):
        Policy(**options)  # type: ignore[arg-type]


def test_the_salt_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "config"
    salt = load_salt(str(folder))
    assert len(salt) == 32
    assert load_salt(str(folder)) == salt
    assert [entry.name for entry in folder.iterdir()] == ["salt"]


@posix
def test_the_salt_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    old = os.umask(0)
    try:
        load_salt(str(folder))
    finally:
        os.umask(old)
    assert (folder / "salt").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "salt").chmod(0o644)
    load_salt(str(folder))
    assert (folder / "salt").stat().st_mode & 0o777 == 0o600


@posix
def test_a_symlink_in_the_salts_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(SALT)
    (tmp_path / "salt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GuardError):
        load_salt(str(tmp_path))


def test_a_damaged_salt_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"cut")
    with pytest.raises(GuardError) as caught:
        load_salt(str(tmp_path))
    assert "cut" not in str(caught.value)
    assert caught.value.hint


def test_a_folder_in_the_salts_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "salt").mkdir()
    with pytest.raises(GuardError):
        load_salt(str(tmp_path))


@posix
def test_the_salt_is_private_from_its_first_byte(tmp_path: Path) -> None:
    """Not only once somebody has read it, when its mode is put right."""
    old = os.umask(0)
    try:
        hashing._write_salt(str(tmp_path / "salt"), hashing._place)
    finally:
        os.umask(old)
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600


@posix
def test_reading_the_salt_leaves_no_file_open(tmp_path: Path) -> None:
    load_salt(str(tmp_path))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.close(descriptor)
    load_salt(str(tmp_path))
    after = os.open(tmp_path, os.O_RDONLY)
    os.close(after)
    assert after == descriptor


@posix
def test_refusing_the_salt_leaves_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "salt").mkdir()
    before = os.open(tmp_path, os.O_RDONLY)
    os.close(before)
    with pytest.raises(GuardError):
        load_salt(str(tmp_path))
    after = os.open(tmp_path, os.O_RDONLY)
    os.close(after)
    assert after == before


@posix
def test_a_salt_is_on_the_disk_before_it_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave an empty one there."""
    steps: list[str] = []

    def noted(name: str) -> Callable[..., None]:
        step = getattr(os, name)

        def take(*some: Any) -> None:
            steps.append(name)
            step(*some)

        return take

    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(os, name, noted(name))
    load_salt(str(tmp_path))
    assert steps[:2] == ["fsync", "link"]
    steps.clear()
    rotate_salts(str(tmp_path))
    assert steps[:2] == ["fsync", "replace"]
    assert steps[-1] == "fsync"


def test_where_no_hard_links_are_the_salt_is_renamed_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_paths: str) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    salt = load_salt(str(tmp_path))
    hashing._write_salt(str(tmp_path / "salt"), hashing._place)
    assert load_salt(str(tmp_path)) == salt
    assert [entry.name for entry in tmp_path.iterdir()] == ["salt"]


def test_processes_that_start_at_once_share_one_salt(tmp_path: Path) -> None:
    program = (
        "import sys; from stack_composer.telemetry.guard.hashing import load_salt;"
        "sys.stdin.read(1); print(load_salt(sys.argv[1]).hex())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "c")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"!")
        process.stdin.flush()
    answers = {process.communicate()[0] for process in processes}
    assert len(answers) == 1
    assert len(answers.pop().strip()) == 64


# -- rotation, and the salt of uploads ------------------------------------------------


def test_the_salt_of_uploads_is_another_one(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert load_salt(folder) != load_salt(folder, "upload") == load_salt(folder, "upload")
    assert [Path(path).name for path in salt_paths(folder)] == ["salt", "salt-upload"]


def test_what_is_uploaded_is_hashed_again() -> None:
    local, upload = Hasher(Policy(salt=SALT)), UploadHasher(bytes(32))
    here = local.hash("user id", "alice")
    there = upload.hash("user id", here)
    assert there == upload.hash("user id", here)
    assert there == upload.hash("user id", there), "an upload can be guarded again"
    key = hmac.digest(bytes(32), b"field\0user id", "sha256")
    digest = hmac.new(key, here.encode(), hashlib.sha256).hexdigest()[:32]
    assert there == f"upload:{digest}"
    assert upload.hash("project id", here) != there
    assert UploadHasher(SALT).hash("user id", here) != there
    plain = upload.hash("user id", "sha256:" + "a" * 64)
    assert plain.startswith("upload:")
    assert upload.hash("user id", "upload:guess").startswith("upload:")
    assert upload.hash("user id", "upload:guess") != "upload:guess"
    assert not is_hash(there), "and an id that looks so is hashed where it is recorded"


def test_both_salts_are_replaced_and_private(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert rotate_salts(folder) == []
    assert list(tmp_path.iterdir()) == [], "where no id was hashed, nothing is made"
    before = load_salt(folder), load_salt(folder, "upload")
    assert rotate_salts(folder) == salt_paths(folder)
    after = load_salt(folder), load_salt(folder, "upload")
    assert len({*before, *after}) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["salt", "salt-upload"]
    if os.name != "nt":
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_damaged_salt_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"cut")
    rotate_salts(str(tmp_path))
    assert len(load_salt(str(tmp_path))) == 32


@posix
def test_a_salt_that_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(SALT)
    (tmp_path / "salt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GuardError) as caught:
        rotate_salts(str(tmp_path))
    assert caught.value.hint
    assert (tmp_path / "salt").is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == SALT
    (tmp_path / "salt").unlink()
    os.mkfifo(tmp_path / "salt")
    with pytest.raises(GuardError, match="not a regular file"):
        rotate_salts(str(tmp_path))


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_a_whole_salt(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    salt = load_salt(str(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"stack_composer.telemetry.guard.hashing.os.{step}", fail)
        with pytest.raises(GuardError, match="No space left"):
            rotate_salts(str(tmp_path))
    assert load_salt(str(tmp_path)) == salt
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]


ROTATE = """
import sys
from stack_composer.telemetry.guard.hashing import load_salt, rotate_salts
load_salt(sys.argv[1])
print("ready", flush=True)
while True:
    rotate_salts(sys.argv[1])
"""


def start(program: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_kill_9_and_two_who_rotate_at_once_leave_a_whole_salt(tmp_path: Path) -> None:
    """Whoever reads meanwhile gets a whole one, too."""
    seen = set()
    for _ in range(3):
        rotating = [start(ROTATE, tmp_path) for _ in range(2)]
        for process in rotating:
            assert process.stdout
            assert process.stdout.readline().strip() == b"ready"
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            salt = load_salt(str(tmp_path))
            assert len(salt) == 32
            seen.add(salt)
        for process in rotating:
            assert process.poll() is None, "it would have said why"
            process.kill()
            process.communicate()
        assert len(load_salt(str(tmp_path))) == 32
    assert len(seen) > 3
    # What was begun lies aside, at most one a process, and is never taken for a salt.
    aside = [path for path in tmp_path.iterdir() if path.name != "salt"]
    assert len(aside) <= 6
    assert all(path.name.startswith("salt.") for path in aside)
