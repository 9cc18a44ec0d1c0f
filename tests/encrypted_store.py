"""The encrypted store for tests: keys made at run time, and a look at every byte on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from stack_composer.telemetry.store import reader
from stack_composer.telemetry.store.encrypted.database import Database
from stack_composer.telemetry.store.encrypted.writer import DatabaseWriter
from stack_composer.telemetry.store.keys import Keys
from stack_composer.telemetry.store.zstd import compress_frame
from store_lines import append, spans_line

PLANTED = "planted-" + "kestrel" * 3
"""Part of the names of spans: in lines, and in sidecars, which are not compressed."""

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def need_cipher() -> None:
    """Skip, aloud, where the extra is not installed."""
    apsw = pytest.importorskip("apsw", reason="apsw-sqlite3mc is not installed: extra 'encrypt'")
    if not hasattr(apsw, "mc_version"):
        pytest.skip("the apsw that is installed cannot encrypt")


def keys_in(folder: Path) -> Keys:
    """Keys in a file beside the telemetry folder."""
    return Keys(str(folder / "keys" / "key-file"))


def writer_of(directory: Path, keys: Keys, **how: Any) -> DatabaseWriter:
    """A writer into the encrypted store."""
    return DatabaseWriter(str(directory), keys=keys, **how)


def planted_line(number: int, spans: int = 2) -> bytes:
    """A line whose spans are named by what nobody may find on the disk."""
    return spans_line(number, spans).replace(b"step ", PLANTED.encode() + b" ")


def write(directory: Path, keys: Keys, lines: list[bytes], **how: Any) -> None:
    """Write lines and end in order, all bundles that are full sealed."""
    writer = writer_of(directory, keys, **how)
    for line in lines:
        append(writer, line)  # type: ignore[arg-type]
        while writer.tick():
            pass
    writer.close()


def lines_in(directory: Path, keys: Keys) -> list[bytes]:
    """Every whole line, with its newline."""
    return [
        line + b"\n"
        for bundle in reader.list_bundles(str(directory), keys).bundles
        for line in reader.read_lines(bundle)
    ]


def database_of(directory: Path, keys: Keys) -> Database:
    """The only database in the folder."""
    (database,) = {
        bundle.database.name: bundle.database
        for bundle in reader.list_bundles(str(directory), keys).bundles
        if bundle.database is not None
    }.values()
    return database


def key_of(database: Database) -> bytes:
    """The key, as an independent program would be given it."""
    (key,) = database.keys.find(database.stem, database.source)
    return key


def assert_no_plain_text(*folders: Path, lines: tuple[bytes, ...] = ()) -> None:
    """Nothing of what was recorded can be found in any file, compressed or not."""
    wanted = [PLANTED.encode(), b"resourceSpans", b"traceId", b'"sketch"', b"SQLite format 3"]
    # Behind the frame's header, which a chance of one in 2**32 could bring about.
    wanted += [compress_frame(line)[4:24] for line in lines]
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                for text in wanted:
                    assert text not in data, f"{path.name} holds {text!r}"


def test_key(name: str) -> bytes:
    """A key that is made here and stands nowhere."""
    return hashlib.sha256(f"key of the test {name}".encode()).digest()


test_key.__test__ = False  # type: ignore[attr-defined]
