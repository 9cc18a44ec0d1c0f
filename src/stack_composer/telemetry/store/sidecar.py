"""The file beside a sealed bundle: its sketch, and enough to see that they match.

One JSON object whose last member, ``crc32``, is the checksum of all bytes before it.
A sidecar whose ``bytes`` are not the size of the sealed file, or whose checksum is
wrong, is as good as absent: statistics then decode the bundle itself.

What tells whether a bundle is of interest at all, its *head*, stands before the sketch
and has a checksum of its own, so that a question about a day of a month reads a few
hundred bytes of the other days.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry.store.sketch import Sketch

if TYPE_CHECKING:
    from typing import Final

FORMAT: Final = 2
FORMATS_READ: Final = (1, 2)
SIDECAR_BYTES_MAX: Final = 256 * 2**20
HEAD_BYTES_MAX: Final = 1024

_MARK: Final = b',"crc32":'
_HEAD_MARK: Final = b',"head_crc32":'
_SKETCH_MARK: Final = b',"sketch":'


class Head(NamedTuple):
    """What a sidecar says of its sealed bundle in a few words.

    Attributes:
        bytes: Size of the sealed file.
        plain_bytes: Size of its lines, unpacked.
        lines: How many lines.
        torn_bytes: What was cut off behind the last whole line, of a writer that died.
        refused_lines: Lines that are kept but are not in the sketch, being no OTLP.
        records: As the sketch has it.
        first_ns: Likewise.
        last_ns: Likewise.
    """

    bytes: int
    plain_bytes: int
    lines: int
    torn_bytes: int
    refused_lines: int
    records: int
    first_ns: int
    last_ns: int


class Sidecar(NamedTuple):
    """What a sidecar says of its sealed bundle.

    Attributes:
        bytes: Size of the sealed file.
        plain_bytes: Size of its lines, unpacked.
        lines: How many lines.
        torn_bytes: What was cut off behind the last whole line, of a writer that died.
        refused_lines: Lines that are kept but are not in the sketch, being no OTLP.
        sketch: The sum of the other lines.
    """

    bytes: int
    plain_bytes: int
    lines: int
    torn_bytes: int
    refused_lines: int
    sketch: Sketch

    @property
    def head(self) -> Head:
        """The same in a few words."""
        sketch = self.sketch
        return Head(*self[:5], sketch.records, sketch.first_ns, sketch.last_ns)


def encode_sidecar(sidecar: Sidecar) -> bytes:
    """Make the bytes of the file."""
    head = _dump({"format": FORMAT, **sidecar.head._asdict()})
    head += _HEAD_MARK + str(zlib.crc32(head)).encode()
    body = head + _SKETCH_MARK + _dump(sidecar.sketch.to_json()) + b"}"
    return body + _MARK + str(zlib.crc32(body)).encode() + b"}\n"


def _dump(found: dict[str, Any]) -> bytes:
    """Write an object without its last brace."""
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()[:-1]


def decode_sidecar(raw: bytes) -> Sidecar | None:
    """Read the bytes of the file; None if they are damaged or of another format."""
    at = max(raw.rfind(_MARK), 0)
    if raw[at + len(_MARK) :] != str(zlib.crc32(memoryview(raw)[:at])).encode() + b"}\n":
        return None
    try:
        found: dict[str, Any] = json.loads(raw[:at] + b"}")
        if found["format"] not in FORMATS_READ:
            return None
        sketch = Sketch.from_json(found["sketch"])
        return Sidecar(**{name: found[name] for name in Sidecar._fields[:-1]}, sketch=sketch)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def decode_head(raw: bytes) -> Head | None:
    """Read the first ``HEAD_BYTES_MAX`` bytes of the file; None if they tell nothing.

    They tell nothing of format 1; all of that has to be read.
    """
    head, mark, rest = raw.partition(_HEAD_MARK)
    checksum = rest.partition(_SKETCH_MARK)[0]
    if not mark or checksum != str(zlib.crc32(head)).encode():
        return None
    try:
        found: dict[str, Any] = json.loads(head + b"}")
        if found["format"] not in FORMATS_READ:
            return None
        return Head(*(found[name] for name in Head._fields))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
