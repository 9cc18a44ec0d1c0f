"""Change the guard's code in one small place at a time, and see whether a test notices.

Usage: ``python tools/mutate.py [--module NAME] [--sample N] [--minutes M] [--seed S]``

A change that no test notices is a *survivor*: a missing test, or a change that makes
no difference. Those of the second kind are listed with their reasons in survivors.toml
and are not reported again. Everything happens in a copy in a temporary folder.

Text is not changed, and neither are annotations: what is left is what decides.
"""

from __future__ import annotations

import argparse
import ast
import copy
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GUARD = "src/stack_composer/telemetry/guard"
ACCEPTED = ROOT / "tools" / "survivors.toml"
EXEMPT = {"explain.py", "reference.py", "semconv.py", "table.py"}
"""What tells people, a tool of the tests, and two tables."""
TESTS = {
    "arguments": ("promises", "parts", "content"),
    "budget": ("bounds", "promises"),
    "engine": ("promises", "keys", "engine", "content", "parts"),
    "engines": ("matcher", "engine", "views", "own"),
    "examples": ("promises", "tokens", "rules"),
    "gates": ("rules",),
    "hashing": ("edges", "hashing"),
    "hidden": ("views", "bounds"),
    "keys": ("promises", "keys", "content"),
    "lookalikes": ("keys", "views"),
    "markers": ("promises", "matcher", "engine"),
    "matcher": ("matcher", "engine", "views", "bounds", "own"),
    "own": ("promises", "own"),
    "patterns": ("promises", "own"),
    "plain": ("promises", "engine"),
    "policy": ("promises", "hashing", "own"),
    "rules": ("promises", "keys", "rules"),
    "sql": ("promises", "edges", "parts", "content"),
    "tally": ("promises", "engine"),
    "texts": ("promises", "keys", "engine", "views"),
    "validators": ("promises", "rules"),
    "validators/assigned": ("edges", "assigned", "rules"),
    "validators/content": ("promises", "parts", "content", "rules"),
    "validators/national": ("edges", "checks", "persons", "rules"),
    "validators/persons": ("edges", "checks", "persons", "rules"),
    "validators/services": ("promises", "assigned", "rules"),
    "validators/shapes": ("edges", "checks", "assigned", "rules"),
    "validators/tokens": ("edges", "checks", "assigned", "tokens", "rules"),
    "validators/urls": ("promises", "tokens", "rules"),
    "validators/wallets": ("promises", "persons", "rules"),
    "views": ("edges", "views", "bounds", "engine"),
}
"""Which of tests/test_guard_*.py concern a module or a folder, the quick ones first."""

SLOW = {
    "engine.py::test_a_fault_in_any_rule_drops_the_value": "engines matcher",
    "engine.py::test_no_example_of_a_secret_is_plain": "plain",
    "engine.py::test_no_pattern_makes_a_plain_text_that_it_hits": "plain",
    "engine.py::test_the_fast_path_agrees_with_the_reference": "engines matcher texts views",
    "own.py::test_no_pattern_spans_a_nul": "patterns",
    "own.py::test_the_written_pattern_means_what_the_user_s_means": "patterns",
    "parts.py::test_the_worst_texts_take_linear_time": "sql arguments validators/content",
    "rules.py::test_no_pattern_spans_a_separator": "gates",
    "rules.py::test_gates_and_anchors_never_miss_what_the_pattern_matches": "gates",
    "views.py::test_no_writing_hides_a_secret": "hidden matcher views",
}
"""Tests that take as long as all others, and the only modules each is for."""

SWAPPED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
    ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip
RENAMED = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change: bytes ``[start, end)`` of a module become ``code``."""

    module: str
    line: int
    start: int
    end: int
    was: str
    code: str
    context: str

    @property
    def change(self) -> str:
        """What was changed, as it is told and as survivors.toml knows it."""
        return f"{self.was} -> {self.code}"


class Mutator(ast.NodeVisitor):
    """Collects the mutants of one module."""

    def __init__(self, module: str, source: str) -> None:
        self.module = module
        self.lines = source.splitlines()
        self.starts = [0]
        for line in source.encode().splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.source = source.encode()
        self.found: list[Mutant] = []

    def visit(self, node: ast.AST) -> None:
        """Add the mutants of ``node`` and of what lies within, unless it only tells."""
        if _only_tells(node):
            return
        for replacement in mutations(node):
            self._add(node, replacement)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "type_params"}:
                continue
            for below in value if isinstance(value, list) else [value]:
                if isinstance(below, ast.AST):
                    self.visit(below)

    def _add(self, node: Any, replacement: str) -> None:
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[node.end_lineno - 1] + node.end_col_offset
        was = " ".join(self.source[start:end].decode().split())
        context = self.lines[node.lineno - 1].strip()
        self.found.append(Mutant(self.module, node.lineno, start, end, was, replacement, context))


def _only_tells(node: ast.AST) -> bool:
    """Whether ``node`` decides nothing: imports, texts that are put together, types."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)):
        return True
    if isinstance(node, ast.If):
        return any(name in ast.unparse(node.test) for name in ("TYPE_CHECKING", "__name__"))
    return isinstance(node, ast.Assign) and "TYPE_CHECKING" in ast.unparse(node)


