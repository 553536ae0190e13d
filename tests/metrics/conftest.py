"""The cases of the specification: confidence, and accuracy as a fraction."""

import pytest
from hypothesis import settings

# A busy machine makes any single example slow once in a while.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

CASES = {
    "A": ([0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]),
    "B": ([0.9, 0.7, 0.7, 0.7, 0.5], [1, 1, 0, 1, 0]),
    "C": ([0.95, 0.9, 0.8, 0.6, 0.4, 0.2], [1, 0.9, 0.6, 0.3, 0, 1]),
    "F": ([0.5] * 4, [1, 1, 0, 0]),
    "G": ([0.9, 0.8, 0.7, 0.6], [0, 1, 1, 1]),
    "H": ([0.9, 0.8, 0.7, 0.6], [1] * 4),
    "I": ([0.9, 0.8, 0.7, 0.6], [0] * 4),
}


@pytest.fixture
def cases() -> dict[str, tuple[list[float], list[float]]]:
    return CASES
