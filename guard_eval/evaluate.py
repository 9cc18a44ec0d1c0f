"""Measure the guard on labelled strings, beside other tools, in one run.

Prints a table. A full run also writes guard_eval/results.json and the figures in
docs/privacy.md, which are made of that file alone. The strings are no part of the
project: TELEMETRY_CORPUS names the folder of the corpus, else it is looked for in
``shared/corpus`` beside the checkout. Exit code 2: there are none.

No tool may reach another computer meanwhile; one that tries is stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tables
import worst
from contestants import Tool, make_all
from labelled import Row, Score, read_rows

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "privacy.md"
CAP_S = 180.0
SEED = 5
WARM_S = 10.0
NO_STRINGS = 2


class EgressError(RuntimeError):
    """A tool tried to reach another computer."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python guard_eval/evaluate.py", description=__doc__)
    parser.add_argument("--file", type=Path, help="other labelled strings; nothing is written")
    parser.add_argument("--tools", choices=("all", "ours"), default="all", help="skip the peers")
    parser.add_argument("--json", type=Path, help="write what was measured there too")
    parser.add_argument(
        "--worst", action="store_true", help="time every rule on hostile megabytes instead"
    )
    parser.add_argument("--engine", choices=("re2", "re"), help="with --worst: the other engine")
    parser.add_argument("--page", action="store_true", help="only make docs/privacy.md anew")
    args = parser.parse_args(arguments)
    if args.page:
        write_page(json.loads(RESULTS.read_text(encoding="utf-8")))
        return 0
    if args.worst:
        worst.report(engine=args.engine or "")
        return 0
    path = args.file or corpus()
    if not path.is_file():
        sys.stderr.write(
            f"no labelled strings at {path}\n"
            "  hint: set TELEMETRY_CORPUS to the folder that holds redaction/strings.jsonl\n"
        )
        return NO_STRINGS
    results = run(read_rows(path), peers=args.tools == "all")
    print(tables.terminal(results))
    if args.json:
        write(args.json, results)
    if args.file is None and args.tools == "all":
        write(RESULTS, results)
        write_page(results)
    return 0


def corpus() -> Path:
    """Where the labelled strings are, or would be."""
    folder = os.environ.get("TELEMETRY_CORPUS", ROOT.parent / "shared" / "corpus")
    return Path(folder) / "redaction" / "strings.jsonl"


def run(rows: Sequence[Row], *, peers: bool, cap_s: float = CAP_S) -> dict[str, Any]:
    """Measure each tool on the same strings, in an order that is the same each time."""
    sys.addaudithook(refuse_egress)
    rows = list(rows)
    random.Random(SEED).shuffle(rows)
    tools = {}
    for title, tool in make_all(peers=peers):
        tools[title] = measure(tool, rows, cap_s) if tool else {"installed": False}
        sys.stderr.write(f"{title}: done\n")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "strings": len(rows),
        "tools": tools,
    }


def measure(tool: Tool, rows: Sequence[Row], cap_s: float = CAP_S) -> dict[str, Any]:
    """What one tool finds, and its CPU microseconds a string.

    After ``cap_s`` seconds it is stopped; "strings" says how many it saw.
    """
    warm_up(tool, rows, min(WARM_S, cap_s))
    score = Score()
    spent_ns = looked = 0
    deadline = time.monotonic() + cap_s
    for row in rows:
        began_ns = time.process_time_ns()
        seen = tool.look(row.text, row.key)
        spent_ns += time.process_time_ns() - began_ns
        looked += 1
        score.add(row, tool.spans(row.text, seen))
        if time.monotonic() > deadline:
            break
    return {
        "installed": True,
        "version": tool.version(),
        "strings": looked,
        "us": round(spent_ns / 1000 / max(looked, 1), 1),
        **score.as_json(),
    }


def warm_up(tool: Tool, rows: Sequence[Row], most_s: float) -> None:
    """Let it see the strings: patterns and states of automatons are made when first needed."""
    deadline = time.monotonic() + most_s
    for row in rows:
        tool.look(row.text, row.key)
        if time.monotonic() > deadline:
            return


def refuse_egress(event: str, _arguments: tuple[Any, ...]) -> None:
    """Stop every connection and look-up of a name: the strings stay here."""
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}:
        raise EgressError(f"{event}: a tool tried to reach another computer")


def write(path: Path, results: dict[str, Any]) -> None:
    """Write ``results``, a pair of counts on one line."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    path.write_text(tables.pairs_on_a_line(text) + "\n", encoding="utf-8", newline="\n")


def write_page(results: dict[str, Any]) -> None:
    """Put the figures of ``results`` into docs/privacy.md."""
    text = tables.page(PAGE.read_text(encoding="utf-8"), results)
    PAGE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
