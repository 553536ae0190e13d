"""A cell to be served: its bundle, and what its offline evaluation says of every question."""

import base64
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reliabit.data.prepared_table import load_split
from reliabit.inference.predictions import read_predictions
from reliabit.metrics.certify import Certificate
from reliabit.serving.bundle.description import Description
from reliabit.serving.bundle.folder import read_description, write_bundle

ROOT = Path(__file__).resolve().parents[1]
CELL = "qwen2_vl_tiny-hqq-4bit"
DATA = "easy_vqa"
CONFIDENCE = "selector"
RISK = 0.05


@dataclass(frozen=True)
class Expected:
    """A request, and what offline evaluation says of its question."""

    body: bytes
    answer: str
    confidence: float


@dataclass(frozen=True)
class ServedCell:
    """What is served, and what it is compared with.

    Attributes:
        bundle: The folder of the bundle.
        predictions: The predictions table of the cell's evaluation.
        table: The folder of the prepared table that was asked.
    """

    bundle: Path
    predictions: Path
    table: Path

    @property
    def description(self) -> Description:
        """What the bundle says of itself."""
        return read_description(self.bundle)

    def expectations(self, *, seed: int) -> list[Expected]:
        """Every question of the split `test` with its offline answer and confidence, in random order."""
        table = read_predictions(self.predictions)
        confidence = f"conf_{self.description.confidence}"
        asked = [table[name].to_pylist() for name in ("split", "shift", "question_id", "answer", confidence)]
        said = {
            question: (answer, confidence)
            for split, shift, question, answer, confidence in zip(*asked, strict=True)
            if (split, shift) == ("test", "none")
        }
        found = []
        for row in load_split(self.table, "test"):
            if row["question_id"] in said:
                image = base64.b64encode(row["image"]).decode()
                body = json.dumps({"image": image, "question": row["question"]}).encode()
                found.append(Expected(body, *said[row["question_id"]]))
        random.Random(seed).shuffle(found)
        return found


def versioned_cell(folder: Path, *, batch_size: int) -> ServedCell:
    """Bundle what the versioned pipeline made, in a folder."""
    results = ROOT / "results" / f"{CELL}-{DATA}"
    predictions = results / "selected" / "predictions.parquet"
    report = json.loads((results / "report" / "report.json").read_text())
    certificates = tuple(Certificate.from_dict(record) for record in report["certificates"][CONFIDENCE])
    table = read_predictions(predictions)
    rows = np.flatnonzero(np.array(table["split"].to_pylist()) == "cal").tolist()
    sample = table.take(rows)
    description = Description(
        name="qwen2_vl_tiny·hqq·4b·s0",
        family="qwen2_vl",
        dtype="float32",
        template="{question}",
        max_new_tokens=8,
        batch_size=batch_size,
        confidence=CONFIDENCE,
        certificates=certificates,
        default_risk=RISK,
        run_id="bench",
        fingerprint="bench",
        inputs={},
    )
    write_bundle(
        folder,
        description=description,
        checkpoint=ROOT / "checkpoints" / CELL,
        selector=results / "selected" / "selectors" / CONFIDENCE,
        calibration=(sample[f"conf_{CONFIDENCE}"].to_numpy(), sample["accuracy"].to_numpy()),
        card="# Bundle of a benchmark\n",
    )
    [prepared] = (ROOT / "data" / "versioned" / DATA).glob(f"{DATA}-*")
    return ServedCell(folder, predictions, prepared)
