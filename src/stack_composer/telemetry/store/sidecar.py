"""The file beside a sealed bundle: its sketch, and enough to see that they match.

One JSON object whose last member, ``crc32``, is the checksum of all bytes before it.
A sidecar whose ``bytes`` are not the size of the sealed file, or whose checksum is
wrong, is as good as absent: statistics then decode the bundle itself.

What tells whether a bundle is of interest at all stands before the sketch, which is only
decoded when it is asked for: most questions are about a day of a month.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from stack_composer.telemetry.store.sketch import Sketch

if TYPE_CHECKING:
    from typing import Final

FORMAT: Final = 2
FORMATS_READ: Final = (1, 2)
SIDECAR_BYTES_MAX: Final = 256 * 2**20

_MARK: Final = b',"crc32":'
_SKETCH: Final = b',"sketch":'
_COUNTS: Final = ("bytes", "plain_bytes", "lines", "torn_bytes", "refused_lines")
_TIMES: Final = ("records", "first_ns", "last_ns")


class Sidecar:
    """What a sidecar says of its sealed bundle.

    Attributes:
        bytes: Size of the sealed file.
        plain_bytes: Size of its lines, unpacked.
        lines: How many lines.
        torn_bytes: What was cut off behind the last whole line, of a writer that died.
        refused_lines: Lines that are kept but are not in the sketch, being no OTLP.
        records: As the sketch says, which need not be decoded for that.
        first_ns: Likewise.
        last_ns: Likewise.
    """

    __slots__ = (
        "_raw",
        "_sketch",
        "bytes",
        "first_ns",
        "last_ns",
        "lines",
        "plain_bytes",
        "records",
        "refused_lines",
        "torn_bytes",
    )

    def __init__(
        self,
        *,
        bytes: int,  # noqa: A002 - as it is written
        plain_bytes: int,
        lines: int,
        torn_bytes: int,
        refused_lines: int,
        sketch: Sketch,
    ) -> None:
        self.bytes = bytes
        self.plain_bytes = plain_bytes
        self.lines = lines
        self.torn_bytes = torn_bytes
        self.refused_lines = refused_lines
        self.records = sketch.records
        self.first_ns = sketch.first_ns
        self.last_ns = sketch.last_ns
        self._sketch: Sketch | None = sketch
        self._raw = b""

    @property
    def sketch(self) -> Sketch:
        """The sum of the lines that are not refused.

        Raises:
            ValueError: The checksum is right and the sketch is none all the same.
        """
        if self._sketch is None:
            try:
                self._sketch = Sketch.from_json(json.loads(self._raw))
            except (KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError("a sidecar holds no sketch") from error
        return self._sketch

    def _read(self, head: dict[str, Any], raw: bytes) -> bool:
        """Take what was read; False if a value is no whole number."""
        values = {name: head[name] for name in (*_COUNTS, *_TIMES)}
        for name, value in values.items():
            setattr(self, name, value)
        self._sketch, self._raw = None, raw
        return all(type(value) is int for value in values.values())


def encode_sidecar(sidecar: Sidecar) -> bytes:
    """Make the bytes of the file."""
    head = {name: getattr(sidecar, name) for name in (*_COUNTS, *_TIMES)}
    found = {"format": FORMAT, **head, "sketch": sidecar.sketch.to_json()}
    text = json.dumps(found, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    body = text.encode()[:-1]
    return body + _MARK + str(zlib.crc32(body)).encode() + b"}\n"


def decode_sidecar(raw: bytes) -> Sidecar | None:
    """Read the bytes of the file; None if they are damaged or of another format."""
    at = raw.rfind(_MARK)
    body = memoryview(raw)[:at] if at > 0 else b""
    if raw[at + len(_MARK) :] != str(zlib.crc32(body)).encode() + b"}\n":
        return None
    start = raw.find(_SKETCH)
    try:
        head: dict[str, Any] = json.loads(raw[:start] + b"}")
        if head["format"] not in FORMATS_READ:
            return None
        sketch = raw[start + len(_SKETCH) : at]
        made = object.__new__(Sidecar)
        if head["format"] == 1:
            # It tells times and records in the sketch alone.
            found = json.loads(sketch)
            head |= {name: found[name] for name in _TIMES}
        return made if made._read(head, sketch) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
