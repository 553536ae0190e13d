"""Says in one sentence what Hydra and OmegaConf say in several lines: the key, its value, and what it may be."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from reliabit.composition import holds_text, neighbours, options_of, takes_list
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder, run_command

_NO_OPTION = re.compile(r"Could not find '(?P<group>[\w/]+)/(?P<option>[^']+)'")
_NO_KEY = re.compile(r"Could not override '(?P<key>[\w.@/]+)'")
# A mapping is refused for a key within it.
_FULL_KEY = re.compile(r"\bfull_key: (?P<key>[\w.]+)")
_BAD_VALUE = re.compile(r"Error merging override (?P<key>[\w.]+)=(?P<value>\S+)")
_SEVERAL = re.compile(r"Ambiguous value for argument '(?P<argument>.*?)' 1\. ")
_SWEEP = re.compile(r"Sweep parameters '(?P<argument>.*)' requires --multirun")
_DELETED = re.compile(r"Could not delete from config\. '(?P<key>[^']+)' does not exist")
_THERE = re.compile(r"An item is already at '(?P<key>[^']+)'|Multiple values for (?P<group>[\w/@.]+)\. To override")
_AVAILABLE = re.compile(r"Available options in '[^']+': (?P<options>[\w ]+?) Config search path")
_NO_INTERPOLATION = re.compile(r"Missing mandatory value: (?P<key>[\w.]+)")


def explain(error: BaseException) -> str:
    """Put an error of composing a configuration into one sentence.

    Args:
        error: Hydra's or OmegaConf's error.

    >>> explain(Exception("Error merging override quant.bits=abc"))
    'quant.bits=abc is not a value of this key; choose one of: null, 2, 3, 4, 8'
    """
    causes = (error, error.__cause__)
    text = " ".join(" ".join(str(cause).split()) for cause in causes if cause is not None)
    override = getattr(error, "override", None)
    if isinstance(override, str):
        return _unreadable(override, detail=text.split(" See https://hydra.cc")[0])
    if found := _SEVERAL.search(text) or _SWEEP.search(text):
        return _several(found["argument"])
    if found := _THERE.search(text):
        key = found["key"] or found["group"]
        return f"{key} has a value already, which +{key}=... would add; leave out the plus to replace it"
    if found := _DELETED.search(text):
        return f"there is no key or group {found['key']!r} to take away; {neighbours(found['key'])}"
    if (found := _NO_OPTION.search(text)) and found["group"].startswith("hydra/"):
        return _no_plugin(found["group"], found["option"], text=text)
    if found := _NO_OPTION.search(text):
        options = ", ".join(sorted(path.stem for path in (conf_folder() / found["group"]).glob("*.yaml")))
        return f"{found['group']}={found['option']} is not an option of this group; choose one of: {options}"
    if found := _NO_KEY.search(text):
        key = (_FULL_KEY.search(text) or found)["key"]
        return f"there is no key or group {key!r}; {neighbours(key)}"
    if found := _BAD_VALUE.search(text):
        return _bad_value(found["key"], found["value"], text=text)
    if found := _NO_INTERPOLATION.search(text):
        return f"{found['key']} is not set; give it a value on the command line"
    return text


def in_one_line(error: BaseException) -> str:
    r"""What a command that refuses its input prints: our own sentence, or Hydra's and OmegaConf's put into one.

    >>> in_one_line(ReliabitError("the file is missing"))
    'error: the file is missing\n'
    """
    told = str(error) if isinstance(error, ReliabitError) else explain(error)
    return f"error: {' '.join(told.splitlines())}\n"


def refusals() -> tuple[type[Exception], ...]:
    """The errors that a user can put right: our own, Hydra's and OmegaConf's."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return ReliabitError, HydraException, OmegaConfBaseException


def check_arguments(arguments: Sequence[str]) -> None:
    """Check what Hydra takes for a defect of its own.

    Raises:
        ReliabitError: An argument has a value and no key, or names something within a list.
    """
    for argument in arguments:
        above, _, last = argument.partition("=")[0].lstrip("+~").rpartition(".")
        if takes_list(above) and not last.isdecimal():
            raise ReliabitError(f"there is no key or group '{above}.{last}'; {above} is a list, write {above}=[...]")
        if argument.startswith("="):
            raise ReliabitError(f"the argument {argument} has no key; write <key>{argument}")


def quoted(value: str) -> str:
    """A value as Hydra's grammar takes it whatever it holds.

    >>> quoted("val/{image_id}.jpg")
    '"val/{image_id}.jpg"'
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=value, quote=Quote.double).with_quotes()


def typed(argument: str) -> str:
    """An argument as it must be typed in a shell for its value to be taken as it stands.

    >>> print(typed("task.predictions=runs/a=b.parquet"))
    'task.predictions="runs/a=b.parquet"'
    """
    key, _, value = argument.partition("=")
    # No shell expands a tilde within quotes.
    plain = str(Path(value).expanduser()) if value.startswith("~/") else value
    return shlex.quote(f"{key}={quoted(plain)}")


PLUGINS = {"joblib": "hydra-joblib-launcher", "submitit": "hydra-submitit-launcher", "optuna": "hydra-optuna-sweeper"}
"""The packages that bring the options of Hydra's groups that are asked for most, by the beginning of their names."""


def _unreadable(argument: str, *, detail: str) -> str:
    """What to do about an argument that is not in Hydra's grammar."""
    key, equals, value = argument.partition("=")
    if not equals:
        return f"the argument {argument} has no value; write {argument}=<value>"
    if value[:1] + value[-1:] in ("[]", "{}") and not holds_text(key.lstrip("+~")):
        reason = detail.removeprefix(f"Error parsing override '{argument}' ")
        return (
            f"the argument {argument} is neither a list nor a mapping as Hydra reads them ({reason}); write "
            f"'{key}=[a, b]' or '{key}={{a: 1, b: 2}}', in quotes for the shell"
        )
    return f"the argument {argument} has characters that Hydra's grammar reads otherwise; type it so: {typed(argument)}"


def _several(argument: str) -> str:
    """What to do about a list of values outside a sweep."""
    text = holds_text(argument.partition("=")[0])
    meant = f", or, if that is one value, type it so: {typed(argument)}" if text else ""
    shown = argument if shlex.quote(argument) == argument or "," in argument else shlex.quote(argument)
    return f"the argument {argument} names several values; add -m for a sweep ({run_command()} -m {shown}){meant}"


def _no_plugin(group: str, option: str, *, text: str) -> str:
    """What to do about a launcher or sweeper of Hydra's that is not installed."""
    found = _AVAILABLE.search(text)
    there = ", ".join(found["options"].split()) if found else "none"
    package = next((name for start, name in PLUGINS.items() if option.startswith(start)), None)
    remedy = f"install it with pip install {package}" if package else "install the package that brings it"
    return f"{group}={option} is not installed; {remedy}, or choose one of: {there}"


def _bad_value(key: str, value: str, *, text: str) -> str:
    """What a key takes instead of a value."""
    if takes_list(key):
        return f"{key}={value} is no list; write {key}=[{value}]"
    options = options_of(key)
    allowed = f"choose one of: {options}" if options else _reason(text)
    return f"{key}={value} is not a value of this key; {allowed}"


def _reason(text: str) -> str:
    return text.split("full_key", 1)[0].split(" ", 4)[-1].strip()
