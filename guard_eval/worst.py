"""The worst case of each text rule: hostile input of a megabyte, made from its pattern.

RE2 is linear in the text, but a rule is searched for again behind each hit that its
validator refuses. So the dangerous text is one that is full of near-hits, each of them
long. Who wants to slow a program down knows the patterns; so do the inputs here.

The guard takes texts of ``TEXT_CHARS_MAX`` at most, each rule with its budget. So a megabyte
is so many texts, and what is measured is what one rule does with all of them.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry.guard.budget import TEXT_CHARS_MAX, Patience
from stack_composer.telemetry.guard.engines import ReMatcher, best_matcher
from stack_composer.telemetry.guard.gates import members
from stack_composer.telemetry.guard.matcher import Matcher, search_rule
from stack_composer.telemetry.guard.rules import TextRule, text_rules
from stack_composer.telemetry.guard.syntax import code, parser

if TYPE_CHECKING:
    from stack_composer.telemetry.guard.matcher import Find, Search, Spans

INPUT_BYTES = 1 << 20
TEXT_BYTES = TEXT_CHARS_MAX
GOAL_MS = 100.0
CAP_S = 1.0
"""A search that takes longer is stopped: how much longer says nothing more."""
TRIAL_S = 0.1
SEED = 7
START_BYTES = 60
FINALISTS = 4
REPEATS = 2
BRANCHES_MAX = 8
CLASSES_MAX = 4
LONG = 200
RUN = 1 << 17
GENERIC = (
    ("letters", b"a"),
    ("digits", b"0123456789"),
    ("spaces", b" "),
    ("line breaks", b"\r\n"),
    ("quotes", b"\"'"),
    ("assignments", b"key=value "),
    ("empty assignments", b"token="),
    ("addresses", b"https://a.b/c?d=e&"),
    ("people", b"a@b."),
    ("numbers", b"1234 5678-90."),
    ("colons", b"ab:"),
    ("text beyond ASCII", "äß…".encode()),
)


class Case(NamedTuple):
    """One hostile input for one rule, and the CPU milliseconds that it takes.

    Attributes:
        start: The first bytes of the input.
        asked: How often the pattern was searched for. Few searches that take long are
            long near-hits, looked at again and again; many are short hits.
        stopped: It would have taken longer than ``CAP_S``.
    """

    rule: str
    kind: str
    start: bytes
    ms: float
    asked: int
    stopped: bool


class StoppedError(Exception):
    """A search went on for longer than ``CAP_S``."""


class Counted:
    """A pattern's search that counts how often it is asked, and ends at a deadline."""

    def __init__(self, find: Find, cap_s: float) -> None:
        self._find = find
        self._deadline = time.process_time() + cap_s
        self.asked = 0

    def __call__(self, data: bytes, start: int, end: int) -> Spans:
        """As the pattern's own.

        Raises:
            StoppedError: It is too late.
        """
        self.asked += 1
        if time.process_time() > self._deadline:
            raise StoppedError
        return self._find(data, start, end)


def report(
    profile: str = "strict", engine: str = "", say: Callable[[str], None] = print
) -> list[Case]:
    """Measure every text rule of ``profile``; say which are over the goal, the worst first.

    ``engine`` "re" is the slow one, which serves where google-re2 is not installed.
    """
    rules = text_rules(profile)
    matcher = ReMatcher(rules) if engine == "re" else best_matcher(rules)
    cases = []
    for at, rule in enumerate(rules):
        cases.append(worst_of(matcher, at))
        sys.stderr.write(f"{at + 1} of {len(rules)}: {rule.name} {cases[-1].ms:.0f} ms\n")
    cases.sort(key=_ms, reverse=True)
    over = sum(case.ms > GOAL_MS for case in cases)
    say(f"{over} of {len(cases)} rules take more than {GOAL_MS:.0f} ms for a megabyte")
    width = max(len(case.rule) for case in cases)
    for case in cases:
        more = ">" if case.stopped else " "
        say(
            f"{case.rule.ljust(width)} {more}{case.ms:6.0f} ms {case.asked:9,} searches"
            f"  {case.kind}: {case.start!r}"
        )
    return cases


