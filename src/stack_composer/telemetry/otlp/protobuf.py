"""Decode OTLP's protobuf into batches of records, quickly where it is plain.

A span as the SDKs write it (fields in order, attributes, a status, flags) is read by
``_plain_span``, straight into a record: no struct in between, few calls, and what
repeats itself is looked up by its bytes: a whole attribute, a name, a status. It gives
up at the first byte that it did not expect, and ``wire`` reads that span, thoroughly;
both give the same record, which is a test. Metrics, logs, events and links always go by
``wire``.

A ``Reader`` keeps what it learnt from one message to the next; it is bounded, and not
for several threads.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.model import RemoteParent, SpanDetails
from stack_composer.telemetry.otlp import wire
from stack_composer.telemetry.otlp.records import (
    REMOTE,
    Batch,
    ReceivedSpan,
    Shared,
    batches_of,
    span_of,
)
from stack_composer.telemetry.store import otlp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, TypeAlias

    from stack_composer.telemetry.model import Resource, Scope

    _Fields: TypeAlias = dict[int, list[tuple[int, int]]]
    """Where the messages of each tag begin and end."""

LEARNT_MAX: Final = 65_536
"""Attributes, names and the like remembered of each sort; beyond, all anew."""
LEARNT_BYTES_MAX: Final = 256
"""Longer ones seldom repeat."""

# Ids that are not all zero; perhaps a parent's; how long the name behind it is.
_head = re.compile(
    rb"\n\x10(?!\0{16})(.{16})\x12\x08(?!\0{8})(.{8})"
    rb"(?:\x22\x08(?!\0{8})(.{8}))?\x2a([\0-\x7f])",
    re.DOTALL,
).match
# Behind the name: perhaps a kind; both times.
_middle = re.compile(rb"(?:\x30([\0-\x7f]))?\x39(.{8}\x41.{8})", re.DOTALL).match
# Behind the attributes: perhaps a status, with its length; perhaps flags.
_end = re.compile(rb"(?:\x7a([\0-\x7f])(.*?))?(?:\x85\x01.{4})?", re.DOTALL).fullmatch
_times = struct.Struct("<QxQ").unpack
_one_double = struct.Struct("<d").unpack_from
_SCALARS: Final = frozenset({str, bool, int, float})


class Reader:
    """Turns OTLP's protobuf messages into batches of records."""

    def __init__(self, shared: Shared | None = None) -> None:
        self.shared = Shared() if shared is None else shared
        self._pairs: dict[bytes, tuple[str, Any]] = {}
        self._names: dict[bytes, str] = {}
        self._ends: dict[tuple[bytes | None, bytes], tuple[SpanDetails, bool]] = {}
        self._resources: dict[tuple[bytes, str], Resource] = {}
        self._scopes: dict[tuple[bytes, str], Scope] = {}

    def batches(self, signal: str, data: bytes, counts: otlp.Counts) -> Iterator[Batch]:
        """Decode one ``Export*ServiceRequest`` or ``*Data``, batch by batch.

        A message that is refused may have given batches before the place that is wrong:
        whoever must take all or nothing makes a list first.

        Raises:
            LineRefusedError: It is no such message; nothing of it is quoted.
        """
        if signal != "traces":
            yield from batches_of(
                mended(wire.decode(signal, data, counts), counts), self.shared, counts
            )
            return
        budget = wire.Budget()
        for resource, scope, places in self.places(data, budget, counts):
            spans = [self.span(data, at, end, scope, budget, counts) for at, end in places]
            if spans:
                yield Batch("traces", resource, scope, spans)

    def places(
        self, data: bytes, budget: wire.Budget, counts: otlp.Counts
    ) -> Iterator[tuple[Resource, Scope, list[tuple[int, int]]]]:
        """Give whose spans a message holds, and where each of them begins and ends.

        Raises:
            LineRefusedError: As ``batches``.
        """
        for at, end in wire.parts(data, 0, len(data), 0x0A):
            held = _fields(data, at, end, budget)
            resource = self._resource(data, held, budget, counts)
            for first, last in held[0x12]:
                budget.take()
                some = _fields(data, first, last, budget)
                scope = self._scope(data, some, budget, counts)
                spans = some[0x12]
                budget.take(len(spans))
                yield resource, scope, spans

    def span(
        self,
        data: bytes,
        at: int,
        end: int,
        scope: Scope,
        budget: wire.Budget,
        counts: otlp.Counts,
    ) -> ReceivedSpan:
        """Decode the span that lies between two places of ``data``.

        Raises:
            LineRefusedError: As ``batches``.
        """
        span = self._plain_span(data, at, end, scope, budget, counts)
        if span is None:
            given = wire.decode_message(wire.SPAN, data, at, end, budget, counts)
            otlp.mend_span(given, _id, counts)
            span = span_of(given, scope, counts)
        return span

    def _resource(
        self, data: bytes, held: _Fields, budget: wire.Budget, counts: otlp.Counts
    ) -> Resource:
        raw, url = _first_and_url(data, held, counts)
        known = self._resources.get((raw, url))
        if known is None:
            given = wire.decode_message(wire.RESOURCE, raw, 0, len(raw), budget, counts)
            known = self.shared.resource(given, url)
            _learn(self._resources, (raw, url), known, len(raw))
        return known

    def _scope(self, data: bytes, held: _Fields, budget: wire.Budget, counts: otlp.Counts) -> Scope:
        raw, url = _first_and_url(data, held, counts)
        known = self._scopes.get((raw, url))
        if known is None:
            given = wire.decode_message(wire.SCOPE, raw, 0, len(raw), budget, counts)
            known = self.shared.scope(given, url)
            _learn(self._scopes, (raw, url), known, len(raw))
        return known

    def _plain_span(
        self,
        data: bytes,
        at: int,
        end: int,
        scope: Scope,
        budget: wire.Budget,
        counts: otlp.Counts,
    ) -> ReceivedSpan | None:
        """Read a span as SDKs write it; None for any other, or a broken one."""
        head = _head(data, at, end)
        if head is None:
            return None
        trace_id, span_id, parent_id, size = head.groups()
        at = head.end()
        after = at + size[0]
        middle = _middle(data, after, end)
        if middle is None:
            return None
        raw = data[at:after]
        name = self._names.get(raw)
        if name is None:
            name = self._name(raw)
            if name is None:
                return None
        attributes: dict[str, Any] = {}
        at = self._plain_attributes(data, middle.end(), end, attributes, budget, counts)
        if at < 0:
            return None
        kind, times = middle.groups()
        told = self._ends.get((kind, data[at:end]))
        if told is None:
            told = self._plain_end(kind, data[at:end], budget, counts)
            if told is None:
                return None
        details, remote = told
        span = ReceivedSpan()
        span.scope = scope
        span.name = name
        span.attributes = attributes or None
        span.trace_id = trace = trace_id.hex()
        span.span_id = span_id.hex()
        span.parent = (
            RemoteParent(trace, parent_id.hex(), 1, "", is_remote=remote) if parent_id else None
        )
        span.start_ns, span.end_ns = _times(times)
        span.details = details
        return span

    def _plain_attributes(
        self,
        data: bytes,
        at: int,
        end: int,
        found: dict[str, Any],
        budget: wire.Budget,
        counts: otlp.Counts,
    ) -> int:
        """Read attributes into ``found``; the place behind them, or -1 if one is broken."""
        pairs = self._pairs
        while at < end and data[at] == 0x4A:
            if at + 2 >= end:
                return -1
            size = data[at + 1]
            at += 2
            if size > 127:
                if data[at] > 127:
                    return -1
                size += (data[at] << 7) - 128
                at += 1
            after = at + size
            if after > end:
                return -1
            raw = data[at:after]
            pair = pairs.get(raw)
            if pair is None:
                pair = self._pair(raw, budget, counts)
            found[pair[0]] = pair[1]
            at = after
        return at

    def _name(self, raw: bytes) -> str | None:
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            return None
        _learn(self._names, raw, name, len(raw))
        return name

    def _pair(self, raw: bytes, budget: wire.Budget, counts: otlp.Counts) -> tuple[str, Any]:
        pair = self._plain_pair(raw)
        if pair is None:
            given = wire.decode_message(wire.KEY_VALUE, raw, 0, len(raw), budget, counts, 2)
            pair = given.key, otlp.value_of(given.value)
            if type(pair[1]) not in _SCALARS:
                return pair
        _learn(self._pairs, raw, pair, len(raw))
        return pair

    def _plain_pair(self, raw: bytes) -> tuple[str, Any] | None:
        """Read a key with a text or number; None for any other pair, or a broken one."""
        size = len(raw)
        if not 6 <= size < 128 or raw[0] != 0x0A:
            return None
        at = raw[1] + 2
        # Behind the key stands its value, and nothing behind that.
        if size - at < 4 or raw[at] != 0x12 or raw[at + 1] != size - at - 2:
            return None
        key = self._names.get(raw[2:at])
        if key is None:
            key = self._name(raw[2:at])
        value = _plain_value(raw, at + 2)
        return None if key is None or value is None else (key, value)

    def _plain_end(
        self, kind: bytes | None, raw: bytes, budget: wire.Budget, counts: otlp.Counts
    ) -> tuple[SpanDetails, bool] | None:
        """What a kind, and a status and flags at the end, say; None if more is there.

        Shared by all spans that say the same: nobody changes the details of a span that
        came from elsewhere.
        """
        end = _end(raw)
        if end is None or (end[1] and len(end[2]) != end[1][0]):
            return None
        field = b"\x30" + (kind or b"\0")
        given = wire.decode_message(
            wire.SPAN, field + raw, 0, len(field) + len(raw), budget, counts
        )
        details = span_of(given, self.shared.scope(otlp.Scope(), ""), counts).details
        assert details is not None, "what is received has details"
        told = details, bool(given.flags & REMOTE)
        _learn(self._ends, (kind, raw), told, len(raw))
        return told


