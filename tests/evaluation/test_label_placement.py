"""Labels lie within the panel and on no other, wherever their points are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reliabit.evaluation.label_placement import place_labels

BOUNDS = (0.0, 0.0, 800.0, 500.0)


def overlap(one, other):
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


@settings(max_examples=15, deadline=None)
@given(
    number=st.integers(1, 30), spread=st.sampled_from([1.0, 20.0, 150.0]), seed=st.integers(0, 1000), wide=st.booleans()
)
def test_no_label_lies_on_another_or_leaves_the_panel(number, spread, seed, wide):
    rng = np.random.default_rng(seed)
    points = np.clip(rng.normal((400, 250), spread, (number, 2)), (0, 0), BOUNDS[2:])
    sizes = np.stack([rng.uniform(40, 140 if wide else 70, number), np.full(number, 24.0)], axis=1)
    found = place_labels(points, sizes, bounds=BOUNDS)
    assert None not in found
    for index, box in enumerate(found):
        assert (box[2] - box[0], box[3] - box[1]) == pytest.approx(tuple(sizes[index]))
        assert min(box[:2]) >= 0
        assert box[2] <= BOUNDS[2]
        assert box[3] <= BOUNDS[3]
        assert not any(overlap(box, other) for other in found[:index])
    assert found == place_labels(points, sizes, bounds=BOUNDS)


def test_a_label_goes_round_what_it_had_better_not_cover():
    point, size = np.array([[400.0, 250.0]]), np.array([[60.0, 24.0]])
    ((free,),) = (place_labels(point, size, bounds=BOUNDS),)
    (around,) = place_labels(point, size, bounds=BOUNDS, obstacles=[free])
    assert not overlap(free, around)


def test_where_there_is_no_room_a_label_is_left_out():
    points, sizes = np.full((3, 2), 20.0), np.full((3, 2), 20.0)
    found = place_labels(points, sizes, bounds=(0.0, 0.0, 50.0, 30.0))
    assert found.count(None) == 2
