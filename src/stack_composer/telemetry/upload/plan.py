"""Decide what is still to be sent, and change nothing.

``plan_upload`` is pure: facts of bundles, what is wanted and what the ledger knows go in,
ranges of bundles come out. ``facts_of`` gathers the facts. From a plan, ``batches`` makes
the requests one after the other, always the same from the same plan and store; so what
``--dry-run`` shows is what leaves.

*Places.* A record has a place in its bundle: where its line begins in the plain text, and its
number in that line, in document order and counted from 0. A request holds a range of such
places, of which it took what was wanted. So the ledger can say of each record whether it
went, whatever else was wanted at that time.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.query.collect import cannot_match
from stack_composer.telemetry.query.select import Selection
from stack_composer.telemetry.store.reader import read_head, read_placed_lines
from stack_composer.telemetry.store.sketch import Sketch
from stack_composer.telemetry.upload.audit import Position, Selected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Final

    from stack_composer.telemetry.otlp.walk import Item
    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.upload.ledger import Range

PLAN_ID_CHARS: Final = 16
_FORMAT: Final = 1
EVERYTHING: Final = Selected()


class Facts(NamedTuple):
    """What must be known of a bundle to plan.

    Attributes:
        bundle: Where its lines are.
        end: How long its whole lines are, in bytes of plain text.
        first_ns: The earliest time in it, Unix nanoseconds; 0 if it is not known.
        last_ns: The latest one.
    """

    bundle: BundleInfo
    end: int
    first_ns: int
    last_ns: int

    @property
    def key(self) -> str:
        """How the ledger names the bundle."""
        return key_of(self.bundle)


class Terms(NamedTuple):
    """What else the bytes of requests depend on.

    Attributes:
        origin: To whom.
        protocol: In which form, as ``Destination.protocol``.
        mode: "raw" or "aggregate".
        compression: How they are packed.
        request_bytes_max: How much one request may hold, before it is packed.
        mark: Of the salt that ids are hashed with on their way out.
    """

    origin: str
    protocol: str
    mode: str
    compression: str
    request_bytes_max: int
    mark: str = ""


class Stretch(NamedTuple):
    """A part of a bundle that is still to be sent.

    Attributes:
        start: Its first place.
        end: The first place behind it.
        earlier: Ranges within it of which something went: what they took is left out.
    """

    start: Position
    end: Position
    earlier: tuple[Range, ...]


class Portion(NamedTuple):
    """What of one bundle is still to be sent.

    Attributes:
        bundle: Where its lines are.
        selected: What of it is wanted. A limit that all of the bundle keeps is not one.
        stretches: In order, and apart.
    """

    bundle: BundleInfo
    selected: Selected
    stretches: tuple[Stretch, ...]

    @property
    def key(self) -> str:
        """How the ledger names the bundle."""
        return key_of(self.bundle)


class Plan(NamedTuple):
    """What is still to be sent.

    Attributes:
        id: The first digits of a SHA-256 of all that the requests are made of.
        terms: To whom, and in which form.
        portions: Bundle by bundle, the oldest first.
        done: Bundles of which all that was wanted went before.
        unfit: Bundles left out, since the protocol has no place for their signal.
    """

    id: str
    terms: Terms
    portions: tuple[Portion, ...]
    done: int
    unfit: int


def key_of(bundle: BundleInfo) -> str:
    """How the ledger names a bundle, in whatever form it is kept."""
    return f"{bundle.stem}.{bundle.signal}"


def fits(protocol: str, mode: str, signal: str) -> bool:
    """Whether a protocol has a place for a signal: Jaeger knows spans alone."""
    return protocol != "jaeger" or (mode == "raw" and signal == "traces")


def facts_of(
    bundles: Iterable[BundleInfo], wanted: Selected, counts: Counter[str] | None = None
) -> list[Facts]:
    """Gather what must be known of bundles in which something wanted may be.

    A sealed bundle tells by its sidecar. One that is being written is read: its whole
    lines of now are what is planned.

    Raises:
        StoreError: A bundle cannot be read.
    """
    found = []
    for bundle in bundles:
        if cannot_match(bundle, wanted.since_ns, wanted.until_ns):
            continue
        head = read_head(bundle)
        if head is not None:
            found.append(Facts(bundle, head.plain_bytes, head.first_ns, head.last_ns))
        else:
            found.append(_read_facts(bundle, wanted, Counter() if counts is None else counts))
    return [facts for facts in found if facts.end]


def _read_facts(bundle: BundleInfo, wanted: Selected, counts: Counter[str]) -> Facts:
    sketch = Sketch()
    end = 0
    for place, line in read_placed_lines(bundle, counts):
        end = place + len(line) + 1
        if wanted.since_ns or wanted.until_ns:
            try:
                sketch.add_line(bundle.signal, line)
            except LineRefusedError:
                continue  # It has no record that could be wanted.
    return Facts(bundle, end, sketch.first_ns, sketch.last_ns)


def plan_upload(
    facts: Sequence[Facts],
    *,
    wanted: Selected,
    signals: frozenset[str] | None,
    sent: Callable[[str], Sequence[Range]],
    terms: Terms,
) -> Plan:
    """Decide what is still to be sent; touch nothing.

    Args:
        facts: Of bundles, in the order in which they shall go.
        wanted: Which records.
        signals: Of which signals; None for all.
        sent: Gives, for a bundle's key, what of it went to this destination in this mode.
        terms: What else the requests depend on.

    Returns:
        A plan that is safe to stop anywhere: what went is in the ledger, and the next plan
        holds the rest.
    """
    portions: list[Portion] = []
    done = unfit = 0
    for one in facts:
        if signals is not None and one.bundle.signal not in signals:
            continue
        if not fits(terms.protocol, terms.mode, one.bundle.signal):
            unfit += 1
            continue
        portion = _portion(one, wanted, sent(one.key))
        if portion.stretches:
            portions.append(portion)
        else:
            done += 1
    return Plan(_plan_id(terms, portions), terms, tuple(portions), done, unfit)


def _portion(facts: Facts, wanted: Selected, sent: Sequence[Range]) -> Portion:
    selected = _effective(facts, wanted)
    end = Position(facts.end)
    stretches: list[tuple[Position, Position]] = [(Position(0), end)]
    partial = []
    for one in sent:
        if _includes(one.selected, selected):
            stretches = [rest for held in stretches for rest in _without(held, one)]
        else:
            partial.append(one)
    return Portion(
        facts.bundle,
        selected,
        tuple(
            Stretch(
                start, end, tuple(one for one in partial if one.start < end and start < one.end)
            )
            for start, end in stretches
        ),
    )


def _effective(facts: Facts, wanted: Selected) -> Selected:
    """Leave out limits that the whole bundle keeps, so that they change nothing later."""
    since_ns, until_ns = wanted.since_ns, wanted.until_ns
    if facts.first_ns and facts.first_ns >= since_ns:
        since_ns = 0
    if facts.last_ns and facts.last_ns < until_ns:
        until_ns = 0
    return Selected(since_ns, until_ns, wanted.name)


def _includes(wide: Selected, narrow: Selected) -> bool:
    """Whether all that ``narrow`` takes, ``wide`` takes too; when in doubt, no."""
    return (
        wide.since_ns <= narrow.since_ns
        and (not wide.until_ns or 0 < narrow.until_ns <= wide.until_ns)
        and wide.name in ("", narrow.name)
    )


def _without(held: tuple[Position, Position], gone: Range) -> list[tuple[Position, Position]]:
    start, end = held
    rests = [(start, min(end, gone.start)), (max(start, gone.end), end)]
    if gone.end <= start or gone.start >= end:
        return [held]
    return [(begin, stop) for begin, stop in rests if begin < stop]


def _plan_id(terms: Terms, portions: Sequence[Portion]) -> str:
    held = [
        _FORMAT,
        list(terms),
        [
            [
                portion.key,
                list(portion.selected),
                [
                    [
                        *stretch.start,
                        *stretch.end,
                        [[*one.start, *one.end, *one.selected] for one in stretch.earlier],
                    ]
                    for stretch in portion.stretches
                ],
            ]
            for portion in portions
        ],
    ]
    text = json.dumps(held, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:PLAN_ID_CHARS]


def chooser(
    selected: Selected, signal: str, earlier: Sequence[Range]
) -> Callable[[Position, Item], bool] | None:
    """Say of each record whether it is still to be sent; None if all are.

    Args:
        selected: What is wanted.
        signal: Of the records.
        earlier: Ranges of which something went.
    """
    if selected == EVERYTHING and not earlier:
        return None
    takes = selection_of(selected, signal).takes
    went = [(one.start, one.end, selection_of(one.selected, signal).takes) for one in earlier]

    def is_to_go(place: Position, item: Item) -> bool:
        return takes(item) and not any(
            start <= place < end and took(item) for start, end, took in went
        )

    return is_to_go


def selection_of(selected: Selected, signal: str) -> Selection:
    """The question that the ledger's few words stand for."""
    return Selection(
        since_ns=selected.since_ns,
        until_ns=selected.until_ns,
        signals=frozenset((signal,)),
        name=selected.name or None,
    )
