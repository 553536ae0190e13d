"""The join: a pretrained decoder and a pretrained tower in one Idefics3, with what was learned to connect them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reliabit.models.pretrained.decoder import Decoder, build_tokenizer
from reliabit.models.pretrained.learned import CONNECTOR, POST_NORM, Learned
from reliabit.models.pretrained.tower import Tower
from reliabit.models.reference import ReferenceModel

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import Idefics3Config, Idefics3Processor, PreTrainedTokenizerFast

TEXT = "model.text_model"
VISION = "model.vision_model"

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, red, green and blue: what the tower's pixels are standardized by."""

BICUBIC = 3
"""Pillow's number: pictures are enlarged, and Lanczos would leave rings around cut-out things."""

END, PAD = "<end_of_utterance>", "<|endoftext|>"
IMAGE, AROUND, GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% elif message['role'] == 'assistant' %} Answer: {{ part['text'] }}<end_of_utterance>"
    "{% else %}{{ '\\nQuestion: ' + part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} Answer:{% endif %}"
)


@dataclass(frozen=True)
class Design:
    """How the parts are joined.

    Attributes:
        layers: Layers of the tower that are kept.
        heads: The tower's attention heads.
        image_size: Width and height of the images that it sees, in pixels.
        shuffle: The squares of `shuffle * shuffle` patches that become one token.
        renamed: What the decoder's special tokens are called here; no token is added.
    """

    layers: int = 9
    heads: int = 6
    image_size: int = 224
    shuffle: int = 4
    renamed: Mapping[str, str] = field(
        default_factory=lambda: {
            "<|im_end|>": END,
            "<jupyter_start>": IMAGE,
            "<jupyter_text>": AROUND,
            "<jupyter_code>": GLOBAL,
        }
    )


DESIGN = Design()


def build(
    decoder: Decoder, tower: Tower, *, learned: "Learned | None" = None, design: Design = DESIGN
) -> ReferenceModel:
    """Build the joined model in float32, weights rounded as they are stored, and its processor.

    Args:
        decoder: The language model.
        tower: The vision tower.
        learned: What connects them; without it the connector is random and the tower's last norm changes nothing.
        design: How they are joined.
    """
    import torch
    from transformers import GenerationConfig, Idefics3ForConditionalGeneration

    processor = build_processor(decoder, tower, design=design)
    config = build_config(decoder, tower, design=design)
    weights = join_weights(decoder, tower, learned or untrained(config))
    model = Idefics3ForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=weights, dtype=torch.float32, local_files_only=True
    )
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return ReferenceModel(model=model.eval(), processor=processor)


def untrained(config: "Idefics3Config", *, seed: int = 0) -> Learned:
    """What training begins with: a small random connector, and a last norm of the tower that changes nothing more."""
    import numpy as np

    width, hidden = config.vision_config.hidden_size, config.text_config.hidden_size
    inputs = width * config.scale_factor**2
    connector = np.random.default_rng(seed).normal(scale=0.1 / inputs**0.5, size=(hidden, inputs))
    return Learned(
        {
            CONNECTOR: connector.astype(np.float32),
            f"{POST_NORM}.weight": np.ones(width, np.float32),
            f"{POST_NORM}.bias": np.zeros(width, np.float32),
        }
    )


def join_weights(decoder: Decoder, tower: Tower, learned: Learned) -> "dict[str, torch.Tensor]":
    """The weights of the joined model by their names in it, in float16, each rounded once; the head is the embeddings.

    Scales of the packed decoder are float16 themselves, so that this type keeps eight times more of them than bfloat16
    in the same room.
    """
    import numpy as np
    import torch

    base: dict[str, NDArray[Any]]
    base = {f"{TEXT}.{name}": weight for name, weight in decoder.weights.items()}
    base |= {f"{VISION}.{name}": weight for name, weight in tower.weights.items()}
    found = {name: learned.applied(name, weight) for name, weight in base.items()} | learned.added(base)
    return {name: torch.from_numpy(np.ascontiguousarray(weight.astype(np.float16))) for name, weight in found.items()}


def build_config(decoder: Decoder, tower: Tower, *, design: Design = DESIGN) -> "Idefics3Config":
    """The configuration of the joined model; float32 is what it computes in unless it is told otherwise."""
    from transformers import Idefics3Config

    ids = {design.renamed.get(token, token): number for number, token in enumerate(decoder.tokens)}
    tokens = {"bos_token_id": None, "eos_token_id": ids[END], "pad_token_id": ids[PAD]}
    return Idefics3Config(
        text_config={**decoder.config, **tokens},
        vision_config=tower.config,
        scale_factor=design.shuffle,
        image_token_id=ids[IMAGE],
        tie_word_embeddings=True,
        pad_token_id=ids[PAD],
        dtype="float32",
        architectures=["Idefics3ForConditionalGeneration"],
    )


def build_processor(decoder: Decoder, tower: Tower, *, design: Design = DESIGN) -> "Idefics3Processor":
    """The tokenizer and the image processor of the joined model: every image becomes one square."""
    from transformers import Idefics3ImageProcessorPil, Idefics3Processor

    size = {"longest_edge": design.image_size}
    image_processor = Idefics3ImageProcessorPil(
        size=size,
        max_image_size=size,
        do_image_splitting=False,
        resample=BICUBIC,
        image_mean=list(MEAN),
        image_std=list(DEVIATION),
    )
    side = design.image_size // tower.config["patch_size"] // design.shuffle
    return Idefics3Processor(
        image_processor, _transformers_tokenizer(decoder, design), image_seq_len=side * side, chat_template=TEMPLATE
    )


def _transformers_tokenizer(decoder: Decoder, design: Design) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_tokenizer(decoder, renamed=design.renamed),
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[IMAGE, AROUND, GLOBAL],
        padding_side="left",
        model_max_length=decoder.config["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
