r"""Accuracy by kind of question, with the image and with a blank one, for the card of the pretrained reference.

    python src/run.py task=answer model=idefics3_smollm2 data=pictures \
        data.shifts=[blank_image] data.shift_images=800
    python bench/accuracy_by_kind.py <predictions.parquet> ... --training models/idefics3_smollm2_parts/training.json

What a model answers about a blank image it knows from the question alone (A. Agrawal et al., CVPR 2018). Both
accuracies are of the same questions of `test`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reliabit.files import replacing

BLANK = "blank_image"
"""The shift in whose images there is nothing to see."""

ALL = "all"

Accuracies = dict[str, dict[str, float]]


def accuracy_by_kind(predictions: pa.Table) -> dict[str, Accuracies]:
    """Compare what is answered with and without the image.

    Args:
        predictions: A predictions table with test questions as they are and under `BLANK`.

    Returns:
        By source and kind (and `all`): `questions`, `accuracy` and `blind`.

    Raises:
        ValueError: No question was asked both ways.
    """
    columns = ["source", "question_type", "question_id", "accuracy"]
    test = predictions.filter(pc.equal(predictions["split"], "test"))
    sighted, blind = (
        test.filter(pc.equal(test["shift"], shift)).select(columns).to_pylist() for shift in ("none", BLANK)
    )
    without = {(row["source"], row["question_id"]): row["accuracy"] for row in blind}
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in sighted:
        other = without.get((row["source"], row["question_id"]))
        if other is not None:
            for kind in (ALL, row["question_type"]):
                pairs.setdefault((row["source"], kind), []).append((row["accuracy"], other))
    if not pairs:
        raise ValueError(f"no question of test was asked as it is and under {BLANK}")
    found: dict[str, Accuracies] = {}
    for (source, kind), both in pairs.items():
        accuracy, guessed = (sum(values) / len(both) for values in zip(*both, strict=True))
        found.setdefault(source, {})[kind] = {"questions": len(both), "accuracy": accuracy, "blind": guessed}
    return found


def record(accuracies: Mapping[str, Accuracies], training: Path) -> None:
    """Write accuracies into what the training says of itself, beside those of other sources."""
    said = json.loads(training.read_text())
    said["accuracy"] = {**said.get("accuracy", {}), **accuracies}
    with replacing(training) as unfinished:
        unfinished.write_text(json.dumps(said, indent=2) + "\n")


def main() -> None:
    """Read predictions tables, print the accuracies and record them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", nargs="+", type=Path)
    parser.add_argument("--training", type=Path)
    arguments = parser.parse_args()
    for path in arguments.predictions:
        accuracies = accuracy_by_kind(pq.read_table(path))
        print(json.dumps(accuracies, indent=2))
        if arguments.training:
            record(accuracies, arguments.training)


if __name__ == "__main__":
    main()
