"""The settings of the model that is asked."""

from dataclasses import dataclass

from omegaconf import MISSING

from reliabit.models.families import FAMILIES
from reliabit.settings import check_template, choice, component, positive


@dataclass
class ModelConfig:
    """`model`: the model that is asked.

    Attributes:
        name: How runs and reports call it.
        family: Its `Adapter`.
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
    family: str = component(FAMILIES)
    path: str = MISSING
    revision: str | None = None
    download: bool = False
    dtype: str = choice("float32", "bfloat16", "float16")
    template: str = MISSING
    max_new_tokens: int = positive()
    max_pixels: int | None = positive(default=None)

    def check(self, key: str) -> None:
        """Check that the prompt shows the question."""
        check_template(self.template, key=f"{key}.template", fields=("question",))
