"""What a user types: paths that Hydra's grammar reads otherwise, options that are not there, and Ctrl-C."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from launching import PROJECT, environment, run_python
from reliabit.composition import register, to_config
from reliabit.config_errors import check_arguments, check_plain_arguments, in_one_line, typed
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder

pytestmark = pytest.mark.medium


def sentence(*overrides: str) -> str:
    register()
    with (
        pytest.raises((HydraException, OmegaConfBaseException, ReliabitError)) as found,
        initialize_config_dir(str(conf_folder()), version_base="1.3"),
    ):
        to_config(compose("config", overrides=list(overrides)))
    return in_one_line(found.value)


@given(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"])))
@example("a=b")
@example("val/{image_id}.jpg")
@example('a "quoted" \\"path\\" \\')
@example("it's, [one] (of) many")
@example("")
def test_what_is_shown_to_be_typed_is_what_hydra_reads(value):
    if value.startswith("~/") or "${" in value:
        # One is the user's home, the other Hydra's own, within quotes as well.
        return
    [argument] = shlex.split(typed(f"task.predictions={value}"))
    [parsed] = OverridesParser.create().parse_overrides([argument])
    assert parsed.value() == value


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("task.predictions=/a/b=c/x.parquet", """'task.predictions="/a/b=c/x.parquet"'"""),
        ("+data.files.images=val/{image_id}.jpg", """'+data.files.images="val/{image_id}.jpg"'"""),
        ("paths.output=/tmp/run (1)", """'paths.output="/tmp/run (1)"'"""),
        ("paths.output=/tmp/a;b", """'paths.output="/tmp/a;b"'"""),
        ("paths.output=~/x", f"""'paths.output="{Path.home()}/x"'"""),
    ],
)
def test_an_ordinary_path_is_shown_as_it_must_be_typed(argument, shown):
    assert sentence(argument) == (
        f"error: the argument {argument} has characters that Hydra's grammar reads otherwise; type it so: {shown}\n"
    )


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (
            "confidence.estimators=maxprob",
            "error: confidence.estimators=maxprob is no list; write confidence.estimators=[",
        ),
        ("+foo=1", "error: there is no key or group 'foo'; the configuration has: confidence, data, "),
        ("++quant.bitz=3", "error: there is no key or group 'quant.bitz'; quant has: bits, budget_bits, budget_mib, "),
        ("+quant.scaling.ratio=3", "error: there is no key or group 'quant.scaling.ratio'; quant.scaling has: "),
        ("quant.scaling={ratio: 3}", "error: there is no key or group 'quant.scaling.ratio'; quant.scaling has: "),
        (
            "quant.options={share: 1}",
            "error: there is no key or group 'quant.options.share'; a key of quant.options is added with a plus, "
            "+quant.options.share=...\n",
        ),
        ("+quant.options.share=1", "error: quant.options has unknown keys ['share']; quant.method=hqq takes none\n"),
        (
            "+data.splits.train=5",
            "error: data.splits.train has a value already, which +data.splits.train=... would add",
        ),
        ("+task=evaluate", "error: task has a value already, which +task=... would add; leave out the plus to"),
        ("~nothing", "error: there is no key or group 'nothing' to take away; the configuration has: "),
        (
            "hydra/launcher=joblib",
            "error: hydra/launcher=joblib is not installed; install it with pip install hydra-joblib-launcher, or "
            # Then those that are installed here, and what brings the others.
            "choose one of: basic",
        ),
        ("hydra/sweeper=magic", "error: hydra/sweeper=magic is not installed; install the package that brings it, or"),
        (
            "quant.bits=2,3",
            "error: the argument quant.bits=2,3 names several values; add -m for a sweep (python src/run.py -m "
            "quant.bits=2,3)\n",
        ),
        ("quant.bits=range(2,4)", "error: the argument quant.bits=range(2,4) names several values; add -m for a sweep"),
        (
            "paths.output=/a,b",
            "error: the argument paths.output=/a,b names several values; add -m for a sweep (python src/run.py -m "
            "paths.output=/a,b), or, if that is one value, type it so: 'paths.output=\"/a,b\"'\n",
        ),
        ("quant.bits", "error: the argument quant.bits has no value; write quant.bits=<value>\n"),
        ("data.ask={test: 5, val}", "error: the argument data.ask={test: 5, val} is neither a list nor a mapping as"),
    ],
)
def test_what_hydra_refuses_is_told_in_our_words(argument, told, monkeypatch):
    monkeypatch.setattr("reliabit.cluster.is_installed", lambda extra: False)
    found = sentence(argument)
    assert found.startswith(told)
    assert found.count("\n") == 1


@pytest.mark.parametrize(
    "argument",
    [
        *("quant.bits=7", "quant.bits=abc", "quant.zero=odd", "trainer.accelerator=tpu", "quant=nope"),
        *("experiment=nope", "quant.bitz=3", "nope.bits=3", "nope=1"),
    ],
)
def test_what_is_plainly_wrong_is_told_as_if_it_were_composed(argument):
    with pytest.raises(ReliabitError) as found:
        check_plain_arguments(["-m", argument])
    assert in_one_line(found.value) == sentence(argument)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["quant=hqq", "quant.bits=4"], ["quant.bits=NULL"], ["experiment=null"], ["seed=abc"], ["+nope=1"]),
        *(["quant.bits=2,7"], ["confidence.estimators=nope"], ["data.splits.more=1"], ["task.recipe.nope=1"]),
        *(["quant=nope", "hydra.searchpath=[/conf]"], ["quant=nope", "--config-dir", "/conf"], ["seed.x=1"]),
        *(["task=evaluate", "task.predictions=runs:/1"], ["task.predictions=nope.parquet"]),
    ],
    ids=" ".join,
)
def test_what_may_be_right_waits_for_hydra(arguments):
    check_plain_arguments(arguments)


def test_other_plug_ins_may_add_options(monkeypatch, tmp_path):
    (tmp_path / "hydra_plugins" / "more").mkdir(parents=True)
    (tmp_path / "hydra_plugins" / "more" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    check_plain_arguments(["quant=nope"])


def test_a_table_that_is_not_there_is_missed_in_the_words_of_the_check():
    with pytest.raises(ReliabitError, match=r"task\.predictions=no/such\.parquet does not exist; name the predictions"):
        check_plain_arguments(["task=select", "task.predictions=no/such.parquet"])
    check_plain_arguments(["task=select", f"task.predictions={__file__}"])


def test_keys_of_mappings_are_the_user_s_own():
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        overrides = ["+data.files.images=x", "+data@other_data.mine=scenes", "++data.splits.train=5"]
        config = to_config(compose("config", overrides=overrides))
    assert (config.data.files, list(config.other_data)) == ({"images": "x"}, ["mine"])


@pytest.mark.parametrize("argument", ["data.shifts.x=1", "+other_data.mine.shifts.x=1", "~evaluation.risks.x"])
def test_a_name_within_a_list_is_refused(argument):
    with pytest.raises(
        ReliabitError, match=r"there is no key or group '.*\.x'; .*(shifts|risks) is a list, write .*=\["
    ):
        check_arguments(["-m", argument])
    check_arguments(["data.shifts.0=reworded", "hydra.run.dir=x", "-m", "quant=hqq", "+data@other_data.mine=scenes"])


@pytest.mark.parametrize("command", [["src/run.py"], ["-m", "reliabit", "reap"]])
def test_a_value_without_a_key_is_no_defect(command):
    done = run_python(*command, "=3")
    assert (done.returncode, done.stderr) == (2, "error: the argument =3 has no key; write <key>=3\n")


def test_the_package_runs_the_command_line():
    done = run_python("-m", "reliabit", "--help")
    assert done.returncode == 0
    assert "promote" in done.stdout


STANDING_IN = """
import sys, types
sys.path.insert(0, "src")
import reliabit.main
task = types.ModuleType("reliabit.tasks.footprint")
def footprint(config):
    {body}
