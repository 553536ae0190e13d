"""What is known of one measured configuration: where its numbers come from, what it costs, what it answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reliabit.identity import without_transport

if TYPE_CHECKING:
    import pyarrow as pa

FINISHED = "FINISHED"


@dataclass(frozen=True, eq=False)
class Configuration:
    """One measured configuration, as its run recorded it.

    Attributes:
        name: What people call it; unique among those that are compared.
        run_id: The run.
        fingerprint: Its identity, in hexadecimal; see `reliabit.identity`.
        status: MLflow's word for what became of the run, such as `FINISHED`.
        dirty: What of its code and data no commit tells, in words; empty where all was committed.
        inputs: Digests of the questions it read, by name.
        model: Digests of the model it started from, by name.
        efficiency: The metrics `efficiency/...`.
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
    efficiency: Mapping[str, float]
    predictions: "pa.Table | None"
    config: Mapping[str, Any]

    @property
    def unquantized(self) -> bool:
        """Whether it is the model as it was trained."""
        return bool(self.config.get("quant", {}).get("method") == "none")

    def differs_in_quantization_alone(self, other: "Configuration") -> bool:
        """Whether another configuration is of the same model and data, measured in the same way."""
        same = dict(self.model) == dict(other.model) and dict(self.inputs) == dict(other.inputs)
        return same and _but_for_quantization(self.config) == _but_for_quantization(other.config)


def _but_for_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in without_transport(config).items() if key != "quant"}
