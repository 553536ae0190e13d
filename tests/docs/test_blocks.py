"""Every block of every page is run, or checked as far as that goes without heavy work, or named below with the reason.

- Python is run, page by page and in order.
- `python src/run.py ...` and `reliabit run ...` are composed and checked, each value of a sweep is looked up;
  `reliabit ...` is parsed, and its overrides are composed; `make ...`, `dvc ...` and scripts are looked up; all of a
  block for a shell is read by bash.
- TOML, YAML and JSON are read; of the pages that build a package the package is built and used (`test_own_parts.py`).
- Some pages have a test of their own that runs what they show, heavy work included: `OWN_TESTS`.
"""

import ast
import json
import re
import subprocess
import tomllib
from functools import cache
from importlib import import_module

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from docs.blocks import PAGES, Block, blocks_of, commands_of
from launching import PROJECT
from reliabit.cli import parser
from reliabit.composition import options_of, register, to_config
from reliabit.config_errors import check_arguments
from reliabit.models.families import FAMILIES
from reliabit.paths import conf_folder

OWN_TESTS = {
    ("docs/full_size.md", "bash"): "tests/functional/test_full_size_page.py",
    ("docs/own_confidence.md", "bash"): "tests/docs/test_own_parts.py",
    ("docs/own_confidence.md", "python"): "tests/docs/test_own_parts.py",
    ("docs/own_confidence.md", "yaml"): "tests/docs/test_own_parts.py",
    ("docs/own_data.md", "bash"): "tests/data/test_own_data_page.py",
    ("docs/own_data.md", "python"): "tests/data/test_own_data_page.py",
    ("docs/own_quantizer.md", "bash"): "tests/docs/test_own_parts.py",
    ("docs/own_quantizer.md", "python"): "tests/docs/test_own_parts.py",
    ("docs/own_quantizer.md", "yaml"): "tests/docs/test_own_parts.py",
    ("docs/python.md", "python"): "tests/test_python_page.py",
}
"""Pages and languages whose blocks are run whole elsewhere."""

PLAIN = {".", "cat", "cd", "cp", "curl", "export", "mkdir", "printf"}
"""What a shell does by itself, or with a service whose answers `tests/serving` looks at."""

OUTSIDE = {
    "docker": "needs a daemon; tests/serving/test_container.py looks at the Dockerfile",
    "git": "needs the address of a repository",
    "llama-server": "is llama.cpp's; tests/engines/live starts it where it is installed",
    "mlflow": "is a server that stays; tests/registry/test_registry_server.py and tests/serving start their own",
    "pip": "needs a package index; tests/test_packaging.py builds and installs the package",
    "pre-commit": "is installed by whoever wants it",
    "vllm": "is installed in an environment of its own; tests/engines/live starts it there",
}
"""Programs that are not called, and why."""

SHOWN = {
    ("README.md", "qwen2_vl_tiny"): "what `make quick` prints; tests/functional/test_quick.py looks at it",
    ("docs/confidence.md", "information"): "a formula",
    ("docs/exports.md", "note"): "what a command says",
    ("docs/own_predictions.md", "Headline,"): "what a command prints; tests/test_python_page.py compares it",
    ("docs/pipeline.md", "prepare@data"): "a drawing of the stages",
    ("docs/pipeline.md", "$"): "commands of DVC with what they print",
    ("docs/quantization.md", "error:"): "what a command says",
    ("docs/registry.md", "reliabit"): "a command with what it prints; tests/registry/test_history.py looks at it",
    ("docs/security.md", "[mlflow]"): "a file, and the server that reads it",
    ("docs/ui.md", "run"): "links that a run ends with",
    ("docs/use.md", "conf/"): "a drawing of the folders",
}
"""Indented blocks that nobody copies, by page and first word."""

GIVEN = {
    "README.md": "from transformers import Qwen2Config, Qwen2ForCausalLM\n"
    "sizes = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=64)\n"
    "model = Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **sizes))\n"
    "confidence, correct = [0.9, 0.8, 0.6], [1, 1, 0]\n",
    "docs/metrics.md": "from reliabit.metrics.metric import Metric\nregister = median_risk_of = lambda found: found\n",
}
"""What a block of Python says is there already."""


@cache
def all_blocks() -> tuple[Block, ...]:
    return tuple(block for page in PAGES for block in blocks_of(page))


def kind_of(block: Block) -> str:
    """What a block is, of an indented one told by its first word."""
    if block.language:
        return block.language
    if any((block.page, block.first) == shown and _is_shown(block) for shown in SHOWN):
        return "shown"
    if block.first in {*PLAIN, *OUTSIDE, *CHECKED} or re.match(r"\w+=", block.first):
        return "bash"
    return "python" if _parses(block.text) else "unknown"


def _is_shown(block: Block) -> bool:
    """Of blocks that begin as commands do, those with more than commands."""
    return block.first not in CHECKED or any(words[0] not in CHECKED for words in commands_of(block))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