task.footprint = footprint
sys.modules["reliabit.tasks.footprint"] = task
reliabit.main.main()
"""


@pytest.mark.parametrize("sweep", [[], ["-m"]])
@pytest.mark.parametrize(
    "body",
    [
        "raise KeyboardInterrupt",
        # As Lightning's trainer ends.
        "try: raise KeyboardInterrupt\n    except KeyboardInterrupt: sys.exit(1)",
    ],
)
def test_ctrl_c_ends_in_one_line(sweep, body, tmp_path):
    placed = [
        f"hydra.run.dir={tmp_path}/run",
        f"hydra.sweep.dir={tmp_path}/sweep",
        f"tracking.uri=journal://{tmp_path}",
    ]
    done = run_python("-c", STANDING_IN.format(body=body), *sweep, "task=footprint", *placed)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_runs_of_the_same_second_have_a_folder_each(tmp_path):
    """The year stands for the second: both runs have the same one."""
    command = [
        *(sys.executable, "-c", STANDING_IN.format(body="pass"), "task=footprint", f"paths.cache={tmp_path}/cache"),
        f"hydra.run.dir={tmp_path}/${{now:%Y}}",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, cwd=PROJECT, env=environment(), **pipes) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == [folders[0], f"{folders[0]}-2"]
    for folder in folders:
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [".hydra", "reliabit.log"]
