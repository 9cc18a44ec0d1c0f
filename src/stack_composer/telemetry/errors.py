"""Every error that is raised on purpose, each with a hint.

Three kinds of failure get three treatments. The caller's mistake is a
``ValueError`` or ``TypeError`` that names the argument. The world (a full disk, a
damaged file) is a ``TelemetryError``: the command line prints it in two lines.
Our own bug inside a recording call is counted, and the application goes on.

No message here ever quotes recorded content: it may be the very secret that the
guard missed.
"""

from __future__ import annotations


class TelemetryError(Exception):
    """Base of the package's errors.

    Attributes:
        hint: One command or edit that gets the user going again, or "".
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(TelemetryError):
    """The configuration cannot be used; the message names file, key and rule."""


class GuardError(TelemetryError):
    """A redaction rule is unusable; the message names the rule."""


class StoreError(TelemetryError):
    """The folder or a bundle cannot be used; the message names the path."""


class FolderRefusedError(StoreError):
    """The folder is a symlink, another user's, or not a folder: nothing is written."""


class StoreLockedError(StoreError):
    """The key of an encrypted store cannot be had, or is not the right one."""


class LineRefusedError(StoreError):
    """A line is not OTLP JSON; the message says why by position, never by content."""


class QueryError(TelemetryError):
    """A question that cannot be answered, such as ``--since yesterdayish``."""


class SendError(TelemetryError):
    """A destination that cannot be used, or that refused; the message names its origin."""


class NotAllowedError(SendError):
    """Nothing may leave: the message names the setting that says so."""


class ReceiveError(TelemetryError):
    """The receiver cannot be started; the message names the address."""
