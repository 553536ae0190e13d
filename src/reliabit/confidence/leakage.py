"""Which images an estimator has seen, and the check that no reported number rests on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from reliabit.data.splits import count_images
from reliabit.errors import ReliabitError


def image_digest(image_key: str) -> str:
    """16 hexadecimal digits that stand for an image.

    Two of 10^5 images share a digest with a probability below 10^-9.

    Args:
        image_key: The image as `source/image_id`.

    >>> image_digest("easy_vqa/7")
    'f20520da37dbd27d'
    """
    return blake2b(image_key.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class FittedOn:
    """The images that an estimator was fitted on, as sorted digests without repetition.

    Attributes:
        trained: Those whose accuracies set its parameters.
        chose: Those whose accuracies chose among its states or settings.
    """

    trained: tuple[str, ...]
    chose: tuple[str, ...] = ()

    @classmethod
    def images(cls, trained: Iterable[str], chose: Iterable[str] = ()) -> "FittedOn":
        """Record images by their keys `source/image_id`."""
        return cls(trained=_digests(trained), chose=_digests(chose))


def check_unseen(fitted_on: FittedOn, image_keys: Sequence[str], *, what: str) -> None:
    """Check that images to report on neither trained nor chose an estimator.

    Args:
        fitted_on: What the estimator was fitted on.
        image_keys: The images of the rows to report on, as `source/image_id`.
        what: What these rows are called in errors, such as "the test split of scenes".

    Raises:
        ReliabitError: One of them did.

    >>> check_unseen(FittedOn.images(["scenes/1"]), ["scenes/2"], what="test")
    """
    digests = {image_digest(key): key for key in set(image_keys)}
    for digest_list, deed in ((fitted_on.trained, "trained"), (fitted_on.chose, "chose")):
        seen = [digests[digest] for digest in digest_list if digest in digests]
        if seen:
            raise ReliabitError(
                f"{count_images(seen)} of {what} (such as {min(seen)}) {deed} the confidence estimator; "
                "report on images that it has not seen"
            )


def _digests(image_keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({image_digest(key) for key in image_keys}))
