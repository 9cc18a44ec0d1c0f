"""Judge texts: what the text rules find in them, and what is written instead.

The rules are compiled at the first text that needs them. ``suspects`` asks the gate
about a whole batch; ``judge`` is the thorough answer for one text.
"""

from __future__ import annotations

import os

from .budget import TEXT_CHARS_MAX
from .keys import Verdict
from .markers import tombstone
from .plain import is_plain
from .tally import FAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from stack_composer.telemetry.model import KeyVerdict

    from .hashing import Hasher
    from .matcher import Exempt, Leave, Matcher, Span
    from .policy import Policy
    from .tally import Tally

TOO_LONG: Final = "too-long"
OF_PERSONS: Final = ("person", "national")
"""The tiers that ids made by machines are not searched for."""
WIDE_BYTES_MIN: Final = 4
"""So much more found without NULs is a part of a secret, and no letter before it."""
_EXEMPTS_MAX: Final = 4096
_JUDGED_MAX: Final = 1024


class Finding:
    """What a rule found: characters ``[start, end)`` of the text, and what happens."""

    __slots__ = ("action", "end", "rule", "start")

    def __init__(self, rule: str, start: int, end: int, action: str) -> None:
        self.rule = rule
        self.start = start
        self.end = end
        self.action = action


class TextJudge:
    """The text rules of one policy at work; one thread at a time.

    ``make_matcher`` compiles the rules of a profile; tests give one that fails.
    """

    def __init__(
        self,
        policy: Policy,
        tally: Tally,
        hasher: Callable[[], Hasher],
        make_matcher: Callable[[str], Matcher] | None,
    ) -> None:
        self._policy = policy
        self._tally = tally
        self._hasher = hasher
        self._make_matcher = make_matcher or self._best_matcher
        self._may_be_plain = not policy.rules
        self._has_own = bool(policy.rules or policy.allow)
        self._exempts: dict[str, Exempt | None] = {}
        self._matcher: Matcher | None = None
        self._broken = False
        self._judged: dict[bytes, tuple[str | None, list[tuple[str, str]]]] = {}
        self._digest_key = os.urandom(16)

    # -- the rules ------------------------------------------------------------

    def matcher(self) -> Matcher:
        """The rules, compiled once. If that fails, everything not plain is dropped.

        Raises:
            Exception: Whatever compiling raises; the first time, and then RuntimeError.
        """
        if self._matcher is None:
            if self._broken:
                raise RuntimeError("the rules did not compile")
            self._broken = True
            self._matcher = self._make_matcher(self._policy.profile)
            self._broken = False
        return self._matcher

    def _best_matcher(self, profile: str) -> Matcher:
        from .engines import best_matcher
        from .rules import text_rules

        rules = text_rules(profile)
        if self._policy.rules:
            from .own import in_order

            rules = in_order(rules, self._policy.rules, profile)
        return best_matcher(rules)

    def _is_plain(self, text: str) -> bool:
        """Whether ``text`` needs no rules; asked only as long as none are compiled."""
        return self._matcher is None and self._may_be_plain and is_plain(text, self._policy.profile)

    # -- many texts -------------------------------------------------------------

    def suspects(self, texts: Sequence[str]) -> Sequence[int]:
        """The indexes of the texts that must be judged one by one; the others are clean.

        Raises:
            Exception: The search failed; then every text must be judged by itself.
        """
        if self._matcher is None and all(map(self._is_plain, texts)):
            return ()
        matcher = self.matcher()
        most = matcher.chars_max
        joined = "\0".join(texts)
        if joined.count("\0") < len(texts) and (
            len(joined) <= most or max(map(len, texts)) <= most
        ):
            return matcher.suspects(texts, joined)
        # A text that is too long, or holds our separator, is a suspect anyway.
        odd = {at for at, text in enumerate(texts) if len(text) > most or "\0" in text}
        even = ["" if at in odd else text for at, text in enumerate(texts)]
        return sorted(odd.union(matcher.suspects(even, "\0".join(even))))

    # -- one text -----------------------------------------------------------------

    def judge(self, text: str, verdict: KeyVerdict | None = None) -> str:
        """``text`` with markers where something was found, or ``Gone``. Never raises."""
        try:
            if len(text) > TEXT_CHARS_MAX:
                return self._tally.gone(TOO_LONG)
            if self._is_plain(text):
                return text
            if len(text) > self.matcher().chars_max:
                return self._tally.gone(TOO_LONG)
            data, spans = self._spans(text, verdict)
            return self._redact(data, spans) if spans else text
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            return self._tally.fault()

    def remembered(self, key: str, text: str, judge: Callable[[], str]) -> str:
        """Give what ``judge`` answers, or what it answered before for this key and text.

        Real programs record the same few suspects again and again. They are remembered
        by a digest under a key of this process: no secret stays in memory for that.
        """
        # The key's length too: where it ends must not be a matter of what it holds.
        digest = self._digest(f"{len(key)}\0{key}{text}")
        known = self._judged.get(digest)
        if known is not None:
            self._tally.repeat(known[1])
            return text if known[0] is None else known[0]
        faults = self._tally.faults
        noted = self._tally.note()
        try:
            answer = judge()
        finally:
            self._tally.end_note()
        if faults == self._tally.faults:
            if len(self._judged) >= _JUDGED_MAX:
                self._judged.clear()
            self._judged[digest] = (None if answer is text else answer, noted)
        return answer

    def _digest(self, text: str) -> bytes:
        try:
            from _blake2 import blake2b
        except ImportError:  # Another Python: hashlib has it, and takes 6 ms to import.
            from hashlib import blake2b

        data = text.encode("utf-8", "surrogatepass")
        return blake2b(data, digest_size=16, key=self._digest_key).digest()

    def rule_in_bytes(self, value: bytes, verdict: KeyVerdict) -> str:
        """The name of the first rule that finds something in ``value``, or "".

        ``TOO_LONG`` if it is longer than a text may be.

        Raises:
            Exception: The search failed.
        """
        matcher = self.matcher()
        if len(value) > matcher.chars_max:
            return TOO_LONG
        spans = _spans_or_all_if_wide(matcher, value, self._leave(verdict))
        return matcher.rules[spans[0].rule].name if spans else ""

    def findings(self, text: str, verdict: KeyVerdict) -> list[Finding]:
        """What the rules find in ``text``; a fault is one finding over all of it."""
        try:
            if len(text) > self.matcher().chars_max:
                return [Finding(TOO_LONG, 0, len(text), "drop")]
            data, spans = self._spans(text, verdict)
            return [_finding(self.matcher(), data, span) for span in spans]
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            self._tally.fault()
            return [Finding(FAULT, 0, len(text), "drop")]

    def _spans(self, text: str, verdict: KeyVerdict | None) -> tuple[bytes, list[Span]]:
        data = text.encode("utf-8", "surrogatepass")
        return data, _spans_or_all_if_wide(self.matcher(), data, self._leave(verdict))

    def _redact(self, data: bytes, spans: Sequence[Span]) -> str:
        rules = self.matcher().rules
        for name in {rules[span.rule].name for span in spans}:
            self._tally.hit(name)
        pieces = []
        position = 0
        for span in spans:
            rule = rules[span.rule]
            if rule.action == "drop":
                return self._tally.gone(rule.name)
            self._tally.count(rule.name, rule.action)
            found = data[span.start : span.end] if rule.action == "hash" else b""
            pieces += [data[position : span.start], self._marker(rule.name, found).encode()]
            position = span.end
        pieces.append(data[position:])
        return b"".join(pieces).decode("utf-8", "surrogatepass")

    def _marker(self, rule: str, found: bytes) -> str:
        """What stands for a part that was found; its hash too, if ``found`` is given."""
        if not found:
            return tombstone(rule)
        hashed = self._hasher().hash(f"own:{rule}", found.decode("utf-8", "surrogatepass"))
        return tombstone(f"{rule}:{hashed.partition(':')[2]}")

    # -- what is let be ---------------------------------------------------------------

    def _leave(self, verdict: KeyVerdict | None) -> Leave | None:
        """What is let be under a key: ids made by machines are no numbers of persons."""
        tiers: tuple[str, ...] = ()
        if isinstance(verdict, Verdict):
            tiers = OF_PERSONS if verdict.machine else ("content",) if verdict.turned_on else ()
        exempt = self._exempt(verdict.key if verdict is not None else "")
        if not tiers and exempt is None:
            return None
        from .matcher import Leave

        return Leave(tiers, exempt)

    def _exempt(self, key: str) -> Exempt | None:
        """What asks whether a match under ``key`` is let be; None if none is."""
        if not self._has_own:
            return None
        if key not in self._exempts:
            from .own import Allowed

            if len(self._exempts) >= _EXEMPTS_MAX:
                self._exempts.clear()
            allowed = Allowed(self.matcher().rules, self._policy.rules, self._policy.allow)
            self._exempts[key] = allowed.for_key(key)
        return self._exempts[key]


