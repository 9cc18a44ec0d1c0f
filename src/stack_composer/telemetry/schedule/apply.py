"""Install, remove and look at a job: write files, run the system's own commands.

Each step may be done again, so an installation that stopped half-way is mended by
another one, or by a removal.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stack_composer.telemetry.config import default_config_path
from stack_composer.telemetry.errors import TelemetryError
from stack_composer.telemetry.schedule.plans import VARIABLES, is_ours, plan_job, with_line
from stack_composer.telemetry.schedule.plans import without_line as without
from stack_composer.telemetry.schedule.services import SECRETS_NAME, plan_service

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stack_composer.telemetry.schedule.plans import Job

_NO_CRONTAB = ("no crontab for", "no such file")
"""What cron says where there is none yet, while it fails: Vixie's and its heirs, BusyBox."""

COMMAND_S = 30.0
"""How long a command of the system may take."""


class ScheduleError(TelemetryError):
    """The system did not take the job, or cannot be asked."""


def best_method() -> str:
    """Which kind of timer this system has.

    Raises:
        ScheduleError: None that we know.
    """
    if method := _manager():
        return method
    if shutil.which("crontab"):
        return "cron"
    raise ScheduleError(
        "there is no timer here that we know: neither systemd nor cron",
        hint="have whatever there is run 'stack-composer telemetry purge --yes' once a day",
    )


def best_service_method() -> str:
    """Which kind of manager of services this system has.

    Raises:
        ScheduleError: None that we know; a timer would do for a job, not for a service.
    """
    if method := _manager():
        return method
    raise ScheduleError(
        "there is no manager of services here that we know: no systemd runs",
        hint="have whatever there is keep 'stack-composer telemetry serve' running as you, with "
        "umask 077, and start it anew unless it ended with 0 or 2",
    )


def _manager() -> str:
    if sys.platform == "win32":
        return "schtasks"
    if sys.platform == "darwin":
        return "launchd"
    if os.path.isdir("/run/systemd/system") and shutil.which("systemctl"):
        return "systemd"
    return ""


def job_of(method: str, environ: Mapping[str, str]) -> Job:
    """Plan the job for this user and this installation.

    Raises:
        ScheduleError: A path that no timer can hold.
    """
    return _planned(plan_job, method, ("purge", "--yes"), environ)


def service_of(method: str, environ: Mapping[str, str]) -> Job:
    """Plan the receiver as a service, for this user and this installation.

    Raises:
        ScheduleError: A path that no service can hold.
    """
    configured = environ.get("STACK_COMPOSER_TELEMETRY_CONFIG") or default_config_path(environ)
    plan = functools.partial(
        plan_service,
        secrets_path=os.path.join(os.path.dirname(os.path.abspath(configured)), SECRETS_NAME),
        user="\\".join(filter(None, (environ.get("USERDOMAIN"), environ.get("USERNAME")))),
    )
    return _planned(plan, method, ("serve",), environ)


def _planned(
    plan: Callable[..., Job], method: str, words: Sequence[str], environ: Mapping[str, str]
) -> Job:
    try:
        return plan(
            method,
            [sys.executable, "-m", "stack_composer.telemetry.cli", "telemetry", *words],
            {name: environ[name] for name in VARIABLES if environ.get(name)},
            home=os.path.expanduser("~"),
            config_home=environ.get("XDG_CONFIG_HOME", ""),
            user_id=os.getuid() if hasattr(os, "getuid") else 0,
        )
    except ValueError as error:
        raise ScheduleError(str(error), hint="move it to a path without one") from error


def install(job: Job) -> None:
    """Write the files, then tell the system.

    Raises:
        ScheduleError: The system refused; what was written stays, and ``remove``
            takes it away.
    """
    program = job.install[0][0] if job.install else "crontab"
    if shutil.which(program) is None:
        # Before anything is written that nobody would ever run.
        raise ScheduleError(f"there is no {program} here", hint="see --method for other timers")
    for file in job.files:
        _write(Path(file.path), file.text)
    if job.line:
        _write_crontab(with_line(_crontab(), job.line))
    for command in job.before:
        with contextlib.suppress(ScheduleError):  # Nothing is installed yet.
            _run(command)
    for command in job.install:
        _run(command, undo=job.undo)


def remove(job: Job) -> bool:
    """Tell the system, then delete the files; False if there was nothing.

    Raises:
        ScheduleError: A file cannot be deleted, or the crontab not be written.
    """
    found = is_installed(job) or any(os.path.lexists(file.path) for file in job.files)
    for command in job.remove:
        with contextlib.suppress(ScheduleError):  # It knows no such job: then there is none.
            _run(command)
    for file in job.files:
        try:
            Path(file.path).unlink(missing_ok=True)
        except OSError as error:
            raise ScheduleError(f"cannot delete {file.path}: {error.strerror}") from error
    if job.line and found:
        _write_crontab(without(_crontab()))
    return found


def is_installed(job: Job) -> bool:
    """Whether the system runs the job."""
    if job.line:
        return any(map(is_ours, _crontab().splitlines()))
    try:
        _run(job.look)
    except ScheduleError:
        return False
    return True


def is_current(job: Job) -> bool:
    """Whether what is installed is what would be installed now."""
    if job.line:
        return job.line in _crontab().splitlines()
    return all(_text(file.path) == file.text for file in job.files)


def _text(path: str) -> str | None:
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return None


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode())
        temporary.replace(path)
    except OSError as error:
        raise ScheduleError(f"cannot write {path}: {error.strerror}") from error


def _crontab() -> str:
    done = _call(("crontab", "-l"))
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "surrogateescape")
    said = done.stderr.decode("utf-8", "replace").strip()
    if not any(words in said.lower() for words in _NO_CRONTAB):
        # What cannot be read now would be lost when we write ours.
        why = said.splitlines()[-1] if said else f"exit code {done.returncode}"
        raise ScheduleError(f"'crontab -l' failed: {why}", hint="see --method for other timers")
    return ""


def _write_crontab(text: str) -> None:
    _run(("crontab", "-"), text.encode("utf-8", "surrogateescape"))


def _run(command: Sequence[str], stdin: bytes = b"", *, undo: str = "schedule remove") -> None:
    done = _call(command, stdin)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = said[-1] if said else f"exit code {done.returncode}"
        raise ScheduleError(
            f"'{' '.join(command)}' failed: {why}",
            hint=f"'{undo}' takes away what was written; another --method may do instead",
        )


def _call(command: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, timeout=COMMAND_S, check=False
        )
    except FileNotFoundError as error:
        raise ScheduleError(f"there is no {command[0]} here", hint="see --method") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScheduleError(f"'{' '.join(command)}' did not run to its end") from error
