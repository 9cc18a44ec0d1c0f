"""Read and edit ``telemetry.toml``.

Reading collects every problem with its line before it raises, so that a person
mends the file once. Editing keeps comments and order, and is checked by reading the
result back before the old file is replaced: an edit either gives exactly the one
change that was asked for, or changes nothing.

Only imported when there is a file, since ``tomllib`` alone costs some 15 ms of CPU.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tomllib
from typing import Any, Final

from stack_composer.telemetry.config_check import (
    RuleConfigError,
    check_exceptions,
    check_value,
    quoted,
    suggest,
)
from stack_composer.telemetry.config_options import BY_PLACE
from stack_composer.telemetry.errors import ConfigError

__all__ = ["edit_config", "read_file", "read_without_bad_rules"]

RULES: Final = "redaction.rules"

FILE_BYTES_MAX: Final = 1024 * 1024
"""Beyond this it is not a configuration; reading it whole would stall the writer."""


def read_file(path: str) -> dict[str, Any]:
    """Read the options that the file sets, by name.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or sets what it may not.
            The message names file, line and key of the first problem and counts
            the others.
    """
    text = _read_text(path)
    values, problems = _judge(_parse(text, path))
    if problems:
        raise _as_error(problems, text, path)
    return values


def read_without_bad_rules(path: str) -> tuple[dict[str, Any], str]:
    """Read the options, for who must go on although a rule of the guard's is wrong.

    What is wrong of the rules is left out, and the profile is "strict" in exchange.

    Returns:
        The options, and what is wrong; "" if nothing is.

    Raises:
        ConfigError: As ``read_file``, for a mistake anywhere else.
    """
    text = _read_text(path)
    values, problems = _judge(_parse(text, path))
    if not problems:
        return values, ""
    error = _as_error(problems, text, path)
    if any(problem.error is None for problem in problems):
        raise error
    values["profile"] = "strict"
    for problem in problems:
        option = BY_PLACE[f"{problem.section}.{problem.key}"]
        values[option.name] = problem.error.good if problem.error else ()
    return values, str(error)


def _read_text(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            # O_NONBLOCK and this check: a named pipe would hold the writer for ever.
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                message = f"{path} is not a regular file"
                raise ConfigError(message, hint="put a TOML file in its place, or nothing")
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise ConfigError(message, hint="mend its permissions, or move it away") from None
    if len(data) > FILE_BYTES_MAX:
        message = f"{path} is longer than {FILE_BYTES_MAX:,} bytes"
        raise ConfigError(message, hint="this is not a telemetry configuration: move it away")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path}: byte {error.start} is not UTF-8"
        raise ConfigError(message, hint="save the file as UTF-8") from None


def _parse(text: str, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        message = f"{path} is not TOML: {error}"
        raise ConfigError(message, hint="texts stand in quotes, tables in [brackets]") from None


class _Problem:
    """What is wrong with one key; ``key`` is None when it is the table itself.

    ``error`` tells more where a rule of the guard's is wrong.
    """

    def __init__(
        self,
        section: str,
        key: str | None,
        message: str,
        hint: str,
        error: RuleConfigError | None = None,
    ) -> None:
        self.section = section
        self.key = key
        self.message = message
        self.hint = hint
        self.error = error


def _judge(document: dict[str, Any]) -> tuple[dict[str, Any], list[_Problem]]:
    values: dict[str, Any] = {}
    problems: list[_Problem] = []
    sections = list(dict.fromkeys(option.section for option in BY_PLACE.values()))
    for section, table in document.items():
        if section not in sections:
            problems.append(_unknown_section(section, table, sections))
        elif not isinstance(table, dict):
            hint = f"write [{section}] on a line of its own and the keys below it"
            problems.append(_Problem("", section, f"{section} must be a table", hint))
        else:
            _judge_table(section, table, values, problems)
    return values, problems


def _unknown_section(section: str, table: object, sections: list[str]) -> _Problem:
    if isinstance(table, dict):
        message = f"unknown table [{quoted(section)[1:-1]}]"
        return _Problem(section, None, message, suggest(section, sections))
    # A key above the first table is mostly a known one without its table.
    homes = [option.section for option in BY_PLACE.values() if option.key == section]
    hint = f"put it below [{homes[0]}]" if homes else suggest(section, sections)
    return _Problem("", section, f"unknown key {quoted(section)} outside of any table", hint)


def _judge_table(
    section: str, table: dict[str, Any], values: dict[str, Any], problems: list[_Problem]
) -> None:
    # The rules first: what is let be may name them.
    for key in sorted(table, key=lambda key: f"{section}.{key}" != RULES):
        value = table[key]
        option = BY_PLACE.get(f"{section}.{key}")
        if option is None:
            message = f"unknown key {quoted(key)} in [{section}]"
            problems.append(_Problem(section, key, message, _suggest_key(section, key)))
            continue
        try:
            if option.kind == "exceptions":
                rules = values.get("redaction_rules", ())
                values[option.name] = check_exceptions(option, value, option.place, rules)
            else:
                values[option.name] = check_value(option, value, option.place)
        except RuleConfigError as error:
            problems.append(_Problem(section, key, str(error), error.hint, error))
        except ConfigError as error:
            problems.append(_Problem(section, key, str(error), error.hint))


def _suggest_key(section: str, key: str) -> str:
    homes = [option.section for option in BY_PLACE.values() if option.key == key]
    if homes:
        return f"it belongs below [{homes[0]}]"
    return suggest(key, [option.key for option in BY_PLACE.values() if option.section == section])


def _as_error(problems: list[_Problem], text: str, path: str) -> ConfigError:
    first = problems[0]
    line = _line_of_problem(text, first)
    place = f"{path}:{line}" if line else path
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ConfigError(f"{place}: {first.message}{more}", hint=first.hint)


def _line_of_problem(text: str, problem: _Problem) -> int:
    """Find the line of what is wrong: of a rule its own table, and its key in there."""
    line = 0
    if problem.error is not None:
        table = f"{problem.section}.{problem.key}"
        nth, field = max(problem.error.rule, 1), problem.error.field
        line = _line_in(text, table, nth, field) or _line_in(text, table, nth, "")
    return line or _line_of(text, problem.section, problem.key)


def _line_in(text: str, table: str, nth: int, key: str) -> int:
    """Find ``key`` in the ``nth`` table of that name, or the table itself for ""."""
    seen, current = 0, ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            current = line.strip("[").partition("]")[0].strip()
            seen += current == table
            if current == table and seen == nth and not key:
                return number
        elif current == table and seen == nth:
            name, equals, _ = line.partition("=")
            if equals and name.strip().strip("\"'") == key:
                return number
    return 0


def _line_of(text: str, section: str, key: str | None) -> int:
    """Find the line of a key or a table, 1-based; 0 when it is written another way.

    A scan by eye, good for ``[table]`` and ``key =``: tomllib keeps no positions, and
    a second parser only for messages would not earn its keep.
    """
    current = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            current = line.strip("[").partition("]")[0].strip().strip("\"'")
            if key is None and current.partition(".")[0] == section:
                return number
        elif "=" in line and current == section:
            name = line.partition("=")[0].strip().strip("\"'")
            if name == key:
                return number
    return 0


def edit_config(path: str, place: str, value: Any) -> None:
    """Set one key in the file, keep all the rest, and replace the file at once.

    The file is made, mode 0600, when there is none. Half-way nothing has changed:
    a crash leaves the old file, and at worst a ``.new`` beside it that the next
    edit replaces.

    Args:
        path: The file; a symlink stays one, what it points to is replaced.
        place: The key's dotted name, such as "telemetry.enabled".
        value: What TOML can say, within the option's bounds.

    Raises:
        ConfigError: No such key, a value that it refuses, a file that is broken
            already, or one that cannot be written.
    """
    option = BY_PLACE.get(place)
    if option is None:
        message = f"unknown key {quoted(place)}"
        raise ConfigError(message, hint=suggest(place, BY_PLACE))
    check_value(option, value, place)
    path = os.path.realpath(path)
    text = _read_text(path) if os.path.lexists(path) else ""
    edited = _edited(text, path, option.section, option.key, value)
    wanted = _parse(text, path)
    wanted.setdefault(option.section, {})[option.key] = value
    if _parse(edited, path) != wanted:
        message = f"{path} could not be edited without changing more than {place}"
        raise ConfigError(message, hint=f"set {place} by hand")
    _replace_file(path, edited.encode())


def _edited(text: str, path: str, section: str, key: str, value: Any) -> str:
    import tomlkit

    _parse(text, path)  # tomllib's message is the one that users know from elsewhere
    document = tomlkit.parse(text)
    if not isinstance(document.get(section, {}), dict):
        message = f"{path}: {section} must be a table"
        raise ConfigError(message, hint=f"write [{section}] on a line of its own")
    if section not in document:
        document[section] = tomlkit.table()
    document[section][key] = value
    return tomlkit.dumps(document)


def _replace_file(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    new = f"{path}.new"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(new, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        _sync_folder(folder)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise ConfigError(message, hint="look at the folder's owner, mode and free room") from None


def _sync_folder(folder: str) -> None:
    """Make the replacement survive a power cut, where a folder can be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
