"""The two engines that search for the rules: google-re2, and the standard library's ``re``."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from .hidden import HIDDEN
from .markers import encode
from .matcher import Matcher, UnsettledError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Final

    from .matcher import Pattern
    from .rules import TextRule

_APART: Final = ("structure", "assignment", "own")  # Tiers with an automaton of their own.
_RE2_BYTES_MAX = 64 << 20  # Room for the automaton's states; it takes what it needs.


class Re2Matcher(Matcher):
    """The fast engine: google-re2, linear in the text whatever the text."""

    def __init__(self, rules: Sequence[TextRule]) -> None:
        import re2

        super().__init__(rules)
        self._re2 = re2
        self._parts = _parts(rules)
        self._gates = [
            re2.compile(
                b"|".join(self._gate_of(index) for index in part), self._options(captures=False)
            )
            for part in self._parts
        ]
        self._sets: list[Any] = [None] * len(self._parts)

    def _gate_of(self, index: int) -> bytes:
        return self.rules[index].gate if index < len(self.rules) else HIDDEN

    def _suspects(self, texts: Sequence[str], data: bytes) -> list[int]:
        return texts_hit(self._gates, texts, data)

    def _candidates(self, data: bytes) -> Iterable[int]:
        found: list[int] = []
        for number, (part, gate) in enumerate(zip(self._parts, self._gates, strict=True)):
            # The gate has seen this text before; the set reads each new one to its end.
            if gate.search(data) is None:
                continue
            union = self._sets[number] or self._compile_set(part)
            self._sets[number] = union
            hits: list[int] | None = union.Match(data)
            # A set answers "none" when it ran out of room, too: then every rule is asked.
            found += [part[hit] for hit in hits] if hits else part
        return sorted(found)

    def _compile(self, pattern: bytes) -> Pattern:
        compiled: Pattern = self._re2.compile(pattern, self._options(captures=True))
        return compiled

    def _compile_set(self, part: Sequence[int]) -> Any:
        union = self._re2.Set.SearchSet(self._options(captures=False))
        for index in part:
            union.Add(self._gate_of(index))
        union.Compile()
        return union

    def _options(self, *, captures: bool) -> Any:
        options = self._re2.Options()
        options.encoding = self._re2.Options.Encoding.LATIN1
        options.max_mem = _RE2_BYTES_MAX
        options.log_errors = False
        options.never_capture = not captures
        return options


def _parts(rules: Sequence[TextRule]) -> list[list[int]]:
    """The rules that share an automaton, by index; the signs of ``views`` are with some.

    An automaton for all of them would have a state for each pair of theirs: on ids that it
    has not seen before it would make a new one with almost every byte. Each one more costs
    another pass over what is clean, so there are few.
    """
    parts: dict[str, list[int]] = {"": [len(rules)]}
    for index, rule in enumerate(rules):
        apart = rule.tier if rule.tier in _APART or rule.profile == "strict" else ""
        parts.setdefault(apart, []).append(index)
    return list(parts.values())


class ReMatcher(Matcher):
    """The engine of the standard library: slower, for where google-re2 has no wheel.

    A union of a hundred patterns would be tried at each byte. Instead, the anchors of
    each rule are looked for in the lower-cased data, and a rule none of whose anchors
    is there is not searched for.
    """

    def __init__(self, rules: Sequence[TextRule]) -> None:
        import re

        super().__init__(rules)
        self._re = re
        self._hidden = re.compile(HIDDEN)

    def _suspects(self, texts: Sequence[str], data: bytes) -> list[int]:
        patterns = [
            self._hidden if index == len(self.rules) else self._search(index)[0]
            for index in self._candidates(data)
        ]
        return texts_hit(patterns, texts, data)

    def _candidates(self, data: bytes) -> Iterable[int]:
        lowered = data.lower()
        rules = [
            index
            for index, rule in enumerate(self.rules)
            if not rule.anchors or any(anchor in lowered for anchor in rule.anchors)
        ]
        return [*rules, len(self.rules)] if self._hidden.search(data) else rules

    def _compile(self, pattern: bytes) -> Pattern:
        return self._re.compile(pattern)


def texts_hit(patterns: Iterable[Pattern], texts: Sequence[str], data: bytes) -> list[int]:
    """The indexes of the texts in which a pattern hits; ``data`` is ``texts`` joined."""
    starts: list[int] = []
    found: set[int] = set()
    for pattern in patterns:
        position = 0
        while match := pattern.search(data, position):
            starts = starts or text_starts(texts, len(data))
            index = text_at(starts, match)
            found.add(index)
            position = after_text(starts, index, position)
    return sorted(found)


def text_starts(texts: Sequence[str], joined_bytes: int) -> list[int]:
    """Where each text begins in the joined data, and where one more would begin."""
    if sum(map(len, texts)) + len(texts) - 1 == joined_bytes:
        lengths: Iterable[int] = map(len, texts)
    else:
        lengths = (len(encode(text)) for text in texts)
    return list(accumulate((length + 1 for length in lengths), initial=0))


def text_at(starts: Sequence[int], match: Any) -> int:
    """The index of the text that ``match`` lies in.

    Only the first and the last byte of a match may be a separator, and no match is
    shorter than three bytes, so its middle lies in its text.
    """
    start, end = match.span()
    return bisect_right(starts, (start + end) // 2) - 1


def after_text(starts: Sequence[int], index: int, position: int) -> int:
    """Where to go on after a hit in the text ``index``: at the separator that ends it.

    Not behind it, since a pattern may want to see what stands before.
    """
    following = starts[index + 1] - 1
    if following <= position:
        # It cannot be; but if it were, the writer would stand here for ever.
        raise UnsettledError
    return following


def best_matcher(rules: Sequence[TextRule]) -> Matcher:
    """The fast engine where google-re2 is installed, otherwise the slower one."""
    try:
        return Re2Matcher(rules)
    except ImportError:
        return ReMatcher(rules)
