"""The best choice of one option for each of many units within a budget, found exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import numpy as np
from numpy.typing import NDArray

from reliabit.errors import ReliabitError

_LARGEST_COST = 1e4
"""Costs are scaled to this, as the solver takes differences below 1e-6 for none."""


@dataclass(frozen=True)
class Option:
    """What a unit may be given.

    Attributes:
        size: Bytes it takes; negative where bytes are counted from another choice.
        cost: What is minimized.
    """

    size: int
    cost: float


def assign(units: Sequence[Sequence[Option]], *, budget: int) -> list[int]:
    """Choose an option for each unit, so that sizes come to the budget at most and costs are least.

    A knapsack of groups, solved by branch and bound (`scipy.optimize.milp`) without a gap.

    Args:
        units: The options of each.
        budget: Bytes.

    Returns:
        For each unit, the number of its option.

    Raises:
        ReliabitError: The smallest options take more.

    Example:
        >>> wide, narrow = Option(size=4, cost=0.0), Option(size=2, cost=1.0)
        >>> assign([[wide, narrow], [wide, Option(size=2, cost=0.5)]], budget=6)
        [0, 1]
    """
    smallest = [min(option.size for option in options) for options in units]
    room = budget - sum(smallest)
    if room < 0:
        raise ReliabitError(f"the smallest plan takes {sum(smallest)} bytes, more than {budget}; raise the budget")
    above = [[option.size - least for option in options] for options, least in zip(units, smallest, strict=True)]
    unit_bytes = gcd(*(size for sizes in above for size in sizes)) or 1
    sizes = np.array([size // unit_bytes for options in above for size in options], dtype=float)
    costs = np.array([option.cost for options in units for option in options])
    left = room // unit_bytes
    while True:
        chosen = _solve(sizes, costs, [len(options) for options in units], left)
        taken = sum(options[number] for options, number in zip(above, chosen, strict=True)) // unit_bytes
        if taken * unit_bytes <= room:
            return chosen
        # The solver takes a sum for whole within 1e-6 of each of its terms.
        left -= taken - left


def _solve(sizes: NDArray[np.float64], costs: NDArray[np.float64], counts: Sequence[int], room: int) -> list[int]:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    starts = np.cumsum([0, *counts])
    owners = np.repeat(np.arange(len(counts)), counts)
    one_each = csr_array((np.ones(len(costs)), (owners, np.arange(len(costs)))))
    found = milp(
        costs * (_LARGEST_COST / max(np.abs(costs).max(), 1e-30)),
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(sizes[None], -np.inf, room)],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise RuntimeError(f"the assignment was not solved: {found.message}")
    return [int(found.x[start:stop].argmax()) for start, stop in pairwise(starts)]
