"""Say how the store lies on the disk: its databases, where their keys are, what is plain.

Each database is opened, so this also says whether its key can be had, and if not, why.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.cli import output, places
from stack_composer.telemetry.cli.parser import add_folder
from stack_composer.telemetry.errors import TelemetryError
from stack_composer.telemetry.store import convert, keys, names, reader
from stack_composer.telemetry.store.encrypted import rows
from stack_composer.telemetry.store.encrypted.database import Database

if TYPE_CHECKING:
    import argparse

JSON_KEYS = {
    "directory": "the folder",
    "encryption": 'what the configuration says: "none" or "sqlcipher"',
    "databases": "for each: name, key (keychain, passphrase or keyfile), bundles, bytes, retired,"
    " and error and hint if it cannot be opened",
    "plain_bundles": "how many bundles are plain files",
    "plain_bytes": "their size",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder to look at."""
    parser.epilog = "exit code: 0; 1 when a database cannot be opened"
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    """Look at each database, and print."""
    config = places.load(args, bad_rules=True)
    unlock = keys.configured(config)
    databases = [
        _look(config.directory, name, unlock) for name in convert.databases(config.directory)
    ]
    listed = reader.list_bundles(config.directory, unlock, locked=[]).bundles
    plain = [bundle for bundle in listed if bundle.database is None]
    found = {
        "directory": config.directory,
        "encryption": config.encryption,
        "databases": databases,
        "plain_bundles": len(plain),
        "plain_bytes": sum(bundle.bytes + bundle.sketch_bytes for bundle in plain),
    }
    if args.json:
        output.print_json(found)
    else:
        _print(found)
    return 1 if any(database["error"] for database in databases) else 0


def _look(directory: str, name: str, unlock: keys.Keys) -> dict[str, Any]:
    parsed = names.parse_name(name)
    assert parsed is not None
    found: dict[str, Any] = {
        "name": name,
        "key": parsed.signal,
        "bundles": None,
        "bytes": _size(directory, name),
        "retired": None,
        "error": None,
        "hint": None,
    }
    database = Database(directory, parsed, unlock)
    try:
        with database.use() as connection:
            found["retired"] = database.is_retired(connection)
        found["bundles"] = len(rows.list_rows(database))
    except TelemetryError as error:
        found["error"], found["hint"] = str(error), error.hint
    database.close()
    return found


def _size(directory: str, name: str) -> int:
    size = 0
    for part in ("", *names.DATABASE_PARTS):
        try:
            size += os.lstat(os.path.join(directory, name + part)).st_size
        except FileNotFoundError:
            continue
    return size


def _print(found: dict[str, Any]) -> None:
    output.facts("folder", found["directory"])
    output.facts("setting", f'encryption = "{found["encryption"]}"')
    for database in found["databases"]:
        size = output.bytes_text(database["bytes"])
        if database["error"]:
            what = f"cannot be opened: {database['error']}"
        else:
            what = output.counted(database["bundles"], "bundle")
            what += ", to be emptied: run 'store rekey' again" if database["retired"] else ""
        output.facts("database", f"{database['name']}, {size}, key: {database['key']}")
        output.facts("", what)
        if database["hint"]:
            output.facts("", f"  hint: {database['hint']}")
    if not found["databases"]:
        output.facts("database", "none")
    plain = output.counted(found["plain_bundles"], "bundle")
    output.facts("plain", f"{plain}, {output.bytes_text(found['plain_bytes'])}")
    if found["plain_bundles"] and found["encryption"] != "none":
        output.facts("", "  hint: run 'stack-composer telemetry store encrypt'")
