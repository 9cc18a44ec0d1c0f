"""Content: of what agents and models were told and answered, no word reaches the disk.

The shapes are those of well-known frameworks, the values our own. Each value that is
content holds ``SAID``; what is beside it (``kept``) must stand in the file as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord

import records
from stack_composer import telemetry
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.record.otel.logs import LoggerProvider

SAID = "walrus"
ASK = "Why does the walrus sing?"
ANSWER = "The walrus sings at dusk"
SYSTEM = "You know one walrus"
MESSAGES = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": ASK},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"animal": "walrus"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "a walrus, asleep"},
]
PARTS = [{"role": "user", "parts": [{"type": "text", "content": ASK}]}]
TOOLS = [{"type": "function", "function": {"name": "look", "description": "finds a walrus"}}]
CALLED = '{"animal": "walrus"}'
FOUND = '{"found": ["walrus"]}'
USAGE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "model-4o",
    "gen_ai.response.model": "model-4o-2026",
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.response.id": "chatcmpl-123",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 34,
    "gen_ai.request.temperature": 0.5,
    "gen_ai.tool.call.id": "call_1",
    "gen_ai.tool.name": "look",
    "gen_ai.agent.name": "zoologist",
}

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "opentelemetry": (
        {
            "gen_ai.input.messages": json.dumps(PARTS),
            "gen_ai.output.messages": json.dumps(PARTS),
            "gen_ai.system_instructions": json.dumps([{"type": "text", "content": SYSTEM}]),
            "gen_ai.tool.definitions": json.dumps(TOOLS),
            "gen_ai.tool.call.arguments": CALLED,
            "gen_ai.tool.call.result": FOUND,
            "gen_ai.retrieval.documents": json.dumps([{"id": "d1", "content": ANSWER}]),
            "gen_ai.retrieval.query.text": ASK,
            "gen_ai.evaluation.explanation": ANSWER,
            "gen_ai.prompt": ASK,
            "gen_ai.completion": ANSWER,
            "db.query.parameter.animal": "walrus",
            "db.operation.parameter.0": "walrus",
            "process.environment_variable.ANIMAL": "walrus",
        },
        {**USAGE, "gen_ai.prompt.name": "zoo", "gen_ai.provider.name": "openai"},
    ),
    "openinference": (
        {
            "input.value": ASK,
            "output.value": ANSWER,
            "llm.prompts": [ASK],
            "llm.prompts.0.prompt.text": ASK,
            "llm.choices.0.completion.text": ANSWER,
            "llm.input_messages.0.message.content": ASK,
            "llm.input_messages.0.message.contents.0.message_content.text": ASK,
            "llm.input_messages.0.message.contents.1.message_content.image.url": "data:walrus",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": CALLED,
            "llm.output_messages.0.message.function_call_arguments_json": CALLED,
            "llm.invocation_parameters": '{"stop": "walrus"}',
            "llm.function_call": CALLED,
            "llm.tools.0.tool.json_schema": json.dumps(TOOLS),
            "llm.prompt_template.template": "Tell me of the walrus {x}",
            "llm.prompt_template.variables": CALLED,
            "retrieval.documents.0.document.content": ANSWER,
            "retrieval.documents.0.document.metadata": '{"title": "walrus"}',
            "reranker.query": ASK,
            "reranker.input_documents.0.document.content": ANSWER,
            "embedding.embeddings.0.embedding.text": ASK,
            "tool.parameters": CALLED,
            "message.content": ASK,
        },
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "model-4o",
            "llm.token_count.prompt": 12,
            "llm.token_count.completion": 34,
            "llm.token_count.prompt_details.cache_read": 2,
            "llm.cost.total": 0.25,
            "llm.provider": "openai",
            "llm.input_messages.0.message.role": "user",
            "input.mime_type": "text/plain",
            "output.mime_type": "application/json",
            "retrieval.documents.0.document.id": "d1",
            "retrieval.documents.0.document.score": 0.75,
            "embedding.model_name": "small",
            "tool_call.id": "call_1",
            "llm.output_messages.0.message.tool_calls.0.tool_call.id": "call_2",
        },
    ),
    "openllmetry": (
        {
            "gen_ai.prompt.0.content": ASK,
            "gen_ai.prompt.1.tool_calls.0.arguments": CALLED,
            "gen_ai.completion.0.content": ANSWER,
            "traceloop.entity.input": json.dumps({"inputs": ASK}),
            "traceloop.entity.output": json.dumps({"outputs": ANSWER}),
            "traceloop.prompt.template": "of the walrus {x}",
            "traceloop.prompt.template_variables": CALLED,
            "llm.request.functions.0.parameters": CALLED,
            "db.query.result.document": ANSWER,
        },
        {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.completion.0.finish_reason": "stop",
            "traceloop.entity.name": "agent",
            "traceloop.workflow.name": "zoo",
            "llm.usage.total_tokens": 46,
            "llm.request.type": "chat",
        },
    ),
    "langfuse": (
        {
            "langfuse.observation.input": json.dumps(MESSAGES),
            "langfuse.observation.output": ANSWER,
            "langfuse.trace.input": ASK,
            "langfuse.trace.output": ANSWER,
        },
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "model-4o",
            "langfuse.observation.usage_details": '{"input": 12, "output": 34}',
            "langfuse.observation.prompt.name": "zoo",
            "langfuse.observation.prompt.version": 3,
            "langfuse.trace.name": "visit",
        },
    ),
    "logfire and pydantic ai": (
        {
            "request_data": json.dumps({"messages": MESSAGES, "model": "model-4o"}),
            "response_data": json.dumps({"message": MESSAGES[1]}),
            "all_messages_events": json.dumps(MESSAGES),
            "pydantic_ai.all_messages": json.dumps(PARTS),
            "events": json.dumps([{"event.name": "gen_ai.user.message", "content": ASK}]),
            "final_result": ANSWER,
            "tool_arguments": CALLED,
            "tool_response": FOUND,
            "model_request_parameters": json.dumps({"function_tools": TOOLS}),
            "prompt": ASK,
        },
        {
            "logfire.msg_template": "Chat Completion with {request_data[model]!r}",
            "logfire.span_type": "span",
            "agent_name": "zoologist",
            "model_name": "model-4o",
            "logfire.json_schema": '{"type":"object","properties":{"prompt":{"type":"string"}}}',
        },
    ),
    "mlflow": (
        {
            "mlflow.spanInputs": json.dumps({"question": ASK}),
            "mlflow.spanOutputs": json.dumps(ANSWER),
            "mlflow.chat.messages": json.dumps(MESSAGES),
            "mlflow.chat.tools": json.dumps(TOOLS),
            "mlflow.traceInputs": ASK,
        },
        {
            "mlflow.spanType": "CHAT_MODEL",
            "mlflow.chat.tokenUsage": '{"input_tokens": 12}',
            "mlflow.traceRequestId": "tr-1",
        },
    ),
    "vercel ai": (
        {
            "ai.prompt": json.dumps({"prompt": ASK}),
            "ai.prompt.messages": json.dumps(MESSAGES),
            "ai.prompt.tools": [json.dumps(TOOLS[0])],
            "ai.response.text": ANSWER,
            "ai.response.object": json.dumps({"animal": "walrus"}),
            "ai.response.reasoning": ANSWER,
            "ai.response.toolCalls": json.dumps([{"args": CALLED}]),
            "ai.result.text": ANSWER,
            "ai.toolCall.args": CALLED,
            "ai.toolCall.result": FOUND,
            "ai.value": ASK,
            "ai.values": [ASK],
            "ai.schema.description": "of a walrus",
        },
        {
            "ai.operationId": "ai.generateText",
            "ai.model.id": "model-4o",
            "ai.response.finishReason": "stop",
            "ai.toolCall.name": "look",
            "ai.toolCall.id": "call_1",
            "ai.usage.promptTokens": 12,
            "ai.usage.completionTokens": 34,
            "ai.response.msToFinish": 120.5,
        },
    ),
    "crewai": (
        {
            "crew_agents": json.dumps([{"role": "keeper", "goal": "feed the walrus"}]),
            "crew_tasks": json.dumps([{"description": "feed the walrus"}]),
            "crew_inputs": CALLED,
            "crewai.agent.goal": "feed the walrus",
            "crewai.agent.backstory": "raised by a walrus",
            "crewai.task.description": "feed the walrus",
            "crewai.task.expected_output": "a fed walrus",
            "formatted_description": "feed the walrus",
            "crewai.crew.output": ANSWER,
        },
        {"crew_id": "c-1", "crewai.agent.role": "keeper", "crew_process": "sequential"},
    ),
    "autogen and semantic kernel": (
        {
            "gen_ai.event.content": json.dumps({"content": ASK}),
            "ag2.human_input.prompt": ASK,
            "ag2.human_input.response": ANSWER,
            "ag2.code_execution.output": "walrus",
            "semantic_kernel.function.arguments": CALLED,
            "semantic_kernel.function.result": FOUND,
        },
        {"ag2.code_execution.exit_code": 0, "gen_ai.agent.name": "zoologist"},
    ),
    "haystack, llamaindex and agno": (
        {
            "haystack.component.input": json.dumps({"query": ASK}),
            "haystack.component.output": json.dumps({"replies": [ANSWER]}),
            "haystack.pipeline.input_data": json.dumps({"q": ASK}),
            "haystack.pipeline.output_data": json.dumps({"r": ANSWER}),
            "llama_index.query_str": ASK,
            "retrieved_context": ANSWER,
            "node.text": ANSWER,
            "agno.run.input": ASK,
            "agent.instructions": [SYSTEM],
        },
        {
            "haystack.component.name": "retriever",
            "haystack.component.type": "Retriever",
            "haystack.component.input_types": '{"query": "str"}',
            "haystack.component.visits": 1,
        },
    ),
    "google adk": (
        {
            "gcp.vertex.agent.llm_request": json.dumps({"contents": [{"parts": [{"text": ASK}]}]}),
            "gcp.vertex.agent.llm_response": json.dumps({"content": {"parts": [{"text": ANSWER}]}}),
            "gcp.vertex.agent.tool_call_args": CALLED,
            "gcp.vertex.agent.tool_response": FOUND,
            "gcp.vertex.agent.data": ASK,
        },
        {"gcp.vertex.agent.event_id": "e1", "gcp.vertex.agent.invocation_id": "i1"},
    ),
    "strands, bedrock and mcp": (
        {
            "system_prompt": SYSTEM,
            "tool.result": FOUND,
            "aws.bedrock.inputText": ASK,
            "aws.bedrock.invocation.input.inputBodyJson": CALLED,
            "mcp.request.argument.animal": "walrus",
            "mcp.request.params": CALLED,
            "mcp.tool.arguments": CALLED,
            "mcp.tool.result": FOUND,
        },
        {
            "gen_ai.tool.status": "success",
            "mcp.method.name": "tools/call",
            "mcp.tool.name": "look",
            "jsonrpc.request.id": "7",
        },
    ),
    "claude, openai agents, weave and agentops": (
        {
            "user_prompt": ASK,
            "new_context": ASK,
            "tool_input": CALLED,
            "tool_parameters": CALLED,
            "raw_input": ASK,
            "inputs": {"question": ASK},
            "output": ANSWER,
            "agentops.entity.input": ASK,
            "agentops.entity.output": ANSWER,
            "assistant_response": ANSWER,
        },
        {"prompt_length": 24, "prompt.id": "p1", "agentops.span.kind": "agent", "from_agent": "a"},
    ),
    "nested in values, and in texts": (
        {
            "call": {
                "kwargs": {"messages": MESSAGES},
                "rows": [{"prompt": ASK}, [{"content": ASK}]],
            },
        },
        {
            "payload": {"model": "model-4o", "usage": {"prompt_tokens": 12}},
            "content_type": "text/plain",
            "note": '{"model": "model-4o", "usage": {"prompt_tokens": 12}}',
        },
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Record into a folder of the test's own, with the salt there too."""
    yield tmp_path / "telemetry"
    telemetry.shutdown()


