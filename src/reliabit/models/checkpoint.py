"""Loading a checkpoint folder: the model, its processor, and the adapter of its family."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.models.adapter import Adapter
from reliabit.models.encoding import Encoder
from reliabit.models.idefics3 import Idefics3
from reliabit.models.qwen2_5_vl import Qwen2_5_VL
from reliabit.models.qwen2_vl import Qwen2VL
from reliabit.models.spread import Spread
from reliabit.quant.checkpoint_files import loading
from reliabit.quant.record import CONFIG, OUR_FORMAT, check_format, read_config, read_json, read_record

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

OLDEST_TRANSFORMERS = "5.21"
"""Earlier ones keep weights in another type than they were asked for, or answer without having seen the image."""

GENERATION = "generation_config.json"

PROBE = (64, 64)
"""The size of the image that a processor is tried with."""

ADAPTERS: dict[str, type[Adapter]] = {adapter.model_type: adapter for adapter in (Qwen2VL, Qwen2_5_VL, Idefics3)}


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to answer, in evaluation mode, with what encodes its questions."""

    model: "PreTrainedModel"
    encoder: Encoder


def find_adapter(family: str) -> Adapter:
    """The adapter of a model family.

    Raises:
        ReliabitError: There is none.
    """
    if family not in ADAPTERS:
        raise ReliabitError(f"there is no adapter for the model family {family!r}; choose one of {', '.join(ADAPTERS)}")
    return ADAPTERS[family]()


def load_checkpoint(
    folder: Path,
    *,
    family: str,
    dtype: str,
    template: str,
    max_pixels: int | None = None,
    spread: Spread | None = None,
) -> Checkpoint:
    """Load a model and what encodes its questions.

    Args:
        folder: A Hugging Face folder; quantized ones load too.
        family: The adapter that is expected to fit.
        dtype: torch's name of the precision to compute in.
        template: The prompt around a question.
        max_pixels: Larger images are shrunk to so many pixels; `None` for the checkpoint's own limit.
        spread: How the model is spread over devices, if it does not fit on one.

    Raises:
        ReliabitError: The folder is no checkpoint, is of another family, or wants to run code of its own; or
            transformers is too old.
    """
    import torch

    from reliabit.quant.checkpoint_io import load_checkpoint as load_weights

    check_transformers()
    check_checkpoint(folder, family=family)
    options = {} if spread is None else spread.options()
    model = load_weights(folder, dtype=getattr(torch, dtype), trust_remote_code=False, **options)
    encoder = load_encoder(folder, family=family, template=template, max_pixels=max_pixels)
    return Checkpoint(model=model.eval().requires_grad_(False), encoder=encoder)


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


def load_encoder(folder: Path, *, family: str, template: str, max_pixels: int | None = None) -> Encoder:
    """Load what encodes a model's questions, without the model.

    Args:
        folder: A Hugging Face folder.
        family: The adapter that is expected to fit.
        template: The prompt around a question.
        max_pixels: Larger images are shrunk to so many pixels; `None` for the checkpoint's own limit.

    Raises:
        ReliabitError: The folder is no checkpoint, is of another family, or has no processor, or the family takes no
            limit of pixels.
    """
    from PIL import Image

    adapter = find_adapter(family)
    check_folder(folder, family=family)
    with loading(folder, "the processor"):
        processor = adapter.load_processor(folder)
    if max_pixels is not None:
        adapter.limit_pixels(processor, max_pixels)
    encoder = Encoder(adapter=adapter, processor=processor, template=template)
    with loading(folder, "the processor"):
        # What is wrong in the files of a processor shows when it is used.
        adapter.encode_images(processor, [Image.new("RGB", PROBE)])
        encoder([probe()])
    return encoder


def probe() -> dict[str, Any]:
    """A question about a grey image, as a row of a VQA table: what any model can be asked."""
    from PIL import Image

    grey = BytesIO()
    Image.new("RGB", PROBE, (128, 128, 128)).save(grey, format="PNG")
    named = dict.fromkeys(("question_id", "image_id", "source"), "probe")
    return {**named, "image": grey.getvalue(), "question": "what is it?"}


def check_loadable(
    folder: Path, *, family: str, template: str, max_pixels: int | None = None, dtype: str = "float32"
) -> None:
    """Check whatever of a checkpoint can be checked without its weights, so that no image is opened in vain.

    The model is built without memory, and one question about a grey image is encoded.

    Args:
        folder: A Hugging Face folder.
        family: The adapter that is expected to fit.
        template: The prompt around a question.
        max_pixels: Larger images are shrunk to so many pixels; `None` for the checkpoint's own limit.
        dtype: torch's name of the precision to compute in.

    Raises:
        ReliabitError: A file of it is missing or damaged, or describes no model that can answer; see `load_checkpoint`.
    """
    import torch

    check_transformers()
    check_checkpoint(folder, family=family)
    config = _built_empty(folder, getattr(torch, dtype)).config
    encoder = load_encoder(folder, family=family, template=template, max_pixels=max_pixels)
    _check_tokens(encoder, config, folder=folder)


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


def check_checkpoint(folder: Path, *, family: str) -> None:
    """Check that a folder is a checkpoint of a family with all its shards whole, before anything of it is loaded.

    It takes neither torch nor transformers.

    Raises:
        ReliabitError: It is not.
    """
    from reliabit.quant.checkpoint_files import check_shards, weight_files

    check_folder(folder, family=family)
    _check_generation(folder)
    check_shards(weight_files(folder))


def _check_generation(folder: Path) -> None:
    """Check what ends an answer: transformers passes over a damaged file, and answers would end elsewhere."""
    path = folder / GENERATION
    if not path.is_file():
        return
    found = read_json(path)
    ends = found.get("eos_token_id") if isinstance(found, dict) else path
    listed = ends if isinstance(ends, list) else [ends]
    if not all(end is None or type(end) is int for end in listed):
        raise ReliabitError(f"{path} does not say which tokens end an answer; fetch it again, or delete it")


def check_folder(folder: Path, *, family: str) -> None:
    """Check that a folder describes a model of a family that can be read here, whatever weights it holds.

    It takes neither torch nor transformers.

    Raises:
        ReliabitError: It is not.
    """
    if not (folder / CONFIG).is_file():
        raise ReliabitError(f"model.path={folder} is not a checkpoint folder (it has no {CONFIG}); correct the path")
    config = read_config(folder)
    if config.get("model_type") != family:
        raise ReliabitError(
            f"the checkpoint {folder} is of the family {config.get('model_type')!r}, and model.family={family}"
        )
    if "auto_map" in config:
        raise ReliabitError(f"the checkpoint {folder} wants to run code of its own (auto_map), which is never done")
    if "transformers_weights" in config:
        raise ReliabitError(
            f"the config.json of the checkpoint {folder} names a file of weights (transformers_weights), which is "
            "never followed; name that file model.safetensors"
        )
    check_format(config, folder=folder)
