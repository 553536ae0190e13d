"""A searched plan as a file: the rules, the model they are for, and the costs behind them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reliabit.errors import ReliabitError
from reliabit.files import replacing
from reliabit.quant.settings import QuantConfig

PLAN = "plan.yaml"
"""What a search calls it."""

_SCHEME = ("method", "zero", "solver", "p_norm", "options")
"""Keys of `quant` that a plan file holds beside its rules."""

_HEAD = "# Found by quant=searched; use it with quant=plan quant.plan=<this file>, on the model that it is for.\n"


@dataclass(frozen=True)
class PlanFile:
    """What a plan file says.

    Attributes:
        name: What runs of it are called.
        model: The name of the model that it was found for.
        weights: A digest of that model's weights and config.
        scheme: How weights are quantized, of `quant`.
        rules: As of `quant.rules`.
        found: What the search came to and the costs behind it, for readers.
    """

    name: str
    model: str
    weights: str
    scheme: Mapping[str, Any]
    rules: list[dict[str, Any]]
    found: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write it as YAML."""
        import yaml

        content = {
            "name": self.name,
            "model": {"name": self.model, "weights": self.weights},
            "scheme": dict(self.scheme),
            "rules": self.rules,
            "found": dict(self.found),
        }
        with replacing(path) as unfinished:
            text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
            unfinished.write_text(f"{_HEAD}{text}", encoding="utf-8")

    def applied(self, quant: QuantConfig) -> QuantConfig:
        """The configuration that quantizes by these rules."""
        return replace(quant, name=self.name, plan=None, rules=self.rules, **self.scheme)


def read_plan(path: Path) -> PlanFile:
    """Read a plan file.

    Raises:
        ReliabitError: There is none, or it is no plan file.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReliabitError(
            f"quant.plan={path} cannot be read ({error.strerror}); name the file of a search"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReliabitError(f"quant.plan={path} is no YAML; name the {PLAN} of a search") from error
    try:
        model, scheme, rules = content["model"], content["scheme"], content["rules"]
        found = PlanFile(content["name"], model["name"], model["weights"], scheme, rules, content["found"])
        wellformed = isinstance(rules, list) and all(isinstance(rule, dict) for rule in rules) and rules
        if not (wellformed and set(scheme) == set(_SCHEME)):
            raise KeyError
    except (KeyError, TypeError) as error:
        raise ReliabitError(f"quant.plan={path} is no plan file; name the {PLAN} that task=search wrote") from error
    return found


def scheme_of(quant: QuantConfig) -> dict[str, Any]:
    """What of a configuration a plan file holds.

    >>> scheme_of(QuantConfig(method="hqq"))
    {'method': 'hqq', 'zero': 'float', 'solver': 'chunked', 'p_norm': None, 'options': {}}
    """
    return {name: getattr(quant, name) for name in _SCHEME}


def check_model(plan: PlanFile, *, path: Path, weights: str, model: str) -> None:
    """Check that a plan was found for a model.

    Raises:
        ReliabitError: It was found for another one.
    """
    if plan.weights != weights:
        raise ReliabitError(
            f"quant.plan={path} was found for other weights ({plan.model}) than those of {model}; search again with "
            "task=search, or copy its rules to quant.rules"
        )
