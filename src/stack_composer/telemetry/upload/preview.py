"""Show what would leave, before anything does: sums for people, or the very bytes.

Both walk through the same batches that ``run`` sends, so what is shown is what leaves.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from stack_composer.telemetry.errors import LineRefusedError, StoreError
from stack_composer.telemetry.send.proxies import proxy_for
from stack_composer.telemetry.send.sender import message_of
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.upload.batches import maker_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Final

    from stack_composer.telemetry.send.destination import Destination
    from stack_composer.telemetry.send.sender import Message
    from stack_composer.telemetry.upload.batches import AnyBatch
    from stack_composer.telemetry.upload.plan import Plan
    from stack_composer.telemetry.upload.pseudonyms import Pseudonyms

APART_MAX: Final = 10_000
"""Names, and attribute keys, that are counted apart; all beyond count as one."""
OTHERS: Final = "(others)"

# Every stored line is written by our encoder, without blanks. In a text the quotes would
# be behind backslashes, so this finds keys alone.
_KEY: Final = re.compile(rb'\{"key":"((?:[^"\\]|\\.)*)"')


class Survey:
    """What a plan would send.

    Attributes:
        requests: How many.
        records: Spans, data points and log records, by signal.
        plain_bytes: Of all bodies, before packing.
        packed_bytes: Of all bodies, as they would leave.
        names: Of spans and metrics, with how many records each has.
        keys: Of attributes, of records and what they stand in, with how often.
        first_ns: The earliest time of a record, Unix nanoseconds; 0 if none tells any.
        last_ns: The latest one.
        bundles: From which something would leave.
        oddities: What reading left out, by name.
        unread: Bundles that cannot be read.
    """

    __slots__ = (
        "bundles",
        "first_ns",
        "keys",
        "last_ns",
        "names",
        "oddities",
        "packed_bytes",
        "plain_bytes",
        "records",
        "requests",
        "unread",
    )

    def __init__(self) -> None:
        self.requests = self.plain_bytes = self.packed_bytes = 0
        self.first_ns = self.last_ns = 0
        self.bundles = 0
        self.records: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()
        self.unread: list[StoreError] = []

    def add(self, batch: AnyBatch, message: Message) -> None:
        """Count what one request would send."""
        self.requests += 1
        self.records[batch.signal] += batch.records
        self.plain_bytes += len(batch.body)
        self.packed_bytes += len(message.body)
        sketch = Sketch()
        for line in batch.lines:
            try:
                sketch.add_line(batch.signal, line)
            except LineRefusedError:
                continue  # It is in no request either.
            self._add_keys(line)
        for name, stats in sketch.spans.items():
            _add(self.names, name, stats.count)
        for (name, _, _), series in sketch.metrics.items():
            _add(self.names, name, series.points)
        self.last_ns = max(self.last_ns, sketch.last_ns)
        if sketch.first_ns and (not self.first_ns or sketch.first_ns < self.first_ns):
            self.first_ns = sketch.first_ns

    def _add_keys(self, line: bytes) -> None:
        for written, count in Counter(_KEY.findall(line)).items():
            _add(self.keys, json.loads(b'"' + written + b'"'), count)


def _add(counted: Counter[str], text: str, count: int) -> None:
    if text not in counted and len(counted) >= APART_MAX:
        text = OTHERS
    counted[text] += count


def messages(
    plan: Plan, destination: Destination, pseudonyms: Pseudonyms, survey: Survey
) -> Iterator[tuple[AnyBatch, Message]]:
    """Yield what would leave, one request after the other; nothing is sent.

    Args:
        plan: What is to be sent.
        destination: To whom.
        pseudonyms: What hashes ids once more.
        survey: Takes what is noticed on the way.

    Raises:
        SendError: The destination does not take what is planned.
    """
    maker = maker_of(plan.terms, destination, pseudonyms)
    survey.oddities = maker.oddities
    for portion in plan.portions:
        batches: Iterator[AnyBatch] = maker.of(portion)
        survey.bundles += 1
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                break
            except StoreError as error:
                survey.unread.append(error)
                break
            yield (
                batch,
                message_of(destination, batch.signal, batch.body, batch.records, batch.name),
            )


def survey_of(
    plan: Plan,
    destination: Destination,
    pseudonyms: Pseudonyms,
    watch: Callable[[Survey], None] = lambda _survey: None,
) -> Survey:
    """Count all that would leave: exact, and as much work as sending without the network.

    Raises:
        SendError: As ``messages``.
    """
    survey = Survey()
    for batch, message in messages(plan, destination, pseudonyms, survey):
        survey.add(batch, message)
        watch(survey)
    return survey


def http_text(destination: Destination, message: Message) -> bytes:
    """Write a request as it goes over the wire in HTTP/1.1; credentials are named only.

    A query may be a signature, and so is left out too.

    gRPC frames its messages itself: there, the message stands behind its path and length.
    """
    url, query, _ = message.url.partition("?")
    host, _, path = url.partition("://")[2].partition("/")
    path += f"{query}..." if query else ""
    is_grpc = destination.protocol_of(message.signal) == "grpc"
    version = "HTTP/2" if is_grpc else "HTTP/1.1"
    headers = {"host": host, "accept-encoding": "identity", "content-length": len(message.body)}
    if is_grpc:
        del headers["accept-encoding"]
    lines = [f"{method_of(destination, message.signal)} /{path} {version}"]
    for name, text in {**headers, **message.headers, **credentials_of(destination)}.items():
        lines.append(f"{name}: {text}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + message.body


def method_of(destination: Destination, signal: str) -> str:
    """The HTTP method of a request."""
    return "PUT" if destination.protocol_of(signal) == "put" else "POST"


def credentials_of(destination: Destination) -> dict[str, str]:
    """Names of the headers that are added when sending, each with where it comes from."""
    if destination.headers_from == "keychain":
        return {"(headers)": "(what the keychain has for this destination)"}
    names = dict.fromkeys(
        name for signal in destination.signals for name in destination.way_of(signal).headers
    )
    return dict.fromkeys(names, "(from the environment, not shown)")


def proxy_text(destination: Destination, environ: Mapping[str, str]) -> str:
    """Which proxy requests go through, and which variable says so; "" for none.

    Raises:
        SendError: The proxy is of a kind that is not supported.
    """
    proxy = proxy_for(destination.url_of(destination.signals[0], "name"), environ)
    return "" if proxy is None else f"{proxy.url} ({proxy.variable})"
