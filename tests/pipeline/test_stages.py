"""The stages of `dvc.yaml`: each composes as it will run, and names what its task uses, no more and no less."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from hydra import compose, initialize_config_dir

from reliabit.code_graph import module_digests
from reliabit.composition import register, to_config, to_mapping
from reliabit.digests import BY_VALUE
from reliabit.paths import conf_folder

PROJECT = Path(__file__).parents[2]
SOURCE = "src/reliabit/"
ORDER = ["prepare", "calibrate", "quantize", "answer", "select", "evaluate", "promote"]

TASKS_OF = {"baseline": ("answer", "select", "evaluate")}
"""Stages that do what several others do."""

PLUMBING = (
    *("__init__.py", "components.py", "disk_errors.py", "errors.py", "files.py", "paths.py", "tasks/__init__.py"),
    # How many threads compute decides how fast, and nothing else.
    *("process.py", "threads.py"),
)
"""What every task passes through, and none is decided by."""

UNUSED = {
    # They share a module with a function that the task calls.
    "prepare": ("inference/", "metrics/", "models/", "quant/"),
    "assemble": ("metrics/", "quant/"),
    "pretrain": ("inference/", "metrics/", "quant/", "tasks/_asked_questions.py"),
    # The names of splits and shifts are read from there, and `reliabit.metrics` imports all it has.
    "calibrate": ("inference/", "metrics/", "cache.py"),
    # What questions the statistics are of is part of their name.
    "quantize": (
        "data/",
        "inference/",
        "metrics/",
        "tasks/_asked_questions.py",
        "tasks/_calibration_rows.py",
        "cache.py",
    ),
    # Which estimators there are is asked, not what they do; where answers are kept does not change them.
    # What is taken out of a run's name as a secret does not change them either.
    "answer": (
        "confidence/",
        "metrics/",
        "tracking/__init__.py",
        "tracking/redaction.py",
        "cache.py",
        # The pipeline's models answer in the process itself.
        "engines/",
        "tasks/_served.py",
    ),
    "select": (
        "data/",
        "evaluation/",
        "inference/",
        "metrics/",
        "models/",
        "quant/",
        "tasks/_asked_questions.py",
        "tasks/_sliced_columns.py",
    ),
    # Predictions come from a file, not from a run.
    "evaluate": ("confidence/", "data/", "inference/", "tracking/"),
    # Predictions come from files; how runs are recorded of them decides nothing, and nothing is live in the pipeline.
    "promote": ("serving/", "confidence/", "data/", "inference/", "tracking/"),
}
"""What a task imports, directly or not, that decides nothing of what it writes."""

NOT_THROUGH = (
    *BY_VALUE,
    # Only `selector_transfer` answers questions while it selects, and the pipeline does not run it.
    "reliabit.tasks._unquantized",
    # Every import registers the checkpoint format, for whoever loads a checkpoint; those name the room anyway.
    "reliabit.quant.hook",
)
"""What is not looked into."""


@pytest.fixture(scope="module")
def stages():
    with Repo(str(PROJECT)) as repo:
        return {stage.name: stage for stage in repo.index.stages}


@pytest.fixture(scope="module")
def pipeline():
    return yaml.safe_load((PROJECT / "params.yaml").read_text())["pipeline"]


def task_of(name: str) -> str:
    return name.partition("@")[0]


def runs_of(stage) -> list[list[str]]:
    """The overrides of each run of `src/run.py` that a stage makes."""
    commands = stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]
    words = [shlex.split(command) for command in commands]
    found = [overrides for program, *overrides in (rest for python, *rest in words if python == "python")]
    assert found
    assert all(program == "src/run.py" for python, program, *_ in words if python == "python")
    return found


def tasks_of(name: str) -> tuple[str, ...]:
    return TASKS_OF.get(task_of(name), (task_of(name),))


def dependencies_of(stage) -> set[str]:
    return {dependency.def_path for dependency in stage.deps if not hasattr(dependency, "params")}


def test_there_is_a_stage_for_every_cell_that_params_name(stages, pipeline):
    models, data, quantizers, bits = (pipeline[key] for key in ("models", "data", "quantizers", "bits"))
    widths = [f"{model}-{quantizer}-{width}" for model in models for quantizer in quantizers for width in bits]
    cells = [f"{width}-{name}" for width in widths for name in data]
    expected = {
        "assemble",
        *(f"pretrain@{model}" for model in models),
        *(f"prepare@{name}" for name in data),
        *(f"calibrate@{model}-{quantizer}" for model in models for quantizer in quantizers),
        *(f"quantize@{width}" for width in widths),
        *(f"{task}@{cell}" for task in ("answer", "select", "evaluate") for cell in cells),
        *(f"{task}@{model}-{name}" for task in ("baseline", "promote") for model in models for name in data),
    }
    assert set(stages) == expected
    assert pipeline["calibration"] in data


def test_every_stage_composes_as_it_will_run(stages):
    register()
    for name, stage in stages.items():
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            configs = [to_config(compose("config", overrides=overrides)) for overrides in runs_of(stage)]
        assert tuple(config.task.name for config in configs) == tasks_of(name)
        assert not any("selector_transfer" in config.confidence.estimators for config in configs)
        if task_of(name) == "quantize":
            [config] = configs
            assert f"{config.model.name}-{config.quant.name}-{config.quant.bits}" == name.partition("@")[2]


def test_params_hold_names_of_options_and_no_value_of_conf(pipeline):
    groups = {"models": "model", "data": "data", "quantizers": "quant"}
    assert (conf_folder() / "registry" / f"{pipeline['policy']}.yaml").is_file()
    for key, group in groups.items():
        assert all((conf_folder() / group / f"{option}.yaml").is_file() for option in pipeline[key]), key
    for key in ("confidence", "trainer"):
        assert (conf_folder() / key / f"{pipeline[key]}.yaml").is_file()
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        assert "pipeline" not in to_mapping(to_config(compose("config")))


@pytest.mark.parametrize("kind", [*ORDER, "assemble", "pretrain", "baseline"])
def test_a_stage_depends_on_the_code_that_its_task_uses(stages, kind):
    tasks = TASKS_OF.get(kind, (kind,))
    reached = set(module_digests([f"reliabit.tasks.{task}" for task in tasks], by_value=NOT_THROUGH))
    unused = tuple(part for task in tasks for part in UNUSED[task])
    for name, stage in stages.items():
        if task_of(name) != kind:
            continue
        named = {path.removeprefix(SOURCE) for path in dependencies_of(stage) if path.startswith(SOURCE)}
        uncovered = {path for path in reached if not any(covers(dependency, path) for dependency in named)}
        assert not {path for path in uncovered if not path.startswith((*PLUMBING, *unused))}, name
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
            above = {"/".join(Path(out.def_path).parts[:depth]) for depth in (1, 2)}
            assert bool(above & ignored) == out.use_cache, (name, out.def_path)


def test_the_reference_models_are_not_trained_unless_asked(stages, pipeline):
    frozen = {name for name, stage in stages.items() if stage.frozen}
    assert frozen == {f"pretrain@{model}" for model in pipeline["models"]}


def test_git_has_the_metrics_of_every_cell_and_the_curves_of_all(stages):
    """So a fresh clone shows them and what a commit changed, without a remote."""
    for name, stage in stages.items():
        shown = [out for out in stage.outs if out.metric or out.plot]
        cell = name.partition("@")[2].replace("-easy", "bit-easy")
        expected = {
            "baseline": "reports/qwen2_vl_tiny-none-easy_vqa.json",
            "evaluate": f"reports/{cell}.json",
            "promote": "reports/qwen2_vl_tiny-easy_vqa.csv",
        }.get(task_of(name))
        assert [out.def_path for out in shown] == ([expected] if expected else []), name
        assert not any(out.use_cache for out in shown), name


def test_the_chart_of_the_curves_is_there(stages):
    (plot,) = [out.plot for out in stages["promote@qwen2_vl_tiny-easy_vqa"].outs if out.plot]
    template = (PROJECT / ".dvc" / "plots" / f"{plot['template']}.json").read_text()
    assert {key: plot[key] for key in ("x", "y")} == {"x": "coverage", "y": "risk"}
    assert {"<DVC_METRIC_DATA>", "<DVC_METRIC_TITLE>", "<DVC_METRIC_X_LABEL>", "<DVC_METRIC_Y_LABEL>"} <= set(
        re.findall("<DVC_METRIC_[A-Z_]+>", template)
    )
    # DVC hands on what a CSV file holds as text, and "100" comes before "20" then.
    assert json.loads(template)["data"]["format"]["parse"] == {"coverage": "number", "risk": "number"}
