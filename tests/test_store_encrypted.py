"""The encrypted store keeps every promise of the plain one, and shows nothing on the disk."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from encrypted_store import (
    PLANTED,
    ZSTD_MAGIC,
    assert_no_plain_text,
    database_of,
    key_of,
    keys_in,
    lines_in,
    need_cipher,
    planted_line,
    test_key,
    write,
    writer_of,
)
from stack_composer.telemetry.errors import FolderRefusedError, StoreError, StoreLockedError
from stack_composer.telemetry.query.follow import Follower
from stack_composer.telemetry.store import keys as key_module
from stack_composer.telemetry.store import names, reader, retention
from stack_composer.telemetry.store.encrypted import database as databases
from stack_composer.telemetry.store.encrypted import erase, rows
from stack_composer.telemetry.store.encrypted import writer as writers
from stack_composer.telemetry.store.encrypted.database import (
    Database,
    make_database,
    run,
    value,
)
from stack_composer.telemetry.store.encrypted.seal import RowSealing
from stack_composer.telemetry.store.folder import open_folder
from stack_composer.telemetry.store.keys import Keys
from stack_composer.telemetry.store.sketch import Sketch
from store_lines import append, names_in, sketch_of, spans_line

need_cipher()

GOLDEN = Path(__file__).parent / "golden" / "encrypted-1"
LINES = [planted_line(number) for number in range(120)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return keys_in(tmp_path)


def sum_of(lines: list[bytes]) -> Sketch:
    total = Sketch()
    for line in lines:
        total.merge(sketch_of(line))
    return total


# --- writing and reading ------------------------------------------------------------


def test_what_was_appended_is_read_line_for_line(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=10_000)
    assert lines_in(directory, keys) == LINES
    bundles = reader.list_bundles(str(directory), keys).bundles
    assert len(bundles) > 3
    assert [bundle.sealed for bundle in bundles] == [True] * (len(bundles) - 1) + [False]
    for bundle in bundles[:-1]:
        sidecar = reader.read_sidecar(bundle)
        assert sidecar is not None
        assert sidecar.bytes == bundle.bytes
        assert sidecar.sketch == sum_of([line + b"\n" for line in reader.read_lines(bundle)])


def test_the_folder_holds_nothing_foreign_and_nothing_that_others_can_read(
    directory: Path, keys: Keys
) -> None:
    old = os.umask(0)
    try:
        write(directory, keys, LINES[:3])
    finally:
        os.umask(old)
    assert reader.list_bundles(str(directory), keys).foreign == []
    assert {name.rpartition("sqlcipher")[2] for name in names_in(directory)} >= {"", "-wal", "-shm"}
    if os.name != "nt":
        for path in [directory, *directory.iterdir()]:
            assert path.stat().st_mode & 0o077 == 0, path.name


def test_small_frames_are_merged_when_a_bundle_is_sealed(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=sum(map(len, LINES[:100])))
    sealed = [b for b in reader.list_bundles(str(directory), keys).bundles if b.sealed]
    database = database_of(directory, keys)
    with database.use() as connection:
        chunks = value(connection, "SELECT count(*) FROM chunk WHERE bundle = ?", (sealed[0].row,))
    assert chunks == 1
    assert len(list(reader.read_lines(sealed[0]))) == 100


def test_reading_goes_on_through_the_merging_of_what_is_read(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES)
    (bundle,) = reader.list_bundles(str(directory), keys).bundles
    database = database_of(directory, keys)
    counts: Counter[str] = Counter()
    lines = reader.read_lines(bundle, counts)
    found = [next(lines) for _ in range(50)]
    sealing = RowSealing(database, bundle, None)
    while not sealing.step():
        pass
    found += lines
    assert [line + b"\n" for line in found] == LINES
    assert not +counts
    # And what follows by offsets, as ``tail -f`` does.
    offset = sum(map(len, LINES[:7]))
    again, end = reader.read_new_lines(bundle, offset)
    assert [line + b"\n" for line in again] == LINES[7:]
    assert end == sum(map(len, LINES))


def test_a_bundle_that_is_appended_to_while_it_is_sealed_stays_open(
    directory: Path, keys: Keys
) -> None:
    writer = writer_of(directory, keys)
    for line in LINES[:5]:
        append(writer, line)  # type: ignore[arg-type]
    (bundle,) = reader.list_bundles(str(directory), keys).bundles
    sealing = RowSealing(database_of(directory, keys), bundle, None)
    assert not sealing.step()
    append(writer, LINES[5])  # type: ignore[arg-type]
    while not sealing.step():
        pass
    (bundle,) = reader.list_bundles(str(directory), keys).bundles
    assert not bundle.sealed
    assert lines_in(directory, keys) == LINES[:6]


def test_a_later_process_seals_what_earlier_ones_left(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in LINES[:5]:
        write(directory, keys, [line])
    killed = writer_of(directory, keys)
    append(killed, LINES[5])  # type: ignore[arg-type]
    monkeypatch.setattr(writers, "ADOPT_AFTER_S", 0)
    later = writer_of(directory, keys)
    append(later, LINES[6])  # type: ignore[arg-type]
    while later.tick():
        pass
    bundles = reader.list_bundles(str(directory), keys).bundles
    # Neither its own nor that of a process that may be alive.
    assert [bundle.sealed for bundle in bundles] == [True] * 5 + [False] * 2
    sketches = [reader.read_sketch(bundle) for bundle in bundles[:5]]
    assert sketches == [sketch_of(line) for line in LINES[:5]]
    far = writer_of(directory, keys, clock=lambda: time.time_ns() + 3 * 3_600 * 10**9)
    append(far, LINES[7])  # type: ignore[arg-type]
    while far.tick():
        pass
    sealed = [b.sealed for b in reader.list_bundles(str(directory), keys).bundles]
    assert sealed.count(False) == 1
    assert sorted(lines_in(directory, keys)) == sorted(LINES[:8])


def test_a_writer_whose_bundle_was_sealed_by_somebody_else_begins_another(
    directory: Path, keys: Keys
) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    database = database_of(directory, keys)
    with database.change() as connection:
        run(connection, "UPDATE bundle SET sealed = 1")
    append(writer, LINES[1])  # type: ignore[arg-type]
    writer.close()
    assert lines_in(directory, keys) == LINES[:2]
    assert len(reader.list_bundles(str(directory), keys).bundles) == 2


def test_a_removed_folder_is_made_anew(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    shutil.rmtree(directory)
    append(writer, LINES[1])  # type: ignore[arg-type]
    assert lines_in(directory, keys) == [LINES[1]]
    for path in directory.glob("*.sqlcipher*"):
        path.unlink()
    append(writer, LINES[2])  # type: ignore[arg-type]
    writer.close()
    assert lines_in(directory, keys) == [LINES[2]]


def test_a_folder_removed_while_nothing_is_open_is_made_anew(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    databases.close_before_fork()
    databases.after_fork_in_parent()
    shutil.rmtree(directory)
    append(writer, LINES[1])  # type: ignore[arg-type]
    writer.close()
    assert lines_in(directory, keys) == [LINES[1]]


def test_a_writer_of_a_removed_database_does_no_harm_to_the_next(
    directory: Path, keys: Keys
) -> None:
    """SQLite deletes a WAL by its path when it closes; ours is another's by then."""
    old = writer_of(directory, keys)
    append(old, LINES[0])  # type: ignore[arg-type]
    for path in directory.glob("*.sqlcipher*"):
        path.unlink()
    write(directory, keys, LINES[1:3])
    old.close()
    assert lines_in(directory, keys) == LINES[1:3]


