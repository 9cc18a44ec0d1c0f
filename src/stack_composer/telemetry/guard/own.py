"""The user's own rules: checked when they are read, at work beside ours.

A rule looks for a pattern in texts, or takes every value of the keys that a glob
names. It only adds: ours come first, and where two take the same, the more severe
action holds. What makes exceptions is said apart, by ``allow``: an exception lets one
match of one rule be, never the rest of the value.

``read_rules`` and ``read_allow`` judge what stands in the file and touch nothing; a
mistake is a ``RuleError`` with its place. Only imported when there is anything to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stack_composer.telemetry.errors import GuardError

from .engines import best_matcher
from .gates import derive_anchors, derive_gate, derive_sign
from .keys import fold
from .markers import encode
from .matcher import Leave
from .patterns import PatternError, canonical
from .rules import KeyRule, TextRule, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .matcher import Exempt


RULES_MAX: Final = 200
ALLOW_MAX: Final = 200
TEXT_CHARS_MAX: Final = 1_000
GLOB_CHARS_MAX: Final = 200
NAME_CHARS_MIN: Final = 2
NAME_CHARS_MAX: Final = 40
PROGRAM_MAX: Final = 10_000
"""Instructions of RE2 for one pattern: some 500 KB, and the automaton grows with them."""
PROGRAMS_MAX: Final = 50_000
"""And for the patterns of all rules together."""
PROFILES: Final = ("default", "strict")
ACTIONS: Final = ("mask", "drop", "hash")
TIER: Final = "own"

_NAME_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_TEXTS: Final = (
    "name", "pattern", "key", "action", "example", "counterexample", "profile", "reason",
)  # fmt: skip
_FIELDS: Final = (*_TEXTS, "allow")
_SEVERITY: Final = {"pass": 0, "literals": 1, "arguments": 1, "hash": 2, "mask": 3, "drop": 4}


class RuleError(GuardError):
    """A rule that is not taken.

    Attributes:
        rule: Which one, counted from 1; 0 when it is the list itself.
        field: Its key, or "".
        good: The rules that are right, for who must go on without the others.
    """

    def __init__(self, message: str, *, rule: int = 0, field: str = "", hint: str) -> None:
        super().__init__(message, hint=hint)
        self.rule = rule
        self.field = field
        self.good: tuple[OwnRule, ...] = ()


class OwnKeyRule(KeyRule):
    """A key rule that takes values of every type, since its user named the very key."""

    __slots__ = ()
    every_type = True


class OwnRule:
    """One rule of the user's, checked.

    Attributes:
        name: Stands in the marker.
        fields: The rule as it was written, without what was left out.
        profile: "default" for both profiles, or "strict".
        allow: Globs over a whole match; such a match is let be.
        text: What searches texts; None for a rule over keys.
        key: What takes the values of keys; None for a rule over texts.
        glob: Which keys, in lower case; "" for a rule over texts.
        program: Size of the compiled pattern in RE2's instructions; 0 if unknown.
    """

    __slots__ = ("allow", "fields", "glob", "key", "name", "profile", "program", "text")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)
        self.name: str = fields["name"]
        self.profile: str = fields.get("profile", "default")
        self.allow: tuple[str, ...] = tuple(fields.get("allow", ()))
        self.glob: str = fields.get("key", "").lower()
        self.text: TextRule | None = None
        self.key: KeyRule | None = None
        self.program = 0

    @property
    def action(self) -> str:
        """What happens to what is found: "mask", "drop" or "hash"."""
        return str(self.fields.get("action", "mask"))

    @property
    def reason(self) -> str:
        """Why the rule is there, in its user's words."""
        return str(self.fields.get("reason", "A rule of your own."))


# -- reading ------------------------------------------------------------------------


