"""From conf/ to a checked configuration: what Hydra must know, and what is checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from reliabit.config import Config
from reliabit.data.sources import DataConfig
from reliabit.errors import ReliabitError
from reliabit.paths import project_root
from reliabit.quant.settings import QuantConfig
from reliabit.settings import check, listed


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
    for key, data in {"data": config.data, **{f"other_data.{k}": d for k, d in config.other_data.items()}}.items():
        _check_data(data, key=key)
    if len(set(config.data.shifts)) < len(config.data.shifts):
        raise ReliabitError(f"data.shifts={config.data.shifts} names a shift twice; ask each once")


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


def _check_quant(quant: QuantConfig) -> None:
    if (quant.calibration.chat is None) != (quant.calibration.chat_images is None):
        raise ReliabitError("quant.calibration.chat and quant.calibration.chat_images go together; set both or neither")
    if quant.method == "none":
        return
    if not quant.rules:
        raise ReliabitError(f"quant.rules is empty, and quant.method={quant.method} needs to know which modules")
    if quant.bits is None and not all("bits" in rule for rule in quant.rules):
        raise ReliabitError(f"quant.bits is null, and a rule of quant.name={quant.name} brings no bits of its own")
    if quant.solver == "library" and quant.method != "hqq":
        raise ReliabitError(f"quant.solver=library runs quant.method=hqq alone, and quant.method={quant.method}")


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
    *groups, name = key.split(".")
    schema = _type_of(Config, *groups)
    own = fields(schema) if is_dataclass(schema) else ()
    return next((listed(entry.metadata.get("choices", ())) for entry in own if entry.name == name), "")


def holds_text(key: str) -> bool:
    """Whether a key holds a text, which may look like anything.

    >>> holds_text("task.predictions"), holds_text("data.files.images"), holds_text("data.ask")
    (True, True, False)
    """
    return _type_of(Config, *key.split(".")) is str


def neighbours(key: str) -> str:
    """Which keys there are where one is not, to show.

    >>> neighbours("trainer.treads").startswith("trainer has: accelerator, batch_size, ")
    True
    """
    above = key.split(".")[:-1]
    while _type_of(Config, *above) is None:
        above.pop()
    schema = _type_of(Config, *above)
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
