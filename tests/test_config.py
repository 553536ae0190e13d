import itertools
import re
import subprocess
import sys

import pytest
import yaml
from hydra import compose, initialize_config_dir

from launching import PROJECT, run_job
from reliabit.composition import register, to_config, to_mapping
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder
from reliabit.quant.settings import BITS


@pytest.fixture
def composed():
    register()

    def build(*overrides):
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return to_config(compose("config", overrides=list(overrides)))

    return build


def options(group):
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


GROUPS = ("model", "quant", "data", "confidence", "trainer", "tracking", "sweep", "registry", "experiment")


@pytest.mark.medium
@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_every_group_composes(composed, group):
    needed = {"plan": ["quant.plan=plan.yaml"], "searched": ["quant.budget_bits=3.5"]}
    for option in options(group):
        composed(f"{group}={option}", *(needed.get(option, []) if group == "quant" else []))


@pytest.mark.parametrize("task", options("task"))
def test_every_task_composes(composed, task):
    assert composed(f"task={task}").task.name == task


@pytest.mark.parametrize("bits", BITS)
def test_every_width_composes(composed, bits):
    assert composed(f"quant.bits={bits}").quant.bits == bits


def test_the_baseline_has_no_width(composed):
    assert composed("quant=none").quant.bits is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("quant.bits=5", "quant.bits=5 is not a value of this key; choose one of: null, 2, 3, 4, 8"),
        ("quant.bits=null", "quant.bits is null, and a rule of quant.name=hqq brings no bits of its own"),
        ("quant.group_size=48", "quant.group_size=48 .* choose one of: null, 16, 32, 64, 128, 256"),
        ("quant.rules=[]", "quant.rules is empty"),
        ("quant.rules=[3]", "quant.rules has 3, and a rule is a mapping"),
        ("confidence.estimators=[maxprob,selektor]", "confidence.estimators=selektor .* choose one of: .*, maxprob, "),
        ("confidence.estimators=[maxprob,selector,selector]", "must name at least one value, and each once"),
        ("confidence.estimators=[selector]", "confidence.estimators lacks maxprob"),
        ("confidence.selector.inputs=[image,foo]", "confidence.selector.inputs=foo .* choose one of: image, "),
        ("confidence.selector.seeds=[]", "confidence.selector.seeds is empty"),
        ("confidence.p_true.template='{question}'", "confidence.p_true.template='{question}' lacks {answer}"),
        ("model.template='{question} {x}'", "model.template=.* cannot be filled in"),
        ("data.shifts=[fog_1]", "'fog' is not a shift|'fog_1' is not a shift"),
        ("data.shifts=[misleading,misleading]", "names a shift twice"),
        ("evaluation.mixtures={visual: [gausian_blur_3]}", "'gausian_blur' is not a shift"),
        ("+data@other_data.none=scenes", "other_data.none has the name of something else"),
        ("evaluation.reported=val", "evaluation.reported=val is not a value of this key; choose one of: dev, test"),
        ("trainer.batch_size=0", "trainer.batch_size=0 must be above zero"),
        ("model.template=hello", "lacks {question}"),
        ("data.splits.dev=-1", "data.splits.dev=-1 is negative"),
        ("+data.ask.exam=3", "data.ask.exam=3 asks a split that data.splits leaves empty"),
        ("data.ask.test=-3", "data.ask.test=-3 is negative"),
        ("evaluation.delta=1", "evaluation.delta=1.0 must lie between 0 and 1"),
    ],
)
def test_wrong_values_are_named_with_their_choices(composed, override, message):
    with pytest.raises(ReliabitError, match=message):
        composed(override)


def test_the_library_solves_its_own_method_only(composed):
    with pytest.raises(ReliabitError, match="solver=library runs quant.method=hqq alone"):
        composed("quant=rtn", "quant.solver=library")


def test_the_record_of_a_configuration_is_plain(composed):
    record = to_mapping(composed("quant.bits=3"))
    assert record["quant"]["bits"] == 3
    assert type(record["quant"]) is dict


@pytest.mark.medium
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["quant.bits=5"], "error: quant.bits=5 is not a value of this key; choose one of: null, 2, 3, 4, 8"),
        (["quant.bits=many"], "error: quant.bits=many is not a value of this key; choose one of: null, 2, 3, 4, 8"),
        (["-m", "quant.bits=2,5"], "error: quant.bits=5 is not a value of this key; choose one of: null, 2, 3, 4, 8"),
        (
            ["quant=squeeze"],
            "error: quant=squeeze is not an option of this group; choose one of: awq, gptaq, gptq, gptq_modality, ",
        ),
        (["quantizer=hqq"], "error: there is no key or group 'quantizer'; the configuration has: confidence, data, "),
        (["quant.bitz=3"], "error: there is no key or group 'quant.bitz'; quant has: bits, budget_bits, budget_mib, "),
        (["trainer.batch_size=few"], "error: trainer.batch_size=few is not a value of this key; "),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_line(arguments, line, tmp_path):
    folders = [f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep"]
    store = [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"tracking.artifacts={tmp_path}/artifacts"]
    done = run_job(*arguments, *folders, *store)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(line), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.medium
def test_help_names_the_groups():
    done = run_job("--help")
    assert done.returncode == 0
    for group in ("task", "model", "quant", "data", "trainer", "tracking"):
        assert re.search(rf"^{group}: ", done.stdout, re.MULTILINE), done.stdout[:500]


@pytest.mark.medium
def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['run.py', '--help']; sys.path.insert(0, 'src')\n"
        "from reliabit.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'transformers', 'mlflow', 'lightning', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.medium
def test_every_cell_of_the_versioned_pipeline_composes(composed):
    pipeline = yaml.safe_load((PROJECT / "params.yaml").read_text())["pipeline"]
    for model, data, quantizer, bits in itertools.product(
        *(pipeline[k] for k in ("models", "data", "quantizers", "bits"))
    ):
        config = composed(f"model={model}", f"data={data}", f"quant={quantizer}", f"quant.bits={bits}", "hydra=stage")
        assert (config.model.name, config.data.name, config.quant.bits) == (model, data, bits)


def test_params_hold_no_value_that_conf_owns(composed):
    owned = set(to_mapping(composed()))
    assert not owned & set(yaml.safe_load((PROJECT / "params.yaml").read_text()))
