"""Code that runs what it reads is found before it is merged: by ruff's rules, and by arguments that ask for it."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNSAFE = {"trust_remote_code": True, "allow_pickle": True, "weights_only": False, "shell": True}
"""Arguments by which libraries run code that comes with what they read."""

VIOLATIONS = {
    "import pickle": "TID251",
    "from pickle import loads": "TID251",
    "import torch\ntorch.load('a.pt')": "TID251",
    "from torch import load": "TID251",
    "import yaml\nyaml.load('a', Loader=yaml.Loader)": "TID251",
    "from yaml import unsafe_load": "TID251",
    "import joblib\njoblib.load('a')": "TID251",
    "import marshal": "TID251",
    "eval('1')": "S307",
    "exec('1')": "S102",
    "import subprocess\nsubprocess.run('ls', shell=True)": "S602",
    "import os\nos.system('ls ' + input())": "S605",
}


def found_by_ruff(code: str, name: str) -> set[str]:
    options = ("--no-cache", "--output-format=json", "--stdin-filename", name, "-")
    command = [sys.executable, "-m", "ruff", "check", *options]
    done = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return {one["code"] for one in json.loads(done.stdout)}


@pytest.mark.parametrize("folder", ["src/reliabit", "bench"])
def test_ruff_finds_code_that_runs_what_it_reads(folder):
    each = {code: found_by_ruff(f"{code}\n", f"{folder}/new.py") for code in VIOLATIONS}
    assert {code: rule for code, rule in VIOLATIONS.items() if rule not in each[code]} == {}


def unsafe_arguments(code: str) -> set[str]:
    if not any(name in code for name in UNSAFE):
        return set()
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    given = [word for call in calls for word in call.keywords if word.arg in UNSAFE]
    return {
        f"{word.arg}={ast.unparse(word.value)}"
        for word in given
        if not (isinstance(word.value, ast.Constant) and word.value.value is not UNSAFE[word.arg])
    }


def test_no_argument_makes_a_library_run_what_it_reads():
    files = [path for folder in ("src", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 200
    unsafe = {path.relative_to(ROOT): unsafe_arguments(path.read_text(encoding="utf-8")) for path in files}
    assert {path: found for path, found in unsafe.items() if found} == {}


@pytest.mark.parametrize(
    "code",
    [
        "f(trust_remote_code=True)",
        "f(trust_remote_code=asked)",
        "load(p, allow_pickle=True)",
        "f(weights_only=False)",
    ],
)
def test_such_an_argument_is_found_even_where_it_is_a_variable(code):
    assert unsafe_arguments(code)
    assert not unsafe_arguments("f(trust_remote_code=False, allow_pickle=False, weights_only=True, shell=False)")


def test_the_rules_are_not_silenced_where_they_count():
    marks = ("TID251", "S301", "S302", "S307", "S102", "S506", "S602", "S604", "S605", "S614")
    silenced = {
        f"{path.relative_to(ROOT)}: {mark}"
        for folder in ("src", "bench")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "noqa" in line
        for mark in marks
        if mark in line.partition("noqa")[2]
    }
    assert silenced == set()