def read_rules(rows: Any) -> tuple[OwnRule, ...]:
    """Check every rule and compile it once.

    Args:
        rows: What stands under ``redaction.rules``: a list of tables.

    Raises:
        RuleError: Of the first rule that is wrong, with how many more there are; its
            ``good`` holds the others.
    """
    if isinstance(rows, (str, bytes)) or not hasattr(rows, "__iter__") or hasattr(rows, "keys"):
        raise RuleError(
            "must be a list of tables", hint="write [[redaction.rules]] above each rule"
        )
    rows = list(rows)
    if len(rows) > RULES_MAX:
        raise RuleError(f"more than {RULES_MAX} rules", hint="write one pattern with alternatives")
    taken = {row["name"]: "ours" for row in describe()}
    good: list[OwnRule] = []
    errors: list[RuleError] = []
    for number, row in enumerate(rows, start=1):
        try:
            rule = _read_rule(row, taken)
            if sum(one.program for one in good) + rule.program > PROGRAMS_MAX:
                raise _wrong("pattern", "too large, together with those before", _HINT_LARGE)
        except RuleError as error:
            error.rule = number
            errors.append(error)
        else:
            taken[rule.name] = "yours"
            good.append(rule)
    if errors:
        first = errors[0]
        if len(errors) > 1:
            first.args = (f"{first} (and {len(errors) - 1} more)",)
        first.good = tuple(good)
        raise first
    return tuple(good)


_HINT_LARGE: Final = "use smaller counts in {}, or split what is looked for"


def _wrong(field: str, message: str, hint: str) -> RuleError:
    return RuleError(message, field=field, hint=hint)


def _read_rule(row: Any, taken: Mapping[str, str]) -> OwnRule:
    if not hasattr(row, "keys"):
        raise _wrong("", "must be a table", "write [[redaction.rules]] above each rule")
    _check_fields(row)
    _check_name(row.get("name"), taken)
    _check_choice(row, "action", ACTIONS)
    _check_choice(row, "profile", PROFILES)
    rule = OwnRule(row)
    if ("pattern" in row) == ("key" in row):
        hint = "one looks into texts, the other takes all values of some keys"
        raise _wrong("", "must have either a pattern or a key", hint)
    if "pattern" in row:
        _compile(rule, row["pattern"])
    else:
        _name_keys(rule)
    return rule


