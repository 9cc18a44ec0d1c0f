from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack_composer.telemetry import config_check, config_file
from stack_composer.telemetry.config import (
    Config,
    default_config_path,
    default_directory,
    edit_config,
    effective_mode,
    load_config,
    show_rows,
    signature,
)
from stack_composer.telemetry.config_options import BY_PLACE, OPTIONS
from stack_composer.telemetry.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

SPECIFICATION = """\
[telemetry]
enabled = true
exporter = "file"          # file | stdout | otlp_http
local_retention_days = 30
upload_enabled = false

[upload]
endpoint = "https://jaeger.my-org.com/api/traces"
compression = "gzip"
"""

linux_only = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="the XDG rule is for Linux and its relatives"
)
posix_only = pytest.mark.skipif(os.name == "nt", reason="modes and links are POSIX's")


def load(text: str, path: Path, **arguments: Any) -> Config:
    """Load a file that says ``text``, in an empty environment."""
    file = path / "telemetry.toml"
    file.write_text(text, encoding="utf-8")
    return load_config({"config_path": str(file), **arguments}, home(path))


def home(path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(path), **more}


def refusal(text: str, path: Path) -> str:
    """Return the two lines that a user is shown for a file that says ``text``."""
    with pytest.raises(ConfigError) as caught:
        load(text, path)
    return f"{caught.value}\nhint: {caught.value.hint}".replace(str(path), "")


# The sources, and who wins


def test_the_specification_s_own_file_is_read_as_it_stands(tmp_path: Path) -> None:
    config = load(SPECIFICATION, tmp_path)
    assert config.enabled is True
    assert config.exporter == ("file",)
    assert config.local_retention_days == 30
    assert config.upload_enabled is False
    assert config.upload_endpoint == "https://jaeger.my-org.com/api/traces"
    assert config.upload_compression == "gzip"
    assert config.warnings == ()
    assert {name for name, origin in config.origin.items() if origin == "file"} == {
        "enabled",
        "exporter",
        "local_retention_days",
        "upload_enabled",
        "upload_endpoint",
        "upload_compression",
    }


def test_an_argument_beats_the_environment_beats_the_file_beats_the_default(
    tmp_path: Path,
) -> None:
    file = tmp_path / "telemetry.toml"
    arguments: dict[str, Any] = {"config_path": str(file)}
    environ = home(tmp_path)
    seen = [load_config(arguments, environ)]
    file.write_text('[telemetry]\nservice_name = "filed"\n', encoding="utf-8")
    seen.append(load_config(arguments, environ))
    environ["OTEL_SERVICE_NAME"] = "surrounding"
    seen.append(load_config(arguments, environ))
    arguments["service_name"] = "argued"
    seen.append(load_config(arguments, environ))
    assert [(c.service_name, c.origin["service_name"]) for c in seen[1:]] == [
        ("filed", "file"),
        ("surrounding", "environment OTEL_SERVICE_NAME"),
        ("argued", "argument"),
    ]
    assert seen[0].service_name.startswith("unknown_service:")
    assert seen[0].origin["service_name"] == "default"
    assert all(c.resource_attributes["service.name"] == c.service_name for c in seen)


def test_every_option_has_a_value_and_an_origin(tmp_path: Path) -> None:
    config = load_config({}, home(tmp_path))
    assert [option.name for option, _, _ in show_rows(config)] == [o.name for o in OPTIONS]
    assert {origin for _, _, origin in show_rows(config)} == {"default"}
    assert set(vars(config)) == set(Config.__annotations__)


def test_a_config_is_frozen(tmp_path: Path) -> None:
    config = load_config({}, home(tmp_path))
    with pytest.raises(AttributeError, match="enabled"):
        config.enabled = False
    with pytest.raises(AttributeError, match="enabled"):
        del config.enabled
    assert config.enabled


def test_an_argument_that_is_none_counts_as_not_given(tmp_path: Path) -> None:
    assert load_config({"gdpr": None}, home(tmp_path)).origin["gdpr"] == "default"


