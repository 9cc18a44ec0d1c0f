"""argparse, with errors of two lines and help that needs no further import.

The parser of a command is built when that command runs; the tree above it is
walked by hand (main.py), since building argparse's sub-parsers for every command
costs more than most commands do.
"""

from __future__ import annotations

import argparse
import importlib

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.commands import PROGRAM, Command
from stack_composer.telemetry.errors import QueryError
from stack_composer.telemetry.model import SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

HELP_COLUMNS_MAX = 100
COUNT_DIGITS_MAX = 9


class UsageError(QueryError):
    """The command line itself is wrong: exit code 2."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    # Without a width argparse imports shutil to ask for it, a third of the
    # whole budget of --help.
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(output.columns(), HELP_COLUMNS_MAX))


class Parser(argparse.ArgumentParser):
    """Options of one command.

    Long options are never abbreviated, so that a new option can't change what an old
    script means.
    """

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog, description=description, formatter_class=_Formatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with."""
        raise UsageError(message, hint=f"run '{self.prog} --help' for what it takes")


def build_parser(path: Sequence[str], command: Command) -> tuple[Parser, Any]:
    """Import a command's module and return its parser and the module."""
    module = importlib.import_module(f"stack_composer.telemetry.cli.{command.module}")
    parser = Parser(prog=" ".join((PROGRAM, *path)), description=(module.__doc__ or "").strip())
    module.add_arguments(parser)
    if module.JSON_KEYS:
        parser.add_argument(
            "--json", action="store_true", help="print JSON; docs/cli.md lists the keys"
        )
    return parser, module


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which folder and configuration a command looks at."""
    parser.add_argument(
        "--dir", metavar="FOLDER", help="the telemetry folder, instead of the configured one"
    )


def add_window(
    parser: argparse.ArgumentParser, *, since: str | None = None, default_text: str = "everything"
) -> None:
    """Add ``--since`` and ``--until``; ``since`` is the default, None for no limit."""
    parser.add_argument(
        "--since",
        metavar="TIME",
        default=since,
        help=f"from when: 24h, 7d, 2026-11-22, now-1h (default: {since or default_text})",
    )
    parser.add_argument("--until", metavar="TIME", help="up to when (default: now)")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add ``--signal``, ``--name`` and ``--trace``; see ``places.selection``."""
    add_signal_and_name(parser)
    parser.add_argument("--trace", metavar="ID", help="only this trace; the first digits will do")


def add_signal_and_name(parser: argparse.ArgumentParser) -> None:
    """Add ``--signal`` and ``--name``."""
    parser.add_argument(
        "--signal",
        action="append",
        choices=SIGNALS,
        help="only this signal; may be given several times",
    )
    parser.add_argument(
        "--name",
        metavar="PATTERN",
        help="only spans, metrics and events of this name; * ? and [...] stand for others",
    )


def count_argument(text: str) -> int:
    """Read a whole number that is not negative."""
    if not (text.isascii() and text.isdigit() and len(text) <= COUNT_DIGITS_MAX):
        raise argparse.ArgumentTypeError("not a whole number from 0 up")
    return int(text)
