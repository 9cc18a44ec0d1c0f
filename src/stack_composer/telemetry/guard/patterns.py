"""Turn a pattern that a user wrote into one that both engines take alike.

A user writes RE2's syntax over characters; the engine searches bytes, with every text
of a batch in one piece and NULs between them. So a pattern is parsed with ``re``'s own
parser and written anew: characters as their UTF-8, classes written out and without
NUL, case folded here where it is not ASCII's, and ``^`` and ``$`` as what stands
between two texts. What RE2 does not have, or reads differently, is refused with its
position, never guessed at.

Only imported when a configuration has rules of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from stack_composer.telemetry.errors import GuardError

from .syntax import code, parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Ranges = list[tuple[int, int]]

PATTERN_CHARS_MAX: Final = 1_000
REPEAT_MAX: Final = 1_000
"""RE2's own bound of a counted repetition."""
MATCH_BYTES_MIN: Final = 3
TAKEN: Final = "secret"
"""Name of the one group that narrows what is taken; the whole match is, without it."""
WAYS_MAX: Final = 100_000
_WAYS_UNBOUNDED: Final = 100

_CHARS_MAX: Final = 0x10FFFF
_FOLDED_MAX: Final = 1_000  # Beyond so many, a class holds both cases already.
_START: Final = r"(?:^|\x00)"
# ``re`` takes $ before a last line break too, and RE2 does not; so both are given it.
_END: Final = r"(?:\n?$|\n?\x00)"
_BEGINS: Final = (code.AT_BEGINNING, code.AT_BEGINNING_STRING)
_ENDS: Final = (code.AT_END, code.AT_END_STRING)
_CATEGORIES: Final = {
    code.CATEGORY_DIGIT: ([(48, 57)], False),
    code.CATEGORY_NOT_DIGIT: ([(48, 57)], True),
    code.CATEGORY_SPACE: ([(9, 10), (12, 13), (32, 32)], False),
    code.CATEGORY_NOT_SPACE: ([(9, 10), (12, 13), (32, 32)], True),
    code.CATEGORY_WORD: ([(48, 57), (65, 90), (95, 95), (97, 122)], False),
    code.CATEGORY_NOT_WORD: ([(48, 57), (65, 90), (95, 95), (97, 122)], True),
}
"""RE2's meaning: ASCII, and a blank is one of five."""

_HINT_RE2: Final = "see github.com/google/re2/wiki/Syntax for what there is"
_HINT_CLASS: Final = "write the class out, such as [A-Za-z], and \\[ for a bracket"
_FOREIGN: Final = (
    ("(?=", "lookahead"),
    ("(?!", "lookahead"),
    ("(?<=", "lookbehind"),
    ("(?<!", "lookbehind"),
    ("(?P=", "a backreference"),
    ("(?>", "an atomic group"),
    ("(?(", "a conditional group"),
)


class PatternError(GuardError):
    """A pattern that is not taken; the message says where and why, and quotes nothing."""

    def __init__(self, message: str, *, at: int | None = None, hint: str = _HINT_RE2) -> None:
        super().__init__(message if at is None else f"position {at}: {message}", hint=hint)


def canonical(pattern: str, *, only_re: bool = False) -> str:
    """Write ``pattern`` anew, in ASCII, for both engines; its first group is what is taken.

    Args:
        pattern: What both RE2 and ``re`` can parse, over characters. A group named
            "secret" narrows what is taken of a match; other groups only group.
        only_re: Refuse what may take ``re`` too long, since RE2 is not there.

    Raises:
        PatternError: It is not in that language, could match fewer than 3 bytes, or
            is too long.
    """
    if len(pattern) > PATTERN_CHARS_MAX:
        raise PatternError(f"longer than {PATTERN_CHARS_MAX:,} characters", hint="split the rule")
    _refuse_foreign(pattern)
    tree = _parse(pattern)
    flags = tree.state.flags
    _check_flags(flags & ~re.UNICODE)
    if only_re and _ways(list(tree)) > WAYS_MAX:
        raise PatternError(
            "could take too long without google-re2",
            hint="install google-re2, or give repetitions a small bound and do not nest them",
        )
    writer = _Writer(tree.state.groupdict.get(TAKEN))
    branches = _alternatives(list(tree))
    written = "|".join(_alternative(writer, items, flags, alone=len(branches) == 1)
                       for items in branches)  # fmt: skip
    if writer.secret and not writer.secret_at_top:
        raise PatternError(
            f"the group '{TAKEN}' does not take part in every match",
            hint="put it outside of other groups, alternatives and repetitions",
        )
    return written


def _parse(pattern: str) -> Any:
    try:
        return parser.parse(pattern)
    except re.error as error:
        raise PatternError(error.msg, at=error.pos) from None
    except (RecursionError, OverflowError):
        raise PatternError("nested too deep, or a number too large") from None


