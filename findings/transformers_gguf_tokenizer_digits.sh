#!/usr/bin/env bash
# A GGUF file names in `tokenizer.ggml.pre` how text is cut before byte-level BPE, and llama.cpp obeys it: "smollm" (like
# several others) splits digits one by one. transformers reads vocabulary and merges of the file and passes that key over,
# so that a tokenizer loaded with `gguf_file=` joins digits that the model never saw joined: other tokens, and with them
# other answers, for whatever holds a number. The tokenizer has to be given `pre_tokenizers.Digits` by hand.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 transformers==5.23.0 tokenizers==0.23.3 gguf==0.19.0 accelerate==1.15.0

cd "$WORK"
"$WORK/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import gguf
import transformers
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

alphabet = sorted(ByteLevel.alphabet())
tokens = ["<|endoftext|>", *alphabet, "12", "123", "Ġ1", "Ġ12"]
merges = [("1", "2"), ("12", "3"), ("Ġ", "1"), ("Ġ1", "2")]

writer = gguf.GGUFWriter("words.gguf", "llama")
for name, value in {
    "context_length": 64,
    "embedding_length": 32,
    "block_count": 1,
    "feed_forward_length": 32,
    "head_count": 1,
    "head_count_kv": 1,
    "vocab_size": len(tokens),
}.items():
    getattr(writer, f"add_{name}")(value)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("smollm")
writer.add_token_list(tokens)
writer.add_token_types([3] + [1] * (len(tokens) - 1))
writer.add_token_merges([" ".join(pair) for pair in merges])
for name in ("bos", "eos", "unk", "pad"):
    getattr(writer, f"add_{name}_token_id")(0)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

loaded = transformers.AutoTokenizer.from_pretrained(".", gguf_file="words.gguf")
named = Tokenizer(BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
named.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
print("transformers", transformers.__version__, "gguf 0.19.0, tokenizer.ggml.pre = smollm")
found, expected = loaded.tokenize("x 123"), named.encode("x 123").tokens
print("loaded:              ", found)
print("digits one by one:   ", expected)
if found != ["x", "Ġ", "123"] or expected != ["x", "Ġ", "1", "2", "3"]:
    sys.exit("the behaviour has changed")
PYTHON
