"""What an answer means: delivered, worth another attempt, too large, or refused. Pure.

OTLP says which answers may be retried, exactly: 429, 502, 503 and 504 of HTTP, seven
codes of gRPC, and lost connections. All else that is not a success is refused. A success
must look like one: a page of HTML with status 200 is the portal of a hotel, not the
collector. What a server writes is never trusted: of its words at most 200 characters of
printable ASCII are kept.
"""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from stack_composer.telemetry import effects
from stack_composer.telemetry.errors import LineRefusedError
from stack_composer.telemetry.otlp import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

ANSWER_BYTES_MAX: Final = 4 * 2**20
"""Of an answer, packed and unpacked, as OTLP recommends."""
MESSAGE_CHARS_MAX: Final = 200
RETRY_AFTER_S_MAX: Final = 3_600.0
"""A server that asks for more is asked again after an hour."""

DELIVERED: Final = "delivered"
RETRY: Final = "retry"
TOO_LARGE: Final = "too_large"
REFUSED: Final = "refused"

RETRIED: Final = frozenset({429, 502, 503, 504})
_GRPC_RETRIED: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_SURELY_TAKEN_BYTES: Final = 16_384
"""No server has a lower limit; gRPC's usual one is 4 MiB."""
_OF_REQUEST: Final = frozenset(
    {"400", "409", "412", "422", "431", "500"}
    | {"INVALID_ARGUMENT", "ALREADY_EXISTS", "INTERNAL", "UNKNOWN", "FAILED_PRECONDITION"}
)
_WORDS: Final = {
    300: "it answers with a choice of other places",
    401: "it wants credentials: 'stack-composer telemetry headers set'",
    403: "the credentials do not permit this",
    404: "there is nothing at this path",
    405: "this path takes no such request",
    415: "it does not take this protocol or compression",
}


class Outcome(NamedTuple):
    """What came of one request.

    Attributes:
        verdict: "delivered", "retry", "too_large" (send less at once) or "refused".
        status: "200", "UNAVAILABLE", or ours, such as "no connection".
        rejected: Partial success: records that the server did not take; never to be sent
            again.
        message: The server's words or ours; printable ASCII, at most 200 characters.
        retry_after_s: The least to wait before another attempt, None if nobody said.
    """

    verdict: str
    status: str
    rejected: int = 0
    message: str = ""
    retry_after_s: float | None = None

    @property
    def is_about_destination(self) -> bool:
        """Whether a refusal concerns the place, so that any other request fares no better.

        A wrong certificate, path or credential: keep what was to be sent, and tell. A
        refusal of what the request holds (400) is none: the next one may pass.
        """
        return self.verdict == REFUSED and self.status not in _OF_REQUEST


# -- HTTP ------------------------------------------------------------------------------

_TOO_LARGE_TO_GO: Final = "http: request body too large"
"""What the Collector says, with 400, where OTLP wants a 413: the words of Go's net/http."""


