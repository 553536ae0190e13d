"""Configurations from what the versioned pipeline wrote, before any run is recorded of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from reliabit.config import UNQUANTIZED
from reliabit.inference.answered import read_answered
from reliabit.inference.predictions import PREDICTIONS, read_predictions
from reliabit.registry.evidence import FINISHED, Configuration
from reliabit.tracking.results_sync import SELECTED, digest_of


@dataclass(frozen=True)
class Cells:
    """Which cells of the pipeline compete: one model on one data set.

    Attributes:
        model: The model's option.
        data: The data's option.
        quantizers: Options of the group `quant`.
        bits: Widths.
    """

    model: str
    data: str
    quantizers: Sequence[str]
    bits: Sequence[int]

    def folders(self) -> dict[str, tuple[str, int | None]]:
        """The folder of each cell, with its quantizer and width; the unquantized one first.

        >>> list(Cells("m", "d", ["hqq"], [4]).folders())
        ['m-none-d', 'm-hqq-4bit-d']
        """
        baseline: dict[str, tuple[str, int | None]] = {f"{self.model}-{UNQUANTIZED}-{self.data}": (UNQUANTIZED, None)}
        return baseline | {
            f"{self.model}-{quantizer}-{bits}bit-{self.data}": (quantizer, bits)
            for quantizer, bits in product(self.quantizers, self.bits)
        }


def configurations_of_results(results: Path, cells: Cells) -> list[Configuration]:
    """Read the configurations of a pipeline's cells.

    What was committed is not asked here: a stage that runs changes `dvc.lock`, so it never runs on a clean tree. The
    gate asks it of the run that is promoted.

    Args:
        results: The folder of all results.
        cells: Which ones.

    Raises:
        ReliabitError: One is missing or incomplete.
    """
    return [
        _read(results / name, quantizer=quantizer, bits=bits, model=cells.model)
        for name, (quantizer, bits) in cells.folders().items()
    ]


def _read(folder: Path, *, quantizer: str, bits: int | None, model: str) -> Configuration:
    answered = read_answered(folder)
    config = {key: value for key, value in answered.config.items() if key != "model"}
    method = "none" if quantizer == UNQUANTIZED else quantizer
    return Configuration(
        name=answered.name,
        run_id=folder.name,
        fingerprint=digest_of(folder),
        status=FINISHED,
        dirty=(),
        inputs={"table": answered.table},
        # Every cell's checkpoint was made of the one model that its name begins with.
        model={"model": model},
        efficiency=answered.efficiency,
        predictions=read_predictions(folder / SELECTED / PREDICTIONS),
        config={**config, "quant": {"name": quantizer, "method": method, "bits": bits}},
    )
