"""The two reference models: real architectures at 1.7 and 1.4 million parameters, for tests and the default run.

They are stand-ins for the full-size models: small enough to keep in the repository and to answer a question in
milliseconds on a CPU, and yet the same classes, processors and checkpoints as Qwen2-VL-7B and Idefics3-8B.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

VOCABULARY = 384
MAX_TOKEN_LENGTH = 4
"""No token spans more bytes, so that most answers span several tokens, as they do in the full-size models."""

IMAGE_SIZE = 80
PATCH = 8
HIDDEN = 128
VISION_LAYERS = 4
DECODER_LAYERS = 2
HEADS = 4
KEY_VALUE_HEADS = 2

QWEN2_VL_TOKENS = (
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
IDEFICS3_TOKENS = (
    "<pad>",
    "<|begin_of_text|>",
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
)
QWEN2_VL_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS3_TEMPLATE = (
    "<|begin_of_text|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


@dataclass(frozen=True)
class ReferenceModel:
    """A reference model with its processor, ready to be trained."""

    model: "PreTrainedModel"
    processor: "ProcessorMixin"


def train_tokenizer(texts: Iterable[str], *, special_tokens: tuple[str, ...]) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE tokenizer of `VOCABULARY` tokens on the questions and answers of the data."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(special_tokens),
        initial_alphabet=ByteLevel.alphabet(),
        max_token_length=MAX_TOKEN_LENGTH,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special_tokens[0],
        eos_token=special_tokens[2],
        extra_special_tokens=list(special_tokens[1:]),
        padding_side="left",
    )


def build_qwen2_vl(texts: Iterable[str]) -> ReferenceModel:
    """Build the untrained Qwen2-VL reference model with a tokenizer trained on `texts`."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil

    from reliabit.models.families.qwen2_vl import image_only_processor

    tokenizer = train_tokenizer(texts, special_tokens=QWEN2_VL_TOKENS)
    tokenizer.chat_template = QWEN2_VL_TEMPLATE
    ids = dict(zip(QWEN2_VL_TOKENS, tokenizer.convert_tokens_to_ids(list(QWEN2_VL_TOKENS)), strict=True))
    head = HIDDEN // HEADS
    config = Qwen2VLConfig(
        text_config=_text_config(
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [head // 8, head * 3 // 16, head * 3 // 16],
            },
            eos_token_id=ids["<|im_end|>"],
            pad_token_id=ids["<|pad|>"],
            bos_token_id=None,
        ),
        vision_config={
            "depth": VISION_LAYERS,
            "embed_dim": HIDDEN,
            "hidden_size": HIDDEN,
            "num_heads": HEADS,
            "mlp_ratio": 4,
            "patch_size": PATCH,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=2, size={"shortest_edge": (2 * PATCH) ** 2, "longest_edge": 4 * IMAGE_SIZE**2}
    )
    return _with_greedy_generation(
        Qwen2VLForConditionalGeneration(config), image_only_processor(image_processor, tokenizer)
    )


def build_idefics3(texts: Iterable[str]) -> ReferenceModel:
    """Build the untrained Idefics3 reference model with a tokenizer trained on `texts`."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    tokenizer = train_tokenizer(texts, special_tokens=IDEFICS3_TOKENS)
    tokenizer.chat_template = IDEFICS3_TEMPLATE
    ids = dict(zip(IDEFICS3_TOKENS, tokenizer.convert_tokens_to_ids(list(IDEFICS3_TOKENS)), strict=True))
    scale = 2
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            **_text_config(
                rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
                eos_token_id=ids["<end_of_utterance>"],
                pad_token_id=ids["<pad>"],
                bos_token_id=ids["<|begin_of_text|>"],
            ),
        },
        vision_config={
            "hidden_size": HIDDEN,
            "intermediate_size": 4 * HIDDEN,
            "num_hidden_layers": VISION_LAYERS,
            "num_attention_heads": HEADS,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
        },
        scale_factor=scale,
        image_token_id=ids["<image>"],
        tie_word_embeddings=False,
        pad_token_id=ids["<pad>"],
    )
    image_processor = Idefics3ImageProcessorPil(
        size={"longest_edge": IMAGE_SIZE}, max_image_size={"longest_edge": IMAGE_SIZE}, do_image_splitting=False
    )
    processor = Idefics3Processor(
        image_processor,
        tokenizer,
        image_seq_len=(IMAGE_SIZE // PATCH) ** 2 // scale**2,
        chat_template=IDEFICS3_TEMPLATE,
    )
    return _with_greedy_generation(Idefics3ForConditionalGeneration(config), processor)


BUILDERS = {"qwen2_vl": build_qwen2_vl, "idefics3": build_idefics3}


def check_family(family: str) -> None:
    """Check that there is a reference model of a family.

    Raises:
        ReliabitError: There is none.
    """
    if family not in BUILDERS:
        raise ReliabitError(
            f"model.family={family} has no reference model to train; choose one of {', '.join(BUILDERS)}, such as "
            "model=qwen2_vl_tiny"
        )


def _text_config(**tokens: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 3 * HIDDEN,
        "num_hidden_layers": DECODER_LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        **tokens,
    }


def _with_greedy_generation(model: "PreTrainedModel", processor: "ProcessorMixin") -> ReferenceModel:
    model.generation_config.update(
        do_sample=False, eos_token_id=processor.tokenizer.eos_token_id, pad_token_id=processor.tokenizer.pad_token_id
    )
    return ReferenceModel(model=model, processor=processor)
