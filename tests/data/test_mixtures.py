import subprocess
import sys
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reliabit.data.mixtures import SHARES, largest_size, mixture
from reliabit.errors import ReliabitError

Side = tuple[list[str], list[str]]


def side(counts: dict[str, int], *, prefix: str) -> Side:
    rows = [(f"{prefix}{image}-{i}", image) for image, count in counts.items() for i in range(count)]
    return [row[0] for row in rows], [row[1] for row in rows]


@st.composite
def pools(draw) -> tuple[Side, Side]:
    """Two sides that share all, some or none of their images, with 1 to 5 questions each."""
    counts = st.dictionaries(st.integers(0, 20).map("i{}".format), st.integers(1, 5), min_size=1, max_size=14)
    in_domain = draw(counts)
    shifted = draw(st.one_of(st.just(in_domain), counts))
    return side(in_domain, prefix="q"), side(shifted, prefix=draw(st.sampled_from(["q", "s"])))


def draw_ids(in_domain: Side, shifted: Side, *, share: Fraction, size: int, seed: int) -> tuple[list[str], list[str]]:
    drawn = mixture(*in_domain, *shifted, shifted_share=share, size=size, seed=seed)
    return [in_domain[0][i] for i in drawn.in_domain], [shifted[0][i] for i in drawn.shifted]


def shuffled(pool: Side, order: np.random.Generator) -> Side:
    rows = order.permutation(len(pool[0]))
    return [pool[0][i] for i in rows], [pool[1][i] for i in rows]


@settings(max_examples=150, deadline=None)
@given(pools=pools(), seed=st.integers(0, 3), data=st.data())
def test_mixtures_are_exact_disjoint_nested_and_independent_of_order(pools, seed, data):
    in_domain, shifted = pools
    largest = largest_size(in_domain[1], shifted[1], seed=seed)
    if largest == 0:
        return
    size = data.draw(st.integers(1, largest))
    image_of = dict(zip(*in_domain, strict=True)), dict(zip(*shifted, strict=True))
    order = np.random.default_rng(data.draw(st.integers(0, 9)))
    drawn = []
    for share in SHARES:
        ours, theirs = draw_ids(in_domain, shifted, share=share, size=size, seed=seed)
        assert abs(len(theirs) - size * share) <= Fraction(1, 2)
        assert len(ours) + len(theirs) == size
        assert len(set(ours)) == len(ours)
        assert len(set(theirs)) == len(theirs)
        assert not {image_of[0][i] for i in ours} & {image_of[1][i] for i in theirs}
        # Whole images, but for the last one.
        for ids, images, lookup in ((ours, in_domain[1], image_of[0]), (theirs, shifted[1], image_of[1])):
            taken = Counter(lookup[i] for i in ids)
            assert all(count == images.count(image) for image, count in list(taken.items())[:-1])
        again = draw_ids(shuffled(in_domain, order), shuffled(shifted, order), share=share, size=size, seed=seed)
        assert again == (ours, theirs)
        drawn.append((ours, theirs))
    for (more_ours, fewer_theirs), (fewer_ours, more_theirs) in pairwise(drawn):
        assert more_theirs[: len(fewer_theirs)] == fewer_theirs
        assert more_ours[: len(fewer_ours)] == fewer_ours


@pytest.mark.medium
@settings(max_examples=150, deadline=None)
@given(pools=pools(), seed=st.integers(0, 3))
def test_the_largest_size_is_the_largest_that_can_be_drawn(pools, seed):
    in_domain, shifted = pools

    def possible(size: int) -> bool:
        try:
            for share in SHARES:
                mixture(*in_domain, *shifted, shifted_share=share, size=size, seed=seed)
        except ReliabitError:
            return False
        return True

    sizes = range(1, min(len(in_domain[0]), len(shifted[0])) + 1)
    assert largest_size(in_domain[1], shifted[1], seed=seed) == max((s for s in sizes if possible(s)), default=0)


def test_disjoint_images_are_used_to_the_last_question():
    ours, theirs = side({"a": 3, "b": 4}, prefix="q"), side({"c": 5, "d": 4}, prefix="s")
    assert largest_size(ours[1], theirs[1], seed=0) == 7
    assert largest_size(theirs[1], ours[1], seed=0) == 7
    assert largest_size(theirs[1], ours[1], seed=0, shares=[Fraction(0)]) == 9


