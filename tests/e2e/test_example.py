"""The example as a visitor runs it, and the files that it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from records import logs, metrics, spans

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "stack_generation"
KINDS = ("gauge", "sum", "exponentialHistogram")
BRIEF = "A quokka sanctuary sells tickets by card, has a photo gallery; 130 euros a month"


def run(folder: Path, *, example: Path = EXAMPLE, **environ: str) -> tuple[int, str]:
    """Run the example; give exit code and output, in which no traceback may stand."""
    done = subprocess.run(
        [sys.executable, str(example)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "STACK_COMPOSER_TELEMETRY_DIR": str(folder),
            "STACK_COMPOSER_TELEMETRY_CONFIG": str(folder.parent / "config" / "telemetry.toml"),
            "BRIEF": BRIEF,
            **environ,
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run that several tests look at: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("example") / "telemetry"
    code, output = run(folder)
    assert code == 0, output
    return folder, output


def changed(tmp_path: Path, file: str, old: str, new: str) -> Path:
    """Copy the example with one edit."""
    copy = tmp_path / "changed"
    shutil.copytree(EXAMPLE, copy)
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    return copy


def by_id(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {span["spanId"]: span for span in found}


def test_it_fits_the_screen_and_says_where_all_is(ran: tuple[Path, str]) -> None:
    folder, output = ran
    for line in output.splitlines():
        # A path cannot be broken; all else fits.
        assert len(line) <= 80 or str(folder) in line or "stack-composer" in line, line
    assert f"folder    {folder}  (mode 0700)" in " ".join(output.split("\n"))
    assert output.count("(0600, ") == 3
    assert "telemetry purge --dry-run" in output


def test_some_generations_succeed_and_three_fail_each_in_its_way(ran: tuple[Path, str]) -> None:
    outcomes = re.findall(
        r"^\S.*? {2,}(found|over_budget|unsatisfiable|gave_up)", ran[1], re.MULTILINE
    )
    assert set(outcomes) == {"found", "over_budget", "unsatisfiable", "gave_up"}
    roots = [span for span in spans(ran[0]) if span["name"] == "stack.generation"]
    assert len(roots) == len(outcomes) == 8
    assert all("parentSpanId" not in root for root in roots)
    assert all(root["attrs"]["project.id"].startswith("hmac:") for root in roots)
    assert {root["attrs"]["stack.brief.length"] for root in roots} == {len(BRIEF)}
    failed = [root for root in roots if root.get("status", {}).get("code") == 2]
    assert len(failed) == len(outcomes) - outcomes.count("found")
    for root in failed:
        (event,) = [event for event in root["events"] if event["name"] == "exception"]
        kinds = {a["key"]: a["value"] for a in event["attributes"]}
        assert kinds["exception.type"]["stringValue"].startswith("planner.")


def test_the_names_of_the_specification_are_there(ran: tuple[Path, str]) -> None:
    found = spans(ran[0])
    searches = [span for span in found if span["name"] == "retrieval.search"]
    assert all({"k_dense", "k_sparse"} <= set(span["attrs"]) for span in searches)
    solved = [span for span in found if span["name"] == "planner.solve"]
    assert {span["attrs"]["outcome"] for span in solved} == {
        "found",
        "over_budget",
        "unsatisfiable",
        "gave_up",
    }
    points: dict[str, list[Any]] = {}
    for metric in metrics(ran[0]):
        (data,) = [metric[kind] for kind in KINDS if kind in metric]
        points.setdefault(metric["name"], []).extend(data["dataPoints"])
    labels = [{a["key"] for a in point["attributes"]} for point in points["agent.latency_ms"]]
    assert all({"agent", "phase"} == keys for keys in labels)
    assert all(0 <= point["asDouble"] <= 1 for point in points["critic.value"])
    assert {"planner.states", "planner.plan_cost"} <= set(points)


def test_every_span_hangs_below_a_generation(ran: tuple[Path, str]) -> None:
    """Across tasks, threads and a pool; but for the index, which is built before."""
    found = spans(ran[0])
    known = by_id(found)
    stray = set()
    for span in found:
        top = span
        while top.get("parentSpanId"):
            top = known[top["parentSpanId"]]
        if top["name"] != "stack.generation":
            stray.add(span["name"])
    assert stray == {"CREATE", "INSERT"}


def test_the_unmodified_instrumentation_adds_its_spans_below_ours(ran: tuple[Path, str]) -> None:
    found = spans(ran[0])
    known = by_id(found)
    selects = [span for span in found if span["name"] == "SELECT"]
    searches = [span for span in found if span["name"] == "retrieval.search"]
    assert {known[span["parentSpanId"]]["name"] for span in selects} == {"retrieval.search"}
    assert len(selects) == len(searches) > 0
    assert all(span["attrs"]["db.system"] == "sqlite" for span in selects)


def test_log_records_know_their_span(ran: tuple[Path, str]) -> None:
    known = by_id(spans(ran[0]))
    found = logs(ran[0])
    assert {log["body"]["stringValue"] for log in found} == {"no plan", "plan found"}
    assert {known[log["spanId"]]["name"] for log in found} == {"agent.plan", "stack.generation"}


def test_no_word_of_the_brief_is_in_the_files(ran: tuple[Path, str]) -> None:
    """Looked for here in another way than the example does."""
    text = b"".join(path.read_bytes() for path in ran[0].iterdir()).decode().casefold()
    for word in ("quokka", "sanctuary", "tickets", "gallery", "sells"):
        assert word not in text
    assert "nothing found" in " ".join(ran[1].split())


def test_the_same_brief_gives_the_same_plans(ran: tuple[Path, str], tmp_path: Path) -> None:
    code, output = run(tmp_path / "t", PYTHONHASHSEED="7")
    assert code == 0
    assert output.split("folder")[0] == ran[1].split("folder")[0]


@pytest.mark.parametrize(
    "brief",
    [
        "x",
        "the value of cache and string",  # words of the format and of parts
        "cafe decade facade",  # letters that random ids have, too
        'a "quoted" \\ brief\nof two lines, ünïcode and 猫カフェ',
        "1234567 00 99",
        "payments " * 2_000,
    ],
)
def test_any_brief_comes_out_well(brief: str, tmp_path: Path) -> None:
    code, output = run(tmp_path / "t", BRIEF=brief)
    assert code == 0, output


@pytest.mark.parametrize(
    ("place", "leak"),
    [
        ("scenario=scenario.name\n", "scenario=scenario.name, note=text\n"),
        ('log.warning("no plan"', 'log.warning(f"no plan for {text}"'),
        ('agent("reader", "read")', 'agent("reader", text[2:8] + "ish")'),
    ],
    ids=["an attribute", "a log message", "a name with a word in it"],
)
def test_a_brief_that_leaks_is_found(place: str, leak: str, tmp_path: Path) -> None:
    example = changed(tmp_path, "generation.py", place, leak)
    code, output = run(tmp_path / "t", example=example)
    assert code == 1
    assert "LEAK" in output


def test_without_fts5_it_says_so_and_goes_on(tmp_path: Path) -> None:
    """A module that SQLite does not know stands for one that it lacks."""
    example = changed(tmp_path, "sparse.py", "USING fts5(", "USING fts_unknown(")
    code, output = run(tmp_path / "t", example=example)
    assert code == 0, output
    assert "this SQLite has no FTS5" in output
    assert any(span["attrs"].get("hits_sparse") for span in spans(tmp_path / "t"))


def test_this_sqlite_has_fts5(ran: tuple[Path, str]) -> None:
    """So that the other tests have run what they claim."""
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no FTS5: the example ran with its fall-back")
    assert "no FTS5" not in ran[1]


def test_switched_off_it_says_that_nothing_was_recorded(tmp_path: Path) -> None:
    code, output = run(tmp_path / "t", OTEL_SDK_DISABLED="true")
    assert code == 0, output
    assert "Nothing was recorded" in output
    assert not (tmp_path / "t").exists()


def test_what_lies_encrypted_is_said_to_prove_nothing(tmp_path: Path) -> None:
    pytest.importorskip("apsw")
    config = tmp_path / "telemetry.toml"
    config.write_text('[store]\nencryption = "sqlcipher"\n')
    code, output = run(
        tmp_path / "t",
        STACK_COMPOSER_TELEMETRY_CONFIG=str(config),
        STACK_COMPOSER_TELEMETRY_PASSPHRASE="blue" + "door" * 3,
    )
    assert code == 0, output
    assert "recorded  encrypted" in output
    assert "nothing found" not in output


def test_a_folder_that_cannot_be_used_is_told_in_two_lines(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a file stands here")
    code, output = run(tmp_path / "t")
    assert code == 1
    assert re.search(r"\n {2}hint: \S", output)


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import proof

    return proof.prove


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"v":"nothing"}\n', False),
        ('{"v":"a QUOKKA"}\n', True),
        ('{"v":"myquokkas"}\n', True),
        ('{"quokka":1}\n', True),
        ('{"v":"qu\\u006fkka"}\n', True),
        ("quokka in a torn li", True),
        ('{"v":"cache"}\n', False),
        ('{"spanId":"00decade00decade"}\n', False),
        ('{"v":"a decade ago"}\n', True),
    ],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_the_search_sees_through_packing_escapes_and_case(
    text: str, *, found: bool, sealed: bool, prove: Any, tmp_path: Path
) -> None:
    file = tmp_path / ("b.traces.jsonl.zst" if sealed else "b.traces.jsonl")
    data = text.encode()
    file.write_bytes(zstd.compress(data) if sealed else data)
    proof = prove("A quokka decade with a cache", [file], json.dumps("a with"), ["cache"])
    assert (proof.distinctive, proof.ordinary) == (2, 3)
    assert proof.found_in == ([file] if found else [])
