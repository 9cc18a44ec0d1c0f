"""The folder of what one exporter is still to send, where no bundles are kept besides.

What is settled is deleted; what waits has a bound. Beyond it the oldest bundles go, whole,
and are counted; so does what is older than bundles may get at all. A bundle that is being
written is never deleted.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import LineRefusedError, StoreError
from stack_composer.telemetry.otlp.requests import records_of
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.store.reader import list_bundles, read_placed_lines
from stack_composer.telemetry.store.retention import (
    PurgePlan,
    apply_purge,
    is_being_written,
    plan_purge,
    size_of,
)
from stack_composer.telemetry.upload.plan import key_of
from stack_composer.telemetry.upload.queue import ANYBODY, Queues
from stack_composer.telemetry.upload.run import only_upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.upload.follow import Own


class Found:
    """What ended programs left in an outbox.

    Attributes:
        bundles: All of it.
        is_done: To be set once all of it is settled.
    """

    __slots__ = ("bundles", "is_done")

    def __init__(self, bundles: list[BundleInfo]) -> None:
        self.bundles = bundles
        self.is_done = False


class Outbox:
    """An outbox as a stream sees it.

    Args:
        config: What holds.
        directory: The folder.
        unlock: The keys, of an encrypted one; else None.

    Attributes:
        settled: Keys of bundles of which nothing is to be sent any more.
    """

    def __init__(self, config: Config, directory: str, unlock: Keys | None) -> None:
        self.settled: set[str] = set()
        self._directory = directory
        self._unlock = unlock
        self._bytes_max = config.otlp_queue_bytes_max
        self._days_max = max(config.local_retention_days, 1)

    def _listed(self) -> list[BundleInfo]:
        return list_bundles(self._directory, self._unlock, locked=[]).bundles

    def delete(self) -> None:
        """Delete what is settled, if nobody writes to it or seals it right now.

        Raises:
            StoreError: It cannot be deleted; it is tried again.
        """
        if not self.settled:
            return
        doomed = [one for one in self._listed() if key_of(one) in self.settled]
        apply_purge(PurgePlan(tuple(doomed), ()))
        self.settled.intersection_update(map(key_of, self._listed()))

    def trim(self, own: Mapping[str, Own]) -> None:
        """Keep the bounds: delete the oldest that wait, and count what was in them.

        Args:
            own: What the stream itself still has to send.

        Raises:
            StoreError: As ``delete``.
        """
        listed = self._listed()
        if not listed:
            return
        live = [one for one in listed if is_being_written(one)]
        room = max(self._bytes_max - sum(map(size_of, live)), 0)
        now_ns = effects.wall_ns()
        closed = [one for one in listed if one not in live]
        plan = plan_purge(closed, now_ns=now_ns, keep_days=self._days_max, kept_bytes_max=room)
        for bundle in plan.delete:
            records = 0 if key_of(bundle) in self.settled else _count(bundle, own)
            if apply_purge(PurgePlan((bundle,), ())).deleted and records:
                is_old = now_ns - bundle.created_ns >= self._days_max * 86_400 * 10**9
                recorder.drop(bundle.signal, "queue_old" if is_old else "queue_full", records)

    @contextlib.contextmanager
    def left(self, queue: str, own: Mapping[str, Own]) -> Iterator[Found]:
        """Look for what ended programs left, and keep others from sending it meanwhile.

        Args:
            queue: The name of this stream's own, or "".
            own: What the stream itself still has to send.

        Raises:
            StoreError: The folder cannot be read.
        """
        with contextlib.ExitStack() as stack:
            if not os.path.isdir(self._directory):
                yield Found([])
                return
            try:
                stack.enter_context(only_upload(self._directory))
            except StoreError:
                yield Found([])  # Another one is at it.
                return
            queues = Queues(self._directory, ANYBODY, queue)
            stack.callback(queues.close)
            dead = {key for left in queues.left for key in left.starts}
            found = Found(
                [
                    one
                    for one in self._listed()
                    if key_of(one) not in own
                    and key_of(one) not in queues.claimed | self.settled
                    and (key_of(one) in dead or not is_being_written(one))
                ]
            )
            yield found
            while found.is_done and queues.left:
                queues.left.pop().close(is_done=True)


def _count(bundle: BundleInfo, own: Mapping[str, Own]) -> int:
    """Count the records that are lost with a bundle."""
    mine = own.get(key_of(bundle))
    start = mine.place.offset if mine is not None and mine.place is not None else 0
    records = 0
    with contextlib.suppress(StoreError):
        for _, line in read_placed_lines(bundle, start=start):
            with contextlib.suppress(LineRefusedError):
                records += records_of(bundle.signal, line)
    return records
