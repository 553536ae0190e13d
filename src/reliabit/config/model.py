"""`model`: the model that is asked."""

from dataclasses import dataclass

from omegaconf import MISSING

from reliabit.settings import choice, positive


@dataclass
class ModelConfig:
    """The model that is asked.

    Attributes:
        name: How runs and reports call it.
        family: The adapter.
        path: The checkpoint folder, or `hub:<organization>/<name>`.
        revision: The commit of the hub that the checkpoint must be; null takes a folder as it is.
        download: Whether a checkpoint of the hub may be fetched; otherwise it must be in the local cache already.
        dtype: The precision of the weights that are not quantized, and of the arithmetic.
        template: The prompt around a question, `{question}`.
        max_new_tokens: Where an answer is cut off.
        max_pixels: Larger images are shrunk to so many pixels, where the family takes images of any size; null for the
            checkpoint's own limit.
    """

    name: str = MISSING
    family: str = choice("qwen2_vl", "qwen2_5_vl", "idefics3")
    path: str = MISSING
    revision: str | None = None
    download: bool = False
    dtype: str = choice("float32", "bfloat16", "float16")
    template: str = MISSING
    max_new_tokens: int = positive()
    max_pixels: int | None = positive(default=None)
