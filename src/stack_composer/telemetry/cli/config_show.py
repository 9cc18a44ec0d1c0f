"""Print the configuration in effect, as TOML that could stand in the file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import add_folder

JSON_KEYS = {
    "config_path": "the configuration file",
    "options": "for each option its value, its origin and its place in the file",
    "warnings": "what was ignored, and why",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to say where each value comes from."""
    add_folder(parser)
    parser.add_argument("--origin", action="store_true", help="say where each value comes from")


def run(args: argparse.Namespace) -> int:
    """Print every option; what the file cannot say stands as a comment."""
    from stack_composer.telemetry.config import show_rows

    config = places.load(args)
    rows = [
        (option.name, option.place, _plain(option.kind, getattr(config, option.name)), origin)
        for option, _, origin in show_rows(config)
    ]
    if args.json:
        output.print_json(
            {
                "config_path": config.config_path,
                "options": {
                    name: {"value": value, "origin": origin, "place": place or None}
                    for name, place, value, origin in rows
                },
                "warnings": list(config.warnings),
            }
        )
        return 0
    _print(rows, origins=args.origin)
    for warning in config.warnings:
        output.say(f"# warning: {warning}")
    return 0


def _plain(kind: str, value: Any) -> Any:
    """Return a value as it could stand in the file."""
    if kind == "rules":
        return [rule.fields for rule in value]
    if kind == "url":
        # A query may be a signature, which is a credential.
        return f"{value.partition('?')[0]}?..." if "?" in value else value
    if kind == "exceptions":
        return {key: list(entries) for key, entries in value}
    return list(value) if isinstance(value, (tuple, frozenset)) else value


def _print(rows: list[tuple[str, str, Any, str]], *, origins: bool) -> None:
    """TOML wants a table's keys together, so sections are gathered first."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for name, place, value, origin in rows:
        section, _, key = place.rpartition(".")
        sections.setdefault(section, []).append(
            (_line(key or name, value, in_file=bool(place)), origin)
        )
    outside = sections.pop("", [])
    width = max(len(line) for lines in (*sections.values(), outside) for line, _ in lines)
    for section, lines in sections.items():
        output.say(f"[{section}]")
        _print_lines(lines, min(width, 48), origins=origins)
        output.say()
    output.say("# not in the file:")
    _print_lines(outside, min(width, 48), origins=origins)


def _print_lines(lines: list[tuple[str, str]], width: int, *, origins: bool) -> None:
    for line, origin in lines:
        output.say(f"{line:{width}}  # {origin}" if origins else line)


def _line(key: str, value: Any, *, in_file: bool) -> str:
    if value is None:
        return f"# {key}: no limit"
    return f"{key} = {_toml(value)}" if in_file else f"# {key} = {_toml(value)}"


def _toml(value: Any) -> str:
    """Write a value on one line; a JSON text, number or bool is TOML as well."""
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=True)