def test_a_file_that_was_named_and_is_absent_is_a_warning(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.toml")
    assert load_config({}, home(tmp_path)).warnings == ()
    for config in (
        load_config({"config_path": absent}, home(tmp_path)),
        load_config({}, home(tmp_path, STACK_COMPOSER_TELEMETRY_CONFIG=absent)),
    ):
        assert config.config_path == absent
        assert config.warnings == (f"{absent} does not exist: defaults hold",)


def test_specific_limits_follow_the_general_one_unless_they_are_set(tmp_path: Path) -> None:
    config = load("[limits]\nattribute_count_max = 7\nspan_attribute_chars_max = 9\n", tmp_path)
    assert config.span_attribute_count_max == config.log_attribute_count_max == 7
    assert config.origin["span_attribute_count_max"] == "file"
    assert config.attribute_chars_max is None
    assert config.span_attribute_chars_max == 9
    assert config.log_attribute_chars_max is None
    assert config.event_attribute_count_max == 128


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "anything"])
def test_do_not_track_forbids_whatever_it_says_but_no(tmp_path: Path, value: str) -> None:
    assert load_config({}, home(tmp_path, DO_NOT_TRACK=value)).do_not_track is True


@pytest.mark.parametrize("value", ["0", "false", "no", "off", ""])
def test_do_not_track_that_says_no_permits(tmp_path: Path, value: str) -> None:
    assert load_config({}, home(tmp_path, DO_NOT_TRACK=value)).do_not_track is False


def test_opentelemetry_s_own_file_is_not_ignored_in_silence(tmp_path: Path) -> None:
    (warning,) = load_config({}, home(tmp_path, OTEL_CONFIG_FILE="/o.yaml")).warnings
    assert warning.startswith("OTEL_CONFIG_FILE is not read")


# Places


