"""Print a completion script for bash, zsh or fish.

The script is static: it holds every command and option, taken from the parsers, and
starts no Python while somebody types. Print it again after an upgrade.
"""

from __future__ import annotations

import argparse
import sys

from stack_composer.telemetry.cli import output
from stack_composer.telemetry.cli.commands import PROGRAM, TOP_OPTIONS, Command, Group, walk
from stack_composer.telemetry.cli.parser import build_parser

JSON_KEYS = {"shell": "bash, zsh or fish", "script": "the completion script"}

_EPILOG = """\
to use it:
  bash   stack-composer completion bash > ~/.local/share/bash-completion/completions/stack-composer
  zsh    stack-composer completion zsh > ~/.zfunc/_stack-composer    (with ~/.zfunc in fpath)
  fish   stack-composer completion fish > ~/.config/fish/completions/stack-composer.fish"""


class Word:
    """Something that can be typed at one place: a command or an option."""

    __slots__ = ("choices", "summary", "takes_value", "text")

    def __init__(
        self, text: str, summary: str, *, takes_value: bool = False, choices: tuple[str, ...] = ()
    ) -> None:
        self.text = text
        self.summary = summary
        self.takes_value = takes_value
        self.choices = choices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell, and nothing else."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to write for")


def run(args: argparse.Namespace) -> int:
    """Print the script for ``args.shell``."""
    script = {"bash": _bash, "zsh": _zsh, "fish": _fish}[args.shell](_places())
    if args.json:
        output.print_json({"shell": args.shell, "script": script})
    else:
        sys.stdout.write(script)
    return 0


def _places() -> dict[str, list[Word]]:
    """Return what can be typed after each command; "" is the program itself."""
    places: dict[str, list[Word]] = {}
    for path, node in walk():
        at = "".join(f"/{name}" for name in path)
        if isinstance(node, Group):
            places[at] = [Word(name, child.summary) for name, child in node.children.items()]
            if not path:
                places[at] += [Word(name, text) for name, text in TOP_OPTIONS.items()]
        else:
            # A group's own command comes behind the group.
            places[at] = [*places.get(at, ()), *_words(path, node)]
    return places


def _words(path: tuple[str, ...], command: Command) -> list[Word]:
    parser, _ = build_parser(path, command)
    words = []
    for action in parser._actions:
        choices = tuple(map(str, action.choices or ()))
        summary = action.help or ""
        if not action.option_strings:
            words += [Word(choice, summary) for choice in choices]
            continue
        words += [
            Word(option, summary, takes_value=action.nargs != 0, choices=choices)
            for option in action.option_strings
        ]
    return words


def _quoted(text: str) -> str:
    """Quote for any of the three shells: no script holds a quote of either kind."""
    return "'" + text.replace("'", "").replace("\\", "").replace("%%", "%") + "'"


def _valued(places: dict[str, list[Word]]) -> list[tuple[str, Word]]:
    return [(at, word) for at, words in places.items() for word in words if word.takes_value]


def _bash(places: dict[str, list[Word]]) -> str:
    """Works in bash 3.2, which macOS still ships; -o default completes file names."""
    known = "|".join(_quoted(at) for at in places if at)
    values = [
        f"        {_quoted(f'{at} {word.text}')}) words={_quoted(' '.join(word.choices))} ;;"
        for at, word in _valued(places)
    ]
    wordlists = [
        f"            {_quoted(at)}) words={_quoted(' '.join(w.text for w in words))} ;;"
        for at, words in places.items()
    ]
    return "\n".join(
        [
            "_stack_composer() {",
            '    local at="" words="" word i',
            "    for ((i = 1; i < COMP_CWORD; i++)); do",
            "        word=${COMP_WORDS[i]}",
            '        case "$at/$word" in',
            f"            {known}) at=$at/$word ;;",
            "        esac",
            "    done",
            '    case "$at ${COMP_WORDS[COMP_CWORD-1]}" in',
            *values,
            '        *) case "$at" in',
            *wordlists,
            "        esac ;;",
            "    esac",
            '    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
            "}",
            f"complete -o default -F _stack_composer {PROGRAM}",
            "",
        ]
    )


def _zsh(places: dict[str, list[Word]]) -> str:
    known = "|".join(_quoted(at) for at in places if at)
    values = [
        f"        {_quoted(f'{at} {word.text}')})"
        + (f" compadd -- {' '.join(map(_quoted, word.choices))}" if word.choices else " _files")
        + "; return ;;"
        for at, word in _valued(places)
    ]
    wordlists = []
    for at, words in places.items():
        entries = " ".join(_quoted(f"{w.text}:{w.summary}") for w in words)
        wordlists.append(f"        {_quoted(at)}) entries=({entries}) ;;")
    return "\n".join(
        [
            f"#compdef {PROGRAM}",
            "_stack_composer() {",
            '    local at="" word',
            "    local -a entries",
            "    for word in ${words[2,CURRENT-1]}; do",
            '        case "$at/$word" in',
            f"            {known}) at=$at/$word ;;",
            "        esac",
            "    done",
            '    case "$at ${words[CURRENT-1]}" in',
            *values,
            "    esac",
            '    case "$at" in',
            *wordlists,
            "    esac",
            f"    _describe -o {PROGRAM} entries || _files",
            "}",
            # Autoloaded from fpath the file is the function _stack-composer.
            'case "${funcstack[1]}" in _stack_composer|_stack-composer)',
            '    _stack_composer "$@" ;;',
            "*)",
            f"    compdef _stack_composer {PROGRAM} ;;",
            "esac",
            "",
        ]
    )


def _fish(places: dict[str, list[Word]]) -> str:
    known = " ".join(_quoted(at) for at in places if at)
    head = [
        "function __stack_composer_at",
        '    set -l at ""',
        "    set -l typed (commandline -opc)",
        "    for word in $typed[2..-1]",
        f'        if contains -- "$at/$word" {known}',
        '            set at "$at/$word"',
        "        end",
        "    end",
        '    test "$at" = "$argv[1]"',
        "end",
    ]
    rules = [
        f'complete -c {PROGRAM} -n "__stack_composer_at {_quoted(at)}"'
        f" {_fish_word(word)} -d {_quoted(word.summary)}"
        for at, words in places.items()
        for word in words
    ]
    return "\n".join([*head, *rules, ""])


def _fish_word(word: Word) -> str:
    if not word.text.startswith("-"):
        return f"-f -a {_quoted(word.text)}"
    dashes, name = ("-l", word.text[2:]) if word.text.startswith("--") else ("-o", word.text[1:])
    if dashes == "-o" and len(name) == 1:
        dashes = "-s"
    if not word.takes_value:
        return f"{dashes} {name}"
    return f"{dashes} {name} -r" + (
        f" -f -a {_quoted(' '.join(word.choices))}" if word.choices else ""
    )
