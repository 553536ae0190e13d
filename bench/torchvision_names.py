"""Declares the names of torchvision's compiled operators, so that it can be imported beside torch's CPU build.

Import this before anything that imports torchvision. The operators themselves are not there.
"""

from contextlib import suppress

import torch

for name in ("nms", "qnms"):
    with suppress(RuntimeError):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
