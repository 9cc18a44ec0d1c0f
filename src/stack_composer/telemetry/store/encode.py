"""Turn records into OTLP JSON lines, asking the guard about every text on the way.

The idea: real traces repeat themselves. What is written for an attribute is
remembered as a finished piece of JSON, by key and value; the guard is asked only for
texts not met before, all those of a batch in one search, and a line is the pieces
joined. Redacted values are never remembered, so each is counted.

The encoder is given a ``Screen`` and has no other way to write a text: this is the
one door. Lines follow OTLP's JSON encoding (OTLP.md, A): lowerCamelCase keys, ids in
hexadecimal, 64-bit integers as decimal text, integers beyond 64 bits as strings.

It does without ``json`` and ``msgspec``, whose import costs a small program more
than writing its thirty spans does.
"""

from __future__ import annotations

from binascii import b2a_base64
from math import isfinite, isnan

from stack_composer.telemetry.model import (
    DROPPED,
    BucketPoint,
    HistogramPoint,
    KeyVerdict,
    NumberPoint,
    RemoteParent,
    Scope,
    SummaryPoint,
)
from stack_composer.telemetry.store.doubles import HOLE, Doubles
from stack_composer.telemetry.store.sketch import Histogram, Sketch, labels_of
from stack_composer.telemetry.values import exact, plain

try:
    from _json import encode_basestring as _quote_c
except ImportError:  # pragma: no cover - another Python than CPython
    from json.encoder import encode_basestring as _quote_c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from stack_composer.telemetry.model import (
        Event,
        Link,
        LogRecord,
        Metric,
        Point,
        Resource,
        Screen,
        SpanDetails,
        SpanRecord,
    )
    from stack_composer.telemetry.store.sketch import Labels

REMEMBERED_MAX = 65_536
"""Pieces remembered in all; beyond, everything is forgotten and learnt anew."""
PIECES_MAX = 1_024
"""Texts remembered of one key. A key with more has a new one each time, mostly, and
remembering those would cost more than it saves."""
PIECE_CHARS_MAX = 256
"""Longer texts are not remembered: they seldom repeat and would fill the memory."""

_SAMPLE = 32
_INT64_MAX = (1 << 63) - 1
_INT64_MIN = -(1 << 63)
_INT_BITS_MAX = 1_024
_NUMBERS = frozenset({bool, int, float})
_MODEL_EVENTS = "gen_ai."
"""How the names of events begin that tell of talks with a model."""
_FREE_TEXT = KeyVerdict("", "", "scan")
"""Names, messages and bodies: text that stands under no key."""

# The flags of W3C's "sampled", OTLP's "is_remote is known", and with it "is remote".
_ROOT = '","flags":257,"name":'
_REMOTE = '","flags":769,"name":'


def opening_of(flags: int) -> str:
    """Give what stands between a span's ids and its name, by the flags it came with."""
    return f'","flags":{flags},"name":' if flags else '","name":'


def _flags_of(flags: int, parent: SpanRecord | RemoteParent | None) -> str:
    opening = opening_of(flags)
    return opening if parent is None else f'","parentSpanId":"{parent.span_id}{opening}'


def quote(text: str) -> str:
    """Give ``text`` as a JSON string; lone surrogates become U+FFFD (OTLP.md, A8)."""
    return _quote_c(whole(text))


def whole(text: str) -> str:
    """Give ``text`` with each lone surrogate replaced, so that it encodes to UTF-8.

    And as no subclass: the guard goes by what a text's methods say, and those of a
    subclass may say something else than what is written.
    """
    text = exact(text)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _Key:
    """A key's verdict, its opening pieces, and the finished pieces of its values."""

    __slots__ = (
        "by_value",
        "double_hole",
        "false",
        "int_opening",
        "opening",
        "pieces",
        "text",
        "text_opening",
        "true",
        "verdict",
    )

    def __init__(self, verdict: KeyVerdict, text: str) -> None:
        self.verdict = verdict
        self.text = text
        self.by_value = verdict.action == "value"
        self.opening = f'{{"key":{quote(text)},"value":'
        self.true = f'{self.opening}{{"boolValue":true}}}}'
        self.false = f'{self.opening}{{"boolValue":false}}}}'
        self.text_opening = f'{self.opening}{{"stringValue":'
        self.int_opening = f'{self.opening}{{"intValue":"'
        self.double_hole = f'{self.opening}{{"doubleValue":{HOLE}}}}}'
        self.pieces: dict[str, str] = {}


