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

from .policy import SALT_BYTES, Policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SALT_NAMES = {"local": "salt", "upload": "salt-upload"}
"""The files of the salts by purpose: for what stays here, and for what is uploaded."""
HMAC_HEX_CHARS = 32
_HEX = "0123456789abcdef"
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
        return "hmac:" + self._digits(field, data)

    def _digits(self, field: str, data: bytes) -> str:
        inner, outer = self._pads.get(field) or self._derive(field)
        inner, outer = inner.copy(), outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return str(outer.hexdigest()[:HMAC_HEX_CHARS])

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


class UploadHasher(Hasher):
    """Hashes ids once more, for what is uploaded: ``upload:`` and 32 hex characters.

    Under a salt of its own, so that who gets uploads can't join them with the files
    here, nor with other uploads once that salt is rotated. What arrives is mostly a
    hash already; it is hashed as the text that it is.
    """

    __slots__ = ()

    def __init__(self, salt: bytes) -> None:
        """Take the salt, ``load_salt(folder, purpose="upload")``."""
        super().__init__(Policy(salt=salt))

    def hash(self, field: str, value: str) -> str:
        """The hash of ``value`` as a ``field``; one of this kind is returned as it is."""
        kind, _, digits = value.partition(":")
        if kind == "upload" and is_hash("hmac:" + digits):
            return value
        return "upload:" + self._digits(field, value.encode("utf-8", "surrogatepass"))


def is_hash(value: str) -> bool:
    """Whether ``value`` has exactly the shape that ``Hasher.hash`` gives."""
    kind, colon, digits = value.partition(":")
    wanted = {"hmac": HMAC_HEX_CHARS, "sha256": 64}.get(kind)
    return bool(colon) and len(digits) == wanted and not digits.strip("0123456789abcdef")


def load_salt(folder: str, purpose: str = "local") -> bytes:
    """Read the 32-byte salt in ``folder``; make folder (0700) and file (0600) first.

    ``purpose`` is "local", or "upload" for the one of ``UploadHasher``.

    Two processes may start at once: the file appears whole or not at all, and the
    slower process takes the salt of the faster.

    Raises:
        GuardError: The file is a symlink, another user's or damaged, or it cannot be
            made. The caller may go on with ``os.urandom(32)``; hashed ids then group
            within one process only.
    """
    path = os.path.join(folder, SALT_NAMES[purpose])
    try:
        try:
            return _read_salt(path)
        except FileNotFoundError:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            _write_salt(path, _place)
            return _read_salt(path)
    except OSError as error:
        raise _unusable(path, error) from error


def salt_paths(folder: str) -> list[str]:
    """The files of the salts that there are in ``folder``."""
    paths = [os.path.join(folder, name) for name in SALT_NAMES.values()]
    return [path for path in paths if os.path.lexists(path)]


def erase_salts(paths: list[str]) -> list[str]:
    """Delete salts, and what a rotation that was killed left beside them.

    Nobody can tell then whose an id was that they hashed. Returns the files deleted.

    Raises:
        GuardError: One cannot be deleted; those before it are gone.
    """
    deleted = []
    for path in paths:
        folder, name = os.path.split(path)
        try:
            # ``_write_salt`` has the names of what it writes aside.
            aside = [other for other in os.listdir(folder) if _is_aside(other, name)]
            for each in (*(os.path.join(folder, other) for other in aside), path):
                os.unlink(each)
            _sync_folder(folder)
        except OSError as error:
            raise _unusable(path, error) from error
        deleted.append(path)
    return deleted


def _is_aside(other: str, name: str) -> bool:
    begin, _, rest = other.partition(".")
    pid, _, nonce = rest.partition(".")
    return begin == name and pid.isdigit() and len(nonce) == 8 and not nonce.strip(_HEX)


def rotate_salts(folder: str) -> list[str]:
    """Replace each salt that there is in ``folder`` by a new one; ids change with them.

    Stopped at any moment, each file holds its old salt or a new one, whole; what was
    begun lies beside it. Of two who rotate at once the later one's salt stays.

    Returns:
        The files replaced; running programs follow within a second.

    Raises:
        GuardError: A file is a symlink or another user's, or cannot be replaced;
            those before it are.
    """
    rotated = []
    for path in salt_paths(folder):
        try:
            os.close(_open_private(path))
            _write_salt(path, os.replace)
            # Without it a power cut could bring the old salt back, when hashes under the
            # new one are on disk already.
            _sync_folder(folder)
        except OSError as error:
            raise _unusable(path, error) from error
        rotated.append(path)
    return rotated


def _unusable(path: str, error: OSError) -> GuardError:
    return GuardError(
        f"salt {path}: {error.strerror or type(error).__name__}",
        hint="make the configuration folder writable for its owner",
    )


def _write_salt(path: str, place: Callable[[str, str], None]) -> None:
    """Write a new salt aside, and have ``place`` bring it to ``path`` once it is durable."""
    aside = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(aside, flags, 0o600)
    try:
        try:
            os.write(descriptor, os.urandom(SALT_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        place(aside, path)
    finally:
        if os.path.exists(aside):
            os.unlink(aside)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":
        return  # A folder cannot be opened there.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(aside: str, path: str) -> None:
    """Link a file into place, unless one is there by now."""
    try:
        os.link(aside, path)
    except FileExistsError:
        pass  # Another process was faster; its salt is the one.
    except (OSError, AttributeError, NotImplementedError):
        # No hard links here (FAT, some network folders). On Windows a rename never
        # replaces a file, so it is as safe as the link.
        if not os.path.exists(path):
            os.rename(aside, path)


def _open_private(path: str) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    # Without O_NONBLOCK a named pipe in its place would never let go of its reader.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_private(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read_salt(path: str) -> bytes:
    descriptor = _open_private(path)
    try:
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
