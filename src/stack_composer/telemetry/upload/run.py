"""Send what a plan holds, request by request, and write down each one.

One request is in flight at a time. It is noted before it leaves and its answer after it,
on the disk; so whatever ends an upload (a signal, a lost network, a power cut) the next
one begins where the ledger ends, and at most the one request whose answer is not known
leaves twice. What cannot be noted does not leave.

What an answer leads to: "delivered" goes on; "retry" waits as ``send.backoff`` says, until
failures have lasted ``upload.give_up_s``; "too_large" sends the halves, down to one record,
which is passed over for good; "refused" ends the upload where it concerns the destination
(a path, a credential, a certificate), and otherwise goes on with the next request, until
several in a row are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreError
from stack_composer.telemetry.send.backoff import Backoff
from stack_composer.telemetry.send.sender import message_of
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import open_folder, store_error
from stack_composer.telemetry.upload.audit import Part, Position, Sending
from stack_composer.telemetry.upload.batches import maker_of
from stack_composer.telemetry.upload.ledger import PASSED_OVER
from stack_composer.telemetry.upload.permission import permission
from stack_composer.telemetry.upload.pseudonyms import pseudonyms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.send.answers import Outcome
    from stack_composer.telemetry.send.destination import Destination
    from stack_composer.telemetry.send.sender import Message, Sender
    from stack_composer.telemetry.upload.audit import Audit
    from stack_composer.telemetry.upload.batches import AnyBatch
    from stack_composer.telemetry.upload.ledger import Ledger, Range
    from stack_composer.telemetry.upload.plan import Plan, Portion

REFUSALS_IN_A_ROW_MAX: Final = 3
"""After so many requests in a row that a server refused, it would refuse the rest too."""
WORDS_KEPT_MAX: Final = 5
"""Different answers that are kept for the summary."""
BATCH_BYTES_MIN: Final = 16 * 2**10
"""No 413 makes the following requests smaller than this."""

_SLICE_S: Final = 0.25
"""A wait is cut into such pieces, so that somebody sees it."""


class Left(NamedTuple):
    """Why an upload ended before its plan did.

    Attributes:
        reason: For people, one sentence without its full stop.
        hint: What to do.
    """

    reason: str
    hint: str


class Told(NamedTuple):
    """What a server said, and of how many records."""

    status: str
    message: str
    records: int


class Result:
    """How far an upload has come.

    Attributes:
        done: Bundles that are settled.
        reached: How much of the plan is settled, in bytes of the lines of bundles.
        requests: Delivered.
        records: In them: spans, log records and data points.
        bytes: Of their bodies, as they left.
        rejected: Records that the server said it did not take of delivered requests.
        refused: Records of requests that were refused; they stay, and are tried again.
        passed_over: Records that are too large for the server, each alone.
        attempts: Requests that failed and were tried again.
        waiting: What is waited for now, or "".
        left: Why the rest was not sent; None while nothing hindered it.
        unread: Bundles that could not be read.
        words: What the server said, the first different ones.
        oddities: What reading left out, by name; "gone" is a bundle that was purged.
    """

    __slots__ = (
        "attempts",
        "bytes",
        "done",
        "left",
        "oddities",
        "passed_over",
        "reached",
        "records",
        "refused",
        "rejected",
        "requests",
        "unread",
        "waiting",
        "words",
    )

    def __init__(self) -> None:
        self.done = self.reached = 0
        self.requests = self.records = self.bytes = 0
        self.rejected = self.refused = self.passed_over = self.attempts = 0
        self.waiting = ""
        self.left: Left | None = None
        self.unread: list[StoreError] = []
        self.words: list[Told] = []
        self.oddities: Counter[str] = Counter()

    @property
    def is_whole(self) -> bool:
        """Whether all that was planned is settled."""
        return self.left is None and not self.refused and not self.unread

    def heard(self, outcome: Outcome, records: int) -> None:
        """Keep what a server said, if it is new."""
        if len(self.words) < WORDS_KEPT_MAX and outcome.message not in (
            told.message for told in self.words
        ):
            self.words.append(Told(outcome.status, outcome.message, records))


class _EndError(Exception):
    """Nothing more is sent."""

    def __init__(self, left: Left) -> None:
        super().__init__(left.reason)
        self.left = left


class Upload:
    """One run of one plan.

    Args:
        config: What holds now.
        destination: To whom.
        plan: What.
        sender: Who brings it there; closing it is the caller's.
        audit: Where it is noted.
        watch: Called when something happened, and while it waits.

    Attributes:
        result: How far it has come, true at any moment.
    """

    def __init__(
        self,
        config: Config,
        destination: Destination,
        plan: Plan,
        sender: Sender,
        audit: Audit,
        watch: Callable[[Result], None] = lambda _result: None,
    ) -> None:
        self.result = Result()
        self._config = config
        self._destination = destination
        self._plan = plan
        self._sender = sender
        self._audit = audit
        self._watch = watch
        self._refusals = 0
        self._halves: Sequence[AnyBatch] = ()
        self._maker = maker_of(plan.terms, destination, pseudonyms_of(config))
        self.result.oddities = self._maker.oddities

    def run(self) -> Result:
        """Send all of it, or as much as can be; return how far it came.

        Raises:
            StoreError: The log of what left cannot be written; then nothing leaves either.
            KeyboardInterrupt: As it came; ``result`` tells how far it got.
        """
        try:
            settled = 0
            for portion in self._plan.portions:
                for batch in self._batches(portion):
                    self._deliver(batch)
                    self.result.reached = settled + covered(portion, batch.end)
                    self._watch(self.result)
                settled += covered(portion)
                self.result.reached = settled
                self.result.done += 1
                self._watch(self.result)
        except _EndError as end:
            self.result.left = end.left
        finally:
            # Even when interrupted: what was answered shall outlive a power cut.
            self._audit.flush()
        return self.result

    def _batches(self, portion: Portion) -> Iterator[AnyBatch]:
        """Give the batches of a bundle; one that cannot be read does not stop the rest."""
        batches: Iterator[AnyBatch] = self._maker.of(portion)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except StoreError as error:
                self.result.unread.append(error)
                return
            yield batch

    def _deliver(self, batch: AnyBatch) -> None:
        """Send one batch, and its halves if it is too large."""
        message = message_of(self._destination, batch.signal, batch.body, batch.records, batch.name)
        outcome = self._settled(batch, message)
        if outcome.verdict == "too_large":
            # What follows is made smaller at once, instead of being sent twice each.
            self._maker.bytes_max = max(len(batch.body) // 2, BATCH_BYTES_MIN)
            for half in self._halves:
                self._deliver(half)
        elif outcome.verdict == "delivered":
            self._refusals = 0
            self._count(outcome, message)
        elif outcome.verdict == PASSED_OVER:
            self.result.passed_over += batch.records
            self.result.heard(outcome, batch.records)
        else:
            self._refused(outcome, batch.records)

    def _count(self, outcome: Outcome, message: Message) -> None:
        result = self.result
        result.requests += 1
        result.records += message.records
        result.bytes += len(message.body)
        # A server may well claim to have rejected more than there was.
        result.rejected += min(outcome.rejected, message.records)
        if outcome.message:
            result.heard(outcome, outcome.rejected)

    def _refused(self, outcome: Outcome, records: int) -> None:
        self.result.refused += records
        self.result.heard(outcome, records)
        self._refusals += 1
        if outcome.is_about_destination or self._refusals >= REFUSALS_IN_A_ROW_MAX:
            raise _EndError(
                Left(
                    f"{self._destination.origin} refuses: {outcome.status}, {outcome.message}",
                    "what was not taken stays here; mend the destination and upload again",
                )
            )

    def _settled(self, batch: AnyBatch, message: Message) -> Outcome:
        """Send a request until something other than another attempt comes of it."""
        backoff = Backoff()
        began_ns = effects.monotonic_ns()
        while True:
            outcome = self._attempt(batch, message)
            if outcome.verdict != "retry":
                return outcome
            self.result.attempts += 1
            wait_s = backoff.failed(outcome.retry_after_s)
            spent_s = (effects.monotonic_ns() - began_ns) / 1e9
            if spent_s + wait_s > self._config.upload_give_up_s:
                raise _EndError(self._gave_up(outcome, spent_s, wait_s))
            self._wait(wait_s, outcome)

    def _gave_up(self, outcome: Outcome, spent_s: float, wait_s: float) -> Left:
        said = f"{outcome.status}, {outcome.message}" if outcome.message else outcome.status
        asked = ""
        if outcome.retry_after_s is not None and wait_s > 1:
            asked = f"; it asks to wait {outcome.retry_after_s:.0f} s"
        return Left(
            f"gave up on {self._destination.origin} after {spent_s:.0f} s: {said}{asked}",
            "upload again later: it goes on where it stopped",
        )

    def _attempt(self, batch: AnyBatch, message: Message) -> Outcome:
        """Note it, send it, note what came of it."""
        # Asked each time: a consent that is withdrawn holds from the next request on.
        allowed = permission(self._config, self._destination.origin)
        if not allowed.allowed:
            raise _EndError(Left(f"nothing may leave any more: {allowed.reason}", allowed.hint))
        outcome, self._halves = attempt(
            self._audit,
            self._sender,
            self._destination,
            batch,
            message,
            plan=self._plan.id,
            mode=self._plan.terms.mode,
        )
        return outcome

    def _wait(self, wait_s: float, outcome: Outcome) -> None:
        end_ns = effects.monotonic_ns() + int(wait_s * 1e9)
        while (left_s := (end_ns - effects.monotonic_ns()) / 1e9) > 0:
            self.result.waiting = f"{outcome.status}, again in {left_s:.0f} s"
            self._watch(self.result)
            time.sleep(min(left_s, _SLICE_S))
        self.result.waiting = ""


def attempt(
    audit: Audit,
    sender: Sender,
    destination: Destination,
    batch: AnyBatch,
    message: Message,
    *,
    plan: str,
    mode: str,
) -> tuple[Outcome, Sequence[AnyBatch]]:
    """Note a request, send it, note what came of it: nothing leaves in another way.

    Args:
        audit: Where it is noted.
        sender: Who brings it there.
        destination: To whom.
        batch: What it holds.
        message: The request.
        plan: Its id, "" for a stream.
        mode: "raw" or "aggregate".

    Returns:
        What came of it, and of a batch that is too large its halves. One that has none
        is ``PASSED_OVER``: no other attempt would fare better.

    Raises:
        StoreError: It cannot be noted. Before it left: then it did not.
    """
    number = audit.sending(
        Sending(
            origin=destination.origin,
            path=path_of(message.url),
            purpose=destination.purpose,
            protocol=destination.protocol_of(batch.signal),
            plan=plan,
            mode=mode,
            selected=batch.portion.selected,
            parts=(Part(batch.portion.key, batch.start, batch.end),),
            records=message.records,
            bytes=len(message.body),
            sha256=hashlib.sha256(message.body).hexdigest(),
        )
    )
    outcome = sender.send(message)
    halves: Sequence[AnyBatch] = ()
    if outcome.verdict == "too_large":
        halves = batch.halves()
        if not halves:
            outcome = outcome._replace(verdict=PASSED_OVER)
    audit.answer(
        number,
        verdict=outcome.verdict,
        status=outcome.status,
        rejected=outcome.rejected,
        message=outcome.message,
    )
    return outcome, halves


def covered(portion: Portion, end: Position | None = None) -> int:
    """How many bytes of a bundle's lines are planned, before ``end`` or in all."""
    return sum(
        max(min(stretch.end, end or stretch.end).offset - stretch.start.offset, 0)
        for stretch in portion.stretches
    )


