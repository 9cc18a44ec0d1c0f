"""What ``doctor`` looks at in the encrypted store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.checks import REPAIR, Finding
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import convert, keys, names, reader
from stack_composer.telemetry.store.encrypted import database, erase
from stack_composer.telemetry.store.retention import closed_bundles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stack_composer.telemetry.config import Config

ENCRYPT = "stack-composer telemetry store encrypt"


def check(directory: str) -> Iterator[Finding]:
    """Say of each database what is wrong, and what lies in plain beside it."""
    config = load_config(bad_rules=True)
    unlock = keys.configured(config)
    found = convert.databases(directory)
    is_wanted = config.encryption != "none"
    hindrance = what_hinders(config, found)
    if hindrance is not None:
        yield Finding("encryption", f"nothing is written: {hindrance}", hindrance.hint)
    half_made = erase.half_made(directory)
    if half_made:
        count = output.counted(len(half_made), "file")
        what = f"{count} of a database that was being made or destroyed: {', '.join(half_made)}"
        yield Finding("encryption", what, REPAIR, is_repairable=True)
    for name in found:
        yield from _check_database(directory, name, unlock)
    plain = [
        bundle
        for bundle in reader.list_bundles(directory, unlock, locked=[]).bundles
        if bundle.database is None
    ]
    if is_wanted and plain:
        closed = len(closed_bundles(plain))
        what = f"{output.counted(closed, 'bundle')} not encrypted, although it is configured"
        if closed:
            yield Finding("encryption", what, ENCRYPT)


def what_hinders(config: Config, found: Sequence[str]) -> StoreError | None:
    """Say why no first database could be made, where one is to be; None if nothing does."""
    if config.encryption == "none" or found:
        return None
    try:
        database.library()
        keys.configured(config).check()
    except StoreError as error:
        return error
    return None


def _check_database(directory: str, name: str, unlock: keys.Keys) -> Iterator[Finding]:
    parsed = names.parse_name(name)
    assert parsed is not None
    looked_at = database.Database(directory, parsed, unlock)
    try:
        with looked_at.use() as connection:
            # Reads every page, and with it the checksum that the cipher keeps of each.
            answers = database.run(connection, "PRAGMA integrity_check(1)")
        if answers != [("ok",)]:
            what = f"{name}: pages were changed on the disk; what they held is lost"
            mend = "the rest is still read; 'stack-composer telemetry store rekey' moves it"
            yield Finding("encryption", what, mend)
    except StoreError as error:
        yield Finding("encryption", str(error), error.hint)
    finally:
        looked_at.close()
