"""``telemetry store``: the encryption of the whole store from the command line."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli_running import ok, ok_json, ok_lines, refusal, run
from encrypted_store import assert_no_plain_text, need_cipher, planted_line
from stack_composer.telemetry.store.keys import NEW_VARIABLE, VARIABLE
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, names_in, tick_until_idle

need_cipher()


class Place:
    """A home with a telemetry folder of some plain bundles, and a configured key file."""

    def __init__(self, home: Path) -> None:
        self.directory = home / "telemetry"
        self.config = home / "telemetry.toml"
        self.key_file = home / "keys" / "key-file"
        self.config.write_text(f"[store]  # ours\nkey_file = '{self.key_file}'\n")
        self.environ = {
            "STACK_COMPOSER_TELEMETRY_DIR": str(self.directory),
            "STACK_COMPOSER_TELEMETRY_CONFIG": str(self.config),
        }
        writer = BundleWriter(str(self.directory), bundle_bytes_max=3_000)
        for number in range(20):
            append(writer, planted_line(number))
            tick_until_idle(writer)
        writer.close()

    def encryption(self) -> str:
        return str(tomllib.loads(self.config.read_text())["store"].get("encryption", "none"))

    def ok(self, *arguments: str) -> str:
        return ok("telemetry", *arguments, environ=self.environ)

    def json(self, *arguments: str) -> Any:
        return ok_json("telemetry", *arguments, environ=self.environ)

    def run(self, *arguments: str, **more: str) -> Any:
        return run("telemetry", *arguments, environ={**self.environ, **more})

    def names_of_spans(self) -> int:
        found = ok_lines(
            "telemetry", "show", "--as", "records", "--limit", "0", environ=self.environ
        )
        return len(found)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_dry_runs_touch_nothing(place: Place) -> None:
    before = names_in(place.directory), place.config.read_text()
    told = place.ok("store", "encrypt", "--dry-run")
    assert 'encryption = "sqlcipher" under [store]' in told
    assert "dry run: nothing was changed" in told
    assert (names_in(place.directory), place.config.read_text()) == before
    assert not place.key_file.exists()


def test_nothing_is_done_where_nobody_can_be_asked(place: Place) -> None:
    what, hint = "", ""
    done = place.run("store", "encrypt")
    assert done.returncode == 2
    what, hint = done.stderr.strip().split("\n")
    assert "nobody can be asked" in what
    assert "--yes" in hint
    assert place.encryption() == "none"


def test_encrypt_rekey_and_decrypt_lose_nothing(place: Place) -> None:
    found = place.json("store", "encrypt", "--yes")
    assert found["moved"] == found["bundles"] > 3
    assert found["left"] == found["in_use"] == 0
    assert place.encryption() == "sqlcipher"
    assert "# ours" in place.config.read_text()
    assert_no_plain_text(place.directory)
    assert place.names_of_spans() == 40
    status = place.json("store", "status")
    (database,) = status["databases"]
    assert (database["key"], database["error"], status["plain_bundles"]) == ("keyfile", None, 0)
    assert place.json("status")["encryption"] == "sqlcipher"
    assert place.json("stats", "--since", "2020-01-01")["spans"]
    assert len(place.ok("tail", "-n", "3").splitlines()) == 3
    assert place.json("doctor")["ok"]
    assert "nothing to do" in place.ok("store", "encrypt", "--yes")
    again = place.json("store", "rekey", "--yes")
    assert again["destroy"] == [database["name"]]
    assert place.json("store", "status")["databases"][0]["name"] != database["name"]
    assert place.names_of_spans() == 40
    back = place.json("store", "decrypt", "--yes")
    assert back["moved"] == found["moved"]
    assert place.encryption() == "none"
    assert place.json("store", "status")["databases"] == []
    assert place.names_of_spans() == 40
    assert place.json("doctor")["ok"]
    assert "nothing to do" in place.ok("store", "decrypt", "--yes")
    assert "nothing to do" in place.ok("store", "rekey", "--yes")


def test_purge_all_destroys_the_key_too(place: Place) -> None:
    place.ok("store", "encrypt", "--yes")
    digits = place.key_file.read_text().split()[-1]
    (name,) = [one["name"] for one in place.json("store", "status")["databases"]]
    planned = place.json("purge", "--all", "--dry-run")
    assert planned["destroy"] == [name]
    assert planned["destroyed"] == 0
    done = place.run("purge", "--all")
    assert done.returncode == 2
    told = place.ok("purge", "--all", "--yes")
    assert "destroyed 1 encrypted database with the key" in told
    assert digits not in place.key_file.read_text()
    assert set(names_in(place.directory)) <= {"telemetry.lock", "conversion.lock"}
    assert place.json("doctor")["ok"]


@pytest.mark.parametrize("command", [["doctor", "--repair"], ["purge", "--all", "--yes"]])
def test_what_a_killed_destruction_left_goes_with_its_key(place: Place, command: list[str]) -> None:
    place.ok("store", "encrypt", "--yes")
    place.ok("purge", "--older-than", "0s", "--yes")
    digits = place.key_file.read_text().split()[-1]
    (path,) = place.directory.glob("*.sqlcipher")
    path.rename(f"{path}.new")
    assert "being made or destroyed" in place.run("doctor").stdout
    place.run(*command)
    assert not list(place.directory.glob("*.sqlcipher*"))
    assert digits not in place.key_file.read_text()
    assert place.json("doctor")["ok"]


def test_a_purge_by_age_leaves_the_key(place: Place) -> None:
    place.ok("store", "encrypt", "--yes")
    done = place.json("purge", "--older-than", "1s", "--yes")
    assert done["destroyed"] == 0
    assert len(place.json("store", "status")["databases"]) == 1


def test_without_the_key_each_command_says_why_and_what_to_do(place: Place) -> None:
    place.ok("store", "encrypt", "--yes")
    place.key_file.rename(place.key_file.with_name("elsewhere"))
    for command in (["stats"], ["show"], ["tail"], ["purge", "--yes"], ["store", "decrypt"]):
        what, hint = refusal("telemetry", *command, code=1, environ=place.environ)
        assert "key file" in what
        assert "backup" in hint
    (reason,) = place.json("status")["locked"]
    assert "key file" in reason
    done = place.run("doctor", "--json")
    assert done.returncode == 1
    assert "key file" in done.stdout
    done = place.run("store", "status")
    assert done.returncode == 1
    assert "cannot be opened" in done.stdout
    # What nobody can read can still be destroyed.
    told = place.ok("purge", "--all", "--yes")
    assert "although it cannot be opened" in told
    assert not list(place.directory.glob("*.sqlcipher*"))


def test_doctor_names_what_lies_in_plain_and_what_is_damaged(place: Place) -> None:
    with place.config.open("a") as file:
        file.write('encryption = "sqlcipher"\n')
    done = place.run("doctor", "--json")
    assert "not encrypted, although it is configured" in done.stdout
    place.ok("store", "encrypt", "--yes")
    assert place.json("doctor")["ok"]
    (path,) = place.directory.glob("*.sqlcipher")
    Path(f"{path}-wal").unlink()
    Path(f"{path}-shm").unlink()
    data = bytearray(path.read_bytes())
    data[-2_000] ^= 1
    path.write_bytes(data)
    done = place.run("doctor")
    assert done.returncode == 1
    assert "encryption: " in done.stdout
    assert "damaged" in done.stdout or "changed on the disk" in done.stdout
    assert "planted" not in done.stdout + done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_whoever_opens_a_database_takes_from_others_what_they_could_do_with_it(
    place: Place,
) -> None:
    place.ok("store", "encrypt", "--yes")
    files = list(place.directory.glob("*.sqlcipher*"))
    assert len(files) == 3
    for path in files:
        path.chmod(0o644)
    assert place.run("doctor", "--repair").returncode == 0
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_passphrase_and_a_new_one(place: Place) -> None:
    place.config.write_text("")
    place.environ[VARIABLE] = "correct horse"
    place.ok("store", "encrypt", "--yes")
    assert place.json("store", "status")["databases"][0]["key"] == "passphrase"
    assert "correct horse" not in place.config.read_text()
    place.environ[VARIABLE] = "wrong horse"
    what, _ = refusal("telemetry", "stats", code=1, environ=place.environ)
    assert "passphrase" in what
    place.environ[VARIABLE] = "correct horse"
    place.environ[NEW_VARIABLE] = "battery staple"
    place.ok("store", "rekey", "--yes")
    del place.environ[NEW_VARIABLE]
    what, _ = refusal("telemetry", "stats", code=1, environ=place.environ)
    assert "passphrase" in what
    place.environ[VARIABLE] = "battery staple"
    assert place.names_of_spans() == 40
    del place.environ[VARIABLE]
    what, hint = refusal("telemetry", "stats", code=1, environ=place.environ)
    assert VARIABLE in hint


def test_rekey_moves_from_one_place_for_keys_to_another(place: Place) -> None:
    place.ok("store", "encrypt", "--yes")
    place.config.write_text('[store]\nencryption = "sqlcipher"\n')
    place.environ[VARIABLE] = "correct horse"
    place.environ["STACK_COMPOSER_TELEMETRY_KEY_FILE"] = ""
    what, _ = refusal("telemetry", "store", "rekey", code=1, environ=place.environ)
    assert "none is configured" in what


def test_without_a_keychain_encrypt_says_what_else_there_is(place: Place) -> None:
    place.config.write_text("")
    place.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    done = place.run("store", "encrypt", "--yes")
    assert done.returncode == 1
    *_, what, hint = done.stderr.strip().split("\n")
    assert "no keychain" in what
    assert "key_file" in hint
    assert VARIABLE in hint
    assert "encryption" not in place.config.read_text(), "nothing was turned on"
    assert not list(place.directory.glob("*.sqlcipher*"))


def test_turned_on_by_hand_without_a_keychain_status_and_doctor_say_why(place: Place) -> None:
    place.config.write_text('[store]\nencryption = "sqlcipher"\n')
    place.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    (reason,) = place.json("status")["locked"]
    assert "no keychain" in reason
    assert "key_file" in reason
    assert "nothing is written: this computer has no keychain" in place.run("doctor").stdout


def test_another_folder_is_converted_without_touching_the_configuration(
    place: Place, tmp_path: Path
) -> None:
    before = place.config.read_text()
    place.ok("store", "encrypt", "--yes", "--dir", str(place.directory))
    assert place.config.read_text() == before
    assert not list(place.directory.glob("*.zst"))
    assert tmp_path in place.directory.parents
