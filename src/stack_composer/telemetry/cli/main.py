"""``stack-composer``: find the command, run it, turn what happened into an exit code.

Nothing below this module ends the program or prints a traceback: commands return
a code or raise, and the one place that catches is here. Exit codes:

0   done (also: the reader of our output closed it early)
1   the world: a folder, a file, a disk, or a finding of ``doctor``
2   the command line: an unknown option, a time that is none
127 ``run`` found no such program
130 interrupted
"""

from __future__ import annotations

import os
import sys

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.commands import PROGRAM, ROOT, TOP_OPTIONS, Command, Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXIT_OK = 0
EXIT_WORLD = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

HINT_OTHERWISE = "check the path, its owner and its mode"
GDPR_VARIABLE = "STACK_COMPOSER_GDPR"
DEBUG_VARIABLE = "STACK_COMPOSER_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; never raises."""
    output.prepare_streams()
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        # What is still buffered may meet a full disk or a closed pipe: here it
        # is an error with a code, at interpreter exit it would be noise.
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - told in two lines, or by its code
        return _exit_code(error)
    return code


def _dispatch(argv: list[str]) -> int:
    argv = _top_options(argv)
    if not argv:
        return EXIT_OK
    path: list[str] = []
    node: Command | Group = ROOT
    while isinstance(node, Group):
        if not argv or argv[0].startswith("-"):
            if node.default is not None:
                return _run(path, node.default, argv, others=node.children)
            if not argv or argv[0] in ("-h", "--help"):
                _print_group_help(path, node)
                return EXIT_OK
        name = argv.pop(0)
        child = node.children.get(name)
        if child is None:
            raise _unknown(name, path, node)
        path.append(name)
        node = child
    return _run(path, node, argv)


def _top_options(argv: list[str]) -> list[str]:
    """Take the options before the command; nothing is left when they were all."""
    while argv and argv[0].startswith("-"):
        option = argv.pop(0)
        if option == "--gdpr":
            # The environment is how it reaches this process's configuration and
            # every program that a command starts.
            os.environ[GDPR_VARIABLE] = "1"
        elif option == "--version":
            output.say(f"{PROGRAM} {version()}")
            return []
        elif option in ("-h", "--help"):
            _print_group_help([], ROOT)
            return []
        else:
            raise _unknown(option, [], ROOT)
    if not argv:
        _print_group_help([], ROOT)
    return argv


def _run(
    path: list[str],
    command: Command,
    argv: list[str],
    *,
    others: Mapping[str, Command | Group] | None = None,
) -> int:
    """Run a command; ``others`` stand below it and are named by its help."""
    from stack_composer.telemetry.cli.parser import build_parser

    parser, module = build_parser(path, command)
    if others:
        parser.epilog = "\n".join(filter(None, (parser.epilog, "commands:", *_listed(others))))
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        # argparse's own way to end after --help.
        return int(stop.code or 0)
    if command.module != "run":  # The program that it becomes has limits of its own.
        from stack_composer.telemetry.cli import custody

        custody.take()
    return int(module.run(args))


def _unknown(name: str, path: list[str], group: Group) -> Exception:
    import difflib

    from stack_composer.telemetry.cli.parser import UsageError
    from stack_composer.telemetry.query.duration import shown

    known = [*group.children, *(() if path else TOP_OPTIONS)]
    where = " ".join((PROGRAM, *path))
    if name in TOP_OPTIONS:
        return UsageError(
            f"{name} stands before the command",
            hint=f"write '{PROGRAM} {name} {' '.join(path)} ...'",
        )
    close = difflib.get_close_matches(name, known, n=1)
    what = "option" if name.startswith("-") else "command"
    hint = f"did you mean '{where} {close[0]}'?" if close else f"run '{where} --help' for the list"
    return UsageError(f"unknown {what} {shown(name)}", hint=hint)


def group_help(path: Sequence[str], group: Group) -> str:
    """Return the help of a group of commands."""
    where = " ".join((PROGRAM, *path))
    options = "[--gdpr] " if not path else ""
    lines = [f"usage: {where} {options}COMMAND ...", "", group.summary, "", "commands:"]
    lines += _listed(group.children)
    if not path:
        width = max(map(len, TOP_OPTIONS)) + 2
        lines += ["", "options:"]
        lines += [f"  {name:{width}}{text}" for name, text in TOP_OPTIONS.items()]
    lines += ["", f"'{where} COMMAND --help' says more."]
    return "\n".join(lines) + "\n"


def _listed(children: Mapping[str, Command | Group]) -> list[str]:
    width = max(map(len, children)) + 2
    return [f"  {name:{width}}{child.summary}" for name, child in children.items()]


def _print_group_help(path: Sequence[str], group: Group) -> None:
    sys.stdout.write(group_help(path, group))


def version() -> str:
    """Return the installed distribution's version; "unknown" in a bare source tree."""
    from importlib import metadata

    try:
        return metadata.version("stack-composer-telemetry")
    except metadata.PackageNotFoundError:
        return "unknown"


def _exit_code(error: BaseException) -> int:
    """Print what went wrong in two lines, and return the exit code."""
    from stack_composer.telemetry.errors import QueryError, TelemetryError

    if isinstance(error, KeyboardInterrupt):
        _silence_stdout()
        return EXIT_INTERRUPTED
    if _is_closed_pipe(error):
        _silence_stdout()
        return EXIT_OK
    if os.environ.get(DEBUG_VARIABLE) == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, TelemetryError):
        _report(str(error), error.hint or HINT_OTHERWISE)
        usual = EXIT_USAGE if isinstance(error, QueryError) else EXIT_WORLD
        return int(getattr(error, "exit_code", usual))
    if isinstance(error, OSError):
        if error.filename is None:
            # Perhaps standard output itself: its buffer must not fail again at exit.
            _silence_stdout()
        _report(_os_error_text(error), f"{HINT_OTHERWISE}, and the free space")
        return EXIT_WORLD
    # A bug of ours. Its message may hold recorded content, so only its kind and
    # place are shown.
    _report(
        f"an internal error, {type(error).__name__} at {_place(error)}",
        f"run it again with {DEBUG_VARIABLE}=1 for the traceback, and report it",
    )
    return EXIT_WORLD


def _report(message: str, hint: str) -> None:
    try:
        output.fail(message, hint)
    except OSError:
        # Standard error is gone as well; the exit code still tells.
        _silence_stdout()


def _is_closed_pipe(error: BaseException) -> bool:
    import errno

    # Windows says EINVAL where others say EPIPE.
    return isinstance(error, BrokenPipeError) or (
        os.name == "nt"
        and isinstance(error, OSError)
        and error.errno == errno.EINVAL
        and error.filename is None
    )


def _silence_stdout() -> None:
    """Point standard output at the null device.

    So the interpreter's own flush at exit has nothing left to complain about.
    """
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        # No descriptor below it (a test's stream): nothing will complain.
        return


def _os_error_text(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename is not None else reason


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
