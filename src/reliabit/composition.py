"""From conf/ to a checked configuration: where the files lie, what Hydra must know, what is checked before any work."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from reliabit.config import Config, DataConfig, RegistryConfig, TrainerConfig
from reliabit.errors import ReliabitError
from reliabit.settings import check, listed


def conf_folder() -> Path:
    """The configuration folder: the project's, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parent
    project = package.parents[1] / "conf"
    return project if (project / "config.yaml").is_file() else package / "conf"


def project_root() -> Path:
    """The project's folder, or the current one where the package is installed on its own."""
    project = Path(__file__).resolve().parents[2]
    return project if (project / "conf" / "config.yaml").is_file() else Path.cwd()


def register() -> None:
    """Make the schema and the resolvers known to Hydra; to be called before anything is composed."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("project_root", lambda: str(project_root()), replace=True)


def to_config(composed: DictConfig) -> Config:
    """Turn a composed configuration into its typed form, every reference resolved and every value checked.

    Raises:
        ReliabitError: A value is missing or not among its choices.
    """
    from omegaconf.errors import OmegaConfBaseException

    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    _check_known(OmegaConf.to_container(own, resolve=False), Config)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), own))
    except OmegaConfBaseException as error:
        raise ReliabitError(f"the configuration does not resolve: {' '.join(str(error).split())}") from error
    if not isinstance(config, Config):
        raise TypeError("the schema decides the type of a configuration")
    validate(config)
    return config


def to_mapping(config: Config) -> Mapping[str, Any]:
    """The configuration as plain nested mappings, for records."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    if not isinstance(plain, dict):
        raise TypeError("a configuration is a mapping")
    return {str(key): value for key, value in plain.items()}


def validate(config: Config) -> None:
    """Check every value that its type alone does not, and what must hold between values.

    Raises:
        ReliabitError: Names the key, its value, and what it may be.
    """
    check(config, key="")
    _check_template(config.model.template, key="model.template", fields=("question",))
    _check_template(config.confidence.p_true.template, key="confidence.p_true.template", fields=("question", "answer"))
    for key, data in {"data": config.data, **{f"other_data.{k}": d for k, d in config.other_data.items()}}.items():
        _check_data(data, key=key)
    _check_shifts(config)
    if not config.confidence.selector.seeds:
        raise ReliabitError("confidence.selector.seeds is empty; name at least one")
    if "maxprob" not in config.confidence.estimators:
        raise ReliabitError("confidence.estimators lacks maxprob, which all others are compared with; add it")
    for key in ("delta", "level"):
        if not 0 < getattr(config.evaluation, key) < 1:
            raise ReliabitError(f"evaluation.{key}={getattr(config.evaluation, key)} must lie between 0 and 1")
    _check_registry(config.registry)
    _check_spread(config.trainer)


def _check_spread(trainer: TrainerConfig) -> None:
    if trainer.device_map is not None and trainer.devices > 1:
        raise ReliabitError(
            f"trainer.device_map={trainer.device_map} spreads one model over all devices, and "
            f"trainer.devices={trainer.devices} wants a whole one on each; set one of them alone"
        )
    for key in ("device_memory", "host_memory"):
        size = getattr(trainer, key)
        if size is not None and trainer.device_map is None:
            raise ReliabitError(f"trainer.{key}={size} and trainer.device_map is null; set trainer.device_map=auto")
        if size is not None and not re.fullmatch(r"\d+[KMG]i?B", size):
            raise ReliabitError(f"trainer.{key}={size} is no size; write a whole number and a unit, as 70GiB or 1500MB")


def _check_template(template: str, *, key: str, fields: Sequence[str]) -> None:
    try:
        template.format(**dict.fromkeys(fields, ""))
    except (KeyError, IndexError, ValueError) as error:
        raise ReliabitError(f"{key}={template!r} cannot be filled in ({error}); double every other brace") from error
    for name in fields:
        if f"{{{name}}}" not in template:
            raise ReliabitError(f"{key}={template!r} lacks {{{name}}}, where the {name} goes")


def _check_data(data: DataConfig, *, key: str) -> None:
    if data.name == "scenes" and data.questions_per_image is None:
        raise ReliabitError(f"{key}.questions_per_image is null, and {key}.name=scenes needs it")
    for part in ("splits", "ask"):
        for split, images in getattr(data, part).items():
            if images is not None and images < 0:
                raise ReliabitError(f"{key}.{part}.{split}={images} is negative; give the number of images, 0 for none")
    for split, images in data.ask.items():
        if images and not data.splits.get(split):
            raise ReliabitError(f"{key}.ask.{split}={images} asks a split that {key}.splits leaves empty")
    _check_template(data.template, key=f"{key}.template", fields=("question",))
    _check_shares(data, key=key)
    cut = sorted(split for split, images in data.splits.items() if images)
    listed = sorted(split for split, file in data.split_ids.items() if file is not None)
    if listed and listed != cut:
        raise ReliabitError(
            f"{key}.split_ids has files for {', '.join(listed)} and {key}.splits has {', '.join(cut)}; give a file for "
            f"each, or set the others of {key}.splits to 0"
        )