def _refuse_foreign(pattern: str) -> None:
    """Refuse, with its position, what RE2 does not have or reads in another way."""
    at = 0
    class_from = -1
    while at < len(pattern):
        if pattern[at] == "\0":
            raise PatternError("a NUL, which stands between texts", at=at, hint="leave it out")
        if pattern[at] == "\\":
            if class_from < 0 and pattern[at + 1 : at + 2] in tuple("123456789"):
                raise PatternError("a backreference, which RE2 does not have", at=at)
            at += 2
            continue
        if class_from >= 0:
            if _is_class_end(pattern, at, class_from):
                class_from = -1
        elif pattern[at] == "[":
            class_from = at
        else:
            _refuse_sign(pattern, at)
        at += 1


def _is_class_end(pattern: str, at: int, class_from: int) -> bool:
    """Whether the class that opened at ``class_from`` ends here; refuse a set inside it."""
    if pattern[at] == "]":
        # [] and [^] do not end there: that ] is a character of the class.
        return pattern[class_from + 1 : at] not in ("", "^")
    if pattern[at] == "[" or pattern[at : at + 2] in ("--", "&&", "~~", "||"):
        raise PatternError("a set inside of a class", at=at, hint=_HINT_CLASS)
    return False


def _refuse_sign(pattern: str, at: int) -> None:
    for sign, what in _FOREIGN:
        if pattern.startswith(sign, at):
            raise PatternError(f"{what}, which RE2 does not have", at=at)
    if pattern[at : at + 2] in ("*+", "++", "?+", "}+"):
        raise PatternError("a possessive repetition, which RE2 does not have", at=at)


def _check_flags(flags: int) -> None:
    if flags & ~(re.IGNORECASE | re.DOTALL):
        raise PatternError(
            "a flag other than i and s", hint="only (?i) and (?s) are known; write others out"
        )


def _alternatives(items: list[Any]) -> list[list[Any]]:
    if len(items) == 1 and items[0][0] is code.BRANCH:
        return [list(branch) for branch in items[0][1][1]]
    return [items]


def _alternative(writer: _Writer, items: list[Any], flags: int, *, alone: bool) -> str:
    """One alternative of the whole, with its edges as what stands between texts."""
    before = after = ""
    while items and items[0][0] is code.AT and items[0][1] in _BEGINS:
        before, items = _START, items[1:]
    while items and items[-1][0] is code.AT and items[-1][1] in _ENDS:
        after, items = _END, items[:-1]
    body = writer.top(items, flags) if alone else writer.sequence(items, flags)
    least = parser.parse(body.encode()).getwidth()[0]
    if least < MATCH_BYTES_MIN:
        raise PatternError(
            f"could match {least} bytes: {MATCH_BYTES_MIN} are the least",
            hint="what is so short is everywhere; add what stands around it",
        )
    grouped = body if writer.secret_at_top else f"({body})"
    return before + grouped + after


class _Writer:
    """Writes parsed items as a pattern over bytes.

    Attributes:
        secret: Number of the user's group "secret", or None.
        secret_at_top: Whether that group was written, as the only one that captures.
    """

    def __init__(self, secret: int | None) -> None:
        self.secret = secret
        self.secret_at_top = False

    def top(self, items: Sequence[Any], flags: int) -> str:
        """Write the outermost sequence, where the group "secret" may stand."""
        parts = []
        for item in items:
            kind, value = item
            if kind is code.SUBPATTERN and value[0] is not None and value[0] == self.secret:
                self.secret_at_top = True
                parts.append(f"({self.sequence(value[3], _flags_in(value, flags))})")
            else:
                parts.append(self._item(kind, value, flags))
        return "".join(parts)

    def sequence(self, items: Iterable[Any], flags: int) -> str:
        """Write what follows one another."""
        return "".join(self._item(kind, value, flags) for kind, value in items)

    def _item(self, kind: Any, value: Any, flags: int) -> str:
        if kind in (code.MAX_REPEAT, code.MIN_REPEAT):
            return self._repeat(value, flags) + ("?" if kind is code.MIN_REPEAT else "")
        if kind is code.SUBPATTERN:
            return f"(?:{self.sequence(value[3], _flags_in(value, flags))})"
        if kind is code.BRANCH:
            return "(?:" + "|".join(self.sequence(one, flags) for one in value[1]) + ")"
        if kind is code.AT:
            return _place(value)
        ranges = _ranges(kind, value, flags)
        letter = ranges[0][0] if flags & re.IGNORECASE and kind is code.LITERAL else 128
        # Kept as a letter: what the gates are derived from tells more by it than by a class.
        return f"(?i:{chr(letter)})" if chr(letter).isalpha() and letter < 128 else _written(ranges)

    def _repeat(self, value: Any, flags: int) -> str:
        least, most, inner = value
        unbounded = most is parser.MAXREPEAT
        if least > REPEAT_MAX or (not unbounded and most > REPEAT_MAX):
            raise PatternError(
                f"a repetition beyond {REPEAT_MAX:,}", hint="RE2 counts no further; use * or +"
            )
        text = f"(?:{self.sequence(inner, flags)})"
        return text + (f"{{{least},}}" if unbounded else f"{{{least},{most}}}")


def _flags_in(value: Any, flags: int) -> int:
    _, added, removed, _ = value
    _check_flags(added | removed)
    return int((flags | added) & ~removed)


