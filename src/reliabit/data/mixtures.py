"""Mixtures of in-domain and shifted questions, from all in-domain to all shifted.

The protocol of arXiv 2602.13289: reliability is plotted against the share of questions that are out of
distribution. The paper's inner shares are not known to us; ours are those of C. Dancette et al., "Improving
Selective Visual Question Answering by Learning from Your Peers", CVPR 2023, with both ends.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from reliabit.data.splits import stable_hash
from reliabit.errors import ReliabitError

SHARES = (Fraction(0), Fraction(1, 10), Fraction(1, 3), Fraction(1, 2), Fraction(2, 3), Fraction(1))
"""The shares of shifted questions."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """The questions of a mixture, as positions in the two inputs, each in the order of the draw.

    Attributes:
        in_domain: Shape `(size - k,)`.
        shifted: Shape `(k,)`, where k is the shifted share of the size.
    """

    in_domain: NDArray[np.int64]
    shifted: NDArray[np.int64]


def mixture(
    in_domain_ids: Iterable[str],
    in_domain_images: Iterable[str],
    shifted_ids: Iterable[str],
    shifted_images: Iterable[str],
    *,
    shifted_share: Fraction,
    size: int,
    seed: int,
) -> Mixture:
    """Draw a mixture by image, without replacement.

    All images stand in one random order that the seed and their ids decide. The shifted questions are taken from
    its front and the in-domain ones from its back, whole images at a time; of the last image on either side only as
    many questions as the ratio needs, and its others stay unused. Images that only one side has stand at that
    side's end, so the images of both are drawn on only once a side has no others. It follows that

    - the ratio is exact to one question, and no image is on both sides;
    - mixtures are nested: of the same seed and size, a larger share has the shifted questions of a smaller one at
      the front of its own, and the smaller one the in-domain questions of the larger;
    - neither the order of the inputs nor the model that answered them matters, so cells can be compared in pairs.

    Args:
        in_domain_ids: The id of each in-domain question.
        in_domain_images: Its image.
        shifted_ids: The id of each shifted question; it may be that of the same question in domain.
        shifted_images: Its image.
        shifted_share: Of all questions, 0 to 1; exact fractions, such as those of `SHARES`.
        size: How many questions the mixture has.
        seed: Decides the order.

    Raises:
        ReliabitError: A side has too few questions, an id twice, or not one image a question; or the share or the
            size is out of range.

    >>> ids, images = ["a", "b", "c", "d"], ["x", "x", "y", "y"]
    >>> half = mixture(ids, images, ids, images, shifted_share=Fraction(1, 2), size=4, seed=0)
    >>> sorted(half.in_domain.tolist()), sorted(half.shifted.tolist())
    ([2, 3], [0, 1])
    """
    if not 0 <= shifted_share <= 1:
        raise ReliabitError(f"a shifted share of {shifted_share} is not a share; choose one from 0 to 1")
    if size < 1:
        raise ReliabitError(f"a mixture of {size} questions cannot be drawn; ask for at least 1")
    in_domain, shifted = list(in_domain_images), list(shifted_images)
    order = _Order(in_domain, shifted, seed=seed)
    wanted = _shifted_count(size, shifted_share)
    spare = order.in_domain_beside(wanted)
    if wanted > len(shifted) or size - wanted > spare:
        raise ReliabitError(
            f"a mixture of {size} questions of which {shifted_share} are shifted needs {wanted} shifted and "
            f"{size - wanted} in-domain questions, and there are {len(shifted)} and, on the images that the shifted "
            f"ones leave, {spare}; ask for fewer (largest_size tells how many)"
        )
    return Mixture(
        in_domain=_take(in_domain_ids, in_domain, reversed(order.images), count=size - wanted, seed=seed),
        shifted=_take(shifted_ids, shifted, order.images, count=wanted, seed=seed),
    )


def largest_size(
    in_domain_images: Iterable[str],
    shifted_images: Iterable[str],
    *,
    seed: int,
    shares: Sequence[Fraction] = SHARES,
) -> int:
    """The largest size of which mixtures of all shares can be drawn; 0 where there is none. See `mixture`.

    Of 4 questions on 2 images, 3 shifted ones (2/3 of 4) would touch both and leave the fourth no image:

    >>> largest_size(["x", "x", "y", "y"], ["x", "x", "y", "y"], seed=0)
    3
    >>> largest_size(["x", "x", "y", "y"], ["p", "p", "q", "q"], seed=0)
    4
    """
    in_domain, shifted = list(in_domain_images), list(shifted_images)
    order = _Order(in_domain, shifted, seed=seed)

    def possible(size: int) -> bool:
        counts = [_shifted_count(size, share) for share in shares]
        return all(k <= len(shifted) and size - k <= order.in_domain_beside(k) for k in counts)

    # A mixture holds a smaller one of the same share, up to the rounding of its counts, which never falls.
    low, high = 0, len(in_domain) + len(shifted)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if possible(middle) else (low, middle - 1)
    return low


class _Order:
    """The order of all images, and how many questions lie along it."""

    def __init__(self, in_domain: list[str], shifted: list[str], *, seed: int) -> None:
        ours, theirs = Counter(in_domain), Counter(shifted)

        def place(image: str) -> tuple[int, int]:
            return (image in ours) - (image in theirs), stable_hash("mixture", seed, image)

        self.images = sorted(ours | theirs, key=place)
        self._shifted_before = np.cumsum([0, *(theirs[image] for image in self.images)])
        self._in_domain_after = len(in_domain) - np.cumsum([0, *(ours[image] for image in self.images)])

    def in_domain_beside(self, shifted_count: int) -> int:
        """How many in-domain questions have an image that the first `shifted_count` shifted ones do not touch."""
        touched = int(np.searchsorted(self._shifted_before, shifted_count))
        return int(self._in_domain_after[min(touched, len(self.images))])


def _shifted_count(size: int, share: Fraction) -> int:
    return round(size * share)


def _take(ids: Iterable[str], images: list[str], order: Iterable[str], *, count: int, seed: int) -> NDArray[np.int64]:
    """The first `count` questions along the order of the images; within an image a seeded order decides."""
    names = list(ids)
    if len(names) != len(images):
        raise ReliabitError(f"a mixture got {len(names)} question ids and {len(images)} images; give one of each")
    if len(set(names)) != len(names):
        raise ReliabitError("a mixture got a question id twice on one side; question ids must be unique in a table")
    rows: dict[str, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        rows[image].append(row)

    def place(row: int) -> int:
        return stable_hash("mixture", seed, images[row], names[row])

    along = (row for image in order for row in sorted(rows.get(image, ()), key=place))
    return np.fromiter(islice(along, count), dtype=np.int64, count=count)
