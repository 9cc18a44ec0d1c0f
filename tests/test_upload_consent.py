"""Consent: to whom, under which policy; what others could have written is none."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry.config import Config, load_config
from stack_composer.telemetry.errors import NotAllowedError, StoreError
from stack_composer.telemetry.upload import consent as consent_module
from stack_composer.telemetry.upload import private
from stack_composer.telemetry.upload.consent import (
    POLICY_VERSION,
    Consents,
    give,
    policy_text,
    read_consents,
    withdraw,
)

ORIGIN = "https://collector.example:443"
OTHER = "http://127.0.0.1:4318"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path)


def config_of(home: Path, **environ: str) -> Config:
    path = home / "config" / "telemetry.toml"
    return load_config(
        environ={"HOME": str(home), "STACK_COMPOSER_TELEMETRY_CONFIG": str(path), **environ}
    )


def file_of(config: Config) -> Path:
    return Path(config.config_path).parent / "consent.json"


def consent_file(**changes: Any) -> str:
    one = {"origin": ORIGIN, "policy_version": 1, "date": "x", "by": "prompt", **changes}
    return json.dumps({"format": 1, "consents": [one]})


def entries(config: Config) -> list[tuple[str, str]]:
    path = Path(config.directory) / "audit.jsonl"
    lines = map(json.loads, path.read_text().splitlines())
    return [(one["action"], one["to"]) for one in lines if one["entry"] == "consent"]


def test_there_is_none_at_first(config: Config) -> None:
    assert read_consents(config) == Consents((), "")
    assert not Path(config.directory).exists()


def test_one_that_was_given_is_there_with_date_policy_and_how(config: Config) -> None:
    (given,) = give(config, ORIGIN, by="prompt")
    assert given.policy_version == POLICY_VERSION
    assert given.by == "prompt"
    assert given.date.startswith("20")
    assert given.date.endswith("Z")
    assert read_consents(config).lookup(ORIGIN) == given
    assert read_consents(config).lookup(OTHER) is None
    assert entries(config) == [("given", ORIGIN)]


def test_the_file_is_its_users_alone_whatever_the_umask(config: Config) -> None:
    old = os.umask(0)
    try:
        give(config, ORIGIN, by="--yes")
    finally:
        os.umask(old)
    assert file_of(config).stat().st_mode & 0o777 == 0o600
    assert file_of(config).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name == "nt", reason="no umask there")
def test_a_umask_that_takes_everything_leaves_files_that_we_can_open(config: Config) -> None:
    file_of(config).parent.mkdir()
    old = os.umask(0o777)
    try:
        give(config, ORIGIN, by="--yes")
    finally:
        os.umask(old)
    files = list(file_of(config).parent.iterdir())
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert read_consents(config).lookup(ORIGIN)


def test_it_is_on_the_disk_before_it_takes_the_old_ones_place(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(config, ORIGIN, by="prompt")
    old = file_of(config).read_bytes()
    synced: list[tuple[bytes, bytes]] = []

    def sync(descriptor: int) -> None:
        (aside,) = file_of(config).parent.glob("*.tmp")
        synced.append((aside.read_bytes(), file_of(config).read_bytes()))
        os.fsync(descriptor)

    monkeypatch.setattr(private, "sync_file", sync)
    give(config, OTHER, by="prompt")
    assert synced == [(file_of(config).read_bytes(), old)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    path = str(tmp_path / "a.lock")
    with private.alone(path):
        pid = os.fork()
        if not pid:
            os.read(read_end, 1)
            os._exit(0)
    try:
        # Were it kept, this would wait for ten seconds, and fail.
        with private.alone(path):
            pass
    finally:
        os.write(write_end, b"x")
        os.waitpid(pid, 0)
        os.close(read_end)
        os.close(write_end)


def test_a_folder_that_the_user_has_is_left_as_it_is(config: Config) -> None:
    file_of(config).parent.mkdir()
    file_of(config).parent.chmod(0o755)
    give(config, ORIGIN, by="--yes")
    assert file_of(config).parent.stat().st_mode & 0o777 == 0o755


def test_given_again_it_holds_on_from_when_it_was_given(config: Config) -> None:
    """An exporter sends what was recorded since: that moment must not move."""
    (first,) = give(config, ORIGIN, by="prompt")
    give(config, OTHER, by="prompt")
    assert give(config, ORIGIN, by="--yes") == [first]
    assert [(one.origin, one.by) for one in read_consents(config).given] == [
        (ORIGIN, "prompt"),
        (OTHER, "prompt"),
    ]


def test_given_under_another_policy_it_takes_the_place_of_the_old_one(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(config, ORIGIN, by="prompt")
    give(config, OTHER, by="prompt")
    monkeypatch.setattr(consent_module, "POLICY_VERSION", consent_module.POLICY_VERSION + 1)
    give(config, ORIGIN, by="--yes")
    assert [(one.origin, one.by) for one in read_consents(config).given] == [
        (OTHER, "prompt"),
        (ORIGIN, "--yes"),
    ]


def test_several_origins_at_once_are_as_many_consents(config: Config) -> None:
    given = give(config, f"{OTHER} {ORIGIN} {OTHER}", by="prompt")
    assert [one.origin for one in given] == [OTHER, ORIGIN]
    assert read_consents(config).given == tuple(given)
    assert len(withdraw(config, f"{OTHER} {ORIGIN}")) == 2


def test_withdrawn_it_is_gone_and_noted(config: Config) -> None:
    give(config, ORIGIN, by="prompt")
    give(config, OTHER, by="prompt")
    assert [one.origin for one in withdraw(config, ORIGIN)] == [ORIGIN]
    assert [one.origin for one in read_consents(config).given] == [OTHER]
    assert withdraw(config, ORIGIN) == []
    give(config, ORIGIN, by="prompt")
    assert len(withdraw(config)) == 2
    assert read_consents(config) == Consents(())
    assert entries(config)[2] == ("withdrawn", ORIGIN)
    assert sorted(entries(config)[-2:]) == [("withdrawn", OTHER), ("withdrawn", ORIGIN)]


def test_no_consent_is_given_under_do_not_track(tmp_path: Path) -> None:
    config = config_of(tmp_path, DO_NOT_TRACK="1")
    with pytest.raises(NotAllowedError, match="environment DO_NOT_TRACK") as caught:
        give(config, ORIGIN, by="--yes")
    assert "unset DO_NOT_TRACK" in caught.value.hint
    assert not file_of(config).exists()
    # But one can always be taken back.
    give(config_of(tmp_path), ORIGIN, by="--yes")
    assert len(withdraw(config)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"x"',
        "{}",
        '{"format": 1}',
        '{"format": 2, "consents": []}',
        '{"format": 1, "consents": {}, "x": 1',
        '{"format": 1, "consents": 5}',
        '{"format": 1, "consents": [5]}',
        '{"format": 1, "consents": [{}]}',
        consent_file(by=None),
        consent_file(policy_version=True),
        consent_file(policy_version="1"),
        consent_file(date=5),
        consent_file(origin=[ORIGIN]),
        "[" * 100_000,
        "\0" * 100,
        "\xff\xfe",
    ],
)
def test_what_cannot_be_understood_is_no_consent(config: Config, text: str) -> None:
    give(config, ORIGIN, by="prompt")
    file_of(config).write_text(text)
    found = read_consents(config)
    assert found.given == ()
    assert "cannot be understood" in found.problem


def test_the_file_that_these_are_made_from_is_one(config: Config) -> None:
    give(config, ORIGIN, by="prompt")
    file_of(config).write_text(consent_file())
    assert [one.origin for one in read_consents(config).given] == [ORIGIN]


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o620, 0o666, 0o777])
def test_what_others_could_have_written_or_read_is_no_consent(config: Config, mode: int) -> None:
    give(config, ORIGIN, by="prompt")
    file_of(config).chmod(mode)
    found = read_consents(config)
    assert found.lookup(ORIGIN) is None
    assert f"mode {mode:04o}" in found.problem


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file_is_no_consent(config: Config) -> None:
    give(config, ORIGIN, by="prompt")
    os.chown(file_of(config), 12345, -1)
    found = read_consents(config)
    assert (found.given, "another user" in found.problem) == ((), True)


def test_a_link_a_folder_a_pipe_and_a_huge_file_are_no_consent(
    config: Config, tmp_path: Path
) -> None:
    give(config, ORIGIN, by="prompt")
    path = file_of(config)
    path.rename(tmp_path / "real.json")
    path.symlink_to(tmp_path / "real.json")
    assert "symbolic link" in read_consents(config).problem
    path.unlink()
    path.mkdir()
    assert read_consents(config).problem
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path, 0o600)
        assert "not a regular file" in read_consents(config).problem
        path.unlink()
    (tmp_path / "real.json").rename(path)
    with path.open("ab") as file:
        file.write(b" " * 2**20)
    assert "more than" in read_consents(config).problem
    assert read_consents(config).given == ()


def test_a_file_without_worth_is_written_anew_by_giving_and_by_withdrawing(
    config: Config,
) -> None:
    give(config, ORIGIN, by="prompt")
    file_of(config).chmod(0o644)
    give(config, OTHER, by="prompt")
    assert [one.origin for one in read_consents(config).given] == [OTHER]
    give(config, ORIGIN, by="prompt")
    file_of(config).chmod(0o644)
    assert withdraw(config) == []
    # Closing it now brings nothing back.
    file_of(config).chmod(0o600)
    assert read_consents(config) == Consents(())


def test_many_at_once_lose_nothing_of_each_other(config: Config) -> None:
    origins = [f"https://c{number}.example:443" for number in range(12)]
    give(config, ORIGIN, by="prompt")

    def one(origin: str) -> None:
        give(config, origin, by="--yes")
        withdraw(config, ORIGIN)

    threads = [threading.Thread(target=one, args=(origin,)) for origin in origins]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.origin for one in read_consents(config).given) == sorted(origins)


def test_a_consent_that_cannot_be_noted_is_none(config: Config) -> None:
    Path(config.directory).parent.mkdir(parents=True)
    Path(config.directory).write_bytes(b"")
    with pytest.raises(StoreError):
        give(config, ORIGIN, by="prompt")
    assert read_consents(config).given == ()


def test_a_consent_is_withdrawn_though_it_cannot_be_noted(config: Config) -> None:
    give(config, ORIGIN, by="prompt")
    folder = Path(config.directory)
    (folder / "audit.jsonl").unlink()
    folder.rmdir()
    folder.write_bytes(b"")
    with pytest.raises(StoreError):
        withdraw(config)
    assert read_consents(config).given == ()


def test_a_file_that_cannot_be_written_stands_as_it_was(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(config, ORIGIN, by="prompt")
    before = file_of(config).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left"):
        give(config, OTHER, by="prompt")
    monkeypatch.undo()
    assert file_of(config).read_bytes() == before
    assert sorted(os.listdir(file_of(config).parent)) == [
        *sorted(name for name in os.listdir(file_of(config).parent) if name.endswith(".head")),
        "consent.json",
        "consent.lock",
    ]


def test_the_policy_says_to_whom_what_and_how_to_withdraw() -> None:
    text = policy_text(ORIGIN)
    for word in (ORIGIN, "redacted", "dry-run --show", "consent withdraw", "telemetry audit"):
        assert word in text


def test_the_policy_and_its_version_change_together() -> None:
    """Whoever changes the policy decides here whether everybody is asked again."""
    from hashlib import sha256

    digest = sha256(consent_module.POLICY.encode()).hexdigest()[:16]
    assert (POLICY_VERSION, digest) == (1, "1537869239108083")
