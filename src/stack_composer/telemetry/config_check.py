"""Judge one value: the same rules for arguments, the file and the environment.

Python and TOML values go through ``check_value``; the texts of the environment are
first decoded as OpenTelemetry's specification says. Nothing here touches a file.

A message may quote a value only where the values are a short list of known words;
anything else could be a secret in the wrong place.
"""

from __future__ import annotations

import os

from stack_composer.telemetry.config_options import (
    BY_NAME,
    EXPORTERS_AVAILABLE,
    EXPORTERS_KNOWN,
)
from stack_composer.telemetry.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Final

    from stack_composer.telemetry.config_options import Option

QUOTED_CHARS_MAX: Final = 40
EXAMPLES: Final = {
    "int": 4096,
    "mapping": {"team": "search"},
    "path": "~/telemetry",
    "text": "my-program",
    "texts": "gen_ai.prompt",
    "url": "https://collector.example/v1/traces",
}


def check_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Judge options given by name.

    Raises:
        ConfigError: A name that is no option, or a value that its option refuses.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        option = BY_NAME.get(name)
        if option is None:
            message = f"unknown option {quoted(name)}"
            raise ConfigError(message, hint=suggest(name, BY_NAME))
        if option.kind == "path":
            values[name] = _argument_path(option, value)
        elif option.kind == "exceptions":
            rules = check_value(BY_NAME["redaction_rules"], given.get("redaction_rules", ()), "")
            values[name] = check_exceptions(option, value, name, rules)
        else:
            values[name] = check_value(option, value, name)
    return values


class RuleConfigError(ConfigError):
    """A mistake in the guard's rules or exceptions.

    Attributes:
        rule: Which rule, counted from 1; 0 for none.
        field: The key within it that is at fault, or "".
        good: What is right of the value, for who must go on without the rest.
    """

    def __init__(self, message: str, *, hint: str, rule: int, field: str, good: Any) -> None:
        super().__init__(message, hint=hint)
        self.rule = rule
        self.field = field
        self.good = good


def check_value(option: Option, value: Any, label: str) -> Any:
    """Return ``value`` as the option's attribute wants it (a tuple for a list).

    ``label`` is what the message calls the option.

    Raises:
        ConfigError: A wrong type, a value out of bounds, an unknown choice.
    """
    return _CHECKS[option.kind](option, value, label)


def _wrong_type(option: Option, label: str, expected: str, value: object) -> ConfigError:
    return ConfigError(
        f"{label} must be {expected}, not {type(value).__name__}",
        hint=f"for example: {option.key or option.name} = {_example(option)}",
    )


