"""What a daily job is made of, for each kind of timer; nothing here touches the world.

``services`` says the same of a program that shall always run. Neither has its user's
environment, so what names the telemetry folder and the configuration there is written
into it. The hour matters to nobody; that a computer that was off makes up for it does,
which cron and schtasks cannot promise.
"""

from __future__ import annotations

import ntpath
import plistlib
import posixpath
import shlex
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Final

NAME: Final = "stack-composer-telemetry-purge"
LABEL: Final = "org.stack-composer.telemetry.purge"
METHODS: Final = ("systemd", "launchd", "cron", "schtasks")
VARIABLES: Final = (
    "STACK_COMPOSER_TELEMETRY_DIR",
    "STACK_COMPOSER_TELEMETRY_CONFIG",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
)
"""What decides where the folder and the configuration are."""
HOUR, MINUTE = 12, 17
_MARK: Final = f"# {NAME}"


class File(NamedTuple):
    """A file of the job; written with mode 0600, in folders that are made if missing."""

    path: str
    text: str


class Job(NamedTuple):
    """Something that the system runs for the user: daily, or always.

    Attributes:
        method: One of ``METHODS``.
        files: What is written by install and deleted by remove.
        line: The line of the user's crontab, or "".
        before: Commands to run after writing and before ``install``; they may fail, since
            they end what an older installation runs.
        install: Commands to run then, in order.
        remove: Commands to run before deleting; they may fail if nothing is installed.
        look: A command that succeeds while the job is installed, or ().
        undo: Our command that takes it away, for hints.
    """

    method: str
    files: tuple[File, ...] = ()
    line: str = ""
    before: tuple[tuple[str, ...], ...] = ()
    install: tuple[tuple[str, ...], ...] = ()
    remove: tuple[tuple[str, ...], ...] = ()
    look: tuple[str, ...] = ()
    undo: str = "schedule remove"


def plan_job(
    method: str,
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    home: str,
    config_home: str = "",
    user_id: int = 0,
) -> Job:
    """Say what a daily run of ``command`` needs.

    Args:
        method: One of ``METHODS``.
        command: Absolute path of a program, and its arguments.
        variables: What its environment must hold.
        home: The user's home folder.
        config_home: Where systemd looks for units of the user; ``.config`` in ``home``
            if empty.
        user_id: The user's number, which launchd asks for.

    Raises:
        ValueError: A line break or NUL in ``command`` or ``variables``, which no timer's
            file can hold; or an unknown ``method``.
    """
    refuse_breaks((*command, *variables.values()))
    if method == "systemd":
        return _systemd(command, variables, config_home or posixpath.join(home, ".config"))
    if method == "launchd":
        return _launchd(command, variables, home, user_id)
    if method == "cron":
        return _cron(command, variables)
    if method == "schtasks":
        return _schtasks(command, variables, home)
    raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")


def refuse_breaks(texts: Iterable[str]) -> None:
    """Refuse what the file of no system can hold.

    Raises:
        ValueError: A line break or NUL in one of ``texts``, or what is not Unicode.
    """
    for text in texts:
        if any(char in text for char in "\n\r\0"):
            raise ValueError("a path with a line break in it can stand in no timer or service")
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError("a path that is not Unicode can stand in no timer or service")


