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
    from typing import Final

    from stack_composer.telemetry.model import Resource, Scope

LEARNT_MAX: Final = 65_536
"""Attributes, names and the like remembered of each sort; beyond, all anew."""
LEARNT_BYTES_MAX: Final = 256
"""Longer ones seldom repeat."""

_times = struct.Struct("<xQxQ").unpack_from
_one_double = struct.Struct("<d").unpack_from
_NO_IDS: Final = ("0" * 32, "0" * 16)
_SCALARS: Final = frozenset({str, bool, int, float})


class Reader:
    """Turns OTLP's protobuf messages into batches of records."""

    def __init__(self, shared: Shared | None = None) -> None:
        self.shared = Shared() if shared is None else shared
        self._pairs: dict[bytes, tuple[str, Any]] = {}
        self._names: dict[bytes, str] = {}
        self._details: dict[tuple[int, bytes], SpanDetails] = {}
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
        for at, end in wire.parts(data, 0, len(data), 0x0A):
            yield from self._resource_spans(data, at, end, budget, counts)

    def _resource_spans(
        self, data: bytes, at: int, end: int, budget: wire.Budget, counts: otlp.Counts
    ) -> Iterator[Batch]:
        resource = self._resource(data, at, end, budget, counts)
        for first, last in wire.parts(data, at, end, 0x12):
            budget.take()
            scope = self._scope(data, first, last, budget, counts)
            spans = self._spans(data, first, last, scope, budget, counts)
            if spans:
                yield Batch("traces", resource, scope, spans)

    def _resource(
        self, data: bytes, at: int, end: int, budget: wire.Budget, counts: otlp.Counts
    ) -> Resource:
        raw = b"".join([data[a:b] for a, b in wire.parts(data, at, end, 0x0A)])
        url = _last_text(data, at, end, counts)
        known = self._resources.get((raw, url))
        if known is None:
            given = wire.decode_message(wire.RESOURCE, raw, 0, len(raw), budget, counts)
            known = self.shared.resource(given, url)
            _learn(self._resources, (raw, url), known, len(raw))
        return known

    def _scope(
        self, data: bytes, at: int, end: int, budget: wire.Budget, counts: otlp.Counts
    ) -> Scope:
        raw = b"".join([data[a:b] for a, b in wire.parts(data, at, end, 0x0A)])
        url = _last_text(data, at, end, counts)
        known = self._scopes.get((raw, url))
        if known is None:
            given = wire.decode_message(wire.SCOPE, raw, 0, len(raw), budget, counts)
            known = self.shared.scope(given, url)
            _learn(self._scopes, (raw, url), known, len(raw))
        return known

    def _spans(
        self,
        data: bytes,
        at: int,
        end: int,
        scope: Scope,
        budget: wire.Budget,
        counts: otlp.Counts,
    ) -> list[Any]:
        parts = list(wire.parts(data, at, end, 0x12))
        budget.take(len(parts))
        spans = []
        for first, last in parts:
            span = self._plain_span(data, first, last, scope, budget, counts)
            if span is None:
                given = wire.decode_message(wire.SPAN, data, first, last, budget, counts)
                span = span_of(_mended_span(given, counts), scope, counts)
            spans.append(span)
        return spans

    def _plain_span(  # noqa: C901, PLR0911, PLR0912, PLR0915 - see the module: few calls
        self,
        data: bytes,
        at: int,
        end: int,
        scope: Scope,
        budget: wire.Budget,
        counts: otlp.Counts,
    ) -> ReceivedSpan | None:
        """Read a span as SDKs write it; None for any other, or a broken one."""
        if data[at : at + 2] != b"\n\x10" or data[at + 18 : at + 20] != b"\x12\x08":
            return None
        trace_id = data[at + 2 : at + 18].hex()
        span_id = data[at + 20 : at + 28].hex()
        if end - at < 47 or trace_id == _NO_IDS[0] or span_id == _NO_IDS[1]:
            return None
        at += 28
        parent_id = ""
        if data[at] == 0x22:
            if data[at + 1] != 8:
                return None
            parent_id = data[at + 2 : at + 10].hex()
            if parent_id == _NO_IDS[1]:
                return None
            at += 10
        if end - at < 21 or data[at] != 0x2A:
            return None
        size = data[at + 1]
        if size > 127:
            return None
        at += 2
        raw = data[at : at + size]
        name = self._names.get(raw)
        if name is None:
            name = self._name(raw)
            if name is None:
                return None
        at += size
        kind = 0
        if end - at < 18:
            return None
        if data[at] == 0x30:
            kind = data[at + 1]
            if kind > 127:
                return None
            at += 2
            if end - at < 18:
                return None
        if data[at] != 0x39 or data[at + 9] != 0x41:
            return None
        start_ns, end_ns = _times(data, at)
        at += 18
        attributes: dict[str, Any] | None = None
        if at < end and data[at] == 0x4A:
            attributes = {}
            pairs = self._pairs
            while at < end and data[at] == 0x4A:
                if at + 1 >= end:
                    return None
                size = data[at + 1]
                at += 2
                if size > 127:
                    if at >= end or data[at] > 127:
                        return None
                    size += (data[at] << 7) - 128
                    at += 1
                after = at + size
                if after > end:
                    return None
                raw = data[at:after]
                pair = pairs.get(raw)
                if pair is None:
                    pair = self._pair(raw, budget, counts)
                attributes[pair[0]] = pair[1]
                at = after
        status = b""
        remote = False
        if at < end:
            if data[at] == 0x7A:
                if at + 1 >= end or data[at + 1] > 127:
                    return None
                after = at + 2 + data[at + 1]
                if after > end:
                    return None
                status = data[at + 2 : after]
                at = after
            if at < end:
                if end - at != 6 or data[at] != 0x85 or data[at + 1] != 0x01:
                    return None
                remote = data[at + 3] & (REMOTE >> 8) != 0
        details = self._details.get((kind, status))
        if details is None:
            details = self._plain_details(kind, status, budget, counts)
        span = ReceivedSpan()
        span.scope = scope
        span.name = name
        span.attributes = attributes
        span.parent = (
            RemoteParent(trace_id, parent_id, 1, "", is_remote=remote) if parent_id else None
        )
        span.start_ns = start_ns
        span.end_ns = end_ns
        span.trace_id = trace_id
        span.span_id = span_id
        span.details = details
        return span

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

    def _plain_pair(self, raw: bytes) -> tuple[str, Any] | None:  # noqa: C901, PLR0911 - as above
        """Read a key with a text or number; None for any other pair, or a broken one."""
        size = len(raw)
        if size < 6 or raw[0] != 0x0A or raw[1] > 127:
            return None
        at = raw[1] + 2
        if size - at < 4 or raw[at] != 0x12:
            return None
        inner = raw[at + 1]
        if inner != size - at - 2 or inner > 127:
            return None
        key = self._names.get(raw[2:at])
        if key is None:
            key = self._name(raw[2:at])
            if key is None:
                return None
        tag = raw[at + 2]
        at += 3
        if tag == 0x0A:
            if raw[at] != size - at - 1:
                return None
            try:
                return key, raw[at + 1 :].decode()
            except UnicodeDecodeError:
                return None
        if tag == 0x18:
            return _plain_integer(key, raw, at)
        if tag == 0x21 and size - at == 8:
            return key, _one_double(raw, at)[0]
        return None

    def _plain_details(
        self, kind: int, status: bytes, budget: wire.Budget, counts: otlp.Counts
    ) -> SpanDetails:
        # Shared by all spans that say the same: nobody changes the details of a span
        # that came from elsewhere.
        raw = b"\x30" + bytes([kind]) + (b"\x7a" + bytes([len(status)]) + status)
        given = wire.decode_message(wire.SPAN, raw, 0, len(raw), budget, counts)
        details = span_of(given, self.shared.scope(otlp.Scope(), ""), counts).details
        assert details is not None, "what is received has details"
        _learn(self._details, (kind, status), details, len(status))
        return details