def _check_fields(row: Mapping[str, Any]) -> None:
    from difflib import get_close_matches

    for field, value in row.items():
        if field not in _FIELDS:
            close = get_close_matches(str(field), _FIELDS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "there is " + ", ".join(_FIELDS)
            raise _wrong("", f"has an unknown key {ascii(field)[:40]}", hint)
        if field in _TEXTS and not isinstance(value, str):
            hint = f'for example: {field} = "..."'
            raise _wrong(field, f"must be a text, not {type(value).__name__}", hint)
        if field in _TEXTS and len(value) > TEXT_CHARS_MAX:
            hint = "shorten it; a pattern may be split into several rules"
            raise _wrong(field, f"longer than {TEXT_CHARS_MAX:,} characters", hint)
    allow = row.get("allow", ())
    if not isinstance(allow, (list, tuple)) or len(allow) > ALLOW_MAX:
        raise _wrong("allow", f"must be a list of at most {ALLOW_MAX} texts", 'allow = ["..."]')
    for item in allow:
        _check_glob(item, "allow")


def _check_name(name: Any, taken: Mapping[str, str]) -> None:
    hint = f"{NAME_CHARS_MIN} to {NAME_CHARS_MAX} of a-z, 0-9 and -, such as ticket-number"
    if not isinstance(name, str) or not NAME_CHARS_MIN <= len(name) <= NAME_CHARS_MAX:
        raise _wrong("name", "missing, or not of the right length", hint)
    if not _NAME_CHARS.issuperset(name):
        raise _wrong("name", "holds a character that may not stand in a marker", hint)
    owner = taken.get(name)
    if owner:
        what = "the name of a rule of ours" if owner == "ours" else "the name of a rule above"
        raise _wrong("name", what, "choose another name; 'guard rules' lists those in use")


def _check_choice(row: Mapping[str, Any], field: str, choices: Sequence[str]) -> None:
    if row.get(field, choices[0]) not in choices:
        raise _wrong(field, f"not one of {', '.join(choices)}", f'write {field} = "{choices[0]}"')


def _check_glob(value: Any, field: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= GLOB_CHARS_MAX or "\0" in value:
        hint = "* stands for any characters and ? for one"
        raise _wrong(field, f"not a text of 1 to {GLOB_CHARS_MAX} characters without NUL", hint)


def _name_keys(rule: OwnRule) -> None:
    _check_glob(rule.glob, "key")
    if not rule.glob.strip("*?._-/: "):
        raise _wrong("key", "names every key", "write a part of the key, such as acme.*")
    if rule.allow:
        hint = "[redaction.allow] makes exceptions for keys"
        raise _wrong("allow", "goes with a pattern only", hint)
    for field, wanted in (("example", True), ("counterexample", False)):
        example = rule.fields.get(field)
        if example is not None and glob_matches(rule.glob, example.lower()) is not wanted:
            raise _missed(field, wanted=wanted)
    rule.key = OwnKeyRule(
        rule.name, rule.action, (rule.glob,), (), ends=False, numbers=True, reason=rule.reason
    )


def _missed(field: str, *, wanted: bool) -> RuleError:
    what = "is not found by this rule" if wanted else "is found by this rule"
    return _wrong(field, what, "mend the rule, or the example")


def _compile(rule: OwnRule, pattern: str) -> None:
    try:
        written = canonical(pattern, only_re=_re2() is None)
        rule.text = TextRule(
            rule.name,
            TIER,
            rule.profile,
            rule.action,
            derive_anchors(written),
            derive_gate(written),
            derive_sign(written),
            written,
            "",
            rule.reason,
        )
        rule.program = _program_size(written.encode()) + _program_size(rule.text.gate)
    except PatternError as error:
        raise _wrong("pattern", str(error), error.hint) from None
    except RecursionError:
        raise _wrong("pattern", "nested too deep", "write it with fewer groups") from None
    except ValueError:
        raise _wrong("pattern", "not in the rules' language", "write it more simply") from None
    if rule.program > PROGRAM_MAX:
        raise _wrong("pattern", f"too large: {rule.program:,} instructions", _HINT_LARGE)
    _check_examples(rule, rule.text)


def _re2() -> Any:
    """The module ``re2``, or None where google-re2 is not installed."""
    try:
        import re2
    except ImportError:
        return None
    return re2


def _program_size(pattern: bytes) -> int:
    re2 = _re2()
    if re2 is None:
        return 0
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    try:
        return int(re2.compile(pattern, options).programsize)
    except re2.error:
        # RE2 has room for a pattern of 8 MB; what it says of others is in no useful words.
        raise PatternError("too large, or not in RE2's syntax", hint=_HINT_LARGE) from None


def _check_examples(rule: OwnRule, text: TextRule) -> None:
    fields = rule.fields
    if "example" not in fields and "counterexample" not in fields:
        return
    matcher = best_matcher([text])
    leave = Leave((), Allowed([text], [rule], ()).for_key(""))
    for field, wanted in (("example", True), ("counterexample", False)):
        if field in fields and bool(matcher.spans(encode(fields[field]), leave)) is not wanted:
            raise _missed(field, wanted=wanted)


def read_allow(table: Any, rules: Iterable[OwnRule]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Check the exceptions by key: for each glob over keys, entries ``rule`` or ``rule:glob``.

    Args:
        table: What stands under ``redaction.allow``.
        rules: The user's own rules, which may be named too.

    Raises:
        RuleError: Its ``field`` is the key at fault.
    """
    hint = '"http.user_agent" = ["ipv4"]'
    if not hasattr(table, "items") or len(table) > ALLOW_MAX:
        raise RuleError(f"must be a table of at most {ALLOW_MAX} keys", hint=hint)
    key_names = {row["name"] for row in describe() if row["tier"] == "key"}
    text_names = {row["name"] for row in describe()} - key_names
    key_names |= {rule.name for rule in rules if rule.key}
    text_names |= {rule.name for rule in rules if rule.text}
    found = []
    for key, entries in table.items():
        if not isinstance(key, str) or not 0 < len(key) <= GLOB_CHARS_MAX:
            raise RuleError(f"a key longer than {GLOB_CHARS_MAX} characters, or empty", hint=hint)
        listed = [entries] if isinstance(entries, str) else entries
        if not isinstance(listed, (list, tuple)) or len(listed) > ALLOW_MAX:
            raise _wrong(key, f"must be a list of at most {ALLOW_MAX} texts", hint)
        for entry in listed:
            _check_glob(entry, key)
            _check_entry(key, entry, key_names, text_names)
        found.append((key.lower(), tuple(listed)))
    return tuple(found)


def _check_entry(key: str, entry: str, key_names: set[str], text_names: set[str]) -> None:
    from difflib import get_close_matches

    name, colon, _ = entry.partition(":")
    if name not in key_names | text_names:
        close = get_close_matches(name, key_names | text_names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "'guard rules' lists the names"
        raise _wrong(key, "does not begin with the name of a rule", hint)
    if colon and name in key_names:
        raise _wrong(key, "a rule over keys has no match to narrow", f'write "{name}" alone')


# -- at work ------------------------------------------------------------------------


def in_order(ours: Sequence[TextRule], own: Iterable[OwnRule], profile: str) -> list[TextRule]:
    """Ours and the user's, so that of two rules over one place the more severe names it.

    A rule that drops leads, since it takes the whole value; then ours, then what masks,
    then what hashes.
    """
    texts = [
        rule.text
        for rule in own
        if rule.text and (profile == "strict" or rule.profile == "default")
    ]
    by_action = {action: [rule for rule in texts if rule.action == action] for action in ACTIONS}
    return [*by_action["drop"], *ours, *by_action["mask"], *by_action["hash"]]


def own_key_rule(own: Iterable[OwnRule], key: str, profile: str) -> KeyRule | None:
    """The most severe of the user's rules that take ``key``; the first among equals.

    Also by what the key looks like: no invisible or look-alike character saves it.
    """
    readings = {key.lower(), fold(key).lower()}
    found = [
        rule.key
        for rule in own
        if rule.key
        and (profile == "strict" or rule.profile == "default")
        and any(glob_matches(rule.glob, reading) for reading in readings)
    ]
    return max(found, key=_severity_of, default=None)


def _severity_of(rule: KeyRule) -> int:
    return _SEVERITY[rule.action]


def is_more_severe(rule: KeyRule, than: KeyRule | None) -> bool:
    """Whether ``rule`` leaves less of a value than the other one; never without one."""
    return than is None or _SEVERITY[rule.action] > _SEVERITY[than.action]


class Allowed:
    """The exceptions: which matches of which rules are let be, for which keys."""

    def __init__(
        self,
        rules: Sequence[TextRule],
        own: Iterable[OwnRule],
        by_key: Iterable[tuple[str, tuple[str, ...]]],
    ) -> None:
        self._index = {rule.name: index for index, rule in enumerate(rules)}
        self._always = [(rule.name, glob) for rule in own for glob in rule.allow]
        self._by_key = list(by_key)

    def for_key(self, key: str) -> Exempt | None:
        """What asks whether a match under ``key`` is let be; None if none ever is.

        A text without a key is one whose key is empty: only ``*`` names it.
        """
        globs: dict[int, list[str]] = {}
        for name, glob in [*self._always, *_entries(self._by_key, key)]:
            if name in self._index:
                globs.setdefault(self._index[name], []).append(glob)
        if not globs:
            return None

        def exempt(rule: int, match: bytes) -> bool:
            wanted = globs.get(rule)
            if wanted is None:
                return False
            text = match.decode("utf-8", "replace")
            return any(glob_matches(glob, text) for glob in wanted)

        return exempt


def allowed_key_rules(by_key: Iterable[tuple[str, tuple[str, ...]]], key: str) -> set[str]:
    """Names of the rules that are let be for every value of ``key``."""
    return {name for name, glob in _entries(by_key, key) if glob == "*"}


def _entries(by_key: Iterable[tuple[str, tuple[str, ...]]], key: str) -> Iterable[tuple[str, str]]:
    lowered = key.lower()
    for glob, entries in by_key:
        if glob_matches(glob, lowered):
            for entry in entries:
                name, _, match = entry.partition(":")
                yield name, match or "*"


def glob_matches(glob: str, text: str) -> bool:
    """Whether all of ``text`` is as ``glob`` says: ``*`` any characters, ``?`` one.

    Never more than the product of both lengths in steps, whatever they hold.
    """
    at = place = 0
    star, retry = -1, 0
    while place < len(text):
        if at < len(glob) and glob[at] == "*":
            star, retry = at, place
            at += 1
        elif at < len(glob) and glob[at] in ("?", text[place]):
            at += 1
            place += 1
        elif star >= 0:
            # The last star takes one character more; earlier ones need not be tried again.
            retry += 1
            at, place = star + 1, retry
        else:
            return False
    return not glob[at:].strip("*")
