"""A stream: what this process records goes out while it records, and the store is the queue.

A stream runs on a thread of its own, beside the writer's. That one appends to bundles,
says in a ``Feed`` which ones, and rings. The stream reads the bundles behind a place,
makes requests of what is new, sends them one at a time, and notes each in the audit log
before and after, as an upload does; the log is the ledger. Nothing that the network does
reaches the application: a server that stalls holds this thread, and the records lie
in the store meanwhile, across restarts if need be.

What may leave: whatever was written while it was permitted to leave. Whether it is, is
asked before each request, by two ``stat``; without permission there is no socket and no
name is looked up. A bundle of the telemetry folder is put into this stream's *queue* once
the permission is there, and what was written to it before is not sent: that is what
``upload`` is for. An *outbox* holds nothing but what is meant for one exporter: all of it
waits for the permission, and what is settled is deleted.

Who sends what: each stream the bundles of its own process. When a stream ends with
something left, or is killed, the next one that finds its queue sends that, after what is
its own: see ``queue``. So nothing is lost over restarts, and of what was in flight when a
process died one request at most goes twice.
"""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stack_composer.telemetry import effects
from stack_composer.telemetry.config import signature
from stack_composer.telemetry.config_check import is_promised
from stack_composer.telemetry.errors import SendError, TelemetryError
from stack_composer.telemetry.record import recorder
from stack_composer.telemetry.send.backoff import Backoff
from stack_composer.telemetry.send.destination import destination_of
from stack_composer.telemetry.send.sender import message_of, open_sender, user_agent
from stack_composer.telemetry.store import keys
from stack_composer.telemetry.store.reader import list_bundles
from stack_composer.telemetry.upload.audit import Position, audit_of
from stack_composer.telemetry.upload.batches import Batches
from stack_composer.telemetry.upload.consent import consent_path, read_consents
from stack_composer.telemetry.upload.follow import NewLines, Own
from stack_composer.telemetry.upload.ledger import read_ledger
from stack_composer.telemetry.upload.outbox import Outbox
from stack_composer.telemetry.upload.permission import Permission, permission_for
from stack_composer.telemetry.upload.plan import (
    EVERYTHING,
    Portion,
    Terms,
    facts_of,
    key_of,
    plan_upload,
)
from stack_composer.telemetry.upload.pseudonyms import pseudonyms_of
from stack_composer.telemetry.upload.queue import Queue, Queues, origin_bytes
from stack_composer.telemetry.upload.run import BATCH_BYTES_MIN, attempt, path_of

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from typing import Final

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.send.answers import Outcome
    from stack_composer.telemetry.send.destination import Destination
    from stack_composer.telemetry.send.sender import Sender
    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.upload.batches import AnyBatch
    from stack_composer.telemetry.upload.queue import Left

PACE_S: Final = 0.35
"""Between two requests of a signal, unless much waits: few and full ones cost less."""
LOOK_S: Final = 0.5
"""How often, without any news, the permission is looked at."""
SWEEP_FIRST_S: Final = 1.0
SWEEP_S: Final = 5.0
"""How often what ended streams left is looked for."""
REFUSED_S: Final = 60.0
"""A destination that refuses everything (a path, a credential) is asked again so often."""
BROKEN_S: Final = 5.0
"""After the disk or the destination's configuration failed."""
_CHANGED: Final = "the configuration file has changed, and is not yet in effect"
_SET_LATER: Final = "DO_NOT_TRACK was set while the program ran"


class Feed(Protocol):
    """What the writer's thread tells a stream.

    Attributes:
        begun: Stem and signal of each bundle that the writer has begun.
        current: By signal, the stem of the bundle that is written to.
        is_ending: Nothing more will come.
        until_ns: When the stream has to end then, by the monotonic clock.
        queue: What the stream holds. Of an outbox the writer itself makes it, and notes
            what it has begun. A forked child lets go of it there.
    """

    begun: deque[tuple[str, str]]
    current: dict[str, str]
    is_ending: bool
    until_ns: int
    queue: Queue | None

    def wait(self, timeout_s: float) -> None:
        """Wait until it rings."""


