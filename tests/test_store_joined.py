"""What the rest of the store promises for files holds for the encrypted database too."""

from __future__ import annotations

import errno
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cli_running import ok, ok_json, ok_lines, run
from encrypted_store import (
    assert_no_plain_text,
    database_of,
    keys_in,
    lines_in,
    need_cipher,
    planted_line,
    write,
    writer_of,
)
from stack_composer.telemetry import gdpr
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import StoreError, StoreLockedError
from stack_composer.telemetry.outputs import make_outputs
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.relief import Relief
from stack_composer.telemetry.store import (
    convert,
    names,
    opportunity,
    pressure,
    quarantine,
    reader,
    repair,
    retention,
)
from stack_composer.telemetry.store import (
    keys as key_module,
)
from stack_composer.telemetry.store.encrypted import database as databases
from stack_composer.telemetry.store.encrypted import erase
from stack_composer.telemetry.store.encrypted import intake as row_intake
from stack_composer.telemetry.store.encrypted.database import run as run_sql
from stack_composer.telemetry.store.evidence import Evidence
from stack_composer.telemetry.store.folder import Folder, open_folder
from stack_composer.telemetry.store.keys import Keys
from stack_composer.telemetry.store.writer import BundleWriter
from store_lines import append, names_in, sketch_of, spans_line, tick_until_idle

need_cipher()