@linux_only
def test_places_follow_the_xdg_specification(tmp_path: Path) -> None:
    environ = home(tmp_path)
    assert default_directory(environ) == f"{tmp_path}/.local/share/stack-composer/telemetry"
    assert default_config_path(environ) == f"{tmp_path}/.config/stack-composer/telemetry.toml"
    environ |= {"XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "relative/is/invalid"}
    assert default_directory(environ) == "/data/stack-composer/telemetry"
    assert default_config_path(environ) == f"{tmp_path}/.config/stack-composer/telemetry.toml"


@linux_only
@pytest.mark.parametrize("wrong", ["", "not/absolute"])
def test_without_a_home_folder_nothing_lands_in_the_working_folder(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without an entry
    if wrong:
        monkeypatch.setenv("HOME", wrong)
    with pytest.raises(ConfigError, match="home folder") as caught:
        load_config({}, {"HOME": wrong} if wrong else {})
    assert "STACK_COMPOSER_TELEMETRY_DIR" in caught.value.hint
    config = load_config({"config_path": "/c/t.toml", "directory": "/d"}, {})
    assert (config.config_path, config.directory) == ("/c/t.toml", "/d")


def test_the_two_places_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(
        {},
        home(tmp_path, STACK_COMPOSER_TELEMETRY_DIR="here", STACK_COMPOSER_TELEMETRY_CONFIG="~/c"),
    )
    assert config.directory == str(tmp_path / "here")
    assert config.config_path == os.path.join(os.path.expanduser("~"), "c")


@posix_only
def test_a_path_in_the_file_may_begin_at_home_but_not_where_the_program_stands(
    tmp_path: Path,
) -> None:
    config = load('[telemetry]\ndirectory = "~/traces"\n', tmp_path)
    assert config.directory == os.path.expanduser("~/traces")
    assert refusal('[telemetry]\ndirectory = "traces"\n', tmp_path) == (
        "/telemetry.toml:2: telemetry.directory is not an absolute path\n"
        "hint: begin it with / or ~ (on Windows with a drive)"
    )


def test_a_path_argument_may_be_a_path_object(tmp_path: Path) -> None:
    assert load_config({"directory": tmp_path}, home(tmp_path)).directory == str(tmp_path)
    for wrong in (7, "", "a\0b", b"bytes"):
        with pytest.raises(ConfigError, match="directory must be a path"):
            load_config({"directory": wrong}, home(tmp_path))


# What the file may not say


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "[telemetry]\nenabeld = false",
            "2: unknown key 'enabeld' in [telemetry]",
            "did you mean 'enabled'?",
        ),
        (
            "[telemetri]\nenabled = false",
            "1: unknown table [telemetri]",
            "did you mean 'telemetry'?",
        ),
        (
            "\n\nenabled = false",
            "3: unknown key 'enabled' outside of any table",
            "put it below [telemetry]",
        ),
        (
            "[store]\nenabled = false",
            "2: unknown key 'enabled' in [store]",
            "it belongs below [telemetry]",
        ),
        (
            "telemetry = 3",
            "1: telemetry must be a table",
            "write [telemetry] on a line of its own and the keys below it",
        ),
        (
            '[telemetry]\nenabled = "no"',
            "2: telemetry.enabled must be true or false, not str",
            "for example: enabled = true",
        ),
        (
            "[telemetry]\nlocal_retention_days = true",
            "2: telemetry.local_retention_days must be a whole number, not bool",
            "for example: local_retention_days = 30",
        ),
        (
            "[telemetry]\nlocal_retention_days = 1.5",
            "2: telemetry.local_retention_days must be a whole number, not float",
            "for example: local_retention_days = 30",
        ),
        (
            "[telemetry]\nlocal_retention_days = -1",
            "2: telemetry.local_retention_days is out of bounds",
            "give telemetry.local_retention_days a whole number from 0 to 36,500",
        ),
        (
            "[sampling]\nratio = nan",
            "2: sampling.ratio is out of bounds",
            "give sampling.ratio a number from 0 to 1.0",
        ),
        (
            "[sampling]\nratio = '1'",
            "2: sampling.ratio must be a number, not str",
            "for example: ratio = 1.0",
        ),
        (
            '[telemetry]\nexporter = "flie"',
            "2: telemetry.exporter cannot be 'flie'",
            "did you mean 'file'?",
        ),
        (
            '[telemetry]\nexporter = "prometheus"',
            "2: telemetry.exporter 'prometheus' is not available in this version",
            'use "file" or "stdout" or "otlp_http" or "otlp_grpc", or a list of these',
        ),
        (
            "[telemetry]\nexporter = []",
            "2: telemetry.exporter is an empty list",
            "to record nothing, set enabled = false",
        ),
        (
            "[telemetry]\nexporter = ['file', 3]",
            "2: telemetry.exporter must be a text or a list of texts, not int",
            'for example: exporter = "file"',
        ),
        (
            "[telemetry]\nexporter = 3",
            "2: telemetry.exporter must be a text or a list of texts, not int",
            'for example: exporter = "file"',
        ),
        (
            "[telemetry]\nservice_name = 3",
            "2: telemetry.service_name must be a text in quotes, not int",
            'for example: service_name = "my-program"',
        ),
        (
            "[telemetry]\ndirectory = 3",
            "2: telemetry.directory must be a path in quotes, not int",
            'for example: directory = "~/telemetry"',
        ),
        (
            "[upload]\nendpoint = 3",
            "2: upload.endpoint must be an address in quotes, not int",
            'for example: endpoint = "https://collector.example/v1/traces"',
        ),
        (
            '[upload]\nendpoint = "ftp://x"',
            "2: upload.endpoint is not an http or https address",
            'for example: "https://collector.example/v1/traces"',
        ),
        (
            '[upload]\nendpoint = "https:///"',
            "2: upload.endpoint is not an http or https address",
            'for example: "https://collector.example/v1/traces"',
        ),
        (
            "[limits]\nattribute_chars_max = 0",
            "2: limits.attribute_chars_max is out of bounds",
            "give limits.attribute_chars_max a whole number from 1 to 1,073,741,824",
        ),
        (
            "[redaction]\nprofile = 'zzz'",
            "2: redaction.profile cannot be 'zzz'",
            "there is default, strict",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_and_a_way_out(
    text: str, message: str, hint: str, tmp_path: Path
) -> None:
    assert refusal(text, tmp_path) == f"/telemetry.toml:{message}\nhint: {hint}"


def test_all_problems_are_counted_at_once(tmp_path: Path) -> None:
    text = "[telemetry]\na = 1\nb = 2\n[nowhere]\n"
    assert "2: unknown key 'a' in [telemetry] (and 2 more)" in refusal(text, tmp_path)


def test_a_second_problem_is_counted_too(tmp_path: Path) -> None:
    assert "(and 1 more)" in refusal("[telemetry]\na = 1\nb = 2\n", tmp_path)


def test_the_longest_file_is_read(tmp_path: Path) -> None:
    text = "[telemetry]\nenabled = false\n"
    text += "#" * (config_file.FILE_BYTES_MAX - len(text))
    assert not load(text, tmp_path).enabled


def test_credentials_in_the_endpoint_are_refused_and_not_repeated(tmp_path: Path) -> None:
    secret = "hun" + "ter2"
    shown = refusal(f'[upload]\nendpoint = "https://me:{secret}@host/"\n', tmp_path)
    assert "holds credentials" in shown
    assert secret not in shown


def test_broken_toml_is_named_with_its_line(tmp_path: Path) -> None:
    assert "/telemetry.toml is not TOML" in refusal("[telemetry]\nenabled = yes\n", tmp_path)
    assert "line 2" in refusal("[telemetry]\nenabled = yes\n", tmp_path)
    assert "is not TOML" in refusal("a = " + "[" * 100_000, tmp_path)


@pytest.mark.parametrize("data", [b"\xff[telemetry]", b"#" * (config_file.FILE_BYTES_MAX + 1)])
def test_what_is_no_configuration_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "telemetry.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"UTF-8|longer than"):
        load_config({"config_path": path}, home(tmp_path))


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert not load("\ufeff[telemetry]\nenabled = false\n", tmp_path).enabled


@posix_only
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_file_s_place_holds_nobody(make: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "telemetry.toml")
    make(path)
    with pytest.raises(ConfigError, match=r"cannot be read|not a regular file"):
        load_config({"config_path": path}, home(tmp_path))


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"retention_days": 3}, "did you mean 'local_retention_days'?"),
        ({"gdpr": 1}, "for example: gdpr = false"),
    ],
)
def test_a_wrong_argument_is_named(given: dict[str, Any], hint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(given, home(tmp_path))
    assert caught.value.hint == hint


def test_an_unknown_key_cannot_break_the_message_s_two_lines(tmp_path: Path) -> None:
    shown = refusal('[telemetry]\n"a\\nb' + "x" * 500 + '" = 1\n', tmp_path)
    assert len(shown.splitlines()) == 2
    assert len(shown) < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(OPTIONS), json_values)
