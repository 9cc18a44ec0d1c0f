"""Which messages were imported before: a large set of digests in little memory.

A message is known by a keyed digest of its bytes, so the same line is known again in a
file that was packed or renamed, or beside other lines. A line that stands several times
in one file is that many messages (two measurements in one second may look alike): the
second one's digest is another than the first one's. So importing is a union: after any
number of imports a message is there as often as the file with most of it has it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from stack_composer.telemetry.store.intake import DIGEST_BYTES, KEY_ID_BYTES

if TYPE_CHECKING:
    from typing import Final

REMEMBERED_MAX: Final = 8_000_000
"""Messages known at once, in some 130 MB; more are imported, and not known again."""

_BUCKETS: Final = 65_536
_ENTRY: Final = DIGEST_BYTES + 1
_SOURCES_MAX: Final = 255
_AGAIN_MIN: Final = 8
"""A message that stands in a file more often is counted, rather than looked for one by one."""


class Ledger:
    """The digests of one signal, each with the file of this import that it was seen in.

    Args:
        key: What keys the digests.

    Attributes:
        forgotten: Messages beyond ``REMEMBERED_MAX``.
    """

    def __init__(self, key: bytes) -> None:
        self.forgotten = 0
        self._key = key
        self._buckets: list[bytearray | None] = [None] * _BUCKETS
        self._count = 0
        self._source = 0
        self._again: dict[bytes, int] = {}

    def load(self, digests: bytes) -> None:
        """Add what a page says."""
        for at in range(0, len(digests), DIGEST_BYTES):
            self._add(digests[at : at + DIGEST_BYTES], 0)

    def next_source(self) -> None:
        """Begin with another file."""
        self._again.clear()
        self._source += 1
        if self._source > _SOURCES_MAX:
            # Forget which file each was seen in: none of them is being read.
            self._source = 1
            for bucket in self._buckets:
                if bucket is not None:
                    bucket[DIGEST_BYTES::_ENTRY] = bytes(len(bucket) // _ENTRY)

    def admit(self, data: bytes) -> bytes | None:
        """Give the digest of a message that is new; None for one that was imported.

        b"" for a new one that is not remembered.
        """
        digest = blake2b(data, digest_size=DIGEST_BYTES, key=self._key).digest()
        seen_in = self._seen_in(digest)
        first, times = digest, self._again.get(digest, 0)
        while seen_in == self._source:
            times += 1
            numbered = first + times.to_bytes(8, "big")
            digest = blake2b(numbered, digest_size=DIGEST_BYTES, key=self._key).digest()
            seen_in = self._seen_in(digest)
        if times >= _AGAIN_MIN:
            self._again[first] = times
        if seen_in >= 0:
            return None
        if self._count >= REMEMBERED_MAX:
            self.forgotten += 1
            return b""
        self._add(digest, self._source)
        return digest

    def retract(self, digest: bytes) -> None:
        """Forget a message that was admitted and then refused."""
        bucket = self._buckets[digest[0] << 8 | digest[1]] if digest else None
        at = bucket.rfind(digest) if bucket is not None else -1
        if bucket is not None and at >= 0 and at % _ENTRY == 0:
            del bucket[at : at + _ENTRY]
            self._count -= 1

    def _seen_in(self, digest: bytes) -> int:
        """The file that a digest was seen in last, and note the one of now; -1: in none."""
        bucket = self._buckets[digest[0] << 8 | digest[1]]
        if bucket is None:
            return -1
        at = bucket.find(digest)
        while at >= 0:
            if at % _ENTRY == 0:
                seen_in = bucket[at + DIGEST_BYTES]
                bucket[at + DIGEST_BYTES] = self._source
                return seen_in
            at = bucket.find(digest, at + 1)
        return -1

    def _add(self, digest: bytes, source: int) -> None:
        place = digest[0] << 8 | digest[1]
        bucket = self._buckets[place]
        if bucket is None:
            bucket = self._buckets[place] = bytearray()
        bucket += digest
        bucket.append(source)
        self._count += 1


def keys_of(salt: bytes) -> tuple[bytes, bytes]:
    """Derive from the salt the key of digests, and what tells it from another one."""
    key = blake2b(b"imports", digest_size=32, key=salt).digest()
    return key, blake2b(b"which", digest_size=KEY_ID_BYTES, key=key).digest()
