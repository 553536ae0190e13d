"""A metric is defined once: under which name, how it is shown, which way is better, and how it is computed."""

import ast
import copy
import pickle
import re
import runpy
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import reliabit
from evaluation.sweep import SETTINGS, sweep
from reliabit.errors import ReliabitError
from reliabit.evaluation.comparison import Comparison
from reliabit.evaluation.confidences import compare_confidences
from reliabit.evaluation.report import build_report
from reliabit.metrics import Predictions, evaluate, full_suite, higher_is_better, metric
from reliabit.metrics.definitions import (
    ACCURACY,
    AURC,
    certified_coverage_at,
    confidently_wrong,
    coverage_at,
    ece,
    ece_mass,
    phi,
)
from reliabit.metrics.intervals import Difference

SOURCE = Path(reliabit.__file__).parent
DEFINITIONS = SOURCE / "metrics" / "definitions.py"
NAME = re.compile(r"(?:selective|calibration|accuracy|certified)/\w")

ADDED = """
    from reliabit.metrics.functional.ranking import ratio
    from reliabit.metrics.metric import Metric, register

    SUREST_RIGHT = register(
        Metric(
            name="selective/surest_right",
            heading="Top",
            formula=lambda groups: 1 - ratio(groups.loss[..., 0], groups.unit * groups.size[..., 0]),
            higher_is_better=True,
            headline=True,
            ends_recorded=True,
        )
    )
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A metric in a module of somebody's own."""
    monkeypatch.setattr(metric, "_DEFINED", list(metric._DEFINED))
    path = tmp_path / "my_metrics.py"
    path.write_text(textwrap.dedent(ADDED))
    return runpy.run_path(str(path))["SUREST_RIGHT"]


@pytest.fixture(scope="module")
def predictions() -> pa.Table:
    return next(iter(sweep({("none", 16): 0.9}))).predictions


def test_a_metric_that_is_defined_in_one_place_is_everywhere(added, predictions):
    assert evaluate(Predictions([0.9, 0.8], [0.3, 1.0]))["selective/surest_right"] == pytest.approx(0.3)
    assert higher_is_better("selective/surest_right.selector")
    assert "| Top |" in compare_confidences(predictions, SETTINGS).markdown().splitlines()[0]
    difference = Difference(0.1, 0.05, 0.15, 0.95, 0.01, 1)
    assert "Δ selective/surest_right" in Comparison("bf16", {"int4": {added.name: difference}}).markdown()
    recorded = build_report(predictions, SETTINGS).recorded()
    assert {added.name, f"{added.name}.low", f"{added.name}.high", f"{added.name}.maxprob"} <= recorded.keys()


def test_no_metric_is_named_outside_its_definition():
    for path in SOURCE.rglob("*.py"):
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        named = [text for text in texts if isinstance(text, str) and NAME.match(text)]
        assert path == DEFINITIONS or not named, f"{path.relative_to(SOURCE)} names a metric: {named[0]}"


@pytest.mark.parametrize(
    ("found", "name", "heading"),
    [
        (ACCURACY, "accuracy/mean", "Acc"),
        (coverage_at(0.005), "selective/coverage_at_0_5pct_risk", "C@0.5%"),
        (certified_coverage_at(0.05), "certified/coverage_at_5pct_risk", "certified C@5%"),
        (phi(2.5), "selective/phi_2_5", "Φ2.5"),
        (ece(15), "calibration/ece_15", "ECE"),
        (ece_mass(10), "calibration/ece_mass_10", "ECE, 10 equal bins"),
        (confidently_wrong(0.9), "calibration/confidently_wrong_90pct", "wrong >90%"),
        (confidently_wrong(0.995), "calibration/confidently_wrong_99_5pct", "wrong >99.5%"),
    ],
)
def test_metrics_are_found_by_name(found, name, heading):
    assert (found.name, found.heading) == (name, heading)
    assert metric.metric_named(name) is metric.metric_named(f"{name}.selector.visual_mix_50") is found


def test_a_name_is_unique_and_known(monkeypatch):
    monkeypatch.setattr(metric, "_DEFINED", list(metric._DEFINED))
    with pytest.raises(ReliabitError, match="two metrics called selective/aurc; rename one"):
        metric.register(metric.Metric(name="selective/aurc", heading="mine"))
    with pytest.raises(ReliabitError, match="there is no metric 'selective/nothing'"):
        metric.metric_named("selective/nothing")
    assert not higher_is_better("efficiency/stored_bytes")


def test_a_copied_metric_is_the_metric_itself():
    for one in (AURC, coverage_at(0.01), coverage_at(Fraction(11, 27))):
        assert copy.deepcopy(one) is pickle.loads(pickle.dumps(one)) is one
    assert copy.deepcopy(full_suite()) == full_suite()


def test_a_certificate_is_no_part_of_a_suite():
    from reliabit.metrics import Suite

    with pytest.raises(ReliabitError, match="certified/coverage_at_5pct_risk is not computed from predictions"):
        evaluate(Predictions([0.5], [1]), suite=Suite((certified_coverage_at(0.05),)))


def test_every_metric_of_a_suite_is_a_number_on_a_resample():
    rng = np.random.default_rng(0)
    data = Predictions(rng.random(50), rng.choice([0, 0.3, 1], 50), {1: 0.5, 10: 0.5, 100: 0.5})
    suite = full_suite()
    groups = suite.rank(data).groups(rng.integers(0, 3, (4, 50)))
    values = suite.values(groups, data.thresholds)
    assert list(values) == [one.name for one in suite.metrics]
    assert all(value.shape == (4,) for value in values.values())