def test_any_value_is_taken_or_refused_with_a_hint(option: Any, value: object) -> None:
    try:
        taken = config_check.check_value(option, value, option.name)
    except ConfigError as error:
        shown = [str(error), error.hint]
        assert all(line and "\n" not in line for line in shown)
    else:
        assert isinstance(taken, (bool, int, float, str, tuple, dict))
        if option.kind in ("int", "float"):
            assert option.minimum <= taken <= option.maximum


# The environment


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("OTEL_SDK_DISABLED", "TRUE", "sdk_disabled", True),
        ("OTEL_SDK_DISABLED", "false", "sdk_disabled", False),
        ("STACK_COMPOSER_GDPR", "1", "gdpr", True),
        ("STACK_COMPOSER_GDPR", "yes please", "gdpr", True),
        ("STACK_COMPOSER_GDPR", "0", "gdpr", False),
        ("STACK_COMPOSER_GDPR", "Off", "gdpr", False),
        ("OTEL_TRACES_SAMPLER", "ParentBased_TraceIdRatio", "sampler", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", " 0.25 ", "sampler_ratio", 0.25),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "64", "span_attribute_count_max", 64),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4096", "log_attribute_chars_max", 4096),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0", "span_attribute_count_max", 0),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5", "span_attribute_chars_max", 5),
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "6", "log_attribute_count_max", 6),
        ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7", "log_attribute_chars_max", 7),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "8", "event_count_max", 8),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "9", "event_attribute_count_max", 9),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "10", "link_count_max", 10),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "11", "link_attribute_count_max", 11),
        ("OTEL_BSP_SCHEDULE_DELAY", "5000", "flush_s", 5.0),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2048", "buffered_records_max", 2048),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "CUMULATIVE",
            "metrics_temporality",
            "cumulative",
        ),
    ],
)
def test_a_variable_sets_its_option(
    variable: str, text: str, name: str, value: object, tmp_path: Path
) -> None:
    config = load_config({}, home(tmp_path, **{variable: text}))
    assert getattr(config, name) == value
    assert config.origin[name] == f"environment {variable}"
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_SDK_DISABLED", "1"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.1"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "many"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "1_000"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "٣"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1.5"),
        ("OTEL_BSP_SCHEDULE_DELAY", "9" * 400),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,=2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=50%  off"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%FF"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "both"),
    ],
)
def test_a_bad_variable_is_ignored_aloud(variable: str, text: str, tmp_path: Path) -> None:
    config = load_config({}, home(tmp_path, **{variable: text}))
    plain = load_config({}, home(tmp_path))
    assert {n: v for n, v in vars(config).items() if n != "warnings"} == {
        n: v for n, v in vars(plain).items() if n != "warnings"
    }
    (warning,) = config.warnings
    assert variable in warning
    assert "ignored" in warning


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    empty = {option.variable: "" for option in OPTIONS if option.variable}
    config = load_config({}, home(tmp_path, **empty))
    assert set(config.origin.values()) == {"default"}
    assert config.warnings == ()


