"""`quant=searched`, `task=search` and `quant=plan` on a tiny model, and what each refuses."""

import json
from dataclasses import replace

import pytest
import yaml
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.quant import Plan
from reliabit.quant.plan import build_plan
from reliabit.quant.settings import QuantConfig, ScalingConfig, SearchConfig
from reliabit.settings import check
from reliabit.tasks._cell import run_name
from reliabit.tasks._model import check_fits, load_quantized, plan_as_configured
from reliabit.tasks._plans import planned
from reliabit.tasks.footprint import footprint
from reliabit.tasks.preflight import preflight
from reliabit.tasks.search import search

SEARCHED = ("quant=searched", "quant.calibration.images=4", "quant.search.widths=[3,8]")


def config_of(folder, *overrides):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        places = [f"paths.data={folder}/data", f"paths.cache={folder}/cache", f"paths.output={folder}/out"]
        data = ["data.splits={train: 6, dev: 0, val: 0, cal: 0, test: 4}", "data.ask={dev: 0, val: 0, cal: 0, test: 4}"]
        plain = ["trainer.progress_bar=false", "confidence=maxprob"]
        return to_config(compose("config", overrides=[*places, *data, *plain, *overrides]))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("searched")


@pytest.fixture(scope="module")
def written(place):
    """The configuration of a search of the tiny model, and the folder that it wrote to."""
    config = config_of(place, "task=search", *SEARCHED, "quant.budget_bits=5")
    search(config)
    return config, place / "out"


def test_a_search_writes_a_plan_that_the_cell_and_the_file_both_give(written, monkeypatch):
    config, output = written
    assert {path.name for path in output.iterdir()} == {"plan.yaml", "plan.png", "reliabit_files.json"}
    told = yaml.safe_load((output / "plan.yaml").read_text())
    found = told["found"]
    assert found["bytes"] <= found["budget_bytes"]
    assert {*found["single"]} == {*found["around_the_first"]} >= {"vision", "lm_head", "language_mlp.1"}
    assert {*found["single"]["vision"]} == {"3", "8", "as_it_is"}
    assert all(set(cost) == {"kl", "nll"} for cost in found["single"]["vision"].values())
    monkeypatch.setattr("reliabit.tasks._searched.load_checkpoint", lambda *_: pytest.fail("measured again"))
    cell = load_quantized(config)
    assert cell.size.stored_bytes == found["bytes"]
    by_file = config_of(output.parent, "quant=plan", f"quant.plan={output}/plan.yaml")
    preflight(by_file)
    read = replace(by_file, quant=planned(by_file, folder=None))
    assert read.quant.plan is None, "its run holds the rules themselves"
    same = load_quantized(read)
    assert same.size == cell.size
    assert [one.scheme for one in same.report.modules] == [one.scheme for one in cell.report.modules]
    assert run_name(config) == "qwen2_vl_tiny·easy_vqa·searched·5b·s0"
    assert run_name(read) == "qwen2_vl_tiny·easy_vqa·searched-5b·s0"
    # The rules are of the kind that a configuration has.
    plain = config_of(output.parent, "quant=hybrid", f"quant.rules={json.dumps(told['rules'])}".replace('"', ""))
    assert build_plan(plain.quant) == build_plan(read.quant)


def test_another_budget_shares_the_costs(written, place, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in (place / "cache" / "calibration").rglob("*.json")}
    monkeypatch.setattr("reliabit.tasks._searched.load_checkpoint", lambda *_: pytest.fail("measured again"))
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        search(config_of(place, *SEARCHED, "quant.budget_bits=6", f"paths.output={place}/other"))
    after = {path: path.stat().st_mtime_ns for path in (place / "cache" / "calibration").rglob("*.json")}
    assert before == after, "nothing but what is around the new plan is missing"


def test_a_plan_of_another_model_is_refused_before_any_work(written):
    _, output = written
    other = config_of(output.parent, "model=idefics3_tiny", "quant=plan", f"quant.plan={output}/plan.yaml")
    with pytest.raises(
        ReliabitError, match=r"found for other weights \(qwen2_vl_tiny\) than those of idefics3_tiny; se"
    ):
        preflight(other)


