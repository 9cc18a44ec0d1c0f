"""Which configuration and which folder a command looks at."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from stack_composer.telemetry.config import Config
    from stack_composer.telemetry.query.select import Selection
    from stack_composer.telemetry.store.reader import BundleInfo


def load(args: argparse.Namespace, *, bad_rules: bool = False) -> Config:
    """Return the configuration in effect, with ``--dir`` as an argument.

    ``bad_rules`` is as ``load_config`` has it.

    Raises:
        ConfigError: The configuration is broken.
        UsageError: ``--dir`` is empty.
    """
    from stack_composer.telemetry.config import load_config

    folder = getattr(args, "dir", None)
    given = {} if folder is None else {"directory": absolute(folder, "--dir")}
    return load_config(given, bad_rules=bad_rules)


def absolute(path: str, option: str) -> str:
    """Return ``path`` made absolute from the working folder, where the user stands.

    Raises:
        UsageError: It is empty, or holds a null character.
    """
    if not path or "\0" in path:
        from stack_composer.telemetry.cli.parser import UsageError

        raise UsageError(f"{option} needs a path", hint=f"write {option} and a path after it")
    return os.path.abspath(os.path.expanduser(path))


def folder_of(args: argparse.Namespace) -> str:
    """Return the folder to read: ``--dir``, or else the configured one.

    A broken configuration file does not stop who names a folder.
    """
    folder = getattr(args, "dir", None)
    return load(args).directory if folder is None else absolute(folder, "--dir")


def bundles_of(folder: str) -> list[BundleInfo]:
    """Return the bundles of a folder: the one place where commands come by them.

    Raises:
        StoreError: The folder cannot be read.
    """
    from stack_composer.telemetry.store.reader import list_bundles

    return list_bundles(folder).bundles


def window(since: str | None, until: str | None, *, now_ns: int) -> tuple[int, int]:
    """Return ``--since`` and ``--until`` as Unix nanoseconds; 0 for no limit.

    Raises:
        QueryError: One is no time, or they leave nothing between them.
    """
    from stack_composer.telemetry.errors import QueryError
    from stack_composer.telemetry.query.duration import parse_time_ns

    since_ns = 0 if since is None else parse_time_ns(since, now_ns=now_ns)
    # 1, not 0, which would mean no limit at all.
    until_ns = 0 if until is None else max(parse_time_ns(until, now_ns=now_ns), 1)
    if until_ns and since_ns >= until_ns:
        raise QueryError(
            "--since is not before --until", hint="exchange them, or leave --until out"
        )
    return since_ns, until_ns


def selection(args: argparse.Namespace, *, since_ns: int = 0, until_ns: int = 0) -> Selection:
    """Return what the options of ``parser.add_filters`` ask for.

    Raises:
        QueryError: ``--trace`` is no trace id.
    """
    from stack_composer.telemetry.query.select import Selection

    return Selection(
        since_ns=since_ns,
        until_ns=until_ns,
        signals=frozenset(args.signal) if args.signal else None,
        name=args.name,
        trace=args.trace,
    )
