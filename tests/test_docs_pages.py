"""The pages on privacy, format and architecture say what is so."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from docs_blocks import ROOT, Block, blocks
from stack_composer import telemetry
from stack_composer.telemetry import config_options, pipeline
from stack_composer.telemetry.guard import budget, engines
from stack_composer.telemetry.guard.rules import describe
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store import names, seal, sketch, writer

DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "stack_composer" / "telemetry"


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def privacy_page() -> ModuleType:
    """The tool, which is a script and no module of a package."""
    spec = importlib.util.spec_from_file_location("privacy_page", ROOT / "tools/privacy_page.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


# --- privacy ----------------------------------------------------------------------


def test_the_list_of_rules_is_in_step() -> None:
    text = text_of("privacy.md")
    assert privacy_page().page(text) == text, "run tools/privacy_page.py"


def test_every_rule_stands_in_the_list_once() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", text_of("privacy.md"), re.MULTILINE)
    assert sorted(listed) == sorted(rule["name"] for rule in describe())


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        privacy_page().page("# Privacy\n")


# --- the numbers on the pages -------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("format.md", f"at most {sketch.NAMES_MAX:,} span names"),
        ("format.md", f"to {pipeline.CHUNK_RECORDS}, which of spans"),
        ("format.md", f"bundles of {writer.SEALED_AT_CLOSE_BYTES_MIN >> 10} KiB and more"),
        ("format.md", f"about {seal.FRAME_BYTES >> 20} MiB of whole"),
        ("format.md", f"every {pipeline.METRICS_S:.0f} s"),
        ("privacy.md", f"more than {budget.TEXT_CHARS_MAX:,} characters"),
        ("privacy.md", f"{engines.ReMatcher.chars_max:,} where google-re2 has no wheel"),
        ("architecture.md", f"when {recorder.WAKE_AT:,} records of one kind wait"),
        ("architecture.md", f"at most {pipeline.CHUNK_RECORDS} records; each becomes one line"),
    ],
)
def test_a_bound_on_a_page_is_the_codes(page: str, said: str) -> None:
    words = {"every 10 s": "every ten seconds"}
    assert words.get(said, said).lower() in " ".join(text_of(page).lower().split())


def test_the_counts_in_words_are_the_codes() -> None:
    text = " ".join(text_of("format.md").split())
    assert (writer.SEALINGS_MAX, "more than four wait to be sealed" in text) == (4, True)
    assert (writer.ADOPT_AFTER_S, "writing for five seconds" in text) == (5, True)
    assert (writer.ADOPT_EVERY_S, "again every ten minutes" in text) == (600, True)
    option = next(o for o in config_options.OPTIONS if o.name == "bundle_age_s_max")
    assert (option.default, "`bundle_age_s_max` old (an hour)" in text) == (3600, True)


def test_the_names_of_files_are_the_codes() -> None:
    text = text_of("format.md")
    for make in (names.open_name, names.sealed_name, names.sketch_name):
        assert f"`{make('<stem>', '<signal>')}`" in text
    example = re.search(r"```text\n(\S+)\n└", text)
    assert example
    assert names.parse_name(example[1])


# --- architecture and glossary --------------------------------------------------------


def test_every_room_is_on_the_plan() -> None:
    text = text_of("architecture.md")
    rooms = [path.name for path in PACKAGE.glob("*.py")]
    rooms += [f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")]
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []


def test_what_the_plan_names_exists() -> None:
    named = set(re.findall(r"`([\w/]+(?:\.py|\.toml|/))`", text_of("architecture.md")))
    places = (ROOT, PACKAGE, ROOT / "tests", ROOT / "src", PACKAGE / "guard", PACKAGE / "cli")
    # The configuration file is the user's.
    named.discard("telemetry.toml")
    assert [name for name in sorted(named) if not any((p / name).exists() for p in places)] == []


def test_each_word_of_the_glossary_is_explained_once() -> None:
    terms = re.findall(r"^(?!#|: |  )(\S.*)\n: ", text_of("glossary.md"), re.MULTILINE)
    words = [word for term in terms for word in term.split(", ")]
    assert len(words) > 50
    assert len(words) == len(set(words))


# --- commands -----------------------------------------------------------------------

COMMANDS = [
    block for page in ("format.md", "privacy.md") for block in blocks(DOCS / page, "console")
]


def record_something(folder: Path) -> None:
    telemetry.configure(folder)
    with telemetry.span("planner.solve", k_dense=128):
        telemetry.log("info", "plan found")
    telemetry.metric("agent.latency_ms", 123, agent="stack")
    telemetry.shutdown()


@pytest.mark.e2e
@pytest.mark.parametrize("block", COMMANDS, ids=[block.name for block in COMMANDS])
def test_the_commands_run_and_print_what_is_shown(block: Block, tmp_path: Path) -> None:
    """What they write goes to a folder of the test; a block may show no output at all."""
    needed = {word for word in ("bash", "jq", "zstdcat") if word == "bash" or word in block.text}
    missing = sorted(word for word in needed if not shutil.which(word))
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    folder = tmp_path / "telemetry"
    record_something(folder)
    lines = block.text.splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    shown = [line for line in lines if not line.startswith("$ ")]
    script = "\n".join(["set -euo pipefail", *commands]).replace("/tmp/", f"{tmp_path}/")
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT / "src"),
            "STACK_COMPOSER_TELEMETRY_DIR": str(folder),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    if shown:
        assert done.stdout.splitlines() == shown


def test_there_are_commands_to_run() -> None:
    """Else a changed fence would make the test above pass with nothing to run."""
    assert len(COMMANDS) >= 5