def worst_of(matcher: Matcher, at: int, size: int = INPUT_BYTES) -> Case:
    """The input that costs the rule at the index ``at`` most.

    All inputs are tried as one text, and those that take longest in their whole size.
    """
    rule = matcher.rules[at]
    search = matcher._search(at)
    inputs = list(hostile(rule, size))
    most = matcher.chars_max
    inputs.sort(key=lambda one: _ms(timed("", "", search, one[1][:most], TRIAL_S, most)))

    def best(kind: str, data: bytes) -> Case:
        # The quickest of a few runs: what else the machine does only adds.
        runs = (timed(rule.name, kind, search, data, most=most) for _ in range(REPEATS))
        return min(runs, key=_ms)

    return max((best(kind, data) for kind, data in inputs[-FINALISTS:]), key=_ms)


def _ms(case: Case) -> float:
    return case.ms


def timed(
    rule: str,
    kind: str,
    search: Search,
    data: bytes,
    cap_s: float = CAP_S,
    most: int = TEXT_BYTES,
) -> Case:
    """Search ``data`` for a rule as the guard does: in texts of ``most`` bytes."""
    find, check, dear = search
    counted = Counted(find, cap_s)
    began = time.process_time()
    stopped = False
    try:
        for at in range(0, len(data), most):
            search_rule(counted, check, dear, data[at : at + most], 0, Patience())
    except StoppedError:
        stopped = True
    spent_ms = 1e3 * (time.process_time() - began)
    return Case(rule, kind, data[:START_BYTES], spent_ms, counted.asked, stopped)


def hostile(rule: TextRule, size: int = INPUT_BYTES) -> Iterator[tuple[str, bytes]]:
    """Inputs of ``size`` bytes against ``rule``, each with its kind; the same each time."""
    rng = random.Random(SEED)
    tree = list(parser.parse(rule.pattern))
    maker = Maker(rng)
    for number, branch in enumerate(branches(tree)[:BRANCHES_MAX]):
        for kind, piece in of_branch(branch, maker):
            yield f"{kind} (branch {number})", fill(piece, size)
    for kind, piece in of_pieces(tree, rng):
        yield kind, fill(piece, size)
    for kind, piece in GENERIC:
        yield kind, fill(piece, size)
    yield "random text", bytes(rng.choices(range(32, 127), k=size))


