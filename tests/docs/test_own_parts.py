"""The pages that add a part in a package of one's own, docs/own_quantizer.md and own_confidence.md: built, and used."""

import sys
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from added_packages import added, composed
from docs.blocks import blocks_of, commands_of
from launching import PROJECT
from reliabit.confidence.estimator import ESTIMATORS
from reliabit.quant.methods import QUANTIZERS

PARTS = {
    "own_quantizer.md": ("reliabit.quantizers", "clipped", "quant/clipped.yaml", QUANTIZERS),
    "own_confidence.md": ("reliabit.confidences", "temperature", "confidence/tempered.yaml", ESTIMATORS),
}
"""By page: the group of entry points, the name in it, the option that chooses it, and where it is found then."""


def blocks(page, language):
    return [block for block in blocks_of(PROJECT / "docs" / page) if block.language == language]


@pytest.fixture(params=PARTS)
def part(request, tmp_path):
    """A page, and the folder in which the package that it describes is installed."""
    group, name, option, components = PARTS[request.param]
    code, (choice,) = blocks(request.param, "python")[0].text, blocks(request.param, "yaml")
    with added(tmp_path, components, name=name, group=group, code=code, options={option: choice.text}):
        yield request.param, tmp_path


def test_the_package_names_the_module_as_the_page_does(part):
    page, _ = part
    group, name, option, _ = PARTS[page]
    (told,) = blocks(page, "toml")
    pyproject = tomllib.loads(told.text)
    assert pyproject["project"]["entry-points"] == {group: {name: name}}
    assert pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == [f"{name}.py"]
    (drawn,) = blocks(page, "text")
    assert f"{name}.py" in drawn.text
    assert f"conf/{option}" in drawn.text
    assert option.endswith(f"/{yaml.safe_load(blocks(page, 'yaml')[0].text)['name']}.yaml")


@pytest.mark.medium
def test_the_command_of_the_page_composes(part):
    page, folder = part
    lines = [words for block in blocks(page, "bash") for words in commands_of(block) if words[0] == "python"]
    assert lines
    for _, script, *words in lines:
        assert script == "src/run.py"
        given = [word for word in words if word != "-m" and "searchpath" not in word]
        (searched,) = [word for word in words if "searchpath" in word]
        assert searched == f"hydra.searchpath=[file://$PWD/my_{page.removesuffix('.md').partition('_')[2]}/conf]"
        for number in range(2):
            read = OverridesParser.create().parse_overrides(given)
            values = [[*one.sweep_string_iterator()][number] if one.is_sweep_override() else None for one in read]
            named = zip(given, read, values, strict=True)
            composed(folder, *(text if value is None else f"{one.key_or_group}={value}" for text, one, value in named))


@pytest.mark.parametrize("part", ["own_quantizer.md"], indirect=True)
def test_the_quantizer_of_the_page_quantizes(part, capsys):
    page, _ = part
    exec(compile(blocks(page, "python")[1].text, page, "exec"), {"__name__": "__main__"})
    (rounded, clipped) = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (rounded[0], clipped[0]) == ("rtn", "clipped")
    assert 0 < float(clipped[1]) < float(rounded[1]) < 0.2


@pytest.mark.parametrize("part", ["own_confidence.md"], indirect=True)
def test_the_confidence_of_the_page_learns_its_temperature(part):
    estimator = ESTIMATORS["temperature"]
    assert estimator.__class__.__module__ in sys.modules
    log_prob = np.log(np.full(100, 0.81))
    train = SimpleNamespace(column=lambda name, confidence: log_prob, accuracy=np.full(100, 0.9), image_keys=["a", "b"])
    (fitted,) = estimator.fit(train, train, SimpleNamespace(settings=estimator.settings(highest=3.0)))
    # .81 to the power of one half is .9.
    assert fitted.value == pytest.approx(2.0, abs=0.05)
    found = fitted(SimpleNamespace(column=lambda name, confidence: log_prob))
    assert found == pytest.approx(np.full(100, 0.9), abs=0.005)
