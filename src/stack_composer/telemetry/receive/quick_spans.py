"""From the bytes of spans to guarded lines, without a record in between where it is plain.

Programs say the same things again and again. What was written for an attribute, a name,
a status is remembered as a finished piece of JSON, by the very bytes that it came in; a
span whose bytes are all known is a few lookups and one formatted text.

What is not known costs more, and has one way through: the encoder and its guard, and
nothing is remembered here that the encoder does not remember, so redacted values never
are. A text not met before leaves a gap; the guard is asked for all gaps of a line at
once. A span of any other shape (events, links, a state, a status with a message, a new
name, a new key) is *put off*: decoded to a record, and encoded like any record. By that
a line, its sketch and what the guard counts are the same as by ``Reader.batches`` and
``Encoder.encode_spans``, which is a test.

All of a request is read before the guard is asked anything: what is refused has been
asked nothing. *Drafts* are what is between: a line with its gaps.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.otlp import wire
from stack_composer.telemetry.otlp.protobuf import LEARNT_BYTES_MAX, LEARNT_MAX
from stack_composer.telemetry.receive.span_bytes import (
    BEFORE_TEXT,
    groups_by_size,
    match_span,
    name_and_kind,
    plain_pair,
    unpack_double,
    unpack_times,
)
from stack_composer.telemetry.store.doubles import HOLE
from stack_composer.telemetry.store.encode import PIECES_MAX, _untouch, _without_repeats, opening_of
from stack_composer.telemetry.store.sketch import Sketch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, TypeAlias

    from stack_composer.telemetry.model import KeyVerdict, Resource, Scope
    from stack_composer.telemetry.otlp.protobuf import Reader
    from stack_composer.telemetry.otlp.records import ReceivedSpan
    from stack_composer.telemetry.store.encode import Encoder, _Key, _Name

    _Gap: TypeAlias = tuple[dict[str, str], str, _Key]
    """Whose attributes, the key there, and the key's entry."""


KEPT_MAX: Final = 16_384
"""Spans of one request that are read once; more are read again when they are written."""
_SPLIT_MAX: Final = 16_384
_JOINED: Final = 32


class _Named:
    """A name and a kind, as they are written, and what one line counts under them."""

    __slots__ = ("durations", "errors", "said", "text")

    def __init__(self, name: _Name, kind: int) -> None:
        self.text = name.text
        self.said = f'{name.piece},"kind":{kind},"startTimeUnixNano":"'
        self.durations: list[int] = []
        self.errors = 0


class _Known:
    """A key met before: its text, the encoder's own entry, how many pieces are learnt."""

    __slots__ = ("key", "learnt", "text")

    def __init__(self, text: str, key: _Key) -> None:
        self.text = text
        self.key = key
        self.learnt = 0


class _Draft:
    """A line with its gaps.

    Attributes:
        places: Where each of its spans begins and ends.
        out: What is written for each; "" for what comes late.
        put_off: Spans that are encoded as records, and their numbers.
        unseen: Texts for the guard.
        gaps: What each of them left.
        lessons: The bytes of each, and under which key they may be remembered.
        valued: Values that are no texts to be searched, with their gaps.
        doubles: Finite ones, which are written together, with their gaps.
        late: Spans with gaps: number, attributes, and what stands before and behind.
        starts, ends, traces: Of the spans that are not put off.
        counted: Names, durations and errors of those.
    """

    def __init__(self, resource: Resource, scope: Scope, places: list[tuple[int, int]]) -> None:
        self.resource = resource
        self.scope = scope
        self.places = places
        self.out: list[str] = []
        self.put_off: list[ReceivedSpan] = []
        self.numbers: list[int] = []
        self.unseen: list[tuple[KeyVerdict, str]] = []
        self.gaps: list[_Gap] = []
        self.lessons: list[tuple[_Known, bytes]] = []
        self.valued: list[tuple[_Gap, Any]] = []
        self.doubles: list[tuple[float, _Gap | int]] = []
        self.late: list[tuple[int, dict[str, str], str, str]] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.traces: list[str] = []
        self.counted: list[tuple[str, list[int], int]] = []

    def emptied(self) -> _Draft:
        """Give the same draft, unread."""
        return _Draft(self.resource, self.scope, self.places)

    def marks(self) -> tuple[int, int, int]:
        """How many gaps there are, before a span is read."""
        return len(self.unseen), len(self.valued), len(self.doubles)

    def undo(self, marks: tuple[int, int, int]) -> None:
        """Forget the gaps of a span that is put off after all."""
        del self.unseen[marks[0] :]
        del self.gaps[marks[0] :]
        del self.lessons[marks[0] :]
        del self.valued[marks[1] :]
        del self.doubles[marks[2] :]


