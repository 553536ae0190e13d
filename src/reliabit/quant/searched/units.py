"""What shares a width, and what it takes at each: the units that a plan is searched over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from reliabit.quant.convert import TIED, quantizable_modules
from reliabit.quant.grid import Layout
from reliabit.quant.module_names import component_of, layer_of
from reliabit.quant.packed import PackedWeight
from reliabit.quant.plan import Plan, Scheme, plan_from_config
from reliabit.quant.sizes import model_size

LAYERED = ("language_attention", "language_mlp")
"""Components of which each layer is a unit of its own; of the others the whole is one."""

Assignment = Mapping[str, int | None]
"""The width of each unit, by its name; None leaves it as it is."""


@dataclass(frozen=True)
class Unit:
    """Modules that share a width.

    The matrices of a layer's attention, and those of its MLP, write to one sum and are read by one kernel each, so a
    layer's part has one width; measuring takes a seventh of what single matrices would. The vision tower is one unit
    since whatever changes in it costs a pass through all that comes after.

    Attributes:
        component: Of `reliabit.quant.module_names.COMPONENTS`.
        layer: The decoder layer; None for components that are one unit.
        modules: Their dotted names, in the model's order.
        group_size: Inputs that share a scale; None, whole rows, for components that groups do not divide.
    """

    component: str
    layer: int | None
    modules: tuple[str, ...]
    group_size: int | None

    @property
    def name(self) -> str:
        """What the unit is called in files.

        >>> Unit("language_mlp", 3, (), 64).name, Unit("vision", None, (), 64).name
        ('language_mlp.3', 'vision')
        """
        return self.component if self.layer is None else f"{self.component}.{self.layer}"

    def scheme(self, scheme: Scheme, width: int) -> Scheme:
        """How its modules are quantized to a width."""
        return replace(scheme, bits=width, group_size=self.group_size)


def units_of(model: nn.Module, *, group_size: int | None) -> tuple[Unit, ...]:
    """The units of a model, in its order; a module that belongs to no component is none's.

    Args:
        model: The model, on the meta device or with its weights.
        group_size: What is asked for; a component with a module whose inputs it does not divide gets whole rows.

    Example:
        >>> layer = nn.ModuleDict({"mlp": nn.ModuleDict({"up_proj": nn.Linear(64, 128)})})
        >>> model = nn.ModuleDict({"text_model": nn.ModuleDict({"layers": nn.ModuleList([layer])})})
        >>> units_of(model, group_size=64)
        (Unit(component='language_mlp', layer=0, modules=('text_model.layers.0.mlp.up_proj',), group_size=64),)
    """
    modules: dict[tuple[str, int | None], list[str]] = {}
    whole_rows = set()
    for name in quantizable_modules(model):
        component = component_of(name)
        if component is None:
            continue
        modules.setdefault((component, layer_of(name) if component in LAYERED else None), []).append(name)
        if group_size is not None and _weight(model, name).shape[1] % group_size:
            whole_rows.add(component)
    return tuple(
        Unit(component, layer, tuple(names), None if component in whole_rows else group_size)
        for (component, layer), names in modules.items()
    )


@dataclass(frozen=True)
class Bytes:
    """What a model takes under every assignment, as `reliabit.quant.sizes.footprint` counts it.

    Attributes:
        as_it_is: Stored bytes of the model with nothing quantized.
        weights: How many weights that has.
        changes: By unit and width, the bytes that quantizing it adds; negative ones are saved. Of embeddings and head
            that are one matrix, what their codes take: the matrix itself goes when both are quantized.
        tied: Bytes of the matrix that embeddings and head share; 0 where they do not.
    """

    as_it_is: int
    weights: int
    changes: Mapping[str, Mapping[int, int]]
    tied: int

    def total(self, assignment: Assignment) -> int:
        """Stored bytes under an assignment.

        >>> sizes = Bytes(100, 50, {"embeddings": {4: 10}, "lm_head": {4: 12}}, tied=40)
        >>> sizes.total({"embeddings": 4, "lm_head": None}), sizes.total({"embeddings": 4, "lm_head": 4})
        (110, 82)
        """
        changed = sum(self.changes[unit][width] for unit, width in assignment.items() if width is not None)
        both = self.tied and all(assignment.get(unit) is not None for unit in TIED)
        return self.as_it_is + changed - (self.tied if both else 0)


def bytes_of(model: nn.Module, units: Sequence[Unit], scheme: Scheme, *, widths: Sequence[int]) -> Bytes:
    """What a model takes under every assignment.

    Args:
        model: The model on the meta device, in the type that its unquantized weights are stored in.
        units: Its units.
        scheme: How weights are quantized, but for width and group.
        widths: What is to choose among.
    """
    shared = [_weight(model, unit.modules[0]) for unit in units if unit.component in TIED]
    tied = len(shared) == len(TIED) and shared[0] is shared[1]
    size = model_size(model)
    return Bytes(
        as_it_is=size.stored_bytes,
        weights=size.weights,
        changes={
            unit.name: {
                width: _codes(model, unit, scheme, width)
                - (0 if tied and unit.component in TIED else _plain(model, unit))
                for width in widths
            }
            for unit in units
        },
        tied=shared[0].nbytes if tied else 0,
    )


def _plain(model: nn.Module, unit: Unit) -> int:
    return sum(_weight(model, name).nbytes for name in unit.modules)


def _weight(model: nn.Module, name: str) -> Tensor:
    weight: Tensor = model.get_submodule(name).get_parameter("weight")
    return weight


def _codes(model: nn.Module, unit: Unit, scheme: Scheme, width: int) -> int:
    # float16, as `footprint` counts and `quantize_weight` takes wherever it does no harm.
    layout = Layout(width, unit.group_size, scheme.zero, scheme.metadata or "float16")
    shapes = [_weight(model, name).shape for name in unit.modules]
    return sum(PackedWeight(rows, columns, layout, device="meta").stored_bytes for rows, columns in shapes)


def rules_of(units: Sequence[Unit], assignment: Assignment) -> list[dict[str, Any]]:
    """An assignment as the rules of a plan, a rule for each component and width.

    Example:
        >>> layers = [Unit("language_mlp", layer, (), 64) for layer in range(3)]
        >>> rules_of(layers, {"language_mlp.0": 4, "language_mlp.1": 3, "language_mlp.2": 4})
        [{'components': ['language_mlp'], 'bits': 4, 'group_size': 64, 'layers': [0, 2]}, {'components': ...}]
    """
    found: dict[tuple[str, int], list[Unit]] = {}
    for unit in units:
        width = assignment[unit.name]
        if width is not None:
            found.setdefault((unit.component, width), []).append(unit)
    rules = []
    for (component, width), members in found.items():
        rule: dict[str, Any] = {"components": [component], "bits": width, "group_size": members[0].group_size}
        if len(members) < sum(unit.component == component for unit in units):
            rule["layers"] = [unit.layer for unit in members]
        rules.append(rule)
    return rules


def plan_of_units(units: Sequence[Unit], assignment: Assignment, scheme: Scheme) -> Plan:
    """An assignment as a plan."""
    return plan_from_config(rules_of(units, assignment), defaults=vars(scheme))
