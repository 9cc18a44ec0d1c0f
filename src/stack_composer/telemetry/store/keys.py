"""Where the keys of encrypted databases are: a keychain, a passphrase, or a key file.

Each database has a key of its own, of 32 random bytes, found by the database's stem. So
a key can be destroyed alone, and a new database can have a new key while the old one is
still being emptied. The name of a database says which of the three ways leads to its
key:

``keychain``
    The operating system's, by the package ``keyring``: one entry a database.
``passphrase``
    scrypt makes the key of the passphrase, with the stem as salt. Nothing is kept.
``keyfile``
    A text file of one's own, mode 0600: a line ``<stem> <64 hexadecimal digits>`` a
    database. A line of digits alone is the key of every database without such a line.
    Lines are only appended, and a destroyed key is overwritten where it stands, so two
    who change the file at once lose nothing of each other's.

Nothing here ever makes a second key for a database, and no message quotes a key.
"""

from __future__ import annotations

import os
import stat

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import StoreLockedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

KEY_BYTES: Final = 32
SERVICE: Final = "stack-composer-telemetry"
"""Of the entries in the keychain; the user name of each is the database's stem."""

VARIABLE: Final = "STACK_COMPOSER_TELEMETRY_PASSPHRASE"
NEW_VARIABLE: Final = "STACK_COMPOSER_TELEMETRY_NEW_PASSPHRASE"

_KEY_FILE_BYTES_MAX: Final = 2**20
_DESTROYED: Final = "0" * (2 * KEY_BYTES)
# 32 MiB and some 0.2 s: OWASP's smallest for scrypt, since a host program pays for it.
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 3, "maxmem": 64 * 2**20}

_UNSAFE_KEYCHAINS: Final = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")
"""The last keeps passwords in plain files."""


class Custody:
    """What this process does about keys; a program that records asks nobody.

    Attributes:
        ask: Asks for a passphrase, None where nobody can be asked.
        before_key: Called before a key comes into memory.
        may_prompt: Whether a keychain may ask its user to unlock it.
    """

    def __init__(self) -> None:
        self.ask: Callable[[str], str] | None = None
        self.before_key: Callable[[], None] | None = None
        self.may_prompt = False


custody = Custody()


