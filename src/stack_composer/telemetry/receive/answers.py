"""What a client is told, in its own encoding: OTLP's responses and ``google.rpc.Status``.

Pure. Source: OTLP 1.11, "OTLP/HTTP Response" (docs of opentelemetry-proto).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from stack_composer.telemetry.otlp.to_protobuf import varint, with_length
from stack_composer.telemetry.receive import inbox

if TYPE_CHECKING:
    from typing import Final

    from stack_composer.telemetry.receive.inbox import Answer

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
BUSY_S: Final = 1
"""After so many seconds a client may come again when too much waits."""
NO_ROOM_S: Final = 30
"""Likewise while there is no room on the disk, or nothing is recorded."""

_INVALID_ARGUMENT: Final = 3
_BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
_REJECTED: Final = {
    "traces": "rejectedSpans",
    "metrics": "rejectedDataPoints",
    "logs": "rejectedLogRecords",
}
_STATUS: Final = {
    inbox.TAKEN: (200, 0),
    inbox.BAD: (400, 0),
    inbox.TOO_LARGE: (413, 0),
    inbox.OVERLOADED: (429, BUSY_S),
    inbox.NO_ROOM: (503, NO_ROOM_S),
    inbox.OFF: (503, NO_ROOM_S),
    inbox.BROKEN: (503, NO_ROOM_S),
    inbox.CLOSING: (503, BUSY_S),
}


class Response(NamedTuple):
    """An HTTP response, but for the line and the headers that every one has.

    Attributes:
        status: Of HTTP.
        content_type: Of the body.
        body: May be empty.
        headers: Beyond type and length.
    """

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def response_of(signal: str, answer: Answer, *, is_json: bool) -> Response:
    """Tell what became of a request."""
    status, retry_s = _STATUS[answer.verdict]
    kind = JSON if is_json else PROTOBUF
    if answer.verdict == inbox.TAKEN:
        return Response(status, kind, success(signal, answer, is_json=is_json))
    headers = (("Retry-After", str(retry_s)),) if retry_s else ()
    code = _INVALID_ARGUMENT if answer.verdict == inbox.BAD else 0
    return Response(status, kind, status_body(answer.message, code, is_json=is_json), headers)


def success(signal: str, answer: Answer, *, is_json: bool) -> bytes:
    """Give an ``Export*ServiceResponse``: empty, or with what was rejected or mended."""
    if not answer.rejected and not answer.message:
        return b"{}" if is_json else b""
    if is_json:
        partial: dict[str, str] = {}
        if answer.rejected:
            partial[_REJECTED[signal]] = str(answer.rejected)
        if answer.message:
            partial["errorMessage"] = answer.message
        return _json({"partialSuccess": partial})
    count = b"\x08" + varint(answer.rejected) if answer.rejected else b""
    return field(1, count + field(2, answer.message.encode()))


def status_body(message: str, code: int, *, is_json: bool) -> bytes:
    """Give a ``google.rpc.Status``; of bad data with a ``BadRequest`` among its details."""
    is_bad = code == _INVALID_ARGUMENT
    if is_json:
        status: dict[str, object] = {"message": message}
        if is_bad:
            violation = {"field": "body", "description": message}
            status = {"code": code, **status}
            status["details"] = [{"@type": _BAD_REQUEST, "fieldViolations": [violation]}]
        return _json(status)
    text = message.encode()
    if not is_bad:
        return field(2, text)
    bad_request = field(1, field(1, b"body") + field(2, text))
    detail = field(1, _BAD_REQUEST.encode()) + field(2, bad_request)
    return b"\x08" + varint(code) + field(2, text) + field(3, detail)


def field(number: int, value: bytes) -> bytes:
    """Give a field of protobuf that holds bytes, a text or a message; empty for none."""
    return varint(number << 3 | 2) + with_length(value) if value else b""


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
