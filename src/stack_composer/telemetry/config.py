"""One frozen ``Config`` out of arguments, environment, file and defaults.

The table in ``config_options`` says what may be set; this module only says who
wins: an argument beats the environment, which beats ``telemetry.toml``, which beats
the default. ``Config.origin`` keeps the winner's name for each option.

Three sources get three treatments. A mistake in an argument or in the file is a
``ConfigError``, since whoever wrote it can mend it. A mistake in the environment is
a warning and the value is ignored, as OpenTelemetry's specification asks: variables
are inherited, and a program must not fail for its parent's typing error.

With no file, nothing beyond ``os`` and the table is imported (hot start).
"""

from __future__ import annotations

import os
import sys

from stack_composer.telemetry.config_options import OPTIONS
from stack_composer.telemetry.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final, NoReturn

    from stack_composer.telemetry.config_options import Option
    from stack_composer.telemetry.guard.own import OwnRule

__all__ = [
    "Config",
    "default_config_path",
    "default_directory",
    "edit_config",
    "effective_mode",
    "load_config",
    "show_rows",
    "signature",
]

CONFIG_NAME: Final = "telemetry.toml"


class Config:
    """What holds now. Frozen; a changed file gives a new one.

    The attributes are the options of ``docs/configuration.md``, and:

    Attributes:
        origin: For each option "default", "file", "argument", or "environment" and
            the variable's name.
        warnings: What was ignored and why, for ``status`` and ``doctor``.
    """

    enabled: bool
    exporter: tuple[str, ...]
    local_retention_days: int
    upload_enabled: bool
    directory: str
    gdpr: bool
    service_name: str
    upload_endpoint: str
    upload_compression: str
    upload_protocol: str
    upload_mode: str
    upload_request_bytes_max: int
    upload_timeout_s: float
    upload_give_up_s: float
    upload_headers_from: str
    otlp_endpoint: str
    otlp_protocol: str
    otlp_compression: str
    otlp_timeout_s: float
    otlp_certificate: str | None
    otlp_client_certificate: str | None
    otlp_client_key: str | None
    otlp_queue_bytes_max: int
    otlp_close_s_max: float
    serve_http_port: int
    serve_grpc_port: int
    serve_request_bytes_max: int
    serve_waiting_bytes_max: int
    serve_connections_max: int
    serve_hosts: tuple[str, ...]
    serve_origins: tuple[str, ...]
    bundle_bytes_max: int
    bundle_age_s_max: int
    kept_bytes_max: int
    durability: str
    throttle_free_bytes: int
    critical_free_bytes: int
    stop_free_bytes: int
    flush_s: float
    buffered_records_max: int
    encryption: str
    key_file: str | None
    profile: str
    identifiers: str
    record_content: tuple[str, ...]
    redaction_rules: tuple[OwnRule, ...]
    redaction_allow: tuple[tuple[str, tuple[str, ...]], ...]
    sampler: str
    sampler_ratio: float
    attribute_count_max: int
    attribute_chars_max: int | None
    span_attribute_count_max: int
    span_attribute_chars_max: int | None
    log_attribute_count_max: int
    log_attribute_chars_max: int | None
    event_count_max: int
    event_attribute_count_max: int
    link_count_max: int
    link_attribute_count_max: int
    config_path: str
    sdk_disabled: bool
    do_not_track: bool
    resource_attributes: dict[str, Any]
    metrics_temporality: str
    origin: dict[str, str]
    warnings: tuple[str, ...]

    def __init__(
        self, values: Mapping[str, Any], origin: Mapping[str, str], warnings: tuple[str, ...]
    ) -> None:
        vars(self).update(values, origin=dict(origin), warnings=warnings)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        message = f"Config is frozen: {name} cannot be set"
        raise AttributeError(message)

    def __delattr__(self, name: str) -> NoReturn:
        message = f"Config is frozen: {name} cannot be deleted"
        raise AttributeError(message)


def load_config(
    arguments: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    bad_rules: bool = False,
) -> Config:
    """Read every source once and decide.

    Args:
        arguments: Options by name, as flags or ``configure`` give them; None counts
            as not given. ``config_path`` here beats the environment's.
        environ: The environment; by default this process's own.
        bad_rules: Go on although one of the guard's rules in the file is wrong: without
            it, with the profile "strict", and with a warning. For a program that starts.

    Returns:
        A configuration in which every option has a value within its bounds. A file
        that does not exist is no error; if it was named on purpose it is a warning.

    Raises:
        ConfigError: An unknown name, a wrong type or a value out of bounds in the
            arguments or the file; or no home folder to put anything into.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    warnings: list[str] = []
    if given:
        from stack_composer.telemetry.config_check import check_arguments

        values = check_arguments(given)
        origin = dict.fromkeys(values, "argument")
    _take_service_name(values, origin)
    _take_environment(values, origin, warnings, environ)
    if "config_path" not in values:
        values["config_path"] = default_config_path(environ)
        origin["config_path"] = "default"
    _take_file(values, origin, warnings, bad_rules=bad_rules)
    _take_defaults(values, origin, environ)
    if environ.get("OTEL_CONFIG_FILE"):
        warnings.append("OTEL_CONFIG_FILE is not read by this version: telemetry.toml is")
    return Config(values, origin, tuple(warnings))


def _take_environment(
    values: dict[str, Any],
    origin: dict[str, str],
    warnings: list[str],
    environ: Mapping[str, str],
) -> None:
    """Add what the environment sets; OpenTelemetry takes an empty value for unset."""
    found = [option for option in OPTIONS if option.variable and environ.get(option.variable)]
    if not found:
        return
    from stack_composer.telemetry.config_check import read_variable

    for option in found:
        value, warning = read_variable(option, environ[option.variable])
        if warning:
            warnings.append(warning)
        elif option.name not in values:
            values[option.name] = value
            origin[option.name] = f"environment {option.variable}"
        elif option.kind == "mapping":
            # The program adds to what its environment says of the resource.
            values[option.name] = {**value, **values[option.name]}
    _take_service_name(values, origin)


def _take_service_name(values: dict[str, Any], origin: dict[str, str]) -> None:
    """Let a resource's ``service.name`` stand for the option of its own source."""
    resource = values.get("resource_attributes", {})
    if "service.name" in resource and "service_name" not in values:
        values["service_name"] = str(resource["service.name"])
        origin["service_name"] = origin["resource_attributes"]