def _place(value: Any) -> str:
    places = {code.AT_BOUNDARY: r"\b", code.AT_NON_BOUNDARY: r"\B"}
    if value not in places:
        raise PatternError(
            "^ and $ stand only where the pattern or an outermost alternative begins and ends",
            hint="write two alternatives, or two rules",
        )
    return places[value]


def _ranges(kind: Any, value: Any, flags: int) -> Ranges:
    """The characters that one item stands for; never NUL."""
    negated = False
    if kind is code.LITERAL:
        found = [(value, value)]
    elif kind is code.NOT_LITERAL:
        found, negated = [(value, value)], True
    elif kind is code.ANY:
        found, negated = ([] if flags & re.DOTALL else [(10, 10)]), True
    elif kind is code.IN:
        negated = value[0][0] is code.NEGATE
        found = _members(value[1:] if negated else value)
    else:
        raise PatternError(f"{str(kind).lower()}, which RE2 does not have")
    if flags & re.IGNORECASE:
        found = found + [(char, char) for char in _other_cases(found)]
    ranges = _inverted(found) if negated else _united(found)
    ranges = [(max(low, 1), high) for low, high in ranges if high > 0]
    if not ranges:
        raise PatternError("a class that holds no character, or NUL alone")
    return ranges


def _members(items: Iterable[Any]) -> Ranges:
    found: Ranges = []
    for kind, value in items:
        if kind is code.CATEGORY:
            ranges, negated = _CATEGORIES[value]
            found += _inverted(ranges) if negated else ranges
        else:
            found.append((value, value) if kind is code.LITERAL else tuple(value))
    return found


def _other_cases(ranges: Ranges) -> set[int]:
    if sum(high - low + 1 for low, high in ranges) > _FOLDED_MAX:
        ranges = [(low, min(high, 127)) for low, high in ranges if low < 128]
    chars = {chr(char) for low, high in ranges for char in range(low, high + 1)}
    folded = {other for char in chars for other in (char.lower(), char.upper())}
    # Where a letter outside of ASCII folds into it, RE2 on bytes does not follow.
    return {ord(other) for other in folded if len(other) == 1}


def _united(ranges: Ranges) -> Ranges:
    united: Ranges = []
    for low, high in sorted(ranges):
        if united and low <= united[-1][1] + 1:
            united[-1] = (united[-1][0], max(high, united[-1][1]))
        else:
            united.append((low, high))
    return united


def _inverted(ranges: Ranges) -> Ranges:
    inverted, start = [], 0
    for low, high in _united(ranges):
        if low > start:
            inverted.append((start, low - 1))
        start = high + 1
    return [*inverted, (start, _CHARS_MAX)] if start <= _CHARS_MAX else inverted


def _written(ranges: Ranges) -> str:
    """A pattern for the UTF-8 of one character of ``ranges``."""
    ascii_only = [(low, min(high, 127)) for low, high in ranges if low < 128]
    parts = []
    if ascii_only:
        (low, high), *more = ascii_only
        single = low == high and not more
        parts.append(_byte(low) if single else f"[{''.join(_span(*one) for one in ascii_only)}]")
    for low, high in ranges:
        parts += _utf8(max(low, 128), high)
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def _utf8(low: int, high: int) -> list[str]:
    """Patterns of bytes for the characters from ``low`` to ``high``, outside of ASCII."""
    if low > high:
        return []
    for most in (0x7FF, 0xFFFF):
        if low <= most < high:
            return _utf8(low, most) + _utf8(most + 1, high)
    first, last = (chr(char).encode("utf-8", "surrogatepass") for char in (low, high))
    # Cut where a byte but the last begins to differ, until the bytes can vary freely.
    for bits in range(6, 6 * len(first), 6):
        mask = (1 << bits) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                return _utf8(low, low | mask) + _utf8((low | mask) + 1, high)
            if high & mask != mask:
                return _utf8(low, (high & ~mask) - 1) + _utf8(high & ~mask, high)
    return ["".join(_byte(a) if a == b else f"[{_span(a, b)}]"
                    for a, b in zip(first, last, strict=True))]  # fmt: skip


def _span(low: int, high: int) -> str:
    return _byte(low) if low == high else f"{_byte(low)}-{_byte(high)}"


def _byte(byte: int) -> str:
    char = chr(byte)
    return char if char.isascii() and char.isalnum() else f"\\x{byte:02x}"


def _ways(items: Iterable[Any]) -> float:
    """In how many ways at most ``re`` may try the items at one place; roughly."""
    ways = 1.0
    for kind, value in items:
        if kind in (code.MAX_REPEAT, code.MIN_REPEAT):
            least, most, inner = value
            most = _WAYS_UNBOUNDED if most is parser.MAXREPEAT else most
            each = _ways(inner)
            ways *= (max(most - least, 0) + 1) * min(each, WAYS_MAX) ** min(most, 64)
        elif kind is code.SUBPATTERN:
            ways *= _ways(value[3])
        elif kind is code.BRANCH:
            ways *= sum(_ways(branch) for branch in value[1])
        ways = min(ways, 1e30)
    return ways
