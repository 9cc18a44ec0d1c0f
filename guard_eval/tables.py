"""The table in the terminal and the figures in docs/privacy.md; both made of the JSON alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from labelled import rate

BEGIN = "<!-- figures: made by `make guard-eval` from guard_eval/results.json -->\n"
END = "<!-- end of the figures -->\n"
ROWS = (
    # title, group, name in it
    ("secrets found", "found", "secret"),
    ("personal data found", "found", "pii"),
    ("national ids found", "found", "natid"),
    ("harmless strings changed", "changed", "all"),
    ("... with a word for a credential", "changed", "keyword"),
    ("... without an IP address", "changed", "no ip"),
    ("near misses changed", "near", "all"),
    ("text kept beside what was found", "kept", ""),
    ("... that one marker took with it", "spared", ""),
)
PROFILES = {"secret": "default", "pii": "strict", "natid": "strict"}
"""The profile that promises to find a domain; the other may find less of it."""
DOMAINS = {"secret": "secrets", "pii": "personal data", "natid": "national ids"}
WEAK_BELOW = 0.8
WEAK_STRINGS_MIN = 5
WIDTH = 96
TEXT = """\
Measured on {date} ({python}, {system}) in one run of `make guard-eval`, over {strings:,}
labelled strings from the public test suites of secret and personal data detectors, and of
harmless values from OpenTelemetry, Jaeger, Zipkin and others. **A hit leaves less than half
of the labelled secret.** A near miss looks like a secret and is none, in the eyes of the
suite that it is from. Labels often cover a part of a token, or one of several secrets in a
text; so text kept is also counted for labels that cut no word, and less only what went in
one marker with the labelled secret.

{table}
{sampled}Each tool saw every text by itself, and was timed when it had seen them before. Logfire was
also told the attribute's key, where there is one; it replaces a text as a whole, so it keeps
nothing beside a secret. detect-secrets only names values: they count as if they were masked
wherever they stand. It ran with all its plugins and default filters, on files and (*line*) as
it scans a text given by hand. Presidio ran with all its recognisers that need no language
model, at any score; the strings include its own test suite, and on strings of others it finds
less. *12 patterns* is what many programs have.

These are figures of that corpus, and our rules were made with it at hand: expect less on your
own data. The corpus is no part of the project; where it is there (`TELEMETRY_CORPUS`), a test
checks the columns of ours.

### Where ours is weak

{weak}
"""


def page(text: str, results: dict[str, Any]) -> str:
    """The whole page ``text`` with the figures of ``results`` between its marks.

    Raises:
        ValueError: The marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("docs/privacy.md has lost the marks of its figures")
    return f"{before}{BEGIN}\n{figures(results)}\n{END}{after}"


def figures(results: dict[str, Any]) -> str:
    """What the page says about ``results``."""
    rows = list(cells(results))
    rule = ["---"] + ["---:"] * (len(rows[0]) - 1)
    table = "".join(f"| {' | '.join(row)} |\n" for row in [rows[0], rule, *rows[1:]])
    about = {key: results[key] for key in ("date", "python", "system", "strings")}
    return TEXT.format(table=table, sampled=sampled(results), weak=weak(results), **about)


def terminal(results: dict[str, Any]) -> str:
    """The same table with aligned columns, then the weak kinds."""
    rows = list(cells(results))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([*lines, "", sampled(results) + weak(results)])


def cells(results: dict[str, Any]) -> Iterator[list[str]]:
    """The rows of the table, its head first; the second column counts the strings."""
    tools = results["tools"]
    ours = tools["ours, default"]
    yield ["", "strings", *(head(title, tool) for title, tool in tools.items())]
    for title, group, name in ROWS:
        pair = pick(ours, group, name)
        if pair is None:
            continue
        of = f"{pair[1]:,}" if name else ""
        digits = 0 if group == "found" else 1
        yield [title, of, *(percent(pick(tool, group, name), digits) for tool in tools.values())]
    yield ["CPU, µs a string", "", *(microseconds(tool) for tool in tools.values())]


def head(title: str, tool: dict[str, Any]) -> str:
    """A tool's title with its version."""
    name, comma, mode = title.partition(", ")
    return f"{name} {tool['version']}{comma}{mode}" if tool.get("version") else title


def pick(tool: dict[str, Any], group: str, name: str) -> list[int] | None:
    """A pair of counts; None where the tool is not installed or nothing was counted."""
    found = tool.get(group)
    pair: list[int] | None = found.get(name) if isinstance(found, dict) else found
    return pair if pair and pair[1] else None


def percent(pair: list[int] | None, digits: int) -> str:
    """A pair as a percentage; it never says 0 or 100 of what is not all or nothing."""
    share = rate(pair)
    if pair is None or share is None:
        return "not installed"
    text = f"{100 * share:.{digits}f}"
    if 0 < pair[0] < pair[1] and float(text) in {0.0, 100.0}:
        text = f"{100 * share:.2f}"
    return f"{text} %"


def microseconds(tool: dict[str, Any]) -> str:
    """A tool's CPU time for a string."""
    return f"{tool['us']:,.0f}" if tool["installed"] else "not installed"


def sampled(results: dict[str, Any]) -> str:
    """Which tools were too slow to see every string."""
    cut = [
        f"{title} is slow and saw {tool['strings']:,} of the strings, drawn at random."
        for title, tool in results["tools"].items()
        if tool["installed"] and tool["strings"] < results["strings"]
    ]
    return "\n".join(cut) + "\n\n" if cut else ""


def weak(results: dict[str, Any]) -> str:
    """The kinds of which less than four in five are found, by domain."""
    parts = []
    for domain, profile in PROFILES.items():
        kinds = results["tools"][f"ours, {profile}"]["found"]
        rates = {
            name.removeprefix(f"{domain}/"): pair
            for name, pair in kinds.items()
            if name.startswith(f"{domain}/")
        }
        below = {k: p for k, p in rates.items() if p[0] < WEAK_BELOW * p[1]}
        if rates:
            parts.append(weak_kinds(domain, profile, below, len(rates)))
    return "\n\n".join(parts)


def weak_kinds(domain: str, profile: str, below: dict[str, list[int]], kinds: int) -> str:
    """One domain's weak kinds, the weakest first; rare ones are only counted."""
    named = {k: p for k, p in below.items() if p[1] >= WEAK_STRINGS_MIN}
    rare = len(below) - len(named)
    ordered = sorted(named.items(), key=lambda one: (one[1][0] / one[1][1], one[0]))
    listed = ", ".join(f"{plain(kind)} ({found} of {of})" for kind, (found, of) in ordered)
    start = f"Of {kinds:,} kinds of {DOMAINS[domain]}, profile {profile}, {len(below):,} are found"
    parts = [f"{start} less than four times in five"]
    if listed:
        parts.append(f": {listed}")
    if rare:
        parts.append(f"{';' if listed else ','} {rare:,} of them have fewer than"
                     f" {WEAK_STRINGS_MIN} strings")  # fmt: skip
    text = "".join(parts) + "."
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def plain(kind: str) -> str:
    """A kind as the page writes it: ``national_id:uk_nino`` is "uk_nino"."""
    return f"`{kind.rpartition(':')[2]}`"


def pairs_on_a_line(text: str) -> str:
    """Indented JSON with each pair of numbers on one line."""
    return re.sub(r"\[\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2]", text)
