"""A plan searched as a configuration says, for its model and on its calibration set."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reliabit.cache import entry_lock, touch
from reliabit.config import Config
from reliabit.data.bad_samples import tell
from reliabit.errors import ReliabitError
from reliabit.models.batches import calibration_batches
from reliabit.models.loading import load_checkpoint, load_encoder
from reliabit.models.spread import device_of
from reliabit.quant.checkpoint_io import skeleton
from reliabit.quant.convert import check_schemes
from reliabit.quant.mbq.statistics_key import LIBRARIES, batch_digest, code_digest
from reliabit.quant.methods import QUANTIZERS
from reliabit.quant.plan import Plan, Scheme
from reliabit.quant.record import installed_version, quantized_as
from reliabit.quant.searched.kept_costs import KeptCosts
from reliabit.quant.searched.measuring import CostMeasurement, as_records
from reliabit.quant.searched.plan_file import PlanFile, scheme_of
from reliabit.quant.searched.searching import Found, search, smallest
from reliabit.quant.searched.units import Bytes, Unit, bytes_of, plan_of_units, rules_of, units_of
from reliabit.tasks._calibration_rows import FOLDER, calibration_rows
from reliabit.tasks._plans import weights_digest

if TYPE_CHECKING:
    from reliabit.quant import CalibrationBatch

MIB = 2**20

_MEASURING = ("reliabit.quant.searched.measuring",)
"""The module that measures costs; it reaches all quantization methods."""


@dataclass(frozen=True)
class Search:
    """What there is to choose among.

    Attributes:
        units: What shares a width.
        scheme: How weights are quantized, but for width and group.
        sizes: What assignments take.
        budget: Bytes that the plan may take.
    """

    units: tuple[Unit, ...]
    scheme: Scheme
    sizes: Bytes
    budget: int


@dataclass(frozen=True)
class SearchedPlan:
    """A plan that was searched.

    Attributes:
        search: What there was to choose among.
        found: What came of it.
        file: What its file says.
    """

    search: Search
    found: Found
    file: PlanFile

    @property
    def plan(self) -> Plan:
        """The plan; it has no rules where the budget leaves everything as it is."""
        return plan_of_units(self.search.units, self.found.assignment, self.search.scheme)


def prepared_search(config: Config, *, stored: str) -> Search:
    """What there is to choose among, told without weights; a budget that takes the whole model as it is says so.

    Args:
        config: The configuration.
        stored: The type that weights are stored in that are not quantized.

    Raises:
        ReliabitError: The budget is below the smallest plan, or the model cannot be quantized as asked.
    """
    folder, quant = config.model.folder, config.quant
    if quantized_as(folder) is not None:
        raise ReliabitError(f"{folder} is quantized already; search a plan for the model that it was made of")
    if getattr(QUANTIZERS[quant.method], "needs_inputs", False):
        raise ReliabitError(
            f"quant.method={quant.method} reads what its layers are given, and a search measures methods that read "
            "weights alone; search with quant.method=hqq_plus, and copy the rules of its plan"
        )
    model = skeleton(folder, getattr(torch, stored))
    scheme = Scheme(**scheme_of(quant))
    units, widths = units_of(model, group_size=quant.group_size), quant.search.widths
    if not units:
        raise ReliabitError(f"{config.model.name} has no parts that a search knows; name its modules in quant.rules")
    check_schemes(model, plan_of_units(units, {unit.name: min(widths) for unit in units}, scheme))
    sizes = bytes_of(model, units, scheme, widths=widths)
    key = "quant.budget_bits" if quant.budget_mib is None else "quant.budget_mib"
    unit_bytes = sizes.weights / 8 if quant.budget_mib is None else MIB
    asked = getattr(quant, key.rpartition(".")[2])
    least, budget = smallest(sizes, widths=widths), int(asked * unit_bytes)
    if budget < least:
        raise ReliabitError(
            f"{key}={asked:g} is below the smallest plan for {config.model.name}, which takes "
            f"{_rounded_up(least / unit_bytes):.2f}; raise it, or allow narrower quant.search.widths than {min(widths)}"
        )
    if budget >= sizes.as_it_is:
        tell(
            f"{key}={asked:g} is enough for {config.model.name} as it is, which takes "
            f"{_rounded_up(sizes.as_it_is / unit_bytes):.2f}; nothing is quantized"
        )
    return Search(units, scheme, sizes, budget)


def searched_plan(config: Config, *, stored: str) -> SearchedPlan:
    """The plan that a configuration's search finds; costs that were measured before are not measured again.

    Raises:
        ReliabitError: See `prepared_search`.
    """
    wanted, settings = prepared_search(config, stored=stored), config.quant.search
    batches = calibration_batches(
        calibration_rows(config),
        encoder=load_encoder(config.model),
        batch_size=config.quant.calibration.batch_size,
        device=str(device_of(config.trainer.accelerator)),
    )
    folder = _costs_folder(config, wanted, batches)
    with entry_lock(folder):
        costs = KeptCosts(folder, _measurement(config, wanted, batches), shown=config.trainer.progress_bar)
        found = search(
            wanted.sizes,
            costs,
            widths=settings.widths,
            budget=wanted.budget,
            minimized=settings.minimized,
            refine=settings.refine,
        )
    touch([folder])
    return SearchedPlan(wanted, found, _file(config, wanted, found))


def _measurement(config: Config, wanted: Search, batches: "list[CalibrationBatch]") -> Callable[[], CostMeasurement]:
    def measurement() -> CostMeasurement:
        checkpoint = load_checkpoint(config.model)
        model = checkpoint.model.to(device_of(config.trainer.accelerator))
        layers = checkpoint.encoder.adapter.decoder_layers
        return CostMeasurement(model, layers, batches, units=wanted.units, scheme=wanted.scheme)

    return measurement


def _costs_folder(config: Config, wanted: Search, batches: "list[CalibrationBatch]") -> Path:
    """Where costs are kept, under a digest of everything they depend on but the widths."""
    record = {
        "weights": weights_digest(config, config.model.folder),
        "batches": [batch_digest(batch) for batch in batches],
        "scheme": {name: value for name, value in wanted.scheme.record().items() if name not in ("bits", "group_size")},
        "units": [(unit.modules, unit.group_size) for unit in wanted.units],
        "computed": [config.model.dtype, config.trainer.accelerator],
        "code": code_digest(_MEASURING),
        "libraries": {name: installed_version(name) for name in LIBRARIES},
    }
    key = sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return Path(config.paths.cache) / FOLDER / f"{config.model.name}-costs-{key[:12]}"


def _file(config: Config, wanted: Search, found: Found) -> PlanFile:
    costs = {"kl": found.cost.kl, "nll": found.cost.nll}
    return PlanFile(
        name=f"{config.quant.name}-{config.quant.width}",
        model=config.model.name,
        weights=weights_digest(config, config.model.folder),
        scheme=scheme_of(config.quant),
        rules=rules_of(wanted.units, found.assignment),
        found={
            "budget_bytes": wanted.budget,
            "bytes": found.size,
            "bits_a_weight": round(8 * found.size / wanted.sizes.weights, 4),
            "calibration": {
                "data": config.data.called(),
                "split": config.quant.calibration.split,
                "images": config.quant.calibration.images,
            },
            "measured": costs,
            "steps": _steps(found),
            "single": {unit: as_records(one) for unit, one in found.single.items()},
            "around_the_first": {unit: as_records(one) for unit, one in found.around.items()},
        },
    )


def _steps(found: Found) -> dict[str, Any]:
    """What was measured of the plan that single costs come to, and of the one that costs around it come to."""
    return {
        name: None if cost is None else vars(cost) for name, cost in (("first", found.first), ("second", found.second))
    }


def _rounded_up(value: float) -> float:
    """To two places, never below the value, so that what is named is enough."""
    return -(-value * 100 // 1) / 100