def test_a_link_in_the_place_of_the_folder_is_refused(
    tmp_path: Path, directory: Path, keys: Keys
) -> None:
    (tmp_path / "elsewhere").mkdir()
    try:
        directory.symlink_to(tmp_path / "elsewhere")
    except OSError:
        pytest.skip("links cannot be made here")
    with pytest.raises(FolderRefusedError):
        append(writer_of(directory, keys), LINES[0])  # type: ignore[arg-type]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_home_reached_through_a_link_is_fine(tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "home").symlink_to(tmp_path / "real")
    except OSError:
        pytest.skip("links cannot be made here")
    write(tmp_path / "home" / "telemetry", keys, LINES[:2])
    assert lines_in(tmp_path / "real" / "telemetry", keys) == LINES[:2]


@pytest.mark.parametrize("durability", ["buffered", "batch", "sync"])
def test_flush_says_where_the_last_line_is(directory: Path, keys: Keys, durability: str) -> None:
    writer = writer_of(directory, keys, durability=durability)
    assert writer.flush() == str(directory)
    append(writer, LINES[0])  # type: ignore[arg-type]
    writer.settle()
    assert writer.flush() == database_of(directory, keys).path
    writer.close()


def test_following_sees_each_line_once_through_sealing(directory: Path, keys: Keys) -> None:
    key_module._shared[""] = keys  # What a command without a configuration would find.
    try:
        follower = Follower(str(directory))
        assert list(follower.last_lines(10)) == []
        writer = writer_of(directory, keys, bundle_bytes_max=4_000)
        seen = []
        for line in LINES[:40]:
            append(writer, line)  # type: ignore[arg-type]
            while writer.tick():
                pass
            seen += [got + b"\n" for _, got in follower.new_lines()]
        writer.close()
        seen += [got + b"\n" for _, got in follower.new_lines()]
    finally:
        key_module._shared.pop("")
    assert seen == LINES[:40]