def _plain_integer(key: str, raw: bytes, at: int) -> tuple[str, int] | None:
    value = shift = 0
    while at < len(raw) and shift < 56:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (key, value) if at == len(raw) else None
        shift += 7
    return None


def _learn(known: dict[Any, Any], key: Any, value: Any, size: int) -> None:
    if size > LEARNT_BYTES_MAX:
        return
    if len(known) >= LEARNT_MAX:
        known.clear()
    known[key] = value


def _last_text(data: bytes, at: int, end: int, counts: otlp.Counts) -> str:
    """Give the schema's URL of a list of spans, which is field 3."""
    text = ""
    for first, last in wire.parts(data, at, end, 0x1A):
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
                    record.trace_id = _id(record.trace_id, 32, counts)
                    record.span_id = _id(record.span_id, 16, counts)
    return data


def _mended_span(span: otlp.Span, counts: otlp.Counts) -> otlp.Span:
    span.trace_id = _id(span.trace_id, 32, counts)
    span.span_id = _id(span.span_id, 16, counts)
    span.parent_span_id = _id(span.parent_span_id, 16, counts)
    for link in span.links:
        link.trace_id = _id(link.trace_id, 32, counts)
        link.span_id = _id(link.span_id, 16, counts)
    return span


def _id(text: str, length: int, counts: otlp.Counts) -> str:
    if not text or (len(text) == length and text.strip("0")):
        return text
    counts["bad_id"] += 1
    return ""
