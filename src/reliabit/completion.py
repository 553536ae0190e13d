"""What Tab offers: groups and their options, keys and their values, told by the schema and the configuration's folder.

For `python src/run.py`, Hydra's own way of asking is kept (`-sc query=bash`), and what is not told by names alone, such
as the value that a key has now, is left to it. For `reliabit`, bash asks `reliabit --complete` (`complete -C`).
"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_origin

from reliabit.components import Components
from reliabit.composition import fields_of, type_of
from reliabit.config_errors import options_are_added
from reliabit.paths import conf_folder
from reliabit.settings import listed

QUERIES = ("query=bash", "query=zsh", "query=fish")


def answer_query(arguments: list[str], *, environ: Mapping[str, str] = os.environ) -> bool:
    """Answer a shell that asks as Hydra's completion does; returns whether that was possible.

    Args:
        arguments: The command line's; `-sc query=bash` asks.
        environ: The environment; `COMP_LINE` is the line that is completed.
    """
    line = environ.get("COMP_LINE")
    if line is None or len(arguments) != 2 or arguments[0] != "-sc" or arguments[1] not in QUERIES:
        return False
    found = overrides(line.split(" ")[-1])
    if found is not None:
        sys.stdout.write(" ".join(found) + "\n")
    return found is not None


def overrides(word: str) -> list[str] | None:
    """The overrides that a word may become; `None` where Hydra is to be asked.

    >>> overrides("quant=h"), overrides("trainer.acc"), overrides("trainer.accelerator=")
    (['quant=hqq', 'quant=hqq_plus', 'quant=hybrid'], ['trainer.accelerator='], ['trainer.accelerator=auto', ...])
    """
    key, equals, _ = word.partition("=")
    if not word or word[0] in "-+~" or word.startswith("hydra") or "/" in key or options_are_added():
        return None
    found = _values(key) if equals else _keys(key)
    return None if found is None else sorted(one for one in found if one.startswith(word))


def commands(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """What the last of some words of `reliabit ...` may become.

    Args:
        parser: That of `reliabit`.
        words: What is typed after `reliabit`; the last one may be empty.
    """
    *before, word = words
    known = _commands(parser)
    chosen = next((known[one] for one in before if one in known), None)
    found = list(known) if chosen is None else overrides(word) or []
    options = [option for action in (chosen or parser)._actions for option in action.option_strings]
    shown = [option for option in options if option.startswith("--") and option != "--complete"]
    return sorted(one for one in (*found, *shown) if one.startswith(word) and (word or not one.startswith("-")))


def complete(parser: argparse.ArgumentParser, given: list[str], *, environ: Mapping[str, str] = os.environ) -> None:
    """Answer bash's `complete -C 'reliabit --complete' reliabit`.

    Args:
        parser: That of `reliabit`.
        given: What bash passes: the command, the word to complete, and the one before it.
        environ: The environment; `COMP_LINE` is the whole line.
    """
    words = environ.get("COMP_LINE", "").split(" ")[1:] or [""]
    # For bash, a word begins anew after an equals sign or a colon.
    kept = len(words[-1]) - len(given[1]) if len(given) > 1 and words[-1].endswith(given[1]) else 0
    sys.stdout.write("".join(f"{one[kept:]}\n" for one in commands(parser, words)))


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _keys(key: str) -> Iterable[str] | None:
    above, _, _ = key.rpartition(".")
    known = fields_of(above)
    if known is None:
        return None
    place = f"{above}." if above else ""
    groups = [] if above else [folder for folder in conf_folder().iterdir() if folder.is_dir()]
    within = [f"{place}{name}{'.' if _is_group(type_of(f'{place}{name}')) else '='}" for name in known]
    # As Hydra has it, a group with groups of its own goes on with a stroke or an equals sign.
    offered = (f"{one.name}{'' if any(inner.is_dir() for inner in one.iterdir()) else '='}" for one in groups)
    return {*within, *(group for group in offered if group.rstrip("=") != "hydra")}


def _is_group(schema: Any) -> bool:
    return is_dataclass(schema) or get_origin(schema) is dict


def _values(key: str) -> Iterable[str] | None:
    folder = conf_folder() / key
    if folder.is_dir():
        return [f"{key}={file.stem}" for file in folder.glob("*.yaml")]
    above, _, name = key.rpartition(".")
    entry = (fields_of(above) or {}).get(name)
    choices = None if entry is None else entry.metadata.get("choices")
    if choices is None:
        return None
    named = choices.found() if isinstance(choices, Components) else choices
    return [f"{key}={value}" for value in listed(named).split(", ")]
