#!/usr/bin/env bash
# hqq's error depends on the unit that weights are measured in: it keeps the inverse of a group's scale below 2e4, and
# gives a group that spans less than 1e-4 the scale 1, so that all of its values become one number. Weights so small are
# ordinary: a row that training has nearly switched off, a layer that is folded into a larger scale. At 8 bits groups
# lose from a span of about 1e-2 down (ten times the error at 1e-3); the same values times 1000 are kept.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 setuptools==80.9.0 wheel==0.45.1
DISABLE_CUDA=1 "$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation hqq==0.2.8.post1

cd "$WORK"
"$WORK/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from hqq.core.quantize import Quantizer


def relative_error(weight, bits):
    codes, meta = Quantizer.quantize(
        weight, nbits=bits, group_size=64, axis=1, optimize=True, device="cpu", compute_dtype=torch.float32
    )
    return float((Quantizer.dequantize(codes, meta) - weight).norm() / weight.norm())


print("hqq", version("hqq"), "torch", torch.__version__)
torch.manual_seed(0)
weight = torch.rand(32, 64) - 0.5
errors = {}
for bits in (8, 4):
    for span in (1.0, 1e-2, 1e-3, 1.1e-4, 9e-5, 1e-6):
        errors[bits, span] = relative_error(weight * span, bits)
        print(f"{bits} bits, values spanning {span:7.1e}: relative error {errors[bits, span]:.4f}")
kept = all(errors[8, span] < 0.01 and errors[4, span] < 0.1 for span in (1.0, 1e-2))
worse = errors[8, 1e-3] > 5 * errors[8, 1.0] and errors[8, 1.1e-4] > 0.3
lost = all(errors[bits, span] > 0.9 for bits in (8, 4) for span in (9e-5, 1e-6))
if not (kept and worse and lost):
    sys.exit("the behaviour has changed")
PYTHON
