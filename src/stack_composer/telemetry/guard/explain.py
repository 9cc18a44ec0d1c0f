"""Say why the guard does what it does with one text: for people, not for the pipeline.

The answers are the guard's own (``Guard.findings``, ``Guard.value``); what is added is
where each rule comes from, what it went by, and what it cost. No text of an answer
holds anything that a rule found.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from stack_composer.telemetry.model import DROPPED

from .markers import encode
from .rules import key_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine import Guard
    from .matcher import Matcher
    from .rules import KeyRule, TextRule
    from .texts import Finding

_RUNS: Final = 5
_OURS: Final = {
    "too-long": "The text is longer than the guard searches, so it is dropped unseen.",
    "too-deep": "The value is nested deeper than the guard looks, so it is dropped unseen.",
    "fault": "The guard itself failed at this text, so it is dropped.",
}


def explain(guard: Guard, text: str, key: str = "") -> dict[str, Any]:
    """What happens to ``text`` as the value of ``key``, and why.

    Returns:
        ``text`` (redacted; None when it is dropped), ``findings`` (rule, tier, origin,
        start, end, action, reason, validator, words), ``rules`` (how many were asked),
        ``looked_at`` (those that the search did not answer for), ``search_us`` and
        ``rules_us`` (microseconds of the search that every text gets, and of the rules
        that looked closer; the best of five).
    """
    guarded = guard.value(key, text)
    verdict = guard.key(key) if key else None
    findings = [_explained(guard, finding, verdict) for finding in guard.findings(text, key)]
    return {
        "text": None if guarded is DROPPED else guarded,
        "findings": findings,
        **_asked(guard, text, by_key=_takes_all(verdict)),
    }


def _takes_all(verdict: Any) -> bool:
    """Whether the key alone decides: some of its rules only look for parts of the value."""
    return (
        verdict is not None
        and verdict.rule is not None
        and verdict.rule.action in ("drop", "mask", "hash")
    )


def _explained(guard: Guard, finding: Finding, verdict: Any) -> dict[str, Any]:
    rule = _rule_of(guard, finding, verdict)
    globs = {one.name: one.glob for one in guard.policy.rules}
    decides = verdict is not None and rule is verdict.rule
    return {
        "rule": finding.rule,
        "tier": getattr(rule, "tier", "key" if rule else "guard"),
        "origin": "yours" if finding.rule in globs else "ours",
        "start": finding.start,
        "end": finding.end,
        "action": finding.action,
        "reason": rule.reason if rule else _OURS.get(finding.rule, ""),
        "validator": getattr(rule, "validator", ""),
        "words": (globs.get(finding.rule) or verdict.phrase) if decides else "",
    }


def _rule_of(guard: Guard, finding: Finding, verdict: Any) -> KeyRule | TextRule | None:
    if verdict is not None and verdict.rule is not None and verdict.rule.name == finding.rule:
        rule: KeyRule = verdict.rule
        return rule
    rules: list[KeyRule | TextRule] = [*guard.matcher().rules, *key_rules()]
    return next((rule for rule in rules if rule.name == finding.rule), None)


def _asked(guard: Guard, text: str, *, by_key: bool) -> dict[str, Any]:
    """How many rules were asked about the text, and at what cost; none if the key decides."""
    if by_key:
        return {"rules": 0, "looked_at": [], "search_us": 0.0, "rules_us": 0.0}
    matcher: Matcher = guard.matcher()
    data = encode(text)
    looked_at = list(dict.fromkeys(rule.name for rule in matcher.asked(data)))
    search_us = _best_us(lambda: matcher.suspects([text], text))
    rules_us = _best_us(lambda: guard.findings(text)) if matcher.suspects([text], text) else 0.0
    return {
        "rules": len(matcher.rules),
        "looked_at": looked_at,
        "search_us": search_us,
        "rules_us": rules_us,
    }


def _best_us(work: Callable[[], object]) -> float:
    def once() -> int:
        begun = time.perf_counter_ns()
        work()
        return time.perf_counter_ns() - begun

    return round(min(once() for _ in range(_RUNS)) / 1e3, 1)