LINES = [planted_line(number) for number in range(60)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "telemetry"


@pytest.fixture
def keys(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Keys in a file that is configured, as for every program of this user."""
    found = keys_in(tmp_path)
    config = tmp_path / "telemetry.toml"
    config.write_text(f"[store]\nencryption = 'sqlcipher'\nkey_file = '{found.key_file}'\n")
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(config))
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_DIR", str(directory))
    monkeypatch.setattr(key_module, "_shared", {found.key_file: found})
    return found


def plain(directory: Path, count: int, **how: Any) -> None:
    writer = BundleWriter(str(directory), **how)
    for number in range(count):
        append(writer, spans_line(1_000 + number))
        tick_until_idle(writer)
    writer.close()


def rows_of(directory: Path, keys: Keys) -> list[reader.BundleInfo]:
    return [b for b in reader.list_bundles(str(directory), keys).bundles if b.database]


def lock_out(directory: Path, keys: Keys) -> None:
    """Make the key a wrong one."""
    database_of(directory, keys).close()
    Path(keys.key_file).write_text("ab" * 32 + "\n")
    keys._known.clear()


# --- the pipeline -------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["buffered", "batch", "sync"])
def test_outputs_pass_durability_on(
    keys: Keys, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del keys
    outputs = make_outputs(load_config({"durability": durability}))
    (writer,) = outputs.exporters
    assert writer.fills_disk
    synced: list[str] = []
    monkeypatch.setattr(databases.Database, "sync", lambda self: synced.append(self.name))
    writer.append("traces", LINES[0], sketch_of(LINES[0]))
    outputs.settle()
    outputs.narrow(1_000)
    # What each append has synced need not be synced again.
    assert len(synced) == {"buffered": 0, "batch": 1, "sync": 0}[durability]
    outputs.close()


def test_narrow_makes_bundles_smaller(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    for line in LINES[:20]:
        append(writer, line)  # type: ignore[arg-type]
    writer.narrow(2_000)
    for line in LINES[20:]:
        append(writer, line)  # type: ignore[arg-type]
    writer.close()
    assert len(rows_of(directory, keys)) > 5
    assert lines_in(directory, keys) == LINES


def test_a_full_disk_is_known_as_one(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    database = writer._database
    assert database is not None
    with database.use() as connection:
        (pages,) = run_sql(connection, "PRAGMA page_count")[0]
        run_sql(connection, f"PRAGMA max_page_count={pages}")
    big = spans_line(7, padding=os.urandom(500_000).hex())
    with pytest.raises(StoreError) as caught:
        append(writer, big)  # type: ignore[arg-type]
    assert pressure.is_full(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ENOSPC
    writer.close()


def test_a_purge_by_itself_uses_the_key_and_passes_over_what_it_cannot_open(
    directory: Path, keys: Keys
) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    plain(directory, 3)
    opportunity.purge(str(directory), keep_days=0, kept_bytes_max=0, unlock=keys)
    assert reader.list_bundles(str(directory), keys).bundles == []
    assert names.PURGE_STAMP in os.listdir(directory)
    write(directory, keys, LINES)
    plain(directory, 3)
    lock_out(directory, keys)
    opportunity.purge(str(directory), keep_days=0, kept_bytes_max=0, unlock=keys)
    assert reader.list_bundles(str(directory), keys, locked=[]).bundles == []
    assert convert.databases(str(directory))


def test_relief_takes_the_oldest_rows(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    bundles = reader.list_bundles(str(directory), keys).bundles
    chosen = pressure.plan_relief(bundles, 1)
    assert chosen
    assert all(bundle.database and bundle.sealed for bundle in chosen)
    result = retention.apply_purge(retention.PurgePlan(tuple(chosen), ()))
    assert result.deleted == len(chosen)
    assert len(rows_of(directory, keys)) == len(bundles) - len(chosen)


def test_relief_finds_rows_by_the_configured_key(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "steps", {})
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    before = len(rows_of(directory, keys))
    Relief(load_config())._free(1)
    assert len(rows_of(directory, keys)) < before
    assert recorder.steps.get("deleted")


@pytest.mark.parametrize(("durability", "is_synced"), [("buffered", False), ("batch", True)])
def test_the_end_of_a_program_syncs_as_for_files(
    directory: Path,
    keys: Keys,
    durability: str,
    is_synced: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = writer_of(directory, keys, durability=durability)
    append(writer, LINES[0])  # type: ignore[arg-type]
    synced: list[str] = []
    monkeypatch.setattr(databases.Database, "sync", lambda self: synced.append(self.name))
    writer.close()
    assert bool(synced) == is_synced


def test_a_sealed_bundle_is_on_the_disk(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(directory, keys, bundle_bytes_max=1_000)
    synced: list[str] = []
    monkeypatch.setattr(databases.Database, "sync", lambda self: synced.append(self.name))
    for line in LINES[:5]:
        append(writer, line)  # type: ignore[arg-type]
    assert not synced
    while writer.tick():
        pass
    assert synced
    writer.close()


def test_a_lock_that_was_erased_is_taken_anew(directory: Path) -> None:
    folder = open_folder(str(directory), create=True)
    with databases.store_lock(folder):
        folder.remove(names.STORE_LOCK)
        with databases.store_lock(folder):
            assert folder.exists(names.STORE_LOCK)
    folder.close()


# --- GDPR ---------------------------------------------------------------------------


def test_under_gdpr_rows_go_too_while_they_are_written(directory: Path, keys: Keys) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    plain(directory, 2)
    gdpr.purge_closed(str(directory), keys)
    assert reader.list_bundles(str(directory), keys).bundles == []
    # And its writer goes on, in a bundle of its own.
    append(writer, LINES[1])  # type: ignore[arg-type]
    writer.close()
    assert lines_in(directory, keys) == LINES[1:2]


def test_under_gdpr_what_cannot_be_opened_stays_owed(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES[:5])
    plain(directory, 2)
    lock_out(directory, keys)
    mark = gdpr.owe(str(directory))
    assert mark is not None
    with pytest.raises(StoreLockedError):
        mark.pay(keys)
    assert gdpr.is_owed(str(directory))
    assert not any(name.endswith(".jsonl") for name in os.listdir(directory))


@pytest.mark.parametrize("ending", ["", "raise ValueError('planned')"])
def test_a_generation_under_gdpr_empties_the_database(
    directory: Path, keys: Keys, tmp_path: Path, ending: str
) -> None:
    write(directory, keys, LINES[:5])
    script = tmp_path / "program.py"
    script.write_text(
        "from stack_composer import telemetry\n"
        "with telemetry.generation(project_id='p', brief='b'):\n"
        f"    {ending or 'pass'}\n"
    )
    import subprocess

    environ = {**os.environ, "STACK_COMPOSER_GDPR": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environ, check=False, capture_output=True
    )
    assert done.returncode == bool(ending), done.stderr
    assert reader.list_bundles(str(directory), keys).bundles == []


def test_the_command_under_gdpr_empties_the_database(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES[:5])
    plain(directory, 2)
    done = run("--gdpr", "run", sys.executable, "-c", "pass")
    assert done.returncode == 0, done.stderr
    assert reader.list_bundles(str(directory), keys).bundles == []
    assert not gdpr.is_owed(str(directory))


# --- finding a trace ----------------------------------------------------------------


def test_an_index_finds_a_trace_in_rows(directory: Path, keys: Keys) -> None:
    many = [spans_line(number, 3, padding=os.urandom(1_500).hex()) for number in range(600)]
    writer = writer_of(directory, keys, bundle_bytes_max=64 * 2**20)
    for number, line in enumerate(many):
        # As the encoder does it.
        sketch = sketch_of(line)
        sketch.traces = {f"{number + 1:032x}"}
        writer.append("traces", line, sketch)
    writer.close()
    (bundle,) = rows_of(directory, keys)
    assert bundle.sealed
    with database_of(directory, keys).use() as connection:
        (chunks,) = run_sql(connection, "SELECT count(*) FROM chunk")[0]
    assert chunks > 2
    for number in (0, 299, 599):
        frames = reader.frames_of(bundle, trace=f"{number + 1:032x}")
        assert frames is not None
        assert len(frames) == 1
        found = list(reader.read_lines(bundle, frames=frames))
        assert many[number].rstrip() in found
        assert len(found) < len(many) / 2
        assert found[0] == many[frames[0].first_line - 1].rstrip()
    assert reader.frames_of(bundle, trace="f" * 32) == []
    head, sidecar = reader.read_head(bundle), reader.read_sidecar(bundle)
    assert head is not None
    assert sidecar is not None
    assert head == sidecar.head


def test_an_index_of_who_adopts_says_the_same(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES)
    # A small one stays open at the end; a conversion finishes it, by decoding.
    assert not rows_of(directory, keys)[0].sealed
    list(convert.Conversion(convert.plan_rekey(str(directory), keys), keys).run())
    (bundle,) = rows_of(directory, keys)
    for number in (0, 59):
        assert reader.frames_of(bundle, trace=f"{number + 1:032x}")
    assert reader.frames_of(bundle, trace="f" * 32) == []


def test_index_and_page_go_along_both_ways(directory: Path, keys: Keys) -> None:
    plain(directory, 40, bundle_bytes_max=3_000)
    sealed = [name for name in os.listdir(directory) if name.endswith(".jsonl.zst")]
    page = sealed[0].replace(".jsonl.zst", ".imports")
    (directory / page).write_bytes(b"a page")
    before = {name: (directory / name).read_bytes() for name in os.listdir(directory)}
    list(convert.Conversion(convert.plan_encrypt(str(directory), keys), keys).run())
    assert not any(name in before for name in os.listdir(directory))
    bundle = next(b for b in rows_of(directory, keys) if b.stem == page.partition(".")[0])
    assert reader.frames_of(bundle) is not None
    list(convert.Conversion(convert.plan_rekey(str(directory), keys), keys).run())
    list(convert.Conversion(convert.plan_decrypt(str(directory), keys), keys).run())
    for name, data in before.items():
        if not name.endswith(".jsonl"):
            assert (directory / name).read_bytes() == data


def test_a_damaged_index_in_a_row_is_only_slower(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    with database_of(directory, keys).change() as connection:
        run_sql(connection, "UPDATE beside SET data = x'00112233'")
    bundle = rows_of(directory, keys)[0]
    assert reader.frames_of(bundle, trace="f" * 32) is None
    assert lines_in(directory, keys) == LINES
    found = repair.survey(str(directory))
    assert any(condition.has_bad_index for condition in found.conditions)
    assert repair.plan_repair(found) == []


# --- doctor -------------------------------------------------------------------------


def test_repair_never_touches_rows_nor_opens_a_database(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    database = database_of(directory, keys)
    with database.change() as connection:
        run_sql(
            connection, "UPDATE chunk SET data = x'0011' WHERE id = (SELECT min(id) FROM chunk)"
        )
        run_sql(connection, "DELETE FROM sidecar")
    # SQLite's own file beside it: the database itself is tightened whenever it is opened.
    os.chmod(database.path + "-wal", 0o644)
    half_made = names.new_database_name(
        names.database_name(names.make_stem(0, 1, bytes(16)), "keyfile")
    )
    (directory / half_made).write_bytes(b"half")
    opened: list[str] = []
    real = Folder.open

    def spy(self: Folder, name: str, *, write: bool = False) -> int:
        opened.append(name)
        return real(self, name, write=write)

    monkeypatch.setattr(Folder, "open", spy)
    found = repair.survey(str(directory))
    assert any(condition.damage for condition in found.conditions)
    plan = repair.plan_repair(found)
    assert {(step.action, step.name) for step in plan} == {
        (repair.TIGHTEN, database.name + "-wal"),
        (repair.TIGHTEN, half_made),
        (repair.REMOVE, half_made),
    }
    result = repair.apply_repair(str(directory), plan)
    assert not result.failed
    assert result.done[repair.REMOVE] == 1
    assert os.stat(database.path + "-wal").st_mode & 0o777 == 0o600
    assert not (directory / half_made).exists()
    assert not [name for name in opened if ".sqlcipher" in name]
    assert repair.plan_repair(repair.survey(str(directory))) == []


def test_doctor_reports_rows_and_says_that_nothing_mends_them(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    with database_of(directory, keys).change() as connection:
        run_sql(
            connection, "UPDATE chunk SET data = x'0011' WHERE id = (SELECT min(id) FROM chunk)"
        )
    done = run("telemetry", "doctor", "--repair", "--json")
    found = json.loads(done.stdout)
    (finding,) = [one for one in found["findings"] if one["check"] == "bundles"]
    assert not finding["is_repairable"]
    assert found["plan"] == []
    assert len(rows_of(directory, keys)) > 3


def test_status_shows_rows_files_what_is_locked_and_the_disk(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    plain(directory, 3)
    found = ok_json("telemetry", "status")
    assert found["encryption"] == "sqlcipher"
    assert found["locked"] == []
    assert found["quarantine"] == {"files": 0, "bytes": 0}
    count = len(rows_of(directory, keys))
    assert "pressure" in found
    lock_out(directory, keys)
    locked = json.loads(run("telemetry", "status", "--json").stdout)
    assert locked["locked"]
    assert count > 3


@pytest.mark.parametrize("where", ["rows", "files"])
def test_show_finds_one_trace_wherever_it_is(directory: Path, keys: Keys, where: str) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    if where == "files":
        ok("telemetry", "store", "decrypt", "--yes")
    found = ok_lines("telemetry", "show", "--as", "records", "--limit", "0", "--trace", f"{7:032x}")
    assert len(found) == 2
    assert (
        ok_lines("telemetry", "show", "--as", "records", "--limit", "0", "--trace", "f" * 32) == []
    )


def test_doctor_looks_at_the_files_of_a_locked_store(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES)
    plain(directory, 3)
    lock_out(directory, keys)
    found = json.loads(run("telemetry", "doctor", "--json").stdout)
    assert {one["check"] for one in found["findings"]} == {"encryption"}


# --- purging with proof -------------------------------------------------------------


def test_verify_looks_into_rows_and_never_opens_the_database(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    bundles = rows_of(directory, keys)
    evidence = Evidence()
    evidence.note(bundles[0])
    opened: list[str] = []
    real = Folder.open

    def spy(self: Folder, name: str, *, write: bool = False) -> int:
        opened.append(name)
        return real(self, name, write=write)

    monkeypatch.setattr(Folder, "open", spy)
    assert [one.path for one in evidence.look(str(directory))] == [bundles[0].path]
    retention.apply_purge(retention.PurgePlan((bundles[0],), ()))
    assert evidence.look(str(directory)) == []
    assert not [name for name in opened if names.is_of_database(name)]


def test_purge_all_takes_quarantine_rows_and_key_and_proves_it(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    plain(directory, 20, bundle_bytes_max=1_000)
    spoilt = next(directory.glob("*.jsonl.zst"))
    spoilt.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))
    ok_or_findings = run("telemetry", "doctor", "--repair")
    assert ok_or_findings.returncode in (0, 1)
    aside = quarantine.list_quarantine(str(directory))
    assert aside
    found = ok_json("telemetry", "purge", "--all", "--verify", "--yes")
    assert found["left"] == []
    assert found["quarantine"] == len(aside)
    assert found["destroyed"] == len(found["destroy"]) == 1
    assert found["deleted"] == len(found["delete"]) > 3
    kept = set(os.listdir(directory))
    assert kept <= {names.STORE_LOCK, names.CONVERSION_LOCK, names.PURGE_STAMP}
    assert set(Path(keys.key_file).read_text().split()[1::2]) == {"0" * 64}


# --- imports ------------------------------------------------------------------------


def imported(path: Path, *more: str) -> Any:
    return ok_json("telemetry", "import", *more, str(path))


def test_what_is_imported_lands_in_the_database_once(
    directory: Path, keys: Keys, tmp_path: Path
) -> None:
    source = tmp_path / "from-elsewhere.jsonl"
    source.write_bytes(b"".join(LINES))
    assert imported(source, "--dry-run")["records"]["traces"] == 120
    assert not directory.exists()
    first = imported(source)
    assert first["records"]["traces"] == 120
    assert first["bundles"]
    assert all(name.endswith((".jsonl.zst", ".traces", ".metrics")) for name in first["bundles"])
    assert_no_plain_text(directory)
    assert not [name for name in names_in(directory) if ".jsonl" in name or ".imports" in name]
    bundles = rows_of(directory, keys)
    assert all(bundle.sealed for bundle in bundles)
    traces = next(bundle for bundle in bundles if bundle.signal == "traces")
    frames = reader.frames_of(traces, trace=f"{5:032x}")
    assert frames
    assert reader.read_sidecar(traces) is not None
    again = imported(source)
    assert again["records"]["traces"] == 0
    assert again["files"][0]["known"] == len(LINES)
    assert again["bundles"] == []
    assert len(rows_of(directory, keys)) == len(bundles)
    # What was imported is known in whatever form it is kept.
    ok("telemetry", "store", "decrypt", "--yes")
    assert any(name.endswith(".imports") for name in os.listdir(directory))
    assert imported(source)["records"]["traces"] == 0
    ok("telemetry", "store", "encrypt", "--yes")
    assert imported(source)["records"]["traces"] == 0
    ok("telemetry", "store", "rekey", "--yes")
    assert imported(source)["records"]["traces"] == 0
    # And what is purged can be imported anew.
    ok("telemetry", "purge", "--all", "--yes")
    assert imported(source)["records"]["traces"] == 120


def test_a_purge_takes_the_page_of_the_ledger_along(
    directory: Path, keys: Keys, tmp_path: Path
) -> None:
    source = tmp_path / "from-elsewhere.jsonl"
    source.write_bytes(b"".join(LINES))
    imported(source)
    plan = retention.plan_purge(rows_of(directory, keys), now_ns=0, keep_days=0, kept_bytes_max=0)
    bundles = rows_of(directory, keys)
    retention.apply_purge(plan)
    assert bundles[0].database is not None
    with bundles[0].database.use() as connection:
        for table in ("bundle", "chunk", "sidecar", "beside"):
            assert run_sql(connection, f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608
    assert imported(source)["records"]["traces"] == 120


def test_an_import_that_fails_half_way_leaves_nothing(
    directory: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = row_intake.DatabaseIntake(str(directory), key_id=b"k" * 8, keys=keys)
    for line in LINES:
        intake.append("traces", line, sketch_of(line))
    real = row_intake._insert_parts

    def stop(connection: Any, row: int, packed: row_intake.Packed) -> None:
        real(connection, row, packed)
        raise KeyboardInterrupt

    monkeypatch.setattr(row_intake, "_insert_parts", stop)
    with pytest.raises(KeyboardInterrupt):
        intake.commit("traces", bytes(12))
    assert rows_of(directory, keys) == []
    monkeypatch.setattr(row_intake, "_insert_parts", real)
    # Nothing is lost of it either, should who imports try again.
    intake.commit("traces", bytes(12))
    intake.close()
    assert lines_in(directory, keys) == LINES


def test_an_import_goes_on_in_the_new_database_of_a_rekey(directory: Path, keys: Keys) -> None:
    write(directory, keys, LINES[:3])
    database = database_of(directory, keys)
    erase.retire(database)
    with pytest.raises(databases.GoneError):
        row_intake.insert_bundle(
            database, row_intake._new_bundle("traces"), row_intake.Packed([(0, 1, b"x")])
        )
    intake = row_intake.DatabaseIntake(str(directory), key_id=b"k" * 8, keys=keys)
    intake.append("traces", LINES[5], sketch_of(LINES[5]))
    intake.commit("traces", bytes(12))
    assert len(convert.databases(str(directory))) == 2
    assert sorted(lines_in(directory, keys)) == sorted([*LINES[:3], LINES[5]])


def test_an_import_without_a_key_writes_nothing(
    directory: Path, keys: Keys, tmp_path: Path
) -> None:
    write(directory, keys, LINES[:3])
    lock_out(directory, keys)
    source = tmp_path / "from-elsewhere.jsonl"
    source.write_bytes(LINES[5])
    before = names_in(directory)
    done = run("telemetry", "import", str(source))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 2
    assert names_in(directory) == before


# --- taking it along, having it gone -------------------------------------------------


def test_exports_and_sql_read_rows(directory: Path, keys: Keys, tmp_path: Path) -> None:
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    out = tmp_path / "out.csv"
    ok(
        "telemetry", "export", "--as", "csv", "--signal", "traces",
        "--since", "2020-01-01", "--output", str(out),
    )  # fmt: skip
    assert len(out.read_text().splitlines()) == 121
    found = ok_lines("telemetry", "show", "--as", "records", "--limit", "0")
    assert len(found) == 120
    archive = tmp_path / "all.zip"
    manifest = ok_json("telemetry", "data", "export", "--output", str(archive))["manifest"]
    left_out = {one["what"]: one["why"] for one in manifest["left_out"]}
    assert "encrypted" in left_out[database_of(directory, keys).name]
    with zipfile.ZipFile(archive) as opened:
        lines = b"".join(
            opened.read(name) for name in sorted(opened.namelist()) if name.startswith("bundles/")
        )
    assert sorted(lines.splitlines(keepends=True)) == sorted(LINES)


def test_sql_reads_rows(directory: Path, keys: Keys) -> None:
    pytest.importorskip("duckdb", reason="duckdb is not installed: extra 'sql'")
    write(directory, keys, LINES, bundle_bytes_max=3_000)
    assert "120" in ok("telemetry", "sql", "--since", "2020-01-01", "SELECT count(*) FROM spans")


@pytest.mark.parametrize("with_keys", [False, True])
def test_erasing_takes_databases_locks_and_quarantine_and_keys_if_asked(
    directory: Path, keys: Keys, with_keys: bool
) -> None:
    writer = writer_of(directory, keys)
    append(writer, LINES[0])  # type: ignore[arg-type]
    plain(directory, 20, bundle_bytes_max=1_000)
    spoilt = next(directory.glob("*.jsonl.zst"))
    spoilt.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))
    run("telemetry", "doctor", "--repair")
    assert quarantine.list_quarantine(str(directory))
    stem = database_of(directory, keys).stem
    more = ("--keys",) if with_keys else ()
    found = ok_json("telemetry", "data", "erase", "--yes", *more)
    assert found["left"] == []
    assert found["foreign"] == []
    assert found["files"][names.DATABASE]["files"] == 1
    assert found["files"]["quarantined"]["files"] == 1
    assert found["database_keys"] == ([stem] if with_keys else [])
    assert not directory.exists()
    assert ("0" * 64 in Path(keys.key_file).read_text()) == with_keys
    # Whoever writes meanwhile begins anew.
    append(writer, LINES[1])  # type: ignore[arg-type]
    writer.close()
    assert lines_in(directory, keys) == LINES[1:2]


# --- names --------------------------------------------------------------------------


def test_names_of_the_store_are_nobody_elses() -> None:
    stem = names.make_stem(0, 1, bytes(16))
    whole = names.database_name(stem, "keyfile")
    for name in (whole, whole + "-wal", whole + ".new", names.STORE_LOCK, names.CONVERSION_LOCK):
        assert names.is_of_database(name)
        assert names.parse_name(name) is not None
    for name in (*names.SINGLES, "x.sqlcipher", "other.lock", "quarantine/repair.lock"):
        assert not names.is_of_database(name)
