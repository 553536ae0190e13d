#!/usr/bin/env bash
# The expected calibration error of the same nine answers is .500, .433 or .344, by library and by dtype: confidences
# that are edges of bins fall into the bin above or below (float32 moves 0.6 and 0.7 across the edge), and torchmetrics
# has a bin of its own for a confidence of exactly 1. Two published ECEs compare only with library, dtype and bins named.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 netcal==1.4.0 numpy==2.4.6

cd "$WORK"
"$WORK/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import torch
from netcal.metrics import ECE
from torchmetrics.functional.classification import binary_calibration_error

CONFIDENCE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
CORRECT = [0, 1, 0, 1, 0, 1, 0, 1, 0]


def torchmetrics_ece(confidence, correct, dtype):
    return float(
        binary_calibration_error(torch.tensor(confidence, dtype=dtype), torch.tensor(correct), n_bins=10, norm="l1")
    )


print(*(f"{name} {version(name)}" for name in ("torchmetrics", "netcal", "torch")))
found = {
    "torchmetrics float32": torchmetrics_ece(CONFIDENCE, CORRECT, torch.float32),
    "torchmetrics float64": torchmetrics_ece(CONFIDENCE, CORRECT, torch.float64),
    "netcal": float(ECE(bins=10).measure(np.array(CONFIDENCE), np.array(CORRECT))),
}
for name, value in found.items():
    print(f"{name:>22}: ECE {value:.3f}")
if [round(value, 3) for value in found.values()] != [0.5, 0.433, 0.344]:
    sys.exit("the behaviour has changed")
PYTHON