def test_own_images_are_drawn_before_shared_ones():
    ours, theirs = side({"both": 2, "ours": 2}, prefix="q"), side({"both": 2, "theirs": 2}, prefix="s")
    for seed in range(10):
        drawn = draw_ids(ours, theirs, share=Fraction(1, 2), size=4, seed=seed)
        assert tuple(map(set, drawn)) == ({"qours-0", "qours-1"}, {"stheirs-0", "stheirs-1"})


def test_every_image_is_drawn_alike():
    pool = side({f"i{n}": 2 for n in range(8)}, prefix="q")
    drawn = Counter(
        image
        for seed in range(2000)
        for image in {pool[1][i] for i in mixture(*pool, *pool, shifted_share=SHARES[3], size=8, seed=seed).shifted}
    )
    # Two of eight images a draw: 500 expected each, standard deviation 19.4.
    assert sum(drawn.values()) == 4000
    assert all(abs(count - 500) < 5 * 19.4 for count in drawn.values())


PRINT_DRAW = """
from fractions import Fraction
from reliabit.data.mixtures import mixture
ids, images = [f"q{i}" for i in range(60)], [f"i{i // 4}" for i in range(60)]
drawn = mixture(ids, images, ids, images, shifted_share=Fraction(1, 3), size=30, seed=5)
print(drawn.in_domain.tolist(), drawn.shifted.tolist())
"""


def test_another_process_draws_the_same():
    ids, images = [f"q{i}" for i in range(60)], [f"i{i // 4}" for i in range(60)]
    drawn = mixture(ids, images, ids, images, shifted_share=Fraction(1, 3), size=30, seed=5)
    assert drawn.in_domain.dtype == np.int64
    for hash_seed in ("1", "2"):
        environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
        other = subprocess.run(
            [sys.executable, "-c", PRINT_DRAW], env=environment, capture_output=True, text=True, check=False
        )
        assert other.stdout.strip() == f"{drawn.in_domain.tolist()} {drawn.shifted.tolist()}", other.stderr


def test_the_seed_decides_the_draw():
    pool = side({f"i{n}": 3 for n in range(30)}, prefix="q")
    assert len({tuple(mixture(*pool, *pool, shifted_share=SHARES[3], size=20, seed=s).shifted) for s in range(9)}) == 9


def test_too_few_questions_are_counted_out():
    ours, theirs = side({"a": 3, "b": 3}, prefix="q"), side({"c": 2}, prefix="s")
    with pytest.raises(ReliabitError, match="6 questions of which 1/2 are shifted needs 3 shifted and 3 in-domain "):
        mixture(*ours, *theirs, shifted_share=Fraction(1, 2), size=6, seed=0)
    with pytest.raises(ReliabitError, match="there are 2 and, on the images that the shifted ones leave, 6; ask for"):
        mixture(*ours, *theirs, shifted_share=Fraction(0), size=7, seed=0)
    with pytest.raises(ReliabitError, match="there are 6 and, on the images that the shifted ones leave, 0"):
        mixture(*ours, *ours, shifted_share=Fraction(2, 3), size=6, seed=0)


def test_bad_requests_are_refused():
    pool = side({"a": 3}, prefix="q")
    for share in (Fraction(-1, 2), Fraction(3, 2)):
        with pytest.raises(ReliabitError, match=f"{share} is not a share"):
            mixture(*pool, *pool, shifted_share=share, size=1, seed=0)
    with pytest.raises(ReliabitError, match="mixture of 0 questions"):
        mixture(*pool, *pool, shifted_share=Fraction(1), size=0, seed=0)
    with pytest.raises(ReliabitError, match="2 question ids and 3 images"):
        mixture(["x", "y"], pool[1], *pool, shifted_share=Fraction(1), size=1, seed=0)
    with pytest.raises(ReliabitError, match="a question id twice on one side"):
        mixture(["x", "y", "x"], pool[1], *pool, shifted_share=Fraction(1), size=1, seed=0)
