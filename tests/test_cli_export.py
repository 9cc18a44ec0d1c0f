"""``telemetry export``, ``sql``, ``data export`` and ``data erase``: out, whole and private."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cli_running import ok, ok_json, ok_lines, refusal, run
from docs_blocks import ROOT
from stack_composer.telemetry.errors import QueryError
from stack_composer.telemetry.export import duck, rows
from stack_composer.telemetry.export.columns import COLUMNS, TYPES, VIEWS
from stack_composer.telemetry.store import names, reader
from test_cli_import import line, place

duckdb = pytest.importorskip("duckdb")

FORMULA = '=HYPERLINK("https://example.org")'
LOG = b'{"timestamp":"2026-11-22T10:00:00Z","level":"info","message":"hello","attrs":{}}\n'
POINT = b'{"timestamp":"2026-11-22T10:00:00Z","metric":"m","value":2.5,"labels":{"a":"b"}}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A telemetry folder with spans, a measurement and a log record."""
    made = tmp_path / "telemetry"
    data = line("first", FORMULA, attributes={"k": "v"}) + line("other") + LOG + POINT
    ok("telemetry", "import", place(tmp_path, data, "in"), "--dir", made)
    return made


def sql(question: str, folder: Path, *options: str) -> list[list[Any]]:
    told = ok_json("telemetry", "sql", question, "--since", "@1", "--dir", folder, *options)
    found: list[list[Any]] = told["rows"]
    return found


