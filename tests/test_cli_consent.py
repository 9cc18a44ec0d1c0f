"""``telemetry consent`` and ``telemetry headers``: what may leave, and with what credentials."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli_running import COMMAND, ok, ok_json, refusal, run
from stack_composer.telemetry.cli import (
    consent_give,
    consent_status,
    consent_withdraw,
    headers_remove,
    headers_set,
)
from stack_composer.telemetry.upload.consent import POLICY_VERSION

ORIGIN = "https://collector.example:443"
OTHER = "http://127.0.0.1:4318"
SECRET = "s3cr3t" + "-of-a-test"

HAS_TERMINAL = pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")


@pytest.fixture
def config() -> Path:
    return Path(os.environ["HOME"], ".config", "stack-composer", "telemetry.toml")


def configure(config: Path, text: str) -> None:
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text)


def consents(config: Path) -> list[tuple[str, str]]:
    path = config.with_name("consent.json")
    if not path.exists():
        return []
    return [(one["origin"], one["by"]) for one in json.loads(path.read_text())["consents"]]


def on_a_terminal(*arguments: str, answer: bytes, until: bytes) -> tuple[int, bytes]:
    """Run with somebody to ask; return the exit code and all that was said."""
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "telemetry", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as child:
        os.close(theirs)
        said = b""
        while until not in said:
            said += os.read(ours, 1000)
        os.write(ours, answer)
        try:
            while more := os.read(ours, 1000):
                said += more
        except OSError:
            pass  # Linux: the other end was closed.
        code = child.wait(30)
    os.close(ours)
    return code, said


@HAS_TERMINAL
@pytest.mark.parametrize(
    ("answer", "code", "given"),
    [(b"y\n", 0, 1), (b"yes\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0), (b"\x04", 1, 0)],
)
def test_on_a_terminal_the_policy_is_shown_and_agreed_to(
    config: Path, answer: bytes, code: int, given: int
) -> None:
    found, said = on_a_terminal("consent", "give", "--to", ORIGIN, answer=answer, until=b"[y/N]")
    before, _, after = said.partition(b"[y/N]")
    assert found == code
    for word in (b"policy, version 1", ORIGIN.encode(), b"consent withdraw", b"telemetry audit"):
        assert word in before
    assert consents(config) == [(ORIGIN, "prompt")] * given
    assert (b"no consent was given" in after) is not bool(given)


def test_without_a_terminal_it_refuses_with_a_hint(config: Path) -> None:
    done = run("telemetry", "consent", "give", "--to", ORIGIN)
    assert done.returncode == 2
    what, hint = done.stderr.splitlines()
    assert "nobody can be asked here" in what
    assert "add --yes to agree" in hint
    assert consents(config) == []
    what, _ = refusal("telemetry", "consent", "give", "--to", ORIGIN, "--json")
    assert "nobody can be asked" in what
    assert consents(config) == []


def test_with_yes_it_is_written_down_that_way(config: Path) -> None:
    found = ok_json("telemetry", "consent", "give", "--yes", "--to", "https://Collector.Example/v1")
    assert set(found) == set(consent_give.JSON_KEYS)
    assert found["origins"] == [ORIGIN]
    assert found["policy_version"] == POLICY_VERSION
    assert "redacted" in found["policy"]
    assert [(one["origin"], one["by"]) for one in found["given"]] == [(ORIGIN, "--yes")]
    assert found["held_back"] == "upload_enabled = false (default)"
    assert consents(config) == [(ORIGIN, "--yes")]


def test_it_says_what_still_lets_nothing_leave(config: Path) -> None:
    said = ok("telemetry", "consent", "give", "--yes", "--to", ORIGIN)
    assert said.splitlines()[-1].startswith("nothing leaves yet: upload_enabled = false (default)")
    configure(config, "[telemetry]\nupload_enabled = true\n")
    said = ok("telemetry", "consent", "give", "--yes", "--to", ORIGIN)
    assert said.splitlines()[-1] == f"written down in {config.with_name('consent.json')}"


def test_by_default_it_is_about_what_is_configured(config: Path) -> None:
    what, hint = refusal("telemetry", "consent", "give", "--yes", code=1)
    assert what == "there is no destination: upload.endpoint is not set"
    assert "[upload]" in hint
    configure(config, f"[upload]\nendpoint = '{ORIGIN}'\n")
    assert ok_json("telemetry", "consent", "give", "--yes")["origins"] == [ORIGIN]
    # Signals that go elsewhere are elsewhere.
    configure(config, "")
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": OTHER,
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://logs.example",
    }
    found = ok_json("telemetry", "consent", "give", "--yes", environ=environ)
    assert found["origins"] == [OTHER, "https://logs.example:443"]


@pytest.mark.parametrize(
    ("url", "code", "word"),
    [
        ("collector.example", 2, "--to is not an http or https address"),
        ("ftp://collector.example", 2, "--to is not an http or https address"),
        ("https://user:word@collector.example", 2, "--to holds credentials"),
        ("http://collector.example", 1, "unencrypted"),
    ],
)
def test_a_destination_that_is_none_is_refused(
    config: Path, url: str, code: int, word: str
) -> None:
    what, _ = refusal("telemetry", "consent", "give", "--yes", "--to", url, code=code)
    assert word in what
    assert "word" not in what
    assert consents(config) == []


def test_under_do_not_track_none_is_given_nor_asked_for(config: Path) -> None:
    environ = {"DO_NOT_TRACK": "true"}
    what, hint = refusal(
        "telemetry", "consent", "give", "--yes", "--to", ORIGIN, code=1, environ=environ
    )
    assert "DO_NOT_TRACK (environment DO_NOT_TRACK)" in what
    assert "unset DO_NOT_TRACK" in hint
    assert consents(config) == []


def test_status_says_what_was_allowed_and_what_holds(config: Path) -> None:
    assert ok("telemetry", "consent", "status").splitlines() == [
        "no consent was given: nothing may leave this computer",
        "upload    held back: upload_enabled = false (default)",
    ]
    configure(config, f"[telemetry]\nupload_enabled = true\n[upload]\nendpoint = '{OTHER}'\n")
    ok("telemetry", "consent", "give", "--yes", "--to", ORIGIN)
    found = ok_json("telemetry", "consent", "status")
    assert set(found) == set(consent_status.JSON_KEYS)
    assert [(one["origin"], one["holds"]) for one in found["consents"]] == [(ORIGIN, True)]
    assert (found["problem"], found["held_back"]) == (None, None)
    assert found["purposes"] == [
        {
            "name": "upload",
            "origins": [OTHER],
            "allowed": False,
            "reason": f"no consent to {OTHER}",
        }
    ]
    ok("telemetry", "consent", "give", "--yes")
    said = ok("telemetry", "consent", "status")
    assert f"upload    allowed: consent to {OTHER} of 20" in said
    path = config.with_name("consent.json")
    path.write_text(path.read_text().replace('"policy_version": 1', '"policy_version": 0'))
    said = ok("telemetry", "consent", "status")
    assert "was for version 0 of the policy" in said
    assert "upload    held back: the consent to" in said
    path.chmod(0o644)
    said = ok("telemetry", "consent", "status")
    assert "no consent counts: " in said
    assert "has mode 0644" in said


def test_withdrawn_it_is_gone(config: Path) -> None:
    assert ok("telemetry", "consent", "withdraw") == "there is no consent\n"
    for url in (ORIGIN, OTHER):
        ok("telemetry", "consent", "give", "--yes", "--to", url)
    assert ok("telemetry", "consent", "withdraw", "--to", "https://nobody.example") == (
        "there is no such consent\n"
    )
    said = ok("telemetry", "consent", "withdraw", "--to", "https://collector.example/any/path")
    assert said.startswith(f"withdrawn: the consent to {ORIGIN} of 20")
    assert consents(config) == [(OTHER, "--yes")]
    found = ok_json("telemetry", "consent", "withdraw", environ={"DO_NOT_TRACK": "1"})
    assert set(found) == set(consent_withdraw.JSON_KEYS)
    assert [one["origin"] for one in found["withdrawn"]] == [OTHER]
    assert consents(config) == []
    told = [entry["consent"] for entry in ok_json("telemetry", "audit")["entries"]]
    assert told == ["given", "given", "withdrawn", "withdrawn"]


KEYCHAIN = """
import json, os
import keyring.backend

