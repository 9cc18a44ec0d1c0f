"""Bring files into the telemetry folder: cut, decode, guard, encode, store.

What is read becomes records, and records go the way of all records: through the guard,
by the encoder, into bundles. So it does not matter who wrote them, or whether another
computer's guard has seen them. A message is taken whole or refused whole, by its number;
``store.intake`` and ``imports.ledger`` see to it that it counts once.

Memory is bounded: by one message decoded (64 MiB, two million parts), by
``PENDING_MAX`` records that wait for others of their program, and by the ledger.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.imports import messages, plain, source
from stack_composer.telemetry.imports.ledger import Ledger, keys_of
from stack_composer.telemetry.model import SIGNALS, Resource
from stack_composer.telemetry.otlp import recognise
from stack_composer.telemetry.otlp.protobuf import Reader
from stack_composer.telemetry.otlp.records import batches_of, count_of
from stack_composer.telemetry.store import otlp
from stack_composer.telemetry.store.intake import Intake, read_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final

    from stack_composer.telemetry.imports.messages import Message
    from stack_composer.telemetry.model import Scope
    from stack_composer.telemetry.otlp.records import Batch
    from stack_composer.telemetry.outputs import Encoders
    from stack_composer.telemetry.store.encrypted.intake import DatabaseIntake
    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.reader import BundleInfo

LINE_RECORDS: Final = 512
"""Records of one line, as the pipeline writes them."""
PENDING_MAX: Final = 8_192
REFUSALS_KEPT_MAX: Final = 20
HOPELESS: Final = 10_000
"""After so many refused messages, and none that was taken, a file is left."""

_OPENINGS: Final = {
    b'{"resourceSpans":': ("traces", (b'"resourceMetrics"', b'"resourceLogs"')),
    b'{"resourceMetrics":': ("metrics", (b'"resourceSpans"', b'"resourceLogs"')),
    b'{"resourceLogs":': ("logs", (b'"resourceSpans"', b'"resourceMetrics"')),
}
_OURS: Final = Resource({"service.name": "stack-composer telemetry import"})
_PARTS_MAX: Final = 2_000_000
"""Objects within one message of JSON, as ``wire.MESSAGES_MAX`` for protobuf."""


class FileReport:
    """What became of one file.

    Attributes:
        path: As it was named.
        form: What it is: one of the constants of ``messages``, with its packing.
        records: New ones by signal.
        messages: How many were taken, and how many of them were known before.
        refused: How many were not.
        first: Up to ``REFUSALS_KEPT_MAX`` texts that name message and fault, and quote
            nothing.
        oddities: What was mended or left out.
        error: Why the file could not be read to its end, or None.
    """

    __slots__ = (
        "error",
        "first",
        "form",
        "known",
        "messages",
        "oddities",
        "path",
        "records",
        "refused",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.form = ""
        self.records: Counter[str] = Counter()
        self.messages = self.known = self.refused = 0
        self.first: list[str] = []
        self.oddities: Counter[str] = Counter()
        self.error: source.SourceError | None = None

    def refuse(self, number: int, why: str) -> None:
        """Note that a message is left out."""
        self.refused += 1
        if len(self.first) < REFUSALS_KEPT_MAX:
            what = "line" if self.form == messages.LINES else "message"
            self.first.append(f"{what} {number} {why}")


class Importer:
    """One import: files one after the other, then ``finish``.

    Args:
        directory: The telemetry folder.
        encoders: What lines are made with.
        bundle_bytes_max: Where a bundle ends, unpacked; a message never straddles two.
        salt: What keys the ledger.
        bundles: What is in the store now.
        keys: Where the key of the encrypted store is, if what is imported goes there.
        dry_run: Do all but write.
        signal: What protobuf messages hold, where nothing in them tells.
    """

    def __init__(
        self,
        directory: str,
        encoders: Encoders,
        *,
        bundle_bytes_max: int,
        salt: bytes,
        bundles: Sequence[BundleInfo],
        keys: Keys | None = None,
        dry_run: bool = False,
        signal: str | None = None,
    ) -> None:
        key, key_id = keys_of(salt)
        self._ledgers = {name: Ledger(key) for name in SIGNALS}
        for name, digests in read_pages(directory, bundles, key_id):
            self._ledgers[name].load(digests)
        self._intake: Intake | DatabaseIntake | None = None
        if keys is not None and not dry_run:
            from stack_composer.telemetry.store.encrypted.intake import DatabaseIntake

            self._intake = DatabaseIntake(directory, key_id=key_id, keys=keys)
        elif not dry_run:
            self._intake = Intake(directory, key_id=key_id)
        self._encoders = encoders
        self._bytes_max = bundle_bytes_max
        self._told_signal = signal
        self._signal = signal
        self._reader = Reader()
        self._pending: dict[str, dict[tuple[Resource, Scope], list[Any]]] = {
            name: {} for name in SIGNALS
        }
        self._pending_counts = dict.fromkeys(SIGNALS, 0)
        self._digests = {name: bytearray() for name in SIGNALS}

    @property
    def forgotten(self) -> int:
        """Messages that a second import would not know again: there are too many."""
        return sum(ledger.forgotten for ledger in self._ledgers.values())

    @property
    def committed(self) -> list[str]:
        """Names of the bundles written so far."""
        return [] if self._intake is None else self._intake.committed

    def read(self, path: str, progress: Callable[[int, int, int], None]) -> FileReport:
        """Import one file; ``progress`` gets bytes read, its size, and records so far.

        A file that cannot be read is no reason to stop: the report says so.

        Raises:
            StoreError: The folder cannot be written.
        """
        report = FileReport(path)
        self._signal = self._told_signal
        for ledger in self._ledgers.values():
            ledger.next_source()
        try:
            self._read(path, report, progress)
        except source.SourceError as error:
            report.error = error
        return report

    def _read(
        self, path: str, report: FileReport, progress: Callable[[int, int, int], None]
    ) -> None:
        with source.Source(path) as file:
            cutter = messages.Cutter(file.pieces(report.oddities), report.oddities, report.refuse)
            try:
                for message in cutter.messages():
                    report.form = cutter.form
                    self._take(message, report)
                    progress(file.read_bytes, file.size, report.records.total())
                    if report.refused >= HOPELESS and not report.messages:
                        raise source.SourceError(
                            f"{path}: the first {HOPELESS:,} messages are none",
                            hint="is it a file of OTLP, or of records?",
                        )
            finally:
                report.form = " ".join(filter(None, (file.packing, cutter.form)))

    def finish(self, said: Callable[[], list[Any]]) -> None:
        """Write what waits, and have all of it count.

        Args:
            said: Gives metrics of the import itself, such as what the guard took out, once
                it has taken it; written only if anything else is.

        Raises:
            StoreError: The folder cannot be written.
        """
        for signal in SIGNALS:
            self._write_all(signal)
        is_anything_new = any(self._digests.values()) or bool(self.committed)
        if self._intake is not None and is_anything_new and (metrics := said()):
            self._intake.append("metrics", *self._encoders.encode("metrics", _OURS, metrics))
        for signal in SIGNALS:
            self._commit(signal)

    def close(self) -> None:
        """Let go of the folder; what does not count is cleared away."""
        if self._intake is not None:
            self._intake.close()

    # -- one message -----------------------------------------------------------------

    def _take(self, message: Message, report: FileReport) -> None:
        counts: Counter[str] = Counter()
        fresh: list[tuple[str, bytes]] = []
        try:
            signals, is_record = self._signals_of(message)
            for signal in signals:
                digest = self._ledgers[signal].admit(message.data)
                if digest is not None:
                    fresh.append((signal, digest))
            # All of it or nothing: a fault near its end must not leave half a message.
            decoded = [
                self._decoded(name, message, counts, is_record=is_record) for name, _ in fresh
            ]
        except LineRefusedError as error:
            for signal, digest in fresh:
                self._ledgers[signal].retract(digest)
            report.refuse(message.number, str(error))
            return
        report.oddities.update(counts)
        report.messages += 1
        report.known += not fresh
        for (signal, digest), batches in zip(fresh, decoded, strict=True):
            report.records[signal] += sum(map(count_of, batches))
            self._store(signal, batches, digest)

    def _signals_of(self, message: Message) -> tuple[list[str], bool]:
        """What a message holds, and whether it is a record of the specification."""
        data = message.data
        if not message.is_json:
            found = recognise.signal_of(data) or self._signal
            if found is None:
                raise LineRefusedError("is protobuf, but does not tell of which signal")
            self._signal = found
            return [found], False
        for opening, (signal, others) in _OPENINGS.items():
            # Our own lines, and most others: one signal, told by its first key.
            if data.startswith(opening) and not any(other in data for other in others):
                return [signal], False
        keys = recognise.keys_of(data)
        held = {recognise.JSON_KEYS[key] for key in keys if key in recognise.JSON_KEYS}
        if held:
            return [signal for signal in SIGNALS if signal in held], False
        record = plain.signal_of(keys)
        if record is not None:
            return [record], True
        # Not strictly JSON, or two objects glued together: the forgiving way decides.
        return [otlp.signal_of(data)], False

    def _decoded(
        self, signal: str, message: Message, counts: Counter[str], *, is_record: bool
    ) -> list[Batch]:
        data = message.data
        if not message.is_json:
            return list(self._reader.batches(signal, data, counts))
        if data.count(b"{") > _PARTS_MAX:
            raise LineRefusedError(f"holds more than {_PARTS_MAX:,} objects")
        if is_record:
            return [plain.batch_of(signal, data, counts)]
        return list(batches_of(otlp.decode_line(signal, data, counts), self._reader.shared, counts))

    # -- records on their way ----------------------------------------------------------

    def _store(self, signal: str, batches: list[Batch], digest: bytes) -> None:
        pending = self._pending[signal]
        for batch in batches:
            place = batch.resource, batch.scope
            waiting = pending.setdefault(place, [])
            waiting += batch.records
            self._pending_counts[signal] += len(batch.records)
            if len(waiting) >= LINE_RECORDS:
                self._write(signal, place, pending.pop(place))
        if self._intake is not None:
            self._digests[signal] += digest
        if self._pending_counts[signal] >= PENDING_MAX:
            self._write_all(signal)
        if self._intake is not None and self._intake.size(signal) >= self._bytes_max:
            self._commit(signal)

    def _write_all(self, signal: str) -> None:
        pending = self._pending[signal]
        while pending:
            place, waiting = pending.popitem()
            self._write(signal, place, waiting)

    def _write(self, signal: str, place: tuple[Resource, Scope], records: list[Any]) -> None:
        self._pending_counts[signal] -= len(records)
        for at in range(0, len(records), LINE_RECORDS):
            line, sketch = self._encoders.encode(signal, place[0], records[at : at + LINE_RECORDS])
            if self._intake is not None:
                self._intake.append(signal, line, sketch)

    def _commit(self, signal: str) -> None:
        self._write_all(signal)
        if self._intake is not None:
            self._intake.commit(signal, bytes(self._digests[signal]))
        self._digests[signal].clear()
