"""One stack generation: agents that read, look, plan and score, some at the same time."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from brief import Brief, read_brief
from catalogue import Catalogue
from critic import CRITERIA, judge
from planner import Plan, PlanningError, Problem, solve
from retrieval import Retriever

from stack_composer import telemetry

log = logging.getLogger("stack_generation")


@dataclass(frozen=True)
class Scenario:
    """One way to ask for the same brief: ``change`` turns its problem into another."""

    name: str
    change: Callable[[Problem], Problem]


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario: a plan with its value, or the reason why not."""

    scenario: str
    outcome: str
    plan: Plan | None = None
    value: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Tools:
    """What all generations share."""

    catalogue: Catalogue
    retriever: Retriever
    pool: ThreadPoolExecutor


@contextmanager
def agent(name: str, phase: str) -> Iterator[None]:
    """Put an agent's work into a span, and its duration into ``agent.latency_ms``."""
    started = time.perf_counter()
    try:
        with telemetry.span(f"agent.{phase}", agent=name, phase=phase):
            yield
    finally:
        elapsed_ms = (time.perf_counter() - started) * 1_000
        telemetry.metric("agent.latency_ms", elapsed_ms, agent=name, phase=phase)


async def generate(text: str, scenario: Scenario, tools: Tools) -> Outcome:
    """Make one stack; a scenario without a plan is an outcome, too."""
    try:
        with telemetry.generation(
            project_id=f"demo/{scenario.name}", brief=text, scenario=scenario.name
        ):
            return await _generate(text, scenario, tools)
    except PlanningError as error:
        # After it has passed through all spans, each of which recorded it.
        return Outcome(scenario.name, error.outcome, reason=str(error))


async def _generate(text: str, scenario: Scenario, tools: Tools) -> Outcome:
    with agent("reader", "read"):
        brief = read_brief(text, tools.catalogue)
    found = await asyncio.gather(*(_scout(need.name, brief, tools) for need in brief.needs))
    problem = scenario.change(
        Problem(
            needs=frozenset(need.name for need in brief.needs),
            budget_eur=brief.budget_eur,
            relevance=_best_of(found),
        )
    )
    with agent("stack", "plan"):
        try:
            # Elsewhere, so that the event loop goes on; to_thread takes the span along.
            plan = await asyncio.to_thread(solve, tools.catalogue, problem)
        except PlanningError as error:
            log.warning("no plan", extra={"outcome": error.outcome})
            raise
    value = _score(plan, problem, tools.pool)
    telemetry.log("info", "plan found", parts=len(plan.parts), cost_eur=plan.cost_eur)
    return Outcome(scenario.name, "found", plan, value)


async def _scout(need: str, brief: Brief, tools: Tools) -> dict[str, float]:
    """Look for parts that fit one need; all scouts look at the same time."""
    with agent("scout", "retrieve"):
        title = next(one.title for one in brief.needs if one.name == need)
        return await asyncio.to_thread(tools.retriever.search, need, f"{title} {brief.text}")


def _best_of(found: list[dict[str, float]]) -> dict[str, float]:
    best: dict[str, float] = {}
    for relevance in found:
        for name, value in relevance.items():
            best[name] = max(value, best.get(name, 0.0))
    return best


def _score(plan: Plan, problem: Problem, pool: ThreadPoolExecutor) -> float:
    """Let one critic a criterion judge, each on a thread of a pool; give the mean."""
    with agent("critic", "score"):
        # Unlike to_thread a pool takes no context along, so each task gets a copy.
        judged = [
            pool.submit(contextvars.copy_context().run, judge, criterion, plan, problem)
            for criterion in CRITERIA
        ]
        return sum(future.result() for future in judged) / len(judged)