def test_resource_attributes_are_percent_decoded(tmp_path: Path) -> None:
    text = " deployment.environment.name = caf%C3%A9%2C%20bar , team=a=b,, service.name=shop "
    config = load_config({}, home(tmp_path, OTEL_RESOURCE_ATTRIBUTES=text))
    assert config.resource_attributes == {
        "deployment.environment.name": "café, bar",
        "team": "a=b",
        "service.name": "shop",
    }
    assert config.service_name == "shop"
    assert config.origin["service_name"] == "environment OTEL_RESOURCE_ATTRIBUTES"


def test_otel_service_name_beats_the_resource_s(tmp_path: Path) -> None:
    environ = home(tmp_path, OTEL_RESOURCE_ATTRIBUTES="service.name=a,b=c", OTEL_SERVICE_NAME="z")
    config = load_config({}, environ)
    assert config.resource_attributes == {"service.name": "z", "b": "c"}


def test_the_program_adds_to_the_resource_of_its_environment(tmp_path: Path) -> None:
    environ = home(tmp_path, OTEL_RESOURCE_ATTRIBUTES="a=outer,b=outer", OTEL_SERVICE_NAME="outer")
    given = {"resource_attributes": {"b": "inner", "service.name": "inner"}}
    config = load_config(given, environ)
    assert config.resource_attributes == {"a": "outer", "b": "inner", "service.name": "inner"}
    with pytest.raises(ConfigError, match="resource_attributes"):
        load_config({"resource_attributes": {3: 4}}, environ)


@given(st.text().map(lambda text: text.replace("\0", "")))
def test_no_text_in_a_variable_raises_or_leaks(text: str) -> None:
    for option in OPTIONS:
        if option.variable and option.kind != "path":
            _, warning = config_check.read_variable(option, text)
            assert "\n" not in warning


# Which mode, and the signature


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ({}, {}, (True, "recording to file")),
        ({"exporter": ["file", "stdout"]}, {}, (True, "recording to file and stdout")),
        ({"enabled": False}, {}, (False, "enabled = false (argument)")),
        ({"gdpr": True, "enabled": False}, {}, (False, "gdpr (argument)")),
        ({}, {"STACK_COMPOSER_GDPR": "1"}, (False, "gdpr (environment STACK_COMPOSER_GDPR)")),
        (
            {"gdpr": True},
            {"OTEL_SDK_DISABLED": "true"},
            (False, "sdk_disabled (environment OTEL_SDK_DISABLED)"),
        ),
    ],
)
def test_the_effective_mode_says_why(
    arguments: dict[str, Any],
    environ: dict[str, str],
    expected: tuple[bool, str],
    tmp_path: Path,
) -> None:
    assert effective_mode(load_config(arguments, home(tmp_path, **environ))) == expected


def test_a_signature_changes_with_every_replacement(tmp_path: Path) -> None:
    path = str(tmp_path / "telemetry.toml")
    seen = [signature(path)]
    assert seen == [None]
    for value in (True, False, True):
        edit_config(path, "telemetry.enabled", value)
        os.utime(path, ns=(1, 1))  # a clock too coarse to tell them apart
        seen.append(signature(path))
    assert all(before != after for before, after in itertools.pairwise(seen))


# Editing

COMMENTED = """\
# What I decided, and why.
[telemetry]
enabled = true   # for now

exporter = [
  "file",  # always
]

# Uploads are another matter.
[upload]
compression = 'zstd'
"""


