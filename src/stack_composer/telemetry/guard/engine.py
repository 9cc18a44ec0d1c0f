"""The guard: what stands between a recorded value and anything that keeps it.

Everything is judged twice, cheaply by its key and then by its text. ``Guard.texts``
is the fast path, one search over a whole batch; ``Guard.value`` is the thorough one,
for values with a rule of their own and for nested values.

It fails closed: a text that is too long, a value that is too deep and every fault of
ours become ``DROPPED`` (or a tombstone inside a nested value), and are counted.
"""

from __future__ import annotations

from stack_composer.telemetry.model import DROPPED

from .budget import TEXT_CHARS_MAX
from .keys import KEY_CHARS_MAX, KeyTable, Verdict
from .markers import tombstone
from .rules import KeyRule
from .tally import FAULT, Gone, Tally
from .texts import TOO_LONG, Finding, TextJudge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Final

    from stack_composer.telemetry.model import AnyValue, KeyVerdict

    from .hashing import Hasher
    from .matcher import Matcher
    from .policy import Policy

DEPTH_MAX: Final = 32
TOO_DEEP: Final = "too-deep"
UNKNOWN_TYPE: Final = "unknown-type"
_UNJUDGED: Final = (TOO_LONG, TOO_DEEP, FAULT, UNKNOWN_TYPE, "dropped")
_KEYS_MAX: Final = 4096
_NAMED_CHARS_MAX: Final = 100  # Of a key that stands in a value; a longer text is none.
_OF_NAMES: Final = ("name", "key", "header", "k")  # Fields of a mapping that is one pair.
_OF_VALUES: Final = frozenset(("value", "val", "v"))
_IN_PARTS: Final = ("literals", "arguments")  # Actions of key rules that look into the text.
_EVERYTHING: Final = KeyRule(
    FAULT, "drop", (), (), ends=False, numbers=True, reason="The key could not be judged."
)