def mutations(node: Any) -> Iterator[str]:
    """The code of each small change of ``node`` itself."""
    yield from _operators(node)
    yield from _values(node)
    yield from _steps(node)
    yield from _negated(node)


def _operators(node: Any) -> Iterator[str]:
    match node:
        case ast.Compare():
            for index, op in enumerate(node.ops):
                other = [*node.ops[:index], SWAPPED[type(op)](), *node.ops[index + 1 :]]
                yield _with(node, ops=other)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield f"({ast.unparse(node.operand)})"
        case ast.BoolOp():
            yield _with(node, op=SWAPPED[type(node.op)]())
        case ast.BinOp() if type(node.op) in SWAPPED and not _is_text(node):
            yield _with(node, op=SWAPPED[type(node.op)]())
        case ast.AugAssign(op=ast.Add() | ast.Sub()) if not isinstance(node.value, ast.List):
            yield _with(node, op=SWAPPED[type(node.op)]())[1:-1]


def _values(node: Any) -> Iterator[str]:
    match node:
        case ast.Constant(value=bool()):
            yield str(not node.value)
        case ast.Constant(value=int(number)):
            yield f"({number + 1})"
            yield f"({number - 1})"
        case ast.Slice():
            ends = [end for end in ("lower", "upper") if getattr(node, end)]
            yield from (_with(node, **{end: None})[1:-1] for end in ends)
        case ast.Call(func=ast.Name(id=name)) if name in RENAMED:
            yield _with(node, func=ast.Name(RENAMED[name]))


def _steps(node: Any) -> Iterator[str]:
    match node:
        case ast.Return(value=ast.expr()) if not _is_false(node.value):
            yield "return None"
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield "pass"
        case ast.Break() | ast.Continue():
            yield "continue" if isinstance(node, ast.Break) else "break"


def _is_false(node: ast.expr | None) -> bool:
    """Whether a caller who asks for truth takes ``node`` for None."""
    return isinstance(node, ast.Constant) and not node.value


def _negated(node: Any) -> Iterator[str]:
    """A condition without an operator, the other way round."""
    if isinstance(node, (ast.Call, ast.Name, ast.Attribute)) and getattr(node, "decides", False):
        yield f"(not {ast.unparse(node)})"
    if type(node) in {ast.If, ast.While, ast.IfExp}:
        node.test.decides = True
    for condition in getattr(node, "ifs", ()):
        condition.decides = True


def _with(node: Any, **fields: Any) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return f"({ast.unparse(changed)})"


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(part, ast.JoinedStr)
        or (isinstance(part, ast.Constant) and isinstance(part.value, (str, bytes)))
        for part in (node.left, node.right)
    )


def find_mutants(folder: Path, wanted: str) -> list[Mutant]:
    """The mutants of every module whose path below the guard begins with ``wanted``."""
    found: list[Mutant] = []
    for path in sorted((folder / GUARD).rglob("*.py")):
        module = path.relative_to(folder / GUARD).as_posix()
        if module in EXEMPT or not module.startswith(wanted):
            continue
        source = path.read_text(encoding="utf-8")
        mutator = Mutator(module, source)
        mutator.visit(ast.parse(source))
        found += [mutant for mutant in mutator.found if mutant.was != mutant.code.strip("()")]
    return found


