"""The headers that go with what is sent, such as ``authorization``: their two sources.

They are secrets, so they stand in the environment or in the keychain, never in the
configuration file, and no message here quotes one. A header that cannot be sent as it
is (its name is no name, its value has a line end) or that says how the body is written
is left out, with a warning: it could only break the request or smuggle another one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from stack_composer.telemetry.errors import SendError, StoreLockedError
from stack_composer.telemetry.store import keys

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

SERVICE: Final = "stack-composer-telemetry headers"
"""Of the entries in the keychain; the user name of each is a destination's origin."""
HEADERS_MAX: Final = 64
VALUE_CHARS_MAX: Final = 16_384

_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"  # after lower-casing
)
_OURS: Final = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What says how a request is written and where it goes: never the user's to set."""


def parse_headers(text: str, label: str) -> tuple[dict[str, str], list[str]]:
    """Read ``name=value,name=value``, percent-encoded, as the environment has it.

    Args:
        text: In the form of W3C's baggage; properties behind a ``;`` mean nothing.
        label: The variable's name, for warnings.

    Returns:
        The headers by lower-case name, of one name the last; and warnings about what was
        left out, by its place.
    """
    headers: dict[str, str] = {}
    warnings: list[str] = []
    for number, part in enumerate(text.split(","), 1):
        if not part.strip():
            continue
        raw_name, separator, raw_value = part.partition(";")[0].partition("=")
        name = _decoded(raw_name).lower()
        value = _decoded(raw_value)
        wrong = "has no '='" if not separator else fault(name, value)
        if not wrong and name not in headers and len(headers) >= HEADERS_MAX:
            wrong = f"is more than {HEADERS_MAX} headers"
        if wrong:
            warnings.append(f"{label}: part {number} {wrong}: left out")
        else:
            headers[name] = value
    return headers, warnings


def _decoded(text: str) -> str:
    # What is no UTF-8 gets a character that `fault` refuses.
    return unquote_to_bytes(text.strip()).decode("utf-8", "replace")


def fault(name: str, value: str) -> str:
    """Say what is wrong with a header, or "": the end of a sentence, quoting nothing.

    Args:
        name: In lower case.
        value: As it would be sent.
    """
    if not name or not _TOKEN.issuperset(name):
        return "has a name that is none"
    if name in _OURS or name.startswith("grpc-"):
        return f"is {name}, which is not yours to set"
    if not value.isascii() or not value.isprintable():
        return "has a value with characters that no header has"
    if len(value) > VALUE_CHARS_MAX:
        return f"has a value of more than {VALUE_CHARS_MAX} characters"
    return ""


def read_keychain_headers(origin: str) -> dict[str, str]:
    """Read the headers of a destination from the keychain; {} if there are none.

    Args:
        origin: As ``Destination.origin`` writes it: ``https://host:443``.

    Raises:
        SendError: There is no keychain, it is locked, or its entry is not what
            ``write_keychain_headers`` wrote.
    """
    try:
        text = _keychain().get_password(SERVICE, origin)
    except SendError:
        raise
    except Exception as error:
        raise _no_keychain(type(error).__name__) from error
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or any(
        not isinstance(value, str) or fault(name, value) for name, value in found.items()
    ):
        raise SendError(
            f"the keychain's headers for {origin} cannot be read",
            hint="set them anew: 'stack-composer telemetry headers set'",
        )
    return found


def write_keychain_headers(origin: str, headers: Mapping[str, str]) -> None:
    """Keep the headers of a destination in the keychain, instead of those that it has.

    Args:
        origin: As ``read_keychain_headers``.
        headers: By name, in any case; without any, the entry is deleted.

    Raises:
        ValueError: A header cannot be sent; the message names no value.
        SendError: There is no keychain, it is locked, or it keeps nothing.
    """
    kept = {name.lower(): value for name, value in headers.items()}
    for name, value in kept.items():
        if wrong := fault(name, value):
            message = f"a header {wrong}"
            raise ValueError(message)
    text = json.dumps(kept, sort_keys=True)
    keychain = _keychain()
    try:
        if kept:
            keychain.set_password(SERVICE, origin, text)
            done = keychain.get_password(SERVICE, origin) == text
        else:
            if keychain.get_password(SERVICE, origin) is not None:
                keychain.delete_password(SERVICE, origin)
            done = keychain.get_password(SERVICE, origin) is None
    except Exception as error:
        raise _no_keychain(type(error).__name__) from error
    if not done:
        raise SendError("the keychain did not keep the headers", hint="see its own settings")


def _keychain() -> Any:
    try:
        return keys._keychain()
    except StoreLockedError as error:
        # The hint there is about keys of the store.
        raise SendError(str(error), hint=_hint(str(error))) from error


def _no_keychain(kind: str) -> SendError:
    # The kind alone: who knows what a backend puts into its messages.
    message = f"the keychain cannot be used ({kind})"
    return SendError(message, hint=_hint(message))


def _hint(message: str) -> str:
    if "package keyring" in message:
        return "pip install 'stack-composer-telemetry[encrypt]'"
    return (
        'unlock it, or set headers_from = "environment" under [upload] '
        "and OTEL_EXPORTER_OTLP_HEADERS"
    )
