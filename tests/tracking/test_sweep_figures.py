"""The Pareto front against a brute-force reference."""

from hypothesis import given
from hypothesis import strategies as st

from reliabit.tracking.sweep_figures import pareto_front

POINTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(st.integers(0, 5), st.integers(0, 5)))


def beaten(name, points, sign):
    size, quality = points[name]
    return any(
        (other_size <= size and sign * other_quality >= sign * quality)
        and (other_size < size or sign * other_quality > sign * quality)
        for other_size, other_quality in points.values()
    )


@given(POINTS, st.booleans())
def test_the_front_is_what_nothing_beats(points, larger_is_better):
    front = pareto_front(points, larger_is_better=larger_is_better)
    sign = 1 if larger_is_better else -1
    expected = {points[name] for name in points if not beaten(name, points, sign)}
    assert {points[name] for name in front} == expected
    assert len(front) == len(expected), "of equals one stands for all"
    assert [points[name][0] for name in front] == sorted(points[name][0] for name in front)
