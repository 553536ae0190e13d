import full_size_costs
import full_size_needs
import pytest
from full_size_models import NAMES, full_size_config
from full_size_results import read_results
from hydra import compose, initialize_config_dir

from reliabit.composition import register, to_config
from reliabit.paths import conf_folder
from reliabit.quant.plan import build_plan
from reliabit.tasks.footprint import footprint as footprint_task


@pytest.fixture
def composed():
    register()

    def compose_with(*overrides):
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return to_config(compose("config", overrides=["task=footprint", *overrides]))

    return compose_with


def test_the_page_is_what_the_script_writes():
    assert full_size_costs.PAGE.read_text(encoding="utf-8") == full_size_costs.page(read_results())


# Of one model in every run, of all in the slow ones: each builds the whole model without its weights.
@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_the_table_is_what_the_footprint_task_prints(name, composed, tmp_path, capsys):
    full_size_config(name).save_pretrained(tmp_path)
    lines = full_size_costs.PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"## {full_size_costs.TITLES[name]}")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start + 4 : start + 10]]
    checked = 0
    for methods, bits, stored, resident, effective, *_ in (row for row in rows if len(row) > 1):
        for method in methods.split(", "):
            width = [f"quant.bits={bits}"] if bits.isdigit() and method != "none" else []
            footprint_task(
                composed(f"quant={method}", f"model.path={tmp_path}", f"model.family={name.rpartition('_')[0]}", *width)
            )
            expected = f"{stored} GiB stored, {resident} GiB resident, {effective} bits a weight"
            assert expected in capsys.readouterr().out, (method, bits)
            checked += 1
    assert checked == 1 + 4 * 5 + 1


def test_the_plans_are_those_of_the_configuration(composed):
    for method, bits in full_size_needs.configurations():
        config = composed(f"quant={method}", *([f"quant.bits={bits}"] if bits else []))
        if method != "none":
            assert full_size_needs.plan_of(method, bits) == build_plan(config.quant), method


def test_sharing_a_prefix_never_takes_longer():
    for name in NAMES:
        for row in full_size_needs.rows(name):
            alone, shared = (
                full_size_needs.question_seconds(name, row.size, shared=shared) for shared in (False, True)
            )
            assert shared < alone < 6 * shared
