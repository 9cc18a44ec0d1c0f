"""What a file in the telemetry folder is, told by its name alone.

``<UTC yyyymmddThhmmss>-<microseconds>Z-<pid>-<8 hex>.<signal>.<suffix>``. The name
sorts by time of creation, and age is read from it rather than from mtime, which
backup tools rewrite. A name counts as ours only if writing its parts again gives
the same name, so nothing foreign is ever sealed or purged by mistake.

The *stem* is all before the signal; a bundle's open file, sealed file, sidecar and page
of the imports ledger share stem and signal.

A database of the encrypted store is ``<stem>.<source>.sqlcipher``, with 16 random bytes
in its stem; the source says where its key is. SQLite puts ``-wal``, ``-shm`` and
``-journal`` behind that name. A new one is made under the name with ``.new`` at its end.

``stream-<16 hex>-<8 hex>.queue`` is what one stream is to send to one destination, told
by the first digits; its lock says that the stream lives (``upload.queue``).

``audit-<6 digits>-<UTC yyyymmddThhmmss>Z.jsonl.zst`` is a part of the log of what left
this computer; the time is when it was closed.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

OPEN: Final = "open"
SEALED: Final = "sealed"
SKETCH: Final = "sketch"
PAGE: Final = "page"
TEMPORARY: Final = "temporary"
DATABASE: Final = "database"
DATABASE_PART: Final = "database part"
LOCK: Final = "lock"
AUDIT_PART: Final = "audit part"

STORE_LOCK: Final = "telemetry.lock"
"""Its lock is held by who makes or deletes a database, for milliseconds."""
CONVERSION_LOCK: Final = "conversion.lock"
"""Its lock is held by who moves bundles from one form to another, for as long as it takes."""

SOURCES: Final = ("keychain", "passphrase", "keyfile")
"""Where the key of a database may be."""

DATABASE_PARTS: Final = ("-wal", "-shm", "-journal")
_NEW: Final = ".new"
_AUDIT: Final = "audit-"
_AUDIT_END: Final = ".jsonl.zst"
_STREAM: Final = "stream-"
_QUEUE: Final = ".queue"

_SUFFIXES: Final = {
    OPEN: "jsonl",
    SEALED: "jsonl.zst",
    SKETCH: "sketch.json",
    PAGE: "imports",
}
_KINDS: Final = {
    f"{signal}.{suffix}{end}": (signal, TEMPORARY if end else kind)
    for signal in ("traces", "metrics", "logs")
    for kind, suffix in _SUFFIXES.items()
    for end in ("", ".tmp")
    if not (kind == OPEN and end)
}
_DATABASE_KINDS: Final = {
    f"{source}.sqlcipher{end}{part}": (
        source,
        TEMPORARY if end else DATABASE_PART if part else DATABASE,
    )
    for source in SOURCES
    for end in ("", _NEW)
    for part in ("", *DATABASE_PARTS)
}
GDPR_PENDING: Final = "gdpr.pending"
"""A purge is owed (``gdpr``)."""
PURGE_STAMP: Final = "purge.stamp"
"""Its time is that of the last purge that came by itself (``opportunity``)."""
QUARANTINE: Final = "quarantine"
"""The folder of what ``doctor --repair`` could not read."""
PRESSURE_NOTE: Final = "pressure.json"
"""Which level of disk pressure holds."""
AUDIT: Final = "audit.jsonl"
"""What left this computer (``upload.audit``); no purge deletes it, nor its parts."""
AUDIT_NEW: Final = AUDIT + ".new"
"""A part of it, or its next file, that is being made."""
UPLOAD_LOCK: Final = "upload.lock"
"""Its lock is held by who uploads, for as long as it takes (``upload.run``)."""
OUTBOXES: Final = {"otlp_http": "outbox-http", "otlp_grpc": "outbox-grpc"}
"""The folder of what an exporter is still to send, where bundles are not kept besides."""
SINGLES: Final = frozenset(
    (
        GDPR_PENDING,
        PURGE_STAMP,
        QUARANTINE,
        PRESSURE_NOTE,
        AUDIT,
        AUDIT_NEW,
        UPLOAD_LOCK,
        *OUTBOXES.values(),
    )
)
"""Names of ours that are no part of a bundle."""
STREAM_ORIGIN_BYTES: Final = 8
NONCE_BYTES: Final = 4
DATABASE_NONCE_BYTES: Final = 16
"""More, since scrypt takes the stem as its salt."""
_PID_MAX: Final = 2**32 - 1
_FEBRUARY: Final = 2


class BundleName:
    """The parts of a name of ours; ``created_ns`` is Unix nanoseconds (whole µs).

    ``kind`` is ``OPEN``, ``SEALED``, ``SKETCH``, ``PAGE``, ``TEMPORARY``, ``DATABASE``,
    ``DATABASE_PART``, ``LOCK`` or ``AUDIT_PART``. Of a database ``signal`` is where its key is.
    """

    __slots__ = ("created_ns", "kind", "name", "pid", "signal", "stem")

    def __init__(self, name: str, stem: str, signal: str, kind: str) -> None:
        self.name = name
        self.stem = stem
        self.signal = signal
        self.kind = kind
        self.created_ns, self.pid = 0, 0


def make_stem(created_ns: int, pid: int, nonce: bytes) -> str:
    """Name a bundle; ``nonce`` is ``NONCE_BYTES`` random bytes, times before 1970 become 1970.

    Or a database; then it is ``DATABASE_NONCE_BYTES``.
    """
    seconds, rest_ns = divmod(max(created_ns, 0), 1_000_000_000)
    moment = time.gmtime(seconds)
    return (
        f"{moment.tm_year:04}{moment.tm_mon:02}{moment.tm_mday:02}"
        f"T{moment.tm_hour:02}{moment.tm_min:02}{moment.tm_sec:02}"
        f"-{rest_ns // 1000:06}Z-{pid}-{nonce.hex()}"
    )


def open_name(stem: str, signal: str) -> str:
    """Name the file that is being written, or was left unsealed."""
    return f"{stem}.{signal}.jsonl"


def sealed_name(stem: str, signal: str) -> str:
    """Name the compressed file."""
    return f"{stem}.{signal}.jsonl.zst"


def sketch_name(stem: str, signal: str) -> str:
    """Name the sidecar of a sealed file."""
    return f"{stem}.{signal}.sketch.json"


def page_name(stem: str, signal: str) -> str:
    """Name the page of the imports ledger of a sealed file that was imported."""
    return f"{stem}.{signal}.imports"


def temporary_name(name: str) -> str:
    """Name the file that becomes ``name`` once it is whole."""
    return name + ".tmp"


def database_name(stem: str, source: str) -> str:
    """Name a database of the encrypted store."""
    return f"{stem}.{source}.sqlcipher"


def new_database_name(name: str) -> str:
    """Name a database that becomes ``name`` once it is whole."""
    return name + _NEW


def stream_name(origin: bytes, nonce: bytes) -> str:
    """Name the queue of a stream: ``STREAM_ORIGIN_BYTES`` that tell to whom, and a nonce."""
    return f"{_STREAM}{origin.hex()}-{nonce.hex()}{_QUEUE}"


def stream_origin(name: str) -> bytes | None:
    """To whom a stream goes whose queue has this name; None for all other names."""
    if not (name.startswith(_STREAM) and name.endswith(_QUEUE)):
        return None
    try:
        origin, nonce = map(bytes.fromhex, name[len(_STREAM) : -len(_QUEUE)].split("-"))
    except ValueError:
        return None
    is_ours = (len(origin), len(nonce)) == (STREAM_ORIGIN_BYTES, NONCE_BYTES)
    return origin if is_ours and stream_name(origin, nonce) == name else None


def audit_part_name(number: int, until_ns: int) -> str:
    """Name a part of the audit log, the ``number``-th from 1, closed at ``until_ns``."""
    moment = time.gmtime(max(until_ns, 0) // 1_000_000_000)
    return f"{_AUDIT}{number:06}-{time.strftime('%Y%m%dT%H%M%SZ', moment)}{_AUDIT_END}"


def audit_part(name: str) -> tuple[int, int] | None:
    """Number and closing time (Unix ns) of a part of the audit log; None for other names."""
    if not (name.startswith(_AUDIT) and name.endswith(_AUDIT_END) and name.isascii()):
        return None
    number, _, moment = name[len(_AUDIT) : -len(_AUDIT_END)].partition("-")
    try:
        days = _days_since_1970(int(moment[:4]), int(moment[4:6]), int(moment[6:8]))
        seconds = int(moment[9:11]) * 3600 + int(moment[11:13]) * 60 + int(moment[13:15])
        until_ns = (days * 86_400 + seconds) * 1_000_000_000
        is_ours = audit_part_name(int(number), until_ns) == name
    except (ValueError, OverflowError, OSError):
        return None
    return (int(number), until_ns) if is_ours else None


def parse_name(name: str) -> BundleName | None:
    """Read a file name; None for whatever is not ours."""
    if audit_part(name) is not None:
        return BundleName(name, "", "", AUDIT_PART)
    if name in (STORE_LOCK, CONVERSION_LOCK) or stream_origin(name) is not None:
        return BundleName(name, "", "", LOCK)
    stem, _, suffix = name.partition(".")
    known = _KINDS.get(suffix)
    nonce_bytes = NONCE_BYTES
    if known is None:
        known = _DATABASE_KINDS.get(suffix)
        nonce_bytes = DATABASE_NONCE_BYTES
    if known is None:
        return None
    found = BundleName(name, stem, *known)
    try:
        found.created_ns, found.pid, nonce = _parse_stem(stem)
        canonical = make_stem(found.created_ns, found.pid, nonce)
    except (ValueError, OverflowError, OSError):
        return None
    is_ours = canonical == stem and found.pid <= _PID_MAX and len(nonce) == nonce_bytes
    return found if is_ours else None


def is_of_database(name: str) -> bool:
    """Whether a file is a database, SQLite's beside one, half-made, or a lock of the store.

    Such a file is looked at by ``stat`` alone: see ``store.encrypted.database``.
    """
    if ".sqlcipher" not in name and not name.endswith(".lock"):
        return False
    parsed = parse_name(name)
    return parsed is not None and (".sqlcipher" in name or parsed.kind == LOCK)


def _parse_stem(stem: str) -> tuple[int, int, bytes]:
    moment, micros, pid, nonce = stem.split("-")
    if not stem.isascii():
        raise ValueError("not the stem of a bundle")
    days = _days_since_1970(int(moment[:4]), int(moment[4:6]), int(moment[6:8]))
    seconds = int(moment[9:11]) * 3600 + int(moment[11:13]) * 60 + int(moment[13:])
    created_ns = (days * 86_400 + seconds) * 1_000_000_000 + int(micros[:6]) * 1000
    return created_ns, int(pid), bytes.fromhex(nonce)


def _days_since_1970(year: int, month: int, day: int) -> int:
    # By arithmetic, since ``calendar`` and ``datetime`` cost a small program more
    # to import than all its spans. March-based years put the leap day last.
    is_before_march = month <= _FEBRUARY
    year -= is_before_march
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + 9 if is_before_march else month - 3) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468
