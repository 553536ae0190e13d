#!/usr/bin/env bash
# `safetensors.numpy` writes the bytes of an array as they lie in memory and notes its shape, not its strides. A transposed
# array (`a.T`, or anything in Fortran order, such as a weight taken over from a format that stores it the other way
# round) is saved without a word, and what is loaded has the right shape with its numbers in other places. The sister
# module for torch refuses such a tensor. Pass `numpy.ascontiguousarray(a)` before saving.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6

cd "$WORK"
"$WORK/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load, save

print("safetensors", version("safetensors"), "numpy", np.__version__)
weight = np.arange(6, dtype=np.float32).reshape(2, 3)
loaded = load(save({"weight": weight.T}))["weight"]
contiguous = load(save({"weight": np.ascontiguousarray(weight.T)}))["weight"]
print("saved:\n", weight.T, "\nloaded:\n", loaded, "\nloaded, made contiguous before:\n", contiguous)
scrambled = loaded.shape == (3, 2) and not np.array_equal(loaded, weight.T)
if not (scrambled and np.array_equal(contiguous, weight.T)):
    sys.exit("the behaviour has changed")
PYTHON
