"""What is kept of all chunks, as one table and one folder of features; answers are kept as given, and judged here."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reliabit.inference.answer_store import Stored, keys_of
from reliabit.inference.features import BLOCKS, FEATURES, KEY_COLUMNS, feature_writer, read_features
from reliabit.inference.predictions import predictions_table
from reliabit.inference.settings import FeatureSettings

if TYPE_CHECKING:
    import pyarrow as pa


def gather(stored: Sequence[Stored]) -> "pa.Table":
    """Judge the answers of all chunks, as one predictions table."""
    import pyarrow as pa

    return pa.concat_tables([predictions_table(chunk.questions, chunk.answers) for chunk in stored])


def gather_features(
    stored: Sequence[Stored],
    folder: Path,
    *,
    predictions: "pa.Table",
    settings: FeatureSettings,
    identity: str,
) -> None:
    """Write the features of all chunks as one folder, a chunk at a time."""
    keys = predictions.select(list(KEY_COLUMNS))
    with feature_writer(folder, keys=keys, settings=settings, identity=identity) as writer:
        for chunk in stored:
            blocks = read_features(chunk.folder / FEATURES, predictions=keys_of(chunk.questions))
            writer.append({name: np.asarray(blocks[name]) for name in BLOCKS})