def _plain_value(raw: bytes, at: int) -> str | int | float | None:
    """Read a text, an integer or a double that ends with ``raw``; None for all else."""
    tag = raw[at]
    at += 1
    if tag == 0x0A and raw[at] == len(raw) - at - 1:
        try:
            return raw[at + 1 :].decode()
        except UnicodeDecodeError:
            return None
    if tag == 0x18:
        return _plain_integer(raw, at)
    if tag == 0x21 and len(raw) - at == 8:
        return float(_one_double(raw, at)[0])
    return None


def _plain_integer(raw: bytes, at: int) -> int | None:
    value = shift = 0
    while at < len(raw) and shift < 56:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value if at == len(raw) else None
        shift += 7
    return None


def _learn(known: dict[Any, Any], key: Any, value: Any, size: int) -> None:
    if size > LEARNT_BYTES_MAX:
        return
    if len(known) >= LEARNT_MAX:
        known.clear()
    known[key] = value


def _fields(data: bytes, at: int, end: int, budget: wire.Budget) -> _Fields:
    """Find all messages of a list of spans, or of a list of such lists, in one walk."""
    found: _Fields = {0x0A: [], 0x12: [], 0x1A: []}
    # Each takes two bytes at least: so few bytes need no count.
    may_be_many = end - at > 2 * budget.left
    while at < end:
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = wire.varint(data, at - 1, end)
        places = found.get(tag)
        if places is None:
            at = wire.skip(data, at, end, tag)
            continue
        # Sizes of up to two bytes are read here: a call per span costs as much as all else.
        size = data[at] if at < end else 128
        at += 1
        if size > 127:
            more = data[at] if at < end else 128
            if more < 128:
                size += (more << 7) - 128
                at += 1
            else:
                size, at = wire.varint(data, at - 1, end)
        if size > end - at:
            raise wire.refused(at)
        places.append((at, at + size))
        at += size
        if may_be_many and len(places) > budget.left:
            budget.take(len(places))
    return found


def _first_and_url(data: bytes, held: _Fields, counts: otlp.Counts) -> tuple[bytes, str]:
    """Give the message in field 1, a resource or a scope, and the URL of its schema."""
    return b"".join([data[a:b] for a, b in held[0x0A]]), _last_text(data, held, counts)


def _last_text(data: bytes, held: _Fields, counts: otlp.Counts) -> str:
    """Give the schema's URL of a list of spans, which is field 3."""
    text = ""
    for first, last in held[0x1A]:
        raw = data[first:last]
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            counts["not_strict"] += 1
            text = raw.decode("utf-8", "replace")
    return text


def mended(data: Any, counts: otlp.Counts) -> Any:
    """Give decoded data with ids that are none taken out, as JSON is read."""
    if isinstance(data, otlp.LogsData):
        for held in data.resource_logs:
            for some in held.scope_logs:
                for record in some.log_records:
                    otlp.mend_log(record, _id, counts)
    return data


def _id(text: str, length: int, counts: otlp.Counts) -> str:
    # Not ``otlp.id_of``: what was bytes is never base64, though its digits may look so.
    if not text or (len(text) == length and text.strip("0")):
        return text
    counts["bad_id"] += 1
    return ""
