"""Says in one sentence what Hydra and OmegaConf say in several lines: the key, its value, and what it may be."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from pkgutil import iter_modules

from reliabit.composition import fields_of, holds_text, neighbours, options_of, takes_list, type_of
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder, run_command
from reliabit.settings import listed

_PLAIN = re.compile(r"(?P<key>[a-z]\w*(?:[./][a-z]\w*)*)=(?P<value>\w+)", re.ASCII)
_TABLE = re.compile(r"(?P<key>task\.predictions)=(?P<value>[\w/-]*[./][\w./-]*)", re.ASCII)
OUR_PLUGINS = {"reliabit_launchers", "reliabit_sweeper"}
"""The plug-ins of Hydra's that add no options."""
LAUNCHERS = {"hydra_joblib_launcher", "hydra_ray_launcher", "hydra_submitit_launcher"}
"""Those that add options of `hydra/launcher` alone, which are left to Hydra."""

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
        return _no_option(found["group"], found["option"])
    if found := _NO_KEY.search(text):
        return _no_key((_FULL_KEY.search(text) or found)["key"])
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
    """The errors that a user can put right: our own, and Hydra's and OmegaConf's, where these are imported."""
    theirs = (("hydra.errors", "HydraException"), ("omegaconf.errors", "OmegaConfBaseException"))
    return ReliabitError, *(getattr(sys.modules[home], name) for home, name in theirs if home in sys.modules)


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


def check_plain_arguments(arguments: Sequence[str]) -> None:
    """Refuse what is wrong whatever the configuration is composed of, in the words that composing it would end in.

    Composing takes most of the time of a command that is refused. So `group=option` and `key=word` are looked at
    before, in the configuration's folder and its schema; all other forms, and whatever Hydra is told, wait for it.

    Raises:
        ReliabitError: An option, a key or a value is not there.

    >>> check_plain_arguments(["quant=none", "trainer.accelerator=tpu"])
    Traceback (most recent call last):
    reliabit.errors.ReliabitError: trainer.accelerator=tpu is not a value of this key; choose one of: cpu, gpu, auto
    """
    if (
        any(one.startswith(("-", "hydra")) and one not in ("-m", "--multirun") for one in arguments)
        or options_are_added()
    ):
        return
    for argument in arguments:
        found = _PLAIN.fullmatch(argument)
        told = _plainly_wrong(found["key"], found["value"]) if found else _missing_table(argument, arguments)
        if told is not None:
            raise ReliabitError(told)


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


def options_are_added() -> bool:
    """Whether options may lie elsewhere than in the configuration's folder."""
    plugins = {found.name for found in iter_modules([str(Path(place, "hydra_plugins")) for place in sys.path])}
    return plugins - LAUNCHERS != OUR_PLUGINS or "searchpath" in (conf_folder() / "config.yaml").read_text(
        encoding="utf-8"
    )


def _plainly_wrong(key: str, value: str) -> str | None:
    group = conf_folder() / key
    if group.is_dir():
        return None if value == "null" or (group / f"{value}.yaml").is_file() else _no_option(key, value)
    above, _, name = key.rpartition(".")
    # What lies deeper may be null as a whole, which Hydra puts otherwise.
    if "." in above or "/" in key:
        return None
    known = fields_of(above)
    if known is None:
        return None if type_of(above) is not None else _no_key(above)
    if name not in known:
        return _no_key(key)
    choices = known[name].metadata.get("choices")
    # Components have names that nobody lists without importing them.
    if not isinstance(choices, tuple) or takes_list(key):
        return None
    return None if value.lower() in listed(choices).lower().split(", ") else _bad_value(key, value, text="")


def _missing_table(argument: str, arguments: Sequence[str]) -> str | None:
    found = _TABLE.fullmatch(argument)
    if found is None or not {"task=evaluate", "task=select"} & {*arguments} or Path(found["value"]).is_file():
        return None
    return no_table(found["key"], found["value"])


def no_table(key: str, place: str) -> str:
    """What to do where a predictions table is not there."""
    return f"{key}={place} does not exist; name the predictions table that a run wrote"


def _no_option(group: str, option: str) -> str:
    """Which options a group has."""
    options = ", ".join(sorted(path.stem for path in (conf_folder() / group).glob("*.yaml")))
    return f"{group}={option} is not an option of this group; choose one of: {options}"


def _no_key(key: str) -> str:
    """Which keys there are where one is not."""
    return f"there is no key or group {key!r}; {neighbours(key)}"


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
    if group == "hydra/launcher" and found:
        there = _launchers(found["options"].split())
    package = next((name for start, name in PLUGINS.items() if option.startswith(start)), None)
    remedy = f"install it with pip install {package}" if package else "install the package that brings it"
    return f"{group}={option} is not installed; {remedy}, or choose one of: {there}"


def _launchers(options: Sequence[str]) -> str:
    """The launchers that are installed, and how to install the others of ours."""
    from reliabit.cluster import EXTRAS, is_installed

    lacking = {option: extra for option, extra in EXTRAS.items() if option in options and not is_installed(extra)}
    told = [", ".join(option for option in options if option not in lacking)]
    for extra in sorted({*lacking.values()}):
        names = ", ".join(option for option in lacking if lacking[option] == extra)
        told.append(f"after pip install 'reliabit[{extra}]' also {names}")
    return "; ".join(told)


def _bad_value(key: str, value: str, *, text: str) -> str:
    """What a key takes instead of a value."""
    if takes_list(key):
        return f"{key}={value} is no list; write {key}=[{value}]"
    options = options_of(key)
    allowed = f"choose one of: {options}" if options else _reason(text)
    return f"{key}={value} is not a value of this key; {allowed}"


def _reason(text: str) -> str:
    return text.split("full_key", 1)[0].split(" ", 4)[-1].strip()
