"""``guard explain``, ``guard rules`` and ``guard rotate-salt``; rules in the configuration."""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli_running import HOUR_NS, counter, metrics_line, ok, ok_json, ok_lines, refusal, run, write
from stack_composer.telemetry.cli import guard_explain, guard_rotate_salt, guard_rules
from stack_composer.telemetry.config import load_config
from stack_composer.telemetry.errors import ConfigError

GOOD = """
[redaction]
profile = "default"

[[redaction.rules]]
name = "ticket-number"
pattern = 'ACME-[0-9]{6}'
allow = ["ACME-000000"]
example = "about ACME-123456"
counterexample = "ACME corporation"
reason = "Ticket numbers name customers."

[[redaction.rules]]
name = "acme-owner"
key = "acme.*.owner"
action = "hash"

[redaction.allow]
"http.user_agent" = ["ticket-number"]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "telemetry.toml"
    path.parent.mkdir()
    path.write_text(GOOD)
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(path))
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_DIR", str(tmp_path / "telemetry"))
    return path


# -- the configuration ----------------------------------------------------------------


@pytest.mark.usefixtures("config")
def test_guard_test_uses_the_configured_rules() -> None:
    texts = [
        {"text": "see ACME-123456, ACME-000000"},
        {"text": "ACME-123456", "key": "http.user_agent"},
        {"text": "bob", "key": "acme.x.owner"},
    ]
    answers = ok_lines("telemetry", "guard", "test", stdin="\n".join(map(json.dumps, texts)))
    assert answers[0]["text"] == "see [redacted:ticket-number], ACME-000000"
    assert answers[1] == {"text": "ACME-123456", "findings": []}
    assert answers[2]["text"].startswith("hmac:")
    assert answers[2]["findings"][0]["rule"] == "acme-owner"


def test_show_prints_rules_as_toml_that_means_the_same(config: Path) -> None:
    said = ok("telemetry", "config", "show")
    shown = tomllib.loads(said)["redaction"]
    written = tomllib.loads(GOOD)["redaction"]
    assert (shown["rules"], shown["allow"]) == (written["rules"], written["allow"])
    assert "# file" in ok("telemetry", "config", "show", "--origin")
    options = ok_json("telemetry", "config", "show")["options"]
    assert options["redaction_rules"]["value"] == written["rules"]
    assert options["redaction_rules"]["origin"] == "file"
    assert "redaction_rules" in ok("telemetry", "config", "check")
    config.write_text(said)
    assert tomllib.loads(ok("telemetry", "config", "show"))["redaction"] == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.replace("ACME-[0-9]{6}", "ACME-(?=x)"),
            ":7: redaction.rules[1].pattern: position 5: lookahead",
        ),
        (GOOD.replace('"acme-owner"', '"email"'), ":14: redaction.rules[2].name: the name of a"),
        (
            GOOD.replace("\naction", "\nacton"),
            ":13: redaction.rules[2]: has an unknown key 'acton'",
        ),
        (
            GOOD.replace("ACME corporation", "ACME-123456"),
            ":10: redaction.rules[1].counterexample: is found",
        ),
        (
            GOOD.replace('["ticket-number"]', '["tickets"]'),
            ":19: redaction.allow.'http.user_agent':",
        ),
        (GOOD.replace('["ticket-number"]', "7"), ":19: redaction.allow.'http.user_agent': must be"),
        ("[redaction]\nrules = 3\n", ":2: redaction.rules: must be a list of tables"),
        ("[redaction]\nrules = [{name = 'x'}]\n", ":2: redaction.rules[1].name: missing"),
        ("[redaction]\nallow = ['email']\n", ":2: redaction.allow: must be a table"),
        (
            "[redaction]\nrules = [7]\nallow = 7\n",
            ":2: redaction.rules[1]: must be a table (and 1 m",
        ),
        (
            "".join(f"[[redaction.rules]]\nname='r{n}'\npattern='abc'\n" for n in range(10_000)),
            ":1: redaction.rules: more than 200 rules",
        ),
    ],
    ids=range(11),
)
def test_a_mistake_is_named_with_its_place(text: str, message: str, config: Path) -> None:
    config.write_text(text)
    what, hint = refusal("telemetry", "config", "check", code=1)
    assert f"telemetry.toml{message}" in what
    assert hint
    assert message in ok_json_of_failure("telemetry", "config", "check")["problem"]
    assert refusal("telemetry", "guard", "test", code=1)[0] == what
    warning = ok_json("telemetry", "status")["warnings"][0]
    assert message in warning
    assert "programs that run keep the rules they have" in warning
    doctor = ok_json_of_failure("telemetry", "doctor")
    assert message in doctor["findings"][0]["what"]


def ok_json_of_failure(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    return json.loads(done.stdout)


def test_status_says_how_many_and_what_a_broken_file_means(config: Path) -> None:
    assert ok_json("telemetry", "status")["rules"] == 2
    assert "2 rules of your own" in ok("telemetry", "status")
    config.write_text("[telemetry]\nenabled = maybe\n")
    what, _ = refusal("telemetry", "status", code=1)
    assert "line 2" in what
    assert "programs that run keep the last good configuration" in what


def test_who_must_go_on_has_strict_and_the_rules_that_are_right(config: Path) -> None:
    config.write_text(GOOD.replace("ACME-[0-9]{6}", "ACME-(?=x)"))
    with pytest.raises(ConfigError):
        load_config()
    found = load_config({"profile": "default"}, bad_rules=True)
    assert found.profile == "strict"
    assert [rule.name for rule in found.redaction_rules] == ["acme-owner"]
    assert "redaction.rules[1].pattern" in found.warnings[0]
    config.write_text(GOOD)
    assert load_config(bad_rules=True).warnings == ()
    # A mistake of another kind may be about where and whether to record.
    config.write_text(GOOD.replace("[redaction]", "[telemetry]\ngdpr = 7\n[redaction]"))
    with pytest.raises(ConfigError):
        load_config(bad_rules=True)


@pytest.mark.usefixtures("config")
def test_rules_can_be_arguments() -> None:
    rules = [{"name": "room", "pattern": "room-[0-9]+"}]
    found = load_config({"redaction_rules": rules, "redaction_allow": {"k": ["room", "email"]}})
    assert [rule.name for rule in found.redaction_rules] == ["room"]
    assert found.redaction_allow == (("k", ("room", "email")),)
    with pytest.raises(ConfigError, match=r"redaction_rules\[1\]\.name"):
        load_config({"redaction_rules": [{"pattern": "abc"}]})
    with pytest.raises(ConfigError, match=r"redaction_allow\.k: does not begin"):
        load_config({"redaction_allow": {"k": ["room"]}})


# -- guard explain --------------------------------------------------------------------


@pytest.mark.usefixtures("config")
def test_explain_tells_rule_reason_place_and_cost() -> None:
    text = "ask a@example.com about ACME-123456"
    found = ok_json("telemetry", "guard", "explain", text)
    assert set(found) == set(guard_explain.JSON_KEYS)
    assert found["text"] == "ask [redacted:email] about [redacted:ticket-number]"
    email, ticket = found["findings"]
    assert (email["rule"], email["origin"], email["tier"]) == ("email", "ours", "person")
    assert (email["start"], email["end"]) == (4, 17)
    assert email["validator"] == "persons.email"
    assert ticket == {
        "rule": "ticket-number",
        "tier": "own",
        "origin": "yours",
        "start": 24,
        "end": 35,
        "action": "mask",
        "reason": "Ticket numbers name customers.",
        "validator": "",
        "words": "",
    }
    assert found["rules"] > 40
    assert set(found["looked_at"]) >= {"email", "ticket-number"}
    assert found["search_us"] > 0
    assert found["rules_us"] > 0
    said = ok("telemetry", "guard", "explain", text)
    assert "a@example.com" not in said
    assert "ACME-123456" not in said
    assert "ticket-number, a rule of yours: characters 24 to 35, masked" in said
    assert "Ticket numbers name customers." in said
    assert re.search(r"cost +[0-9.]+ µs for the search, [0-9.]+ µs for those", said)


@pytest.mark.usefixtures("config")
def test_explain_tells_why_nothing_was_found() -> None:
    found = ok_json("telemetry", "guard", "explain", "hello world, how are you")
    assert (found["findings"], found["looked_at"], found["rules_us"]) == ([], [], 0)
    said = ok("telemetry", "guard", "explain", "-", stdin="hello world, how are you\n")
    assert "recorded  hello world, how are you\n" in said
    assert f"{found['rules']} rules of profile default in one search; none looked closer" in said
    strict = ok_json("telemetry", "guard", "explain", "from 203.0.113.7", "--profile", "strict")
    assert strict["rules"] > found["rules"]
    assert strict["findings"][0]["rule"] == "ipv4"


@pytest.mark.usefixtures("config")
def test_explain_tells_what_the_key_decides() -> None:
    found = ok_json("telemetry", "guard", "explain", "tell me", "--key", "gen_ai.prompt")
    assert found["text"] is None
    (finding,) = found["findings"]
    assert (finding["tier"], finding["action"], finding["words"]) == ("key", "drop", "prompt")
    assert found["rules"] == 0
    said = ok("telemetry", "guard", "explain", "bob", "--key", "acme.x.owner")
    assert "the key, which says 'acme.*.owner'" in said
    assert "bob" not in said
    said = ok("telemetry", "guard", "explain", "x" * 70_000)
    assert "too-long" in said
    assert "longer than the guard searches" in said


@pytest.mark.usefixtures("config")
def test_explain_bears_any_text() -> None:
    for text in (b"\xff\x00 a@example.com", "\ud83d".encode("utf-8", "surrogatepass"), b""):
        found = ok_json("telemetry", "guard", "explain", "-", stdin=text)
        assert "a@example.com" not in json.dumps(found)


# -- guard rules ----------------------------------------------------------------------


@pytest.mark.usefixtures("config")
def test_rules_lists_ours_and_yours() -> None:
    found = ok_json("telemetry", "guard", "rules")
    assert set(found) == set(guard_rules.JSON_KEYS)
    rows = {row["name"]: row for row in found["rules"]}
    assert rows["email"]["origin"] == "ours"
    assert rows["ticket-number"]["origin"] == rows["acme-owner"]["origin"] == "yours"
    assert (rows["acme-owner"]["tier"], rows["acme-owner"]["action"]) == ("key", "hash")
    default = ok_json("telemetry", "guard", "rules", "--profile", "default")["rules"]
    assert 0 < len(default) < len(rows)
    said = ok("telemetry", "guard", "rules")
    assert re.search(r"ticket-number +own +default +mask +yours", said)


# -- guard rotate-salt ----------------------------------------------------------------


def test_rotate_salt_replaces_it_and_ids_change(config: Path) -> None:
    folder = config.parent
    assert "nothing to replace" in ok("telemetry", "guard", "rotate-salt")
    assert ok_json("telemetry", "guard", "rotate-salt", "--yes") == {
        "folder": str(folder),
        "dry_run": False,
        "salts": [],
        "rotated": 0,
    }
    for name in ("salt", "salt-upload"):
        (folder / name).write_bytes(os.urandom(32))
        (folder / name).chmod(0o600)
    salts = [(folder / name).read_bytes() for name in ("salt", "salt-upload")]

    def hashed() -> str:
        (answer,) = ok_lines("telemetry", "guard", "test", stdin='{"text": "u1", "key": "user.id"}')
        return str(answer["text"])

    before = hashed()
    dry = ok_json("telemetry", "guard", "rotate-salt", "--dry-run")
    assert set(dry) == set(guard_rotate_salt.JSON_KEYS)
    assert (dry["rotated"], len(dry["salts"])) == (0, 2)
    assert "nothing was changed" in ok("telemetry", "guard", "rotate-salt", "--dry-run")
    asked = run("telemetry", "guard", "rotate-salt")
    assert asked.returncode == 2
    assert "cannot be undone" in asked.stderr
    assert "add --yes" in asked.stderr
    assert hashed() == before
    assert [(folder / name).read_bytes() for name in ("salt", "salt-upload")] == salts
    said = ok("telemetry", "guard", "rotate-salt", "--yes")
    assert "ids hashed before will no longer match" in said
    assert "replaced 2 salts" in said
    assert hashed() != before
    config.write_text("broken")
    assert ok_json("telemetry", "guard", "rotate-salt", "--yes")["rotated"] == 2


def test_rotate_salt_refuses_a_link(config: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"x" * 32)
    (config.parent / "salt").symlink_to(tmp_path / "other")
    done = run("telemetry", "guard", "rotate-salt", "--yes")
    assert done.returncode == 1
    assert "hint:" in done.stderr
    assert (config.parent / "salt").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"x" * 32


# -- doctor ---------------------------------------------------------------------------


def day(folder: Path, judged: int, hits: dict[str, int], age_ns: int = HOUR_NS) -> None:
    at = time.time_ns() - age_ns
    health = "stack_composer.telemetry."
    points = [counter(health + "judged", judged, time_ns=at)]
    points += [counter(health + "hit", n, time_ns=at, rule=rule) for rule, n in hits.items()]
    write(folder, ("metrics", metrics_line(*points)))


def test_doctor_tells_of_a_rule_that_hits_more_than_a_fifth_of_a_day(tmp_path: Path) -> None:
    day(tmp_path / "a", 1_000, {"email": 201, "card": 200})
    (finding,) = ok_json_of_failure("telemetry", "doctor", "--dir", str(tmp_path / "a"))["findings"]
    assert finding["check"] == "guard"
    assert "the rule email hit 201 of 1,000 texts in the last 24 hours (20%)" in finding["what"]
    assert '"the.key" = ["email"]' in finding["mend"]
    day(tmp_path / "b", 99, {"email": 99})
    day(tmp_path / "b", 10_000, {"email": 9_000}, age_ns=25 * HOUR_NS)
    assert ok_json("telemetry", "doctor", "--dir", tmp_path / "b")["ok"] is True


def test_doctor_sees_a_real_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stack_composer import telemetry

    (tmp_path / "telemetry.toml").touch()
    monkeypatch.setenv("STACK_COMPOSER_TELEMETRY_CONFIG", str(tmp_path / "telemetry.toml"))
    folder = tmp_path / "telemetry"
    rules = [{"name": "too-wide", "pattern": "step [0-9]+"}]
    try:
        telemetry.configure(folder, redaction_rules=rules)
        for number in range(150):
            with telemetry.span("planner.step", note=f"step {number} of the plan"):
                pass
            with telemetry.span("planner.other", note="password=hunter2hunter"[: number % 9]):
                pass
    finally:
        telemetry.shutdown()
    (finding,) = ok_json_of_failure("telemetry", "doctor", "--dir", str(folder))["findings"]
    assert "the rule too-wide hit 150 of " in finding["what"]
    assert ok_json("telemetry", "stats", "--dir", folder)["redacted"] == {"too-wide": 150}
