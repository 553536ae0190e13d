"""What estimators read: the scalars and features of answers, and how right the answers were."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reliabit.data.splits import image_key
from reliabit.errors import ReliabitError
from reliabit.metrics.functional.inputs import FloatArray, as_accuracy

if TYPE_CHECKING:
    import pyarrow as pa

FeatureBlocks: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Block name ("image", "question", "first") to `[N, d]`, float16 or float32, possibly memory-mapped."""

SCALARS = ("log_prob", "n_tokens", "first_token_prob", "min_token_prob", "first_token_entropy", "first_token_margin")
"""The columns that every predictions table has; of answers that an engine gave, `first_token_entropy` is empty."""

EXTRA_SCALARS = (
    "p_true",
    "self_consistency",
    "semantic_entropy",
    "mean_entropy",
    "blank_mean_entropy",
    "blank_log_prob",
    "top_entropy",
)
"""The columns that some tables have, as they cost further passes of the model or are told by engines alone; entropies
are in nats, not yet a confidence."""

RANGES = {
    "log_prob": (-np.inf, 0.0),
    "n_tokens": (1.0, np.inf),
    "first_token_prob": (0.0, 1.0),
    "min_token_prob": (0.0, 1.0),
    "first_token_entropy": (0.0, np.inf),
    "first_token_margin": (0.0, 1.0),
    "p_true": (0.0, 1.0),
    "self_consistency": (0.0, 1.0),
    "semantic_entropy": (0.0, np.inf),
    "mean_entropy": (0.0, np.inf),
    "blank_mean_entropy": (0.0, np.inf),
    "blank_log_prob": (-np.inf, 0.0),
    "top_entropy": (0.0, np.inf),
}
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerEvidence:
    """What is known of N answers without their references; enough to be confident or not.

    Attributes:
        columns: Scalars by their column of the predictions table, each `[N]`, float64 and finite.
        features: The model's pooled states of each answer, where they were kept.

    Raises:
        ReliabitError: Lengths differ, a scalar is outside its range, or a block is no matrix of float16 or float32.
    """

    columns: Mapping[str, FloatArray]
    features: FeatureBlocks | None = None

    def __post_init__(self) -> None:
        if not self.columns:
            raise ReliabitError("there are no scalars of answers; give at least the column log_prob")
        for name, values in self.columns.items():
            _check_column(name, values, length=len(self))
        for name, block in (self.features or {}).items():
            _check_block(name, block, length=len(self))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str, *, confidence: str) -> FloatArray:
        """A scalar of each answer, `[N]`.

        Args:
            name: The column.
            confidence: Who asks; errors name it.

        Raises:
            ReliabitError: The predictions lack it.
        """
        if name not in self.columns:
            raise ReliabitError(
                f"the confidence {confidence} needs the column {name}, which the predictions lack; "
                f"answer again with {confidence} in confidence.estimators"
            )
        return self.columns[name]


@dataclass(frozen=True, eq=False, kw_only=True)
class Examples(AnswerEvidence):
    """N answers that were judged: what estimators learn from.

    Attributes:
        accuracy: Soft VQA accuracy, `[N]` in [0, 1].
        image_keys: The image of each question as `source/image_id`.

    Raises:
        ReliabitError: See `AnswerEvidence`; or the accuracies or images are not one an answer.
    """

    accuracy: FloatArray
    image_keys: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        as_accuracy(self.accuracy)
        for name, values in (("accuracy", self.accuracy), ("image_keys", self.image_keys)):
            if len(values) != len(self):
                raise ReliabitError(f"{name} has {len(values)} values for {len(self)} answers; give one an answer")


def examples_of(table: "pa.Table", *, features: FeatureBlocks | None = None) -> Examples:
    """Read examples from a predictions table.

    Args:
        table: The predictions, see `reliabit.inference.predictions`; of `EXTRA_SCALARS` are taken the columns that
            hold a value in every row, of `SCALARS` those that are not empty.
        features: Blocks whose rows are in the table's order.

    Raises:
        ReliabitError: The table has rows without answers' scalars, or the features are of other answers.
    """
    extra = [name for name in EXTRA_SCALARS if name in table.column_names and not table[name].null_count]
    names = [*(name for name in SCALARS if table[name].null_count < table.num_rows), *extra]
    keys = zip(table["source"].to_pylist(), table["image_id"].to_pylist(), strict=True)
    return Examples(
        columns={name: table[name].to_numpy().astype(np.float64) for name in names},
        accuracy=table["accuracy"].to_numpy().astype(np.float64),
        image_keys=[image_key(source, image) for source, image in keys],
        features=features,
    )


def _check_column(name: str, values: FloatArray, *, length: int) -> None:
    if values.shape != (length,):
        raise ReliabitError(f"the column {name} has the shape {values.shape} for {length} answers; give one value each")
    lowest, highest = RANGES.get(name, (-np.inf, np.inf))
    # Rounding may carry a probability past 1; estimators clip it.
    right = np.isfinite(values) & (values >= lowest - ROUNDING) & (values <= highest + ROUNDING)
    if not right.all():
        row = int(np.argmin(right))
        raise ReliabitError(
            f"the column {name} is {values[row]:g} in row {row}; it must be a number in [{lowest:g}, {highest:g}]"
        )


def _check_block(name: str, block: npt.NDArray[Any], *, length: int) -> None:
    if block.ndim != 2 or block.shape[0] != length or block.dtype not in (np.float16, np.float32):
        raise ReliabitError(
            f"the feature block {name} is {block.dtype} of the shape {block.shape}; "
            f"it must be float16 or float32 of the shape ({length}, width)"
        )
