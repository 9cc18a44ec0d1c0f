"""The guard: what stands between a recorded value and anything that keeps it.

Everything is judged twice, cheaply by its key and then by its text. ``Guard.texts``
is the fast path, one search over a whole batch; ``Guard.value`` is the thorough one,
for values with a rule of their own and for nested values.

It fails closed: a text that is too long, a value that is too deep and every fault of
ours become ``DROPPED`` (or a tombstone inside a nested value), and are counted.
"""

from __future__ import annotations

import os

from stack_composer.telemetry.model import DROPPED

from .keys import KEY_CHARS_MAX, KeyTable, Verdict
from .plain import is_plain
from .rules import KeyRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final, TypeAlias

    from stack_composer.telemetry.model import AnyValue, KeyVerdict

    from .hashing import Hasher
    from .matcher import Leave, Matcher, Span
    from .own import Exempt
    from .policy import Policy

    How: TypeAlias = dict[str, Any]
    """What ``Matcher.spans`` is to leave out."""

TEXT_CHARS_MAX: Final = 1 << 16
DEPTH_MAX: Final = 32
TOO_LONG: Final = "too-long"
TOO_DEEP: Final = "too-deep"
FAULT: Final = "fault"
UNKNOWN_TYPE: Final = "unknown-type"
_UNJUDGED: Final = (TOO_LONG, TOO_DEEP, FAULT, UNKNOWN_TYPE, "dropped")
OF_PERSONS: Final = ("person", "national")
"""The tiers that ids made by machines are not searched for."""
WIDE_BYTES_MIN: Final = 4
"""So much more found without NULs is a part of a secret, and no letter before it."""
_KEYS_MAX: Final = 4096
_IN_PARTS: Final = ("literals", "arguments")  # Actions of key rules that look into the text.
_JUDGED_MAX: Final = 1024
_EVERYTHING: Final = KeyRule(
    FAULT, "drop", (), (), ends=False, numbers=True, reason="The key could not be judged."
)


class _Gone(str):
    """The tombstone of a value that must not be written; at the top, ``DROPPED``."""

    __slots__ = ()


class Finding:
    """What a rule found: characters ``[start, end)`` of the text, and what happens."""

    __slots__ = ("action", "end", "rule", "start")

    def __init__(self, rule: str, start: int, end: int, action: str) -> None:
        self.rule = rule
        self.start = start
        self.end = end
        self.action = action


