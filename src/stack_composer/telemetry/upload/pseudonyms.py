"""Hash ids once more on their way out, under a salt of their own.

Here an id is a keyed hash (``guard.hashing``). Who gets uploads gets another hash of that
hash: it still groups what belongs together, and can be joined neither with the files here
nor, once the salts are rotated, with what was sent before.

The hashes are found in the bytes of a line, wherever they stand: they have a shape of their
own, and no escape is in them. Plain SHA-256 (``identifiers = "sha256"``) stays as it is:
that setting is for those who must join on it elsewhere.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from stack_composer.telemetry.guard.hashing import UploadHasher, load_salt

if TYPE_CHECKING:
    from typing import Final

    from stack_composer.telemetry.config import Config

KNOWN_MAX: Final = 10_000
"""Hashes that are remembered; beyond it all are forgotten and worked out anew."""

_HASH: Final = re.compile(
    rb"(?<![0-9A-Za-z_])hmac:([0-9a-f]{32})(?![0-9A-Za-z_])"
    # What a rule of the user's own hashed within a text.
    rb"|\[redacted:([a-z0-9-]+):([0-9a-f]{32})\]"
)


class Pseudonyms:
    """Replaces the hashes of this computer by those of uploads.

    Args:
        salt: Of uploads, 32 bytes.

    Attributes:
        mark: Tells this salt from another one, and nothing else of it.
    """

    __slots__ = ("_hasher", "_known", "mark")

    def __init__(self, salt: bytes) -> None:
        self._hasher = UploadHasher(salt)
        self._known: dict[bytes, bytes] = {}
        self.mark = self._hasher.hash("mark", "")

    def line(self, line: bytes) -> bytes:
        """A line as it may leave; to be asked once for each line, and before packing."""
        # Searched at memory speed; most lines of most programs have neither.
        if b"hmac:" not in line and b"[redacted:" not in line:
            return line
        return _HASH.sub(self._replaced, line)

    def _replaced(self, found: re.Match[bytes]) -> bytes:
        whole = found[0]
        known = self._known.get(whole)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[whole] = self._made(found)
        return known

    def _made(self, found: re.Match[bytes]) -> bytes:
        # The hash of this computer tells fields apart already.
        digits = (found[1] or found[3]).decode()
        rule = (found[2] or b"").decode()
        made = self._hasher.hash(rule, f"hmac:{digits}")
        if rule:
            return f"[redacted:{rule}:{made.partition(':')[2]}]".encode()
        return made.encode()


def pseudonyms_of(config: Config) -> Pseudonyms:
    """Load the salt of uploads, which is made if there is none.

    Raises:
        GuardError: It cannot be read or made; then nothing may leave.
    """
    return Pseudonyms(load_salt(os.path.dirname(config.config_path), "upload"))