def _systemd(command: Sequence[str], variables: Mapping[str, str], config_home: str) -> Job:
    folder = posixpath.join(config_home, "systemd", "user")
    service = (
        "[Unit]\nDescription=Delete old telemetry bundles\n\n[Service]\nType=oneshot\n"
        f"{unit_command(command, variables)}"
        "Nice=10\nUMask=0077\n"
    )
    timer = (
        "[Unit]\nDescription=Delete old telemetry bundles once a day\n\n[Timer]\n"
        "OnCalendar=daily\nRandomizedDelaySec=1h\nPersistent=true\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    control = ("systemctl", "--user")
    return Job(
        "systemd",
        files=(
            File(posixpath.join(folder, f"{NAME}.service"), service),
            File(posixpath.join(folder, f"{NAME}.timer"), timer),
        ),
        install=((*control, "daemon-reload"), (*control, "enable", "--now", f"{NAME}.timer")),
        remove=((*control, "disable", "--now", f"{NAME}.timer"),),
        look=(*control, "is-enabled", "--quiet", f"{NAME}.timer"),
    )


def unit_command(command: Sequence[str], variables: Mapping[str, str]) -> str:
    """The lines of a unit that say what is run, and in which environment."""
    environment = "".join(
        f"Environment={_unit_word(f'{name}={value}', '')}\n" for name, value in variables.items()
    )
    return f"{environment}ExecStart={' '.join(_unit_word(word, '$') for word in command)}\n"


def _unit_word(word: str, doubled: str) -> str:
    """Quote as systemd reads it; "%" begins a specifier, and in commands "$" a variable."""
    for char in ("%", *doubled):
        word = word.replace(char, char * 2)
    quoted = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _launchd(command: Sequence[str], variables: Mapping[str, str], home: str, user_id: int) -> Job:
    path = posixpath.join(home, "Library", "LaunchAgents", f"{LABEL}.plist")
    job = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "EnvironmentVariables": dict(variables),
        "StartCalendarInterval": {"Hour": HOUR, "Minute": MINUTE},
        "ProcessType": "Background",
        "Umask": 0o077,
    }
    target = f"gui/{user_id}"
    return Job(
        "launchd",
        files=(File(path, plistlib.dumps(job).decode()),),
        install=(("launchctl", "bootstrap", target, path),),
        remove=(("launchctl", "bootout", f"{target}/{LABEL}"),),
        look=("launchctl", "print", f"{target}/{LABEL}"),
    )


def _cron(command: Sequence[str], variables: Mapping[str, str]) -> Job:
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    # cron ends a command at "%", in quotes too.
    call = " ".join([*words, *map(shlex.quote, command)]).replace("%", r"\%")
    return Job("cron", line=f"{MINUTE} {HOUR} * * * {call} >/dev/null 2>&1 {_MARK}")


def with_line(crontab: str, line: str) -> str:
    """``crontab`` with the job's line in the place of an older one, or at its end."""
    rest = without_line(crontab)
    return f"{rest}\n{line}\n" if rest and not rest.endswith("\n") else f"{rest}{line}\n"


def without_line(crontab: str) -> str:
    """``crontab`` without the job's line; everything else stays to the letter."""
    return "".join(one for one in crontab.splitlines(keepends=True) if not is_ours(one))


def is_ours(line: str) -> bool:
    """Whether a line of a crontab is the job's."""
    return line.rstrip().endswith(_MARK) and not line.lstrip().startswith("#")


def _schtasks(command: Sequence[str], variables: Mapping[str, str], home: str) -> Job:
    path = ntpath.join(home, "AppData", "Local", "stack-composer", f"{NAME}.cmd")
    return Job(
        "schtasks",
        files=(File(path, batch_file(command, variables)),),
        install=(
            (
                "schtasks", "/Create", "/F", "/SC", "DAILY", "/ST", f"{HOUR:02}:{MINUTE:02}",
                "/TN", NAME, "/TR", f'"{path}"',
            ),
        ),
        remove=(("schtasks", "/Delete", "/F", "/TN", NAME),),
        look=("schtasks", "/Query", "/TN", NAME),
    )  # fmt: skip


def batch_file(command: Sequence[str], variables: Mapping[str, str]) -> str:
    """What a task of Windows calls: it has no environment, and 261 characters at most."""
    sets = "".join(f'@set "{name}={_batch(value)}"\r\n' for name, value in variables.items())
    return f"@chcp 65001 >nul\r\n{sets}@{_batch(subprocess.list2cmdline(command))}\r\n"


def _batch(text: str) -> str:
    return text.replace("%", "%%")