def outcome_of_http(
    protocol: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now_ns: int | None = None,
) -> Outcome:
    """Judge an answer of HTTP.

    Args:
        protocol: Of the request: "http/protobuf", "http/json", "jaeger" or "put".
        status: Three digits.
        headers: By lower-case name.
        body: Unpacked, at most ``ANSWER_BYTES_MAX``.
        now_ns: Wall clock, for a Retry-After that is a date.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300:
        return _success(protocol, status, kind, body)
    if 300 <= status < 400:
        message = _redirection(status, headers.get("location", ""))
        return Outcome(REFUSED, str(status), 0, message)
    words = error_words(kind, body)
    if status in RETRIED:
        now_ns = effects.wall_ns() if now_ns is None else now_ns
        wait_s = retry_after_s(headers.get("retry-after", ""), now_ns)
        return Outcome(RETRY, str(status), 0, words or "it asks to come again", wait_s)
    if status == 413 or (status == 400 and words == _TOO_LARGE_TO_GO):
        return Outcome(TOO_LARGE, str(status), 0, words or "it takes no request as large as this")
    return Outcome(REFUSED, str(status), 0, words or _WORDS.get(status, "it refuses the request"))


def _success(protocol: str, status: int, kind: str, body: bytes) -> Outcome:
    looks_like_page = kind in ("text/html", "application/xhtml+xml") or (
        body[:512].lstrip().lower().startswith((b"<!doctype", b"<html"))
    )
    if body.strip() and looks_like_page:
        return _not_the_collector(status)
    if protocol in ("jaeger", "put"):
        return Outcome(DELIVERED, str(status))
    if not body:
        return Outcome(DELIVERED, str(status))
    wanted = "application/json" if protocol == "http/json" else "application/x-protobuf"
    partial = _partial_success(kind, body, is_wanted=kind == wanted)
    if partial is None:
        return _not_the_collector(status)
    return Outcome(DELIVERED, str(status), *partial)


def _not_the_collector(status: int) -> Outcome:
    return Outcome(
        RETRY,
        str(status),
        0,
        "something else than an OTLP server answered, such as the log-in page of a network",
    )


def _redirection(status: int, location: str) -> str:
    """Say where an answer points to, by origin alone: the rest may hold anything."""
    if status in (300, 304):
        return _WORDS.get(status, f"it answers {status}, which acknowledges nothing")
    match = re.match(
        r"(https?://)(?:[^/?#@\s]*@)?([A-Za-z0-9.:\[\]_-]{1,100})", location, re.IGNORECASE
    )
    place = f" ({match[1].lower()}{match[2]})" if match else ""
    return f"redirected to another place{place}, which is never followed"


def _partial_success(kind: str, body: bytes, *, is_wanted: bool) -> tuple[int, str] | None:
    """Read an ``Export*ServiceResponse``; None: it is none.

    Args:
        kind: The media type, in lower case.
        body: Not empty.
        is_wanted: Whether the type is that of the request, as it has to be; one that is
            not has to look like an answer and like nothing else.
    """
    if kind.endswith(("/json", "+json")) or (not is_wanted and body.lstrip()[:1] == b"{"):
        return _partial_of_json(body, is_wanted=is_wanted)
    try:
        return partial_of_protobuf(body, strict=not is_wanted)
    except LineRefusedError:
        # Whoever labels an answer as protobuf is an OTLP server; it took the request.
        return (0, "its answer could not be read") if is_wanted else None


def _partial_of_json(body: bytes, *, is_wanted: bool) -> tuple[int, str] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    partial = found.get("partialSuccess", found.get("partial_success"))
    if not is_wanted and found and "partialSuccess" not in found and "partial_success" not in found:
        return None
    if not isinstance(partial, dict):
        return 0, ""
    rejected = 0
    for name in _REJECTED:
        rejected = rejected or _count(partial.get(name))
    return rejected, clean(partial.get("errorMessage", partial.get("error_message", "")))


_REJECTED: Final = (
    "rejectedSpans",
    "rejectedDataPoints",
    "rejectedLogRecords",
    "rejected_spans",
    "rejected_data_points",
    "rejected_log_records",
)


def _count(value: Any) -> int:
    """Read an int64 of JSON, a text or a number; what is none counts as nothing."""
    text = str(value)
    if isinstance(value, (int, str)) and text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    return 0


def partial_of_protobuf(body: bytes, *, strict: bool = False) -> tuple[int, str]:
    """Read ``rejected_*`` and ``error_message`` of an ``Export*ServiceResponse``.

    Args:
        body: The message.
        strict: Take no field that this version does not know.

    Raises:
        LineRefusedError: It is no such message.
    """
    rejected, message = 0, ""
    for tag, value in _fields(body):
        if tag != 0x0A:
            if strict:
                raise LineRefusedError("is no answer of OTLP")
            continue
        for inner, found in _fields(value):
            if inner == 0x08:
                # Nobody can reject less than nothing.
                rejected = 0 if found >> 63 else found
            elif inner == 0x12:
                message = clean(found)
    return rejected, message


def _fields(data: bytes) -> list[tuple[int, Any]]:
    """List the fields of a message: tag, and a number or bytes; other wire types empty."""
    found: list[tuple[int, Any]] = []
    at, end = 0, len(data)
    while at < end:
        tag, at = wire.varint(data, at, end)
        if tag & 7 == 2 and tag >> 3:
            size, first = wire.varint(data, at, end)
            if size > end - first:
                raise wire.refused(at)
            found.append((tag, data[first : first + size]))
            at = first + size
        elif tag & 7 == 0 and tag >> 3:
            value, at = wire.varint(data, at, end)
            found.append((tag, value))
        else:
            at = wire.skip(data, at, end, tag)
            found.append((tag, b""))
    return found


def retry_after_s(text: str, now_ns: int) -> float | None:
    """Read a Retry-After: seconds, or a date; None for what is neither.

    A date in the past is no wait, and none is longer than ``RETRY_AFTER_S_MAX``.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        # A number of a thousand digits is as good as an hour, and int() may refuse it.
        return min(RETRY_AFTER_S_MAX, float(text)) if len(text) < 10 else RETRY_AFTER_S_MAX
    if not text or len(text) > 64:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
        if moment.tzinfo is None:
            # Without a zone it is Greenwich's time, not this computer's.
            moment = moment.replace(tzinfo=dt.UTC)
        seconds = moment.timestamp() - now_ns / 1e9
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
    return min(RETRY_AFTER_S_MAX, max(0.0, seconds))


def error_words(kind: str, body: bytes) -> str:
    """Find the words of an error's body: a ``google.rpc.Status``, a text, a store's code."""
    if kind == "application/x-protobuf":
        try:
            return next((clean(value) for tag, value in _fields(body) if tag == 0x12), "")
        except LineRefusedError:
            return ""
    if kind.endswith(("/json", "+json")):
        return _words_of_json(body)
    if kind in ("application/xml", "text/xml"):
        # Of S3 and its like the code alone: the rest repeats what was signed.
        match = re.search(rb"<Code>([A-Za-z0-9.]{1,80})</Code>", body[:4096])
        return clean(match[1]) if match else ""
    return clean(body) if kind == "text/plain" else ""


