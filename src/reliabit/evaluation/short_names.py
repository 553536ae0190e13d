"""Names of cells without what all of them share, for labels and narrow tables."""

from collections.abc import Sequence

BETWEEN = "·"
"""What stands between the parts of a run's name."""


def short_names(names: Sequence[str]) -> list[str]:
    """Each name without the parts that all have; whole names where that would leave one empty or two alike.

    >>> short_names(["tiny·none·s0", "tiny·hqq·4b·s0", "tiny·hqq·8b·s0"])
    ['none', 'hqq·4b', 'hqq·8b']
    >>> short_names(["tiny·hqq·4b·s0"])
    ['tiny·hqq·4b·s0']
    """
    parts = [[part.strip() for part in name.split(BETWEEN)] for name in names]
    common = set.intersection(*map(set, parts)) if parts else set()
    short = [BETWEEN.join(part for part in own if part not in common) for own in parts]
    return short if all(short) and len(set(short)) == len(set(names)) else list(names)
