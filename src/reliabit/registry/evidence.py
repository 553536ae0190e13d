"""What is known of one measured configuration: where its numbers come from, what it costs, what it answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from reliabit.config import UNQUANTIZED
from reliabit.identity import without_transport
from reliabit.registry.terms import Terms

if TYPE_CHECKING:
    import pyarrow as pa

FINISHED = "FINISHED"

CELL = ("model", "quant", "confidence", "seed")
"""Keys of the configuration that say which cell it is, whatever data it is measured on."""


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
        return bool(self.config.get("quant", {}).get("name") == UNQUANTIZED)

    def differs_in_quantization_alone(self, other: "Configuration") -> bool:
        """Whether another configuration is of the same model and data, measured in the same way."""
        same = dict(self.model) == dict(other.model) and dict(self.inputs) == dict(other.inputs)
        return same and _but_for_quantization(self.config) == _but_for_quantization(other.config)

    def is_the_cell_of(self, other: "Configuration") -> bool:
        """Whether another configuration is the same but for the data that it was measured on."""
        own, theirs = without_transport(self.config), without_transport(other.config)
        return dict(self.model) == dict(other.model) and all(own.get(key) == theirs.get(key) for key in CELL)


@dataclass(frozen=True, eq=False)
class Live:
    """What is live, and how it is compared with.

    Attributes:
        name: What people call its configuration.
        fingerprint: The identity of the run that it was made of.
        terms: What it promises; no policy of today says that.
        measured: The configuration that is measured in its place: its own, or where that was measured on other data
            than the candidate, the same cell of the candidate's sweep.
    """

    name: str
    fingerprint: str
    terms: Terms
    measured: Configuration

    @property
    def represented(self) -> bool:
        """Whether another run stands for its own."""
        return self.measured.fingerprint != self.fingerprint

    def on_the_data_of(self, candidate: Configuration, sweep: Sequence[Configuration]) -> "Live":
        """The same, measured on the data of a candidate if its own run was not and a sweep has its cell.

        Args:
            candidate: The candidate.
            sweep: The configurations that were measured together with it.
        """
        if dict(self.measured.inputs) == dict(candidate.inputs):
            return self
        found = [
            one
            for one in sweep
            if one.status == FINISHED
            and dict(one.inputs) == dict(candidate.inputs)
            and one.is_the_cell_of(self.measured)
        ]
        return replace(self, measured=found[-1]) if found else self


def _but_for_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in without_transport(config).items() if key != "quant"}
