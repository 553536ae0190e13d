"""Export to GGUF for llama.cpp's server: `model.gguf` holds the decoder, `mmproj.gguf` what sees the image."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from reliabit.errors import ReliabitError
from reliabit.files import staged_folder
from reliabit.models.families import find_adapter
from reliabit.models.llama_cpp import FILE_TYPES, PLAIN
from reliabit.models.llama_cpp.blocks import blocks_of, check_quantizer, quantize_rows
from reliabit.models.llama_cpp.headers import FAMILIES, Advice, describe_decoder
from reliabit.models.llama_cpp.tensors import canonical, decoder_tensors, is_vision, vision_tensors
from reliabit.models.llama_cpp.vocabulary import read_vocabulary
from reliabit.quant.checkpoint_files import loading, weight_files
from reliabit.quant.packed import PackedWeight
from reliabit.quant.plugin import ReliabitConfig
from reliabit.quant.record import OUR_FORMAT, read_record

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter
    from numpy.typing import NDArray

DECODER, VISION = "model.gguf", "mmproj.gguf"

_OUTER = "Q8_0"
"""Embeddings and head of a file whose matrices are quantized."""

_CLIP = "clip"
"""llama.cpp's name for whatever sees images."""

_EMBEDDING = "model.embed_tokens.weight"

_LAYERS = 128
"""More layers than a vision tower has: names are looked up, not counted."""


@dataclass(frozen=True)
class GgufReport:
    """What was written.

    Attributes:
        types: How many tensors of both files have each type.
        advice: How it is to be served.
    """

    types: Mapping[str, int]
    advice: Advice


def export_gguf(
    source: Path, folder: Path, *, family: str, file_type: str = "f16", pre_tokenizer: str | None = None
) -> GgufReport:
    """Write a checkpoint as two GGUF files, whole or not at all.

    Args:
        source: The checkpoint, unquantized, or quantized by this project on grids that GGUF has: their codes are then
            written as they are.
        folder: Where to.
        family: The model's family.
        file_type: One of `FILE_TYPES`, for the decoder's matrices that are not quantized yet.
        pre_tokenizer: llama.cpp's name for how the tokenizer cuts text; `None` finds it.

    Raises:
        ReliabitError: A package is missing, or GGUF has no place for something of the model; it is named.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from transformers import AutoConfig

    check_exportable(source, family=family, file_type=file_type)
    adapter, taken = find_adapter(family), FAMILIES[family]
    with loading(source, "the configuration"):
        config = AutoConfig.from_pretrained(source, local_files_only=True)
    with loading(source, "the processor"):
        processor = adapter.load_processor(source)
    text = config.get_text_config()
    vocabulary = read_vocabulary(
        source,
        processor.tokenizer,
        rows=text.vocab_size,
        end=adapter.end_of_answer,
        template=processor.chat_template,
        pre=pre_tokenizer,
        wanted=taken.around_images,
    )
    architectures = {name: number for number, name in MODEL_ARCH_NAMES.items()}
    names = get_tensor_name_map(architectures[taken.architecture], text.num_hidden_layers)
    heads = (text.num_attention_heads, text.num_key_value_heads) if taken.pairs_side_by_side else None
    tower = get_tensor_name_map(architectures[_CLIP], _LAYERS)
    types: Counter[str] = Counter()
    with (
        staged_folder(folder) as staging,
        _writer(staging / DECODER, taken.architecture, name=source.name) as decoder,
        _writer(staging / VISION, _CLIP, name=source.name) as vision,
    ):
        describe_decoder(decoder, config, folder=source)
        vocabulary.write(decoder)
        taken.describe_vision(vision, config, processor)
        for name, tensor in _tensors(source):
            seen = is_vision(name)
            packed, kind = _packed(name, tensor, file_type=file_type)
            if name == _EMBEDDING:
                packed = packed.copy()
                packed[list(vocabulary.copied)] = packed[list(vocabulary.copied.values())]
            types[kind.name] += 1
            written = vision_tensors(name, packed, tower) if seen else decoder_tensors(name, packed, names, heads=heads)
            for called, rows in written:
                (vision if seen else decoder).add_tensor(called, rows, raw_dtype=kind)
    return GgufReport(types=dict(types.most_common()), advice=taken.advise(processor))


def check_exportable(source: Path, *, family: str, file_type: str) -> None:
    """Check what a configuration and `config.json` show to be wrong, before weights are read.

    Raises:
        ReliabitError: See `export_gguf`.
    """
    check_quantizer(FILE_TYPES[file_type])
    if family not in FAMILIES:
        raise ReliabitError(f"GGUF files are written for {', '.join(FAMILIES)}, and model.family={family}")
    record = read_record(source)
    if record is not None and record.get("quant_method") != OUR_FORMAT:
        raise ReliabitError(
            f"the checkpoint {source} is in the format {record.get('quant_method')}, whose weights are not written to "
            "GGUF; name the unquantized checkpoint"
        )


@contextmanager
def _writer(path: Path, architecture: str, *, name: str) -> "Iterator[GGUFWriter]":
    """A GGUF file; tensors wait in a temporary file, so that memory holds one."""
    from gguf import GGML_QUANT_VERSION, GGUFType, GGUFWriter

    # It tells at length what it writes, in a folder that is renamed afterwards.
    logging.getLogger("gguf").setLevel(logging.WARNING)
    writer = GGUFWriter(path, architecture, use_temp_file=True)
    writer.add_type(GGUFType.MMPROJ if architecture == _CLIP else GGUFType.MODEL)
    writer.add_name(name)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    try:
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        if writer.temp_file is not None:
            writer.temp_file.close()
        writer.close()


def _tensors(source: Path) -> "Iterator[tuple[str, Tensor | PackedWeight]]":
    """The tensors of a checkpoint by their canonical names, one at a time; packed weights as what they are."""
    from safetensors import safe_open

    record = read_record(source)
    layouts = {} if record is None else {canonical(name): at for name, at in ReliabitConfig(**record).layouts().items()}
    for file in weight_files(source):
        with safe_open(file, framework="pt") as shard:
            for key in sorted(shard.keys()):
                owner, _, leaf = canonical(key).rpartition(".")
                if owner not in layouts or leaf == "bias":
                    yield canonical(key), shard.get_tensor(key)
                elif leaf == "weight_codes":
                    scale = shard.get_tensor(f"{key.removesuffix(leaf)}weight_scale")
                    layout, codes = layouts[owner], shard.get_tensor(key)
                    columns = scale.shape[1] * layout.group_length(codes.shape[1] * 8 // layout.bits)
                    weight = PackedWeight(codes.shape[0], columns, layout, device="meta")
                    weight.weight_codes, weight.weight_scale = codes, scale
                    yield f"{owner}.weight", weight


def _packed(
    name: str, tensor: "Tensor | PackedWeight", *, file_type: str
) -> "tuple[NDArray[Any], GGMLQuantizationType]":
    """A tensor as it is written: matrices in the type that was asked for, all that is small or in the tower finer."""
    if isinstance(tensor, PackedWeight):
        return blocks_of(tensor, name=name)
    kind = FILE_TYPES[file_type]
    if tensor.dim() == 1 or ".embeddings." in name:
        kind = "F32"
    elif is_vision(name):
        kind = "F32" if kind == "F32" else "F16"
    elif not name.startswith("model.layers.") and file_type not in PLAIN:
        kind = _OUTER
    return quantize_rows(tensor.float().numpy(), kind)
