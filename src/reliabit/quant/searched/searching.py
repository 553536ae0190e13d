"""From costs to a plan: solved for single changes, checked once around what was found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from reliabit.quant.convert import TIED
from reliabit.quant.searched.assignment import Option, assign
from reliabit.quant.searched.measuring import Cost
from reliabit.quant.searched.units import Assignment, Bytes

Widths = Mapping[str, Sequence[int | None]]
Costs = Mapping[str, Mapping[int | None, Cost]]

Measure = Callable[[Assignment, Widths], tuple[Cost, Costs]]
"""Given an assignment and other widths of its units, what it costs, and what it does with one unit at another width."""


@dataclass(frozen=True)
class Found:
    """A plan that was searched.

    Attributes:
        assignment: The width of each unit.
        size: Bytes it takes.
        cost: What it was measured to cost.
        single: What each unit costs at each width, all others as they are.
        first: What the plan that these come to was measured to cost.
        around: What was measured around that plan, a unit a step wider or narrower; empty where nothing was refined.
        second: What the plan that these come to was measured to cost; None where it is the first one.
    """

    assignment: Assignment
    size: int
    cost: Cost
    single: Costs
    first: Cost
    around: Costs
    second: Cost | None


def search(
    sizes: Bytes, measure: Measure, *, widths: Sequence[int], budget: int, minimized: str = "kl", refine: bool = True
) -> Found:
    """Find the plan of least cost within a budget.

    First every unit is measured alone, and costs are taken to add up. What does not add up shows around the plan that
    this comes to: there each unit is measured a step narrower and wider, and the plan solved again among these. Of
    both plans the one that was measured to cost less is taken.

    Args:
        sizes: What assignments take.
        measure: What they cost.
        widths: What each unit may be given, rising; it may stay as it is too.
        budget: Bytes, enough for the smallest plan.
        minimized: `kl` or `nll`.
        refine: Whether to measure around the first plan.

    Raises:
        ReliabitError: The budget is below the smallest plan.
    """
    ladder: list[int | None] = [*sorted(widths), None]
    nothing: Assignment = dict.fromkeys(sizes.changes)
    if budget >= sizes.as_it_is:
        zero, _ = measure(nothing, {})
        return Found(nothing, sizes.as_it_is, zero, {}, zero, {}, None)
    zero, single = measure(nothing, dict.fromkeys(sizes.changes, ladder[:-1]))
    single = {unit: {**costs, None: zero} for unit, costs in single.items()}
    first = solve(sizes, single, budget=budget, minimized=minimized)
    steps = {unit: _steps(ladder, width) for unit, width in first.items()} if refine else {}
    first_cost, around = measure(first, steps)
    best, cost, second = first, first_cost, None
    if refine:
        here = {unit: {**costs, first[unit]: first_cost} for unit, costs in around.items()}
        moved = solve(sizes, here, budget=budget, minimized=minimized)
        if moved != first:
            second, _ = measure(moved, {})
            if getattr(second, minimized) < getattr(first_cost, minimized):
                best, cost = moved, second
    return Found(best, sizes.total(best), cost, single, first_cost, around, second)


def _steps(ladder: Sequence[int | None], width: int | None) -> list[int | None]:
    """The widths a step below and above.

    >>> _steps([2, 3, 4, None], 4), _steps([2, 3, 4, None], 2)
    ([3, None], [3])
    """
    place = ladder.index(width)
    return [*ladder[max(place - 1, 0) : place], *ladder[place + 1 : place + 2]]


def solve(sizes: Bytes, costs: Costs, *, budget: int, minimized: str = "kl") -> dict[str, int | None]:
    """The assignment of least cost within a budget, if costs of single units add up.

    Embeddings and head that share a matrix are chosen together: the matrix goes only where both are quantized.

    Raises:
        ReliabitError: The smallest assignment takes more.
    """
    together = [unit for unit in TIED if sizes.tied and unit in costs]
    groups = [[unit] for unit in costs if unit not in together] + ([together] if together else [])
    choices = [[dict(zip(group, widths, strict=True)) for widths in product(*(costs[unit] for unit in group))]
               for group in groups]  # fmt: skip
    options = [
        [
            Option(
                size=sizes.total(choice) - sizes.as_it_is,
                cost=sum(getattr(costs[unit][width], minimized) for unit, width in choice.items()),
            )
            for choice in chosen
        ]
        for chosen in choices
    ]
    numbers = assign(options, budget=budget - sizes.as_it_is)
    found = {
        unit: width for number, chosen in zip(numbers, choices, strict=True) for unit, width in chosen[number].items()
    }
    return {unit: found[unit] for unit in costs}


def smallest(sizes: Bytes, *, widths: Sequence[int]) -> int:
    """Bytes of the smallest assignment."""
    narrow, wide = min(widths), None
    alone = [unit for unit in sizes.changes if not (sizes.tied and unit in TIED)]
    fixed: dict[str, int | None] = {unit: narrow if sizes.changes[unit][narrow] < 0 else wide for unit in alone}
    both: dict[str, int | None] = dict.fromkeys(TIED, narrow) if sizes.tied else {}
    return min(sizes.total(fixed), sizes.total({**fixed, **both}))
