"""Lets torchvision's build for CUDA be imported beside torch's build for CPUs, in any process of an environment.

Torchvision describes operators that its compiled part defines, and fails where that part cannot be loaded. Here their
names are declared first, at the moment when torchvision is imported, by whichever process; the operators themselves
stay away. A `.pth` file beside this one imports it when Python starts.
"""

import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from typing import Any

OPERATORS, SIGNATURE = ("nms", "qnms"), "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class Declaration:
    """Declares the operators when torchvision is looked for, and leaves the search to others."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Find nothing."""
        if name == "torchvision":
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            import torch

            for operator in OPERATORS:
                with suppress(RuntimeError):
                    torch.library.define(f"torchvision::{operator}", SIGNATURE)
        return None


sys.meta_path.insert(0, Declaration())  # type: ignore[arg-type]