class Keys:
    """The keys that one configuration leads to.

    Args:
        key_file: The configured file, or "".
    """

    def __init__(self, key_file: str = "") -> None:
        self.key_file = key_file
        self._known: dict[str, list[bytes]] = {}
        self._asked: str | None = None

    def source(self) -> str:
        """Where the key of a new database would be."""
        if self.key_file:
            return "keyfile"
        return "passphrase" if _passphrases() else "keychain"

    def check(self) -> None:
        """See whether the key of a new database could be kept; nothing is made.

        Raises:
            StoreLockedError: It could not; the hint says what to do.
        """
        source = self.source()
        if source == "keychain":
            _keychain()
        elif source == "keyfile" and os.path.lexists(self.key_file):
            os.close(self._open_file(os.O_RDONLY))

    def find(self, stem: str, source: str) -> list[bytes]:
        """Find the key of a database; of a passphrase there may be an old one and a new one.

        Raises:
            StoreLockedError: There is none, or no way to it; the hint says what to do.
        """
        found = self._known.get(stem)
        if found is None:
            if custody.before_key is not None:
                custody.before_key()
            found = self._find(stem, source)
            self._known[stem] = found
        return found

    def forget(self, stem: str) -> None:
        """Look for the key anew the next time: what was found did not fit."""
        self._known.pop(stem, None)
        self._asked = None

    def _find(self, stem: str, source: str) -> list[bytes]:
        if source == "keychain":
            return [_from_keychain(stem)]
        if source == "keyfile":
            return [self._from_file(stem)]
        texts = _passphrases()
        if not texts:
            if self._asked is None and custody.ask is not None:
                self._asked = custody.ask("passphrase of the telemetry store: ")
            texts = [self._asked] if self._asked else []
        if not texts:
            raise StoreLockedError(
                "the telemetry store is encrypted with a passphrase, and there is none",
                hint=f"set {VARIABLE} in the environment of the program",
            )
        return [derive(text, stem) for text in texts]

    def make(self, stem: str, source: str) -> bytes:
        """Make the key of a database that is about to be made, and keep it.

        Raises:
            StoreLockedError: It cannot be kept anywhere; then nothing was.
        """
        if custody.before_key is not None:
            custody.before_key()
        if source == "passphrase":
            texts = _passphrases() or ([self._asked] if self._asked else [])
            if not texts:
                raise StoreLockedError("there is no passphrase", hint=f"set {VARIABLE}")
            # The newest: after a change of the passphrase, what is made has the new one.
            key = derive(texts[-1], stem)
        elif source == "keyfile":
            key = self._make_in_file(stem)
        else:
            key = effects.random_bytes(KEY_BYTES)
            _to_keychain(stem, key)
        self._known[stem] = [key]
        return key

    def destroy(self, stem: str, source: str) -> bool:
        """Destroy the key of a database; False if it is not ours to destroy, or not there.

        A passphrase is in its owner's head, and a line for every database may be in use.

        Raises:
            StoreLockedError: It is there and cannot be destroyed.
        """
        self._known.pop(stem, None)
        if source == "keychain":
            return _destroy_in_keychain(stem)
        return source == "keyfile" and self._destroy_in_file(stem)

    # -- the key file ----------------------------------------------------------------

    def _open_file(self, flags: int) -> int:
        path = self.key_file
        if not path:
            raise StoreLockedError(
                "the key of the telemetry store is in a key file, and none is configured",
                hint='set key_file = "..." under [store] in the configuration',
            )
        try:
            fd = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            raise StoreLockedError(
                f"the key file {path} is not there",
                hint="bring it back from a backup; without it nothing can be read, and "
                "'stack-composer telemetry purge --all' deletes what is there",
            ) from None
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            _check_private(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _read_file(self, fd: int) -> list[tuple[int, str, str]]:
        """Give offset of the digits, stem ("" for all) and digits of each line."""
        try:
            text = os.pread(fd, _KEY_FILE_BYTES_MAX, 0) if hasattr(os, "pread") else _read(fd)
        except OSError as error:
            raise _unusable(self.key_file, error) from error
        rows = []
        offset = 0
        for line in text.split(b"\n"):
            words = line.split()
            if words and not line.lstrip().startswith(b"#"):
                digits = words[-1]
                stem = words[0] if len(words) > 1 else b""
                if len(words) <= 2 and _is_key(digits):
                    place = offset + line.rindex(digits)
                    rows.append((place, stem.decode("ascii", "replace"), digits.decode()))
            offset += len(line) + 1
        return rows

    def _from_file(self, stem: str) -> bytes:
        fd = self._open_file(os.O_RDONLY)
        try:
            rows = self._read_file(fd)
        finally:
            os.close(fd)
        for wanted in (stem, ""):
            for _, owner, digits in rows:
                if owner == wanted and digits != _DESTROYED:
                    return bytes.fromhex(digits)
        raise StoreLockedError(
            f"the key file {self.key_file} holds no key of this database",
            hint="write the key into it: 64 hexadecimal digits on a line",
        )

    def _make_in_file(self, stem: str) -> bytes:
        path = self.key_file
        if os.path.lexists(path):
            fd = self._open_file(os.O_RDONLY)
            try:
                rows = self._read_file(fd)
            finally:
                os.close(fd)
            if rows and not os.access(path, os.W_OK):
                return self._from_file(stem)  # Handed over by an administrator, for reading.
            fd = self._open_file(os.O_WRONLY | os.O_APPEND)
        else:
            fd = _create(path)
        key = effects.random_bytes(KEY_BYTES)
        try:
            # The first newline ends what a killed writer may have left.
            _write_all(fd, f"\n{stem} {key.hex()}\n".encode())
            os.fsync(fd)
        except OSError as error:
            raise _unusable(path, error) from error
        finally:
            os.close(fd)
        return key

    def _destroy_in_file(self, stem: str) -> bool:
        if not os.path.lexists(self.key_file):
            return False
        fd = self._open_file(os.O_RDWR)
        done = False
        try:
            for place, owner, digits in self._read_file(fd):
                if owner == stem and digits != _DESTROYED:
                    os.lseek(fd, place, os.SEEK_SET)
                    _write_all(fd, _DESTROYED.encode())
                    done = True
            os.fsync(fd)
        except OSError as error:
            raise _unusable(self.key_file, error) from error
        finally:
            os.close(fd)
        return done


_shared: dict[str, Keys] = {}


def configured(config: Any = None) -> Keys:
    """Give the keys that a configuration leads to; by default the one in effect.

    Always the same ones, so that a key is fetched, asked for or derived once a process.
    """
    if config is None:
        from stack_composer.telemetry.config import load_config

        config = load_config(bad_rules=True)
    return _shared.setdefault(config.key_file or "", Keys(config.key_file or ""))


def derive(passphrase: str, stem: str) -> bytes:
    """Make the key of a passphrase."""
    import hashlib

    salt = hashlib.sha256(stem.encode()).digest()
    secret = passphrase.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, dklen=KEY_BYTES, **_SCRYPT)


