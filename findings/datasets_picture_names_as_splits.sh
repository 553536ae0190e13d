#!/usr/bin/env bash
# A folder of pictures in which some are called after a train or a test tube: `load_dataset("imagefolder")` takes the words
# "train" and "test" in file names for splits, and then leaves out every picture without such a word, and metadata.csv with
# its questions and answers. Nothing says so; without those two pictures the same folder is read whole.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==12.0.0

cd "$WORK"
HF_HUB_OFFLINE=1 HF_HOME="$WORK/cache" "$WORK/venv/bin/python" - <<'PYTHON'
import csv
import sys
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()


def read(folder, names):
    Path(folder).mkdir()
    for shade, name in enumerate(names):
        Image.new("L", (8, 8), shade).save(Path(folder, name))
    with Path(folder, "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "question"], *([name, "what is it?"] for name in names)])
    found = datasets.load_dataset("imagefolder", data_dir=folder)
    return {split: (len(rows), sorted(rows.features)) for split, rows in found.items()}


print("datasets", datasets.__version__)
plain = read("plain", ["bus 1.png", "bicycle 1.png"])
named = read("named", ["bus 1.png", "bicycle 1.png", "train 1.png", "test tube.png"])
print("bus, bicycle:                   ", plain)
print("bus, bicycle, train, test tube: ", named)
if plain != {"train": (2, ["image", "question"])} or named != {"train": (1, ["image"]), "test": (1, ["image"])}:
    sys.exit("the behaviour has changed")
PYTHON