def begin(folder: Path, *recorded: str) -> None:
    def raise_it(error: Exception) -> None:
        raise error

    telemetry.configure(folder, on_internal_error=raise_it, record_content=list(recorded))


def disk(folder: Path) -> str:
    """Everything that lies in the folder, as text."""
    telemetry.flush()
    return "".join(
        records.content(path).decode() for path in sorted(folder.rglob("*")) if path.is_file()
    )


@pytest.mark.parametrize("name", SHAPES)
def test_no_word_of_content_is_written_and_all_else_is(name: str, folder: Path) -> None:
    content, kept = SHAPES[name]
    assert all(SAID in str(value) for value in content.values())
    begin(folder)
    with telemetry.span("chat", {**content, **kept}) as span:
        span.add_event("step", {**content, **kept})
    telemetry.log("info", "done", **{**content, **kept})
    assert SAID not in disk(folder)
    (written,) = records.spans(folder)
    assert {key: written["attrs"].get(key) for key in kept} == kept
    event = records.attributes(written["events"][0])
    assert {key: event.get(key) for key in kept} == kept
    (log,) = records.logs(folder)
    assert {key: log["attrs"].get(key) for key in kept} == kept


ARGUED = {"name": "look", "arguments": {"animal": "walrus"}}
TEXTS = {
    "json": json.dumps({"model": "m-1", "messages": MESSAGES, "n": 1}),
    "json, compact": json.dumps({"model": "m-1", "prompt": ASK, "n": 1}, separators=(",", ":")),
    "json in json": json.dumps({"model": "m-1", "body": json.dumps({"messages": MESSAGES})}),
    "json in json in json": json.dumps(json.dumps({"a": json.dumps({"prompt": f'"{ASK}" {ASK}'})})),
    "cut off": json.dumps({"model": "m-1", "messages": MESSAGES})[:75],
    "python's repr": repr({"model": "m-1", "messages": MESSAGES}),
    "repr of objects": f"Chat(model='m-1', messages=[Message(role='user', content={ASK!r})])",
    "in a sentence": f"m-1 was asked {json.dumps({'prompt': ASK})} twice",
    "a list": json.dumps([{"type": "text", "text": ASK}]),
    "quotes inside": json.dumps({"model": "m-1", "content": f'"{ASK}" and \\ {ASK}'}),
    "call": json.dumps({"model": "m-1", "tool": ARGUED}),
    "other cases": json.dumps({"model": "m-1", "systemPrompt": SYSTEM, "User_Message": ASK}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_content_in_json_inside_a_text_is_masked(name: str, folder: Path) -> None:
    begin(folder)
    text = TEXTS[name]
    with telemetry.span("chat", payload=text, nested={"inside": [text]}) as span:
        span.add_event("sent", {"payload": text})
    telemetry.log("info", text)
    found = disk(folder)
    assert SAID not in found
    assert found.count("[redacted:json-content]") >= 4
    if "m-1" in text and "json in json" not in name:
        assert found.count("m-1") == 4


EVENTS: dict[str, dict[str, Any]] = {
    "gen_ai.user.message": {"content": ASK, "role": "user"},
    "gen_ai.system.message": {"content": SYSTEM, "role": "system"},
    "gen_ai.tool.message": {"content": FOUND, "id": "call_1"},
    "gen_ai.assistant.message": {"tool_calls": [ARGUED], "role": "assistant"},
    "gen_ai.choice": {"message": ANSWER, "finish_reason": "stop", "index": 0, "tool.result": FOUND},
    "gen_ai.content.prompt": {"gen_ai.prompt": ASK, "role": "user"},
    "gen_ai.content.completion": {"gen_ai.completion": ANSWER, "text": ANSWER},
    "gen_ai.client.inference.operation.details": {"gen_ai.input.messages": json.dumps(PARTS)},
}
SAID_OF_EVENTS = {"role", "id", "finish_reason", "index"}


@pytest.mark.parametrize("name", EVENTS)
def test_events_of_models_keep_their_measures_only(name: str, folder: Path) -> None:
    begin(folder)
    attributes = EVENTS[name]
    kept = {key: value for key, value in attributes.items() if key in SAID_OF_EVENTS}
    logger = LoggerProvider().get_logger("lib")
    with telemetry.span("chat") as span:
        span.add_event(name, attributes)
    logger.emit(LogRecord(event_name=name, body=attributes))
    logger.emit(LogRecord(event_name=name, body=ASK, attributes=attributes))
    logger.emit(LogRecord(attributes={"event.name": name}, body=attributes))
    logger.emit(LogRecord(attributes={"event.name": name}, body=[ASK]))
    assert SAID not in disk(folder)
    (event,) = records.spans(folder)[0]["events"]
    assert event["name"] == name
    assert records.attributes(event) == kept
    first, second, third, _ = records.logs(folder)
    # Within a value a marker stands for what is dropped.
    for body in (records.value(first["body"]), records.value(third["body"])):
        assert {key: value for key, value in body.items() if "[redacted:" not in str(value)} == kept
    assert second["attrs"] == kept


def test_content_is_written_where_it_was_turned_on_and_nowhere_else(folder: Path) -> None:
    begin(folder, "gen_ai.input.messages", "db.query.text", "chosen")
    mail = "keeper@" + "example.org"
    messages = json.dumps([{"role": "user", "content": f"{ASK} {mail}"}])
    query = f"SELECT 'walrus', '{mail}'"
    attributes = {
        "gen_ai.input.messages": messages,
        "gen_ai.output.messages": json.dumps(PARTS),
        "gen_ai.input.messages_too": ASK,
        "db.query.text": query,
        "db.statement": query,
        "chosen": {"prompt": ASK, "password": "x1y2z"},
        "prompt": ASK,
    }
    with telemetry.span("chat", attributes):
        pass
    disk(folder)
    (span,) = records.spans(folder)
    assert span["attrs"] == {
        "gen_ai.input.messages": messages.replace(mail, "[redacted:email]"),
        "db.query.text": query.replace(mail, "[redacted:email]"),
        "db.statement": "SELECT ?, ?",
        "chosen": {"prompt": ASK, "password": "[redacted:password-key]"},
    }


QUERIES = {
    "SELECT * FROM t1 WHERE a = $1 AND b2 = :name AND c IN (?, %s) AND d = @p1": "",
    'SELECT "a"."b", `c`, [d e] FROM "T 1" WHERE ok IS TRUE AND x IS NOT NULL': "",
    "SELECT 'it''s', \"x\".\"y\" FROM t WHERE n = -1.5e3 LIMIT 10": 'SELECT ?, "x"."y" FROM t'
    " WHERE n = -? LIMIT ?",
    "SELECT E'a\\'b', x'1F', b'01', N'z', 0x1f, $$a 'b$$, $t$ $$ $t$": "SELECT ?, ?, ?, ?, ?, ?, ?",
    "INSERT INTO t (a) VALUES ('x'), ('y') -- of ann": "INSERT INTO t (a) VALUES (?), (?) --?",
    "/* ann's */ SELECT 1": "/*?*/ SELECT ?",
    "SELECT * FROM u WHERE n IN ('a','b') AND m IN (1, 2)": "SELECT * FROM u WHERE n IN (?,?)"
    " AND m IN (?, ?)",
    'SELECT * FROM u WHERE name = "Ann" AND x IN ("b", "c")': "SELECT * FROM u WHERE name = ?"
    " AND x IN (?, ?)",
    'INSERT INTO "t" ("a") VALUES ("x"), ("y") ON CONFLICT ("a") DO NOTHING': 'INSERT INTO "t"'
    ' ("a") VALUES (?), (?) ON CONFLICT ("a") DO NOTHING',
    "CREATE USER ann IDENTIFIED BY 'pw1'": "CREATE USER ann IDENTIFIED BY ?",
    "ALTER USER ann IDENTIFIED BY pw1;": "ALTER USER ann IDENTIFIED BY ?;",
    "SELECT 'cut off, and b = 2": "SELECT ?",
    "SELECT $$cut off": "SELECT ?",
    "SELECT /* cut off": "SELECT /*?*/",
    'SELECT a FROM t WHERE b = "cut off': "SELECT a FROM t WHERE b = ?",
    "SELECT 'C:\\', 'ann', x": "SELECT ?, x",
    "SELECT 'it\\'s ann', x": "SELECT ?, x",
    "SELECT q'[it's ann]' FROM dual": "SELECT ? FROM dual",
    "SET mykey ann": "SET mykey ?",
    "SET search_path TO public": "",
    "HSET user ann 1": "HSET user ? ?",
    "AUTH ann pw1": "AUTH ? ?",
    "GET mykey": "",
    '{"find": "u", "filter": {"name": "Ann", "n": 4, "ok": true}}': '{"find": "?", "filter":'
    ' {"name": "?", "n": ?, "ok": true}}',
    "[{'$match': {'name': /^Ann/i}}]": "[{'$match': {'name': ?}}]",
    "MATCH (p:Person {name: 'Ann', born: 1964})-[r:KNOWS {x: \"y\"}]->(q)": "MATCH (p:Person"
    " {name: ?, born: ?})-[r:KNOWS {x: ?}]->(q)",
    'rate(http_requests_total{job="ann"}[5m]) > 0.5': "rate(http_requests_total{job=?}[5m]) > ?",
    'query { user(id: 42, name: "Ann") { name } }': "query { user(id: ?, name: ?) { name } }",
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_loses_its_literals_and_nothing_else(query: str, folder: Path) -> None:
    begin(folder)
    expected = QUERIES[query] or query
    for key in ("db.query.text", "db.statement", "sql.query", "DB.Query.Text"):
        with telemetry.span("query", {key: query, "note": query}):
            pass
    disk(folder)
    for span in records.spans(folder):
        (written,) = (value for key, value in span["attrs"].items() if key != "note")
        assert written == expected
    redacted = records.health(folder, "redacted")
    assert (("sql-literal", "mask") in redacted) == (expected != query)


ARGUMENTS = [
    "/usr/bin/curl",
    "--password",
    "walrus",
    "--token=walrus",
    "-p",
    "walrus",
    "-u",
    "ann:walrus",
    "-H",
    "X-Api-Key: walrus",
    "API_KEY=walrus",
    "--prompt",
    ASK,
    "--verbose",
    "-p",
    "8080:80",
    "--port=80",
    "/home/walrus/notes.txt",
    "https://walrus:pw@db.example.com/x",
]


def test_a_resource_tells_neither_who_nor_what_was_secret(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = {
        "process.command_args": ARGUMENTS,
        "process.command_line": "mysql -uroot -pwalrus --password 'the walrus' -h db",
        "process.executable.path": "/home/walrus/bin/python",
        "process.working_directory": "/Users/walrus",
        "process.owner": "walrus",
        "host.name": "walrus-laptop",
        "host.id": "walrus-1",
        "host.ip": ["192.0.2.7"],
        "host.mac": ["AC-DE-48-23-45-67"],
        "service.instance.id": "627cc493-f310-47de-96bd-71410b7dec09",
        "os.description": "Ubuntu 24.04",
        "k8s.pod.name": "shop-7d9c5b6f4-x2x9z",
        "process.parent_pid": 4111,
    }
    begin(folder)
    monkeypatch.setattr(recorder, "resource", resource)
    with telemetry.span("visit", resource):
        pass
    found = disk(folder)
    assert SAID not in found
    assert "192.0.2.7" not in found
    assert "AC-DE-48" not in found
    (span,) = records.spans(folder)
    written = span["resource"]
    assert {key: span["attrs"].get(key) for key in resource} == {
        key: written.get(key) for key in resource
    }
    secret, home = "[redacted:argument]", "[redacted:home-folder]"
    assert written["process.command_args"] == [
        "/usr/bin/curl",
        "--password",
        secret,
        f"--token={secret}",
        "-p",
        secret,
        "-u",
        secret,
        "-H",
        f"X-Api-Key: {secret}",
        f"API_KEY={secret}",
        "--prompt",
        secret,
        "--verbose",
        "-p",
        "8080:80",
        "--port=80",
        f"/home/{home}/notes.txt",
        "https://[redacted:url-credentials]@db.example.com/x",
    ]
    assert written["process.command_line"] == f"mysql -uroot -p{secret} --password {secret} -h db"
    assert written["process.executable.path"] == f"/home/{home}/bin/python"
    assert written["process.working_directory"] == f"/Users/{home}"
    # Whatever else is in the list, and no part is counted or changed twice.
    guard = Guard(Policy(salt=bytes(32)))
    once = guard.value("argv", [1, *ARGUMENTS, {"--token": "x"}])
    counts = dict(guard.tally.counts)
    assert once[1:-1] == written["process.command_args"]
    assert guard.value("argv", once) == once
    assert guard.tally.counts == counts
    for key in ("process.owner", "host.name", "host.id"):
        assert written[key].startswith("hmac:")
    for key in ("service.instance.id", "os.description", "k8s.pod.name", "process.parent_pid"):
        assert written[key] == resource[key]