def fill(piece: bytes, size: int) -> bytes:
    """``piece`` over and over, ``size`` bytes long."""
    return (piece * (size // max(len(piece), 1) + 1))[:size]


def of_branch(items: list[Any], maker: Maker) -> Iterator[tuple[str, bytes]]:
    """What one way of matching gives: hits that validators refuse, and starts of hits."""
    least, longest = maker.text(items, 1), maker.text(items, LONG)
    yield "hits without a break", least
    yield "long hits without a break", longest
    for gap in (b" ", b"\n", b","):
        yield f"hits with {gap!r} between", least + gap
        yield f"long hits with {gap!r} between", longest + gap
    for part in sorted({1, 2, len(least) // 2, len(least) - 1} - {0}):
        yield f"first {part} bytes of a hit", least[:part]
        yield f"first {part} bytes of a hit and a space", least[:part] + b" "
    yield "a hit and then one long run", maker.text(items, RUN)
    yield "all but the end of a long hit", longest[:-1] + b"\x01"
    yield "the same letter in every class", Maker(random.Random(1)).text(items, LONG, same=True)


def of_pieces(tree: list[Any], rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """What the pattern is made of, in runs and mixed."""
    classes = sorted(set(find_classes(tree)), key=len, reverse=True)[:CLASSES_MAX]
    for number, chars in enumerate(classes):
        some = sorted(chars - {0}) or [0]
        yield f"run of one byte of class {number}", bytes([some[len(some) // 2]])
        yield f"random bytes of class {number}", bytes(rng.choices(some, k=1 << 16))
        plain = [byte for byte in some if chr(byte).isalnum() and byte < 128] or some
        yield f"random letters and digits of class {number}", bytes(rng.choices(plain, k=1 << 16))
    words = sorted(set(find_words(tree)))
    if words:
        yield "its words", b"".join(rng.choices(words, k=4096))
        yield "its words with spaces", b" ".join(rng.choices(words, k=4096))
        yield "its words with equals signs", b"=".join(rng.choices(words, k=4096))
    if words and classes:
        some = sorted(max(classes, key=len) - {0}) or [0]
        parts = [rng.choice(words) + bytes(rng.choices(some, k=rng.randrange(40)))
                 for _ in range(4096)]  # fmt: skip
        yield "its words and classes", b"".join(parts)


class Maker:
    """Writes texts that a pattern matches, but for its validator and its boundaries."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._same = False

    def text(self, items: list[Any], most: int, *, same: bool = False) -> bytes:
        """A text for ``items``; each repetition is as long as it may be, ``most`` at most."""
        self._same = same
        return b"".join(self._item(item, most) for item in items)

    def _item(self, item: Any, most: int) -> bytes:
        kind, value = item
        if kind is code.LITERAL:
            return bytes([value])
        if kind in {code.IN, code.NOT_LITERAL}:
            return self._char(item, 1)
        if kind is code.SUBPATTERN:
            return self.text(list(value[3]), most, same=self._same)
        if kind is code.BRANCH:
            return self.text(list(self._rng.choice(value[1])), most, same=self._same)
        if kind in {code.MAX_REPEAT, code.MIN_REPEAT}:
            return self._repeat(value, most)
        return b""

    def _repeat(self, value: Any, most: int) -> bytes:
        least, limit, inner = value
        times = max(least, min(int(limit), most) if most > 1 else 0)
        if len(inner) == 1 and inner[0][0] in {code.IN, code.NOT_LITERAL}:
            return self._char(inner[0], times)
        # What is inside a repetition is short, else two of them would multiply.
        return b"".join(self.text(list(inner), 1, same=self._same) for _ in range(min(times, LONG)))

    def _char(self, item: Any, count: int) -> bytes:
        chars = sorted(class_of(item) - {0}) or [0]
        printable = [byte for byte in chars if 32 <= byte < 127] or chars
        if self._same:
            return bytes([97 if 97 in printable else printable[0]]) * count
        return bytes(self._rng.choices(printable, k=count))


def class_of(item: Any) -> frozenset[int]:
    """The bytes that a class lets through."""
    kind, value = item
    if kind is code.NOT_LITERAL:
        return frozenset(range(256)) - {value}
    return members(value)


def branches(tree: list[Any]) -> list[list[Any]]:
    """The ways of matching ``tree`` that its longest list of alternatives gives."""
    found = [(at, item) for at, item in enumerate(tree) if unfold(item) is not None]
    if not found:
        return [tree]
    at, item = max(found, key=lambda one: len(unfold(one[1]) or ()))
    return [[*tree[:at], *branch, *tree[at + 1 :]] for branch in unfold(item) or ()]


def unfold(item: Any) -> Sequence[list[Any]] | None:
    """The alternatives of ``item``, through groups; None if it has none."""
    kind, value = item
    if kind is code.BRANCH:
        return [list(branch) for branch in value[1]]
    if kind is code.SUBPATTERN and len(value[3]) == 1:
        return unfold(value[3][0])
    return None


def walk(items: Any) -> Iterator[Any]:
    """Every item of a tree, whatever it stands in."""
    for item in items:
        yield item
        for inside in insides(item):
            yield from walk(inside)


def insides(item: Any) -> Sequence[Any]:
    """The sequences of items that stand in ``item``."""
    kind, value = item
    if kind is code.BRANCH:
        branches: Sequence[Any] = value[1]
        return branches
    if kind is code.SUBPATTERN:
        return [value[3]]
    return [value[2]] if kind in {code.MAX_REPEAT, code.MIN_REPEAT} else []


def find_classes(tree: list[Any]) -> Iterator[frozenset[int]]:
    """The classes of a pattern."""
    return (class_of(item) for item in walk(tree) if item[0] in {code.IN, code.NOT_LITERAL})


def find_words(items: Any) -> Iterator[bytes]:
    """The runs of literals of a pattern, two bytes and longer."""
    run = b""
    for item in items:
        if item[0] is code.LITERAL:
            run += bytes([item[1]])
            continue
        if len(run) > 1:
            yield run
        run = b""
        for inside in insides(item):
            yield from find_words(inside)
    if len(run) > 1:
        yield run
