"""Find what must not be written of a command line.

No form tells that ``x7`` in ``--password x7`` is a password; the option before it does.
Names of options, headers and variables are judged as attribute keys are.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    IsSecret: TypeAlias = Callable[[str], bool]
    """Whether an option, header or variable of this name holds what must not be written."""

MARKER = "[redacted:argument]"
_MARKED = re.compile(r"\[redacted:[a-z0-9-]{1,40}\]")
# An option with its value, a variable, a Windows switch or a header; the value is last.
_ASSIGNED = re.compile(r"""(?s)["']?(?:--?|/)?([A-Za-z_][\w.-]{0,99})(?:=|:[ ]?)["']?(.+)""")
_OPTION = re.compile(r"(?:--?|/)([A-Za-z][\w.-]{0,99})")
_WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*(?:"|\\?\Z)|'[^']*(?:'|\Z)|[^\s"'])+""", re.DOTALL)
# -p is a password's option, and also that of a port or a folder.
_PORTS = re.compile(r"[0-9.:/]*(?:[0-9]|/tcp|/udp)")
_QUOTES = "'\""
_PASSWORD_ATTACHED = frozenset(("mariadb", "mysql", "mysqladmin", "mysqldump"))


def in_line(line: str, is_secret: IsSecret) -> list[tuple[int, int, str]]:
    """Find the secrets of a command line: ``[start, end)`` in it, and what stands instead."""
    words = list(_WORD.finditer(line))
    return [
        (words[index].start() + start, words[index].start() + end, MARKER)
        for index, start, end in in_arguments([word[0] for word in words], is_secret)
    ]


def in_arguments(arguments: Sequence[str], is_secret: IsSecret) -> Iterator[tuple[int, int, int]]:
    """Find the secrets of a list: the argument's index, and ``[start, end)`` within it."""
    program = re.split(r"[\\/]", arguments[0])[-1].removesuffix(".exe") if arguments else ""
    expected = False
    for index, argument in enumerate(arguments):
        if expected and not _OPTION.fullmatch(argument):
            if not _MARKED.fullmatch(argument):
                yield index, 0, len(argument)
            expected = False
            continue
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        expected = _expects_secret(argument, following, is_secret)
        if not expected:
            start = _secret_start(argument, program, is_secret)
            end = _secret_end(argument, start)
            if start < end and not _MARKED.fullmatch(argument, start, end):
                yield index, start, end


def _expects_secret(argument: str, following: str, is_secret: IsSecret) -> bool:
    """Whether the argument is an option whose value, a secret, is the next argument."""
    argument = argument.strip(_QUOTES)
    if argument in ("-p", "-P"):
        return bool(following) and not _PORTS.fullmatch(following.strip(_QUOTES))
    if argument in ("-u", "--user", "--proxy-user"):
        return ":" in following
    option = _OPTION.fullmatch(argument)
    return option is not None and is_secret(option[1])


def _secret_start(argument: str, program: str, is_secret: IsSecret) -> int:
    """Where the secret in the argument itself begins; its length if there is none."""
    assigned = _ASSIGNED.fullmatch(argument)
    if assigned and is_secret(assigned[1]):
        return assigned.start(2)
    attached = argument.lstrip(_QUOTES)
    if program in _PASSWORD_ATTACHED and attached.startswith("-p"):
        return len(argument) - len(attached) + 2
    return len(argument)


def _secret_end(argument: str, start: int) -> int:
    """Where the secret that begins at ``start`` ends: before the quote that closes it."""
    last = argument[-1:]
    closes = last in _QUOTES and last in (argument[start - 1 : start], argument[:1])
    return len(argument) - closes
