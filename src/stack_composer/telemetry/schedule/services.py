"""What a program that shall always run is made of; nothing here touches the world.

The receiver must be there before the programs that send to it, so the system starts it
when its user logs in, and again when it fails. It runs as that user, with no right that
the user lacks and without most of those that the user has: no new privileges, no core
dump, files for the user's eyes only. What would need a file system of its own (a private
``/tmp``, a read-only home) is left out, since managers of users cannot do it everywhere,
and a unit that asks for what cannot be had does not start at all.

It ends by itself with 0 when it is told to, and with 2 when its options are wrong, which
no new start would mend.
"""

from __future__ import annotations

import html
import ntpath
import plistlib
import posixpath
from typing import TYPE_CHECKING

from stack_composer.telemetry.schedule.plans import (
    File,
    Job,
    batch_file,
    refuse_breaks,
    unit_command,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

NAME: Final = "stack-composer-telemetry-serve"
LABEL: Final = "org.stack-composer.telemetry.serve"
METHODS: Final = ("systemd", "launchd", "schtasks")
CREDENTIAL_VARIABLE: Final = "STACK_COMPOSER_SERVE_TOKEN"
"""Holds what the receiver asks of its clients; never written into a file of ours."""
SECRETS_NAME: Final = "serve.env"
"""A file of the user's own beside the configuration, from which systemd takes it."""
UNDO: Final = "serve remove"
FILES_MAX: Final = 4096
"""Files and connections at once: launchd gives 256 otherwise, and systemd 1,024."""
RESTART_S: Final = 5
"""Seconds between an end with a failure and the next start."""
STOP_S: Final = 30
"""Seconds for what is held to be written, once the service is told to end."""
RESTARTS_MAX: Final = 999
"""How often a task of Windows is started anew; what its schema allows would be more."""


def plan_service(
    method: str,
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    home: str,
    config_home: str = "",
    user_id: int = 0,
    user: str = "",
    secrets_path: str = "",
) -> Job:
    """Say what it needs that ``command`` always runs.

    Args:
        method: One of ``METHODS``.
        command: Absolute path of a program, and its arguments.
        variables: What its environment must hold; no secret, since files are made of it.
        home: The user's home folder.
        config_home: Where systemd looks for units of the user; ``.config`` in ``home``
            if empty.
        user_id: The user's number, which launchd asks for.
        user: The user's name with the domain, which Windows asks for.
        secrets_path: A file of more variables, which may be missing; only systemd reads it.

    Raises:
        ValueError: A line break or NUL in ``command`` or ``variables``, which no file of
            a service can hold; or an unknown ``method``.
    """
    refuse_breaks((*command, *variables.values(), user, secrets_path))
    if method == "systemd":
        folder = config_home or posixpath.join(home, ".config")
        return _systemd(command, variables, folder, secrets_path)
    if method == "launchd":
        return _launchd(command, variables, home, user_id)
    if method == "schtasks":
        return _schtasks(command, variables, home, user)
    raise ValueError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")


def _systemd(
    command: Sequence[str], variables: Mapping[str, str], config_home: str, secrets_path: str
) -> Job:
    doubled = secrets_path.replace("%", "%%")
    secrets = f"EnvironmentFile=-{doubled}\n" if secrets_path else ""
    unit = f"{NAME}.service"
    text = (
        "[Unit]\nDescription=Receive telemetry (OTLP) on this computer\n"
        # A port that another program holds shall not fill the journal for ever.
        "StartLimitIntervalSec=300\nStartLimitBurst=20\n\n"
        "[Service]\nType=exec\n"
        f"{unit_command(command, variables)}{secrets}"
        f"Restart=on-failure\nRestartSec={RESTART_S}\nRestartPreventExitStatus=2\n"
        f"TimeoutStopSec={STOP_S}\n"
        f"UMask=0077\nLimitCORE=0\nLimitNOFILE={FILES_MAX}\n"
        "NoNewPrivileges=yes\nLockPersonality=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\n"
        "RestrictNamespaces=yes\nSystemCallArchitectures=native\n"
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\n"
        "[Install]\nWantedBy=default.target\n"
    )
    control = ("systemctl", "--user")
    return Job(
        "systemd",
        files=(File(posixpath.join(config_home, "systemd", "user", unit), text),),
        install=(
            (*control, "daemon-reload"),
            (*control, "enable", unit),
            # "start" would leave one that runs as it was installed before.
            (*control, "restart", unit),
        ),
        remove=((*control, "disable", "--now", unit),),
        look=(*control, "is-enabled", "--quiet", unit),
        undo=UNDO,
    )


def _launchd(command: Sequence[str], variables: Mapping[str, str], home: str, user_id: int) -> Job:
    path = posixpath.join(home, "Library", "LaunchAgents", f"{LABEL}.plist")
    job = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "EnvironmentVariables": dict(variables),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": STOP_S,
        "Umask": 0o077,
        "SoftResourceLimits": {"NumberOfFiles": FILES_MAX},
        "HardResourceLimits": {"Core": 0},
    }
    domain = f"gui/{user_id}"
    end = ("launchctl", "bootout", f"{domain}/{LABEL}")
    return Job(
        "launchd",
        files=(File(path, plistlib.dumps(job).decode()),),
        before=(end,),
        install=(("launchctl", "bootstrap", domain, path),),
        remove=(end,),
        look=("launchctl", "print", f"{domain}/{LABEL}"),
        undo=UNDO,
    )