class Gate:
    """Whether something may leave, asked often: two ``stat`` while nothing changes.

    Attributes:
        consent: The date of the consent that holds, "" without one.
        is_renewed: That consent is another than the one before, so it was withdrawn in
            between: closed until ``enter``.
        decision: What was found out last.
    """

    def __init__(self, config: Config, origin: str) -> None:
        self._config = config
        self._origin = origin
        self._consent_path = consent_path(config)
        self._config_signature = signature(config.config_path)
        self._consent_signature: tuple[int, ...] | None = (-1,)
        self.consent = ""
        self.is_renewed = False
        self.decision = Permission(allowed=False, reason="", hint="")

    def is_open(self) -> bool:
        """Whether something may leave at this moment."""
        if signature(self._config.config_path) != self._config_signature:
            # Whoever reads it anew makes another stream; until then, what it said counts
            # for nothing.
            self.decision = Permission(allowed=False, reason=_CHANGED, hint="")
            return False
        if not self._config.do_not_track and _is_said("DO_NOT_TRACK"):
            # Set by the program itself since the configuration was read, or in a child.
            self.decision = Permission(allowed=False, reason=_SET_LATER, hint="")
            self._consent_signature = (-1,)
            return False
        found = _state_of(self._consent_path)
        if found != self._consent_signature:
            self._consent_signature = found
            consents = read_consents(self._config)
            self.decision = permission_for(self._config, consents, self._origin)
            given = [consents.lookup(one) for one in self._origin.split()]
            before = self.consent
            self.consent = max((one.date for one in given if one is not None), default="")
            self.is_renewed = bool(before and self.consent and self.consent != before)
        return self.decision.allowed and not self.is_renewed

    def enter(self) -> None:
        """Note that whoever asks knows of a consent that is another one."""
        self.is_renewed = False


class _Line(NamedTuple):
    """How requests of one destination are made and brought there."""

    destination: Destination
    sender: Sender
    new: dict[str, NewLines]
    old: dict[str, Batches]


