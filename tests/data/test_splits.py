import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliabit.data.splits import split_by_image
from reliabit.errors import ReliabitError


@given(
    images=st.lists(st.integers(0, 10_000).map(str), min_size=12, max_size=60, unique=True),
    sizes=st.fixed_dictionaries({"dev": st.integers(0, 4), "val": st.integers(0, 4), "test": st.integers(0, 4)}),
    seed=st.integers(0, 5),
    repeats=st.integers(1, 3),
)
def test_splits_are_disjoint_exact_and_independent_of_order(images, sizes, seed, repeats):
    splits = split_by_image(images * repeats, sizes=sizes, seed=seed)
    drawn = [image for split in splits.values() for image in split]
    assert {name: len(split) for name, split in splits.items()} == sizes
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(images)
    assert split_by_image(images[::-1], sizes=sizes, seed=seed) == splits


def test_too_many_images_are_refused():
    with pytest.raises(ReliabitError, match="ask for 5 images and there are 2"):
        split_by_image(["a", "b", "b"], sizes={"dev": 5}, seed=0)
