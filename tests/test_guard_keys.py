"""Keys: whole words decide, and nothing that only looks like them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.guard import keys, semconv
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.keys import KeyTable, split_words
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.rules import KeyRule, key_rules
from stack_composer.telemetry.model import DROPPED


def rule_of(key: str, *recorded: str) -> str:
    table = KeyTable(key_rules(), Policy(salt=bytes(32), record_content=recorded))
    rule = table.verdict(key, key).rule
    return rule.name if rule is not None else ""


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("http.request.header.x-api-key", ["http", "request", "header", "x", "api", "key"]),
        ("myAPIKey2", ["my", "api", "key"]),
        ("clientSecret", ["client", "secret"]),
        ("gen_ai.prompt.0.content", ["gen", "ai", "prompt", "content"]),
        ("TOKEN", ["token"]),
        ("", []),
        ("...", []),
    ],
)
def test_keys_are_cut_into_words(key: str, words: list[str]) -> None:
    assert split_words(key) == words


@given(st.text(max_size=40))
def test_any_key_can_be_cut(key: str) -> None:
    assert all(word and word == word.lower() for word in split_words(key))


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db.password",
        "user_passwd",
        "Authorization",
        "http.request.header.authorization",
        "http.request.header.set-cookie",
        "http.response.header.set_cookie",
        "x-api-key",
        "apiKey",
        "OPENAI_API_KEY",
        "refreshToken",
        "client_secret",
        "app.secret",
        "privateKey",
        "session_token",
        "password1",
        "pass_word",
        "Pass-Phrase",
        "apiKeys",
        "APIKEY",
        "aPiKeY",
        "authToken",
        "oauth2Token",
        "OAUTH2TOKEN",
        "passwordHash",
        "user_password_confirmation",
        "client_secret_post",
        "PGPASSWORD",
        "dbpassword",
        "MYSQL_PWD",
        "SSHPrivateKey",
        "access_tokens",
        "k8s.pod.label.password",
        "rpc.grpc.request.metadata.authorization",
        "db.connection_string",
    ],
)
def test_credentials_are_masked(key: str) -> None:
    assert rule_of(key) in ("password-key", "credential-key")


@pytest.mark.parametrize(
    "key",
    [
        "api%5Fkey",
        "pass%77ord",
        "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44",  # full width
        "pass\u200bword",  # a space of no width
        "pass\xadword",  # a hyphen that does not show
        "p\u0301assword",  # an accent
        "\u0440\u0430ssword",  # Cyrillic er and a
        "t\u03bfken",  # Greek omicron
        "\u1d18assword",  # a small capital
        "api\uff3fkey",
        "api\tkey",
        "pass\0word",
        "api key",
        "(password)",
        "x[0].password",
        "a." * 500 + "password",
    ],
)
def test_no_writing_hides_a_word(key: str) -> None:
    assert rule_of(key) in ("password-key", "credential-key")


@pytest.mark.parametrize("key", ["%", "%%", "100%", "%zz.password", "%5", "a%ff", "%e4.password"])
def test_percent_signs_that_encode_nothing_stay(key: str) -> None:
    assert (rule_of(key) == "password-key") == ("password" in key)


@pytest.mark.parametrize(
    "key",
    [
        "brief",
        "messages[0].content",
        "DB.Query.Parameter.0",
        "db.query.parameter.user",
        "process.environment_variable.HOME",
        "project.brief",
        "gen_ai.prompt",
        "gen_ai.prompt.0.content",
        "gen_ai.completion.0.content",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.tool.definitions",
        "llm.prompts",
        "llm.input_messages.0.message.content",
        "llm.output_messages",
        "input.value",
        "output.value",
        "retrieval.documents.3.document.content",
        "embedding.embeddings.0.embedding.text",
        "traceloop.entity.input",
        "traceloop.entity.output",
        "ai.prompt.messages",
        "ai.response.text",
        "ai.toolCall.args",
        "tool_arguments",
        "tool.parameters",
        "mlflow.spanInputs",
        "http.request.body",
        "http.response.body",
        "all_messages_events",
        "message.content",
        "content",
    ],
)
def test_content_is_dropped(key: str) -> None:
    assert rule_of(key) in ("content-key", "content-end-key")


@pytest.mark.parametrize(
    "key",
    [
        "project.id",
        "project_id",
        "projectId",
        "user.id",
        "session.id",
        "enduser.id",
        "host.id",
        "host.name",
        "device.id",
        "user.name",
    ],
)
def test_identifiers_are_hashed(key: str) -> None:
    assert rule_of(key) == "identity-key"


@pytest.mark.parametrize(
    "key",
    [
        "author",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.token_count.completion",
        "max_tokens",
        "tokenizer",
        "gen_ai.token.type",
        "token.count",
        "secret.name",
        "password.length",
        "brief.length",
        "brief_chars",
        "prompt.version",
        "gen_ai.prompt.name",
        "http.request.body.size",
        "http.request.header.content-type",
        "content_length",
        "document.id",
        "authority",
        "keyboard",
        "monkey",
        "cookie.count",
        "host.arch",
        "user_agent.original",
        "exception.message",
        "agent.phase",
        "k_dense",
        "db.query.summary",
        "secret.name.prefix",
        "prompt.cache.size",
        "content.safety",
        "session.replay",
        "token_type",
        "tokens",
        "secretary",
        "key",
        "compass",
        "passport_control",
        "passwordless",
        "password_policy",
        "session.count",
        "prompt_tokens",
        "completionStartTime",
        "prompt.name",
        "message.id",
        "error.message",
        "log.message",
        "messaging.message.body.size",
        "messaging.kafka.message.key",
        "messaging.rabbitmq.destination.routing_key",
        "aws.s3.key",
        "aws.secretsmanager.secret.arn",
        "feature_flag.key",
        "cache.key",
        "sort_key",
        "k8s.secret.name",
        "sql.duration",
        "http.request.header.x-forwarded-for",
        "llm.request.model",
        "output.path",
        "reasoning_tokens",
        "transcription",
        "command.name",
    ],
)
def test_measures_and_other_words_are_left_alone(key: str) -> None:
    assert rule_of(key) == ""


@pytest.mark.parametrize(
    "key", ["db.query.text", "db.statement", "sql.query", "DB.Statement", "dbQueryText"]
)
def test_queries_lose_their_literals(key: str) -> None:
    assert rule_of(key) == "sql-literal"
    assert rule_of(key, key) == ""
    assert rule_of(f"{key}.length") == ""


@pytest.mark.parametrize("key", ["process.command_args", "process.command_line", "argv"])
def test_command_lines_lose_their_secrets_whatever_is_turned_on(key: str) -> None:
    assert rule_of(key) == rule_of(key, key) == "argument"


def test_a_known_key_is_known_whatever_its_words() -> None:
    """And its class has a rule where it needs one, so that none is searched only."""
    table = KeyTable(key_rules(), Policy(salt=bytes(32)))
    rules = {rule.name for rule in key_rules()}
    assert set(keys._RULES_OF_CLASSES.values()) <= rules
    for name, listed in vars(semconv).items():
        if not name.isupper() or name == "VERSION":
            continue
        names = listed.split()
        assert names == sorted(set(names))
        for key in names:
            verdict = table.verdict(f"{key}x" if key.endswith(".") else key, key)
            rule = keys._RULES_OF_CLASSES.get(name.lower(), "")
            if rule or not key.endswith("."):
                assert (verdict.rule.name if verdict.rule else "") == rule, key


def test_the_table_of_known_keys_is_loaded_for_a_key_with_a_dot_only() -> None:
    code = (
        "import sys\n"
        "from stack_composer.telemetry.guard.engine import Guard\n"
        "from stack_composer.telemetry.guard.policy import Policy\n"
        "guard = Guard(Policy(salt=bytes(32)))\n"
        "for key in sys.argv[1:]:\n"
        "    guard.key(key)\n"
        "    print('stack_composer.telemetry.guard.semconv' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "k_dense", "agent.phase"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]


def test_what_is_turned_on_below_a_known_key_is_still_no_credential() -> None:
    assert rule_of("process.environment_variable.LANG", "process.environment_variable") == ""
    key = "process.environment_variable.DB_PASSWORD"
    assert rule_of(key, "process.environment_variable") == "password-key"


def test_content_is_recorded_only_by_name() -> None:
    assert rule_of("gen_ai.prompt", "gen_ai.prompt") == ""
    assert rule_of("gen_ai.prompt.0.content", "gen_ai.prompt") == ""
    assert rule_of("gen_ai.completion", "gen_ai.prompt") == "content-key"
    assert rule_of("gen_ai.prompts", "gen_ai.prompt") == "content-key"
    # A credential stays one whatever is turned on.
    assert rule_of("prompt.password", "prompt.password") == "password-key"


def test_machine_ids_are_marked_and_measures_are_searched_like_any_text() -> None:
    table = KeyTable(key_rules(), Policy(salt=bytes(32)))
    assert not table.verdict("http.request.method", "http.request.method").machine
    assert not table.verdict("code.lineno", "code.lineno").machine
    assert table.verdict("trace_id", "trace_id").machine
    assert table.verdict("k8s.pod.uid", "k8s.pod.uid").machine


@pytest.mark.parametrize(
    "key",
    [
        "header.ghp_" + "a1B2c3" * 6,
        "Cookie: sid=" + "q7Zk2mX9vB4nR8tY3wL6" + "; theme=dark",
        "my token: 1 password=" + "q7Zk2mX9vB4nR8tY3wL6" + " of 2",
    ],
    ids=["a word of the marker", "a word that ends the key now", "a word that is gone"],
)
def test_a_key_that_lost_a_secret_is_judged_as_before(key: str) -> None:
    """What is written is guarded again by who reads it: the marker's words are no key's."""
    guard = Guard(Policy(salt=bytes(32)))
    once = guard.value("payload", {key: ["clean text", 7]})
    assert key not in once
    assert guard.value("payload", once) == once


def test_a_marker_is_not_given_another_name() -> None:
    guard = Guard(Policy(salt=bytes(32)))
    assert guard.value("password", "[redacted:email]") == "[redacted:email]"
    assert guard.value("password", "[redacted:email] x") == "[redacted:password-key]"
    assert guard.value("password", "[redacted:]") == "[redacted:password-key]"
    assert guard.tally.counts == {("password-key", "mask"): 2}
    assert guard.value("payload", {"prompt": "[redacted:email]"}) == {"prompt": "[redacted:email]"}
    assert guard.value("user.id", "[redacted:email]") == "[redacted:email]"


def test_what_only_looks_like_a_marker_is_no_shelter() -> None:
    guard = Guard(Policy(salt=bytes(32)))
    assert guard.value("password", "[redacted:walrus7]") == "[redacted:password-key]"
    assert guard.value("prompt", "[redacted:walrus7]") is DROPPED
    for marker in ("[redacted:email]", "[redacted:dropped]", "[redacted:too-long]"):
        assert guard.value("password", marker) == marker


def test_a_stem_counts_unless_a_word_tells_of_a_measure() -> None:
    """Beside it, or at the end of the key; not at its beginning."""
    rule = KeyRule("r", "mask", ("*pass*",), ("length",), ends=False, numbers=False, reason="r")
    assert keys.holds_stem(rule, ["length", "of", "dbpass"]) == "pass"
    assert not keys.holds_stem(rule, ["dbpass", "x", "length"])
    assert not keys.holds_stem(rule, ["dbpass", "length", "x"])
    assert not keys.holds_stem(rule, [])


def test_a_verdict_is_turned_on_by_a_user_only() -> None:
    verdict = keys.Verdict("key", "key", "scan")
    assert not verdict.turned_on
    assert not verdict.machine


@pytest.mark.parametrize(
    "key",
    [
        "DB_PASS",
        "dbPass",
        "smtp.pass",
        "user.pw",
        "passwort",
        "db.kennwort",
        "contraseña",
        "dbpass",
    ],
)
def test_a_password_under_a_short_or_foreign_word_is_masked(key: str) -> None:
    guard = Guard(Policy(salt=bytes(32)))
    assert guard.value(key, "walrus7") == "[redacted:password-key]"
    assert guard.value("env", {key: "walrus7"}) == {key: "[redacted:password-key]"}


@pytest.mark.parametrize("key", ["tests.pass", "render_pass", "first pass", "pass_rate", "pw"])
def test_what_passes_is_no_password(key: str) -> None:
    assert Guard(Policy(salt=bytes(32))).value(key, "yes") == "yes"


@pytest.mark.parametrize("key", ["x-api-key", b"x-api-key"], ids=["text", "bytes"])
def test_headers_in_a_list_are_judged_by_their_names(key: str | bytes) -> None:
    guard = Guard(Policy(salt=bytes(32)))
    once = guard.value("headers", [[key, "walrus7"], ["accept", "text/html"]])
    assert once == [[key, "[redacted:credential-key]"], ["accept", "text/html"]]
    assert guard.value("headers", once) == once
    row = ["x-api-key", "walrus7", "more"]
    odd = ["a" * 101, "walrus7"]
    mixed = guard.value("headers", [row, [key, "walrus7"], odd])
    assert mixed == [row, [key, "[redacted:credential-key]"], odd]


@pytest.mark.parametrize("name", ["name", "key", "Name"])
def test_a_value_beside_its_name_is_judged_by_it(name: str) -> None:
    guard = Guard(Policy(salt=bytes(32)))
    value = "Value" if name == "Name" else "value"
    once = guard.value("env", [{name: "DB_PASSWORD", value: {"stringValue": "walrus7"}}])
    assert once == [{name: "DB_PASSWORD", value: {"stringValue": "[redacted:password-key]"}}]
    assert guard.value("env", once) == once
    plain = {name: "color", value: "walrus7", "other": "walrus7"}
    assert guard.value("env", plain) == plain


@pytest.mark.parametrize("above", ["db.query.parameter", "process.environment_variable"])
def test_what_stands_below_a_key_for_values_is_one_whatever_its_name(above: str) -> None:
    """A parameter may be named like a measure."""
    table = KeyTable(key_rules(), Policy(salt=bytes(32)))
    for name in ("length", "x.count", "0"):
        rule = table.verdict(f"{above}.{name}", "text").rule
        assert rule is not None
        assert rule.name == "content-key"