def test_a_full_disk_takes_nothing_and_nothing_is_torn(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    assert writer._database is not None
    with writer._database.use() as connection:
        pages = value(connection, "PRAGMA page_count")
        run(connection, f"PRAGMA max_page_count={pages + 8}")
    with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)) as error:
        writer.append("traces", os.urandom(100_000).hex().encode() + b"\n", Sketch())
    assert "purge" in error.value.hint
    append(writer, LINES[1])  # type: ignore[arg-type]
    assert lines_in(directory, keys) == LINES[:2]


# --- nothing in plain text ------------------------------------------------------------


def test_nothing_can_be_found_on_the_disk_at_any_time(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys, bundle_bytes_max=8_000)
    for line in LINES:
        append(writer, line)  # type: ignore[arg-type]
        writer.tick()
        assert_no_plain_text(directory, lines=(line,))
    writer.close()
    assert_no_plain_text(directory, lines=tuple(LINES))
    bundles = reader.list_bundles(str(directory), keys).bundles
    plan = retention.plan_purge(bundles, now_ns=time.time_ns(), keep_days=1, kept_bytes_max=3_000)
    assert plan.delete
    retention.apply_purge(plan)
    assert_no_plain_text(directory, lines=tuple(LINES))


def test_the_search_would_find_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"xx" + PLANTED.encode())
    with pytest.raises(AssertionError, match="planted"):
        assert_no_plain_text(tmp_path)


def test_what_sqlite_keeps_beside_the_database_stays_in_memory(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES[:3])
    with database_of(directory, keys).use() as connection:
        assert value(connection, "PRAGMA temp_store") == 2
        assert value(connection, "PRAGMA secure_delete") == 1
        assert value(connection, "PRAGMA journal_mode") == "wal"
        assert value(connection, "PRAGMA auto_vacuum") == 2


def test_a_library_that_cannot_encrypt_writes_nothing(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain apsw would take the cipher's pragmas for unknown ones and say nothing."""
    import apsw

    monkeypatch.delattr(apsw, "mc_version")
    with pytest.raises(StoreError, match="cannot encrypt"):
        append(writer_of(directory, keys), LINES[0])  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "apsw", None)
    with pytest.raises(StoreError, match="needs apsw-sqlite3mc") as error:
        append(writer_of(directory, keys), LINES[0])  # type: ignore[arg-type]
    assert "[encrypt]" in error.value.hint
    assert list(directory.glob("*.sqlcipher*")) == []


# --- deleting ---------------------------------------------------------------------------


def test_a_purge_leaves_no_page_of_what_it_deletes(directory: Path, keys: Keys) -> None:
    """Looked for with the key in hand: every page of the file is decrypted and searched."""
    many = [spans_line(number, 2, padding=f"{number:06}" * 200) for number in range(60)]
    write(directory, keys, many, bundle_bytes_max=20_000)
    bundles = reader.list_bundles(str(directory), keys).bundles
    database = database_of(directory, keys)
    before = Path(database.path).stat().st_size + Path(database.path + "-wal").stat().st_size
    plan = retention.plan_purge(bundles, now_ns=time.time_ns(), keep_days=0, kept_bytes_max=0)
    result = retention.apply_purge(plan)
    assert result.deleted == len(bundles)
    assert lines_in(directory, keys) == []
    assert Path(database.path + "-wal").stat().st_size == 0
    assert Path(database.path).stat().st_size < before / 2
    with database.use() as connection:
        assert value(connection, "PRAGMA freelist_count") == 0
    plain = decrypted(database)
    assert b"CREATE TABLE bundle" in plain
    for bundle in bundles:
        assert bundle.stem.encode() not in plain
    assert b'"sketch"' not in plain
    assert ZSTD_MAGIC not in plain


