"""The telemetry folder: private to its user, and never somewhere else by a trick.

All file work goes through a descriptor of the folder (``dir_fd``), so the folder
that was checked is the folder that is used, whatever happens to its path. The last
component of the path may not be a symbolic link; those above it may, since homes
are often reached through one. Where there is no ``dir_fd`` (Windows), names are
joined to the path and links are looked for before each use; there the user's
profile folder keeps others out.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from stack_composer.telemetry.errors import FolderRefusedError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_HAS_DIR_FD: Final = os.open in os.supports_dir_fd
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
# Without O_NONBLOCK a named pipe in the place of a bundle would block its reader.
_SAFE: Final = _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_PARENTS_MAX: Final = 64

_HINTS: Final = {
    errno.ENOSPC: "free some space, or run 'stack-composer telemetry purge'",
    errno.EROFS: "set STACK_COMPOSER_TELEMETRY_DIR to a folder that can be written",
    errno.EACCES: "set STACK_COMPOSER_TELEMETRY_DIR to a folder of your own",
    errno.EPERM: "set STACK_COMPOSER_TELEMETRY_DIR to a folder of your own",
    errno.EMFILE: "the process has too many files open; raise 'ulimit -n'",
}


def store_error(action: str, path: str, error: OSError) -> StoreError:
    """Turn what the system said into the error of this package; raise it from ``error``."""
    number = error.errno or 0
    if number == getattr(errno, "EDQUOT", None):
        number = errno.ENOSPC
    reason = error.strerror or type(error).__name__
    return StoreError(f"cannot {action} {path}: {reason}", hint=_HINTS.get(number, ""))


def open_folder(directory: str, *, create: bool) -> Folder:
    """Open the telemetry folder, or refuse it.

    Args:
        directory: Its path; relative means from the current folder.
        create: Make it and its missing parents (0700 each), and take away what
            group and others may do with it if it exists. A reader says False
            and changes nothing.

    Raises:
        FolderRefusedError: It is a symbolic link, not a folder, or another user's.
        StoreError: It cannot be opened or made; missing, when ``create`` is False.
    """
    # Without this, a slash at the end would make the system follow a link there.
    path = os.path.abspath(directory)
    try:
        if create and not os.path.lexists(path):
            _make(path)
        return _open_checked(path, tighten=create)
    except OSError as error:
        raise store_error("create" if create else "open", path, error) from error


def _make(path: str) -> None:
    missing = [path]
    while len(missing) < _PARENTS_MAX:
        parent = os.path.dirname(missing[-1])
        if parent == missing[-1] or os.path.lexists(parent):
            break
        missing.append(parent)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            continue  # Another process was faster; what it made is checked as any other.
        # A umask such as 0777 would leave a folder that even we cannot enter.
        os.chmod(folder, 0o700)


def _open_checked(path: str, *, tighten: bool) -> Folder:
    if not _HAS_DIR_FD:
        _check(os.lstat(path), path, want_folder=True)
        return Folder(path, None)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
            _check(os.lstat(path), path, want_folder=True)
        raise
    try:
        found = os.fstat(fd)
        _check(found, path, want_folder=True)
        if tighten and stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return Folder(path, fd)


def _check(found: os.stat_result, path: str, *, want_folder: bool) -> None:
    link = stat.S_ISLNK(found.st_mode) or (
        # Windows: junctions and other reparse points lead elsewhere too.
        getattr(found, "st_file_attributes", 0) & 0x400
    )
    if link:
        raise _refusal(path, "is a symbolic link")
    if want_folder and not stat.S_ISDIR(found.st_mode):
        raise _refusal(path, "is not a folder")
    if not want_folder and not stat.S_ISREG(found.st_mode):
        raise _refusal(path, "is not a regular file")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise _refusal(path, "belongs to another user")


def _refusal(path: str, why: str) -> FolderRefusedError:
    return FolderRefusedError(
        f"{path} {why}", hint="set STACK_COMPOSER_TELEMETRY_DIR to a folder of your own"
    )


def file_id(fd: int) -> tuple[int, int] | None:
    """Which file a descriptor leads to; None if it is closed.

    A program that turns itself into a daemon closes all descriptors, ours too, and
    its next file gets a number that we still hold. Whoever keeps a descriptor for
    long compares this before using it, or telemetry would end up in that file.
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def sync_file(fd: int) -> None:
    """Wait until the disk has all of a file that was written so far.

    On macOS ``fsync`` leaves it in the disk's own cache, which a power cut empties;
    ``F_FULLFSYNC`` does not, where the file system knows it.
    """
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
        else:
            return
    os.fsync(fd)


