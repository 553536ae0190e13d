"""Says in one sentence what Hydra and OmegaConf say in several lines: the key, its value, and what it may be."""

import re
from dataclasses import fields, is_dataclass

from reliabit.composition import conf_folder, options_of
from reliabit.config import Config
from reliabit.errors import ReliabitError

_NO_OPTION = re.compile(r"Could not find '(?P<group>[\w/]+)/(?P<option>[^']+)'")
_NO_KEY = re.compile(r"Could not override '(?P<key>[\w.@/]+)'")
_BAD_VALUE = re.compile(r"Error merging override (?P<key>[\w.]+)=(?P<value>\S+)")
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
    if found := _NO_OPTION.search(text):
        options = ", ".join(sorted(path.stem for path in (conf_folder() / found["group"]).glob("*.yaml")))
        return f"{found['group']}={found['option']} is not an option of this group; choose one of: {options}"
    if found := _NO_KEY.search(text):
        return f"there is no key or group {found['key']!r}; {_neighbours(found['key'])}"
    if found := _BAD_VALUE.search(text):
        options = options_of(found["key"])
        allowed = f"choose one of: {options}" if options else _reason(text)
        return f"{found['key']}={found['value']} is not a value of this key; {allowed}"
    if found := _NO_INTERPOLATION.search(text):
        return f"{found['key']} is not set; give it a value on the command line"
    return text


def in_one_line(error: BaseException) -> str:
    r"""What a command that refuses its input prints: our own sentence, or Hydra's and OmegaConf's put into one.

    >>> in_one_line(ReliabitError("the file is missing"))
    'error: the file is missing\n'
    """
    return f"error: {error if isinstance(error, ReliabitError) else explain(error)}\n"


def _neighbours(key: str) -> str:
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


def _reason(text: str) -> str:
    return text.split("full_key")[0].split(" ", 4)[-1].strip()
