"""Packages with pretrained parts at a size that is read in no time, installed in a folder as pip lays them down."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from reliabit.files import sha256
from reliabit.models.pretrained.design import DESIGN, Design, Source

gguf = pytest.importorskip("gguf", reason="the packages of requirements-dev.lock are not installed")
onnx = pytest.importorskip("onnx", reason="the packages of requirements-dev.lock are not installed")

HIDDEN, WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS = 64, 96, 2, 4, 2
"""Of the decoder; a block of packed weights has 32 numbers."""

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>")
WORDS = ("Ġthe", "Ġis", "Ġhow", "Ġmany", "Ġwhat", "What", "Ġcolour", "Ġyes", "Ġno", "ĠAnswer", "Question", "12", "Ġ3")
"""Words that byte-level BPE joins; with digits split one by one, the last two never come about."""

TOWER_HIDDEN, TOWER_LAYERS, TOWER_HEADS, PATCH, SIDE = 32, 3, 2, 14, 4
"""Of the tower, `SIDE` positions a side."""

KEPT = 2
"""Layers of the tower that the design keeps."""

OLD_NAMES = {"attention.o_proj": "attention.output.dense"} | {
    f"attention.{letter}_proj": f"attention.attention.{name}"
    for letter, name in (("q", "query"), ("k", "key"), ("v", "value"))
}
"""What transformers calls modules of its `Dinov2Model`, and what it called them when the file was exported."""


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges: the bytes, and each word by joining one more letter at a time."""
    from tokenizers.pre_tokenizers import ByteLevel

    steps = [(word[: end - 1], word[end - 1]) for word in WORDS for end in range(2, len(word) + 1)]
    merges = list(dict.fromkeys(f"{first} {second}" for first, second in steps))
    joined = dict.fromkeys(merge.replace(" ", "") for merge in merges)
    return [*SPECIAL, *sorted(ByteLevel.alphabet()), *joined], merges


def write_decoder(path: Path, *, architecture: str = "llama") -> None:
    """Write a GGUF file as llama.cpp's converter lays it down, packed as SmolLM2's is."""
    writer = gguf.GGUFWriter(path, architecture)
    tokens, merges = vocabulary()
    for name, value in {
        "context_length": 256,
        "embedding_length": HIDDEN,
        "block_count": LAYERS,
        "feed_forward_length": WIDTH,
        "head_count": HEADS,
        "head_count_kv": KEY_VALUE_HEADS,
    }.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(merges)
    for name, value in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2)):
        getattr(writer, f"add_{name}_token_id")(value)
    for name, shape in _decoder_shapes(len(tokens)).items():
        _add(writer, name, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _decoder_shapes(tokens: int) -> dict[str, tuple[int, ...]]:
    narrow = HIDDEN // HEADS * KEY_VALUE_HEADS
    found: dict[str, tuple[int, ...]] = {"token_embd": (tokens, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        found |= {f"blk.{layer}.{name}_norm": (HIDDEN,) for name in ("attn", "ffn")}
        found |= {f"blk.{layer}.attn_{name}": (HIDDEN, HIDDEN) for name in ("q", "output")}
        found |= {f"blk.{layer}.attn_{name}": (narrow, HIDDEN) for name in ("k", "v")}
        found |= {f"blk.{layer}.ffn_{name}": (WIDTH, HIDDEN) for name in ("gate", "up")}
        found[f"blk.{layer}.ffn_down"] = (HIDDEN, WIDTH)
    return found


def _add(writer, name: str, shape: tuple[int, ...]) -> None:
    weight = np.random.default_rng([*name.encode()]).normal(0.0, 0.3, shape).astype(np.float32)
    kind = gguf.GGMLQuantizationType
    packed = {"token_embd": kind.Q8_0}.get(name, kind.Q4_1) if len(shape) == 2 else kind.F32
    stored = weight if packed == kind.F32 else gguf.quantize(weight, packed)
    writer.add_tensor(f"{name}.weight", stored, raw_dtype=packed)


@cache
def dinov2():
    """The tower as transformers has it, with layer scales and biases that show when they are lost."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=TOWER_HIDDEN,
        num_hidden_layers=TOWER_LAYERS,
        num_attention_heads=TOWER_HEADS,
        image_size=SIDE * PATCH,
        patch_size=PATCH,
        mlp_ratio=2,
    )
    generator = torch.Generator().manual_seed(0)
    model = Dinov2Model(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def write_tower(path: Path) -> None:
    """Write the tower to an ONNX file with the names that PyTorch's exporter leaves, and a head that nobody wants."""
    named = {}
    for name, tensor in dinov2().state_dict().items():
        for new, old in OLD_NAMES.items():
            name = name.replace(f".{new}.", f".{old}.")  # noqa: PLW2901 - each name is changed once
        named[f"backbone.{name}"] = tensor.numpy()
    positions = named.pop("backbone.embeddings.position_embeddings")
    named.pop("backbone.embeddings.mask_token")
    stored = {"onnx::Concat_1": positions[:, :1], "onnx::Reshape_2": positions[:, 1:], "decoder.bias": np.ones(1)}
    nodes = []
    for number, (name, array) in enumerate(named.items()):
        if array.ndim == 2:
            matrix, product = f"onnx::MatMul_{number + 3}", f"/{name}/MatMul_output_0"
            stored[matrix] = array.T
            nodes.append(onnx.helper.make_node("MatMul", [f"/{name}/input", matrix], [product]))
            # The exporter writes the two of them in either order.
            summands = [f"{name.removesuffix('weight')}bias", product][:: 1 if number % 2 else -1]
            nodes.append(onnx.helper.make_node("Add", summands, [f"/{name}/Add_output_0"]))
        else:
            stored[name] = array
    tensors = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(one, np.float32), name) for name, one in stored.items()
    ]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "tower", [], [], tensors)), path)


def install(folder: Path) -> Design:
    """Lay both packages down in a folder, as pip does, and say how they are joined."""
    sources = {}
    for part, write in (("language", write_decoder), ("vision", write_tower)):
        source = getattr(DESIGN, part)
        path = folder / source.file
        path.parent.mkdir(parents=True)
        write(path)
        name_package(folder, source)
        sources[part] = replace(source, sha256=sha256(path))
    return replace(DESIGN, **sources, layers=KEPT, heads=TOWER_HEADS, image_size=2 * PATCH, shuffle=2)


def name_package(folder: Path, source: Source, *, version: str | None = None) -> None:
    """Write down that a package is installed in a folder."""
    for before in folder.glob(f"{source.package.replace('-', '_')}-*.dist-info"):
        (before / "METADATA").unlink()
        before.rmdir()
    version = version or source.version
    information = folder / f"{source.package.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {source.package}\nVersion: {version}\n")


def byte_pairs(word: str, merges: list[str]) -> list[str]:
    """Join a word's letters by the most urgent merge, again and again, as the definition of BPE has it."""
    ranks, parts = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}, [*word]
    while found := [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]:
        _, at = min(found)
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
    return parts
