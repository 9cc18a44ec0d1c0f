"""Show what the guard makes of texts: a JSON line in, a JSON line out.

Each line is an object with "text" and, where the text stands under an attribute's
name, "key". A line that is none is named by its number and never quoted, and the
others are answered all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from stack_composer.telemetry.guard.engine import Guard

LINE_BYTES_MAX = 16 * 1024 * 1024
"""A longer line is refused: it would be held in memory several times over."""

BAD_LINES_SHOWN_MAX = 20

JSON_KEYS = {
    "text": "the text as it would be recorded; null when it would be dropped",
    "findings": "what was found: rule, start and end (in characters of the text given), action",
}
"""Of each line; the output is JSON lines with and without --json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file and the profile."""
    parser.epilog = (
        'example: echo \'{"text": "ask a@example.com"}\' | stack-composer telemetry guard test\n'
        "exit code: 0, or 1 when a line could not be read"
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="JSON lines; standard input when absent or -"
    )
    parser.add_argument(
        "--profile", choices=("default", "strict"), help="default: the configured profile"
    )


def run(args: argparse.Namespace) -> int:
    """Answer every line; name the bad ones on standard error."""
    guard = configured_guard(args.profile)
    bad = 0
    with _open(args.file) as source:
        for number, line in _lines(source):
            problem = _answer(guard, line)
            if problem:
                bad += 1
                if bad <= BAD_LINES_SHOWN_MAX:
                    output.note(f"line {number}: {problem}")
    if bad:
        raise TelemetryError(
            f"{bad:,} line{'s' if bad > 1 else ''} could not be read; the others were answered",
            hint='write each line as {"text": "...", "key": "..."}; the key may be left out',
        )
    return 0


def configured_guard(profile: str | None) -> Guard:
    """Return the guard as the pipeline would have it, without leaving a trace."""
    from stack_composer.telemetry.config import load_config
    from stack_composer.telemetry.guard.engine import Guard
    from stack_composer.telemetry.guard.hashing import load_salt
    from stack_composer.telemetry.guard.policy import SALT_BYTES, Policy

    config = load_config({"profile": profile})
    folder = os.path.dirname(config.config_path)
    # A test must not make the salt: where there is none yet, any will do.
    made = os.path.lexists(os.path.join(folder, "salt"))
    return Guard(
        Policy(
            profile=config.profile,
            identifiers=config.identifiers,
            salt=load_salt(folder) if made else os.urandom(SALT_BYTES),
            record_content=config.record_content,
            rules=config.redaction_rules,
            allow=config.redaction_allow,
        )
    )


def _open(file: str | None) -> BinaryIO:
    if file is None or file == "-":
        if sys.stdin is None:
            raise TelemetryError("standard input is closed", hint="name a FILE")
        return sys.stdin.buffer
    return open(places.absolute(file, "FILE"), "rb")


def _lines(source: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line that is not blank with its number; None for one too long."""
    number = 0
    while line := source.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            while line and not line.endswith(b"\n"):
                line = source.readline(LINE_BYTES_MAX)
            yield number, None
        elif not line.isspace():
            yield number, line


def _answer(guard: Guard, line: bytes | None) -> str:
    """Print the answer to one line, or return what is wrong with it."""
    if line is None:
        return f"longer than {LINE_BYTES_MAX:,} bytes"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(found, dict):
        return "not a JSON object"
    text, key = found.get("text"), found.get("key")
    if not isinstance(text, str):
        return 'no "text" that is a string'
    if key is not None and not isinstance(key, str):
        return '"key" is not a string'
    output.print_json(_judged(guard, text, key or ""), indent=None)
    return ""


def _judged(guard: Guard, text: str, key: str) -> dict[str, Any]:
    guarded = guard.value(key, text)
    return {
        # DROPPED is no text, and neither is there one to show.
        "text": guarded if isinstance(guarded, str) else None,
        "findings": [
            {"rule": f.rule, "start": f.start, "end": f.end, "action": f.action}
            for f in guard.findings(text, key)
        ],
    }
