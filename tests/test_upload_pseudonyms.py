"""What leaves has other hashes than what stays, in every form, once each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_running import gauge, metrics_line, run, span, spans_line, write
from stack_composer.telemetry.guard.hashing import UploadHasher, load_salt, rotate_salts
from stack_composer.telemetry.upload import pseudonyms
from stack_composer.telemetry.upload.pseudonyms import Pseudonyms
from store_lines import START_NS
from upload_server import Answer, Got, serving

SALT = bytes(range(32))
ONE, OTHER = "hmac:" + "1a" * 16, "hmac:" + "2b" * 16


def there(value: str, salt: bytes = SALT) -> str:
    return UploadHasher(salt).hash("", value)


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (f'"{ONE}"', f'"{there(ONE)}"'),
        (f'"in a text {ONE}, and {OTHER}"', f'"in a text {there(ONE)}, and {there(OTHER)}"'),
        (f'"{ONE}0"', f'"{ONE}0"'),
        (f'"x{ONE}"', f'"x{ONE}"'),
        ('"hmac:short"', '"hmac:short"'),
        ('"[redacted:jwt]"', '"[redacted:jwt]"'),
        (f'"sha256:{"ab" * 32}"', f'"sha256:{"ab" * 32}"'),
        ('"plain"', '"plain"'),
    ],
)
def test_each_hash_is_hashed_again_and_nothing_else(here: str, expected: str) -> None:
    outward = Pseudonyms(SALT)
    for _ in range(2):  # The second time from memory.
        assert outward.line(here.encode()) == expected.encode()


def test_what_a_rule_of_the_users_hashed_is_hashed_again() -> None:
    digits = "3c" * 16
    (found,) = json.loads(Pseudonyms(SALT).line(f'["[redacted:my-rule:{digits}]"]'.encode()))
    expected = UploadHasher(SALT).hash("my-rule", f"hmac:{digits}").removeprefix("upload:")
    assert found == f"[redacted:my-rule:{expected}]"


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "KNOWN_MAX", 3)
    outward = Pseudonyms(SALT)
    for number in range(10):
        value = f"hmac:{number:032x}"
        assert outward.line(value.encode()) == there(value).encode()
        assert len(outward._known) <= 3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    spans = [
        span("x", start_ns=START_NS, number=n + 1, attributes={"user.id": ONE, "n": n})
        for n in range(40)
    ]
    write(
        tmp_path / "telemetry",
        ("traces", spans_line(*spans)),
        ("metrics", metrics_line(gauge("g", 1.0, time_ns=START_NS, user=ONE))),
    )
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        ("http/protobuf",),
        ("http/json",),
        ("put",),
        ("jaeger",),
        ("http/protobuf", "--mode", "aggregate"),
        ("http/json", "--name", "[xg]"),
    ],
)
def test_no_hash_of_this_computer_leaves_in_any_form(options: tuple[str, ...], home: Path) -> None:
    protocol, *rest = options

    def judge(got: Got) -> Answer:
        # The first one is halved, so that a part of it is made anew.
        return Answer(413 if len(server.got) == 0 and len(got.body) > 500 else 200)

    with serving(judge) as server:
        address = f"{server.url}/{{name}}" if protocol == "put" else server.url
        path = home / "config" / "telemetry.toml"
        path.write_text(
            f'[telemetry]\nupload_enabled = true\ndirectory = "{home / "telemetry"}"\n'
            f'[upload]\nendpoint = "{address}"\nprotocol = "{protocol}"\n'
        )
        environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(path)}
        shown = run("telemetry", "upload", "--dry-run", "--show", *rest, environ=environ)
        done = run("telemetry", "upload", "--yes", *rest, environ=environ)
        assert done.returncode == 0, done.stderr
    sent = b"".join(got.body for got in server.taken)
    expected = there(ONE, load_salt(str(home / "config"), "upload"))
    assert expected.encode() in sent
    assert ONE.removeprefix("hmac:").encode() not in sent
    assert ONE not in shown.stdout


def test_after_a_rotation_it_is_another_hash_and_another_plan(home: Path) -> None:
    path = home / "config" / "telemetry.toml"
    path.write_text(
        f'[telemetry]\ndirectory = "{home / "telemetry"}"\n'
        '[upload]\nendpoint = "https://collector.example"\n'
    )
    environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(path)}
    plans = set()
    for _ in range(2):
        done = run("telemetry", "upload", "--dry-run", "--json", environ=environ)
        plans.add(json.loads(done.stdout)["plan"])
    assert len(plans) == 1
    assert rotate_salts(str(home / "config"))
    done = run("telemetry", "upload", "--dry-run", "--json", environ=environ)
    assert json.loads(done.stdout)["plan"] not in plans


def test_without_a_salt_nothing_leaves(home: Path) -> None:
    with serving() as server:
        path = home / "config" / "telemetry.toml"
        path.write_text(
            f'[telemetry]\nupload_enabled = true\ndirectory = "{home / "telemetry"}"\n'
            f'[upload]\nendpoint = "{server.url}"\n'
        )
        (path.parent / "salt-upload").write_bytes(b"short")
        environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(path)}
        done = run("telemetry", "upload", "--yes", environ=environ)
        assert done.returncode == 1
        assert "salt-upload" in done.stderr
        assert server.got == []
