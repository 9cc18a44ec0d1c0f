"""What is masked within a value: literals of queries, arguments, content in JSON."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry.guard import arguments, sql
from stack_composer.telemetry.guard.engine import Guard
from stack_composer.telemetry.guard.policy import Policy
from stack_composer.telemetry.guard.validators import content

SAID = "walrus"
PIECES = st.sampled_from(
    ["'", '"', "`", "\\", "$", "$$", "$t$", "--", "/*", "*/", "#", "[", "]", "{", "}", ":", "=",
     "(", ")", ",", " ", "\n", "q'[", "E'", "0x1F", "1.5e-3", ".5", "a1", "$1", ":n", "?", "%s",
     "SELECT", "SET", "GET", "VALUES", "IN", "identified by ", "''", "é", "\0", "-p", "--token",
     "--token=", "-u", "a:b"]
)  # fmt: skip
anything = st.lists(PIECES, max_size=25).map("".join)


@given(anything)
def test_any_text_can_be_taken_for_a_query(query: str) -> None:
    """The parts lie in order within it; none overlap."""
    parts = sql.literals(query)
    ends = [0, *(end for _, end, _ in parts)]
    assert all(before <= start < end for before, (start, end, _) in zip(ends, parts, strict=False))
    assert ends[-1] <= len(query)


@given(anything)
def test_any_text_can_be_taken_for_a_command(line: str) -> None:
    guard = Guard(Policy(salt=bytes(32)))
    assert isinstance(guard.value("process.command_line", line), str)
    assert isinstance(guard.value("process.command_args", line.split(" ")), list)
    assert guard.tally.faults == 0


@given(st.text(alphabet="walrus' \"\\`;$-/*#\n", max_size=20))
def test_a_quoted_literal_never_survives(held: str) -> None:
    """Escaped as each dialect does it, whatever stands in it."""
    held = f"{held}{SAID}"
    doubled = held.replace("'", "''")
    slashed = held.replace("\\", "\\\\").replace("'", "\\'")
    for literal in (f"'{slashed}'", f"E'{slashed}'", f"$a${held.replace('$', '')}$a$"):
        query = f"SELECT a FROM t WHERE b = {literal} AND c = d"  # noqa: S608 - it is not run
        assert SAID not in masked(query), query
    if "\\" not in doubled:
        assert masked(f"SELECT a, '{doubled}' AS b") == "SELECT a, ? AS b"


def masked(query: str) -> str:
    pieces, position = [], 0
    for start, end, instead in sql.literals(query):
        pieces += [query[position:start], instead]
        position = end
    return "".join([*pieces, query[position:]])


@given(st.recursive(st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_json_content_ends_where_json_says(value: object) -> None:
    """At every depth of JSON within JSON, and whatever quotes stand in it."""
    for depth in range(3):
        before, after = '{"a": 1, "content": ', ', "b": 2}'
        text = f"{before}{json.dumps(value)}{after}"
        for _ in range(depth):
            text = json.dumps(text)
        data = text.encode()
        quotes = b"\\" * (2**depth - 1) + b'"'
        at = data.index(b"content" + quotes + b": ") + len(b"content" + quotes + b": ")
        start = at + len(quotes) if isinstance(value, str) else at
        end = content.value_end(data, start, start + 1)
        rest = data.rindex(b", " + quotes + b"b" + quotes)
        if isinstance(value, str):
            assert end == (rest - len(quotes) if value else False)
        else:
            assert end == (rest if value else False)


def test_what_was_judged_as_a_text_is_judged_anew_as_a_query() -> None:
    """A key below a query's holds one too; what is remembered of it elsewhere is no answer."""
    guard = Guard(Policy(salt=bytes(32)))
    query = f"SELECT '{SAID}', 'keeper@" + "example.org'"
    (text,) = guard.texts([(guard.key("q"), query)])
    assert text == f"SELECT '{SAID}', '[redacted:email]'"
    assert guard.value("db.query.text", {"q": query}) == {"q": "SELECT ?, ?"}


