"""One SQLCipher 4 database: found, opened with its key, made, and closed before a fork.

Names are never used twice: a new key means a new database with a name of its own, and
what is old is emptied and deleted. SQLite finds the WAL of a database by its path, so a
database put in the place of another one would meet that one's WAL; and a connection
that outlived its file would delete the WAL of the file that came after.

What many processes may do at once:

- Append: a transaction of SQLite's own, short. Whoever writes looks, with the write
  lock in its hands, whether the path still leads to the file that it has open.
- Make a database: under the lock of ``telemetry.lock``, under another name, with its key
  kept before its name is given. So a database that has its name is whole and has a key.
- Retire one (a new key, the way back to plain files): ``retired`` is set in a
  transaction, so whoever begins a bundle afterwards sees it and goes elsewhere.

SQLite's locks belong to the process and go when it closes any descriptor of the file.
So nothing here or elsewhere opens a database's file but SQLite; whoever must look at it
asks by ``stat``. And a connection must not be used by a forked child, not even be
closed there: see ``close_before_fork``.

Nothing in plain text leaves memory: temporary tables and journals of statements stay
there (``temp_store``), WAL and rollback journal hold encrypted pages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
import weakref

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import FolderRefusedError, StoreError, StoreLockedError
from stack_composer.telemetry.store import lock, names
from stack_composer.telemetry.store.folder import open_folder, store_error, sync_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from stack_composer.telemetry.store.folder import Folder
    from stack_composer.telemetry.store.keys import Keys
    from stack_composer.telemetry.store.names import BundleName

FORMAT: Final = 1
BUSY_MS: Final = 5_000
"""An append waits this long for another process's; each takes some milliseconds."""
WAL_BYTES_KEPT: Final = 8 * 2**20
FORK_WAIT_S: Final = 1.0
LOCK_WAIT_S: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
INSERT INTO meta VALUES ('format', 1), ('retired', 0);
CREATE TABLE bundle (
    id INTEGER PRIMARY KEY,
    stem TEXT, signal TEXT, created_ns INTEGER, pid INTEGER, updated_ns INTEGER,
    sealed INTEGER, closed INTEGER, plain_bytes INTEGER, lines INTEGER, bytes INTEGER,
    UNIQUE (stem, signal)
);
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, bundle INTEGER, start INTEGER, plain_bytes INTEGER, data BLOB
);
CREATE UNIQUE INDEX chunk_place ON chunk (bundle, start, plain_bytes);
CREATE TABLE sidecar (bundle INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE beside (bundle INTEGER, kind TEXT, data BLOB);
CREATE UNIQUE INDEX beside_place ON beside (bundle, kind);
"""
"""docs/format.md tells what each column holds.

Frames are no part of a key (as they would be ``WITHOUT ROWID``): SQLite reads the whole
of a key to compare it, so each search would decrypt frames, and stop at a damaged one.
"""

_INSTALL: Final = "pip install 'stack-composer-telemetry[encrypt]'"
_PURGE: Final = "'stack-composer telemetry purge --all' deletes it"

_open: weakref.WeakSet[Database] = weakref.WeakSet()
_registry = threading.Lock()
"""Held while ``_open`` changes, which an iteration would not survive."""
_held: dict[int, list[Database]] = {}
_leaked: list[Any] = []
"""What a fork found open, kept for ever: closing it in the child would harm the parent."""


def library() -> Any:
    """Give apsw with its ciphers.

    Raises:
        StoreError: It is not installed, or it is the one without ciphers, which would
            write plain text and say nothing.
    """
    try:
        import apsw
    except ImportError:
        raise StoreError("the encrypted store needs apsw-sqlite3mc", hint=_INSTALL) from None
    if not hasattr(apsw, "mc_version"):
        raise StoreError(
            "the encrypted store needs apsw-sqlite3mc; the apsw installed here cannot encrypt",
            hint=f"pip uninstall apsw; {_INSTALL}",
        )
    return apsw


class Database:
    """One database, opened when it is first used.

    Attributes:
        path: Absolute.
        stem: Of its name; the key is found by it.
        source: Where the key is.
        lock: Held while the connection is in use.
    """

    def __init__(
        self, directory: str, parsed: BundleName, keys: Keys, *, durability: str = "buffered"
    ) -> None:
        self.directory = os.path.abspath(directory)
        self.name = parsed.name
        self.path = os.path.join(self.directory, parsed.name)
        self.stem = parsed.stem
        self.source = parsed.signal
        self.created_ns = parsed.created_ns
        self.keys = keys
        self.lock = threading.RLock()
        self._durability = durability
        self._connection: Any = None
        self._identity: tuple[int, int] | None = None
        with _registry:
            _open.add(self)

    # -- using it --------------------------------------------------------------------

    @contextlib.contextmanager
    def use(self, action: str = "read") -> Iterator[Any]:
        """Hold the connection, opened if need be; what goes wrong becomes our error.

        Raises:
            StoreLockedError: There is no key, or it is a wrong one.
            StoreError: Whatever else the file or the disk refuses.
        """
        apsw = library()
        with self.lock:
            if _leaked:
                raise StoreError(
                    "a fork came in the middle of a write to the encrypted store; this process"
                    " cannot use it",
                    hint="start worker processes before recording, or with 'spawn'",
                )
            try:
                if self._connection is None:
                    self._connection = self._connect(apsw)
                yield self._connection
            except apsw.Error as error:
                self._rescue(apsw, error)
                told = database_error(action, self.path, error)
                raise told from told.__cause__

    @contextlib.contextmanager
    def change(self, action: str = "write") -> Iterator[Any]:
        """Hold the connection within a transaction that writes; all of it or nothing.

        Raises:
            GoneError: The path leads elsewhere by now; nothing was changed.
            StoreError: As ``use``.
        """
        with self.use(action) as connection:
            run(connection, "BEGIN IMMEDIATE")
            try:
                # Nobody can delete it rightly while we hold the lock: see ``erase``.
                if not self.is_current():
                    raise GoneError(f"{self.path} was removed", hint="try again")
                yield connection
                run(connection, "COMMIT")
            except BaseException:
                if connection is self._connection and connection.in_transaction:
                    run(connection, "ROLLBACK")
                raise

    def _rescue(self, apsw: Any, error: Exception) -> None:
        """Close after damage: the cipher refuses every page once it has refused one."""
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError, apsw.IOError)):
            with contextlib.suppress(apsw.Error):
                self.close()

    def is_current(self) -> bool:
        """Whether the path leads to the file that is open."""
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        """Close the connection; it is opened again when it is used again."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                # Without a checkpoint, which would hold up a program's end, and would
                # delete a WAL by its path.
                connection.close(force=True)

    # -- opening ---------------------------------------------------------------------

    def _connect(self, apsw: Any) -> Any:
        self._identity = self._check_file()
        found = self.keys.find(self.stem, self.source)
        for key in found:
            connection = connect(apsw, self.path, key)
            try:
                self._begin(connection)
            except apsw.NotADBError:
                connection.close(force=True)
            except BaseException:
                connection.close(force=True)
                raise
            else:
                return connection
        self.keys.forget(self.stem)
        raise wrong_key(self.path, self.source)

    def _check_file(self) -> tuple[int, int]:
        if not os.path.lexists(self.directory):
            raise GoneError(f"{self.path} was removed", hint="try again")
        folder = open_folder(self.directory, create=False)
        try:
            found = folder.stat(self.name)
        except FileNotFoundError:
            raise GoneError(f"{self.path} was removed", hint="try again") from None
        except OSError as error:
            raise store_error("open", self.path, error) from error
        finally:
            folder.close()
        is_own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
        if not stat.S_ISREG(found.st_mode) or not is_own:
            raise FolderRefusedError(
                f"{self.path} is not a regular file of this user",
                hint="set STACK_COMPOSER_TELEMETRY_DIR to a folder of your own",
            )
        if stat.S_IMODE(found.st_mode) & 0o077 and os.name != "nt":
            os.chmod(self.path, 0o600)
        return found.st_dev, found.st_ino

    def _begin(self, connection: Any) -> None:
        rows = run(connection, "SELECT name, value FROM meta")
        if dict(rows).get("format") != FORMAT:
            raise StoreError(
                f"{self.path} was written by another version",
                hint="update this package; nothing was changed",
            )
        level = "FULL" if self._durability == "sync" else "NORMAL"
        run(connection, f"PRAGMA synchronous={level}")
        # On macOS, where fsync leaves what it was given in the disk's own cache.
        run(connection, "PRAGMA fullfsync=1")

    # -- what is asked often -----------------------------------------------------------

    def sync(self) -> None:
        """Make durable what was committed: it is in the WAL, or was synced before it left.

        Raises:
            StoreError: The disk did not confirm it.
        """
        # By a descriptor of its own: SQLite keeps no locks on the WAL.
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(self.path + "-wal", flags)
                try:
                    sync_file(fd)
                finally:
                    os.close(fd)
            folder = open_folder(self.directory, create=False)
            try:
                folder.sync()
            finally:
                folder.close()
        except OSError as error:
            raise store_error("sync", self.path, error) from error

    def is_retired(self, connection: Any) -> bool:
        """Whether nothing is to be begun here any more."""
        return bool(value(connection, "SELECT value FROM meta WHERE name = 'retired'"))

    def forget_bundle(self, connection: Any, row: int) -> None:
        """Delete what a bundle's row leads to; the caller deletes the row itself."""
        run(connection, "DELETE FROM chunk WHERE bundle = ?", (row,))
        run(connection, "DELETE FROM sidecar WHERE bundle = ?", (row,))
        run(connection, "DELETE FROM beside WHERE bundle = ?", (row,))


class GoneError(StoreError):
    """The database was removed or replaced meanwhile."""


def run(connection: Any, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
    """Run one statement to its end and give its rows."""
    return list(connection.execute(statement, values))


def value(connection: Any, statement: str, values: tuple[Any, ...] = ()) -> Any:
    """Give the first column of the first row, or None."""
    rows = run(connection, statement, values)
    return rows[0][0] if rows else None


def connect(apsw: Any, path: str, key: bytes, *, create: bool = False) -> Any:
    """Open a file with a key; whether it fits is seen by the first reading."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
    folder, name = os.path.split(path)
    # Links above the folder are followed here, as SQLite then refuses any.
    connection = apsw.Connection(os.path.join(os.path.realpath(folder), name), flags=flags)
    try:
        connection.set_busy_timeout(BUSY_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        # Not cached, or the key would stand in the cache of statements.
        answers = [
            list(connection.execute(statement, can_cache=False))
            for statement in (
                "PRAGMA cipher='sqlcipher'",
                "PRAGMA legacy=4",
                f"PRAGMA key=\"x'{key.hex()}'\"",
            )
        ]
        if answers != [[("sqlcipher",)], [("4",)], [("ok",)]]:
            raise StoreError("the cipher of the encrypted store cannot be set", hint=_INSTALL)
        if create:
            run(connection, "PRAGMA auto_vacuum=INCREMENTAL")
            run(connection, "PRAGMA journal_mode=WAL")
        run(connection, "PRAGMA temp_store=MEMORY")
        run(connection, "PRAGMA secure_delete=ON")
        run(connection, f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
        if value(connection, "PRAGMA temp_store") != 2:
            raise StoreError("temporary files of the encrypted store cannot be kept in memory")
    except BaseException:
        connection.close(force=True)
        raise
    return connection


def wrong_key(path: str, source: str) -> StoreLockedError:
    """Say that the key that was found is not the one."""
    what = {
        "passphrase": "the passphrase is not the one it was made with",
        "keychain": "the key in the keychain is not its own",
        "keyfile": "the key in the key file is not its own",
    }[source]
    return StoreLockedError(
        f"{path} cannot be decrypted: {what}, or the file is damaged",
        hint=f"bring the right key back; without it nothing can be read, and {_PURGE}",
    )


def database_error(action: str, path: str, error: Exception) -> StoreError:
    """Turn what SQLite said into our error; its own words may quote a statement."""
    kind = type(error).__name__.removesuffix("Error")
    number = {"Full": errno.ENOSPC, "ReadOnly": errno.EACCES, "Perm": errno.EACCES}.get(kind)
    if number is not None:
        cause = OSError(number, os.strerror(number))
        told = store_error(action, path, cause)
        told.__cause__ = cause  # By which ``pressure`` knows a full disk.
        return told
    if kind in ("Corrupt", "NotADB"):
        return StoreError(
            f"cannot {action} {path}: it is damaged",
            hint="run 'stack-composer telemetry doctor'; what can be read is still read",
        )
    if kind in ("Busy", "Locked"):
        return StoreError(
            f"cannot {action} {path}: another process has had it for {BUSY_MS // 1000} s",
            hint="try again",
        )
    return StoreError(f"cannot {action} {path}: {kind}", hint="check its owner, mode and disk")


# -- finding and making ----------------------------------------------------------------


def find_databases(folder: Folder) -> list[BundleName]:
    """Find what databases are in a folder, oldest first."""
    found = [names.parse_name(name) for name in folder.names() if name.endswith(".sqlcipher")]
    ours = [one for one in found if one is not None and one.kind == names.DATABASE]
    return sorted(ours, key=lambda one: one.name)


@contextlib.contextmanager
def store_lock(
    folder: Folder, name: str = names.STORE_LOCK, *, wait_s: float = LOCK_WAIT_S
) -> Iterator[None]:
    """Hold one of the folder's two locks.

    Raises:
        StoreError: Somebody else has it, for longer than ``wait_s``.
        OSError: The file cannot be made.
    """
    until_ns = effects.monotonic_ns() + int(wait_s * 1e9)
    fd = _locked(folder, name, until_ns)
    while not os.fstat(fd).st_nlink:
        os.close(fd)  # Somebody has erased the folder's files meanwhile.
        fd = _locked(folder, name, until_ns)
    try:
        yield
    finally:
        os.close(fd)


def _locked(folder: Folder, name: str, until_ns: int) -> int:
    try:
        fd = folder.create(name)
    except FileExistsError:
        fd = folder.open(name, write=True)
    while lock.try_lock(fd) == lock.HELD:
        if effects.monotonic_ns() >= until_ns:
            os.close(fd)
            raise StoreError(
                f"another process is changing the store in {folder.path}",
                hint="wait for its end, and try again",
            )
        time.sleep(0.02)
    return fd


def open_for_writing(directory: str, keys: Keys, *, durability: str = "buffered") -> Database:
    """Open the oldest database that is not retired, or make one.

    Raises:
        FolderRefusedError: The folder is not safe to write to.
        StoreLockedError: There is no key, or none can be kept.
        StoreError: The database cannot be opened or made.
    """
    folder = open_folder(directory, create=True)
    try:
        found = _first_in_use(folder, keys, durability)
        if found is None:
            with store_lock(folder):
                found = _first_in_use(folder, keys, durability)
                if found is None:
                    made = make_database(folder, keys)
                    found = Database(folder.path, made, keys, durability=durability)
    except OSError as error:
        raise store_error("create a database in", directory, error) from error
    finally:
        folder.close()
    return found


def _first_in_use(folder: Folder, keys: Keys, durability: str) -> Database | None:
    locked: StoreLockedError | None = None
    for parsed in find_databases(folder):
        database = Database(folder.path, parsed, keys, durability=durability)
        try:
            with database.use("open") as connection:
                if not database.is_retired(connection):
                    return database
        except GoneError:
            continue
        except StoreLockedError as error:
            # Perhaps a retired one, with the key that was before.
            locked = error
        database.close()
    if locked is not None:
        raise locked
    return None


def make_database(folder: Folder, keys: Keys, *, source: str = "") -> BundleName:
    """Make an empty database with a key of its own; the caller holds ``store_lock``.

    Raises:
        StoreLockedError: The key cannot be kept anywhere.
        StoreError: The file cannot be made.
    """
    apsw = library()
    with contextlib.suppress(StoreLockedError):
        clear_half_made(folder, keys)
    source = source or keys.source()
    nonce = effects.random_bytes(names.DATABASE_NONCE_BYTES)
    stem = names.make_stem(effects.wall_ns(), os.getpid(), nonce)
    name = names.database_name(stem, source)
    parsed = names.parse_name(name)
    assert parsed is not None
    half_made = names.new_database_name(name)
    try:
        # The file first: should we be killed, it tells the next one of a key to destroy.
        os.close(folder.create(half_made))
        try:
            key = keys.make(stem, source)
        except StoreLockedError:
            folder.remove(half_made)
            raise
        _fill(apsw, folder.path_of(half_made), key)
        folder.rename(half_made, name)
        folder.sync()
    except apsw.Error as error:
        told = database_error("create", folder.path_of(name), error)
        raise told from told.__cause__
    except OSError as error:
        raise store_error("create", folder.path_of(name), error) from error
    return parsed


def _fill(apsw: Any, path: str, key: bytes) -> None:
    connection = connect(apsw, path, key, create=True)
    try:
        run(connection, "BEGIN IMMEDIATE")
        run(connection, _SCHEMA)
        run(connection, "COMMIT")
        # All of it into the file itself, and no WAL under the name that goes away.
        run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    finally:
        connection.close(force=True)


def find_half_made(folder: Folder) -> list[str]:
    """Name the files of databases that have no whole one, in an order to delete them."""
    present = frozenset(folder.names())
    found = []
    for name in sorted(present):
        parsed = names.parse_name(name) if ".sqlcipher" in name else None
        if parsed is None or parsed.kind == names.DATABASE:
            continue
        whole = names.database_name(parsed.stem, parsed.signal)
        if parsed.kind == names.TEMPORARY or whole not in present:
            found.append(name)
    return found


def clear_half_made(folder: Folder, keys: Keys) -> None:
    """Delete what somebody killed left: half-made, or half-destroyed, with its key.

    The caller holds ``store_lock``.

    Raises:
        StoreLockedError: A key cannot be destroyed; the file it opens is gone.
    """
    failure: StoreLockedError | None = None
    for name in find_half_made(folder):
        parsed = names.parse_name(name)
        assert parsed is not None
        if name == names.new_database_name(names.database_name(parsed.stem, parsed.signal)):
            try:
                keys.destroy(parsed.stem, parsed.signal)
            except StoreLockedError as error:
                failure = error
        folder.remove(name)
    if failure is not None:
        raise failure


def destroy(folder: Folder, name: str, keys: Keys) -> None:
    """Destroy a database with its key; the caller holds ``store_lock``.

    It loses its name first: killed at any moment, there is no database whose key is
    gone, and who makes or destroys the next one finishes this. The key goes before the
    file, as what a disk may keep of that is noise without it.

    Raises:
        StoreLockedError: The key cannot be destroyed; the file is gone.
        OSError: The file cannot be deleted.
    """
    folder.rename(name, names.new_database_name(name))
    folder.sync()
    clear_half_made(folder, keys)
    folder.sync()


# -- forks ---------------------------------------------------------------------------


def close_before_fork() -> None:
    """Close all connections and keep them closed until the fork is over.

    SQLite's state in a child would claim locks that the child does not have.
    """
    held = _held.setdefault(threading.get_ident(), [])
    with _registry:
        databases = list(_open)
    for database in databases:
        if database.lock.acquire(timeout=FORK_WAIT_S):
            held.append(database)
            database.close()


def after_fork_in_parent() -> None:
    """Let the connections be opened again."""
    for database in _held.pop(threading.get_ident(), ()):
        database.lock.release()


def after_fork_in_child() -> None:
    """Begin anew; what was not closed in time is never touched, and forbids all use."""
    global _registry
    _registry = threading.Lock()
    _held.clear()
    for database in list(_open):
        database.lock = threading.RLock()
        connection, database._connection = database._connection, None
        if connection is not None:
            _leaked.append(connection)
