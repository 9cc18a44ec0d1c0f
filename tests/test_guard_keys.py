"""Keys: whole words decide, and nothing that only looks like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.guard.keys import KeyTable, split_words
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.rules import key_rules


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
    ],
)
def test_credentials_are_masked(key: str) -> None:
    assert rule_of(key) in ("password-key", "credential-key")


@pytest.mark.parametrize(
    "key",
    [
        "brief",
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
    ],
)
def test_measures_and_other_words_are_left_alone(key: str) -> None:
    assert rule_of(key) == ""


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
