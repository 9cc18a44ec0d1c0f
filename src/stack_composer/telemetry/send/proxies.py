"""Which proxy a request goes through: a pure decision on the address and the environment.

``https_proxy``, ``http_proxy`` and ``all_proxy`` are read in both cases of letters, the
lower one first, and one that is set to nothing means none. ``no_proxy`` may hold ``*``,
hosts (and what is below them), ``host:port``, addresses and their ranges (CIDR), parted
by commas or blanks. This computer is never reached by way of another.

What the variables say decides over where data goes, so a proxy that cannot be used is an
error, and never passed by. No message quotes a proxy's address: it may hold a password.
"""

from __future__ import annotations

import base64
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from stack_composer.telemetry.errors import SendError
from stack_composer.telemetry.send.addresses import DEFAULT_PORTS, address_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from stack_composer.telemetry.send.addresses import Address

_HINT: Final = "write it like http://proxy.example.com:3128, or unset it"


class Proxy(NamedTuple):
    """A proxy that is asked to CONNECT.

    Attributes:
        url: ``http://host:port`` or ``https://host:port``, never with credentials.
        authorization: The value of ``proxy-authorization``, or "". A secret.
        userinfo: ``user:password`` as it stood in the address, or "". A secret.
        variable: Which variable named it.
    """

    url: str
    authorization: str
    userinfo: str
    variable: str

    def __repr__(self) -> str:
        return f"Proxy({self.url!r}, variable={self.variable!r})"

    @property
    def url_with_credentials(self) -> str:
        """For gRPC, which takes them no other way. A secret."""
        scheme, _, netloc = self.url.partition("://")
        return f"{scheme}://{self.userinfo}@{netloc}" if self.userinfo else self.url


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """Decide which proxy a request to ``url`` goes through; None: straight.

    Raises:
        SendError: The address or the proxy's is none, or the proxy is of a kind that is
            not supported (SOCKS).
    """
    address = address_of(url, "the destination")
    if address.is_loopback or is_exempt(address, environ):
        return None
    variable, text = _configured(address.scheme, environ)
    if not text:
        return None
    return _proxy_of(text, variable)


def _configured(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in environ:
        # In a CGI program this one holds what a client's header "Proxy" said.
        names = [name for name in names if name != "HTTP_PROXY"]
    for name in names:
        if name in environ:
            return name, environ[name].strip()
    return "", ""


def _proxy_of(text: str, variable: str) -> Proxy:
    if "://" not in text:
        text = f"http://{text}"
    scheme = text.partition("://")[0].lower()
    if scheme.startswith("socks"):
        raise SendError(
            f"{variable} names a SOCKS proxy, which is not supported",
            hint="name one of http:// or https://, or put the destination into NO_PROXY",
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, 0
    if scheme not in DEFAULT_PORTS or not host or port == 0 or any(c <= " " for c in text):
        raise SendError(f"{variable} is not the address of a proxy", hint=_HINT)
    userinfo = parts.netloc.rpartition("@")[0]
    authorization = ""
    if userinfo:
        user, _, password = userinfo.partition(":")
        pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        authorization = "Basic " + base64.b64encode(pair).decode("ascii")
    bare = f"{scheme}://{parts.netloc.rpartition('@')[2]}"
    return Proxy(address_of(bare, variable).origin, authorization, userinfo, variable)


def is_exempt(address: Address, environ: Mapping[str, str]) -> bool:
    """Whether ``no_proxy`` or ``NO_PROXY`` says that a host is reached straight."""
    text = environ.get("no_proxy")
    if text is None:
        text = environ.get("NO_PROXY", "")
    return any(_matches(entry, address) for entry in text.replace(",", " ").split())


def _matches(entry: str, address: Address) -> bool:
    if entry == "*":
        return True
    entry, port = _split_port(entry.lower())
    if port and port != str(address.port):
        return False
    try:
        found = ip_address(address.host)
    except ValueError:
        domain = entry.removeprefix("*").strip(".")
        host = address.host.strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        # A single address is a range of one.
        return found in ip_network(entry, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str]:
    """Part ``host:port``; an IPv6 address has a port only behind brackets."""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        return host, port.removeprefix(":")
    if entry.count(":") == 1:
        host, _, port = entry.partition(":")
        return host, port
    return entry, ""