@cache
def check_run(*words: str) -> None:
    """Compose what `src/run.py` would; of a sweep the first of all values, the others are looked up."""
    given = [word for word in words if word not in ("-m", "--help")]
    check_arguments(given)
    read = OverridesParser.create().parse_overrides(given)
    lines = []
    for text, one in zip(given, read, strict=True):
        first, *others = one.sweep_string_iterator() if one.is_sweep_override() else [None]
        lines.append(text if first is None else f"{one.get_key_element()}={first}")
        if others:
            folder, key = conf_folder() / one.key_or_group, one.key_or_group
            missed = [value for value in others if not (folder / f"{value}.yaml").is_file()]
            assert folder.is_dir() or not options_of(key) or set(others) <= {*options_of(key).split(", ")}
            assert not folder.is_dir() or missed == []
    to_config(compose("config", overrides=lines))


def check_reliabit(words: list[str]) -> None:
    """Parse a command of ours, and compose its overrides."""
    if words[0] == "run":
        check_run(*words[1:])
        return
    options = parser().parse_args(words)
    if overrides := getattr(options, "overrides", None):
        check_run(*overrides)


def check_python(words: list[str]) -> None:
    """Compose a run; of any other script see that it is there."""
    if words[0] == "src/run.py":
        check_run(*words[1:])
    elif words[0] not in ("-m", "-c"):
        assert (PROJECT / words[0]).is_file()


def check_make(words: list[str]) -> None:
    """See that the Makefile has the targets."""
    assert {word for word in words if "=" not in word} <= targets()


@cache
def targets() -> frozenset[str]:
    listed = subprocess.run(["make"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"^  make ([\w-]+) ", listed, flags=re.MULTILINE))


def check_dvc(words: list[str]) -> None:
    """Parse a command of DVC; stages that it names are there."""
    found = import_module("dvc.cli").parse_args(words)
    if words[0] == "repro":
        stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
        assert {target.partition("@")[0] for target in found.targets or []} <= stages.keys()


CHECKED = {"dvc": check_dvc, "make": check_make, "python": check_python, "reliabit": check_reliabit}
"""What looks at the words after each program."""


def of_kind(kind: str) -> list[Block]:
    """The blocks of a kind that no other test runs."""
    return [one for one in all_blocks() if kind_of(one) == kind and (one.page, kind) not in OWN_TESTS]


def pages_of(kind: str) -> list[str]:
    return sorted({block.page for block in of_kind(kind)})


def test_every_block_is_of_a_kind_that_is_looked_at():
    assert len(all_blocks()) > 100
    kinds = {"bash", "json", "python", "shown", "text", "toml", "yaml"}
    assert [f"{one.page}:{one.line}: {one.first}" for one in all_blocks() if kind_of(one) not in kinds] == []


def test_whatever_is_not_looked_at_is_still_on_a_page():
    shown = {(one.page, one.first) for one in all_blocks() if kind_of(one) == "shown"}
    assert shown == SHOWN.keys()
    called = {words[0] for block in of_kind("bash") for words in commands_of(block)}
    assert called - CHECKED.keys() - PLAIN == OUTSIDE.keys()
    languages = {(one.page, kind_of(one)) for one in all_blocks()}
    assert languages >= OWN_TESTS.keys()


@pytest.mark.parametrize(("page", "test"), [(page, test) for (page, _), test in OWN_TESTS.items()])
def test_a_test_that_runs_a_page_names_it(page, test):
    assert page.removeprefix("docs/") in (PROJECT / test).read_text(encoding="utf-8")


def test_what_is_shown_as_text_calls_nothing():
    lines = [line for block in of_kind("text") for line in block.text.splitlines()]
    assert [line for line in lines if line.split(maxsplit=1)[:1] and line.split()[0] in {*CHECKED, *OUTSIDE}] == []


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that has what the blocks read."""
    for name in ("docs", "models"):
        (tmp_path / name).symlink_to(PROJECT / name)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "qwen2_vl_tiny-hqq-4bit").symlink_to(PROJECT / "models" / "qwen2_vl_tiny")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    FAMILIES._registered.pop("smolvlm", None)


@pytest.mark.medium
@pytest.mark.parametrize("page", pages_of("python"))
def test_python_runs(page, place):
    names = {"__name__": "__main__"}
    exec(GIVEN.get(page, ""), names)
    for block in of_kind("python"):
        if block.page == page:
            exec(compile(block.text, f"{block.page}:{block.line}", "exec"), names)


def test_bash_reads_every_block_for_a_shell():
    blocks = [one for one in all_blocks() if kind_of(one) == "bash"]
    # As functions of one script, which is read and not run.
    script = "".join(f"block_{number}() {{\n{one.filled_in}\n}}\n" for number, one in enumerate(blocks))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def conf():
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield


@pytest.mark.medium
@pytest.mark.parametrize("page", pages_of("bash"))
def test_every_command_is_one(page, conf):
    for block in of_kind("bash"):
        for program, *words in commands_of(block) if block.page == page else []:
            if program in CHECKED:
                CHECKED[program](words)


@pytest.mark.parametrize(("kind", "read"), [("toml", tomllib.loads), ("yaml", yaml.safe_load), ("json", json.loads)])
def test_what_is_written_to_files_can_be_read(kind, read):
    blocks = [one for one in all_blocks() if one.language == kind]
    assert blocks
    assert all(read(block.text) for block in blocks)
