"""What messages advise to set exists: every `key=` in them is a key of the configuration."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import reliabit
from reliabit.composition import register
from reliabit.paths import conf_folder

pytestmark = pytest.mark.medium

PACKAGE = Path(reliabit.__file__).parent

KEY = re.compile(r"(?<![\w./{}@+-])([a-z_]+(?:\.[a-z_0-9]+)*)=(?!=)")
"""A key as it is typed on a command line."""

SENTENCE = re.compile(r"^[^<]*[a-z]+ [a-z]+ [a-z]+")
"""What tells messages from markup, arguments of other programs and representations of objects."""

OF_REQUESTS = {"risk"}
"""What a request to the service names, and no command line."""

OF_CALLS = {("quant/convert.py", "bits")}
"""What is given to a function in Python, and on no command line."""

GROUPS = ("confidence", "data", "model", "quant", "task", "trainer")


def written_texts(path: Path) -> list[str]:
    """The texts of a module that may reach a user: no docstrings, and braces where values are filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def advised() -> list[tuple[str, str]]:
    return sorted(
        {
            (path.relative_to(PACKAGE).as_posix(), key)
            for path in PACKAGE.rglob("*.py")
            for text in written_texts(path)
            if SENTENCE.search(text)
            for key in KEY.findall(text)
        }
    )


def dotted(content: Any, prefix: str = "") -> set[str]:
    found: set[str] = set()
    if isinstance(content, dict):
        for key, value in content.items():
            found |= {f"{prefix}{key}", *dotted(value, f"{prefix}{key}.")}
    return found


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """The keys of the configuration, with those of every choice of every group."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        whole = compose("config", return_hydra_config=True)
        choices = [
            f"{group}={path.stem}" for group in GROUPS for path in sorted((conf_folder() / group).glob("*.yaml"))
        ]
        composed = [whole, *(compose("config", overrides=[choice]) for choice in choices)]
    return set().union(*(dotted(OmegaConf.to_container(one, resolve=False)) for one in composed))


@pytest.mark.medium
def test_what_messages_advise_to_set_exists(keys):
    found = advised()
    assert len(found) > 50
    unknown = [
        f"{module}: {key}=" for module, key in found if key not in keys | OF_REQUESTS and (module, key) not in OF_CALLS
    ]
    assert unknown == []


def test_the_check_knows_what_is_no_key(keys):
    assert "confidence.features.dtype" in keys
    assert "features.dtype" not in keys
    assert KEY.findall("set features.dtype=float32, a==b, --port=1, {}.x=1 or model.dtype=float32") == [
        "features.dtype",
        "model.dtype",
    ]