PATH = os.environ["KEYCHAIN_OF_THIS_TEST"]

class Keyring(keyring.backend.KeyringBackend):
    priority = 1

    def _all(self):
        return json.load(open(PATH)) if os.path.exists(PATH) else {}

    def _keep(self, found):
        json.dump(found, open(PATH, "w"))

    def get_password(self, service, user):
        return self._all().get(service + " " + user)

    def set_password(self, service, user, password):
        self._keep({**self._all(), service + " " + user: password})

    def delete_password(self, service, user):
        found = self._all()
        del found[service + " " + user]
        self._keep(found)
"""


class Keychain:
    """A keychain of a test's own, for the program under test: a backend of ``keyring``."""

    def __init__(self, home: Path) -> None:
        (home / "keychain_of_this_test.py").write_text(KEYCHAIN)
        self.path = home / "kept.json"
        self.environ = {
            "PYTHONPATH": str(home),
            "PYTHON_KEYRING_BACKEND": "keychain_of_this_test.Keyring",
            "KEYCHAIN_OF_THIS_TEST": str(self.path),
        }

    def headers(self, origin: str) -> dict[str, Any]:
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        return dict(json.loads(kept.get(f"stack-composer-telemetry headers {origin}", "{}")))


@pytest.fixture
def keychain(tmp_path: Path) -> Keychain:
    pytest.importorskip("keyring")
    return Keychain(tmp_path)


