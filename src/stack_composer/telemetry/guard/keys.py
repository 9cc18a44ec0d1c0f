"""Judge attribute keys: what their values are, by the words in the key.

A key is cut into words at separators and at camelCase, and rules match whole words:
``token`` is not ``tokens``, and ``author`` is not ``auth``. A word that tells of a
measure or a description (``brief.length``, ``token.type``) takes the rule's ground
away. The lists of words are in rules.toml.
"""

from __future__ import annotations

from stack_composer.telemetry.model import KeyVerdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .policy import Policy
    from .rules import KeyRule

KEY_CHARS_MAX = 1024


class Verdict(KeyVerdict):
    """A key's verdict with what only the guard needs.

    Attributes:
        rule: The rule that decides over every value of this key, or None.
        phrase: The words of the key that the rule matched; also names the hash key.
        machine: The key holds an id or an enumeration made by a machine: its digits
            are not searched for telephone and card numbers.
        turned_on: A content key that the user allowed by name; what lies below it is
            searched, but not dropped for being content.
    """

    __slots__ = ("machine", "phrase", "rule", "turned_on")

    def __init__(
        self,
        key: str,
        text: str,
        action: str,
        *,
        rule: KeyRule | None = None,
        phrase: str = "",
        machine: bool = False,
        turned_on: bool = False,
    ) -> None:
        super().__init__(key, text, action)
        self.rule = rule
        self.phrase = phrase
        self.machine = machine
        self.turned_on = turned_on


class KeyTable:
    """The key rules of one policy."""

    def __init__(self, rules: Iterable[KeyRule], policy: Policy) -> None:
        self._rules = [rule for rule in rules if rule.action != "pass"]
        safe = [rule for rule in rules if rule.action == "pass"]
        self._passed = {key for rule in safe if rule.name == "safe-key" for key in rule.words}
        self._machine = {key for rule in safe if rule.name == "machine-key" for key in rule.words}
        self._recorded = policy.record_content

    def known(self, key: str) -> bool:
        """Whether ``key`` stands in the table itself, and so needs no search."""
        return key in self._passed or key in self._machine

    def verdict(self, key: str, text: str) -> Verdict:
        """Judge ``key``, which may be written as ``text``."""
        if key in self._passed:
            return Verdict(key, text, "pass", machine=True)
        if key in self._machine:
            return Verdict(key, text, "scan", machine=True)
        words = split_words(key)
        turned_on = self._turned_on(key)
        for rule in self._rules:
            if rule.action == "drop" and turned_on:
                continue
            phrase = matched_phrase(rule, words)
            if phrase:
                return Verdict(key, text, "value", rule=rule, phrase=phrase)
        # Nested values of a key that was turned on must still go through value().
        return Verdict(key, text, "scan", turned_on=turned_on)

    def _turned_on(self, key: str) -> bool:
        return any(key == name or key.startswith(name + ".") for name in self._recorded)


def split_words(key: str) -> list[str]:
    """The words of ``key`` in lower case; ``X-APIKey2`` is ``x``, ``api``, ``key``.

    Numbers that end a word or stand alone (an index) are left out.
    """
    words: list[str] = []
    start = 0
    for end in range(1, len(key) + 1):
        if end == len(key) or _is_border(key, end):
            word = key[start:end].strip("0123456789").lower()
            if word.isalnum():
                words.append(word)
            start = end
    return words


def _is_border(key: str, at: int) -> bool:
    """Whether a word ends before ``key[at]``."""
    before, here = key[at - 1], key[at]
    if not (before.isalnum() and here.isalnum()):
        return True
    if before.islower() and here.isupper():
        return True
    # The last capital of APIKey begins the next word.
    return before.isupper() and here.isupper() and key[at + 1 : at + 2].islower()


def matched_phrase(rule: KeyRule, words: list[str]) -> str:
    """The words of ``rule`` that ``words`` holds, or "".

    A phrase counts unless a word that describes (``rule.spared``) follows it or
    ends the key. With ``rule.ends`` the phrase itself must end the key.
    """
    if not words or words[-1] in rule.spared:
        return ""
    line = f" {' '.join(words)} "
    for phrase in rule.words:
        at = line.find(f" {phrase} ")
        if at < 0:
            continue
        rest = line[at + len(phrase) + 2 :].split()
        if rest and (rule.ends or rest[0] in rule.spared):
            continue
        return phrase
    return ""
