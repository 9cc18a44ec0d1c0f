"""What a command does about keys: asks for a passphrase, and leaves no core dump.

A program that records does neither: it has nobody in front of it, and its limits are
its own.
"""

from __future__ import annotations

import contextlib

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.store import keys


def take() -> None:
    """Set it up; costs nothing until a key is needed."""
    keys.custody.before_key = forbid_core_dumps
    keys.custody.may_prompt = output.is_interactive()
    keys.custody.ask = ask if output.is_interactive() else None


def forbid_core_dumps() -> None:
    """Have the system write no core of this process: the key would be in it."""
    try:
        import resource
    except ImportError:
        return  # Windows asks its own service, which keeps small dumps by default.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ask(question: str) -> str:
    """Ask for a passphrase on the terminal, without showing it."""
    import getpass

    return getpass.getpass(question)
