"""Adopt what dead processes left, and clear away what they left half-made.

``plan_recovery`` looks at names alone and decides; ``Recovery`` does it, a step at a
time, and takes the lock of each bundle before it touches anything of it. ``seal``
has the theory. Any number of processes may do this at once: each file has one lock,
and who does not get it goes on to the next.

What a lock cannot be had for (a living writer, another adopter, a file system
without locks) is left alone.
"""

from __future__ import annotations

import os

from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import open_folder, store_error
from stack_composer.telemetry.store.seal import Sealing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from stack_composer.telemetry.store.folder import Folder


class RecoveryPlan:
    """What may be there to mend; names in order of creation.

    Attributes:
        unsealed: Plain bundles, perhaps of dead processes.
        leftover: Temporary files, sidecars and pages that belong to no bundle.
    """

    __slots__ = ("leftover", "unsealed")

    def __init__(self, unsealed: list[str], leftover: list[str]) -> None:
        self.unsealed = unsealed
        self.leftover = leftover


def plan_recovery(found: Collection[str], *, skip: Collection[str] = ()) -> RecoveryPlan:
    """Decide from the names in a folder what to look at; touch nothing.

    Args:
        found: All names in the folder.
        skip: Plain bundles to leave alone: this process's own, or refused before.
    """
    present = frozenset(found)
    unsealed, leftover = [], []
    for name in sorted(found):
        # Cheap tests first: a folder may hold thousands of sealed bundles.
        if name.endswith(".jsonl"):
            if name not in skip and names.parse_name(name):
                unsealed.append(name)
        elif (
            name.endswith((".sketch.json", ".imports", ".tmp"))
            and not _bundles_of(name) & present
            and names.parse_name(name)
        ):
            leftover.append(name)
    return RecoveryPlan(unsealed, leftover)


def _bundles_of(name: str) -> set[str]:
    """The bundle files that a sidecar, a page or a temporary file would belong to."""
    stem, signal, *_ = name.split(".")
    plain = names.open_name(stem, signal)
    # A temporary file beside a sealed bundle alone is nobody's any more.
    return {plain} if name.endswith(".tmp") else {plain, names.sealed_name(stem, signal)}


def remove_leftovers(directory: str) -> int:
    """Delete what belongs to no bundle any more; how much that was.

    Raises:
        StoreError: The folder cannot be used, or something cannot be deleted.
    """
    if not os.path.lexists(directory):
        return 0
    folder = open_folder(directory, create=False)
    try:
        return sum(map(folder.remove, plan_recovery(folder.names()).leftover))
    except OSError as error:
        raise store_error("clear", folder.path, error) from error
    finally:
        folder.close()


class Recovery:
    """One pass over a folder.

    Attributes:
        sealed: How many orphans were adopted and sealed.
        removed: How many empty, superseded or leftover files were deleted.
        failed: How many orphans could not be sealed, and stay plain.
        refused: Those of them that never can (not a file of ours, a line too long);
            skip them next time. A full disk is no such reason.
        error: What the last of the failed met, or None.
    """

    def __init__(self, folder: Folder, *, skip: Collection[str] = ()) -> None:
        self.sealed = 0
        self.removed = 0
        self.failed = 0
        self.refused: list[str] = []
        self.error: Exception | None = None
        self._folder = folder
        self._skip = skip
        self._sealing: Sealing | None = None
        self._steps = self._run()

    def step(self) -> bool:
        """Do a little; True when the pass is over.

        Raises:
            OSError: The folder cannot be listed.
        """
        return next(self._steps, True)

    def close(self) -> None:
        """Stop before the end, leaving nothing half-made."""
        if self._sealing is not None:
            self._sealing.close()

    def forget(self) -> None:
        """Close descriptors and touch no file: what a forked child must do."""
        if self._sealing is not None:
            self._sealing.forget()

    def _run(self) -> Iterator[bool]:
        plan = plan_recovery(self._folder.names(), skip=self._skip)
        for name in plan.leftover:
            self._remove_leftover(name)
            yield False
        for name in plan.unsealed:
            try:
                yield from self._adopt(name)
            except (OSError, StoreError) as error:
                # One file that cannot be mended must not keep the rest from it.
                self.close()
                # Where somebody is deleting files, what is left is for later.
                if not isinstance(error, FileNotFoundError):
                    self.failed += 1
                    self.error = error
                if isinstance(error, StoreError):
                    self.refused.append(name)
            self._sealing = None

    def _remove_leftover(self, name: str) -> None:
        # The list of names is no snapshot. A plain bundle is there until its sealed
        # one is, so looking in this order cannot miss both.
        for bundle in sorted(_bundles_of(name)):
            if self._folder.exists(bundle):
                return
        self.removed += self._folder.remove(name)

    def _adopt(self, name: str) -> Iterator[bool]:
        try:
            fd = self._folder.open(name, write=True)
        except FileNotFoundError:
            return  # Another process was faster.
        try:
            orphan = self._is_orphan(fd)
        except BaseException:
            os.close(fd)
            raise
        if not orphan:
            os.close(fd)
            return
        stem, signal, *_ = name.split(".")
        if os.fstat(fd).st_size == 0 or self._folder.exists(names.sealed_name(stem, signal)):
            # Under an empty one there may be the half-made files of an import (``intake``).
            for make in (names.sealed_name, names.sketch_name, names.page_name):
                self.removed += self._folder.remove(names.temporary_name(make(stem, signal)))
            self._folder.remove_open(name, fd)
            self.removed += 1
            return
        self._sealing = Sealing(self._folder, fd, stem, signal, None)
        yield False
        while not self._sealing.step():
            yield False
        self.sealed += 1

    def _is_orphan(self, fd: int) -> bool:
        if lock.try_lock(fd) != lock.LOCKED:
            return False
        # 0: adopted and deleted between our open and our lock. More than 1: somebody
        # keeps a second name for it, such as a backup, and no reason is ours to cut it.
        return os.fstat(fd).st_nlink == 1