def sent_to(
    ledger: Ledger, destination: Destination, mode: str
) -> Callable[[str], Sequence[Range]]:
    """Give what tells, for a bundle's key, what of it went to a destination in a mode."""

    def sent(key: str) -> Sequence[Range]:
        signal = "metrics" if mode == "aggregate" else key.rpartition(".")[2]
        # Another path is another destination; but an object's has its own name in it.
        if destination.protocol == "put":
            path = path_of(destination.way_of(signal).url)
            return ledger.put(destination.origin, mode, key, path=path)
        path = path_of(destination.url_of(signal))
        return ledger.sent(destination.origin, mode, key, path=path)

    return sent


def path_of(url: str) -> str:
    """The path of a URL, without its query, which may be a credential."""
    rest = url.partition("://")[2].partition("?")[0]
    return "/" + rest.partition("/")[2]


@contextlib.contextmanager
def only_upload(directory: str) -> Iterator[None]:
    """Keep other uploads of this folder out; where there are no locks, nobody is kept out.

    Raises:
        StoreError: Another upload is running, or the folder cannot be written.
    """
    folder = open_folder(directory, create=True)
    try:
        with contextlib.suppress(FileExistsError):
            os.close(folder.create(names.UPLOAD_LOCK))
        descriptor = folder.open(names.UPLOAD_LOCK, write=True)
        try:
            if lock.try_lock(descriptor) == lock.HELD:
                raise StoreError(
                    f"another upload of {directory} is running",
                    hint="wait for its end; the two would send the same",
                )
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise store_error("lock", folder.path_of(names.UPLOAD_LOCK), error) from error
    finally:
        folder.close()