# -- export --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["otlp", "records", "csv", "parquet"])
def test_a_file_is_private_and_is_not_replaced(form: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "it's out"
    asked = ("telemetry", "export", "--as", form, "--signal", "traces", "--dir", folder, "-o", out)
    before = os.umask(0)
    try:
        told = ok_json(*asked)
    finally:
        os.umask(before)
    assert (told["records"], told["bytes"]) == (3, out.stat().st_size)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    what, hint = refusal(*asked, code=1)
    assert "is there already" in what
    assert "--force" in hint
    ok(*asked, "--force")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", "it's out", "telemetry"]


def test_nothing_is_exported_into_the_folder_that_is_purged(folder: Path) -> None:
    what, _ = refusal("telemetry", "export", "--dir", folder, "-o", folder / "x", code=1)
    assert "is in the telemetry folder" in what


def test_filters_join(folder: Path) -> None:
    asked = ("telemetry", "export", "--as", "records", "--dir", folder)
    assert [r["name"] for r in ok_lines(*asked, "--name", "oth*")] == ["other"]
    assert len(ok_lines(*asked, "--trace", "7474")) == 3
    assert [r["message"] for r in ok_lines(*asked, "--signal", "logs")] == ["hello"]
    assert ok_lines(*asked, "--until", "2020-01-01") == []
    assert len(ok_lines("telemetry", "export", "--dir", folder)) == 3


def test_a_table_is_of_one_signal(folder: Path) -> None:
    what, hint = refusal("telemetry", "export", "--as", "csv", "--dir", folder)
    assert "one signal" in what
    assert "--signal traces" in hint
    refusal("telemetry", "export", "--as", "parquet", "--signal", "logs", "--dir", folder)


def test_no_cell_of_a_csv_is_a_formula(folder: Path) -> None:
    text = ok("telemetry", "export", "--as", "csv", "--signal", "traces", "--dir", folder)
    found = list(csv.DictReader(io.StringIO(text)))
    assert list(found[0]) == [column.name for column in COLUMNS["traces"]]
    assert {row["name"] for row in found} == {"first", "'" + FORMULA, "other"}
    first = next(row for row in found if row["name"] == "first")
    assert (json.loads(first["attrs"]), first["service"]) == ({"k": "v"}, "elsewhere")
    assert first["start"] == "2025-11-24T16:00:00Z"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\n", "\uff1d"])
def test_each_way_to_begin_a_formula_is_defused(start: str) -> None:
    assert rows.safe_cell(start + "1") == "'" + start + "1"
    assert rows.safe_cell("1" + start) == "1" + start


def test_a_csv_steers_no_terminal() -> None:
    assert rows.safe_cell("a\x1b[2Jb\u202ec\rd") == "a\\x1b[2Jb\\u202ec\\rd"
    assert rows.safe_cell("two\r\nlines\tand more\u00a0") == "two\nlines\tand more\u00a0"


def test_the_page_lists_the_columns() -> None:
    page = (ROOT / "docs" / "import-export.md").read_text(encoding="utf-8")
    for signal, columns in COLUMNS.items():
        part = page.split(f"### `{VIEWS[signal]}`")[1].split("###")[0]
        listed = [
            f"| `{column.name}` | {TYPES[column.kind]} | {column.what} |" for column in columns
        ]
        assert [row for row in part.splitlines() if row.startswith("| `")] == listed


def test_a_parquet_file_has_the_same_columns(folder: Path, tmp_path: Path) -> None:
    for signal in VIEWS:
        out = tmp_path / f"{signal}.parquet"
        ok(
            "telemetry", "export", "--as", "parquet", "--signal", signal,
            "--dir", folder, "-o", out,
        )  # fmt: skip
        read = duckdb.sql(f"SELECT * FROM read_parquet('{out}')")  # noqa: S608 - a path of ours
        assert read.columns == [column.name for column in COLUMNS[signal]]
        assert len(read.fetchall()) == (3 if signal == "traces" else 1)


@pytest.mark.parametrize("command", [("export",), ("data", "export")])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_is_never_replaced(
    command: tuple[str, ...], kind: str, folder: Path, tmp_path: Path
) -> None:
    """A device is none either: root would be left with a file as /dev/null."""
    out = tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "link":
        out.symlink_to(tmp_path / "elsewhere")
    else:
        out.mkdir()
    before = os.lstat(out)
    message, _ = refusal("telemetry", *command, "--dir", folder, "-o", out, "--force", code=1)
    assert "not a regular file" in message
    after = os.lstat(out)  # Not its time of access: reading where a link leads changes it.
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert not (tmp_path / "elsewhere").exists()


# -- sql -------------------------------------------------------------------------------------


def test_the_views_have_the_columns_of_the_table(folder: Path) -> None:
    for signal, view in VIEWS.items():
        told = ok_json("telemetry", "sql", f"from {view}", "--since", "@1", "--dir", folder)
        assert told["columns"] == [column.name for column in COLUMNS[signal]]
    assert sql("select name, attrs->>'k' from spans where attrs->>'k' is not null", folder) == [
        ["first", "v"],
        [FORMULA, "v"],
    ]
    assert sql("select value, labels->>'a', timestamp from metrics", folder) == [
        [2.5, "b", "2026-11-22T10:00:00Z"]
    ]
    joined = "select count(*) from spans s, logs l where s.start < l.timestamp"
    assert sql(joined, folder) == [[3]]
    early = ("--since", "@1", "--until", "@9", "--dir", folder)
    assert ok_json("telemetry", "sql", "from logs", *early)["rows"] == []


def test_an_answer_is_a_table_json_or_csv(folder: Path) -> None:
    asked = ("telemetry", "sql", "--since", "@1", "--dir", folder)
    question = "select name, 1.5 as n from spans where name like '=%'"
    assert ok(*asked, question).splitlines() == [
        "name                                 n",
        f"{FORMULA}  1.5",
    ]
    quoted = FORMULA.replace('"', '""')
    assert ok(*asked, question, "--csv") == f'name,n\r\n"\'{quoted}",1.5\r\n'
    assert ok(*asked, "-", stdin="select 1 as one").splitlines() == ["one", "1"]


def test_only_what_the_question_names_is_loaded() -> None:
    need = duck.Question("select name from spans where duration_ms > 5").need
    assert {s: [c.name for c in columns] for s, columns in need.items()} == {
        "traces": ["name", "duration_ms"]
    }
    assert duck.Question("select s from spans s").need == {"traces": COLUMNS["traces"]}
    assert duck.Question("select 1").need == {}
    assert set(duck.Question("select count(*) from logs, metrics").need) == {"metrics", "logs"}


HOSTILE = [
    "select * from read_text('{file}')",
    "select * from read_blob('{file}')",
    "select * from read_csv('{file}')",
    "select * from read_json_auto('{file}')",
    "select * from read_parquet('{file}')",
    "select * from sniff_csv('{file}')",
    "select * from parquet_metadata('{file}')",
    "select * from glob('{folder}/*')",
    "select * from '{file}'",
    "from '{file}'",
    "copy (select 1) to '{folder}/out'",
    "copy spans from '{file}'",
    "attach '{folder}/out'",
    "export database '{folder}/out'",
    "import database '{folder}'",
    "install httpfs",
    "load httpfs",
    "load '{file}'",
    "set enable_external_access = true",
    "set memory_limit = '100GB'",
    "reset lock_configuration",
    "pragma temp_directory = '{folder}'",
    "create table out as select 1",
    "create or replace view spans as select 1",
    "drop table spans",
    "delete from spans",
    "insert into spans (name) values ('x')",
    "call pragma_version()",
    "prepare q as select 1",
    "checkpoint",
    "create secret (type s3)",
    "select 1; copy (select 1) to '{folder}/out'",
    "select * from query('copy (select 1) to ''{folder}/out''')",
    "select * from duckdb_extensions()",
    "select getenv('HOME')",
    "select * from self",
    "select",
    "",
]


@pytest.mark.parametrize("question", HOSTILE)
def test_a_question_reaches_nothing_else(question: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\ncontent of the secret,2\n", encoding="utf-8")
    asked = question.format(file=file, folder=tmp_path)

    def records(signal: str, columns: Any) -> list[list[Any]]:
        del signal
        return [[None] * len(columns)]

    with pytest.raises(QueryError) as told:
        list(duck.Question(asked).ask(records).rows())
    assert "content of the secret" not in str(told.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret.csv"]


def test_what_duckdb_says_of_a_value_is_not_passed_on(folder: Path) -> None:
    done = run(
        "telemetry", "sql", "select cast(name as int) from spans", "--since", "@1", "--dir", folder
    )
    assert done.returncode == 2
    assert "HYPERLINK" not in done.stderr
    assert "try_cast" in done.stderr


def test_a_question_takes_no_more_memory_than_it_may(folder: Path) -> None:
    for question in (
        "select list(i) from range(300000000) t(i)",
        "select repeat('abc', 1500000000)",
    ):
        done = run("telemetry", "sql", question, "--dir", folder)
        assert done.returncode in (1, 2), question
        assert done.stderr.count("\n") == 2


# -- all that is kept --------------------------------------------------------------------------


def test_all_that_is_kept_is_in_one_file_with_a_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / "foreign.txt").write_text("not ours", encoding="utf-8")
    half = folder / names.temporary_name(
        names.sealed_name(names.make_stem(5 * 10**18 // 4, 1, b"abcd"), "logs")
    )
    half.write_bytes(b"half")
    out = tmp_path / "mine.zip"
    assert ok_json("telemetry", "data", "export", "--dry-run", "--dir", folder)["bundles"] == 3
    ok("telemetry", "data", "export", "-o", out, "--dir", folder)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        manifest = json.loads(archive.read("manifest.json"))
        listed = {file["name"]: file for file in manifest["files"]}
        assert set(listed) | {"manifest.json", "README.txt"} == set(archive.namelist())
        for name, file in listed.items():
            assert sha256(archive.read(name)).hexdigest() == file["sha256"]
        kept = {
            line_
            for bundle in reader.list_bundles(str(folder)).bundles
            for line_ in reader.read_lines(bundle)
        }
        taken = {
            line_
            for name in listed
            if name.startswith("bundles/")
            for line_ in archive.read(name).splitlines()
        }
        assert taken == kept
        assert archive.read(f"other/{half.name}") == b"half"
        assert sum(file.get("records", 0) for file in listed.values()) == 5
    left_out = {entry["what"]: entry["why"] for entry in manifest["left_out"]}
    assert left_out["foreign.txt"] == "not made by this program"
    assert any(what.endswith("/salt") for what in left_out)


def test_all_that_is_kept_goes_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("stays", encoding="utf-8")
    link = folder / names.open_name(names.make_stem(10**18, 1, b"abcd"), "logs")
    link.symlink_to(outside)
    (folder / "foreign.txt").write_text("stays", encoding="utf-8")
    dry = ok_json("telemetry", "data", "erase", "--dry-run", "--dir", folder)
    assert (dry["deleted"], dry["foreign"]) == (0, ["foreign.txt"])
    assert dry["files"]["sealed"]["files"] == 3
    what, hint = refusal("telemetry", "data", "erase", "--dir", folder, "--json")
    assert "nobody can be asked" in what
    assert "--yes" in hint
    told = ok_json("telemetry", "data", "erase", "--yes", "--dir", folder)
    assert (told["left"], told["keys"]) == ([], [])
    assert [entry.name for entry in folder.iterdir()] == ["foreign.txt"]
    assert outside.read_text(encoding="utf-8") == "stays"
    salt = Path(os.environ["HOME"], ".config", "stack-composer", "salt")
    assert salt.exists()
    (folder / "foreign.txt").unlink()
    (salt.parent / "salt.4711.0123abcd").write_bytes(b"left by a killed rotation")
    told = ok_json("telemetry", "data", "erase", "--yes", "--keys", "--dir", folder)
    assert told["deleted"] == 1
    assert [entry.name for entry in salt.parent.iterdir()] == []


def test_an_erased_folder_is_gone(folder: Path) -> None:
    ok("telemetry", "data", "erase", "--yes", "--dir", folder)
    assert not folder.exists()
    assert "nothing is kept" in ok("telemetry", "data", "erase", "--yes", "--dir", folder)
