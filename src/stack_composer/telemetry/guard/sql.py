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

# Every alternative that opens something runs to the text's end where nothing closes it,
# so that no character is looked at twice and nothing after a lost quote stays.
_SQL = re.compile(
    r"""(?xsi)
      (?P<line> --(?![>]) [^\r\n]* | (?<![^\s;]) \#(?=[\s\w!]) [^\r\n]* )
    | (?P<block> /\* .*? (?: \*/ | \Z ) )
    | (?P<dollar> (?<![\w$]) \$ (?P<tag> [^\W\d]\w* ) \$ .*? (?: \$ (?P=tag) \$ | \Z ) )
    | (?P<bare_dollar> (?<![\w$]) \$\$ .*? (?: \$\$ | \Z ) )
    | (?P<oracle> \b n?q' (?: \[ .*? (?: \]' | \Z ) | \{ .*? (?: \}' | \Z ) | \( .*? (?: \)' | \Z )
        | < .*? (?: >' | \Z ) | (?P<fence> [^\s\w'] ) .*? (?: (?P=fence)' | \Z ) ) )
    | (?P<string> (?: \b (?: [nbxe] | u& | _[a-z]\w* ) )? ' (?: [^'\\] | '' | \\. )* (?: '|\\?\Z ) )
    | (?P<triple> \"{3} .*? (?: \"{3} | \Z ) )
    | (?P<quoted> " (?: [^"\\] | "" | \\. )* (?: " | \\?\Z ) )
    | (?P<name> ` [^`]* (?: ` | \Z ) | \[ [^\W\d][\w\ $\#@.-]* \] )
    | (?P<secret> \b identified \s+ (?: with \s+ \w+ \s+ )? (?: by | as ) \s+ (?: password \s+ )?
        (?P<word> [^\s;'"?]+ ) )
    | (?P<clause> \b (?: and | as | by | else | from | in | into | join | on | or | returning
        | select | set | then | update | values? | when | where ) \b )
    | (?P<number> (?<![\w$@\#%?.:]) (?: \d | \.(?=\d) ) [\w.]* (?: (?<=[e]) [+-] \d+ )?
        | (?<=[\w"']:) \d [\w.]* )
    """
)
_DURATION = re.compile(r"[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdwy]))*")
_IDENTIFIER = re.compile(r'"[^\W\d][\w$ -]{0,62}"')
_NAMES_QUOTED = re.compile(r'(?i)"\s*\.|\b(?:from|join|into|update|table|index|as)\s+"')
_NAME_BEFORE = re.compile(
    r"(?i)(?:\.|\b(?:select|distinct|from|join|into|update|table|index|as|on|by|where"
    r"|set|column|constraint|view|schema|returning|using|exists|only|asc|desc|add|drop|rename|to)"
    r"[ \t\r\n(]*)\s*\Z"
)
_NAME_AFTER = re.compile(r"(?i)\s*(?:\.|[=<>!~]|::|(?:is|in|like|ilike|not|between|asc|desc)\b)")
_VALUE_BEFORE = re.compile(
    r"(?i)(?:[=<>~:]|\b(?:like|ilike|rlike|regexp|similar\s+to|contains|with|between|then|else"
    r"|limit|offset|values?|interval|match|against))[\s(]*\Z"
)
_LISTS = ("in", "value", "values")  # Words that a list of values follows.
_LOOK_BACK = 40

_JSON = re.compile(
    r"""(?xs)
      (?P<string> "(?:[^"\\]|\\.)*(?:"|\\?\Z) | '(?:[^'\\]|\\.)*(?:'|\\?\Z) ) (?P<colon> \s*: )?
    | (?P<pattern> (?<=[:,(\[\s]) / (?:[^/\\\r\n]|\\.)+ /[a-z]* )
    | (?P<number> (?<![\w$.]) -?\.?[0-9][\w.]*(?: (?<=[eE]) [+-][0-9]+ )? )
    """
)

# Commands of Redis that SQL does not know. What follows the key is a value.
_REDIS = (
    " acl append auth bitcount bitfield blmove blpop brpop config copy decr decrby del dump "
    "echo eval evalsha exists expire expireat fcall geoadd geosearch get getbit getdel getex "
    "getrange getset hdel hello hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget "
    "hmset hscan hset hsetnx hvals incr incrby incrbyfloat keys lindex linsert llen lpop lpos "
    "lpush lpushx lrange lrem lset ltrim mget migrate mset msetnx persist pexpire pexpireat "
    "pfadd pfcount psetex pttl publish restore rpop rpush rpushx sadd scard script sdiff "
    "setbit setex setnx setrange sinter sismember smembers smove spop srem sscan strlen "
    "subscribe sunion touch ttl type unlink xack xadd xlen xrange xread xreadgroup zadd zcard "
    "zcount zincrby zpopmax zpopmin zrange zrangebyscore zrank zrem zrevrange zscan zscore "
)
_NO_KEY = frozenset(("acl", "auth", "config", "echo", "eval", "hello", "migrate", "script"))
_REDIS_LINE = re.compile(r"[^\r\n]+")
_ARGUMENT = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|\S+')
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
    if start and start in "{[":
        return list(_json_values(query))
    command = query.split(None, 1)[:1]
    word = command[0].lower() if command else ""
    if f" {word} " in _REDIS or (word == "set" and not _SQL_SET.match(query.lstrip())):
        return list(_redis_values(query))
    return list(_sql_literals(query))


def _sql_literals(query: str) -> Iterator[Literal]:
    names_quoted = '"' in query and bool(_NAMES_QUOTED.search(query))
    clause = ""
    position = 0
    while match := _SQL.search(query, position):
        kind = match.lastgroup or ""
        start, position = match.span()
        if kind == "clause":
            clause = match[0].lower()
            continue
        if kind == "string":
            position = _string_end(query, match)
        elif kind == "secret":
            start = match.start("word")
        elif kind == "quoted" and _is_name(match, query, clause, names_quoted=names_quoted):
            continue
        instead = _instead(kind, match[0])
        if instead and query[start:position] != instead:
            yield start, position, instead


def _instead(kind: str, text: str) -> str:
    """What stands for ``text``, or "" if it stays."""
    if kind == "line":
        return "--?" if text.startswith("-") else "#?"
    if kind == "block":
        return "/*?*/"
    if kind == "name" or (kind == "number" and _DURATION.fullmatch(text)):
        return ""
    return "?"


def _string_end(query: str, match: re.Match[str]) -> int:
    r"""Where the string ends, if dialects agree on that, else at the query's last quote.

    ``\'`` ends a string by the standard, and does not in MySQL.
    """
    text = match[0]
    if "\\'" not in text.replace("\\\\", "") or text[0] in "eE" or "`" in query:
        return match.end()
    return max(query.rfind("'") + 1, match.end())


def _is_name(match: re.Match[str], query: str, clause: str, *, names_quoted: bool) -> bool:
    """Whether what stands in double quotes is a name (ANSI) and not a string (MySQL)."""
    if not _IDENTIFIER.fullmatch(match[0]):
        return False
    if _NAME_AFTER.match(query, match.end()):
        return True
    before = query[max(0, match.start() - _LOOK_BACK) : match.start()]
    if _VALUE_BEFORE.search(before):
        return before.rstrip().endswith("::")
    if clause in _LISTS:
        return False
    return names_quoted or (bool(_NAME_BEFORE.search(before)) and "`" not in query)


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
            if argument[0] != "?":
                yield *argument.span(), "?"
