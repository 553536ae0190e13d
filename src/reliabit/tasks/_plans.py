"""Plans in files: read, checked against the model, and put in the place of rules."""

from pathlib import Path

from reliabit.config import Config
from reliabit.digests import DigestCache, combined
from reliabit.quant.searched.plan_file import check_model, read_plan
from reliabit.quant.settings import QuantConfig

_WEIGHTS = (".safetensors", "config.json")


def weights_digest(config: Config, folder: Path) -> str:
    """A digest of the weights and the config of a model's folder."""
    cache = DigestCache(Path(config.paths.cache) / "digests")
    return combined(cache.files(folder, wanted=lambda path: path.name.endswith(_WEIGHTS)))


def planned(config: Config, folder: Path | None) -> QuantConfig:
    """How the model is quantized, `quant.plan` replaced by what the file says.

    Args:
        config: The configuration.
        folder: The model's; None where it is to be fetched first, and then to be held against the plan.

    Raises:
        ReliabitError: It is no plan file, or one of another model.
    """
    if config.quant.plan is None:
        return config.quant
    path = Path(config.quant.plan)
    plan = read_plan(path)
    if folder is not None:
        check_model(plan, path=path, weights=weights_digest(config, folder), model=config.model.name)
    return plan.applied(config.quant)