class Guard:
    """The rules of one policy at work; implements ``model.Screen``.

    One thread at a time, the writer's. Rules are compiled at the first text that
    needs them, so a short program with plain names never pays for them.

    Attributes:
        counts: Redactions so far by rule and action; never reset.
        faults: Values dropped because the guard itself failed; never reset.
        judged: Texts judged so far; never reset.
        hits: Texts in which a rule found something so far, by rule; never reset. Of the
            rules over keys only the user's own are in it: ours hit by design.
    """

    def __init__(
        self, policy: Policy, *, make_matcher: Callable[[str], Matcher] | None = None
    ) -> None:
        from .rules import key_rules

        self.policy = policy
        self.counts: dict[tuple[str, str], int] = {}
        self.faults = 0
        self.judged = 0
        self.hits: dict[str, int] = {}
        self._table = KeyTable(key_rules(), policy)
        self._keys: dict[str, Verdict] = {}
        self._make_matcher = make_matcher or self._best_matcher
        self._has_own = bool(policy.rules or policy.allow)
        self._may_be_plain = not policy.rules
        self._exempts: dict[str, Exempt | None] = {}
        self._matcher: Matcher | None = None
        self._broken = False
        self._hasher: Hasher | None = None
        self._judged: dict[bytes, tuple[str | None, list[tuple[str, str]]]] = {}
        self._digest_key = os.urandom(16)
        self._counting: list[tuple[str, str]] | None = None
        self._marker_names: frozenset[str] = frozenset()

    # -- keys ---------------------------------------------------------------

    def key(self, key: str) -> Verdict:
        """Judge an attribute key. A secret in the key itself is masked in ``text``."""
        verdict = self._keys.get(key)
        if verdict is None:
            if type(key) is not str or len(key) > KEY_CHARS_MAX:
                return self._judge_key(key)  # not kept: as long as it likes
            if len(self._keys) >= _KEYS_MAX:
                self._keys.clear()
            verdict = self._keys[key] = self._judge_key(key)
        return verdict

    def _judge_key(self, key: str) -> Verdict:
        try:
            if len(key) > KEY_CHARS_MAX:
                # The words of such a key are not looked at, so its values go too.
                return Verdict(key, str(self._gone(TOO_LONG)), "value", rule=_EVERYTHING)
            text = key if self._table.known(key) else str(self._judge_text(key))
            verdict = self._table.verdict(key, text)
            return self._own_verdict(key, verdict) if self._has_own else verdict
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            return Verdict("", str(self._fault()), "value", rule=_EVERYTHING)

    def _own_verdict(self, key: str, verdict: Verdict) -> Verdict:
        """``verdict`` after the user's exceptions, and after the user's own rules."""
        from . import own
        from .rules import key_rules

        allowed = own.allowed_key_rules(self.policy.allow, key)
        if verdict.rule is not None and verdict.rule.name in allowed:
            # Anew without those rules: another one may take the key as well.
            left = [rule for rule in key_rules() if rule.name not in allowed]
            verdict = KeyTable(left, self.policy).verdict(key, verdict.text)
        rule = own.own_key_rule(self.policy.rules, key, self.policy.profile)
        if rule is None or rule.name in allowed or not own.is_more_severe(rule, verdict.rule):
            return verdict
        return Verdict(key, verdict.text, "value", rule=rule, phrase=f"own:{rule.name}")

    # -- texts --------------------------------------------------------------

    def texts(self, pending: Sequence[tuple[KeyVerdict, str]]) -> list[Any]:
        """Judge many texts in one search; the answers stand in the same order.

        An answer is the text itself (clean), the text with markers, or ``DROPPED``.
        There is no memo here: a search costs no more per text than looking it up.
        """
        answers: list[Any] = [text for _, text in pending]
        self.judged += len(answers)
        try:
            matcher = self._matcher
            if matcher is None:
                if self._may_be_plain and all(
                    is_plain(text, self.policy.profile) for text in answers
                ):
                    return answers
                matcher = self._load()
            joined = "\0".join(answers)
            if joined.count("\0") >= len(answers) or (
                len(joined) > TEXT_CHARS_MAX and max(map(len, answers)) > TEXT_CHARS_MAX
            ):
                suspects = self._suspects_among_odd_ones(matcher, answers)
            else:
                suspects = matcher.suspects(answers, joined)
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            # One value is at fault, or the engine: each is judged by itself, so that
            # only what cannot be judged is lost.
            suspects = range(len(answers))
        for index in suspects:
            verdict, text = pending[index]
            answers[index] = _dropped_if_gone(self._judge_suspect(text, verdict))
        return answers

    def _suspects_among_odd_ones(self, matcher: Matcher, texts: Sequence[str]) -> Sequence[int]:
        """Ask the gate; a text that is too long, or holds our separator, is one anyway."""
        odd = {
            index for index, text in enumerate(texts) if len(text) > TEXT_CHARS_MAX or "\0" in text
        }
        even = ["" if index in odd else text for index, text in enumerate(texts)]
        return sorted(odd.union(matcher.suspects(even, "\0".join(even))))

    def _judge_suspect(self, text: str, verdict: KeyVerdict) -> str:
        """Judge a text in which the gate hit, or remember how it was judged before.

        Real programs record the same few suspects again and again. They are remembered
        by a digest under a key of this process: no secret stays in memory for that.
        """
        return self._remembered(verdict.key, text, lambda: self._judge_text(text, verdict))

    def _remembered(self, key: str, text: str, judge: Callable[[], str]) -> str:
        # The key's length too: where it ends must not be a matter of what it holds.
        digest = self._digest(f"{len(key)}\0{key}{text}")
        known = self._judged.get(digest)
        if known is None:
            faults = self.faults
            counted = self._counting = []
            try:
                answer = judge()
            finally:
                self._counting = None
            if faults == self.faults:
                if len(self._judged) >= _JUDGED_MAX:
                    self._judged.clear()
                self._judged[digest] = (None if answer is text else answer, counted)
            return answer
        for rule, action in known[1]:
            self._count(rule, action)
        for rule in {rule for rule, _ in known[1] if rule in self.hits}:
            self.hits[rule] += 1
        return text if known[0] is None else known[0]

    def _digest(self, text: str) -> bytes:
        from hashlib import blake2b

        return blake2b(
            text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._digest_key
        ).digest()

    def findings(self, text: str, key: str = "") -> list[Finding]:
        """What the guard finds in ``text``, as the value of ``key`` if one is given.

        Never raises: what cannot be judged is one finding over the whole text.
        """
        verdict = self.key(key) if key else Verdict("", "", "scan")
        if verdict.rule is not None and verdict.rule.action not in _IN_PARTS:
            return [Finding(verdict.rule.name, 0, len(text), verdict.rule.action)]
        try:
            gone = self._unfit(text)
            if gone:
                return [Finding(gone, 0, len(text), "drop")]
            if verdict.rule is not None:
                return self._findings_in_parts(text, verdict.rule, verdict)
            matcher = self._matcher or self._load()
            data, spans = self._spans(matcher, text, verdict)
            return [_finding(matcher, data, span) for span in spans]
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            self._fault()
            return [Finding(FAULT, 0, len(text), "drop")]

    def _judge_text(self, text: str, verdict: KeyVerdict | None = None) -> str:
        """``text`` with markers where something was found, or a tombstone. Never raises."""
        try:
            gone = self._unfit(text)
            if gone:
                return self._gone(gone)
            matcher = self._matcher
            if matcher is None:
                if self._may_be_plain and is_plain(text, self.policy.profile):
                    return text
                matcher = self._load()
            data, spans = self._spans(matcher, text, verdict)
            return self._redact(matcher, data, spans) if spans else text
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            return self._fault()

    @staticmethod
    def _unfit(text: str) -> str:
        return TOO_LONG if len(text) > TEXT_CHARS_MAX else ""

    def _spans(
        self, matcher: Matcher, text: str, verdict: KeyVerdict | None
    ) -> tuple[bytes, list[Span]]:
        data = text.encode("utf-8", "surrogatepass")
        spans = _spans_or_all_if_wide(matcher, data, self._leave(matcher, verdict))
        return data, spans

    def _leave(self, matcher: Matcher, verdict: KeyVerdict | None) -> Leave | None:
        """What is let be under a key: ids made by machines are no numbers of persons."""
        tiers: tuple[str, ...] = ()
        if isinstance(verdict, Verdict):
            tiers = OF_PERSONS if verdict.machine else ("content",) if verdict.turned_on else ()
        exempt = self._exempt(matcher, verdict)
        if not tiers and exempt is None:
            return None
        from .matcher import Leave

        return Leave(tiers, exempt)

    def _exempt(self, matcher: Matcher, verdict: KeyVerdict | None) -> Exempt | None:
        """What asks whether a match under this key is let be; None if none is."""
        if not self._has_own:
            return None
        key = verdict.key if verdict is not None else ""
        if key not in self._exempts:
            from .own import Allowed

            if len(self._exempts) >= _KEYS_MAX:
                self._exempts.clear()
            allowed = Allowed(matcher.rules, self.policy.rules, self.policy.allow)
            self._exempts[key] = allowed.for_key(key)
        return self._exempts[key]

    def _redact(self, matcher: Matcher, data: bytes, spans: Sequence[Span]) -> str:
        pieces = []
        position = 0
        for name in {matcher.rules[span.rule].name for span in spans}:
            self.hits[name] = self.hits.get(name, 0) + 1
        for span in spans:
            rule = matcher.rules[span.rule]
            if rule.action == "drop":
                return self._gone(rule.name)
            self._count(rule.name, rule.action)
            found = data[span.start : span.end] if rule.action == "hash" else b""
            pieces += [data[position : span.start], self._marker(rule.name, found).encode()]
            position = span.end
        pieces.append(data[position:])
        return b"".join(pieces).decode("utf-8", "surrogatepass")

    def _marker(self, rule: str, found: bytes) -> str:
        """What stands for a part that was found; its hash too, if ``found`` is given."""
        if not found:
            return tombstone(rule)
        hashed = self._hashes().hash(f"own:{rule}", found.decode("utf-8", "surrogatepass"))
        return tombstone(f"{rule}:{hashed.partition(':')[2]}")

    def _best_matcher(self, profile: str) -> Matcher:
        from .matcher import best_matcher
        from .rules import text_rules

        rules = text_rules(profile)
        if self.policy.rules:
            from .own import in_order

            rules = in_order(rules, self.policy.rules, profile)
        return best_matcher(rules)

    def matcher(self) -> Matcher:
        """The text rules, compiled; for who explains them.

        Raises whatever compiling raises; then everything not plain is dropped.
        """
        return self._matcher or self._load()

    def _load(self) -> Matcher:
        """Compile the rules; once. If that fails, everything not plain is dropped."""
        if self._broken:
            raise RuntimeError("the rules did not compile")
        self._broken = True
        self._matcher = self._make_matcher(self.policy.profile)
        self._broken = False
        return self._matcher

    # -- values -------------------------------------------------------------

    def value(self, key: str, value: AnyValue) -> Any:
        """Judge one value of any type, nested or not, with the rules for its key.

        Inside a list or mapping a tombstone stands for what is dropped; a whole value
        that is dropped is ``DROPPED``. Never raises.
        """
        self.judged += 1
        try:
            verdict = self.key(key)
            if verdict.rule is not None and verdict.rule.every_type:
                self.hits[verdict.rule.name] = self.hits.get(verdict.rule.name, 0) + 1
            return _dropped_if_gone(self._walk(value, verdict, 0))
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            return _dropped_if_gone(self._fault())

    def _walk(self, value: AnyValue, verdict: Verdict, depth: int) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return self._number(value, verdict)
        if isinstance(value, str) and self._is_marker(value):
            return value  # Guarded before, maybe under a key that had its words still.
        rule = verdict.rule
        if rule is not None and rule.action == "drop":
            return self._gone(rule.name)
        if isinstance(value, str):
            return self._text(value, verdict)
        if isinstance(value, bytes):
            return self._bytes(value, verdict)
        return self._container(value, verdict, depth + 1)

    def _is_marker(self, text: str) -> bool:
        """Whether ``text`` is a marker of ours and no more; not what only looks like one."""
        if not text.startswith("[redacted:"):
            return False
        from .matcher import blank_markers, encode

        if blank_markers(encode(text)).strip(b"\0"):
            return False
        names = {part.partition("]")[0] for part in text.split("[redacted:")[1:]}
        return {name.partition(":")[0] for name in names} <= self._names()

    def _names(self) -> frozenset[str]:
        """What stands in markers: rules of both profiles, the user's, and what is not judged."""
        if not self._marker_names:
            from .rules import describe

            ours = {row["name"] for row in describe()} | {rule.name for rule in self.policy.rules}
            self._marker_names = frozenset(ours.union(_UNJUDGED))
        return self._marker_names

    def _number(self, value: float | None, verdict: Verdict) -> Any:
        rule = verdict.rule
        # A yes or no tells nothing, and no number with a fraction is a code or an id.
        if rule is None or not rule.numbers or value is None:
            return value
        if type(value) is not int and not rule.every_type:
            return value
        return self._gone(rule.name) if rule.action == "drop" else self._text(str(value), verdict)

    def _text(self, value: str, verdict: Verdict) -> str:
        rule = verdict.rule
        if rule is None:
            return self._judge_text(value, verdict)
        if rule.action == "hash":
            return self._hash(value, verdict)
        if rule.action in _IN_PARTS:
            return self._remembered(
                f"{rule.name}\0{verdict.key}",
                value,
                lambda: self._text_in_parts(value, rule, verdict),
            )
        self._count(rule.name, "mask")
        return tombstone(rule.name)

    def _text_in_parts(self, value: str, rule: KeyRule, verdict: Verdict) -> str:
        """``value`` without its literals or arguments, searched like any other text."""
        gone = self._unfit(value)
        if gone:
            return self._gone(gone)
        pieces = []
        position = 0
        for start, end, instead in self._parts(value, rule):
            self._count(rule.name, "mask")
            pieces += [value[position:start], instead]
            position = end
        return self._judge_text("".join([*pieces, value[position:]]), verdict)

    def _parts(self, value: str, rule: KeyRule) -> list[tuple[int, int, str]]:
        if rule.action == "literals":
            from .sql import literals

            return literals(value)
        from .arguments import in_line

        return in_line(value, self._names_secret)

    def _names_secret(self, name: str) -> bool:
        rule = self.key(name).rule
        return rule is not None and rule.action in ("mask", "drop")

    def _findings_in_parts(self, text: str, rule: KeyRule, verdict: Verdict) -> list[Finding]:
        found = [Finding(rule.name, s, e, "mask") for s, e, _ in self._parts(text, rule)]
        matcher = self.matcher()
        data, spans = self._spans(matcher, text, verdict)
        others = [_finding(matcher, data, span) for span in spans]
        found += [o for o in others if all(o.end <= f.start or f.end <= o.start for f in found)]
        return sorted(found, key=lambda finding: finding.start)

    def _arguments(self, value: Sequence[Any]) -> list[Any]:
        """``value``, the arguments of a command, with markers for what others give away."""
        from .arguments import MARKER, in_arguments

        arguments = list(value)
        texts = [str(argument) for argument in arguments]
        for index, start, end in in_arguments(texts, self._names_secret):
            self._count("argument", "mask")
            arguments[index] = texts[index][:start] + MARKER + texts[index][end:]
        return arguments

    def _hashes(self) -> Hasher:
        from .hashing import Hasher

        if self._hasher is None:
            self._hasher = Hasher(self.policy)
        return self._hasher

    def _hash(self, value: str, verdict: Verdict) -> str:
        hashed = self._hashes().hash(verdict.phrase, value)
        if hashed != value and verdict.rule is not None:
            self._count(verdict.rule.name, "hash")
        return hashed

    def _bytes(self, value: bytes, verdict: Verdict) -> Any:
        """Search bytes as they are; on a hit they are dropped.

        A marker would be text in a value that its reader takes for something else.
        """
        if verdict.rule is not None:
            return self._text(value.decode("utf-8", "backslashreplace"), verdict)
        if len(value) > TEXT_CHARS_MAX:
            return self._gone(TOO_LONG)
        matcher = self._matcher or self._load()
        spans = _spans_or_all_if_wide(matcher, value, self._leave(matcher, verdict))
        return self._gone(matcher.rules[spans[0].rule].name) if spans else value

    def _container(self, value: Any, verdict: Verdict, depth: int) -> Any:
        from collections.abc import Mapping, Sequence

        if depth > DEPTH_MAX:
            return self._gone(TOO_DEEP)
        if isinstance(value, Mapping):
            return {
                verdict_below.text: self._walk(item, verdict_below, depth)
                for verdict_below, item in (
                    (self._key_below(name, verdict), item) for name, item in value.items()
                )
            }
        if isinstance(value, Sequence):
            rule = verdict.rule
            if rule is not None and rule.action == "arguments":
                value = self._arguments(value)
            return [self._walk(item, verdict, depth) for item in value]
        return self._gone(UNKNOWN_TYPE)

    def _key_below(self, name: str, above: Verdict) -> Verdict:
        """The verdict for a key inside a value: what holds above holds below too."""
        below = self.key(name)
        if above.rule is not None and not self._outweighs(below, above):
            return Verdict(name, below.text, "value", rule=above.rule, phrase=above.phrase)
        if above.turned_on and below.rule is not None and below.rule.content:
            return Verdict(name, below.text, "scan", turned_on=True)
        return below

    def _outweighs(self, below: Verdict, above: Verdict) -> bool:
        """Whether a user's own rule, above, must not weaken what holds for a key below."""
        if above.rule is None or not above.rule.every_type or below.rule is None:
            return False
        from .own import is_more_severe

        return is_more_severe(below.rule, above.rule)

    # -- counts -------------------------------------------------------------

    def _count(self, rule: str, action: str) -> None:
        self.counts[rule, action] = self.counts.get((rule, action), 0) + 1
        if self._counting is not None:
            self._counting.append((rule, action))

    def _gone(self, rule: str) -> _Gone:
        self._count(rule, "drop")
        return _Gone(tombstone(rule))

    def _fault(self) -> _Gone:
        self.faults += 1
        return self._gone(FAULT)