class Guard:
    """The rules of one policy at work; implements ``model.Screen``.

    One thread at a time, the writer's. Rules are compiled at the first text that
    needs them, so a short program with plain names never pays for them.

    Attributes:
        policy: What the user decided.
        tally: What was done so far. Of the rules over keys only the user's own are among
            its ``hits``: ours hit by design.
    """

    def __init__(
        self, policy: Policy, *, make_matcher: Callable[[str], Matcher] | None = None
    ) -> None:
        from .rules import key_rules

        self.policy = policy
        self.tally = Tally()
        self._table = KeyTable(key_rules(), policy)
        self._keys: dict[str, Verdict] = {}
        self._has_own = bool(policy.rules or policy.allow)
        self._text_judge = TextJudge(policy, self.tally, self._hashes, make_matcher)
        self._hasher: Hasher | None = None
        self._marker_names: frozenset[str] = frozenset()

    def matcher(self) -> Matcher:
        """The text rules, compiled; for who explains them.

        Raises whatever compiling raises; then everything not plain is dropped.
        """
        return self._text_judge.matcher()

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
                return Verdict(key, str(self.tally.gone(TOO_LONG)), "value", rule=_EVERYTHING)
            text = key if self._table.known(key) else str(self._text_judge.judge(key))
            verdict = self._table.verdict(key, text)
            return self._own_verdict(key, verdict) if self._has_own else verdict
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            return Verdict("", str(self.tally.fault()), "value", rule=_EVERYTHING)

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
        """
        answers: list[Any] = [text for _, text in pending]
        self.tally.judged += len(answers)
        judge = self._text_judge
        try:
            suspects = judge.suspects(answers)
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            # One value is at fault, or the engine: each is judged by itself, so that
            # only what cannot be judged is lost.
            suspects = range(len(answers))
        for index in suspects:
            answers[index] = _dropped_if_gone(self._judge_suspect(*pending[index]))
        return answers

    def _judge_suspect(self, verdict: KeyVerdict, text: str) -> str:
        judge = self._text_judge
        return judge.remembered(verdict.key, text, lambda: judge.judge(text, verdict))

    def findings(self, text: str, key: str = "") -> list[Finding]:
        """What the guard finds in ``text``, as the value of ``key`` if one is given.

        Never raises: what cannot be judged is one finding over the whole text.
        """
        verdict = self.key(key) if key else Verdict("", "", "scan")
        rule = verdict.rule
        if rule is None or len(text) > TEXT_CHARS_MAX:
            return self._text_judge.findings(text, verdict)
        if rule.action not in _IN_PARTS:
            return [Finding(rule.name, 0, len(text), rule.action)]
        return self._findings_in_parts(text, rule, verdict)

    def _findings_in_parts(self, text: str, rule: KeyRule, verdict: Verdict) -> list[Finding]:
        try:
            found = [Finding(rule.name, s, e, "mask") for s, e, _ in self._parts(text, rule)]
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            self.tally.fault()
            return [Finding(FAULT, 0, len(text), "drop")]
        others = self._text_judge.findings(text, verdict)
        found += [o for o in others if all(o.end <= f.start or f.end <= o.start for f in found)]
        return sorted(found, key=lambda finding: finding.start)

    # -- values -------------------------------------------------------------

    def value(self, key: str, value: AnyValue) -> Any:
        """Judge one value of any type, nested or not, with the rules for its key.

        Inside a list or mapping a tombstone stands for what is dropped; a whole value
        that is dropped is ``DROPPED``. Never raises.
        """
        self.tally.judged += 1
        try:
            verdict = self.key(key)
            if verdict.rule is not None and verdict.rule.every_type:
                self.tally.hit(verdict.rule.name)
            return _dropped_if_gone(self._walk(value, verdict, 0))
        except Exception:  # noqa: BLE001 - fail closed: every fault drops and is counted
            return _dropped_if_gone(self.tally.fault())

    def _walk(self, value: AnyValue, verdict: Verdict, depth: int) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return self._number(value, verdict)
        if isinstance(value, str) and self._is_marker(value):
            return value  # Guarded before, maybe under a key that had its words still.
        rule = verdict.rule
        if rule is not None and rule.action == "drop":
            return self.tally.gone(rule.name)
        if isinstance(value, str):
            return self._text(value, verdict)
        if isinstance(value, bytes):
            return self._bytes(value, verdict)
        return self._container(value, verdict, depth + 1)

    def _is_marker(self, text: str) -> bool:
        """Whether ``text`` is a marker of ours and no more; not what only looks like one."""
        if not text.startswith("[redacted:"):
            return False
        from .markers import blank_markers, encode

        if blank_markers(encode(text)).strip(b"\0"):
            return False
        insides = [part.partition("]")[0] for part in text.split("[redacted:")[1:]]
        return self._names().issuperset(inside.partition(":")[0] for inside in insides)

    def _names(self) -> frozenset[str]:
        """What stands in markers: rules of both profiles, the user's, and what is not judged."""
        if not self._marker_names:
            from .rules import describe

            ours = {row["name"] for row in describe()} | {rule.name for rule in self.policy.rules}
            self._marker_names = frozenset(ours.union(_UNJUDGED))
        return self._marker_names

    def _number(self, value: Any, verdict: Verdict) -> Any:
        rule = verdict.rule
        # A yes or no tells nothing, and no number with a fraction is a code or an id.
        if rule is None or not rule.numbers or value is None:
            return value
        if isinstance(value, (bool, float)) and not rule.every_type:
            return value
        if rule.action == "drop":
            return self.tally.gone(rule.name)
        return self._text(str(value), verdict)

    def _text(self, value: str, verdict: Verdict) -> str:
        rule = verdict.rule
        if rule is None:
            return self._text_judge.judge(value, verdict)
        if rule.action == "hash":
            return self._hash(value, verdict)
        if rule.action in _IN_PARTS:
            return self._text_judge.remembered(
                f"{rule.name}\0{verdict.key}",
                value,
                lambda: self._text_in_parts(value, rule, verdict),
            )
        self.tally.count(rule.name, "mask")
        return tombstone(rule.name)

    def _text_in_parts(self, value: str, rule: KeyRule, verdict: Verdict) -> str:
        """``value`` without its literals or arguments, searched like any other text."""
        if len(value) > TEXT_CHARS_MAX:
            return self.tally.gone(TOO_LONG)
        pieces = []
        position = 0
        for start, end, instead in self._parts(value, rule):
            self.tally.count(rule.name, "mask")
            pieces += [value[position:start], instead]
            position = end
        return self._text_judge.judge("".join([*pieces, value[position:]]), verdict)

    def _parts(self, value: str, rule: KeyRule) -> list[tuple[int, int, str]]:
        """What of ``value`` the rule takes: start, end, and what stands there instead."""
        if rule.action == "literals":
            from .sql import literals

            return literals(value)
        from .arguments import in_line

        return in_line(value, self._names_secret)

    def _names_secret(self, name: str) -> bool:
        rule = self.key(name).rule
        return rule is not None and rule.action in ("mask", "drop")

    def _arguments(self, value: Sequence[Any]) -> list[Any]:
        """``value``, the arguments of a command, with markers for what others give away."""
        from .arguments import MARKER, in_arguments

        arguments = list(value)
        texts = [str(argument) for argument in arguments]
        for index, start, end in in_arguments(texts, self._names_secret):
            self.tally.count("argument", "mask")
            arguments[index] = texts[index][:start] + MARKER + texts[index][end:]
        return arguments

    def _hashes(self) -> Hasher:
        if self._hasher is None:
            from .hashing import Hasher

            self._hasher = Hasher(self.policy)
        return self._hasher

    def _hash(self, value: str, verdict: Verdict) -> str:
        hashed = self._hashes().hash(verdict.phrase, value)
        if hashed != value and verdict.rule is not None:
            self.tally.count(verdict.rule.name, "hash")
        return hashed

    def _bytes(self, value: bytes, verdict: Verdict) -> Any:
        """Search bytes as they are; on a hit they are dropped.

        A marker would be text in a value that its reader takes for something else.
        """
        if verdict.rule is not None:
            return self._text(value.decode("utf-8", "backslashreplace"), verdict)
        if len(value) > TEXT_CHARS_MAX:
            return self.tally.gone(TOO_LONG)
        found = self._text_judge.rule_in_bytes(value, verdict)
        return self.tally.gone(found) if found else value

    def _container(self, value: Any, verdict: Verdict, depth: int) -> Any:
        from collections.abc import Mapping, Sequence

        if depth > DEPTH_MAX:
            return self.tally.gone(TOO_DEEP)
        if isinstance(value, Mapping):
            named = _named(value)
            return {
                verdict_below.text: self._walk(item, verdict_below, depth)
                for verdict_below, item in (
                    (self._verdict_below(name, named, verdict), item)
                    for name, item in value.items()
                )
            }
        if isinstance(value, Sequence):
            rule = verdict.rule
            if rule is not None and rule.action == "arguments":
                value = self._arguments(value)
            return [
                self._pair(item, verdict, depth + 1)
                if rule is None and _is_pair(item)
                else self._walk(item, verdict, depth)
                for item in value
            ]
        return self.tally.gone(UNKNOWN_TYPE)

    def _pair(self, pair: Sequence[Any], above: Verdict, depth: int) -> list[Any]:
        """A key and its value, as headers are listed."""
        name, value = pair
        key = name.decode("latin-1") if isinstance(name, bytes) else name
        below = self._key_below(key, above)
        return [self._walk(name, above, depth), self._walk(value, below, depth)]

    def _verdict_below(self, name: str, named: str, above: Verdict) -> Verdict:
        """The verdict for a key inside a value; ``named`` is whose value it may hold."""
        below = self._key_below(name, above)
        if not named or name.lower() not in _OF_VALUES or below.rule is not None:
            return below
        meant = self._key_below(named, above)
        if meant.rule is None:
            return below
        return Verdict(name, below.text, "value", rule=meant.rule, phrase=meant.phrase)

    def _key_below(self, name: str, above: Verdict) -> Verdict:
        """The verdict for a key inside a value: what holds above holds below too."""
        below = self.key(name)
        if above.rule is not None and not self._outweighs(below, above):
            return Verdict(name, below.text, "value", rule=above.rule, phrase=above.phrase)
        if above.turned_on and (below.rule is None or below.rule.content):
            return Verdict(name, below.text, "scan", machine=below.machine, turned_on=True)
        return below

    def _outweighs(self, below: Verdict, above: Verdict) -> bool:
        """Whether a user's own rule, above, must not weaken what holds for a key below."""
        if above.rule is None or not above.rule.every_type or below.rule is None:
            return False
        from .own import is_more_severe

        return is_more_severe(below.rule, above.rule)


def _named(value: Mapping[str, Any]) -> str:
    """Whose value a mapping such as ``{"name": "Authorization", "value": ...}`` holds, or ""."""
    fields = {name.lower(): item for name, item in value.items()}
    if not _OF_VALUES.isdisjoint(fields):
        for name in _OF_NAMES:
            found = fields.get(name)
            if isinstance(found, str):
                return found if len(found) <= _NAMED_CHARS_MAX else ""
    return ""


def _is_pair(item: Any) -> bool:
    """Whether an item of a list is a key and its value, as headers are listed.

    Each is asked by itself: one odd row must not hide what the others hold.
    """
    return (
        isinstance(item, (list, tuple))
        and len(item) == 2
        and isinstance(item[0], (str, bytes))
        and len(item[0]) <= _NAMED_CHARS_MAX
    )


def _dropped_if_gone(value: Any) -> Any:
    return DROPPED if isinstance(value, Gone) else value