class _Name:
    """A span's name as it is written, and the durations seen in this batch."""

    __slots__ = ("durations", "errors", "piece", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.piece = quote(text)
        self.durations: list[int] = []
        self.errors = 0


class Encoder:
    """Encode batches of records into lines and the sketches that describe them.

    Args:
        screen: The guard. Each text that is written has passed it.
        resource: What every line says of the program.
        attributes_max: Attributes of one record; the rest is dropped and counted in
            the record's ``droppedAttributesCount`` (OTEL_ATTRIBUTE_COUNT_LIMIT).
        chars_max: Characters of one text attribute, 0 for no limit; applied after
            the guard, so that a cut never hides half a secret from it.

    Attributes:
        forgotten: How often all that was remembered was forgotten. Whoever keeps pieces of
            its own by what is remembered here, forgets them too.

    Not safe for use by several threads at once; the pipeline has one.
    """

    def __init__(
        self, screen: Screen, resource: Resource, *, attributes_max: int = 128, chars_max: int = 0
    ) -> None:
        self._screen = screen
        self._attributes_max = attributes_max
        self._chars_max = chars_max
        self._keys: dict[str, _Key] = {}
        self._written_keys: dict[str, int] = {}
        self._doubles = Doubles()
        self._names: dict[str, _Name] = {}
        self._scopes: dict[int, tuple[Scope, str]] = {}
        self._label_sets: dict[tuple[Any, ...], tuple[str, Labels]] = {}
        self._resources: dict[int, tuple[Resource, str]] = {}
        self._remembered = 0
        self.forgotten = 0
        self.speak_for(resource)

    def speak_for(self, resource: Resource) -> None:
        """Have what is encoded next be said by ``resource``: imported data has many.

        Cheap for an object that was spoken for before.
        """
        known = self._resources.get(id(resource))
        if known is None:
            attributes = self._attributes(resource.attributes)
            piece = f'{{"resource":{{"attributes":[{attributes}]}},'
            # As with scopes, the object is kept so that its id stays taken.
            known = self._resources[id(resource)] = resource, piece
            self._remembered += _weight(piece)
        self._resource = known[1]
        self._resource_url = resource.schema_url

    # -- one batch of each signal ------------------------------------------------

    def encode_spans(self, spans: Sequence[SpanRecord]) -> tuple[bytes, Sketch]:
        """Encode finished spans, ids given, as one line ending in a newline."""
        self._forget_if_full()
        sketch = Sketch()
        # A span's scope is its class's, and nearly always there is one class.
        groups = _by_scope(spans) if len(set(map(type, spans))) > 1 else [(spans[0].scope, spans)]
        touched: list[_Name] = []
        traces: list[str] = []
        try:
            pieces = [self._span_group(scope, some, touched, traces) for scope, some in groups]
        except BaseException:
            _untouch(touched)
            raise
        for name in touched:
            sketch.add_spans(name.text, name.durations, name.errors)
        _untouch(touched)
        sketch.traces = _without_repeats(traces, len(spans))
        first_ns = min([span.start_ns for span in spans])
        ends_ns = [span.end_ns for span in spans]
        last_ns = max(ends_ns)
        if 0 in ends_ns:  # A span that tells no end is over when it began.
            last_ns = max(last_ns, *[span.start_ns for span in spans if not span.end_ns])
        sketch.saw(first_ns, last_ns, len(spans))
        return self._line("resourceSpans", "scopeSpans", pieces), sketch

    def encode_logs(self, records: Sequence[LogRecord]) -> tuple[bytes, Sketch]:
        """Encode log records as one line ending in a newline."""
        self._forget_if_full()
        sketch = Sketch()
        pieces = []
        for scope, some in _by_scope(records):
            written = ",".join([self._log(record) for record in some])
            pieces.append(f'{{{self._scope(scope)}"logRecords":[{written}]}}')
        for record in records:
            sketch.add_logs(record.severity, 1)
        sketch.traces = {
            record.span.trace_id or "" for record in records if record.span is not None
        }
        times = [record.time_ns or record.observed_ns for record in records]
        sketch.saw(min(times), max(times), len(records))
        return self._line("resourceLogs", "scopeLogs", pieces), sketch

    def encode_metrics(self, metrics: Sequence[Metric]) -> tuple[bytes, Sketch]:
        """Encode metrics with their points as one line ending in a newline."""
        self._forget_if_full()
        sketch = Sketch()
        pieces = []
        for scope, some in _by_scope(metrics):
            written = ",".join([self._metric(metric, sketch) for metric in some])
            pieces.append(f'{{{self._scope(scope)}"metrics":[{written}]}}')
        sketch.traces = set()
        times = [point.time_ns for metric in metrics for point in metric.points]
        sketch.saw(min(times), max(times), len(times))
        return self._line("resourceMetrics", "scopeMetrics", pieces), sketch

    # -- envelopes ---------------------------------------------------------------

    def _line(self, outer: str, inner: str, pieces: list[str]) -> bytes:
        opening, closing = self._envelope(outer, inner)
        line = f"{opening}{','.join(pieces)}{closing}".encode()
        # To look for the first one costs a hundredth of counting them.
        assert line.find(b"\n") == len(line) - 1, "a line holds one newline, at its end"
        return line

    def _envelope(self, outer: str, inner: str) -> tuple[str, str]:
        """Give what stands before and behind the pieces of a line."""
        url = f',"schemaUrl":{self._text(self._resource_url)}' if self._resource_url else ""
        return f'{{"{outer}":[{self._resource}"{inner}":[', f"]{url}}}]}}\n"

    def _scope(self, scope: Scope) -> str:
        """Give '"scope":{...},' and the schema's URL where there is one."""
        known = self._scopes.get(id(scope))
        if known is not None:
            return known[1]
        inside = []
        if scope.name:
            inside.append(f'"name":{self._text(scope.name)}')
        if scope.version:
            inside.append(f'"version":{self._text(scope.version)}')
        if scope.attributes:
            inside.append(f'"attributes":[{self._attributes(scope.attributes)}]')
        piece = f'"scope":{{{",".join(inside)}}},'
        if scope.schema_url:
            piece += f'"schemaUrl":{self._text(scope.schema_url)},'
        # The scope is kept beside its piece, so that its id stays taken.
        self._scopes[id(scope)] = (scope, piece)
        self._remembered += _weight(piece)
        return piece

    # -- spans -------------------------------------------------------------------

    def _span_group(
        self,
        scope: Scope,
        spans: Sequence[SpanRecord],
        touched: list[_Name],
        traces: list[Any],
    ) -> str:
        written = ",".join(self._span_texts(spans, touched, traces))
        return f'{{{self._scope(scope)}"spans":[{self._doubles.fill(written)}]}}'

    def _span_texts(  # noqa: C901, PLR0912, PLR0915 - see below
        self, spans: Sequence[SpanRecord], touched: list[_Name], traces: list[Any]
    ) -> list[str]:
        """Encode spans, with holes for their doubles: the loop that runs for each written.

        It is long because a call per span or attribute would cost as much as the
        work; what is rare is in functions of its own.
        """
        out: list[str] = []
        unseen: list[tuple[KeyVerdict, str]] = []
        places: list[tuple[list[str], int, _Key]] = []
        late: list[tuple[int, str, list[str], str]] = []
        doubles = self._doubles.waiting
        doubles.clear()
        names = self._names
        keys = self._keys
        most = self._attributes_max
        piece: str | None
        last_trace: str | None = None
        for span in spans:
            name = names.get(span.name) or self._name(span.name)
            start_ns = span.start_ns
            end_ns = span.end_ns
            if not name.durations:
                touched.append(name)
            name.durations.append(end_ns - start_ns)
            parent = span.parent
            if parent is None:
                flags = _ROOT
            else:
                remote = type(parent) is RemoteParent and parent.is_remote
                flags = f'","parentSpanId":"{parent.span_id}{_REMOTE if remote else _ROOT}'
            details = span.details
            if details is None:
                middle = f'{flags}{name.piece},"kind":1'
                tail = "}"
            else:
                if details.flags is not None:
                    flags = _flags_of(details.flags, parent)
                middle = f'{flags}{name.piece},"kind":{details.kind}'
                # Both what the caller's limit dropped and what is cut here, told once.
                over = len(span.attributes) - most if span.attributes else 0
                tail = self._details(details, max(over, 0))
                if details.status_code == 2:
                    name.errors += 1
            trace = span.trace_id
            if trace is not last_trace:
                last_trace = trace
                traces.append(trace)
            head = (
                f'{{"traceId":"{trace}","spanId":"{span.span_id}{middle}'
                f',"startTimeUnixNano":"{start_ns}","endTimeUnixNano":"{end_ns}"'
            )
            attributes = span.attributes
            if not attributes:
                out.append(head + tail)
                continue
            if len(attributes) > most:
                if details is None:
                    tail = f',"droppedAttributesCount":{len(attributes) - most}}}'
                attributes = dict(list(attributes.items())[:most])
            parts: list[str] = []
            gaps = False
            for key, value in attributes.items():
                known = keys.get(key) or self._key(key)
                kind = type(value)
                if kind is str:
                    piece = known.pieces.get(value)
                    if piece is None:
                        if known.by_value:
                            piece = self._piece(known, value)
                        else:
                            places.append((parts, len(parts), known))
                            unseen.append(
                                (known.verdict, value if value.isascii() else whole(value))
                            )
                            piece = ""
                        gaps = gaps or not piece
                elif known.by_value:
                    piece = self._piece(known, value)
                    gaps = gaps or not piece
                elif kind is int and _INT64_MIN <= value <= _INT64_MAX:
                    piece = f'{known.int_opening}{value}"}}}}'
                elif kind is float and value - value == 0.0:
                    doubles.append(value)
                    piece = known.double_hole
                elif kind is bool:
                    piece = known.true if value else known.false
                else:
                    piece = self._piece(known, value)
                    gaps = gaps or not piece
                parts.append(piece)
            if gaps:
                late.append((len(out), head, parts, tail))
                out.append("")
            else:
                out.append(f'{head},"attributes":[{",".join(parts)}]{tail}')
        self._settle(unseen, places)
        for at, head, parts, tail in late:
            out[at] = f'{head},"attributes":[{",".join(filter(None, parts))}]{tail}'
        return out

    def _settle(
        self, unseen: list[tuple[KeyVerdict, str]], places: Sequence[tuple[Any, Any, _Key]]
    ) -> None:
        """Ask the guard about all unseen texts at once; put the pieces in their places.

        A place is a list and a number, or a dict and a key, and whose piece belongs there.
        """
        if not unseen:
            return
        answers = self._screen.texts(unseen)
        for (_, text), answer, (parts, at, key) in zip(unseen, answers, places, strict=True):
            if answer is DROPPED:
                continue
            shown = answer[: self._chars_max] if self._chars_max else answer
            parts[at] = piece = f"{key.text_opening}{_quote_c(shown)}}}}}"
            pieces = key.pieces
            if answer == text and len(pieces) < PIECES_MAX and len(text) <= PIECE_CHARS_MAX:
                pieces[text] = piece
                self._remembered += 1

    def _details(self, details: SpanDetails, cut: int) -> str:
        """Give what follows a span's attributes, closing brace included."""
        out = []
        dropped = details.dropped_attributes + cut
        if dropped:
            out.append(f',"droppedAttributesCount":{dropped}')
        if details.trace_state:
            out.append(f',"traceState":{self._text(details.trace_state)}')
        if details.events:
            out.append(f',"events":[{",".join([self._event(e) for e in details.events])}]')
        if details.dropped_events:
            out.append(f',"droppedEventsCount":{details.dropped_events}')
        if details.links:
            out.append(f',"links":[{",".join([self._link(k) for k in details.links])}]')
        if details.dropped_links:
            out.append(f',"droppedLinksCount":{details.dropped_links}')
        if details.status_code:
            text = details.status_message
            message = f'"message":{self._text(text)},' if text else ""
            out.append(f',"status":{{{message}"code":{details.status_code}}}')
        out.append("}")
        return "".join(out)

    def _event(self, event: Event) -> str:
        attributes = self._of_event(event.name, event.attributes)
        return (
            f'{{"timeUnixNano":"{event.time_ns}","name":{self._text(event.name)}'
            f"{self._listed_attributes(attributes, event.dropped_attributes)}}}"
        )

    def _of_event(
        self, name: str, attributes: Mapping[str, Any] | None
    ) -> Mapping[str, Any] | None:
        """Give what may be written of a model's event.

        Its short keys ("message") tell what they hold only after the event's name.
        """
        if not attributes or not name.startswith(_MODEL_EVENTS):
            return attributes
        answers = {
            key: value if "." in key else self._screen.value(whole(f"{name}.{key}"), _wholly(value))
            for key, value in attributes.items()
        }
        return {key: answer for key, answer in answers.items() if answer is not DROPPED}

    def _body(self, record: LogRecord) -> str:
        body = record.body
        name = _event_name(record)
        if not name.startswith(_MODEL_EVENTS):
            return self._value("", body)
        if isinstance(body, dict):
            return self._value("", self._of_event(name, body))
        return self._value(whole(f"{name}.content"), body)

    def _link(self, link: Link) -> str:
        target = link.target
        state = f',"traceState":{self._text(target.trace_state)}' if target.trace_state else ""
        flags = link.flags
        if flags is None:
            flags = target.flags | 0x100 | (0x200 if target.is_remote else 0)
        told = f',"flags":{flags}' if flags else ""
        return (
            f'{{"traceId":"{target.trace_id}","spanId":"{target.span_id}"{state}'
            f"{self._listed_attributes(link.attributes, link.dropped_attributes)}{told}}}"
        )

    # -- logs and metrics --------------------------------------------------------

    def _log(self, record: LogRecord) -> str:
        out = [f'{{"timeUnixNano":"{record.time_ns}"'] if record.time_ns else ["{"]
        comma = "," if record.time_ns else ""
        out.append(f'{comma}"observedTimeUnixNano":"{record.observed_ns}"')
        if record.severity:
            out.append(f',"severityNumber":{record.severity}')
        if record.severity_text:
            out.append(f',"severityText":{self._text(record.severity_text)}')
        body = "" if record.body is None else self._body(record)
        if body:
            out.append(f',"body":{body}')
        attributes = self._of_event(_event_name(record), record.attributes)
        out.append(self._listed_attributes(attributes, record.dropped_attributes))
        span = record.span
        if record.flags:
            out.append(f',"flags":{record.flags}')
        elif record.flags is None and span is not None:
            # A span that is not recorded says so; others carry no word of it.
            sampled = int(getattr(span, "sampled", True))
            out.append(f',"flags":{span.flags if type(span) is RemoteParent else sampled}')
        if span is not None:
            out.append(f',"traceId":"{span.trace_id}","spanId":"{span.span_id}"')
        if record.event_name:
            out.append(f',"eventName":{self._text(record.event_name)}')
        out.append("}")
        return "".join(out)

    def _metric(self, metric: Metric, sketch: Sketch) -> str:
        name = self._name(metric.name)
        unit = self._name(metric.unit).text if metric.unit else ""
        out = [f'{{"name":{name.piece}']
        if metric.description:
            out.append(f',"description":{self._text(metric.description)}')
        if unit:
            out.append(f',"unit":{quote(unit)}')
        points = []
        for point in metric.points:
            attributes, labels = self._labels(point.attributes)
            points.append(_point(point, attributes))
            _count_point(sketch, metric, point, name.text, labels, unit)
        out.append(f',"{metric.kind}":{{"dataPoints":[{",".join(points)}]')
        if metric.kind not in ("gauge", "summary"):
            out.append(f',"aggregationTemporality":{metric.temporality}')
        if metric.kind == "sum":
            out.append(f',"isMonotonic":{"true" if metric.monotonic else "false"}')
        out.append("}}")
        return "".join(out)

    def _labels(self, attributes: Mapping[str, Any] | None) -> tuple[str, Labels]:
        """Give a point's attributes as JSON and as the sketch's labels, both judged."""
        if not attributes:
            return "", ()
        if len(attributes) > self._attributes_max:
            attributes = dict(list(attributes.items())[: self._attributes_max])
        # Only texts: among numbers 1, 1.0 and True would be one key of the memory.
        memorable = set(map(type, attributes.values())) == {str}
        key = tuple(attributes.items()) if memorable else ()
        known = self._label_sets.get(key)
        if known is None:
            judged = self._judged(attributes)
            pieces = [f'{{"key":{quote(k)},"value":{self._any(v)}}}' for k, v in judged.items()]
            known = ",".join(pieces), labels_of(judged)
            if memorable and judged == attributes:
                self._label_sets[key] = known
                self._remembered += _weight(known[0])
        return known

    def _judged(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        judged = {}
        for key, value in attributes.items():
            answer = self._screen.value(whole(key), _wholly(value))
            if answer is not DROPPED:
                judged[(self._keys.get(key) or self._key(key)).text] = answer
        return judged

    # -- attributes and values ---------------------------------------------------

    def _listed_attributes(self, attributes: Mapping[str, Any] | None, dropped: int) -> str:
        """Give ',"attributes":[...]' with its count of dropped ones; "" for none."""
        if not attributes:
            return f',"droppedAttributesCount":{dropped}' if dropped else ""
        over = len(attributes) - self._attributes_max
        if over > 0:
            attributes = dict(list(attributes.items())[: self._attributes_max])
            dropped += over
        count = f',"droppedAttributesCount":{dropped}' if dropped else ""
        return f',"attributes":[{self._attributes(attributes)}]{count}'

    def _attributes(self, attributes: Mapping[str, Any]) -> str:
        """Give the pieces of ``attributes``, joined; one search for all unseen texts."""
        parts: list[str] = []
        unseen: list[tuple[KeyVerdict, str]] = []
        places: list[tuple[list[str], int, _Key]] = []
        for key, value in attributes.items():
            known = self._keys.get(key) or self._key(key)
            piece = known.pieces.get(value) if type(value) is str else None
            if piece is None:
                if type(value) is str and not known.by_value:
                    places.append((parts, len(parts), known))
                    unseen.append((known.verdict, whole(value)))
                    piece = ""
                else:
                    piece = self._piece(known, value)
            parts.append(piece)
        self._settle(unseen, places)
        return ",".join(filter(None, parts))

    def _piece(self, key: _Key, value: object) -> str:
        """Give the piece of a value that is no plain text, "" if it may not be written."""
        if key.by_value or type(value) not in _NUMBERS:
            written = self._value(key.verdict.key, value)
            return f"{key.opening}{written}}}" if written else ""
        return f"{key.opening}{_scalar(value)}}}"

    def _shortened(self, text: str) -> str:
        return text[: self._chars_max] if self._chars_max else text

    def _value(self, key: str, value: object) -> str:
        """Give an AnyValue of any type, judged by the guard; "" for a dropped one."""
        answer = self._screen.value(key, _wholly(value))
        return "" if answer is DROPPED else self._any(answer)

    def _any(self, value: Any) -> str:
        if isinstance(value, str):
            return f'{{"stringValue":{_quote_c(whole(self._shortened(value)))}}}'
        if isinstance(value, dict):
            inside = ",".join(
                [f'{{"key":{quote(k)},"value":{self._any(v)}}}' for k, v in value.items()]
            )
            return f'{{"kvlistValue":{{"values":[{inside}]}}}}'
        if isinstance(value, list | tuple):
            return f'{{"arrayValue":{{"values":[{",".join([self._any(v) for v in value])}]}}}}'
        return _scalar(value)

    def _text(self, text: str) -> str:
        """Give a text that stands under no key, judged by the guard, as JSON."""
        (answer,) = self._screen.texts([(_FREE_TEXT, whole(text))])
        return '"[redacted:dropped]"' if answer is DROPPED else _quote_c(answer)

    # -- what is remembered ------------------------------------------------------

    def _key(self, key: str) -> _Key:
        verdict = self._screen.key(whole(key))
        # Keys of one list must differ (OTLP.md, A9), and two that held different secrets
        # look alike once masked.
        number = self._written_keys[verdict.text] = self._written_keys.get(verdict.text, 0) + 1
        text = verdict.text if number == 1 else f"{verdict.text}#{number}"
        found = self._keys[key] = _Key(verdict, text)
        self._remembered += _weight(key)
        return found

    def _name(self, name: str) -> _Name:
        (answer,) = self._screen.texts([(_FREE_TEXT, whole(name))])
        found = _Name("[redacted:dropped]" if answer is DROPPED else answer)
        if answer == name:
            self._names[name] = found
            self._remembered += _weight(name)
        return found

    def _forget_if_full(self) -> None:
        if self._remembered > REMEMBERED_MAX:
            self._keys.clear()
            self._written_keys.clear()
            self._names.clear()
            self._scopes.clear()
            self._resources.clear()
            self._label_sets.clear()
            self._remembered = 0
            self.forgotten += 1


def _weight(text: str) -> int:
    """How many pieces a remembered text counts for; a long name fills the memory too."""
    return 1 + len(text) // PIECE_CHARS_MAX


def _without_repeats(traces: list[str], spans: int) -> list[str] | set[str]:
    """Take most repeated ids out: each costs six bytes of the index.

    Where the first ones all differ and there are as many as spans, each span is most
    likely a trace of its own; then a set would cost more than all else here.
    """
    some = traces[:_SAMPLE]
    return traces if len(traces) == spans and len(set(some)) == len(some) else set(traces)


def _untouch(names: list[_Name]) -> None:
    for name in names:
        name.durations = []
        name.errors = 0


def _by_scope(records: Sequence[Any]) -> list[tuple[Scope, Sequence[Any]]]:
    """Group records by instrumentation scope; nearly always there is one."""
    first = records[0].scope
    # A list, though all() wants none: a generator costs three times as much here.
    if all([record.scope is first for record in records]):  # noqa: C419
        return [(first, records)]
    groups: dict[int, tuple[Scope, list[Any]]] = {}
    for record in records:
        groups.setdefault(id(record.scope), (record.scope, []))[1].append(record)
    return list(groups.values())


def _wholly(value: Any) -> Any:
    """Replace lone surrogates in every text of ``value``, before the guard reads it."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, dict):
        return {whole(k): _wholly(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_wholly(v) for v in value]
    # Types that the garbage collector does not track (a datetime, a numpy scalar) come
    # here as they are, since the caller's thread does not look at each value.
    return value if value is None or isinstance(value, bool | bytes) else plain(value)


def _event_name(record: LogRecord) -> str:
    """Give the name of a log record that is an event, "" for any other.

    Before records had a place for it, it stood among the attributes.
    """
    named = record.event_name or (record.attributes or {}).get("event.name")
    return named if isinstance(named, str) else ""


def _scalar(value: object) -> str:
    """Give a number, truth value, bytes or nothing as an AnyValue."""
    if isinstance(value, bool):
        return '{"boolValue":true}' if value else '{"boolValue":false}'
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return f'{{"doubleValue":{_double(value)}}}'
    if isinstance(value, bytes):
        return f'{{"bytesValue":"{b2a_base64(value, newline=False).decode("ascii")}"}}'
    assert value is None, "the guard leaves no other type"
    return "{}"


def _integer(value: int) -> str:
    """Give an integer; beyond 64 bits as text, which a strict reader accepts (A7)."""
    if _INT64_MIN <= value <= _INT64_MAX:
        return f'{{"intValue":"{int.__repr__(value)}"}}'
    if value.bit_length() > _INT_BITS_MAX:
        return '{"stringValue":"[huge integer]"}'
    return f'{{"stringValue":"{value:#x}"}}'


def _double(value: float) -> str:
    if isfinite(value):
        return float.__repr__(value)  # a subclass may have a repr of its own
    return '"NaN"' if isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _point(point: Point, attributes: str) -> str:
    start = f'"startTimeUnixNano":"{point.start_ns}",' if point.start_ns else ""
    opening = f'{{"attributes":[{attributes}],{start}"timeUnixNano":"{point.time_ns}",'
    if type(point) is NumberPoint:
        return f"{opening}{_number_field(point.value)}}}"
    if type(point) is HistogramPoint:
        return opening + _histogram_fields(point)
    if type(point) is BucketPoint:
        return opening + _bucket_fields(point)
    assert isinstance(point, SummaryPoint), "there are four kinds of points"
    return opening + _summary_fields(point)


def _count_point(
    sketch: Sketch,
    metric: Metric,
    point: Point,
    name: str,
    labels: Labels,
    unit: str,
) -> None:
    """Tell the sketch of one point what it would find by reading the line."""
    cumulative = metric.temporality == 2
    start_ns = point.start_ns
    if type(point) is not NumberPoint:
        values = _distribution(point)
        # A summary has no temporality; it is cumulative by its definition.
        since = start_ns if cumulative or metric.kind == "summary" else None
        sketch.add_histogram(
            name, labels, values, point.time_ns, cumulative_start_ns=since, unit=unit
        )
        return
    if point.value is None:
        return
    whole_number = isinstance(point.value, int) and _INT64_MIN <= point.value <= _INT64_MAX
    value = point.value if whole_number else _as_double(point.value)
    if metric.kind == "gauge":
        sketch.add_gauge(name, labels, [value], point.time_ns, unit=unit)
    elif cumulative:
        sketch.add_cumulative_sum(name, labels, value, point.time_ns, start_ns=start_ns, unit=unit)
    else:
        sketch.add_sum(name, labels, value, point.time_ns, unit=unit)


def _distribution(point: Point) -> Histogram:
    """What a point counted, in the sketch's own buckets."""
    assert not isinstance(point, NumberPoint), "a number is no distribution"
    values = Histogram()
    values.count = point.count
    if isinstance(point, SummaryPoint):
        values.set_bounds(point.total, None, None)
        return values
    values.set_bounds(point.total, point.minimum, point.maximum)
    if isinstance(point, HistogramPoint):
        values.zeros = point.zero_count
        values.add_exponential(point.positive, point.negative, scale=point.scale)
    else:
        values.add_explicit(
            point.bounds,
            point.counts,
            count=point.count,
            total=point.total,
            minimum=point.minimum,
            maximum=point.maximum,
        )
    return values


def _number_field(value: float | None) -> str:
    if value is None:
        return '"flags":1'  # OTLP's "no recorded value"
    if isinstance(value, int) and _INT64_MIN <= value <= _INT64_MAX:
        return f'"asInt":"{int(value)}"'
    return f'"asDouble":{_double(_as_double(value))}'


def _as_double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _histogram_fields(point: HistogramPoint) -> str:
    """Give an exponential histogram's own fields, closing brace included."""
    threshold = f',"zeroThreshold":{_double(point.zero_threshold)}' if point.zero_threshold else ""
    return (
        f'"count":"{point.count}"{_told("sum", point.total)},"scale":{point.scale},'
        f'"zeroCount":"{point.zero_count}"{_buckets("positive", point.positive)}'
        f"{_buckets('negative', point.negative)}"
        f"{_told('min', point.minimum)}{_told('max', point.maximum)}{threshold}}}"
    )


def _bucket_fields(point: BucketPoint) -> str:
    """Give the fields of a histogram with bounds of its own, closing brace included."""
    counts = ",".join([f'"{count}"' for count in point.counts])
    bounds = ",".join([_double(bound) for bound in point.bounds])
    return (
        f'"count":"{point.count}"{_told("sum", point.total)},'
        f'"bucketCounts":[{counts}],"explicitBounds":[{bounds}]'
        f"{_told('min', point.minimum)}{_told('max', point.maximum)}}}"
    )


def _summary_fields(point: SummaryPoint) -> str:
    """Give a summary's own fields, closing brace included."""
    values = ",".join(
        [f'{{"quantile":{_double(q)},"value":{_double(value)}}}' for q, value in point.quantiles]
    )
    return f'"count":"{point.count}","sum":{_double(point.total)},"quantileValues":[{values}]}}'


def _told(name: str, value: float) -> str:
    """Give a number that may be missing, which NaN stands for."""
    return "" if isnan(value) else f',"{name}":{_double(value)}'


def _buckets(side: str, counts: dict[int, int]) -> str:
    if not counts:
        return ""
    first = min(counts)
    dense = ",".join([f'"{counts.get(at, 0)}"' for at in range(first, max(counts) + 1)])
    return f',"{side}":{{"offset":{first},"bucketCounts":[{dense}]}}'
