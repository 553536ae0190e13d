"""What a served model is put together from, beside its checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reliabit.confidence.estimator import FittedEstimator
from reliabit.confidence.estimators.formulas import MAXPROB
from reliabit.inference.features import BLOCKS
from reliabit.inference.settings import FeatureSettings
from reliabit.serving.bundle import SELECTOR
from reliabit.serving.description import Description


@dataclass
class KeptStates:
    """Pooled states of one batch, in the type in which a Selector's examples were stored."""

    settings: FeatureSettings
    blocks: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def append(self, blocks: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep the states of the batch."""
        with np.errstate(over="ignore"):
            self.blocks = {name: blocks[name].astype(self.settings.dtype) for name in BLOCKS}


def load_estimator(folder: Path, description: Description) -> FittedEstimator:
    """The confidence of a bundle.

    Raises:
        ReliabitError: Its files cannot be read.
    """
    if description.confidence == "maxprob":
        return MAXPROB
    from reliabit.confidence.selector_store import load_selector

    return load_selector(folder / SELECTOR)
