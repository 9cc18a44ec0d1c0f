"""Print docs/configuration.md from the option table.

Usage: ``python tools/configuration_page.py > docs/configuration.md``; a test fails
while the page is out of step.
"""

from stack_composer.telemetry.config_options import EXPORTERS_AVAILABLE, OPTIONS, Option

HEAD = """\
<!-- Made by tools/configuration_page.py from the option table: edit that. -->
# Configuration

Nothing needs to be configured. What can be is one table of options. A flag or an
argument of `configure` beats the environment, which beats the file, which beats the
default; `stack-composer telemetry config show --origin` says which one won.

The file is `telemetry.toml` in the platform's configuration folder
(`~/.config/stack-composer/` on Linux, or below `XDG_CONFIG_HOME`);
`stack-composer telemetry config path` prints where. A changed file holds within a
second, without a restart. A broken one leaves the last good configuration in force,
and `status` says so.

- An unknown key, a wrong type or a value out of bounds in the file is an error that
  names the line: a typing error never passes for a setting.
- A bad value in the environment is ignored with a warning that `status` and `doctor`
  show, as OpenTelemetry asks. An empty variable counts as not set.
- Sizes are in bytes, times in seconds or days, as the names say.

```toml
[telemetry]
enabled = true
exporter = "file"
local_retention_days = 30
upload_enabled = false

[upload]
endpoint = "https://jaeger.my-org.com/api/traces"
compression = "gzip"
```
"""

SECTIONS = {
    "telemetry": "What is recorded, and where to.",
    "upload": "For a later version: this one has no uploader.",
    "store": "How bundles are written and kept.",
    "redaction": "What the guard does before anything is written; `privacy` tells the whole.",
    "sampling": "Which traces are recorded.",
    "limits": "OpenTelemetry's limits. What goes beyond one is dropped and counted.",
    "": "Not in the file: arguments of `configure` and environment variables only.",
}

TAIL = """\
## Alpine and other musl systems

`google-re2`, the fast redaction engine, has no wheel for musl, and no marker of Python
packaging can tell musl from glibc, so an ordinary install tries to compile it. Install
the package without its dependencies and the others by name; the guard then uses `re`,
which gives the same answers more slowly:

```console
$ pip install --no-deps stack-composer-telemetry
$ pip install msgspec opentelemetry-api tomlkit backports.zstd
```
"""


def page() -> str:
    """Write the whole page."""
    parts = [HEAD]
    for section, what in SECTIONS.items():
        title = f"`[{section}]`" if section else "Outside the file"
        parts.append(f"## {title}\n\n{what}\n")
        parts += [entry(option) for option in OPTIONS if option.section == section]
    return "\n".join([*parts, TAIL])


def entry(option: Option) -> str:
    """Describe one option."""
    facts = [f"Values: {kind(option)}", f"default {default(option)}"]
    if option.variable:
        facts.append(f"environment `{option.variable}`")
    if option.section and option.key != option.name:
        facts.append(f"argument `{option.name}`")
    return f"`{option.key or option.name}`\n: {option.doc}\n  {'; '.join(facts)}.\n"


def kind(option: Option) -> str:
    """Say what values are allowed."""
    if option.name == "exporter":
        words = " or ".join(f'`"{name}"`' for name in EXPORTERS_AVAILABLE)
        return f"{words}, or a list of both"
    if option.choices:
        return "one of " + ", ".join(f'`"{choice}"`' for choice in option.choices)
    if option.kind == "int":
        return f"whole number from {option.minimum:,} to {option.maximum:,}"
    if option.kind == "float":
        return f"number from {option.minimum:,} to {option.maximum:,}"
    return {
        "bool": "`true` or `false`",
        "mapping": "mapping",
        "path": "path",
        "text": "text",
        "texts": "text or list of texts",
        "url": "address",
    }[option.kind]


def default(option: Option) -> str:
    """Say what holds when nothing is set."""
    if option.inherits:
        return f"as `{option.inherits}`"
    if option.default_text:
        return option.default_text
    if option.kind == "bool":
        return f"`{str(option.default).lower()}`"
    if isinstance(option.default, tuple):
        return ", ".join(f'`"{item}"`' for item in option.default) or "none"
    if isinstance(option.default, str):
        return f'`"{option.default}"`' if option.default else "none"
    return f"{option.default:,}"


if __name__ == "__main__":
    print(page(), end="")
