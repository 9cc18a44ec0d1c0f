"""Add up the sketch of a window, decoding as little as possible.

A sealed bundle that lies wholly inside the window is one small sidecar; one wholly
outside costs no more. Only what straddles an edge, or has no sidecar yet, is decoded
line by line. Decoders (msgspec, 30 ms of import) are loaded when the first such
bundle turns up.
"""

from __future__ import annotations

import os
from collections import Counter

from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.store.reader import frames_of, read_head, read_lines, read_sidecar
from stack_composer.telemetry.store.sketch import Sketch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from stack_composer.telemetry.store.reader import BundleInfo
    from stack_composer.telemetry.store.sidecar import Head

CLOCK_SKEW_NS = 3_600 * 1_000_000_000
"""How far a record's time may lie after the last write of its bundle: clocks step."""

REFUSALS_KEPT_MAX = 20


class Refusals:
    """Lines that are no OTLP: how many, and where the first ones are.

    Attributes:
        count: All of them.
        first: Up to ``REFUSALS_KEPT_MAX`` texts that name file, line and fault, and
            quote nothing.
    """

    __slots__ = ("count", "first")

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, path: str, number: int, error: LineRefusedError) -> None:
        """Note that line ``number`` (1 is the first read) of ``path`` was refused."""
        self.count += 1
        if len(self.first) < REFUSALS_KEPT_MAX:
            self.first.append(f"{path}: line {number} {error}")


class Collected:
    """The sum of a window.

    Attributes:
        sketch: Of the records inside.
        refusals: Lines that are no OTLP.
        oddities: What reading and decoding had to mend or leave out, by the names of
            ``reader.ODDITIES`` and ``otlp.ODDITIES``.
        by_sidecar: Bundles answered by their sidecar.
        decoded: Bundles and files that were decoded.
    """

    __slots__ = ("by_sidecar", "decoded", "oddities", "refusals", "sketch")

    def __init__(self) -> None:
        self.sketch = Sketch()
        self.refusals = Refusals()
        self.oddities: Counter[str] = Counter()
        self.by_sidecar = 0
        self.decoded = 0


def collect(
    sources: Iterable[BundleInfo | str], *, since_ns: int = 0, until_ns: int = 0
) -> Collected:
    """Add up what lies between two moments; 0 means no limit.

    A span counts if it overlaps the window, whatever has one time if that lies within.

    Args:
        sources: Bundles, and paths of foreign OTLP JSON files.
        since_ns: The first moment, Unix nanoseconds.
        until_ns: The first moment that is too late.

    Raises:
        StoreError: A file cannot be read. What a file holds never raises.
    """
    found = Collected()
    for source in sources:
        if isinstance(source, str):
            _decode(found, source, None, since_ns, until_ns)
        elif not _by_sidecar(found, source, since_ns, until_ns) and not _is_older(source, since_ns):
            _decode(found, source, source.signal, since_ns, until_ns)
    return found


def _by_sidecar(found: Collected, bundle: BundleInfo, since_ns: int, until_ns: int) -> bool:
    """Answer for a bundle from its sidecar; False if that is not possible."""
    # A bundle begun inside is most likely wanted, of any other the head is read first.
    begun_inside = bundle.created_ns >= since_ns and not (
        until_ns and bundle.created_ns >= until_ns
    )
    if not begun_inside and _is_outside(read_head(bundle), since_ns, until_ns):
        return True
    sidecar = read_sidecar(bundle)
    if sidecar is None:
        return False
    if _is_outside(sidecar.head, since_ns, until_ns):
        return True
    sketch = sidecar.sketch
    if sketch.first_ns < since_ns or (until_ns and sketch.last_ns >= until_ns):
        return False
    found.sketch.merge(sketch)
    found.refusals.count += sidecar.refused_lines
    found.oddities["torn_tail"] += bool(sidecar.torn_bytes)
    found.by_sidecar += 1
    return True


def _is_older(bundle: BundleInfo, since_ns: int) -> bool:
    """Whether a bundle was last written so long before that nothing in it can match."""
    if bundle.database is not None:
        return bundle.updated_ns + CLOCK_SKEW_NS < since_ns
    try:
        return os.stat(bundle.path).st_mtime_ns + CLOCK_SKEW_NS < since_ns
    except FileNotFoundError:
        return False  # Sealed or purged since it was listed: reading finds out.


def cannot_match(bundle: BundleInfo, since_ns: int, until_ns: int) -> bool:
    """Whether it is sure, without decoding, that nothing in a bundle is in the window."""
    if not (since_ns or until_ns):
        return False
    head = read_head(bundle)
    return _is_older(bundle, since_ns) if head is None else _is_outside(head, since_ns, until_ns)


def _is_outside(head: Head | None, since_ns: int, until_ns: int) -> bool:
    if head is None or not head.first_ns:
        return False  # Nothing in it tells a time.
    return head.last_ns < since_ns or bool(until_ns and head.first_ns >= until_ns)


def _decode(
    found: Collected, source: BundleInfo | str, signal: str | None, since_ns: int, until_ns: int
) -> None:
    from stack_composer.telemetry.store import otlp
    from stack_composer.telemetry.store.sketch_line import add_logs, add_metrics, add_traces

    counts = found.oddities
    path = source if isinstance(source, str) else source.path
    frames = None
    if (since_ns or until_ns) and not isinstance(source, str):
        frames = frames_of(source, counts, since_ns=since_ns, until_ns=until_ns)
    for number, line in enumerate(read_lines(source, counts, frames=frames), 1):
        # A sketch of its own, so that a line refused half-way has counted nothing.
        part = Sketch() if signal != "traces" else found.sketch
        try:
            held = otlp.signal_of(line, counts) if signal is None else signal
            if held == "traces":
                data = otlp.decode_traces_lite(line, counts)
                add_traces(part, data, since_ns=since_ns, until_ns=until_ns)
            elif held == "metrics":
                points = otlp.decode_metrics(line, counts)
                add_metrics(part, points, since_ns=since_ns, until_ns=until_ns)
            else:
                records = otlp.decode_logs(line, counts)
                add_logs(part, records, since_ns=since_ns, until_ns=until_ns)
        except LineRefusedError as error:
            found.refusals.add(path, number, error)
        else:
            if part is not found.sketch:
                found.sketch.merge(part)
    found.decoded += 1