class QuickSpans:
    """Turns requests of spans into lines. Keeps what it learnt; not for several threads.

    Args:
        encoder: Of spans, and by that the guard. Others may use it in between.
        reader: What decodes what is not plain.
        line_records: How many spans a line holds.
    """

    def __init__(self, encoder: Encoder, reader: Reader, line_records: int) -> None:
        self._encoder = encoder
        self._reader = reader
        self._line_records = line_records
        self._pairs: dict[bytes, tuple[str, str]] = {}
        self._keys: dict[bytes, _Known] = {}
        self._names: dict[bytes, _Named] = {}
        self._ends: dict[bytes, tuple[str, bool, str]] = {}
        self._forgotten = encoder.forgotten

    def lines(self, data: bytes, counts: Counter[str]) -> Iterator[tuple[bytes, Sketch]]:
        """Read all of a request, then judge and encode it, line by line.

        Raises:
            LineRefusedError: It is no request of spans; the guard was asked nothing.
        """
        self._follow()
        groups: dict[tuple[Resource, Scope], list[tuple[int, int]]] = {}
        budget = wire.Budget()
        for resource, scope, places in self._reader.places(data, budget, counts):
            if places:
                groups.setdefault((resource, scope), []).extend(places)
        drafts: deque[_Draft] = deque()
        kept = 0
        for (resource, scope), places in groups.items():
            for at in range(0, len(places), self._line_records):
                draft = _Draft(resource, scope, places[at : at + self._line_records])
                self._fill(draft, data, budget, counts)
                kept += len(draft.places)
                # Of a huge request no more is kept than that it can be read.
                drafts.append(draft if kept <= KEPT_MAX else draft.emptied())
        return self._finished(drafts, data)

    def _finished(self, drafts: deque[_Draft], data: bytes) -> Iterator[tuple[bytes, Sketch]]:
        has_forgotten = is_later = False
        while drafts:
            draft = drafts.popleft()
            self._encoder.speak_for(draft.resource)
            self._encoder._forget_if_full()
            has_forgotten = self._follow() or has_forgotten
            if has_forgotten or not draft.out:
                # It has pieces of what the encoder has forgotten by now, or none. What is
                # read once more cannot fail, and was counted before.
                draft = draft.emptied()
                self._fill(draft, data, wire.Budget(), Counter())
            elif is_later:
                _look_again(draft)
            is_later = True
            yield self._finish(draft)

    def _follow(self) -> bool:
        """Forget what the encoder has forgotten; True if there was something."""
        if self._forgotten == self._encoder.forgotten:
            return False
        self._forgotten = self._encoder.forgotten
        self._forget()
        return True

    def _forget(self) -> None:
        for known in (self._pairs, self._keys, self._names, self._ends):
            known.clear()

    # -- reading -----------------------------------------------------------------------

    def _fill(self, draft: _Draft, data: bytes, budget: wire.Budget, counts: Counter[str]) -> None:
        touched: list[_Named] = []
        try:
            self._read(draft, data, touched, budget, counts)
        finally:
            draft.counted = [(name.text, name.durations, name.errors) for name in touched]
            for name in touched:
                name.durations, name.errors = [], 0

    def _read(  # noqa: C901, PLR0912, PLR0915 - the loop of each span, as the encoder's
        self,
        draft: _Draft,
        data: bytes,
        touched: list[_Named],
        budget: wire.Budget,
        counts: Counter[str],
    ) -> None:
        out = draft.out
        names = self._names
        ends = self._ends
        pair_of = self._pairs.__getitem__
        most = self._encoder._attributes_max
        starts, stops, traces = draft.starts, draft.ends, draft.traces
        is_new = False
        last_trace = b""
        trace = ""
        for at, end in draft.places:
            match = match_span(data, at, end)
            groups = groups_by_size(data, at, end) if match is None else match.groups()
            if groups is None:
                self._put_off(draft, data, at, end, budget, counts)
                continue
            trace_id, span_id, parent_id, block, times, opening, rest = groups
            named = names.get(block) or self._name(block)
            if named is None:
                self._put_off(draft, data, at, end, budget, counts)
                continue
            found = None
            has_gaps = False
            marks = None
            if opening and len(rest) > _SPLIT_MAX:
                marks = draft.marks()
                found, tail = self._by_sizes(draft, rest, budget, counts)
                if found is None:
                    draft.undo(marks)
                    self._put_off(draft, data, at, end, budget, counts)
                    continue
                has_gaps = marks != draft.marks()
            elif opening:
                # Where no byte of an attribute is a J itself, these are the attributes;
                # where one is, no such piece is known.
                pieces = rest.split(b"J")
                last = pieces[-1]
                size = last[0] + 1 if last else 0
                pieces[-1] = last[:size]
                tail = last[size:]
                if not is_new:
                    try:
                        found = dict(map(pair_of, pieces))
                    except KeyError:
                        is_new = True
                if found is None:
                    marks = draft.marks()
                    found = self._by_pieces(draft, pieces, budget, counts)
                    if found is None:
                        draft.undo(marks)
                        found, tail = self._by_sizes(draft, rest, budget, counts)
                    if found is None:
                        draft.undo(marks)
                        self._put_off(draft, data, at, end, budget, counts)
                        continue
                    # The next span has something new as well, or all is known again.
                    is_new = has_gaps = marks != draft.marks()
            else:
                tail = rest
            ended = ends.get(tail) or self._end(tail, budget, counts)
            if ended is None or (found is not None and len(found) > most):
                if marks is not None:
                    draft.undo(marks)
                self._put_off(draft, data, at, end, budget, counts)
                continue
            closing, is_error, flags = ended
            start_ns, end_ns = unpack_times(times)
            starts.append(start_ns)
            stops.append(end_ns)
            if not named.durations:
                touched.append(named)
            named.durations.append(end_ns - start_ns)
            if is_error:
                named.errors += 1
            if trace_id != last_trace:
                last_trace = trace_id
                trace = trace_id.hex()
                traces.append(trace)
            if parent_id is None:
                middle = f"{flags}{named.said}"
            else:
                middle = f'","parentSpanId":"{parent_id.hex()}{flags}{named.said}'
            if found is None:
                out.append(
                    f'{{"traceId":"{trace}","spanId":"{span_id.hex()}{middle}{start_ns}"'
                    f',"endTimeUnixNano":"{end_ns}"{closing}'
                )
            elif has_gaps:
                head = (
                    f'{{"traceId":"{trace}","spanId":"{span_id.hex()}{middle}{start_ns}"'
                    f',"endTimeUnixNano":"{end_ns}","attributes":['
                )
                draft.late.append((len(out), found, head, closing))
                out.append("")
            else:
                out.append(
                    f'{{"traceId":"{trace}","spanId":"{span_id.hex()}{middle}{start_ns}"'
                    f',"endTimeUnixNano":"{end_ns}"'
                    f',"attributes":[{",".join(found.values())}]{closing}'
                )

    def _put_off(
        self,
        draft: _Draft,
        data: bytes,
        at: int,
        end: int,
        budget: wire.Budget,
        counts: Counter[str],
    ) -> None:
        draft.put_off.append(self._reader.span(data, at, end, draft.scope, budget, counts))
        draft.numbers.append(len(draft.out))
        draft.out.append("")

    def _name(self, block: bytes) -> _Named | None:
        """What a name and a kind are written as; None if they are none, or not known."""
        told = name_and_kind(block)
        if told is None:
            return None
        text, kind = told
        name = self._encoder._names.get(text)
        if name is None:
            return None
        made = _Named(name, kind)
        _learn(self._names, block, made)
        return made

    def _end(
        self, raw: bytes, budget: wire.Budget, counts: Counter[str]
    ) -> tuple[str, bool, str] | None:
        """What closes a span, whether it failed, and its flags in front of its name.

        None if more than a status's code and flags is there. The message of a status is
        asked of the guard for each span.
        """
        told = self._reader._plain_end(None, raw, budget, counts)
        if told is None or told[0].status_message:
            return None
        details, _ = told
        closing = self._encoder._details(details, 0)
        ended = closing, details.status_code == 2, opening_of(details.flags or 0)
        _learn(self._ends, raw, ended)
        return ended

    def _by_pieces(  # noqa: C901 - a call for each attribute costs as much as the rest
        self, draft: _Draft, pieces: list[bytes], budget: wire.Budget, counts: Counter[str]
    ) -> dict[str, str] | None:
        """Read attributes, each behind its tag, some of which are new.

        Returns:
            Pieces by key, with "" for gaps; None if one is no attribute, since its text
            holds a J, or for a span to put off.
        """
        pairs = self._pairs
        keys = self._keys
        found: dict[str, str] = {}
        for raw in pieces:
            pair = pairs.get(raw)
            if pair is not None:
                found[pair[0]] = pair[1]
                continue
            size = len(raw)
            if not 7 <= size <= 128 or raw[0] != size - 1:
                return None
            text_at = raw[2] + 7
            known = keys.get(raw[3 : text_at - 4])
            if known is not None and raw[1] == 0x0A and text_at <= size:
                key = known.key
                if raw[text_at - 4 : text_at] == BEFORE_TEXT[size - text_at]:
                    try:
                        value = raw[text_at:].decode()
                    except UnicodeDecodeError:
                        return None
                    found[known.text] = piece = key.pieces.get(value, "")
                    if piece:
                        self._remember(known, raw, piece)
                    elif key.by_value:
                        draft.valued.append(((found, known.text, key), value))
                    else:
                        draft.unseen.append((key.verdict, value))
                        draft.gaps.append((found, known.text, key))
                        draft.lessons.append((known, raw))
                    continue
                is_double = size == text_at + 7 and raw[text_at - 4 : text_at - 1] == b"\x12\x09!"
                if is_double and not key.by_value:
                    (double,) = unpack_double(raw[text_at - 1 :])
                    if double - double == 0.0:
                        draft.doubles.append((double, (found, known.text, key)))
                        found[known.text] = ""
                        continue
            if not self._new_pair(draft, found, raw, budget, counts):
                return None
        # Of a repeated key the last value counts; the others are asked of nobody.
        return found if len(found) == len(pieces) else None

    def _by_sizes(
        self, draft: _Draft, rest: bytes, budget: wire.Budget, counts: Counter[str]
    ) -> tuple[dict[str, str] | None, bytes]:
        """Read attributes by their sizes, from behind the first tag on.

        Returns:
            Pieces by key, with "" for gaps, and what follows; None for a span to put off.
        """
        pairs = self._pairs
        found: dict[str, str] = {}
        at = many = 0
        size = len(rest)
        most = self._encoder._attributes_max
        while at + 1 < size and many <= most:
            after = at + 1 + rest[at]
            if rest[at] > 127:
                if rest[at + 1] > 127:
                    break
                after += (rest[at + 1] << 7) - 127
            if after > size:
                break
            raw = rest[at:after]
            pair = pairs.get(raw)
            if pair is not None:
                found[pair[0]] = pair[1]
            elif not self._new_pair(draft, found, raw, budget, counts):
                break
            many += 1
            if after == size or rest[after] != 0x4A:
                return found if many == len(found) else None, rest[after:]
            at = after + 1
        return None, b""

    def _new_pair(
        self,
        draft: _Draft,
        found: dict[str, str],
        raw: bytes,
        budget: wire.Budget,
        counts: Counter[str],
    ) -> bool:
        """Read an attribute whose bytes are not known into ``found``; False to put it off."""
        plain = plain_pair(raw)
        if plain is None:
            skipped = 1 if raw[0] < 128 else 2
            text, value = self._reader._pair(raw[skipped:], budget, counts)
            known = self._key_of(text)
        else:
            key, value = plain
            known = self._keys.get(key) or self._key(key)
        if known is None:
            return False
        text, key_ = known.text, known.key
        kind = type(value)
        if key_.by_value:
            draft.valued.append(((found, text, key_), value))
            found[text] = ""
        elif kind is str:
            piece = key_.pieces.get(value)
            if piece is None:
                draft.unseen.append((key_.verdict, value))
                draft.gaps.append((found, text, key_))
                draft.lessons.append((known, raw))
                found[text] = ""
            else:
                found[text] = piece
                self._remember(known, raw, piece)
        elif kind is int or kind is bool:
            found[text] = piece = self._encoder._piece(key_, value)
            self._remember(known, raw, piece)
        elif kind is float and value - value == 0.0:
            draft.doubles.append((value, (found, text, key_)))
            found[text] = ""
        else:
            draft.valued.append(((found, text, key_), value))
            found[text] = ""
        return True

    def _remember(self, known: _Known, raw: bytes, piece: str) -> None:
        if known.learnt >= PIECES_MAX or len(raw) > LEARNT_BYTES_MAX:
            return
        if len(self._pairs) >= LEARNT_MAX:
            self._pairs.clear()
            self._keys.clear()
        known.learnt += 1
        self._pairs[raw] = known.text, piece

    def _key(self, raw: bytes) -> _Known | None:
        """What is known of a key; None if the encoder does not know it."""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return None
        key = self._encoder._keys.get(text)
        if key is None:
            return None
        known = _Known(text, key)
        _learn(self._keys, raw, known)
        return known

    def _key_of(self, text: str) -> _Known | None:
        raw = text.encode()
        return self._keys.get(raw) or self._key(raw)

    # -- judging and writing -----------------------------------------------------------

    def _finish(self, draft: _Draft) -> tuple[bytes, Sketch]:
        encoder = self._encoder
        out = draft.out
        sketch = Sketch()
        touched: list[_Name] = []
        traces = draft.traces
        try:
            if draft.put_off:
                texts = encoder._span_texts(draft.put_off, touched, traces)
                doubles = iter(encoder._doubles.waiting)
                for number, text in zip(draft.numbers, texts, strict=True):
                    out[number] = text
                    held = islice(doubles, text.count(HOLE))
                    draft.doubles += [(double, number) for double in held]
            self._settle(draft)
            self._fill_doubles(draft)
            for number, found, head, closing in draft.late:
                out[number] = f"{head}{','.join(filter(None, found.values()))}]{closing}"
            opening, closing = encoder._envelope("resourceSpans", "scopeSpans")
            out[0] = f'{opening}{{{encoder._scope(draft.scope)}"spans":[{out[0]}'
            out[-1] = f"{out[-1]}]}}{closing}"
        except BaseException:
            _untouch(touched)
            raise
        for told, durations, errors in draft.counted:
            sketch.add_spans(told, durations, errors)
        for name in touched:
            sketch.add_spans(name.text, name.durations, name.errors)
        _untouch(touched)
        sketch.traces = _without_repeats(traces, len(out))
        sketch.saw(*_within(draft), len(out))
        return _joined(out), sketch

    def _fill_doubles(self, draft: _Draft) -> None:
        """Write all doubles of a line at once: into gaps, or the next hole of a span."""
        if not draft.doubles:
            return
        doubles = self._encoder._doubles
        doubles.waiting[:] = [value for value, _ in draft.doubles]
        for (_, gap), written in zip(draft.doubles, doubles._texts(), strict=True):
            if isinstance(gap, int):
                draft.out[gap] = draft.out[gap].replace(HOLE, written, 1)
            else:
                found, text, key = gap
                found[text] = f'{key.opening}{{"doubleValue":{written}}}}}'

    def _settle(self, draft: _Draft) -> None:
        self._encoder._settle(draft.unseen, draft.gaps)
        for (_, text), (known, raw) in zip(draft.unseen, draft.lessons, strict=True):
            # The encoder remembers what is clean, and so do we.
            piece = known.key.pieces.get(text)
            if piece is not None:
                self._remember(known, raw, piece)
        for (found, key_text, key), value in draft.valued:
            found[key_text] = self._encoder._piece(key, value)


