"""Ask whether something listens on a port of this computer; nothing is sent to it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Final

HOST: Final = "127.0.0.1"
CONNECT_S: Final = 1.0
"""How long a connection on this computer may take."""


def is_listening(port: int) -> bool:
    """Whether a connection to ``port`` on the loopback address is taken."""
    try:
        socket.create_connection((HOST, port), timeout=CONNECT_S).close()
    except OSError:
        return False
    return True
