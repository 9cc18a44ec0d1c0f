"""The receiver as a service: what is shown is what is installed, and the system takes it."""

from __future__ import annotations

import os
import plistlib
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cli_running import ok, ok_json, refusal, run
from stack_composer.telemetry.schedule import services
from stack_composer.telemetry.schedule.plans import Job
from stack_composer.telemetry.schedule.services import METHODS, plan_service
from systemctl import home_with_systemctl

ODD = ["/opt/a b/py", 'say "hi"', "100%", "$HOME", "back\\slash", "it's"]
VARIABLES = {"STACK_COMPOSER_TELEMETRY_DIR": "/data/50 % off/$x"}
UNIT = f"{services.NAME}.service"
SERVE = ("telemetry", "serve")
SYSTEMD = ("--method", "systemd")
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX shells and paths")


def plan(method: str, home: str = "/home/ada") -> Job:
    return plan_service(method, ODD, VARIABLES, home=home, user_id=501, user="HOME\\Ada")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("char", ["\n", "\r", "\0", "\udcff"])
def test_no_service_can_hold_a_line_break_or_broken_text(method: str, char: str) -> None:
    for command, variables in ((["/a" + char], {}), (["/a"], {"X": char})):
        with pytest.raises(ValueError, match="can stand in no timer or service"):
            plan_service(method, command, variables, home="/home/ada")


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="'cron'"):
        plan("cron")


def test_systemd_takes_the_unit_for_what_was_meant(tmp_path: Path) -> None:
    """Quoted as a timer's; and systemd complains of no line of it."""
    (file,) = plan("systemd").files
    assert file.path == f"/home/ada/.config/systemd/user/{UNIT}"
    assert '"100%%" "$$HOME" "back\\\\slash" "it\'s"' in file.text
    assert 'Environment="STACK_COMPOSER_TELEMETRY_DIR=/data/50 %% off/$x"' in file.text
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here: the unit was not checked by systemd")
    found = plan_service(
        "systemd", [sys.executable, *ODD[1:]], VARIABLES,
        home=str(tmp_path), secrets_path="/home/a b/50%/serve.env",
    )  # fmt: skip
    assert "EnvironmentFile=-/home/a b/50%%/serve.env\n" in found.files[0].text
    path = Path(found.files[0].path)
    path.parent.mkdir(parents=True)

    def said(text: str) -> str:
        path.write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "--user", "verify", str(path)],
            capture_output=True, text=True, check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )  # fmt: skip
        return done.stderr

    if services.NAME not in said(found.files[0].text.replace("Type=exec", "Typo=exec")):
        pytest.skip("systemd-analyze finds no mistake here: it was not asked")
    assert services.NAME not in said(found.files[0].text)


def test_a_unit_may_gain_nothing_and_writes_for_its_user_only() -> None:
    """And it asks for no file system of its own, which not every user's manager can give."""
    lines = plan("systemd").files[0].text.splitlines()
    for line in ("NoNewPrivileges=yes", "UMask=0077", "LimitCORE=0", "Restart=on-failure"):
        assert line in lines
    assert not [line for line in lines if line.startswith(("Protect", "Private", "ReadWrite"))]


def test_launchd_gets_the_very_words_and_files_enough() -> None:
    job = plan("launchd")
    (file,) = job.files
    said = plistlib.loads(file.text.encode())
    assert said["ProgramArguments"] == ODD
    assert said["EnvironmentVariables"] == VARIABLES
    assert said["RunAtLoad"]
    assert said["KeepAlive"] == {"SuccessfulExit": False}
    assert said["Umask"] == 0o077
    assert said["SoftResourceLimits"]["NumberOfFiles"] > 1_024
    # bootstrap fails where an older one is loaded.
    assert job.before == (("launchctl", "bootout", f"gui/501/{services.LABEL}"),)


def test_a_task_of_windows_begins_at_log_in_and_has_no_end() -> None:
    job = plan_service(
        "schtasks", ["C:\\py thon.exe", "50%"], {"A": "b%c"},
        home="C:\\Users\\Zoë & Co", user="PC\\Zoë & Co",
    )  # fmt: skip
    batch, task = job.files
    assert batch.text == '@chcp 65001 >nul\r\n@set "A=b%%c"\r\n@"C:\\py thon.exe" 50%%\r\n'
    assert task.text.isascii()
    root = ET.fromstring(task.text)  # noqa: S314 - our own text
    assert {node.text for node in root.iter(f"{TASK}UserId")} == {"PC\\Zoë & Co"}
    assert root.find(f".//{TASK}LogonTrigger") is not None
    assert root.findtext(f".//{TASK}ExecutionTimeLimit") == "PT0S"
    assert root.findtext(f".//{TASK}RunLevel") == "LeastPrivilege"
    arguments = root.findtext(f".//{TASK}Arguments")
    assert arguments == f'--headless cmd.exe /d /s /c ""{batch.path}""'
    assert job.install[0][-2:] == ("/XML", task.path)


# -- the commands -------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return home_with_systemctl(tmp_path)


