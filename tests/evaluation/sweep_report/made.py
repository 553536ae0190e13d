"""A made sweep whose report is known: three widths that answer ever less, and questions that look like markup."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pyarrow as pa
from PIL import Image

from registry.measured import SETTINGS as POLICY
from registry.measured import configuration, costs, table, unquantized
from reliabit.evaluation.comparison import compare
from reliabit.evaluation.paired_reliability import Measurements
from reliabit.evaluation.pareto import pareto_front
from reliabit.evaluation.settings import EvaluationConfig
from reliabit.evaluation.slice_comparison import compare_slice_rates
from reliabit.evaluation.sweep_report import Asked, Provenance, ReportedSweep

HOSTILE = "</script><img src=x onerror=\"document.title='taken'\"> & <b>which color?</b>"
SETTINGS = EvaluationConfig(
    risks=[0.01, 0.05],
    costs=[1],
    n_bins=[15],
    certified_risks=[0.05, 0.1],
    delta=0.1,
    slices=[],
    reported="test",
    mixtures={},
    resamples=60,
    level=0.95,
    seed=0,
)
IMAGES = {"test": 120, "val": 100, "cal": 300}
PROVENANCE = Provenance(title="sweep·<made>", facts={"commit": "0" * 40}, runs={"none": {"run": "a"}}, config="a: 1\n")


def answers(accuracy, *, images=None, shifts=(), selector=True):
    """Predictions with words; a lower accuracy answers nothing that a higher one does not."""
    plain = table(accuracy=accuracy, images=images or IMAGES)
    rows = plain.num_rows
    right = plain["accuracy"].to_numpy()
    words = [f"{HOSTILE} {row}" for row in range(rows)]
    found = plain.append_column("question", pa.array(words))
    found = found.append_column("answer", pa.array(["yes" if one else "<i>no</i>" for one in right]))
    if selector:
        found = found.append_column("conf_selector", pa.array(np.sqrt(found["conf_maxprob"].to_numpy())))
    column = found.column_names.index("shift")
    parts = [found, *(found.set_column(column, "shift", pa.array([name] * rows)) for name in shifts)]
    return pa.concat_tables(parts)


def illustrate(_cell, keys):
    """A picture of each question but the last that is asked for."""
    content = BytesIO()
    Image.linear_gradient("L").resize((400, 300)).save(content, format="PNG")
    return {key: Asked(image=content.getvalue(), references=["yes", "yes", "<u>no</u>"]) for key in keys[:-1]}


def numbers(accuracy):
    """What a run records of its answers."""
    ends = {"accuracy/mean": accuracy, "accuracy/mean.low": accuracy - 0.02, "accuracy/mean.high": accuracy + 0.02}
    return ends | {f"selective/aurc{of}": 1 - accuracy for of in ("", ".selector")}


def reported_sweep(*, images=None, shifts=("blur_3",), selector=True, **other):
    """The unquantized model and two widths, compared as a sweep's end compares them."""
    made = {16: 0.95, 4: 0.9, 2: 0.6}
    cells = []
    for bits, accuracy in made.items():
        found = answers(accuracy, images=images, shifts=shifts, selector=selector)
        measured = costs(stored=bits, resident=bits + 1) | numbers(accuracy)
        if bits == 16:
            cells.append(unquantized(found, efficiency=measured))
        else:
            cells.append(configuration(f"tiny·hqq·{bits}b", found, bits=bits, method="hqq", efficiency=measured))
    plain = {cell.name: cell.answers for cell in cells}
    fields = {
        "compared": len(cells),
        "settings": SETTINGS,
        "policy": POLICY,
        "fronts": [pareto_front(cells, Measurements(POLICY, comparisons=len(cells)))],
        "comparisons": [compare(plain, SETTINGS, baseline=cells[0].name)],
        "slices": [
            compare_slice_rates(
                plain, replace(SETTINGS, slices=["question_type"]), POLICY, baseline=cells[0].name, comparisons=3
            )
        ],
        "verdicts": [("tiny · made: deploy hqq at 4 bits. The policy would choose it.", cells[1].run_id)],
        "illustrate": illustrate,
    }
    return ReportedSweep(cells, **(fields | other))
