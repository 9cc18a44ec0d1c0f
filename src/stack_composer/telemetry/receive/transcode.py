"""Turn requests of OTLP into guarded lines: decode, judge, encode, all of it or nothing.

Records of one program and one library share lines, of ``LINE_RECORDS`` records at most,
however many pieces a request has them in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp.recognise import JSON_KEYS, keys_of
from stack_composer.telemetry.otlp.records import batches_of
from stack_composer.telemetry.receive.quick_spans import QuickSpans
from stack_composer.telemetry.store import otlp
from stack_composer.telemetry.store.seal import LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator
    from typing import Final

    from stack_composer.telemetry.model import Resource, Scope
    from stack_composer.telemetry.otlp.protobuf import Reader
    from stack_composer.telemetry.otlp.records import Batch
    from stack_composer.telemetry.outputs import Encoders
    from stack_composer.telemetry.store.sketch import Sketch

LINE_RECORDS: Final = 512
"""Records of one line, as the pipeline writes them."""
PARTS_MAX: Final = 2_000_000
"""Objects within one request of JSON, as ``wire.MESSAGES_MAX`` for protobuf."""


class Transcoder:
    """Turns bodies of requests into lines. Keeps what it learnt; not for several threads.

    Args:
        encoders: What lines are made with, and by that the guard.
        reader: What decodes protobuf.
    """

    def __init__(self, encoders: Encoders, reader: Reader) -> None:
        self._encoders = encoders
        self._reader = reader
        self._spans = QuickSpans(encoders._spans, reader, LINE_RECORDS)

    def lines(
        self, signal: str, data: bytes, counts: Counter[str], *, is_json: bool = False
    ) -> list[tuple[bytes, Sketch, int]]:
        """Decode, guard and encode one ``Export*ServiceRequest``: all of it or nothing.

        Args:
            signal: "traces", "metrics" or "logs".
            data: The body, unpacked.
            counts: Is told what was mended or left out.
            is_json: Whether the body is OTLP's JSON rather than protobuf.

        Returns:
            Lines, each with its sketch and how many spans, log records or data points it
            holds; none for a request that holds none. A metric of more than
            ``LINE_RECORDS`` points stays in one line.

        Raises:
            LineRefusedError: It is no such request, or a line would be longer than a
                bundle may hold; nothing of it is quoted.
        """
        made = []
        if signal == "traces" and not is_json:
            lines = self._spans.lines(data, counts)
        else:
            lines = self._by_records(signal, data, counts, is_json=is_json)
        for line, sketch in lines:
            if len(line) > LINE_BYTES_MAX:
                raise LineRefusedError(f"makes a line of more than {LINE_BYTES_MAX:,} bytes")
            made.append((line, sketch, sketch.records))
        return made

    def _by_records(
        self, signal: str, data: bytes, counts: Counter[str], *, is_json: bool
    ) -> Iterator[tuple[bytes, Sketch]]:
        """Decode all of a request to records, then judge and encode it, line by line."""
        batches = list(self._batches(signal, data, counts, is_json=is_json))
        if signal == "logs":
            _observe(batches)
        for (resource, _), records in _by_place(batches):
            for some in _cut(signal, records):
                yield self._encoders.encode(signal, resource, some)

    def _batches(
        self, signal: str, data: bytes, counts: Counter[str], *, is_json: bool
    ) -> Iterator[Batch]:
        if not is_json:
            return self._reader.batches(signal, data, counts)
        if data.count(b"{") > PARTS_MAX:
            raise LineRefusedError(f"holds more than {PARTS_MAX:,} objects")
        try:
            decoded = otlp.decode_line(signal, data, counts)
        except LineRefusedError:
            keys = keys_of(data)
            if not keys or keys & JSON_KEYS.keys():
                raise
            # A newer kind of request, perhaps: what is not known is passed over (OTLP.md, C1).
            return iter(())
        return batches_of(decoded, self._reader.shared, counts)


def _observe(batches: Iterable[Batch]) -> None:
    """Give log records that tell no time at all the present one: it was observed here.

    Source: OpenTelemetry's data model of logs, "ObservedTimestamp".
    """
    now_ns = effects.wall_ns()
    for batch in batches:
        for record in batch.records:
            record.observed_ns = record.observed_ns or now_ns


def _by_place(batches: Iterable[Batch]) -> list[tuple[tuple[Resource, Scope], list[Any]]]:
    """Join the records of one program and one library, in the order of their first."""
    places: dict[tuple[Resource, Scope], list[Any]] = {}
    for batch in batches:
        places.setdefault((batch.resource, batch.scope), []).extend(batch.records)
    return list(places.items())


def _cut(signal: str, records: list[Any]) -> Iterator[list[Any]]:
    """Cut records into what one line takes."""
    if signal != "metrics":
        for at in range(0, len(records), LINE_RECORDS):
            yield records[at : at + LINE_RECORDS]
        return
    some: list[Any] = []
    points = 0
    for metric in records:
        if some and points + len(metric.points) > LINE_RECORDS:
            yield some
            some, points = [], 0
        some.append(metric)
        points += len(metric.points)
    yield some
