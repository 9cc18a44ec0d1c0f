"""Take addresses apart: scheme, host, port, path; and say what is on this computer.

Pure, and no name is ever looked up here. What cannot be taken apart is an error that
names the place where the address stands, and never quotes it: an address may hold a
signature or a password.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from stack_composer.telemetry.errors import SendError

if TYPE_CHECKING:
    from typing import Final

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_EXAMPLE: Final = "write it like https://collector.example.com:4318"


class Address(NamedTuple):
    """One address, taken apart.

    Attributes:
        scheme: "http" or "https".
        host: Lower-case, without brackets; a name of other scripts in its ASCII form.
        port: Always a number.
        path: "" or what begins with "/".
        query: Without the question mark.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def netloc(self) -> str:
        """Host and port, as they stand in an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port; the port is always written."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this computer, by its very text."""
        return is_loopback(self.host)


def address_of(url: str, label: str) -> Address:
    """Take an http or https address apart.

    Args:
        url: The address.
        label: Where it stands, such as "upload.endpoint", for errors.

    Raises:
        SendError: It is none, holds credentials, or has blanks or control characters.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in DEFAULT_PORTS:
        raise SendError(f"{label} is not an http or https address", hint=_EXAMPLE)
    if any(character <= " " or character == "\x7f" for character in url):
        raise SendError(f"{label} has a blank or a control character in it", hint=_EXAMPLE)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SendError(f"{label} has no host, or a port that is none", hint=_EXAMPLE) from None
    if "@" in parts.netloc:
        raise SendError(
            f"{label} holds credentials",
            hint="take the part before the @ out of the address and set a header instead",
        )
    if not host or port == 0:
        raise SendError(f"{label} has no host, or a port that is none", hint=_EXAMPLE)
    scheme = scheme.lower()
    # What is behind a "#" is never sent.
    return Address(
        scheme, _ascii_host(host, label), port or DEFAULT_PORTS[scheme], parts.path, parts.query
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this computer: ``localhost``, 127.0.0.0/8 or ``::1``.

    Nothing else is, whatever a name may lead to, nor another way to write a number.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _ascii_host(host: str, label: str) -> str:
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError:
            raise SendError(f"{label} has no host that can be reached", hint=_EXAMPLE) from None
    try:
        text = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        text = ""
    if not text or text.strip("abcdefghijklmnopqrstuvwxyz0123456789-._"):
        raise SendError(f"{label} has a host that is no name", hint=_EXAMPLE)
    return text