def test_the_search_of_decrypted_pages_would_find_it(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=10_000)
    bundles = reader.list_bundles(str(directory), keys).bundles
    database = database_of(directory, keys)
    with database.use() as connection:
        run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
        run(connection, "PRAGMA secure_delete=OFF")
        for table in ("bundle", "chunk", "sidecar", "beside"):
            run(connection, f"DELETE FROM {table}")  # noqa: S608 - of the line above
        run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
    plain = decrypted(database)
    assert bundles[0].stem.encode() in plain
    assert b'"sketch"' in plain
    assert ZSTD_MAGIC in plain


def decrypted(database: Database) -> bytes:
    """Every page of the file in plain, free ones too, by SQLCipher's own design of a page."""
    ciphers = pytest.importorskip(
        "cryptography.hazmat.primitives.ciphers", reason="cryptography is not installed"
    )
    data = Path(database.path).read_bytes()
    key = ciphers.algorithms.AES(key_of(database))
    plain = b""
    for place in range(0, len(data), 4096):
        page = data[place : place + 4096]
        # The last 80 bytes are the initial vector and the checksum; the file begins with a salt.
        text, vector = page[0 if place else 16 : -80], page[-80:-64]
        plain += ciphers.Cipher(key, ciphers.modes.CBC(vector)).decryptor().update(text)
    return plain


def test_a_bundle_that_is_deleted_while_it_is_written_ends_nothing(
    directory: Path, keys: Keys
) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    (bundle,) = reader.list_bundles(str(directory), keys).bundles
    assert erase.delete_bundle(bundle)
    assert not erase.delete_bundle(bundle)
    append(writer, LINES[1])  # type: ignore[arg-type]
    assert lines_in(directory, keys) == [LINES[1]]
    counts: Counter[str] = Counter()
    assert list(reader.read_lines(bundle, counts)) == []
    assert counts["gone"] == 1


def test_destroying_an_empty_database_destroys_its_key_and_writers_go_on(
    directory: Path, keys: Keys
) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    database = database_of(directory, keys)
    key = key_of(database)
    assert not erase.destroy_if_empty(database)
    erase.delete_bundle(reader.list_bundles(str(directory), keys).bundles[0])
    assert erase.destroy_if_empty(database)
    assert not list(directory.glob(f"{database.stem}*"))
    assert key.hex() not in Path(keys.key_file).read_text()
    append(writer, LINES[1])  # type: ignore[arg-type]
    writer.close()
    assert lines_in(directory, keys) == [LINES[1]]
    assert database_of(directory, keys).stem != database.stem


# --- keys and damage --------------------------------------------------------------------


def test_a_wrong_key_reads_and_writes_nothing_and_says_so(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES[:3])
    path = Path(keys.key_file)
    right = path.read_text()
    digits = right.split()[-1]
    path.write_text(right.replace(digits, "ab" * 32))
    wrong = Keys(keys.key_file)
    with pytest.raises(StoreLockedError, match="not its own") as error:
        reader.list_bundles(str(directory), wrong)
    assert error.value.hint
    writer = writer_of(directory, wrong)
    with pytest.raises(StoreLockedError):
        append(writer, LINES[3])  # type: ignore[arg-type]
    assert len(list(directory.glob("*.sqlcipher"))) == 1, "no second database for a lost key"
    locked: list[StoreError] = []
    assert reader.list_bundles(str(directory), wrong, locked=locked).bundles == []
    assert len(locked) == 1
    path.write_text(right)
    writer._retry_ns = 0
    append(writer, LINES[3])  # type: ignore[arg-type]
    assert lines_in(directory, keys) == LINES[:4]


def test_a_retired_database_without_its_key_does_not_stop_the_new_one(
    directory: Path, keys: Keys
) -> None:
    """As after a rekey that was stopped, for a program that knows the new key alone."""
    write(directory, keys, LINES[:2])
    folder = open_folder(str(directory), create=True)
    old, new = database_of(directory, keys), make_database(folder, keys)
    folder.close()
    erase.retire(old)
    assert keys.destroy(old.stem, "keyfile")
    write(directory, Keys(keys.key_file), LINES[2:4])
    with Database(str(directory), new, keys).use() as connection:
        assert value(connection, "SELECT sum(lines) FROM bundle") == 2


