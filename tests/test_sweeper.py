"""The sweeper alone: which cells it launches, in which folder, and what it looks at before the first of them."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from reliabit.composition import register
from reliabit.errors import ReliabitError
from reliabit.paths import conf_folder

pytestmark = pytest.mark.medium


class Launcher:
    """Keeps what it is asked to launch."""

    def __init__(self):
        self.launched = []

    def launch(self, job_overrides, initial_job_idx):
        self.launched.append((initial_job_idx, [list(cell) for cell in job_overrides]))
        return []


def found_by_hydra(name):
    """Hydra loads the modules of its plugins anew, so a class that is imported is another one."""
    return Plugins.instance().class_name_to_class[name]


def swept(folder, *overrides, sweep_dir="sweep"):
    """Run a sweeper without running cells; gives it back with its launcher."""
    register()
    placed = [f"hydra.sweep.dir={folder}/{sweep_dir}", f"tracking.uri=journal://{folder}/journal"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", [*overrides, *placed], run_mode=RunMode.MULTIRUN)
        sweeper, launcher = found_by_hydra(config.hydra.sweeper._target_)(max_batch_size=None), Launcher()
        sweeper.config, sweeper.launcher = config, launcher
        sweeper.hydra_context = HydraContext(config_loader=loader, callbacks=Callbacks())
        sweeper.sweep(list(config.hydra.overrides.task))
        composed = loader.load_sweep_config(config, ["quant.bits=2"])
    return Path(composed.hydra.sweep.dir), launcher.launched


def test_the_baseline_comes_first_and_all_cells_at_once(tmp_path):
    _, launched = swept(tmp_path, "quant.bits=2,3")
    [(first, cells)] = launched
    assert (first, [cell[0] for cell in cells][1:]) == (0, ["quant.bits=2", "quant.bits=3"])
    assert "quant=none" in cells[0]


def test_the_baseline_is_launched_once_when_cells_run_one_by_one(tmp_path):
    _, launched = swept(tmp_path, "quant.bits=2,3", "sweep.on_failure=stop")
    assert [first for first, _ in launched] == [0, 1, 2]
    assert [["quant=none" in cell for cell in cells] for _, cells in launched] == [[True], [False], [False]]


@pytest.mark.parametrize("how", ["stop", "continue"])
def test_a_mistake_in_the_last_cell_is_found_before_the_first_one_runs(how, tmp_path):
    models = f"model.path={conf_folder().parent}/models/qwen2_vl_tiny,nowhere"
    with pytest.raises(ReliabitError, match="model.path=nowhere is not a checkpoint folder"):
        swept(tmp_path, "quant.bits=2,3", f"sweep.on_failure={how}", models)
    assert list(tmp_path.iterdir()) == []


def test_sweeps_of_the_same_second_have_a_folder_each_and_their_cells_know(tmp_path):
    """The year stands for the second: both sweeps have the same one."""
    folders = [swept(tmp_path, "quant.bits=2", sweep_dir="${now:%Y}")[0] for _ in range(2)]
    assert folders[1] == folders[0].with_name(f"{folders[0].name}-2")
    parents = [(folder / "mlflow_parent.json").read_text() for folder in folders]
    assert parents[0] != parents[1]
    assert all((folder / "multirun.yaml").is_file() for folder in folders)


def test_a_sweep_s_folder_with_somebody_s_work_is_refused(tmp_path):
    swept(tmp_path, "quant.bits=2")
    with pytest.raises(ReliabitError, match=r"hydra.sweep.dir=.*/sweep holds files already; name another folder"):
        swept(tmp_path, "quant.bits=2")
