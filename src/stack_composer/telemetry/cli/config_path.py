"""Print where the configuration file is, whether it exists or not."""

from __future__ import annotations

import argparse
import os

from stack_composer.telemetry.cli import output

JSON_KEYS = {
    "path": "the configuration file",
    "exists": "whether there is one; without it the defaults hold",
    "origin": "default, or the environment variable that names it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""
    parser.epilog = 'example: $EDITOR "$(stack-composer telemetry config path)"'


def run(args: argparse.Namespace) -> int:
    """Print the path; the file itself is not read, so a broken one can be found."""
    path, origin = config_place()
    if args.json:
        output.print_json({"path": path, "exists": os.path.exists(path), "origin": origin})
    else:
        output.say(path)
    return 0


def config_place() -> tuple[str, str]:
    """Return the configuration file's path and what names it, without reading it."""
    from stack_composer.telemetry.config import default_config_path
    from stack_composer.telemetry.config_check import read_variable
    from stack_composer.telemetry.config_options import BY_NAME

    option = BY_NAME["config_path"]
    text = os.environ.get(option.variable, "")
    if text:
        path, warning = read_variable(option, text)
        if not warning:
            return path, f"environment {option.variable}"
    return default_config_path(), "default"
