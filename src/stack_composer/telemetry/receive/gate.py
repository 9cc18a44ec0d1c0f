"""Who may send what: judges the head of a request before its body is read.

Pure. The receiver is for programs on this computer, so it must not serve web pages that
a browser here has open: a foreign ``Host`` is DNS rebinding, an ``Origin`` that was not
allowed is another site's script, and both are refused.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING

from stack_composer.telemetry.receive.answers import JSON, PROTOBUF, Response, status_body
from stack_composer.telemetry.receive.bodies import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Final

PATHS: Final = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
"""Where each signal is sent to."""


class Head:
    """What the head of a request says.

    Attributes:
        signal: By its path; "" for a path that is none of ours.
        is_json: The body's type, and that of the answer.
        encoding: How the body is packed: one of ``ENCODINGS``, or "".
        origin: Of the web page that sends it; "" for all but browsers.
    """

    __slots__ = ("encoding", "is_json", "origin", "signal")

    def __init__(self, path: str, headers: Mapping[str, str]) -> None:
        self.signal = PATHS.get(path, "")
        self.is_json = _media_type(headers) == JSON
        encoding = headers.get("content-encoding", "").strip().lower()
        self.encoding = "" if encoding == "identity" else encoding
        self.origin = headers.get("origin", "")


class Gate:
    """The rules of one receiver.

    Args:
        hosts: Names in ``Host`` that are this computer, besides those of its loopback.
        origins: Web pages that may send.
        token: What ``Authorization: Bearer`` must hold; "" for none.
    """

    def __init__(
        self, *, hosts: Collection[str] = (), origins: Collection[str] = (), token: str = ""
    ) -> None:
        self._hosts = {host.lower() for host in hosts}
        self._origins = frozenset(origins)
        self._token = token.encode()

    def refusal(self, method: str, head: Head, headers: Mapping[str, str]) -> Response | None:
        """Say why a request is not taken, from its head alone; None if it is."""
        for judge in (self._of_sender, self._of_place, self._of_form):
            response = judge(method, head, headers)
            if response is not None:
                return response
        return None

    def allows_origin(self, origin: str) -> bool:
        """Whether the scripts of a web page may send."""
        return origin in self._origins

    def _of_sender(self, method: str, head: Head, headers: Mapping[str, str]) -> Response | None:
        host = headers.get("host")
        if host is None:
            return _refused(400, head, "there is no Host")
        if not self._is_ours(host):
            return _refused(403, head, "Host is not this computer: see serve.hosts")
        if head.origin and not self.allows_origin(head.origin):
            return _refused(403, head, "this web page may not send: see serve.origins")
        # A preflight carries no credentials.
        if self._token and method != "OPTIONS" and not self._is_known(headers):
            given = ("WWW-Authenticate", "Bearer")
            return _refused(401, head, "a token is needed: Authorization: Bearer", given)
        return None

    def _of_place(self, method: str, head: Head, headers: Mapping[str, str]) -> Response | None:
        if not head.signal:
            return _refused(404, head, "there is /v1/traces, /v1/metrics and /v1/logs")
        if method == "OPTIONS" and head.origin:
            return Response(204, "", b"", _preflight(headers))
        if method != "POST":
            return _refused(405, head, "only POST is taken", ("Allow", "POST"))
        return None

    def _of_form(self, _method: str, head: Head, headers: Mapping[str, str]) -> Response | None:
        if _media_type(headers) not in (JSON, PROTOBUF):
            return _refused(415, head, f"Content-Type is neither {PROTOBUF} nor {JSON}")
        if head.encoding and head.encoding not in ENCODINGS:
            taken = ", ".join(ENCODINGS)
            text = f"Content-Encoding is none of {taken}"
            return _refused(415, head, text, ("Accept-Encoding", taken))
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.strip().lower()
        if name.startswith("["):
            name, closing, _ = name[1:].partition("]")
            if not closing:
                return False
        elif name.count(":") <= 1:
            name = name.partition(":")[0]
        if name in self._hosts or name in ("localhost", "localhost."):
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False

    def _is_known(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode(), self._token)


def _preflight(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    asked = headers.get("access-control-request-headers", "content-type")
    return (
        ("Access-Control-Allow-Methods", "POST"),
        ("Access-Control-Allow-Headers", asked if asked.isprintable() else "content-type"),
        ("Access-Control-Max-Age", "600"),
    )


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _refused(status: int, head: Head, message: str, *headers: tuple[str, str]) -> Response:
    kind = JSON if head.is_json else PROTOBUF
    return Response(status, kind, status_body(message, 0, is_json=head.is_json), headers)