def _schtasks(command: Sequence[str], variables: Mapping[str, str], home: str, user: str) -> Job:
    folder = ntpath.join(home, "AppData", "Local", "stack-composer")
    batch = ntpath.join(folder, f"{NAME}.cmd")
    task = ntpath.join(folder, f"{NAME}.xml")
    return Job(
        "schtasks",
        files=(File(batch, batch_file(command, variables)), File(task, _task(batch, user))),
        before=(("schtasks", "/End", "/TN", NAME),),
        install=(
            ("schtasks", "/Create", "/F", "/TN", NAME, "/XML", task),
            ("schtasks", "/Run", "/TN", NAME),
        ),
        remove=(("schtasks", "/End", "/TN", NAME), ("schtasks", "/Delete", "/F", "/TN", NAME)),
        look=("schtasks", "/Query", "/TN", NAME),
        undo=UNDO,
    )


def _task(batch: str, user: str) -> str:
    """A task that begins when ``user`` logs in, and may run for ever.

    By its options alone schtasks makes tasks that end after three days, or on battery,
    and lets only an administrator have one at log-in.
    """
    who = f"<UserId>{html.escape(user)}</UserId>" if user else ""
    arguments = html.escape(f'--headless cmd.exe /d /s /c ""{batch}""', quote=False)
    text = (
        '<?xml version="1.0"?>\n'
        '<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">\n'
        "<RegistrationInfo><Description>Receive telemetry (OTLP) on this computer"
        "</Description></RegistrationInfo>\n"
        f"<Triggers><LogonTrigger>{who}</LogonTrigger></Triggers>\n"
        f'<Principals><Principal id="Author">{who}<LogonType>InteractiveToken</LogonType>'
        "<RunLevel>LeastPrivilege</RunLevel></Principal></Principals>\n"
        "<Settings>"
        "<MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>"
        "<DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>"
        "<StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>"
        "<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>"
        f"<RestartOnFailure><Interval>PT1M</Interval><Count>{RESTARTS_MAX}</Count>"
        "</RestartOnFailure>"
        "</Settings>\n"
        # conhost, so that no window opens which somebody would close.
        '<Actions Context="Author"><Exec><Command>conhost.exe</Command>'
        f"<Arguments>{arguments}</Arguments></Exec></Actions>\n"
        "</Task>\n"
    )
    # Whichever code page it is read with, and schtasks says of none which it is.
    return text.encode("ascii", "xmlcharrefreplace").decode()
