"""What a cell is called, what it is filtered by, and what it costs, whether it is run at once or stage by stage."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reliabit.composition import to_mapping
from reliabit.config import Config
from reliabit.data.prepared_table import table_folder
from reliabit.identity import CELL_TAG, cell_digest
from reliabit.inference.cell_record import CellRecord
from reliabit.quant.settings import UNQUANTIZED, UNQUANTIZED_BITS
from reliabit.tracking.redaction import redact_config

if TYPE_CHECKING:
    import pyarrow as pa

    from reliabit.tasks._model import QuantizedCheckpoint
    from reliabit.tasks._served import ServedCheckpoint

LAYERS = "efficiency/layers_"
"""What the metrics that count the layers of a kernel begin with."""

PLACES = ("paths", "tracking", "sweep", "task")


@dataclass(frozen=True)
class TimedPredictions:
    """Predictions, and what making them took.

    Attributes:
        predictions: The predictions table.
        seconds: Time spent answering, loading and further passes left out.
        extra_seconds: Time of the further passes by the estimator that takes them.
        peak_bytes: The largest memory of the process (or the accelerator) while answering; `None` where another process
            answers.
    """

    predictions: "pa.Table"
    seconds: float
    extra_seconds: dict[str, float]
    peak_bytes: int | None


def run_name(config: Config) -> str:
    """The run's name, such as `qwen2_vl_tiny·easy_vqa·hqq·4b·s0`."""
    width = f"·{config.quant.width}" if config.quant.width else ""
    return f"{config.model.name}·{config.data.called()}·{config.quant.name}{width}·s{config.seed}"


def run_tags(config: Config) -> dict[str, str]:
    """What runs are filtered and compared by in the MLflow UI."""
    return {
        "kind": "cell",
        "model": config.model.name,
        "quant": config.quant.name,
        "bits": str(UNQUANTIZED_BITS if config.quant.name == UNQUANTIZED else config.quant.bits or "mixed"),
        "data": config.data.called(),
        CELL_TAG: cell_digest(to_mapping(config)),
    }


def efficiency(
    config: Config, model: "QuantizedCheckpoint | ServedCheckpoint", answered: TimedPredictions
) -> dict[str, float]:
    """What the configuration costs."""
    # Not needed for names.
    from reliabit.tasks._served import ServedCheckpoint

    costs = model.costs(answered.predictions) if isinstance(model, ServedCheckpoint) else _own_costs(config, model)
    return {
        **costs,
        "efficiency/samples_per_second": answered.predictions.num_rows / answered.seconds,
        **({} if answered.peak_bytes is None else {"efficiency/peak_memory_bytes": float(answered.peak_bytes)}),
        **{f"efficiency/{name}_seconds": seconds for name, seconds in answered.extra_seconds.items()},
    }


def _own_costs(config: Config, model: "QuantizedCheckpoint") -> dict[str, float]:
    """What a model takes that is loaded here."""
    bits = model.size.quantized_effective_bits
    if bits is None:
        # Another format does not tell its quantized weights apart.
        bits = UNQUANTIZED_BITS if config.quant.name == UNQUANTIZED else model.size.effective_bits
    return {
        "efficiency/stored_bytes": float(model.size.stored_bytes),
        "efficiency/resident_bytes": float(model.size.resident_bytes),
        "efficiency/effective_bits": float(bits),
        "efficiency/effective_bits_whole_model": model.size.effective_bits,
        **layers_by_kernel(model.kernels),
    }


def layers_by_kernel(kernels: Mapping[str, str]) -> dict[str, float]:
    """How many layers each kernel multiplies by, as a cell's efficiency has it.

    >>> layers_by_kernel({"up_proj": "int4pack", "down_proj": "int4pack", "lm_head": "eager"})
    {'efficiency/layers_int4pack': 2.0, 'efficiency/layers_eager': 1.0}
    """
    return {f"{LAYERS}{kernel}": float(layers) for kernel, layers in Counter(kernels.values()).items()}


def cell_record(
    config: Config, model: "QuantizedCheckpoint | ServedCheckpoint", answered: TimedPredictions
) -> CellRecord:
    """What the run of a cell needs beside its results; see `reliabit.tracking.results_sync`."""
    return CellRecord(
        name=run_name(config),
        tags=run_tags(config),
        # Where it was run is nobody's business elsewhere, and would make equal results differ.
        config=redact_config({key: value for key, value in to_mapping(config).items() if key not in PLACES}),
        table=table_folder(config.data, root=Path(config.paths.data)).as_posix(),
        efficiency=efficiency(config, model, answered),
        kernels=model.kernels,
    )
