"""Derive from each pattern what must be there for it to hit, and is cheaper to find.

For the fast engine that is a *gate*, a simpler pattern, and a *sign*, a simpler one still,
for what the gate let through; for the slow one *anchors*, plain texts one of which is in
every hit.

The gate is searched over every text, so what counts is how many states its automaton
visits on clean ones. A long counted repetition has a state for each count, and several
of them multiply. So a gate keeps the telling part of a pattern and cuts the rest:

- what follows the first long repetition after a telling part is cut off;
- what leads to the first telling part is cut down to its last characters;
- an upper bound is forgotten.

Each step only lets more through, so no hit is lost; the confirmation that follows
uses the pattern itself. Nothing here is written by hand for a rule, so a new rule
cannot be given the wrong one. This runs when table.py is made, never in a program.

``forget_last_bounds`` does for a pattern itself what its automaton needs most: a value of
4 to 128 characters is one of 4 or more, and 124 states less. What is beyond a bound is as
much a part of the secret.
"""

from __future__ import annotations

import re
from math import inf, log2
from typing import TYPE_CHECKING, Any

from .syntax import code, parser

if TYPE_CHECKING:
    from collections.abc import Iterable

_REPEAT_MAX = 8  # A repetition with a greater minimum is long.
_LEADING_KEPT = 2  # Characters kept of a long repetition that leads.
_TELLING_BITS = 18.0
_WEAK_BITS = 10.0
_SIGN_BITS = 32.0
_ANCHORS_MAX = 64
_CLASS_MAX = 8
_BOUND_MIN = 100
_BOUNDED = re.compile(r"\{([0-9]+),([0-9]+)\}")
_MAY_FOLLOW = re.compile(r"=\{0,[0-9]\}|\)(?![?*+{])")
_SKIPPED = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_PRINTABLE = frozenset(range(32, 127))


def forget_last_bounds(pattern: str) -> str:
    """``pattern`` without the upper bound, if it is a high one, of what its matches end with."""
    for bound in reversed(list(_BOUNDED.finditer(pattern))):
        if int(bound[2]) >= _BOUND_MIN and _is_last(pattern, bound.end()):
            pattern = f"{pattern[: bound.start()]}{{{bound[1]},}}{pattern[bound.end() :]}"
    return pattern


def _is_last(pattern: str, at: int) -> bool:
    """Whether every match may end ``at`` that place; base64's padding may follow."""
    while at < len(pattern):
        if pattern[at] == "|":
            at = _group_end(pattern, at)
        elif more := _MAY_FOLLOW.match(pattern, at):
            at = more.end()
        else:
            return False
    return True


def _group_end(pattern: str, at: int) -> int:
    """Where the group ends that ``at`` stands in; the end of all if it stands in none."""
    depth = 0
    while at < len(pattern):
        if skipped := _SKIPPED.match(pattern, at):
            at = skipped.end()
            continue
        depth += (pattern[at] == "(") - (pattern[at] == ")")
        if depth < 0:
            return at
        at += 1
    return at


def derive_gate(pattern: str) -> str:
    """A pattern without groups that hits in every text in which ``pattern`` does."""
    tree = parser.parse(pattern.encode())
    return _Gate().sequence(list(tree), 0.0, lead=True)[0]


def derive_sign(pattern: str) -> str:
    """A pattern that hits wherever the gate does, and ends as soon as it tells enough.

    It tells which rules to ask about a text in which a gate hit. More of them are asked
    than by the gates, but an automaton of signs has no states that count.
    """
    tree = parser.parse(pattern.encode())
    return _Gate(enough=_SIGN_BITS).sequence(list(tree), 0.0, lead=True)[0]


def derive_anchors(pattern: str) -> tuple[str, ...]:
    """Lower-case texts one of which is in every hit of ``pattern``; none if unknown."""
    tree = parser.parse(pattern.encode())
    needed = _needed(list(tree))
    # A text that holds another one is found with it.
    return tuple(
        sorted(text for text in needed if not any(one in text and one != text for one in needed))
    )


def _needed(items: list[Any]) -> set[str]:
    """The best set of texts one of which every match of ``items`` holds."""
    best: set[str] = set()
    run = {""}
    for item in [*items, None]:
        more = _exact(item) if item is not None else None
        if more is not None and len(run) * len(more) <= _ANCHORS_MAX:
            run = {one + other for one in run for other in more}
            continue
        best = max(best, run, _inside(item), key=_worth)
        run = more if more is not None else {""}
    return best if _worth(best) > 0 else set()


