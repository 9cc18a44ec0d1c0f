"""Check a configuration file: unknown keys, wrong types, values out of bounds."""

from __future__ import annotations

import argparse
import os

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.config_path import config_place
from stack_composer.telemetry.errors import ConfigError

JSON_KEYS = {
    "path": "the file that was checked",
    "ok": "whether it can be used",
    "keys": "the options that it sets",
    "problem": "the first problem, or null",
    "hint": "how to mend it, or null",
    "warnings": "what is ignored in the environment or has no effect yet",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file; by default the one in use."""
    parser.epilog = "exit code: 0 when it can be used, 1 when not"
    parser.add_argument("file", nargs="?", metavar="FILE", help="default: the file in use")


def run(args: argparse.Namespace) -> int:
    """Check, and name the first problem with its line."""
    path = config_place()[0] if args.file is None else places.absolute(args.file, "FILE")
    keys: list[str] = []
    warnings: list[str] = []
    problem = None
    try:
        keys, warnings = _check(path, named=args.file is not None)
    except ConfigError as error:
        if not args.json:
            raise
        problem = error
    if args.json:
        output.print_json(
            {
                "path": path,
                "ok": problem is None,
                "keys": keys,
                "problem": problem and str(problem),
                "hint": problem and problem.hint,
                "warnings": warnings,
            }
        )
    else:
        _print(path, keys, warnings)
    return 1 if problem else 0


def _check(path: str, *, named: bool) -> tuple[list[str], list[str]]:
    from stack_composer.telemetry.config import load_config
    from stack_composer.telemetry.config_file import read_file

    if not os.path.lexists(path):
        if named:
            raise ConfigError(f"{path} does not exist", hint="check the spelling")
        return [], list(load_config().warnings)
    keys = list(read_file(path))
    return keys, list(load_config({"config_path": path}).warnings)


def _print(path: str, keys: list[str], warnings: list[str]) -> None:
    if not os.path.lexists(path):
        output.say(f"{path} does not exist: the defaults hold")
    else:
        output.say(f"{path} is fine; it sets {', '.join(keys) or 'nothing'}")
    for warning in warnings:
        output.say(f"warning: {warning}")
