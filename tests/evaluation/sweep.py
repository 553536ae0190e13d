"""Made sweeps whose truth is known: a share of questions is easy, and confidences know it more or less well."""

import numpy as np
import pyarrow as pa

from reliabit.evaluation.cells import STORED, Cell
from reliabit.evaluation.settings import EvaluationConfig

SETTINGS = EvaluationConfig(
    risks=[0.01],
    costs=[1],
    n_bins=[10],
    certified_risks=[0.1],
    delta=0.1,
    slices=[],
    reported="test",
    mixtures={"visual": ["blur_3"], "absent": ["fog_1"]},
    resamples=200,
    level=0.95,
    seed=0,
)

PLANTED = {
    ("none", 16): 0.9,
    ("hqq", 8): 0.9,
    ("hqq", 4): 0.75,
    ("mbq", 4): 0.88,
    ("hqq", 3): 0.6,
    ("mbq", 3): 0.7,
    ("hqq", 2): 0.3,
    ("mbq", 2): 0.45,
}
"""The share of easy questions under each configuration, as the paper would have it."""

HARD = 0.6
"""How often a hard question is answered right."""


def questions(*, images=900, shifted_images=200, val_images=80, per_image=3):
    parts = (("test", "none", images, 0), ("test", "blur_3", shifted_images, 0), ("val", "none", val_images, 10_000))
    rows = [
        {"source": "made", "split": split, "shift": shift, "question_id": f"{image}-{number}", "image_id": str(image)}
        for split, shift, count, first in parts
        for image in range(first, first + count)
        for number in range(per_image)
    ]
    return pa.Table.from_pylist(rows)


def sweep(
    easy, *, model="qwen2_vl_tiny", seed=0, blindness=(5, 1), under_shift=0.5, confidences=("maxprob", "selector")
):
    """Cells whose questions are easy for nested sets, so that a wider cell answers all that a narrower one does.

    Args:
        easy: The share of easy questions by quantizer and bits.
        model: The name of the model.
        seed: Of everything random.
        blindness: Of a share s of easy questions each confidence takes s to this power for easy.
        under_shift: What is left of the share of easy questions under shift.
        confidences: Their names.
    """
    rng = np.random.default_rng(seed)
    asked = questions()
    place, luck = rng.random(asked.num_rows), rng.random(asked.num_rows)
    shifted = np.array(asked["shift"].to_pylist()) != "none"
    cells = []
    for (quantizer, bits), unshifted in easy.items():
        share = unshifted * np.where(shifted, under_shift, 1)
        table = asked.append_column("accuracy", pa.array(np.where(place < share, 1.0, luck < HARD)))
        # Equal noise in all cells: what differs between them is planted.
        noise = np.random.default_rng(seed + 1)
        for name, power in zip(confidences, blindness, strict=False):
            sure, unsure = noise.uniform(0.8, 1, asked.num_rows), noise.uniform(0, 0.8, asked.num_rows)
            table = table.append_column(f"conf_{name}", pa.array(np.where(place < share**power, sure, unsure)))
        cells.append(cell_of(table, quantizer=quantizer, bits=bits, model=model))
    return cells


def noisy_sweep(configurations, *, seed=0):
    """Cells that answer and rank the same questions by chance."""
    rng = np.random.default_rng(seed)
    asked = questions()
    cells = []
    for quantizer, bits in configurations:
        truth = rng.beta(6, 1, asked.num_rows)
        table = asked.append_column("accuracy", pa.array((rng.random(asked.num_rows) < truth).astype(float)))
        for name in ("maxprob", "selector"):
            noise = rng.normal(0, 0.05, asked.num_rows)
            table = table.append_column(f"conf_{name}", pa.array(np.clip(truth + noise, 0, 1)))
        cells.append(cell_of(table, quantizer=quantizer, bits=bits))
    return cells


def cell_of(table, *, quantizer, bits, model="qwen2_vl_tiny"):
    name = f"{model}·{quantizer}·{bits}b"
    return Cell(
        name=name,
        run_id=name,
        fingerprint=name,
        status="FINISHED",
        dirty=(),
        inputs={},
        model={"model": model},
        metrics={STORED: 250_000.0 * bits, "efficiency/effective_bits": float(bits)},
        predictions=table,
        config={"model": {"name": model}, "quant": {"name": quantizer, "bits": bits}},
    )
