"""Unpack what a request carries, within bounds: a bomb is refused when it bursts, not after."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from stack_composer.telemetry.errors import LineRefusedError, ReceiveError
from stack_composer.telemetry.store import zstd

if TYPE_CHECKING:
    from typing import Any, Final

ENCODINGS: Final = ("gzip", "deflate", "zstd")
"""Values of ``Content-Encoding`` that are known, besides ``identity``."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_PIECE_BYTES: Final = 64 * 1024
_MEMBERS_MAX: Final = 1_024
"""Parts, one behind the other, of one packed body; more are made to be slow."""


class TooLargeError(ReceiveError):
    """A body unpacks to more than is taken."""


def unpacked(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """Unpack a body.

    Args:
        body: As it came.
        encoding: One of ``ENCODINGS``, or "" for a body that is not packed.
        bytes_max: Of the result.

    Raises:
        TooLargeError: It unpacks to more than ``bytes_max``.
        LineRefusedError: It is not packed in that way, or is cut short.
    """
    if not encoding:
        return body
    if encoding == "zstd":
        return _all_of(body, zstd.ZstdDecompressor, encoding, bytes_max)
    if encoding == "deflate" and not _is_zlib(body):
        # RFC 9110 means zlib's format; many send the bare one.
        return _all_of(body, lambda: zlib.decompressobj(-zlib.MAX_WBITS), encoding, bytes_max)
    bits = _GZIP if encoding == "gzip" else zlib.MAX_WBITS
    return _all_of(body, lambda: zlib.decompressobj(bits), encoding, bytes_max)


def _is_zlib(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and not (body[0] << 8 | body[1]) % 31


def _all_of(body: bytes, make: Any, encoding: str, bytes_max: int) -> bytes:
    """Unpack part after part: gzip and zstd may have several."""
    parts: list[bytes] = []
    left = bytes_max
    view = memoryview(body)
    at = 0
    for _ in range(_MEMBERS_MAX):
        unpacker = make()
        # In pieces: what lies behind a part is handed back as a copy each time.
        while not unpacker.eof:
            piece = view[at : at + _PIECE_BYTES]
            if not piece:
                raise LineRefusedError(f"is cut short: its {encoding} does not end")
            at += len(piece)
            try:
                # One byte more than is taken tells that there is more.
                part = unpacker.decompress(piece, left + 1)
            except (zlib.error, zstd.ZstdError):
                raise LineRefusedError(f"is not {encoding}, or is damaged") from None
            left -= len(part)
            if left < 0:
                raise TooLargeError(f"the body unpacks to more than {bytes_max:,} bytes")
            if part:
                parts.append(part)
        at -= len(unpacker.unused_data)
        if at == len(body):
            return b"".join(parts)
    raise LineRefusedError(f"is {encoding} in more than {_MEMBERS_MAX:,} parts")