def _look_again(draft: _Draft) -> None:
    """Fill gaps with what earlier lines of the request have taught."""
    waiting = zip(draft.unseen, draft.gaps, draft.lessons, strict=True)
    draft.unseen, draft.gaps, draft.lessons = [], [], []
    for asked, gap, lesson in waiting:
        found, text, key = gap
        piece = key.pieces.get(asked[1])
        if piece is None:
            draft.unseen.append(asked)
            draft.gaps.append(gap)
            draft.lessons.append(lesson)
        else:
            found[text] = piece


def _joined(out: list[str]) -> bytes:
    """Join the spans of a line to bytes.

    In steps: memory for a whole line comes fresh from the system each time, and getting
    it costs more than to copy it.
    """
    line = b",".join(
        [",".join(out[at : at + _JOINED]).encode() for at in range(0, len(out), _JOINED)]
    )
    assert line.find(b"\n") == len(line) - 1, "a line holds one newline, at its end"
    return line


def _within(draft: _Draft) -> tuple[int, int]:
    """Give the first and the last moment of a line, as the encoder tells them."""
    starts = draft.starts + [span.start_ns for span in draft.put_off]
    ends = draft.ends + [span.end_ns for span in draft.put_off]
    last_ns = max(ends)
    if 0 in ends:  # A span that tells no end is over when it began.
        told = zip(starts, ends, strict=True)
        last_ns = max(last_ns, *[start_ns for start_ns, end_ns in told if not end_ns])
    return min(starts), last_ns


def _learn(known: dict[bytes, Any], raw: bytes, value: Any) -> None:
    if len(raw) > LEARNT_BYTES_MAX:
        return
    if len(known) >= LEARNT_MAX:
        known.clear()
    known[raw] = value
