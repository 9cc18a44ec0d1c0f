"""The rules as values, read from a table that is generated from rules.toml.

rules.toml is what people review: each rule with its reason and its examples. Parsing
it takes longer than a short program may spend on telemetry, so ``render_table`` turns
it into table.py, and a test keeps the two in step. To regenerate::

    python -m stack_composer.telemetry.guard.rules
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

TIERS = ("key", "content", "structure", "scheme", "url", "assignment", "person", "national")
ACTIONS = ("drop", "mask", "hash", "pass", "literals", "arguments")
_HEADER = '''# ruff: noqa: E501
"""Generated from rules.toml by rules.py; edit that file, never this one."""

'''


class TextRule:
    """A pattern that finds secrets or personal data inside a text.

    Attributes:
        name: Stands in the marker.
        tier: Where the rule stands in the order; earlier tiers name a hit first.
        profile: "default", or "strict" for a rule of the profile strict only.
        action: "mask" or "drop".
        anchors: Lower-case texts one of which is in every hit, whatever its case;
            empty when there is none. They spare the slow engine most of its work.
            Derived by gates.py.
        gate: A cheaper pattern, without groups, that hits wherever ``pattern`` does;
            derived by gates.py.
        sign: A cheaper one still, that hits wherever ``gate`` does; derived too.
        pattern: RE2 syntax that ``re`` takes too, for bytes. The first group that
            took part is the secret; without groups the whole match is. What it ends with
            has no high upper bound (see gates.py).
        validator: Name of a function of the package validators that has the last
            word ("tokens.jwt"), or "".
        reason: Why the rule is there, for people.
    """

    __slots__ = (
        "action",
        "anchors",
        "gate",
        "name",
        "pattern",
        "profile",
        "reason",
        "sign",
        "tier",
        "validator",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - a row of the table, made by unpacking it
        self,
        name: str,
        tier: str,
        profile: str,
        action: str,
        anchors: Sequence[str],
        gate: str,
        sign: str,
        pattern: str,
        validator: str,
        reason: str,
    ) -> None:
        self.name = name
        self.tier = tier
        self.profile = profile
        self.action = action
        self.anchors = tuple(anchor.encode("latin-1") for anchor in anchors)
        self.gate = gate.encode()
        self.sign = sign.encode()
        self.pattern = pattern.encode()
        self.validator = validator
        self.reason = reason


class KeyRule:
    """Words of a key that decide over every value of it.

    Attributes:
        words: Phrases of whole words ("api key"), or whole keys for the action "pass".
        stems: Parts of words ("password" of "dbpassword"), from phrases written "*so*".
        content: The values are content, which the user may turn on by name.
        spared: Words that tell of a measure or a description, not of the thing.
        ends: The phrase must end the key.
        numbers: Numbers are redacted too, not only texts and bytes.
        every_type: Fractions and yes or no are, too: of a user's own rules.
    """

    every_type = False

    __slots__ = (
        "action",
        "content",
        "ends",
        "name",
        "numbers",
        "reason",
        "spared",
        "stems",
        "words",
    )

    def __init__(
        self,
        name: str,
        action: str,
        words: Sequence[str],
        spared: Sequence[str],
        *,
        ends: bool,
        numbers: bool,
        reason: str,
    ) -> None:
        self.name = name
        self.action = action
        self.content = action in ("drop", "literals")
        self.words = tuple(phrase for phrase in words if not phrase.startswith("*"))
        self.stems = tuple(phrase.strip("*") for phrase in words if phrase.startswith("*"))
        self.spared = frozenset(spared)
        self.ends = ends
        self.numbers = numbers
        self.reason = reason


def text_rules(profile: str) -> list[TextRule]:
    """The text rules of ``profile``, in their order."""
    from .table import TEXT_RULES

    rules = [TextRule(*row) for row in TEXT_RULES]
    return [rule for rule in rules if profile == "strict" or rule.profile == "default"]


def key_rules() -> list[KeyRule]:
    """The key rules, in their order; they are the same in each profile."""
    from .table import KEY_RULES

    return [
        KeyRule(name, action, words, spared, ends=ends, numbers=numbers, reason=reason)
        for name, action, words, spared, ends, numbers, reason in KEY_RULES
    ]


def describe() -> Iterator[dict[str, str]]:
    """One row a rule, for people: name, tier, profile, action, reason."""
    for key_rule in key_rules():
        yield {
            "name": key_rule.name,
            "tier": "key",
            "profile": "default",
            "action": key_rule.action,
            "reason": key_rule.reason,
        }
    for rule in text_rules("strict"):
        yield {
            "name": rule.name,
            "tier": rule.tier,
            "profile": rule.profile,
            "action": rule.action,
            "reason": rule.reason,
        }


def parse_rules(text: str) -> list[dict[str, Any]]:
    """The rules of a rules.toml, in their tiers' order, with defaults filled in."""
    import tomllib

    parsed = tomllib.loads(text)
    words = parsed.get("words", {})
    rules = [_with_defaults(rule, words) for rule in parsed["rule"]]
    return sorted(rules, key=lambda rule: TIERS.index(rule["tier"]))


