"""The ways in which the example asks for the same brief; the last three must fail."""

from __future__ import annotations

from dataclasses import replace

from generation import Scenario
from planner import Problem


def _as_asked(problem: Problem) -> Problem:
    return problem


def _faster(problem: Problem) -> Problem:
    return replace(problem, eur_per_ms=problem.eur_per_ms * 10)


def _third_of_the_sum(problem: Problem) -> Problem:
    return replace(problem, budget_eur=problem.budget_eur // 3)


def _nothing_managed(problem: Problem) -> Problem:
    return replace(problem, without_kinds=frozenset({"managed"}))


def _nothing_self_hosted(problem: Problem) -> Problem:
    return replace(problem, without_kinds=frozenset({"self-hosted"}))


def _for_nothing(problem: Problem) -> Problem:
    return replace(problem, budget_eur=1.0)


def _contradiction(problem: Problem) -> Problem:
    return replace(problem, needs=problem.needs | {"serverless", "on-premises"})


def _in_a_hurry(problem: Problem) -> Problem:
    return replace(problem, states_max=3)


SCENARIOS = (
    Scenario("as asked", _as_asked),
    Scenario("faster", _faster),
    Scenario("third of the sum", _third_of_the_sum),
    Scenario("nothing managed", _nothing_managed),
    Scenario("nothing self-hosted", _nothing_self_hosted),
    Scenario("for nothing", _for_nothing),
    Scenario("contradiction", _contradiction),
    Scenario("in a hurry", _in_a_hurry),
)