def _take_file(
    values: dict[str, Any], origin: dict[str, str], warnings: list[str], *, bad_rules: bool
) -> None:
    path = values["config_path"]
    if signature(path) is None:
        if origin["config_path"] != "default":
            warnings.append(f"{path} does not exist: defaults hold")
        return
    from stack_composer.telemetry import config_file

    wrong = ""
    if bad_rules:
        found, wrong = config_file.read_without_bad_rules(path)
    else:
        found = config_file.read_file(path)
    if wrong:
        warnings.append(
            f"{wrong}: programs that run keep the rules they have, one that starts now goes "
            "without the wrong ones and with profile strict"
        )
        # Whatever else would say what the profile is: strict is the least that is safe.
        values["profile"] = found.pop("profile")
        origin["profile"] = "a mistake in the rules"
    for name, value in found.items():
        if name not in values:
            values[name] = value
            origin[name] = "file"


def _take_defaults(
    values: dict[str, Any], origin: dict[str, str], environ: Mapping[str, str]
) -> None:
    for option in OPTIONS:
        if option.name in values:
            continue
        # The table names a general limit before those that inherit from it.
        values[option.name] = values[option.inherits] if option.inherits else option.default
        origin[option.name] = origin[option.inherits] if option.inherits else "default"
    if values["directory"] is None:
        values["directory"] = default_directory(environ)
    if values["service_name"] is None:
        executable = os.path.basename(sys.executable or "") or "python"
        values["service_name"] = f"unknown_service:{executable}"
    # One place for the name: whoever reads the resource need not know the order.
    values["resource_attributes"] = {
        **values["resource_attributes"],
        "service.name": values["service_name"],
    }


def edit_config(path: str, place: str, value: Any) -> None:
    """Set one key of the file, such as "telemetry.enabled"; see ``config_file``.

    Raises:
        ConfigError: No such key, a value that it refuses, or a file that is broken
            or cannot be written; then the old file stands as it was.
    """
    from stack_composer.telemetry import config_file

    config_file.edit_config(path, place, value)


def effective_mode(config: Config) -> tuple[bool, str]:
    """Say whether anything is recorded, and which setting decides that."""
    if config.sdk_disabled:
        return False, f"sdk_disabled ({config.origin['sdk_disabled']})"
    if config.gdpr:
        return False, f"gdpr ({config.origin['gdpr']})"
    if not config.enabled:
        return False, f"enabled = false ({config.origin['enabled']})"
    return True, "recording to " + " and ".join(config.exporter)


def show_rows(config: Config) -> list[tuple[Option, Any, str]]:
    """List every option with its value and origin, in the order of the documentation."""
    return [
        (option, getattr(config, option.name), config.origin[option.name]) for option in OPTIONS
    ]


def signature(path: str) -> tuple[int, int, int] | None:
    """Tell one state of the file from another, by one ``stat`` (5 µs); None: no file.

    The inode is part of it, so a file replaced within one tick of the clock by one
    of the same size is still seen as new.
    """
    try:
        status = os.stat(path)
    except OSError:
        # Whatever hinders stat (absent, a folder that may not be entered) means that
        # there is no file for this process.
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def default_directory(environ: Mapping[str, str] | None = None) -> str:
    """Name the folder of the bundles where nothing else names it.

    Raises:
        ConfigError: There is no home folder.
    """
    environ = os.environ if environ is None else environ
    return os.path.join(_user_folder("data", environ), "telemetry")


def default_config_path(environ: Mapping[str, str] | None = None) -> str:
    """Name the configuration file where nothing else names it.

    Raises:
        ConfigError: There is no home folder.
    """
    environ = os.environ if environ is None else environ
    return os.path.join(_user_folder("config", environ), CONFIG_NAME)


def _user_folder(what: str, environ: Mapping[str, str]) -> str:
    if sys.platform in ("darwin", "win32"):
        # Only these two need platformdirs: their places are not said by variables
        # alone. On Linux the rule of the XDG specification is the few lines below,
        # and platformdirs' import (pathlib, typing; 15 ms of CPU) would cost a short
        # program more than all its spans.
        import platformdirs

        folder = platformdirs.user_data_dir if what == "data" else platformdirs.user_config_dir
        return folder("stack-composer", appauthor=False)
    variable, fallback = _XDG[what]
    base = environ.get(variable, "")
    if not os.path.isabs(base):  # XDG: a relative path is invalid and to be ignored
        base = os.path.join(_home(environ), fallback)
    return os.path.join(base, "stack-composer")


_XDG: Final = {
    "data": ("XDG_DATA_HOME", ".local/share"),
    "config": ("XDG_CONFIG_HOME", ".config"),
}


def _home(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        # Without this check a service without a home would write "~" below its
        # working folder.
        message = "there is no home folder: HOME is not set and the user has none"
        raise ConfigError(
            message,
            hint="set STACK_COMPOSER_TELEMETRY_DIR and STACK_COMPOSER_TELEMETRY_CONFIG",
        )
    return home
