"""May anything leave? Each switch says no by its name and its origin, without a look outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stack_composer.telemetry.config import Config, load_config
from stack_composer.telemetry.upload.consent import POLICY_VERSION, Consent, Consents, give
from stack_composer.telemetry.upload.permission import permission, permission_for

ORIGIN = "https://collector.example:443"
CONSENTED = Consents((Consent(ORIGIN, POLICY_VERSION, "2026-11-27T03:00:00Z", "prompt"),))


def config_of(home: Path, text: str = "", **environ: str) -> Config:
    path = home / "telemetry.toml"
    path.write_text(text)
    return load_config(
        environ={
            "HOME": str(home),
            "STACK_COMPOSER_TELEMETRY_CONFIG": str(path),
            **environ,
        }
    )


ALLOWING = "[telemetry]\nupload_enabled = true\n"


def test_with_the_switch_and_a_consent_it_may(tmp_path: Path) -> None:
    found = permission_for(config_of(tmp_path, ALLOWING), CONSENTED, ORIGIN)
    assert found.allowed
    assert found.reason == f"consent to {ORIGIN} of 2026-11-27"
    assert (found.hint, found.may_ask) == ("", False)


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "anything"])
def test_do_not_track_outweighs_everything(tmp_path: Path, value: str) -> None:
    config = config_of(tmp_path, ALLOWING, DO_NOT_TRACK=value)
    found = permission_for(config, CONSENTED, ORIGIN)
    assert not found.allowed
    assert found.reason == "DO_NOT_TRACK (environment DO_NOT_TRACK)"
    assert "DO_NOT_TRACK" in found.hint
    assert not found.may_ask


@pytest.mark.parametrize("value", ["0", "false", ""])
def test_do_not_track_of_no_is_none(tmp_path: Path, value: str) -> None:
    config = config_of(tmp_path, ALLOWING, DO_NOT_TRACK=value)
    assert permission_for(config, CONSENTED, ORIGIN).allowed


@pytest.mark.parametrize(
    ("environ", "text", "reason"),
    [
        (
            {"STACK_COMPOSER_GDPR": "1"},
            ALLOWING,
            "gdpr (environment STACK_COMPOSER_GDPR)",
        ),
        (
            {"OTEL_SDK_DISABLED": "true"},
            ALLOWING,
            "sdk_disabled (environment OTEL_SDK_DISABLED)",
        ),
        ({}, ALLOWING + "enabled = false\n", "enabled = false (file)"),
        ({}, "", "upload_enabled = false (default)"),
        ({}, "[telemetry]\nupload_enabled = false\n", "upload_enabled = false (file)"),
    ],
)
def test_each_switch_says_no_and_where_it_comes_from(
    tmp_path: Path, environ: dict[str, str], text: str, reason: str
) -> None:
    found = permission_for(config_of(tmp_path, text, **environ), CONSENTED, ORIGIN)
    assert (found.allowed, found.reason, found.may_ask) == (False, reason, False)
    assert found.hint


def test_the_order_of_reasons_is_one(tmp_path: Path) -> None:
    everything = {"DO_NOT_TRACK": "1", "STACK_COMPOSER_GDPR": "1"}
    nobody = Consents(())
    assert permission_for(config_of(tmp_path, "", **everything), nobody, ORIGIN).reason.startswith(
        "DO_NOT_TRACK"
    )
    del everything["DO_NOT_TRACK"]
    assert permission_for(config_of(tmp_path, "", **everything), nobody, ORIGIN).reason.startswith(
        "gdpr"
    )
    assert permission_for(config_of(tmp_path), nobody, ORIGIN).reason.startswith("upload_enabled")
    assert permission_for(config_of(tmp_path, ALLOWING), nobody, ORIGIN).reason == (
        f"no consent to {ORIGIN}"
    )


@pytest.mark.parametrize(
    "origin",
    [
        "https://collector.example:4318",
        "http://collector.example:443",
        "https://collector.example",
        "https://evil.example:443",
    ],
)
def test_a_consent_is_to_one_origin(tmp_path: Path, origin: str) -> None:
    found = permission_for(config_of(tmp_path, ALLOWING), CONSENTED, origin)
    assert (found.allowed, found.may_ask) == (False, True)
    assert f"consent give --to {origin}" in found.hint


def test_signals_that_go_to_several_places_need_a_consent_for_each(tmp_path: Path) -> None:
    config = config_of(tmp_path, ALLOWING)
    both = f"http://127.0.0.1:4318 {ORIGIN}"
    found = permission_for(config, CONSENTED, both)
    assert (found.allowed, found.may_ask) == (False, True)
    assert found.reason == "no consent to http://127.0.0.1:4318"
    give(config, both, by="prompt")
    assert permission(config, both).allowed
    assert permission(config, ORIGIN).allowed


def test_no_destination_is_no_permission(tmp_path: Path) -> None:
    found = permission_for(config_of(tmp_path, ALLOWING), CONSENTED, "")
    assert (found.allowed, found.reason) == (False, "there is no destination")


@pytest.mark.parametrize("version", [POLICY_VERSION - 1, POLICY_VERSION + 1])
def test_a_consent_is_to_one_version_of_the_policy(tmp_path: Path, version: int) -> None:
    old = Consents((Consent(ORIGIN, version, "2026-11-27T03:00:00Z", "prompt"),))
    found = permission_for(config_of(tmp_path, ALLOWING), old, ORIGIN)
    assert (found.allowed, found.may_ask) == (False, True)
    assert f"version {version} of the policy" in found.reason
    assert f"this is version {POLICY_VERSION}" in found.reason


def test_a_file_of_consents_that_counts_for_nothing_is_said(tmp_path: Path) -> None:
    config = config_of(tmp_path, ALLOWING)
    give(config, ORIGIN, by="prompt")
    assert permission(config, ORIGIN).allowed
    (tmp_path / "consent.json").chmod(0o644)
    found = permission(config, ORIGIN)
    assert (found.allowed, found.may_ask) == (False, True)
    assert "others could have read or written it" in found.reason


NO_EGRESS = """
import sys

def forbid(event, args):
    if event.startswith("socket."):
        print("opened", event)
        sys.exit(9)

sys.addaudithook(forbid)
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.upload.permission import permission
print(permission(load_config(), "https://collector.invalid:443").allowed)
print(*(name for name in ("socket", "ssl", "urllib3", "grpc", "asyncio") if name in sys.modules))
"""


@pytest.mark.e2e
def test_the_decision_needs_no_socket_and_no_name_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_EGRESS],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n\n"
