"""Turn identifiers into keyed hashes, and keep the salt that keys them.

A plain hash of a short id is reversed by hashing every candidate, so the hash is
keyed with a salt that never leaves this computer. Each kind of identifier has a key
of its own, derived from the salt: equal values of different kinds do not show that
they are equal. What is kept is 128 bits, enough to group by for ever.
"""

from __future__ import annotations

import os
import stat

from stack_composer.telemetry.errors import GuardError

from .policy import SALT_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .policy import Policy

SALT_NAME = "salt"
HMAC_HEX_CHARS = 32
_BLOCK_BYTES = 64  # of SHA-256, as HMAC (RFC 2104) wants it
_HINT_SALT = "delete the file: a new one is made, and hashed ids change"


class Hasher:
    """Hashes values by field: ``hmac:`` and 32, or ``sha256:`` and 64 hex characters."""

    __slots__ = ("_pads", "_plain", "_salt", "_sha256")

    def __init__(self, policy: Policy) -> None:
        # Here rather than at the top: a program without identifiers never pays for it.
        from hashlib import sha256

        self._sha256 = sha256
        self._salt = policy.salt
        self._plain = policy.identifiers == "sha256"
        self._pads: dict[str, tuple[Any, Any]] = {}

    def hash(self, field: str, value: str) -> str:
        """The hash of ``value`` as a ``field``; stable as long as the salt is.

        A value that already is such a hash is returned as it is, so a guarded record
        can be guarded again.
        """
        if is_hash(value):
            return value
        data = value.encode("utf-8", "surrogatepass")
        if self._plain:
            return "sha256:" + str(self._sha256(data).hexdigest())
        inner, outer = self._pads.get(field) or self._derive(field)
        inner, outer = inner.copy(), outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return "hmac:" + str(outer.hexdigest()[:HMAC_HEX_CHARS])

    def _derive(self, field: str) -> tuple[Any, Any]:
        """The two halves of HMAC under the field's own key, ready to be copied."""
        inner, outer = self._keyed(self._salt)
        inner.update(b"field\0" + field.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        pads = self._pads[field] = self._keyed(outer.digest())
        return pads

    def _keyed(self, key: bytes) -> tuple[Any, Any]:
        if len(key) > _BLOCK_BYTES:
            key = self._sha256(key).digest()
        block = key.ljust(_BLOCK_BYTES, b"\0")
        return (
            self._sha256(bytes(byte ^ 0x36 for byte in block)),
            self._sha256(bytes(byte ^ 0x5C for byte in block)),
        )


def is_hash(value: str) -> bool:
    """Whether ``value`` has exactly the shape that ``Hasher.hash`` gives."""
    kind, colon, digits = value.partition(":")
    wanted = {"hmac": HMAC_HEX_CHARS, "sha256": 64}.get(kind)
    return bool(colon) and len(digits) == wanted and not digits.strip("0123456789abcdef")


def load_salt(folder: str) -> bytes:
    """Read the 32-byte salt in ``folder``; make folder (0700) and file (0600) first.

    Two processes may start at once: the file appears whole or not at all, and the
    slower process takes the salt of the faster.

    Raises:
        GuardError: The file is a symlink, another user's or damaged, or it cannot be
            made. The caller may go on with ``os.urandom(32)``; hashed ids then group
            within one process only.
    """
    path = os.path.join(folder, SALT_NAME)
    try:
        try:
            return _read_salt(path)
        except FileNotFoundError:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            _create_salt(path)
            return _read_salt(path)
    except OSError as error:
        raise GuardError(
            f"salt {path}: {error.strerror or type(error).__name__}",
            hint="make the configuration folder writable for its owner",
        ) from error


def _create_salt(path: str) -> None:
    """Write a new salt aside and link it into place, unless one is there by now."""
    aside = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(aside, flags, 0o600)
    try:
        try:
            os.write(descriptor, os.urandom(SALT_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _place(aside, path)
    finally:
        if os.path.exists(aside):
            os.unlink(aside)


def _place(aside: str, path: str) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:
        pass  # Another process was faster; its salt is the one.
    except (OSError, AttributeError, NotImplementedError):
        # No hard links here (FAT, some network folders). On Windows a rename never
        # replaces a file, so it is as safe as the link.
        if not os.path.exists(path):
            os.rename(aside, path)


def _read_salt(path: str) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    # Without O_NONBLOCK a named pipe in its place would never let go of its reader.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_private(descriptor, path)
        salt = os.read(descriptor, SALT_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(salt) != SALT_BYTES:
        raise GuardError(f"salt {path}: not {SALT_BYTES} bytes long", hint=_HINT_SALT)
    return salt


def _check_private(descriptor: int, path: str) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise GuardError(f"salt {path}: not a regular file", hint=_HINT_SALT)
    if not hasattr(os, "getuid"):
        return
    if status.st_uid != os.getuid():
        raise GuardError(f"salt {path}: belongs to another user", hint=_HINT_SALT)
    if status.st_mode & 0o077:
        os.fchmod(descriptor, 0o600)
