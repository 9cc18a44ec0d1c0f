"""The entries of the audit log: what a line of it holds, and how it is read and named.

The log itself, and why it is as it is: see ``audit``.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from typing import Final

SENDING: Final = "sending"
ANSWER: Final = "answer"
CONSENT: Final = "consent"
BEGUN: Final = "begun"
TORN: Final = "torn"
MISSING: Final = "missing"
FORGOTTEN: Final = "forgotten"

GENESIS: Final = "0" * 64
"""What the first line of a log follows."""
ENTRY_BYTES_MAX: Final = 2**16
MESSAGE_CHARS_MAX: Final = 200
ID_CHARS: Final = 16


class Position(NamedTuple):
    """A place in the plain text of a bundle.

    Attributes:
        offset: Where a line begins, in bytes.
        record: How many of its records that the selection keeps are before this place.
    """

    offset: int
    record: int = 0


class Part(NamedTuple):
    """What a request holds of one bundle: from ``start`` to before ``end``."""

    bundle: str
    """``<stem>.<signal>``"""
    start: Position
    end: Position


class Selected(NamedTuple):
    """Which records of a bundle were meant; 0 and an empty name for no limit."""

    since_ns: int = 0
    until_ns: int = 0
    name: str = ""


class Sending(NamedTuple):
    """A request that is about to leave.

    Attributes:
        origin: To whom, as ``Destination.origin``.
        path: Of the URL, without its query, which may be a credential.
        purpose: "upload", "otlp_http" or "otlp_grpc".
        protocol: As ``Destination.protocol``.
        plan: The plan that it is part of, "" for a stream.
        mode: "raw" or "aggregate".
        selected: Which records.
        parts: Where they are in the bundles.
        records: How many.
        bytes: Length of the body as it leaves.
        sha256: Of the body as it leaves, 64 hexadecimal digits.
    """

    origin: str
    path: str
    purpose: str
    protocol: str
    plan: str
    mode: str
    selected: Selected
    parts: tuple[Part, ...]
    records: int
    bytes: int
    sha256: str


_Place = tuple[str, int, int, int, int]


class Entry(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """A line of the log. Which fields it has depends on ``entry``; see ``docs/format.md``."""

    entry: str
    previous: str = ""
    time: str = ""
    unlocked: bool = False
    # Of "sending"; "to" also of "consent".
    to: str = ""
    path: str = ""
    purpose: str = ""
    protocol: str = ""
    plan: str = ""
    mode: str = ""
    since_ns: int = 0
    until_ns: int = 0
    name: str = ""
    parts: tuple[_Place, ...] = ()
    records: int = 0
    bytes: int = 0
    sha256: str = ""
    # Of "answer": the first digits of the hash of the line that it answers, and the rest.
    of: str = ""
    verdict: str = ""
    status: str = ""
    rejected: int = 0
    message: str = ""
    # Of "consent".
    action: str = ""
    policy: int = 0
    by: str = ""
    # Of "begun", "missing" and "forgotten": of the parts that the log is kept in, from 1.
    format: int = 0
    part: int = 0


def plain_text(text: str) -> str:
    """A text as entries hold it: what UTF-8 cannot hold is written as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def harmless(text: str) -> str:
    """What another computer said, as printable ASCII, and not too much of it."""
    return "".join(c for c in text if " " <= c <= "~")[:MESSAGE_CHARS_MAX]


def time_text(time_ns: int) -> str:
    """A time in UTC as entries hold it: of one length always, so texts sort as times do."""
    seconds, rest_ns = divmod(max(time_ns, 0), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest_ns // 1000:06}Z"


def hash_of(line: bytes) -> str:
    """The hash of a line, without its newline."""
    return sha256(line).hexdigest()


decode_entry = msgspec.json.Decoder(Entry).decode
"""Read a line; raises ``msgspec.MsgspecError`` for what is no entry."""
