"""Plans: which module gets which method, bits and group size."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.quant.module_names import COMPONENTS, component_of, layer_of
from reliabit.quant.record import MetadataType, ZeroKind
from reliabit.quant.settings import UNQUANTIZED, QuantConfig

_DECODER_LINEARS = ("language_attention", "language_mlp")
"""What the field quantizes by default; vision tower, connector, embeddings and lm_head stay as they are."""

_WHERE = ("components", "pattern", "layers", "exclude")
"""What of a rule says which modules it means."""


@dataclass(frozen=True)
class Scheme:
    """How a weight is quantized; the arguments of `quantize_weight`.

    Attributes:
        method: Of `reliabit.quant.methods`, such as `rtn`, `hqq` or `hqq_plus`.
        bits: Bits of a code.
        group_size: Inputs that share a scale, or None for the whole row.
        zero: `float`, `integer` or `symmetric`.
        solver: `chunked` or `library`.
        p_norm: The norm of the error, or None for the method's own.
        iterations: Largest number of steps of an iterative method, or None for the method's own.
        metadata: What scales and float zeros are stored in, or None for float16 wherever it does no harm.
        options: The method's own settings.
    """

    method: str = "hqq"
    bits: int = 4
    group_size: int | None = 64
    zero: ZeroKind = "float"
    solver: str = "chunked"
    p_norm: float | None = None
    iterations: int | None = None
    metadata: MetadataType | None = None
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def search_options(self) -> dict[str, Any]:
        """Of `p_norm` and `iterations` those that are not left to the method."""
        given = {"p_norm": self.p_norm, "iterations": self.iterations}
        return {name: value for name, value in given.items() if value is not None}

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `quantize_weight`.

        Example:
            >>> Scheme(bits=3).arguments()["bits"]
            3
        """
        return {name: value for name, value in vars(self).items() if name != "options"} | self.options

    def record(self) -> dict[str, Any]:
        """The scheme as plain values; options are in it where there are any."""
        return {name: value for name, value in vars(self).items() if name != "options" or value}


@dataclass(frozen=True)
class Rule:
    """Modules and their scheme.

    A module is meant when it lies in one of the components (if any are named), its whole name matches the pattern
    (if there is one), it lies in one of the layers (if any are named), and its name does not match `exclude`.

    Attributes:
        scheme: How the modules are quantized.
        components: Of `reliabit.quant.module_names.COMPONENTS`.
        pattern: A regular expression that the module's name must match anywhere.
        layers: Numbers of layers; negative ones count from the component's last layer.
        exclude: A regular expression that the module's name must match nowhere.
    """

    scheme: Scheme
    components: tuple[str, ...] = ()
    pattern: str | None = None
    layers: tuple[int, ...] | None = None
    exclude: str | None = None


@dataclass(frozen=True)
class Plan:
    """Rules in order; no module may be meant by two of them."""

    rules: tuple[Rule, ...]


def default_plan(scheme: Scheme) -> Plan:
    """The decoder's linear layers, attention and MLP, all with one scheme.

    Example:
        >>> default_plan(Scheme(bits=3)).rules[0].components
        ('language_attention', 'language_mlp')
    """
    return Plan((Rule(scheme, components=_DECODER_LINEARS),))


def plan_from_config(rules: Sequence[Mapping[str, Any]], *, defaults: Mapping[str, Any] | None = None) -> Plan:
    """Build a plan from plain mappings, as a config file gives them.

    Args:
        rules: One mapping a rule, with the fields of `Rule` and of `Scheme` side by side.
        defaults: Fields of `Scheme` that rules leave out.

    Raises:
        ReliabitError: An unknown key, a rule that names no modules, or a pattern that is no regular expression.

    Example:
        >>> plan = plan_from_config(
        ...     [{"components": ["vision"], "bits": 8}, {"components": ["language_mlp"], "layers": [0, -1]}],
        ...     defaults={"method": "hqq_plus", "bits": 3},
        ... )
        >>> [(rule.scheme.method, rule.scheme.bits, rule.layers) for rule in plan.rules]
        [('hqq_plus', 8, None), ('hqq_plus', 3, (0, -1))]
    """
    return Plan(tuple(_rule_from_config(dict(rule), number, defaults or {}) for number, rule in enumerate(rules, 1)))