def _passphrases() -> list[str]:
    found = (os.environ.get(VARIABLE, ""), os.environ.get(NEW_VARIABLE, ""))
    return [text for text in found if text]


def _is_key(digits: bytes) -> bool:
    return len(digits) == 2 * KEY_BYTES and not digits.strip(b"0123456789abcdefABCDEF")


def _unusable(path: str, error: OSError) -> StoreLockedError:
    return StoreLockedError(
        f"the key file {path} cannot be used: {error.strerror or type(error).__name__}",
        hint="make it readable and writable for its owner",
    )


def _check_private(fd: int, path: str) -> None:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise StoreLockedError(f"the key file {path} is no regular file", hint="name another one")
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid != os.geteuid():
        raise StoreLockedError(
            f"the key file {path} belongs to another user", hint="name one of your own"
        )
    if found.st_mode & 0o077:
        raise StoreLockedError(
            f"the key file {path} has mode {stat.S_IMODE(found.st_mode):04o}: others can read it",
            hint=f"chmod 600 {path}, and change the key: 'stack-composer telemetry store rekey'",
        )


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    if hasattr(os, "fchmod"):
        os.fchmod(fd, 0o600)
    return fd


def _read(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, _KEY_FILE_BYTES_MAX)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


# -- the keychain --------------------------------------------------------------------


def _keychain() -> Any:
    """Give the keychain, or say why there is none to trust."""
    try:
        import keyring
    except ImportError:
        raise StoreLockedError(
            "the keychain needs the package keyring",
            hint="pip install 'stack-composer-telemetry[encrypt]'",
        ) from None
    try:
        keychain = keyring.get_keyring()
    except Exception as error:
        raise _no_keychain(error) from error
    # A chain of several would pass a key on to the next one, safe or not.
    is_chain = type(keychain).__module__ == "keyring.backends.chainer"
    some: list[Any] = list(getattr(keychain, "backends", ())) if is_chain else [keychain]
    safe = [one for one in some if not type(one).__module__.startswith(_UNSAFE_KEYCHAINS)]
    if not safe:
        raise StoreLockedError(
            "this computer has no keychain that this program can use",
            hint=f'set key_file = "..." under [store], or {VARIABLE} in the environment',
        )
    if not custody.may_prompt and type(safe[0]).__module__ == "keyring.backends.SecretService":
        _refuse_locked()
    return safe[0]


def _refuse_locked() -> None:
    """Refuse a locked Secret Service, which would ask its user and have us wait.

    A program that records has nobody in front of it to be asked on its behalf.
    """
    try:
        import secretstorage

        bus = secretstorage.dbus_init()
        try:
            is_locked = secretstorage.get_default_collection(bus).is_locked()
        finally:
            bus.close()
    except Exception as error:
        raise _no_keychain(error) from error
    if is_locked:
        raise StoreLockedError(
            "the keychain is locked",
            hint="unlock it, by logging in or with 'stack-composer telemetry store status'",
        )


def _no_keychain(error: Exception) -> StoreLockedError:
    # The kind alone: who knows what a backend puts into its messages.
    return StoreLockedError(
        f"the keychain cannot be used ({type(error).__name__})",
        hint=f'unlock it; or set key_file = "..." under [store], or {VARIABLE}',
    )


def _from_keychain(stem: str) -> bytes:
    keychain = _keychain()
    try:
        digits = keychain.get_password(SERVICE, stem)
    except Exception as error:
        raise _no_keychain(error) from error
    if digits is None or not _is_key(digits.encode()):
        raise StoreLockedError(
            "the keychain has no key of this telemetry store",
            hint="bring the keychain back; without it nothing can be read, and "
            "'stack-composer telemetry purge --all' deletes what is there",
        )
    return bytes.fromhex(digits)


def _to_keychain(stem: str, key: bytes) -> None:
    keychain = _keychain()
    try:
        keychain.set_password(SERVICE, stem, key.hex())
        kept = keychain.get_password(SERVICE, stem)
    except Exception as error:
        raise _no_keychain(error) from error
    if kept != key.hex():
        raise StoreLockedError("the keychain did not keep a key", hint="see its own settings")


def _destroy_in_keychain(stem: str) -> bool:
    keychain = _keychain()
    try:
        if keychain.get_password(SERVICE, stem) is None:
            return False
        keychain.delete_password(SERVICE, stem)
    except Exception as error:
        raise _no_keychain(error) from error
    return True
