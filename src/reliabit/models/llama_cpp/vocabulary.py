"""A checkpoint's tokenizer as GGUF holds it: tokens by id, merges, and llama.cpp's name for how text is cut first."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reliabit.errors import ReliabitError
from reliabit.quant.record import read_json

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

TOKENIZER = "tokenizer.json"

_BYTES = {"type": "ByteLevel", "add_prefix_space": False}
_CASED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

PRE_TOKENIZERS: Mapping[str, list[dict[str, Any]]] = {
    "gpt-2": [{**_BYTES, "use_regex": True}],
    "smollm": [{"type": "Digits", "individual_digits": True}, {**_BYTES, "use_regex": True}],
    "qwen2": [
        {"type": "Split", "pattern": {"Regex": rf"{_CASED}\p{{N}}{_REST}"}, "behavior": "Isolated", "invert": False},
        {**_BYTES, "use_regex": False},
    ],
    "llama-bpe": [
        {
            "type": "Split",
            "pattern": {"Regex": rf"{_CASED}\p{{N}}{{1,3}}{_REST}"},
            "behavior": "Isolated",
            "invert": False,
        },
        {**_BYTES, "use_regex": False},
    ],
}
"""llama.cpp's names for what `tokenizer.json` says step by step; its own converter goes by a hash."""

_UNUSED = "[PAD{}]"
"""How llama.cpp's converter calls rows of the embedding that no token has."""


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Attributes:
        tokens: By id, as many as the embedding has rows.
        kinds: Of each, GGUF's type of token.
        merges: The pairs that are joined, the most urgent first.
        pre: llama.cpp's name for how text is cut first.
        special: The ids of the tokens that end an answer, pad, and begin a text, where there are.
        template: The chat template.
        copied: Rows of the embedding that are another row's: of tokens that the checkpoint has not.
    """

    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    pre: str
    special: Mapping[str, int]
    template: str
    copied: Mapping[int, int]

    def write(self, writer: "GGUFWriter") -> None:
        """Add it to a file."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        writer.add_token_merges(self.merges)
        for name, token in self.special.items():
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)
        # Whatever a template wants at the beginning it writes itself.
        writer.add_add_bos_token(False)
        writer.add_chat_template(self.template)


def read_vocabulary(
    folder: Path,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    rows: int,
    end: str,
    template: str,
    pre: str | None,
    wanted: Mapping[str, str],
) -> Vocabulary:
    """Read a checkpoint's tokenizer as GGUF takes it.

    Args:
        folder: The checkpoint.
        tokenizer: Its tokenizer, loaded.
        rows: Rows of the model's embedding.
        end: The token that ends an answer.
        template: The chat template.
        pre: llama.cpp's name for how text is cut first; `None` finds it.
        wanted: Tokens that there must be, each with the one whose embedding it takes where it is not.

    Raises:
        ReliabitError: It is no byte-level BPE, has no room for a token that there must be, or cuts text in a way that
            llama.cpp has no name for here.
    """
    from gguf import TokenType

    described = read_json(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else {}
    model = described.get("model", {}) if isinstance(described, dict) else {}
    if model.get("type") != "BPE" or not model.get("merges"):
        raise ReliabitError(
            f"the tokenizer of the checkpoint {folder} is no byte-level BPE, which is what is written here; convert it "
            "with llama.cpp's own convert_hf_to_gguf.py"
        )
    known, added = {number: token for token, number in tokenizer.get_vocab().items()}, tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for number in range(rows):
        kind = TokenType.UNUSED if number not in known else TokenType.NORMAL
        if number in added:
            kind = TokenType.CONTROL if added[number].special else TokenType.USER_DEFINED
        tokens.append(known.get(number, _UNUSED.format(number)))
        kinds.append(int(kind))
    copied = _spare_rows(tokens, kinds, wanted, folder=folder)
    named = {"eos": end, "padding": tokenizer.pad_token, "bos": tokenizer.bos_token}
    return Vocabulary(
        tokens=tokens,
        kinds=kinds,
        merges=[pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]],
        pre=pre or _pre_tokenizer(described, folder=folder),
        special={name: tokenizer.convert_tokens_to_ids(token) for name, token in named.items() if token is not None},
        template=template,
        copied=copied,
    )


def _spare_rows(tokens: list[str], kinds: list[int], wanted: Mapping[str, str], *, folder: Path) -> dict[int, int]:
    """Give tokens that there must be rows that no token has; which row each is a copy of."""
    from gguf import TokenType

    copied = {}
    for token in wanted.keys() - set(tokens):
        if TokenType.UNUSED not in kinds or wanted[token] not in tokens:
            raise ReliabitError(
                f"llama.cpp puts the token {token!r} before images, which the checkpoint {folder} has not, and its "
                "embedding has no row to spare for it"
            )
        spare = kinds.index(TokenType.UNUSED)
        tokens[spare], kinds[spare], copied[spare] = token, int(TokenType.NORMAL), tokens.index(wanted[token])
    return copied


def _pre_tokenizer(described: Mapping[str, Any], *, folder: Path) -> str:
    """llama.cpp's name for the steps that `tokenizer.json` describes."""
    found = described.get("pre_tokenizer") or {}
    steps = found.get("pretokenizers", [found]) if isinstance(found, dict) else []
    # That one says how positions are told, and not which tokens there are.
    steps = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    for name, expected in PRE_TOKENIZERS.items():
        if steps == expected:
            return name
    raise ReliabitError(
        f"the tokenizer of the checkpoint {folder} cuts text in a way that llama.cpp is not known to have a name for "
        f"({json.dumps(steps)[:200]}); known are {', '.join(PRE_TOKENIZERS)}: set task.pre_tokenizer to its name"
    )