def test_a_header_is_read_from_standard_input_and_kept(keychain: Keychain) -> None:
    said = ok(
        *("telemetry", "headers", "set", "Authorization", "--to", f"{ORIGIN}/v1"),
        stdin=f"Bearer {SECRET}\n",
        environ=keychain.environ,
    )
    assert said.splitlines() == [
        f"kept in the keychain: authorization of {ORIGIN}",
        'it is used once headers_from = "keychain" stands under [upload]',
    ]
    assert keychain.headers(ORIGIN) == {"authorization": f"Bearer {SECRET}"}
    found = ok_json(
        *("telemetry", "headers", "set", "x-tenant", "--to", ORIGIN),
        stdin="one\r\n",
        environ={**keychain.environ, "COLUMNS": "80"},
    )
    assert set(found) == set(headers_set.JSON_KEYS)
    assert found == {"origins": [ORIGIN], "header": "x-tenant", "used": False}
    assert keychain.headers(ORIGIN) == {"authorization": f"Bearer {SECRET}", "x-tenant": "one"}


@HAS_TERMINAL
def test_on_a_terminal_a_header_is_asked_for_and_not_shown(
    keychain: Keychain, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in keychain.environ.items():
        monkeypatch.setenv(name, value)
    code, said = on_a_terminal(
        *("headers", "set", "authorization", "--to", ORIGIN),
        answer=SECRET.encode() + b"\n",
        until=b"value of authorization: ",
    )
    assert code == 0, said
    assert SECRET.encode() not in said
    assert keychain.headers(ORIGIN) == {"authorization": SECRET}


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("authorization", "", "the value is empty"),
        ("authorization=x", SECRET, "a name that is none"),
        ("content-length", SECRET, "not yours to set"),
        ("authorization", SECRET + "\x01", "characters that no header has"),
        ("authorization", SECRET + "\u00e9", "characters that no header has"),
        ("authorization", SECRET * 2_000, "more than"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused_unquoted(
    keychain: Keychain, name: str, value: str, word: str
) -> None:
    what, hint = refusal(
        *("telemetry", "headers", "set", name, "--to", ORIGIN),
        stdin=value,
        environ=keychain.environ,
    )
    assert word in what
    assert SECRET not in what + hint
    assert keychain.headers(ORIGIN) == {}


def test_a_header_is_taken_out_again(keychain: Keychain, config: Path) -> None:
    configure(config, f"[upload]\nendpoint = '{ORIGIN}'\nheaders_from = 'keychain'\n")
    for name in ("authorization", "x-tenant"):
        said = ok("telemetry", "headers", "set", name, stdin=SECRET, environ=keychain.environ)
        assert said == f"kept in the keychain: {name} of {ORIGIN}\n"
    found = ok_json("telemetry", "headers", "remove", "X-Tenant", environ=keychain.environ)
    assert set(found) == set(headers_remove.JSON_KEYS)
    assert found == {"origins": [ORIGIN], "header": "x-tenant", "removed": True}
    assert keychain.headers(ORIGIN) == {"authorization": SECRET}
    said = ok("telemetry", "headers", "remove", "authorization", environ=keychain.environ)
    assert said == f"gone from the keychain: authorization of {ORIGIN}\n"
    assert keychain.path.read_text() == "{}"
    said = ok("telemetry", "headers", "remove", "authorization", environ=keychain.environ)
    assert said == "there is no header authorization in the keychain\n"


def test_without_a_keychain_it_says_so_in_two_lines() -> None:
    environ = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    what, hint = refusal(
        *("telemetry", "headers", "set", "authorization", "--to", ORIGIN),
        stdin=SECRET,
        environ=environ,
        code=1,
    )
    assert "keychain" in what
    assert SECRET not in what + hint
