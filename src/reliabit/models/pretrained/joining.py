"""The join: a pretrained decoder and a pretrained tower in one Idefics3, with what was learned to connect them."""

from typing import TYPE_CHECKING, Any

from reliabit.models.pretrained.decoder import Decoder, build_tokenizer
from reliabit.models.pretrained.design import AROUND, DESIGN, END, GLOBAL, IMAGE, PAD, Design
from reliabit.models.pretrained.learned import CONNECTOR, POST_NORM, Learned
from reliabit.models.pretrained.tower import Tower
from reliabit.models.reference import ReferenceModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import GenerationConfig, Idefics3Config, Idefics3Processor, PreTrainedTokenizerFast

TEXT = "model.text_model"
VISION = "model.vision_model"

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, red, green and blue: what the tower's pixels are standardized by."""

BICUBIC = 3
"""Pillow's number: pictures are enlarged, and Lanczos would leave rings around cut-out things."""

TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% elif message['role'] == 'assistant' %} Answer: {{ part['text'] }}<end_of_utterance>"
    "{% else %}{{ '\\nQuestion: ' + part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} Answer:{% endif %}"
)


def build(decoder: Decoder, tower: Tower, *, learned: Learned | None = None, design: Design = DESIGN) -> ReferenceModel:
    """Build the joined model in float32, weights rounded as they are stored, and its processor.

    Args:
        decoder: The language model.
        tower: The vision tower.
        learned: What connects them; without it the connector is random and the tower's last norm changes nothing.
        design: How they are joined.
    """
    import torch
    from transformers import Idefics3ForConditionalGeneration

    processor = build_processor(decoder, tower, design=design)
    config = build_config(decoder, tower, design=design)
    joined = join_weights(decoder, tower, learned or untrained(config), design=design)
    weights = {name: torch.from_numpy(weight) for name, weight in joined.items()}
    model = Idefics3ForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=weights, dtype=torch.float32, local_files_only=True
    )
    model.generation_config = build_generation_config(config)
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


def join_weights(
    decoder: Decoder, tower: Tower, learned: Learned, *, design: Design = DESIGN
) -> "dict[str, NDArray[np.float16]]":
    """The weights of the joined model by their names in it, each rounded once; the head is the embeddings.

    They are kept in float16: the scales of the packed decoder are float16 themselves, and it keeps eight times more of
    them than bfloat16 in the same room.

    Raises:
        ReliabitError: The learned part fits another model.
    """
    import numpy as np

    base: dict[str, NDArray[Any]]
    base = {f"{TEXT}.{name}": weight for name, weight in decoder.weights.items()}
    base |= {f"{VISION}.{name}": weight for name, weight in tower.weights.items()}
    width, hidden = tower.config["hidden_size"], decoder.config["hidden_size"]
    added: dict[str, tuple[int, ...]] = {
        CONNECTOR: (hidden, width * design.shuffle**2),
        f"{POST_NORM}.weight": (width,),
        f"{POST_NORM}.bias": (width,),
    }
    learned.check({name: weight.shape for name, weight in base.items()} | added)
    found = {name: learned.applied(name, weight) for name, weight in base.items()}
    found |= {name: learned.tensors[name] for name in added}
    # Row by row: safetensors writes arrays as they lie in memory, whatever their strides.
    return {name: weight.astype(np.float16, order="C") for name, weight in found.items()}


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


def build_generation_config(config: "Idefics3Config") -> "GenerationConfig":
    """Greedy decoding, up to the token that ends an answer."""
    from transformers import GenerationConfig

    text = config.text_config
    return GenerationConfig(do_sample=False, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id)


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
