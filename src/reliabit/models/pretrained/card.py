"""The model card of the assembled model."""

from collections.abc import Mapping
from typing import Any

from reliabit.files import MANIFEST
from reliabit.models.pretrained.design import Design

CARD = """# idefics3_smollm2

The real `Idefics3ForConditionalGeneration` class of transformers at 154 million parameters (28 million of them the
embeddings), **joined by this project from pretrained parts** that public packages ship. It is not SmolVLM: its decoder
is that of SmolVLM-256M; tower, connector and training are others.

- **Decoder** (`{language.package}` {language.version}, {language.licence}): SmolLM2-135M-Instruct, 30 layers, hidden
  size 576. The package holds it in GGUF's Q4_1 (embeddings in Q8_0): its weights have **passed once through 4 bits**.
  They were dequantized, and low-rank adapters of the query, value and down projections were folded in.
- **Vision tower** (`{vision.package}` {vision.version}, {vision.licence}): the first {layers} of the 12 layers of a
  ViT-S/14, hidden size 384, that stands below a saliency head there. The package does not say where the ViT is from;
  its names and shapes are those of DINOv2-small. Layer scale is folded into the output projections, positions are
  resized to 16 x 16, and there is no class token.
- **Connector, last norm of the tower, adapters and norms of the decoder** (this project, Apache-2.0): learned with
  `task=pretrain` on `train` splits alone, the tower frozen; `models/idefics3_smollm2_parts` holds them.
- **For**: measuring quantization on a decoder that was really pretrained, and so has something to lose.
- **Images** become one square of 224 pixels, without splitting, and 16 tokens.
- **Prompt**: the image, then `\\nQuestion: <question> Answer:`; an answer ends with `<end_of_utterance>`. No token was
  added: four of SmolLM2's special tokens are called otherwise, among them its `<|im_end|>`.
- **Format**: float16 safetensors, to be computed with in float32 or bfloat16; `{manifest}` has the digests.
- **Limits**: it answers in a word or two, in the words of its training sets; it is no assistant, and what it was not
  trained on it guesses.
- **Made with** `make pretrained`, which trains nothing; the weights have the same bytes on every machine.

## Accuracy

{accuracy}
"""

UNMEASURED = "Not measured yet."


def model_card(training: Mapping[str, Any], design: Design) -> str:
    """The text of the card.

    Args:
        training: What the training says of itself; `accuracy` holds for each data set and kind of question how many
            `questions` of `test` were asked, and the shares of right answers with the image (`accuracy`) and with a
            blank one (`blind`).
        design: What the model is assembled of.
    """
    return CARD.format(
        language=design.language,
        vision=design.vision,
        layers=design.layers,
        manifest=MANIFEST,
        accuracy=_accuracy(training.get("accuracy") or {}),
    )


def _accuracy(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The table of what was measured.

    >>> print(_accuracy({"pictures": {"flag": {"questions": 90, "accuracy": 0.5, "blind": 0.125}}}))
    On `test`, unquantized; blind is the same model before a blank image.
    <BLANKLINE>
    | data | questions | | accuracy | blind |
    | --- | --- | --- | --- | --- |
    | pictures | flag | 90 | 50.0 % | 12.5 % |
    """
    if not measured:
        return UNMEASURED
    rows = [
        f"| {data} | {kind} | {found['questions']} | {100 * found['accuracy']:.1f} % | {100 * found['blind']:.1f} % |"
        for data, kinds in measured.items()
        for kind, found in kinds.items()
    ]
    above = ["On `test`, unquantized; blind is the same model before a blank image.", ""]
    table = ["| data | questions | | accuracy | blind |", "| --- | --- | --- | --- | --- |", *rows]
    return "\n".join([*above, *table])