def _with_defaults(rule: dict[str, Any], words: dict[str, list[str]]) -> dict[str, Any]:
    filled = {"profile": "default", "action": "mask", "validator": "", **rule}
    if "«services»" in rule.get("pattern", ""):
        from .validators.services import COMMON, SERVICES

        names = _alternatives(sorted(SERVICES - COMMON))
        filled["pattern"] = rule["pattern"].replace("«services»", names)
    if rule["tier"] == "key":
        filled = {"ends": False, "numbers": False, **filled}
        filled["spared"] = words.get(rule.get("spared", ""), [])
    else:
        from .gates import derive_anchors, derive_gate, derive_sign, forget_last_bounds

        filled["pattern"] = forget_last_bounds(filled["pattern"])
        filled["anchors"] = derive_anchors(filled["pattern"])
        filled["gate"] = derive_gate(filled["pattern"])
        filled["sign"] = derive_sign(filled["pattern"])
    return filled


def _alternatives(names: Sequence[str]) -> str:
    """A pattern for sorted ``names`` by their first letters: ``re`` would try each of them."""
    from itertools import groupby

    groups = ((first, list(group)) for first, group in groupby(names, lambda name: name[:2]))
    return "|".join(
        f"{first}(?:{'|'.join(name[2:] for name in group)})" if len(group) > 1 else group[0]
        for first, group in groups
    )


def render_table(rules: list[dict[str, Any]]) -> str:
    """The text of table.py for ``rules``."""
    keyed = [
        (r["name"], r["action"], tuple(r["keys"]), tuple(r["spared"]), r["ends"], r["numbers"],
         r["reason"])
        for r in rules
        if r["tier"] == "key"
    ]  # fmt: skip
    texts = [
        (r["name"], r["tier"], r["profile"], r["action"], tuple(r["anchors"]), r["gate"],
         r["sign"], r["pattern"], r["validator"], r["reason"])
        for r in rules
        if r["tier"] != "key"
    ]  # fmt: skip
    return _HEADER + _render("KEY_RULES", keyed) + "\n" + _render("TEXT_RULES", texts)


def _render(name: str, rows: list[tuple[Any, ...]]) -> str:
    lines = "".join(f"    {row!a},\n" for row in rows)
    return f"# fmt: off\n{name} = (\n{lines})\n# fmt: on\n"


def _regenerate() -> None:
    import os

    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "rules.toml"), encoding="utf-8") as source:
        text = source.read()
    with open(os.path.join(folder, "table.py"), "w", encoding="utf-8", newline="\n") as table:
        table.write(render_table(parse_rules(text)))


if __name__ == "__main__":
    _regenerate()