def test_a_keychain_is_not_asked_with_every_line(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, keys, LINES[:1])
    asked = []

    def refuse(_keys: Keys, stem: str, source: str) -> list[bytes]:
        asked.append((stem, source))
        raise StoreLockedError("locked", hint="unlock it")

    monkeypatch.setattr(Keys, "find", refuse)
    writer = writer_of(directory, Keys())
    for line in LINES[:20]:
        with pytest.raises(StoreLockedError, match="locked"):
            append(writer, line)  # type: ignore[arg-type]
    assert len(asked) == 1


def test_a_flipped_byte_costs_its_frame_and_no_more(directory: Path, keys: Keys) -> None:
    many = [spans_line(number, 2, padding=os.urandom(30_000).hex()) for number in range(12)]
    write(directory, keys, many)
    database = database_of(directory, keys)
    erase.compact(database)
    database.close()
    path = Path(database.path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    counts: Counter[str] = Counter()
    (bundle,) = reader.list_bundles(str(directory), keys).bundles
    found = [line + b"\n" for line in reader.read_lines(bundle, counts)]
    assert counts["damaged_frame"] >= 1
    assert len(found) == 11
    assert set(found) < set(many)


def test_any_flipped_byte_is_seen(directory: Path, keys: Keys) -> None:
    """Whatever page it is in: nothing is invented, and nothing but our errors is raised."""
    many = [spans_line(number, 2, padding=os.urandom(2_000).hex()) for number in range(12)]
    write(directory, keys, many, bundle_bytes_max=20_000)
    database = database_of(directory, keys)
    erase.compact(database)
    database.close()
    path = Path(database.path)
    whole = path.read_bytes()
    for page in range(len(whole) // 4096):
        data = bytearray(whole)
        data[page * 4096 + 1234] ^= 0x40
        path.write_bytes(data)
        counts: Counter[str] = Counter()
        found: list[bytes] = []
        errors = 0
        try:
            for bundle in reader.list_bundles(str(directory), keys).bundles:
                found += [line + b"\n" for line in reader.read_lines(bundle, counts)]
        except StoreError:
            errors = 1
        assert set(found) <= set(many)
        is_whole = len(found) == len(many)
        with pytest.raises(StoreError) if page == 0 else Either():
            assert_integrity(directory, keys)
        assert is_whole or errors or counts.total(), f"page {page}"
        for part in ("-wal", "-shm"):
            Path(str(path) + part).unlink(missing_ok=True)


class Either:
    """Raises or not: the index of a bundle's name is not needed to read it."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is None or issubclass(kind, (StoreError, AssertionError))


def assert_integrity(directory: Path, keys: Keys) -> None:
    (name,) = [name for name in names_in(directory) if name.endswith(".sqlcipher")]
    parsed = names.parse_name(name)
    assert parsed is not None
    with Database(str(directory), parsed, keys).use() as connection:
        assert run(connection, "PRAGMA integrity_check(1)") == [("ok",)]


def test_a_database_of_another_version_is_left_alone(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES[:1])
    with database_of(directory, keys).change() as connection:
        run(connection, "UPDATE meta SET value = 99 WHERE name = 'format'")
    with pytest.raises(StoreError, match="another version"):
        reader.list_bundles(str(directory), keys)


# --- other programs ---------------------------------------------------------------------


def test_sqlcipher_itself_opens_it(directory: Path, keys: Keys) -> None:
    """Zetetic's SQLCipher 4, an implementation of its own, with the key alone."""
    sqlcipher = pytest.importorskip("sqlcipher3", reason="sqlcipher3 is not installed")
    write(directory, keys, LINES, bundle_bytes_max=10_000)
    database = database_of(directory, keys)
    connection = sqlcipher.connect(database.path)
    try:
        connection.execute(f"PRAGMA key = \"x'{key_of(database).hex()}'\"")
        version = connection.execute("PRAGMA cipher_version").fetchone()[0]
        assert version.startswith("4.")
        assert connection.execute("PRAGMA cipher_integrity_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        total = connection.execute("SELECT sum(lines) FROM bundle").fetchone()[0]
        assert total == len(LINES)
        from stack_composer.telemetry.store.zstd import ZstdDecompressor

        plain = b"".join(
            ZstdDecompressor().decompress(data)
            for (data,) in connection.execute(
                "SELECT data FROM chunk JOIN bundle ON bundle.id = chunk.bundle"
                " ORDER BY created_ns, stem, start"
            )
        )
        assert plain == b"".join(LINES)
    finally:
        connection.close()
    wrong = sqlcipher.connect(database.path)
    wrong.execute(f"PRAGMA key = \"x'{'00' * 32}'\"")
    with pytest.raises(sqlcipher.DatabaseError):
        wrong.execute("SELECT * FROM bundle").fetchall()
    wrong.close()


def test_every_golden_database_is_read(tmp_path: Path) -> None:
    place = tmp_path / "telemetry"
    shutil.copytree(GOLDEN, place)
    place.chmod(0o700)
    key_file = tmp_path / "key"
    key_file.write_text(test_key("golden").hex() + "\n")
    key_file.chmod(0o600)
    bundles = reader.list_bundles(str(place), Keys(str(key_file))).bundles
    assert [(b.signal, b.sealed) for b in bundles] == [
        ("traces", True),
        ("logs", False),
        ("traces", False),
    ]
    assert [len(list(reader.read_lines(bundle))) for bundle in bundles] == [20, 1, 4]
    sidecar = reader.read_sidecar(bundles[0])
    assert sidecar is not None
    assert sidecar.sketch.records == 40


PROGRAM = """
import sys
from stack_composer import telemetry
telemetry.configure(directory=sys.argv[1], encryption="sqlcipher", key_file=sys.argv[2])
for number in range(20_000):
    with telemetry.span("planner.solve", k_dense=number % 512, outcome="found", cost=1.5, tries=2):
        pass
    if number % 5_000 == 0:
        telemetry.flush()
telemetry.flush()
"""


@pytest.mark.e2e
def test_a_plain_span_takes_at_most_150_bytes(directory: Path, keys: Keys) -> None:
    """SPEC's bound for the encrypted store, for spans as a program records them."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), keys.key_file],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    database = database_of(directory, keys)
    erase.compact(database)
    size = sum(path.stat().st_size for path in directory.iterdir())
    bundles = reader.list_bundles(str(directory), keys).bundles
    spans = sum(line.count(b'"spanId"') for line in lines_in(directory, keys))
    assert [bundle.signal for bundle in bundles] == ["traces"]
    assert spans == 20_000
    assert size / spans <= 150


FORKED = """
import os, sys
from pathlib import Path
from encrypted_store import keys_in, planted_line, writer_of
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store.encrypted import database
from store_lines import append
writer = writer_of(Path(sys.argv[1]), keys_in(Path(sys.argv[2])))
append(writer, planted_line(0))
assert "stack_composer.telemetry.process" not in sys.modules  # No hook has closed it.
child = os.fork()
if child == 0:
    database.after_fork_in_child()
    writer.abandon()
    try:
        append(writer, planted_line(1))
    except StoreError as error:
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
append(writer, planted_line(2))
"""


@pytest.mark.e2e
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_child_never_uses_what_the_parent_has_open(
    directory: Path, keys: Keys, tmp_path: Path
) -> None:
    """What a fork found open, since somebody was in the middle of it, is left alone."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(directory), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert lines_in(directory, keys) == [LINES[0], LINES[2]]


def test_connections_are_closed_for_a_fork_and_opened_again(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    databases.close_before_fork()
    assert writer._database is not None
    assert writer._database._connection is None
    databases.after_fork_in_parent()
    append(writer, LINES[1])  # type: ignore[arg-type]
    assert lines_in(directory, keys) == LINES[:2]


def test_rows_of_a_database_removed_meanwhile_are_gone_not_an_error(
    directory: Path, keys: Keys
) -> None:
    write(directory, keys, LINES[:2])
    database = database_of(directory, keys)
    (bundle,) = rows.list_rows(database)
    database.close()
    shutil.rmtree(directory)
    directory.mkdir(mode=0o700)
    assert rows.list_rows(database) == []
    assert list(reader.read_lines(bundle)) == []
    assert reader.read_sidecar(bundle) is None
