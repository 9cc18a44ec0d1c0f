"""Find the spans of a text that must not be written.

A gate, the union of all patterns, is searched once over many texts; RE2 does that in
one pass whose cost does not grow with the rules. Only a text in which the gate hit is
looked at rule by rule, each hit confirmed by the rule's validator.

Texts are searched as UTF-8 bytes in RE2's Latin-1 mode, where every pattern means
exactly what it means to ``re`` on bytes: letters and digits are ASCII's, and case is
folded for ASCII alone. So both engines give the same answer, a lone surrogate is no
trouble, and values of type bytes need no decoding.

No pattern can span a NUL. That makes NUL the separator of joined texts (a line break
would not do: private keys span lines), and it makes a marker opaque: markers are
blanked with NULs before the search, so no rule sees a word of ours. What was found is
blanked too, and the search repeated until nothing is found: the answer is a fixed
point, which is why guarding guarded text changes nothing.
"""

from __future__ import annotations

from .budget import TEXT_CHARS_MAX, Budget, Patience, UnsettledError, weight
from .markers import blank_markers, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import Final, TypeAlias

    from .rules import TextRule

    Spans: TypeAlias = Sequence[tuple[int, int]]
    Find: TypeAlias = Callable[[bytes, int, int], Spans]
    """A compiled pattern of either engine: where its first match between two places stands.

    First the match, then each of its groups; -1 and -1 for one that took no part, and for
    the match if there is none.
    """
    Check: TypeAlias = Callable[[bytes, int, int], int]
    Search: TypeAlias = tuple[Find, Check, int]
    """A rule's pattern and validator, and how dear its hits are."""
    Exempt: TypeAlias = Callable[[int, bytes], bool]
    """Whether a match (the bytes) of the rule with that index is let be."""


ROUNDS_MAX: Final = 16
REPEATED_BYTES_MIN: Final = 12
REPEATED_SPANS_MAX: Final = 64
MATCH_BYTES_MIN: Final = 3
LONG_BYTES_MIN: Final = 64
_RUN_CHARS: Final = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_-"
)


class Span:
    """A part of the data, in bytes, and the index of the rule that found it."""

    __slots__ = ("end", "rule", "start")

    def __init__(self, start: int, end: int, rule: int) -> None:
        self.start = start
        self.end = end
        self.rule = rule


class Leave:
    """What a search lets be.

    Attributes:
        tiers: Rules of these tiers are not asked.
        exempt: Whether a match (its bytes) of the rule with an index is let be, by the
            user's word; None when none is.
    """

    __slots__ = ("exempt", "tiers")

    def __init__(self, tiers: Collection[str] = (), exempt: Exempt | None = None) -> None:
        self.tiers = tiers
        self.exempt = exempt


_NOTHING_LEFT = Leave()


class Matcher:
    """All text rules of a profile, compiled; safe to use from one thread at a time.

    ``suspects`` asks the gate about many texts; ``spans`` is the thorough answer for
    one of them.

    Attributes:
        chars_max: The longest text that it is to be asked about.
    """

    chars_max = TEXT_CHARS_MAX

    def __init__(self, rules: Sequence[TextRule]) -> None:
        self.rules = rules
        self._searches: list[Search | None] = [None] * len(rules)

    def suspects(self, texts: Sequence[str], joined: str) -> list[int]:
        """The indexes of the texts in which a rule may have hit, in order.

        ``joined`` is ``texts`` joined by NUL. It never leaves a hit out; a validator
        may still say no to one it lists.
        """
        return self._suspects(texts, blank_markers(encode(joined)))

    def _suspects(self, texts: Sequence[str], data: bytes) -> list[int]:
        raise NotImplementedError

    def _candidates(self, data: bytes) -> Iterable[int]:
        """The rules that may hit in ``data``; none that does is left out.

        One more than the last rule's index stands for ``views``: ``data`` may read
        otherwise than it stands.
        """
        raise NotImplementedError

    def _compile(self, pattern: bytes) -> Find:
        raise NotImplementedError

    def _search(self, index: int) -> Search:
        """The rule's own pattern and validator, made when first needed."""
        search = self._searches[index]
        if search is None:
            # Here rather than at the top: its tables and patterns are for hits only.
            from .validators import find_validator

            rule = self.rules[index]
            check = find_validator(rule.validator)
            search = (self._compile(rule.pattern), check, weight(rule.validator))
            self._searches[index] = search
        return search

    def spans(
        self, data: bytes, leave: Leave | None = None, patience: Patience | None = None
    ) -> list[Span]:
        """Find what must not be written of ``data``, but for what ``leave`` lets be.

        The spans are disjoint, in order, and extended to whole UTF-8 characters. A text
        that is searched several times has one ``patience`` for all of them.

        Raises:
            UnsettledError: It does not come to rest; the text must be dropped.
        """
        work = blank_markers(data)
        found: list[Span] = []
        patience = patience or Patience()
        for _ in range(ROUNDS_MAX):
            fresh = self._hits(work, leave or _NOTHING_LEFT, patience)
            if not fresh:
                return found
            fresh = merge(_whole_characters(data, span) for span in fresh)
            if more := repeats(work, fresh):
                fresh = merge(fresh + more)
            found = merge(found + fresh) if found else fresh
            work = _blank(work, fresh)
            if len(work) - work.count(0) < MATCH_BYTES_MIN:
                return found  # The secret was all there was: nothing is left to look at.
        raise UnsettledError

    def asked(self, data: bytes) -> list[TextRule]:
        """The rules that look at ``data``; the gate answers for the others."""
        indexes = self._candidates(blank_markers(data))
        return [self.rules[index] for index in indexes if index < len(self.rules)]

    def _hits(self, data: bytes, leave: Leave, patience: Patience) -> list[Span]:
        found = []
        for index in self._candidates(data):
            if index == len(self.rules):
                found += self._hidden_hits(data, leave, patience)
            elif self.rules[index].tier not in leave.tiers:
                found += search_rule(*self._search(index), data, index, patience, leave.exempt)
        return found

    def _hidden_hits(self, data: bytes, leave: Leave, patience: Patience) -> list[Span]:
        """What the rules find in ``data`` as its reader would read it."""
        from .views import views

        found = []
        for view in views(data):
            for index in self._candidates(view.data):
                if index == len(self.rules):
                    continue  # ``views`` itself reads what it has read.
                tier = self.rules[index].tier
                if tier in leave.tiers or (view.joined and tier != "structure"):
                    continue
                found += [
                    Span(*view.origin(span.start, span.end), index)
                    for span in search_rule(
                        *self._search(index),
                        view.data,
                        index,
                        patience,
                        leave.exempt,
                        joined=view.joined,
                    )
                ]
        return found