def _spans_or_all_if_wide(matcher: Matcher, data: bytes, leave: Leave | None) -> list[Span]:
    """What the matcher finds, or all of ``data`` if more is found in it without its NULs.

    Between NULs stand the letters of a text of two or four bytes a character (UTF-16)
    that is taken for one of single bytes; and one NUL hides the rest of a secret.
    """
    from .budget import Patience

    patience = Patience()

    def find(some: bytes) -> list[Span]:
        return matcher.spans(some, leave, patience)

    spans = find(data)
    hidden = _hidden_by_nuls(matcher, data, spans, find) if b"\0" in data else None
    return spans if hidden is None else [type(hidden)(0, len(data), hidden.rule)]


def _hidden_by_nuls(
    matcher: Matcher, data: bytes, spans: Sequence[Span], find: Callable[[bytes], list[Span]]
) -> Span | None:
    """What is found without NULs, and not by ``spans``."""
    known = bytearray(b"\1" * len(data))
    for span in spans:
        known[span.start : span.end] = bytes(span.end - span.start)
    left = bytes([is_open for is_open, byte in zip(known, data, strict=True) if byte])
    for one in find(data.replace(b"\0", b"")):
        if left[one.start : one.end].count(1) >= WIDE_BYTES_MIN:
            return one
    # And as it is when it is guarded again, so that the answer is the same then.
    guarded = bytearray(data)
    for span in reversed(spans):
        guarded[span.start : span.end] = tombstone(matcher.rules[span.rule].name).encode()
    return next(iter(find(bytes(guarded).replace(b"\0", b""))), None)


def _finding(matcher: Matcher, data: bytes, span: Span) -> Finding:
    rule = matcher.rules[span.rule]
    start = len(data[: span.start].decode("utf-8", "surrogatepass"))
    found = len(data[span.start : span.end].decode("utf-8", "surrogatepass"))
    return Finding(rule.name, start, start + found, rule.action)
