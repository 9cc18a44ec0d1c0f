"""Whether the audit log is what was written: each line follows the one before, none is gone.

What the log says of itself counts too: that it was torn is no fault of it, that it was not
what its anchor said, is one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.upload.anchor import Anchor, anchor_path, read_anchor
from stack_composer.telemetry.upload.entries import (
    ANSWER,
    FORGOTTEN,
    GENESIS,
    ID_CHARS,
    MISSING,
    SENDING,
    TORN,
    Entry,
    decode_entry,
    hash_of,
)
from stack_composer.telemetry.upload.history import read_parts

if TYPE_CHECKING:
    from typing import Final

PROBLEMS_MAX: Final = 20
"""More than these are counted, not told one by one."""
_AT_ONCE: Final = 16
"""So many lines back an entry may follow that was written without a lock."""


class Problem(NamedTuple):
    """Something that is not as it was written.

    Attributes:
        line: Where, counted from 1; 0 for the end of the log.
        what: In words; no content of the log.
    """

    line: int
    what: str


class Verification(NamedTuple):
    """What was found.

    Attributes:
        lines: Whole lines of the log.
        requests: How many left, or were about to.
        unanswered: Of these, those whose answer is not known: the program was killed.
        torn: Lines that a writer did not finish.
        is_anchored: Whether there is an anchor, so that a cut-off end shows.
        problems: What is wrong, ``PROBLEMS_MAX`` at most.
        problem_count: How many there are.
    """

    lines: int
    requests: int
    unanswered: int
    torn: int
    is_anchored: bool
    problems: tuple[Problem, ...]
    problem_count: int


class _Chain:
    """Follows the lines of a log."""

    def __init__(self, anchor: Anchor | None) -> None:
        self.anchor = anchor
        self.lines = self.requests = self.torn = self.problem_count = 0
        self.problems: list[Problem] = []
        self.unanswered: set[str] = set()
        self._part = self._size = 0
        self._previous = GENESIS
        self._recent: deque[str] = deque(maxlen=_AT_ONCE)
        self._broken: Problem | None = None
        self._forgotten: tuple[int, str] | None = None
        """The part before the first one that is there, and the hash of its end."""

    def begin(self, part: int) -> None:
        """Go on with another part; an anchor that an earlier one did not reach is not met."""
        if self.anchor is not None and self.anchor.part < part:
            if self.lines:
                self._end_is_gone()
            else:
                self.anchor = None  # Of a part that is not there: that is told anyway.
        self._part, self._size = part, 0

    def add(self, line: bytes) -> None:
        self.lines += 1
        self._size += len(line) + 1
        digest = hash_of(line)
        try:
            entry = decode_entry(line)
        except msgspec.MsgspecError:
            self._settle()
            self._broken = Problem(self.lines, "is no entry of this log")
        else:
            self._check(entry)
            self._count(entry, digest)
        self._recent.append(self._previous)
        self._previous = digest
        anchor = self.anchor
        if anchor is not None and (self._part, self._size) >= (anchor.part, anchor.size):
            if Anchor(self._part, self._size, digest) != anchor:
                self._tell(self.lines, "is not what its anchor says was written there")
            self.anchor = None

    def _check(self, entry: Entry) -> None:
        is_first_left = self.lines == 1 and self._part > 1
        if is_first_left:
            # An entry further on has to say that what was before was forgotten.
            self._forgotten = self._part - 1, entry.previous
        follows = is_first_left or entry.previous == self._previous
        if follows and entry.entry == TORN:
            # It vouches for the line before it, which is whole only by its newline.
            self._broken = None
            self.torn += 1
        self._settle()
        if not follows and not (entry.unlocked and entry.previous in self._recent):
            what = "does not follow the line before it: one was changed, removed, added or moved"
            self._tell(self.lines, what)
        if entry.entry == FORGOTTEN and self._forgotten is not None:
            number, digest = self._forgotten
            # Beyond it: deleting the parts was stopped half-way.
            if entry.part > number or (entry.part, entry.sha256) == (number, digest):
                self._forgotten = None
        if entry.entry == MISSING:
            what = f"says that the log was {entry.bytes:,} bytes long before, and is not that log"
            self._tell(self.lines, what)

    def _count(self, entry: Entry, digest: str) -> None:
        if entry.entry == SENDING:
            self.requests += 1
            self.unanswered.add(digest[:ID_CHARS])
        elif entry.entry == ANSWER:
            self.unanswered.discard(entry.of)

    def end(self) -> None:
        self._settle()
        if self._forgotten is not None:
            self._tell(1, f"is of part {self._forgotten[0] + 1:,}, and what was before is gone")
        if self.anchor is not None:
            self._end_is_gone()

    def _end_is_gone(self) -> None:
        assert self.anchor is not None
        part = f"part {self.anchor.part:,} of the log" if self.anchor.part > 1 else "the log"
        self._tell(0, f"{part} was {self.anchor.size:,} bytes long, and that end is gone")
        self.anchor = None

    def _settle(self) -> None:
        if self._broken is not None:
            self._tell(*self._broken)
            self._broken = None

    def _tell(self, line: int, what: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(line, what))


def verify(directory: str, anchor_folder: str) -> Verification:
    """Read the whole log and check it; a log that never was has nothing wrong.

    Args:
        directory: The telemetry folder.
        anchor_folder: The folder of the configuration file.

    Raises:
        StoreError: The log cannot be read.
    """
    # The anchor first: a log that grows meanwhile is then longer than it says, not shorter.
    problem = None
    anchor = None
    try:
        anchor = read_anchor(anchor_path(directory, anchor_folder))
    except StoreError as error:
        problem = Problem(0, f"its anchor: {error}")
    chain = _Chain(anchor)
    if problem is not None:
        chain._tell(*problem)
    for part, lines in read_parts(directory):
        chain.begin(part)
        for line in lines:
            chain.add(line)
    chain.end()
    return Verification(
        chain.lines,
        chain.requests,
        len(chain.unanswered),
        chain.torn,
        anchor is not None,
        tuple(chain.problems),
        chain.problem_count,
    )
