"""The daily purge: what is shown is what is installed, and the system understands it."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_running import ok, ok_json, refusal, run
from stack_composer.telemetry.schedule import plans
from stack_composer.telemetry.schedule.plans import METHODS, plan_job, with_line, without_line
from systemctl import home_with_systemctl

ODD = ["/opt/a b/py", 'say "hi"', "100%", "$HOME", "back\\slash", "it's"]
VARIABLES = {"STACK_COMPOSER_TELEMETRY_DIR": "/data/50 % off/$x"}

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX shells and paths")


def plan(method: str, home: str = "/home/ada") -> plans.Job:
    return plan_job(method, ODD, VARIABLES, home=home, user_id=501)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("char", ["\n", "\r", "\0"])
def test_no_timer_can_hold_a_line_break(method: str, char: str) -> None:
    for command, variables in ((["/a" + char], {}), (["/a"], {"X": char})):
        with pytest.raises(ValueError, match="line break"):
            plan_job(method, command, variables, home="/home/ada")


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="'at'"):
        plan("at")


def test_systemd_takes_the_unit_for_what_was_meant(tmp_path: Path) -> None:
    """Written as quoted words, with % and $ doubled where they would begin something."""
    service, timer = plan("systemd", str(tmp_path)).files
    assert '"100%%" "$$HOME" "back\\\\slash" "it\'s"' in service.text
    assert 'Environment="STACK_COMPOSER_TELEMETRY_DIR=/data/50 %% off/$x"' in service.text
    assert "Persistent=true" in timer.text
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here: the unit was not checked by systemd")
    found = plan_job("systemd", [sys.executable, *ODD[1:]], VARIABLES, home=str(tmp_path))
    paths = []
    for file in found.files:
        Path(file.path).parent.mkdir(parents=True, exist_ok=True)
        Path(file.path).write_text(file.text)
        paths.append(file.path)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *paths],
        capture_output=True, text=True, check=False,
        # Without one it looks at nothing.
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert plans.NAME not in done.stderr
    assert "Failed to initialize" not in done.stderr


def test_launchd_gets_the_very_words() -> None:
    (file,) = plan("launchd").files
    job = plistlib.loads(file.text.encode())
    assert job["ProgramArguments"] == ODD
    assert job["EnvironmentVariables"] == VARIABLES
    assert file.path == "/home/ada/Library/LaunchAgents/org.stack-composer.telemetry.purge.plist"


@posix
def test_cron_runs_the_very_words() -> None:
    """A percent sign ends the command, unless escaped; the rest goes to a shell."""
    line = plan("cron").line
    call = line.split(" ", 5)[5].rpartition(" >/dev/null")[0]
    assert "%" not in call.replace("\\%", "")
    show = "import os, sys; print(sys.argv[1:], os.environ['STACK_COMPOSER_TELEMETRY_DIR'])"
    call = call.replace("\\%", "%").replace(
        shlex.quote(ODD[0]), f"{shlex.quote(sys.executable)} -c {shlex.quote(show)}"
    )
    said = subprocess.run(["sh", "-c", call], capture_output=True, text=True, check=True).stdout
    assert said == f"{ODD[1:]} {VARIABLES['STACK_COMPOSER_TELEMETRY_DIR']}\n"


def test_a_crontab_keeps_all_that_is_not_ours() -> None:
    others = "# mine\n0 5 * * * backup\n# was: x # stack-composer-telemetry-purge\nMAILTO=ada"
    line = plan("cron").line
    once = with_line(others, line)
    assert once == f"{others}\n{line}\n"
    assert with_line(once, line) == once
    assert without_line(once) == others + "\n"
    assert with_line("", line) == line + "\n"


def test_a_task_of_windows_calls_a_file_that_sets_and_calls() -> None:
    job = plan_job("schtasks", ["C:\\py thon.exe", "50%"], {"A": "b%c"}, home="C:\\Users\\Ada")
    (file,) = job.files
    assert file.text == '@chcp 65001 >nul\r\n@set "A=b%%c"\r\n@"C:\\py thon.exe" 50%%\r\n'
    assert job.install[0][-1] == f'"{file.path}"'


# -- the commands -------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """What the units mean is checked by systemd-analyze, above."""
    return home_with_systemctl(tmp_path)


@posix
def test_systemd_is_told_and_told_again(home: dict[str, str], tmp_path: Path) -> None:
    schedule = ("telemetry", "schedule")
    how = ("--method", "systemd")
    planned = ok_json(*schedule, "install", "--dry-run", *how, environ=home)
    assert not (tmp_path / "told").exists()
    assert not (tmp_path / "config" / "systemd").exists()
    shown = ok(*schedule, "install", "--yes", *how, environ=home)
    for file in planned["files"]:
        path = Path(file["path"])
        assert path.read_text() == file["text"]
        assert path.stat().st_mode & 0o777 == 0o600
        assert str(path) in shown
    assert "t 1" in planned["files"][0]["text"]
    assert (tmp_path / "told").read_text().splitlines() == [
        "--user daemon-reload",
        f"--user enable --now {plans.NAME}.timer",
    ]
    found = ok_json(*schedule, "status", *how, environ=home)
    assert (found["installed"], found["current"]) == (True, True)
    moved = {**home, "STACK_COMPOSER_TELEMETRY_DIR": "/elsewhere"}
    assert ok_json(*schedule, "status", *how, environ=moved)["current"] is False
    assert ok_json(*schedule, "remove", *how, environ=home)["removed"] is True
    assert not any(Path(file["path"]).exists() for file in planned["files"])
    assert ok_json(*schedule, "remove", *how, environ=home)["removed"] is False
    assert ok_json(*schedule, "status", *how, environ=home)["installed"] is False


@posix
def test_a_system_that_refuses_is_quoted_in_two_lines(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "systemctl").write_text("#!/bin/sh\necho no bus >&2\nexit 1\n")
    how = ("--method", "systemd")
    message, hint = refusal(
        "telemetry", "schedule", "install", "--yes", "--json", *how, code=1, environ=home
    )
    assert "no bus" in message
    assert "schedule remove" in hint
    ok("telemetry", "schedule", "remove", *how, environ=home)
    assert not list((tmp_path / "config" / "systemd" / "user").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="it is there on Windows")
def test_what_this_system_cannot_run_is_not_written(home: dict[str, str], tmp_path: Path) -> None:
    message, _ = refusal(
        "telemetry", "schedule", "install", "--yes", "--json", "--method", "schtasks",
        code=1, environ=home,
    )  # fmt: skip
    assert "no schtasks" in message
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".cmd")]


def test_nobody_is_asked_where_nobody_can_answer(home: dict[str, str]) -> None:
    done = run("telemetry", "schedule", "install", "--method", "systemd", environ=home)
    assert done.returncode == 2
    assert "--dry-run" in done.stderr


def test_a_system_without_a_timer_says_so(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.path.isdir("/run/systemd/system"):
        pytest.skip("this system has a timer")
    message, hint = refusal(
        "telemetry", "schedule", "status", code=1, environ={"PATH": str(tmp_path)}
    )
    assert "no timer" in message
    assert "purge --yes" in hint


@posix
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("no crontab for ada", 0),
        ("crontab: can't open 'ada': No such file or directory", 0),
        ("crontab: cannot reach the spool", 1),
        ("", 1),
    ],
)
def test_a_crontab_that_cannot_be_read_is_not_written(tmp_path: Path, said: str, code: int) -> None:
    """Only where cron says that there is none, nothing of yours can get lost."""
    fake, written = tmp_path / "crontab", tmp_path / "written"
    fake.write_text(
        f"#!/bin/sh\n[ $1 = - ] && exec /bin/cat > {shlex.quote(str(written))}\n"
        f"[ -z {shlex.quote(said)} ] || echo {shlex.quote(said)} >&2\nexit 1\n"
    )
    fake.chmod(0o700)
    done = run(
        "telemetry", "schedule", "install", "--yes", "--method", "cron",
        environ={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert written.exists() == (code == 0)
    assert "Traceback" not in done.stderr


@pytest.fixture
def crontab() -> Iterator[None]:
    """The user's own crontab, put back as it was."""
    if not shutil.which("crontab"):
        pytest.skip("cron is not installed")
    if not os.environ.get("CI"):
        pytest.skip("it changes your own crontab for a moment: set CI=1 to have that")
    before = subprocess.run(["crontab", "-l"], capture_output=True, check=False)
    yield
    if before.returncode == 0:
        subprocess.run(["crontab", "-"], input=before.stdout, check=True)
    else:
        subprocess.run(["crontab", "-r"], capture_output=True, check=False)


@pytest.mark.usefixtures("crontab")
def test_a_real_crontab_gets_the_line_and_keeps_the_rest(tmp_path: Path) -> None:
    subprocess.run(["crontab", "-"], input=b"# mine\n0 5 * * * true\n", check=True)
    environ = {"STACK_COMPOSER_TELEMETRY_DIR": str(tmp_path / "100 % t")}
    how = ("--method", "cron")
    for _ in range(2):
        ok("telemetry", "schedule", "install", "--yes", *how, environ=environ)
    text = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=True).stdout
    assert text.startswith("# mine\n0 5 * * * true\n")
    assert text.count(plans.NAME) == 1
    found = ok_json("telemetry", "schedule", "status", *how, environ=environ)
    assert (found["installed"], found["current"]) == (True, True)
    assert ok_json("telemetry", "schedule", "remove", *how, environ=environ)["removed"]
    text = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=True).stdout
    assert text == "# mine\n0 5 * * * true\n"
