"""Splits by image: no two splits share one."""

from collections.abc import Mapping, Sequence

import numpy as np

from reliabit.errors import ReliabitError


def split_by_image(image_ids: Sequence[str], *, sizes: Mapping[str, int], seed: int) -> dict[str, list[str]]:
    """Draw disjoint splits of the given sizes from a set of images.

    Args:
        image_ids: The images; repetitions and order do not matter.
        sizes: How many images each split gets.
        seed: The seed of the draw.

    Returns:
        The image ids of each split, in the random order in which they were drawn.

    Raises:
        ReliabitError: The splits ask for more images than there are.

    >>> split_by_image(["a", "b", "c"], sizes={"dev": 2, "test": 1}, seed=0)
    {'dev': ['c', 'a'], 'test': ['b']}
    """
    unique = sorted(set(image_ids))
    wanted = sum(sizes.values())
    if wanted > len(unique):
        raise ReliabitError(f"the splits {dict(sizes)} ask for {wanted} images and there are {len(unique)}")
    order = np.random.default_rng(seed).permutation(len(unique))
    splits, start = {}, 0
    for name, size in sizes.items():
        splits[name] = [unique[i] for i in order[start : start + size]]
        start += size
    return splits
