"""The stages of `dvc.yaml`: each composes as it will run, and names what its task uses, no more and no less."""

import shlex
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from hydra import compose, initialize_config_dir

from pipeline.imports import reached_from
from reliabit.composition import conf_folder, register, to_config, to_mapping

PROJECT = Path(__file__).parents[2]
SOURCE = "src/reliabit/"
ORDER = ["prepare", "calibrate", "quantize", "answer", "select", "evaluate"]

PLUMBING = ("__init__.py", "errors.py", "files.py", "config.py", "composition.py", "tasks/__init__.py")
"""What every task passes through, and none is decided by."""

UNUSED = {
    # They share a module with a function that the task calls.
    "prepare": ("inference/", "metrics/"),
    "pretrain": ("inference/", "metrics/", "quant/", "tasks/questions.py"),
    # The names of splits and shifts are read from there, and `reliabit.metrics` imports all it has.
    "calibrate": ("inference/predictions.py", "inference/__init__.py", "metrics/"),
    # What questions the statistics are of is part of their name.
    "quantize": ("data/", "inference/", "metrics/", "tasks/questions.py"),
    # Which estimators there are is asked, not what they do; where answers are kept does not change them.
    "answer": ("confidence/", "metrics/", "tasks/answer_identity.py", "digests.py"),
    "select": ("data/", "evaluation/", "inference/", "metrics/", "tasks/questions.py"),
    # Predictions come from a file, not from a run.
    "evaluate": ("confidence/", "data/", "inference/", "tracking/"),
}
"""What a task imports, directly or not, that decides nothing of what it writes."""

NOT_THROUGH = frozenset({"reliabit.tasks.unquantized"})
"""Only `selector_transfer` answers questions while it selects, and the pipeline does not run it."""


@pytest.fixture(scope="module")
def stages():
    with Repo(str(PROJECT)) as repo:
        return {stage.name: stage for stage in repo.index.stages}


@pytest.fixture(scope="module")
def pipeline():
    return yaml.safe_load((PROJECT / "params.yaml").read_text())["pipeline"]


def task_of(name: str) -> str:
    return name.partition("@")[0]


def overrides_of(stage) -> list[str]:
    command = stage.cmd[0] if isinstance(stage.cmd, list) else stage.cmd
    python, program, *overrides = shlex.split(command)
    assert (python, program) == ("python", "src/run.py")
    return overrides


def dependencies_of(stage) -> set[str]:
    return {dependency.def_path for dependency in stage.deps if not hasattr(dependency, "params")}


def test_there_is_a_stage_for_every_cell_that_params_name(stages, pipeline):
    models, data, quantizers, bits = (pipeline[key] for key in ("models", "data", "quantizers", "bits"))
    widths = [f"{model}-{quantizer}-{width}" for model in models for quantizer in quantizers for width in bits]
    cells = [f"{width}-{name}" for width in widths for name in data]
    expected = {
        *(f"pretrain@{model}" for model in models),
        *(f"prepare@{name}" for name in data),
        *(f"calibrate@{model}-{quantizer}" for model in models for quantizer in quantizers),
        *(f"quantize@{width}" for width in widths),
        *(f"{task}@{cell}" for task in ("answer", "select", "evaluate") for cell in cells),
    }
    assert set(stages) == expected
    assert pipeline["calibration"] in data


def test_every_stage_composes_as_it_will_run(stages):
    register()
    for name, stage in stages.items():
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = to_config(compose("config", overrides=overrides_of(stage)))
        assert config.task.name == task_of(name)
        assert "selector_transfer" not in config.confidence.estimators
        if task_of(name) == "quantize":
            assert f"{config.model.name}-{config.quant.name}-{config.quant.bits}" == name.partition("@")[2]


def test_params_hold_names_of_options_and_no_value_of_conf(pipeline):
    groups = {"models": "model", "data": "data", "quantizers": "quant"}
    for key, group in groups.items():
        assert all((conf_folder() / group / f"{option}.yaml").is_file() for option in pipeline[key]), key
    for key in ("confidence", "trainer"):
        assert (conf_folder() / key / f"{pipeline[key]}.yaml").is_file()
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        assert "pipeline" not in to_mapping(to_config(compose("config")))


@pytest.mark.parametrize("task", [*ORDER, "pretrain"])
def test_a_stage_depends_on_the_code_that_its_task_uses(stages, task):
    reached = reached_from(f"reliabit.tasks.{task}", not_through=NOT_THROUGH)
    for name, stage in stages.items():
        if task_of(name) != task:
            continue
        named = {path.removeprefix(SOURCE) for path in dependencies_of(stage) if path.startswith(SOURCE)}
        uncovered = {path for path in reached if not any(covers(dependency, path) for dependency in named)}
        assert not {path for path in uncovered if not path.startswith((*PLUMBING, *UNUSED[task]))}, name
        assert not {dependency for dependency in named if not any(covers(dependency, path) for path in reached)}, name


def covers(dependency: str, path: str) -> bool:
    return path == dependency or path.startswith(f"{dependency}/")


def test_every_file_and_package_that_a_stage_depends_on_is_there(stages):
    for name, stage in stages.items():
        for path in dependencies_of(stage):
            if path.startswith(("conf/", "src/", "models/")):
                assert (PROJECT / path).exists(), (name, path)


def test_compiled_code_and_locks_are_no_part_of_a_stage():
    ignored = (PROJECT / ".dvcignore").read_text().splitlines()
    assert {"__pycache__/", ".*.lock"} <= set(ignored)


def test_a_stage_writes_where_git_does_not_look(stages):
    ignored = {line.strip("/") for line in (PROJECT / ".gitignore").read_text().splitlines()}
    for name, stage in stages.items():
        for out in stage.outs:
            assert (out.def_path.split("/")[0] in ignored) == out.use_cache, (name, out.def_path)


def test_the_reference_models_are_not_trained_unless_asked(stages, pipeline):
    frozen = {name for name, stage in stages.items() if stage.frozen}
    assert frozen == {f"pretrain@{model}" for model in pipeline["models"]}


def test_every_report_has_its_metrics_and_its_plot(stages):
    for name, stage in stages.items():
        shown = [out.def_path.rsplit("/", 1)[-1] for out in stage.outs if out.metric or out.plot]
        assert shown == (["metrics.json", "risk_coverage.csv"] if task_of(name) == "evaluate" else []), name
