"""Credentials of one destination, had when it is opened, and masked in what is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from stack_composer.telemetry.send.addresses import address_of
from stack_composer.telemetry.send.headers import read_keychain_headers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from stack_composer.telemetry.send.destination import Destination, Way
    from stack_composer.telemetry.send.proxies import Proxy
    from stack_composer.telemetry.send.sender import Message

_SECRET_CHARS_MIN: Final = 6
"""Shorter values, such as "1", are in every other sentence."""


def credentials_of(destination: Destination, signal: str) -> dict[str, str]:
    """The headers that go with each request of a signal. Secrets.

    Raises:
        SendError: They are in the keychain, and it cannot be read.
    """
    way = destination.way_of(signal)
    if destination.headers_from == "keychain":
        return read_keychain_headers(way.address.origin)
    return dict(way.headers)


def check_place(message: Message, way: Way) -> None:
    """See that a message is for the place that its way leads to.

    Raises:
        ValueError: It is for another; credentials go to one place alone.
    """
    if address_of(message.url, "the message's address").origin != way.address.origin:
        wrong = f"the message is not for {way.address.origin}"
        raise ValueError(wrong)


def secrets_of(credentials: Mapping[str, str], proxy: Proxy | None, query: str = "") -> list[str]:
    """What to mask in a server's words, the longest first.

    Args:
        credentials: Headers.
        proxy: Of which the password counts.
        query: Of an address that may hold a signature.
    """
    values = list(credentials.values())
    if proxy is not None:
        values += [proxy.authorization, proxy.userinfo, proxy.userinfo.partition(":")[2]]
    for part in query.split("&"):
        value = part.partition("=")[2]
        values += [value, unquote(value)]
    # "Bearer abc" is a secret, and so is "abc".
    values += [word for value in values for word in value.split()]
    return sorted({v for v in values if len(v) >= _SECRET_CHARS_MIN}, key=len, reverse=True)