def _inside(item: Any) -> set[str]:
    """What is needed inside an item that is no fixed text."""
    if item is None:
        return set()
    kind, value = item
    if kind is code.SUBPATTERN:
        return _needed(list(value[3]))
    if kind is code.MAX_REPEAT and value[0] > 0:
        return _needed(list(value[2]))
    if kind is code.BRANCH:
        branches = [_needed(list(branch)) for branch in value[1]]
        return set().union(*branches) if all(branches) else set()
    return set()


def _worth(texts: set[str]) -> float:
    """The longer the shortest, the better; few are better than many."""
    if not texts:
        return 0.0
    shortest = min(map(len, texts))
    return min(8, shortest) - len(texts) / 1000


def _exact(item: Any) -> set[str] | None:
    """The few texts that ``item`` can match, in lower case; None if they are many."""
    kind, value = item
    if kind is code.AT:
        return {""}
    if kind is code.LITERAL or kind is code.IN:
        chars = {value} if kind is code.LITERAL else members(value)
        return {_lowered(char) for char in chars} if len(chars) <= _CLASS_MAX else None
    if kind is code.SUBPATTERN:
        return _product(map(_exact, value[3]))
    if kind is code.BRANCH:
        branches = [_product(map(_exact, branch)) for branch in value[1]]
        return None if None in branches else set().union(*filter(None, branches))
    if kind is code.MAX_REPEAT and tuple(value[:2]) == (0, 1):
        once = _product(map(_exact, value[2]))
        return None if once is None else once | {""}
    return None


def _lowered(char: int) -> str:
    """A byte as the character of that number; only ASCII's letters have a lower case."""
    return bytes((char,)).lower().decode("latin-1")


def _product(parts: Iterable[set[str] | None]) -> set[str] | None:
    product = {""}
    for part in parts:
        if part is None or len(product) * len(part) > _ANCHORS_MAX:
            return None
        product = {one + other for one in product for other in part}
    return product


class _Gate:
    """Writes a gate; every method gives its text, its bits, and whether it is whole.

    Where ``enough`` bits stand, it ends.
    """

    def __init__(self, enough: float = inf) -> None:
        self._enough = enough

    def sequence(self, items: list[Any], before: float, *, lead: bool) -> tuple[str, float, bool]:
        """The gate of ``items``, which ``before`` bits stand in front of."""
        if lead:
            items = self._without_weak_lead(_with_boundary_inside(items))
        text, bits = "", 0.0
        for index, item in enumerate(items):
            if before + bits >= self._enough:
                return text, bits, False
            part, more, whole = self._item(item, before + bits, lead=lead and index == 0)
            text += part
            bits += more
            if not whole:
                return text, bits, False
        return text, bits, True

    def _without_weak_lead(self, items: list[Any]) -> list[Any]:
        """Begin shortly before what tells, if what leads there could be any word.

        A class that leads would otherwise keep the automaton busy in every word.
        """
        sharp_at = next((at for at, item in enumerate(items) if _is_sharp(item)), 0)
        if sum(map(_bits, items[:sharp_at])) < _WEAK_BITS:
            items = [*_last_character(items[:sharp_at]), *items[sharp_at:]]
        before = 0.0
        for at, (kind, value) in enumerate(items):
            rest = items[at + 1 :]
            long = kind is code.MAX_REPEAT and value[0] > _REPEAT_MAX
            if long and before < _TELLING_BITS and any(map(_is_sharp, rest)):
                return [(kind, (_LEADING_KEPT, _LEADING_KEPT, value[2])), *rest]
            before += _bits((kind, value))
        return items

    def _item(self, item: Any, bits: float, *, lead: bool) -> tuple[str, float, bool]:
        kind, value = item
        if kind is code.MAX_REPEAT or kind is code.MIN_REPEAT:
            return self._repeat(value, bits)
        if kind is code.SUBPATTERN:
            _, flags, _, inner = value
            text, more, whole = self.sequence(list(inner), bits, lead=lead)
            return (f"(?i:{text})" if flags else f"(?:{text})"), more, whole
        if kind is code.BRANCH:
            parts = [self.sequence(list(branch), bits, lead=lead) for branch in value[1]]
            text = "|".join(dict.fromkeys(part for part, _, _ in parts))
            return f"(?:{text})", min(b for _, b, _ in parts), all(w for _, _, w in parts)
        return _atom(kind, value), _bits(item), True

    def _repeat(self, value: Any, bits: float) -> tuple[str, float, bool]:
        least, most, inner = value
        text, each, whole = self.sequence(list(inner), bits, lead=False)
        single = f"(?:{text})"
        if least == 0:
            # Optional: with an unfinished inside nothing that follows can be kept.
            return (
                (f"{single}?" if most == 1 else f"{single}*", 0.0, True)
                if whole
                else ("", 0.0, False)
            )
        if not whole:
            return single, each, False
        if least > _REPEAT_MAX and bits >= _TELLING_BITS:
            return f"{single}{{{_REPEAT_MAX}}}", each * _REPEAT_MAX, False
        count = f"{{{least}}}" if most == least else f"{{{least},}}"
        return single + count, each * least, True


