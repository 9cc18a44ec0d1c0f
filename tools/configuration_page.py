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
and `status` and `doctor` say so.

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
    "upload": "What `stack-composer telemetry upload` sends, and where to. Nothing leaves unless "
    "`upload_enabled` is true and you have consented to the destination.",
    "otlp": "The exporters `otlp_http` and `otlp_grpc`. OpenTelemetry's variables for one signal, "
    "such as `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, are heeded too; headers stand in "
    "`OTEL_EXPORTER_OTLP_HEADERS` or in the keychain, never in the file.",
    "serve": "The receiver, `stack-composer telemetry serve`. It listens on 127.0.0.1 alone.",
    "store": "How bundles are written and kept. Where the key of an encrypted store comes from is "
    "told in `privacy`, at rest; its passphrase stands in no file, but in the environment as "
    "`STACK_COMPOSER_TELEMETRY_PASSPHRASE`, and while it is being changed as "
    "`STACK_COMPOSER_TELEMETRY_NEW_PASSPHRASE` too.",
    "redaction": "What the guard does before anything is written; `privacy` tells the whole.",
    "sampling": "Which traces are recorded.",
    "limits": "OpenTelemetry's limits. What goes beyond one is dropped and counted.",
    "": "Not in the file: arguments of `configure` and environment variables only.",
}

RULES = """\
### Rules of your own

```toml
[[redaction.rules]]
name = "ticket-number"                 # a-z, 0-9 and -; stands in the marker
pattern = 'ACME-[0-9]{6}'              # what is found in a text
allow = ["ACME-000000"]                # matches that are let be
example = "about ACME-123456"          # must be found: checked when the file is read
counterexample = "ACME corporation"    # must not be found
reason = "Ticket numbers name customers."

[[redaction.rules]]
name = "acme-owner"
key = "acme.*.owner"                   # or: all values of the keys that a glob names
action = "hash"

[redaction.allow]
"http.user_agent" = ["ipv4"]           # this rule finds nothing under this key
"*" = ["email:noreply@*"]              # nor this one, under any key, what is so written
```

`name`
: 2 to 40 of `a-z`, `0-9` and `-`, and not the name of another rule;
  `stack-composer telemetry guard rules` lists those in use.

`pattern`
: RE2's syntax, as far as Python's `re` reads it in the same way. A match becomes
  `[redacted:name]`; a group named `secret`, `(?P<secret>...)`, narrows what is taken, other
  groups only group. `\\d`, `\\w`, `\\s` and `\\b` are ASCII's; `(?i)` folds case; `^` and `$`
  begin and end the pattern or one of its outermost alternatives, and mean the ends of the
  text (or of a part next to a marker), a last line break aside. Lookaround, backreferences
  and possessive repetitions are refused with their position, and so is a pattern that could
  match fewer than 3 bytes. At most 1,000 characters, counts to 1,000, and 10,000 instructions
  once compiled, 50,000 for all rules together. With google-re2 a pattern can't be slow. Where
  only `re` serves, one that could be (nested repetitions, or more than two without a small
  bound) is refused.

`key`
: A glob over whole keys, whatever their case: `*` stands for any characters, `?` for one. All
  values are taken, numbers too.

`action`
: `"mask"` (default); `"hash"`, which replaces a match by `[redacted:name:` and its keyed hash,
  and a value by `hmac:` and its keyed hash; or `"drop"`, which drops the whole value.

`profile`
: `"default"` (in both) or `"strict"`.

`allow`
: Globs over a whole match, in the case that they are written. A match that one fits is let
  be; the rest of the value is not. There is no way to write a `*` that is none.

`example`, `counterexample`
: A text (for a rule over keys: a key) that the rule must find, and one that it must not.

Rules of your own only add. Where one of ours and one of yours take the same, the more severe
action holds: drop, then mask, then hash. Values of keys that are
[let through](privacy.md#by-key) are not searched for your patterns either; a rule over keys
takes those too. At most 200 rules; a list in an argument of `configure` (`redaction_rules`,
`redaction_allow`) replaces the file's, and there is no variable for either.

`[redaction.allow]`
: For each key or glob over keys the rules, ours or yours, whose matches stay there. `rule:glob`
  lets only be what the glob fits as a whole. A match of another rule in the same place is
  still taken. `"*"` also names texts that stand under no key, such as names and messages. For a
  [rule over keys](privacy.md#by-key) its name alone exempts the key.

A mistake in a rule is an error that names its line and place, `redaction.rules[2].pattern` for
the second rule's pattern. Programs that run keep the rules that they have. One that starts then
uses profile `strict` and those of your rules that are right; `status` and `doctor` say so. After
any other mistake in the file a program that starts records nothing.
"""

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
        if section == "redaction":
            parts.append(RULES)
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
        return f"{words}, or a list of these"
    if option.choices:
        return "one of " + ", ".join(f'`"{choice}"`' for choice in option.choices)
    if option.kind == "int":
        return f"whole number from {option.minimum:,} to {option.maximum:,}"
    if option.kind == "float":
        return f"number from {option.minimum:,} to {option.maximum:,}"
    return {
        "bool": "`true` or `false`",
        "exceptions": "table of lists of texts",
        "mapping": "mapping",
        "path": "path",
        "rules": "list of tables",
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