def test_an_edit_keeps_comments_order_and_all_else(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.toml"
    path.write_text(COMMENTED, encoding="utf-8")
    edit_config(str(path), "telemetry.enabled", value=False)
    assert path.read_text(encoding="utf-8") == COMMENTED.replace(
        "enabled = true", "enabled = false"
    )


@pytest.mark.parametrize(
    "before",
    [
        "",
        "[telemetry]\n",
        "[upload]\ncompression = 'zstd'\n",
        "telemetry = { gdpr = true }\n",
        "telemetry.gdpr = true\n",
        "[telemetry]\r\ngdpr = true\r\n",
        '[telemetry]\nservice_name = """\nenabled = true\n"""\n',
        "[telemetry]\ngdpr = true\n# the end",
    ],
)
def test_an_edit_changes_one_key_whatever_the_style(before: str, tmp_path: Path) -> None:
    path = tmp_path / "telemetry.toml"
    path.write_bytes(before.encode())
    edit_config(str(path), "telemetry.enabled", value=False)
    wanted = tomllib.loads(before)
    wanted.setdefault("telemetry", {})["enabled"] = False
    assert tomllib.loads(path.read_bytes().decode()) == wanted


@posix_only
def test_an_edited_file_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "telemetry.toml"
    old_mask = os.umask(0)
    try:
        edit_config(str(path), "telemetry.enabled", value=False)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["telemetry.toml"]


@posix_only
def test_an_edit_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    target = tmp_path / "dotfiles.toml"
    target.write_text("[telemetry]\n", encoding="utf-8")
    link = tmp_path / "telemetry.toml"
    link.symlink_to(target)
    edit_config(str(link), "telemetry.enabled", value=False)
    assert link.is_symlink()
    assert tomllib.loads(target.read_text(encoding="utf-8")) == {"telemetry": {"enabled": False}}


@posix_only
def test_what_an_interrupted_edit_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.toml"
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    (tmp_path / "telemetry.toml.new").symlink_to(victim)
    edit_config(str(path), "telemetry.enabled", value=False)
    assert victim.read_text(encoding="utf-8") == "mine"
    assert not path.is_symlink()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("telemetry.enabeld", True, "unknown key"),
        ("telemetry.enabled", "no", "true or false"),
        ("store.flush_s", 0.0, "out of bounds"),
    ],
)
def test_an_edit_that_would_break_the_file_changes_nothing(
    place: str, value: object, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "telemetry.toml"
    path.write_text(COMMENTED, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        edit_config(str(path), place, value)
    assert path.read_text(encoding="utf-8") == COMMENTED


@pytest.mark.parametrize("broken", ["[telemetry]\nenabled = yes\n", "telemetry = 3\n"])
def test_a_broken_file_is_not_edited(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "telemetry.toml"
    path.write_text(broken, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"not TOML|must be a table"):
        edit_config(str(path), "telemetry.enabled", value=True)
    assert path.read_text(encoding="utf-8") == broken


def test_an_edit_that_cannot_be_verified_is_not_made(tmp_path: Path) -> None:
    """NaN differs from itself, so nobody could say that only one key changed."""
    path = tmp_path / "telemetry.toml"
    path.write_text("[sampling]\nratio = nan\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="without changing more") as caught:
        edit_config(str(path), "telemetry.enabled", value=True)
    assert caught.value.hint == "set telemetry.enabled by hand"
    assert path.read_text(encoding="utf-8") == "[sampling]\nratio = nan\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    path = tmp_path / "file" / "telemetry.toml"
    with pytest.raises(ConfigError, match="cannot be"):
        edit_config(str(path), "telemetry.enabled", value=True)


# The table, the page and the start


def test_every_place_and_every_variable_is_named_once() -> None:
    assert len(BY_PLACE) == len([option for option in OPTIONS if option.section])
    variables = [option.variable for option in OPTIONS if option.variable]
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_default_is_within_its_own_bounds(option: Any) -> None:
    if option.default is not None:
        assert config_check.check_value(option, option.default, option.name) == option.default
    else:
        assert option.default_text or option.inherits


def test_the_page_is_in_step_with_the_table() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    script = [sys.executable, str(ROOT / "tools" / "configuration_page.py")]
    made = subprocess.run(script, check=True, capture_output=True, text=True, encoding="utf-8")
    assert page == made.stdout, "run: python tools/configuration_page.py > docs/configuration.md"


@linux_only
@pytest.mark.e2e
def test_without_a_file_only_cheap_modules_are_imported(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from stack_composer.telemetry.config import load_config\n"
        "before = set(sys.modules)\n"
        "load_config()\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    environ = home(tmp_path, PYTHONPATH=str(ROOT / "src"))
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environ
    )
    assert done.stdout.strip() == "[]"
