"""``guard test``: an answer for each line, whatever the other lines are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cli_running import ok_lines, refusal, run
from stack_composer.telemetry.cli import guard_test

SECRET = "ghp_" + "a1B2" * 9


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_text_and_findings() -> None:
    (found,) = ok_lines("telemetry", "guard", "test", stdin=lines({"text": "ask a@example.com!"}))
    assert set(found) == set(guard_test.JSON_KEYS)
    assert found["text"] == "ask [redacted:email]!"
    assert found["findings"] == [{"rule": "email", "start": 4, "end": 17, "action": "mask"}]


def test_positions_count_characters_of_the_text_given() -> None:
    text = "名前☃ a@example.com"
    (found,) = ok_lines("telemetry", "guard", "test", stdin=lines({"text": text}))
    (finding,) = found["findings"]
    assert text[finding["start"] : finding["end"]] == "a@example.com"


def test_clean_text_stays_and_keys_have_rules_of_their_own() -> None:
    answers = ok_lines(
        "telemetry",
        "guard",
        "test",
        stdin=lines(
            {"text": "planner.solve"},
            {"text": "planner.solve", "key": None},
            {"text": "tell me a story", "key": "gen_ai.input.messages"},
            {"text": "team-a", "key": "project_id"},
        ),
    )
    assert answers[0] == answers[1] == {"text": "planner.solve", "findings": []}
    assert answers[2]["text"] is None
    assert answers[2]["findings"][0]["action"] == "drop"
    assert answers[3]["text"].startswith("hmac:")
    assert answers[3]["findings"][0]["action"] == "hash"


def test_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(lines({"text": "from 203.0.113.7 port 22"}))
    (loose,) = ok_lines("telemetry", "guard", "test", path)
    assert loose["findings"] == []
    (strict,) = ok_lines("telemetry", "guard", "test", path, "--profile", "strict")
    assert "203.0.113.7" not in strict["text"]
    assert "invalid choice" in refusal("telemetry", "guard", "test", "--profile", "x")[0]
    config = tmp_path / "telemetry.toml"
    config.write_text('[redaction]\nprofile = "strict"\n')
    environ = {"STACK_COMPOSER_TELEMETRY_CONFIG": str(config)}
    assert ok_lines("telemetry", "guard", "test", path, environ=environ) == [strict]


def test_bad_lines_are_named_by_number_and_never_quoted() -> None:
    good = lines({"text": "fine"})
    bad = [
        f'"{SECRET}"',
        f"{{{SECRET}",
        lines({"txt": SECRET}).strip(),
        lines({"text": 1, "key": SECRET}).strip(),
        lines({"text": SECRET, "key": [SECRET]}).strip(),
        "[" * 100_000,
        '{"text": ' + "1" * 5_000 + "}",
    ]
    stdin = b"\n".join([good.encode().strip(), *(text.encode() for text in bad), b"\xff\xfe", b""])
    done = run("telemetry", "guard", "test", stdin=stdin + b"\n" + good.encode())
    assert done.returncode == 1
    assert done.stdout.count("\n") == 2
    named = [line for line in done.stderr.splitlines() if line.startswith("line ")]
    assert [line.split(":")[0] for line in named] == [f"line {n}" for n in range(2, 10)]
    assert "8 lines could not be read" in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr


def test_many_bad_lines_do_not_flood_and_are_all_counted() -> None:
    done = run("telemetry", "guard", "test", stdin="x\n" * 1000)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 22
    assert "1,000 lines could not be read" in done.stderr


def test_a_line_too_long_is_left_out_and_the_next_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(33):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"text": "fine"}\n')
    done = run("telemetry", "guard", "test", path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["text"] == "fine"
    assert "line 1: longer than 16,777,216 bytes" in done.stderr
    assert "1 line could not be read" in done.stderr


def test_lone_surrogates_and_an_end_without_newline() -> None:
    (found,) = ok_lines("telemetry", "guard", "test", stdin='{"text": "a\\ud800b a@example.com"}')
    assert found["text"] == "a\ud800b [redacted:email]"


def test_testing_leaves_nothing_behind() -> None:
    ok_lines("telemetry", "guard", "test", stdin=lines({"text": "x", "key": "project_id"}))
    home = Path(os.environ["HOME"])
    assert list(home.iterdir()) == []


def test_every_line_of_a_long_input_is_answered_in_order() -> None:
    texts = [f"user{n}@example.com wrote {n}" for n in range(10_000)]
    found = ok_lines("telemetry", "guard", "test", stdin=lines(*({"text": t} for t in texts)))
    assert [answer["text"] for answer in found] == [
        f"[redacted:email] wrote {n}" for n in range(10_000)
    ]