def _example(option: Option) -> str:
    """Write a value that the option takes: its default, where that shows anything."""
    value = option.default or EXAMPLES.get(option.kind, 0)
    value = value[0] if isinstance(value, tuple) else value
    if isinstance(value, bool) or option.kind == "bool":
        return str(bool(value)).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _check_bool(option: Option, value: Any, label: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(option, label, "true or false", value)
    return value


def _check_text(option: Option, value: Any, label: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(option, label, "a text in quotes", value)
    return _check_choice(option, value, label)


def _check_number(option: Option, value: Any, label: str) -> int | float:
    whole = option.kind == "int"
    expected = "a whole number" if whole else "a number"
    # A bool is an int to Python, but not to whoever wrote "= true".
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise _wrong_type(option, label, expected, value)
    if not option.minimum <= value <= option.maximum:  # NaN fails this too
        message = f"{label} is out of bounds"
        raise ConfigError(message, hint=f"give {label} {expected} {bounds(option)}")
    number: int | float = value if whole else float(value)
    return number


def bounds(option: Option) -> str:
    """Say a number's bounds, such as "from 1 to 60"."""
    return f"from {option.minimum:,} to {option.maximum:,}"


def _check_texts(option: Option, value: Any, label: str) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise _wrong_type(option, label, "a text or a list of texts", value)
    for item in items:
        if not isinstance(item, str):
            raise _wrong_type(option, label, "a text or a list of texts", item)
        _check_choice(option, item, label)
    if option.choices and not items:
        message = f"{label} is an empty list"
        raise ConfigError(message, hint="to record nothing, set enabled = false")
    return tuple(dict.fromkeys(items))


def _check_choice(option: Option, value: str, label: str) -> str:
    if option.choices and value not in option.choices:
        allowed = EXPORTERS_AVAILABLE if option.choices is EXPORTERS_KNOWN else option.choices
        message = f"{label} cannot be {quoted(value)}"
        raise ConfigError(message, hint=suggest(value, allowed))
    if option.choices is EXPORTERS_KNOWN and value not in EXPORTERS_AVAILABLE:
        message = f"{label} {quoted(value)} is not available in this version"
        available = " or ".join(f'"{name}"' for name in EXPORTERS_AVAILABLE)
        raise ConfigError(message, hint=f"use {available}, or a list of these")
    return value


def _check_mapping(option: Option, value: Any, label: str) -> dict[str, Any]:
    from collections.abc import Mapping

    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong_type(option, label, "a mapping with texts as keys", value)
    return dict(value)


def _check_path(option: Option, value: Any, label: str) -> str:
    """Expand ``~``; refuse what would depend on the working folder."""
    if not isinstance(value, str):
        raise _wrong_type(option, label, "a path in quotes", value)
    path = os.path.expanduser(value)
    if "\0" in path or not os.path.isabs(path):
        message = f"{label} is not an absolute path"
        raise ConfigError(message, hint="begin it with / or ~ (on Windows with a drive)")
    return os.path.normpath(path)


def _argument_path(option: Option, value: Any) -> str:
    """Take a path given in code or in a shell, where the working folder is meant."""
    try:
        text = os.fspath(value)
    except TypeError:
        raise _wrong_type(option, option.name, "a path", value) from None
    if not isinstance(text, str) or not text or "\0" in text:
        raise _wrong_type(option, option.name, "a path that is not empty", value)
    return os.path.abspath(os.path.expanduser(text))


def _check_url(option: Option, value: Any, label: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(option, label, "an address in quotes", value)
    if not value:
        return value
    scheme, separator, rest = value.partition("://")
    if not separator or scheme.lower() not in ("http", "https") or not rest.strip("/"):
        message = f"{label} is not an http or https address"
        raise ConfigError(message, hint=f'for example: "{EXAMPLES["url"]}"')
    if "@" in rest.partition("/")[0]:
        message = f"{label} holds credentials"
        raise ConfigError(message, hint="take the part before the @ out of the address")
    return value


def _check_rules(_option: Option, value: Any, label: str) -> Any:
    # Here rather than at the top: it takes the parser of patterns, which few need.
    from stack_composer.telemetry.guard.own import RuleError, read_rules

    try:
        return read_rules(value)
    except RuleError as error:
        raise _rule_error(error, label) from None


def check_exceptions(_option: Option, value: Any, label: str, rules: Any = ()) -> Any:
    """Judge what is let be; it may name ``rules``, the user's own.

    Raises:
        RuleConfigError: As ``check_value``.
    """
    from stack_composer.telemetry.guard.own import RuleError, read_allow

    try:
        return read_allow({} if value == () else value, rules)
    except RuleError as error:
        raise _rule_error(error, label) from None


def _rule_error(error: Any, label: str) -> RuleConfigError:
    place = f"{label}[{error.rule}]" if error.rule else label
    if error.field:
        known = error.field.isidentifier()
        place += f".{error.field}" if known else f".{quoted(error.field)}"
    hint = error.hint.replace("{}", error.field)
    message = f"{place}: {error}"
    return RuleConfigError(message, hint=hint, rule=error.rule, field=error.field, good=error.good)


_CHECKS: Final[dict[str, Callable[[Option, Any, str], Any]]] = {
    "bool": _check_bool,
    "exceptions": check_exceptions,
    "float": _check_number,
    "int": _check_number,
    "mapping": _check_mapping,
    "path": _check_path,
    "rules": _check_rules,
    "text": _check_text,
    "texts": _check_texts,
    "url": _check_url,
}


def quoted(value: str) -> str:
    """Quote a name for a message, on one line and within bounds."""
    text = ascii(value)
    return text if len(text) <= QUOTED_CHARS_MAX else text[:QUOTED_CHARS_MAX] + "...'"


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Answer "did you mean", or list what there is."""
    import difflib

    names = list(known)
    close = difflib.get_close_matches(wrong, names, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return "there is " + ", ".join(names)


def read_variable(option: Option, text: str) -> tuple[Any, str]:
    """Decode an environment variable; return its value, and a warning or "".

    With a warning the value means nothing: the variable is to be ignored.
    """
    try:
        return _decode(option, text), ""
    except ConfigError as error:
        return None, f"{error}: ignored ({error.hint})"


def _decode(option: Option, text: str) -> Any:
    variable = option.variable
    if option.kind == "bool":
        return _decode_bool(option, text)
    if option.kind in ("int", "float"):
        return _decode_number(option, text)
    if option.kind == "mapping":
        return _decode_attributes(text, variable)
    if option.kind == "path":
        return os.path.abspath(os.path.expanduser(text))
    if option.choices:
        # OpenTelemetry: known words in any case.
        return check_value(option, text.strip().lower(), variable)
    return check_value(option, text, variable)


def is_promised(text: str) -> bool:
    """Whether a variable of a promise, not to record or not to send, is set: unless it says no."""
    return text.strip().lower() not in ("0", "false", "no", "off", "")


def _decode_bool(option: Option, text: str) -> bool:
    word = text.strip().lower()
    if option.name in ("gdpr", "do_not_track"):
        # OpenTelemetry takes all but "true" for false. For a promise not to record, or not
        # to send, that is the wrong way to fail: GDPR=1 must not leave recording on.
        return is_promised(word)
    if word not in ("true", "false", ""):
        message = f"{option.variable} is neither true nor false"
        raise ConfigError(message, hint="only true turns it on")
    return word == "true"


def _decode_number(option: Option, text: str) -> Any:
    whole = option.kind == "int" or option.variable_unit != 1
    try:
        number = _number(text.strip(), whole=whole)
        if option.variable_unit != 1:
            number *= option.variable_unit
    except (ValueError, OverflowError):
        message = f"{option.variable} is not a {'whole ' if whole else ''}number"
        raise ConfigError(message, hint=f"{option.name} goes {bounds(option)}") from None
    return check_value(option, number, option.variable)


def _number(text: str, *, whole: bool) -> int | float:
    # int() and float() also read underscores and the digits of other scripts.
    if not text.isascii() or "_" in text:
        raise ValueError
    return int(text) if whole else float(text)


def _decode_attributes(text: str, variable: str) -> dict[str, str]:
    """Read ``key=value,key=value``, percent-encoded.

    One bad part discards all, as OpenTelemetry's specification says: half a
    description of a resource is a wrong one.
    """
    attributes = {}
    for part in text.split(","):
        if not part.strip():
            continue
        key, separator, value = part.partition("=")
        key = _percent_decoded(key.strip(), variable)
        if not separator or not key:
            message = f"{variable} has a part without a key or without '='"
            raise ConfigError(message, hint="write key=value,key=value")
        attributes[key] = _percent_decoded(value.strip(), variable)
    return attributes


def _percent_decoded(text: str, variable: str) -> str:
    """Undo percent-encoding, strictly; ``urllib.parse`` would cost a hot start 9 ms."""
    first, *rest = text.split("%")
    try:
        return (first.encode() + b"".join(map(_unescaped, rest))).decode()
    except ValueError:
        message = f"{variable} has a percent sign that encodes nothing, or is not UTF-8"
        raise ConfigError(message, hint="write a percent sign as %25") from None


def _unescaped(piece: str) -> bytes:
    """Decode what follows a percent sign: two hexadecimal digits, then plain text."""
    code, rest = piece[:2], piece[2:]
    if not code.isalnum():  # bytes.fromhex would skip blanks
        raise ValueError
    return bytes.fromhex(code) + rest.encode()
