"""Made predictions whose differences are planted, and the cells they belong to."""

import numpy as np
import pyarrow as pa

from reliabit.evaluation.cells import RESIDENT, SPEED, STORED, Cell
from reliabit.evaluation.settings import ParetoSettings
from reliabit.registry.incumbent import Live
from reliabit.registry.policy import Margins, Policy
from reliabit.registry.terms import Terms

SETTINGS = ParetoSettings(
    confidence="maxprob",
    required_risk=0.1,
    certified_risks=[0.05, 0.1],
    delta=0.1,
    reported="test",
    resamples=200,
    level=0.95,
    seed=0,
    latency_tolerance=0.1,
)
KINDS = ("color", "shape", "size")
IMAGES = {"test": 900, "val": 100, "cal": 900}


def table(*, accuracy=0.9, skill=1.0, lost=(), seed=0, per_image=2, images=None):
    """Answers that are right by a share; nested, so that a lower share answers no question that a higher one does not.

    Args:
        accuracy: The share of right answers.
        skill: How well the confidence knows, from 0 (not at all) to 1.
        lost: Kinds of questions (`color`, ...) that are all answered wrong in the split that reports.
        seed: Of what all configurations share: questions, luck and the noise of confidences.
        per_image: Questions an image.
        images: Images of each split.
    """
    rng = np.random.default_rng(seed)
    asked = [
        {
            "source": "made",
            "split": split,
            "shift": "none",
            "question_id": f"{split}-{image}-{number}",
            "image_id": f"{split}-{image}",
            "question_type": KINDS[(image + number) % len(KINDS)],
            "answer_type": "other",
        }
        for split, count in (images or IMAGES).items()
        for image in range(count)
        for number in range(1 if split == "cal" else per_image)
    ]
    luck, noise = rng.random(len(asked)), rng.random(len(asked))
    right = (luck < accuracy).astype(float)
    for row, question in enumerate(asked):
        if question["split"] == "test" and question["question_type"] in lost:
            right[row] = 0.0
    confidence = 0.5 + 0.49 * (skill * (luck < accuracy) * (0.5 + noise / 2) + (1 - skill) * noise)
    found = pa.Table.from_pylist(asked)
    return found.append_column("accuracy", pa.array(right)).append_column("conf_maxprob", pa.array(confidence))


def costs(*, stored=2.0, resident=3.0, speed=100.0):
    """Megabytes and questions a second."""
    return {STORED: stored * 2**20, RESIDENT: resident * 2**20, SPEED: speed}


MARGINS = Margins(accuracy_loss=0.02, augrc_loss=0.01, coverage_loss=0.1)
POLICY = Policy(
    **vars(SETTINGS),
    name="test",
    model="reliabit",
    objective="resident_bytes",
    minimum_coverage=0.5,
    accuracy_loss=0.03,
    slices=["question_type"],
    slice_loss=0.08,
    slice_questions=50,
    incumbent=MARGINS,
)


def configuration(name, answers, *, bits=4, method="hqq", efficiency=None, **other):
    """A finished, clean run of a configuration."""
    fields = {
        "name": name,
        "run_id": f"run of {name}",
        "fingerprint": f"fingerprint of {name}",
        "status": "FINISHED",
        "dirty": (),
        "inputs": {"data/test": "a", "data/cal": "b"},
        "model": {"model/model.safetensors": "c"},
        "metrics": costs() if efficiency is None else efficiency,
        "predictions": answers,
        "config": {
            "quant": {"name": method, "method": method, "bits": bits},
            "model": {"name": "tiny"},
            "data": {"name": "made"},
            "seed": 0,
        },
    }
    return Cell(**(fields | other))


def unquantized(answers, **other):
    return configuration("none", answers, method="none", bits=None, **({"efficiency": costs(resident=6)} | other))


def live(measured, **other):
    """A configuration that is live, at the policy's terms unless told otherwise."""
    terms = {"confidence": "maxprob", "default_risk": 0.1, "deltas": {0.05: 0.1, 0.1: 0.1}}
    return Live(measured, Terms(**(terms | other)))