def tombstone(rule: str) -> str:
    """The marker that stands where ``rule`` found something; it shows nothing of it."""
    return f"[redacted:{rule}]"


def _spans_or_all_if_wide(matcher: Matcher, data: bytes, leave: Leave | None) -> list[Span]:
    """What the matcher finds, or all of ``data`` if more is found in it without its NULs.

    Between NULs stand the letters of a text of two or four bytes a character (UTF-16)
    that is taken for one of single bytes; and one NUL hides the rest of a secret.
    """
    spans = matcher.spans(data, leave)
    if b"\0" not in data:
        return spans
    open_bytes = bytearray(b"\1" * len(data))
    for span in spans:
        open_bytes[span.start : span.end] = bytes(span.end - span.start)
    left = bytes([is_open for is_open, byte in zip(open_bytes, data, strict=True) if byte])
    for more in matcher.spans(data.replace(b"\0", b""), leave):
        if left[more.start : more.end].count(1) >= WIDE_BYTES_MIN:
            return [type(more)(0, len(data), more.rule)]
    return spans


def _dropped_if_gone(value: Any) -> Any:
    return DROPPED if isinstance(value, _Gone) else value


def _finding(matcher: Matcher, data: bytes, span: Span) -> Finding:
    rule = matcher.rules[span.rule]
    start = len(data[: span.start].decode("utf-8", "surrogatepass"))
    found = len(data[span.start : span.end].decode("utf-8", "surrogatepass"))
    return Finding(rule.name, start, start + found, rule.action)
