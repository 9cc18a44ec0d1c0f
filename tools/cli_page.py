"""Print docs/cli.md from the commands' own parsers.

Usage: ``python tools/cli_page.py > docs/cli.md``; a test fails while the page is out
of step. The parsers are read rather than their help printed, since the wording of
help differs from one Python to the next.
"""

import argparse

from stack_composer.telemetry.cli.commands import PROGRAM, TOP_OPTIONS, Command, walk
from stack_composer.telemetry.cli.parser import build_parser

HEAD = """\
<!-- Made by tools/cli_page.py from the commands' parsers: edit those. -->
# Command line

`stack-composer` looks at what your programs recorded and keeps house. It only reads,
but for `import`, `purge`, `enable`, `disable`, `data erase` and `doctor --repair`; `export`
and `data export` write the file that you name. Nothing it does reaches another computer,
but for `upload`, which asks first; `audit` lists all that ever left.

- `--json`, after any command but `run`, prints the same as JSON with the keys listed
  below. They stay as they are; new ones may come. Times are UTC, sizes bytes.
- An error is two lines on standard error: what is wrong, and a hint. There is no
  traceback; with `STACK_COMPOSER_DEBUG=1` one is printed above them.
- What was recorded is shown with control characters escaped: it cannot steer your
  terminal. Output fits the terminal (`COLUMNS` overrides), and a pipe gets 100 columns.

## Times

`--since` and `--until` take how long ago (`30s`, `15m`, `24h`, `7d`, `2w`, `1h30m`), a
date (`2026-11-22`: its midnight), a time (`2026-11-22T19:14`, `2026-11-22T19:14:03.5Z`,
with `+01:00` or without, then on this computer's clock), `now`, `now-1h`, `today`,
`yesterday`, or Unix seconds (`@1763838843`). A span is in a window if it overlaps it.

## Exit codes

| code | meaning |
|---|---|
| 0 | done, also when whoever read the output stopped early |
| 1 | the world: a folder, a file, a disk, a finding of `doctor`, a refused import, your "no" |
| 2 | the command line: an unknown option, a time that is none, nobody to ask |
| 127 | `run` found no such program |
| 130 | interrupted with Ctrl-C |

## Before the command
"""


def page() -> str:
    """Write the whole page."""
    parts = [HEAD]
    parts += [f"`{name}`\n: {text.capitalize()}.\n" for name, text in TOP_OPTIONS.items()]
    parts += [entry(path, node) for path, node in walk() if isinstance(node, Command)]
    return "\n".join(parts)


def entry(path: tuple[str, ...], command: Command) -> str:
    """Describe one command."""
    title = f"## `{' '.join((PROGRAM, *path))}`\n"
    if path == ("telemetry", "stats"):
        return f"{title}\nThe same as `{PROGRAM} stats`.\n"
    parser, module = build_parser(path, command)
    actions = [a for a in parser._actions if a.dest not in ("help", "json")]
    parts = [title, *paragraphs(module.__doc__ or ""), *(option(action) for action in actions)]
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog}\n```\n")
    if module.JSON_KEYS:
        parts.append("With `--json`:\n")
        parts += [f"`{key}`\n: {what}.\n" for key, what in module.JSON_KEYS.items()]
    return "\n".join(parts)


def paragraphs(text: str) -> list[str]:
    """Take a module's docstring; names of files and code keep their marks."""
    return [part.strip().replace("``", "`") + "\n" for part in text.split("\n\n")]


def option(action: argparse.Action) -> str:
    """Describe one option or argument."""
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        name += f" {action.metavar or '|'.join(action.choices or ())}"
    elif not action.option_strings and action.choices:
        name = "|".join(action.choices)
    return f"`{name}`\n: {(action.help or '').replace('%%', '%')}.\n"


if __name__ == "__main__":
    print(page(), end="")
