"""Run a command where only the loopback interface exists.

Usage: ``unshare --net python3 tools/offline.py COMMAND ...``

The suite's own guard sees one process. In a network namespace of its own no child
process can reach another computer either; a new namespace has its loopback interface
down, and this brings it up without needing ``ip``.
"""

import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def bring_up_loopback() -> None:
    """Set the flag that ``ip link set lo up`` sets."""
    request = struct.pack("16sH14x", b"lo", IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, request)


if __name__ == "__main__":
    bring_up_loopback()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # no shell is the point
