"""Have our own programs send: ``upload``, as a user would run it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from interop import peers


def configured(folder: Path, **options: Any) -> dict[str, str]:
    """Write a configuration that allows sending; the environment that points to it.

    Args:
        folder: For the file, and what stands beside it.
        options: Of the sections, as ``upload_endpoint="http://..."``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sections: dict[str, list[str]] = {"telemetry": ["upload_enabled = true"]}
    for name, value in options.items():
        section, _, key = name.partition("_")
        sections.setdefault(section, []).append(f"{key} = {json.dumps(value)}")
    path = folder / "telemetry.toml"
    path.write_text(
        "".join(f"[{name}]\n" + "\n".join(rows) + "\n" for name, rows in sections.items())
    )
    return {"STACK_COMPOSER_TELEMETRY_CONFIG": str(path)}


def upload(store: Path, environ: dict[str, str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run ``upload --yes``; what it says of itself."""
    command = [*peers.OURS, "upload", "--since", "1h", "--yes", "--json", "--dir", str(store)]
    done = subprocess.run(
        [*command, *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said