def _check_shares(data: DataConfig, *, key: str) -> None:
    """Splits are numbers of images or shares of them, never both; a share is what is written with a point."""
    shares = [size for size in data.splits.values() if isinstance(size, float)]
    if not shares:
        return
    if data.name in ("easy_vqa", "scenes"):
        raise ReliabitError(
            f"{key}.splits={data.splits} has shares, and {key}.name={data.name} takes numbers of images"
        )
    if len(shares) < sum(size != 0 for size in data.splits.values()):
        raise ReliabitError(f"{key}.splits={data.splits} mixes shares with numbers of images; write 0.5 or 5, not both")
    if sum(shares) > 1 + 1e-9:
        raise ReliabitError(
            f"{key}.splits={data.splits} has shares of more than all images; let them add up to 1 at most"
        )


def _check_shifts(config: Config) -> None:
    """Shifts, other data sets and mixtures by name; all three are told apart by their names alone."""
    shifts, mixtures = config.data.shifts, config.evaluation.mixtures
    if len(set(shifts)) < len(shifts):
        raise ReliabitError(f"data.shifts={shifts} names a shift twice; ask each once")
    labels = [*shifts, *(label for members in mixtures.values() for label in members)]
    others = set(config.other_data)
    if labels or others:
        # Not needed for --help, and takes a tenth of a second.
        from reliabit.data.shifts import catalogue, parse_shift

        for label in labels:
            if label not in others:
                parse_shift(label)
        taken = {"none", "in_domain", *mixtures, *(shift.label for shift in catalogue())} & others - set(mixtures)
        if taken:
            raise ReliabitError(f"other_data.{min(taken)} has the name of something else; call the data set otherwise")


def _check_registry(registry: RegistryConfig) -> None:
    shares = ("minimum_coverage", "accuracy_loss", "slice_loss", "latency_tolerance")
    losses = ("accuracy_loss", "augrc_loss", "coverage_loss")
    values = {name: getattr(registry, name) for name in shares}
    values |= {f"incumbent.{name}": getattr(registry.incumbent, name) for name in losses}
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ReliabitError(f"registry.{name}={value} must be a share, from 0 to below 1")
    for name in ("delta", "level"):
        if not 0 < getattr(registry, name) < 1:
            raise ReliabitError(f"registry.{name}={getattr(registry, name)} must lie between 0 and 1")
    if registry.level <= 0.5:
        raise ReliabitError(f"registry.level={registry.level} is no confidence; it must lie above 0.5")
    if registry.required_risk not in registry.certified_risks:
        raise ReliabitError(
            f"registry.required_risk={registry.required_risk} is not among "
            f"registry.certified_risks={registry.certified_risks}; certify it as well"
        )


def options_of(key: str) -> str:
    """What a key may hold, as a list to show; empty where any value of its type will do.

    >>> options_of("quant.bits"), options_of("seed")
    ('null, 2, 3, 4, 8', '')
    """
    *groups, name = key.split(".")
    node: Any = Config()
    for group in groups:
        node = getattr(node, group, None)
    if not is_dataclass(node):
        return ""
    found = [entry.metadata.get("choices", ()) for entry in fields(node) if entry.name == name]
    return listed(found[0]) if found else ""


def holds_text(key: str) -> bool:
    """Whether a key holds a text, which may look like anything.

    >>> holds_text("task.predictions"), holds_text("data.files.images"), holds_text("data.ask")
    (True, True, False)
    """
    node: Any = Config
    for name in key.split("."):
        hints = get_type_hints(node) if is_dataclass(node) else {}
        found = hints.get(name, get_args(node)[-1] if get_origin(node) is dict else None)
        # Of `str | None`, the text.
        node = next((one for one in get_args(found) if one is not NoneType), found) if _is_union(found) else found
    return node is str


def _is_union(found: Any) -> bool:
    return get_origin(found) in (Union, UnionType)


def _check_known(plain: Any, schema: Any, *, key: str = "") -> None:
    """Refuse a key that the schema lacks: added with a plus, it would be taken and never read."""
    if not is_dataclass(schema) or not isinstance(plain, dict):
        return
    types = get_type_hints(schema)
    for name, value in plain.items():
        if name not in types:
            raise ReliabitError(f"there is no key or group {key + str(name)!r}; {neighbours(key + str(name))}")
        inner, place = types[name], f"{key}{name}."
        if _is_union(inner):
            inner = next((one for one in get_args(inner) if is_dataclass(one)), inner)
        if get_origin(inner) is dict and isinstance(value, dict):
            for label, entry in value.items():
                _check_known(entry, get_args(inner)[1], key=f"{place}{label}.")
        else:
            _check_known(value, inner, key=place)


def neighbours(key: str) -> str:
    """Which keys there are where one is not, to show.

    >>> neighbours("trainer.treads").startswith("trainer has: accelerator, batch_size, ")
    True
    """
    node: object = Config()
    above: list[str] = []
    for name in key.split(".")[:-1]:
        if not hasattr(node, name):
            break
        node = getattr(node, name)
        above.append(name)
    if not is_dataclass(node):
        return f"{'.'.join(above)} has no keys of its own"
    names = ", ".join(sorted(entry.name for entry in fields(node)))
    return f"{'.'.join(above) or 'the configuration'} has: {names}"
