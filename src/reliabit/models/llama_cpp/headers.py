"""What GGUF files say of a model beside its tensors, by family, and what llama.cpp's server must be told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedConfig, ProcessorMixin

_QWEN_TOKENS = (8, 4096)
"""The fewest and most tokens that llama.cpp gives an image of Qwen2-VL, whatever its checkpoint says."""

_QWEN_IMAGE = 560
"""Of a side; written and not used, as images keep their size."""

_QWEN_EPSILON = 1e-6
"""Of the norms in the vision tower, which its configuration does not tell."""


@dataclass(frozen=True)
class Advice:
    """How what was exported is to be served.

    Attributes:
        options: For llama.cpp's command line.
        warnings: In what its answers will differ, a sentence each.
    """

    options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """How llama.cpp takes a model family.

    Attributes:
        architecture: Its name for the decoder.
        pairs_side_by_side: Whether it rotates numbers that lie side by side.
        describe_vision: Adds what the vision part's file says.
        advise: Says how it is served.
        around_images: Tokens that llama.cpp puts around images, as byte-level BPE spells them, each with one whose
            embedding it takes where the vocabulary lacks it.
    """

    architecture: str
    pairs_side_by_side: bool
    describe_vision: "Callable[[GGUFWriter, PreTrainedConfig, ProcessorMixin], None]"
    advise: "Callable[[ProcessorMixin], Advice]"
    around_images: Mapping[str, str] = field(default_factory=dict, hash=False)


def describe_decoder(writer: "GGUFWriter", config: "PreTrainedConfig", *, folder: Path) -> None:
    """Add what the decoder's file says.

    Raises:
        ReliabitError: Its rotary positions are scaled, for which nothing is written here.
    """
    text: Any = config.get_text_config()
    rotary, heads = text.rope_parameters, text.num_attention_heads
    if rotary.get("rope_type", "default") != "default":
        raise ReliabitError(
            f"the decoder of {folder} scales its rotary positions ({rotary['rope_type']}), which is not written to "
            "GGUF here; convert it with llama.cpp's own convert_hf_to_gguf.py"
        )
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    writer.add_block_count(text.num_hidden_layers)
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(text.hidden_size)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_freq_base(rotary["rope_theta"])
    writer.add_rope_dimension_count(width)
    if "mrope_section" in rotary:
        # Time, height, width, and an axis that Qwen2-VL has not.
        writer.add_rope_dimension_sections([*rotary["mrope_section"], 0])
    writer.add_vocab_size(text.vocab_size)


def _describe_tower(
    writer: "GGUFWriter", config: "PreTrainedConfig", processor: "ProcessorMixin", **sizes: int
) -> None:
    """What all towers say: sizes, and how pixels are normalized."""
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(config.get_text_config().hidden_size)
    for name, size in sizes.items():
        getattr(writer, f"add_vision_{name}")(size)
    writer.add_vision_image_mean(processor.image_processor.image_mean)
    writer.add_vision_image_std(processor.image_processor.image_std)


def _describe_qwen(writer: "GGUFWriter", config: "PreTrainedConfig", processor: "ProcessorMixin") -> None:
    vision: Any = config.vision_config
    newer = config.model_type == "qwen2_5_vl"
    width = vision.hidden_size if newer else vision.embed_dim
    _describe_tower(
        writer,
        config,
        processor,
        image_size=_QWEN_IMAGE,
        patch_size=vision.patch_size,
        embedding_length=width,
        feed_forward_length=vision.intermediate_size if newer else int(width * vision.mlp_ratio),
        block_count=vision.depth,
        head_count=vision.num_heads,
        spatial_merge_size=vision.spatial_merge_size,
    )
    writer.add_vision_attention_layernorm_eps(_QWEN_EPSILON)
    if newer:
        writer.add_clip_projector_type("qwen2.5vl_merger")
        writer.add_vision_use_silu(True)
        # Every so many layers one sees the whole image.
        writer.add_vision_n_wa_pattern(vision.fullatt_block_indexes[0] + 1)
    else:
        writer.add_clip_projector_type("qwen2vl_merger")


def _advise_qwen(processor: "ProcessorMixin") -> Advice:
    images: Any = processor.image_processor
    area = (images.patch_size * images.merge_size) ** 2
    fewest, most = max(1, images.size["shortest_edge"] // area), images.size["longest_edge"] // area
    options = []
    if fewest != _QWEN_TOKENS[0]:
        options.append(f"--image-min-tokens {fewest}")
    if most != _QWEN_TOKENS[1]:
        options.append(f"--image-max-tokens {most}")
    return Advice(tuple(options))


def _describe_idefics3(writer: "GGUFWriter", config: "PreTrainedConfig", processor: "ProcessorMixin") -> None:
    vision: Any = config.vision_config
    _describe_tower(
        writer,
        config,
        processor,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        embedding_length=vision.hidden_size,
        feed_forward_length=vision.intermediate_size,
        block_count=vision.num_hidden_layers,
        head_count=vision.num_attention_heads,
        projector_scale_factor=config.scale_factor,
        preproc_image_size=processor.image_processor.size["longest_edge"],
    )
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_clip_projector_type("idefics3")
    writer.add_vision_use_gelu(True)


def _advise_idefics3(processor: "ProcessorMixin") -> Advice:
    warnings = []
    if not processor.image_processor.do_image_splitting:
        warnings.append(
            "llama.cpp always shows Idefics3 an image as tiles and as a whole, and this checkpoint sees it once: its "
            "answers are there to another prompt, so measure them with engine=openai and carry no threshold over"
        )
    return Advice((), tuple(warnings))


FAMILIES: Mapping[str, Family] = {
    "qwen2_vl": Family("qwen2vl", False, _describe_qwen, _advise_qwen),
    "qwen2_5_vl": Family("qwen2vl", False, _describe_qwen, _advise_qwen),
    "idefics3": Family("llama", True, _describe_idefics3, _advise_idefics3, {"ĊĊ": "Ċ"}),
}
"""The families that are written."""
