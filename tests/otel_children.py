"""Run a piece of a program in a process of its own, since OpenTelemetry's globals are set once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent


def run(code: str, folder: Path, **environment: str) -> Any:
    """Run ``code`` with ``FOLDER`` as its store; give what it passed to ``answer()``."""
    program = f"import json\nfrom pathlib import Path\nFOLDER = Path({str(folder)!r})\n"
    program += "def answer(what):\n    print(json.dumps(what))\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        env={**os.environ, "STACK_COMPOSER_TELEMETRY_DIR": str(folder), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # Nothing on either stream but the answer: whoever embeds us owns them.
    assert not done.stderr, done.stderr[-4000:]
    lines = done.stdout.splitlines()
    return json.loads(lines[-1]) if lines else None
