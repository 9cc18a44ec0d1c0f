"""Judge attribute keys: what their values are, by the conventions or by the key's words.

A key of OpenTelemetry's semantic conventions is looked up in semconv.py; what it holds
is known, whatever words it has. Any other key is cut into words at separators and at
camelCase, and rules match whole words: ``token`` is not ``tokens``, and ``author`` is
not ``auth``. A word that tells of a measure or a description (``brief.length``,
``token.type``) takes the rule's ground away. The lists of words are in rules.toml.

Words are looked up folded (``fold``), so that no full-width, invisible or look-alike
character hides one.
"""

from __future__ import annotations

from stack_composer.telemetry.model import KeyVerdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .policy import Policy
    from .rules import KeyRule

KEY_CHARS_MAX = 1024

_RULES_OF_CLASSES = {
    "content": "content-key",
    "credential": "credential-key",
    "identity": "identity-key",
    "sql": "sql-literal",
    "arguments": "argument",
}
"""Other classes have no rule: their texts are searched."""

_WORDS = str.maketrans(
    {
        code: None if code < 32 or code == 127 else " "
        for code in range(128)
        if not chr(code).isalpha()
    }
)
"""Whatever is no letter ends a word, but for control characters: they are no sight."""


class Verdict(KeyVerdict):
    """A key's verdict with what only the guard needs.

    Attributes:
        rule: The rule that decides over every value of this key, or None.
        phrase: The words of the key that the rule matched; also names the hash key.
        machine: The key holds an id made by a machine: its digits are not searched for
            telephone and card numbers.
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
        self._measures = {key for rule in safe if rule.name == "safe-key" for key in rule.words}
        self._machine = {key for rule in safe if rule.name == "machine-key" for key in rule.words}
        self._recorded = policy.record_content
        self._classes: dict[str, str] = {}
        self._first_words: dict[str, list[tuple[int, int]]] = {}
        self._stems: list[tuple[str, tuple[int, int]]] = []

    def known(self, key: str) -> bool:
        """Whether ``key`` stands in a table itself, and so needs no search."""
        return bool(self._class_of(key))

    def verdict(self, key: str, text: str) -> Verdict:
        """Judge ``key``, which may be written as ``text``."""
        turned_on = self._turned_on(key)
        known = self._class_of(key) or self._class_above(key)
        if known:
            return self._of_class(known, key, text, turned_on=turned_on)
        rule, phrase = self._by_words(key, turned_on=turned_on)
        if rule is None and text != key:
            # As it is written it may end in another word; judged again, it must not differ.
            rule, phrase = self._by_words(text, turned_on=turned_on)
        if rule is not None:
            return Verdict(key, text, "value", rule=rule, phrase=phrase)
        # Nested values of a key that was turned on must still go through value().
        return Verdict(key, text, "scan", turned_on=turned_on)

    # -- keys of the conventions ----------------------------------------------

    def _class_of(self, key: str) -> str:
        if key in self._measures:
            return "measure"
        if key in self._machine:
            return "machine"
        # A key without a dot is none of theirs, and pays nothing for the table.
        if "." not in key:
            return ""
        return (self._classes or self._load()).get(key, "")

    def _class_above(self, key: str) -> str:
        """The class of a key that stands below a known one ("db.query.parameter.0").

        Not "text": such a key ends in a name of somebody's choice, whose words count.
        """
        at = key.find(".")
        while at > 0:
            found = self._classes.get(key[: at + 1], "text")
            if found != "text":
                return found
            at = key.find(".", at + 1)
        return ""

    def _load(self) -> dict[str, str]:
        from . import semconv

        self._classes = {
            key: name.lower()
            for name, keys in vars(semconv).items()
            if name.isupper() and name != "VERSION"
            for key in keys.split()
        }
        return self._classes

    def _of_class(self, known: str, key: str, text: str, *, turned_on: bool) -> Verdict:
        name = _RULES_OF_CLASSES.get(known)
        rule = next((rule for rule in self._rules if rule.name == name), None)
        if rule is None:
            return Verdict(key, text, "scan", machine=known == "machine", turned_on=turned_on)
        if turned_on and rule.content:
            # What is turned on is content; a password among it stays one.
            rule, phrase = self._by_words(key, turned_on=True)
            if rule is None:
                return Verdict(key, text, "scan", turned_on=True)
        else:
            words = split_words(key)
            phrase = matched_phrase(rule, words) or " ".join(words)
        return Verdict(key, text, "value", rule=rule, phrase=phrase)

    # -- other keys -----------------------------------------------------------

    def _by_words(self, key: str, *, turned_on: bool) -> tuple[KeyRule | None, str]:
        """The first rule whose words ``key`` holds, and these words."""
        readings = [split_words(key)]
        if not key.islower():
            # Capitals may be no borders: PassWord, aPiKeY.
            readings.append(split_words(key.lower()))
        places = {
            (*place, number)
            for number, words in enumerate(readings)
            for place in self._candidates(words)
        }
        for index, at, number in sorted(places):
            rule, words = self._rules[index], readings[number]
            if turned_on and rule.content:
                continue
            phrase = rule.words[at] if at < len(rule.words) else ""
            found = holds_phrase(rule, phrase, words) if phrase else holds_stem(rule, words)
            if found:
                return rule, found
        return None, ""

    def _candidates(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """The rules that may match, each with the place of the phrase to be looked for.

        A phrase may if its first word is there; a place beyond the phrases means stems.
        """
        first_words = self._first_words or self._index()
        found = [place for word in words for place in first_words.get(word, ())]
        line = " ".join(words)
        return found + [place for stem, place in self._stems if stem in line]

    def _index(self) -> dict[str, list[tuple[int, int]]]:
        for index, rule in enumerate(self._rules):
            self._stems += [(stem, (index, len(rule.words))) for stem in rule.stems]
            for at, phrase in enumerate(rule.words):
                first = phrase.partition(" ")[0]
                self._first_words.setdefault(first, []).append((index, at))
        return self._first_words

    def _turned_on(self, key: str) -> bool:
        return any(key == name or key.startswith(name + ".") for name in self._recorded)


def split_words(key: str) -> list[str]:
    """The words of ``key`` in lower case; ``X-APIKey2`` is ``x``, ``api``, ``key``.

    Digits are no part of a word: most are an index. Nor are there words in our markers.
    """
    if "[redacted:" in key:
        from .markers import blank_markers, encode

        key = blank_markers(encode(key)).decode("utf-8", "surrogatepass").replace("\0", " ")
    key = fold(key)
    if not key.islower():
        key = _spaced(key)
    return key.translate(_WORDS).lower().split()


def fold(key: str) -> str:
    """``key`` in ASCII as far as it looks like it, with ``%5F`` and its like decoded."""
    if "%" in key:
        key = _decoded(key)
    if key.isascii():
        return key
    from unicodedata import category, normalize

    from .lookalikes import LETTERS

    # Marks on letters, and what has no width: a reader takes the word for what it was.
    seen = [sign for sign in normalize("NFKD", key) if category(sign) not in ("Mn", "Me", "Cf")]
    return "".join([sign if sign.isalnum() or sign.isascii() else " " for sign in seen]).translate(
        LETTERS
    )


def _decoded(key: str) -> str:
    parts = key.split("%")
    for at, part in enumerate(parts[1:], 1):
        code = part[:2]
        if len(code) == 2 and not code.strip("0123456789abcdefABCDEF") and code < "8":
            parts[at] = chr(int(code, 16)) + part[2:]
        else:
            parts[at] = "%" + part
    return "".join(parts)


def _spaced(key: str) -> str:
    """``key`` with a space where camelCase begins a word."""
    borders = [at for at in range(1, len(key)) if _is_border(key, at)]
    return " ".join([key[i:j] for i, j in zip([0, *borders], [*borders, len(key)], strict=True)])


def _is_border(key: str, at: int) -> bool:
    """Whether the upper-case letter ``key[at]`` begins a word."""
    if not key[at].isupper():
        return False
    # The last capital of APIKey begins the next word.
    return not key[at - 1].isupper() or key[at + 1 : at + 2].islower()


def matched_phrase(rule: KeyRule, words: Sequence[str]) -> str:
    """The first phrase or stem of ``rule`` that ``words`` holds, or ""."""
    found = (holds_phrase(rule, phrase, words) for phrase in rule.words)
    return next(filter(None, found), "") or holds_stem(rule, words)


def holds_phrase(rule: KeyRule, phrase: str, words: Sequence[str]) -> str:
    """``phrase``, if ``words`` holds it and ``rule`` counts that, or "".

    It counts unless a word that describes (``rule.spared``) follows it or ends the key.
    With ``rule.ends`` the phrase itself must end the key.
    """
    if not words or words[-1] in rule.spared:
        return ""
    line = f" {' '.join(words)} "
    at = line.find(f" {phrase} ")
    while at >= 0:
        rest = line[at + len(phrase) + 2 :].split()
        if not rest or not (rule.ends or rest[0] in rule.spared):
            return phrase
        at = line.find(f" {phrase} ", at + 1)
    return ""


def holds_stem(rule: KeyRule, words: Sequence[str]) -> str:
    """The stem of ``rule`` that is part of one of ``words``, likewise, or ""."""
    if not words or words[-1] in rule.spared:
        return ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        for stem in rule.stems:
            if stem in word and word not in rule.spared and following not in rule.spared:
                return stem
    return ""
