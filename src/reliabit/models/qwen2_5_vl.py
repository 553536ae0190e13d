"""Qwen2.5-VL."""

from typing import ClassVar

from reliabit.models.qwen2_vl import Qwen2VL


class Qwen2_5_VL(Qwen2VL):  # noqa: N801 - the model's own name
    """`Qwen2_5_VLForConditionalGeneration`: Qwen2-VL with windows in the vision tower.

    Prompt, tokens and names are those of Qwen2-VL; its processor differs in videos alone, of which there are none.
    """

    model_type: ClassVar[str] = "qwen2_5_vl"