class Stream:
    """The stream of one exporter to its destination.

    Args:
        config: What holds; another configuration has another stream.
        purpose: "otlp_http" or "otlp_grpc".
        directory: Where the bundles are: the telemetry folder, or an outbox.
        feed: What the writer tells.
        imports: Held while something is imported.

    Attributes:
        problem: Why nothing leaves, or "".
    """

    def __init__(
        self,
        config: Config,
        purpose: str,
        directory: str,
        feed: Feed,
        imports: AbstractContextManager[None],
    ) -> None:
        self.problem = ""
        self._imports = imports
        self._config = config
        self._purpose = purpose
        self._directory = directory
        self._feed = feed
        self._is_outbox = directory != config.directory
        self._unlock = keys.configured(config) if config.encryption != "none" else None
        self._audit = audit_of(config)
        self._backoff = Backoff()
        self._own: dict[str, Own] = {}
        self._sent_ns: dict[str, int] = {}
        self._later_ns = 0
        self._sweep_ns = effects.monotonic_ns() + int(SWEEP_FIRST_S * 1e9)
        self._was_open: bool | None = None
        self._is_unflushed = False
        self._gate: Gate | None = None
        self._line: _Line | None = None
        self._destination: Destination | None = None
        self._outbox = Outbox(config, directory, self._unlock) if self._is_outbox else None

    # -- the thread ------------------------------------------------------------------

    def run(self) -> None:
        """Send what comes until the feed ends; then what is left, while there is time."""
        try:
            while True:
                self._feed.wait(self._pause_s())
                is_last = self._feed.is_ending
                self._try()
                if is_last and self._is_over():
                    return
        finally:
            self._end()

    def _try(self) -> None:
        try:
            self._turn()
        except TelemetryError as error:
            if isinstance(error, SendError) and not self.problem.startswith(str(error)):
                # A missing extra, a wrong address: nobody else would tell.
                recorder.fault(self._purpose)
            self._fail(str(error), BROKEN_S)
        except Exception:
            recorder.fault("stream")
            self._fail("an error of our own", BROKEN_S)

    def _fail(self, problem: str, wait_s: float) -> None:
        self.problem = problem
        self._later_ns = effects.monotonic_ns() + int(wait_s * 1e9)

    def _pause_s(self) -> float:
        """How long to wait for the next ring: until something is due, if anything is."""
        now_ns = effects.monotonic_ns()
        due_ns = [now_ns + int(LOOK_S * 1e9)]
        if self._feed.is_ending:
            due_ns.append(max(self._later_ns, now_ns))
        elif self._later_ns > now_ns:
            due_ns.append(self._later_ns)
        elif self._was_open and any(own.is_behind for own in self._own.values()):
            return 0.0
        return (min(due_ns) - now_ns) / 1e9

    def _is_over(self) -> bool:
        """Whether nothing more can be done before the end."""
        now_ns = effects.monotonic_ns()
        if now_ns >= self._feed.until_ns or not self._was_open:
            return True
        # A wait beyond the end is none: the next process is as good at waiting.
        return not self._own or self._later_ns >= self._feed.until_ns

    def _end(self) -> None:
        queue = self._feed.queue
        try:
            if self._is_unflushed:
                self._audit.flush()
            if self._line is not None:
                self._line.sender.close()
            if self._outbox is not None and self._was_open:
                self._outbox.delete()
        except TelemetryError:
            recorder.fault("stream_end")
        finally:
            if queue is not None:
                waits = any(own.place is not None for own in self._own.values())
                queue.close(is_done=not (waits or self._feed.begun))

    # -- one turn --------------------------------------------------------------------

    def _turn(self) -> None:
        is_open = self._look()
        self._take_begun(is_open=is_open)
        if self._outbox is not None and self._is_due():
            self._outbox.trim(self._own)
        if not is_open or effects.monotonic_ns() < self._later_ns:
            return
        if self._line is None:
            self._line = self._opened()
        self._send_own()
        self._sweep()

    def _look(self) -> bool:
        """Ask whether something may leave."""
        if self._gate is None:
            self._destination = destination_of(self._config, self._purpose)
            self._gate = Gate(self._config, self._destination.origin)
        is_open = self._gate.is_open()
        self._gate.enter()
        if not is_open:
            self.problem = self._gate.decision.reason
            if self._line is not None:
                # gRPC would go on knocking at a place that may get nothing any more.
                self._line.sender.close()
        return is_open

    @property
    def _to(self) -> bytes:
        """Whose queues are this stream's to send; another exporter's are another matter."""
        assert self._destination is not None
        return origin_bytes(f"{self._purpose} {self._destination.origin}")

    def _opened(self) -> _Line:
        destination = self._destination
        assert destination is not None
        with self._imports:
            _load(destination)
        pseudonyms = pseudonyms_of(self._config)
        line = _Line(destination, open_sender(destination), {}, {})
        for signal in destination.signals:
            way = destination.way_of(signal)
            terms = Terms(
                destination.origin,
                way.protocol,
                "raw",
                way.compression,
                self._config.upload_request_bytes_max,
            )
            form = destination.form_of(signal)
            line.new[signal] = NewLines(terms, form, pseudonyms)
            line.old[signal] = Batches(terms, form, pseudonyms)
        return line

    def _is_due(self) -> bool:
        return effects.monotonic_ns() >= self._sweep_ns or self._feed.is_ending

    # -- what is its own ---------------------------------------------------------------

    def _take_begun(self, *, is_open: bool) -> None:
        """Follow bundles that were begun, and the permission."""
        was_open, self._was_open = self._was_open, is_open
        # What was written before the permission came is not sent, nor what was when
        # it was taken away.
        is_late = is_open and was_open is False and not self._is_outbox
        begun = self._feed.begun
        while begun:
            stem, signal = begun.popleft()
            own = Own(self._directory, stem, signal, self._unlock)
            self._own[own.key] = own
            if self._is_outbox:
                own.place = Position(0)
            elif is_open and not is_late:
                own.place = Position(0)
                self._note(own)
        if not is_open and not self._is_outbox:
            gone = [key for key, own in self._own.items() if not self._is_current(own)]
            for key in gone:
                del self._own[key]
        if is_late:
            for own in self._own.values():
                own.seek_end()
                self._note(own)
        elif was_open and not is_open and not self._is_outbox:
            self._forget()

    def _note(self, own: Own) -> None:
        assert self._gate is not None
        assert own.place is not None
        queue = self._feed.queue
        if queue is None or not queue.is_held:
            queue = self._feed.queue = Queue(self._directory, self._to, self._gate.consent)
            for each in self._own.values():
                if each is not own and each.place is not None:
                    queue.add(each.key, each.place.offset)
        queue.add(own.key, own.place.offset, is_durable=True)

    def _forget(self) -> None:
        """Give up what waits: the consent was withdrawn, or a switch turned."""
        for own in self._own.values():
            own.place = None
        queue, self._feed.queue = self._feed.queue, None
        if queue is not None:
            queue.close(is_done=True)

    def _send_own(self) -> bool:
        """Send what is new; False if something hinders it."""
        done = [self._send_new(own) for own in list(self._own.values())]  # Each, whatever it says.
        return all(done)

    def _send_new(self, own: Own) -> bool:
        while own.place is not None and (self._feed.is_ending or self._is_turn_of(own)):
            # Asked before it is read, or what comes in between would be left.
            is_current = self._is_current(own)
            start = own.place
            lines, end = own.read()
            if end == start.offset:
                if not is_current and own.is_gone():
                    self._settle(own)
                return True
            if not self._send_lines(own, lines, end):
                return False
            self._sent_ns[own.signal] = effects.monotonic_ns()
        return True

    def _is_current(self, own: Own) -> bool:
        return not self._feed.is_ending and self._feed.current.get(own.signal) == own.stem

    def _is_turn_of(self, own: Own) -> bool:
        sent_ns = self._sent_ns.get(own.signal)
        if sent_ns is None or own.is_behind:
            return True
        return effects.monotonic_ns() - sent_ns >= int(PACE_S * 1e9)

    def _settle(self, own: Own) -> None:
        del self._own[own.key]
        if self._outbox is not None:
            self._outbox.settled.add(own.key)

    def _send_lines(self, own: Own, lines: list[bytes], end: int) -> bool:
        assert own.place is not None
        assert self._line is not None
        maker = self._line.new[own.signal]

        def advance(place: Position) -> None:
            own.place = place

        for batch in maker.of_lines(own.bundle, own.place, lines, end):
            if not self._deliver(batch, advance):
                return False
        own.place = Position(end)
        return True

    # -- requests ----------------------------------------------------------------------

    def _deliver(self, batch: AnyBatch, advance: Callable[[Position], None]) -> bool:
        """Send one batch; False if that has to wait, or must not be.

        ``advance`` is told up to where all is settled.
        """
        if not self._may_send():
            return False
        assert self._line is not None
        to = self._line.destination
        message = message_of(to, batch.signal, batch.body, batch.records)
        outcome, halves = attempt(
            self._audit, self._line.sender, to, batch, message, plan="", mode="raw"
        )
        self._is_unflushed = True
        if halves:
            # What follows is made smaller at once, instead of being sent twice each.
            bytes_max = max(len(batch.body) // 2, BATCH_BYTES_MIN)
            for maker in (self._line.new[batch.signal], self._line.old[batch.signal]):
                maker.bytes_max = min(maker.bytes_max, bytes_max)
            return all(self._deliver(half, advance) for half in halves)
        if not self._judge(outcome, batch):
            return False
        advance(batch.end)
        return True

    def _may_send(self) -> bool:
        if self._feed.is_ending and effects.monotonic_ns() >= self._feed.until_ns:
            return False
        return self._gate is not None and self._gate.is_open()

    def _judge(self, outcome: Outcome, batch: AnyBatch) -> bool:
        """Go on, or not, as an answer says; count what is given up."""
        if outcome.verdict == "retry":
            self._fail(_said(outcome), self._backoff.failed(outcome.retry_after_s))
            return False
        if outcome.is_about_destination:
            self._fail(_said(outcome), max(REFUSED_S, outcome.retry_after_s or 0.0))
            return False
        self._backoff.succeeded()
        self.problem = ""
        lost = min(outcome.rejected, batch.records)
        if outcome.verdict != "delivered":
            # No other attempt fares better; what is in the store stays there.
            lost = batch.records
        if lost:
            recorder.drop(batch.signal, f"{self._purpose}_refused", lost)
        return True

    # -- what others left --------------------------------------------------------------

    def _sweep(self) -> None:
        """Send what ended streams left, if it is time, and nothing hinders it."""
        now_ns = effects.monotonic_ns()
        if not self._is_due() or now_ns < self._later_ns:
            return
        self._sweep_ns = now_ns + int(SWEEP_S * 1e9)
        if self._is_unflushed:
            self._audit.flush()
            self._is_unflushed = False
        if self._outbox is not None:
            self._sweep_outbox(self._outbox)
            return
        self._sweep_queues()

    def _sweep_outbox(self, outbox: Outbox) -> None:
        queue = self._feed.queue
        with outbox.left("" if queue is None else queue.name, self._own) as found:
            if self._send_left({key_of(one): 0 for one in found.bundles}, found.bundles):
                outbox.settled.update(map(key_of, found.bundles))
                found.is_done = True
        outbox.delete()

    def _sweep_queues(self) -> None:
        assert self._gate is not None
        own = "" if self._feed.queue is None else self._feed.queue.name
        if not os.path.isdir(self._directory):
            return
        queues = Queues(self._directory, self._to, own)
        try:
            listed: list[BundleInfo] | None = None
            while queues.left:
                left = queues.left[-1]
                if left.starts and left.consent == self._gate.consent and listed is None:
                    listed = list_bundles(self._directory, self._unlock, locked=[]).bundles
                # What was written under a consent that was withdrawn since is not sent.
                if left.consent == self._gate.consent and not self._send_queue(left, listed or []):
                    return
                queues.left.pop().close(is_done=True)
        finally:
            queues.close()

    def _send_queue(self, left: Left, listed: list[BundleInfo]) -> bool:
        return self._send_left(left.starts, [one for one in listed if key_of(one) in left.starts])

    def _send_left(self, starts: dict[str, int], bundles: Iterable[BundleInfo]) -> bool:
        """Send what of bundles did not go yet; False if something is left."""
        facts = facts_of(bundles, EVERYTHING)
        if not facts:
            return True
        assert self._line is not None
        ledger = read_ledger(self._config.directory)
        destination = self._line.destination
        for one in facts:
            signal = one.bundle.signal
            path = path_of(destination.url_of(signal))
            plan = plan_upload(
                [one],
                wanted=EVERYTHING,
                signals=None,
                sent=lambda key, path=path: ledger.sent(  # type: ignore[misc]
                    destination.origin, "raw", key, path=path
                ),
                terms=Terms(destination.origin, destination.protocol, "raw", "none", 1),
            )
            for portion in plan.portions:
                if not self._send_portion(_behind(portion, starts[portion.key])):
                    return False
        return True

    def _send_portion(self, portion: Portion) -> bool:
        assert self._line is not None
        for batch in self._line.old[portion.bundle.signal].of(portion):
            # What is recorded now is not to wait for what was recorded long ago.
            if not (self._deliver(batch, _ledger_knows) and self._interlude()):
                return False
        return True

    def _interlude(self) -> bool:
        self._take_begun(is_open=self._look())
        return bool(self._was_open) and self._send_own()


def _is_said(variable: str) -> bool:
    """Whether a variable of a promise is set, as the configuration reads those."""
    return is_promised(os.environ.get(variable, ""))


def _state_of(path: str) -> tuple[int, ...] | None:
    """Tell states apart as ``signature`` does, and links and modes too.

    A consent that others can write, or that lies elsewhere, is none from that moment on.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode


def _load(destination: Destination) -> None:
    """Import what a request needs; what is missing, ``open_sender`` tells.

    All of it at once, as nothing may be imported at the moment of a fork.
    """
    way = "grpc" if destination.protocol == "grpc" else "http"
    with contextlib.suppress(ImportError):
        import_module(f"stack_composer.telemetry.send.{way}")
    for name in ("gzip", "stack_composer.telemetry.store.unpack"):
        import_module(name)
    user_agent()
    # What looks up a name encodes it so.
    "name".encode("idna")


def _behind(portion: Portion, start: int) -> Portion:
    """Leave out what is before a place."""
    begin = Position(start)
    kept = [
        one._replace(start=max(one.start, begin)) for one in portion.stretches if one.end > begin
    ]
    return portion._replace(stretches=tuple(kept))


def _ledger_knows(_place: Position) -> None:
    """Remember nothing: the next look at what is left asks the ledger."""


def _said(outcome: Outcome) -> str:
    return f"{outcome.status}, {outcome.message}" if outcome.message else outcome.status