HUGE = 30_000
ADVERSE = [
    "'", '"', "`", "$", "$a$", "/*", "--", "[", "[a", "{", '{"a":', "\\'", "'\\ ", "e'", "q'[",
    "_a", "1e", "1.", "# ", '"a" ', "(", "identified ", "identified by ", "identified with a ",
    "set ", "get a ", '"\\', '"content":"\\', '"content":[', '{\\"content\\":\\"a', "a=", "-p ",
    "--token ", " ",
]  # fmt: skip


@pytest.mark.parametrize("piece", ADVERSE)
def test_the_worst_texts_take_linear_time(piece: str) -> None:
    """Each was quadratic at some time, or might be: a quadratic one takes minutes."""
    text = (piece * HUGE)[:HUGE]
    begun = time.perf_counter()
    for query in (text, f"set x{text}", f"{{{text}", f'"content":"{text}', f"SELECT {text}"):
        sql.literals(query)
        arguments.in_line(query, lambda _: False)
    data = f'"content":"{text}'.encode()
    content.value_end(data, 11, 12)
    content.value_end(b'"content":[' + data, 10, 11)
    assert time.perf_counter() - begun < 8


@pytest.mark.parametrize(
    ("query", "written"),
    [
        ("/* a /* b */ walrus */ select 1", "/*?*/ select ?"),
        ("/* a */ select 1 /* b */", "/*?*/ select ? /*?*/"),
        ("/* a /* walrus */", "/*?*/"),
        ('create user x identified by "walrus"', "create user x identified by ?"),
        ('create user x identified by "walrus', "create user x identified by ?"),
        ("MULTI\nSET k walrus\nEXEC", "MULTI\nSET k ?\nEXEC"),
        ("JSON.SET k $ walrus", "JSON.SET k ? ?"),
        ("CLIENT SETNAME walrus", "CLIENT ? ?"),
        ('GET a "walrus"walrus', "GET a ??"),
        ("ada@example.org&#34;", "[redacted:email]&#34;"),
    ],
)
def test_literals_of_odd_queries(query: str, written: str) -> None:
    guard = Guard(Policy(salt=bytes(32)))
    assert guard.value("db.query.text", query) == written
    assert guard.value("db.query.text", written) == written


def test_a_marker_after_an_option_stays() -> None:
    guard = Guard(Policy(salt=bytes(32)))
    once = guard.value("process.command_line", "x --password --password walrus")
    assert "walrus" not in once
    assert guard.value("process.command_line", once) == once


def test_a_key_is_not_taken_for_another_with_a_part_of_the_text() -> None:
    guard = Guard(Policy(salt=bytes(32), allow=[("note", ("email",))]))
    assert guard.texts([(guard.key("note"), "x\0ada@example.org")]) == ["x\0ada@example.org"]
    (answer,) = guard.texts([(guard.key("note\0x"), "ada@example.org")])
    assert answer == "[redacted:email]"


def test_what_overlaps_is_one_and_what_touches_is_two() -> None:
    assert sql._disjoint([(3, 8, "?"), (0, 5, "?")]) == [(0, 8, "?")]
    assert sql._disjoint([(0, 8, "?"), (3, 5, "?")]) == [(0, 8, "?")]
    assert sql._disjoint([(5, 8, "?"), (0, 5, "?")]) == [(0, 5, "?"), (5, 8, "?")]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("--?\nselect 7", "--?\nselect ?"),
        ("#why 7\nselect a from t", "#?\nselect a from t"),
        ("#?\nselect 7", "#?\nselect ?"),
        ("select a, #>", "select a, #>"),
        ('select x::"Money"', 'select x::"Money"'),
        ('select a where b = "Money"', "select a where b = ?"),
        ("a#b", "a#b"),
    ],
)
def test_comments_and_names_are_told_from_values(query: str, kept: str) -> None:
    said, at = "", 0
    for start, end, instead in sql.literals(query):
        said += query[at:start] + instead
        at = end
    assert said + query[at:] == kept


def test_what_is_a_mark_already_is_no_find() -> None:
    """Guarded again, a query has nothing that was taken from it."""
    assert sql.literals("--?\nselect 7") == [(11, 12, "?")]
    assert sql.literals("select a where b = ? and c = 7") == [(29, 30, "?")]
