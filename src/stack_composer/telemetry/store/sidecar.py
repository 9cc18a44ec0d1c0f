"""The file beside a sealed bundle: its sketch, and enough to see that they match.

One JSON object whose last member, ``crc32``, is the checksum of all bytes before it.
A sidecar whose ``bytes`` are not the size of the sealed file, or whose checksum is
wrong, is as good as absent: statistics then decode the bundle itself.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry.store.sketch import Sketch

if TYPE_CHECKING:
    from typing import Final

FORMAT: Final = 1
SIDECAR_BYTES_MAX: Final = 256 * 2**20

_MARK: Final = b',"crc32":'


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


def encode_sidecar(sidecar: Sidecar) -> bytes:
    """Make the bytes of the file."""
    found = {"format": FORMAT, **sidecar._asdict(), "sketch": sidecar.sketch.to_json()}
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    body = text.encode()[:-1]
    return body + _MARK + str(zlib.crc32(body)).encode() + b"}\n"


def decode_sidecar(raw: bytes) -> Sidecar | None:
    """Read the bytes of the file; None if they are damaged or of another format."""
    body, _, checksum = raw.rpartition(_MARK)
    if checksum != str(zlib.crc32(body)).encode() + b"}\n":
        return None
    try:
        found: dict[str, Any] = json.loads(body + b"}")
        if found.pop("format") != FORMAT:
            return None
        sketch = Sketch.from_json(found.pop("sketch"))
        return Sidecar(**found, sketch=sketch)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
