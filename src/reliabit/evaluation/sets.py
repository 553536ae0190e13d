"""The sets of rows that are evaluated together: questions as they are, each shift, and mixtures of both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from reliabit.data.mixtures import SHARES, largest_size, mixture
from reliabit.evaluation.prediction_columns import image_keys
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.inference.predictions import NO_SHIFT

if TYPE_CHECKING:
    import pyarrow as pa

Kind: TypeAlias = Literal["in_domain", "shift", "mixture"]
Rows: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

IN_DOMAIN = "in_domain"


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Rows that are measured together.

    Attributes:
        name: `in_domain`, the label of a shift, or a mixture such as `visual_mix_33`.
        kind: What it is.
        rows: Positions among the reported rows, shape `(N,)`.
        shifted_share: The share of shifted questions.
    """

    name: str
    kind: Kind
    rows: Rows
    shifted_share: float


def evaluation_sets(reported: "pa.Table", settings: EvaluationConfig) -> list[EvaluationSet]:
    """Find the sets among the reported rows: those as they are, each shift that was asked, and the mixtures of them.

    Args:
        reported: All rows of the reported split, shifted ones included.
        settings: Names the mixtures and seeds them.
    """
    shift = np.array(reported["shift"].to_pylist())
    labels = [label for label in dict.fromkeys(shift.tolist()) if label != NO_SHIFT]
    plain = np.flatnonzero(shift == NO_SHIFT)
    found = [EvaluationSet(IN_DOMAIN, "in_domain", plain, 0.0)]
    found += [EvaluationSet(label, "shift", np.flatnonzero(shift == label), 1.0) for label in labels]
    for name, members in settings.mixtures.items():
        shifted = np.flatnonzero(np.isin(shift, members))
        if len(shifted):
            found += _mixtures(reported, name=name, plain=plain, shifted=shifted, seed=settings.seed)
    return found


def _mixtures(reported: "pa.Table", *, name: str, plain: Rows, shifted: Rows, seed: int) -> Iterator[EvaluationSet]:
    ids, images = _ids_and_images(reported, plain)
    shifted_ids, shifted_images = _ids_and_images(reported, shifted)
    size = largest_size(images, shifted_images, seed=seed)
    for share in SHARES:
        drawn = mixture(ids, images, shifted_ids, shifted_images, shifted_share=share, size=size, seed=seed)
        rows = np.sort(np.concatenate([plain[drawn.in_domain], shifted[drawn.shifted]]))
        yield EvaluationSet(mixture_name(name, share), "mixture", rows, float(share))


def mixture_name(name: str, share: Fraction) -> str:
    """How a mixture is called, by its share of shifted questions in per cent.

    >>> mixture_name("visual", Fraction(1, 3))
    'visual_mix_33'
    """
    return f"{name}_mix_{round(100 * share)}"


def _ids_and_images(reported: "pa.Table", rows: Rows) -> tuple[Sequence[str], Sequence[str]]:
    part = reported.take(rows)
    # One question comes several times on the shifted side, once for each of its shifts.
    ids = zip(*(part[column].to_pylist() for column in ("source", "shift", "question_id")), strict=True)
    return ["/".join(key) for key in ids], image_keys(part)