def search_rule(
    find: Find,
    check: Check,
    dear: int,
    data: bytes,
    index: int,
    patience: Patience,
    exempt: Exempt | None = None,
    *,
    joined: bool = False,
) -> list[Span]:
    """Find every confirmed hit of one rule; ``joined`` if ``data`` is lines put together.

    ``dear`` is the weight of its hits in the rule's budget.

    A hit that the validator refuses is stepped over by one byte only, since the secret
    may begin inside it. One that the user exempted is stepped over as a whole. Where the
    rule's budget is spent, all that follows is one hit, which nobody can exempt.

    Raises:
        UnsettledError: ``patience`` came to its end.
    """
    found = []
    budget = Budget(data, dear)
    position, size = 0, len(data)
    while position <= size - MATCH_BYTES_MIN:
        spans = find(data, position, size)
        first, after = spans[0]
        if first < 0:
            break
        start, end = secret_span(spans)
        if budget.is_spent(first):
            found.append(Span(start, size, index))
            break
        budget.pay(after - first)
        if end > start and (answer := check(data, start, end)):
            end = max(end, answer)
            if not joined:
                end = run_end(data, start, end)
            if exempt is None or not exempt(index, data[start:end]):
                found.append(Span(start, end, index))
            position = end
        else:
            position = first + 1
    patience.spend(budget.spent)
    return found


def run_end(data: bytes, start: int, end: int) -> int:
    """The end of a long secret: where the run of characters that it stopped in ends.

    A pattern counts so far and no further, and the rest of a key is as much a secret.
    """
    if end - start >= LONG_BYTES_MIN and data[end - 1] in _RUN_CHARS:
        while end < len(data) and data[end] in _RUN_CHARS:
            end += 1
    return end


def secret_span(spans: Spans) -> tuple[int, int]:
    """The first group that took part in the match; the match itself without groups."""
    for span in spans[1:]:
        if span[0] >= 0:
            return span
    return spans[0]


def merge(spans: Iterable[Span]) -> list[Span]:
    """Disjoint spans that cover the same bytes; the earliest rule names each."""
    merged: list[Span] = []
    for span in sorted(spans, key=_by_start):
        last = merged[-1] if merged else None
        if last is not None and span.start < last.end:
            merged[-1] = Span(last.start, max(last.end, span.end), min(last.rule, span.rule))
        else:
            merged.append(span)
    return merged


def repeats(data: bytes, found: Sequence[Span]) -> list[Span]:
    """Where else in ``data`` what was found stands, without a word that tells of it.

    Only what is long and no plain word, or a password would take its word from the
    rest of the text; and not in a text full of hits, to bound the cost.
    """
    if len(found) > REPEATED_SPANS_MAX:
        return []
    more = []
    for span in found:
        secret = data[span.start : span.end]
        if len(secret) < REPEATED_BYTES_MIN or secret.isalpha():
            continue
        at = data.find(secret)
        while at >= 0:
            more.append(Span(at, at + len(secret), span.rule))
            at = data.find(secret, at + len(secret))
    return more


def _by_start(span: Span) -> int:
    return span.start


def _whole_characters(data: bytes, span: Span) -> Span:
    """``span`` without a UTF-8 character cut in two at either end."""
    start, end = span.start, span.end
    while start > 0 and data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return Span(start, end, span.rule)


def _blank(data: bytes, spans: Iterable[Span]) -> bytes:
    work = bytearray(data)
    for span in spans:
        work[span.start : span.end] = b"\0" * (span.end - span.start)
    return bytes(work)