@posix
def test_systemd_is_told_and_told_again(home: dict[str, str], tmp_path: Path) -> None:
    planned = ok_json(*SERVE, "install", "--dry-run", *SYSTEMD, environ=home)
    assert not (tmp_path / "told").exists()
    assert not (tmp_path / "config" / "systemd").exists()
    shown = ok(*SERVE, "install", "--yes", *SYSTEMD, environ=home)
    (file,) = planned["files"]
    path = Path(file["path"])
    assert path.read_text() == file["text"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(path) in shown
    assert "t 1" in file["text"]
    told = [f"--user {words}" for words in ("daemon-reload", f"enable {UNIT}", f"restart {UNIT}")]
    assert (tmp_path / "told").read_text().splitlines() == told
    assert [" ".join(command[1:]) for command in planned["commands"]] == told
    found = ok_json(*SERVE, "status", *SYSTEMD, environ=home)
    assert (found["installed"], found["current"]) == (True, True)
    moved = {**home, "STACK_COMPOSER_TELEMETRY_DIR": "/elsewhere"}
    assert ok_json(*SERVE, "status", *SYSTEMD, environ=moved)["current"] is False
    assert ok_json(*SERVE, "remove", *SYSTEMD, environ=home)["removed"] is True
    assert not path.exists()
    assert ok_json(*SERVE, "remove", *SYSTEMD, environ=home)["removed"] is False
    assert ok_json(*SERVE, "status", *SYSTEMD, environ=home)["installed"] is False


@posix
def test_no_secret_of_the_environment_is_written(home: dict[str, str], tmp_path: Path) -> None:
    """It is said that the token is left out, and systemd told where the user may put it."""
    secret = "s3cret" + "-of-mine"
    environ = {**home, services.CREDENTIAL_VARIABLE: secret, "OTEL_EXPORTER_OTLP_HEADERS": secret}
    done = run(*SERVE, "install", "--dry-run", *SYSTEMD, environ=environ)
    assert done.returncode == 0
    assert secret not in done.stdout + done.stderr
    assert services.CREDENTIAL_VARIABLE in done.stderr
    assert f"EnvironmentFile=-{tmp_path}/config/stack-composer/serve.env" in done.stdout


@posix
def test_a_system_that_refuses_is_quoted_in_two_lines(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    message, hint = refusal(*SERVE, "install", "--yes", "--json", *SYSTEMD, code=1, environ=home)
    assert "no bus" in message
    assert "serve remove" in hint
    ok(*SERVE, "remove", *SYSTEMD, environ=home)
    assert not list((tmp_path / "config" / "systemd" / "user").iterdir())


def test_nobody_is_asked_where_nobody_can_answer(home: dict[str, str]) -> None:
    done = run(*SERVE, "install", *SYSTEMD, environ=home)
    assert done.returncode == 2
    assert "this installs a service" in done.stderr
    assert "--dry-run" in done.stderr


def test_a_system_without_a_manager_of_services_is_told_what_to_keep_running(
    tmp_path: Path,
) -> None:
    """A crontab starts jobs and looks after none, so it is not taken for one."""
    if sys.platform != "linux" or os.path.isdir("/run/systemd/system"):
        pytest.skip("this system has a manager of services")
    (tmp_path / "crontab").write_text("#!/bin/sh\n")
    (tmp_path / "crontab").chmod(0o755)
    environ = {"PATH": str(tmp_path)}
    message, hint = refusal(*SERVE, "install", "--dry-run", code=1, environ=environ)
    assert "no manager of services" in message
    assert "telemetry serve'" in hint
    # Whether a receiver runs can be told all the same.
    found = ok_json(*SERVE, "status", environ=environ)
    assert (found["method"], found["installed"], found["http"]["port"]) == (None, False, 4318)


@posix
def test_status_says_whether_something_answers(home: dict[str, str], tmp_path: Path) -> None:
    """Asked of the socket, since a service that is installed may fail all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        configured = tmp_path / "telemetry.toml"
        configured.write_text(f"[serve]\nhttp_port = {port}\ngrpc_port = 0\n")
        environ = {**home, "STACK_COMPOSER_TELEMETRY_CONFIG": str(configured)}
        found = ok_json(*SERVE, "status", *SYSTEMD, environ=environ)
        assert found["http"] == {"port": port, "answers": True}
        assert found["grpc"] == {"port": 0, "answers": False}
        said = ok(*SERVE, "status", *SYSTEMD, environ=environ)
        assert f"127.0.0.1:{port}: answers" in said
    found = ok_json(*SERVE, "status", *SYSTEMD, environ=environ)
    assert found["http"] == {"port": port, "answers": False}


def test_serve_is_a_command_and_has_commands() -> None:
    """Help names both; an option belongs to the command, a word to those below it."""
    said = ok(*SERVE, "--help")
    assert said.startswith("usage: stack-composer telemetry serve [-h]")
    assert "--http-port" in said
    assert "install" in said.partition("commands:")[2]
    message, hint = refusal(*SERVE, "instal")
    assert "unknown command 'instal'" in message
    assert "serve install" in hint
    message, hint = refusal(*SERVE, "--htp-port", "1")
    assert "--htp-port" in message
    offered = ok("completion", "bash")
    (words,) = [row for row in offered.splitlines() if "'/telemetry/serve') words=" in row]
    assert "install" in words
    assert "--grpc-port" in words