def _with_boundary_inside(items: list[Any]) -> list[Any]:
    """``items`` with a boundary that leads moved into each branch that follows it.

    There it can go with what is cut away behind it.
    """
    if len(items) < 2 or items[0][0] is not code.AT or items[1][0] is not code.BRANCH:
        return items
    _, (nothing, branches) = items[1]
    moved = [[items[0], *branch] for branch in branches]
    return [(code.BRANCH, (nothing, moved)), *items[2:]]


def _is_sharp(item: Any) -> bool:
    """Whether every text that ``item`` matches holds one certain character."""
    kind, value = item
    if kind is code.LITERAL:
        return True
    if kind is code.SUBPATTERN:
        return any(map(_is_sharp, value[3]))
    if kind is code.BRANCH:
        return all(any(map(_is_sharp, branch)) for branch in value[1])
    return kind is code.MAX_REPEAT and value[0] > 0 and any(map(_is_sharp, value[2]))


def _last_character(items: list[Any]) -> list[Any]:
    """The end of ``items``: a boundary, or one character of a class."""
    if not items:
        return []
    kind, value = items[-1]
    if kind is code.IN:
        # A boundary before a single character still holds.
        return [item for item in items[-2:] if item[0] is code.AT or item is items[-1]]
    if (
        kind is code.MAX_REPEAT
        and value[0] > 0
        and len(value[2]) == 1
        and value[2][0][0] is code.IN
    ):
        return [value[2][0]]
    return [items[-1]] if kind is code.AT else []


def _bits(item: Any) -> float:
    """How much a character there tells, in bits of a printable one."""
    kind, value = item
    if kind is code.LITERAL:
        return log2(len(_PRINTABLE))
    if kind is code.IN:
        return log2(len(_PRINTABLE) / max(1, len(members(value) & _PRINTABLE)))
    if kind is code.SUBPATTERN:
        return sum(map(_bits, value[3]))
    if kind is code.BRANCH:
        return min(sum(map(_bits, branch)) for branch in value[1])
    if kind is code.MAX_REPEAT:
        return float(value[0] * sum(map(_bits, value[2])))
    return 0.0


def members(items: Any) -> frozenset[int]:
    """The bytes of a character class."""
    found: set[int] = set()
    negated = False
    for kind, value in items:
        if kind is code.NEGATE:
            negated = True
        elif kind is code.LITERAL:
            found.add(value)
        elif kind is code.RANGE:
            found.update(range(value[0], value[1] + 1))
        else:
            # The engines do not agree on what \\s is, so classes are written out.
            raise ValueError(f"not in a rule's language: {value}")
    return frozenset(range(256)) - found if negated else frozenset(found)


def _atom(kind: Any, value: Any) -> str:
    if kind is code.LITERAL:
        return _escape(value)
    if kind is code.IN:
        return _class(members(value))
    if kind is code.NOT_LITERAL:
        return _class(frozenset(range(256)) - {value})
    if kind is code.AT:
        texts = {
            code.AT_BOUNDARY: r"\b",
            code.AT_NON_BOUNDARY: r"\B",
            code.AT_BEGINNING: "^",
            code.AT_END: "$",
        }
        return texts[value]
    raise ValueError(f"not in a rule's language: {kind}")


def _class(bytes_in: frozenset[int]) -> str:
    """A class that holds exactly these bytes, as ranges."""
    ranges: list[list[int]] = []
    for byte in sorted(bytes_in):
        if ranges and byte == ranges[-1][1] + 1:
            ranges[-1][1] = byte
        else:
            ranges.append([byte, byte])
    return "[" + "".join(
        _escape(low) if low == high else f"{_escape(low)}-{_escape(high)}" for low, high in ranges
    ) + "]"  # fmt: skip


def _escape(byte: int) -> str:
    return chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\x{byte:02x}"