def close_own(fd: int, identity: tuple[int, int] | None) -> None:
    """Close a descriptor, unless its number has come to mean another file."""
    if identity is not None and file_id(fd) == identity:
        os.close(fd)


class Folder:
    """An open telemetry folder. Its methods raise plain OSError, but for refusals.

    ``names`` and the rest take file names, never paths.
    """

    __slots__ = ("_fd", "_id", "path")

    def __init__(self, path: str, fd: int | None) -> None:
        self.path = path
        self._fd = fd
        self._id = None if fd is None else file_id(fd)

    def path_of(self, name: str) -> str:
        """The path of a file in this folder, for messages and users."""
        return os.path.join(self.path, name)

    def _at(self, name: str) -> str:
        return self.path_of(name) if self._fd is None else name

    def create(self, name: str) -> int:
        """Make a file that did not exist: 0600 whatever the umask, for appending.

        Returns:
            A descriptor that can also read, as sealing does.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | _SAFE
        fd = os.open(self._at(name), flags, 0o600, dir_fd=self._fd)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(fd, 0o600)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open(self, name: str, *, write: bool = False, append: bool = False) -> int:
        """Open a file that exists; ``append`` writes at its end alone, and reads too.

        Raises:
            FolderRefusedError: It is a link, a pipe, or another user's.
            OSError: Anything else; FileNotFoundError if it is gone.
        """
        if self._fd is None:
            _check(os.lstat(self._at(name)), self.path_of(name), want_folder=False)
        flags = (os.O_RDWR if write or append else os.O_RDONLY) | _SAFE
        flags |= os.O_APPEND if append else 0
        try:
            fd = os.open(self._at(name), flags, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise _refusal(self.path_of(name), "is a symbolic link") from error
            raise
        try:
            _check(os.fstat(fd), self.path_of(name), want_folder=False)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def stat(self, name: str) -> os.stat_result:
        """Look at a name itself, never at what a link points to."""
        return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)

    def exists(self, name: str) -> bool:
        """Whether there is anything of this name, a dead link too."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def rename(self, old: str, new: str) -> None:
        """Give ``old`` the name ``new``, in one step, in the place of what had it."""
        before = self.stat(old)
        try:
            if self._fd is None:
                os.replace(self._at(old), self._at(new))
            else:
                os.replace(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except FileNotFoundError:
            # NFS repeats a request whose answer was lost; the second one finds nothing
            # to rename, since the first one did it.
            there = self.stat(new)
            if (there.st_dev, there.st_ino) != (before.st_dev, before.st_ino):
                raise

    def remove(self, name: str) -> bool:
        """Delete a file; False if it was already gone, as when two processes purge."""
        try:
            os.unlink(self._at(name), dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def remove_open(self, name: str, fd: int) -> None:
        """Delete a file that we hold open, and close it, which frees its lock."""
        if os.name != "nt":
            try:
                self.remove(name)
            finally:
                os.close(fd)
            return
        os.close(fd)
        try:
            self.remove(name)
        except PermissionError:
            # Windows deletes no file that somebody reads. It is superseded or empty,
            # so that the next process to adopt orphans deletes it.
            return

    def names(self) -> list[str]:
        """All names in the folder, in no order."""
        return os.listdir(self.path if self._fd is None else self._fd)

    def sync(self) -> None:
        """Make names durable; without it a power cut can undo a rename."""
        if self._fd is None:
            return  # Windows keeps names in its journal and offers nothing here.
        try:
            os.fsync(self._fd)
        except OSError as error:
            # Some network file systems cannot sync a folder; they order names themselves.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise

    def is_current(self) -> bool:
        """Whether the path still leads here: False once it was removed or moved."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        if self._fd is None:
            return stat.S_ISDIR(there.st_mode)
        return (there.st_dev, there.st_ino) == self._id == file_id(self._fd)

    def close(self) -> None:
        """Give the descriptor back; the object is of no use afterwards."""
        fd, self._fd = self._fd, None
        if fd is not None:
            close_own(fd, self._id)
