"""Choose the parts: A* over sets of parts, cut where the budget cannot hold.

A state is a set of chosen parts. Its *open* capabilities are those that the needs and
the chosen parts ask for and nothing chosen provides. Each step takes the open
capability with the fewest providers and tries each of them. A set without open
capabilities is a plan, and the first one found is a cheapest one: the estimate of what
is still to come shares a part's price among all that it provides, so it never exceeds
the truth.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from catalogue import Catalogue, Component

from stack_composer import telemetry

Parts = frozenset[Component]
Entry = tuple[float, tuple[str, ...], Parts]
"""A state on the frontier: its least price, its parts' names, its parts."""

PART_EUR = 8.0
"""What one more part costs in attention, in the planner's currency."""
DOUBT_EUR = 60.0
"""What a part costs that retrieval did not find at all."""

states_tried = telemetry.counter("planner.states", unit="{state}")
plan_cost = telemetry.histogram("planner.plan_cost", unit="EUR")


class PlanningError(Exception):
    """There is no plan; ``outcome`` says why in one word."""

    outcome = "failed"


class OverBudgetError(PlanningError):
    """There is a plan, but it costs too much."""

    outcome = "over_budget"


class UnsatisfiableError(PlanningError):
    """No set of parts satisfies the needs."""

    outcome = "unsatisfiable"


class GaveUpError(PlanningError):
    """The search was cut off."""

    outcome = "gave_up"


@dataclass(frozen=True)
class Problem:
    """What a plan must satisfy, and what it should be like."""

    needs: frozenset[str]
    budget_eur: float
    eur_per_ms: float = 0.02
    without_kinds: frozenset[str] = frozenset()
    states_max: int = 20_000
    relevance: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The chosen parts, by name."""

    parts: tuple[Component, ...]

    @property
    def cost_eur(self) -> float:
        """Euros a month."""
        return sum(part.cost_eur for part in self.parts)

    @property
    def latency_ms(self) -> float:
        """Milliseconds that a request spends in all parts together."""
        return sum(part.latency_ms for part in self.parts)


def solve(catalogue: Catalogue, problem: Problem) -> Plan:
    """Find a cheapest plan.

    Raises:
        PlanningError: One of the three kinds above.
    """
    with telemetry.span(
        "planner.solve", needs=len(problem.needs), budget_eur=problem.budget_eur
    ) as span:
        try:
            plan = _Search(catalogue, problem).run()
        except PlanningError as error:
            span.set_attribute("outcome", error.outcome)
            raise
        span.set_attributes({"outcome": "found", "parts": [part.name for part in plan.parts]})
        plan_cost.record(plan.cost_eur)
        return plan


class _Search:
    def __init__(self, catalogue: Catalogue, problem: Problem) -> None:
        self._catalogue = catalogue
        self._problem = problem
        self._weights = {part.name: self._weight(part) for part in catalogue.components}
        self._providers: dict[str, list[Component]] = {}
        for part in catalogue.components:
            if part.kind not in problem.without_kinds:
                for capability in part.provides:
                    self._providers.setdefault(capability, []).append(part)
        self._least_weight = self._shares(lambda part: self._weights[part.name])
        self._least_cost = self._shares(lambda part: part.cost_eur)
        self._cut_by_budget = False

    def run(self) -> Plan:
        """Search until the first plan, the last state or the limit."""
        tried = 0
        frontier: list[Entry] = [(0.0, (), Parts())]
        seen = {Parts()}
        try:
            while frontier:
                _, _, chosen = heapq.heappop(frontier)
                tried += 1
                if tried > self._problem.states_max:
                    raise GaveUpError(f"no plan among the first {self._problem.states_max} states")
                missing = self._open(chosen)
                if not missing:
                    return Plan(tuple(sorted(chosen, key=lambda part: part.name)))
                for larger in self._steps(chosen, missing):
                    if larger not in seen:
                        seen.add(larger)
                        heapq.heappush(frontier, self._entry(larger))
        finally:
            states_tried.add(tried)
        raise self._failure()

    def _steps(self, chosen: Parts, missing: set[str]) -> Iterable[Parts]:
        capability = min(missing, key=lambda name: (len(self._providers.get(name, ())), name))
        for part in self._providers.get(capability, ()):
            if any(part.clashes(other) for other in chosen):
                continue
            larger = chosen | {part}
            still_to_pay = sum(self._least_cost.get(name, 0.0) for name in self._open(larger))
            if sum(one.cost_eur for one in larger) + still_to_pay > self._problem.budget_eur:
                self._cut_by_budget = True
                continue
            yield larger

    def _entry(self, chosen: Parts) -> Entry:
        so_far = sum(self._weights[part.name] for part in chosen)
        to_come = sum(self._least_weight.get(name, 0.0) for name in self._open(chosen))
        # The names decide between equals, so that each run finds the same plan.
        return so_far + to_come, tuple(sorted(part.name for part in chosen)), chosen

    def _open(self, chosen: Parts) -> set[str]:
        wanted = set(self._problem.needs).union(*(part.requires for part in chosen))
        return wanted.difference(*(part.provides for part in chosen))

    def _weight(self, part: Component) -> float:
        doubt = 1.0 - self._problem.relevance.get(part.name, 0.0)
        latency = part.latency_ms * self._problem.eur_per_ms
        return max(0.0, part.cost_eur + latency + PART_EUR + doubt * DOUBT_EUR)

    def _shares(self, price: Callable[[Component], float]) -> dict[str, float]:
        return {
            capability: min(price(part) / len(part.provides) for part in parts)
            for capability, parts in self._providers.items()
        }

    def _failure(self) -> PlanningError:
        if not self._cut_by_budget:
            return UnsatisfiableError("the needs contradict each other")
        try:
            unlimited = replace(self._problem, budget_eur=float("inf"))
            plan = _Search(self._catalogue, unlimited).run()
        except UnsatisfiableError as error:
            return error
        return OverBudgetError(f"the best plan costs {plan.cost_eur:.0f} euros a month")