def build_plan(quant: QuantConfig) -> Plan:
    """The plan that a configuration describes.

    Raises:
        ReliabitError: A rule names what there is not.
    """
    shared = {entry.name for entry in fields(Scheme)} & vars(quant).keys()
    return plan_from_config(quant.rules, defaults={name: getattr(quant, name) for name in shared})


def plan_of(quant: QuantConfig) -> Plan | None:
    """The plan that a configuration describes; `None` for the baseline."""
    return None if quant.method == UNQUANTIZED else build_plan(quant)


def _rule_from_config(rule: dict[str, Any], number: int, defaults: Mapping[str, Any]) -> Rule:
    scheme_fields = {entry.name for entry in fields(Scheme)}
    unknown = (set(rule) | set(defaults)) - scheme_fields - set(_WHERE)
    if unknown:
        raise ReliabitError(
            f"rule {number} of the quantization plan has unknown keys {sorted(unknown)}; "
            f"choose from {sorted(scheme_fields | set(_WHERE))}"
        )
    if "method" in rule and rule["method"] != defaults.get("method"):
        # The settings of one method say nothing to another.
        defaults = {key: value for key, value in defaults.items() if key != "options"}
    scheme = Scheme(**{**defaults, **{key: value for key, value in rule.items() if key in scheme_fields}})
    where: dict[str, Any] = {
        key: value if isinstance(value, str) else tuple(value) for key in _WHERE if (value := rule.get(key)) is not None
    }
    built = Rule(scheme, **where)
    _check_rule(built, number)
    return built


def _check_rule(rule: Rule, number: int) -> None:
    if not rule.components and rule.pattern is None:
        raise ReliabitError(f"rule {number} of the quantization plan names neither components nor a pattern")
    for component in rule.components:
        if component not in COMPONENTS:
            raise ReliabitError(
                f"rule {number} of the quantization plan names the unknown component {component!r}; "
                f"choose from {', '.join(COMPONENTS)}"
            )
    for pattern in filter(None, (rule.pattern, rule.exclude)):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ReliabitError(
                f"rule {number} of the quantization plan has a bad pattern {pattern!r}: {error}"
            ) from error


def resolve(plan: Plan, modules: Sequence[str]) -> dict[str, Scheme]:
    """Say which of the modules a plan quantizes, and how.

    Args:
        plan: The plan.
        modules: Names of all modules that could be quantized, in the model's order.

    Returns:
        The scheme of each module that the plan names, in the model's order.

    Raises:
        ReliabitError: A rule that means no module, or a module that two rules mean.

    Example:
        >>> resolve(default_plan(Scheme(bits=3)), ["model.text_model.layers.0.mlp.up_proj", "lm_head"])
        {'model.text_model.layers.0.mlp.up_proj': Scheme(method='hqq', bits=3, ...)}
    """
    chosen: dict[str, tuple[int, Scheme]] = {}
    for number, rule in enumerate(plan.rules, 1):
        _check_rule(rule, number)
        meant = [name for name in modules if _means(rule, name, modules)]
        if not meant:
            raise ReliabitError(f"rule {number} of the quantization plan matches no module: {_describe(rule)}")
        for name in meant:
            if name in chosen:
                raise ReliabitError(f"rules {chosen[name][0]} and {number} of the quantization plan both name {name}")
            chosen[name] = number, rule.scheme
    return {name: chosen[name][1] for name in modules if name in chosen}


def _means(rule: Rule, name: str, modules: Sequence[str]) -> bool:
    component = component_of(name)
    if rule.components and component not in rule.components:
        return False
    if rule.pattern is not None and not re.search(rule.pattern, name):
        return False
    if rule.exclude is not None and re.search(rule.exclude, name):
        return False
    return rule.layers is None or _in_layers(name, rule.layers, modules)


def _in_layers(name: str, layers: tuple[int, ...], modules: Sequence[str]) -> bool:
    layer = layer_of(name)
    if layer is None:
        return False
    tower = name[: name.index(f".{layer}.")]
    depth = 1 + max(layer_of(other) or 0 for other in modules if other.startswith(f"{tower}."))
    return layer in {number if number >= 0 else depth + number for number in layers}


def _describe(rule: Rule) -> str:
    parts = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(rule).items()}
    return ", ".join(f"{key} {parts[key]!r}" for key in _WHERE if parts[key] not in (None, []))
