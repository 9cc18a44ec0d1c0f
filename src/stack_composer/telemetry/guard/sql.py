"""Find the literals of a query: values that somebody stored or looked for.

The semantic conventions ask that they be replaced by ``?``, and that the rest of the
query stays as it was. SQL is told by its marks alone, not parsed: this must hold for
every dialect, for queries cut in two, and for what is no query at all. Where dialects
disagree on where a string ends, the longer one is taken.

Under the same keys stand JSON (MongoDB, Elasticsearch), commands of Redis, Cypher,
PromQL and GraphQL; the first two have a form of their own, the others share SQL's.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Literal: TypeAlias = "tuple[int, int, str]"
    """Characters ``[start, end)`` of the query, and what stands in their place."""

# Where a literal may begin. A digit within a name or a placeholder ($1, :2) is none.
_SIGN = re.compile(r"""--|/\*|[#$'"`\[]|(?<![\w$@#%?.:])\.?[0-9]|(?<=[\w"']:)[0-9]""")
# What opens something runs to the query's end where nothing closes it, so that nothing
# after a lost quote stays.
_STRING = re.compile(r"""(?s)'(?:[^'\\]|''|\\.)*(?:'|\\?\Z)""")
_QUOTED = re.compile(r"""(?s)"(?:[^"\\]|""|\\.)*(?:"|\\?\Z)""")
_DOLLAR = re.compile(r"\$(?:[^\W\d]\w*)?\$")
_BRACKET = re.compile(r"\[[^\W\d][\w $#@.-]*\]")
_NUMBER = re.compile(r"(?i)[\w.]+(?:(?<=[0-9.]e)[+-][0-9]+)?")
_LINE = re.compile(r"[^\r\n]*")
_PREFIX = re.compile(r"(?i)(?<![\w$@])(?:n?q|[nbxe]|u&|_[a-z][a-z0-9]{0,20})\Z")
_PREFIX_CHARS_MAX = 24
_IDENTIFIED = re.compile(
    r"(?i)\bidentified\s{1,9}(?:with\s{1,9}\w{1,40}\s{1,9})?(?:by|as)\s{1,9}"
    r"""(?:password\s{1,9})?((?!--|/\*)[^\s;'"?]+)(?=[\s;]|\Z)"""
)
# Oracle has a password in the quotes of names.
_PASSWORD_AFTER = re.compile(
    r"(?i)\bidentified\s{1,9}(?:with\s{1,9}\w{1,40}\s{1,9})?(?:by|as)(?:\s{1,9}password)?\s{0,9}\Z"
)
_DURATION = re.compile(r"[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdwy]))*")
_IDENTIFIER = re.compile(r'"[^\W\d][\w$ -]{0,62}"')
_NAMES_QUOTED = re.compile(r'(?i)"\s{0,9}\.|\b(?:from|join|into|update|table|index|as)\s{1,9}"')
_NAME_AFTER = re.compile(
    r"(?i)\s{0,9}(?:\.|[=<>!~]|::|(?:is|in|like|ilike|not|between|asc|desc)\b)"
)
_CLAUSE = re.compile(
    r"(?i)\b(?:and|as|by|else|from|in|into|join|on|or|returning|select|set|then|update|values?"
    r"|when|where)\b"
)
_LISTS = ("in", "value", "values")  # Clauses that a list of values follows.
_NAME_BEFORE = frozenset(
    (
        "add", "as", "asc", "by", "column", "constraint", "desc", "distinct", "drop", "exists",
        "from", "index", "into", "join", "on", "only", "rename", "returning", "schema", "select",
        "set", "table", "to", "update", "using", "view", "where",
    )
)  # fmt: skip
_VALUE_BEFORE = frozenset(
    (
        "against", "between", "contains", "else", "ilike", "interval", "like", "limit", "match",
        "offset", "regexp", "rlike", "then", "value", "values", "with",
    )
)  # fmt: skip
_LOOK_BACK = 40
_IDENTIFIED_CHARS_MAX = 110

_JSON = re.compile(
    r"""(?xs)
      (?P<string> "(?:[^"\\]|\\.)*(?:"|\\?\Z) | '(?:[^'\\]|\\.)*(?:'|\\?\Z) ) (?P<colon> \s*: )?
    | (?P<pattern> (?<=[:,(\[\s]) / (?:[^/\\\r\n]|\\.)+ /[a-z]* )
    | (?P<number> (?<![\w$.?]) -?\.?[0-9][\w.]*(?: (?<=[eE]) [+-][0-9]+ )? )
    """
)

# Commands of Redis that SQL does not know. What follows the key is a value.
_REDIS = (
    " acl append auth bf.add bf.madd bitcount bitfield blmove blpop brpop cf.add client config "
    "copy decr decrby del discard dump echo eval evalsha exec exists expire expireat fcall "
    "ft.search geoadd geosearch get getbit getdel getex getrange getset hdel hello hexists hget "
    "hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hscan hset hsetex hsetnx hvals incr "
    "incrby incrbyfloat json.arrappend json.merge json.mset json.set json.strappend keys lindex "
    "linsert llen lpop lpos lpush lpushx lrange lrem lset ltrim mget migrate mset msetex msetnx "
    "multi persist pexpire pexpireat pfadd pfcount psetex pttl publish replicaof restore rpop "
    "rpush rpushx sadd scard script sdiff setbit setex setnx setrange sinter sintercard "
    "sismember slaveof smembers smove spop srem sscan strlen subscribe sunion touch ts.add ttl "
    "type unlink unwatch watch xack xadd xlen xrange xread xreadgroup zadd zcard zcount zincrby "
    "zpopmax zpopmin zrange zrangebyscore zrank zrem zrevrange zscan zscore "
)
_NO_KEY = frozenset(
    (
        "acl", "auth", "client", "config", "echo", "eval", "hello", "migrate", "replicaof",
        "script", "slaveof",
    )
)  # fmt: skip
_REDIS_LINE = re.compile(r"[^\r\n]+")
_ARGUMENT = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|\S+')
# SET x = 1, SET x TO 1, SET TRANSACTION ... are SQL; SET key value is not.
_SQL_SET = re.compile(
    r"(?i)set\s+(?:\S+\s{0,9}(?::?=|\bto\b)|(?:transaction|session|local|global|role|names|constraints"
    r"|time|password|default|schema|character|statistics|identity_insert|nocount)\b|@)"
)


def literals(query: str) -> list[Literal]:
    """Find the literals and comments of ``query``, in order; none overlap.

    Time is linear in the query's length, whatever it holds. Each literal gets ``?`` (a
    string inside JSON ``"?"``), a comment loses its words.
    """
    start = query.lstrip()[:1]
    if start and start in "{[" and not query.lstrip().startswith("[redacted:"):
        return list(_json_values(query))
    command = query.split(None, 1)[:1]
    word = command[0].lower() if command else ""
    if f" {word} " in _REDIS or (word == "set" and not _SQL_SET.match(query.lstrip())):
        return list(_redis_values(query))
    return _sql_literals(query)


def _sql_literals(query: str) -> list[Literal]:
    found = [(*match.span(1), "?") for match in _IDENTIFIED.finditer(query)]
    quotes = '"' in query
    names_quoted = quotes and bool(_NAMES_QUOTED.search(query))
    clause = ""
    position = 0
    while sign := _SIGN.search(query, position):
        start = sign.start()
        if quotes and (clauses := _CLAUSE.findall(query, position, start)):
            clause = clauses[-1]
        if sign[0] == '"':
            quoted = _QUOTED.match(query, start)
            end = quoted.end() if quoted else len(query)
            is_name = _is_name(query, start, end, clause.lower(), names_quoted=names_quoted)
            instead = "" if is_name else "?"
        elif sign[0] == "'":
            start, end = _string(query, position, start)
            instead = "?"
        else:
            end, instead = _other(query, start, sign[0], alone=start == position)
        if instead and query[start:end] != instead:
            found.append((start, end, instead))
        position = max(end, start + 1)
    return _disjoint(found)


def _disjoint(found: list[Literal]) -> list[Literal]:
    """In order; of what overlaps, one that reaches as far as all of it."""
    parts: list[Literal] = []
    for start, end, instead in sorted(found):
        if parts and start < parts[-1][1]:
            parts[-1] = (parts[-1][0], max(end, parts[-1][1]), parts[-1][2])
        else:
            parts.append((start, end, instead))
    return parts


def _other(query: str, start: int, sign: str, *, alone: bool) -> tuple[int, str]:
    """The end of what begins with ``sign``, and what stands for it; "" if it stays.

    ``alone``: what stands before is a literal, and so no part of a name.
    """
    if sign == "/*":
        return _comment_end(query, start), "/*?*/"
    if sign in ("--", "#"):
        line = _LINE.match(query, start) if _is_comment(query, start, sign) else None
        return (line.end(), f"{sign}?") if line else (start + 1, "")
    if sign == "`":
        return _end_of(query, start + 1, "`"), ""
    if sign == "[":
        name = _BRACKET.match(query, start)
        return name.end() if name else start + 1, ""
    if sign == "$":
        tag = _DOLLAR.match(query, start)
        inside = not alone and (query[start - 1].isalnum() or query[start - 1] in "_$")
        return (start + 1, "") if not tag or inside else (_end_of(query, tag.end(), tag[0]), "?")
    number = _NUMBER.match(query, start)
    end = number.end() if number else len(query)
    return end, "" if _DURATION.fullmatch(query, start, end) else "?"


_COMMENT_MARK = re.compile(r"/\*|\*/")


def _comment_end(query: str, start: int) -> int:
    """Where the comment at ``start`` ends: in PostgreSQL one may stand within another."""
    depth = 0
    for mark in _COMMENT_MARK.finditer(query, start):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(query)


def _end_of(query: str, start: int, closing: str) -> int:
    end = query.find(closing, start)
    return len(query) if end < 0 else end + len(closing)


def _is_comment(query: str, start: int, sign: str) -> bool:
    """Not an arrow of Cypher, nor an operator of PostgreSQL (``#>``, ``a#b``)."""
    following = query[start + len(sign) : start + len(sign) + 1]
    if sign == "--":
        return following != ">"
    alone = start == 0 or query[start - 1].isspace() or query[start - 1] == ";"
    return alone and (following.isspace() or following.isalnum() or following in "!_")


def _string(query: str, position: int, start: int) -> tuple[int, int]:
    r"""Where the string with its quote at ``start`` begins and ends.

    ``\'`` ends a string by the standard, and does not in MySQL: where it occurs, the
    string goes on to the query's last quote.
    """
    prefix = _PREFIX.search(query, max(position, start - _PREFIX_CHARS_MAX), start)
    kind = prefix[0].lower() if prefix else ""
    begins = prefix.start() if prefix else start
    if kind.endswith("q"):
        fence = query[start + 1 : start + 2]
        return begins, _end_of(
            query, start + 2, {"[": "]", "{": "}", "(": ")"}.get(fence, fence) + "'"
        )
    match = _STRING.match(query, start)
    end = match.end() if match else len(query)
    if kind == "e" or "`" in query or "\\'" not in query[start:end].replace("\\\\", ""):
        return begins, end
    return begins, max(query.rfind("'") + 1, end)


def _is_name(query: str, start: int, end: int, clause: str, *, names_quoted: bool) -> bool:
    """Whether what stands in double quotes is a name (ANSI) and not a string (MySQL)."""
    if not _IDENTIFIER.fullmatch(query, start, end):
        return False
    if _PASSWORD_AFTER.search(query, max(0, start - _IDENTIFIED_CHARS_MAX), start):
        return False
    if _NAME_AFTER.match(query, end):
        return True
    before = query[max(0, start - _LOOK_BACK) : start].rstrip(" \t\r\n(")
    word = before[-1:] if before[-1:] in "=<>~:." else before.rpartition(" ")[2].lower()
    if word in _VALUE_BEFORE or (word and word in "=<>~:"):
        return before.endswith("::")
    if clause in _LISTS:
        return False
    return names_quoted or ("`" not in query and (word == "." or word in _NAME_BEFORE))


def _json_values(query: str) -> Iterator[Literal]:
    for match in _JSON.finditer(query):
        start, end = match.span()
        if match["string"] is None:
            yield start, end, "?"
        elif match["colon"] is None and match["string"][1:-1] != "?":
            yield start, end, f"{match['string'][0]}?{match['string'][0]}"


def _redis_values(query: str) -> Iterator[Literal]:
    for line in _REDIS_LINE.finditer(query):
        arguments = list(_ARGUMENT.finditer(query, *line.span()))
        kept = 1 if arguments and arguments[0][0].lower() in _NO_KEY else 2
        for argument in arguments[kept:]:
            if argument[0].strip("?"):
                yield *argument.span(), "?"