class Runner:
    """Runs the tests of a module in a copy of the project, as it is or with a mutant.

    Each file of tests has a process of its own, forked where pytest is loaded already:
    the first file that fails spares the collection of all others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limits_s: dict[tuple[str, str], float] = {}
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["pytest", "hypothesis.strategies", "re2"])

    def killed(self, mutant: Mutant) -> bool:
        """Whether a test fails, or does not come to its end, with ``mutant``."""
        path = self.folder / GUARD / mutant.module
        source = path.read_bytes()
        code = mutant.code.encode()
        path.write_bytes(source[: mutant.start] + code + source[mutant.end :])
        try:
            return not all(self._passes(mutant.module, name) for name in tests_of(mutant.module))
        finally:
            path.write_bytes(source)

    def check(self, module: str) -> None:
        """See the tests of ``module`` pass, and how long they take.

        Raises:
            SystemExit: They fail as it is, so they could tell nothing.
        """
        for name in tests_of(module):
            began = time.monotonic()
            if not self._passes(module, name):
                sys.exit(f"the tests of {module} fail without any change: {name}")
            self.limits_s[module, name] = 3 * (time.monotonic() - began) + 5

    def _passes(self, module: str, name: str) -> bool:
        process = self.context.Process(target=_test, args=(self.folder, name, skipped(module)))
        process.start()
        process.join(self.limits_s.get((module, name)))
        if process.is_alive():
            process.kill()
            process.join()
        return process.exitcode == 0


def _test(folder: Path, name: str, more: list[str]) -> None:
    """Run the tests of one file in ``folder``; exit code 0 if they pass."""
    os.chdir(folder)
    os.environ.update(PYTHONPATH=str(folder / "src"), PYTHONDONTWRITEBYTECODE="1")
    # Not the folder that all runs of pytest share: each tidies up after all others there.
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
    sys.path.insert(0, str(folder / "src"))
    sys.dont_write_bytecode = True
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(silent, descriptor)
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "--hypothesis-seed=0"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # They are loaded, on purpose.
    os._exit(pytest.main([*options, f"tests/test_guard_{name}.py", *more]))


def tests_of(module: str) -> tuple[str, ...]:
    """The tests which concern ``module``: parts of the names of their files."""
    name = module.removesuffix(".py")
    return TESTS.get(name) or TESTS[name.split("/")[0]]


def skipped(module: str) -> list[str]:
    """What tells pytest to leave out the slow tests that are for other modules."""
    return [
        f"--deselect=tests/test_guard_{test}"
        for test, owners in SLOW.items()
        if module.removesuffix(".py") not in owners.split()
    ]


def accepted() -> dict[tuple[str, str, str], str]:
    """The survivors that make no difference, with the reason why."""
    if not ACCEPTED.exists():
        return {}
    rows = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))["survivor"]
    return {(row["module"], row["line"], row["change"]): row["reason"] for row in rows}


def run(runner: Runner, mutants: list[Mutant], minutes: float) -> tuple[Counter[Any], list[Mutant]]:
    """Try ``mutants`` in order until the time is over; count them by module and outcome."""
    counts: Counter[Any] = Counter()
    survivors = []
    checked: set[str] = set()
    known = accepted()
    end = time.monotonic() + 60 * minutes
    for mutant in mutants:
        if time.monotonic() > end:
            break
        if (mutant.module, mutant.context, mutant.change) in known:
            counts[mutant.module, "accepted"] += 1
            continue
        if mutant.module not in checked:
            runner.check(mutant.module)
            checked.add(mutant.module)
        killed = runner.killed(mutant)
        counts[mutant.module, "killed" if killed else "survived"] += 1
        if not killed:
            survivors.append(mutant)
            print(
                f"{mutant.module}:{mutant.line}: {mutant.change}\n    {mutant.context}", flush=True
            )
    return counts, survivors


def main() -> int:
    """Try a sample and print what survived; exit code 1 if anything did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--module", default="", help="begin of a path below guard/: keys.py")
    parser.add_argument("--line", type=int, help="only the mutants of this line")
    parser.add_argument("--sample", type=int, default=100, help="how many mutants (100)")
    parser.add_argument("--minutes", type=float, default=30, help="stop after these (30)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "pyproject.toml", folder)
        mutants = find_mutants(folder, options.module)
        if options.line:
            mutants = [mutant for mutant in mutants if mutant.line == options.line]
        print(f"{len(mutants)} mutants", flush=True)
        random.Random(options.seed).shuffle(mutants)
        counts, survivors = run(Runner(folder), mutants[: options.sample], options.minutes)
    for module in sorted({module for module, _ in counts}):
        tried = [f"{counts[module, kind]} {kind}" for kind in ("killed", "survived", "accepted")]
        print(f"{module}: {', '.join(tried)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
