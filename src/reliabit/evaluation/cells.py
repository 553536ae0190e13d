"""One measured cell: which model was asked what at which precision, what it answered, and what that cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.evaluation.prediction_columns import MAXPROB, confidences_of
from reliabit.identity import without_transport
from reliabit.quant.settings import UNQUANTIZED, UNQUANTIZED_BITS

if TYPE_CHECKING:
    import pyarrow as pa

FINISHED = "FINISHED"

STORED, RESIDENT = "efficiency/stored_bytes", "efficiency/resident_bytes"
EFFECTIVE_BITS = "efficiency/effective_bits"
SPEED = "efficiency/samples_per_second"
LATENCY = "efficiency/seconds_per_question"
"""One over `SPEED`, so that less is better in every cost."""

COSTS = (STORED, RESIDENT, SPEED)
"""What the costs of a cell are made of."""

SELECTOR = "selector"
"""The paper's trained confidence."""

_SAME_CELL = ("model", "quant", "confidence", "seed")
"""Keys of the configuration that say which cell it is, whatever data it is measured on."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of a sweep or of the versioned pipeline; `reliabit.tracking.recorded_cells` reads it from either.

    Attributes:
        name: What people call it; unique among those that are compared.
        run_id: The run.
        fingerprint: Its identity, in hexadecimal; see `reliabit.identity`.
        status: MLflow's word for what became of the run, such as `FINISHED`.
        dirty: What of its code and data no commit tells, in words; empty where all was committed.
        inputs: Digests of the questions it read, by name.
        model: Digests of the model it started from, by name.
        metrics: All that it recorded, `efficiency/...` among them.
        predictions: Its answers, see `reliabit.inference.predictions`; `None` where it recorded none.
        config: The composed configuration.
    """

    name: str
    run_id: str
    fingerprint: str
    status: str
    dirty: tuple[str, ...]
    inputs: Mapping[str, str]
    model: Mapping[str, str]
    metrics: Mapping[str, float]
    predictions: "pa.Table | None"
    config: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it got to its end."""
        return self.status == FINISHED

    @property
    def model_name(self) -> str:
        """The option of its model."""
        return str(self.config["model"]["name"])

    @property
    def place(self) -> str:
        """Its model and data set, such as `qwen2_vl_tiny · easy_vqa`."""
        return f"{self.model_name} · {self.config['data']['name']}"

    @property
    def quantizer(self) -> str:
        """`none`, `hqq`, `mbq`, ..."""
        return str(self.config.get("quant", {}).get("name"))

    @property
    def unquantized(self) -> bool:
        """Whether it is the model as it was trained."""
        return self.quantizer == UNQUANTIZED

    @property
    def mixed(self) -> bool:
        """Whether each component has a width of its own, so that the cell has no place on an axis of widths."""
        return not self.unquantized and self.config["quant"]["bits"] is None

    @property
    def bits(self) -> int:
        """Bits a weight of a cell that is not `mixed`."""
        return UNQUANTIZED_BITS if self.unquantized else int(self.config["quant"]["bits"])

    @property
    def quantization(self) -> str:
        """How tables of one model call it, such as `hqq 4`; `none` for the unquantized model."""
        return self.quantizer if self.unquantized else f"{self.quantizer} {self.bits}"

    @property
    def stored_bytes(self) -> int:
        """The size of its checkpoint."""
        return int(self.metrics[STORED])

    @property
    def effective_bits(self) -> float:
        """Bits a quantized weight takes with its scales and zeros."""
        return self.metrics[EFFECTIVE_BITS]

    @property
    def answers(self) -> "pa.Table":
        """Its predictions.

        Raises:
            ReliabitError: It recorded none.
        """
        if self.predictions is None:
            raise ReliabitError(f"{self.name} recorded no predictions; run it again")
        return self.predictions

    @property
    def confidences(self) -> list[str]:
        """Its confidences: MaxProb, the Selector, then the others."""
        names = confidences_of(self.answers)
        return sorted(names, key=lambda name: (name != MAXPROB, name != SELECTOR, names.index(name)))

    def differs_in_quantization_alone(self, other: "Cell") -> bool:
        """Whether another cell is of the same model and data, measured in the same way."""
        same = dict(self.model) == dict(other.model) and dict(self.inputs) == dict(other.inputs)
        return same and _but_for_quantization(self.config) == _but_for_quantization(other.config)

    def is_the_cell_of(self, other: "Cell") -> bool:
        """Whether another cell is the same but for the data that it was measured on."""
        own, theirs = without_transport(self.config), without_transport(other.config)
        return dict(self.model) == dict(other.model) and all(own.get(key) == theirs.get(key) for key in _SAME_CELL)


def costs_of(name: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Stored bytes, resident bytes and seconds a question.

    Raises:
        ReliabitError: One of them was not measured.

    >>> found = costs_of("a", {STORED: 2e6, RESIDENT: 3e6, SPEED: 50.0, "efficiency/effective_bits": 4.5})
    >>> found[LATENCY]
    0.02
    """
    missing = [metric for metric in COSTS if metric not in metrics]
    if missing:
        raise ReliabitError(
            f"{name} has no {', '.join(missing)}; run it again to measure what it costs (engine.stored_mib says what"
            " the weights of a served model take)"
        )
    return {STORED: metrics[STORED], RESIDENT: metrics[RESIDENT], LATENCY: 1 / metrics[SPEED]}


def is_costed(metrics: Mapping[str, float]) -> bool:
    """Whether a cell has all that `costs_of` gives."""
    return all(metric in metrics for metric in COSTS)


def families_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Put together the cells that differ in their quantization alone."""
    families: list[list[Cell]] = []
    for cell in cells:
        own = next((found for found in families if found[0].differs_in_quantization_alone(cell)), None)
        families.append([cell]) if own is None else own.append(cell)
    return families


def common_confidence(cells: Sequence[Cell], *, wanted: str) -> str:
    """A confidence that all cells have: the one that is wanted, or MaxProb."""
    return wanted if all(wanted in cell.confidences for cell in cells) else MAXPROB


def numbered(where: str, taken: Collection[str], *, between: str) -> str:
    """The name of a family, numbered where others of the same model and data set have theirs.

    >>> numbered("m · d", ["m · d", "m · d2"], between=" · ")
    'm · d · 2'
    """
    same = sum(name == where or name.startswith(f"{where}{between}") for name in taken)
    return f"{where}{between}{same + 1}" if same else where


def _but_for_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in without_transport(config).items() if key != "quant"}