def _words_of_json(body: bytes) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for name in ("message", "error", "detail"):
        if isinstance(found, dict) and isinstance(found.get(name), str):
            return clean(found[name])
    return ""


def clean(text: str | bytes | object, secrets: Iterable[str] = ()) -> str:
    """Make a server's words fit to be shown and kept: printable ASCII, 200 characters.

    Args:
        text: A text, or bytes in UTF-8; anything else is no words.
        secrets: Texts that are masked, if a server says back what it was sent.
    """
    if isinstance(text, bytes):
        text = text[: 8 * MESSAGE_CHARS_MAX].decode("utf-8", "replace")
    if not isinstance(text, str):
        return ""
    for secret in secrets:
        text = text.replace(secret, "***")
    plain = "".join(
        character if " " <= character <= "~" else " " if character.isspace() else "?"
        for character in text[: 8 * MESSAGE_CHARS_MAX]
    )
    plain = " ".join(plain.split())
    return plain if len(plain) <= MESSAGE_CHARS_MAX else plain[: MESSAGE_CHARS_MAX - 3] + "..."


def outcome_of_proxy(status: str, place: str) -> Outcome:
    """Judge what a proxy answers to CONNECT, other than yes.

    Args:
        status: Three digits.
        place: The proxy's address, without credentials.
    """
    if status in ("401", "407"):
        words = f"the proxy {place} wants a user and a password, or others than it was given"
    else:
        words = f"the proxy {place} answers {status}"
    # Of five hundred and something it is the way beyond that fails: no connection.
    verdict = RETRY if status.startswith("5") else REFUSED
    return Outcome(verdict, f"proxy {status}", 0, words)


# -- gRPC ------------------------------------------------------------------------------


def outcome_of_grpc(
    code: str, details: str, metadata: Iterable[tuple[str, str | bytes]], *, sent_bytes: int
) -> Outcome:
    """Judge an answer of gRPC that is no success.

    Args:
        code: By name, such as "UNAVAILABLE".
        details: The status's words.
        metadata: The trailing one.
        sent_bytes: Of the message that was sent, before packing.
    """
    words = clean(details)
    wait_s = _retry_info_s(metadata)
    if is_too_large(code, details, sent_bytes):
        return Outcome(TOO_LARGE, code, 0, words)
    if code in _GRPC_RETRIED or (code == "RESOURCE_EXHAUSTED" and wait_s is not None):
        return Outcome(RETRY, code, 0, words, wait_s)
    if code == "RESOURCE_EXHAUSTED" and re.search("larger than max", details):
        return Outcome(REFUSED, "answer too large", 0, words)
    return Outcome(REFUSED, code, 0, words)


def is_too_large(code: str, details: str, sent_bytes: int) -> bool:
    """Whether a server says that it takes no message of this size.

    No code says so; servers use two, and the same words are used of an answer that is
    larger than we take. So the words must be those of a known server, and a size that
    they name must be that of what was sent.
    """
    if code not in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "INVALID_ARGUMENT"):
        return False
    if "CLIENT: " in details:
        # This is what our own side says.
        return False
    match = re.search(
        r"message larger than max \((\d+) vs\. \d+\)"  # Go, C++, Python
        r"|message exceeds maximum size \d+: (\d+)"  # Java
        r"|message length too large: found (\d+) bytes"  # Rust
        r"|message (?:after decompression )?larger than max|message exceeds maximum size"
        r"|message (?:length )?too large|body exceeded maximum size",  # .NET and others
        details,
        re.IGNORECASE,
    )
    if match is None:
        return False
    size = next((group for group in match.groups() if group), "")
    if not size:
        # Of a packed answer our own side says the very same, without a size.
        return sent_bytes >= _SURELY_TAKEN_BYTES
    # A packed message may be counted as it came.
    return int(size[:18]) <= sent_bytes


def _retry_info_s(metadata: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Find ``google.rpc.RetryInfo`` in the status's details; None if there is none."""
    for name, value in metadata:
        if name.lower() != "grpc-status-details-bin":
            continue
        try:
            raw = value if isinstance(value, bytes) else base64.b64decode(value + "===")
            for tag, detail in _fields(raw):
                if tag == 0x1A and (wait_s := _retry_info_of(detail)) is not None:
                    return wait_s
        except (LineRefusedError, ValueError):
            return None
    return None


def _retry_info_of(detail: bytes) -> float | None:
    """Read an ``Any`` that holds a RetryInfo: seconds, None if it holds something else."""
    fields = dict(_fields(detail))
    if not bytes(fields.get(0x0A, b"")).endswith(b"/google.rpc.RetryInfo"):
        return None
    delay = dict(_fields(fields.get(0x12, b""))).get(0x0A, b"")
    duration = dict(_fields(delay))
    seconds, nanos = duration.get(0x08, 0), duration.get(0x10, 0)
    if seconds >> 63 or nanos >> 63:
        return 0.0
    return float(min(RETRY_AFTER_S_MAX, seconds + nanos / 1e9))
