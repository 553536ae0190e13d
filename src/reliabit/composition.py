"""From conf/ to a checked configuration: what Hydra must know, and what is checked before any work."""

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from reliabit.config import Config
from reliabit.errors import ReliabitError
from reliabit.models.settings import ModelConfig
from reliabit.paths import conf_folder, models_folder, project_root, run_command
from reliabit.quant.record import quantized_as
from reliabit.quant.settings import UNQUANTIZED, QuantConfig
from reliabit.settings import check, listed

if TYPE_CHECKING:
    from omegaconf import DictConfig


def register() -> None:
    """Make the schema and the resolvers known to Hydra; to be called before anything is composed."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("project_root", lambda: str(project_root()), replace=True)
    OmegaConf.register_new_resolver("models_folder", lambda: str(models_folder()), replace=True)
    OmegaConf.register_new_resolver("run_command", run_command, replace=True)


def to_config(composed: "DictConfig") -> Config:
    """Turn a composed configuration into its typed form, every reference resolved and every value checked.

    Raises:
        ReliabitError: A value is missing or not among its choices.
    """
    from omegaconf import OmegaConf
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
    from omegaconf import OmegaConf

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


def as_quantized(quant: QuantConfig, folder: Path) -> QuantConfig:
    """What runs of a checkpoint are called by: one that is quantized already must not pass for the baseline.

    Args:
        quant: How it is to be quantized. A name that was given stays.
        folder: The checkpoint.
    """
    found = None if quant.method != UNQUANTIZED else quantized_as(folder)
    if found is None:
        return quant
    return replace(
        quant,
        name=found.method if quant.name == UNQUANTIZED else quant.name,
        bits=found.bits if quant.bits is None else quant.bits,
        group_size=found.group_size if quant.group_size is None else quant.group_size,
    )


def model_name(model: ModelConfig) -> str:
    """What runs call the model: an option of the configuration by its own name, any other checkpoint by its folder.

    A folder that is asked with the settings of an option, `model=qwen2_vl_7b model.path=checkpoints/mine`, is not that
    option's model, unless it is checked to be its very commit of the hub or was only quantized from it.

    Args:
        model: The model, its path as it was given or found.
    """
    option = conf_folder() / "model" / f"{model.name}.yaml"
    if not option.is_file():
        # It was named by whoever added or runs it.
        return model.name
    import yaml

    own = yaml.safe_load(option.read_text(encoding="utf-8"))
    if own.get("revision") is not None and own["revision"] == model.revision:
        return model.name
    place = model.folder
    # The hub keeps a commit of `a/b` in the folder models--a--b/snapshots/<commit>.
    called = place.parent.parent.name.rpartition("--")[2] if place.parent.name == "snapshots" else place.name
    packed = called.startswith(f"{model.name}-") and quantized_as(place) is not None
    return model.name if packed or called in ("", Path(own["path"]).name) else called


def _type_of(schema: Any, *names: str) -> Any:
    """The type that a schema gives a key within it; of `str | None`, the text. `None` where there is no such key."""
    for name in names:
        if is_dataclass(schema):
            schema = get_type_hints(schema).get(name)
        else:
            schema = get_args(schema)[-1] if get_origin(schema) is dict else None
        if get_origin(schema) in (Union, UnionType):
            schema = next(one for one in get_args(schema) if one is not NoneType)
    return schema


def options_of(key: str) -> str:
    """What a key may hold, as a list to show; empty where any value of its type will do.

    >>> options_of("quant.bits"), options_of("seed")
    ('null, 2, 3, 4, 8', '')
    """
    group, _, name = key.rpartition(".")
    found = (fields_of(group) or {}).get(name)
    return listed(found.metadata.get("choices", ())) if found is not None else ""


def fields_of(group: str) -> dict[str, Field[Any]] | None:
    """The keys of a group, or of the whole configuration where it is empty; `None` where it is no group.

    >>> fields_of("trainer")["batch_size"].name, fields_of("seed")
    ('batch_size', None)
    """
    schema = _type_of(Config, *filter(None, group.split(".")))
    return {entry.name: entry for entry in fields(schema)} if is_dataclass(schema) else None


def type_of(key: str) -> Any:
    """The type of a key or group, of one that may be null as well; `None` where there is no such key.

    >>> type_of("seed"), type_of("quant.bits"), type_of("quant.bitz")
    (<class 'int'>, <class 'int'>, None)
    """
    return _type_of(Config, *key.split("."))


def holds_text(key: str) -> bool:
    """Whether a key holds a text, which may look like anything.

    >>> holds_text("task.predictions"), holds_text("data.files.images"), holds_text("data.ask")
    (True, True, False)
    """
    return _type_of(Config, *key.split(".")) is str


def takes_list(key: str) -> bool:
    """Whether a key holds a list.

    >>> takes_list("data.shifts"), takes_list("data.ask"), takes_list("data.seed")
    (True, False, False)
    """
    return get_origin(_type_of(Config, *key.split("."))) is list


def neighbours(key: str) -> str:
    """Which keys there are where one is not, to show.

    >>> neighbours("trainer.treads").startswith("trainer has: accelerator, batch_size, ")
    True
    """
    above = key.split(".")[:-1]
    while _type_of(Config, *above) is None:
        above.pop()
    schema = _type_of(Config, *above)
    if get_origin(schema) is dict:
        return f"a key of {'.'.join(above)} is added with a plus, +{key}=..."
    if not is_dataclass(schema):
        return f"{'.'.join(above)} has no keys of its own"
    names = ", ".join(sorted(entry.name for entry in fields(schema)))
    return f"{'.'.join(above) or 'the configuration'} has: {names}"


def _check_known(plain: object, schema: Any, *, key: str = "") -> None:
    """Refuse a key that the schema lacks: added with a plus, it would be taken and never read."""
    for name, value in plain.items() if isinstance(plain, dict) else ():
        inner, place = _type_of(schema, str(name)), f"{key}{name}"
        if inner is None and is_dataclass(schema):
            raise ReliabitError(f"there is no key or group {place!r}; {neighbours(place)}")
        _check_known(value, inner, key=f"{place}.")
