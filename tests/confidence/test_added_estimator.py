"""An estimator that somebody adds: one file with its settings, and one option of `confidence`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from added_packages import install
from registry.measured import table
from reliabit.inference.predictions import COLUMNS, PREDICTIONS, write_predictions

pytestmark = pytest.mark.medium

PROJECT = Path(__file__).parents[2]

MODULE = '''
from dataclasses import dataclass

from reliabit.confidence.estimator import Estimator, register
from reliabit.confidence.leakage import FittedOn
from reliabit.settings import positive


@dataclass
class Settings:
    """`confidence.options.temperature`: by what log-probabilities are divided, at most."""

    highest: float = positive(default=2.0)


@dataclass(frozen=True)
class Fitted:
    value: float
    fitted_on: FittedOn
    name = "temperature"
    extra_forwards = 0.0

    def __call__(self, evidence):
        import numpy as np

        return np.exp(evidence.column("log_prob", confidence=self.name) / self.value)


class Temperature(Estimator):
    """Divides the log-probability by the number that brings the mean confidence nearest to the accuracy."""

    name = "temperature"
    columns = ("log_prob",)
    settings = Settings

    def fit(self, train, validation, fitting):
        import numpy as np

        log_prob = train.column("log_prob", confidence=self.name)
        values = np.linspace(0.5, fitting.settings.highest, 50)
        errors = [abs(np.exp(log_prob / value).mean() - train.accuracy.mean()) for value in values]
        return [Fitted(float(values[np.argmin(errors)]), FittedOn.images(train.image_keys))]


register(Temperature())
'''

OPTION = """
defaults: [maxprob, _self_]
name: tempered
estimators: [maxprob, temperature]
options:
  temperature: {highest: 3.0}
"""


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A folder that holds an installed package, and the option that asks for what it adds."""
    site = tmp_path_factory.mktemp("site")
    options = {"confidence/tempered.yaml": OPTION}
    install(site, name="temperature", group="reliabit.confidences", code=MODULE, options=options)
    return site


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """A table in which each role has questions."""
    found = table(images={"dev": 60, "val": 60, "cal": 60, "test": 60})
    confidence = found["conf_maxprob"].to_numpy()
    values = {"log_prob": np.log(confidence), "n_tokens": np.ones(len(confidence), np.int32)}
    values |= {"first_token_prob": confidence, "min_token_prob": confidence, "first_token_margin": confidence}
    values |= {"first_token_entropy": 1 - confidence, "answer": ["yes"] * len(confidence)}
    for name, alias in COLUMNS.items():
        if name not in found.column_names:
            column = values.get(name)
            kind = pa.type_for_alias(alias)
            found = found.append_column(
                name, pa.nulls(found.num_rows, kind) if column is None else pa.array(column, kind)
            )
    path = tmp_path_factory.mktemp("answers") / PREDICTIONS
    write_predictions(found.select(list(COLUMNS)), path)
    return path


def run(added, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(added)}
    command = [sys.executable, "src/run.py", f"hydra.searchpath=[file://{added}/options]", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment, check=False)


def test_it_is_fitted_and_measured_like_any_other(added, predictions, tmp_path):
    from pyarrow import parquet

    selecting = ["task=select", "confidence=tempered", f"task.predictions={predictions}", f"paths.output={tmp_path}/a"]
    done = run(added, *selecting, f"hydra.run.dir={tmp_path}/first")
    assert done.returncode == 0, done.stderr
    found = parquet.read_table(tmp_path / "a" / PREDICTIONS)
    assert "conf_temperature" in found.column_names
    trained = [split == "dev" for split in found["split"].to_pylist()]
    values = found["conf_temperature"].to_pylist()
    assert [value is None for value in values] == trained
    measuring = ["task=evaluate", f"task.predictions={tmp_path}/a/{PREDICTIONS}", f"paths.output={tmp_path}/b"]
    done = run(added, *measuring, f"hydra.run.dir={tmp_path}/second")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert "selective/aurc.temperature" in json.dumps(metrics)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["confidence.options.temperature.highest=0"], "confidence.options.temperature.highest=0.0 must be above zero"),
        (["+confidence.options.temperature.lowest=1"], "confidence.options.temperature has unknown keys"),
        (["confidence.options.temperature=3"], "confidence.options.temperature=3 is not a value of this key; "),
        (["+confidence.options.maxprob.sharp=1"], "confidence.options.maxprob is read by nothing; leave it out"),
        (
            ["+confidence.options.platt_2.sharp=1"],
            "there is no confidence estimator 'platt_2'; choose one of entropy, ",
        ),
    ],
)
def test_its_settings_are_checked(added, overrides, message, tmp_path):
    done = run(
        added, "task=select", "confidence=tempered", f"hydra.run.dir={tmp_path}", "task.predictions=x", *overrides
    )
    assert done.returncode == 2
    assert f"error: {message}" in done.stderr


def test_without_its_package_it_is_unknown(added, tmp_path):
    done = run(
        added / "options", "task=select", "confidence.estimators=[maxprob,temperature]", f"hydra.run.dir={tmp_path}"
    )
    assert done.returncode == 2
    assert "confidence.estimators=temperature is not a value of this key; choose one of: entropy, " in done.stderr


def test_it_is_part_of_what_a_run_is(added):
    code = "from reliabit.identity import identify; print(*identify({}, inputs={}).code)"
    environment = {**os.environ, "PYTHONPATH": str(added)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "added_temperature 1.0: added_temperature.py" in found.stdout
