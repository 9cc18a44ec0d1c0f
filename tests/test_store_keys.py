"""Keys are found where they were put, nowhere else, and an error never shows one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry.errors import StoreLockedError
from stack_composer.telemetry.store import keys, names
from stack_composer.telemetry.store.keys import Keys

STEM = names.make_stem(1_764_000_000 * 10**9, 4711, bytes(range(16)))
OTHER = names.make_stem(1_764_000_001 * 10**9, 4711, bytes(range(16)))
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "key-file"


def hint_of(error: pytest.ExceptionInfo[StoreLockedError]) -> str:
    assert "\n" not in str(error.value)
    assert error.value.hint
    return error.value.hint


def test_a_key_file_is_made_for_its_owner_alone(path: Path) -> None:
    key = Keys(str(path)).make(STEM, "keyfile")
    assert len(key) == 32
    assert Keys(str(path)).find(STEM, "keyfile") == [key]
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_each_database_has_a_key_of_its_own_and_one_goes_without_the_other(path: Path) -> None:
    some = Keys(str(path))
    first, second = some.make(STEM, "keyfile"), some.make(OTHER, "keyfile")
    assert first != second
    assert some.destroy(STEM, "keyfile")
    assert not some.destroy(STEM, "keyfile")
    assert first.hex() not in path.read_text()
    assert Keys(str(path)).find(OTHER, "keyfile") == [second]
    with pytest.raises(StoreLockedError, match="holds no key"):
        Keys(str(path)).find(STEM, "keyfile")


def test_a_bare_line_is_the_key_of_every_database_and_is_never_destroyed(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("# made by an administrator\n" + "ab" * 32 + "\n")
    path.chmod(0o600)
    some = Keys(str(path))
    assert some.find(STEM, "keyfile") == [bytes.fromhex("ab" * 32)]
    assert not some.destroy(STEM, "keyfile")
    assert "ab" * 32 in path.read_text()


def test_a_half_written_line_is_no_key_and_spoils_none(path: Path) -> None:
    key = Keys(str(path)).make(STEM, "keyfile")
    with path.open("a") as file:
        file.write(f"{OTHER} abcdef")
    other = Keys(str(path)).make(OTHER, "keyfile")
    assert Keys(str(path)).find(STEM, "keyfile") == [key]
    assert Keys(str(path)).find(OTHER, "keyfile") == [other]


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660])
def test_a_key_file_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    Keys(str(path)).make(STEM, "keyfile")
    path.chmod(mode)
    with pytest.raises(StoreLockedError, match=f"mode {mode:04o}") as error:
        Keys(str(path)).find(STEM, "keyfile")
    assert "chmod 600" in hint_of(error)


@posix
def test_another_users_key_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Keys(str(path)).make(STEM, "keyfile")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StoreLockedError, match="another user"):
        Keys(str(path)).find(STEM, "keyfile")


@posix
def test_a_pipe_in_its_place_is_refused_at_once(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(StoreLockedError, match="no regular file"):
        Keys(str(path)).find(STEM, "keyfile")


def test_a_missing_key_file_says_what_to_do(path: Path) -> None:
    with pytest.raises(StoreLockedError, match="not there") as error:
        Keys(str(path)).find(STEM, "keyfile")
    assert "backup" in hint_of(error)
    with pytest.raises(StoreLockedError, match="none is configured"):
        Keys().find(STEM, "keyfile")


def test_errors_quote_no_key(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(f"{OTHER} {'cd' * 32}\n")
    path.chmod(0o600)
    with pytest.raises(StoreLockedError) as error:
        Keys(str(path)).find(STEM, "keyfile")
    assert "cd" * 8 not in str(error.value) + error.value.hint


def test_a_passphrase_makes_the_same_key_again_and_each_database_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(keys.VARIABLE, "a long ünd good one")
    some = Keys()
    assert some.source() == "passphrase"
    key = some.make(STEM, "passphrase")
    assert Keys().find(STEM, "passphrase") == [key]
    assert Keys().find(OTHER, "passphrase") != [key]
    assert not some.destroy(STEM, "passphrase")


def test_a_new_passphrase_makes_what_is_new_and_the_old_one_still_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(keys.VARIABLE, "old")
    old = Keys().make(STEM, "passphrase")
    monkeypatch.setenv(keys.NEW_VARIABLE, "new")
    assert Keys().find(STEM, "passphrase")[0] == old
    made = Keys().make(OTHER, "passphrase")
    assert made == keys.derive("new", OTHER)


def test_nobody_is_asked_for_a_passphrase_unless_somebody_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(StoreLockedError, match="passphrase") as error:
        Keys().find(STEM, "passphrase")
    assert keys.VARIABLE in hint_of(error)
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "told"

    monkeypatch.setattr(keys.custody, "ask", ask)
    some = Keys()
    assert some.find(STEM, "passphrase") == [keys.derive("told", STEM)]
    some.find(OTHER, "passphrase")
    assert len(asked) == 1


@pytest.mark.parametrize("module", ["keyrings.alt.file", "keyring.backends.fail"])
def test_a_keychain_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    keyring = pytest.importorskip("keyring", reason="keyring is not installed: extra 'encrypt'")
    monkeypatch.setattr(keyring, "get_keyring", type("K", (), {"__module__": module}))
    for action in (Keys().find, Keys().make):
        with pytest.raises(StoreLockedError, match="no keychain") as error:
            action(STEM, "keychain")
        assert "key_file" in hint_of(error)


def test_of_several_keychains_a_safe_one_is_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring", reason="keyring is not installed: extra 'encrypt'")
    kept: dict[str, str] = {}

    def make(module: str) -> Any:
        def set_password(_self: Any, _service: str, stem: str, digits: str) -> None:
            assert module == "keyring.backends.kwallet"
            kept[stem] = digits

        def get_password(_self: Any, _service: str, stem: str) -> str | None:
            return kept.get(stem)

        body = {"set_password": set_password, "get_password": get_password, "__module__": module}
        return type("K", (), body)()

    chain = type("C", (), {"__module__": "keyring.backends.chainer"})()
    chain.backends = [make("keyrings.alt.file"), make("keyring.backends.kwallet")]
    monkeypatch.setattr(keyring, "get_keyring", lambda: chain)
    key = Keys().make(STEM, "keychain")
    assert kept == {STEM: key.hex()}
    assert Keys().find(STEM, "keychain") == [key]


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(StoreLockedError) as error:
        Keys().find(STEM, "keychain")
    assert "[encrypt]" in hint_of(error)


def test_no_core_is_dumped_of_a_command_that_holds_a_key(path: Path) -> None:
    resource: Any = pytest.importorskip("resource", reason="Windows has no such limit")
    Keys(str(path)).make(STEM, "keyfile")
    limits: list[tuple[int, int]] = []
    # In a child, since the limit cannot be raised again.
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        from stack_composer.telemetry.cli import custody

        custody.take()
        before = resource.getrlimit(resource.RLIMIT_CORE)
        Keys(str(path)).find(STEM, "keyfile")
        after = resource.getrlimit(resource.RLIMIT_CORE)
        os.write(writer, repr([before, after]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    limits = eval(os.read(reader, 1000))  # noqa: S307 - written by the lines above
    assert limits[1] == (0, 0)
