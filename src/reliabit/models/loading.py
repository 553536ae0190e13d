"""Loading a checkpoint: the model, its processor, and the adapter of its family."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.models.admission import Admission, read_context_length
from reliabit.models.checkpoint_folder import GENERATION, check_checkpoint, check_folder
from reliabit.models.encoding import Encoder
from reliabit.models.settings import ModelConfig
from reliabit.models.spread import Spread
from reliabit.quant.checkpoint_files import loading
from reliabit.quant.record import OUR_FORMAT, read_record

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

OLDEST_TRANSFORMERS = "5.21"
"""Earlier ones keep weights in another type than they were asked for, or answer without having seen the image."""

PROBE = (64, 64)
"""The size of the image that a processor is tried with."""


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to answer, in evaluation mode, with what encodes its questions."""

    model: "PreTrainedModel"
    encoder: Encoder

    @property
    def processor(self) -> "ProcessorMixin":
        """The tokenizer and the image processor, as transformers knows them."""
        return self.encoder.processor


def load_checkpoint(model: ModelConfig, *, spread: Spread | None = None) -> Checkpoint:
    """Load a model and what encodes its questions.

    Args:
        model: Its folder, family and prompt, and the precision to compute in; quantized checkpoints load too.
        spread: How it is spread over devices, if it does not fit on one.

    Raises:
        ReliabitError: The folder is no checkpoint, is of another family, or wants to run code of its own; or
            transformers is too old.
    """
    import torch

    from reliabit.quant.checkpoint_io import load_checkpoint as load_weights

    check_transformers()
    folder = model.folder
    check_checkpoint(folder, family=model.known_family)
    options = {} if spread is None else spread.options()
    weights = load_weights(folder, dtype=getattr(torch, model.dtype), trust_remote_code=False, **options)
    return Checkpoint(model=weights.eval().requires_grad_(False), encoder=load_encoder(model))


def check_transformers() -> None:
    """Check the version where nothing was installed that would have: before it, wrong answers come without a word.

    Raises:
        ReliabitError: It is too old.
    """
    import transformers
    from packaging.version import Version

    if Version(transformers.__version__) < Version(OLDEST_TRANSFORMERS):
        raise ReliabitError(
            f"transformers {transformers.__version__} is installed and answering needs {OLDEST_TRANSFORMERS} or later; "
            f"install it with pip install 'transformers>={OLDEST_TRANSFORMERS}'"
        )


def load_encoder(model: ModelConfig) -> Encoder:
    """Load what encodes a model's questions, without the model.

    Raises:
        ReliabitError: The folder is no checkpoint, is of another family, or has no processor, or the family takes no
            limit of pixels.
    """
    from PIL import Image

    folder, adapter = model.folder, model.adapter
    check_folder(folder, family=model.known_family)
    with loading(folder, "the processor"):
        processor = adapter.load_processor(folder)
    if model.max_pixels is not None:
        adapter.limit_pixels(processor, model.max_pixels)
    encoder = Encoder(adapter=adapter, processor=processor, template=model.template)
    with loading(folder, "the processor"):
        # What is wrong in the files of a processor shows when it is used.
        adapter.encode_images(processor, [Image.new("RGB", PROBE)])
        encoder([probe()])
    return encoder


def load_admission(model: ModelConfig, *, answer_tokens: int) -> Admission:
    """Load what says which questions a model takes.

    Args:
        model: How it is asked.
        answer_tokens: Tokens to leave room for after the prompt.
    """
    return Admission(load_encoder(model), longest=read_context_length(model.folder) - answer_tokens)


def probe() -> dict[str, Any]:
    """A question about a grey image, as a row of a VQA table: what any model can be asked."""
    from PIL import Image

    grey = BytesIO()
    Image.new("RGB", PROBE, (128, 128, 128)).save(grey, format="PNG")
    named = dict.fromkeys(("question_id", "image_id", "source"), "probe")
    return {**named, "image": grey.getvalue(), "question": "what is it?"}


def check_loadable(model: ModelConfig) -> None:
    """Check whatever of a checkpoint can be checked without its weights, so that no image is opened in vain.

    The model is built without memory, and one question about a grey image is encoded.

    Raises:
        ReliabitError: A file of it is missing or damaged, or describes no model that can answer; see `load_checkpoint`.
    """
    import torch

    check_transformers()
    folder = model.folder
    check_checkpoint(folder, family=model.known_family)
    config = _built_empty(folder, getattr(torch, model.dtype)).config
    _check_tokens(load_encoder(model), config, folder=folder)


def _built_empty(folder: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    """The model that a folder describes, without memory, packed layers in their places."""
    from transformers import GenerationConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    from reliabit.quant.checkpoint_io import skeleton
    from reliabit.quant.layers import replace_by_empty
    from reliabit.quant.plugin import ReliabitConfig

    model = skeleton(folder, dtype)
    if (folder / GENERATION).is_file():
        with loading(folder, f"the {GENERATION}"):
            GenerationConfig.from_pretrained(folder)
    record = read_record(folder)
    if record is not None:
        with loading(folder, "the quantization_config"):
            if record.get("quant_method") == OUR_FORMAT:
                for name, layout in ReliabitConfig(**record).layouts().items():
                    replace_by_empty(model, name, layout)
            else:
                # What its reader needs of the machine.
                AutoHfQuantizer.from_config(record).validate_environment(device_map=None)
    return model


def _check_tokens(encoder: Encoder, config: "PreTrainedConfig", *, folder: Path) -> None:
    """Check that a tokenizer is the model's own."""
    batch, tokenizer = encoder([probe()]), encoder.processor.tokenizer
    words, largest = config.get_text_config().vocab_size, int(batch.text["input_ids"].max())
    end, image = encoder.adapter.end_of_answer, encoder.adapter.image_token
    wrong = None
    if largest >= words:
        wrong = f"gives the token {largest}, and the model knows {words}"
    elif not isinstance(tokenizer.convert_tokens_to_ids(end), int):
        wrong = f"lacks {end}, which ends an answer"
    elif tokenizer.convert_tokens_to_ids(image) != config.image_token_id:
        wrong = f"has {tokenizer.convert_tokens_to_ids(image)} for {image}, and the model {config.image_token_id}"
    if wrong is not None:
        raise ReliabitError(
            f"the tokenizer of the checkpoint {folder} {wrong}; it is another model's: fetch the checkpoint again"
        )
