"""Find Zstandard: in the standard library from Python 3.14, else its backport.

Both have one API. Imported only when something is sealed or read, since a small
program does neither.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdDecompressor, ZstdError, compress
else:
    from backports.zstd import CompressionParameter, ZstdDecompressor, ZstdError, compress

__all__ = ["ZstdDecompressor", "ZstdError", "compress_frame"]


def compress_frame(data: bytes) -> bytes:
    """Make one whole frame, of level 1, with a checksum that finds flipped bits."""
    options: dict[int, int] = {
        CompressionParameter.compression_level: 1,
        CompressionParameter.checksum_flag: 1,
    }
    return compress(data, options=options)
