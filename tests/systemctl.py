"""A stand-in for systemctl that notes what it is told.

The real one needs a running systemd, which a build machine does not have.
"""

from __future__ import annotations

import os
from pathlib import Path


def home_with_systemctl(tmp_path: Path) -> dict[str, str]:
    """Give the environment of a user who has it first on the path; it notes in ``told``."""
    programs = tmp_path / "bin"
    programs.mkdir()
    control = programs / "systemctl"
    control.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n'
        f'case "$*" in *is-enabled*) test -e {tmp_path}/enabled;;\n'
        f" *enable*) : > {tmp_path}/enabled;; *disable*) rm {tmp_path}/enabled;; esac\n"
    )
    control.chmod(0o755)
    return {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "STACK_COMPOSER_TELEMETRY_DIR": str(tmp_path / "t 1"),
    }