def test_a_budget_below_the_smallest_plan_says_what_that_takes(place, monkeypatch):
    monkeypatch.setattr("reliabit.tasks._searched.load_checkpoint", lambda *_: pytest.fail("loaded in vain"))
    with pytest.raises(ReliabitError) as found:
        check_fits(config_of(place, *SEARCHED, "quant.budget_mib=0.1"))
    assert str(found.value).startswith(
        "quant.budget_mib=0.1 is below the smallest plan for qwen2_vl_tiny, which takes "
    )
    least = str(found.value).split("takes ")[1].split(";")[0]
    check_fits(config_of(place, *SEARCHED, f"quant.budget_mib={least}"))
    with pytest.raises(ReliabitError, match=r"quant\.budget_bits=1 is below .* narrower quant\.search\.widths than 3"):
        check_fits(config_of(place, *SEARCHED, "quant.budget_bits=1"))


def test_a_budget_above_the_largest_plan_says_so_and_takes_it(place, capsys):
    config = config_of(place, *SEARCHED, "quant.budget_mib=1000")
    model = load_quantized(config)
    assert model.report.names == ()
    assert model.searched.plan == Plan(())
    assert "quant.budget_mib=1000 is enough for qwen2_vl_tiny as it is, which takes " in capsys.readouterr().err
    with pytest.raises(ReliabitError, match="the budget leaves qwen2_vl_tiny as it is: there is nothing to quantize"):
        plan_as_configured(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "quant.budget_mib or quant.budget_bits says what a plan may take, and neither is set"),
        ({"budget_mib": 1, "budget_bits": 4}, "says what a plan may take, and both are set"),
        ({"budget_mib": 1, "bits": 4}, "and quant.rules, quant.plan or quant.bits give one; leave one of them out"),
        ({"budget_mib": 0}, "quant.budget_mib=0 must be above zero"),
        (
            {"budget_mib": 1, "search": SearchConfig(widths=[5])},
            "quant.search.widths=[5] must be some of 2, 3, 4, 8, e",
        ),
        (
            {"budget_mib": 1, "scaling": ScalingConfig(search="fast")},
            "weights as they are; set quant.scaling.search=no",
        ),
        (
            {"budget_mib": 1, "search": SearchConfig()},
            "quant.budget_mib and quant.budget_bits are for quant=searched; c",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes, message):
    settings = {"name": "searched", "method": "rtn", "bits": None, "group_size": 64, "search": SearchConfig(widths=[3])}
    with pytest.raises(ReliabitError) as found:
        check(QuantConfig(**{**settings, **changes}), key="quant")
    assert message in str(found.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["quant.budget_mib=1", "data.splits.train=0"],
            "quant.calibration.split=train is to be learned from, and data",
        ),
        (
            ["quant=hqq", "task=search"],
            "task=search finds a plan, and quant=hqq brings one; choose quant=searched with",
        ),
        (["quant=plan", "quant.plan=no.yaml"], "quant.plan=no.yaml cannot be read (No such file or directory); name"),
    ],
)
def test_a_mistake_is_named(overrides, message, tmp_path):
    with pytest.raises(ReliabitError) as found:
        preflight(config_of(tmp_path, "quant=searched", *overrides))
    assert message in str(found.value)


def test_a_plan_that_is_not_there_yet_has_no_footprint(tmp_path):
    with pytest.raises(
        ReliabitError, match="task=footprint takes a plan, and quant=searched finds one; run task=search"
    ):
        footprint(config_of(tmp_path, *SEARCHED, "quant.budget_mib=1"))


def test_a_method_that_reads_inputs_is_not_searched(tmp_path, monkeypatch):
    from reliabit.quant.methods.rtn import RoundToNearest

    monkeypatch.setattr(RoundToNearest, "needs_inputs", True, raising=False)
    with pytest.raises(
        ReliabitError, match=r"quant\.method=rtn reads what its layers are given, and a search measures"
    ):
        check_fits(config_of(tmp_path, *SEARCHED, "quant.method=rtn", "quant.budget_bits=5"))


def test_a_quantized_checkpoint_is_not_searched(tmp_path):
    from reliabit.tasks.quantize import quantize

    packed = tmp_path / "packed"
    quantize(config_of(tmp_path, "task=quantize", "quant=rtn", f"task.checkpoint={packed}"))
    with pytest.raises(ReliabitError, match=f"{packed} is quantized already; search a plan for the model"):
        check_fits(config_of(tmp_path, *SEARCHED, "quant.budget_bits=5", f"model.path={packed}"))
