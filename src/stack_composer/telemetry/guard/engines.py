"""The two engines that search for the rules: google-re2, and the standard library's ``re``."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from itertools import accumulate

from .budget import UnsettledError
from .hidden import HIDDEN
from .markers import encode
from .matcher import Matcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Final

    from .matcher import Find, Spans
    from .rules import TextRule

_APART: Final = ("structure", "assignment", "own")  # Tiers with an automaton of their own.
_NOWHERE: Final = ((-1, -1),)
_RE2_BYTES_MAX = 64 << 20  # Room for the automaton's states; it takes what it needs.


class Re2Matcher(Matcher):
    """The fast engine: google-re2, linear in the text whatever the text."""

    def __init__(self, rules: Sequence[TextRule]) -> None:
        import re2

        super().__init__(rules)
        self._re2 = re2
        self._parts = _parts(rules)
        self._gates = [self._compile_gate(part) for part in self._parts]
        self._sets: list[Any] = [None] * len(self._parts)

    def _suspects(self, texts: Sequence[str], data: bytes) -> list[int]:
        return texts_hit(self._gates, texts, data)

    def _candidates(self, data: bytes) -> Iterable[int]:
        found: list[int] = []
        for number, (part, gate) in enumerate(zip(self._parts, self._gates, strict=True)):
            # The gate has seen this text before; the set reads each new one to its end.
            if gate(data, 0, len(data))[0][0] < 0:
                continue
            union = self._sets[number] or self._compile_set(part)
            self._sets[number] = union
            hits: list[int] | None = union.Match(data)
            # A set answers "none" when it ran out of room, too: then every rule is asked.
            found += [part[hit] for hit in hits] if hits else part
        return sorted(found)

    def _compile(self, pattern: bytes) -> Find:
        return found_by_re2(self._re2.compile(pattern, self._options(captures=True)))

    def _compile_gate(self, part: Sequence[int]) -> Find:
        """What finds the end of a part's first hit; where it began is not told.

        To tell it RE2 would read backwards too, with a second automaton, which makes a
        state for each byte of a token that nobody has seen before.
        """
        gates = [self.rules[at].gate if at < len(self.rules) else HIDDEN for at in part]
        pattern = b"(?s:.*?)(?:" + b"|".join(gates) + b")"
        return found_by_re2(
            self._re2.compile(pattern, self._options(captures=False)), anchored=True
        )

    def _compile_set(self, part: Sequence[int]) -> Any:
        union = self._re2.Set.SearchSet(self._options(captures=False))
        for at in part:
            union.Add(self.rules[at].sign if at < len(self.rules) else HIDDEN)
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


def found_by_re2(compiled: Any, *, anchored: bool = False) -> Find:
    """The search of a pattern that RE2 compiled; ``anchored`` if it begins where asked.

    RE2's own, without the object that its wrapper makes of each match: that takes twice as
    long as the search.
    """
    try:
        anchors = type(compiled._regexp).Anchor
        anchor = anchors.ANCHOR_START if anchored else anchors.UNANCHORED
        return partial(compiled._regexp.Match, anchor)
    except AttributeError:  # Another version of the wrapper.
        return _by_match(compiled.match if anchored else compiled.search)


def found_by_re(compiled: re.Pattern[bytes]) -> Find:
    """The search of a pattern that ``re`` compiled."""
    search = compiled.search

    def find(data: bytes, start: int, end: int) -> Spans:
        match = search(data, start, end)
        return _NOWHERE if match is None else match.regs

    return find


def _by_match(search: Callable[[bytes, int, int], Any]) -> Find:
    def find(data: bytes, start: int, end: int) -> Spans:
        match = search(data, start, end)
        if match is None:
            return _NOWHERE
        return [match.span(group) for group in range(match.re.groups + 1)]

    return find


class ReMatcher(Matcher):
    """The engine of the standard library: slower, for where google-re2 has no wheel.

    A union of a hundred patterns would be tried at each byte. Instead, the anchors of
    each rule are looked for in the lower-cased data, and a rule none of whose anchors
    is there is not searched for.

    A failing search may try many ways from each place, which nothing here can bound but
    the length of the text. So a longer one is dropped.
    """

    chars_max = 1 << 14

    def __init__(self, rules: Sequence[TextRule]) -> None:
        import re

        super().__init__(rules)
        self._re = re
        self._find_hidden = found_by_re(re.compile(HIDDEN))

    def _suspects(self, texts: Sequence[str], data: bytes) -> list[int]:
        patterns = [
            self._find_hidden if index == len(self.rules) else self._search(index)[0]
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
        return [*rules, len(self.rules)] if self._finds_hidden(data) else rules

    def _finds_hidden(self, data: bytes) -> bool:
        return self._find_hidden(data, 0, len(data)) is not _NOWHERE

    def _compile(self, pattern: bytes) -> Find:
        return found_by_re(self._re.compile(pattern))


def texts_hit(finds: Iterable[Find], texts: Sequence[str], data: bytes) -> list[int]:
    """The indexes of the texts in which a search finds something; ``data`` is ``texts`` joined.

    Only the first and the last byte of a match may be a separator, and no match is
    shorter than three bytes, so its last byte but one lies in its text.
    """
    starts: list[int] = []
    found: set[int] = set()
    size = len(data)
    for find in finds:
        position = 0
        while (end := find(data, position, size)[0][1]) >= 0:
            starts = starts or text_starts(texts, size)
            index = bisect_right(starts, end - 2) - 1
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
