"""Judge a plan by several criteria, each a number in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

from planner import Plan, Problem

from stack_composer import telemetry


def _thrift(plan: Plan, problem: Problem) -> float:
    return 1.0 - plan.cost_eur / problem.budget_eur


def _speed(plan: Plan, _: Problem) -> float:
    return 1.0 / (1.0 + max(0.0, plan.latency_ms) / 200.0)


def _simplicity(plan: Plan, problem: Problem) -> float:
    return len(problem.needs) / (len(problem.needs) + len(plan.parts))


def _freedom(plan: Plan, _: Problem) -> float:
    return sum(part.kind != "managed" for part in plan.parts) / len(plan.parts)


def _fit(plan: Plan, problem: Problem) -> float:
    return sum(problem.relevance.get(part.name, 0.0) for part in plan.parts) / len(plan.parts)


CRITERIA: dict[str, Callable[[Plan, Problem], float]] = {
    "thrift": _thrift,
    "speed": _speed,
    "simplicity": _simplicity,
    "freedom": _freedom,
    "fit": _fit,
}


def judge(criterion: str, plan: Plan, problem: Problem) -> float:
    """Give the value of one criterion, and record it."""
    with telemetry.span("critic.judge", criterion=criterion) as span:
        value = min(1.0, max(0.0, CRITERIA[criterion](plan, problem)))
        span.set_attribute("value", value)
        telemetry.metric("critic.value", value, criterion=criterion)
        return value
