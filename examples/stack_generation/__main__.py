"""A small stack composer, recorded: run it with ``python examples/stack_generation``.

It plans the parts of a system from a brief (BRIEF="..." python examples/...), in
several ways, of which some must fail. Then it shows what was recorded, and that no
word of the brief is in it. Exit code 1 means that one was found.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from brief import DEFAULT, read_brief
from catalogue import load_catalogue
from generation import Outcome, Tools, generate
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from proof import prove
from report import (
    print_brief,
    print_commands,
    print_files,
    print_outcomes,
    print_plan,
    print_proof,
)
from retrieval import Retriever
from scenarios import SCENARIOS

from stack_composer import telemetry


def main() -> int:
    """Generate, show, prove."""
    text = os.environ.get("BRIEF") or DEFAULT
    telemetry.configure(service_name="stack-generation-example", opentelemetry=True)
    logging.getLogger("stack_generation").addHandler(telemetry.LoggingHandler())
    # Not changed in any way: it finds our providers through the OpenTelemetry API.
    SQLite3Instrumentor().instrument()

    catalogue = load_catalogue()
    with (
        closing(Retriever(catalogue)) as retriever,
        ThreadPoolExecutor(max_workers=4, thread_name_prefix="critic") as pool,
    ):
        tools = Tools(catalogue, retriever, pool)
        print_brief(read_brief(text, catalogue), retriever.note)
        outcomes = asyncio.run(run(text, tools))
        print_outcomes(outcomes)
        print_plan(outcomes)
        control = run_control(tools)
    return show(text, control, catalogue.names())


async def run(text: str, tools: Tools) -> list[Outcome]:
    """Generate once a scenario, one after the other."""
    return [await generate(text, scenario, tools) for scenario in SCENARIOS]


def run_control(tools: Tools) -> str:
    """Do the same with an empty brief, and give what would have been written."""
    with telemetry.capture() as captured:
        asyncio.run(run("", tools))
    lines = [line for signal in ("traces", "metrics", "logs") for line in captured.lines(signal)]
    return b"".join(lines).decode()


def show(text: str, control: str, names: set[str]) -> int:
    """Say where the records are and prove what is not in them."""
    try:
        last = telemetry.flush()
    except telemetry.TelemetryError as error:
        print(f"{error}\n  hint: {error.hint}", file=sys.stderr)
        return 1
    folder = last if last.is_dir() else last.parent
    files = files_of_this_process(folder)
    if last.suffix == ".sqlcipher":
        print(f"recorded  encrypted, in {last}:")
        print("          no search in its bytes can show what is not in it")
        print_commands()
        return 0
    if not files:
        print("Nothing was recorded; 'stack-composer telemetry status' says why.")
        return 0
    print_files(folder, files)
    proof = prove(text, files, control, names | {one.name for one in SCENARIOS})
    print_proof(proof, len(files))
    print_commands()
    return 1 if proof.found_in else 0


def files_of_this_process(folder: Path) -> list[Path]:
    """Give the bundles of this process and their sidecars; a name holds its writer's pid."""
    return sorted(folder.glob(f"*-{os.getpid()}-*")) if folder.is_dir() else []


if __name__ == "__main__":
    sys.exit(main())
