"""The page of all settings, made of the settings classes: what each key is, its type, what it may hold, its default."""

import html
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import griffe

from reliabit.components import Components
from reliabit.config import Config
from reliabit.settings import listed

_LONGEST = 60
"""Characters of a default that a table shows."""

_HEAD = """\
# Settings

Every key of a run, made of the settings classes of the code. A value is given on the command line, `quant.bits=4`, or
in a file of `conf/`; the default is what `python src/run.py` takes without any. Groups with options of their own are
chosen as a whole, `quant=gptq`. How overrides and sweeps are written: [Commands](../use.md#commands).
"""


def page(project: Path) -> str:
    """The page in Markdown.

    Args:
        project: The folder of the repository.
    """
    defaults = composed(project)
    plain = [entry.name for entry in fields(Config) if not is_dataclass(get_type_hints(Config)[entry.name])]
    parts = [_HEAD]
    for name, schema in get_type_hints(Config).items():
        if name not in plain:
            parts += [f"## {name}", "", *_options(project / "conf" / name, defaults["chosen"].get(name)), ""]
            parts += _group(name, schema, defaults["values"].get(name))
    parts += ["## At the top", "", *_table({name: _row(Config, name, defaults["values"].get(name)) for name in plain})]
    parts += ["", "## Settings of single components", "", *_components()]
    return "\n".join(parts)


def composed(project: Path) -> dict[str, Any]:
    """What a run takes without overrides: the `values`, and the option `chosen` of each group."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from reliabit.composition import register

    register()
    if GlobalHydra.instance().is_initialized():
        GlobalHydra.instance().clear()
    with initialize_config_dir(str(project / "conf"), version_base="1.3"):
        whole = compose("config", return_hydra_config=True)
    chosen = OmegaConf.to_container(whole.hydra.runtime.choices)
    values = OmegaConf.to_container(OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"]))
    return {"values": values, "chosen": chosen}


def keys_of(schema: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every group of settings within one, its key and its class; those that may be null as well."""
    for name, hint in get_type_hints(schema).items():
        inner = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
        if inner is not None:
            named = f"{place}.{name}" + (".<name>" if get_origin(hint) is dict else "")
            yield named, inner
            yield from keys_of(inner, named)


def _group(name: str, schema: Any, values: Any) -> list[str]:
    lines = [*_introduction(schema), *_table(_rows(name, schema, values)), ""]
    # What stands at the top is told there alone.
    seen = {schema, *get_type_hints(Config).values()}
    for key, inner in keys_of(schema, name):
        if inner in seen:
            continue
        seen.add(inner)
        value = _at(values, key.split(".")[1:])
        lines += [f"### {key}", "", *_introduction(inner), *_table(_rows(key, inner, value)), ""]
    return lines


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _introduction(schema: Any) -> list[str]:
    first = (schema.__doc__ or "").strip().split("\n\n")[0].split("\n\nAttributes:")[0]
    text = " ".join(first.split())
    return [text, ""] if text and not text.startswith(f"{schema.__name__}(") else []


def _rows(place: str, schema: Any, values: Any) -> dict[str, tuple[str, ...]]:
    hints = get_type_hints(schema)
    plain = [name for name, hint in hints.items() if not is_dataclass(hint) and not name.startswith("_")]
    shown = [entry.name for entry in fields(schema) if entry.name in plain]
    return {f"{place}.{name}": _row(schema, name, _at(values, [name]), given=values is not None) for name in shown}


def _row(schema: Any, name: str, value: Any, *, given: bool = True) -> tuple[str, ...]:
    entry = next(one for one in fields(schema) if one.name == name)
    hint = get_type_hints(schema)[name]
    return _type(hint), _default(value) if given else "", _allowed(entry.metadata), _told(schema).get(name, "")


def _told(schema: Any) -> dict[str, str]:
    """What a docstring says of each attribute, those of the classes that it builds on included."""
    found: dict[str, str] = {}
    for one in reversed(schema.__mro__[:-1]):
        for section in griffe.Docstring(one.__doc__ or "").parse("google", warnings=False):
            if section.kind is griffe.DocstringSectionKind.attributes:
                found |= {entry.name: " ".join(entry.description.split()) for entry in section.value}
    return found


def _type(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_type(one) for one in get_args(hint))
    if get_origin(hint) is list:
        return f"list of {_type(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return f"mapping to {_type(get_args(hint)[1])}"
    named = {str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null", Any: "anything"}
    return named.get(hint, "group" if is_dataclass(hint) else getattr(hint, "__name__", str(hint)))


def _default(value: Any) -> str:
    if value is None:
        return "`null`"
    if value == "???":
        return "to be given"
    text = str(value).lower() if isinstance(value, bool) else str(value).replace("\n", " ")
    if not text:
        return "empty"
    return f"`{text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}`"


def _allowed(metadata: Mapping[str, Any]) -> str:
    choices = metadata.get("choices")
    if choices is not None:
        names = choices.names() if isinstance(choices, Components) else choices
        return "one of " + ", ".join(f"`{one}`" for one in listed(names).split(", "))
    return "above 0" if metadata.get("positive") else ""


def _options(folder: Path, chosen: str | None) -> list[str]:
    files = sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))
    if len(files) < 2:
        return []
    named = (f"**`{name}`**" if name == chosen else f"`{name}`" for name in files)
    return [f"Options of `{folder.name}=`: {', '.join(named)}."]


def _table(rows: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Two columns, which a telephone shows as well."""
    if not rows:
        return []
    lines = ["| key | what it is |", "| --- | --- |"]
    for key, (kind, default, values, told) in rows.items():
        said = ", ".join(filter(None, (kind, f"default {default}" if default else "", values)))
        escaped = f"{told} *{said}*".replace("|", r"\|")
        # A telephone breaks a key after its dots and strokes.
        broken = html.escape(key).replace(".", ".<wbr>").replace("_", "_<wbr>")
        lines.append(f"| <code>{broken}</code> | {escaped} |")
    return lines


def _components() -> Iterator[str]:
    from reliabit.confidence.estimator import ESTIMATORS
    from reliabit.data.sources import SOURCES
    from reliabit.quant.methods import QUANTIZERS

    kinds = (
        ("quant.options", "method", QUANTIZERS, "options"),
        ("confidence.options.<name>", "estimator", ESTIMATORS, "settings"),
        ("data.options", "source", SOURCES, "options_schema"),
    )
    yield "A quantizer, an estimator or a data source declares settings of its own, which are given below this key.\n"
    for key, kind, components, attribute in kinds:
        for name in components.names():
            schema = getattr(components[name], attribute, None)
            if isinstance(schema, type) and is_dataclass(schema):
                place = key.replace("<name>", name)
                yield f"### {place} of the {kind} `{name}`\n"
                yield from _introduction(schema)
                defaults = {one.name: _own_default(one) for one in fields(schema)}
                yield from _table(_rows(place, schema, defaults))
                yield ""


def _own_default(entry: Any) -> Any:
    from dataclasses import MISSING

    if entry.default_factory is not MISSING:
        return entry.default_factory()
    return "???" if entry.default is MISSING else entry.default
