"""``config``, ``enable``, ``disable`` and ``status``: what holds, and why."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from cli_running import ok, ok_json, refusal, run, span, spans_line, write
from stack_composer.telemetry.cli import config_check, config_path, config_show, status, switch
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file that programs use; not there yet."""
    path = tmp_path / "config" / "telemetry.toml"
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(path))
    path.parent.mkdir()
    return path


def test_path(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ok_json("telemetry", "config", "path")
    assert set(found) == set(config_path.JSON_KEYS)
    assert found["path"] == str(config)
    assert found["exists"] is False
    assert "STACK_COMPOSER_TELEMETRY_CONFIG" in found["origin"]
    # A broken file can be found as well.
    config.write_text("][")
    assert ok("telemetry", "config", "path") == f"{config}\n"
    monkeypatch.delenv("STACK_COMPOSER_TELEMETRY_CONFIG")
    found = ok_json("telemetry", "config", "path")
    assert found["origin"] == "default"
    assert found["path"].endswith("telemetry.toml")


def test_show_is_toml_that_says_the_same_when_read_again(config: Path) -> None:
    config.write_text('[telemetry]\nlocal_retention_days = 7\nexporter = ["file", "stdout"]\n')
    said = ok("telemetry", "config", "show")
    read = tomllib.loads(said)
    assert read["telemetry"]["local_retention_days"] == 7
    assert read["telemetry"]["exporter"] == ["file", "stdout"]
    config.write_text(said)
    assert ok("telemetry", "config", "show") == said


def test_show_keeps_the_signature_of_an_address(config: Path) -> None:
    secret = "fake" + "0123456789abcdef"
    address = "https://store.example/bucket/{name}"
    config.write_text(f'[upload]\nendpoint = "{address}?signature={secret}"\n')
    for shown in (ok("telemetry", "config", "show"), ok("telemetry", "config", "show", "--json")):
        assert secret not in shown
        assert f"{address}?..." in shown


def test_show_tells_where_each_value_comes_from(config: Path, tmp_path: Path) -> None:
    config.write_text("[telemetry]\nlocal_retention_days = 7\n")
    environ = {"OTEL_SERVICE_NAME": "shop"}
    arguments = ("telemetry", "config", "show", "--dir", tmp_path / "elsewhere")
    found = ok_json(*arguments, environ=environ)
    assert set(found) == set(config_show.JSON_KEYS)
    options = found["options"]
    assert options["local_retention_days"] == {
        "value": 7,
        "origin": "file",
        "place": "telemetry.local_retention_days",
    }
    assert options["service_name"]["origin"] == "environment OTEL_SERVICE_NAME"
    assert options["directory"]["origin"] == "argument"
    assert options["enabled"]["origin"] == "default"
    said = ok(*arguments, "--origin", environ=environ)
    (line,) = [line for line in said.splitlines() if line.startswith("local_retention_days")]
    assert line.split() == ["local_retention_days", "=", "7", "#", "file"]


def test_check_a_good_file(config: Path) -> None:
    assert "does not exist: the defaults hold" in ok("telemetry", "config", "check")
    config.write_text("[telemetry]\nenabled = false\n")
    found = ok_json("telemetry", "config", "check")
    assert set(found) == set(config_check.JSON_KEYS)
    assert (found["ok"], found["keys"], found["problem"]) == (True, ["enabled"], None)
    assert "is fine; it sets enabled" in ok("telemetry", "config", "check", config)


def test_check_a_bad_file(config: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[telemetry]\nenabld = true\n")
    what, hint = refusal("telemetry", "config", "check", bad, code=1)
    assert str(bad) in what
    assert "enabld" in what
    assert "enabled" in hint
    done = run("telemetry", "config", "check", bad, "--json")
    assert done.returncode == 1
    assert '"ok": false' in done.stdout
    assert done.stderr == ""
    assert not config.exists()


def test_disable_and_enable_say_what_now_holds(config: Path) -> None:
    found = ok_json("telemetry", "disable")
    assert set(found) == set(switch.JSON_KEYS)
    assert (found["enabled"], found["recording"]) == (False, False)
    assert tomllib.loads(config.read_text()) == {"telemetry": {"enabled": False}}
    assert "recording is on" in ok("telemetry", "enable")
    assert tomllib.loads(config.read_text()) == {"telemetry": {"enabled": True}}


@pytest.mark.usefixtures("config")
def test_enable_does_not_claim_what_another_setting_forbids() -> None:
    said = ok("telemetry", "enable", environ={"OTEL_SDK_DISABLED": "true"})
    assert "recording is off: sdk_disabled" in said
    assert "recording is off: gdpr" in ok("--gdpr", "telemetry", "enable")


def test_a_broken_file_is_left_as_it_is(config: Path) -> None:
    config.write_text("[telemetry\n")
    what, _ = refusal("telemetry", "disable", code=1)
    assert "is not TOML" in what
    assert config.read_text() == "[telemetry\n"


def test_status_tells_what_is_there_and_who_writes(tmp_path: Path, config: Path) -> None:
    folder = tmp_path / "t"
    write(folder, ("traces", spans_line(span("a", start_ns=1))))
    writer = BundleWriter(str(folder))
    append(writer, spans_line(span("b", start_ns=1)))
    (folder / "notes.txt").write_text("mine")
    found = ok_json("telemetry", "status", "--dir", folder)
    assert set(found) == set(status.JSON_KEYS)
    assert found["recording"] is True
    assert found["reason"] == "recording to file"
    assert (found["bundles"], found["foreign"], found["writers"]) == (2, 1, [os.getpid()])
    assert found["directory"] == str(folder)
    assert os.name == "nt" or found["directory_mode"] == "0700"
    assert (found["config_path"], found["config_exists"]) == (str(config), False)
    assert found["retention_days"] == 30
    said = ok("telemetry", "status", "--dir", folder)
    assert f"process {os.getpid()}" in said
    assert "upload    off: upload_enabled = false (default)\n" in said
    assert "nothing ever left this computer" in said
    writer.close()
    assert ok_json("telemetry", "status", "--dir", folder)["writers"] == []


def test_status_before_anything_was_recorded(tmp_path: Path) -> None:
    found = ok_json("telemetry", "status", "--dir", tmp_path / "nowhere")
    assert (found["directory_mode"], found["bundles"], found["oldest"]) == (None, 0, None)
    assert "not there yet" in ok("telemetry", "status", "--dir", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, "OTEL_SDK_DISABLED"),
        ({"STACK_COMPOSER_GDPR": "1"}, "STACK_COMPOSER_GDPR"),
    ],
)
def test_status_tells_why_nothing_is_recorded(environ: dict[str, str], reason: str) -> None:
    found = ok_json("telemetry", "status", environ=environ)
    assert found["recording"] is False
    assert reason in found["reason"]


@pytest.mark.usefixtures("config")
def test_ignored_settings_are_shown() -> None:
    said = ok("telemetry", "status", environ={"OTEL_BSP_SCHEDULE_DELAY": "soon"})
    assert "warning   OTEL_BSP_SCHEDULE_DELAY is not a " in said
